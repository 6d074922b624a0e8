"""VTK surfaces, through vtk: the legacy format in text and binary, and XML (``.vtp``, ``.vtu``) in every encoding."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.geometry.readers.files import Source, optional
from colgraph.geometry.readers.meshes.polygons import Mesh, Polygons, passed_over

# Numbers of the cells that are flat, with straight sides.
_VERTEX, _POLY_VERTEX, _LINE, _POLY_LINE, _TRIANGLE, _STRIP, _POLYGON, _PIXEL, _QUAD = range(1, 10)
_CELLS = re.compile(rb"\n(?:VERTICES|LINES|POLYGONS|TRIANGLE_STRIPS|CELLS) +(\d+) +(\d+) *\r?\n")
_PASSED_OVER = {_VERTEX: "points", _POLY_VERTEX: "points", _LINE: "lines", _POLY_LINE: "lines"}


def read_vtk(source: Source) -> Mesh:
    """Vertices and polygons of a PolyData or UnstructuredGrid file; triangle strips are read, lines are passed over.

    Raises:
        ValueError: for a broken file, another kind of data set, and cells that are no flat faces, by their names.
        ImportError: if vtk is not installed.
    """
    data = _read(source)
    if data.IsA("vtkPolyData"):
        kinds = (
            (_VERTEX, data.GetVerts()), (_LINE, data.GetLines()), (_POLYGON, data.GetPolys()),
            (_STRIP, data.GetStrips()),
        )  # fmt: skip
        cells = [(np.full(array.GetNumberOfCells(), kind), *_cells(array)) for kind, array in kinds]
    elif data.IsA("vtkUnstructuredGrid"):
        cells = [(_integers(data.GetCellTypes()), *_cells(data.GetCells()))]
    else:
        raise ValueError(f"holds a {data.GetClassName()}, not a surface: save it as PolyData (.vtp)")
    points = optional("vtkmodules.util.numpy_support", "vtk").vtk_to_numpy
    places = np.empty((0, 3)) if data.GetPoints() is None else points(data.GetPoints().GetData()).astype(np.float64)
    parts, notes = [], Counter[str]()
    for types, corners, sizes in cells:
        parts.append(_polygons(types, corners, sizes, notes))
    polygons = Polygons.joined(parts)
    if not any(types.size for types, _, _ in cells):
        raise ValueError(f"holds {len(places)} points and no cells: it is empty or cut short")
    lone = not polygons.sizes.size and set(notes) == {"points"}  # a point cloud
    return Mesh(places, polygons, [] if lone else passed_over(notes))


def _read(source: Source) -> Any:
    """The data set of a file, as vtk reads it; what vtk would print is raised."""
    core = optional("vtkmodules.vtkCommonCore", "vtk")
    _check_sizes(source.data)
    if source.data.lstrip().startswith(b"<"):
        xml = optional("vtkmodules.vtkIOXML", "vtk")
        reader = xml.vtkXMLGenericDataObjectReader()
    else:
        reader = optional("vtkmodules.vtkIOLegacy", "vtk").vtkGenericDataObjectReader()
    with _heard(core) as said, source.on_disk() as path:
        reader.SetFileName(path)
        reader.Update()
        data = reader.GetOutput()
    text = " ".join(said.GetOutput().split())
    if text or data is None:
        cause = text.partition("): ")[2] or text or "no data set in it"
        raise ValueError(f"not readable as VTK (broken, cut short, or of another kind): {cause[:120]}")
    return data


def _check_sizes(data: bytes) -> None:
    """Raise where the cells of a binary legacy file do not add up: vtk would read beyond its memory, and crash."""
    if data[:200].split(b"\n")[2:3] != [b"BINARY"] or b"OFFSETS" in data:
        return
    for found in _CELLS.finditer(data):
        number, size = int(found[1]), int(found[2])
        body = data[found.end() : found.end() + 4 * size]
        values = np.frombuffer(body, ">i4", len(body) // 4).tolist()
        at = 0
        for _ in range(number):
            at += 1 + values[at] if at < len(values) and values[at] >= 0 else size + 1
        if at != size or len(values) != size:
            raise ValueError("not readable as VTK (broken or cut short): its cells are not as long as it says")


@contextmanager
def _heard(core: Any) -> Iterator[Any]:
    """Keep what vtk says about errors, which it would print in several lines."""
    said, window = core.vtkStringOutputWindow(), core.vtkOutputWindow.GetInstance()
    logger, verbosity = core.vtkLogger, core.vtkLogger.GetCurrentVerbosityCutoff()
    core.vtkOutputWindow.SetInstance(said)
    logger.SetStderrVerbosity(logger.VERBOSITY_OFF)
    try:
        yield said
    finally:
        core.vtkOutputWindow.SetInstance(window)
        logger.SetStderrVerbosity(verbosity)


def _polygons(types: NDArray[Any], corners: NDArray[Any], sizes: NDArray[Any], notes: Counter[str]) -> Polygons:
    """Cells of any kind as polygons, in their order but for strips, which come last."""
    flat = Polygons(corners, sizes)
    strips = flat.take(types == _STRIP)
    for kind in np.unique(types).tolist():
        if kind in _PASSED_OVER:
            notes[_PASSED_OVER[kind]] += int((types == kind).sum())
        elif kind not in (_TRIANGLE, _STRIP, _POLYGON, _PIXEL, _QUAD):
            name = optional("vtkmodules.vtkCommonDataModel", "vtk").vtkCellTypes.GetClassNameFromTypeId(kind)
            raise ValueError(f"holds cells of the kind {name}, not a surface: extract the surface first (PolyData)")
    # A pixel counts its corners by rows, a quad around.
    start = np.cumsum(sizes) - sizes
    pixel = start[types == _PIXEL]
    around = corners.copy()
    around[pixel + 2], around[pixel + 3] = corners[pixel + 3], corners[pixel + 2]
    faces = Polygons(around, sizes).take(np.isin(types, (_TRIANGLE, _POLYGON, _PIXEL, _QUAD)))
    return Polygons.joined([faces, strips.unstripped()])


def _cells(cells: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The corners of all cells, one after the other, and how many each has."""
    return _integers(cells.GetConnectivityArray()), np.diff(_integers(cells.GetOffsetsArray()))


def _integers(array: Any) -> NDArray[np.int64]:
    """A copy of any of vtk's arrays of integers."""
    plain = optional("vtkmodules.vtkCommonCore", "vtk").vtkIdTypeArray()
    if array is not None:
        plain.DeepCopy(array)
    return np.asarray(optional("vtkmodules.util.numpy_support", "vtk").vtk_to_numpy(plain)).astype(np.int64)
