"""Pairs of columns and their distances, sampled so that no N x N array is ever needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from colgraph.analysis.arrays import Array, as_mask, as_positions, as_vector, check_choice, check_count
from colgraph.space import Place, make_space
from colgraph.space import Space as SheetSpace

Index = NDArray[np.int64]


class Space(Protocol):
    """Columns and how far they are from each other, as ``sheet.space`` is."""

    def nearest(self, k: int, targets: Index, sources: Index) -> Any:
        """Something that begins with two arrays: the k nearest ``sources`` of each of ``targets``, and the targets."""

    def between(self, source: Index, target: Index) -> Array:
        """Distance of each pair; infinite where there is no way."""


Distance = str | Callable[[Index, Index], Array] | Space
"""A metric: "euclidean", "great_circle", a :class:`Space` such as ``sheet.space``, or a function of two index arrays
``[P]`` that returns distances ``[P]``."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Unordered pairs of different columns.

    Attributes:
        first: ``[P]`` a column of each pair.
        second: ``[P]`` the other one.
        distance: ``[P]`` how far apart they are.
        uniform: ``[P]`` True where the pair belongs to a uniform sample of all pairs; the others were added so that
            short distances, which are rare on a large sheet, are seen at all.
        spacing: the median distance of a column to its nearest neighbor, the unit in which distances are reported.
    """

    first: Index
    second: Index
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

    def among(self, mask: NDArray[np.bool_]) -> Pairs:
        """The pairs of columns of ``mask [columns]``, by their numbers among those.

        Raises:
            ValueError: if there are none, or all are equally far apart.
        """
        inside = mask[self.first] & mask[self.second]
        if not inside.any():
            raise ValueError(f"mask leaves none of {len(self)} pairs of columns")
        number = np.cumsum(mask) - 1
        first, second = number[self.first[inside]], number[self.second[inside]]
        return Pairs(first, second, self.distance[inside], self.uniform[inside], self.spacing)

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
    neighbors: int = 8,
    spacing: float | None = None,
    among: Any | None = None,
    seed: int = 0,
) -> Pairs:
    """Pairs of columns: all of them where there are at most ``count``, else a sample.

    The sample is uniform over pairs, plus each column's nearest neighbors. On sheets of more than ``max_columns``
    columns it is drawn among ``max_columns`` of them, half chosen at random and half in small patches. Pairs that are
    infinitely far from each other are left out.

    Args:
        positions: ``[columns, D]``.
        metric: "euclidean", "great_circle" (positions on a sphere around the origin; arcs in units of the positions),
            a :class:`Space` such as ``sheet.space``, or a function of two index arrays that returns their distances
            (neighbors are then the nearest by a straight line).
        count: size of the uniform sample.
        max_columns: how many columns may take part.
        neighbors: how many nearest neighbors of each column are added to the uniform sample.
        spacing: the unit of distances; the median distance to the nearest neighbor if not given.
        among: ``[columns]`` boolean: the columns of which pairs are made, by their numbers among all; all if not given.
        seed: of the sample.

    Raises:
        ValueError: if all positions are equal, the metric is unknown, or fewer than three columns are left.
    """
    points = as_positions(positions)
    check_count("count", count, 2)
    check_count("max_columns", max_columns, 4)
    space = _space(points, metric)
    rng = np.random.default_rng(seed)
    everyone = (
        np.arange(len(points)) if among is None else np.flatnonzero(as_mask(among, "among", len(points), least=3))
    )
    chosen, pool = _choose_columns(space, everyone, max_columns, rng)
    total = len(chosen) * (len(chosen) - 1) // 2
    if total <= count:
        rows, columns = np.triu_indices(len(chosen), 1)
        code = chosen[rows] * len(points) + chosen[columns]
    else:
        code = np.unique(_random_pairs(chosen, count, rng) @ [len(points), 1])
    near = np.sort(np.stack(space.nearest(neighbors, pool, pool)[:2], 1), axis=1) @ [len(points), 1]
    near = np.setdiff1d(near, code)
    first, second = np.divmod(np.concatenate([code, near]), len(points))
    distance, uniform = space.between(first, second), np.arange(len(first)) < len(code)
    known = np.isfinite(distance)
    unit = _spacing(space, len(points), pool) if spacing is None else spacing
    return Pairs(first[known], second[known], distance[known], uniform[known], unit)


@dataclass(frozen=True, eq=False)
class _Points:
    """The space of a function: the nearest columns are those in a straight line."""

    points: Array
    between: Callable[[Index, Index], Array]

    def nearest(self, k: int, targets: Index, sources: Index) -> tuple[Index, Index]:
        found = cKDTree(self.points[sources]).query(self.points[targets], k=np.arange(1, min(k + 1, len(sources)) + 1))[
            1
        ]
        source, target = sources[found].ravel(), np.repeat(targets, found.shape[1])
        return source[source != target], target[source != target]


def _space(points: Array, metric: Distance) -> Space:
    if not isinstance(metric, str):
        return _Points(points, metric) if callable(metric) else metric
    return named_space(points, metric)


def named_space(points: Array, metric: str) -> SheetSpace:
    """The space of a metric that needs nothing but positions ``[columns, 1 to 3]``."""
    check_choice("metric", metric, ("euclidean", "great_circle"))
    padded = np.pad(points, ((0, 0), (0, 3 - points.shape[1])))
    return make_space(Place(padded, name="positions"), metric)


def _choose_columns(space: Space, everyone: Index, most: int, rng: np.random.Generator) -> tuple[Index, Index]:
    """Columns of the uniform sample, and all columns that take part (those, and patches around some places)."""
    if len(everyone) <= most:
        return everyone, everyone
    chosen = np.sort(rng.choice(everyone, most // 2, replace=False))
    size = 20
    centres = rng.choice(everyone, max((most - len(chosen)) // size, 1), replace=False)
    patches = space.nearest(size - 1, centres, everyone)[0]
    return chosen, np.unique(np.concatenate([chosen, centres, patches]))


def _random_pairs(columns: Index, count: int, rng: np.random.Generator) -> Index:
    """``[P,2]`` of ``count`` pairs (a few less where a pair is drawn twice), the smaller column first."""
    first = rng.integers(len(columns), size=count)
    second = (first + rng.integers(1, len(columns), size=count)) % len(columns)
    return columns[np.sort(np.stack([first, second], 1), axis=1)]


def _spacing(space: Space, columns: int, pool: Index) -> float:
    """Median distance to the nearest other place."""
    sample = np.linspace(0, len(pool) - 1, min(len(pool), 2000)).astype(np.int64)
    distance = space.between(*space.nearest(1, pool[sample], np.arange(columns))[:2])
    positive = distance[distance > 0]
    return float(np.median(positive)) if len(positive) else 1.0


def bin_pairs(distance: Array, bins: int, least: int = 10) -> tuple[Index, Array]:
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
