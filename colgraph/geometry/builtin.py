"""Geometries made from a formula: grids, rings, spheres, stacks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from colgraph.edges import edge_codes, face_sides
from colgraph.geometry.base import Geometry
from colgraph.geometry.registry import register_geometry


@register_geometry("grid")
def grid(shape: tuple[int, int] = (32, 32), spacing: float = 1.0) -> Geometry:
    """A flat rectangular grid.

    Column ``row * width + column`` sits at ``(column, row, 0) * spacing``. No inputs and outputs of its own.

    Args:
        shape: rows and columns of the grid.
        spacing: distance between neighbors.
    """
    return Geometry(_lattice(*_shape(shape)) * _positive(spacing, "spacing"), name="grid")


@register_geometry("hexagonal")
def hexagonal(shape: tuple[int, int] = (32, 32), spacing: float = 1.0) -> Geometry:
    """A flat hexagonal grid: away from the border every column has six neighbors at one distance.

    Every second row is shifted by half a spacing; rows are ``sqrt(3)/2`` spacings apart.

    Args:
        shape: rows, and columns in a row.
        spacing: distance between neighbors.
    """
    points = _lattice(*_shape(shape))
    points[:, 0] += 0.5 * (points[:, 1] % 2)
    points[:, 1] *= math.sqrt(3) / 2
    return Geometry(points * _positive(spacing, "spacing"), name="hexagonal")


@register_geometry("torus")
def torus(shape: tuple[int, int] = (32, 32), spacing: float = 1.0) -> Geometry:
    """A rectangular grid whose opposite borders meet: periodic distance, no border at all.

    Positions are those of the flat grid; a row of n columns has period ``n * spacing``.

    Args:
        shape: rows and columns of the grid.
        spacing: distance between neighbors.
    """
    rows, columns = _shape(shape)
    step = _positive(spacing, "spacing")
    return Geometry(
        _lattice(rows, columns) * step, metric="periodic", period=(columns * step, rows * step, 0.0), name="torus"
    )


@register_geometry("ring")
def ring(columns: int = 256, spacing: float = 1.0) -> Geometry:
    """Columns evenly spaced on a circle; distance is measured along it.

    Args:
        columns: how many.
        spacing: length of the arc between neighbors.
    """
    n = _count(columns, "columns", 1)
    angle = 2 * np.pi * np.arange(n) / n
    radius = n * _positive(spacing, "spacing") / (2 * np.pi)
    return Geometry(radius * np.stack([np.cos(angle), np.sin(angle)], 1), metric="great_circle", name="ring")


@register_geometry("sphere")
def sphere(subdivisions: int = 4, radius: float = 1.0) -> Geometry:
    """A sphere of nearly evenly spaced columns (an icosphere) with great-circle distance; the axis is z, upwards.

    ``10 * 4**subdivisions + 2`` columns: 42, 162, 642, 2562, 10242, 40962, 163842, ... Vertices are nested: the
    leading ones are those of the coarser spheres.

    Args:
        subdivisions: how often every triangle of the icosahedron is cut into four.
        radius: of the sphere.
    """
    points, faces = icosphere(_count(subdivisions, "subdivisions", 0, 10))
    return Geometry(
        points * _positive(radius, "radius"), faces=faces, metric="great_circle", axis=(0.0, 0.0, 1.0), name="sphere"
    )


@register_geometry("stack")
def stack(
    widths: Sequence[int] = (8, 8, 8, 8, 8, 8),
    layer_distance: float = 2.0,
    direction: Literal["both", "forward", "forward+lateral"] = "both",
    same_extent: bool = False,
) -> Geometry:
    """Layers of square grids above each other; inputs are the first layer, outputs the last, the axis is z.

    A layer of width w has ``w * w`` columns, evenly spaced from -w/2 to w/2 in both directions (a single one at 0).

    Args:
        widths: the width of each layer, from input to output.
        layer_distance: distance between one layer and the next.
        direction: "both" allows connections between any two layers, "forward" only from each layer to the next,
            "forward+lateral" also within a layer.
        same_extent: spread every layer over the extent of the widest.
    """
    sizes = [_count(width, "widths", 1) for width in widths]
    if not sizes:
        raise ValueError("widths are empty: a stack needs at least one layer")
    gap = _positive(layer_distance, "layer_distance")
    layers = []
    for index, width in enumerate(sizes):
        extent = max(sizes) if same_extent else width
        side = np.linspace(-extent / 2, extent / 2, width) if width > 1 else np.zeros(1)
        y, x = np.meshgrid(side, side, indexing="ij")
        layers.append(np.stack([x.ravel(), y.ravel(), np.full(width * width, index * gap)], 1))
    layer = np.repeat(np.arange(len(sizes)), [width * width for width in sizes])
    return Geometry(
        np.concatenate(layers),
        layer=layer,
        direction=direction,
        axis=(0.0, 0.0, 1.0),
        inputs=np.flatnonzero(layer == 0),
        outputs=np.flatnonzero(layer == len(sizes) - 1),
        name="stack",
    )


def icosphere(subdivisions: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices ``[V,3]`` on the unit sphere and faces ``[F,3]`` (counter-clockwise from outside), nested by level."""
    points, faces = _icosahedron()
    for _ in range(subdivisions):
        points, faces = _subdivide(points, faces)
    return points, faces


def _icosahedron() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Poles on the z axis and two rings of five between them."""
    angle = 2 * np.pi * np.arange(5) / 5
    z, r = 1 / math.sqrt(5), 2 / math.sqrt(5)
    upper = np.stack([r * np.cos(angle), r * np.sin(angle), np.full(5, z)], 1)
    lower = np.stack([r * np.cos(angle + np.pi / 5), r * np.sin(angle + np.pi / 5), np.full(5, -z)], 1)
    points = np.concatenate([[[0.0, 0.0, 1.0]], upper, lower, [[0.0, 0.0, -1.0]]])
    faces = []
    for k in range(5):
        a, b = 1 + k, 1 + (k + 1) % 5
        c, d = 6 + k, 6 + (k + 1) % 5
        faces += [(0, a, b), (a, c, b), (b, c, d), (11, d, c)]
    return points, np.array(faces, dtype=np.int64)


def _subdivide(points: NDArray[np.float64], faces: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Cut every triangle into four; new vertices follow the old ones and are pushed out to the sphere."""
    n = points.shape[0]
    code, index = np.unique(edge_codes(face_sides(faces), n, directed=False), return_inverse=True)
    middle = points[code // n] + points[code % n]
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    ab, bc, ca = (n + index.reshape(-1, 3)).T
    a, b, c = faces.T
    children = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    return np.concatenate([points, middle]), np.concatenate([np.stack(child, 1) for child in children])


def _lattice(rows: int, columns: int) -> NDArray[np.float64]:
    y, x = np.divmod(np.arange(rows * columns), columns)
    return np.stack([x, y], 1).astype(np.float64)


def _shape(shape: Sequence[int]) -> tuple[int, int]:
    sides = [_count(side, "shape", 1) for side in shape]
    if len(sides) != 2:
        raise ValueError(f"shape must be two numbers, rows and columns, got {tuple(shape)}")
    return sides[0], sides[1]


def _count(value: int, what: str, least: int, most: int | None = None) -> int:
    if value != int(value) or value < least or (most is not None and value > most):
        span = f"at least {least}" if most is None else f"{least} to {most}"
        raise ValueError(f"{what} must be whole numbers of {span}, got {value}")
    return int(value)


def _positive(value: float, what: str) -> float:
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"{what} must be positive and finite, got {value}")
    return float(value)
