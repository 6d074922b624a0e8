"""Network files that networkx reads otherwise, or not at all: what is checked first, Pajek, lists of edges."""

import json
import warnings

import networkx as nx
import numpy as np
import pytest

from colgraph.geometry.readers import read_geometry


def as_pairs(geometry):
    return dict(zip(map(tuple, geometry.edges.T.tolist()), geometry.edge_distance.tolist(), strict=True))


def quietly(call, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", ".*read as the length of edges")  # test_lengths.py is about it
        return call(*args, **options)


def graphml(body, directed="directed"):
    return (
        '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">'
        '<key id="w" for="edge" attr.name="weight" attr.type="double"><default>3</default></key>'
        '<key id="x" for="node" attr.name="x" attr.type="double"><default>0</default></key>'
        '<key id="y" for="node" attr.name="y" attr.type="double"><default>0</default></key>'
        f'<graph edgedefault="{directed}">{body}</graph></graphml>'
    )


def gexf(body):
    return (
        '<gexf xmlns="http://www.gexf.net/1.2draft" version="1.2"><graph defaultedgetype="directed">'
        f"{body}</graph></gexf>"
    )


PAIR = '<node id="a"/><node id="b"/>'


def test_default_attributes_of_graphml_are_applied(tmp_path):
    body = '<node id="a"><data key="x">4</data></node><node id="b"/><edge source="a" target="b"/>'
    (tmp_path / "defaults.graphml").write_text(graphml(body))
    geometry = read_geometry(tmp_path / "defaults.graphml")
    assert as_pairs(geometry) == {(0, 1): 3}
    np.testing.assert_array_equal(geometry.positions, [[4, 0, 0], [0, 0, 0]])


BROKEN = {
    "twice.graphml": (graphml('<node id="a"/><node id="a"/>'), "node id 'a' is used 2 times"),
    "dangling.graphml": (graphml(PAIR + '<edge source="a" target="c"/>'), "node 'c', which is not in the file"),
    "nested.graphml": (
        graphml(f'<node id="g"><graph edgedefault="directed">{PAIR}</graph></node>'),
        "node 'g' holds a graph",
    ),
    "nothing.graphml": ('<graphml xmlns="http://graphml.graphdrawing.org/xmlns"/>', "holds 0 graphs"),
    "other.graphml": ("<svg/>", "the document is <svg>"),
    "cut.graphml": (graphml(PAIR)[:-20], "not readable as GraphML"),
    "text.graphml": ("a b c", "not readable as GraphML"),
    "value.graphml": (
        graphml(PAIR + '<edge source="a" target="b"><data key="w">far</data></edge>'),
        "not readable as GraphML",
    ),
    "negative.graphml": (
        graphml(PAIR + '<edge source="a" target="b"><data key="w">-1</data></edge>'),
        "edge 'a' -> 'b' has length -1",
    ),
    "twice.gexf": (gexf('<nodes><node id="a"/><node id="a"/></nodes>'), "node id 'a' is used 2 times"),
    "nested.gexf": (gexf(f'<nodes><node id="g"><nodes>{PAIR}</nodes></node></nodes>'), "node 'g' holds a graph"),
    "dangling.gexf": (
        gexf(f'<nodes>{PAIR}</nodes><edges><edge id="0" source="z" target="a"/></edges>'),
        "node 'z', which is not in the file",
    ),
    "twice.gml": ("graph [ node [ id 0 ] node [ id 0 ] ]", "not readable as GML.*duplicated"),
    "label.gml": ('graph [ node [ id 0 label "a" ] node [ id 1 label "a" ] ]', "node label 'a' is used 2 times"),
    "dangling.gml": ("graph [ node [ id 0 ] edge [ source 0 target 7 ] ]", "not readable as GML.*7"),
    "cut.gml": ("graph [ node [ id 0 ", "not readable as GML"),
    "eval.gml": ('graph [ node [ id 0 label __import__("os") ] ]', "not readable as GML"),
    "twice.json": ('{"nodes": [{"id": 1}, {"id": 1}], "edges": []}', "node id 1 is used 2 times"),
    "dangling.json": ('{"nodes": [{"id": 1}], "links": [{"source": 1, "target": 2}]}', "node 2, which is not"),
    "keys.json": ('{"a": 1}', 'needs a list "nodes"'),
    "noedges.json": ('{"nodes": []}', 'a list "edges" or "links"'),
    "list.json": ("[1, 2]", 'needs a list "nodes"'),
    "strings.json": ('{"nodes": ["a"], "edges": []}', "must be objects"),
    "cut.json": ('{"nodes": [', "not readable as JSON"),
    "deep.json": ("[" * 100_000, "not readable as JSON"),
    "range.net": ("*Vertices 2\n1 a\n2 b\n*Arcs\n1 3 1\n", "line 5.*vertex 3 is not one of the 2"),
    "twice.net": ("*Vertices 2\n1 a\n1 b\n", "line 3.*vertex 1 is listed twice"),
    "partition.paj": ("*Vertices 1\n1 a\n*Partition p\n", "not part of a network"),
    "several.paj": ("*Vertices 1\n1 a\n*Vertices 1\n1 a\n", "give a file with one network"),
    "noverts.net": ("*Arcs\n1 2\n", "line 2"),
    "cut.net": ("*Vertices 2\n1 a 0 0\n2 b 1 1\n", "no \\*Arcs or \\*Edges"),
    "matrix.net": ("*Vertices 2\n*Matrix\n0 1\n", "has 1 rows for 2 vertices"),
    "fields.edgelist": ("a b 1\na b 1 2\n", "row 2 has 4 fields"),
    "alone.edgelist": ("a b\nc\n", "row 2 has 1 fields"),
    "none.edgelist": ("# nothing\n", "no rows"),
    "code.edgelist": ("a b {'weight': open('x')}\n", "line 1 has attributes that are no dictionary"),
    "word.edgelist": ("a b far\n", "edge 'a' -> 'b' has the length 'far'"),
    "some.edgelist": ("a b 1\nb c\n", "edge 'b' -> 'c' has no 'weight'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_networks_are_errors_of_one_line_that_name_the_file(tmp_path, name):
    text, expected = BROKEN[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=expected) as caught:
        read_geometry(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_gml_in_utf8_and_without_labels(tmp_path):
    (tmp_path / "a.gml").write_text(
        'graph [ node [ id 5 label "Brodmann ä" ] node [ id 7 label "b" ] edge [ source 5 target 7 ] ]'
    )
    assert read_geometry(tmp_path / "a.gml").names == ("Brodmann ä", "b")
    (tmp_path / "b.gml").write_text("graph [ directed 1 node [ id 5 ] node [ id 7 ] edge [ source 7 target 5 ] ]")
    geometry = read_geometry(tmp_path / "b.gml")
    assert geometry.names == ("5", "7")
    assert geometry.edges.tolist() == [[1], [0]]


def test_node_link_json_of_all_ages(tmp_path):
    graph = nx.DiGraph()
    graph.add_weighted_edges_from([("V2", "V1", 2.0), ("V1", "MT", 3.0)])
    for key in ("edges", "links"):
        data = nx.node_link_data(graph, edges=key)
        (tmp_path / f"{key}.json").write_text(json.dumps(data))
        assert as_pairs(read_geometry(tmp_path / f"{key}.json")) == {(0, 1): 2, (1, 2): 3}


def test_pajek_beyond_what_networkx_reads(tmp_path):
    text = (
        '% a comment\n*Network test\n*Vertices 4\n1 "area one" 0.1 0.2 0.3 ellipse\n2 "x" 0.5 0.5 0.5\n3 x .9 .1 .5'
        "\n4 d 0 0 1\n*Arcs :1\n1 2 2.5\n*Edges\n3 4 1.5\n*Arcslist\n4 1 2\n"
    )
    (tmp_path / "areas.net").write_text(text)
    geometry = read_geometry(tmp_path / "areas.net")
    assert geometry.names == ("area one", "x", "x", "d")  # two of the same name are two vertices
    assert as_pairs(geometry) == {(0, 1): 2.5, (2, 3): 1.5, (3, 2): 1.5, (3, 0): 1, (3, 1): 1}
    np.testing.assert_allclose(geometry.positions[0], [0.1, 0.2, 0.3])


def test_pajek_matrix_and_vertices_without_a_line(tmp_path):
    (tmp_path / "m.net").write_text("*Vertices 3\n*Matrix\n0 2 0\n0 0 3\n0 0 0\n")
    geometry = read_geometry(tmp_path / "m.net")
    assert as_pairs(geometry) == {(0, 1): 2, (1, 2): 3}
    assert geometry.names == ("1", "2", "3")


# ---------------------------------------------------------------------- edge lists


@pytest.mark.parametrize(
    "text",
    [
        "10 2 1.5\n2 3 2\n",
        "10\t2\t1.5\n2\t3\t2\n",
        "10, 2, 1.5\n2, 3, 2\n",
        "# header\n% another\nsource target weight\n10 2 1.5 # why\n\n2 3 2\n",
        "10 2 {'weight': 1.5}\n2 3 {'weight': 2, 'color': 'red'} # a comment\n",
    ],
)
def test_edge_lists_in_every_spelling(tmp_path, text):
    for suffix in ("edgelist", "edges", "txt"):
        path = tmp_path / f"list.{suffix}"
        path.write_text(text)
        geometry = quietly(read_geometry, path, directed=True)
        assert geometry.names == ("2", "3", "10")  # whole numbers in their order
        assert as_pairs(geometry) == {(2, 0): 1.5, (0, 1): 2}


def test_edge_lists_are_undirected_as_in_networkx(tmp_path):
    (tmp_path / "list.edgelist").write_text("b a 2\na c 3\n")
    geometry = quietly(read_geometry, tmp_path / "list.edgelist")
    assert geometry.names == ("b", "a", "c")
    assert as_pairs(geometry) == {(0, 1): 2, (1, 0): 2, (1, 2): 3, (2, 1): 3}


def test_an_undirected_list_with_pairs_both_ways_round_warns(tmp_path):
    (tmp_path / "list.edgelist").write_text("a b 2\nb a 3\n")
    with (
        pytest.warns(UserWarning, match="1 pairs of nodes are listed both ways.*directed=True"),
        pytest.warns(UserWarning, match="merged 1 parallel edges"),
    ):
        assert as_pairs(read_geometry(tmp_path / "list.edgelist")) == {(0, 1): 2, (1, 0): 2}
    assert as_pairs(quietly(read_geometry, tmp_path / "list.edgelist", directed=True)) == {(0, 1): 2, (1, 0): 3}
