"""What a set of columns represents: dimensionality, dissimilarity matrices, RSA and CKA."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import squareform

from colgraph.analysis import plotting
from colgraph.analysis.arrays import Array, as_features, as_vector, check_choice, same_length
from colgraph.analysis.result import Result
from colgraph.analysis.stats import (
    centred_gram,
    correlate_rows,
    jackknife_interval,
    leaving_out,
    permuted,
    random_groups,
    recentred,
)

__all__ = ["Comparison", "Dimensionality", "cka", "compare", "participation_ratio", "rdm", "rsa"]

RDM_METRICS = ("correlation", "cosine", "euclidean")
RSA_METHODS = ("spearman", "kendall", "pearson")


# ---------------------------------------------------------------------- dimensionality


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Dimensionality(Result):
    """What :func:`participation_ratio` returns.

    Attributes:
        spectrum: eigenvalues of the covariance, descending.
    """

    spectrum: Array

    def plot(self, ax: plotting.Axes | None = None) -> plotting.Axes:
        """Draw the share of variance per dimension."""
        ax = plotting.axes(ax)
        share = self.spectrum / self.spectrum.sum()
        ax.loglog(np.arange(1, len(share) + 1), share, color=plotting.ORANGE)
        ax.axvline(self.value, color=plotting.INK, linestyle=":", label=f"participation ratio {self.value:.3g}")
        ax.set(xlabel="dimension", ylabel="share of variance", ylim=(max(share[share > 0].min(), 1e-8), 1))
        ax.set_title(f"{self.name} {self.value:.3g} (independent features: {self.null.mean():.3g})")
        ax.legend(frameon=False, fontsize=8)
        return ax


def participation_ratio(responses: Any, *, permutations: int = 50, seed: int = 0) -> Dimensionality:
    """How many dimensions the responses use: ``(sum l)^2 / sum l^2`` over the covariance's eigenvalues ``l``.

    1 where everything lies on a line, n where n dimensions vary alike. With S stimuli it cannot exceed S - 1, so only
    compare values from equally many stimuli. Source: Gao et al. (2017), "A theory of multineuronal dimensionality,
    dynamics and measurement".

    Null: each feature is shuffled over stimuli by itself, which removes all correlation and gives the largest value
    that features of these variances can have on so many stimuli (tail "less"). Interval: jackknife over stimuli.

    Args:
        responses: ``[stimuli, columns]`` or ``[stimuli, columns, channels]``.
        permutations: number of shuffles.
        seed: of the shuffles and groups.

    Raises:
        ValueError: for fewer than 3 stimuli, NaN, or no variance at all.
    """
    x = as_features(responses, "responses")
    gram = centred_gram(x)
    left_out = [_ratio(recentred(gram[np.ix_(k, k)])) for k in leaving_out(random_groups(len(x), seed))]
    rng = np.random.default_rng(seed)
    # Features beyond a few thousand only cost time here: their independent directions average out.
    some = rng.permutation(x.shape[1])[:4000]
    scale = x.var(0).sum() / max(float(x[:, some].var(0).sum()), 1e-300)
    null = [_independent_ratio(rng.permuted(x[:, some], axis=0), scale) for _ in range(permutations)]
    value = _ratio(gram)
    return Dimensionality(
        name="participation ratio",
        value=value,
        null=np.array(null),
        interval=jackknife_interval(value, left_out, transform="log"),
        tail="less",
        spectrum=np.maximum(np.linalg.eigvalsh(gram)[::-1][: len(x) - 1], 0) / (len(x) - 1),
    )


def _ratio(gram: Array) -> float:
    # trace(C) and trace(C^2) are the sums of l and l^2; no eigenvalues needed.
    return float(np.trace(gram) ** 2 / (gram * gram).sum())


def _independent_ratio(x: Array, scale: float) -> float:
    """The ratio of shuffled features, corrected for looking only at a part of them.

    Of ``sum l^2``, the diagonal part of the Gram matrix grows with the square of the number of features, the rest in
    proportion to it.
    """
    gram = centred_gram(x)
    diagonal = float((np.diag(gram) ** 2).sum())
    rest = float((gram * gram).sum()) - diagonal
    return float((scale * np.trace(gram)) ** 2 / (scale**2 * diagonal + scale * rest))


# ---------------------------------------------------------------------- RDM and RSA


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
        squares = (x * x).sum(1)
        distance = np.sqrt(np.maximum(squares[:, None] + squares - 2 * x @ x.T, 0))
    else:
        x = x - x.mean(1, keepdims=True) if metric == "correlation" else x
        length = np.linalg.norm(x, axis=1)
        flat = np.flatnonzero(length <= 1e-12 * max(float(length.max()), 1e-300))
        if len(flat):
            what = "constant over" if metric == "correlation" else "zero in all"
            raise ValueError(f"stimulus {flat[0]} is {what} features: its {metric} distance is not defined")
        x = x / length[:, None]
        distance = 1 - np.clip(x @ x.T, -1, 1)
    return np.asarray(distance[np.triu_indices(len(x), 1)])


def rsa(first: Any, second: Any, *, method: str = "spearman", permutations: int | None = None, seed: int = 0) -> Result:
    """How alike two dissimilarity matrices are.

    The rank correlation of their lower triangles: "spearman", or "kendall" (tau a, which Nili et al. 2014 recommend
    where a model predicts ties; ties count as neither agreement nor disagreement), or "pearson".

    Null: the stimuli of one matrix are shuffled, rows and columns together (the Mantel test); pairs are not
    independent, so no other p-value is valid. Interval: jackknife over stimuli.

    Args:
        first: ``[pairs]`` from :func:`rdm`, or ``[stimuli, stimuli]`` symmetric.
        second: the same, of the same stimuli.
        method: "spearman", "kendall" or "pearson".
        permutations: number of shuffles; 1000, or 100 for "kendall", which takes far longer, if not given.
        seed: of the shuffles and groups.

    Raises:
        ValueError: for matrices of different size, not symmetric, NaN, constant, or fewer than 4 stimuli.
    """
    check_choice("method", method, RSA_METHODS)
    a, b = _triangle(first, "first"), _triangle(second, "second")
    same_length("pairs", first=a, second=b)
    count = round((1 + np.sqrt(1 + 8 * len(a))) / 2)
    if count < 4:
        raise ValueError(f"RSA needs at least 4 stimuli, got {count}")
    draws = (100 if method == "kendall" else 1000) if permutations is None else permutations
    value = _similarity(a, b, method)
    orders = permuted(draws, count, seed)
    null = (
        _mantel_kendall(a, b, orders)
        if method == "kendall"
        else _mantel(_ranked(a, method), _ranked(b, method), orders)
    )
    rows, columns = np.triu_indices(count, 1)
    kept = [k[rows] & k[columns] for k in leaving_out(random_groups(count, seed))]
    left_out = [_similarity(a[keep], b[keep], method) for keep in kept if keep.sum() > 2]
    return Result(
        name=f"RSA ({method})",
        value=value,
        null=null,
        interval=jackknife_interval(value, left_out, transform="fisher"),
    )


def _triangle(values: Any, what: str) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 2:
        if array.shape[0] != array.shape[1] or not np.allclose(array, array.T, equal_nan=True):
            raise ValueError(f"{what} must be a symmetric matrix or its triangle, got shape {list(array.shape)}")
        array = array[np.triu_indices(len(array), 1)]
    array = as_vector(array, what)
    side = (1 + np.sqrt(1 + 8 * len(array))) / 2
    if len(array) < 3 or side != round(side):
        raise ValueError(f"{what} has {len(array)} entries, which is no triangle of a matrix (3, 6, 10, ...)")
    if not np.ptp(array) > 0:
        raise ValueError(f"{what} is constant: all dissimilarities are {array[0]:g}")
    return array


def _ranked(x: Array, method: str) -> Array:
    return np.asarray(stats.rankdata(x)) if method == "spearman" else x


def _mantel(a: Array, b: Array, orders: Iterable[NDArray[np.int64]]) -> Array:
    """Pearson correlations of triangles with the stimuli of one reordered; means and spreads do not change."""
    a, b = (squareform((x - x.mean()) / np.linalg.norm(x - x.mean()), checks=False) for x in (a, b))
    return np.array([np.vdot(a, b[np.ix_(order, order)]) / 2 for order in orders])


def _mantel_kendall(a: Array, b: Array, orders: Iterable[NDArray[np.int64]]) -> Array:
    matrix = squareform(b, checks=False)
    rows, columns = np.triu_indices(len(matrix), 1)
    return np.array([_tau_a(a, matrix[order[rows], order[columns]]) for order in orders])


def _pearson(a: Array, b: Array) -> float:
    return float(correlate_rows(a, b))


def _tau_a(a: Array, b: Array) -> float:
    """``(concordant - discordant) / pairs``: tau b without its correction for ties."""
    pairs = len(a) * (len(a) - 1) / 2
    tied = [(count * (count - 1) / 2).sum() for count in (np.unique(x, return_counts=True)[1] for x in (a, b))]
    tau_b = stats.kendalltau(a, b).statistic
    return float(np.nan_to_num(tau_b) * np.sqrt((1 - tied[0] / pairs) * (1 - tied[1] / pairs)))


def _similarity(a: Array, b: Array, method: str) -> float:
    return _tau_a(a, b) if method == "kendall" else _pearson(_ranked(a, method), _ranked(b, method))


# ---------------------------------------------------------------------- CKA


def cka(first: Any, second: Any, *, unbiased: bool = False, permutations: int = 200, seed: int = 0) -> Result:
    """Linear centred kernel alignment of two representations of the same stimuli.

    ``CKA = |X^T Y|_F^2 / (|X^T X|_F |Y^T Y|_F)`` with centred features: 1 for representations that differ by a rotation
    and a scale. Source: Kornblith et al. (2019), "Similarity of neural network representations revisited". With more
    features than stimuli it is biased upwards, even for noise; ``unbiased=True`` uses the unbiased HSIC of Song et al.
    (2012), whose expectation for unrelated features is 0.

    Null: the stimuli of one representation are shuffled. Interval: jackknife over stimuli.

    Args:
        first: ``[stimuli, columns]`` or ``[stimuli, columns, channels]``.
        second: the same stimuli, any number of features.
        unbiased: correct for the number of features.
        permutations: number of shuffles.
        seed: of the shuffles and groups.

    Raises:
        ValueError: for different numbers of stimuli, fewer than 4, NaN, or no variance.
    """
    x, y = as_features(first, "first", 4), as_features(second, "second", 4)
    same_length("stimuli", first=x, second=y)
    k, m = centred_gram(x), centred_gram(y)
    norm = np.sqrt(_hsic(k, k, unbiased) * _hsic(m, m, unbiased))
    value = _hsic(k, m, unbiased) / norm
    null = [_hsic(k, m[np.ix_(order, order)], unbiased) / norm for order in permuted(permutations, len(x), seed)]
    left_out = []
    for kept in leaving_out(random_groups(len(x), seed)):
        keep = np.ix_(kept, kept)
        a, b = recentred(k[keep]), recentred(m[keep])
        left_out.append(_hsic(a, b, unbiased) / np.sqrt(_hsic(a, a, unbiased) * _hsic(b, b, unbiased)))
    return Result(
        name="linear CKA" + (" (unbiased)" if unbiased else ""),
        value=float(value),
        null=np.array(null),
        interval=jackknife_interval(value, left_out, transform="fisher"),
    )


def _hsic(k: Array, m: Array, unbiased: bool) -> float:
    """Hilbert-Schmidt independence of two centred Gram matrices, up to a factor that cancels in CKA."""
    total = float(np.vdot(k, m))
    if not unbiased:
        return total
    n = len(k)
    # Song et al.'s estimator with the diagonals set to zero; rows of a centred matrix sum to zero, so the sums without
    # the diagonal are minus the diagonal.
    a, b = np.diag(k), np.diag(m)
    total -= float(a @ b)
    total += float(a.sum() * b.sum()) / ((n - 1) * (n - 2)) - 2 * float(a @ b) / (n - 2)
    return total if total > 0 or k is not m else 1e-300


# ---------------------------------------------------------------------- many at once


@dataclass(frozen=True, eq=False)
class Comparison:
    """What :func:`compare` returns.

    Attributes:
        rows: names of the first set.
        columns: names of the second.
        value: ``[rows, columns]``.
        method: what was computed.
        results: the result of each cell, by (row, column).
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    value: Array
    method: str
    results: Mapping[tuple[str, str], Result]

    def plot(self, ax: plotting.Axes | None = None) -> plotting.Axes:
        """Draw the matrix."""
        ax = plotting.axes(ax)
        image = ax.imshow(self.value, cmap="viridis", vmin=min(0.0, float(self.value.min())), vmax=1, aspect="auto")
        ax.set_xticks(range(len(self.columns)), self.columns, rotation=45, ha="right")
        ax.set_yticks(range(len(self.rows)), self.rows)
        ax.set_title(self.method)
        ax.figure.colorbar(image, ax=ax, label=self.method)
        return ax


def compare(
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    *,
    method: str = "cka",
    permutations: int = 100,
    seed: int = 0,
    **options: Any,
) -> Comparison:
    """Every representation of one set against every one of another: steps against areas, say.

    Args:
        first: ``[stimuli, ...]`` by name.
        second: the same stimuli.
        method: "cka" or "rsa" (on correlation distances).
        permutations: number of shuffles of each cell.
        seed: of the shuffles.
        options: further arguments of :func:`cka` or :func:`rsa`.

    Raises:
        ValueError: for unknown methods, an empty set, or what the method refuses, with the names of the pair.
    """
    check_choice("method", method, ("cka", "rsa"))
    if not first or not second:
        raise ValueError("compare needs at least one representation on either side")
    results = {}
    for row, x in first.items():
        for column, y in second.items():
            try:
                if method == "cka":
                    result = cka(x, y, permutations=permutations, seed=seed, **options)
                else:
                    result = rsa(rdm(x), rdm(y), permutations=permutations, seed=seed, **options)
            except ValueError as error:
                raise ValueError(f"{row!r} against {column!r}: {error}") from error
            results[row, column] = result
    value = np.array([[results[row, column].value for column in second] for row in first])
    return Comparison(tuple(first), tuple(second), value, next(iter(results.values())).name, results)
