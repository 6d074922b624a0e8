"""Random polygon meshes, written in every dialect by hand, are read as the same triangles."""

import base64
import json
import struct
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colgraph.geometry.readers import read_geometry
from colgraph.geometry.readers.meshes.polygons import Polygons


@st.composite
def meshes(draw):
    """Vertices and polygons of 3, 4 and 6 corners over a grid, in random order, with random first corners."""
    rows, cells = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    x, y = np.meshgrid(np.arange(cells + 1), np.arange(rows + 1))
    points = np.stack([x.ravel(), y.ravel(), rng.integers(-2, 3, x.size) / 16], 1)  # exact in single precision
    polygons = []
    for row in range(rows):
        cell = 0
        while cell < cells:
            a = row * (cells + 1) + cell
            b = a + cells + 1
            kind = draw(st.sampled_from(["quad", "triangles", "hexagon", "hole"]))
            if kind == "hexagon" and cell + 2 <= cells:
                polygons.append([a, a + 1, a + 2, b + 2, b + 1, b])
                cell += 1
            elif kind == "triangles":
                polygons += [[a, a + 1, b], [b, a + 1, b + 1]]
            elif kind == "quad" or not polygons:
                polygons.append([a, a + 1, b + 1, b])
            cell += 1
    polygons = [np.roll(polygon, rng.integers(6)).tolist() for polygon in polygons]
    rng.shuffle(polygons)
    return points, polygons


def corners(positions, faces):
    return {tuple(sorted(map(tuple, np.round(positions[face], 6).tolist()))) for face in faces}


def as_triangles(points, polygons):
    return Polygons.of(polygons).triangles(points)[0]


# ---------------------------------------------------------------------- writers: bytes of one file, perhaps more beside


def rows(array):
    return "\n".join(" ".join(map(repr, row)) for row in np.asarray(array).tolist())


def obj(points, polygons, folder, corner="{}", relative=False):
    faces = [[v - len(points) if relative else v + 1 for v in polygon] for polygon in polygons]
    lines = [f"v {row}" for row in rows(points).splitlines()] + ["vt 0 0", "vn 0 0 1", "g part", "s off"]
    return "\n".join(lines + ["f " + " ".join(corner.format(v) for v in face) for face in faces])


def obj_interleaved(points, polygons, folder):
    """Each vertex just above the first face that uses it; absolute and relative indices in turn, lines continued."""
    place, lines = {}, ["# interleaved\r"]
    for f, polygon in enumerate(polygons):
        for v in polygon:
            if v not in place:
                place[v] = len(place)
                lines.append("v " + " ".join(map(repr, points[v].tolist())) + (" 0.5 0.5 0.5" if f % 2 else ""))
        named = [place[v] - len(place) if f % 2 else place[v] + 1 for v in polygon]
        lines += [f"g group{f}", "f " + " ".join(f"{v}/-1" for v in named[:2]) + " \\", " ".join(map(str, named[2:]))]
        lines += [f"usemtl m{f}  # a comment"]
    return "\n".join(lines)


def off(points, polygons, folder, header="OFF\n", extra="", face_extra="", counts="{} {} 0\n"):
    lines = [f"{row}{extra}" for row in rows(points).splitlines()]
    lines += [f"{len(p)}  {' '.join(map(str, p))}{face_extra}" for p in polygons]
    return header + counts.format(len(points), len(polygons)) + "# a comment\n\n" + "\n".join(lines)


def off_in_one_line(points, polygons, folder):
    return "OFF\n" + " ".join(off(points, polygons, folder, header="").replace("# a comment\n", "").split())


PLY_CODES = {"uchar": "B", "int": "i", "ushort": "H", "uint8": "B", "int32": "i", "uint": "I", "double": "d"}


def ply(points, polygons, folder, form="ascii", count="uchar", index="int", name="vertex_indices", newline="\n"):
    """With properties and elements before and after those that matter, some of them lists."""
    head = ["ply", f"format {form} 1.0", "comment end of the world", "obj_info by hand", "element camera 1"]
    head += ["property float view", f"element vertex {len(points)}", "property uchar red", "property double x"]
    head += ["property double y", "property double z", "property list uchar int tags", f"element face {len(polygons)}"]
    head += ["property uchar flags", "property list uchar float texcoord", f"property list {count} {index} {name}"]
    head += ["property int quality", "end_header"]
    vertex = [(("B", [7]), ("d", point), ("B", [i % 3]), ("i", [9] * (i % 3))) for i, point in enumerate(points)]
    face = [
        (("B", [1]), ("B", [2]), ("f", [0.5, 0.25]), (PLY_CODES[count], [len(p)]), (PLY_CODES[index], p), ("i", [-5]))
        for p in polygons
    ]
    table = [(("f", [1.5]),), *vertex, *face]
    header = (newline.join(head) + newline).encode()
    if form == "ascii":
        lines = [" ".join(repr(v) for _, values in row for v in np.asarray(values).tolist()) for row in table]
        return header + newline.join(lines).encode()
    order = "<" if "little" in form else ">"
    return header + b"".join(
        struct.pack(f"{order}{len(values)}{code}", *values) for row in table for code, values in row
    )


def stl_text(points, polygons, folder):
    loops = ["\n".join(f"VERTEX {row}" for row in rows(t).splitlines()) for t in points[as_triangles(points, polygons)]]
    facets = "\n".join(f"facet normal 0 0 1\n outer loop\n{loop}\nendloop\nendfacet" for loop in loops)
    return f"solid\n{facets}\nendsolid\n"


def stl_binary(points, polygons, folder):
    triangles = points[as_triangles(points, polygons)]
    body = b"".join(struct.pack("<12fH", 0, 0, 1, *t.ravel(), 0) for t in triangles)
    return b"solid though binary".ljust(80) + struct.pack("<I", len(triangles)) + body


def gltf_document(points, polygons, quantized, sparse):
    """A document and its buffer; strided positions, one node above another, moved by both."""
    faces = as_triangles(points, polygons).astype("<u2").tobytes()
    if quantized:  # sixteenths, of which 32767 are normalised to 1
        kind, scale, stride = 5122, 32767 / 16, 8
        values = np.pad(np.round(points * 16), ((0, 0), (0, 1))).astype("<i2")
    else:
        kind, scale, stride = 5126, 1.0, 12
        values = points.astype("<f4")
    replaced = np.zeros(4, "<u2").tobytes() + values[:1].tobytes()
    if sparse:
        values = values.copy()
        values[0] = 99
    parts = [values.tobytes(), faces, replaced]
    start = np.cumsum([0, *map(len, parts)]).tolist()
    position = {"bufferView": 0, "componentType": kind, "normalized": quantized, "count": len(points), "type": "VEC3"}
    views = [{"buffer": 0, "byteOffset": start[0], "byteLength": len(parts[0]), "byteStride": stride}]
    views += [
        {"buffer": 0, "byteOffset": at, "byteLength": len(p)} for at, p in zip(start[1:], parts[1:], strict=False)
    ]
    if sparse:
        where = {"bufferView": 2, "componentType": 5123}
        position["sparse"] = {"count": 1, "indices": where, "values": {"bufferView": 2, "byteOffset": 8}}
    half = np.sqrt(0.5)
    required = ["KHR_mesh_quantization"] if quantized else []
    document = {
        "asset": {"version": "2.0"},
        "extensionsRequired": required,
        "scenes": [{"nodes": [1]}],
        "nodes": [
            {"mesh": 0, "scale": [scale] * 3, "rotation": [0, 0, -half, half], "translation": [0, 0, 5]},
            # A quarter turn back, and the shift undone: the transforms cancel.
            {"children": [0], "matrix": [0, 1, 0, 0, -1, 0, 0, 0, 0, 0, 1, 0, 0, 0, -5, 1]},
        ],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [position, {"bufferView": 1, "componentType": 5123, "count": len(faces) // 2, "type": "SCALAR"}],
        "bufferViews": views,
        "buffers": [{"byteLength": start[-1]}],
    }
    return document, b"".join(parts)


def glb(points, polygons, folder, quantized=False, sparse=False):
    document, buffer = gltf_document(points, polygons, quantized, sparse)
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    buffer += b"\0" * (-len(buffer) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(buffer), b"BIN\0") + buffer
    return b"glTF" + struct.pack("<II", 2, 12 + len(chunks)) + chunks


def gltf(points, polygons, folder, inline):
    document, buffer = gltf_document(points, polygons, False, False)
    (folder / "a b.bin").write_bytes(buffer)
    data = "data:application/octet-stream;base64," + base64.b64encode(buffer).decode()
    document["buffers"][0]["uri"] = data if inline else "a%20b.bin"
    return json.dumps(document)


def mni(points, polygons, folder, colors=0):
    number = (1, len(polygons), len(points))[colors]
    ends = np.cumsum([len(p) for p in polygons]).tolist()
    flat = [v for p in polygons for v in p]
    parts = [f"P 0.3 0.3 0.4 10 1 {len(points)}", rows(points), rows(np.ones_like(points)), len(polygons), colors]
    return "\n".join(map(str, [*parts, "0 1 1 1\n" * number, *ends, *flat])) + "\n"


def vtk_legacy(points, polygons, folder, binary):
    table = [[len(p), *p] for p in polygons]
    size = sum(map(len, table))
    flat = [v for row in table for v in row]
    text = [b"# vtk DataFile Version 3.0\na surface\n", b"BINARY\n" if binary else b"ASCII\n", b"DATASET POLYDATA\n"]
    text += [f"POINTS {len(points)} float\n".encode()]
    text += [points.astype(">f4").tobytes() if binary else rows(points).encode()]
    text += [f"\nPOLYGONS {len(polygons)} {size}\n".encode()]
    text += [np.array(flat, ">i4").tobytes() if binary else " ".join(map(str, flat)).encode(), b"\n"]
    return b"".join(text)


def vtk_xml(points, polygons, folder, kind, mode):
    """As vtk itself writes it."""
    pytest.importorskip("vtkmodules")
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData, vtkUnstructuredGrid
    from vtkmodules.vtkIOXML import vtkXMLPolyDataWriter, vtkXMLUnstructuredGridWriter

    places, cells = vtkPoints(), vtkCellArray()
    places.SetData(numpy_to_vtk(points, deep=True))
    for polygon in polygons:
        cells.InsertNextCell(len(polygon), polygon)
    data, writer = (
        (vtkPolyData(), vtkXMLPolyDataWriter())
        if kind == "vtp"
        else (vtkUnstructuredGrid(), vtkXMLUnstructuredGridWriter())
    )
    data.SetPoints(places)
    if kind == "vtp":
        data.SetPolys(cells)
    else:
        data.SetCells([{3: 5, 4: 9}.get(len(p), 7) for p in polygons], cells)
    writer.SetInputData(data)
    writer.SetFileName(str(folder / "written"))
    {"ascii": writer.SetDataModeToAscii, "base64": writer.SetDataModeToBinary}.get(mode, writer.SetDataModeToAppended)()
    if mode == "raw":
        writer.EncodeAppendedDataOff()
        writer.SetByteOrderToBigEndian()
    if mode == "lz4":
        writer.SetCompressorTypeToLZ4()
    writer.Write()
    return (folder / "written").read_bytes()


def gifti(points, polygons, folder, order="<", columns=False):
    """With its numbers in a file of its own, behind other bytes."""
    pytest.importorskip("nibabel")
    faces = as_triangles(points, polygons)
    layout = "F" if columns else "C"
    parts = [b"other bytes ", points.astype(order + "f4").tobytes(layout), faces.astype(order + "i4").tobytes(layout)]
    (folder / "numbers").mkdir(exist_ok=True)
    (folder / "numbers" / "a&b.dat").write_bytes(b"".join(parts))
    end = "LittleEndian" if order == "<" else "BigEndian"
    indexing = "ColumnMajorOrder" if columns else "RowMajorOrder"

    def array(intent, kind, number, offset):
        return (
            f'<DataArray Intent="NIFTI_INTENT_{intent}" DataType="NIFTI_TYPE_{kind}" ArrayIndexingOrder="{indexing}" '
            f'Dimensionality="2" Dim0="{number}" Dim1="3" Encoding="ExternalFileBinary" Endian="{end}" '
            f'ExternalFileName="numbers/a&amp;b.dat" ExternalFileOffset="{offset}"><MetaData/><Data></Data></DataArray>'
        )

    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<GIFTI Version="1.0" NumberOfDataArrays="2"><MetaData/>'
        + array("POINTSET", "FLOAT32", len(points), 12)
        + array("TRIANGLE", "INT32", len(faces), 12 + len(parts[1]))
        + "</GIFTI>"
    )


DIALECTS = {
    "absolute.obj": obj,
    "relative.obj": lambda *mesh: obj(*mesh, relative=True),
    "normals.obj": lambda *mesh: obj(*mesh, corner="{}//1"),
    "texture.obj": lambda *mesh: obj(*mesh, corner="{}/-1/-1", relative=True),
    "interleaved.obj": obj_interleaved,
    "plain.off": off,
    "joined.off": lambda *mesh: off(*mesh, header="OFF"),
    "one_line.off": lambda *mesh: off(*mesh, header="OFF "),
    "no_header.off": lambda *mesh: off(*mesh, header=""),
    "two_counts.off": lambda *mesh: off(*mesh, counts="{} {}\n"),
    "colors.off": lambda *mesh: off(*mesh, header="COFF\n", extra=" 255 0 0 255", face_extra=" 0.5 0.5 0.5"),
    "normals.off": lambda *mesh: off(*mesh, header="NOFF\n", extra=" 0 0 1", face_extra=" 3"),
    "stream.off": off_in_one_line,
    "text.ply": ply,
    "crlf.ply": lambda *mesh: ply(*mesh, newline="\r\n", name="vertex_index"),
    "little.ply": lambda *mesh: ply(*mesh, "binary_little_endian", "int", "uint"),
    "big.ply": lambda *mesh: ply(*mesh, "binary_big_endian", "ushort", "ushort", "vertex_index"),
    "big_crlf.ply": lambda *mesh: ply(*mesh, "binary_big_endian", "uint8", "int32", newline="\r\n"),
    "text.stl": stl_text,
    "binary.stl": stl_binary,
    "float.glb": glb,
    "quantized.glb": lambda *mesh: glb(*mesh, quantized=True),
    "sparse.glb": lambda *mesh: glb(*mesh, sparse=True),
    "inline.gltf": lambda *mesh: gltf(*mesh, inline=True),
    "beside.gltf": lambda *mesh: gltf(*mesh, inline=False),
    "mni.obj": mni,
    "mni_per_polygon.obj": lambda *mesh: mni(*mesh, colors=1),
    "mni_per_point.obj": lambda *mesh: mni(*mesh, colors=2),
    "text.vtk": lambda *mesh: vtk_legacy(*mesh, binary=False),
    "binary.vtk": lambda *mesh: vtk_legacy(*mesh, binary=True),
    "ascii.vtp": lambda *mesh: vtk_xml(*mesh, "vtp", "ascii"),
    "base64.vtp": lambda *mesh: vtk_xml(*mesh, "vtp", "base64"),
    "raw.vtp": lambda *mesh: vtk_xml(*mesh, "vtp", "raw"),
    "lz4.vtu": lambda *mesh: vtk_xml(*mesh, "vtu", "lz4"),
    "little.gii": gifti,
    "big.gii": lambda *mesh: gifti(*mesh, order=">"),
    "columns.gii": lambda *mesh: gifti(*mesh, columns=True),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=8)
@given(mesh=meshes())
def test_every_dialect_is_read_as_the_same_triangles(dialect, mesh):
    if dialect.endswith((".vtk", ".vtp", ".vtu")):
        pytest.importorskip("vtkmodules")
    points, polygons = mesh
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / dialect
        data = DIALECTS[dialect](points, polygons, Path(name))
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*(vertices that no triangle uses|faces once)")
            geometry = read_geometry(path)
    assert corners(geometry.positions, geometry.faces) == corners(points, as_triangles(points, polygons))


@settings(max_examples=40)
@given(mesh=meshes(), seed=st.integers(0, 99))
def test_polygons_stored_twice_in_either_winding_are_used_once(mesh, seed):
    points, polygons = mesh
    rng = np.random.default_rng(seed)
    turned = [np.roll(polygon[:: rng.choice([-1, 1])], rng.integers(6)).tolist() for polygon in polygons]
    once, twice = Polygons.of(polygons + turned).once()
    assert twice == len(polygons)
    np.testing.assert_array_equal(once.triangles(points)[0], as_triangles(points, polygons))


@settings(max_examples=60)
@given(st.integers(4, 12), st.integers(0, 2**16))
def test_triangles_of_a_star_shaped_polygon_have_its_area(size, seed):
    rng = np.random.default_rng(seed)
    angle = (np.arange(size) + rng.uniform(0, 0.9, size)) * 2 * np.pi / size
    flat = (rng.uniform(0.1, 1, size) * np.stack([np.cos(angle), np.sin(angle)])).T
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    points = np.pad(flat, ((0, 0), (0, 1))) @ turn.T + rng.normal(size=3)
    x, y = flat.T
    area = (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2
    order = np.arange(size)[:: rng.choice([-1, 1])]
    triangles, crossed = Polygons.of([order.tolist()]).triangles(points)
    assert crossed == 0
    a, b, c = (flat[triangles[:, k]] for k in range(3))
    signed = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
    # All turned alike: they do not overlap, so that together they are the polygon.
    assert (signed > 0).all() or (signed < 0).all()
    assert abs(signed.sum()) == pytest.approx(area)


def test_polygons_that_cross_themselves_are_said(tmp_path):
    (tmp_path / "tie.obj").write_text("v 0 0 0\nv 1 1 0\nv 1 0 0\nv 0 1 0\nf 1 2 3 4\n")
    with pytest.warns(UserWarning, match="cut 1 polygons that cross themselves into fans"):
        assert read_geometry(tmp_path / "tie.obj").faces.shape == (2, 3)


def test_a_polygon_with_a_hole_over_a_bridge():
    outer, inner = [(0, 0), (4, 0), (4, 4), (0, 4)], [(1, 1), (1, 3), (3, 3), (3, 1)]
    points = np.pad(np.array(outer + inner, dtype=float), ((0, 0), (0, 1)))
    triangles, crossed = Polygons.of([[0, 1, 2, 3, 0, 4, 5, 6, 7, 4]]).triangles(points)
    a, b, c = (points[triangles[:, k]] for k in range(3))
    areas = np.cross(b - a, c - a)[:, 2] / 2
    assert crossed == 0
    assert (areas >= 0).all()
    assert areas.sum() == pytest.approx(12)
