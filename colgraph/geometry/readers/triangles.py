"""Vertices and triangles as files hold them, made into what a geometry can use."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.geometry.base import Geometry
from colgraph.geometry.readers.files import warn

__all__ = ["surface_geometry"]


def surface_geometry(
    positions: Any,
    faces: Any,
    *,
    name: str,
    merge_vertices: bool,
    drop_unused: bool,
    quiet_merge: bool = False,
) -> Geometry:
    """A geometry from vertices ``[V,3]`` and triangles ``[F,3]``.

    Triangles that use a vertex twice are dropped; a warning counts what was merged or dropped.

    Args:
        positions: vertices.
        faces: triangles.
        name: what the geometry is called.
        merge_vertices: make one of all vertices with exactly the same coordinates.
        drop_unused: drop vertices that no triangle uses.
        quiet_merge: do not warn about merged vertices, for formats that repeat every vertex.

    Raises:
        ValueError: if there is no triangle, or one refers to a vertex that is not there.
    """
    points = np.asarray(positions, dtype=np.float64)
    triangles = np.asarray(faces, dtype=np.int64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"vertices must have 3 coordinates each, got an array of shape {list(points.shape)}")
    if not triangles.size:
        raise ValueError(f"holds {len(points)} vertices and no triangle: it is empty or cut short")
    low, high = int(triangles.min()), int(triangles.max())
    if low < 0 or high >= len(points):
        raise ValueError(
            f"a triangle refers to vertex {low if low < 0 else high}, but there are {len(points)} vertices"
        )
    notes = []
    if merge_vertices:
        points, triangles, merged = _merge(points, triangles)
        if merged and not quiet_merge:
            notes.append(f"merged {merged} vertices into others at the same place (merge_vertices=False keeps them)")
    triangles, degenerate = _drop_degenerate(triangles)
    if degenerate:
        notes.append(f"dropped {degenerate} triangles that use a vertex twice")
    if drop_unused:
        points, triangles, unused = _drop_unused(points, triangles)
        if unused:
            notes.append(f"dropped {unused} vertices that no triangle uses")
    geometry = Geometry(points, faces=triangles, metric="euclidean", name=name)
    warn(name, notes)
    return geometry


def _merge(points: NDArray[Any], triangles: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], int]:
    """One vertex per place, in the order in which places first occur. Adding 0 makes -0 and 0 the same place."""
    _, first, place = np.unique(points + 0.0, axis=0, return_index=True, return_inverse=True)
    if len(first) == len(points):
        return points, triangles, 0
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return points[first[order]], rank[place.reshape(-1)][triangles], len(points) - len(first)


def _drop_degenerate(triangles: NDArray[Any]) -> tuple[NDArray[Any], int]:
    a, b, c = triangles.T
    good = (a != b) & (b != c) & (c != a)
    if not good.any():
        raise ValueError(f"the mesh is degenerate: each of its {len(good)} triangles uses a vertex twice")
    return triangles[good], int((~good).sum())


def _drop_unused(points: NDArray[Any], triangles: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], int]:
    used = np.zeros(len(points), dtype=bool)
    used[triangles] = True
    new_id = np.cumsum(used) - 1
    return points[used], new_id[triangles], int((~used).sum())
