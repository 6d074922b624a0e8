"""Triangle meshes and point clouds, through trimesh."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.geometry.base import Geometry
from colgraph.geometry.readers.files import Source, optional, parsing
from colgraph.geometry.readers.triangles import surface_geometry

__all__ = ["MESH_SUFFIXES", "mesh_geometry", "read_mesh"]

MESH_SUFFIXES = ("obj", "ply", "stl", "off", "glb", "gltf", "xyz", "dae", "3mf")

# Formats in which points alone are a file of their own; elsewhere a mesh without faces is an empty or a cut one.
_POINT_SUFFIXES = ("ply", "xyz", "glb", "gltf")
_PACKAGES = {"dae": "pycollada", "3mf": "lxml"}


def read_mesh(source: Source, *, merge_vertices: bool = True) -> Geometry:
    """Read a triangle mesh or a point cloud.

    Polygons are cut into triangles, the parts of a scene become one mesh, vertices that no face uses and faces that use
    a vertex twice are dropped (with a warning).

    Args:
        source: the file.
        merge_vertices: make one column of vertices with exactly the same coordinates. STL repeats every vertex once
            per triangle; other formats do so along seams of texture, where the surface would otherwise be cut.

    Raises:
        ValueError: for an empty, broken or incomplete file, or one that holds curves and no mesh.
        ImportError: if trimesh is not installed.
    """
    trimesh = optional("trimesh", "mesh")
    if source.suffix == "off":
        with parsing("OFF"):
            points, faces = _read_off(source.text)
        return surface_geometry(points, faces, name=source.name, merge_vertices=merge_vertices, drop_unused=True)
    _check_complete(source)
    loaded = _load(trimesh, source)
    return mesh_geometry(
        loaded,
        name=source.name,
        merge_vertices=merge_vertices,
        drop_unused=True,
        points_allowed=source.suffix in _POINT_SUFFIXES,
        quiet_merge=source.suffix == "stl",
    )


def mesh_geometry(
    loaded: Any,
    *,
    name: str,
    merge_vertices: bool,
    drop_unused: bool,
    points_allowed: bool = True,
    quiet_merge: bool = False,
) -> Geometry:
    """A geometry from a ``trimesh.Trimesh``, ``PointCloud`` or ``Scene`` (whose parts are put into one frame)."""
    pieces = _pieces(loaded)
    meshes = [(p, f) for p, f in pieces if len(f)]
    if not meshes and points_allowed and any(len(p) for p, _ in pieces):
        return Geometry(np.concatenate([p for p, _ in pieces]), metric="euclidean", name=name)
    if not meshes:
        total = sum(len(p) for p, _ in pieces)
        hint = "; point clouds are read from .ply and .xyz" if total else ""
        raise ValueError(f"holds {total} vertices and no triangle: it is empty or cut short{hint}")
    starts = np.cumsum([0] + [len(p) for p, _ in meshes])
    return surface_geometry(
        np.concatenate([p for p, _ in meshes]),
        np.concatenate([f + start for (_, f), start in zip(meshes, starts, strict=False)]),
        name=name,
        merge_vertices=merge_vertices,
        drop_unused=drop_unused,
        quiet_merge=quiet_merge,
    )


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


def _load(trimesh: Any, source: Source) -> Any:
    """What trimesh makes of a file, as it stands: nothing merged, reordered or repaired."""
    resolver = trimesh.resolvers.FilePathResolver(str(source.path))
    try:
        with parsing(source.suffix.upper()), _unlogged("trimesh"):
            return trimesh.load(
                io.BytesIO(source.data),
                file_type=source.suffix,
                resolver=resolver,
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


def _pieces(loaded: Any) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Vertices and triangles of each part, transforms applied."""
    if not hasattr(loaded, "geometry"):
        return [_piece(loaded)]
    pieces = []
    # Node names, not insertion order: glTF readers number them by chance.
    for node in sorted(loaded.graph.nodes_geometry, key=str):
        transform, key = loaded.graph[node]
        points, faces = _piece(loaded.geometry[key])
        if not np.array_equal(transform, np.eye(4)):
            points = points @ np.asarray(transform)[:3, :3].T + np.asarray(transform)[:3, 3]
        pieces.append((points, faces))
    return pieces


def _piece(part: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    if hasattr(part, "entities"):
        raise ValueError("holds curves; a geometry needs a mesh or points")
    points = np.asarray(part.vertices, dtype=np.float64)
    if points.size and points.shape[1:] != (3,):
        raise ValueError(f"vertices must have 3 coordinates each, got an array of shape {list(points.shape)}")
    faces = np.asarray(getattr(part, "faces", ()), dtype=np.int64)
    return points.reshape(-1, 3), faces.reshape(-1, 3)


# ---------------------------------------------------------------------- text formats, which parsers read past their end


def _check_complete(source: Source) -> None:
    """Raise where a text file ends before it should: parsers drop the missing faces and say nothing."""
    check = {"ply": _check_ply, "stl": _check_stl, "obj": _check_obj}.get(source.suffix)
    if check is not None:
        check(source.data)


def _check_ply(data: bytes) -> None:
    header, found, body = data.partition(b"end_header")
    if not found or b"format ascii" not in header:
        return  # a binary body of the wrong length does not parse
    expected = sum(int(count) for count in re.findall(rb"(?m)^element\s+\S+\s+(\d+)", header))
    lines = sum(1 for line in body.splitlines() if line.strip())
    if lines < expected:
        raise ValueError(f"cut short: the header promises {expected} lines of vertices and faces, there are {lines}")


def _check_stl(data: bytes) -> None:
    if not data.lstrip().lower().startswith(b"solid") or b"facet" not in data[:2000].lower():
        return  # binary: its length is in the header
    last = data.rstrip().splitlines()[-1].strip().lower()
    if not last.startswith(b"endsolid"):
        raise ValueError(f"cut short: an ASCII STL ends with 'endsolid', this one with {last[:40].decode('latin-1')!r}")


def _check_obj(data: bytes) -> None:
    wrong = re.search(rb"(?m)^[ \t]*(f([ \t]+[^\s#\\]+){0,2}|v([ \t]+[^\s#\\]+){0,2})[ \t\r]*$", data)
    if wrong is not None:
        line = data[: wrong.start()].count(b"\n") + 1
        text = wrong.group(0).strip().decode("latin-1")
        raise ValueError(f"line {line} is incomplete: {text!r} (a vertex has 3 coordinates, a face 3 vertices or more)")


def _read_off(text: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices and triangles of an OFF file; polygons are cut into fans."""
    lines = [kept for line in text.splitlines() if (kept := line.partition("#")[0].strip())]
    header = lines[0].split()
    if not header[0].upper().endswith("OFF") or "BINARY" in lines[0].upper():
        raise ValueError(f"the first line of a text OFF file is 'OFF', this one starts with {lines[0][:40]!r}")
    counts, body = (header[1:], lines[1:]) if len(header) > 1 else (lines[1].split(), lines[2:])
    num_vertices, num_faces = int(counts[0]), int(counts[1])
    if len(body) < num_vertices + num_faces:
        raise ValueError(f"it promises {num_vertices} vertices and {num_faces} faces, but has {len(body)} lines")
    points = np.array([line.split()[:3] for line in body[:num_vertices]], dtype=np.float64).reshape(num_vertices, 3)
    triangles: list[list[int]] = []
    for line in body[num_vertices : num_vertices + num_faces]:
        size, *rest = line.split()
        corners = [int(value) for value in rest[: int(size)]]
        if len(corners) != int(size) or len(corners) < 3:
            raise ValueError(f"a face has 3 vertices or more, and as many as it says: {line!r}")
        triangles.extend([corners[0], b, c] for b, c in pairwise(corners[1:]))
    return points, np.array(triangles, dtype=np.int64).reshape(-1, 3)
