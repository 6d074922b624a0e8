"""Which classes a model takes for which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from colgraph.viz.style import INK, SEQUENTIAL, Figure, new_figure

_NAMED = 40
_WRITTEN = 15


def draw_confusion(
    confusion: np.ndarray, classes: Sequence[str], *, title: str | None = None, counted: str = "images"
) -> Figure:
    """Draw a confusion matrix, each row as shares of its label.

    Args:
        confusion: ``[K,K]`` counts: row the label, column the answer.
        classes: their K names; written on the axes up to 40 classes, and shares into the cells up to 15.
        title: above the figure.
        counted: what there is a label for: "images" or "columns".

    Returns:
        A matplotlib ``Figure``.

    Raises:
        ValueError: if the matrix and the names do not fit.
    """
    counts = np.asarray(confusion, dtype=float)
    k = len(classes)
    if counts.shape != (k, k):
        raise ValueError(f"confusion must be [{k}, {k}] for {k} classes, got {list(counts.shape)}")
    totals = counts.sum(1, keepdims=True)
    shares = np.divide(100 * counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    side = min(10.0, max(4.5, 2.5 + 0.4 * k))
    figure = new_figure(side + 0.8, side, title)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap=SEQUENTIAL, vmin=0, vmax=100)
    figure.colorbar(image, ax=axes, label=f"share of the label's {counted} (%)", shrink=0.8)
    axes.set(xlabel="answer", ylabel="label")
    if k <= _NAMED:
        axes.set_xticks(range(k), [str(name) for name in classes], rotation=90 if k > 10 else 0)
        axes.set_yticks(range(k), [str(name) for name in classes])
    if k <= _WRITTEN:
        for row, column in np.argwhere(counts > 0):
            value = shares[row, column]
            axes.text(
                column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color=INK if value > 60 else "white"
            )
    return figure
