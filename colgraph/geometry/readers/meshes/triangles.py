"""Vertices and triangles as files hold them, made into what a geometry can use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.geometry.base import Geometry
from colgraph.geometry.readers.files import warn
from colgraph.geometry.readers.meshes.polygons import Polygons


def surface_geometry(
    positions: Any,
    faces: Any,
    *,
    name: str,
    merge_vertices: bool,
    drop_unused: bool,
    quiet_merge: bool = False,
    notes: Sequence[str] = (),
) -> Geometry:
    """A geometry from vertices ``[V,3]`` and triangles ``[F,3]`` or polygons.

    Distance is measured along the surface: the banks of a sulcus are no neighbors. Faces that are stored twice, in
    either winding, are used once: they are the same piece of surface. Triangles that use a vertex twice are dropped; a
    warning counts what was merged or dropped.

    Args:
        positions: vertices.
        faces: triangles, or :class:`Polygons`, which are cut into triangles.
        name: what the geometry is called.
        merge_vertices: make one of all vertices with exactly the same coordinates.
        drop_unused: drop vertices that no triangle uses.
        quiet_merge: do not warn about merged vertices, for formats that repeat every vertex.
        notes: what the warning says besides.

    Raises:
        ValueError: if there is no face, or one refers to a vertex that is not there.
    """
    points = np.asarray(positions, dtype=np.float64)
    polygons = faces if isinstance(faces, Polygons) else Polygons.of_triangles(faces)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"vertices must have 3 coordinates each, got an array of shape {list(points.shape)}")
    if not polygons.corners.size:
        raise ValueError(f"holds {len(points)} vertices and no triangle: it is empty or cut short")
    polygons.check(len(points))
    said = list(notes)
    if merge_vertices:
        points, corners, merged = _merge(points, polygons.corners)
        polygons = Polygons(corners, polygons.sizes)
        if merged and not quiet_merge:
            said.append(f"merged {merged} vertices into others at the same place (merge_vertices=False keeps them)")
    triangles = _cut(points, polygons, said)
    if drop_unused:
        points, triangles, unused = _drop_unused(points, triangles)
        if unused:
            said.append(f"dropped {unused} vertices that no triangle uses")
    geometry = Geometry(points, faces=triangles, metric="geodesic", name=name)
    warn(name, said)
    return geometry


def _cut(points: NDArray[Any], polygons: Polygons, said: list[str]) -> NDArray[Any]:
    """Triangles of the polygons that are faces, each once; what was left out is added to ``said``."""
    thin = polygons.sizes < 3
    if thin.any():
        polygons = polygons.take(~thin)
        said.append(f"passed over {int(thin.sum())} faces with fewer than 3 corners")
        if thin.all():
            raise ValueError(f"none of its {thin.size} faces has 3 corners")
    polygons, twice = polygons.once()
    if twice:
        said.append(f"used {twice} faces once that are stored twice")
    triangles, crossed = polygons.triangles(points)
    if crossed:
        said.append(f"cut {crossed} polygons that cross themselves into fans")
    triangles, degenerate = _drop_degenerate(triangles)
    if degenerate:
        said.append(f"dropped {degenerate} triangles that use a vertex twice")
    return triangles


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
