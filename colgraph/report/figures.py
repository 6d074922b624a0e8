"""The figures of an analysis: what was measured, the same before training, and every number beside its controls."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.analysis import Result
from colgraph.analysis.result import OnSheet
from colgraph.sheet import Sheet
from colgraph.viz import draw_map
from colgraph.viz.planes import layout_of
from colgraph.viz.style import BLUE, GREEN, GREY, INK, ORANGE, new_figure, save_for_papers, without_gaps

# Small enough to be read on a telephone, where each takes the whole width; two stand side by side on a screen.
_SIZE = (5.2, 4.0)
_COLOURS = (BLUE, GREEN, "#CC79A7", "#56B4E9", INK)
_DASHES = ("--", ":", "-.")


def draw_with_controls(
    title: str,
    result: Result,
    controls: Mapping[str, Result],
    before: tuple[str, Result] | None,
    folder: Path,
    key: str,
    on: tuple[Sheet, NDArray[np.bool_]] | None = None,
) -> list[dict[str, str]]:
    """Draw a result, its map before training (where there is one), and its value beside those of its controls.

    ``before`` is said of that network above its map. ``on`` is the sheet, and which of its columns answer: of surfaces,
    maps are drawn from the sides that :func:`colgraph.viz.draw_map` shows.

    Returns:
        For each picture its file's name in ``folder`` and what it shows.
    """
    pictures = [_picture(f"{title}: this run", "", result, controls, folder / f"{key}.png", on)]
    if before is not None and getattr(before[1], "positions", None) is not None:
        pictures.append(_picture(f"{title}: untrained", before[0], before[1], {}, folder / f"{key}-untrained.png", on))
    if controls:
        rows = {"this run": result, **controls}
        # The most lines that a row's name has, at 9 points and a little air, are as high as a row.
        lines = max(name.count("\n") + 1 for name in _row_names(rows))
        figure = _new(f"{title}: controls", max(_SIZE[1], 1.4 + 0.18 * lines * len(rows)))
        _draw_values(figure.subplots(), rows)
        save_for_papers(figure, folder / f"{key}-controls.png")
        pictures.append((f"{key}-controls.png", f"{title}: the number beside its controls"))
    return [{"file": f"{folder.name}/{name}", "alt": alt} for name, alt in pictures]


def _new(title: str, height: float) -> Any:
    """A figure under a title of as many lines as it takes."""
    lines = textwrap.wrap(title, 48)
    return new_figure(_SIZE[0], height + 0.2 * (len(lines) - 1), "\n".join(lines))


def _picture(
    title: str,
    more: str,
    result: Result,
    controls: Mapping[str, Result],
    path: Path,
    on: tuple[Sheet, NDArray[np.bool_]] | None = None,
) -> tuple[str, str]:
    shown = _on_surface(title, more, result, on)
    if shown is not None:
        save_for_papers(shown, path)
        return path.name, title
    curves = _curves(result, controls)
    # The legend of many curves stands below them, two beside each other.
    figure = _new(title, _SIZE[1] + 0.1 * len(curves))
    axes = result.plot(figure.subplots())
    lines = textwrap.wrap("; ".join(part for part in (axes.get_title(), more) if part), 46)
    axes.set_title("\n".join(lines), fontsize=10, fontweight="normal")
    for i, (name, (x, y)) in enumerate(curves.items()):
        color, dash = _COLOURS[i % len(_COLOURS)], _DASHES[i // len(_COLOURS)]
        axes.plot(x, y, linewidth=1.2, label=name, color=color, linestyle=dash)
    if axes.get_aspect() == 1:
        if len(figure.axes) > 1:
            figure.set_layout_engine("compressed")  # a narrow map and its bar stay together
        without_gaps(figure)
    if curves:
        if (legend := axes.get_legend()) is not None:
            legend.remove()
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    save_for_papers(figure, path)
    return path.name, title


def _on_surface(title: str, more: str, result: Result, on: tuple[Sheet, NDArray[np.bool_]] | None) -> Any:
    """The map of a result on a surface in space; None where it has no map, or the sheet no such surface."""
    if on is None or not isinstance(result, OnSheet) or layout_of(on[0]) != "surface":
        return None
    sheet, answer = on
    picture = result.picture()
    values = np.asarray(picture["values"], dtype=np.float64)
    if len(values) not in (sheet.num_columns, int(answer.sum())):
        return None
    whole = np.full(sheet.num_columns, np.nan)
    whole[slice(None) if len(values) == len(whole) else answer] = values
    kind = "cyclic" if picture.get("cyclic") else "signed" if picture.get("centred") else "sequential"
    lines = textwrap.wrap("; ".join(part for part in (picture["title"], more) if part), 60)
    return draw_map(
        sheet,
        whole,
        kind="labels" if picture.get("labels") else kind,
        label=picture["label"],
        title="\n".join([title, *lines]),
    )


def _curves(result: Result, controls: Mapping[str, Result]) -> dict[str, tuple[Any, Any]]:
    """The controls' curves, to be drawn over that of a run, where it has one."""
    for x, y in (("distance", "curve"), ("levels", "accuracy")):
        if hasattr(result, x) and hasattr(result, y):
            return {name: (getattr(other, x), getattr(other, y)) for name, other in controls.items()}
    return {}


def _row_names(results: Mapping[str, Result]) -> list[str]:
    return ["\n".join([*textwrap.wrap(name, 20), f"{result.value:.3g}"]) for name, result in results.items()]


def _draw_values(axes: Any, results: Mapping[str, Result]) -> None:
    """One row per network: the interval as a bar, the value as a dot, the middle 95% of its null in grey."""
    for row, result in enumerate(results.values()):
        color = ORANGE if row == 0 else BLUE
        if len(result.null):
            low, high = np.quantile(result.null, [0.025, 0.975])
            axes.plot([low, high], [row, row], color=GREY, linewidth=9, alpha=0.35, solid_capstyle="butt")
            axes.plot(2 * [result.null.mean()], [row - 0.13, row + 0.13], color=GREY, linewidth=1.2)
        if np.isfinite(result.interval).all():
            axes.plot(result.interval, [row, row], color=color, linewidth=2.2)
        axes.plot(result.value, row, marker="o", color=color, markersize=7)
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
