"""How well column states predict recorded activity: cross-validated ridge against the recording's own reliability."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.analysis import plotting
from colgraph.analysis.arrays import (
    Array,
    as_array,
    as_features,
    as_labels,
    as_responses,
    as_vector,
    check_choice,
    check_varies,
    same_length,
    same_order,
)
from colgraph.analysis.result import Result
from colgraph.analysis.ridge import HeldOut, ridge_predictions
from colgraph.analysis.stats import (
    centred_gram,
    correlate_rows,
    jackknife_interval,
    leaving_out,
    permuted,
)

ALPHAS = tuple(np.logspace(-4, 4, 17).tolist())


# ---------------------------------------------------------------------- ceiling


@dataclass(frozen=True, eq=False)
class Ceiling:
    """What :func:`split_half_ceiling` returns.

    Attributes:
        split_half: ``[targets]`` mean correlation of two halves of the repeats.
        reliability: ``[targets]`` the same for all repeats (Spearman-Brown); the share of the variance of the mean over
            repeats that repeats.
        ceiling: ``[targets]`` the square root of it: what a perfect model's correlation with that mean would be. NaN
            where the reliability is not above zero.
    """

    split_half: Array
    reliability: Array
    ceiling: Array


def split_half_ceiling(repeats: Any, *, splits: int = 100, seed: int = 0) -> Ceiling:
    """The noise ceiling of recordings with repeats.

    The repeats are split into two random halves many times and the means of the halves correlated over stimuli; with
    ``r`` the mean correlation and ``k`` how many times more repeats there are than in a half, the Spearman-Brown
    formula gives the reliability of the mean over all repeats, ``k r / (1 + (k - 1) r)`` (``2 r / (1 + r)`` for even
    numbers). The highest correlation that a model can have with that mean is its square root (Schoppe et al. 2016,
    "Measuring the performance of neural models"); dividing by the reliability itself, as is also done, would let a
    perfect model exceed 1.

    Args:
        repeats: ``[repeats, stimuli, targets]``.
        splits: number of random splits.
        seed: of the splits.

    Raises:
        ValueError: for fewer than two repeats or three stimuli, NaN, or targets that do not vary.
    """
    array = as_array(repeats, "repeats").astype(np.float64)
    if array.ndim != 3 or array.shape[0] < 2:
        raise ValueError(
            f"repeats must have shape [repeats, stimuli, targets] with at least 2 repeats, got {list(array.shape)}"
        )
    for one in array:
        as_responses(one, "repeats", 3)
    check_varies(array.mean(0), "the means over repeats")
    half = len(array) // 2
    total = np.zeros(array.shape[2])
    for order in permuted(splits, len(array), seed):
        first, second = array[order[:half]].mean(0), array[order[half : 2 * half]].mean(0)
        total += correlate_rows(first.T, second.T)
    r = total / splits
    times = len(array) / half
    reliability = times * r / np.maximum(1 + (times - 1) * r, 1e-12)
    return Ceiling(r, reliability, np.sqrt(np.where(reliability > 0, reliability, np.nan)))


# ---------------------------------------------------------------------- encoding


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Encoding(Result):
    """What :func:`encode` returns; the value is the mean of ``scores``.

    Attributes:
        scores: ``[targets]`` correlation of prediction and recording on held-out stimuli, the mean over folds.
        p_targets: ``[targets]`` chance that any target's score is as high under the null: corrected for their number.
        ceiling: :class:`Ceiling` where repeats were given, else None.
        normalised: ``[targets]`` scores over the ceiling, NaN where the reliability is below 0.1; None without repeats.
        prediction: ``[stimuli, targets]``, each stimulus predicted by a model that has not seen it.
        fold: ``[stimuli]`` in which fold each stimulus was held out.
        alpha: ``[folds, targets]`` the chosen penalties, relative to the mean eigenvalue of the features' Gram matrix.
    """

    scores: Array
    p_targets: Array
    ceiling: Ceiling | None
    normalised: Array | None
    prediction: Array
    fold: NDArray[np.int64]
    alpha: Array

    @property
    def value_normalised(self) -> float:
        """Mean of ``normalised`` over reliable targets; NaN without repeats or reliable targets."""
        if self.normalised is None or not np.isfinite(self.normalised).any():
            return float("nan")
        return float(np.nanmean(self.normalised))

    in_summary = ("value_normalised",)

    def plot(self, ax: plotting.Axes | None = None) -> plotting.Axes:
        """Draw the scores of the targets, against their ceiling where it is known."""
        ax = plotting.axes(ax)
        title = f"held-out r = {self.value:.3f} (p = {self.p_value:.2g})"
        if self.ceiling is None:
            ax.hist(self.scores, bins=30, color=plotting.ORANGE)
            ax.set(xlabel="held-out r", ylabel="targets", title=title)
            return ax
        ax.scatter(self.ceiling.ceiling, self.scores, s=10, color=plotting.ORANGE, linewidths=0)
        ax.axline((0, 0), slope=1, color=plotting.INK, linestyle=":")
        ax.set(xlabel="noise ceiling", ylabel="held-out r", xlim=(0, 1))
        ax.set_title(f"{title}, {self.value_normalised:.2f} of the ceiling")
        return ax


def encode(
    features: Any,
    targets: Any,
    *,
    folds: int = 5,
    alphas: Any = ALPHAS,
    groups: Any | None = None,
    permutations: int = 200,
    seed: int = 0,
) -> Encoding:
    """Predict recordings from column states by ridge regression, on stimuli held out.

    In each fold the penalty of each target is chosen by the error of training stimuli left out, one or one group at a
    time, in closed form from the Gram matrix, so any number of features will do. The matrix is made once for all folds,
    penalties, targets and regions, which is why this is not scikit-learn's ``RidgeCV``; a test holds that both find the
    same. Features are centred, not scaled: scale them beforehand where they come in different units. Scores are
    correlations within each held-out fold, then averaged; pooling predictions of different folds would lower them by
    the folds' means.

    Null: the recordings of the stimuli in each held-out fold are shuffled (all targets together) against predictions.
    Interval: jackknife over held-out stimuli, the fitted models kept, so it holds for these models on new stimuli.
    With ``groups``, what is shuffled and left out is whole groups, because frames of one film are no independent
    stimuli: within a fold, recordings of one group, in their order, take the place of those of another with equally
    many stimuli. A group that is the only one of its size in its fold stays where it is, which makes p larger.

    Args:
        features: ``[stimuli, columns]``, ``[stimuli, columns, channels]``: the states of one step, say.
        targets: ``[stimuli, targets]``, or ``[repeats, stimuli, targets]`` to get a ceiling; the mean over repeats is
            predicted.
        folds: number of folds.
        alphas: penalties to choose from, relative to the mean eigenvalue of the features' Gram matrix.
        groups: ``[stimuli]`` labels of what is not independent (frames of one film, in their order): not split between
            folds, shuffled and left out as a whole.
        permutations: number of shuffles.
        seed: of the folds and shuffles.

    Raises:
        ValueError: for different numbers of stimuli, fewer than three stimuli per fold, NaN, constant targets, or
            groups of which a fold holds no two of equal size.
    """
    x = as_features(features, "features")
    y, ceiling = _targets(targets, seed)
    same_length("stimuli", features=x, targets=y)
    same_order(features=features, targets=targets)
    if groups is None:
        _warn_of_repeats(x)
    held = HeldOut.of(len(y), folds, groups, seed)
    return _encode(centred_gram(x), y, ceiling, held, _penalties(alphas), permutations, seed)


def _warn_of_repeats(x: Array) -> None:
    """A stimulus that is shown twice tells, in one fold, what it will be answered with in another."""
    before: dict[bytes, int] = {}
    pairs = [(before.setdefault(row.tobytes(), i), i) for i, row in enumerate(x)]
    repeats = [pair for pair in pairs if pair[0] != pair[1]]
    if repeats:
        first, second = repeats[0]
        warnings.warn(
            f"{len(set().union(*repeats))} of {len(x)} stimuli have the features of another (such as {first} and "
            f"{second}) and may lie in other folds than that: if they are the same, give groups=, or average targets",
            stacklevel=3,
        )


def _targets(targets: Any, seed: int) -> tuple[Array, Ceiling | None]:
    if np.ndim(targets) == 3:
        return as_array(targets, "targets").astype(np.float64).mean(0), split_half_ceiling(targets, seed=seed)
    y = as_responses(targets, "targets", 3).astype(np.float64)
    check_varies(y, "targets")
    return y, None


def _penalties(alphas: Any) -> Array:
    values = as_vector(np.atleast_1d(alphas), "alphas")
    if not len(values) or values.min() <= 0:
        raise ValueError(f"alphas must be positive, got {values.tolist()}")
    return values


def _encode(
    gram: Array,
    y: Array,
    ceiling: Ceiling | None,
    held: HeldOut,
    alphas: Array,
    permutations: int,
    seed: int,
) -> Encoding:
    fold = held.fold
    prediction, alpha = np.empty_like(y), np.empty((int(fold.max()) + 1, y.shape[1]))
    for f in range(len(alpha)):
        prediction[fold == f], alpha[f] = ridge_predictions(gram, y, fold != f, alphas, held.group)
    scores = _score(prediction, y, fold)
    by_chance = np.stack([_score(prediction, y[order], fold) for order in held.orders(permutations, seed)])
    highest = np.sort(by_chance.max(1))
    rest = [
        kept for kept in leaving_out(held.units(seed + 1)) if np.bincount(fold[kept], minlength=len(alpha)).min() > 2
    ]
    left_out = [_score(prediction[k], y[k], fold[k]).mean() for k in rest]
    normalised = None
    if ceiling is not None:
        normalised = np.where(ceiling.reliability >= 0.1, scores / ceiling.ceiling, np.nan)
    return Encoding(
        name="held-out correlation",
        value=float(scores.mean()),
        null=by_chance.mean(1),
        interval=jackknife_interval(scores.mean(), left_out, transform="fisher"),
        scores=scores,
        p_targets=(1 + permutations - np.searchsorted(highest, scores - 1e-12)) / (1 + permutations),
        ceiling=ceiling,
        normalised=normalised,
        prediction=prediction,
        fold=fold,
        alpha=alpha,
    )


def _score(prediction: Array, y: Array, fold: NDArray[np.int64]) -> Array:
    """``[targets]``: correlation within each fold, averaged over folds."""
    return np.mean([correlate_rows(prediction[fold == f].T, y[fold == f].T) for f in np.unique(fold)], axis=0)


# ---------------------------------------------------------------------- steps and regions


@dataclass(frozen=True, eq=False)
class EncodingTable:
    """What :func:`encode_table` returns.

    Attributes:
        features: names of the feature sets (steps, areas).
        regions: labels of the targets' regions.
        value: ``[features, regions]`` mean held-out correlation.
        normalised: ``[features, regions]`` share of the ceiling; NaN without repeats.
        results: each cell's :class:`Encoding`, by (feature set, region).
        controls: which of the feature sets are there to compare with; they are drawn grey.
    """

    features: tuple[str, ...]
    regions: tuple[Any, ...]
    value: Array
    normalised: Array
    results: Mapping[tuple[str, Any], Encoding]
    controls: tuple[str, ...] = ()

    def plot(self, ax: plotting.Axes | None = None) -> plotting.Axes:
        """Draw bars with intervals: a group per region, a bar per feature set."""
        ax = plotting.axes(ax)
        width = 0.8 / len(self.features)
        for i, name in enumerate(self.features):
            places = np.arange(len(self.regions)) + (i - (len(self.features) - 1) / 2) * width
            ends = np.array([self.results[name, region].interval for region in self.regions]).T
            kind = [other for other in self.features if (other in self.controls) == (name in self.controls)]
            shade = 0.35 + 0.65 * (kind.index(name) + 1) / len(kind)  # of the same color, all differ
            color = plotting.GREY if name in self.controls else plotting.BLUE
            ax.bar(places, self.value[i], 0.95 * width, color=color, alpha=shade, label=name)
            reach = np.nan_to_num(np.abs(ends - self.value[i]))
            ax.errorbar(places, self.value[i], yerr=reach, fmt="none", ecolor=plotting.INK, linewidth=0.8)
        for place, region in enumerate(self.regions):
            ceiling = self.results[self.features[0], region].ceiling
            if ceiling is not None:
                mean = float(np.nanmean(ceiling.ceiling))
                label = "noise ceiling (mean)" if place == 0 else None
                ax.plot([place - 0.45, place + 0.45], [mean, mean], color=plotting.INK, linestyle=":", label=label)
        ax.set_xticks(range(len(self.regions)), [str(region) for region in self.regions])
        ax.set(ylabel="held-out r", title="encoding by region")
        ax.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
        return ax


def encode_table(
    features: Mapping[str, Any],
    targets: Any,
    *,
    regions: Any | None = None,
    controls: Sequence[str] = (),
    folds: int = 5,
    alphas: Any = ALPHAS,
    groups: Any | None = None,
    permutations: int = 200,
    seed: int = 0,
) -> EncodingTable:
    """:func:`encode` for several feature sets (the steps of a model, its areas) and regions of the recording.

    All use the same folds, so that differences between cells are not differences of stimuli.

    Args:
        features: ``[stimuli, ...]`` by name.
        targets: as in :func:`encode`.
        regions: ``[targets]`` labels; one region of all targets if not given.
        controls: which of the feature sets are there to compare with (pixels, say).
        folds: as in :func:`encode`; so are ``alphas``, ``groups``, ``permutations`` and ``seed``.

    Raises:
        ValueError: as :func:`encode`, naming the feature set.
    """
    if not features:
        raise ValueError("encode_table needs at least one feature set")
    for name in controls:
        check_choice("control", name, features)
    y, ceiling = _targets(targets, seed)
    held = HeldOut.of(len(y), folds, groups, seed)
    labels = np.full(y.shape[1], "all") if regions is None else as_labels(regions, y.shape[1], "regions")
    names = np.unique(labels).tolist()
    results: dict[tuple[str, Any], Encoding] = {}
    for name, values in features.items():
        x = as_features(values, f"features {name!r}")
        same_length("stimuli", **{name: x, "targets": y})
        same_order(**{name: values, "targets": targets})
        gram = centred_gram(x)
        for region in names:
            mine = labels == region
            part = None
            if ceiling is not None:
                part = Ceiling(ceiling.split_half[mine], ceiling.reliability[mine], ceiling.ceiling[mine])
            results[name, region] = _encode(gram, y[:, mine], part, held, _penalties(alphas), permutations, seed)
    value = np.array([[results[name, region].value for region in names] for name in features])
    share = np.array([[results[name, region].value_normalised for region in names] for name in features])
    return EncodingTable(tuple(features), tuple(names), value, share, results, tuple(controls))
