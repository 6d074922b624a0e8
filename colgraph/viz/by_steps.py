"""How good answers are after more or fewer steps than were trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from colgraph.viz.style import BLUE, GREEN, GREY, SEQUENTIAL, Axes, Figure, few_ticks, new_figure, quiet

_MOST_TICKS = 10


def draw_accuracy_by_steps(
    entries: Sequence[Mapping[str, Any]], trained: int | None = None, *, title: str | None = None
) -> Figure:
    """Draw accuracy against the number of steps, and by difficulty where that is known.

    Args:
        entries: by rising numbers of ``steps``, each with its ``accuracy`` (a fraction), perhaps ``perfect`` (the share
            of images without a wrong column), and ``by_difficulty``, bins with ``from``, ``to`` and ``accuracy``.
        trained: the number of steps that was trained, which is marked.
        title: above the figure.

    Returns:
        A matplotlib ``Figure``.
    """
    bins = any(entry.get("by_difficulty") for entry in entries)
    figure = new_figure(11.0 if bins else 6.0, 4.2, title)
    panels = figure.subplots(1, 2 if bins else 1, squeeze=False)[0]
    _against_steps(panels[0], entries, trained)
    if bins:
        _by_difficulty(panels[1], entries, trained)
    return figure


def _against_steps(axes: Axes, entries: Sequence[Mapping[str, Any]], trained: int | None) -> None:
    steps = [entry["steps"] for entry in entries]
    drawn = (("accuracy", BLUE), ("perfect", GREEN))
    for name, color in drawn:
        if any(entry.get(name) is not None for entry in entries):
            values = [np.nan if entry.get(name) is None else 100 * entry[name] for entry in entries]
            axes.plot(steps, values, color=color, marker="o", markersize=4, linewidth=1.7, label=name)
    if trained is not None:
        axes.axvline(trained, color=GREY, linestyle=":", linewidth=1.4, label=f"trained: {trained}")
    axes.set_xticks(steps[:: -(-len(steps) // _MOST_TICKS)])
    quiet(axes, title="Run for longer", xlabel="steps", ylabel="right (%)")
    axes.legend()


def _by_difficulty(axes: Axes, entries: Sequence[Mapping[str, Any]], trained: int | None) -> None:
    shown = [entry for entry in entries if entry.get("by_difficulty")]
    colors = _colors(len(shown))
    for entry, color in zip(shown, colors, strict=True):
        bins = entry["by_difficulty"]
        middle = [(each["from"] + each["to"]) / 2 for each in bins]
        values = [np.nan if each["accuracy"] is None else 100 * each["accuracy"] for each in bins]
        label = f"{entry['steps']} steps{' (trained)' if entry['steps'] == trained else ''}"
        axes.plot(middle, values, color=color, marker="o", markersize=4, linewidth=1.7, label=label)
    axes.xaxis.set_major_locator(few_ticks())
    quiet(axes, title="By difficulty", xlabel="difficulty (in the unit of the data)", ylabel="accuracy (%)")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))  # lines fill the panel, and a line is a step


def _colors(count: int) -> list[Any]:
    from matplotlib import colormaps

    return list(colormaps[SEQUENTIAL](np.linspace(0.0, 0.85, count)))
