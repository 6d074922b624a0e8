"""Deep unrolls: what of their steps is kept, and what the backward pass computes once more."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from colgraph.layout import Layout
from colgraph.nn import ColumnBlock
from colgraph.nn.drive import Drive
from colgraph.torch_internals import is_transformed


def segment_length(recompute: str | None, steps: int) -> int | None:
    """Of how many steps the backward pass holds everything at a time; None: of all.

    With L steps in a segment, the states at which ``T / L`` segments begin are kept besides: both are smallest at a
    square root of T.
    """
    if recompute is None:
        return None
    return 1 if recompute == "steps" else math.isqrt(max(steps, 1) - 1) + 1


def can_checkpoint() -> bool:
    """Whether anything is differentiated by what torch's checkpoints work under: not under its transforms."""
    return torch.is_grad_enabled() and not is_transformed()


def run_in_segments(
    block: ColumnBlock, state: Tensor, layout: Layout, steps: int, edge_cost: Tensor | None, drive: Drive
) -> tuple[list[Tensor], Tensor]:
    """As :func:`colgraph.nn.unroll.unroll_columns`, in operations of torch, with the last state alone."""

    def segment(state: Tensor, begin: int, end: int) -> tuple[Tensor, Tensor]:
        cost = state.new_zeros(())
        for t in range(begin, end):
            out = block(drive.added_to(state, t), layout, edge_cost)
            state, wire = (out, None) if edge_cost is None else out
            if wire is not None:
                # The mean over an empty batch is no number.
                cost = cost + (wire.mean() if wire.numel() else wire.sum())
        return state, cost

    length, total = segment_length("sqrt", steps) or steps, state.new_zeros(())
    for begin in range(0, steps, length):
        state, cost = checkpoint(segment, state, begin, min(begin + length, steps), use_reentrant=False)
        total = total + cost
    return [state], total / steps
