"""Models on the fused unroll and on the plain path: their outputs and gradients, side by side."""

from __future__ import annotations

import copy

import torch

from colgraph.models import Columnformer

SIZES = {"dim": 12, "steps": 3, "qk_dim": 5, "mlp_dim": 7}
RECOMPUTE = (None, "steps", "sqrt")


def make(sheet, seed=0, **options):
    """A model with every parameter away from its starting value."""
    torch.manual_seed(seed)
    model = Columnformer(sheet, **(SIZES | {"backend": "numba"} | options))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def plain(model, dtype=torch.float32):
    """The same model on the plain path."""
    other = copy.deepcopy(model).to(dtype)
    other.block.attention.backend = "reference"
    return other


def make_input(model, batch=3, seed=1, steps=None):
    shape = (model.inputs.numel(), batch, model.dim)
    shape = shape if model.inject != "sequence" else (steps or model.steps, *shape)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def loss_of(unroll):
    """A function of everything that an unroll returns."""
    loss = (unroll.state * torch.linspace(-1, 1, unroll.state.numel()).to(unroll.state).view_as(unroll.state)).sum()
    if unroll.states is not None:
        loss = loss + 0.1 * unroll.states.square().sum()
    return loss + 3 * unroll.wiring_cost


def solve(model, x, **options):
    """Outputs and gradients of one unroll, in float64."""
    dtype = model.block.norm1.weight.dtype
    x = x.detach().to(dtype).requires_grad_()
    model.zero_grad()
    unroll = model.unroll(x, **options)
    loss_of(unroll).backward()
    result = {"state": unroll.state, "cost": unroll.wiring_cost, "x": x.grad}
    if unroll.states is not None:
        result["states"] = unroll.states
    result |= {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {name: value.detach().double().clone() for name, value in result.items()}


def assert_as_good_as_plain(model, x, factor=4.0, **options):
    """Against float64, the fused path errs at most a few times as much as the plain path in float32."""
    exact = solve(plain(model, torch.float64), x, **options)
    usual = solve(plain(model), x, **options)
    fused = solve(model, x, **options)
    assert model._column_step == "fused"
    assert set(fused) == set(exact)
    for name, truth in exact.items():
        floor = 8 * torch.finfo(torch.float32).eps * max(1.0, float(truth.abs().max()))
        allowed = factor * float((usual[name] - truth).abs().max()) + floor
        error = float((fused[name] - truth).abs().max())
        assert error <= allowed, f"{name} is off by {error:.3g}, allowed {allowed:.3g}"
