"""Distances that follow from coordinates: straight lines, great circles, periodic boxes."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from colgraph.edges import Index
from colgraph.space.links import Links, TooManyEdges, join
from colgraph.space.ties import TOLERANCE, nearest_mask, shell_is_complete

# Candidates held in memory at once, for one block of rows.
_BLOCK = 1 << 21


class Euclidean:
    """Straight-line distance. Subclasses change what tree distances mean.

    Args:
        points: ``[N,3]`` coordinates.
        box: periods for the tree, or None.
    """

    metric = "euclidean"

    def __init__(self, points: NDArray[np.float64], box: NDArray[np.float64] | None = None) -> None:
        self._points = points
        self._box = box

    def _from_tree(self, distance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Metric distance of what the tree measures."""
        return distance

    def _to_tree(self, radius: float) -> float:
        """A tree distance that includes everything within ``radius``."""
        return radius

    def _difference(self, source: Index, target: Index) -> NDArray[np.float64]:
        return self._points[source] - self._points[target]

    def _tree(self, columns: Index) -> cKDTree:
        return cKDTree(self._points[columns], boxsize=self._box)

    def nearest(self, k: int, targets: Index, sources: Index) -> Links:
        tree = self._tree(sources)
        width = self._enough(tree, k, targets, sources)
        parts: list[Links] = []
        while targets.size:
            rows, again = max(1, _BLOCK // width), []
            for start in range(0, targets.size, rows):
                block = targets[start : start + rows]
                source, distance = self._query(tree, width, block, sources)
                done = shell_is_complete(distance, k) if width < sources.size else np.ones(block.size, dtype=bool)
                parts.append(_take(block[done], source[done], distance[done], k))
                again.append(block[~done])
            targets, width = np.concatenate(again), min(2 * width, sources.size)
        return join(parts)

    def _query(self, tree: cKDTree, width: int, targets: Index, sources: Index) -> tuple[Index, NDArray[np.float64]]:
        """Candidates ``[m,width]`` and their distances, infinite for the column itself."""
        distance, local = tree.query(self._points[targets], k=np.arange(1, width + 1), workers=-1)
        source = sources[local]
        distance = self._from_tree(distance)
        distance[source == targets[:, None]] = np.inf
        return source, distance

    def _enough(self, tree: cKDTree, k: int, targets: Index, sources: Index) -> int:
        """How many candidates most rows need to see beyond the shell of ties: tried on a sample of rows."""
        sample = targets[:: max(1, targets.size // 512)]
        width = min(k + 2, sources.size)
        while width < sources.size:
            _, distance = self._query(tree, width, sample, sources)
            if shell_is_complete(distance, k).mean() > 0.9:
                break
            width = min(width + max(2, k // 4), sources.size)
        return width

    def within(self, radius: float, targets: Index, sources: Index, limit: int) -> Links:
        tree, reach = self._tree(sources), radius * (1 + TOLERANCE)
        tree_reach = self._to_tree(reach)
        counts = self._counts(tree, tree_reach, targets, limit)
        if counts is None:
            raise TooManyEdges(radius, limit)
        parts = []
        # Blocks of rows that hold a bounded number of pairs.
        block = np.cumsum(counts) // _BLOCK
        for start, stop in _runs(block):
            rows = targets[start:stop]
            found = self._tree(rows).sparse_distance_matrix(tree, tree_reach, output_type="ndarray")
            target, source = rows[found["i"]], sources[found["j"]]
            distance = self._from_tree(found["v"])
            keep = (source != target) & (distance <= reach)
            parts.append(Links(source, target, distance).take(keep))
        return join(parts)

    def _counts(self, tree: cKDTree, tree_reach: float, targets: Index, limit: int) -> Index | None:
        """How many candidates each target has, or None as soon as there are more than ``limit`` in all."""
        parts, total = [np.empty(0, np.int64)], 0
        for start in range(0, targets.size, 4096):
            points = self._points[targets[start : start + 4096]]
            parts.append(tree.query_ball_point(points, tree_reach, return_length=True, workers=-1))
            total += int(parts[-1].sum())
            if total > limit:
                return None
        return np.concatenate(parts)

    def between(self, source: Index, target: Index) -> NDArray[np.float64]:
        out = np.empty(source.size)
        for start in range(0, source.size, _BLOCK):
            part = slice(start, start + _BLOCK)
            out[part] = np.linalg.norm(self._difference(source[part], target[part]), axis=1)
        return self._from_tree(out)

    def spacing(self) -> float:
        everyone = np.arange(self._points.shape[0])
        if everyone.size < 2:
            return 1.0
        tree = self._tree(everyone)
        nearest = tree.query(self._points, k=[2], workers=-1)[0][:, 0]
        if not nearest.min() > 0:
            # Columns at one place: what counts is the distance to the next place.
            _, first = np.unique(self._points, axis=0, return_index=True)
            if first.size < 2:
                return 1.0
            places = self._tree(first)
            nearest = places.query(self._points, k=[2], workers=-1)[0][:, 0]
        return float(np.median(self._from_tree(nearest)))


class GreatCircle(Euclidean):
    """Distance along the great circle of the sphere (or circle) on which the points lie.

    Raises:
        ValueError: if the points are not on one sphere, with the spread of their distances from its centre.
    """

    metric = "great_circle"

    def __init__(self, points: NDArray[np.float64], name: str = "geometry") -> None:
        centre, radii = _fit_sphere(points)
        low, self._radius, high = float(radii.min()), float(radii.mean()), float(radii.max())
        if self._radius == 0 or (high - low) > 0.01 * self._radius:
            raise ValueError(
                f"metric 'great_circle' needs points on one sphere, but those of {name!r} are {low:.4g} to {high:.4g} "
                f"from the centre (mean {self._radius:.4g}): use 'euclidean' or 'geodesic'"
            )
        super().__init__((points - centre) * (self._radius / radii)[:, None])

    def _from_tree(self, distance: NDArray[np.float64]) -> NDArray[np.float64]:
        chord = np.minimum(distance / (2 * self._radius), 1.0)
        return np.where(np.isfinite(distance), 2 * self._radius * np.arcsin(chord), np.inf)

    def _to_tree(self, radius: float) -> float:
        return 2 * self._radius * float(np.sin(min(radius / (2 * self._radius), np.pi / 2))) * (1 + TOLERANCE)


class Periodic(Euclidean):
    """Straight-line distance in a box whose opposite sides meet: the shortest over all images.

    Args:
        points: ``[N,3]`` coordinates.
        period: three side lengths; 0 where an axis does not wrap.
    """

    metric = "periodic"

    def __init__(self, points: NDArray[np.float64], period: tuple[float, ...]) -> None:
        self._period = np.asarray(period, dtype=np.float64)
        wraps = self._period > 0
        inside = points.copy()
        inside[:, wraps] = np.mod(points[:, wraps], self._period[wraps])
        # mod may round up to the period itself, which is the same place as 0.
        inside[:, wraps] = np.where(inside[:, wraps] >= self._period[wraps], 0.0, inside[:, wraps])
        super().__init__(inside, self._period)

    def _difference(self, source: Index, target: Index) -> NDArray[np.float64]:
        difference = super()._difference(source, target)
        with np.errstate(divide="ignore", invalid="ignore"):
            turns = np.where(self._period > 0, np.round(difference / self._period), 0.0)
        return difference - turns * self._period


def _take(targets: Index, source: Index, distance: NDArray[np.float64], k: int) -> Links:
    """The k nearest of each row, by target, then by source."""
    chosen = nearest_mask(targets, source, distance, k)
    row, column = np.nonzero(chosen)
    target, source, distance = targets[row], source[row, column], distance[row, column]
    if (chosen.sum(1) == k).all():
        order = np.argsort(source.reshape(-1, k), axis=1)
        order = (order + np.arange(targets.size)[:, None] * k).ravel()
    else:
        order = np.lexsort((source, row))
    return Links(source, target, distance).take(order)


def _runs(labels: Index) -> list[tuple[int, int]]:
    """Start and stop of each run of equal labels."""
    cuts = np.flatnonzero(np.diff(labels)) + 1
    edges = [0, *cuts.tolist(), len(labels)]
    return [(a, b) for a, b in itertools.pairwise(edges) if b > a]


def _fit_sphere(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre and distances from it: the origin if it serves, else the least-squares sphere through the points.

    It serves where distances from it differ by a hundredth of what the points extend over: of points far from it, all
    distances are alike.
    ``|p|^2 = 2 c.p + (r^2 - |c|^2)`` is linear in the centre c; the least-norm solution keeps the centre of points on
    a circle in the circle's plane.
    """
    radii = np.linalg.norm(points, axis=1)
    middle = points.mean(0)
    moved = points - middle
    extent = float(np.linalg.norm(moved, axis=1).max())
    if radii.min() > 0 and radii.max() - radii.min() <= 0.01 * min(float(radii.mean()), extent):
        return np.zeros(3), radii
    design = np.column_stack([2 * moved, np.ones(len(moved))])
    solution = np.linalg.lstsq(design, (moved**2).sum(1), rcond=1e-9)[0]
    centre = middle + solution[:3]
    return centre, np.linalg.norm(points - centre, axis=1)
