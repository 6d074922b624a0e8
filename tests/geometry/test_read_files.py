"""Which files are read as what, options, packages that are missing; and the files that this project ships."""

import ast
import re
import sys
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

import colgraph as cg
from colgraph.geometry.readers import FORMATS, MASK_SUFFIXES, read_geometry

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "geometries"


def test_numpy_scalars_are_options_of_files(tmp_path):
    (tmp_path / "list.edgelist").write_text("a b\nb c\n")
    geometry = read_geometry(tmp_path / "list.edgelist", directed=np.bool_(True))
    assert geometry.edges.tolist() == [[0, 1], [1, 2]]


def test_every_suffix_belongs_to_one_format():
    suffixes = [suffix for form in FORMATS for suffix in form.suffixes]
    assert len(set(suffixes)) == len(suffixes)


@pytest.mark.parametrize("suffix", sorted({s for form in FORMATS for s in form.suffixes} | set(MASK_SUFFIXES)))
def test_every_suffix_is_in_the_documentation(suffix):
    assert re.search(rf"`\.{suffix}`", (ROOT / "docs" / "files.md").read_text())


@pytest.mark.parametrize("option", sorted({name for form in FORMATS for name in form.options}))
def test_every_option_is_in_the_documentation(option):
    assert f"`{option}" in (ROOT / "docs" / "files.md").read_text()


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.suffixes[0])
def test_unknown_options_name_the_closest(tmp_path, form):
    path = tmp_path / f"file.{form.suffixes[0]}"
    path.write_text("x")
    with pytest.raises(ValueError, match=r"unknown option 'weigth_is' for (a|an) .*known are"):
        read_geometry(path, weigth_is="strength")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transpose": "false"}, "option 'transpose' must be true or false, got 'false'"),
        ({"header": 1}, "option 'header' must be true or false, got 1"),
        ({"weight_is": 3}, "option 'weight_is' must be a name, got 3"),
    ],
)
def test_options_of_another_type(tmp_path, options, message):
    (tmp_path / "a.csv").write_text("0,1\n1,0\n")
    with pytest.raises(ValueError, match=message):
        read_geometry(tmp_path / "a.csv", **options)


def test_files_that_are_not_there_or_not_readable(tmp_path):
    (tmp_path / "empty.gml").write_text("  \n")
    (tmp_path / "plain.graphml.gz").write_text("not gzip")
    (tmp_path / "cut.graphml.gz").write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03K")
    (tmp_path / "folder.obj").mkdir()
    (tmp_path / "net.grapml").write_text("x")
    (tmp_path / "nosuffix").write_text("x")
    cases = {
        "missing.obj": "there is no file",
        "missing.nii.gz": "there is no file",
        "empty.gml": "is empty",
        "plain.graphml.gz": "no complete gzip file",
        "cut.graphml.gz": "no complete gzip file",
        "folder.obj": "is a directory",
        "net.grapml": "unknown suffix 'grapml': did you mean 'graphml'",
        "nosuffix": "no suffix to tell its format by: known are obj, ply",
    }
    for name, expected in cases.items():
        for read in (read_geometry, cg.build_sheet):
            with pytest.raises(ValueError, match=expected) as caught:
                read(tmp_path / name)
            assert name in str(caught.value)
            assert "\n" not in str(caught.value)


def test_paths_may_be_text_or_paths_and_suffixes_in_capitals(tmp_path):
    nx.write_graphml(nx.path_graph(3), tmp_path / "A.GraphML")
    assert read_geometry(str(tmp_path / "A.GraphML")).num_columns == 3
    assert read_geometry(tmp_path / "A.GraphML").name == "A.GraphML"


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("a.dae", "trimesh", "mesh"),
        ("a.vtp", "vtkmodules", "vtk"),
        ("a.gii", "nibabel", "mesh"),
        ("lh.pial", "nibabel", "mesh"),
    ],
)
def test_a_missing_package_is_named_with_the_line_that_installs_it(tmp_path, monkeypatch, name, package, extra):
    (tmp_path / name).write_bytes(b"\xff\xff\xfe content")
    for module in [m for m in sys.modules if m.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{package}, which is not installed: pip install -e .*\[{extra}\]"):
        read_geometry(tmp_path / name)


def test_readers_import_no_optional_package_until_a_file_needs_it():
    for path in (ROOT / "colgraph" / "geometry" / "readers").glob("*.py"):
        for node in ast.parse(path.read_text()).body:  # the top level only
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", "")]
            tops = {str(module).partition(".")[0] for module in modules}
            assert not tops & {"trimesh", "nibabel", "nilearn", "networkx", "torch_geometric", "vtkmodules"}, path.name


# ---------------------------------------------------------------------- the shipped files


def test_the_macaque_network():
    geometry = read_geometry(FOLDER / "macaque_visual_areas.graphml")
    assert geometry.num_columns == 32
    assert geometry.edges.shape == (2, 315)
    assert geometry.names[0] == "V1"
    assert geometry.spatial
    # The distances of the file are those between the positions of the file.
    source, target = geometry.edges
    apart = np.linalg.norm(geometry.positions[source] - geometry.positions[target], axis=1)
    np.testing.assert_allclose(apart, geometry.edge_distance, atol=0.002)
    # MIP and MDP are the areas that speak and do not listen.
    deaf = set(range(32)) - set(target.tolist())
    assert {geometry.names[i] for i in deaf} == {"MIP", "MDP"}
    # From the back of the brain to the front.
    assert geometry.positions[geometry.names.index("46"), 0] == geometry.positions[:, 0].max()
    sheet = cg.build_sheet(FOLDER / "macaque_visual_areas.graphml", num_inputs=4)
    assert "V1" in [sheet.names[i] for i in sheet.inputs]


def test_the_torus_knot_is_what_its_code_makes():
    text = (FOLDER / "README.md").read_text()
    code = re.search(r"```python\n(import numpy.*?)```", text, re.S)
    made = {}
    exec(code.group(1), made)  # the code in our own README
    shipped = (FOLDER / "torus_knot.obj").read_text()
    numbers = [np.array(re.findall(r"-?\d+\.\d+", part), dtype=float) for part in (made["text"], shipped)]
    np.testing.assert_allclose(numbers[0], numbers[1], atol=2e-4)
    assert re.findall(r"f .*", made["text"]) == re.findall(r"f .*", shipped)


def test_the_torus_knot_is_a_closed_surface_of_genus_one():
    pytest.importorskip("trimesh")
    geometry = read_geometry(FOLDER / "torus_knot.obj")
    sides = np.sort(np.concatenate([geometry.faces[:, pair] for pair in ([0, 1], [1, 2], [2, 0])]), axis=1)
    edges, shared = np.unique(sides, axis=0, return_counts=True)
    assert set(shared) == {2}
    assert geometry.num_columns - len(edges) + len(geometry.faces) == 0


def test_the_moebius_plug_in():
    source = f"{FOLDER / 'moebius.py'}:moebius"
    geometry = cg.geometry(source)
    assert geometry.num_columns == 256
    sides = np.sort(np.concatenate([geometry.faces[:, pair] for pair in ([0, 1], [1, 2], [2, 0])]), axis=1)
    edges, shared = np.unique(sides, axis=0, return_counts=True)
    assert geometry.num_columns - len(edges) + len(geometry.faces) == 0  # a Möbius band
    rim = nx.Graph(edges[shared == 1].tolist())
    assert nx.number_connected_components(rim) == 1  # with one edge, where a plain band has two
    assert all(degree == 2 for _, degree in rim.degree)
    lengths = np.linalg.norm(geometry.positions[edges[:, 0]] - geometry.positions[edges[:, 1]], axis=1)
    assert lengths.max() < 2.5
    assert cg.build_sheet(source, columns=192, neighbors="knn:8").num_columns == 192
    for columns in (7, 4, 0):
        with pytest.raises(ValueError, match=f"divide into rows of 2 or more.*got {columns}"):
            cg.geometry(source, columns=columns)


def test_every_shipped_geometry_is_in_the_readme():
    text = (FOLDER / "README.md").read_text()
    for path in FOLDER.iterdir():
        if path.is_file() and path.name != "README.md":
            assert f"`{path.name}`" in text
