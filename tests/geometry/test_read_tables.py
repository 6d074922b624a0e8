"""Tables as programs write them: R, pandas, numpy, Gephi, Cytoscape, spreadsheets; and what cannot be told, refused."""

import math
import warnings

import networkx as nx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from colgraph.geometry.readers import from_object, read_geometry


def named(geometry):
    names = geometry.names or tuple(map(str, range(geometry.num_columns)))
    lengths = [None] * geometry.edges.shape[1] if geometry.edge_distance is None else geometry.edge_distance.tolist()
    return {(names[i], names[j]): d for (i, j), d in zip(geometry.edges.T.tolist(), lengths, strict=True)}


def read(folder, name, text, **options):
    """The geometry of a file with this text, and the warnings."""
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        geometry = read_geometry(folder / name, **options)
    return geometry, "; ".join(str(warning.message) for warning in caught)


# ---------------------------------------------------------------------- matrices

FULL = {("A", "B"): 4, ("B", "A"): 5, ("A", "C"): 2, ("C", "B"): 3}


def matrix(across, down, *, corner='""', sep=",", rows=("0", "4", "2"), more=(("5", "0", "0"), ("0", "3", "0"))):
    head = ([] if corner is None else [corner]) + across
    return (
        "\n".join(sep.join(row) for row in [head, *([d, *r] for d, r in zip(down, (rows, *more), strict=True))]) + "\n"
    )


ABC = ["A", "B", "C"]
MATRICES = {
    "r_csv": matrix(['"A"', '"B"', '"C"'], ['"1"', '"2"', '"3"']),
    "r_table": matrix(['"A"', '"B"', '"C"'], ['"1"', '"2"', '"3"'], corner=None, sep=" "),
    "r_table_names": matrix(ABC, ABC, corner=None, sep="\t"),
    "pandas_columns": matrix(ABC, ["0", "1", "2"], corner=""),
    "pandas_index": matrix(["0", "1", "2"], ABC, corner=""),
    "pandas_unnamed": matrix(ABC, ["0", "1", "2"], corner="Unnamed: 0"),
    "other_corner": matrix(ABC, ABC, corner="roi"),
    "numpy_header": "# A,B,C\n0,4,2\n5,0,0\n0,3,0\n",
    "zero_corner": matrix(ABC, ABC, corner="0"),
    "trailing": matrix(ABC, ABC, corner="").replace("\n", ",\n"),
    "excel_empty_row": matrix(ABC, ABC, corner="", sep=";") + ";;;\n",
    "excel_told": "sep=;\n" + matrix(ABC, ABC, corner="", sep=";"),
    "bars": matrix(ABC, ABC, sep="|"),
    "empty_diagonal": matrix(ABC, ABC, rows=("", "4", "2"), more=(("5", "", ""), ("", "3", ""))),
    "other_order": matrix(["C", "A", "B"], ABC, rows=("2", "0", "4"), more=(("0", "5", "0"), ("0", "0", "3"))),
}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", MATRICES)
def test_matrices_with_names(tmp_path, name, end):
    for suffix in ("csv", "tsv", *(["txt"] if name != "numpy_header" else [])):
        geometry, said = read(tmp_path, f"m.{suffix}", MATRICES[name].replace("\n", end))
        assert named(geometry) == FULL
        assert ("joined by name" in said) == (name == "other_order")


def test_names_that_r_has_changed_are_the_same_names(tmp_path):
    text = matrix(["X1001", "CM.1", "left.V1"], ["1001", "CM-1", "left V1"])
    geometry, _ = read(tmp_path, "r.csv", text)
    assert geometry.names == ("1001", "CM-1", "left V1")


def test_numbers_as_names(tmp_path):
    expected = {(a.replace("A", "1001").replace("B", "1002").replace("C", "2001"), b.replace("A", "1001").replace("B", "1002").replace("C", "2001")): d for (a, b), d in FULL.items()}  # fmt: skip # noqa: E501
    ids = ["1001", "1002", "2001"]
    assert named(read(tmp_path, "a.csv", matrix(ids, ids))[0]) == expected
    assert named(read(tmp_path, "b.csv", matrix(ids, ids, corner="roi"))[0]) == expected
    assert named(read(tmp_path, "c.txt", matrix(ids, ids, corner=None, sep=" "))[0]) == expected
    shuffled = matrix(["2001", "1001", "1002"], ids, rows=("2", "0", "4"), more=(("0", "5", "0"), ("0", "0", "3")))
    assert named(read(tmp_path, "d.csv", shuffled)[0]) == expected
    permuted = matrix(["2", "1", "3"], ["1", "2", "3"], rows=("4", "0", "2"), more=(("0", "5", "0"), ("3", "0", "0")))
    assert named(read(tmp_path, "e.csv", permuted)[0]) == {("1", "2"): 4, ("2", "1"): 5, ("1", "3"): 2, ("3", "2"): 3}


def test_a_matrix_in_a_text_file(tmp_path):
    assert named(read(tmp_path, "comment.txt", "% from MATLAB\n,A,B,C\nA,0,4,2\nB,5,0,0\nC,0,3,0\n")[0]) == FULL
    dense = np.array([[0, 1.5, 0, 2], [0, 0, 3, 0], [1, 0, 0, 0], [0, 0, 4, 0]])
    np.savetxt(tmp_path / "numpy.txt", dense)
    (tmp_path / "matlab.txt").write_text("\n".join("  " + "  ".join(f"{x:.7e}" for x in row) for row in dense))
    for name in ("numpy.txt", "matlab.txt"):
        assert named(read_geometry(tmp_path / name)) == {
            (str(i), str(j)): dense[i, j] for i, j in np.argwhere(dense).tolist()
        }


@pytest.mark.parametrize("token", ["nan", "NaN", "NA", "inf", "#N/A"])
def test_a_diagonal_that_is_not_finite_is_no_self_loops(tmp_path, token):
    text = f"{token},4,2\n5,{token},0\n0,3,0\n"
    geometry, said = read(tmp_path, "m.csv", text)
    assert named(geometry) == {("0", "1"): 4, ("1", "0"): 5, ("0", "2"): 2, ("2", "1"): 3}
    assert "2 cells of the diagonal" in said
    np.save(tmp_path / "m.npy", np.array([[np.nan, 4], [5, 0]]))
    with pytest.warns(UserWarning, match="1 cells of the diagonal"):
        assert named(read_geometry(tmp_path / "m.npy")) == {("0", "1"): 4, ("1", "0"): 5}


def test_decimal_commas_and_thousands(tmp_path):
    assert named(read(tmp_path, "a.csv", ";a;b\na;0;1,5\nb;2,5;0\n")[0]) == {("a", "b"): 1.5, ("b", "a"): 2.5}
    assert named(read(tmp_path, "b.tsv", "0\t1,25\n1.000,5\t0\n")[0]) == {("0", "1"): 1.25, ("1", "0"): 1000.5}
    assert named(read(tmp_path, "c.csv", '0,"1,000.5"\n2,0\n')[0]) == {("0", "1"): 1000.5, ("1", "0"): 2}


REFUSED = {
    "other_names.csv": (",A,B\nA,0,1\nC,1,0\n", "'C' is only a row and 'B' only a column"),
    "default_names.csv": (",V1,V2\nA,0,1\nB,1,0\n", "'A' is only a row and 'V1' only a column.*leave it out"),
    "doubtful.csv": (",5,7\n5,,3\n7,3,\n", "'5'.*may be names or numbers: say header=True or header=False"),
    "doubtful_ids.csv": (",1001,1002\n1,0,4\n2,4,0\n", "may be names or numbers: say header=True"),
    "cut_names.csv": ("a,b,c\n0,1,2\n1,0,1\n", "2 rows of numbers below 3 names.*header=True"),
    "na.csv": (",A,B\nA,0,NA\nB,1,0\n", "edge 'A' -> 'B' has length nan.*write 0 or leave the cell empty"),
    "mixed.csv": ("0;1,5\n1.5;0\n", "'1,5' has a decimal comma and '1.5' a decimal point"),
    "thousands.tsv": ("0\t1,500\n2\t0\n", "'1,500' may be a decimal comma or thousands"),
    "plain_edges.csv": ("a,b,1\nb,c,2\n", "square.*columns called source and target"),
    "alike.csv": ("node1,node2\n0,4\n4,0\n", "may be edges or a matrix: call.*source and target"),
    "neurons.csv": ("neuron,partner,count\n1,2,5\n2,3,7\n3,1,2\n", "may be edges or a matrix: call.*source and target"),
    "indexed.csv": ("neuron,partner,count\n1,2,5\n2,3,7\n", "2 rows of numbers below 3 names"),
    "sheet.xlsx": ("PK", "save the table as .csv"),
    "small.txt": ("0 4 2\n4 0 3\n2 3 0\n", "may be a matrix or a list of edges: call the file .csv or .edgelist"),
    "named.txt": ("V1 V2 MT\n0 4 2\n4 0 3\n2 3 0\n", "may be a matrix or a list of edges: call the file .csv"),
    "some_lengths.csv": (
        "from,to,Length\na,b,1\nb,c,NA\n",
        "'b' -> 'c' has no 'Length'.*1 of 2 lack it.*give each",
    ),
    "header.txt": (
        "first second\na b\nb c\n",
        "first line 'first second' may name the columns.*header=True or header=False",
    ),
    "start.txt": ("from to\na from\nfrom b\n", None),
    "some_types.csv": ("source,target,type\na,b,directed\nb,c,\n", "edge 'b' -> 'c' has '' in the column 'type'"),
    "no_target.csv": ("source,target\na,b\nb,\n", "row 3 of the table has no 'target'"),
    "quotes.csv": ('source,target\n"a,b\nb,c\n', "quotes are broken"),
    "binary.csv": (b"\x89PNG\x00\x01\x02\x03", "binary"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_told_is_refused_with_what_to_do(tmp_path, name):
    text, expected = REFUSED[name]
    if expected is None:
        assert ("from", "to") in named(read(tmp_path, name, text, header=False)[0])
        return
    with pytest.raises(ValueError, match=expected) as caught:
        read(tmp_path, name, text)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------- edges

DIRECTED = {("a", "b"): 5, ("b", "c"): 2}
BOTH = DIRECTED | {(v, u): d for (u, v), d in DIRECTED.items()}
EDGES = {
    "gephi": ("Source,Target,Type,Id,Label,timeset,Weight\na,b,Directed,0,,,5.0\nb,c,Directed,1,,,2.0\n", DIRECTED),
    "gephi_undirected": ("Id;Source;Target;Type;Weight\n0;a;b;Undirected;5,0\n1;b;c;Undirected;2,0\n", BOTH),
    "gephi_mixed": (
        "Weight,Target,Source,Type\n5,b,a,Undirected\n2,c,b,directed\n",
        DIRECTED | {("b", "a"): 5},
    ),
    "capitals": ("WEIGHT,TARGET,SOURCE\n5,b,a\n2,c,b\n", BOTH),
    "igraph": ('"from","to","weight"\n"a","b",5\n"b","c",2\n', BOTH),
    "write_table": ('"from" "to" "weight"\n"1" "a" "b" 5\n"2" "b" "c" 2\n', BOTH),
    "bool": ("from,to,directed,value\na,b,TRUE,5\nb,c,TRUE,2\n", DIRECTED),
    "flywire": ("pre_root_id,post_root_id,weight\na,b,5\nb,c,2\n", BOTH),
    "hemibrain": ("bodyId_pre,bodyId_post,weight\na,b,5\nb,c,2\n", BOTH),
    "snap": ("# Nodes: 3 Edges: 2\n# FromNodeId\tToNodeId\tWeight\na\tb\t5\nb\tc\t2\n", BOTH),
    "snap_directed": (
        "# Directed graph (each unordered pair of nodes is saved once): a.txt\n# FromNodeId\tToNodeId\tWeight\n"
        "a\tb\t5\nb\tc\t2\n",
        DIRECTED,
    ),
    "snap_undirected": (
        "# Undirected graph (each unordered pair of nodes is saved once)\n# FromNodeId\tToNodeId\tWeight\n"
        "a\tb\t5\nb\tc\t2\n",
        BOTH,
    ),
    "length": ("src,dst,length_mm\na,b,5\nb,c,2\n", BOTH),
    "strength": ("src,dst,Strength\na,b,0.2\nb,c,0.5\n", BOTH),
    "numbered": ("node1,node2,weight\na,b,5\nb,c,2\n", BOTH),
    "cytoscape": (
        'SUID,interaction,name,selected,"shared name",weight\n1,pp,"a (pp) b",false,"a (pp) b",5\n'
        '2,pp,"b (pp) c",false,"b (pp) c",2\n',
        BOTH,
    ),
    "empty_rows": ("source,target,weight\na,b,5\n,,\nb,c,2\n", BOTH),
}


def test_sides_that_are_numbered_separately_are_refused(tmp_path):
    with pytest.raises(ValueError, match="'bip unweighted' says that the list is bipartite"):
        read(tmp_path, "edges.edgelist", "% bip unweighted\n1 1\n2 1\n")


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("asym", {}, DIRECTED),
        ("sym", {}, BOTH),
        ("asym", {"directed": False}, BOTH),
        ("sym", {"directed": True}, DIRECTED),
    ],
)
def test_konects_lists_say_whether_they_are_directed(tmp_path, kind, options, expected):
    text = f"% {kind} weighted\n% 2 3 3\na b 5\nb c 2\n"
    geometry, _ = read(tmp_path, "edges.edgelist", text, **options)
    assert named(geometry) == expected


@pytest.mark.parametrize("name", EDGES)
def test_tables_of_edges(tmp_path, name):
    text, expected = EDGES[name]
    for suffix in ("csv", "tsv", "txt", "edgelist"):
        if name == "cytoscape" and suffix in ("txt", "edgelist"):
            continue
        geometry, _ = read(tmp_path, f"edges.{suffix}", text)
        assert named(geometry) == pytest.approx(expected), suffix


def test_what_is_used_and_what_is_left_out_is_said(tmp_path):
    _, said = read(tmp_path, "a.csv", EDGES["gephi"][0])
    assert "edges from 'Source' to 'Target', directed (column 'Type'), weight from 'Weight'; left out: 'Id'" in said
    _, said = read(tmp_path, "b.csv", "source,target,fibers\na,b,5\n")
    assert "no lengths; left out: 'fibers' (weight= or distance= names a column to read)" in said
    _, said = read(tmp_path, "c.csv", "source,target,Strength\na,b,5\n")
    assert "strength from 'Strength'" in said
    _, said = read(tmp_path, "d.csv", EDGES["gephi"][0], directed=False)
    assert "undirected (column 'Type' set aside)" in said
    _, said = read(tmp_path, "e.csv", "source,target\na,b\n")
    assert said == ""


def test_columns_that_are_asked_for_in_any_case(tmp_path):
    text = "Source,Target,Fibers,Length\na,b,4,7\n"
    assert named(read(tmp_path, "a.csv", text, weight="fibers", directed=True)[0]) == {("a", "b"): 4}
    assert named(read(tmp_path, "a.csv", text, distance="Length", directed=True)[0]) == {("a", "b"): 7}
    assert named(read(tmp_path, "a.csv", text, weight="FIBERS", weight_is="strength", directed=True)[0]) == {
        ("a", "b"): 0.25
    }
    with pytest.raises(ValueError, match="no edge has the attribute 'fibres': did you mean 'Fibers'"):
        read(tmp_path, "a.csv", text, weight="fibres")


LISTS = {
    "from to\na b\nb c\n": ("a", "b", "c"),
    "From\tTo\na\tb\nb\tc\n": ("a", "b", "c"),
    "SOURCE,TARGET\na,b\nb,c\n": ("a", "b", "c"),
    "area other fa\na b 1\nb c 2\n": ("a", "b", "c"),
    "first second\n1 2\n2 10\n": ("1", "2", "10"),
    "V1 left, V2 left, 3\nV2 left, V4, 1\n": ("V1 left", "V2 left", "V4"),
    '"V1, left";"V2"\n"V2";"V4"\n': ("V1, left", "V2", "V4"),
    "0.0e+00 1.0e+00 2.5\n1.0e+00 1.0e+01 1.5\n": ("0", "1", "10"),
    "0,0;1,0\n1,0;2,0\n": ("0", "1", "2"),
    "V1 V2\nV2 V4\n": ("V1", "V2", "V4"),
    "a b\nc d\n": ("a", "b", "c", "d"),
}


@pytest.mark.parametrize("text", LISTS)
def test_lists_with_and_without_a_header(tmp_path, text):
    assert read(tmp_path, "list.txt", text)[0].names == LISTS[text]
    assert read(tmp_path, "list.edgelist", text)[0].names == LISTS[text]


def test_header_says_whether_the_first_line_is_one(tmp_path):
    assert read(tmp_path, "a.txt", "x y\na b\nb c\n", header=True)[0].names == ("a", "b", "c")
    assert read(tmp_path, "a.txt", "x y\na b\nb c\n", header=False)[0].names == ("x", "y", "a", "b", "c")


# ---------------------------------------------------------------------- graph files


def gexf(edges, default="undirected"):
    nodes = "".join(f'<node id="{i}" label="{name}"/>' for i, name in enumerate("abc"))
    return (
        f'<gexf xmlns="http://www.gexf.net/1.2draft" version="1.2"><graph defaultedgetype="{default}">'
        f"<nodes>{nodes}</nodes><edges>{edges}</edges></graph></gexf>"
    )


def test_the_default_weight_of_gexf(tmp_path):
    some = '<edge id="0" source="0" target="1"/><edge id="1" source="1" target="2" weight="8.0"/>'
    geometry, said = read(tmp_path, "a.gexf", gexf(some, "directed"))
    assert named(geometry) == {("a", "b"): 1, ("b", "c"): 8}
    assert "1 of 2 edges give no weight: it is 1" in said
    geometry, said = read(tmp_path, "b.gexf", gexf('<edge id="0" source="0" target="1"/>'))
    assert geometry.metric == "hops"
    assert said == ""


@pytest.mark.parametrize(
    ("space", "viz"),
    [
        ("http://www.gexf.net/1.3", "http://www.gexf.net/1.3/viz"),  # Gephi 0.9
        ("http://gexf.net/1.3", "http://gexf.net/1.3/viz"),  # Gephi 0.10
        ("http://www.gexf.net/1.3draft", "http://www.gexf.net/1.3draft/viz"),
        ("http://www.gexf.net/1.2draft", "http://www.gexf.net/1.1draft/viz"),  # rgexf
    ],
)
def test_gexf_of_any_version_has_positions_and_weights(tmp_path, space, viz):
    text = gexf('<edge id="0" source="0" target="1" weight="5"/>', "directed")
    for i in range(3):
        text = text.replace(f'label="{"abc"[i]}"/>', f'label="{"abc"[i]}"><viz:position x="{i}" y="2" z="0"/></node>')
    text = text.replace('"http://www.gexf.net/1.2draft"', f'"{space}" xmlns:viz="{viz}"')
    geometry, _ = read(tmp_path, "a.gexf", text)
    assert named(geometry) == {("a", "b"): 5}
    assert geometry.spatial
    assert geometry.positions.tolist() == [[0, 2, 0], [1, 2, 0], [2, 2, 0]]


def test_directed_and_undirected_edges_in_one_file(tmp_path):
    edges = (
        '<edge id="0" source="0" target="1" type="directed" weight="5"/>'
        '<edge id="1" source="1" target="2" type="{}" weight="2"/>'
    )
    for default in ("directed", "undirected", "mutual"):
        for kind in ("undirected", "mutual"):
            geometry, _ = read(tmp_path, "mixed.gexf", gexf(edges.format(kind), default))
            assert named(geometry) == {("a", "b"): 5, ("b", "c"): 2, ("c", "b"): 2}
    geometry, _ = read(tmp_path, "told.gexf", gexf(edges.format("directed"), "undirected"))
    assert named(geometry) == {("a", "b"): 5, ("b", "c"): 2}
    text = (
        '<graphml xmlns="http://graphml.graphdrawing.org/xmlns"><key id="w" for="edge" attr.name="Weight" '
        'attr.type="double"/><graph edgedefault="directed"><node id="a"/><node id="b"/><node id="c"/><edge source="a" '
        'target="b"><data key="w">5</data></edge><edge id="e" source="b" target="c" directed="false"><data key="w">2'
        "</data></edge></graph></graphml>"
    )
    geometry, said = read(tmp_path, "mixed.graphml", text)
    assert named(geometry) == {("a", "b"): 5, ("b", "c"): 2, ("c", "b"): 2}
    assert "the weight of edges is read from 'Weight'" in said


def test_graph_files_say_which_numbers_of_edges_were_not_read(tmp_path):
    with pytest.warns(UserWarning, match="no lengths were read; edges have 'fibers'"):
        from_object(nx.DiGraph([("a", "b", {"fibers": np.float32(3)})]))
    graph = nx.DiGraph([("a", "b", {"fibers": 3})])
    nx.write_graphml(graph, tmp_path / "a.graphml")
    with pytest.warns(UserWarning, match=r"no lengths were read; edges have 'fibers' \(distance= or weight= names one"):
        assert read_geometry(tmp_path / "a.graphml").metric == "hops"
    assert named(read_geometry(tmp_path / "a.graphml", weight="Fibers")) == {("a", "b"): 3}


def test_places_and_names_of_nodes_in_other_spellings(tmp_path):
    node = 'node [ id {0} Label "n{0}" graphics [ x {0} y 2 z 5.5 ] ]'
    text = f"graph [ directed 1 {node.format(1)} {node.format(2)} edge [ source 1 target 2 Value 3 ] ]"
    geometry, said = read(tmp_path, "a.gml", text)
    assert geometry.names == ("n1", "n2")
    assert geometry.positions.tolist() == [[1, 2, 5.5], [2, 2, 5.5]]
    assert "'label' of nodes is read from 'Label'" in said
    for keys in (("X", "Y", "Z"), ("dn_position_x", "dn_position_y", "dn_position_z")):
        graph = nx.Graph([("a", "b", {"fiber_length_mean": 3.5, "number_of_fibers": 9})])
        for i, data in enumerate(graph.nodes.values()):
            data.update(zip(keys, (1.0, 2.0, float(i)), strict=True))
        nx.write_graphml(graph, tmp_path / "b.graphml")
        with pytest.warns(UserWarning, match=f"'x' of nodes is read from '{keys[0]}'"):
            geometry = read_geometry(tmp_path / "b.graphml")
        assert geometry.positions.tolist() == [[1, 2, 0], [1, 2, 1]]
        assert geometry.edge_distance.tolist() == [3.5, 3.5]
        with pytest.warns(UserWarning, match="read from 'fiber_length_mean'; left out: 'number_of_fibers'"):
            chosen = read_geometry(tmp_path / "b.graphml", position=list(keys[1:]))
        assert chosen.positions[:, :2].tolist() == [[2, 0], [2, 1]]


def test_columns_that_differ_in_capitals_only(tmp_path):
    for text in ("source,target,Weight,weight\na,b,7,5\n", "source,target,weight,Weight\na,b,5,7\n"):
        geometry, said = read(tmp_path, "a.csv", text, directed=True)
        assert named(geometry) == {("a", "b"): 5}
        assert "left out: 'Weight'" in said


# ---------------------------------------------------------------------- every dialect

NAME = st.text("abcdefgÄéñ -", min_size=1, max_size=5).map(lambda name: f"n{name}".strip())


@st.composite
def networks(draw):
    names = draw(st.lists(NAME, min_size=4, max_size=6, unique=True))
    n = len(names)
    cells = draw(st.lists(st.sampled_from([0, 0, 0.5, 1.25, 2, 1234.5, 3e-5]), min_size=n * n, max_size=n * n))
    dense = np.array(cells, dtype=float).reshape(n, n)
    dense[np.arange(n), (np.arange(n) + 1) % n] = 1.5  # every node has an edge
    return names, dense


def number(value, comma):
    return repr(value).replace(".", ",") if comma else repr(value)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    network=networks(),
    separator=st.sampled_from(";\t,|"),
    comma=st.booleans(),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    rows=st.sampled_from(["names", "numbers", "short", "none"]),
    form=st.sampled_from(["matrix", "edges", "list"]),
)
def test_a_network_in_any_dialect_is_the_same_network(tmp_path, network, separator, comma, end, encoding, rows, form):
    names, dense = network
    expected = {(names[i], names[j]): float(dense[i, j]) for i, j in np.argwhere(dense).tolist()}
    comma, quote = comma and separator != ",", '"{}"'.format
    heads, lines = [quote(name) for name in names], []
    if form == "matrix":
        side = {"names": heads, "short": heads, "numbers": [str(i + 1) for i in range(len(names))]}.get(rows)
        corner = {"names": [""], "numbers": ['""']}.get(rows, [])
        lines = [[*corner, *heads]]
        for i, row in enumerate(dense.tolist()):
            lines.append([*([side[i]] if side else []), *(number(value, comma) for value in row)])
        name = "m.csv"
    else:
        lines = [["Weight", "To", "From"]] if form == "edges" else []
        for (u, v), d in expected.items():
            lines.append(
                [number(d, comma), quote(v), quote(u)]
                if lines and form == "edges"
                else [quote(u), quote(v), number(d, comma)]
            )
        name = "m.csv" if form == "edges" else "m.edgelist"
    text = end.join(separator.join(line) for line in lines) + end
    geometry, _ = read(tmp_path, name, text.encode(encoding), **({} if form == "matrix" else {"directed": True}))
    assert named(geometry) == pytest.approx(expected)
    assert set(geometry.names) == set(names)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(network=networks())
def test_a_network_in_any_graph_file_is_the_same_network(tmp_path, network):
    names, dense = network
    expected = {(names[i], names[j]): dense[i, j] for i, j in np.argwhere(dense).tolist()}
    graph = nx.DiGraph()
    graph.add_nodes_from(names)
    graph.add_weighted_edges_from((u, v, d) for (u, v), d in expected.items())
    nx.write_gexf(graph, tmp_path / "m.gexf")
    nx.write_graphml(graph, tmp_path / "m.graphml")
    cells = np.empty(len(names), dtype=object)
    cells[:] = names
    savemat(tmp_path / "m.mat", {"W": dense, "labels": cells})
    for suffix in ("gexf", "graphml", "mat"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = named(read_geometry(tmp_path / f"m.{suffix}"))
        assert set(found) == set(expected), suffix
        assert all(math.isclose(found[pair], d) for pair, d in expected.items())
