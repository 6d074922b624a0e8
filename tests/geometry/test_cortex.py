"""The cortex: counts, nesting, topology, two hemispheres."""

import socket
import sys

import numpy as np
import pytest

import colgraph as cg
from colgraph.geometry.builtin import icosphere
from colgraph.geometry.cortex import coarser_faces
from colgraph.space.connections import mesh_edges

nilearn = pytest.importorskip("nilearn")
SIZES = {"fsaverage5": 10242, "fsaverage4": 2562, "fsaverage3": 642}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def edge_lengths(g):
    source, target = mesh_edges(g.faces, g.num_columns)
    return np.linalg.norm(g.positions[source] - g.positions[target], axis=1)


@pytest.mark.parametrize("mesh", SIZES)
def test_meshes_are_closed_spheres_of_the_right_size(mesh):
    g = cg.geometry("cortex", mesh=mesh, surface="sphere")
    v, e, f = g.num_columns, mesh_edges(g.faces, g.num_columns).shape[1] // 2, len(g.faces)
    assert v == SIZES[mesh]
    assert v - e + f == 2
    assert g.metric == "geodesic"
    # An icosahedron's subdivision: twelve vertices of degree five, sides of nearly one length on the sphere.
    assert np.bincount(np.bincount(g.faces.ravel())).tolist() == [0] * 5 + [12, v - 12]
    length = edge_lengths(g)
    assert length.max() < 1.3 * length.min()


def test_coarser_meshes_are_the_leading_vertices():
    fine = cg.geometry("cortex", mesh="fsaverage5")
    for mesh, factor in (("fsaverage4", 2), ("fsaverage3", 4)):
        coarse = cg.geometry("cortex", mesh=mesh)
        np.testing.assert_array_equal(coarse.positions, fine.positions[: coarse.num_columns])
        assert np.median(edge_lengths(coarse)) == pytest.approx(factor * np.median(edge_lengths(fine)), rel=0.15)


def test_coarser_faces_undo_a_subdivision():
    coarse, fine = icosphere(2), icosphere(3)
    found = coarser_faces(fine[1], len(coarse[0]))
    # The same triangles with the same winding, in any order and from any corner.
    turn = [np.roll(face, -int(np.argmin(face))).tolist() for face in found]
    expected = [np.roll(face, -int(np.argmin(face))).tolist() for face in coarse[1]]
    assert sorted(turn) == sorted(expected)
    with pytest.raises(ValueError, match="not a regular subdivision"):
        coarser_faces(fine[1], len(coarse[0]) - 1)
    with pytest.raises(ValueError, match="not a regular subdivision"):
        coarser_faces(coarse[1], len(coarse[0]))


@pytest.mark.parametrize("surface", ["white", "pial", "inflated", "sphere"])
def test_both_hemispheres_are_two_pieces_that_do_not_overlap(surface):
    g = cg.geometry("cortex", hemisphere="both", mesh="fsaverage3", surface=surface)
    assert g.num_columns == 2 * 642
    assert g.layer.tolist() == [0] * 642 + [1] * 642
    assert (g.layer[g.faces].min(1) == g.layer[g.faces].max(1)).all()
    left, right = g.positions[:642], g.positions[642:]
    # The medial walls of white and pial touch the midplane; inflated surfaces and spheres are moved apart.
    assert right[:, 0].min() - left[:, 0].max() > (9.99 if surface in ("inflated", "sphere") else -1.5)
    sheet = cg.build_sheet(g, neighbors="knn:8")
    assert sheet.describe().values["components"] == 2


def test_right_hemisphere_has_its_own_layer_and_the_axis_points_to_the_front():
    right = cg.geometry("cortex", hemisphere="right", mesh="fsaverage3")
    assert set(right.layer.tolist()) == {1}
    sheet = cg.build_sheet(right, neighbors="knn:8", num_inputs=20, num_outputs=10)
    y = sheet.pos[:, 1]
    assert y[sheet.inputs].max() <= y[sheet.input_rank < 0].min()
    assert y[sheet.outputs].min() >= y[~sheet.output_mask].max()


def test_wrong_options_name_the_closest():
    with pytest.raises(ValueError, match="did you mean 'left'"):
        cg.geometry("cortex", hemisphere="lef")
    with pytest.raises(ValueError, match="'fsaverage6'"):
        cg.geometry("cortex", mesh="fsaverage6")


def test_missing_nilearn_names_the_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "nilearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install -e .*\[cortex\]"):
        cg.geometry("cortex")
