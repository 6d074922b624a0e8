"""The figures of an analysis: what was measured, the same before training, and every number beside its controls."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from colgraph.analysis import Result
from colgraph.viz.style import BLUE, GREEN, GREY, INK, ORANGE, new_figure, save_figure

# Small enough to be read on a telephone, where each takes the whole width; two stand side by side on a screen.
_SIZE = (5.2, 4.0)
_COLOURS = (BLUE, GREEN, "#CC79A7", "#56B4E9", INK)


def draw_with_controls(
    title: str,
    result: Result,
    controls: Mapping[str, Result],
    before: tuple[str, Result] | None,
    folder: Path,
    key: str,
) -> list[dict[str, str]]:
    """Draw a result, its map before training (where there is one), and its value beside those of its controls.

    ``before`` is said of that network above its map.

    Returns:
        For each picture its file's name in ``folder`` and what it shows.
    """
    pictures = [_picture(f"{title}: this run", "", result, controls, folder / f"{key}.png")]
    if before is not None and getattr(before[1], "positions", None) is not None:
        pictures.append(_picture(f"{title}: untrained", before[0], before[1], {}, folder / f"{key}-untrained.png"))
    if controls:
        rows = {"this run": result, **controls}
        # The most lines that a row's name has, at 9 points and a little air, are as high as a row.
        lines = max(name.count("\n") + 1 for name in _row_names(rows))
        figure = new_figure(_SIZE[0], max(_SIZE[1], 1.4 + 0.18 * lines * len(rows)), f"{title}: controls")
        _draw_values(figure.subplots(), rows)
        save_figure(figure, folder / f"{key}-controls.png")
        pictures.append((f"{key}-controls.png", f"{title}: the number beside its controls"))
    return [{"file": f"{folder.name}/{name}", "alt": alt} for name, alt in pictures]


def _picture(title: str, more: str, result: Result, controls: Mapping[str, Result], path: Path) -> tuple[str, str]:
    figure = new_figure(*_SIZE, title)
    axes = result.plot(figure.subplots())
    lines = textwrap.wrap("; ".join(part for part in (axes.get_title(), more) if part), 46)
    axes.set_title("\n".join(lines), fontsize=10, fontweight="normal")
    _overlay(axes, controls)
    save_figure(figure, path)
    return path.name, title


def _overlay(axes: Any, controls: Mapping[str, Result]) -> None:
    """The controls' curves over those of a run."""
    curves = {"distance": "curve", "levels": "accuracy"}
    for colour, (name, other) in zip(_COLOURS, controls.items(), strict=False):
        for x, y in curves.items():
            if hasattr(other, x) and hasattr(other, y):
                axes.plot(getattr(other, x), getattr(other, y), color=colour, linewidth=1.2, linestyle="--", label=name)
                axes.legend(frameon=False, fontsize=8)


def _row_names(results: Mapping[str, Result]) -> list[str]:
    return ["\n".join([*textwrap.wrap(name, 20), f"{result.value:.3g}"]) for name, result in results.items()]


def _draw_values(axes: Any, results: Mapping[str, Result]) -> None:
    """One row per network: the interval as a bar, the value as a dot, the middle 95% of its null in grey."""
    for row, result in enumerate(results.values()):
        colour = ORANGE if row == 0 else BLUE
        if len(result.null):
            low, high = np.quantile(result.null, [0.025, 0.975])
            axes.plot([low, high], [row, row], color=GREY, linewidth=9, alpha=0.35, solid_capstyle="butt")
            axes.plot(2 * [result.null.mean()], [row - 0.13, row + 0.13], color=GREY, linewidth=1.2)
        if np.isfinite(result.interval).all():
            axes.plot(result.interval, [row, row], color=colour, linewidth=2.2)
        axes.plot(result.value, row, marker="o", color=colour, markersize=7)
    most = getattr(next(iter(results.values())), "attainable", np.nan)
    if np.isfinite(most):
        axes.axvline(most, color=INK, linestyle=":", linewidth=1.2)
        where = {"xycoords": axes.get_xaxis_transform(), "xytext": (-4, -4), "textcoords": "offset points"}
        axes.annotate(f"at most {most:.3g}", (most, 1), ha="right", va="top", fontsize=8, **where)
    axes.set_yticks(range(len(results)), _row_names(results))
    axes.set_ylim(len(results) - 0.5, -0.5)
    axes.margins(x=0.1)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GREY, alpha=0.25, linewidth=0.6)
    label = next(iter(results.values())).label
    axes.set_xlabel("\n".join(textwrap.wrap(f"{label} (bar: 95% interval, grey: by chance)", 44)))
