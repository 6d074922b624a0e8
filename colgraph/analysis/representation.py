"""What a set of columns represents: dimensionality, CKA, and many representations against each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from colgraph.analysis import plotting
from colgraph.analysis.arrays import Array, as_features, check_choice, same_length, same_order
from colgraph.analysis.dissimilarity import rdm, rsa
from colgraph.analysis.result import Result
from colgraph.analysis.stats import (
    centred_gram,
    jackknife_interval,
    leaving_out,
    permuted,
    random_groups,
    recentred,
)

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
    same_order(first=first, second=second)
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
