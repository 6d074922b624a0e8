"""Products of a column's rows with its weights, as every kind of processor would have them compiled."""

from __future__ import annotations

import importlib.util
import math
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numba import njit
from numba.core import config

from colgraph.ops import _column_products, _processor, column_step
from colgraph.ops._memory import begins_at_line, empty
from colgraph.ops._numba_vector import begin_of
from colgraph.ops.column_step import ColumnWeights, GradientTape, StepTape

AVX512, AVX512_IN_HALVES, AVX2 = 32, 16, 8


@pytest.mark.parametrize(
    ("features", "registers"),
    [
        ("+sse2,+avx,+avx2,+fma,-avx512f", AVX2),
        ("+avx2,+avx512f,+avx512vl", AVX512),
        ("+avx2,+avx512f,+prefer-256-bit", AVX512_IN_HALVES),
        ("+neon,+fp-armv8", AVX2),
        ("", AVX2),
    ],
)
def test_registers_are_those_of_the_processor_that_is_compiled_for(features, registers, monkeypatch):
    monkeypatch.setattr(config, "CPU_FEATURES", features)
    assert _processor.count_registers() == registers


@pytest.fixture(scope="module", params=[AVX2, AVX512])
def products(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The three products, compiled for a processor with so many registers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_processor, "REGISTERS", request.param)
        module = _load_again(_column_products)

    forward, backward, gradient = module.linear, module.linear_backward, module.sum_of_products

    @njit
    def linear(x, rows, width, weight, outs, bias, out):
        forward(begin_of(x), rows, width, begin_of(weight), outs, begin_of(bias), begin_of(out))

    @njit
    def linear_backward(grad, rows, outs, weight, width, add, out):
        backward(begin_of(grad), rows, outs, begin_of(weight), width, add, begin_of(out))

    @njit
    def sum_of_products(grad, rows, outs, x, width, add, past, out):
        gradient(begin_of(grad), rows, outs, begin_of(x), width, add, past, begin_of(out))

    return {"linear": linear, "backward": linear_backward, "sum": sum_of_products}


def _load_again(module: ModuleType) -> ModuleType:
    """The same file once more, with what it imports as it is now."""
    spec = importlib.util.spec_from_file_location(f"{module.__name__}_again", Path(module.__file__))
    assert spec is not None
    assert spec.loader is not None
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    return again


WIDTHS = (1, 7, 8, 16, 17, 40, 64, 75, 112)


def _numbers(*shape: int) -> np.ndarray:
    """Small integers, whose sums are exact in any order, in memory of their own from a cache line on."""
    values = np.random.default_rng(0).integers(-9, 9, shape).astype(np.float32)
    aligned = torch.empty(max(values.size, 1)).numpy()[: values.size]
    aligned[:] = values.ravel()
    return aligned


@pytest.mark.parametrize(("rows", "outs"), list(product((1, 2, 5, 9), (1, 3, 4, 6))))
def test_products_are_exact_for_every_number_of_registers(products, rows, outs):
    for width in WIDTHS:
        x, weight, grad, bias = _numbers(rows, width), _numbers(outs, width), _numbers(rows, outs), _numbers(outs)
        x2, weight2, grad2 = x.reshape(rows, width), weight.reshape(outs, width), grad.reshape(rows, outs)
        out = np.full(rows * outs, np.nan, np.float32)
        products["linear"](x, rows, width, weight, outs, bias, out)
        np.testing.assert_array_equal(out.reshape(rows, outs), x2 @ weight2.T + bias)

        for add in (False, True):
            out, before = _numbers(rows, width), _numbers(rows, width) * add
            products["backward"](grad, rows, outs, weight, width, add, out)
            np.testing.assert_array_equal(out, before + (grad2 @ weight2).ravel())
            for past in (False, True) if width % 16 == 0 else (False,):
                out, before = _numbers(outs, width), _numbers(outs, width) * add
                products["sum"](grad, rows, outs, x, width, add, past, out)
                np.testing.assert_array_equal(out, before + (grad2.T @ x2).ravel())


# ---------------------------------------------------------------------- gradients past the caches


def _weight_gradients(totals: ColumnWeights[torch.Tensor | None], add: bool) -> None:
    """Of 24 columns and three steps, with numbers in all tapes."""
    torch.manual_seed(0)
    (n, c), j, m, batch = totals.norm1_weight.shape, 8, 16, 2
    shapes = [(c,), (c,), (j, c), (j,), (j, c), (j,), (c,), (c,), (m, c), (m,), (c, m), (c,)]
    weights = ColumnWeights(*(torch.randn(n, *shape) for shape in shapes))
    tape = StepTape.blank(3, batch, weights)
    for tensor in (*tape, *(grads := GradientTape.blank_like(tape))):
        tensor.normal_()
    column_step.weight_gradients(weights, 1e-5, tape, grads, totals, add)


def _room(begin: int = 0) -> ColumnWeights[torch.Tensor | None]:
    """For gradients of 24 columns, not yet written, ``begin`` floats beyond a cache line."""
    n, c, j, m = 24, 32, 8, 16
    shapes = [(c,), (c,), (j, c), (j,), (j, c), (j,), (c,), (c,), (m, c), (m,), (c, m), (c,)]
    return ColumnWeights(
        *(empty(n * math.prod(shape) + 16)[begin:][: n * math.prod(shape)].view(n, *shape) for shape in shapes)
    )


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("begin", [0, 1])
def test_gradients_written_past_the_caches_are_the_same(begin, add, monkeypatch):
    """And they are written in the usual way where they begin within a cache line: past the caches that would crash."""
    expected, result = _room(), _room(begin)
    assert all(begins_at_line(total) == (begin == 0) for total in result)
    for total in (*expected, *result):
        total.fill_(1.0)
    _weight_gradients(expected, add)
    monkeypatch.setattr(_processor, "PAST_CACHES", 1)
    _weight_gradients(result, add)
    assert not torch.equal(result.query_weight, torch.ones_like(result.query_weight))
    for one, other in zip(expected, result, strict=True):
        assert torch.equal(one, other)
