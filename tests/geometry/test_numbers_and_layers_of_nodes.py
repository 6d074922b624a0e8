"""Which column a node is, and which layer it is in, where names and numbers could be misread."""

import networkx as nx
import numpy as np
import pytest

import colgraph as cg


def test_nodes_numbered_otherwise_than_columns_are_said_to_be():
    graph = nx.DiGraph([(2, 0), (0, 1)])
    with pytest.warns(UserWarning, match="node 2 is column 0: columns are nodes in the order"):
        sheet = cg.build_sheet(graph)
    assert sheet.names == ["2", "0", "1"]


@pytest.mark.filterwarnings("error")
def test_nodes_in_order_or_of_other_names_need_no_note():
    for edges in ([(0, 1), (1, 2)], [("2", "0"), ("0", "1")], [(20, 10), (10, 30)]):
        cg.build_sheet(nx.DiGraph(edges))


@pytest.mark.parametrize(
    ("layers", "wanted"),
    [
        ([f"L{i + 1}" for i in range(12)], list(range(12))),
        (["b", "a", "b"], [1, 0, 1]),
        ([0.5, 2.5, 10.5], [0, 1, 2]),
        (["0.5", "10.5", "2.5"], [0, 2, 1]),
        ([3, 1, 2], [3, 1, 2]),
    ],
)
def test_layers_are_numbered_in_the_order_that_they_are_read_in(layers, wanted):
    assert cg.build_sheet(with_layers(layers)).layer.tolist() == wanted


def test_a_layer_that_is_missing_is_refused():
    with pytest.raises(ValueError, match=r"node 1 has no 'layer', but other nodes have \(1 of 3 lack it"):
        cg.build_sheet(with_layers([0, float("nan"), 1]))


def with_layers(layers):
    graph = nx.path_graph(len(layers))
    nx.set_node_attributes(graph, dict(enumerate(layers)), "layer")
    return graph


@pytest.mark.parametrize("spacing", [float("nan"), 0, -1])
def test_spacing_is_a_distance(spacing):
    with pytest.raises(ValueError, match="spacing must be positive and finite"):
        cg.Sheet.from_edges(np.array([[0, 1], [1, 0]]), 2, spacing=spacing)
