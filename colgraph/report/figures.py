"""The figure of an analysis: what was measured, beside the same number of every control."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from colgraph.analysis import Result
from colgraph.viz.style import BLUE, GREY, INK, ORANGE, new_figure, save_figure

__all__ = ["draw_with_controls"]


def draw_with_controls(title: str, result: Result, controls: Mapping[str, Result], path: Path) -> None:
    """Draw a result, and on its right its value with interval and null beside those of its controls."""
    figure = new_figure(10.5 if controls else 6.4, 4.2, title)
    if not controls:
        result.plot(figure.subplots())
        save_figure(figure, path)
        return
    left, right = figure.subplots(1, 2, width_ratios=(1.7, 1))
    result.plot(left)
    _draw_values(right, {"this run": result, **controls})
    save_figure(figure, path)


def _draw_values(axes: Any, results: Mapping[str, Result]) -> None:
    """One row per network: the interval as a bar, the value as a dot, the middle 95% of its null in grey."""
    for row, (name, result) in enumerate(results.items()):
        colour = ORANGE if row == 0 else BLUE
        if len(result.null):
            low, high = np.quantile(result.null, [0.025, 0.975])
            axes.plot([low, high], [row, row], color=GREY, linewidth=9, alpha=0.35, solid_capstyle="butt")
        if np.isfinite(result.interval).all():
            axes.plot(result.interval, [row, row], color=colour, linewidth=2.2)
        axes.plot(result.value, row, marker="o", color=colour, markersize=7)
        axes.annotate(
            f"{name}: {result.value:.3g}", (result.value, row), (0, 9), textcoords="offset points", ha="center",
            fontsize=8, color=INK,
        )  # fmt: skip
    axes.set_ylim(len(results) - 0.4, -0.7)
    axes.set_yticks([])
    axes.margins(x=0.25)
    axes.spines[["top", "right", "left"]].set_visible(False)
    first = next(iter(results.values()))
    axes.set_xlabel(first.label if len(first.label) < 44 else "value")
    axes.set_title("beside its controls (grey: by chance)", fontsize=10, fontweight="normal")
