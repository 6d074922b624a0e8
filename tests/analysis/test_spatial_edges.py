"""Adjacency in space follows the metric, and is the same for networks that are wired differently."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import colgraph as cg
from colgraph import analysis as an


def grid(rows, cols):
    y, x = np.indices((rows, cols))
    return np.stack([x.ravel(), y.ravel()], 1).astype(float)


def pairs_of(edges):
    return {(int(a), int(b)) for a, b in edges.T}


def test_a_fixed_map_scores_the_same_whatever_the_wiring():
    """On each network's own edges the same map scored high on one and nothing on the other."""
    sheet = cg.build_sheet("grid", shape=(16, 16), neighbors="knn:8")
    x, y = sheet.pos[:, 0].numpy(), sheet.pos[:, 1].numpy()
    fixed = np.cos(x / 3) * np.cos(y / 4)
    wired = sheet.edge_index.numpy()
    rewired = an.rewire(wired, 256, seed=0)
    own, others = (an.morans_i(fixed, edges, permutations=20).value for edges in (wired, rewired))
    assert own > 0.7
    assert abs(others) < 0.1
    beside = an.spatial_edges(sheet.pos, metric=sheet.space)
    assert an.morans_i(fixed, beside, permutations=20).value > 0.8


def test_the_four_nearest_of_a_grid_are_its_neighbors():
    edges = an.spatial_edges(grid(6, 7), radius=1.0)
    expected = nx.grid_2d_graph(6, 7)
    number = {node: node[0] * 7 + node[1] for node in expected}
    assert pairs_of(edges) == {(number[a], number[b]) for u, v in expected.edges for a, b in ((u, v), (v, u))}
    assert pairs_of(edges) <= pairs_of(an.spatial_edges(grid(6, 7)))
    assert np.bincount(edges[0]).max() == 4


@pytest.mark.parametrize("name", ["torus", "ring", "sphere", "stack", "hexagonal"])
def test_it_follows_the_sheets_metric(name):
    shape = {"torus": {"shape": (6, 8)}, "ring": {"columns": 20}, "sphere": {"subdivisions": 1}}
    options = shape.get(name, {"widths": (3, 4)} if name == "stack" else {"shape": (5, 6)})
    sheet = cg.build_sheet(name, neighbors="knn:6", **options)
    edges = an.spatial_edges(sheet.pos, k=4, metric=sheet.space)
    distance = sheet.space.between(*edges)
    everyone = np.arange(sheet.num_columns)
    near = np.stack([np.sort(sheet.space.between(everyone, np.full_like(everyone, i)))[4] for i in everyone])
    assert (distance <= np.maximum(near[edges[0]], near[edges[1]]) * (1 + 1e-5)).all()
    assert np.bincount(edges[1], minlength=len(everyone)).min() >= 4


def test_around_a_torus_and_along_connections():
    sheet = cg.build_sheet("torus", shape=(6, 8), neighbors="knn:8")
    edges = an.spatial_edges(sheet.pos, k=4, metric=sheet.space)
    assert edges.shape[1] == 4 * 48, "no column of a torus lies at a border"
    one_way = cg.Geometry(
        np.zeros((6, 3)),
        edges=np.stack([np.arange(6), (np.arange(6) + 1) % 6]),
        edge_distance=np.ones(6),
        metric="given",
        spatial=False,
    )
    space = cg.build_sheet(one_way, neighbors="given").space
    assert pairs_of(an.spatial_edges(np.zeros((6, 3)), radius=1, metric=space)) == {
        pair for i in range(6) for pair in ((i, (i + 1) % 6), ((i + 1) % 6, i))
    }


def test_faces_of_a_surface():
    sheet = cg.build_sheet("sphere", subdivisions=1, neighbors="knn:6")
    edges = an.spatial_edges(sheet.pos, faces=sheet.face)
    assert edges.shape[1] == 2 * (42 + 80 - 2), "Euler: V - E + F = 2, every edge in both directions"


@settings(max_examples=30)
@given(st.integers(5, 30), st.integers(1, 6), st.integers(0, 10_000))
def test_both_directions_no_loops_and_no_numbering(count, k, seed):
    rng = np.random.default_rng(seed)
    points, order = rng.random((count, 3)), rng.permutation(count)
    edges = an.spatial_edges(points, k=k)
    assert pairs_of(edges) == pairs_of(edges[::-1])
    assert (edges[0] != edges[1]).all()
    moved = order[an.spatial_edges(points[order], k=k)]
    assert pairs_of(moved) == pairs_of(edges)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 3, "radius": 1.0}, "got k and radius"),
        ({"k": 0}, "k must be an integer of at least 1"),
        ({"radius": -1.0}, "radius must be positive, got -1"),
        ({"radius": 0.5}, "none of the 12 columns lies within 0.5"),
        ({"faces": [[0, 1, 12]]}, "faces must lie in 0..11, got 12"),
        ({"faces": np.zeros((2, 2), int)}, r"faces must be integers of shape \[F, 3\]"),
        ({"metric": lambda i, j: abs(i - j)}, "metric must be a name or a space"),
        ({"metric": "euclid"}, "did you mean 'euclidean'"),
    ],
)
def test_bad_adjacency_is_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        an.spatial_edges(grid(3, 4), **options)
    assert "\n" not in str(error.value)
