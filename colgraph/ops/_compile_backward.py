"""The column step's backward kernels, run once on one column: see :mod:`colgraph.ops.compile_ahead`."""

from __future__ import annotations

import torch

from colgraph.ops import column_step as step


def compile_backward() -> None:
    """In the order in which the first step wants them."""
    weights = step.ColumnWeights(*(torch.zeros(1, *[1] * dims) for dims in (1, 1, 2, 1, 2, 1) * 2))
    tape = step.StepTape(*(torch.zeros(1, 1, 1, 1) for _ in step.StepTape._fields))
    grads = step.GradientTape(*(torch.zeros(1, 1, 1, 1) for _ in step.GradientTape._fields))
    totals = step.new_gradients(weights, [True] * len(weights))
    x = torch.zeros(1, 1, 1)
    step.column_out_backward(weights, 1e-5, tape, grads, 0, totals)
    step.column_in_backward(x, x, None, weights, 1e-5, tape, grads, 0, totals, x.clone())
    step.weight_gradients(weights, 1e-5, tape, grads, totals, False)
