"""What an unroll records besides states: the values that attention weighs, and hidden units."""

from __future__ import annotations

import pytest
import torch

from colgraph import build_sheet
from colgraph.models import Columnformer


@pytest.fixture
def sheet():
    return build_sheet("grid", shape=(4, 3), neighbors="knn:5", num_inputs=4)


def make(sheet, **options):
    """A model with every parameter away from its starting value."""
    torch.manual_seed(0)
    model = Columnformer(sheet, dim=12, steps=3, qk_dim=5, mlp_dim=7, backend="numba", **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def make_input(model):
    return torch.randn(model.inputs.numel(), 3, model.dim, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("options", [{}, {"value_projection": True}, {"untied": "none"}], ids=str)
def test_recorded_values_and_attention_make_what_is_heard(sheet, options):
    model = make(sheet, **options)
    x = make_input(model)
    heard = []
    handle = model.block.attention.register_forward_hook(lambda module, given, out: heard.append(out[0]))
    out = model.unroll(x, record=("attention", "heard"))
    handle.remove()
    assert "recording attention and heard" in repr(model)
    source, target = model.sheet.edge_index
    arrived = out.attention.unsqueeze(-1) * out.heard[:, source]
    total = torch.zeros_like(out.heard).index_add(1, target, arrived).flatten(3)
    output = model.block.attention.output
    mine = total if output is None else torch.stack([output(step) for step in total])
    torch.testing.assert_close(mine, torch.stack(heard))


@pytest.mark.parametrize("recompute", [None, "steps"])
@pytest.mark.parametrize("options", [{}, {"parametrization": "shared+difference"}, {"untied": "none"}], ids=str)
def test_recorded_hidden_units_are_what_the_second_layer_reads(sheet, options, recompute):
    model = make(sheet, recompute=recompute, **options)
    x = make_input(model).requires_grad_()
    fused = model.unroll(x, record=("state",))
    out = model.unroll(x, record=("state", "hidden"))
    assert "recording hidden" in repr(model)
    torch.testing.assert_close(out.states, fused.states)
    torch.testing.assert_close(out.wiring_cost, fused.wiring_cost)
    read = []
    handle = model.block.mlp.fc2.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    model.recompute = None
    again = model.unroll(x)
    handle.remove()
    assert out.hidden.shape == (model.steps, model.num_columns, 3, 7)
    torch.testing.assert_close(out.hidden, torch.stack(read))
    torch.testing.assert_close(again.state, out.state)
    wanted = [p for name, p in model.named_parameters() if "fc2" not in name] + [x]
    mine = torch.autograd.grad(out.hidden[-1].square().sum(), wanted, allow_unused=True)
    theirs = torch.autograd.grad(read[-1].square().sum(), wanted, allow_unused=True)
    for one, other in zip(mine, theirs, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)


def test_hidden_units_of_an_mlp_that_has_none(sheet):
    model = make(sheet)
    model.block.mlp = torch.nn.Identity()
    with pytest.raises(ValueError, match="'hidden' needs the MLP of a ColumnBlock, got Identity"):
        model.unroll(make_input(model), record=("hidden",))
