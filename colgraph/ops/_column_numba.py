"""The column step in compiled loops: the best there is on the CPU where a batch is small.

See :mod:`colgraph.ops.column_step` for what the functions mean. Threads: as many as ``torch.get_num_threads()``; the
results are the same bit for bit for every number of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from colgraph.ops._threads import run_pieces
from colgraph.ops.column_step import ColumnWeights, GradientTape, StepTape, empty

__all__ = ["column_in", "column_in_backward", "column_out", "column_out_backward", "weight_gradients"]

_PIECES_PER_THREAD = 8
_WORTH_A_THREAD = 500_000  # multiply-adds: below, waking a thread costs more than it saves
_NOTHING = np.empty(0, np.float32)


def _flat(tensor: Tensor | None) -> np.ndarray:
    """A contiguous tensor as a flat array; an empty one for None."""
    return _NOTHING if tensor is None else tensor.detach().view(-1).numpy()


def _sizes(w: ColumnWeights[Tensor], batch: int) -> tuple[int, int, int, int]:
    m, c = w.fc1_weight.shape[1:]
    return batch, c, w.query_weight.size(1), m


def _over_columns(kernel: Callable[..., None], w: ColumnWeights[Tensor], batch: int, rows: int, *args: Any) -> None:
    """``kernel(start, stop, sizes, *args)`` over all columns, in equal pieces."""
    sizes = _sizes(w, batch)
    columns = w.norm1_weight.size(0)
    work = columns * rows * sizes[1] * (sizes[2] + sizes[3])
    threads = max(1, min(torch.get_num_threads(), work // _WORTH_A_THREAD))
    pieces = 1 if threads == 1 else min(columns, threads * _PIECES_PER_THREAD)
    cuts = np.linspace(0, columns, pieces + 1).astype(int).tolist()
    run_pieces(lambda piece: kernel(cuts[piece], cuts[piece + 1], sizes, *args), pieces, threads)


def column_in(x: Tensor, w: ColumnWeights[Tensor], eps: float, tape: StepTape, slot: int) -> None:
    """Norm, query and key of the state ``x [N,B,C]``, onto the tape."""
    from colgraph.ops import _column_kernels as kernels

    weights = map(_flat, w[:6])
    results = map(_flat, (tape.normed[slot], tape.query[slot], tape.key[slot]))
    batch = x.size(1)
    _over_columns(kernels.column_in, w, batch, batch, np.float32(eps), _flat(x), *weights, *results)


def column_out(
    x: Tensor | None, heard: Tensor, w: ColumnWeights[Tensor], eps: float, tape: StepTape, slot: int
) -> Tensor:
    """The step's result ``y + mlp(norm(y))`` with ``y = x + heard`` (``heard`` where x is None)."""
    from colgraph.ops import _column_kernels as kernels

    out = empty(*heard.shape)
    arrays = map(_flat, (x, heard, *w[6:], tape.middle[slot], tape.hidden[slot], out))
    batch = heard.size(1)
    _over_columns(kernels.column_out, w, batch, batch, np.float32(eps), *arrays)
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
    from colgraph.ops import _column_kernels as kernels

    grad_out = grads.out[slot]
    grad_middle = empty(*grad_out.shape)
    inputs = map(_flat, (grad_out, tape.middle[slot], tape.hidden[slot], w.norm2_weight, w.fc1_weight, w.fc2_weight))
    results = map(_flat, (grads.hidden[slot], grad_middle, totals.norm2_weight, totals.norm2_bias))
    batch = grad_out.size(1)
    _over_columns(kernels.column_out_backward, w, batch, batch, np.float32(eps), *inputs, *results)
    return grad_middle


def column_in_backward(
    x: Tensor,
    grad_normed: Tensor,
    grad_x: Tensor | None,
    w: ColumnWeights[Tensor],
    eps: float,
    grads: GradientTape,
    slot: int,
    totals: ColumnWeights[Tensor | None],
    out: Tensor,
) -> None:
    """The gradient of the state ``x``, into ``out``.

    ``grad_normed`` is what the normed state receives as a value, ``grad_x`` what the state receives by the residual.
    """
    from colgraph.ops import _column_kernels as kernels

    inputs = map(_flat, (x, grad_normed, grad_x, grads.query[slot], grads.key[slot]))
    weights = map(_flat, (w.norm1_weight, w.query_weight, w.key_weight))
    results = map(_flat, (out, totals.norm1_weight, totals.norm1_bias))
    batch = x.size(1)
    _over_columns(kernels.column_in_backward, w, batch, batch, np.float32(eps), *inputs, *weights, *results)


def weight_gradients(
    w: ColumnWeights[Tensor],
    eps: float,
    tape: StepTape,
    grads: GradientTape,
    totals: ColumnWeights[Tensor | None],
    add: bool,
) -> None:
    """The gradients of all linear maps over all slots into ``totals`` (``add``: to what is there)."""
    from colgraph.ops import _column_kernels as kernels

    slots, columns, batch = tape.normed.shape[:3]
    tapes = map(_flat, (tape.normed, tape.middle, tape.hidden, grads.query, grads.key, grads.hidden, grads.out))
    norm = map(_flat, (w.norm2_weight, w.norm2_bias))
    t = totals
    linears = (*t[2:6], *t[8:])
    _over_columns(
        kernels.weight_gradients,
        w,
        batch,
        slots * batch,
        np.float32(eps),
        columns,
        slots,
        add,
        *tapes,
        *norm,
        *map(_flat, linears),
    )
