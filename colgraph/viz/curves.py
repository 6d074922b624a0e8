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
) -> Figure:
    """Draw a run's metrics, from rows as in ``metrics.csv``; those of single steps inside an epoch are passed over.

    Args:
        rows: with ``epoch``, ``train_accuracy``, ``val_accuracy`` (fractions), ``train_loss``, ``val_loss`` and
            ``wiring_cost`` (in the sheet's units); a value that is missing leaves a gap.
        held_out: what to call the images that are not trained on.
        title: above the figure.
        accuracy_is: what accuracy means, where it is no share of images that are right.
        loss_is: what the loss is, and in which unit.

    Returns:
        A matplotlib ``Figure``.
    """
    rows = [row for row in rows if any(row.get(name) not in (None, "") for name in _DRAWN)]
    figure = new_figure(12.0, 3.8, title)
    accuracy, loss, wiring = figure.subplots(1, 3)
    epoch = _series(rows, "epoch")
    marker = "o" if len(rows) < 15 else ""
    style: dict[str, Any] = {"marker": marker, "markersize": 3.5, "linewidth": 1.7}
    for axes, what, scale in ((accuracy, "accuracy", 100), (loss, "loss", 1)):
        for split, color, label in (("train", BLUE, "training (augmented)"), ("val", ORANGE, held_out)):
            axes.plot(epoch, scale * _series(rows, f"{split}_{what}"), color=color, label=label, **style)
    val = 100 * _series(rows, "val_accuracy")
    if np.isfinite(val).any():
        last = int(np.flatnonzero(np.isfinite(val))[-1])
        accuracy.annotate(
            f"{val[last]:.1f}%", (epoch[last], val[last]), xytext=(-4, -14), textcoords="offset points", ha="right"
        )
    if accuracy_is is None:
        quiet(accuracy, title="Accuracy", xlabel="epoch", ylabel="correct (%)")
    else:
        quiet(accuracy, xlabel="epoch", ylabel="accuracy (%)")
        accuracy.set_title(textwrap.fill(f"Accuracy: {accuracy_is}", 48), fontsize=9)
    accuracy.legend(loc="lower right")
    quiet(loss, title="Loss", xlabel="epoch", ylabel=loss_is)
    loss.legend(loc="upper right")
    wiring.plot(epoch, _series(rows, "wiring_cost"), color=GREEN, **style)
    quiet(wiring, title="Wiring cost", xlabel="epoch", ylabel=f"mean distance heard ({UNIT})")
    for axes in (accuracy, loss, wiring):
        axes.xaxis.set_major_locator(few_ticks(whole=True))
    return figure


def _series(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    values = [row.get(name) for row in rows]
    return np.array([np.nan if value in (None, "") else float(value) for value in values])  # type: ignore[arg-type]
