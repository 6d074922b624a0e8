"""Untied parameters written as shared + difference: the same functions, and what learning makes of them."""

from __future__ import annotations

import copy

import pytest
import torch

from colgraph.models import Columnformer, VisionColumnformer
from colgraph.nn import SharedDifference

SIZES = {"dim": 6, "steps": 3, "num_heads": 2, "qk_dim": 3, "mlp_dim": 5}
SHARED = {"parametrization": "shared+difference"}


def make(sheet, dtype=torch.float64, **options):
    torch.manual_seed(0)
    return Columnformer(sheet, **(SIZES | options)).to(dtype)


def stirred(model, seed=1):
    """Every parameter away from where it starts."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return model


def solve(model, seed=2):
    """State, wiring cost and the gradient of every parameter."""
    generator = torch.Generator().manual_seed(seed)
    dtype = next(model.parameters()).dtype
    x = torch.randn(model.inputs.numel(), 2, model.dim, generator=generator, dtype=dtype)
    out = model.unroll(x)
    weight = torch.randn(out.state.shape, generator=generator, dtype=dtype)
    model.zero_grad()
    ((out.state * weight).sum() + out.wiring_cost).backward()
    return out.state.detach(), out.wiring_cost.detach(), {n: p.grad for n, p in model.named_parameters()}


OPTIONS = [{}, {"untied": ("mlp",)}, {"untied": ("norm", "attention"), "value_projection": True}, {"inject": "every"}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_starts_as_the_tied_model_of_the_same_seed(sheet, options):
    shared = make(sheet, **SHARED, **options)
    tied = make(sheet, **{**options, "untied": "none"})
    plain = shared.to_plain()
    for name, value in tied.state_dict().items():
        theirs = plain.state_dict()[name]
        assert torch.equal(theirs, value.expand_as(theirs)), name
    a, b = solve(shared), solve(tied)
    assert torch.allclose(a[0], b[0], rtol=0, atol=1e-12)
    assert torch.allclose(a[1], b[1], rtol=0, atol=1e-12)
    # The shared part's gradient is the tied one's.
    largest = max(float(gradient.abs().max()) for gradient in b[2].values())
    for name, gradient in b[2].items():
        head, _, last = name.rpartition(".")
        mine = a[2].get(f"{head}.shared.{last}", a[2].get(name))
        assert float((mine - gradient).abs().max()) <= 1e-10 * largest, name


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_is_its_plain_export_and_gradients_split(sheet, options):
    shared = stirred(make(sheet, **SHARED, **options))
    plain = shared.to_plain()
    assert (shared.parametrization, plain.parametrization) == ("shared+difference", "plain")
    assert set(plain.state_dict()) == set(make(sheet, **options).state_dict())
    a, b = solve(shared), solve(plain)
    assert torch.allclose(a[0], b[0], rtol=0, atol=1e-12)
    assert torch.allclose(a[1], b[1], rtol=0, atol=1e-12)
    largest = max(float(gradient.abs().max()) for gradient in b[2].values())
    parts = {n: m for n, m in shared.named_modules() if isinstance(m, SharedDifference)}
    assert parts
    for name, gradient in b[2].items():
        head, _, last = name.rpartition(".")
        if head in parts:
            pairs = [(a[2][f"{head}.difference.{last}"], gradient), (a[2][f"{head}.shared.{last}"], gradient.sum(0))]
        else:
            pairs = [(a[2][name], gradient)]
        for mine, wanted in pairs:
            assert float((mine - wanted).abs().max()) <= 1e-10 * largest, name


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_plain_parameters_load(sheet, options):
    plain = stirred(make(sheet, **options))
    shared = make(sheet, **SHARED, **options)
    content = plain.state_dict()
    names = list(content)
    shared.load_state_dict(content)
    assert list(content) == names
    assert torch.allclose(solve(shared)[0], solve(plain)[0], rtol=0, atol=1e-12)
    for part in shared.modules():
        if isinstance(part, SharedDifference):
            assert float(part.difference.weight.detach().mean(0).abs().max()) < 1e-12
    # And so do tied ones.
    tied = stirred(make(sheet, **{**options, "untied": "none"}))
    shared.load_state_dict(tied.state_dict())
    assert torch.allclose(solve(shared)[0], solve(tied)[0], rtol=0, atol=1e-12)


def test_own_state_dict_and_copies_are_equal_to_the_bit(sheet):
    shared = stirred(make(sheet, torch.float32, **SHARED))
    other = make(sheet, torch.float32, **SHARED)
    other.load_state_dict(shared.state_dict())
    for model in (other, copy.deepcopy(shared)):
        for mine, wanted in zip(solve(model)[2].values(), solve(shared)[2].values(), strict=True):
            assert torch.equal(mine, wanted)
    with pytest.raises(RuntimeError, match="size mismatch"):
        shared.load_state_dict(make(sheet, dim=8).state_dict())


def test_runs_fused_and_sums_once_on_the_plain_path(sheet, monkeypatch):
    fused = make(sheet, torch.float32, backend="numba", **SHARED)
    solve(fused)
    assert fused._column_step == "fused"
    sums = []
    original = SharedDifference.pair
    monkeypatch.setattr(SharedDifference, "pair", lambda part, name: sums.append(name) or original(part, name))
    solve(fused)
    assert len(sums) == 12
    sums.clear()
    slow = make(sheet, torch.float32, backend="reference", **SHARED)
    solve(slow)
    assert slow._column_step.startswith("plain")
    assert len(sums) == 12
    assert not any(part._held for part in slow.modules() if isinstance(part, SharedDifference))


@pytest.mark.parametrize("recompute", [None, "steps"])
def test_recomputed_steps_give_the_same_gradients(sheet, recompute):
    model = stirred(make(sheet, backend="reference", recompute=recompute, **SHARED))
    wanted = solve(stirred(make(sheet, backend="reference", **SHARED)))[2]
    for name, gradient in solve(model)[2].items():
        assert torch.allclose(gradient, wanted[name], rtol=0, atol=1e-12), name


def test_functional_call_and_per_sample_gradients(sheet):
    model = stirred(make(sheet, backend="reference", **SHARED))
    x = torch.randn(model.inputs.numel(), 4, model.dim, dtype=torch.float64)
    parameters = dict(model.named_parameters())

    def loss(values, one):
        return torch.func.functional_call(model, values, (one.unsqueeze(1),)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 1))(parameters, x)
    model.zero_grad()
    model(x).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(each[name].sum(0), parameter.grad, rtol=0, atol=1e-9), name


def test_compiled_model_gives_the_same(sheet):
    model = stirred(make(sheet, torch.float32, backend="reference", **SHARED))
    x = torch.randn(model.inputs.numel(), 2, model.dim)
    compiled = torch.compile(model, backend="aot_eager")
    assert torch.allclose(compiled(x), model(x), atol=1e-5)


def test_vision_model_exports_too(random_sheet):
    torch.manual_seed(0)
    sheet = random_sheet(inputs=(0, 1, 2, 3))
    net = stirred(VisionColumnformer(Columnformer(sheet, **SIZES, **SHARED), image_size=4, patch_size=2))
    plain = net.to_plain()
    images = torch.randn(2, 3, 4, 4)
    assert torch.allclose(plain(images), net(images), atol=1e-5)
    assert plain.model.parametrization == "plain"
    assert net.model.parametrization == "shared+difference"


def test_unknown_parametrization_is_refused(sheet):
    with pytest.raises(ValueError, match=r"parametrization must be one of .*did you mean 'shared\+difference'"):
        Columnformer(sheet, parametrization="shared+differences")


def test_parts_made_plain_are_drawn_anew_as_plain_ones_are(sheet):
    part = make(sheet, **SHARED).to_plain().block.mlp.fc1
    part.reset_parameters()
    assert float(part.weight.std(0).min()) > 0


@pytest.mark.parametrize(
    "options",
    [
        {},
        SHARED,
        {"untied": "none"},
        {"untied": "norm", "value_projection": True},
        {"edge_bias": None},
        {"num_heads": 2},
    ],
    ids=str,
)
def test_written_out_for_every_column_it_is_the_same_function(sheet, options):
    model = stirred(make(sheet, **options))
    written = model.to_untied()
    assert written.untied == ("norm", "attention", "mlp")
    columns = [p for n, p in written.block.named_parameters() if "edge_bias" not in n]
    assert {len(parameter) for parameter in columns} == {sheet.num_columns}
    assert written.block.attention.edge_bias.shape == (sheet.edge_index.size(1), model.block.attention.num_heads)
    a, b = solve(model), solve(written)
    assert torch.allclose(a[0], b[0], rtol=0, atol=1e-12)
    assert torch.allclose(a[1], b[1], rtol=0, atol=1e-12)
    rebuilt = make(sheet, **written.options.arguments())
    rebuilt.load_state_dict(written.state_dict())
    assert torch.equal(solve(rebuilt)[0], b[0])
