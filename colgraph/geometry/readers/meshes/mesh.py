"""Triangle meshes and point clouds: each format by a reader of its own, the rest through trimesh."""

from __future__ import annotations

import io
import logging
import re
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.geometry.base import Geometry
from colgraph.geometry.readers.files import Source, optional, parsing
from colgraph.geometry.readers.lengths import as_number
from colgraph.geometry.readers.meshes.gltf import read_gltf
from colgraph.geometry.readers.meshes.obj import is_mni, read_mni, read_wavefront
from colgraph.geometry.readers.meshes.off import read_off
from colgraph.geometry.readers.meshes.ply import read_ply
from colgraph.geometry.readers.meshes.polygons import Mesh, Polygons, moved
from colgraph.geometry.readers.meshes.stl import read_stl
from colgraph.geometry.readers.meshes.triangles import surface_geometry
from colgraph.geometry.readers.meshes.vtk import read_vtk

_READERS: dict[str, Callable[[Source], Mesh]] = {
    "obj": lambda source: (read_mni if is_mni(source.data) else read_wavefront)(source.data),
    "ply": lambda source: read_ply(source.data),
    "stl": lambda source: read_stl(source.data),
    "off": lambda source: read_off(source.data),
    "glb": read_gltf,
    "gltf": read_gltf,
    "xyz": lambda source: _read_xyz(source.text),
    "vtk": read_vtk,
    "vtp": read_vtk,
    "vtu": read_vtk,
    "dae": lambda source: _read_trimesh(source),
    "3mf": lambda source: _read_trimesh(source),
}
VTK_SUFFIXES = ("vtk", "vtp", "vtu")
MESH_SUFFIXES = tuple(suffix for suffix in _READERS if suffix not in VTK_SUFFIXES)

# Formats in which points alone are a file of their own; elsewhere a mesh without faces is an empty or a cut one.
_POINT_SUFFIXES = ("ply", "xyz", "glb", "gltf", *VTK_SUFFIXES)
_PACKAGES = {"dae": "pycollada", "3mf": "lxml"}

# 3MF extensions whose shapes trimesh reads, or that say nothing about shapes.
_3MF_HONOURED = ("/production/", "/material/")


def read_mesh(source: Source, *, merge_vertices: bool | None = None) -> Geometry:
    """Read a mesh or a point cloud.

    Polygons are cut into triangles, faces that are stored twice are used once, the parts of a scene become one mesh,
    vertices that no face uses and faces that use a vertex twice are dropped (with a warning).

    Args:
        source: the file.
        merge_vertices: make one column of vertices with exactly the same coordinates. STL repeats every vertex once
            per triangle; other formats do so along seams of texture, where the surface would otherwise be cut. None
            does so, except for MNI's ``.obj`` files: the vertices of a cortical surface are all kept, in their order.

    Raises:
        ValueError: for an empty, broken or incomplete file, for one that holds curves and no mesh, and for one that
            uses what cannot be read, by its name.
        ImportError: if the package that reads the format is not installed.
    """
    with parsing(source.suffix.upper(), own=True):
        mesh = _READERS[source.suffix](source)
    cortical = source.suffix == "obj" and is_mni(source.data)
    return _geometry(
        mesh,
        name=source.name,
        merge_vertices=not cortical if merge_vertices is None else merge_vertices,
        drop_unused=not cortical,
        points_allowed=source.suffix in _POINT_SUFFIXES,
        quiet_merge=source.suffix == "stl",
    )


def mesh_geometry(loaded: Any, *, name: str, merge_vertices: bool, drop_unused: bool) -> Geometry:
    """A geometry from a ``trimesh.Trimesh``, ``PointCloud`` or ``Scene`` (whose parts are put into one frame)."""
    return _geometry(_mesh_of_trimesh(loaded), name=name, merge_vertices=merge_vertices, drop_unused=drop_unused)


def _geometry(mesh: Mesh, *, name: str, points_allowed: bool = True, **options: bool) -> Geometry:
    if mesh.polygons.sizes.size:
        return surface_geometry(mesh.points, mesh.polygons, name=name, notes=mesh.notes, **options)
    if points_allowed and len(mesh.points) and not mesh.notes:
        return Geometry(mesh.points, metric="euclidean", name=name)
    hint = "; point clouds are read from .ply and .xyz" if len(mesh.points) else ""
    said = "".join(f" ({note})" for note in mesh.notes)
    raise ValueError(f"holds {len(mesh.points)} vertices and no triangle{said}: it is empty or cut short{hint}")


def _read_xyz(text: str) -> Mesh:
    """Points, one a line: x, y, z and perhaps more, which is not looked at; a first line of words is a header.

    Headers that name x, y and z say which columns those are, in a comment too.
    """
    lines: list[str] = []
    comments: list[str] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        (comments if line.startswith(("#", "//")) else lines).append(line)
    rows = [_fields(line) for line in lines]
    if rows and len(rows[0]) == 1 and rows[0][0].isdigit() and int(rows[0][0]) == len(rows) - 1:
        rows, lines = rows[1:], lines[1:]  # the number of points, as some scanners write it
    heads = [_fields(line.lstrip("#/ ")) for line in comments]
    if rows and all(as_number(word) is None for word in rows[0]):
        heads.append(rows[0])
        rows, lines = rows[1:], lines[1:]
    heads = [[word.lower() for word in head] for head in heads if rows and len(head) == len(rows[0])]
    named = next((head for head in reversed(heads) if {"x", "y", "z"} <= set(head)), None)
    places = [0, 1, 2] if named is None else [named.index(axis) for axis in "xyz"]
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(rows[0]) or len(row) < 3 or None in (as_number(row[place]) for place in places):
            raise ValueError(f"not readable as XYZ: a line has 3 numbers or more, all lines as many, got {line[:60]!r}")
    points = np.array([[row[place] for place in places] for row in rows], dtype=np.float64)
    return Mesh(points.reshape(-1, 3), Polygons.joined([]), [])


def _fields(line: str) -> list[str]:
    """The words of a line; a comma within one of several words is a decimal comma."""
    words = line.split(";") if ";" in line else line.split()
    if len(words) > 2 and any(re.search(r"\d,\d", word) for word in words):
        return [word.strip().replace(",", ".") for word in words]
    return [word.strip() for word in words] if ";" in line else re.split(r"\s*,\s*|\s+", line)


# ---------------------------------------------------------------------- through trimesh


def _read_trimesh(source: Source) -> Mesh:
    """What trimesh makes of a file, as it stands: nothing merged, reordered or repaired."""
    trimesh = optional("trimesh", "mesh")
    if source.suffix == "3mf":
        _check_3mf(source.data)
    try:
        with parsing(source.suffix.upper()), _unlogged("trimesh"):
            loaded = trimesh.load(
                io.BytesIO(source.data),
                file_type=source.suffix,
                resolver=trimesh.resolvers.FilePathResolver(str(source.path)),
                process=False,
                maintain_order=True,
                skip_materials=True,
            )
    except ValueError as error:
        if isinstance(error.__cause__, ImportError) and source.suffix in _PACKAGES:
            package = _PACKAGES[source.suffix]
            raise ImportError(
                f"reading .{source.suffix} needs the package {package}, which is not installed: pip install {package}"
            ) from error
        raise
    return _mesh_of_trimesh(loaded)


def _check_3mf(data: bytes) -> None:
    """Raise where a 3MF model requires an extension that trimesh passes over."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return  # trimesh says so
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            if not name.lower().endswith(".model"):
                continue
            spaces: dict[str, str] = {}
            for event, item in ET.iterparse(archive.open(name), events=("start-ns", "start")):
                if event == "start":
                    for prefix in item.get("requiredextensions", "").split():
                        space = spaces.get(prefix, prefix)
                        if not any(known in space for known in _3MF_HONOURED):
                            raise ValueError(f"requires the 3MF extension {space}, which cannot be read here")
                    break
                spaces[item[0]] = item[1]


@contextmanager
def _unlogged(name: str) -> Iterator[None]:
    """Keep a library from logging the errors that are raised anyway, with their tracebacks."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _mesh_of_trimesh(loaded: Any) -> Mesh:
    """All parts of a scene, transforms applied."""
    if not hasattr(loaded, "geometry"):
        return Mesh.joined([_piece(loaded)])
    pieces = []
    # Node names, not insertion order: readers number them by chance.
    for node in sorted(loaded.graph.nodes_geometry, key=str):
        transform, key = loaded.graph[node]
        points, faces = _piece(loaded.geometry[key])
        pieces.append((moved(points, np.asarray(transform)), faces))
    return Mesh.joined(pieces)


def _piece(part: Any) -> tuple[NDArray[np.float64], Polygons]:
    if hasattr(part, "entities"):
        raise ValueError("holds curves; a geometry needs a mesh or points")
    points = np.asarray(part.vertices, dtype=np.float64)
    if points.size and points.shape[1:] != (3,):
        raise ValueError(f"vertices must have 3 coordinates each, got an array of shape {list(points.shape)}")
    return points.reshape(-1, 3), Polygons.of_triangles(getattr(part, "faces", ()))
