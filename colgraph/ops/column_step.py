"""The pieces of one time step of all columns but its attention, forward and backward, as functions of tensors.

A step is ``column_in`` (norm, query, key), attention over the edges, and ``column_out`` (norm, MLP). Their backward
passes compute gradients with respect to activations only and leave what the weights need on a tape;
``weight_gradients`` turns the tape of many steps into weight gradients in one pass. Untied weights are far larger than
the activations of a small batch, so a training step costs as much as its passes over the weights: this way there are
two per time step (one forward, one backward) and one more at the end, instead of about six per time step.

Everything here runs on the CPU, in contiguous float32, on as many threads as ``torch.get_num_threads()``; results are
the same bit for bit for every number of them. The loops themselves are in :mod:`colgraph.ops._column_kernels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from torch import Tensor

from colgraph.ops._memory import begins_at_line
from colgraph.ops._memory import empty as empty
from colgraph.ops._threads import run_pieces, worth_waking
from colgraph.ops.compile_ahead import ready

_PIECES_PER_THREAD = 8

_T = TypeVar("_T")


class ColumnWeights(NamedTuple, Generic[_T]):
    """The parameters of a block whose columns have their own, or their gradients (None where not wanted).

    Shapes: norms ``[N,C]``; query and key ``[N,HD,C]`` and ``[N,HD]``; fc1 ``[N,M,C]``, ``[N,M]``; fc2 ``[N,C,M]``,
    ``[N,C]``.
    """

    norm1_weight: _T
    norm1_bias: _T
    query_weight: _T
    query_bias: _T
    key_weight: _T
    key_bias: _T
    norm2_weight: _T
    norm2_bias: _T
    fc1_weight: _T
    fc1_bias: _T
    fc2_weight: _T
    fc2_bias: _T


def new_gradients(weights: ColumnWeights[Tensor], wanted: Sequence[bool]) -> ColumnWeights[Tensor | None]:
    """Room for the gradients that are wanted: zeros for the norms, which are summed step by step, else not yet written.

    None in place of the others.
    """
    gradients = [empty(*weight.shape) if want else None for weight, want in zip(weights, wanted)]
    for name, gradient in zip(ColumnWeights._fields, gradients):
        if gradient is not None and name.startswith("norm"):
            gradient.numpy().fill(0)
    return ColumnWeights(*gradients)


class StepTape(NamedTuple):
    """What the forward pass of S steps leaves for the backward pass, one slot a step.

    Attributes:
        normed: ``[S,N,B,C]`` the state after the first norm: what the others hear.
        query: ``[S,N,B,HD]``.
        key: ``[S,N,B,HD]``.
        middle: ``[N,S,B,C]`` the state after the attention.
        hidden: ``[N,S,B,M]`` the output of fc1, before the GELU.
    """

    normed: Tensor
    query: Tensor
    key: Tensor
    middle: Tensor
    hidden: Tensor

    @classmethod
    def blank(cls, slots: int, batch: int, weights: ColumnWeights[Tensor]) -> StepTape:
        """A tape of so many steps, not yet written."""
        n, m, c = weights.fc1_weight.shape
        j = weights.query_weight.size(1)
        normed, query, key = (empty(slots, n, batch, width) for width in (c, j, j))
        return cls(normed, query, key, empty(n, slots, batch, c), empty(n, slots, batch, m))


class GradientTape(NamedTuple):
    """What the backward pass of S steps leaves for the weight gradients: the gradient of each linear map's output.

    Attributes:
        query: ``[N,S,B,HD]``.
        key: ``[N,S,B,HD]``.
        hidden: ``[N,S,B,M]``.
        out: ``[N,S,B,C]``, the gradient of the step's result.
    """

    query: Tensor
    key: Tensor
    hidden: Tensor
    out: Tensor

    @classmethod
    def blank_like(cls, tape: StepTape) -> GradientTape:
        """A tape for as many steps of the same sizes, not yet written."""
        n, slots, batch, c = tape.middle.shape
        widths = (tape.query.size(3), tape.key.size(3), tape.hidden.size(3), c)
        return cls(*(empty(n, slots, batch, width) for width in widths))


# ---------------------------------------------------------------------- between the pieces of a step


def copy(source: Tensor, into: Tensor) -> None:
    """``into = source``, by this thread alone.

    Torch would use its own threads, and GNU OpenMP's, once woken, go on spinning for milliseconds on the cores that the
    next kernel needs: more than any copy here takes.
    """
    np.copyto(into.numpy(), source.numpy(force=True))


def accumulate(more: Tensor, into: Tensor, rows: Tensor | None = None) -> None:
    """``into += more``, or ``more[rows]``, by this thread alone, as :func:`copy`."""
    total, given = into.numpy(), more.numpy(force=True)
    np.add(total, given if rows is None else given[rows.numpy()], out=total)


# ---------------------------------------------------------------------- the pieces of a step


def _addresses(*tensors: Tensor | None) -> tuple[int, ...]:
    return tuple(0 if tensor is None else tensor.data_ptr() for tensor in tensors)


def _over_columns(kernel: str, w: ColumnWeights[Tensor], eps: float, tape: StepTape, rows: int, *args: Any) -> None:
    """The kernel of that name, ``kernel(start, stop, sizes, eps, *args)``, over all columns, in equal pieces."""
    from colgraph.ops import _column_kernels

    run = ready(getattr(_column_kernels, kernel))
    columns, m, c = w.fc1_weight.shape
    j = w.query_weight.size(1)
    slots, _, batch, _ = tape.normed.shape
    sizes = (batch, c, j, m, slots)
    threads = worth_waking(columns * rows * c * (j + m))
    pieces = 1 if threads == 1 else min(columns, threads * _PIECES_PER_THREAD)
    cuts = [columns * piece // pieces for piece in range(pieces + 1)]
    run_pieces(lambda piece: run(cuts[piece], cuts[piece + 1], sizes, np.float32(eps), *args), pieces, threads)


def column_in(x: Tensor, w: ColumnWeights[Tensor], eps: float, tape: StepTape, slot: int) -> None:
    """Norm, query and key of the state ``x [N,B,C]``, onto the tape."""
    arrays = _addresses(x, *w[:6], tape.normed[slot], tape.query[slot], tape.key[slot])
    _over_columns("column_in", w, eps, tape, x.size(1), arrays)


def column_out(
    x: Tensor | None, heard: Tensor, w: ColumnWeights[Tensor], eps: float, tape: StepTape, slot: int
) -> Tensor:
    """The step's result ``y + mlp(norm(y))`` with ``y = x + heard`` (``heard`` where x is None)."""
    out = empty(*heard.shape)
    arrays = _addresses(heard, x, *w[6:], tape.middle[:, slot], tape.hidden[:, slot], out)
    _over_columns("column_out", w, eps, tape, heard.size(1), arrays)
    return out


def column_out_backward(
    w: ColumnWeights[Tensor],
    eps: float,
    tape: StepTape,
    grads: GradientTape,
    slot: int,
    totals: ColumnWeights[Tensor | None],
) -> Tensor:
    """The gradient of ``y``, from that of the result on ``grads``; leaves that of fc1's output there."""
    grad_middle = empty(*tape.normed.shape[1:])
    inputs = (a[:, slot] for a in (grads.out, tape.middle, tape.hidden))
    results = (grads.hidden[:, slot], grad_middle)
    arrays = _addresses(
        *inputs, w.norm2_weight, w.fc1_weight, w.fc2_weight, *results, totals.norm2_weight, totals.norm2_bias
    )
    _over_columns("column_out_backward", w, eps, tape, grad_middle.size(1), arrays)
    return grad_middle


def column_in_backward(
    x: Tensor,
    grad_normed: Tensor,
    grad_x: Tensor | None,
    w: ColumnWeights[Tensor],
    eps: float,
    tape: StepTape,
    grads: GradientTape,
    slot: int,
    totals: ColumnWeights[Tensor | None],
    out: Tensor,
) -> None:
    """The gradient of the state ``x``, into ``out``, which may be a slot of a tape.

    ``grad_normed`` is what the normed state receives as a value, ``grad_x`` what the state receives by the residual.
    """
    inputs = (x, grad_normed, grad_x, grads.query[:, slot], grads.key[:, slot])
    weights = (w.norm1_weight, w.query_weight, w.key_weight)
    arrays = _addresses(*inputs, *weights, out, totals.norm1_weight, totals.norm1_bias)
    _over_columns("column_in_backward", w, eps, tape, x.size(1), out.stride(0) // x.stride(0), arrays)


def weight_gradients(
    w: ColumnWeights[Tensor],
    eps: float,
    tape: StepTape,
    grads: GradientTape,
    totals: ColumnWeights[Tensor | None],
    add: bool,
) -> None:
    """The gradients of all linear maps over all slots into ``totals`` (``add``: to what is there)."""
    slots, columns, batch, _ = tape.normed.shape
    tapes = (tape.normed, tape.middle, tape.hidden, *grads)
    arrays = _addresses(*tapes, w.norm2_weight, w.norm2_bias, *totals[2:6], *totals[8:])
    from colgraph.ops._processor import PAST_CACHES

    results = [total for total in (*totals[2:6], *totals[8:]) if total is not None]
    past = sum(total.numel() for total in results) >= PAST_CACHES and all(map(begins_at_line, results))
    _over_columns("weight_gradients", w, eps, tape, slots * batch, columns, add, past, arrays)
