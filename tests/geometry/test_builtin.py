"""Invariants of the geometries made from a formula."""

import numpy as np
import pytest

import colgraph as cg
from colgraph.geometry.builtin import icosphere
from colgraph.space.connections import mesh_edges


@pytest.mark.parametrize("name", ["grid", "hexagonal", "torus", "ring", "sphere", "stack"])
def test_defaults_build_and_survive(name):
    sheet = cg.build_sheet(name)
    assert sheet.geometry == name
    assert sheet.num_columns > 100
    assert sheet.describe().values["isolated"] == 0
    assert sheet.describe().values["components"] == 1
    assert cg.build_sheet(name).fingerprint == sheet.fingerprint


def test_grid_counts_extent_and_order():
    g = cg.geometry("grid", shape=(3, 5), spacing=2.0)
    assert g.num_columns == 15
    np.testing.assert_array_equal(np.ptp(g.positions, axis=0), [8, 4, 0])
    np.testing.assert_array_equal(g.positions[7], [4, 2, 0])
    assert cg.build_sheet(g, neighbors="knn:4").spacing == 2.0


def test_hexagonal_interior_has_six_equal_neighbors():
    g = cg.geometry("hexagonal", shape=(9, 9))
    distance = np.linalg.norm(g.positions[:, None] - g.positions[None], axis=2)
    near = (np.abs(distance - 1) < 1e-9).sum(1).reshape(9, 9)
    assert (near[1:-1, 1:-1] == 6).all()
    assert np.sort(distance, axis=1)[:, 1] == pytest.approx(1)


def test_torus_has_no_border():
    sheet = cg.build_sheet("torus", shape=(6, 9), neighbors="radius:1")
    assert (sheet.layout.in_degree == 5).all()
    assert sheet.distance.max() == 1


def test_ring_distance_is_along_the_circle():
    sheet = cg.build_sheet("ring", columns=12, spacing=3.0, neighbors="complete")
    step = (sheet.edge_index[0] - sheet.edge_index[1]).abs()
    hops = np.minimum(step.numpy(), 12 - step.numpy())
    np.testing.assert_allclose(sheet.distance.numpy(), 3.0 * hops, rtol=1e-6)
    assert sheet.spacing == pytest.approx(3.0)
    for columns in (1, 2, 3):
        assert cg.build_sheet("ring", columns=columns).num_columns == columns


@pytest.mark.parametrize("subdivisions", range(5))
def test_icosphere_is_a_sphere(subdivisions):
    points, faces = icosphere(subdivisions)
    v, f = len(points), len(faces)
    e = mesh_edges(faces, v).shape[1] // 2
    assert v == 10 * 4**subdivisions + 2
    assert v - e + f == 2
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1)
    assert np.bincount(np.bincount(faces.ravel())).tolist() == [0] * 5 + [12] + ([v - 12] if v > 12 else [])
    a, b, c = points[faces].transpose(1, 0, 2)
    assert ((np.cross(b - a, c - a) * (a + b + c)).sum(1) > 0).all()
    np.testing.assert_allclose(points.mean(0), 0, atol=1e-12)


def test_icosphere_is_nested_and_symmetric():
    coarse, fine = icosphere(2)[0], icosphere(3)[0]
    np.testing.assert_array_equal(fine[: len(coarse)], coarse)
    # Every vertex has an antipode.
    assert np.abs((fine @ fine.T).min(1) + 1).max() < 1e-12
    g = cg.geometry("sphere", subdivisions=1, radius=3.0)
    np.testing.assert_allclose(np.linalg.norm(g.positions, axis=1), 3)


def test_stack_positions_are_the_original_ones():
    g = cg.geometry("stack", widths=[4, 2, 1], layer_distance=3.0)
    assert g.layer.tolist() == [0] * 16 + [1] * 4 + [2]
    first = g.positions[:16]
    np.testing.assert_allclose(np.unique(first[:, 0]), np.linspace(-2, 2, 4))
    np.testing.assert_allclose(np.unique(first[:, 1]), np.linspace(-2, 2, 4))
    np.testing.assert_allclose(g.positions[:, 2], 3.0 * g.layer)
    np.testing.assert_array_equal(g.positions[-1], [0, 0, 6])
    np.testing.assert_allclose(np.ptp(g.positions[16:20], axis=0), [2, 2, 0])
    assert g.inputs.tolist() == list(range(16))
    assert g.outputs.tolist() == [20]


def test_stack_of_one_extent():
    g = cg.geometry("stack", widths=[4, 2], same_extent=True)
    for layer in (0, 1):
        np.testing.assert_allclose(np.ptp(g.positions[g.layer == layer], axis=0), [4, 4, 0])


def test_single_layer_is_input_and_output_at_distance_zero_to_itself():
    sheet = cg.build_sheet("stack", widths=[3], neighbors="complete")
    assert len(sheet.inputs) == len(sheet.outputs) == 9
    assert sheet.distance[sheet.edge_index[0] == sheet.edge_index[1]].max() == 0


@pytest.mark.parametrize("neighbors", ["knn:5", "radius:4", "complete"])
def test_stack_directions(neighbors):
    for direction, steps in [("forward", {1}), ("forward+lateral", {0, 1}), ("both", {-2, -1, 0, 1, 2})]:
        sheet = cg.build_sheet("stack", widths=[4, 3, 2], direction=direction, neighbors=neighbors)
        step = sheet.layer[sheet.edge_index[1]] - sheet.layer[sheet.edge_index[0]]
        assert set(step.tolist()) <= steps
        assert {0, 1} & steps <= set(step.tolist())
        loops = int((sheet.edge_index[0] == sheet.edge_index[1]).sum())
        assert loops == (0 if direction == "forward" else sheet.num_columns)


def test_forward_stack_takes_all_where_there_are_fewer_than_k():
    sheet = cg.build_sheet("stack", widths=[2, 3, 2], direction="forward", neighbors="knn:6")
    degree = sheet.layout.in_degree
    assert (degree[sheet.layer == 0] == 0).all()
    assert (degree[sheet.layer == 1] == 4).all()
    assert (degree[sheet.layer == 2] == 6).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cg.geometry("grid", shape=(0, 3)), "at least 1, got 0"),
        (lambda: cg.geometry("grid", spacing=0.0), "spacing must be positive"),
        (lambda: cg.geometry("ring", columns=-1), "columns"),
        (lambda: cg.geometry("ring", spacing=float("nan")), "spacing"),
        (lambda: cg.geometry("sphere", subdivisions=-1), "0 to 10, got -1"),
        (lambda: cg.geometry("sphere", subdivisions=11), "0 to 10, got 11"),
        (lambda: cg.geometry("sphere", radius=-2.0), "radius"),
        (lambda: cg.geometry("stack", widths=[]), "at least one layer"),
        (lambda: cg.geometry("stack", widths=[8, 0]), "widths"),
        (lambda: cg.geometry("stack", layer_distance=0.0), "layer_distance"),
    ],
)
def test_bad_sizes(call, message):
    with pytest.raises(ValueError, match=message):
        call()
