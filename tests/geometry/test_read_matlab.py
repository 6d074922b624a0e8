"""MATLAB files of both kinds, and BrainNet Viewer's pairs."""

import gzip
import warnings

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from colgraph.geometry.readers import read_geometry, read_mask

A = np.array([[0, 2.5, 0], [0, 0, 0.5], [3, 0, 0]])
PAIRS = {("0", "1"): 2.5, ("1", "2"): 0.5, ("2", "0"): 3}
NAMES = ("V1", "V2", "MT+")
PLACES = np.arange(9.0).reshape(3, 3) ** 2


def named(geometry):
    names = geometry.names or tuple(map(str, range(geometry.num_columns)))
    return {
        (names[i], names[j]): d for (i, j), d in zip(geometry.edges.T, geometry.edge_distance.tolist(), strict=True)
    }


def quietly(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_geometry(path, **options)


def cells(values):
    made = np.empty((len(values), 1), dtype=object)
    made[:, 0] = values
    return made


class V73:
    """Writes as MATLAB's ``save -v7.3``: HDF5 behind a block of 512 bytes, axes in reverse, cells as references."""

    def __init__(self, path):
        self.file = pytest.importorskip("h5py").File(path, "w", userblock_size=512)
        self.path = path

    def numbers(self, name, values, kind="double"):
        self.file[name] = np.asarray(values).T
        self.file[name].attrs["MATLAB_class"] = np.bytes_(kind)

    def text(self, name, value):
        self.file[name] = np.array([[ord(c)] for c in value], dtype=np.uint16)
        self.file[name].attrs["MATLAB_class"] = np.bytes_("char")

    def cell(self, name, values):
        import h5py

        for i, value in enumerate(values):
            key = f"#refs#/{name.replace('/', '_')}{i}"
            (self.text if isinstance(value, str) else self.numbers)(key, value)
        refs = [[self.file[f"#refs#/{name.replace('/', '_')}{i}"].ref for i in range(len(values))]]
        self.file.create_dataset(name, data=np.array(refs, dtype=h5py.ref_dtype), dtype=h5py.ref_dtype)
        self.file[name].attrs["MATLAB_class"] = np.bytes_("cell")

    def sparse(self, name, values):
        matrix = scipy.sparse.csc_array(values)
        group = self.file.create_group(name)
        group.attrs["MATLAB_sparse"], group.attrs["MATLAB_class"] = np.uint64(len(values)), np.bytes_("double")
        group["data"], group["ir"], group["jc"] = matrix.data, matrix.indices, matrix.indptr

    def close(self):
        self.file.close()
        with open(self.path, "r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512))


def write(path, version, *, matrix=A, sparse=False, names=False, places=False, more=None):
    more = more or {}
    if version == "7.3":
        made = V73(path)
        (made.sparse if sparse else made.numbers)("SC", matrix)
        if names:
            made.cell("labels", NAMES)
        if places:
            made.numbers("coords", PLACES)
        for name, value in more.items():
            (made.cell if isinstance(value, list) else made.numbers)(name, value)
        made.close()
        return
    content = {"SC": scipy.sparse.csc_matrix(matrix) if sparse else matrix}
    content |= {"labels": cells(NAMES)} if names else {}
    content |= {"coords": PLACES} if places else {}
    content |= {name: cells(value) if isinstance(value, list) else value for name, value in more.items()}
    scipy.io.savemat(path, content, format="4" if version == "4" else "5", do_compression=version == "7")


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("version", ["4", "5", "7", "7.3"])
def test_matrices_of_every_version(tmp_path, version, sparse):
    path = tmp_path / "m.mat"
    write(path, version, sparse=sparse)
    assert named(quietly(path)) == PAIRS  # rows speak, as MATLAB shows them
    assert named(quietly(path, transpose=True)) == {(v, u): d for (u, v), d in PAIRS.items()}
    assert named(quietly(path, weight_is="strength")) == {pair: 1 / d for pair, d in PAIRS.items()}
    (tmp_path / "m.mat.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert named(quietly(tmp_path / "m.mat.gz")) == PAIRS


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_names_and_positions(tmp_path, version):
    write(tmp_path / "m.mat", version, names=True, places=True, more={"age": np.array([[7.0]])})
    with pytest.warns(UserWarning, match="matrix 'SC', names from 'labels', positions from 'coords'; left out: 'age'"):
        geometry = read_geometry(tmp_path / "m.mat")
    assert geometry.names == NAMES
    np.testing.assert_array_equal(geometry.positions, PLACES)
    assert geometry.spatial
    assert set(named(geometry)) == {("V1", "V2"), ("V2", "MT+"), ("MT+", "V1")}


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_several_matrices_are_chosen_by_name(tmp_path, version):
    path = tmp_path / "m.mat"
    write(path, version, more={"FC": A.T, "hemis": ["L", "R", "M"], "groups": ["a", "b", "c"]})
    with pytest.raises(ValueError, match=r"m.mat': holds several square .*SC \[3, 3\].*: say variable='(SC|FC)'"):
        read_geometry(path)
    with pytest.raises(ValueError, match=r"no matrix 'sc'.* SC"):
        read_geometry(path, variable="sc")
    geometry = quietly(path, variable="FC")
    assert geometry.names is None  # two lists of three
    assert named(geometry) == {(v, u): d for (u, v), d in PAIRS.items()}
    assert quietly(path, variable="FC", names="hemis").names == ("L", "R", "M")
    with pytest.raises(ValueError, match="no cell array of names 'hemi'"):
        read_geometry(path, variable="FC", names="hemi")


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_structs_and_cells(tmp_path, version):
    path = tmp_path / "m.mat"
    if version == "5":
        scipy.io.savemat(path, {"s": {"W": A, "names": cells(NAMES)}, "all": cells([A, A.T])})
    else:
        made = V73(path)
        made.file.create_group("s").attrs["MATLAB_class"] = np.bytes_("struct")
        made.numbers("s/W", A)
        made.cell("s/names", NAMES)
        made.cell("all", [A, A.T])
        made.close()
    assert named(quietly(path, variable="s.W")) == {(NAMES[int(u)], NAMES[int(v)]): d for (u, v), d in PAIRS.items()}
    turned = quietly(path, variable="all{2}")
    assert set(map(tuple, turned.edges.T.tolist())) == {(1, 0), (2, 1), (0, 2)}


def test_files_without_a_matrix_say_what_they_hold(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"x": np.ones((3, 4)), "all": np.ones((3, 3, 2))})
    with pytest.raises(ValueError, match=r"no square matrix: x \[3, 4\], all \[3, 3, 2\]"):
        read_geometry(tmp_path / "a.mat")
    (tmp_path / "b.mat").write_text("# Created by Octave 8\n# name: W\n")
    with pytest.raises(ValueError, match="save -v7"):
        read_geometry(tmp_path / "b.mat")
    (tmp_path / "c.mat").write_bytes(b"\x00" * 600)
    with pytest.raises(ValueError, match="not readable as a MATLAB file"):
        read_geometry(tmp_path / "c.mat")


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_masks(tmp_path, version):
    write(tmp_path / "m.mat", version, matrix=np.array([[1.0], [0], [1]]))
    assert read_mask(tmp_path / "m.mat", 3).tolist() == [True, False, True]


# ---------------------------------------------------------------------- BrainNet Viewer

NODE = "# of a paper\n1\t2\t3\t1\t4\tV1\n4\t5\t6\t2\t4\t-\n7\t8\t9\t1\t2.5\tMT+\n"
EDGE = "0\t2.5\t0\n0\t0\t0.5\n3\t0\t0\n"


@pytest.mark.parametrize("given", ["node", "edge"])
def test_either_file_of_a_pair(tmp_path, given):
    (tmp_path / "net.node").write_text(NODE)
    (tmp_path / "net.EDGE").write_text(EDGE.replace("\t", "  ").replace("\n", "\r\n"))
    path = tmp_path / ("net.node" if given == "node" else "net.EDGE")
    with pytest.warns(UserWarning, match="read with net.(EDGE|node)"):
        geometry = read_geometry(path)
    np.testing.assert_array_equal(geometry.positions, np.arange(1.0, 10).reshape(3, 3))
    assert geometry.names == ("V1", "2", "MT+")
    assert named(geometry) == {("V1", "2"): 2.5, ("2", "MT+"): 0.5, ("MT+", "V1"): 3}


def test_one_file_alone(tmp_path):
    (tmp_path / "a.node").write_text(NODE)
    with pytest.warns(UserWarning, match="there is no a.edge beside it: columns without edges"):
        geometry = read_geometry(tmp_path / "a.node")
    assert geometry.edges is None
    assert geometry.names == ("V1", "2", "MT+")
    (tmp_path / "b.edge").write_text(EDGE)
    with pytest.warns(UserWarning, match="there is no b.node beside it: no positions and names"):
        assert named(read_geometry(tmp_path / "b.edge")) == PAIRS
    (tmp_path / "c.node").write_text("1 2 3 1 1 -\n4 5 6 1 1 -\n")
    with pytest.warns(UserWarning, match="no c.edge"):
        assert read_geometry(tmp_path / "c.node").names is None


@pytest.mark.parametrize(
    ("node", "edge", "message"),
    [
        (NODE, "0 1\n1 0\n", "3 nodes, the .edge file 2 rows"),
        (NODE, "0 1 x\n1 0 1\n0 0 0\n", "cell 3 of a.edge is not a number"),
        ("3 3 0 0\n", EDGE, "row 1 of a.node has 4 cells: a node is x y z color size label"),
        ("x 2 3 1 1 A\n", EDGE, "row 1 of a.node has the position"),
        (NODE, "0 1\n2 1\n0 1\n", "square"),
    ],
)
def test_pairs_that_do_not_fit(tmp_path, node, edge, message):
    (tmp_path / "a.node").write_text(node)
    (tmp_path / "a.edge").write_text(edge)
    with pytest.raises(ValueError, match=message):
        read_geometry(tmp_path / "a.node")


def test_hdf5_that_matlab_did_not_write_is_not_transposed(tmp_path):
    h5py = pytest.importorskip("h5py")
    for octave in (False, True):
        with h5py.File(tmp_path / "c.mat", "w") as file:
            file["SC/value"] = A.T if octave else A
            if octave:
                file["SC"].attrs["OCTAVE_NEW_FORMAT"] = 1
        assert named(quietly(tmp_path / "c.mat")) == PAIRS
