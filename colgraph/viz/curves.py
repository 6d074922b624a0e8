"""Accuracy, loss and wiring cost over a training run."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from colgraph.viz.style import BLUE, GREEN, ORANGE, UNIT, Figure, few_ticks, new_figure, quiet

_DRAWN = ("train_accuracy", "val_accuracy", "train_loss", "val_loss", "wiring_cost")


def draw_curves(
    rows: Sequence[Mapping[str, Any]],
    *,
    held_out: str = "held out",
    title: str | None = None,
    accuracy_is: str | None = None,
    loss_is: str = "cross-entropy (nats)",
    smoothing: float = 0.0,
    classes: int | None = None,
    augmented: bool = True,
    unit: str = UNIT,
) -> Figure:
    """Draw a run's metrics, from rows as in ``metrics.csv``; those of single steps inside an epoch are passed over.

    Args:
        rows: with ``epoch``, ``train_accuracy``, ``val_accuracy`` (fractions), ``train_loss``, ``val_loss`` and
            ``wiring_cost`` (in the sheet's units); a value that is missing leaves a gap, and a wiring cost that no row
            has is not drawn.
        held_out: what to call the images that are not trained on.
        title: above the figure.
        accuracy_is: what accuracy means, where it is no share of images that are right.
        loss_is: what the loss is, and in which unit.
        smoothing: the label smoothing of the training loss, which the held-out loss has not: the two do not compare.
        classes: their number, from which the least training loss follows that smoothed labels allow; it is drawn.
        augmented: whether the training images are.
        unit: of the wiring cost.

    Returns:
        A matplotlib ``Figure``.
    """
    rows = [row for row in rows if any(row.get(name) not in (None, "") for name in _DRAWN)]
    cost = _series(rows, "wiring_cost")
    wired = bool(np.isfinite(cost).any()) or not rows
    figure = new_figure(12.0 if wired else 8.4, 3.8, title)
    accuracy, loss, *more = figure.subplots(1, 3 if wired else 2)
    epoch = _series(rows, "epoch")
    marker = "o" if len(rows) < 15 else ""
    style: dict[str, Any] = {"marker": marker, "markersize": 3.5, "linewidth": 1.7}
    for axes, what, scale in ((accuracy, "accuracy", 100), (loss, "loss", 1)):
        apart = ["augmented"] if augmented else []
        apart += [f"labels\nsmoothed by {smoothing:g}"] if what == "loss" and smoothing else []
        training = f"training ({', '.join(apart)})" if apart else "training"
        unseen = held_out + (_in_the_end(rows) if what == "accuracy" else "")
        for split, color, label in (("train", BLUE, training), ("val", ORANGE, unseen)):
            axes.plot(epoch, scale * _series(rows, f"{split}_{what}"), color=color, label=label, **style)
    if accuracy_is is None:
        quiet(accuracy, title="Accuracy", xlabel="epoch", ylabel="correct (%)")
    else:
        quiet(accuracy, xlabel="epoch", ylabel="accuracy (%)")
        accuracy.set_title(textwrap.fill(f"Accuracy: {accuracy_is}", 48), fontsize=9)
    accuracy.legend(loc="lower right")
    quiet(loss, title="Loss", xlabel="epoch", ylabel=loss_is)
    if smoothing and classes and classes > 1:
        least = least_smoothed_loss(smoothing, classes)
        loss.axhline(least, color=BLUE, linestyle=":", linewidth=1.2, label=f"least with smoothed labels: {least:.2f}")
    loss.legend(loc="best")
    for wiring in more:
        wiring.plot(epoch, cost, color=GREEN, **style)
        quiet(wiring, title="Wiring cost", xlabel="epoch", ylabel=f"mean distance heard ({unit})")
    for axes in (accuracy, loss, *more):
        axes.xaxis.set_major_locator(few_ticks(whole=True))
    return figure


def least_smoothed_loss(smoothing: float, classes: int) -> float:
    """The least cross-entropy, in nats, with labels smoothed by ``smoothing`` over all ``classes``: their entropy.

    The true class has ``1 - s + s / K``, each other ``s / K`` (Szegedy et al. 2016, "Rethinking the Inception
    architecture").
    """
    other = smoothing / classes
    true = 1 - smoothing + other
    return float(-(true * np.log(true) + (classes - 1) * (other * np.log(other) if other else 0)))


def _in_the_end(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the legend says of the last accuracy: beside its curve it would lie on one or the other."""
    known = [value for value in 100 * _series(rows, "val_accuracy") if np.isfinite(value)]
    return f": {known[-1]:.1f}% in the end" if known else ""


def _series(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    values = [row.get(name) for row in rows]
    return np.array([np.nan if value in (None, "") else float(value) for value in values])  # type: ignore[arg-type]
