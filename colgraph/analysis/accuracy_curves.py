"""The curve of a network's accuracy against whatever is done to it or its images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.analysis import plotting
from colgraph.analysis.arrays import Array, as_vector, check_count
from colgraph.analysis.nets import bar
from colgraph.analysis.result import Result
from colgraph.analysis.scoring import PER_IMAGE, Scoring


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class AccuracyCurve(Result):
    """Accuracy against how much was done to a network or its input; the value is the mean over all levels but 0.

    Attributes:
        levels: ``[K]`` how much.
        accuracy: ``[K]``.
        accuracy_interval: ``[2, K]``.
        accuracy_null: ``[draws, K]`` under the null.
        level_name: what the levels are.
        null_name: what the null is.
        images: how many images were classified.
    """

    levels: Array
    accuracy: Array
    accuracy_interval: Array
    accuracy_null: Array
    level_name: str
    null_name: str
    images: int

    in_summary = ("images",)

    def plot(self, ax: plotting.Axes | None = None) -> plotting.Axes:
        """Draw accuracy against level, beside the null."""
        ax = plotting.axes(ax)
        if len(self.accuracy_null):
            mean, ends = self.accuracy_null.mean(0), np.quantile(self.accuracy_null, [0.025, 0.975], axis=0)
            ax.fill_between(self.levels, ends[0], ends[1], color=plotting.GREY, alpha=0.3, linewidth=0)
            ax.plot(self.levels, mean, color=plotting.GREY, linestyle="--", label=self.null_name)
        low, high = self.accuracy_interval
        ax.fill_between(self.levels, low, high, color=plotting.ORANGE, alpha=0.25, linewidth=0)
        ax.plot(self.levels, self.accuracy, color=plotting.ORANGE, marker="o", markersize=4, label="accuracy")
        title = f"{self.name}: {self.value:.3f} ({self.images:,} images)"
        ax.set(xlabel=self.level_name, ylabel="accuracy", ylim=(min(-0.02, ax.get_ylim()[0]), 1.02), title=title)
        ax.legend(frameon=False, fontsize=8, loc="lower left")
        return ax


def accuracy_curve(
    name: str,
    levels: Array,
    counts: Array,
    null: Array,
    *,
    level_name: str,
    null_name: str,
    seed: int,
    tail: str = "less",
    scoring: Scoring = PER_IMAGE,
) -> AccuracyCurve:
    """An :class:`AccuracyCurve` from ``counts [K, B, k]`` of images and the accuracies ``null [draws, K]``.

    The seed draws the interval's groups of images.
    """
    counted = levels > 0
    accuracy, left_out = scoring.accuracy(counts), scoring.left_out(counts, seed)
    value = float(accuracy[counted].mean())
    return AccuracyCurve(
        name=name,
        value=value,
        null=null[:, counted].mean(1) if len(null) else np.empty(0),
        interval=scoring.interval(value, [each[counted].mean() for each in left_out]),
        tail=tail,
        levels=levels,
        accuracy=accuracy,
        accuracy_interval=scoring.interval(accuracy, left_out),
        accuracy_null=null,
        level_name=level_name,
        null_name=null_name,
        images=counts.shape[1],
    )


def check_levels(levels: Sequence[float], what: str, most: float = np.inf) -> Array:
    """Ascending levels from 0 to ``most``, at least one above 0, or a ValueError."""
    array = np.unique(as_vector(levels, what))
    if array.min() < 0 or array.max() > most or array.max() <= 0:
        bound = "" if np.isinf(most) else f" to {most:g}"
        raise ValueError(f"{what} must be from 0{bound} with at least one above 0, got {array.tolist()}")
    return array


def noise_curve(
    kind: str,
    unit: str,
    answer: Callable[[NDArray[Any], NDArray[Any], float, int], Array],
    images: Any,
    labels: Any,
    levels: Sequence[float],
    draws: int,
    seed: int,
    progress: bool,
    scoring: Scoring = PER_IMAGE,
) -> AccuracyCurve:
    """Of the mean over draws of ``answer(images, labels, level, draw)``, the counts ``[B, k]`` of images, by level."""
    data, index = scoring.check(images, labels)
    amounts = check_levels(levels, "levels")
    total: list[Any] = [0.0] * len(amounts)
    cells = [(k, draw) for k in range(len(amounts)) for draw in range(check_count("draws", draws))]
    for k, draw in bar(cells, kind, progress):
        total[k] = total[k] + answer(data, index, float(amounts[k]), draw) / draws
    return accuracy_curve(
        f"accuracy under {kind}",
        amounts,
        np.stack(total),
        np.empty((0, len(amounts))),
        level_name=f"noise ({unit})",
        null_name="",
        seed=seed,
        scoring=scoring,
    )
