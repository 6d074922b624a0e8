"""What the fused step reads by its address is what it takes it to be, or the plain step runs, or one line says so."""

import numpy as np
import pytest
import torch
from torch import nn

import colgraph as cg


@pytest.fixture
def small():
    return cg.build_sheet("sphere", subdivisions=1, num_inputs=16)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_time_embedding_of_another_type(small, dtype):
    model = cg.Columnformer(small, dim=8, steps=3, time_embedding=True)
    x = torch.randn(16, 2, 8)
    model.time_embedding = nn.Parameter(torch.ones(3, 8))
    wanted = model(x)
    model.time_embedding = nn.Parameter(torch.ones(3, 8, dtype=dtype))
    if dtype == torch.float64:
        with pytest.raises(RuntimeError, match="dtype"):
            model(x)
    else:
        torch.testing.assert_close(model(x), wanted)


def test_costs_of_other_edges_are_refused(small):
    model = cg.Columnformer(small, dim=8, steps=2)
    model.edge_cost = model.edge_cost[:5]
    with pytest.raises(ValueError, match=rf"edge_cost must have shape \[E={small.num_edges}\], got \[5\]"):
        model.unroll(torch.randn(16, 2, 8))


def test_costs_that_change_before_the_backward_pass_are_refused(small):
    model = cg.Columnformer(small, dim=8, steps=2)
    found = model.unroll(torch.randn(16, 2, 8))
    model.edge_cost.mul_(10)
    with pytest.raises(RuntimeError, match="edge_cost was modified by an inplace operation"):
        found.wiring_cost.backward()


def test_a_sheet_without_outputs_has_no_answer():
    sheet = cg.build_sheet("sphere", subdivisions=1, num_inputs=16, outputs=np.flatnonzero([False] * 42))
    with pytest.raises(ValueError, match="the sheet has no output columns"):
        cg.VisionColumnformer(cg.Columnformer(sheet, dim=8), 16, 4, 1)
