"""Models and inputs of every dtype, with and without autocast, and batches and sheets of next to nothing."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from small_models import FAST, KINDS, exact, make, make_input, make_vision, same

import colgraph as cg

# ---------------------------------------------------------------------- dtypes

LOW = [torch.bfloat16, torch.float16]


def test_models_of_every_dtype(sheet):
    for options in KINDS.values():
        model = make(sheet, **options)
        x = make_input(model)
        expected = exact(model).unroll(x.double())
        for dtype, tolerance in ((torch.float64, 1e-6), (torch.bfloat16, 0.1), (torch.float16, 0.02)):
            other = copy.deepcopy(model).to(dtype)
            found = other.unroll(x.to(dtype))
            assert found.state.dtype == dtype
            error = (found.state.double() - expected.state).detach().abs().max()
            assert error < tolerance * expected.state.detach().abs().max()
            torch.testing.assert_close(found.wiring_cost.double(), expected.wiring_cost, rtol=tolerance, atol=0)
            (found.state.sum() + found.wiring_cost).backward()
            assert all(bool(p.grad.isfinite().all()) for p in other.parameters() if p.grad is not None)


def test_costs_and_biases_beyond_half_precision(random_sheet):
    sheet = random_sheet()
    sheet = cg.Sheet.from_edges(
        sheet.edge_index, 12, edge_distance=1e5 * sheet.edge_distance, pos=1e5 * sheet.pos, inputs=[0, 1, 2]
    )
    x = torch.randn(3, 2, 6)
    model = make(sheet, wiring_power=2)
    expected = model.unroll(x).wiring_cost
    half = copy.deepcopy(model).half().unroll(x.half()).wiring_cost
    torch.testing.assert_close(half, expected, rtol=0.02, atol=0)
    with torch.autocast("cpu", torch.float16):
        torch.testing.assert_close(model.unroll(x).wiring_cost, expected, rtol=0.02, atol=0)
    narrow = make(sheet, locality_sigma=1.0)
    with pytest.raises(ValueError, match="float16 holds numbers up to 65504"):
        narrow.half()
    assert bool(narrow.bfloat16()(x.bfloat16()).isfinite().all())


def test_inputs_of_another_dtype(sheet):
    for options in (*KINDS.values(), {"position_embedding": False}, {"inject": "every"}, {"inject": "sequence"}):
        model = make(sheet, **options)
        x = make_input(model)
        for dtype in LOW:
            assert torch.equal(model(x.to(dtype)), model(x.to(dtype).float()))
        with pytest.raises(ValueError, match=r"x is float64, the model float32: x\.to\(torch\.float32\)"):
            model(x.double())
        with pytest.raises(ValueError, match="x is float32, the model bfloat16"):
            copy.deepcopy(model).bfloat16()(x)
        with pytest.raises(ValueError, match="state is float64"):
            model.unroll(x, state=torch.randn(sheet.num_columns, 2, 6, dtype=torch.float64))
        with pytest.raises(ValueError, match="x is float64"), torch.autocast("cpu", torch.bfloat16):
            model(x.double())


def test_images_of_another_dtype():
    net = make_vision()
    with pytest.raises(ValueError, match="images must be floating-point, normalised as in training, got uint8"):
        net(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match="images is float64, the model float32"):
        net(torch.zeros(1, 3, 4, 4, dtype=torch.float64))
    images = torch.randn(1, 3, 4, 4)
    assert torch.equal(net(images.half()), net(images.half().float()))


@pytest.mark.parametrize("inject", ["first", "every", "sequence"])
@pytest.mark.parametrize("dtype", LOW)
def test_autocast_with_every_option(sheet, dtype, inject):
    kinds = itertools.product(("plain", "shared+difference"), ("all", "none", "mlp"), (None, "steps"), (True, False))
    for parametrization, untied, recompute, position in kinds:
        model = make(
            sheet,
            inject=inject,
            parametrization=parametrization,
            untied=untied,
            recompute=recompute,
            position_embedding=position,
        )
        for x in (make_input(model), make_input(model).to(dtype)):
            expected = exact(model)(x.double())
            with torch.autocast("cpu", dtype):
                out = model(x)
            assert (out.double() - expected).detach().abs().max() < 0.1 * expected.detach().abs().max()
            out.float().square().sum().backward()
            assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


# ---------------------------------------------------------------------- nothing, and next to nothing


@pytest.mark.parametrize("backend", ["reference", *FAST])
@pytest.mark.parametrize("inject", ["first", "every", "sequence"])
def test_an_empty_batch(sheet, backend, inject):
    for options, recompute in itertools.product(KINDS.values(), (None, "steps")):
        model = make(sheet, backend=backend, inject=inject, recompute=recompute, **options)
        x = make_input(model, 0).requires_grad_()
        assert model(x).shape == (12, 0, 6)
        unroll = model.unroll(x, record=("state", "attention"))
        assert unroll.states.shape == (2, 12, 0, 6)
        assert unroll.attention.shape == (2, sheet.edge_index.size(1), 0, 2)
        unroll = model.unroll(x)
        assert unroll.wiring_cost.item() == 0
        (unroll.state.sum() + unroll.wiring_cost).backward()
        assert x.grad.shape == x.shape
        assert not any(bool(p.grad.any()) for p in model.parameters() if p.grad is not None)


def test_an_empty_batch_of_images_and_films():
    for options in (*KINDS.values(), {"inject": "sequence"}):
        net = make_vision(**options)
        shape = (0, 2, 3, 4, 4) if "inject" in options else (0, 3, 4, 4)
        logits = net(torch.zeros(shape))
        assert logits.shape == (0, 3)
        logits.sum().backward()
        assert net.unroll(torch.zeros(shape), record=("state",)).step_logits.shape == (2, 0, 3)


@pytest.mark.parametrize("backend", ["reference", *FAST])
def test_without_edges_and_with_one_column(backend):
    nothing = torch.empty(2, 0, dtype=torch.int64)
    alone = torch.zeros(2, 1, dtype=torch.int64)
    for edges, n in ((nothing, 3), (nothing, 1), (alone, 1)):
        for options in KINDS.values():
            model = make(cg.Sheet.from_edges(edges, n, spacing=1.0, inputs=[0]), backend=backend, **options)
            x = make_input(model)
            found, truth = model.unroll(x), exact(model).unroll(x.double())
            same(found.state, truth.state)
            same(found.wiring_cost, truth.wiring_cost)
            (found.state.square().sum() + found.wiring_cost).backward()
            assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
