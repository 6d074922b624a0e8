"""Network files and networkx graphs: round trips, positions, lengths, merging, and everything that is no network."""

import gzip
import itertools
import json
import warnings

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import colgraph as cg
from colgraph.geometry.readers import from_object, read_geometry

WRITERS = {
    "graphml": nx.write_graphml,
    "gexf": nx.write_gexf,
    "gml": nx.write_gml,
    "net": nx.write_pajek,
    "json": lambda graph, path: path.write_text(json.dumps(nx.node_link_data(graph, edges="edges"))),
    "edgelist": nx.write_edgelist,
    "edges": nx.write_weighted_edgelist,
}


def areas(kind=nx.DiGraph):
    """Five areas with positions and one-way connections, in an order that is not the order of their names."""
    graph = kind()
    for i, name in enumerate(["V2", "V1", "MT", "V4", "IT"]):
        graph.add_node(name, x=float(i), y=float(i * i), z=0.5)
    graph.add_weighted_edges_from([("V1", "V2", 2.0), ("V2", "V4", 1.5), ("V1", "MT", 3.0), ("V4", "IT", 0.25)])
    return graph


def expected_edges(graph, nodes):
    number = {str(node): i for i, node in enumerate(nodes)}
    pairs = {}
    for u, v, data in graph.edges(data=True):
        ends = [(number[str(u)], number[str(v)])]
        for pair in ends if graph.is_directed() else [*ends, ends[0][::-1]]:
            pairs[pair] = min(float(data.get("weight", 1)), pairs.get(pair, np.inf))
    return pairs


def as_pairs(geometry):
    return dict(zip(map(tuple, geometry.edges.T.tolist()), geometry.edge_distance.tolist(), strict=True))


def quietly(call, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", ".*read as the length of edges")  # test_lengths.py is about it
        return call(*args, **options)


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("kind", [nx.DiGraph, nx.Graph])
@pytest.mark.parametrize("form", WRITERS)
def test_round_trip(tmp_path, form, kind, packed):
    graph = areas(kind)
    path = tmp_path / f"areas.{form}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pajek writers leave out what is no text
        WRITERS[form](graph, path)
    if packed:
        target = tmp_path / f"areas.{form}.gz"
        target.write_bytes(gzip.compress(path.read_bytes()))
        path = target
    listed = form in ("edgelist", "edges")
    geometry = quietly(read_geometry, path, **({"directed": graph.is_directed()} if listed else {}))
    assert set(geometry.names) == set(graph)
    assert as_pairs(geometry) == pytest.approx(expected_edges(graph, geometry.names))
    assert geometry.metric == "given"
    assert geometry.name == f"areas.{form}"
    if listed:
        assert not geometry.spatial
    else:
        assert geometry.names == tuple(graph)
        depth = 0.0 if form == "net" else 0.5  # networkx writes no z into Pajek files
        np.testing.assert_allclose(geometry.positions, [[i, i * i, depth] for i in range(5)])
        assert geometry.spatial


@pytest.mark.parametrize("form", ["graphml", "gexf", "gml", "json"])
def test_without_lengths_distance_is_where_the_nodes_are(tmp_path, form):
    graph = nx.path_graph(4, create_using=nx.DiGraph)
    for i in graph:
        graph.nodes[i].update(x=2.0 * i, y=0.0)
    WRITERS[form](graph, tmp_path / f"path.{form}")
    geometry = read_geometry(tmp_path / f"path.{form}")
    assert geometry.metric == "euclidean"
    assert geometry.edge_distance is None
    sheet = cg.build_sheet(tmp_path / f"path.{form}")
    assert sheet.edge_distance.tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("form", WRITERS)
def test_without_positions_only_connections_measure(tmp_path, form):
    graph = nx.cycle_graph(6)
    WRITERS[form](graph, tmp_path / f"ring.{form}") if form != "edges" else nx.write_edgelist(
        graph, tmp_path / "ring.edges", data=False
    )
    geometry = quietly(read_geometry, tmp_path / f"ring.{form}")
    assert geometry.metric == "hops"
    assert not geometry.spatial
    assert geometry.edges.shape == (2, 12)
    assert np.ptp(geometry.positions, axis=0).min() > 0  # coordinates to draw it by
    assert cg.build_sheet(tmp_path / f"ring.{form}").edge_distance.tolist() == [1.0] * 12
    with pytest.raises(ValueError, match="needs positions"):
        cg.build_sheet(tmp_path / f"ring.{form}", metric="euclidean", neighbors="knn:2")


# ---------------------------------------------------------------------- positions


@pytest.mark.parametrize(
    "value", [(1, 2, 3), [1.0, 2.0, 3.0], np.array([1, 2, 3]), "1,2,3", "(1, 2, 3)", "[1 2 3]", "1.0;2.0;3.0"]
)
def test_positions_in_every_spelling(value):
    graph = nx.DiGraph([(0, 1)])
    graph.nodes[0]["pos"] = value
    graph.nodes[1]["pos"] = "0 0 0"
    np.testing.assert_array_equal(from_object(graph).positions, [[1, 2, 3], [0, 0, 0]])


def test_positions_by_name():
    graph = nx.path_graph(3)
    for i in graph:
        graph.nodes[i].update(pos=(9 + i, 9), place=(i, 1), east=str(i), north=i + 0.5)
    np.testing.assert_array_equal(from_object(graph, position="place").positions[:, :2], [[0, 1], [1, 1], [2, 1]])
    np.testing.assert_array_equal(
        from_object(graph, position=["east", "north"]).positions[:, :2], [[0, 0.5], [1, 1.5], [2, 2.5]]
    )
    assert not from_object(graph, position=False).spatial
    with pytest.raises(ValueError, match=r"no node has the attribute 'plaec': did you mean 'place'"):
        from_object(graph, position="plaec")
    with pytest.raises(ValueError, match="list of 1 to 3"):
        from_object(graph, position=["east"] * 4)


def test_gexf_viz_positions(tmp_path):
    graph = nx.path_graph(3, create_using=nx.DiGraph)
    for i in graph:
        graph.nodes[i]["viz"] = {"position": {"x": float(i), "y": 1.0, "z": -1.0}}
    nx.write_gexf(graph, tmp_path / "viz.gexf")
    np.testing.assert_array_equal(read_geometry(tmp_path / "viz.gexf").positions, [[0, 1, -1], [1, 1, -1], [2, 1, -1]])


def test_positions_that_are_all_the_same_are_none():
    graph = nx.path_graph(3)
    nx.set_node_attributes(graph, (0.0, 0.0), "pos")
    assert not from_object(graph).spatial


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([(0, 0), None, (1, 1)], r"node 1 has no 'pos', but other nodes have \(1 of 3"),
        ([(0, 0), (1, 2, 3), (1, 1)], "node 1 has 3 coordinates, node 0 has 2"),
        ([(0, 0), (1, "north"), (1, 1)], "node 1 has the position"),
        ([(0, 0), (1, float("nan")), (1, 1)], "node 1 has the position"),
        ([(0, 0), (1, float("inf")), (1, 1)], "node 1 has the position"),
        ([(0,) * 4] * 3, "node 0 has the position"),
        ([(0, 0), "", (1, 1)], "node 1 has the position"),
        ([(0, 0), object(), (1, 1)], "node 1 has the position"),
    ],
)
def test_bad_positions_name_the_node(values, message):
    graph = nx.path_graph(3)
    for i, value in enumerate(values):
        graph.nodes[i]["pos"] = value
    with pytest.raises(ValueError, match=message):
        from_object(graph)


def test_coordinates_for_plotting_are_the_same_every_time_and_quick():
    small, large = nx.karate_club_graph(), nx.random_regular_graph(4, 3000, seed=1)
    large.add_edges_from((3000 + i, 3001 + i) for i in range(5))  # a piece of its own
    for graph in (nx.Graph(small.edges), large):
        first, second = from_object(graph).positions, from_object(graph).positions
        np.testing.assert_array_equal(first, second)
        assert np.isfinite(first).all()


@pytest.mark.parametrize("size", [60, 1500])
def test_coordinates_for_plotting_put_neighbors_together(size):
    geometry = from_object(nx.cycle_graph(size))
    source, target = geometry.edges
    along = np.linalg.norm(geometry.positions[source] - geometry.positions[target], axis=1).mean()
    across = np.linalg.norm(geometry.positions - np.roll(geometry.positions, size // 2, axis=0), axis=1).mean()
    assert along < 0.2 * across


# ---------------------------------------------------------------------- lengths


def lengths_of(graph, **options):
    return as_pairs(from_object(graph, **options))


def test_distance_comes_before_weight_unless_weights_are_asked_for():
    graph = nx.DiGraph()
    graph.add_edge(0, 1, distance=5, weight=4, count=10, length="2.5")
    assert lengths_of(graph) == {(0, 1): 5}
    assert lengths_of(graph, distance="length") == {(0, 1): 2.5}
    assert lengths_of(graph, weight="count") == {(0, 1): 10}
    assert lengths_of(graph, weight="count", weight_is="strength") == {(0, 1): 0.1}
    assert lengths_of(graph, weight_is="strength") == {(0, 1): 0.25}
    with pytest.raises(ValueError, match=r"no edge has the attribute 'lenght': did you mean 'length'"):
        from_object(graph, distance="lenght")
    with pytest.raises(ValueError, match="not both"):
        from_object(graph, distance="length", weight="count")
    with pytest.raises(ValueError, match=r"'distance', 'strength', .*got 'similarity'"):
        from_object(graph, weight_is="similarity")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, "far", None, 1j, 10**400])
def test_bad_lengths_name_the_edge(value):
    graph = nx.DiGraph([("a", "b", {"weight": 1.0}), ("b", "c", {"weight": value})])
    with pytest.raises(ValueError, match="edge 'b' -> 'c' has"):
        from_object(graph)


@pytest.mark.parametrize("value", [0, -2, 1e-320])
def test_a_strength_must_be_positive(value):
    graph = nx.DiGraph([("a", "b", {"weight": value})])
    with pytest.raises(ValueError, match="edge 'a' -> 'b' has strength"):
        from_object(graph, weight_is="strength")


def test_lengths_on_some_edges_only_name_the_edge():
    graph = nx.DiGraph([("a", "b", {"weight": 1}), ("b", "c", {})])
    with pytest.raises(ValueError, match="edge 'b' -> 'c' has no 'weight', but other edges have"):
        from_object(graph)


def test_a_length_of_zero_is_a_length():
    assert lengths_of(nx.DiGraph([(0, 1, {"weight": 0})])) == {(0, 1): 0}


# ---------------------------------------------------------------------- edges


def test_parallel_edges_become_the_shortest_with_a_warning():
    graph = nx.MultiDiGraph()
    graph.add_weighted_edges_from([("a", "b", 3), ("a", "b", 2), ("b", "a", 7), ("a", "b", 4)])
    with pytest.warns(UserWarning, match="merged 2 parallel edges"):
        assert lengths_of(graph) == {(0, 1): 2, (1, 0): 7}
    graph = nx.MultiGraph()
    graph.add_weighted_edges_from([("a", "b", 3), ("b", "a", 2), ("a", "a", 1)])
    with pytest.warns(UserWarning, match="merged 1 parallel edges"):
        assert lengths_of(graph) == {(0, 1): 2, (1, 0): 2, (0, 0): 1}


def test_self_loops_stay():
    geometry = quietly(from_object, nx.Graph([(0, 0), (0, 1)]))
    assert geometry.edges.T.tolist() == [[0, 0], [1, 0], [0, 1]]


@given(
    edges=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.floats(0, 1e6)), min_size=1, max_size=30),
    directed=st.booleans(),
)
@settings(max_examples=60)
def test_any_multigraph_keeps_the_shortest_edge_of_each_pair(edges, directed):
    graph = (nx.MultiDiGraph if directed else nx.MultiGraph)()
    graph.add_nodes_from(range(7))
    graph.add_weighted_edges_from(edges)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        geometry = from_object(graph)
    assert as_pairs(geometry) == expected_edges(graph, range(7))
    order = geometry.edges[1] * 7 + geometry.edges[0]
    assert (np.diff(order) > 0).all()


def test_nodes_keep_their_names():
    graph = nx.DiGraph([("b", "a")])
    assert from_object(graph).names == ("b", "a")
    nx.set_node_attributes(graph, {"b": "Bee", "a": "Ay"}, "title")
    assert from_object(graph, names="title").names == ("Bee", "Ay")
    assert from_object(nx.path_graph(3)).names is None
    assert from_object(nx.path_graph([2, 1, 0])).names == ("2", "1", "0")


def test_layers_inputs_and_outputs_of_a_file(tmp_path):
    graph = nx.path_graph(4, create_using=nx.DiGraph)
    for i in graph:
        graph.nodes[i].update(layer=i // 2, input_rank=[1, 0, -1, -1][i], output=i == 3)
    for form in ("graphml", "gexf", "gml", "json"):
        WRITERS[form](graph, tmp_path / f"stack.{form}")
        sheet = cg.build_sheet(tmp_path / f"stack.{form}")
        assert sheet.layer.tolist() == [0, 0, 1, 1]
        assert sheet.inputs.tolist() == [1, 0]
        assert sheet.outputs.tolist() == [3]


def test_layers_by_label_are_numbered_in_order():
    graph = nx.path_graph(3)
    nx.set_node_attributes(graph, {0: "L4", 1: "L2", 2: "L4"}, "layer")
    assert from_object(graph).layer.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("attribute", "values", "message"),
    [
        ("input_rank", [0, 0, -1], "input_rank 0 is given to more than one node"),
        ("input_rank", [0, "first", -1], "node 1 has input_rank 'first'"),
        ("input_rank", [0, 1.5, -1], "node 1 has input_rank 1.5"),
        ("output", [True, "maybe", False], "node 1 has output 'maybe'"),
        ("layer", [0, None, 1], "node 1 has no 'layer'"),
    ],
)
def test_bad_attributes_name_the_node(attribute, values, message):
    graph = nx.path_graph(3)
    for i, value in enumerate(values):
        graph.nodes[i][attribute] = value
    with pytest.raises(ValueError, match=message):
        from_object(graph)


def test_graphs_that_make_no_geometry():
    with pytest.raises(ValueError, match="no nodes"):
        from_object(nx.Graph())
    with pytest.raises(ValueError, match="3 nodes without positions and no edges"):
        from_object(nx.empty_graph(3))
    graph = nx.Graph()
    graph.add_edge(nx.path_graph(2), 1)
    with pytest.raises(ValueError, match="graphs of graphs"):
        from_object(graph)


@pytest.mark.parametrize(
    ("name", "options"),
    [("torus", {"shape": (8, 8)}), ("grid", {"shape": (5, 6)}), ("sphere", {"subdivisions": 1})],
)
def test_a_sheet_as_a_graph_keeps_its_metric(name, options):
    """Other neighbors of it are those of the sheet's own space, not of ways along its edges."""
    sheet = cg.build_sheet(name, **options, neighbors=cg.KNN(4))
    other = cg.build_sheet(name, **options, neighbors="radius:1.6" if name != "sphere" else cg.KNN(9))
    for again in (sheet, sheet.to_networkx(), nx.node_link_graph(nx.node_link_data(sheet.to_networkx()))):
        same = cg.build_sheet(again)
        assert (same.metric, same.period) == (sheet.metric, sheet.period)
        assert same.edge_index.tolist() == sheet.edge_index.tolist()
        wider = cg.build_sheet(again, neighbors="radius:1.6" if name != "sphere" else cg.KNN(9))
        assert wider.metric == other.metric
        assert wider.edge_distance.max() == pytest.approx(float(other.edge_distance.max()), rel=1e-5)


def test_a_metric_that_lengths_contradict_is_none():
    """Lengths that were given, along tracts say, are none of the straight lines between columns."""
    graph = cg.build_sheet("grid", shape=(3, 3), neighbors=cg.KNN(2)).to_networkx()
    for u, v in graph.edges:
        graph.edges[u, v]["distance"] *= 1.5
    assert cg.build_sheet(graph).metric == "given"
    torus = cg.build_sheet("torus", shape=(4, 4), neighbors=cg.KNN(4)).to_networkx()
    del torus.graph["period"]
    assert cg.build_sheet(torus).metric == "given"


def test_two_nodes_of_one_name_are_refused():
    graph = nx.Graph([(1, "1"), ("1", 2)])
    with pytest.raises(ValueError, match="the name '1' is used 2 times: nodes must not be duplicated"):
        cg.build_sheet(graph)


def test_the_order_of_nodes_is_that_of_the_file(tmp_path):
    names = ["c", "a", "b"]
    for form in ("graphml", "gexf", "gml", "json", "net"):
        graph = nx.DiGraph(itertools.pairwise(names))
        WRITERS[form](graph, tmp_path / f"o.{form}")
        assert read_geometry(tmp_path / f"o.{form}").names == tuple(names)
