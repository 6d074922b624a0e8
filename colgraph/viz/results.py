"""Accuracy of several models beside each other, and against what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from colgraph.viz.style import BLUE, GREY, Axes, Figure, new_figure, quiet


def draw_results(entries: Sequence[Mapping[str, Any]], *, title: str | None = None) -> Figure:
    """Test accuracy by config, and against training FLOPs and wiring cost.

    Args:
        entries: per config ``config``, ``test_accuracy`` and ``test_accuracy_se`` (fractions; the latter may be None),
            ``test_accuracy_interval`` (two fractions, which are drawn where they are there; else the standard error),
            ``test_accuracies`` (of each seed), ``train_flops`` and ``wiring_cost_in_spacings`` (either may be None).
        title: above the figure.

    Returns:
        A matplotlib ``Figure``.
    """
    figure = new_figure(13.0, max(3.6, 1.6 + 0.32 * len(entries)), title)
    bars, flops, wiring = figure.subplots(1, 3, width_ratios=[1.5, 1, 1])
    places = np.arange(len(entries))[::-1]
    for place, entry in zip(places, entries):
        seeds = 100 * np.asarray(entry["test_accuracies"])
        bars.plot(seeds, np.full(len(seeds), place - 0.2), "o", color=GREY, markersize=3.5, alpha=0.8, zorder=2)
        _point(bars, 100 * entry["test_accuracy"], place, entry, horizontal=True)
    bars.set_yticks(places, [str(entry["config"]) for entry in entries])
    bars.set_ylim(-0.6, len(entries) - 0.4)
    quiet(bars, title="Test accuracy (seeds in grey)", xlabel="correct (%)", ylabel="")
    _against(flops, entries, "train_flops", "training FLOPs", log=True)
    _against(wiring, entries, "wiring_cost_in_spacings", "wiring cost (spacings)", log=False)
    return figure


def _point(axes: Axes, x: float, y: float, entry: Mapping[str, Any], horizontal: bool) -> None:
    ends, error = entry.get("test_accuracy_interval"), entry["test_accuracy_se"]
    spread: Any = None if error is None else 100 * error
    if ends is not None:
        spread = 100 * np.abs(np.subtract(ends, entry["test_accuracy"]))[:, None]
    bars = {"xerr": spread} if horizontal else {"yerr": spread}
    axes.errorbar(x, y, **bars, fmt="o", color=BLUE, markersize=6, capsize=3, zorder=3)  # type: ignore[arg-type]


def _against(axes: Axes, entries: Sequence[Mapping[str, Any]], name: str, label: str, log: bool) -> None:
    shown = [entry for entry in entries if entry[name] is not None]
    for entry in shown:
        _point(axes, entry[name], 100 * entry["test_accuracy"], entry, horizontal=False)
        axes.annotate(
            str(entry["config"]),
            (entry[name], 100 * entry["test_accuracy"]),
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=7,
            annotation_clip=True,
        )
    if log and shown:
        axes.set_xscale("log")
    axes.margins(x=0.25, y=0.15)
    quiet(axes, title=f"Against {label}", xlabel=label, ylabel="test accuracy (%)")
    if not shown:
        axes.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axes.transAxes, color=GREY)
