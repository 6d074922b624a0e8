"""Dissimilarity matrices of models beside recorded ones: similarity, intervals, differences and the noise ceiling.

All measures and all inference are rsatoolbox's. What is done here is the loop of its bootstrap: rsatoolbox's own
compares each model by itself, and sorts the recordings anew each time, which takes minutes where this takes seconds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.analysis.arrays import Array
from colgraph.analysis.nets import bar
from colgraph.brain.rdm_shapes import side_of
from colgraph.extras import optional

METHODS = ("spearman", "cosine", "corr", "kendall", "tau-a", "rho-a", "corr_cov", "cosine_cov")
"""rsatoolbox's names of measures of similarity that resampled stimuli can be compared by."""
LEVEL = 0.95
_AT_ONCE = 24  # intervals at a time: rsatoolbox makes the variances of all pairs


@dataclass(frozen=True, eq=False)
class Comparison:
    """Models compared with one recording.

    Attributes:
        values: ``[models, subjects]`` similarity to each subject.
        ceiling: the lower and the upper noise ceiling; None for one subject, of whom there is none.
        drawn: ``[3, samples, models]`` mean similarity in bootstrap samples of subjects and stimuli, of subjects, and
            of stimuli; for one subject ``[1, samples, models]``, of stimuli.
        method: rsatoolbox's name of the measure.
        stimuli: how many there are.
    """

    values: Array
    ceiling: tuple[float, float] | None
    drawn: Array
    method: str
    stimuli: int

    @property
    def similarity(self) -> Array:
        """``[models]``, the mean over subjects."""
        return np.asarray(self.values.mean(1))

    @property
    def freedom(self) -> int:
        """Degrees of freedom, see :func:`freedom_of`."""
        return freedom_of(self.values.shape[1], self.stimuli)

    def result(self, models: Sequence[int]) -> Any:
        """rsatoolbox's ``Result`` for some of the models: the values of all data, with the bootstrap's variances.

        Source: Schütt et al. (2023), "Statistical inference on representational geometries", eLife 12:e82566.
        """
        inference = optional("comparing dissimilarities needs", "rsatoolbox.inference", "brain")
        chosen = list(models)
        drawn = self.drawn[:, :, chosen]
        drawn = drawn[:, np.isfinite(drawn).all((0, 2))]
        apart = drawn - drawn.mean(1, keepdims=True)
        variances = np.einsum("kij,kil->kjl", apart, apart) / (drawn.shape[1] - 1)
        is_dual = len(drawn) == 3
        return inference.Result(
            [str(i) for i in chosen],
            self.values[None, chosen],
            self.method,
            "fixed",  # the values are those of all data
            np.array(self.ceiling or (np.nan, np.nan)),
            variances=variances if is_dual else variances[0],
            dof=self.freedom,
            n_rdm=self.values.shape[1] if is_dual else None,
            n_pattern=self.stimuli,
        )

    def intervals(self) -> Array:
        """``[models, 2]``: 95%, over subjects and stimuli; for one subject over stimuli."""
        found = []
        for start in range(0, len(self.values), _AT_ONCE):
            some = range(start, min(start + _AT_ONCE, len(self.values)))
            found.append(np.stack(self.result(some).get_ci(LEVEL), 1))
        return np.concatenate(found)

    def differences(self, models: Sequence[int]) -> list[dict[str, Any]]:
        """Every pair of some models: ``first`` and ``second`` (their places), ``difference``, ``interval``, ``p``."""
        if len(models) < 2:
            return []
        stats = optional("comparing dissimilarities needs", "scipy.stats", "brain")
        result = self.result(models)
        p_values = result.test_pairwise()
        means, half = result.get_means(), stats.t.ppf((1 + LEVEL) / 2, self.freedom)
        pairs = list(zip(*np.triu_indices(len(models), 1), strict=True))
        found = []
        for (i, j), variance in zip(pairs, np.atleast_1d(result.diff_var), strict=True):
            apart, reach = float(means[i] - means[j]), float(half * np.sqrt(max(variance, 0)))
            ends = [apart - reach, apart + reach]
            found.append(
                {"first": int(i), "second": int(j), "difference": apart, "interval": ends, "p": float(p_values[i, j])}
            )
        return found


def freedom_of(subjects: int, stimuli: int) -> int:
    """Degrees of freedom of a bootstrap over subjects and stimuli, as rsatoolbox counts them; of one, over stimuli."""
    return (min(subjects, stimuli) if subjects > 1 else stimuli) - 1


def check_method(method: str) -> None:
    """Raise ValueError for a measure that rsatoolbox does not have, or not for resampled stimuli."""
    if method in ("neg_riem_dist", "bures", "bures_metric"):
        raise ValueError(
            f"method {method!r} is not defined where stimuli are resampled: give one of {', '.join(METHODS)}"
        )
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")


def compare_with(
    models: Array,
    recorded: Sequence[Array],
    *,
    method: str = "spearman",
    bootstraps: int = 1000,
    seed: int = 0,
    progress: bool = False,
) -> list[Comparison]:
    """How alike the matrices of models and those of each recording are.

    The samples are those that rsatoolbox's ``eval_bootstrap`` (for one subject ``eval_bootstrap_pattern``) draws of one
    recording after ``numpy.random.seed(seed)``; of several, all share the samples of stimuli. Two copies of one
    stimulus in a sample are no pair: rsatoolbox leaves it out, and so does this.

    Args:
        models: ``[models, pairs]``.
        recorded: of each recording ``[subjects, pairs]``, of the same stimuli.
        method: rsatoolbox's name of the measure.
        bootstraps: how many samples.
        seed: of the samples.
        progress: show a progress bar.

    Raises:
        ValueError: for an unknown measure.
        ImportError: without rsatoolbox.
    """
    check_method(method)
    rdm = optional("comparing dissimilarities needs", "rsatoolbox.rdm", "brain")
    whole = [rdm.compare(models, each, method) for each in recorded]
    count = side_of(models.shape[1]) or 0
    draw = np.random.RandomState(seed)  # the generator that rsatoolbox draws from
    drawn = [np.full((3 if len(each) > 1 else 1, bootstraps, len(models)), np.nan) for each in recorded]
    alike, subjects = _resampling(models, np.concatenate(recorded), method), np.cumsum([0, *map(len, recorded)])
    for sample in bar(range(bootstraps), "bootstrap", progress):
        who = [draw.randint(0, len(each), size=len(each)) if len(each) > 1 else None for each in recorded]
        stimuli = np.sort(draw.randint(0, count, size=count))
        if len(np.unique(stimuli)) < 3:
            continue
        each_with_each = alike(stimuli)
        for k, (chosen, found) in enumerate(zip(who, drawn, strict=True)):
            mine = each_with_each[:, subjects[k] : subjects[k + 1]]
            if chosen is None:
                found[0, sample] = mine.mean(1)
            else:
                found[:, sample] = mine[:, chosen].mean(1), whole[k][:, chosen].mean(1), mine.mean(1)
    return [
        Comparison(values, noise_ceiling(each, method), samples, method, count)
        for values, each, samples in zip(whole, recorded, drawn, strict=True)
    ]


def noise_ceiling(recorded: Array, method: str = "spearman") -> tuple[float, float] | None:
    """The lower and upper noise ceiling of matrices ``[subjects, pairs]``, as rsatoolbox has it; None for one subject.

    The mean similarity of each subject to the best matrix of all others, and of all. Source: Nili et al. (2014), "A
    toolbox for representational similarity analysis".
    """
    if len(recorded) < 2:
        return None
    rdm = optional("comparing dissimilarities needs", "rsatoolbox.rdm", "brain")
    ceilings = optional("comparing dissimilarities needs", "rsatoolbox.inference.noise_ceiling", "brain")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tau: the ceiling is that of averaged ranks, which the docs say
        low, high = ceilings.boot_noise_ceiling(rdm.RDMs(recorded), method=method)
    return float(low), float(high)


def _resampling(models: Array, recorded: Array, method: str) -> Callable[[NDArray[Any]], Array]:
    """What gives ``[models, subjects]``, the similarity of each with each in a sample of stimuli."""
    if method == "spearman":
        return _Spearman(models, recorded)
    rdm = optional("comparing dissimilarities needs", "rsatoolbox.rdm", "brain")
    count = side_of(models.shape[1]) or 0
    rows, columns = np.triu_indices(count, 1)
    square = np.full((len(models) + len(recorded), count, count), np.nan)
    square[:, rows, columns] = square[:, columns, rows] = np.concatenate([models, recorded])

    def alike(stimuli: NDArray[Any]) -> Array:
        # NaN, which rsatoolbox leaves out, for two copies of one stimulus.
        sample = square[:, stimuli[rows], stimuli[columns]]
        return np.asarray(rdm.compare(sample[: len(models)], sample[len(models) :], method))

    return alike


class _Spearman:
    """Rank correlations in samples of stimuli, of matrices that are sorted once.

    A pair of stimuli that were drawn a and b times counts ``a b`` times: its rank follows from how often those below it
    were drawn. It is the correlation of the ranks in the sample itself, which a test compares.
    """

    def __init__(self, models: Array, recorded: Array) -> None:
        self._count, self._models = side_of(models.shape[1]) or 0, len(models)
        # The number of each dissimilarity among the different ones of its matrix, from the smallest up.
        self._level = [np.unique(line, return_inverse=True)[1] for line in np.concatenate([models, recorded])]

    def __call__(self, stimuli: NDArray[Any]) -> Array:
        rows, columns = np.triu_indices(self._count, 1)
        often = np.bincount(stimuli, minlength=self._count).astype(np.float64)
        weight = often[rows] * often[columns]
        unit = np.empty((len(self._level), len(weight)))
        for line, level in zip(unit, self._level, strict=True):
            many = np.bincount(level, weight)
            line[:] = ((np.cumsum(many) - many / 2) - weight.sum() / 2)[level]
            length = np.sqrt(np.vdot(line * weight, line))
            # All pairs of the sample may be alike, which is similar to nothing.
            line *= 1 / length if length > 0 else 0
        return np.asarray((unit[: self._models] * weight) @ unit[self._models :].T)
