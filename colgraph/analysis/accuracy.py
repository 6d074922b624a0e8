"""How sure an accuracy is, and whether two models differ: over seeds, over test images, and over many measures."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from colgraph.analysis.answers import Right, Scores
from colgraph.analysis.arrays import Array, as_array, as_vector, check_count
from colgraph.analysis.result import Result


def _as_answers(values: Any, what: str, scores: bool = True) -> Right | Scores:
    """Booleans ``[seeds, images]``, or finite numbers where scores are taken."""
    array = as_array(values, what)
    is_fit = array.dtype == bool or (scores and array.dtype.kind == "f" and bool(np.isfinite(array).all()))
    if not is_fit or array.ndim not in (1, 2) or array.shape[-1] < 2 or not array.size:
        shape = f"{array.dtype} of shape {list(array.shape)}"
        kinds = "booleans, or finite scores," if scores else "booleans"
        raise ValueError(f"{what} must be {kinds} of shape [seeds, images] or [images], got {shape}")
    return np.atleast_2d(array)


# ---------------------------------------------------------------------- one model


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Accuracy(Result):
    """What :func:`accuracy` returns; the value is the share of right answers, or the mean of the scores.

    Attributes:
        seeds: how many runs.
        images: how many images.
        seeds_variance: what seeds add to the variance of the value; NaN for one run.
        images_variance: what images add, with which of them a seed gets wrong.
        seeds_only: ``[2]``, Student's t interval over seeds, for these very images; NaN for one run.
    """

    seeds: int
    images: int
    seeds_variance: float
    images_variance: float
    seeds_only: Array

    in_summary = ("seeds", "images", "images_variance", "seeds_variance")


_ROUNDING = 1e-9  # of a mean of scores
_EXACT = 1e-12  # of scores, in differences of their means


def accuracy(correct: Any, *, level: float = 0.95) -> Accuracy:
    """The accuracy of one or several runs on the same test images, with an interval over both seeds and images.

    Other seeds would give another accuracy, and so would other test images. With ``y_si``, whether run s is right about
    image i, and ``y_si = m + a_s + b_i + e_si``, the variance of the mean is that of ``a`` over the number of seeds S,
    plus that of the images' means over their number I: ``max(MS_s - MS_e, 0) / (S I) + var_i(mean_s y_si) / I``, by the
    mean squares of an analysis of variance (Brennan 2001, "Generalizability theory"). Degrees of freedom are those of
    Satterthwaite (1946), "An approximate distribution of estimates of variance components". The interval is Wilson's,
    for as many independent answers as would have this variance (Korn and Graubard 1998, "Confidence intervals for
    proportions with small expected number of positive counts estimated from survey data"), so that it stays within 0
    and 1. For one run it is Wilson's for its images, and says nothing of other seeds.

    Scores of images whose mean is an accuracy (:func:`balanced_scores`) may take the place of right answers, as
    ``y_si`` in the same formulas.

    Args:
        correct: ``[seeds, images]`` or ``[images]`` boolean, or scores, of the same images, see
            :func:`join_predictions`.
        level: of the intervals.

    Raises:
        ValueError: for another shape, fewer than two images, whole numbers, and scores whose mean is no accuracy.
    """
    y = _as_answers(correct, "correct")
    seeds, images = y.shape
    mean = float(y.mean())
    by_seed, by_image, terms = _variances(y)
    if y.dtype != bool:
        if not -_ROUNDING <= mean <= 1 + _ROUNDING:
            raise ValueError(f"the mean of the scores is {mean:.4g}: an accuracy lies between 0 and 1")
        # Those of one run, too, are as far from each other as they are.
        mean, terms = min(max(mean, 0.0), 1.0), terms or [(by_image, images - 1.0)]
    return Accuracy(
        name="accuracy",
        value=mean,
        null=np.empty(0),
        interval=_share_interval(mean, by_seed + by_image, terms, images, level),
        seeds=seeds,
        images=images,
        seeds_variance=by_seed if seeds > 1 else float("nan"),
        images_variance=by_image,
        seeds_only=mean_interval(y.mean(1), level=level),
    )


def accuracy_interval(accuracies: Any, images: int, *, level: float = 0.95) -> Array:
    """``[2]``: an interval over seeds and test images where no more than the runs' accuracies is known.

    As :func:`accuracy`, with the variance ``s^2 / S + m (1 - m) / I`` of the mean m of S runs with the sample standard
    deviation s on I images: an upper bound, that of runs which are all right about the same images. One run on 360
    images, at 99%, is known to 1.1 points.

    Args:
        accuracies: ``[seeds]``, shares of the same test images.
        images: how many images.
        level: of the interval.

    Raises:
        ValueError: for shares outside of 0 to 1.
    """
    shares, count = as_vector(accuracies, "accuracies"), check_count("images", images, 2)
    if not len(shares) or shares.min() < 0 or shares.max() > 1:
        raise ValueError(f"accuracies must be shares from 0 to 1, one per run, got {shares.tolist()}")
    mean, seeds = float(shares.mean()), len(shares)
    by_image = mean * (1 - mean) / count
    if seeds == 1:
        return _share_interval(mean, by_image, [], count, level)
    by_seed = float(shares.var(ddof=1)) / seeds
    terms = [(by_seed, seeds - 1.0), (by_image, count - 1.0)]
    return _share_interval(mean, by_seed + by_image, terms, count, level)


def _share_interval(
    mean: float, variance: float, terms: Sequence[tuple[float, float]], images: int, level: float
) -> Array:
    """``[2]``: Wilson's, for as many independent answers as would have this variance; without terms, for the images."""
    if not terms:
        return _wilson(mean, images, float(stats.norm.ppf(0.5 + level / 2)))
    answers = mean * (1 - mean) / variance if variance > 0 and 0 < mean < 1 else float(images)
    return _wilson(mean, answers, float(stats.t.ppf(0.5 + level / 2, _satterthwaite(variance, terms))))


def _variances(y: NDArray[Any]) -> tuple[float, float, list[tuple[float, float]]]:
    """What seeds and images add to the variance of the mean of ``y [seeds, images]``.

    Also the variances that make up the sum, with their degrees of freedom; those of the images are left to the caller.
    """
    seeds, images = y.shape
    y = y.astype(np.float64)
    of_seed, of_image = y.mean(1), y.mean(0)
    by_image = float(of_image.var(ddof=1) / images)
    if seeds == 1:
        return 0.0, by_image, []
    rest = y - of_seed[:, None] - of_image + y.mean()
    square_s = images * of_seed.var(ddof=1) / (seeds * images)
    square_e = (rest**2).sum() / ((seeds - 1) * (images - 1)) / (seeds * images)
    terms = [(square_s, seeds - 1.0), (square_e, (seeds - 1.0) * (images - 1))]
    return float(max(square_s - square_e, 0)), by_image, [*terms, (by_image, images - 1.0)]


def _satterthwaite(total: float, terms: Sequence[tuple[float, float]]) -> float:
    below = sum(value**2 / degrees for value, degrees in terms)
    return max(total**2 / below, 1.0) if below > 0 else float("inf")


def _wilson(share: float, answers: float, quantile: float) -> Array:
    """``[2]``: Wilson's (1927) interval of a share of so many independent answers."""
    q = quantile**2 / answers
    centre = (share + q / 2) / (1 + q)
    reach = quantile / (1 + q) * np.sqrt(share * (1 - share) / answers + q / (4 * answers))
    ends = np.clip(np.array([centre - reach, centre + reach]), 0, 1)
    # At 0 and 1 the end is the share itself, up to rounding.
    return np.array([min(ends[0], share), max(ends[1], share)])


# ---------------------------------------------------------------------- two models


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class AccuracyDifference(Result):
    """What :func:`accuracy_difference` returns; the value is the first accuracy less the second.

    Attributes:
        test: "McNemar's exact test", "Student's t" or "exact sign test".
        p: its two-sided p-value.
        only_first: of one run each, the images that the first alone gets right; the mean over pairs of runs else; NaN
            for scores.
        only_second: the same of the second.
    """

    test: str
    p: float
    only_first: float
    only_second: float

    @property
    def p_value(self) -> float:
        """That of the test."""
        return self.p

    in_summary = ("test", "only_first", "only_second")


def mcnemar(first: Any, second: Any) -> float:
    """The two-sided p-value of McNemar's exact test: are two runs right equally often about the same images?

    Of the images that one run alone gets right, each of the two has half, by a binomial test. Source: McNemar (1947),
    "Note on the sampling error of the difference between correlated proportions or percentages".

    Args:
        first: ``[images]`` boolean, whether the first is right.
        second: the same of the second, for the same images in the same order.

    Raises:
        ValueError: for other shapes, different numbers of images, or what is not boolean.
    """
    a, b = _pair(first, second, scores=False)
    if len(a) > 1 or len(b) > 1:
        raise ValueError(f"McNemar's test is of one run each, got {len(a)} and {len(b)}: use accuracy_difference")
    alone, other = int((a & ~b).sum()), int((b & ~a).sum())
    return _sign_test(alone, other)


def _sign_test(one: int, other: int) -> float:
    """The two-sided p-value of so many of one kind and so many of the other, where each is as likely."""
    return _above_zero(float(stats.binomtest(one, one + other).pvalue)) if one + other else 1.0


def _above_zero(p: float) -> float:
    """A p-value too small for a number is the least that there is: what is seen can always be by chance."""
    return max(p, float(np.finfo(np.float64).tiny))


def _pair(first: Any, second: Any, scores: bool = True) -> tuple[NDArray[Any], NDArray[Any]]:
    a, b = _as_answers(first, "first", scores), _as_answers(second, "second", scores)
    if (a.dtype == bool) != (b.dtype == bool):
        raise ValueError(f"first and second must both be right answers, or both scores, got {a.dtype} and {b.dtype}")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"first and second must be of the same images, got {a.shape[1]} and {b.shape[1]} of them")
    return a, b


def accuracy_difference(
    first: Any, second: Any, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> AccuracyDifference:
    """How far the accuracies of two models lie apart on the same images.

    Both see the same images, most of which both get right or wrong, so that the difference is far better known than
    either accuracy. Of one run each: the interval is that of a paired bootstrap (images are drawn with replacement, for
    both models alike; Efron and Tibshirani 1993, "An introduction to the bootstrap"), the p-value McNemar's; neither
    says anything of other seeds. Of several runs: the variance is that of the images' mean differences over their
    number, plus that of each model's seeds as in :func:`accuracy`; interval and p-value are Student's t with
    Satterthwaite's degrees of freedom. A model with a single run adds nothing for its seeds. Scores
    (:func:`balanced_scores`) have Student's t for one run each, too: over images. Where neither images nor seeds
    differ, there is no error to measure a difference by: the p-value is that of an exact sign test over images, of
    which each is as likely to favor either model, and says nothing of other seeds.

    Args:
        first: ``[seeds, images]`` or ``[images]`` boolean, whether the first is right, or scores, see
            :func:`join_predictions`.
        second: the same of the second, for the same images in the same order; seeds need not be the same or as many.
        level: of the interval.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: for other shapes, different numbers of images, whole numbers, or right answers beside scores.
    """
    a, b = _pair(first, second)
    gap = a.mean(0) - b.mean(0)
    value = float(gap.mean())
    if len(a) == len(b) == 1 and a.dtype == bool:
        test, p = "McNemar's exact test", mcnemar(a, b)
        interval = _paired_bootstrap(gap, level, check_count("resamples", resamples), seed)
    else:
        (by_a, _, terms_a), (by_b, _, terms_b) = _variances(a), _variances(b)
        by_image = float(gap.var(ddof=1) / len(gap))
        total = by_a + by_b + by_image
        # The images' own terms are those of the difference.
        degrees = _satterthwaite(total, [*terms_a[:2], *terms_b[:2], (by_image, len(gap) - 1.0)])
        error = float(np.sqrt(total))
        reach = stats.t.ppf(0.5 + level / 2, degrees) * error
        test, p, interval = "Student's t", 1.0, np.array([value - reach, value + reach])
        least = _EXACT * float(max(np.abs(a).max(), np.abs(b).max()))
        if error > least:
            p = _above_zero(2 * float(stats.t.sf(abs(value) / error, degrees)))
        elif abs(value) > least:  # what there is of an error is rounding
            test, p = "exact sign test", _sign_test(int((gap > least).sum()), int((gap < -least).sum()))
    return AccuracyDifference(
        name="difference of accuracy",
        value=value,
        null=np.empty(0),
        interval=interval,
        tail="two-sided",
        test=test,
        p=p,
        only_first=float(a.mean(0) @ (1 - b.mean(0))) if a.dtype == bool else float("nan"),
        only_second=float(b.mean(0) @ (1 - a.mean(0))) if a.dtype == bool else float("nan"),
    )


def _paired_bootstrap(gap: Array, level: float, resamples: int, seed: int) -> Array:
    """``[2]``: percentiles of the mean of ``gap [images]``, which is -1, 0 or 1, with images drawn anew."""
    kind, count = np.unique(gap, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(gap), count / len(gap), size=resamples)
    return np.quantile(drawn @ kind / len(gap), [0.5 - level / 2, 0.5 + level / 2])


# ---------------------------------------------------------------------- many measures


@dataclass(frozen=True, eq=False)
class CorrectedPValues:
    """What :func:`correct_p_values` returns; a measure without a p-value has NaN throughout.

    Attributes:
        names: of the measures.
        p: ``[measures]`` as they came.
        holm: ``[measures]``, below 0.05 where a measure would be found even if all were tried together.
        benjamini_hochberg: ``[measures]``, below 0.05 for a list of which 5% are expected to be false.
        count: how many p-values were corrected for.
    """

    names: tuple[Hashable, ...]
    p: Array
    holm: Array
    benjamini_hochberg: Array
    count: int


def correct_p_values(p_values: Mapping[Any, float | None]) -> CorrectedPValues:
    """P-values of several measures, corrected for their number.

    Holm (1979), "A simple sequentially rejective multiple test procedure", holds the chance of any false finding,
    whatever the dependence; Benjamini and Hochberg (1995), "Controlling the false discovery rate", the expected share
    of false ones, under positive dependence. With n permutations no p-value lies below ``1 / (n + 1)``, and Holm's
    least of m below ``m / (n + 1)``: two dozen measures need 500 permutations.

    Args:
        p_values: by the name of the measure; None or NaN where a measure has none, which then does not count.

    Raises:
        ValueError: for values outside of 0 to 1.
    """
    p = np.array([np.nan if value is None else value for value in p_values.values()], dtype=np.float64)
    known = np.isfinite(p)
    for name, value in zip(p_values, p, strict=True):
        if not (np.isnan(value) or 0 <= value <= 1):
            raise ValueError(f"p-values must lie between 0 and 1, got {value:g} for {name!r}")
    holm, found = np.full(len(p), np.nan), np.full(len(p), np.nan)
    if known.any():
        found[known] = stats.false_discovery_control(p[known], method="bh")
        order = np.argsort(p[known], kind="stable")
        steps = np.maximum.accumulate(p[known][order] * (len(order) - np.arange(len(order))))
        holm[np.flatnonzero(known)[order]] = np.minimum(steps, 1)
    return CorrectedPValues(tuple(p_values), p, holm, found, int(known.sum()))


def mean_interval(values: Any, *, level: float = 0.95, measures: int = 1) -> Array:
    """``[2]``: Student's t interval of the mean of several seeds; NaN for a single one.

    With so many ``measures`` it is Bonferroni's: all of them hold together with a chance of ``level`` or more, because
    each is at ``1 - (1 - level) / measures``. Source: Dunn (1961), "Multiple comparisons among means".

    Raises:
        ValueError: for values that are not finite.
    """
    x = as_vector(values, "values")
    if len(x) < 2:
        return np.full(2, np.nan)
    outside = (1 - level) / check_count("measures", measures)
    reach = stats.t.ppf(1 - outside / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return np.asarray(x.mean() + reach * np.array([-1, 1]))
