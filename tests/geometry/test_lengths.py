"""What the numbers of edges mean: distances, strengths and their rules, and what is said where nobody told."""

import io
import warnings

import networkx as nx
import numpy as np
import pytest
import scipy.io
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Data

import colgraph as cg
from colgraph.cli import run
from colgraph.geometry.readers import from_object, read_geometry

SAID = "is read as the length of edges .*weight_is='strength' .*weight=None"


def graph(**places):
    out = nx.DiGraph()
    for node, place in {"a": (0, 0), "b": (3, 4), "c": (0, 8)}.items():
        out.add_node(node, **({"pos": place} if places.get("placed") else {}))
    out.add_edge("a", "b", weight=2.0)
    out.add_edge("b", "c", weight=8.0)
    return out


def notes(source, **options):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        geometry = cg.geometry(source, **options)
    return geometry, [str(note.message) for note in seen]


def lengths(geometry):
    return None if geometry.edge_distance is None else geometry.edge_distance.tolist()


def forms(folder):
    """The same network in everything that has a number per edge and does not say what it means."""
    matrix = np.zeros((4, 4))
    matrix[0, 1], matrix[1, 2], matrix[2, 3] = 2.0, 8.0, 4.0
    text = {"list.edgelist": "a b 2\nb c 8\n", "table.csv": "source,target,weight\na,b,2\nb,c,8\n"}
    text["matrix.csv"] = "\n".join(",".join(map(str, row)) for row in matrix.tolist())
    for name, content in text.items():
        (folder / name).write_text(content)
    np.save(folder / "matrix.npy", matrix)
    scipy.io.savemat(folder / "matrix.mat", {"W": matrix})
    np.savetxt(folder / "brain.edge", matrix)
    (folder / "list.txt").write_text("a b 2\nb c 8\n")
    nx.write_graphml(graph(), folder / "net.graphml")
    buffer = io.BytesIO()
    scipy.io.mmwrite(buffer, scipy.sparse.coo_array(matrix))
    (folder / "matrix.mtx").write_bytes(buffer.getvalue())
    edges = torch.tensor([[0, 1], [1, 2]])
    data = Data(edge_index=edges, edge_weight=torch.tensor([2.0, 8.0]), num_nodes=3)
    return [*sorted(folder.iterdir()), graph(), matrix, scipy.sparse.csr_array(matrix), data]


def test_numbers_that_nobody_explained_are_said_to_be_read_as_distances(tmp_path):
    for source in forms(tmp_path):
        geometry, said = notes(source)
        assert geometry.metric == "given"
        assert sum("read as the length" in note for note in said) == 1, source
        for meaning in ("distance", "strength", "strength:-log"):
            told, said = notes(source, weight_is=meaning)
            assert not any("read as the length" in note for note in said)
            assert told.edges.tolist() == geometry.edges.tolist()


def test_weight_none_switches_lengths_off(tmp_path):
    for source in forms(tmp_path):
        geometry, said = notes(source, weight=None)
        assert (geometry.metric, lengths(geometry)) == ("hops", None)
        assert not any("read as the length" in note for note in said)
        with pytest.raises(ValueError, match="weight=None leaves weights unread"):
            cg.geometry(source, weight=None, weight_is="strength")
        with pytest.raises(ValueError, match=r"weight_is must be one of .*'log-strength', got 'strong'"):
            cg.geometry(source, weight_is="strong")


def test_positions_serve_where_weights_are_switched_off():
    geometry, said = notes(graph(placed=True))
    assert "weight=None measures edges between the nodes' positions" in said[0]
    assert lengths(geometry) == [2, 8]
    sheet = cg.build_sheet(graph(placed=True), weight=None)
    assert sheet.metric == "euclidean"
    assert sheet.edge_distance.tolist() == [5, 5]


def test_nothing_is_said_where_it_is_told_or_makes_no_difference():
    ones = nx.DiGraph([(0, 1, {"weight": 1}), (1, 2, {"weight": 1.0})])
    assert notes(ones)[1] == []  # 1/1 = 1
    told = nx.DiGraph([(0, 1, {"distance": 3.0})])
    assert notes(told)[1] == []
    assert notes(told, distance="distance")[1] == []
    assert notes(cg.build_sheet("ring", columns=9))[1] == []
    assert len(notes(graph(), weight="weight")[1]) == 1  # named, but not explained


def test_the_command_line_says_it_and_takes_the_options(tmp_path, capsys):
    path = tmp_path / "tracts.csv"
    path.write_text("source,target,weight\na,b,2\nb,c,8\n")
    with pytest.warns(UserWarning, match=SAID):
        run(["describe", str(path)])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=f".*{SAID}")
        run(["describe", str(path), "--weight", "none"])
        assert "distance: hops" in capsys.readouterr().out
        run(["describe", str(path), "--weight-is", "strength:-log"])
        assert "distance: given" in capsys.readouterr().out


@given(st.lists(st.floats(1e-150, 1e150), min_size=2, max_size=20))
def test_rules_turn_stronger_into_shorter(strengths):
    network = nx.DiGraph([(i, i + 1, {"weight": w}) for i, w in enumerate(strengths)])
    order = np.argsort(strengths)
    for rule in ("strength", "strength:1/w", "strength:-log"):
        geometry = from_object(network, weight_is=rule)
        distance = geometry.edge_distance[np.argsort(geometry.edges[0])]
        assert np.isfinite(distance).all()
        assert (distance > 0).all()
        assert (np.diff(distance[order]) <= 0).all()
        if rule != "strength:-log":
            np.testing.assert_allclose(distance, 1 / np.array(strengths))


def test_the_logarithm_is_of_the_share_in_the_extremes():
    geometry = from_object(graph(), weight_is="strength:-log")
    np.testing.assert_allclose(geometry.edge_distance, -np.log(np.array([2, 8]) / 10))


def test_a_saved_sheet_keeps_its_lengths_or_leaves_them(tmp_path):
    sheet = cg.build_sheet("ring", columns=9, neighbors="knn:2")
    sheet.save(tmp_path / "sheet.npz")
    assert read_geometry(tmp_path / "sheet.npz").edge_distance is not None
    assert read_geometry(tmp_path / "sheet.npz", weight=None).edge_distance is None
    with pytest.raises(ValueError, match="'transpose' means nothing for a saved sheet"):
        read_geometry(tmp_path / "sheet.npz", transpose=True)


def test_logarithms_of_strengths_become_one_over_the_strength(tmp_path):
    path = tmp_path / "logs.csv"
    path.write_text("A,B,C\n0,2.5,-1\n2.5,0,0\n-1,0,0\n")
    shape = cg.geometry(path, weight_is="log-strength")
    assert shape.edge_distance.tolist() == pytest.approx(np.exp([-2.5, 1, -2.5, 1])[[0, 1, 2, 3]])
    path.write_text("A,B\n0,2000\n1,0\n")
    with pytest.raises(ValueError, match=r"edge 'A' -> 'B' has the log strength 2000.0: it must be finite"):
        cg.geometry(path, weight_is="log-strength")
