"""The gradient that an absent edge has, against autograd; attention, as recorded; and other edges in place."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from small_models import FAST, KINDS, SIZES, make, make_input, same

import colgraph as cg
from colgraph.layout import Layout
from colgraph.models.other_edges import carried, change_edges
from colgraph.nn.attention import SheetAttention
from colgraph.plasticity import Evidence, Exchange, all_candidates, rewired_sheet


def small_sheet() -> cg.Sheet:
    return cg.build_sheet("grid", shape=(3, 4), neighbors="knn:4", num_inputs=4)


def learn(model, x, **options) -> None:
    """Forward and backward of a loss that differs from column to column."""
    out = model.unroll(x, **options)
    weight = torch.randn(out.state.shape, generator=torch.Generator().manual_seed(2)).to(out.state)
    ((out.state * weight).sum() + 0.1 * out.state.pow(2).sum() + 0.3 * out.wiring_cost).backward()


def watched(model, x, radius=None, **options) -> Evidence:
    evidence = Evidence(model.layout, all_candidates(model.sheet, radius))
    model.block.attention.observer = evidence
    learn(model, x, **options)
    model.block.attention.observer = None
    return evidence


class Mixed(SheetAttention):
    """Gives every pair the share ``shares [H,N,N]`` (target by source) of what a target hears."""

    shares: torch.Tensor

    def _propagate(self, query, key, value, *args):
        out, cost = super()._propagate(query, key, value, *args)
        new = torch.einsum("hij,jbhc->ibhc", self.shares, value)
        return out + new - out * self.shares.sum(2).t()[:, None, :, None], cost


@pytest.mark.parametrize(
    "options", [*KINDS.values(), {"leak": 0.3}, {"attention_residual": False}, {"recompute": "steps"}]
)
def test_growth_is_the_gradient_of_an_infinitesimal_share(options):
    model = make(small_sheet(), backend="reference", **options).double()
    x = make_input(model, 3).double()
    evidence = watched(model, x)
    truth = copy.deepcopy(model)
    truth.block.attention.__class__ = Mixed
    shares = truth.block.attention.shares = torch.zeros(2, 12, 12, dtype=torch.float64, requires_grad=True)
    # Without the wiring cost, which is of attention itself.
    out = truth.unroll(x)
    weight = torch.randn(out.state.shape, generator=torch.Generator().manual_seed(2)).to(out.state)
    ((out.state * weight).sum() + 0.1 * out.state.pow(2).sum()).backward()
    model_only = copy.deepcopy(model)
    model_only.edge_cost.zero_()
    evidence = watched(model_only, x)
    same(evidence.gradient, shares.grad, 1e-9)
    source, target = evidence.candidates.pairs
    same(torch.from_numpy(evidence.growth()), shares.grad.abs().sum(0)[target, source], 1e-9)


def test_growth_is_that_of_an_edge_of_the_complete_graph_whose_bias_is_far_below_the_others():
    """Queries that are zero: then a bias alone says what share of the attention an edge has."""
    sheet = small_sheet()
    complete = cg.build_sheet("grid", shape=(3, 4), neighbors="complete", num_inputs=4)
    model = make(sheet, backend="reference", value_projection=True).double()
    whole = cg.Columnformer(complete, **SIZES, backend="reference", value_projection=True).double()
    with torch.no_grad():
        model.block.attention.query.weight.zero_()
        model.block.attention.query.bias.zero_()
        bias = torch.full((12, 12, 2), -30.0, dtype=torch.float64)
        source, target = sheet.edge_index
        bias[target, source] = model.block.attention.edge_bias
        state = model.state_dict()
        known = {name: state[name] for name, _ in model.named_parameters() if not name.endswith("edge_bias")}
        whole.load_state_dict(known, strict=False)
        far, near = complete.edge_index
        whole.block.attention.edge_bias.copy_(bias[near, far])
        model.edge_cost.zero_()
        whole.edge_cost.zero_()
    x = make_input(model, 3).double()
    evidence = watched(model, x)
    learn(whole, x)
    exponents = bias.exp()
    share = exponents / exponents.masked_fill(bias == -30, 0).sum(1, keepdim=True)
    gradient = torch.zeros(12, 12, 2, dtype=torch.float64)
    gradient[near, far] = whole.block.attention.edge_bias.grad
    absent = evidence.candidates.pairs[:, evidence.candidates.absent(sheet.edge_index.numpy())]
    found = evidence.gradient[:, absent[1], absent[0]]
    truth = (gradient / share)[absent[1], absent[0]].t()
    assert truth.abs().min() > 1e-6
    same(found, truth, 1e-7)


@pytest.mark.parametrize("backend", ["reference", *FAST])
@pytest.mark.parametrize("options", [{}, {"untied": "none"}, {"recompute": "steps"}, {"edge_bias": None}])
def test_attention_is_that_which_is_recorded_and_all_paths_agree(backend, options):
    model = make(small_sheet(), backend=backend, **options)
    x = make_input(model, 3)
    evidence = watched(model, x)
    recorded = model.unroll(x, record=("attention",)).attention.double().mean((0, 2, 3))
    same(torch.from_numpy(evidence.mean_attention()), recorded, 1e-5)
    truth = make(small_sheet(), backend="reference", **options).double()
    same(evidence.gradient, watched(truth, x.double()).gradient, 1e-3)


def test_candidates_within_a_radius_have_the_same_gradient(monkeypatch):
    model = make(small_sheet())
    x = make_input(model, 3)
    every, near = watched(model, x), watched(model, x, 1.5)
    monkeypatch.setattr("colgraph.plasticity.evidence.MOST_COLUMNS", 11)
    some = watched(model, x, 1.5)
    assert some.gradient.shape == (2, some.candidates.pairs.shape[1])
    monkeypatch.setattr("colgraph.plasticity.evidence._AT_ONCE", 40)
    little = watched(model, x, 1.5)
    source, target = near.candidates.pairs
    truth = torch.from_numpy(every.growth())
    codes = every.candidates.pairs[1] * 12 + every.candidates.pairs[0]
    truth = truth[np.searchsorted(codes, target * 12 + source)]
    same(torch.from_numpy(near.growth()), truth, 1e-4)
    same(torch.from_numpy(some.growth()), truth, 1e-4)
    same(torch.from_numpy(little.growth()), truth, 1e-4)
    same(torch.from_numpy(little.attention.numpy()), every.attention, 1e-5)


def test_some_images_of_a_batch_say_what_they_say_alone():
    model = make(small_sheet())
    x = make_input(model, 5)
    few = model.block.attention.observer = Evidence(model.layout, all_candidates(model.sheet), images=2)
    model(x).sum().backward()
    truth = model.block.attention.observer = Evidence(model.layout, all_candidates(model.sheet))
    model(x[:, :2]).sum().backward()
    same(few.gradient, truth.gradient, 1e-4)
    same(few.attention, truth.attention, 1e-4)
    assert few.weight == truth.weight == 2 * 2 * 2


def test_watching_changes_nothing():
    one, other = make(small_sheet()), make(small_sheet())
    x = make_input(one, 3)
    watched(one, x)
    learn(other, x)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_loss_scale_is_taken_out_and_steps_that_overflow_count_for_nothing():
    evidence = Evidence(small_sheet().layout, all_candidates(small_sheet()))
    model = make(small_sheet())
    x = make_input(model, 3)
    model.block.attention.observer = evidence
    evidence.loss_scale = 1024.0
    (1024 * model(x).sum()).backward()
    truth = Evidence(small_sheet().layout, all_candidates(small_sheet()))
    model.block.attention.observer = truth
    model(x).sum().backward()
    same(evidence.gradient, truth.gradient, 1e-3)
    model.block.attention.observer = evidence
    before = evidence.gradient.clone()
    (torch.inf * model(x).sum()).backward()
    assert torch.equal(evidence.gradient, before)


# ---------------------------------------------------------------------- other edges in place


def changed(sheet: cg.Sheet) -> tuple[cg.Sheet, torch.Tensor]:
    candidates = all_candidates(sheet)
    absent = candidates.absent(sheet.edge_index.numpy())
    kept = np.setdiff1d(np.arange(sheet.edge_index.size(1)), [3, 17, 20])
    after, came_from = rewired_sheet(sheet, candidates, Exchange(kept, absent[[0, 30, 31, 50]]))
    return after, torch.from_numpy(came_from)


@pytest.mark.parametrize("options", [{}, {"untied": "none"}, {"edge_bias": "fixed"}, {"edge_bias": None}])
def test_a_model_on_other_edges_is_the_one_that_is_built_there(options):
    model = make(small_sheet(), **options)
    after, came_from = changed(model.sheet)
    fixed = None if model.block.attention.edge_bias is None else model.block.attention.edge_bias.clone()
    replaced = change_edges(model, after, came_from)
    built = cg.Columnformer(after, **(SIZES | options))
    built.load_state_dict(model.state_dict())
    x = make_input(model)
    model.zero_grad()
    for net in (model, built):
        learn(net, x)
    same(model(x), built(x), 1e-6)
    for name, parameter in model.named_parameters():
        same(parameter.grad, dict(built.named_parameters())[name].grad, 1e-6)
    assert model.sheet.fingerprint == after.fingerprint
    assert len(replaced) == (model.options.edge_bias == "learned")
    if fixed is not None:
        kept = came_from >= 0
        assert torch.equal(model.block.attention.edge_bias[kept], fixed[came_from[kept]])
    compiled = torch.compile(model, backend="eager")
    same(compiled(x), built(x), 1e-6)
    back, _ = changed(after)
    again = torch.from_numpy(np.arange(back.edge_index.size(1)) % 3 - 1)
    change_edges(model, back, again)
    assert torch.isfinite(compiled(x)).all()
    same(compiled(x), model(x), 1e-6)


def test_a_new_edge_gets_the_mean_share_of_its_column():
    model = make(small_sheet(), position_embedding=False)
    after, came_from = changed(model.sheet)
    with torch.no_grad():
        model.block.attention.query.weight.zero_()
        model.block.attention.query.bias.zero_()
    change_edges(model, after, came_from)
    share = model.unroll(make_input(model), record=("attention",)).attention[0, :, 0].detach()
    degree = after.layout.in_degree[after.edge_index[1]]
    new = torch.bincount(after.edge_index[1][came_from < 0], minlength=12)[after.edge_index[1]]
    assert (came_from < 0).sum() == 4
    # With one new edge or more, each has the mean of those that were there.
    torch.testing.assert_close(share[came_from < 0], (1 / degree)[came_from < 0][:, None].expand(-1, 2))
    assert new.max() >= 1


def test_rows_of_edges_go_along():
    rows = torch.arange(1.0, 7).view(3, 2)
    assert carried(rows, torch.tensor([2, -1, 0])).tolist() == [[5, 6], [0, 0], [1, 2]]
    assert isinstance(small_sheet().layout, Layout)
