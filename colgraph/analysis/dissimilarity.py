"""Dissimilarity matrices and how alike they are: RSA, what it can reach, and what the input explains of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import squareform

from colgraph.analysis import plotting
from colgraph.analysis.arrays import (
    Array,
    as_features,
    as_labels,
    as_vector,
    check_choice,
    plain_array,
    same_length,
    same_order,
)
from colgraph.analysis.result import Result
from colgraph.analysis.stats import correlate_rows, jackknife_interval, leaving_out, permuted, random_groups

RDM_METRICS = ("correlation", "cosine", "euclidean")
_NEAR = 1e-4  # squared distances below this share of the squared lengths lose more than four of sixteen digits
_NUMBERS = 2**22  # differences held at a time
RSA_METHODS = ("spearman", "kendall", "pearson")


def rdm(responses: Any, metric: str = "correlation") -> Array:
    """Representational dissimilarity of every pair of stimuli, ``[stimuli (stimuli - 1) / 2]``.

    The order is that of ``scipy.spatial.distance.pdist``; ``squareform`` makes a matrix of it. Source: Kriegeskorte,
    Mur and Bandettini (2008), "Representational similarity analysis".

    Args:
        responses: ``[stimuli, columns]`` or ``[stimuli, columns, channels]``.
        metric: "correlation" (1 - Pearson r over features), "cosine" (1 - cosine) or "euclidean".

    Raises:
        ValueError: for NaN, unknown metrics, or, with "correlation" and "cosine", a stimulus whose features do not vary
            (are all zero).
    """
    check_choice("metric", metric, RDM_METRICS)
    x = as_features(responses, "responses")
    if metric == "euclidean":
        x = x - x.mean(0)  # far from zero, distances would be differences of large numbers
        distance = np.sqrt(_squared_distances(x))
    else:
        x = x - x.mean(1, keepdims=True) if metric == "correlation" else x
        length = np.linalg.norm(x, axis=1)
        flat = np.flatnonzero(length <= 1e-12 * max(float(length.max()), 1e-300))
        if len(flat):
            what = "constant over" if metric == "correlation" else "zero in all"
            raise ValueError(f"stimulus {flat[0]} is {what} features: its {metric} distance is not defined")
        x = x / length[:, None]
        distance = _without_rounding(1 - np.clip(x @ x.T, -1, 1))
    return np.asarray(distance[np.triu_indices(len(x), 1)])


def _squared_distances(x: Array) -> Array:
    """``[stimuli, stimuli]``, by a product where that is exact enough: near ones are lost beside long vectors."""
    squares = (x * x).sum(1)
    size = squares[:, None] + squares
    squared = np.maximum(size - 2 * x @ x.T, 0)
    first, second = np.nonzero(np.triu(squared < _NEAR * size, 1))
    at_once = max(1, _NUMBERS // x.shape[1])
    for start in range(0, len(first), at_once):
        i, j = first[start : start + at_once], second[start : start + at_once]
        squared[i, j] = squared[j, i] = ((x[i] - x[j]) ** 2).sum(1)
    np.fill_diagonal(squared, 0)
    # Those that differ by rounding are one, which ranks ask for: 38 bits are what they have in common.
    digits, power = np.frexp(squared)
    return np.asarray(np.ldexp(np.round(np.ldexp(digits, 38)), power - 38))


def _without_rounding(values: Array) -> Array:
    """Values whose products were rounded in float64: those that differ in nothing else are one, which ranks ask for."""
    size = float(np.abs(values).max(initial=0)) or 1.0
    return np.round(values / size, 12) * size


def category_rdm(labels: Any) -> Array:
    """``[stimuli (stimuli - 1) / 2]``: 0 for two stimuli of one category, 1 for two of different ones.

    Raises:
        ValueError: if all stimuli, or no two, are of one category.
    """
    label = as_labels(labels, np.size(labels), "labels")
    index = np.unique(label, return_inverse=True)[1]
    first, second = np.triu_indices(len(index), 1)
    differ = (index[first] != index[second]).astype(np.float64)
    if not differ.size or not np.ptp(differ):
        raise ValueError("labels need two stimuli of one category, and two of different ones")
    return differ


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Rsa(Result):
    """What :func:`rsa` returns.

    Attributes:
        attainable: the largest value that the entries of both matrices can have in whatever order. Where a model knows
            two values only, as :func:`category_rdm` does, it lies far below 1; NaN where something is ``given``.
    """

    attainable: float

    in_summary = ("attainable",)

    def plot(self, ax: plotting.Axes | None = None) -> plotting.Axes:
        """Draw the value beside its null, and the largest value that it can have."""
        ax = super().plot(ax)
        if np.isfinite(self.attainable):
            label = f"attainable {self.attainable:.3g}"
            ax.axvline(self.attainable, color=plotting.INK, linestyle=":", label=label)
            ax.legend(frameon=False, fontsize=8)
        return ax


def rsa(
    first: Any,
    second: Any,
    *,
    given: Any | None = None,
    method: str = "spearman",
    permutations: int | None = None,
    seed: int = 0,
) -> Rsa:
    """How alike two dissimilarity matrices are.

    The rank correlation of their lower triangles: "spearman", or "kendall" (tau a, which Nili et al. 2014 recommend
    where a model predicts ties; ties count as neither agreement nor disagreement), or "pearson". The largest value that
    the entries can reach is that of both triangles sorted. For N dissimilarities without ties and a model with n pairs
    at 0 and m at 1 it is ``sqrt(3 n m / (N^2 - 1))`` by "spearman": 0.52 for ten classes, with many images of each.

    With ``given`` the value is the partial correlation: of what a linear fit on the given triangle (on its ranks, with
    "spearman") leaves of either. Given the pixels' dissimilarities, say, it is what a network shares with a model
    beyond what the images themselves do. Source: Legendre and Legendre (2012), "Numerical ecology", section 10.5.

    Null: the stimuli of one matrix are shuffled, rows and columns together (the Mantel test); pairs are not
    independent, so no other p-value is valid. Where something is given, the stimuli of what the fit leaves of the first
    are (Anderson and Legendre 1999, "An empirical comparison of permutation methods for tests of partial regression
    coefficients"). Interval: jackknife over stimuli.

    Args:
        first: ``[pairs]`` from :func:`rdm`, or ``[stimuli, stimuli]`` symmetric.
        second: the same, of the same stimuli.
        given: the same, of the same stimuli; with "spearman" and "pearson" only.
        method: "spearman", "kendall" or "pearson".
        permutations: number of shuffles; 1000, or 100 for "kendall", which takes far longer, if not given.
        seed: of the shuffles and groups.

    Raises:
        ValueError: for matrices of different size, not symmetric, NaN, constant, or fewer than 4 stimuli, and where the
            given one leaves nothing of either.
    """
    check_choice("method", method, RSA_METHODS)
    if given is not None and method == "kendall":
        raise ValueError("given needs method 'spearman' or 'pearson', got 'kendall'")
    names = ("first", "second") if given is None else ("first", "second", "given")
    parts = [triangle(x, name) for x, name in zip((first, second, given), names, strict=False)]
    same_length("pairs", **dict(zip(names, parts, strict=True)))
    same_order(first=first, second=second, given=given)
    count = round((1 + np.sqrt(1 + 8 * len(parts[0]))) / 2)
    if count < 4:
        raise ValueError(f"RSA needs at least 4 stimuli, got {count}")
    draws = (100 if method == "kendall" else 1000) if permutations is None else permutations
    value = _similarity(*parts, method=method)
    rows, columns = np.triu_indices(count, 1)
    kept = [k[rows] & k[columns] for k in leaving_out(random_groups(count, seed))]
    left_out = [_similarity(*(x[keep] for x in parts), method=method) for keep in kept if keep.sum() > len(parts)]
    best = float("nan") if given is not None else _similarity(np.sort(parts[0]), np.sort(parts[1]), method=method)
    return Rsa(
        name=f"RSA ({method})" if given is None else f"partial RSA ({method})",
        value=value,
        null=_by_chance(parts, method, permuted(draws, count, seed)),
        interval=jackknife_interval(value, left_out, transform="fisher"),
        attainable=best,
    )


def _by_chance(parts: list[Array], method: str, orders: Iterable[NDArray[np.int64]]) -> Array:
    a, b, *given = (ranked(x, method) for x in parts)
    if method == "kendall":
        return _mantel_kendall(a, b, orders)
    return _partial_mantel(a, b, given[0], orders) if given else _mantel(a, b, orders)


def triangle(values: Any, what: str) -> Array:
    """``[pairs]`` of dissimilarities, from those or from ``[stimuli, stimuli]``.

    Raises:
        ValueError: for another number of entries, a matrix that is not symmetric or of similarities, NaN, and
            dissimilarities that are all equal.
    """
    array = np.asarray(plain_array(values, what), dtype=np.float64)
    if array.ndim == 2:
        if array.shape[0] != array.shape[1] or not np.allclose(array, array.T, equal_nan=True):
            raise ValueError(f"{what} must be a symmetric matrix or its triangle, got shape {list(array.shape)}")
        own = np.abs(np.nan_to_num(np.diag(array))).max(initial=0)
        if own > 1e-6 * np.nanmax(np.abs(array), initial=0):
            raise ValueError(
                f"{what} has {own:g} on its diagonal, where dissimilarities have 0: is it of similarities?"
            )
        array = array[np.triu_indices(len(array), 1)]
    array = as_vector(array, what)
    side = (1 + np.sqrt(1 + 8 * len(array))) / 2
    if len(array) < 3 or side != round(side):
        raise ValueError(f"{what} has {len(array)} entries, which is no triangle of a matrix (3, 6, 10, ...)")
    if not np.ptp(array) > 0:
        raise ValueError(f"{what} is constant: all dissimilarities are {array[0]:g}")
    return array


def ranked(x: Array, method: str) -> Array:
    """Dissimilarities as a method correlates them: their ranks, with "spearman"."""
    return np.asarray(stats.rankdata(x)) if method == "spearman" else x


def _mantel(a: Array, b: Array, orders: Iterable[NDArray[np.int64]]) -> Array:
    """Pearson correlations of triangles with the stimuli of one reordered; means and spreads do not change."""
    a, b = (squareform((x - x.mean()) / np.linalg.norm(x - x.mean()), checks=False) for x in (a, b))
    return np.array([np.vdot(a, b[np.ix_(order, order)]) / 2 for order in orders])


def _mantel_kendall(a: Array, b: Array, orders: Iterable[NDArray[np.int64]]) -> Array:
    matrix = squareform(b, checks=False)
    rows, columns = np.triu_indices(len(matrix), 1)
    return np.array([_tau_a(a, matrix[order[rows], order[columns]]) for order in orders])


def _partial_mantel(a: Array, b: Array, given: Array, orders: Iterable[NDArray[np.int64]]) -> Array:
    """Partial correlations with the stimuli of what ``given`` leaves of ``a`` reordered."""
    a, b = left_by(given, a), left_by(given, b)
    left, other, fixed = (squareform(unit_of(x), checks=False) for x in (a, b, given))
    found = []
    for order in orders:
        moved = left[np.ix_(order, order)]
        with_given = np.vdot(moved, fixed) / 2
        found.append(np.vdot(moved, other) / 2 / np.sqrt(max(1 - with_given**2, 1e-300)))
    return np.array(found)


def unit_of(x: Array) -> Array:
    """Less their mean, and of length 1: the product of two such is their correlation."""
    x = x - x.mean()
    return x / np.linalg.norm(x)


def left_by(given: Array, x: Array) -> Array:
    """What a linear fit on ``given`` leaves of a triangle, or a ValueError where that is nothing."""
    x, unit = x - x.mean(), unit_of(given)
    left = x - (x @ unit) * unit
    if not np.linalg.norm(left) > 1e-9 * np.linalg.norm(x):
        raise ValueError("given leaves nothing of a dissimilarity matrix: it is the same up to a line")
    return np.asarray(left)


def _tau_a(a: Array, b: Array) -> float:
    """``(concordant - discordant) / pairs``: tau b without its correction for ties."""
    pairs = len(a) * (len(a) - 1) / 2
    tied = [(count * (count - 1) / 2).sum() for count in (np.unique(x, return_counts=True)[1] for x in (a, b))]
    tau_b = stats.kendalltau(a, b).statistic
    return float(np.nan_to_num(tau_b) * np.sqrt((1 - tied[0] / pairs) * (1 - tied[1] / pairs)))


def _similarity(a: Array, b: Array, given: Array | None = None, *, method: str) -> float:
    if method == "kendall":
        return _tau_a(a, b)
    a, b = ranked(a, method), ranked(b, method)
    if given is not None:
        fixed = ranked(given, method)
        a, b = left_by(fixed, a), left_by(fixed, b)
    return float(correlate_rows(a, b))
