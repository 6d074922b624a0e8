"""Meshes and point clouds: round trips through trimesh, what is merged and dropped, and files that are broken."""

import gzip
import io
import warnings
import zipfile

import numpy as np
import pytest

import colgraph as cg
from colgraph.geometry.readers import from_object, read_geometry

trimesh = pytest.importorskip("trimesh")

SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"
EXPORTED = ["obj", "ply", "stl", "off", "glb"]


@pytest.fixture
def ball():
    return trimesh.creation.icosphere(subdivisions=2)


def write(path, data):
    data = data.encode() if isinstance(data, str) else data
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def edge_lengths(positions, faces):
    corners = positions[faces]
    return np.sort(np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1).ravel())


def reads_silently(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return read_geometry(path, **options)


@pytest.mark.parametrize("suffix", EXPORTED)
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_round_trip(tmp_path, ball, suffix, packed):
    path = write(tmp_path / f"ball.{suffix}{packed}", ball.export(file_type=suffix))
    geometry = reads_silently(path)
    assert geometry.positions.shape == (162, 3)
    assert geometry.faces.shape == (320, 3)
    assert geometry.metric == "geodesic"
    assert geometry.name == f"ball.{suffix}"
    np.testing.assert_allclose(
        edge_lengths(geometry.positions, geometry.faces), edge_lengths(ball.vertices, ball.faces), atol=1e-6
    )
    if suffix in ("obj", "ply", "off"):  # formats with shared vertices keep their order, so that masks fit
        np.testing.assert_allclose(geometry.positions, ball.vertices, atol=1e-6)
        np.testing.assert_array_equal(geometry.faces, ball.faces)


def test_ascii_stl_and_several_solids(tmp_path, ball):
    one = ball.export(file_type="stl_ascii")
    both = one + "\n" + ball.apply_translation([5, 0, 0]).export(file_type="stl_ascii")
    geometry = reads_silently(write(tmp_path / "two.stl", both))
    assert geometry.num_columns == 2 * 162


def test_gltf_with_buffers_beside_it(tmp_path, ball):
    for name, data in ball.export(file_type="gltf").items():
        (tmp_path / name).write_bytes(data)
    assert reads_silently(tmp_path / "model.gltf").faces.shape == (320, 3)
    (tmp_path / "gltf_buffer_0.bin").unlink()
    with pytest.raises(ValueError, match=r"its buffer 'gltf_buffer_0.bin' is not there"):
        read_geometry(tmp_path / "model.gltf")


def test_parts_of_a_scene_become_one_mesh_in_one_frame(tmp_path):
    scene = trimesh.Scene()
    box = trimesh.creation.box()
    scene.add_geometry(box)
    scene.add_geometry(box, transform=trimesh.transformations.translation_matrix([3, 0, 0]))
    geometry = read_geometry(write(tmp_path / "boxes.glb", scene.export(file_type="glb")))
    assert geometry.num_columns == 16
    assert geometry.faces.shape == (24, 3)
    np.testing.assert_allclose([geometry.positions.min(0)[0], geometry.positions.max(0)[0]], [-0.5, 3.5])


@pytest.mark.parametrize("suffix", ["ply", "xyz", "glb"])
def test_point_clouds_have_no_faces(tmp_path, suffix):
    points = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    cloud = trimesh.PointCloud(points)
    data = trimesh.Scene(cloud).export(file_type="glb") if suffix == "glb" else cloud.export(file_type=suffix)
    geometry = reads_silently(write(tmp_path / f"cloud.{suffix}", data))
    assert geometry.faces is None
    np.testing.assert_allclose(geometry.positions, points, atol=1e-6)
    sheet = cg.build_sheet(tmp_path / f"cloud.{suffix}", neighbors="knn:4")
    assert sheet.edge_index.size(1) == 40 * 5


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        ("obj", SQUARE + "v 0.5 2 0\nf 1 2 3 5 4\n"),
        ("off", "OFF\n# a pentagon\n5 1 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n0.5 2 0\n5 0 1 2 4 3 255 0 0\n"),
        (
            "off",
            "COFF 5 1 0\n0 0 0 1 1 1 1\n1 0 0 1 1 1 1\n1 1 0 0 0 0 0\n0 1 0 0 0 0 0\n0.5 2 0 0 0 0 0\n5 0 1 2 4 3\n",
        ),
        (
            "ply",
            "ply\nformat ascii 1.0\nelement vertex 5\nproperty float x\nproperty float y\nproperty float z\n"
            "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
            "0 0 0\n1 0 0\n1 1 0\n0 1 0\n0.5 2 0\n5 0 1 2 4 3\n",
        ),
    ],
)
def test_polygons_are_cut_into_triangles_of_the_same_area(tmp_path, suffix, text):
    geometry = reads_silently(write(tmp_path / f"house.{suffix}", text))
    assert geometry.faces.shape == (3, 3)
    a, b, c = (geometry.positions[geometry.faces[:, k]] for k in range(3))
    assert np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2 == pytest.approx(1.5)


SEAM = SQUARE + "v 1 0 -0.0\nv 0 1 0\nf 1 2 4\nf 5 3 6\n"


def test_vertices_at_one_place_are_merged_with_a_warning(tmp_path):
    path = write(tmp_path / "seam.obj", SEAM)
    with pytest.warns(UserWarning, match=r"seam.obj: merged 2 vertices"):
        geometry = read_geometry(path)
    assert geometry.num_columns == 4
    np.testing.assert_array_equal(geometry.positions[:, :2], [[0, 0], [1, 0], [1, 1], [0, 1]])
    np.testing.assert_array_equal(geometry.faces, [[0, 1, 3], [1, 2, 3]])
    assert reads_silently(path, merge_vertices=False).num_columns == 6


def test_nearly_equal_vertices_stay_apart(tmp_path):
    geometry = reads_silently(
        write(tmp_path / "near.obj", SEAM.replace("v 1 0 -0.0", "v 1 0 1e-9").replace("v 0 1 0\nf", "v 0 1 1e-9\nf"))
    )
    assert geometry.num_columns == 6


def test_unused_vertices_and_degenerate_faces_are_dropped_with_a_warning(tmp_path):
    path = write(tmp_path / "untidy.obj", "v 9 9 9\n" + SQUARE + "f 2 3 4\nf 2 4 5\nf 2 2 3\n")
    with pytest.warns(UserWarning, match="dropped 1 triangles that use a vertex twice; dropped 1 vertices"):
        geometry = read_geometry(path)
    assert geometry.num_columns == 4
    np.testing.assert_array_equal(geometry.faces, [[0, 1, 2], [0, 2, 3]])


PLY = "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\nend_header\n"

BROKEN = {
    "no_faces.obj": (SQUARE, "4 vertices and no triangle"),
    "nothing.obj": ("# only a comment\n", "no triangle|not readable"),
    "no_faces.off": ("OFF\n3 0 0\n0 0 0\n1 0 0\n0 1 0\n", "3 vertices and no triangle"),
    "cut.off": ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n", "promises 3 vertices and 1 faces"),
    "cut_face.off": ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1\n", "a face has as many vertices as it says"),
    "text.off": ("hello\n", "the first line"),
    "range.off": ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n", "vertex 7, but there are 3"),
    "range.obj": (SQUARE + "f 1 2 9\n", "line 5: a face refers to vertex 9, but there are 4"),
    "cut.obj": (SQUARE + "f 1 2 3\nf 1 2", "line 6 is incomplete: 'f 1 2'"),
    "cut_vertex.obj": ("v 0 0 0\nv 1 0\nf 1 2 1\n", "line 2 is incomplete: 'v 1 0'"),
    "nan.obj": ("v 0 0 nan\nv 1 0 0\nv 1 1 0\nf 1 2 3\n", "finite"),
    "inf.off": ("OFF\n3 1 0\ninf 0 0\n1 0 0\n0 1 0\n3 0 1 2\n", "finite"),
    "word.obj": ("v 0 0 a\nv 1 0 0\nv 1 1 0\nf 1 2 3\n", "vertex '0 0 a' is not 3 numbers"),
    "degenerate.obj": (SQUARE + "f 1 2 2\nf 3 3 1\n", "degenerate: each of its 2 triangles"),
    "collapsed.obj": ("v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n", "degenerate"),
    "flat.obj": ("v 0 0 0\nv 1 1 1\nv 2 2 2\nf 1 2 3\n", "no area"),
    "garbage.ply": ("not a ply file", "starts with 'ply', this one with 'not a ply file'"),
    "garbage.glb": ("not a glb file", "not readable as glTF"),
    "garbage.stl": ("not an stl file", "no STL: text starts with 'solid'"),
    "zero.obj": (SQUARE + "f 0 1 2\n", "line 5: a face refers to vertex 0"),
    "behind.obj": (SQUARE + "f -5 -1 -2\n", "line 5: a face refers to vertex -5, but there are 4 vertices above it"),
    "float.obj": (SQUARE + "f 1.5 2 3\n", "line 5: a corner of a face starts with a vertex, got '1.5'"),
    "prose.obj": ("hello world\n", "not readable as OBJ.*lines of 'hello'"),
    "curved.obj": (SQUARE + "cstype bezier\ncurv 0 1 1 2 3 4\n", "line 5 .'cstype'. belongs to a curved surface"),
    "call.obj": ("call other.obj\n", "line 1 .'call'. belongs to parts from other files"),
    "lines.obj": (SQUARE + "l 1 2 3\n", "no triangle .passed over 1 lines"),
    "binary_mni.obj": (b"p\x3e\x99\x99\x9a\x00\x00\x00", "a binary MNI obj .CIVET."),
    "lines_mni.obj": ("L 1 2\n0 0 0\n1 0 0\n", "MNI obj .CIVET. file holds lines"),
    "cut_mni.obj": ("P 0.3 0.3 0.4 10 1 4\n0 0 0\n1 0 0\n", "cut short: an MNI obj"),
    "binary.off": ("OFF BINARY\n\0\0", "binary OFF"),
    "four.off": ("4OFF\n1 0 0\n0 0 0 1\n", "4OFF has vertices of other than 3 coordinates"),
    "more.off": ("COFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n3 0 1 2\n", "promises 3 vertices and 1 faces, but has 5"),
    "strings.ply": (PLY.replace("float x", "string x") + "0 0 0\n", "the line 'property string x'"),
    "nameless.ply": (PLY.replace("float x", "float u") + "0 0 0\n", "have x, y and z, these have u, y, z"),
    "grid.ply": (
        PLY.replace("end_", "element range_grid 1\nproperty list uchar int vertex_indices\nend_") + "0 0 0\n1 0\n",
        "holds no faces, but range_grid",
    ),
    "corners.ply": (
        PLY.replace("end_", "element face 1\nproperty list uchar int corners\nend_") + "0 0 0\n3 0 0 0\n",
        "has the list vertex_indices or vertex_index, this one has corners",
    ),
    "half.ply": (
        PLY.replace("end_", "element face 1\nproperty list uchar int vertex_indices\nend_") + "0 0 0\n3.5 0 0 0\n",
        "a list 'vertex_indices' of the element 'face' has the length 3.5",
    ),
    "broken_corner.ply": (
        PLY.replace("end_", "element face 1\nproperty list uchar int vertex_indices\nend_") + "0 0 0\n3 0 0.5 0\n",
        "the property 'vertex_indices' holds integers, got 0.5",
    ),
    "more.ply": (PLY + "0 0 0\n1 1 1\n", "holds 3 numbers more than the header promises"),
    "no_format.ply": ("ply\nelement vertex 1\nend_header\n", "names no format"),
    "quads.stl": (
        "solid\nfacet normal 0 0 1\nouter loop\nvertex 0 0\nendloop\nendfacet\nendsolid",
        "a loop is lines of",
    ),
    "words.xyz": ("x y z\n0 0 0\n1 1 one\n", "not readable as XYZ.*'1 1 one'"),
    "ragged.xyz": ("0 0 0\n1 2\n", "not readable as XYZ"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_meshes_are_errors_of_one_line_that_name_the_file(tmp_path, name):
    text, expected = BROKEN[name]
    with pytest.raises(ValueError, match=expected) as caught:
        read_geometry(write(tmp_path / name, text))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["ply", "stl", "off", "glb", "stl_ascii", "ply_ascii"])
def test_a_file_that_is_cut_short_is_an_error(tmp_path, ball, suffix):
    data = ball.export(file_type="ply", encoding="ascii") if suffix == "ply_ascii" else ball.export(file_type=suffix)
    data = data.encode() if isinstance(data, str) else data
    path = tmp_path / f"cut.{suffix.partition('_')[0]}"
    whole = len(data.rstrip())
    for size in [whole // 10, whole // 2, 9 * whole // 10, whole - 20]:
        with pytest.raises(ValueError, match=r"cut\."):
            read_geometry(write(path, data[:size]))


def test_trimesh_logs_nothing_about_errors_that_are_raised(tmp_path, caplog):
    corners = "vertex 0 0\nvertex 1 0 0\nvertex 0 1 0"
    text = f"solid a\nfacet normal 0 0 x\nouter loop\n{corners}\nendloop\nendfacet\nendsolid a\n"
    with pytest.raises(ValueError, match=r"a\.stl"):
        read_geometry(write(tmp_path / "a.stl", text))
    assert not caplog.records


def test_curves_are_no_mesh(tmp_path):
    path = trimesh.load_path(np.array([[0, 0, 0], [1, 0, 0], [1, 1, 1]], dtype=float))
    with pytest.raises(ValueError, match="curves"):
        from_object(trimesh.Scene(path))


DEGENERATE_NOTES = {
    "lines.obj": (SQUARE + "f 1 2 3\nl 1 2 3\np 4\nl 3 4\n", "passed over 2 lines; passed over 1 points"),
    "odd.obj": (SQUARE + "f 1 2 3 4\nweight 3\n", "passed over 1 statements 'weight'"),
    "edges.ply": (
        PLY.replace("vertex 1", "vertex 3").replace(
            "end_",
            "element face 1\nproperty list uchar int vertex_index\nelement edge 1\nproperty int vertex1\nend_",
        )
        + "0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n0\n",
        "passed over the PLY element 'edge'",
    ),
    "thin.off": ("OFF\n3 2 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n2 0 1\n", "passed over 1 faces with fewer than 3 corners"),
    "twice.obj": (SQUARE + "f 1 2 3 4\nf 4 3 2 1\n", "used 1 faces once that are stored twice"),
}


@pytest.mark.parametrize("name", DEGENERATE_NOTES)
def test_what_is_passed_over_is_said(tmp_path, name):
    text, expected = DEGENERATE_NOTES[name]
    with pytest.warns(UserWarning, match=f"{name}: .*{expected}"):
        assert len(read_geometry(write(tmp_path / name, text)).faces) in (1, 2)


def test_double_sided_quads_are_one_surface(tmp_path):
    """Each side would be cut along another diagonal, and has vertices of its own."""
    text = SQUARE + SQUARE + "f 1 2 3 4\nf 8 7 6 5\n"
    with pytest.warns(UserWarning, match="merged 4 vertices.*used 1 faces once"):
        geometry = read_geometry(write(tmp_path / "card.obj", text))
    np.testing.assert_array_equal(geometry.faces, [[0, 1, 2], [0, 2, 3]])


def test_mni_surfaces_keep_all_vertices(tmp_path):
    text = "P 1 1 1 1 1 5\n" + "0 0 0\n1 0 0\n0 1 0\n0 0 0\n9 9 9\n" + "0 0 1\n" * 5 + "1\n0 1 1 1 1\n3\n0 1 2\n"
    path = write(tmp_path / "lh.obj", text)
    assert reads_silently(path).num_columns == 5
    with pytest.warns(UserWarning, match="merged 1 vertices"):
        assert read_geometry(path, merge_vertices=True).num_columns == 4


@pytest.mark.parametrize(
    "text",
    [
        "3\n0 0 0.5\n1 0 0.5\n2 0 0.5\n",
        "x,y,z,r\n0, 0,0.5,9\n1,0,0.5,9\n2,0,0.5,9\n",
        "0;0;0.5\n1;0;0.5\n# c\n2;0;0.5",
        "0;0;0,5\r\n1;0;0,5\r\n2;0;0,5\r\n",
        "0,0 0,0 0,5\n1,0 0 0,5\n2 0,0 0,5\n",
    ],
)
def test_points_in_text(tmp_path, text):
    positions = reads_silently(write(tmp_path / "a.xyz", text)).positions
    np.testing.assert_array_equal(positions, [[0, 0, 0.5], [1, 0, 0.5], [2, 0, 0.5]])


@pytest.mark.parametrize("restart", [False, True])
def test_triangle_strips_in_ply(tmp_path, restart):
    strip = "7 0 1 2 -1 1 2 3" if restart else "4 0 1 2 3"
    header = PLY.replace("vertex 1", "vertex 4").replace(
        "end_", "element tristrips 1\nproperty list int int vertex_indices\nend_"
    )
    geometry = reads_silently(write(tmp_path / "a.ply", header + f"0 0 0\n1 0 0\n0 1 0\n1 1 0\n{strip}\n"))
    np.testing.assert_array_equal(geometry.faces, [[0, 1, 2], [1, 2, 3] if restart else [2, 1, 3]])


@pytest.mark.parametrize(("suffix", "package"), [("dae", "pycollada"), ("3mf", "lxml")])
def test_a_missing_package_is_named(tmp_path, suffix, package):
    module = {"pycollada": "collada"}.get(package, package)
    try:
        __import__(module)
    except ImportError:
        with pytest.raises(ImportError, match=f"pip install {package}"):
            read_geometry(write(tmp_path / f"mesh.{suffix}", b"PK\x03\x04 not empty"))
    else:
        pytest.skip(f"{package} is installed")


@pytest.mark.parametrize("required", ["b", "p b"])
def test_3mf_extensions_that_are_not_known_are_refused_by_name(tmp_path, required):
    space = "http://schemas.microsoft.com/3dmanufacturing"
    spaces = f'xmlns="{space}/core/2015/02" xmlns:b="{space}/beamlattice/2017/02" xmlns:p="{space}/production/2015/06"'
    with zipfile.ZipFile(tmp_path / "a.3mf", "w") as archive:
        archive.writestr("3D/3dmodel.model", f'<model {spaces} requiredextensions="{required}"><build/></model>')
    with pytest.raises(ValueError, match=r"requires the 3MF extension .*/beamlattice/2017/02"):
        read_geometry(tmp_path / "a.3mf")


def test_a_trimesh_object_stays_as_it_is():
    mesh = trimesh.load(io.StringIO(SEAM), file_type="obj", process=False, maintain_order=True)
    geometry = from_object(mesh)
    assert geometry.num_columns == 6
    with pytest.warns(UserWarning, match="merged 2"):
        assert from_object(mesh, merge_vertices=True).num_columns == 4
    with pytest.raises(ValueError, match=r"unknown option 'merge_vertex'.*did you mean 'merge_vertices'"):
        from_object(mesh, merge_vertex=True)


def test_a_sheet_of_a_mesh(ball):
    sheet = cg.build_sheet(ball, neighbors="given")
    assert sheet.num_columns == 162
    assert sheet.edge_index.size(1) == 2 * 480 + 162
    assert sheet.face.shape == (3, 320)
