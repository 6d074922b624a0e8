"""The figure of ``colgraph rsa``: similarity over steps, and of every model, within the noise ceiling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from colgraph.viz.style import BLUE, GREEN, GREY, INK, ORANGE, PALE, Figure, few_ticks, new_figure, quiet

MOST = 8
"""Recordings that have a panel each; more of them, such as the times of a movie, are drawn side by side in one."""
_COLORS = {"run": BLUE, "untrained": GREY, "untrained-independent": INK}
_OTHERS = (ORANGE, GREEN, "#CC79A7", "#56B4E9", "#D55E00")


def draw_similarities(rows: Sequence[dict[str, Any]], title: str) -> Figure:
    """A panel for each recording: steps as lines on the left, default rows with their intervals on the right.

    Args:
        rows: as ``rsa.json`` has them.
        title: of the figure.
    """
    drawn = list(dict.fromkeys(row["recording"] for row in rows))
    if len(drawn) > MOST:
        return _draw_many(rows, drawn, title)
    count = max(len(_defaults(rows, name)) for name in drawn)
    colors = _colors(rows)
    figure = new_figure(max(7.0, 3.6 + 0.34 * count), 2.3 * len(drawn) + 2.4, title)
    panels = figure.subplots(
        len(drawn),
        2,
        squeeze=False,
        sharex="col",
        sharey="row",
        gridspec_kw={"width_ratios": [2.6, max(2.4, 0.34 * count)]},
    )
    for name, (left, right) in zip(drawn, panels, strict=True):
        _ceiling(rows, name, (left, right))
        _draw_steps(left, _of_steps(rows, name), colors)
        _draw_models(right, _defaults(rows, name), colors)
        one = next(row for row in rows if row["recording"] == name)
        who = f"{one['subjects']} subject{'s' * (one['subjects'] != 1)}"
        quiet(left, ylabel=one["method"])
        left.set_title(f"{name} ({who})", loc="left")
        quiet(right)
    panels[-1][0].set_xlabel("step")
    lines = panels[0][0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside lower left", fontsize=7, ncols=min(len(lines[0]), 4 + count // 8))
    return figure


def _draw_many(rows: Sequence[dict[str, Any]], names: Sequence[str], title: str) -> Figure:
    """Default rows as lines over recordings, in the order of the file."""
    figure, colors = new_figure(max(8.0, 3 + 0.2 * len(names)), 5.0, title), _colors(rows)
    axes = figure.subplots()
    at = range(len(names))
    for model in dict.fromkeys(row["model"] for row in _defaults(rows, names[0]) if row["default"]):
        mine = {row["recording"]: row for row in rows if row["model"] == model and row["default"]}
        values = [mine[name]["similarity"] for name in names]
        axes.plot(at, values, color=colors.get(model, GREY), linestyle="-" if model in colors else ":", label=model)
        ends = [mine[name]["interval"] for name in names]
        if model == "run" and all(low is not None for low, _ in ends):
            axes.fill_between(
                at, [low for low, _ in ends], [high for _, high in ends], color=colors[model], alpha=0.15, linewidth=0
            )
    ceilings = [next(row["ceiling"] for row in rows if row["recording"] == name) for name in names]
    if None not in ceilings:
        axes.fill_between(
            at,
            [low for low, _ in ceilings],
            [high for _, high in ceilings],
            color=PALE,
            alpha=0.7,
            linewidth=0,
            label="noise ceiling",
        )
    every = max(1, len(names) // 30)
    axes.set_xticks(at[::every], names[::every], rotation=40, ha="right", fontsize=7)
    axes.axhline(0, color=GREY, linewidth=0.8)
    quiet(axes, ylabel=rows[0]["method"])
    figure.legend(loc="outside lower left", fontsize=7, ncols=5)
    return figure


def _colors(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """A color for each network, the same in both halves."""
    networks = dict.fromkeys(row["model"] for row in rows if row["signal"] is not None)
    others = iter(_OTHERS * len(networks))
    return {name: _COLORS.get(name) or next(others) for name in networks}


def _defaults(rows: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    # Also the run as it was when it was as accurate as a control, at the step that is its default.
    return [row for row in rows if row["recording"] == name and (row["default"] or row.get("default_step"))]


def _of_steps(rows: Sequence[dict[str, Any]], name: str) -> dict[str, list[dict[str, Any]]]:
    """The steps of each network, by its name; of the default signal, the whole sheet, and no earlier checkpoint."""
    mine = [row for row in rows if row["recording"] == name and row["step"] is not None and row["region"] is None]
    signal = mine[0]["signal"] if mine else None
    found: dict[str, list[dict[str, Any]]] = {}
    for row in mine:
        if row["signal"] == signal and "equal_to" not in row:
            found.setdefault(row["model"], []).append(row)
    return {model: sorted(each, key=lambda row: row["step"]) for model, each in found.items()}


def _draw_steps(axes: Any, found: dict[str, list[dict[str, Any]]], colors: dict[str, str]) -> None:
    for model, steps in found.items():
        color = colors[model]
        at, values = [row["step"] for row in steps], [row["similarity"] for row in steps]
        axes.plot(at, values, color=color, marker="o", markersize=4, linewidth=1.6, label=model)
        if model == "run":
            low, high = ([row["interval"][side] for row in steps] for side in (0, 1))
            if None not in low + high:
                axes.fill_between(at, low, high, color=color, alpha=0.15, linewidth=0)
    axes.xaxis.set_major_locator(few_ticks(whole=True))


def _draw_models(axes: Any, rows: Sequence[dict[str, Any]], colors: dict[str, str]) -> None:
    for place, row in enumerate(rows):
        color = colors.get(row["model"], GREY)
        low, high = row["interval"]
        if low is not None:
            axes.plot([place, place], [low, high], color=color, linewidth=1.4)
        axes.plot(place, row["similarity"], "o", color=color, markersize=5)
    axes.set_xticks(range(len(rows)), [_label(row) for row in rows], rotation=40, ha="right", fontsize=7)
    axes.axhline(0, color=GREY, linewidth=0.8)


def _label(row: dict[str, Any]) -> str:
    if "equal_to" in row:
        return f"run, as accurate as {row['equal_to']}"
    step = "" if row["step"] is None else f", step {row['step']}"
    return f"{row['model']}{step}"


def _ceiling(rows: Sequence[dict[str, Any]], name: str, both: Sequence[Any]) -> None:
    ceiling = next(row["ceiling"] for row in rows if row["recording"] == name)
    for axes in both:
        axes.axhline(0, color=GREY, linewidth=0.8)
        if ceiling is not None:
            axes.axhspan(*ceiling, color=PALE, alpha=0.7, linewidth=0)
    if ceiling is not None:
        both[1].annotate(
            "noise ceiling", (0.99, ceiling[1]), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=7
        )
