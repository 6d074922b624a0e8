"""Which backend runs, and what bad arguments are told."""

from __future__ import annotations

import importlib.util

import pytest
import torch

import colgraph as cg
from colgraph.layout import Layout
from colgraph.ops import available_backends, backends, resolve_backend, sheet_attention

CPU = torch.device("cpu")
HAS_NUMBA = importlib.util.find_spec("numba") is not None


@pytest.fixture
def layout() -> Layout:
    return Layout(torch.tensor([[0, 1, 2, 0], [0, 0, 1, 2]]), 3)


def tensors(**changes):
    out = {
        "query": torch.randn(3, 2, 2, 4),
        "key": torch.randn(3, 2, 2, 4),
        "value": torch.randn(3, 2, 2, 5),
        "edge_bias": torch.randn(4, 2),
    }
    return out | changes


def test_the_reference_is_always_there():
    assert available_backends()[0] == "reference"
    assert ("numba" in available_backends()) == HAS_NUMBA
    assert ("triton" in available_backends()) == (
        torch.cuda.is_available() and importlib.util.find_spec("triton") is not None
    )


def test_auto_goes_by_device_and_dtype():
    assert resolve_backend("auto", CPU, torch.float64) == "reference"
    assert resolve_backend("auto", CPU, torch.float32) == ("numba" if HAS_NUMBA else "reference")
    assert resolve_backend("reference", CPU, torch.float32) == "reference"


def test_a_named_backend_never_falls_back(layout):
    with pytest.raises(ValueError, match=r"'triton' cannot serve: .*(runs on cuda|not installed)"):
        sheet_attention(**tensors(), layout=layout, backend="triton")
    if HAS_NUMBA:
        with pytest.raises(ValueError, match=r"'numba' cannot serve: it computes .* the tensors are float64"):
            resolve_backend("numba", CPU, torch.float64)
    with pytest.raises(ValueError, match=r"unknown backend 'refrence'.*did you mean 'reference'"):
        sheet_attention(**tensors(), layout=layout, backend="refrence")


def test_a_missing_package_names_the_pip_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name, line in (("numba", "pip install numba"), ("triton", "pip install triton"), ("torch_scatter", "scatter")):
        with pytest.raises(ValueError, match=line):
            resolve_backend(name, CPU, torch.float32)
    assert available_backends() == ["reference"]
    assert resolve_backend("auto", CPU, torch.float32) == "reference"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": torch.randn(4, 2, 2, 4)}, r"query must have shape \[N=3, B, H, D\], got \[4, 2, 2, 4\]"),
        ({"query": torch.randn(3, 2, 4)}, r"query must have shape"),
        ({"key": torch.randn(3, 2, 2, 3)}, r"key must have the query's shape \[3, 2, 2, 4\]"),
        ({"value": torch.randn(3, 1, 2, 5)}, r"value must have shape \[3, 2, 2, C\], got \[3, 1, 2, 5\]"),
        ({"edge_bias": torch.randn(5, 2)}, r"edge_bias must have shape \[E=4\] or \[E=4, H=2\].* got \[5, 2\]"),
        ({"edge_cost": torch.rand(3)}, r"edge_cost must have shape \[E=4\]"),
        ({"edge_cost": torch.rand(4, requires_grad=True)}, "edge_cost is a constant"),
        ({"key": torch.randn(3, 2, 2, 4).double()}, r"key is torch\.float64, query torch\.float32"),
        ({"value": torch.randn(3, 2, 2, 5, device="meta")}, "value is on meta, query on cpu"),
        ({"edge_bias": torch.zeros(4, 2, dtype=torch.int64)}, "edge_bias must be a floating-point"),
    ],
)
def test_arguments_that_do_not_fit(change, message, layout):
    with pytest.raises(ValueError, match=message):
        sheet_attention(**tensors(**change), layout=layout, backend="reference")


def test_a_sheet_is_no_layout():
    sheet = cg.build_sheet("ring", columns=3, neighbors="knn:1")
    with pytest.raises(ValueError, match=r"must be a sheet's layout \(sheet\.layout\), got Sheet"):
        sheet_attention(**tensors(), layout=sheet)


def test_a_layout_of_another_sheet(layout):
    other = Layout(torch.tensor([[0, 1], [0, 1]]), 3)
    with pytest.raises(ValueError, match="for this layout"):
        sheet_attention(**tensors(), layout=other)
    larger = Layout(torch.tensor([[0, 1], [0, 1]]), 5)
    with pytest.raises(ValueError, match="N=5"):
        sheet_attention(**tensors(), layout=larger)


@pytest.mark.skipif(importlib.util.find_spec("torch_scatter") is None, reason="torch-scatter is not installed")
def test_torch_scatter_equals_the_reference(layout, assert_same):
    inputs = {name: value.double() for name, value in tensors().items()}
    cost = torch.rand(4, dtype=torch.float64)
    empty = Layout(torch.tensor([[0, 1, 0, 2], [0, 0, 1, 1]]), 3)
    for graph in (layout, empty):

        def run(t, backend, graph=graph):
            return sheet_attention(**t, layout=graph, edge_cost=cost, backend=backend)

        assert_same(lambda t: run(t, "torch_scatter"), lambda t: run(t, "reference"), inputs, 1e-12)


def test_every_backend_is_described(layout):
    query = tensors()["query"]
    reference = backends.primitive("reference", query, layout)
    for name, backend in backends._BACKENDS.items():
        assert backend.install
        if backend.installed():
            assert backends.primitive(name, query, layout) is not reference
