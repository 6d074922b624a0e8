"""Smoothness of a map: how much less near columns differ than far ones, and how much any two could differ at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.analysis import plotting
from colgraph.analysis.arrays import Array, as_mask, as_positions, as_vector
from colgraph.analysis.pairs import Distance, Pairs, bin_pairs, sample_pairs
from colgraph.analysis.stats import as_groups, jackknife_interval, permuted, spatial_blocks
from colgraph.analysis.topography import CurveResult


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Smoothness(CurveResult):
    """What :func:`smoothness` returns.

    Attributes:
        resultant: length of the mean of ``e^{2 pi i preference / period}`` over the columns, from 0 (preferences spread
            evenly) to 1 (they coincide, and what is left of them may well be smooth); NaN without a period.
        columns: how many columns took part.
    """

    resultant: float
    columns: int

    in_summary = ("resultant", "columns")

    def plot(self, ax: plotting.Axes | None = None) -> plotting.Axes:
        """Draw the curve; the title says how far preferences coincide."""
        ax = super().plot(ax)
        if np.isfinite(self.resultant):
            ax.set_title(f"{ax.get_title()}, resultant {self.resultant:.2f}")
        return ax


def smoothness(
    preference: Any,
    positions: Any,
    *,
    period: float | None = None,
    mask: Any | None = None,
    metric: Distance = "euclidean",
    pairs: Pairs | None = None,
    bins: int = 12,
    groups: Any | None = None,
    permutations: int = 1000,
    seed: int = 0,
) -> Smoothness:
    """How much less the preferences of near columns differ than those of far ones.

    ``c(bin)`` is the mean absolute difference of preference over the pairs of a distance bin; the value is
    ``(max c - c[nearest]) / max c``: 0 where near columns differ as much as any, towards 1 where they agree. Source:
    the smoothness index of Margalit et al. (2024), who take the quarter of units with the strongest tuning: what the
    others prefer means nothing, see :meth:`colgraph.analysis.orientation.OrientationMap.selective`. A map that is the
    same everywhere differs nowhere and is refused, because it would score 1 or 0 / 0.

    The index is relative: where nearly all columns prefer the same, as before training, what little they differ by can
    be smooth. The result's ``resultant`` says how far they coincide (Mardia and Jupp 2000, "Directional statistics").

    Null: preferences are shuffled over columns, which keeps them and so the resultant; because of the maximum its mean
    lies above 0. Interval: jackknife over blocks of columns that lie together.

    Args:
        preference: ``[columns]``.
        positions: ``[columns, D]``.
        period: for angles, what goes once around (pi for orientation in radians); differences are then at most half.
        mask: ``[columns]`` boolean: the selective columns; all take part if not given.
        metric: see :func:`colgraph.analysis.sample_pairs`.
        pairs: pairs to look at, instead of a sample made here; those within the mask are.
        bins: number of distance bins.
        groups: ``[columns]`` integer labels: the null shuffles only among columns of one label, such as those that see
            the same patch; columns of a negative label stay.
        permutations: number of shuffles.
        seed: of the sample and the shuffles.

    Raises:
        ValueError: for a constant map, NaN, positions that are all equal, or a mask that leaves fewer than 3 columns.
    """
    x = as_vector(preference, "preference")
    points = as_positions(positions, len(x))
    chosen = np.ones(len(x), dtype=bool) if mask is None else as_mask(mask, "mask", len(x), least=3)
    if period is not None and not period > 0:
        raise ValueError(f"period must be positive, got {period:g}")
    pairs = sample_pairs(points, metric=metric, among=chosen, seed=seed) if pairs is None else pairs
    pairs.check(len(x))
    pairs = pairs if mask is None else pairs.among(chosen)
    within = as_groups(groups, len(x), among=chosen)
    x, points = x[chosen], points[chosen]
    if not np.ptp(x) > 0:
        raise ValueError(f"preference is the same in all {len(x)} columns ({x[0]:g}): smoothness means nothing there")
    distance = pairs.distance / pairs.spacing
    index, centres = bin_pairs(distance, bins)
    size = np.bincount(index)

    def difference(values: Array) -> Array:
        gap = np.abs(values[pairs.first] - values[pairs.second])
        if period is None:
            return np.asarray(gap)
        gap = gap % period
        return np.minimum(gap, period - gap)

    gap = difference(x)
    curve = np.bincount(index, gap) / size
    if not curve.max() > 0:
        raise ValueError("preference differs between no pair of columns: smoothness means nothing there")
    curve_null = np.stack(
        [np.bincount(index, difference(x[order])) / size for order in permuted(permutations, len(x), seed, within)]
    )
    left_out = _without_blocks(gap, index, spatial_blocks(points), pairs)
    return Smoothness(
        name="smoothness",
        value=float(_smoothness(curve)),
        null=_smoothness(curve_null),
        interval=jackknife_interval(_smoothness(curve), _smoothness(left_out)),
        distance=centres,
        curve=curve,
        curve_null=curve_null,
        curve_interval=jackknife_interval(curve, left_out),
        pairs_per_bin=size,
        spacing=pairs.spacing,
        axis_label="mean difference of preference" + (" (radians)" if period == np.pi else ""),
        resultant=float("nan") if period is None else float(abs(np.exp(2j * np.pi * x / period).mean())),
        columns=len(x),
    )


def _smoothness(curve: Array) -> Array:
    top = curve.max(-1)
    return np.asarray((top - curve[..., 0]) / np.where(top > 0, top, 1))


def _without_blocks(gap: Array, index: NDArray[np.int64], blocks: NDArray[np.int64], pairs: Pairs) -> Array:
    """``[blocks, bins]``: the curve without the pairs that touch a block; a bin left empty keeps the whole curve."""
    one, other = blocks[pairs.first], blocks[pairs.second]
    bins, count = int(index.max()) + 1, int(blocks.max()) + 1

    def touching(weight: Array) -> Array:
        both = weight * (one != other)
        sums = np.bincount(one * bins + index, weight, count * bins)
        sums = sums + np.bincount(other * bins + index, both, count * bins)
        return np.asarray(sums, dtype=np.float64).reshape(count, bins)

    total, number = np.bincount(index, gap), np.bincount(index).astype(np.float64)
    left = number - touching(np.ones(len(gap)))
    curve = (total - touching(gap)) / np.maximum(left, 1)
    return np.asarray(np.where(left > 0, curve, total / number))
