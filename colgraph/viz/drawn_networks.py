"""Networks and clouds of columns: edges the thicker, the shorter they are, and names that do not collide."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.colors import GREY
from colgraph.sheet import Sheet
from colgraph.viz.planes import flat_axes, names_beside, positions_of
from colgraph.viz.style import Figure, new_figure
from colgraph.viz.views import unit_of

NAMED = 120
"""Columns of a network, up to which their names are drawn."""
_MOST_EDGES = 1500
_WIDTHS = (0.25, 2.6)


def network_plane(sheet: Sheet) -> tuple[NDArray[np.float64], tuple[str, str] | None]:
    """``[N,2]`` where columns are drawn, and what the axes are.

    Flat positions keep their axes. Others are turned to the plane in which they extend most, which has no axes to read.
    """
    position = positions_of(sheet)
    axes = flat_axes(position)
    if axes is not None:
        unit = unit_of(sheet)
        return position[:, axes], (f"{'xyz'[axes[0]]} ({unit})", f"{'xyz'[axes[1]]} ({unit})")
    centered = position - position.mean(0)
    directions = np.linalg.svd(centered, full_matrices=False)[2][:2]
    # Signs of singular vectors are arbitrary: the largest entry of each is made positive.
    directions *= np.sign(directions[np.arange(2), np.abs(directions).argmax(1)])[:, None]
    return centered @ directions.T, None


def edge_widths(sheet: Sheet, edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """``[E]`` line widths in points of edges by their place in the sheet's list: in proportion to 1 / length.

    That is the strength of a connection whose length was made of its strength; edges of one length are of one width.
    """
    length = sheet.edge_distance.detach().cpu().numpy().astype(np.float64)[edges]
    if not len(length) or np.ptp(length) <= 1e-6 * length.max():
        return np.full(len(length), 0.7)
    strength = 1 / np.maximum(length, 1e-3 * np.median(length))
    share = np.minimum(strength / np.quantile(strength, 0.98), 1)
    return np.asarray(_WIDTHS[0] + (_WIDTHS[1] - _WIDTHS[0]) * share)


def draw_edges(axes: Any, sheet: Sheet, points: NDArray[np.float64], chosen: NDArray[np.int64], **look: Any) -> None:
    """Edges by their place in the sheet's list, strong ones over weak ones."""
    from matplotlib.collections import LineCollection

    if not len(chosen):
        return
    width = edge_widths(sheet, chosen)
    order = np.argsort(width, kind="stable")
    ends = sheet.edge_index.cpu().numpy()[:, chosen[order]]
    shade = 0.25 + 0.5 * width[order] / _WIDTHS[1]
    look = {"colors": GREY, "alpha": shade, "zorder": 1, "linewidths": width[order], **look}
    axes.add_collection(LineCollection(list(points[ends.T]), **look), autolim=False)


def draw_network(sheet: Sheet, colors: NDArray[np.float64], title: str | None) -> tuple[Figure, list[Any]]:
    """A dot per column in its color, with the shortest edges behind them."""
    points, labels = network_plane(sheet)
    wide, high = np.ptp(points, axis=0)
    figure = new_figure(6.4, float(np.clip(6.4 * high / max(wide, 1e-12), 2.5, 6.4)) + 1.0, title)
    axes = figure.subplots()
    ends = sheet.edge_index.cpu().numpy()
    real = np.flatnonzero(ends[0] != ends[1])
    length = sheet.edge_distance.detach().cpu().numpy()[real]
    draw_edges(axes, sheet, points, real[np.argsort(length, kind="stable")[:_MOST_EDGES]])
    size = float(np.clip(6000 / max(len(points), 1), 8, 110))
    axes.scatter(points[:, 0], points[:, 1], s=size, c=colors, edgecolors=GREY, linewidths=0.5, zorder=2)
    frame_plane(axes, labels)
    return figure, [axes]


def name_columns(axes: Any, sheet: Sheet) -> int:
    """Names beside the columns of a drawn network, and how many found no place; after all else has its place."""
    if sheet.names is None:
        return 0
    if sheet.num_columns > NAMED:
        return sheet.num_columns
    return names_beside(axes, network_plane(sheet)[0], [str(name) for name in sheet.names])


def frame_plane(axes: Any, labels: tuple[str, str] | None) -> None:
    """Equal scales, with axes where they can be read."""
    axes.set_aspect("equal")
    axes.margins(0.08)
    if labels is None:
        axes.set_axis_off()
        return
    axes.set(xlabel=labels[0], ylabel=labels[1])
    axes.spines[["top", "right"]].set_visible(False)
