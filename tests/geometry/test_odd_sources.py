"""Sources that were taken for something else: far from the origin, in batches, with headers, of ids too long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from torch_geometric import transforms
from torch_geometric.data import Batch, Data

import colgraph as cg


@pytest.mark.parametrize("shift", [[0, 0, 0], [300, 0, 0], [5000, -5000, 40]])
def test_great_circles_do_not_depend_on_where_the_sphere_lies(shift: list[float]) -> None:
    points = 20 * cg.geometry("sphere", subdivisions=2).positions
    here, there = (
        cg.build_sheet(cg.Geometry(each, metric="great_circle"), neighbors="knn:6") for each in (points, points + shift)
    )
    assert there.spacing == pytest.approx(here.spacing, rel=1e-4)
    pairs = np.array([0, 5]), np.array([11, 40])
    np.testing.assert_allclose(there.space.between(*pairs), here.space.between(*pairs), rtol=1e-4)


def test_positions_that_float32_cannot_tell_apart_are_refused() -> None:
    corner = np.array([465_000.0, 5_249_000.0])
    grid = np.stack(np.meshgrid(np.arange(6), np.arange(6)), -1).reshape(-1, 2) * 0.2
    with pytest.raises(ValueError, match=r"up to 5.249e\+06 from the origin.* neighbors are 0.2 apart: subtract"):
        cg.build_sheet(cg.Geometry(grid + corner), neighbors="knn:4")
    assert cg.build_sheet(cg.Geometry(grid + corner / 1e4), neighbors="knn:4").num_columns == 36


def test_ids_that_floating_point_has_rounded_are_refused() -> None:
    pd = pytest.importorskip("pandas")
    first = 720575940621039145
    table = pd.DataFrame({"source": [first, first + 1, 7], "target": [first + 55, first + 56, np.nan]}).dropna()
    with pytest.raises(ValueError, match=r"node 7\.2057594062103\d+e\+17 is a whole number that was made a floating"):
        cg.geometry(table, directed=True)
    with pytest.raises(ValueError, match="is a whole number that was made a floating-point one"):
        cg.geometry(pd.DataFrame({"source": [float(2**53 + 1)], "target": [1.0]}))
    assert cg.geometry(pd.DataFrame({"source": [1, 2], "target": [3.0, 4.0]})).names == ("1", "2", "3", "4")
    wells = pd.DataFrame({"source": ["1E2", "2E1"], "target": ["10E1", "3E0"]})
    assert cg.geometry(wells).names == ("1E2", "10E1", "2E1", "3E0")


def test_names_that_begin_as_comments_do_are_names_in_a_table() -> None:
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"source": ["u1", "#a", "%b"], "target": ["#a", "%b", "u2"], "weight": [1.0, 2.0, 3.0]})
    found = cg.geometry(table, directed=True, weight_is="distance")
    assert found.names == ("u1", "#a", "%b", "u2")
    assert found.edges is not None
    assert found.edges.tolist() == [[0, 1, 2], [1, 2, 3]]


def test_sides_of_faces_make_no_network_of_a_surface() -> None:
    sheet = cg.build_sheet("sphere", subdivisions=1, neighbors="knn:4")
    plain = Data(pos=sheet.pos, face=sheet.face)
    with_edges = transforms.FaceToEdge(remove_faces=False)(plain.clone())
    assert [cg.geometry(data).metric for data in (plain, with_edges)] == ["geodesic", "geodesic"]
    with_edges.edge_weight = torch.ones(with_edges.edge_index.size(1))
    assert cg.geometry(with_edges, weight_is="distance").metric != "geodesic"


def test_batches_of_points_are_refused() -> None:
    parts = [Data(pos=torch.rand(9, 3)) for _ in range(3)]
    with pytest.raises(ValueError, match=r"a batch of 3 point clouds is no cloud.* such as batch\[0\]"):
        cg.geometry(Batch.from_data_list(parts))
    assert cg.geometry(Batch.from_data_list(parts[:1])).num_columns == 9


@pytest.mark.parametrize(
    "text",
    [
        "id x y z\n7 1 2 3\n8 4 5 6\n",
        "//R G B X Y Z\n9 9 9 1 2 3\n9 9 9 4 5 6\n",
        "# from a scanner\nz,y,x\n3,2,1\n6,5,4\n",
        "1 2 3 255\n4 5 6 255\n",
    ],
)
def test_headers_of_points_say_which_columns_they_are(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.xyz").write_text(text)
    assert cg.geometry(tmp_path / "p.xyz").positions.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("neighbors", ["knn:4", "radius:1.1", "complete"])
def test_a_hub_has_no_neighbors_wherever_it_lies(neighbors: str) -> None:
    options: dict[str, Any] = {"shape": (8, 8), "parcellation": np.repeat([1, 2], [32, 32]), "neighbors": neighbors}
    plain, with_hub = cg.build_sheet("grid", **options), cg.build_sheet("grid", hub=4, **options)
    near = with_hub.edge_index[:, ~with_hub.is_tract]
    inner = near[:, (near < 64).all(0)]
    assert torch.equal(inner, plain.edge_index)
    others = near[:, (near >= 64).any(0)]
    assert (others[0] == others[1]).all()  # to themselves alone


def test_layers_with_gaps_have_no_direction() -> None:
    points, layer = np.random.default_rng(0).random((30, 3)), np.repeat([0, 1, 3], 10)
    for direction in ("forward", "forward+lateral"):
        with pytest.raises(ValueError, match="there is no layer 2 before layer 3 of 'custom': number layers without"):
            cg.build_sheet(cg.Geometry(points, layer=layer, direction=direction), neighbors="knn:4")
    assert cg.build_sheet(cg.Geometry(points, layer=layer), neighbors="knn:4").num_columns == 30


def test_columns_by_a_layout_for_plotting_are_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"num_inputs=4 of .* takes columns by a layout for plotting.*inputs="):
        cg.build_sheet(nx.karate_club_graph(), num_inputs=4, weight=None)


def test_entries_of_one_pair_are_added_with_a_note() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    matrix = sparse.coo_matrix(([1.0, 2, 1, 2], ([0, 0, 1, 1], [1, 1, 0, 0])), shape=(2, 2))
    with pytest.warns(UserWarning, match="2 of its entries are of a pair that has one, and are added to that"):
        found = cg.geometry(matrix, weight_is="distance")
    assert found.edge_distance is not None
    assert found.edge_distance.tolist() == [3, 3]


def test_names_and_positions_of_other_kinds() -> None:
    assert cg.Geometry(np.eye(3)[:2], names=(name for name in "ab")).names == ("a", "b")  # type: ignore[arg-type]
    graph = nx.path_graph(3)
    graph.nodes[0]["viz"] = "large"
    assert cg.geometry(graph).num_columns == 3
