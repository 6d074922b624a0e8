"""Edges of a file over another geometry: matched by name or number, measured or with lengths of their own."""

import re
import warnings

import networkx as nx
import numpy as np
import pytest

import colgraph as cg
from colgraph.cli import run
from colgraph.geometry import build_control, parse_neighborhood


def found(sheet):
    return dict(zip(zip(*sheet.edge_index.tolist(), strict=True), sheet.edge_distance.tolist(), strict=True))


@pytest.fixture
def tracts(tmp_path):
    path = tmp_path / "tracts.edgelist"
    path.write_text("0 5\n7 2\n")
    return path


def test_tracts_are_measured_and_joined_with_neighbors(tracts):
    only = cg.build_sheet("ring", columns=10, neighbors=f"edges:{tracts}?directed=true")
    assert found(only) == pytest.approx({(0, 5): 5.0, (7, 2): 5.0}, abs=1e-6)
    both = cg.build_sheet("ring", columns=10, neighbors=f"edges:{tracts}")
    assert set(found(both)) == {(0, 5), (5, 0), (7, 2), (2, 7)}
    union = cg.build_sheet("ring", columns=10, neighbors=f"knn:2|edges:{tracts}?directed=true")
    assert set(found(union)) == set(found(cg.build_sheet("ring", columns=10, neighbors="knn:2"))) | set(found(only))


def test_lengths_are_those_of_the_file_and_options_are_its_readers(tmp_path):
    path = tmp_path / "tracts.csv"
    path.write_text("source,target,weight\n0,5,4\n7,2,2\n")
    text = f"edges:{path}?directed=true&weight_is=strength"
    assert found(cg.build_sheet("ring", columns=10, neighbors=text)) == {(0, 5): 0.25, (7, 2): 0.5}
    measured = f"edges:{path}?directed=true&weight=none"
    assert found(cg.build_sheet("ring", columns=10, neighbors=measured))[0, 5] == pytest.approx(5)
    with pytest.warns(UserWarning, match="read as the length of edges"):
        cg.build_sheet("ring", columns=10, neighbors=f"edges:{path}")
    assert str(parse_neighborhood(text)) == text


def test_columns_are_matched_by_name_whatever_their_order(tmp_path):
    areas = cg.Geometry(np.arange(4.0)[:, None], names=["V1", "V2", "V4", "IT"])
    nx.write_graphml(nx.DiGraph([("IT", "V1"), ("V4", "V2")]), tmp_path / "names.graphml")
    assert set(found(cg.build_sheet(areas, neighbors=f"edges:{tmp_path / 'names.graphml'}"))) == {(3, 0), (2, 1)}
    nx.write_graphml(nx.DiGraph([("IT", "MT")]), tmp_path / "other.graphml")
    with pytest.raises(ValueError, match=r"other.graphml' names column 'MT', which 'custom' does not have"):
        cg.build_sheet(areas, neighbors=f"edges:{tmp_path / 'other.graphml'}")
    twice = cg.Geometry(np.arange(2.0)[:, None], names=["V1", "V1"])
    with pytest.raises(ValueError, match="several columns named 'V1'"):
        cg.build_sheet(twice, neighbors=f"edges:{tmp_path / 'names.graphml'}")


def test_a_matrix_of_as_many_columns_is_matched_by_place_and_no_other(tmp_path):
    matrix = np.zeros((10, 10))
    matrix[9, 0] = 3.5
    np.save(tmp_path / "full.npy", matrix)
    neighbors = f"edges:{tmp_path / 'full.npy'}?weight_is=distance"
    assert found(cg.build_sheet("ring", columns=10, neighbors=neighbors)) == {(9, 0): 3.5}
    with pytest.raises(ValueError, match=r"10 columns without names, 'ring' has 11"):
        cg.build_sheet("ring", columns=11, neighbors=neighbors)
    counted = "\n".join(["*Vertices 10", *(f'{i} "{i}"' for i in range(1, 11)), "*Arcs", "10 1", ""])
    (tmp_path / "pajek.net").write_text(counted)  # counts from 1, as Pajek does
    assert set(found(cg.build_sheet("ring", columns=10, neighbors=f"edges:{tmp_path / 'pajek.net'}"))) == {(9, 0)}


@pytest.mark.parametrize(
    ("content", "text", "message"),
    [
        ("0 10\n", "edges:{}", r"names column '10', but those of 'ring' are 0\.\.9"),
        ("a b\n", "edges:{}", r"names column 'a', but those of 'ring' are 0\.\.9"),
        ("0 1\n", "edges:", "needs a file"),
        ("0 1\n", "edges:{}?directed", "needs a file and perhaps options"),
        ("0 1\n", "edges:{}?directed=perhaps", "'directed' must be true or false"),
        ("0 1\n", "edges:{}?direct=true", "unknown option 'direct' .*'directed'"),
        ("0 1\n", "edge:{}", "unknown neighborhood .*edges"),
        ("0 1\n", "edges:{}x", "there is no file"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, content, text, message):
    path = tmp_path / "t.edgelist"
    path.write_text(content)
    path = str(path) if not text.endswith("x") else str(path)[:-8] + "none.edgelist"
    with pytest.raises(ValueError, match=message) as error:
        cg.build_sheet("ring", columns=10, neighbors=text.replace("{}x", "{}").format(path))
    assert "\n" not in str(error.value)


def test_points_are_no_tracts(tmp_path):
    np.savetxt(tmp_path / "points.xyz", np.random.default_rng(0).random((10, 3)))
    with pytest.raises(ValueError, match="holds no edges"):
        cg.build_sheet("ring", columns=10, neighbors=f"edges:{tmp_path / 'points.xyz'}")


def test_columns_are_counted_before_a_mask_and_controls_take_tracts(tracts):
    cut = cg.build_sheet("ring", columns=10, neighbors=f"edges:{tracts}?directed=true", mask="1-9")
    assert set(found(cut)) == {(6, 1)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        control = build_control("ring", "random-graph", neighbors=f"knn:2|edges:{tracts}?directed=true")
    assert control.num_edges == cg.build_sheet("ring", neighbors=f"knn:2|edges:{tracts}?directed=true").num_edges


def test_the_command_line_takes_tracts(tracts, capsys):
    run(["describe", "ring", "--columns", "10", "--neighbors", f"knn:2|edges:{tracts}"])
    assert re.search(r"edges +34 ", capsys.readouterr().out)
