"""A sheet knows how far its columns are from each other, as the geometry did."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch

import colgraph as cg
from colgraph.geometry import build_control
from colgraph.sheet import Sheet

SHEETS = {
    "grid": {"source": "grid", "shape": (6, 7)},
    "torus": {"source": "torus", "shape": (6, 7)},
    "ring": {"source": "ring", "columns": 20},
    "sphere": {"source": "sphere", "subdivisions": 2},
    "sphere, geodesic": {"source": "sphere", "subdivisions": 2, "metric": "geodesic"},
    "sphere, euclidean": {"source": "sphere", "subdivisions": 2, "metric": "euclidean"},
    "sphere, hops": {"source": "sphere", "subdivisions": 2, "metric": "hops"},
    "stack": {"source": "stack", "widths": [9, 9]},
}


def network() -> nx.Graph:
    graph = nx.random_geometric_graph(30, 0.4, seed=1)
    for a, b in graph.edges:
        graph.edges[a, b]["distance"] = 0.5 + (a + b) % 5
    return graph


def sheets(control: str):
    for name, arguments in SHEETS.items():
        options = dict(arguments)
        yield pytest.param(lambda o=options: build_control(o.pop("source"), control, neighbors="knn:5", **o), id=name)
    yield pytest.param(lambda: build_control(network(), control, neighbors="knn:5"), id="network")


def assert_measured_alike(sheet: Sheet) -> None:
    source, target = sheet.edge_index.numpy()
    found = sheet.space.between(source, target)
    np.testing.assert_allclose(found, sheet.edge_distance.numpy(), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("make", [*sheets("none")])
def test_edges_are_as_long_as_the_space_says(make):
    assert_measured_alike(make())


@pytest.mark.parametrize("make", [*sheets("shuffled-positions"), *sheets("random-graph")])
def test_controls_measure_by_the_same_metric(make):
    assert_measured_alike(make())


@pytest.mark.parametrize("name", [*SHEETS])
def test_shuffled_positions_change_no_distance_on_the_whole(name):
    """On a complete graph the mean distance is the same: what a control measured otherwise would show."""
    options = dict(SHEETS[name])
    source = options.pop("source")
    plain, moved = (
        build_control(source, control, neighbors=cg.Complete(), **options) for control in ("none", "shuffled-positions")
    )
    assert float(plain.edge_distance.double().mean()) == pytest.approx(float(moved.edge_distance.double().mean()))


@pytest.mark.parametrize("name", ["torus", "sphere, hops", "sphere, geodesic"])
def test_it_is_saved(name, tmp_path):
    options = dict(SHEETS[name])
    sheet = cg.build_sheet(options.pop("source"), neighbors="knn:5", **options)
    back = Sheet.load(sheet.save(tmp_path / "sheet.npz"))
    pairs = np.arange(10), np.arange(10)[::-1]
    np.testing.assert_allclose(back.space.between(*pairs), sheet.space.between(*pairs))


def test_sheets_of_the_format_before_load(tmp_path):
    sheet = cg.build_sheet("torus", shape=(5, 5), neighbors="knn:4")
    arrays = {name: value for name, value in sheet.to_arrays().items() if name != "period"}
    back = Sheet.from_arrays({**arrays, "format": np.array(1)})
    assert back.fingerprint == sheet.fingerprint
    with pytest.raises(ValueError, match="needs period"):
        _ = back.space


def test_a_subgraph_measures_by_what_it_kept():
    sheet = cg.build_sheet(network(), neighbors="knn:5")
    part = sheet.subgraph(torch.arange(20))
    assert part.wire_index.max() < 20
    assert np.isfinite(part.space.between(part.wire_index[0].numpy(), part.wire_index[1].numpy())).all()


def test_a_metric_that_nobody_knows():
    sheet = Sheet.from_edges([[0], [1]], 2, metric="travel time")
    with pytest.raises(ValueError, match="travel time"):
        _ = sheet.space


def test_the_space_follows_the_sheet():
    sheet = cg.build_sheet("grid", shape=(4, 4), neighbors="knn:4")
    space = sheet.space
    assert sheet.space is space
    sheet.pos = 2 * sheet.pos
    sheet.edge_distance = 2 * sheet.edge_distance
    assert sheet.space.between(np.array([0]), np.array([5])) == 2 * space.between(np.array([0]), np.array([5]))
