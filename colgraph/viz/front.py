"""Accuracy against what a sheet's wires cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from colgraph.viz.style import BLUE, GREY, ORANGE, Figure, new_figure, quiet


def draw_trade_off(entries: Sequence[Mapping[str, Any]], label: str, *, title: str | None = None) -> Figure:
    """Test accuracy of each config against a cost, with the Pareto front.

    Args:
        entries: ``config``, ``cost``, ``test_accuracy`` (a fraction), ``test_accuracies`` and ``costs`` of each seed,
            ``test_accuracy_interval`` (two fractions, or None) and ``on_front``, from the least cost to the most.
        label: of the cost.
        title: above the figure.

    Returns:
        A matplotlib ``Figure``.
    """
    figure = new_figure(8.0, 5.0, title)
    axes = figure.subplots()
    front = [entry for entry in entries if entry["on_front"]]
    axes.step(
        [entry["cost"] for entry in front],
        [100 * entry["test_accuracy"] for entry in front],
        where="post",
        color=ORANGE,
        linewidth=1.5,
        label="front",
        zorder=1,
    )
    for entry in entries:
        color = BLUE if entry["on_front"] else GREY
        seeds = 100 * np.asarray(entry["test_accuracies"])
        axes.plot(entry["costs"], seeds, "o", color=color, markersize=2.5, alpha=0.6, zorder=2)
        ends = entry["test_accuracy_interval"]
        bars: Any = None if ends is None else 100 * np.abs(np.subtract(ends, entry["test_accuracy"]))[:, None]
        axes.errorbar(
            entry["cost"],
            100 * entry["test_accuracy"],
            yerr=bars,
            fmt="o",
            color=color,
            markersize=6,
            capsize=3,
            zorder=3,
        )
    axes.margins(x=0.12, y=0.12)
    _write_names(figure, entries)
    quiet(axes, xlabel=label, ylabel="test accuracy (%)")
    axes.legend(frameon=False, loc="lower right")
    return figure


def _write_names(figure: Figure, entries: Sequence[Mapping[str, Any]]) -> None:
    """Names beside the points, each moved up until it covers no other."""
    (axes,) = figure.axes
    figure.draw_without_rendering()
    taken: list[Any] = []
    for entry in sorted(entries, key=lambda entry: entry["test_accuracy"]):
        point = (entry["cost"], 100 * entry["test_accuracy"])
        for up in range(5, 120, 9):
            text = axes.annotate(
                str(entry["config"]), point, xytext=(7, up), textcoords="offset points", fontsize=8, zorder=4
            )
            box = text.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()
