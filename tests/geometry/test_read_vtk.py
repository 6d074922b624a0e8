"""VTK surfaces: cells of every kind, other data sets, and files that are broken."""

import numpy as np
import pytest

from colgraph.geometry.readers import read_geometry

pytest.importorskip("vtkmodules")

HEAD = "# vtk DataFile Version 3.0\nby hand\nASCII\n"
POINTS = "POINTS 4 float\n0 0 0 1 0 0 0 1 0 1 1 0\n"
GRID = HEAD + "DATASET UNSTRUCTURED_GRID\n" + POINTS
SURFACE = HEAD + "DATASET POLYDATA\n" + POINTS


def read(tmp_path, text, name="a.vtk"):
    (tmp_path / name).write_text(text)
    return read_geometry(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "faces"),
    [
        (SURFACE + "POLYGONS 2 9\n4 0 1 3 2\n3 0 1 2\n", [[0, 1, 3], [0, 3, 2], [0, 1, 2]]),
        (SURFACE + "TRIANGLE_STRIPS 1 5\n4 0 1 2 3\n", [[0, 1, 2], [2, 1, 3]]),
        (GRID + "CELLS 2 8\n3 0 1 2\n3 1 3 2\nCELL_TYPES 2\n5 5\n", [[0, 1, 2], [1, 3, 2]]),
        (GRID + "CELLS 1 5\n4 0 1 3 2\nCELL_TYPES 1\n9\n", [[0, 1, 3], [0, 3, 2]]),
        (GRID + "CELLS 1 5\n4 0 1 2 3\nCELL_TYPES 1\n8\n", [[0, 1, 3], [0, 3, 2]]),
        (GRID + "CELLS 1 5\n4 0 1 2 3\nCELL_TYPES 1\n6\n", [[0, 1, 2], [2, 1, 3]]),
        (
            HEAD.replace("3.0", "5.1") + "DATASET POLYDATA\n" + POINTS
            + "POLYGONS 3 6\nOFFSETS vtktypeint64\n0 3 6\nCONNECTIVITY vtktypeint64\n0 1 2 1 3 2\n",
            [[0, 1, 2], [1, 3, 2]],
        ),
    ],
)  # fmt: skip
def test_cells_of_every_flat_kind(tmp_path, text, faces):
    np.testing.assert_array_equal(read(tmp_path, text).faces, faces)


def test_xml_by_hand(tmp_path):
    text = (
        '<?xml version="1.0"?><VTKFile type="PolyData" version="0.1" byte_order="LittleEndian"><PolyData>'
        '<Piece NumberOfPoints="3" NumberOfPolys="1"><Points><DataArray type="Float32" NumberOfComponents="3" '
        'format="ascii">0 0 0 1 0 0 0 1 0</DataArray></Points><Polys><DataArray type="Int32" Name="connectivity" '
        'format="ascii">0 1 2</DataArray><DataArray type="Int32" Name="offsets" format="ascii">3</DataArray></Polys>'
        "</Piece></PolyData></VTKFile>"
    )
    geometry = read(tmp_path, text, "a.vtp")
    np.testing.assert_array_equal(geometry.faces, [[0, 1, 2]])
    np.testing.assert_array_equal(geometry.positions, [[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    with pytest.raises(ValueError, match=r"cut.vtp.*not readable as VTK"):
        read(tmp_path, text[:300], "cut.vtp")


def test_lines_beside_faces_are_said_and_points_alone_are_a_cloud(tmp_path):
    with pytest.warns(UserWarning, match="passed over 1 lines"):
        assert len(read(tmp_path, SURFACE + "LINES 1 3\n2 0 1\nPOLYGONS 2 8\n3 0 1 2\n3 1 3 2\n").faces) == 2
    cloud = read(tmp_path, SURFACE + "VERTICES 1 5\n4 0 1 2 3\n")
    assert cloud.faces is None
    assert cloud.num_columns == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SURFACE + "LINES 1 5\n4 0 1 2 3\n", "no triangle .passed over 1 lines"),
        (GRID + "CELLS 1 5\n4 0 1 2 3\nCELL_TYPES 1\n10\n", "cells of the kind vtkTetra, not a surface"),
        (HEAD + "DATASET STRUCTURED_POINTS\nDIMENSIONS 2 2 2\nORIGIN 0 0 0\nSPACING 1 1 1\n", "vtkStructuredPoints"),
        (SURFACE + "POLYGONS 2 8\n3 0 1 2\n", "not readable as VTK"),
        (SURFACE.replace("4 float", "9 float"), "not readable as VTK"),
        (SURFACE + "POLYGONS 1 4\n3 0 1 9\n", "vertex 9, but there are 4"),
        ("hello\n", "not readable as VTK"),
        ("<hello/>\n", "not readable as VTK"),
    ],
)
def test_what_is_no_surface_is_an_error_of_one_line(tmp_path, capfd, text, expected):
    with pytest.raises(ValueError, match=expected) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
