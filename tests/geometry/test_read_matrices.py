"""Adjacency matrices in CSV, TSV, npz, npy and MatrixMarket files; tables of edges; saved sheets."""

import cProfile
import gzip
import pickle
import re
import warnings

import networkx as nx
import numpy as np
import pytest
import scipy.io
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import colgraph as cg
from colgraph.geometry.readers import from_object, read_geometry

A = np.array([[0, 2.5, 0], [0, 1, 0.5], [3, 0, 0]])
PAIRS = {(0, 1): 2.5, (1, 1): 1, (1, 2): 0.5, (2, 0): 3}  # row speaks, column listens


def as_pairs(geometry):
    return dict(zip(map(tuple, geometry.edges.T.tolist()), geometry.edge_distance.tolist(), strict=True))


def quietly(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", ".*read as the length of edges")  # test_lengths.py is about it
        return read_geometry(path, **options)


SPELLINGS = {
    "plain.csv": ("0,2.5,0\n0,1,0.5\n3,0,0\n", None),
    "blanks.csv": (",2.5,\n,1,.5\n3,,\n", None),
    "semicolons.csv": ("0;2.5;0\n0;1;0.5\n3;0;0\n", None),
    "header.csv": ("a,b,c\n0,2.5,0\n0,1,0.5\n3,0,0\n", ("a", "b", "c")),
    "rows.csv": ("a,0,2.5,0\nb,0,1,0.5\nc,3,0,0\n", ("a", "b", "c")),
    "both.csv": (",a,b,c\na,,2.5,\nb,,1,0.5\nc,3,,\n", ("a", "b", "c")),
    "corner.csv": ('area,a,"b, too",c\na,0,2.5,0\n"b, too",0,1,0.5\nc,3,0,0\n', ("a", "b, too", "c")),
    "pandas.csv": (",0,1,2\n0,0,2.5,0\n1,0,1,0.5\n2,3,0,0\n", ("0", "1", "2")),
    "r.csv": ("a,b,c\na,0,2.5,0\nb,0,1,0.5\nc,3,0,0\n", ("a", "b", "c")),
    "tabs.tsv": ("\ta\tb\tc\na\t0\t2.5\t0\nb\t0\t1\t0.5\nc\t3\t0\t0\n", ("a", "b", "c")),
    "savetxt.csv": ("# from numpy\n0.0e+00 2.5e+00 0.0e+00\n0 1 5e-1\n3 0 0\n", None),
}


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("name", SPELLINGS)
def test_tables_in_every_spelling(tmp_path, name, packed):
    text, names = SPELLINGS[name]
    data = text.encode()
    path = tmp_path / (name + packed)
    path.write_bytes(gzip.compress(data) if packed else data)
    geometry = quietly(path)
    assert as_pairs(geometry) == PAIRS
    assert geometry.names == names
    assert geometry.metric == "given"
    assert not geometry.spatial


def save_numpy(path):
    np.save(path, A)


def save_dense(path):
    np.savez(path, A)


def save_sparse(path):
    scipy.sparse.save_npz(path, scipy.sparse.csr_array(A))


def save_matrix_market(path):
    scipy.io.mmwrite(path, scipy.sparse.coo_array(A))


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize(
    ("save", "suffix"),
    [(save_numpy, "npy"), (save_dense, "npz"), (save_sparse, "npz"), (save_matrix_market, "mtx")],
)
def test_binary_round_trip(tmp_path, save, suffix, packed):
    path = tmp_path / f"matrix.{suffix}"
    save(path)
    if packed:
        (tmp_path / f"matrix.{suffix}.gz").write_bytes(gzip.compress(path.read_bytes()))
    geometry = quietly(tmp_path / f"matrix.{suffix}{packed}")
    assert as_pairs(geometry) == PAIRS
    assert as_pairs(quietly(path, transpose=True)) == {(j, i): d for (i, j), d in PAIRS.items()}
    assert as_pairs(quietly(path, weight_is="strength")) == {pair: 1 / d for pair, d in PAIRS.items()}


def test_the_convention_is_that_of_networkx(tmp_path):
    (tmp_path / "plain.csv").write_text(SPELLINGS["plain.csv"][0])
    assert set(as_pairs(read_geometry(tmp_path / "plain.csv"))) == set(
        nx.from_numpy_array(A, create_using=nx.DiGraph).edges
    )


def test_npz_with_positions_and_names(tmp_path):
    points = np.arange(9.0).reshape(3, 3)
    np.savez(tmp_path / "areas.npz", adjacency=A, pos=points, names=np.array(["V1", "V2", "MT"]))
    geometry = quietly(tmp_path / "areas.npz")
    np.testing.assert_array_equal(geometry.positions, points)
    assert geometry.names == ("V1", "V2", "MT")
    assert geometry.spatial
    assert geometry.metric == "given"
    np.savez(tmp_path / "bytes.npz", adjacency=A, names=np.array([b"V1", b"V2", b"MT"]))
    assert quietly(tmp_path / "bytes.npz").names == ("V1", "V2", "MT")


def test_a_matrix_market_pattern_has_no_lengths(tmp_path):
    scipy.io.mmwrite(tmp_path / "p.mtx", scipy.sparse.coo_array(A), field="pattern")
    geometry = quietly(tmp_path / "p.mtx")
    assert geometry.metric == "hops"
    assert set(map(tuple, geometry.edges.T.tolist())) == set(PAIRS)


@pytest.mark.parametrize("symmetry", ["symmetric", "general", None])
@pytest.mark.parametrize("sparse", [True, False])
def test_matrix_market_as_scipy_writes_it(tmp_path, symmetry, sparse):
    matrix = A + A.T
    scipy.io.mmwrite(
        tmp_path / "m.mtx", scipy.sparse.coo_array(matrix) if sparse else matrix, symmetry=symmetry, comment="hello"
    )
    expected = scipy.io.mmread(tmp_path / "m.mtx", spmatrix=False)
    expected = expected.toarray() if sparse else expected
    assert as_pairs(quietly(tmp_path / "m.mtx")) == {(i, j): expected[i, j] for i, j in np.argwhere(expected).tolist()}


@pytest.mark.parametrize("form", ["csr_array", "coo_matrix", "dok_array", "lil_matrix"])
def test_sparse_objects(form):
    assert as_pairs(from_object(getattr(scipy.sparse, form)(A))) == PAIRS


def test_a_stored_zero_is_an_edge_of_length_zero_and_repeated_entries_add_up():
    matrix = scipy.sparse.coo_array(([0.0, 1.0, 2.0], ([0, 1, 1], [1, 0, 0])), shape=(2, 2))
    assert as_pairs(from_object(matrix)) == {(0, 1): 0, (1, 0): 3}


def test_header_decides_what_cannot_be_told(tmp_path):
    (tmp_path / "odd.csv").write_text(",0,1\n0,0,5\n1,6,0\n")
    assert as_pairs(read_geometry(tmp_path / "odd.csv")) == {(0, 1): 5, (1, 0): 6}
    assert as_pairs(read_geometry(tmp_path / "odd.csv", header=False)) == {(0, 2): 1, (1, 2): 5, (2, 0): 1, (2, 1): 6}


@pytest.mark.parametrize("text", ["7,8,9\n0,2.5,0\n0,1,0.5\n3,0,0\n", "7,0,2.5,0\n8,0,1,0.5\n9,3,0,0\n"])
def test_names_that_are_numbers_need_to_be_told(tmp_path, text):
    (tmp_path / "numbers.csv").write_text(text)
    geometry = read_geometry(tmp_path / "numbers.csv", header=True)
    assert geometry.names == ("7", "8", "9")
    assert as_pairs(geometry) == PAIRS
    with pytest.raises(ValueError, match=r"square.*header=True"):
        read_geometry(tmp_path / "numbers.csv")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), named=st.booleans())
def test_any_table_comes_back(tmp_path, data, named):
    n = data.draw(st.integers(2, 5))
    cells = data.draw(st.lists(st.lists(st.floats(0, 1e6), min_size=n, max_size=n), min_size=n, max_size=n))
    matrix = np.array(cells)
    matrix[0, 1] = 1.0  # at least one edge
    names = [f"area {i}" for i in range(n)]
    rows = [",".join(map(repr, row)) for row in matrix.tolist()]
    lines = [",".join(["", *names]), *(f"{a},{row}" for a, row in zip(names, rows, strict=True))] if named else rows
    (tmp_path / "table.csv").write_text("\n".join(lines))
    geometry = read_geometry(tmp_path / "table.csv", **({} if named else {"header": False}))
    assert as_pairs(geometry) == {(i, j): matrix[i, j] for i, j in np.argwhere(matrix).tolist()}


# ---------------------------------------------------------------------- tables of edges


def test_edge_tables(tmp_path):
    path = tmp_path / "edges.csv"
    path.write_text(",source,target,weight,length\n0,V1,V2,2,9\n1,V2,MT,3,8\n")
    assert as_pairs(read_geometry(path, directed=True)) == {(0, 1): 2, (1, 2): 3}
    assert as_pairs(read_geometry(path, directed=True, distance="length")) == {(0, 1): 9, (1, 2): 8}
    assert as_pairs(read_geometry(path, weight="length", weight_is="strength")) == {
        (0, 1): 1 / 9, (1, 0): 1 / 9, (1, 2): 1 / 8, (2, 1): 1 / 8,
    }  # fmt: skip
    assert read_geometry(path).names == ("V1", "V2", "MT")
    with pytest.raises(ValueError, match="option 'transpose' means nothing for a list of edges"):
        read_geometry(path, transpose=True)
    (tmp_path / "plain.csv").write_text(SPELLINGS["plain.csv"][0])
    with pytest.raises(ValueError, match="option 'distance' means nothing for an adjacency matrix"):
        read_geometry(tmp_path / "plain.csv", distance="length")


# ---------------------------------------------------------------------- broken


def bad_files(tmp_path):
    texts = {
        "wide.csv": ("1,2,3\n4,5,6\n", "square, this table has 2 rows and 3 columns"),
        "ragged.csv": ("0,1\n1\n", "row 2 has 1 cells, row 1 has 2"),
        "cut.csv": ("a,b,c\n0,1,2\n3,0,1\n", "square"),
        "words.csv": ("0,far\n1,0\n", "edge 0 -> 1 is far, which is not a number|the same names"),
        "named_word.csv": (",a,b\na,0,x\nb,1,0\n", "edge 'a' -> 'b' is x, which is not a number"),
        "nan.csv": (",a,b\na,0,nan\nb,1,0\n", "edge 'a' -> 'b' has length nan"),
        "inf.csv": ("0,inf\n1,0\n", "edge 0 -> 1 has length inf"),
        "negative.csv": ("0,1\n-2,0\n", "edge 1 -> 0 has length -2"),
        "twice.csv": (",a,a\na,0,1\na,1,0\n", "name 'a' is used 2 times"),
        "names.csv": (",a,b\nb,0,1\nc,1,0\n", "must have the same names, but 'c' is only a row and 'a' only a column"),
        "nothing.csv": ("0,0\n0,0\n", "2 nodes without positions and no edges"),
        "cut.mtx": ("%%MatrixMarket matrix coordinate real general\n3 3 4\n1 2 2.5\n", "not readable as MatrixMarket"),
        "broken.mtx": ("%%MatrixMarket matrix coordinate real general\n2 2 1\n1 2 2.5s\n", "not readable"),
        "range.mtx": ("%%MatrixMarket matrix coordinate real general\n2 2 1\n1 3 2.5\n", "outside of the 2 x 2"),
        "words.mtx": ("hello\n", "not readable as MatrixMarket"),
        "complex.mtx": (
            "%%MatrixMarket matrix coordinate complex general\n2 2 1\n1 2 2.5 1.0\n",
            "holds real numbers, this one is complex general",
        ),
        "words.npz": ("hello\n", "not readable"),
        "words.npy": ("hello\n", "not readable"),
    }
    for name, (text, _) in texts.items():
        (tmp_path / name).write_text(text)
    np.save(tmp_path / "wide.npy", np.ones((2, 3)))
    np.save(tmp_path / "strings.npy", np.full((2, 2), "a"))
    np.save(tmp_path / "empty.npy", np.ones((0, 0)))
    np.savez(tmp_path / "two.npz", a=A, b=A)
    np.savez(tmp_path / "pos.npz", a=A, pos=np.zeros((2, 3)))
    np.savez(tmp_path / "names.npz", a=A, names=np.array(["x"]))
    save_sparse(tmp_path / "cut.npz")
    whole = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    return {name: expected for name, (_, expected) in texts.items()} | {
        "wide.npy": "square, this one has shape \\[2, 3\\]",
        "strings.npy": "holds real numbers",
        "empty.npy": "empty",
        "two.npz": "one square array besides 'pos' and 'names', got a \\[3, 3\\], b \\[3, 3\\]",
        "pos.npz": "'pos' must have shape \\[3, 3\\], got \\[2, 3\\]",
        "names.npz": "'names' must have 3 entries",
        "cut.npz": "not readable",
    }


def test_broken_matrices_are_errors_of_one_line_that_name_the_file(tmp_path):
    for name, expected in bad_files(tmp_path).items():
        try:
            read_geometry(tmp_path / name)
        except ValueError as error:
            caught = error
        else:
            pytest.fail(f"{name} was read")
        assert re.search(expected, str(caught)), caught
        assert name in str(caught)
        assert "\n" not in str(caught)


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("suffix", ["npy", "npz", "pickle.npy", "sparse.npz", "pkl"])
def test_nothing_is_unpickled(tmp_path, suffix):
    mark, path = tmp_path / "mark", tmp_path / f"bomb.{suffix}"
    bomb = np.array([[Bomb(str(mark))]], dtype=object)
    if suffix == "npy":
        np.save(path, bomb, allow_pickle=True)
    elif suffix == "npz":
        np.savez(path, a=bomb)
    elif suffix == "sparse.npz":
        np.savez(path, format=bomb, shape=bomb, data=bomb, indices=bomb, indptr=bomb)
    else:
        path.write_bytes(pickle.dumps(Bomb(str(mark))))
    with pytest.raises(ValueError, match="bomb"):
        read_geometry(path)
    assert not mark.exists()


# ---------------------------------------------------------------------- saved sheets


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_a_saved_sheet_is_a_geometry(tmp_path, packed):
    sheet = cg.build_sheet("stack", widths=[3, 4], neighbors="knn:5")
    sheet.save(tmp_path / "s.npz")
    if packed:
        (tmp_path / "s.npz.gz").write_bytes(gzip.compress((tmp_path / "s.npz").read_bytes()))
    again = cg.build_sheet(tmp_path / f"s.npz{packed}")
    assert again.fingerprint == sheet.fingerprint
    assert again.geometry_fingerprint == sheet.geometry_fingerprint
    assert again.inputs.tolist() == sheet.inputs.tolist()
    assert again.outputs.tolist() == sheet.outputs.tolist()
    assert again.layer.tolist() == sheet.layer.tolist()


# ---------------------------------------------------------------------- one triangle, any bytes

HALF = np.array([[0, 3, 0, 1], [0, 4, 2, 0], [0, 0, 0, 5], [0, 0, 0, 0]], dtype=float)


def written(path, matrix):
    match path.suffix:
        case ".npy":
            np.save(path, matrix)
        case ".npz":
            scipy.sparse.save_npz(path, scipy.sparse.csr_array(matrix))
        case ".mtx":
            scipy.io.mmwrite(path, scipy.sparse.coo_array(matrix), symmetry="general")
        case ".mat":
            scipy.io.savemat(path, {"W": matrix})
        case _:
            np.savetxt(path, matrix, delimiter=",")
    return path


@pytest.mark.parametrize("name", ["w.csv", "w.txt", "w.npy", "w.npz", "w.mtx", "w.mat", "w.edge"])
@pytest.mark.parametrize("half", [HALF, HALF.T])
def test_one_triangle_of_a_matrix_is_said_and_can_mean_both_directions(tmp_path, name, half):
    """``tck2connectome`` writes the upper triangle of a symmetric matrix unless asked for both."""
    path = written(tmp_path / name, half)
    with pytest.warns(UserWarning, match="the matrix is a triangle: all its edges go to (later|earlier) columns"):
        assert as_pairs(read_geometry(path)) == as_pairs(from_object(half))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*triangle")
        assert as_pairs(read_geometry(path, directed=True)) == as_pairs(from_object(half, directed=True))
        assert as_pairs(read_geometry(path, directed=False)) == as_pairs(
            from_object(half + np.triu(half, 1).T + np.tril(half, -1).T)
        )


def test_two_numbers_of_a_pair_are_not_one_edge(tmp_path):
    matrix = HALF.copy()
    matrix[3, 0] = 7
    with pytest.raises(ValueError, match=r"edge 3 -> 0 is 7\.0, the other way 1\.0: directed=False needs one number"):
        read_geometry(written(tmp_path / "w.npy", matrix), directed=False)


@pytest.mark.parametrize("kind", [">f8", ">f4", "<f2", ">i4", "<u2", "g", "u1"])
def test_numbers_of_any_size_and_byte_order(tmp_path, kind):
    matrix = (HALF + HALF.T).astype(kind)
    expected = as_pairs(from_object(HALF + HALF.T))
    assert as_pairs(read_geometry(written(tmp_path / "w.npy", matrix))) == expected
    assert as_pairs(from_object(matrix)) == expected


def test_duplicates_of_small_integers_add_up():
    ends = ([0, 0, 1, 2, 3], [1, 1, 2, 3, 0])
    matrix = scipy.sparse.coo_array((np.array([200, 100, 1, 1, 1], dtype=np.uint8), ends), shape=(4, 4))
    assert as_pairs(from_object(matrix))[0, 1] == 300


@pytest.mark.parametrize("text", ["1\t2\t5\n2\t3\t1\n3\t4\t2\n", "1\t2\n2\t3\n"])
def test_few_edges_without_a_header_are_not_taken_for_a_matrix(tmp_path, text):
    (tmp_path / "out.tsv").write_text(text)
    with pytest.raises(ValueError, match="may be edges or a matrix: say header=False for a matrix"):
        read_geometry(tmp_path / "out.tsv")
    assert read_geometry(tmp_path / "out.tsv", header=False).num_columns == len(text.split("\n")) - 1


def test_comments_of_matrix_market_may_be_indented(tmp_path):
    text = "%%MatrixMarket matrix coordinate real general\r\n  % a note\r\n3 3 1\r\n1 2 5\r\n\r\n"
    (tmp_path / "m.mtx").write_bytes(text.encode())
    assert as_pairs(read_geometry(tmp_path / "m.mtx")) == {(0, 1): 5}


def test_circos_tables_of_dsi_studio(tmp_path):
    text = "data\tdata\t4\t5\t3\t\ndata\tdata\tL\tR\tC\t\n4\tL\t0\t3\t1\t\n5\tR\t3\t0\t2\t\n3\tC\t1\t2\t0\t\n"
    (tmp_path / "c.txt").write_text(text)
    geometry = read_geometry(tmp_path / "c.txt")
    assert geometry.names == ("L", "R", "C")
    assert as_pairs(geometry) == {(0, 1): 3, (1, 0): 3, (0, 2): 1, (2, 0): 1, (1, 2): 2, (2, 1): 2}


def test_names_as_codes_of_characters_in_mat_files(tmp_path):
    names = np.frombuffer(b"L_A\nL_B\nR_A\nR_B\n", dtype=np.uint8).reshape(1, -1)
    scipy.io.savemat(tmp_path / "c.mat", {"connectivity": HALF + HALF.T, "name": names}, format="4")
    assert read_geometry(tmp_path / "c.mat").names == ("L_A", "L_B", "R_A", "R_B")


def test_matrices_of_many_columns_are_not_searched_for_pairs_of_names():
    from colgraph.geometry.readers.tables.columns import find_ends

    calls = []
    for count in (1_000, 2_000):
        heads, profiler = [f"area{i}" for i in range(count)], cProfile.Profile()
        with profiler:
            assert find_ends(heads) is None
        calls.append(sum(entry.callcount for entry in profiler.getstats()))
    assert calls[1] < 3 * calls[0], "pairs would be four times as many"
