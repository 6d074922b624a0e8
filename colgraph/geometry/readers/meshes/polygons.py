"""Polygons of any number of corners as mesh files hold them, and how they are cut into triangles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from colgraph.edges import Index, distinct_rows


class Polygons(NamedTuple):
    """Polygons in their order.

    Attributes:
        corners: ``[K]`` the vertices of all polygons, one polygon after the other.
        sizes: ``[F]`` how many corners each has.
    """

    corners: Index
    sizes: Index

    @classmethod
    def of(cls, lists: Iterable[Sequence[int]]) -> Polygons:
        """From a list of corners per polygon."""
        rows = list(lists)
        sizes = np.fromiter(map(len, rows), np.int64, len(rows))
        return cls(np.fromiter((corner for row in rows for corner in row), np.int64, int(sizes.sum())), sizes)

    @classmethod
    def of_triangles(cls, triangles: Any) -> Polygons:
        """From ``[F,3]``."""
        corners = np.asarray(triangles, dtype=np.int64)
        return cls(corners.reshape(-1), np.full(corners.size // 3, 3))

    @classmethod
    def joined(cls, parts: Sequence[Polygons]) -> Polygons:
        """All polygons of several parts, which count the same vertices."""
        empty = np.empty(0, np.int64)
        return cls(*(np.concatenate([empty, *(part[i] for part in parts)]) for i in range(2)))

    def check(self, vertices: int) -> None:
        """Raise ValueError for corners that are none of so many vertices."""
        wrong = self.corners[(self.corners < 0) | (self.corners >= vertices)]
        if wrong.size:
            raise ValueError(f"a face refers to vertex {wrong[0]}, but there are {vertices} vertices")

    def take(self, which: NDArray[np.bool_]) -> Polygons:
        """Some of the polygons."""
        return Polygons(self.corners[np.repeat(which, self.sizes)], self.sizes[which])

    def unstripped(self) -> Polygons:
        """The triangles of strips, which end with each polygon and with each -1."""
        ends = np.cumsum(self.sizes)[:-1]
        strips = np.split(self.corners, np.sort(np.concatenate([ends, np.flatnonzero(self.corners == -1)])))
        return Polygons.joined([Polygons.of_triangles(strip_triangles(strip[strip != -1])) for strip in strips])

    def once(self) -> tuple[Polygons, int]:
        """The polygons without those that an earlier one equals, in either winding; and how many those were."""
        first = np.zeros(self.sizes.size, dtype=bool)
        for which, corners in self._by_size():
            size = corners.shape[1]
            start = corners.argmin(1)[:, None] if size else np.zeros((which.size, 1), np.int64)
            turn = np.arange(size)
            one = np.take_along_axis(corners, (start + turn) % max(size, 1), 1)
            other = np.take_along_axis(corners, (start - turn) % max(size, 1), 1)
            forward = one[:, 1:2] <= one[:, -1:]
            same = np.where(forward, one, other)
            first[which[distinct_rows(same)]] = True
        return self.take(first), int((~first).sum())

    def triangles(self, points: NDArray[np.float64]) -> tuple[Index, int]:
        """``[T,3]`` triangles in the order of the polygons, and how many polygons could only be cut as they came.

        A polygon is cut into a fan from its first corner. Where that fan would leave the polygon, because it is not
        convex, or has triangles without area, the polygon's ears are cut off one after the other (Meisters 1975,
        "Polygons have ears"), in the plane of its mean normal. A polygon that crosses itself is left a fan.

        Args:
            points: ``[V,3]`` vertices.
        """
        start = np.concatenate([[0], np.cumsum(self.sizes - 2)])
        out = np.empty((int(start[-1]), 3), np.int64)
        uncut = 0
        for which, corners in self._by_size():
            size = corners.shape[1]
            fan = np.stack([np.zeros(size - 2, np.int64), np.arange(1, size - 1), np.arange(2, size)], 1)
            rows = start[which][:, None] + np.arange(size - 2)
            out[rows] = corners[:, fan]
            if size == 3:
                continue
            flat, leaves = _judged(points[corners])
            for p in np.flatnonzero(flat | leaves):
                ears = _ears(_flattened(points[corners[p]]))
                if ears is not None:
                    out[rows[p]] = corners[p][np.array(ears)]
                else:
                    uncut += int(leaves[p])
        return out, uncut

    def _by_size(self) -> Iterator[tuple[Index, Index]]:
        """The polygons of each size: which they are, and their corners ``[n,size]``."""
        start = np.cumsum(self.sizes) - self.sizes
        for size in np.unique(self.sizes).tolist():
            which = np.flatnonzero(self.sizes == size)
            yield which, self.corners[start[which][:, None] + np.arange(size)]


class Mesh(NamedTuple):
    """What a reader finds in a file.

    Attributes:
        points: ``[V,3]`` vertices.
        polygons: between them; none in a point cloud.
        notes: what was passed over, to be said in one line.
    """

    points: NDArray[np.float64]
    polygons: Polygons
    notes: list[str]

    @classmethod
    def joined(cls, pieces: Sequence[tuple[NDArray[np.float64], Polygons]], notes: Sequence[str] = ()) -> Mesh:
        """One mesh of pieces that each count their own vertices; points without polygons if no piece has any.

        Raises:
            ValueError: for polygons that refer to vertices that are not there.
        """
        points, parts, start = [np.empty((0, 3))], [], 0
        for vertices, polygons in [piece for piece in pieces if piece[1].sizes.size] or pieces:
            polygons.check(len(vertices))
            points.append(vertices)
            parts.append(Polygons(polygons.corners + start, polygons.sizes))
            start += len(vertices)
        return cls(np.concatenate(points), Polygons.joined(parts), list(notes))


def passed_over(counts: Mapping[str, int]) -> list[str]:
    """What a reader leaves out, as notes."""
    return [f"passed over {count} {what}" for what, count in counts.items()]


def moved(points: NDArray[np.float64], transform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points ``[V,3]`` after a transform ``[4,4]``; the same to the bit where that leaves them."""
    return points if np.array_equal(transform, np.eye(4)) else points @ transform[:3, :3].T + transform[:3, 3]


def strip_triangles(strip: Index) -> Index:
    """``[S-2,3]`` triangles of a strip of vertices ``[S]``, all with the winding of the first."""
    triangles = np.stack([strip[:-2], strip[1:-1], strip[2:]], 1)
    triangles[1::2] = triangles[1::2, [1, 0, 2]]
    return triangles


# ---------------------------------------------------------------------- polygons that are not convex


def _judged(places: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which polygons ``[n,size,3]`` have a fan with a triangle without area, and which one that leaves the polygon."""
    spokes = places[:, 1:] - places[:, :1]
    areas = np.cross(spokes[:, :-1], spokes[:, 1:])
    total = areas.sum(1)
    signed = np.einsum("ntc,nc->nt", areas, total)
    # Corners on one line make triangles that are turned by rounding.
    scale = 1e-9 * np.einsum("ntc,ntc->n", areas, areas)
    flat = (signed <= scale[:, None]).any(1)
    leaves = (signed < -scale[:, None]).any(1) | ((total**2).sum(1) < scale)
    return flat, leaves


def _flattened(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[size,2]`` a polygon seen along its mean normal, counterclockwise."""
    spokes = places[1:] - places[0]
    normal = np.cross(spokes[:-1], spokes[1:]).sum(0)
    u, v = np.delete(np.arange(3), np.abs(normal).argmax())
    flat = places[:, [u, v]]
    turn = np.roll(flat, -1, axis=0)
    counterclockwise = (flat[:, 0] * turn[:, 1] - flat[:, 1] * turn[:, 0]).sum() >= 0
    return flat if counterclockwise else flat * [1, -1]


def _ears(flat: NDArray[np.float64]) -> list[tuple[int, int, int]] | None:
    """The triangles of a counterclockwise polygon ``[size,2]`` by its corners; None if it crosses itself."""
    left, ears = list(range(len(flat))), []
    while len(left) > 3:
        at = next((k for k in range(len(left)) if _is_ear(flat, left, k)), None)
        if at is None:  # what is left is a line that goes forth and back, or crosses itself
            return None
        ears.append((left[at - 1], left[at], left[(at + 1) % len(left)]))
        del left[at]
    return [*ears, (left[0], left[1], left[2])] if _turn(*flat[left]) >= 0 else None


def _turn(a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]) -> Any:
    """Positive where the way over ``a``, ``b`` and ``c`` turns left."""
    return (b[..., 0] - a[..., 0]) * (c[..., 1] - b[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - b[..., 0])


def _is_ear(flat: NDArray[np.float64], left: list[int], k: int) -> bool:
    """Whether the corner at ``left[k]`` can be cut off without anything else of the polygon."""
    a, b, c = (flat[left[i % len(left)]] for i in (k - 1, k, k + 1))
    if _turn(a, b, c) <= 0:
        return False
    others = flat[left]
    # A corner that the outline passes twice (a hole reached over a bridge) lies on its double, not in the ear.
    others = others[~(others[:, None] == np.stack([a, b, c])).all(2).any(1)]
    inside = (_turn(a, b, others) >= 0) & (_turn(b, c, others) >= 0) & (_turn(c, a, others) >= 0)
    return not bool(inside.any())
