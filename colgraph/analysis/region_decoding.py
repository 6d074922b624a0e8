"""From which regions of a sheet classes can be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.analysis import plotting
from colgraph.analysis.arrays import Array, as_labels, as_responses, check_count
from colgraph.analysis.by_region import draw_largest
from colgraph.analysis.result import Result
from colgraph.analysis.ridge import held_out_folds, ridge_predictions
from colgraph.analysis.sheet_regions import given_regions
from colgraph.analysis.stats import centred_gram, jackknife_interval, leaving_out, random_groups

_ALPHAS = np.logspace(-3, 3, 7)  # times the mean eigenvalue


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class RegionDecoding(Result):
    """What :func:`region_decoding` returns; the value is the mean accuracy over regions.

    Attributes:
        regions: names.
        accuracy: ``[R]`` of each.
        chance: the mean of the null.
    """

    regions: tuple[str, ...]
    accuracy: Array
    chance: float

    def plot(self, ax: plotting.Axes | None = None) -> plotting.Axes:
        """Draw the regions from which most can be read, beside chance."""
        ax = draw_largest(ax, self.accuracy, self.regions, self.name)
        ax.axvline(self.chance, color=plotting.GREY, linestyle=":")
        ax.set(xlabel="held-out accuracy (dotted: by chance)")
        return ax


def region_decoding(
    responses: Any,
    labels: Any,
    regions: Mapping[str, Any],
    *,
    folds: int = 5,
    permutations: int = 200,
    seed: int = 0,
) -> RegionDecoding:
    """How well the class of a stimulus can be read from the mean response of each region of a sheet.

    Ridge regression on indicators of classes, as of :func:`colgraph.analysis.encode`, with the largest prediction as
    the answer and its penalty chosen in training; accuracy on stimuli that were held out. That classes can be read
    where the image enters is so for any network: compare with the input and with the untrained network. Null: labels
    shuffled over stimuli; somewhat below one in the number of classes, as a class that is frequent among what is held
    out is rarer in training. Interval: jackknife over regions.

    Args:
        responses: ``[stimuli, columns]`` or ``[stimuli, columns, channels]``.
        labels: ``[stimuli]`` numbers or text.
        regions: names to columns or masks, as :func:`colgraph.analysis.sheet_regions` takes them; they may overlap.
        folds: in which stimuli are held out.
        permutations: of the labels.
        seed: of folds and permutations.

    Raises:
        ValueError: for fewer than two regions, or empty ones, fewer than two classes, too few stimuli for the folds,
            and shapes that do not fit.
    """
    x = np.asarray(as_responses(responses, channels=np.ndim(responses) == 3))
    x = x if x.ndim == 3 else x[..., None]
    classes, answer = np.unique(as_labels(labels, len(x)), return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"labels: classes can be told apart where there are at least two, got {len(classes)}")
    columns = list(given_regions(regions, x.shape[1]).values())
    if len(columns) < 2:
        raise ValueError(f"regions: at least two are needed, got {len(columns)}")
    fold = held_out_folds(len(x), folds, None, seed)
    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(answer) for _ in range(check_count("permutations", permutations, 0))]
    # One fit serves the labels and all shuffles of them: they are targets of the same Gram matrix.
    answers = np.stack([answer, *shuffled], axis=1)
    target = np.eye(len(classes))[answers].reshape(len(x), -1)
    right = np.stack([_shares(x[:, members].mean(1), answers, target, fold) for members in columns])
    everyone = right.mean(0)
    left = np.array([right[kept, 0].mean() for kept in leaving_out(random_groups(len(columns), seed))])
    return RegionDecoding(
        name="classes in regions",
        unit="accuracy",
        value=float(everyone[0]),
        null=everyone[1:],
        interval=jackknife_interval(everyone[0], left),
        regions=tuple(regions),
        accuracy=right[:, 0],
        chance=float(everyone[1:].mean()) if len(everyone) > 1 else 1 / len(classes),
    )


def _shares(x: Array, answers: NDArray[np.int64], target: Array, fold: NDArray[np.int64]) -> Array:
    """``[labelings]``: the share of held-out stimuli ``[stimuli, channels]`` whose class is predicted."""
    gram, right = centred_gram(x.astype(np.float64)), np.zeros(answers.shape, dtype=bool)
    for f in np.unique(fold):
        held = fold == f
        predicted, _ = ridge_predictions(gram, target, ~held, _ALPHAS)
        right[held] = predicted.reshape(held.sum(), answers.shape[1], -1).argmax(-1) == answers[held]
    return right.mean(0)
