"""Pairs of columns and their distances, sampled so that no N x N array is ever needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from colgraph.analysis.arrays import Array, as_positions, as_vector, check_choice, check_count

__all__ = ["Distance", "Pairs", "bin_pairs", "sample_pairs"]

Distance = str | Callable[[NDArray[np.int64], NDArray[np.int64]], Array]
"""A metric: "euclidean", "great_circle", or a function of two index arrays ``[P]`` that returns distances ``[P]``."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Unordered pairs of different columns.

    Attributes:
        first: ``[P]`` a column of each pair.
        second: ``[P]`` the other one.
        distance: ``[P]`` how far apart they are.
        uniform: ``[P]`` True where the pair belongs to a uniform sample of all pairs; the others were added so that
            short distances, which are rare on a large sheet, are seen at all.
        spacing: the median distance of a column to its nearest neighbour, the unit in which distances are reported.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    distance: Array
    uniform: NDArray[np.bool_]
    spacing: float

    def __post_init__(self) -> None:
        first, second = np.asarray(self.first, dtype=np.int64), np.asarray(self.second, dtype=np.int64)
        distance = as_vector(self.distance, "distance", len(first))
        uniform = np.asarray(self.uniform, dtype=bool)
        if second.shape != first.shape or uniform.shape != first.shape:
            raise ValueError(
                f"first, second and uniform must be of equal length, got {first.size}, {second.size}, {uniform.size}"
            )
        if not len(first) or (first == second).any() or min(first.min(), second.min()) < 0:
            raise ValueError("pairs must be of different columns, and there must be at least one")
        if distance.min() < 0 or not np.ptp(distance):
            raise ValueError(f"distances must not be negative and not all equal, they start at {distance.min():g}")
        for name, value in (("first", first), ("second", second), ("distance", distance), ("uniform", uniform)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.first)

    @property
    def columns(self) -> NDArray[np.int64]:
        """The columns that occur, ascending."""
        return np.unique(np.concatenate([self.first, self.second]))

    def check(self, columns: int) -> None:
        """Raise ValueError if a pair names a column that does not exist."""
        highest = int(max(self.first.max(), self.second.max()))
        if highest >= columns:
            raise ValueError(f"pairs name column {highest}, but there are {columns} columns")


def sample_pairs(
    positions: Array,
    *,
    metric: Distance = "euclidean",
    count: int = 100_000,
    max_columns: int = 4000,
    neighbours: int = 8,
    seed: int = 0,
) -> Pairs:
    """Pairs of columns: all of them where there are at most ``count``, else a sample.

    The sample is uniform over pairs, plus each column's nearest neighbours. On sheets of more than ``max_columns``
    columns it is drawn among ``max_columns`` of them, half chosen at random and half in small patches.

    Args:
        positions: ``[columns, D]``.
        metric: "euclidean", "great_circle" (positions on a sphere around the origin; arcs in units of the positions),
            or a function of two index arrays that returns their distances (geodesic, periodic, ...).
        count: size of the uniform sample.
        max_columns: how many columns may take part.
        neighbours: how many nearest neighbours of each column are added to the uniform sample.
        seed: of the sample.

    Raises:
        ValueError: if all positions are equal, or the metric is unknown.
    """
    points = as_positions(positions)
    check_count("count", count, 2)
    check_count("max_columns", max_columns, 4)
    measure = _measure(points, metric)
    rng = np.random.default_rng(seed)
    chosen, pool = _choose_columns(points, max_columns, rng)
    total = len(chosen) * (len(chosen) - 1) // 2
    if total <= count:
        rows, columns = np.triu_indices(len(chosen), 1)
        first, second = chosen[rows], chosen[columns]
        code = first * len(points) + second
    else:
        first, second = _random_pairs(chosen, count, rng)
        code = np.unique(first * len(points) + second)
    uniform = np.ones(len(code), dtype=bool)
    near = _near_pairs(points, pool, neighbours)
    near = near[~np.isin(near, code)]
    code, uniform = np.concatenate([code, near]), np.concatenate([uniform, np.zeros(len(near), dtype=bool)])
    first, second = np.divmod(code, len(points))
    return Pairs(first, second, measure(first, second), uniform, _spacing(points[pool], pool, measure))


def _measure(points: Array, metric: Distance) -> Callable[[NDArray[np.int64], NDArray[np.int64]], Array]:
    if not isinstance(metric, str):
        return metric
    check_choice("metric", metric, ("euclidean", "great_circle"))
    if metric == "euclidean":
        return lambda first, second: np.linalg.norm(points[first] - points[second], axis=1)
    radius = np.linalg.norm(points, axis=1)
    if points.shape[1] != 3 or radius.min() <= 0 or np.ptp(radius) > 1e-3 * radius.mean():
        raise ValueError("metric 'great_circle' needs positions on a sphere around the origin")
    unit = points / radius[:, None]

    def arc(first: NDArray[np.int64], second: NDArray[np.int64]) -> Array:
        chord = np.linalg.norm(unit[first] - unit[second], axis=1)
        return np.asarray(2 * radius.mean() * np.arcsin(np.minimum(chord / 2, 1)))

    return arc


def _choose_columns(points: Array, most: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Columns of the uniform sample, and all columns that take part (those, and patches around some places)."""
    everyone = np.arange(len(points))
    if len(points) <= most:
        return everyone, everyone
    chosen = np.sort(rng.choice(everyone, most // 2, replace=False))
    size = 20
    centres = rng.choice(everyone, max((most - len(chosen)) // size, 1), replace=False)
    patches = cKDTree(points).query(points[centres], k=size)[1].ravel()
    return chosen, np.union1d(chosen, patches)


def _random_pairs(
    columns: NDArray[np.int64], count: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``count`` pairs (a few less where a pair is drawn twice), the smaller column first."""
    first = rng.integers(len(columns), size=count)
    second = (first + rng.integers(1, len(columns), size=count)) % len(columns)
    return columns[np.minimum(first, second)], columns[np.maximum(first, second)]


def _near_pairs(points: Array, pool: NDArray[np.int64], neighbours: int) -> NDArray[np.int64]:
    """Codes ``first * N + second`` of the pairs of each column with its nearest neighbours in the pool."""
    found = cKDTree(points[pool]).query(points[pool], k=min(neighbours + 1, len(pool)))[1]
    first = pool[np.repeat(found[:, :1], found.shape[1] - 1, axis=1)]
    second = pool[found[:, 1:]]
    low, high = np.minimum(first, second).ravel(), np.maximum(first, second).ravel()
    return np.unique((low * len(points) + high)[low != high])


def _spacing(
    points: Array, pool: NDArray[np.int64], measure: Callable[[NDArray[np.int64], NDArray[np.int64]], Array]
) -> float:
    """Median distance to the nearest other place."""
    sample = np.linspace(0, len(pool) - 1, min(len(pool), 2000)).astype(np.int64)
    found = cKDTree(points).query(points[sample], k=2)[1]
    distance = measure(pool[sample], pool[found[:, 1]])
    positive = distance[distance > 0]
    return float(np.median(positive)) if len(positive) else 1.0


def bin_pairs(distance: Array, bins: int, least: int = 10) -> tuple[NDArray[np.int64], Array]:
    """Which distance bin each pair falls in, and each bin's mean distance.

    Edges grow geometrically from the shortest to the longest distance, because structure on a sheet is fine near a
    column and coarse far from it. A bin of fewer than ``least`` pairs is joined to the next.

    Returns:
        index ``[P]`` and centres ``[bins]`` ascending.

    Raises:
        ValueError: if fewer than two bins remain.
    """
    check_count("bins", bins, 2)
    rounded = np.round(distance / distance.max(), 9)
    shortest = rounded[rounded > 0].min()
    edges = np.geomspace(shortest, 1 + 1e-9, bins + 1) if shortest < 1 else np.array([0.5, 1.1])
    index = np.clip(np.searchsorted(edges, rounded + 1e-12, side="right") - 1, 0, len(edges) - 2)
    counts = np.bincount(index, minlength=len(edges) - 1)
    joined, label, held = np.zeros(len(counts), dtype=np.int64), 0, 0
    for place, number in enumerate(counts):
        joined[place] = label
        held += number
        if held >= least:
            label, held = label + 1, 0
    last = label - 1 if held < least else label
    index = np.minimum(joined[index], max(last, 0))
    size = np.bincount(index)
    if len(size) < 2:
        raise ValueError(
            f"distances fall into {len(size)} bin of at least {least} pairs, two are needed: more columns or pairs"
        )
    return index, np.bincount(index, distance) / size
