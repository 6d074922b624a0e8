"""Objects of other libraries: PyG Data, sheets, networkx graphs that sheets became; and what is none of these."""

import warnings

import networkx as nx
import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.transforms import Distance, FaceToEdge

import colgraph as cg
from colgraph.geometry.readers import from_object

EDGES = torch.tensor([[0, 1, 2, 2], [1, 2, 0, 2]])
POS = torch.tensor([[0.0, 0, 0], [3, 4, 0], [3, 0, 0]])


def as_pairs(geometry):
    return dict(zip(map(tuple, geometry.edges.T.tolist()), geometry.edge_distance.tolist(), strict=True))


# ---------------------------------------------------------------------- PyG


def test_data_with_positions_and_edges():
    geometry = from_object(Data(pos=POS, edge_index=EDGES))
    assert geometry.metric == "euclidean"
    sheet = cg.build_sheet(Data(pos=POS, edge_index=EDGES))
    assert sheet.edge_index.tolist() == [[2, 0, 1, 2], [0, 1, 2, 2]]
    assert sheet.edge_distance.tolist() == [3, 5, 4, 0]


def test_data_whose_edges_are_a_matrix_are_no_point_cloud():
    data = Data(pos=POS, adj_t=torch.eye(3).to_sparse())
    with pytest.raises(ValueError, match="has adj_t in place of edge_index"):
        from_object(data)


def test_data_with_lengths():
    by_transform = Distance(norm=False)(Data(pos=POS, edge_index=EDGES))
    assert as_pairs(from_object(by_transform)) == pytest.approx({(0, 1): 5, (1, 2): 4, (2, 0): 3, (2, 2): 0})
    data = Data(num_nodes=3, edge_index=EDGES, edge_weight=torch.tensor([1.0, 2, 4, 8]), tracts=torch.arange(1, 5))
    assert not from_object(data).spatial
    assert as_pairs(from_object(data)) == {(0, 1): 1, (1, 2): 2, (2, 0): 4, (2, 2): 8}
    assert as_pairs(from_object(data, weight_is="strength"))[2, 0] == 0.25
    assert as_pairs(from_object(data, weight="tracts"))[2, 0] == 3
    assert as_pairs(from_object(data, distance="tracts"))[2, 0] == 3


def test_edge_features_of_several_numbers_are_no_lengths():
    data = Data(pos=POS, edge_index=EDGES, edge_attr=torch.rand(4, 3))
    assert from_object(data).edge_distance is None
    with pytest.raises(ValueError, match=r"edge_attr must have shape \[4\]"):
        from_object(data, distance="edge_attr")


@pytest.mark.filterwarnings("ignore:.*code k is taken for row k")
@pytest.mark.parametrize("source", ["grid", "torus"])
@pytest.mark.parametrize("lengths", [None, np.full((4, 4), 50.0)])
def test_tracts_of_a_sheet_stay_tracts(tmp_path, source, lengths):
    strength = np.ones((4, 4)) - np.eye(4)
    areas = {"parcellation": np.repeat([1, 2, 3, 4], 9), "connectome": strength, "tract_lengths": lengths}
    sheet = cg.build_sheet(
        source, shape=(6, 6), neighbors="knn:4", **areas, connectome_labels=list("1234"), long_range=2
    )
    forms = (sheet, sheet.save(tmp_path / "sheet.npz"), sheet.to_networkx())
    for again in map(cg.build_sheet, forms):
        assert again.is_tract.tolist() == sheet.is_tract.tolist()
        assert again.marks == sheet.marks
        assert again.metric == sheet.metric


def test_data_of_a_mesh():
    ball = cg.geometry("sphere", subdivisions=1)
    data = Data(pos=torch.tensor(ball.positions), face=torch.tensor(ball.faces.T.copy()))
    geometry = from_object(data)
    np.testing.assert_array_equal(geometry.faces, ball.faces)
    assert cg.build_sheet(data, metric="geodesic", neighbors="knn:3").metric == "geodesic"
    with_edges = from_object(FaceToEdge(remove_faces=False)(data))
    assert with_edges.faces.shape == ball.faces.shape
    assert with_edges.edges.shape == (2, 240)


def test_a_batch_is_one_geometry_of_several_pieces():
    batch = Batch.from_data_list([Data(pos=POS, edge_index=EDGES)] * 2)
    assert from_object(batch).edges.max() == 5


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Data(), "neither pos nor edge_index"),
        (Data(num_nodes=3), "neither pos nor edge_index"),
        (Data(pos=POS, edge_index=torch.tensor([[0], [3]])), r"0..2 \(3 columns\), got 3"),
        (Data(pos=POS, edge_index=torch.tensor([[0.0], [1.0]])), "integers of shape"),
        (Data(pos=POS, edge_index=torch.tensor([0, 1])), "integers of shape"),
        (Data(pos=POS, edge_index=EDGES, edge_weight=torch.ones(3)), r"edge_weight must have shape \[4\]"),
        (Data(pos=POS, edge_index=EDGES, edge_weight=-torch.ones(4)), "edge 0 -> 1 has length -1"),
        (Data(pos=POS, edge_index=EDGES, edge_weight=torch.full((4,), torch.nan)), "edge 0 -> 1 has length nan"),
        (Data(pos=POS * torch.inf, edge_index=EDGES), "finite"),
        (Data(num_nodes=3, edge_index=EDGES, face=torch.tensor([[0], [1], [2]])), "faces but no pos"),
        (Data(pos=POS, face=torch.tensor([[0], [1]])), r"face must have shape \[3, F\]"),
        (Data(pos=POS, face=torch.tensor([[0], [1], [5]])), "face must lie in 0..2"),
        (Data(pos=torch.rand(3, 5), edge_index=EDGES), "pos must have shape"),
        (Data(pos=[[0, 0]], edge_index=EDGES, num_nodes=3), r"pos must have shape \[3, 3\].*got \[1, 2\]"),
    ],
)
def test_bad_data(data, message):
    with pytest.raises(ValueError, match=message):
        from_object(data)


def test_options_of_data():
    data = Data(pos=POS, edge_index=EDGES)
    with pytest.raises(ValueError, match="no attribute 'length'; it has"):
        from_object(data, distance="length")
    with pytest.raises(ValueError, match="needs edge_weight"):
        from_object(data, weight_is="strength")
    with pytest.raises(ValueError, match=r"unknown option 'weigth'.*did you mean 'weight'"):
        from_object(data, weigth="w")


# ---------------------------------------------------------------------- sheets, and what they became

SHEETS = {
    "stack": {"widths": [3, 4, 3], "neighbors": "knn:5"},
    "forward": {"widths": [3, 4], "direction": "forward", "neighbors": "knn:4"},
    "sphere": {"subdivisions": 1, "neighbors": cg.KNN(4, self_loops=False), "num_inputs": 5, "num_outputs": 7},
    "grid": {"shape": (4, 5), "neighbors": "radius:1.5"},
}


def same(again, sheet):
    assert again.fingerprint == sheet.fingerprint
    assert again.geometry_fingerprint == sheet.geometry_fingerprint
    assert again.inputs.tolist() == sheet.inputs.tolist()
    assert again.outputs.tolist() == sheet.outputs.tolist()
    assert again.layer.tolist() == sheet.layer.tolist()


@pytest.mark.parametrize("name", SHEETS)
def test_a_sheet_comes_back_from_networkx_and_as_itself(name):
    options = dict(SHEETS[name])
    sheet = cg.build_sheet("stack" if name == "forward" else name, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", ".*read as the length of edges")  # test_lengths.py is about it
        same(cg.build_sheet(sheet.to_networkx()), sheet)
        same(cg.build_sheet(sheet), sheet)
    assert cg.build_sheet(sheet).face.shape == sheet.face.shape
    assert from_object(sheet.to_networkx()).name == sheet.geometry


def test_names_of_columns_come_back():
    graph = nx.DiGraph([("V1", "V2"), ("V2", "MT")])
    sheet = cg.build_sheet(graph)
    assert sheet.names == ["V1", "V2", "MT"]
    assert cg.build_sheet(sheet.to_networkx()).names == sheet.names
    assert cg.build_sheet(sheet).names == sheet.names


def test_a_sheet_without_positions_stays_without():
    sheet = cg.Sheet.from_edges(EDGES, 3)
    again = from_object(sheet)
    assert not again.spatial
    assert not from_object(sheet.to_networkx()).spatial
    assert cg.build_sheet(sheet.to_networkx()).fingerprint == sheet.fingerprint


def test_a_geometry_is_itself():
    geometry = cg.geometry("ring", columns=5)
    assert from_object(geometry) is geometry


@pytest.mark.parametrize(
    ("obj", "name"),
    [
        (3, "int"),
        (None, "NoneType"),
        ({"a": 1}, "dict"),
        ({(0, 1), (1, 0)}, "set"),
        (np.float64(3), "numpy.float64"),
        (HeteroData(), "HeteroData"),
        (np.array, "builtin_function_or_method"),
    ],
)
def test_other_types_are_named(obj, name):
    with pytest.raises(ValueError, match=rf"of type \S*{name}: give a networkx graph, .*trimesh.*PyG Data"):
        from_object(obj)


def test_types_are_told_without_importing_their_libraries():
    class Graph:
        __module__ = "some_package.networkx"

    with pytest.raises(ValueError, match=r"some_package.networkx.Graph"):
        from_object(Graph())


@pytest.mark.parametrize(("key", "metric"), [("Weight", "given"), ("fiberLength", "given"), ("strength", "given")])
def test_networkx_attributes_under_the_names_of_other_programs(key, metric):
    graph = nx.cycle_graph(5)
    nx.set_node_attributes(graph, {i: {"X": i, "Y": i * i} for i in graph})
    nx.set_edge_attributes(graph, {edge: 1.0 + i for i, edge in enumerate(graph.edges)}, key)
    with pytest.warns(UserWarning, match=key):
        geometry = from_object(graph)
    assert geometry.metric == metric
    np.testing.assert_array_equal(geometry.positions[:, 1], [0, 1, 4, 9, 16])
    assert key in graph.edges[0, 1]
    assert "x" not in graph.nodes[0]


def test_numbers_of_edges_that_are_not_read_are_named():
    graph = nx.cycle_graph(5)
    nx.set_node_attributes(graph, {i: (i, i * i) for i in graph}, "pos")
    nx.set_edge_attributes(graph, 2.0, "kappa")
    with pytest.warns(UserWarning, match="no lengths were read; edges have 'kappa'"):
        assert from_object(graph).metric == "euclidean"
    edges = torch.tensor([[0, 1, 2, 2], [1, 2, 0, 1]])
    for key, values in (("weight", torch.rand(4)), ("edge_attr", torch.rand(4, 3))):
        data = Data(pos=torch.rand(3, 3), edge_index=edges, **{key: values})
        with pytest.warns(UserWarning, match=f"no lengths were read; edges have '{key}'"):
            assert from_object(data).metric == "euclidean"
