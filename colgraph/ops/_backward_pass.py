"""Every kernel of the backward pass, run once on a column that hears itself: see :mod:`colgraph.ops.compile_ahead`."""

from __future__ import annotations

import torch

from colgraph.layout import Layout
from colgraph.ops import column_step as step
from colgraph.ops.numba_attention import NUMBA
from colgraph.ops.primitive import Back
from colgraph.ops.reference import Operands


def compile_it() -> None:
    """In the order in which the first step wants them."""
    weights = step.ColumnWeights(*(torch.zeros(1, *[1] * dims) for dims in (1, 1, 2, 1, 2, 1) * 2))
    tape = step.StepTape(*(torch.zeros(1, 1, 1, 1) for _ in step.StepTape._fields))
    grads = step.GradientTape(*(torch.zeros(1, 1, 1, 1) for _ in step.GradientTape._fields))
    totals = step.new_gradients(weights, [True] * len(weights))
    x = torch.zeros(1, 1, 1)
    step.column_out_backward(weights, 1e-5, tape, grads, 0, totals)
    _attention()
    step.column_in_backward(x, x, None, weights, 1e-5, tape, grads, 0, totals, x.clone())
    step.weight_gradients(weights, 1e-5, tape, grads, totals, False)


def _attention() -> None:
    rows, edge = torch.zeros(1, 1, 1, 1), torch.zeros(1)
    tables = NUMBA.tables(Layout(torch.zeros(2, 1, dtype=torch.int64), 1))
    back = Back(rows, edge.view(1, 1, 1), [torch.zeros(1, 1, 1, 2)], [True] * 4)
    NUMBA.backward(Operands(rows, rows, rows, edge, edge, 1.0), tables, back)
