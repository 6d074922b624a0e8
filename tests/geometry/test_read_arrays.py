"""Plain arrays and tables in memory: what is unambiguous becomes a geometry, the rest names cg.Geometry."""

import types

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st

import colgraph as cg
from colgraph.geometry.readers.objects import _READERS

pandas = pytest.importorskip("pandas")

BALL = cg.geometry("sphere", subdivisions=1)
MATRIX = np.zeros((4, 4))
MATRIX[0, 1], MATRIX[2, 3], MATRIX[3, 0] = 2.0, 4.0, 0.5
NAMES = ["V1", "V2", "V4", "IT"]


def edges(geometry):
    ends = geometry.edges.T.tolist()
    named = [tuple(geometry.names[i] for i in pair) if geometry.names else tuple(pair) for pair in ends]
    return dict(zip(named, geometry.edge_distance.tolist(), strict=True))


@pytest.mark.parametrize(
    "pair",
    [
        (BALL.positions, BALL.faces),
        [BALL.positions.astype(np.float32), BALL.faces.astype(np.int32)],
        (BALL.positions.tolist(), BALL.faces.tolist()),
        (torch.tensor(BALL.positions), torch.tensor(BALL.faces)),
    ],
)
def test_coordinates_and_faces_are_a_surface(pair):
    geometry = cg.geometry(pair)
    np.testing.assert_allclose(geometry.positions, BALL.positions, atol=1e-7)
    assert geometry.faces.tolist() == BALL.faces.tolist()
    assert geometry.metric == "geodesic"
    assert cg.build_sheet(pair, neighbors="knn:6").num_columns == 42


@pytest.mark.parametrize("form", [np.array, torch.tensor, scipy.sparse.csr_array, pandas.DataFrame])
def test_a_square_matrix_is_an_adjacency(form):
    geometry = cg.geometry(form(MATRIX), weight_is="distance")
    assert edges(geometry) == {(0, 1): 2.0, (2, 3): 4.0, (3, 0): 0.5}
    assert set(edges(cg.geometry(form(MATRIX), weight_is="strength", transpose=True))) == {(1, 0), (3, 2), (0, 3)}


@given(st.permutations(range(4)), st.booleans())
def test_the_rows_of_a_table_are_joined_by_name(order, named_rows):
    frame = pandas.DataFrame(MATRIX, index=NAMES if named_rows else None, columns=NAMES)
    if named_rows:
        frame = frame.iloc[list(order)]
    geometry = cg.geometry(frame, weight_is="distance")
    assert geometry.names == tuple(NAMES)
    assert edges(geometry) == {("V1", "V2"): 2.0, ("V4", "IT"): 4.0, ("IT", "V1"): 0.5}


@given(st.permutations(range(4)), st.sampled_from([0, 1]))
def test_numbered_rows_are_joined_by_their_numbers(order, start):
    """Numbers in another order are names like any other; a frame's own numbers are none."""
    numbers = [i + start for i in range(4)]
    frame = pandas.DataFrame(MATRIX, index=numbers, columns=numbers).iloc[list(order)]
    assert edges(cg.geometry(frame, weight_is="distance")) == edges(
        cg.geometry(pandas.DataFrame(MATRIX, index=numbers, columns=numbers), weight_is="distance")
    )


@pytest.mark.parametrize("heads", [("from", "to"), ("pre_id", "post_id"), ("Source", "Target")])
def test_tables_of_edges_are_known_by_their_usual_names(heads):
    frame = pandas.DataFrame({heads[0]: ["a", "b"], heads[1]: ["b", "c"], "weight": [1.0, 2.0]})
    assert edges(cg.geometry(frame, directed=True)) == {("a", "b"): 1.0, ("b", "c"): 2.0}


@pytest.mark.parametrize(
    "change", [torch.Tensor.bfloat16, torch.Tensor.half, torch.Tensor.to_sparse, torch.Tensor.to_sparse_csr]
)
@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_tensors_of_any_precision_and_layout(change):
    assert edges(cg.geometry(change(torch.tensor(MATRIX)))) == {(0, 1): 2.0, (2, 3): 4.0, (3, 0): 0.5}


def test_tables_of_edges_are_read_as_csv_files_are():
    frame = pandas.DataFrame({"source": ["a", "b"], "target": ["b", "c"], "weight": [0.1, 4.0]})
    geometry = cg.geometry(frame, directed=True, weight_is="distance")
    assert edges(geometry) == {("a", "b"): 0.1, ("b", "c"): 4.0}
    assert geometry.name == "DataFrame"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (BALL.positions, r"shape \[42, 3\] may be positions, faces or edges"),
        (np.eye(3), r"shape \[3, 3\] may be positions"),
        (np.zeros(5), "may be positions"),
        (torch.zeros(3, 3), "may be positions"),
        (np.ma.masked_equal(np.eye(5), 0), r"masked entries: give matrix.filled\(0\)"),
        ((BALL.positions, BALL.faces.astype(float)), r"no pair of coordinates \[V, 3\] and integer faces"),
        ((BALL.positions,), "tuple of 1"),
        ([[0, 1], [1]], "list of 2"),
        ([], "list of 0"),
        ([(0, 1), (1, 2), (2, 0)], "list of 3"),
        (pandas.DataFrame({"x": [1.0, 2], "y": [2.0, 3]}), r"shape \[2, 2\] is neither"),
        (pandas.DataFrame(BALL.positions, columns=list("xyz")), r"shape \[42, 3\] is neither"),
        (pandas.DataFrame(MATRIX, index=["a", *NAMES[1:]], columns=NAMES), "'V1' is not once in both"),
        (3, "type int"),
        ({"pos": BALL.positions}, "type dict"),
    ],
)
def test_the_rest_is_refused_in_one_line(source, message):
    with pytest.raises(ValueError, match=message) as error:
        cg.geometry(source)
    assert "\n" not in str(error.value)
    if "filled" not in message and "once" not in message:
        assert "cg.Geometry(" in str(error.value)


def test_a_surface_image_is_its_mesh_and_says_so():
    class SurfaceImage(types.SimpleNamespace):
        pass

    half = types.SimpleNamespace(coordinates=BALL.positions, faces=BALL.faces)
    mesh = types.SimpleNamespace(parts={"left": half, "right": half})
    SurfaceImage.__module__ = "nilearn.surface.surface"
    with pytest.warns(UserWarning, match="its data are not used"):
        geometry = cg.geometry(SurfaceImage(mesh=mesh, data={}))
    assert geometry.num_columns == 84
    assert geometry.metric == "geodesic"
    assert geometry.layer.tolist() == [0] * 42 + [1] * 42


def test_surface_images_of_nilearn_are_known_by_their_class():
    surface = pytest.importorskip("nilearn.surface")
    for cls in (surface.SurfaceImage, surface.PolyMesh, surface.InMemoryMesh):
        kinds = [(library, kind) for library, kind, _ in _READERS]
        assert any(("nilearn", base.__name__) in kinds for base in cls.__mro__)
