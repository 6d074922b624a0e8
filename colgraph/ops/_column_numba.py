"""The column step in compiled loops on the CPU.

See :mod:`colgraph.ops.column_step` for what the functions mean. Threads: as many as ``torch.get_num_threads()``; the
results are the same bit for bit for every number of them. All tensors are contiguous float32.
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


def _addresses(*tensors: Tensor | None) -> tuple[int, ...]:
    return tuple(0 if tensor is None else tensor.data_ptr() for tensor in tensors)


def _over_columns(
    kernel: Callable[..., None],
    w: ColumnWeights[Tensor],
    eps: float,
    tape: StepTape,
    slot: int,
    rows: int,
    *args: Any,
) -> None:
    """``kernel(start, stop, sizes, eps, *args)`` over all columns, in equal pieces."""
    columns, m, c = w.fc1_weight.shape
    j = w.query_weight.size(1)
    slots, _, batch, _ = tape.normed.shape
    sizes = (batch, c, j, m, slots, slot)
    threads = max(1, min(torch.get_num_threads(), columns * rows * c * (j + m) // _WORTH_A_THREAD))
    pieces = 1 if threads == 1 else min(columns, threads * _PIECES_PER_THREAD)
    cuts = [columns * piece // pieces for piece in range(pieces + 1)]
    run_pieces(lambda piece: kernel(cuts[piece], cuts[piece + 1], sizes, np.float32(eps), *args), pieces, threads)


def column_in(x: Tensor, w: ColumnWeights[Tensor], eps: float, tape: StepTape, slot: int) -> None:
    """Norm, query and key of the state ``x [N,B,C]``, onto the tape."""
    from colgraph.ops import _column_kernels as kernels

    arrays = _addresses(x, *w[:6], tape.normed[slot], tape.query[slot], tape.key[slot])
    _over_columns(kernels.column_in, w, eps, tape, slot, x.size(1), arrays)


def column_out(
    x: Tensor | None, heard: Tensor, w: ColumnWeights[Tensor], eps: float, tape: StepTape, slot: int
) -> Tensor:
    """The step's result ``y + mlp(norm(y))`` with ``y = x + heard`` (``heard`` where x is None)."""
    from colgraph.ops import _column_kernels as kernels

    out = empty(*heard.shape)
    arrays = _addresses(heard, x, *w[6:], tape.middle, tape.hidden, out)
    _over_columns(kernels.column_out, w, eps, tape, slot, heard.size(1), arrays)
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

    grad_middle = empty(*tape.normed.shape[1:])
    inputs = (grads.out, tape.middle, tape.hidden, w.norm2_weight, w.fc1_weight, w.fc2_weight)
    arrays = _addresses(*inputs, grads.hidden, grad_middle, totals.norm2_weight, totals.norm2_bias)
    _over_columns(kernels.column_out_backward, w, eps, tape, slot, grad_middle.size(1), arrays)
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
) -> Tensor:
    """The gradient of the state ``x``.

    ``grad_normed`` is what the normed state receives as a value, ``grad_x`` what the state receives by the residual.
    """
    from colgraph.ops import _column_kernels as kernels

    out = empty(*x.shape)
    inputs = (x, grad_normed, grad_x, grads.query, grads.key, w.norm1_weight, w.query_weight, w.key_weight)
    arrays = _addresses(*inputs, out, totals.norm1_weight, totals.norm1_bias)
    _over_columns(kernels.column_in_backward, w, eps, tape, slot, x.size(1), arrays)
    return out


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

    slots, columns, batch, _ = tape.normed.shape
    tapes = (tape.normed, tape.middle, tape.hidden, *grads)
    arrays = _addresses(*tapes, w.norm2_weight, w.norm2_bias, *totals[2:6], *totals[8:])
    _over_columns(kernels.weight_gradients, w, eps, tape, 0, slots * batch, columns, add, arrays)
