"""Who listens to whom: attention by distance, and what one column hears."""

from __future__ import annotations

from typing import Any

import numpy as np

from colgraph.sheet import Sheet
from colgraph.viz.style import BLUE, GREY, INK, ORANGE, PALE, SEQUENTIAL, Figure, color_bar, new_figure, quiet
from colgraph.viz.views import unit_of

_MOST_STEPS = 16  # that are named beside the picture


def draw_attention_by_distance(
    distance: np.ndarray,
    after: np.ndarray,
    before: np.ndarray | None = None,
    *,
    distance_before: np.ndarray | None = None,
    spacing: float = 1.0,
    bins: int = 16,
    title: str | None = None,
) -> Figure:
    """Draw how attention depends on the distance it comes from, before and after training.

    Left, the mean weight of an edge, with the band that holds the middle 80% of edges; right, the share of all
    attention that comes from each distance, beside the share of edges (what equal weights would give).

    Args:
        distance: ``[E]`` length of each edge, in the sheet's units.
        after: ``[E]`` attention of each edge, the mean over images, steps and heads.
        before: ``[E]`` the same before training, or None.
        distance_before: lengths of the edges that there were then, where they were others.
        spacing: the sheet's spacing, the unit of the horizontal axis.
        bins: number of distance bins; edges of length 0 (a column listening to itself) have a bin of their own.
        title: above the figure.

    Returns:
        A matplotlib ``Figure``.
    """
    lengths = np.asarray(distance, dtype=np.float64) / spacing
    figure = new_figure(10.0, 4.2, title)
    weight, share = figure.subplots(1, 2)
    earlier = lengths if distance_before is None else np.asarray(distance_before, dtype=np.float64) / spacing
    every, centre, width = _distance_bins(np.concatenate([lengths, earlier]), bins)
    index, then = np.split(every, [len(lengths)])
    runs = [("after training", np.asarray(after, dtype=np.float64), ORANGE, index)]
    if before is not None:
        runs.insert(0, ("before training", np.asarray(before, dtype=np.float64), BLUE, then))
    for label, values, color, index in runs:
        low, mean, high = _band(values, index, len(centre))
        weight.fill_between(centre, low, high, color=color, alpha=0.18, linewidth=0)
        weight.plot(centre, mean, color=color, marker="o", markersize=3.5, linewidth=1.7, label=label)
        total = np.bincount(index, values, minlength=len(centre)) / max(float(values.sum()), 1e-12)
        offset = 0.0 if len(runs) == 1 else (-0.21 if color == BLUE else 0.21) * width
        share.bar(centre + offset, 100 * total, width * (0.42 if len(runs) == 2 else 0.84), color=color, label=label)
    count = np.bincount(index, minlength=len(centre)) / max(len(index), 1)
    share.plot(centre, 100 * count, color=INK, linestyle=":", marker=".", linewidth=1.2, label="share of edges")
    unit = "distance (spacings)"
    quiet(weight, title="Weight of an edge", xlabel=unit, ylabel="attention weight (mean, middle 80%)")
    weight.set_ylim(bottom=0)
    weight.legend()
    quiet(share, title="Where attention comes from", xlabel=unit, ylabel="share of all attention (%)")
    share.margins(y=0.25)
    share.set_ylim(bottom=0)
    share.legend(loc="upper right")
    return figure


def _distance_bins(lengths: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each edge its bin, and for each bin that has edges its mean length and its width."""
    real = lengths > 0
    low, high = (float(lengths[real].min()), float(lengths[real].max())) if real.any() else (0.0, 1.0)
    edges = np.linspace(low, high + 1e-9 * max(high, 1.0), bins + 1) if high > low else np.array([low, low + 1e-9])
    raw = np.where(real, np.clip(np.searchsorted(edges, lengths, side="right"), 1, len(edges) - 1), 0)
    used, index = np.unique(raw, return_inverse=True)
    count = np.bincount(index)
    centre = np.bincount(index, lengths) / np.maximum(count, 1)
    gaps = np.diff(centre)
    return index, centre, np.full(len(used), float(gaps.min()) if len(gaps) else 1.0)


def _band(values: np.ndarray, index: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The 10% quantile, the mean and the 90% quantile of the values in each bin; NaN in one without any."""
    order = np.argsort(index, kind="stable")
    groups = np.split(values[order], np.cumsum(np.bincount(index, minlength=bins))[:-1])
    drawn = [group if len(group) else np.array([np.nan]) for group in groups]
    low, high = (np.array([np.quantile(group, q) for group in drawn]) for q in (0.1, 0.9))
    return low, np.array([group.mean() for group in drawn]), high


def central_column(sheet: Sheet) -> int:
    """The column whose ears are shown by default: among those read out, the one nearest to their middle.

    Columns that listen to nobody but themselves are passed over where there are others.
    """
    position = sheet.pos.detach().cpu().numpy().astype(np.float64)
    source, target = sheet.edge_index.cpu().numpy()
    listens = np.bincount(target[source != target], minlength=len(position)) > 0
    wanted = sheet.output_mask.cpu().numpy()
    for mask in (wanted & listens, listens, np.ones_like(listens)):
        if mask.any():
            columns = np.flatnonzero(mask)
            away = np.linalg.norm(position[columns] - position[columns].mean(0), axis=1)
            return int(columns[np.argmin(np.round(away, 6))])
    return 0


def draw_column(sheet: Sheet, attention: np.ndarray, column: int | None = None, *, title: str | None = None) -> Figure:
    """Draw what one column listens to: where in space, and how it changes over the steps.

    Args:
        sheet: the sheet.
        attention: ``[T,E]`` attention of each edge at each step (mean over images and heads), or ``[E]``.
        column: which column; :func:`central_column` if not given.
        title: above the figure.

    Returns:
        A matplotlib ``Figure``.

    Raises:
        ValueError: if the column does not exist or the attention has another number of edges.
    """
    steps = np.atleast_2d(np.asarray(attention, dtype=np.float64))
    if steps.shape[1] != sheet.edge_index.size(1):
        raise ValueError(f"attention must have {sheet.edge_index.size(1)} edges, got {steps.shape[1]}")
    column = central_column(sheet) if column is None else column
    if not 0 <= column < sheet.num_columns:
        raise ValueError(f"column must be 0 to {sheet.num_columns - 1}, got {column}")
    edges = sheet.edge_index.cpu().numpy()
    mine = np.flatnonzero(edges[1] == column)
    heard, weight = edges[0, mine], steps[:, mine]
    distance = sheet.edge_distance.detach().cpu().numpy()[mine] / sheet.spacing
    figure = new_figure(11.5, 4.6, title or f"What column {column} listens to ({len(heard)} columns)")
    if not len(heard):
        figure.text(0.5, 0.5, f"column {column} listens to nobody", ha="center", va="center")
        return figure
    halves: Any = figure.subfigures(1, 2, width_ratios=(1.25, 1))
    left, right = halves
    _draw_neighbors(left, sheet, column, heard, weight.mean(0))
    _draw_steps(right, weight, distance)
    return figure


def _draw_neighbors(figure: Any, sheet: Sheet, column: int, heard: np.ndarray, weight: np.ndarray) -> None:
    """The columns heard, one panel per layer, on the plane in which they lie."""
    position = sheet.pos.detach().cpu().numpy().astype(np.float64)
    layer = sheet.layer.cpu().numpy()
    shown = np.unique(np.append(layer[heard], layer[column]))
    if len(shown) > 4:
        shown = shown[np.argsort(np.abs(shown - layer[column]), kind="stable")[:4]]
        shown = np.sort(shown)
    everyone = np.append(heard, column)
    plane, names = _local_plane(position, everyone, layer, unit_of(sheet))
    panels = figure.subplots(1, len(shown), squeeze=False, sharex=True, sharey=True)[0]
    reach = 1.45 * max(float(np.abs(plane[everyone] - plane[column]).max()), sheet.spacing)
    # A small sheet is shown whole, without the empty space around it.
    margin = 0.5 * sheet.spacing
    low = np.maximum(plane[column] - reach, plane.min(0) - margin)
    high = np.minimum(plane[column] + reach, plane.max(0) + margin)
    # On a closed surface the far side would show through.
    near = np.linalg.norm(position - position[column], axis=1) <= 1.5 * reach + _thickness(position, layer, shown)
    dots = None
    for axes, label in zip(panels, shown):
        around = np.flatnonzero((layer == label) & near)
        # Beyond a few thousand columns the context is a haze and not worth its size.
        axes.scatter(*plane[around[:5000]].T, s=10, c=PALE, zorder=1)
        here = layer[heard] == label
        dots = axes.scatter(
            *plane[heard[here]].T,
            s=30 + 170 * weight[here] / weight.max(),
            c=weight[here],
            cmap=SEQUENTIAL,
            vmin=0,
            vmax=float(weight.max()),
            edgecolors=INK,
            linewidths=0.4,
            zorder=2,
        )
        if layer[column] == label:
            axes.scatter(*plane[column], s=260, facecolors="none", edgecolors=ORANGE, linewidths=2.2, zorder=3)
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        axes.set_aspect("equal")
        axes.set_title(f"layer {label}" if len(shown) > 1 else "in space (column ringed)", fontsize=10)
        axes.set_xlabel(names[0])
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(names[1])
    color_bar(dots, list(panels), "attention weight (mean over steps)")


def _thickness(position: np.ndarray, layer: np.ndarray, shown: np.ndarray) -> float:
    """How far apart the middles of the shown layers lie; 0 for one layer."""
    middles = np.array([position[layer == label].mean(0) for label in shown])
    return float(np.linalg.norm(np.ptp(middles, axis=0)))


def _local_plane(
    position: np.ndarray, columns: np.ndarray, layer: np.ndarray, unit: str
) -> tuple[np.ndarray, tuple[str, str]]:
    """Coordinates ``[N,2]`` of all columns in the plane in which some of them lie, and the names of its axes."""
    spread = np.ptp(position[columns], axis=0)
    if len(np.unique(layer[columns])) > 1:
        # Layers are drawn side by side: what differs within a layer makes the plane.
        within = np.mean([np.ptp(position[columns][layer[columns] == i], axis=0) for i in np.unique(layer[columns])], 0)
        axes = np.sort(np.argsort(-within, kind="stable")[:2])
    elif spread.min() <= 1e-6 * max(float(spread.max()), 1e-12):
        axes = np.sort(np.argsort(-spread, kind="stable")[:2])
    else:
        centred = position - position[columns].mean(0)
        directions = np.linalg.svd(centred[columns], full_matrices=False)[2][:2]
        return centred @ directions.T, (f"along the surface ({unit})", f"across ({unit})")
    return position[:, axes], (f"{'xyz'[axes[0]]} ({unit})", f"{'xyz'[axes[1]]} ({unit})")


def _draw_steps(figure: Any, weight: np.ndarray, distance: np.ndarray) -> None:
    """A row per step, a mark per column heard, nearest first."""
    order = np.argsort(distance, kind="stable")
    axes = figure.subplots()
    image = axes.imshow(weight[:, order], aspect="auto", cmap=SEQUENTIAL, vmin=0, interpolation="nearest")
    ticks = np.unique(np.linspace(0, len(order) - 1, min(len(order), 6)).astype(np.int64))
    axes.set_xticks(ticks, [f"{distance[order[i]]:.1f}" for i in ticks])
    steps = range(0, len(weight), -(-len(weight) // _MOST_STEPS))
    axes.set_yticks(steps, [str(step + 1) for step in steps])
    axes.set(xlabel="columns heard, nearest first: distance (spacings)", ylabel="step")
    axes.set_title("step by step", fontsize=10)
    axes.spines[:].set_color(GREY)
    color_bar(image, axes, "attention weight (mean over images)")
