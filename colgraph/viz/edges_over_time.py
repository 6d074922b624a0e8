"""Edges that come and go over a training run, and the wire that they take beside the accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from colgraph.viz.style import BLUE, GREEN, GREY, INK, ORANGE, Figure, few_ticks, new_figure, quiet


def draw_edges_over_time(
    history: Mapping[str, Any],
    epochs: Sequence[Mapping[str, Any]] = (),
    *,
    spacing: float = 1.0,
    title: str | None = None,
) -> Figure:
    """Draw edges won and lost, the wire beside the held-out accuracy, and how long edges are.

    Args:
        history: what ``plasticity.json`` of a run holds.
        epochs: rows with ``step`` and ``val_accuracy`` (a fraction), as in ``metrics.csv``.
        spacing: the sheet's spacing, the unit of lengths.
        title: above the figure.

    Returns:
        A matplotlib ``Figure``.
    """
    start, rows = history["start"], history["rows"]
    figure = new_figure(12.0, 4.0, title)
    flow, wire, lengths = figure.subplots(1, 3)
    steps = np.array([row["step"] for row in rows])
    width = 0.7 * float(np.diff(steps).min()) if len(steps) > 1 else 1.0
    flow.bar(steps, [row["won"] for row in rows], width, color=GREEN, label="won")
    flow.bar(steps, [-row["lost"] for row in rows], width, color=ORANGE, label="lost")
    flow.axhline(0, color=GREY, linewidth=0.8)
    most = max((max(row["won"], row["lost"]) for row in rows), default=1)
    flow.set_ylim(-1.25 * most, 1.25 * most)
    quiet(flow, title="Edges won and lost", xlabel="step", ylabel="edges")
    share = flow.twinx()
    left = [100.0, *(100 * row["from_start"] / start["edges"] for row in rows)]
    share.plot([0, *steps], left, color=INK, linewidth=1.5, label="there since the start (right)")
    share.set_ylim(0, 105)
    share.set_ylabel("of the edges at the start (%)")
    share.spines["top"].set_visible(False)
    _legend(flow, share)
    _draw_wire(wire, start, rows, epochs, spacing)
    _draw_lengths(lengths, history, spacing)
    for axes in (flow, wire):
        axes.xaxis.set_major_locator(few_ticks())
    return figure


def _draw_wire(axes: Any, start: Any, rows: Any, epochs: Any, spacing: float) -> None:
    told = [{"step": 0, **start}, *rows]
    end = max([told[-1]["step"], *(int(row["step"]) for row in epochs)])
    steps, wire = [*(row["step"] for row in told), end], [row["wire"] / spacing for row in (*told, told[-1])]
    axes.step(steps, wire, where="post", color=BLUE, linewidth=1.7, label="wire")
    axes.set_ylim(0, 1.2 * max(wire))
    quiet(axes, title="Wire, and accuracy beside it", xlabel="step", ylabel="length of all edges (spacings)")
    known = [row for row in epochs if row.get("val_accuracy") not in (None, "")]
    if known:
        right = axes.twinx()
        right.plot(
            [int(row["step"]) for row in known],
            [100 * float(row["val_accuracy"]) for row in known],
            color=ORANGE,
            linewidth=1.5,
            label="held-out accuracy (right)",
        )
        right.set_ylim(0, 105)
        right.set_ylabel("correct (%)")
        right.spines["top"].set_visible(False)
        _legend(axes, right)


def _draw_lengths(axes: Any, history: Mapping[str, Any], spacing: float) -> None:
    bins = np.asarray(history["bins"]) / spacing
    last = history["rows"][-1] if history["rows"] else history["start"]
    for counts, color, label in ((history["start"], BLUE, "at the start"), (last, ORANGE, "now")):
        axes.stairs(counts["lengths"], bins, color=color, linewidth=1.7, label=label)
    possible = np.asarray(history["possible"], dtype=float)
    if possible.sum():
        chance = possible * sum(last["lengths"]) / possible.sum()
        axes.stairs(chance, bins, color=GREY, linestyle=":", linewidth=1.5, label="by chance, anywhere allowed")
    axes.set_ylim(bottom=0)
    quiet(axes, title="How long edges are", xlabel="length (spacings)", ylabel="edges")
    _legend(axes)


def _legend(axes: Any, *others: Any) -> None:
    """Below the picture, which has lines everywhere; also of axes that lie over these."""
    handles = [handle for each in (axes, *others) for handle in each.get_legend_handles_labels()[0]]
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=8)
