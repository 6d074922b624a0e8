"""Sheets that are drawn in the plane: flat ones, stacks as tilted layers above each other, networks and clouds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from colgraph.colors import GREY, INK, PALE
from colgraph.sheet import Sheet
from colgraph.viz.style import Figure, new_figure
from colgraph.viz.views import unit_of

_TILT = np.deg2rad(38)  # between the reader's look and the layers of a stack
_MANY = 2_000  # marks, from which on they are pixels in files of vector graphics


def layout_of(sheet: Sheet) -> str:
    """How a sheet is drawn: "plane", "stack" (layers each in a plane, one above the other), "space" or "surface"."""
    position = positions_of(sheet)
    if flat_axes(position) is not None:
        return "plane"
    if sheet.face.size(1):
        return "surface"
    return "space" if layer_axis(sheet, position) is None else "stack"


def positions_of(sheet: Sheet) -> NDArray[np.float64]:
    """``[N,3]`` where columns are."""
    return np.asarray(sheet.pos.detach().cpu().numpy().astype(np.float64))


def flat_axes(position: np.ndarray) -> tuple[int, int] | None:
    """The two coordinates that a flat arrangement of columns ``[N,3]`` extends in, or None if it needs three."""
    extent = np.ptp(position, axis=0)
    largest = float(extent.max())
    wide = [axis for axis in range(3) if extent[axis] > 1e-6 * max(largest, 1e-12)]
    if len(wide) > 2:
        return None
    rest = [axis for axis in range(3) if axis not in wide]
    first, second = sorted((wide + rest)[:2])
    return first, second


def layer_axis(sheet: Sheet, position: np.ndarray) -> int | None:
    """The coordinate that is the same within every layer and tells layers apart, or None."""
    layer = sheet.layer.cpu().numpy()
    labels = np.unique(layer)
    if not 1 < len(labels) <= 24:
        return None
    within = np.max([np.ptp(position[layer == label], axis=0) for label in labels], axis=0)
    means = np.array([position[layer == label].mean(0) for label in labels])
    alike = within <= 1e-6 * np.ptp(position, axis=0).max()
    apart = [axis for axis in range(3) if alike[axis] and len(np.unique(means[:, axis].round(9))) == len(labels)]
    return apart[0] if apart else None


def stack_plane(sheet: Sheet) -> tuple[NDArray[np.float64], NDArray[np.int64], list[tuple[int, NDArray[np.float64]]]]:
    """A stack as tilted planes far enough above each other that none covers another.

    Returns:
        ``[N,2]`` where columns are drawn, ``[N]`` the place of each layer from below, and for each layer its label and
        the four corners ``[4,2]`` of its pane.
    """
    position = positions_of(sheet)
    axis = layer_axis(sheet, position)
    if axis is None:
        raise ValueError("the sheet is no stack of layers")
    layer = sheet.layer.cpu().numpy()
    labels = np.unique(layer)
    labels = labels[np.argsort([position[layer == label][0, axis] for label in labels], kind="stable")]
    x, y = (position[:, i] for i in range(3) if i != axis)
    place = np.argsort(labels)[np.searchsorted(np.sort(labels), layer)]
    middle = (x.max() + x.min()) / 2, (y.max() + y.min()) / 2
    x, y = x - middle[0], y - middle[1]
    pad = 0.5 * sheet.spacing
    # Each layer lies as far above the one below that neither covers the other.
    half = np.array([np.abs(y[place == i]).max() + pad for i in range(len(labels))])
    gap = 0.05 * float(np.ptp(x)) + 0.5 * sheet.spacing
    lift = np.concatenate([[0], np.cumsum(np.sin(_TILT) * (half[:-1] + half[1:]) + gap)])
    tilted = np.stack([x + 0.28 * y, np.sin(_TILT) * y + lift[place]], 1)
    panes = []
    for i, label in enumerate(labels):
        here = place == i
        low, high = np.array([x[here].min(), y[here].min()]) - pad, np.array([x[here].max(), y[here].max()]) + pad
        corners = np.array([(low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1])])
        drawn = np.stack([corners[:, 0] + 0.28 * corners[:, 1], np.sin(_TILT) * corners[:, 1] + lift[i]], 1)
        panes.append((int(label), drawn))
    return tilted, place, panes


def draw_panes(axes: Any, panes: list[tuple[int, NDArray[np.float64]]], alpha: float = 0.35) -> None:
    """A faint pane for each layer of a stack, with its label."""
    from matplotlib.collections import PolyCollection

    for i, (label, corners) in enumerate(panes):
        pane = PolyCollection([corners], facecolors=PALE, edgecolors=GREY, linewidths=0.6, alpha=alpha, zorder=2 * i)
        axes.add_collection(pane)
        left = corners[[0, 3]].mean(0)
        axes.annotate(f"layer {label}", left, xytext=(-8, 0), textcoords="offset points", ha="right", va="center")


def draw_stack(sheet: Sheet, colors: NDArray[np.float64], title: str | None) -> tuple[Figure, list[Any]]:
    """A stack with a color for each column: layers beside each other, the lowest first."""
    position = positions_of(sheet)
    axis = layer_axis(sheet, position)
    layer = sheet.layer.cpu().numpy()
    labels = np.unique(layer)
    labels = labels[np.argsort([position[layer == label][0, axis] for label in labels], kind="stable")]
    flat = np.delete(position, axis, 1)  # type: ignore[arg-type]
    across = min(len(labels), 4)
    down = -(-len(labels) // across)
    figure = new_figure(max(2.4 * across, 4.2), 2.5 * down + 1.1, title)
    figure.set_layout_engine("compressed")
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel()
    for axes in grid[len(labels) :]:
        axes.set_axis_off()
    names = [f"{'xyz'[i]} ({unit_of(sheet)})" for i in range(3) if i != axis]
    for i, (axes, label) in enumerate(zip(grid, labels)):
        here = layer == label
        squares(axes, flat[here], colors[here])
        axes.set_title(f"layer {label} ({here.sum():,} columns)", fontsize=9, fontweight="normal")
        if i >= len(labels) - across:
            axes.set_xlabel(names[0])
        if i % across == 0:
            axes.set_ylabel(names[1])
    low, high = flat.min(0) - sheet.spacing / 2, flat.max(0) + sheet.spacing / 2
    grid[0].set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    return figure, list(grid)


def draw_squares(sheet: Sheet, colors: NDArray[np.float64], title: str | None) -> tuple[Figure, list[Any]]:
    """A flat sheet as squares that meet."""
    position = positions_of(sheet)
    axes_of = flat_axes(position) or (0, 1)
    points = position[:, axes_of]
    wide, high = np.ptp(points, axis=0) + sheet.spacing
    figure = new_figure(5.4, float(np.clip(5.0 * high / wide, 1.2, 6)) + 1.4, title)
    axes = figure.subplots()
    squares(axes, points, colors)
    unit = unit_of(sheet)
    axes.set(xlabel=f"{'xyz'[axes_of[0]]} ({unit})", ylabel=f"{'xyz'[axes_of[1]]} ({unit})")
    return figure, [axes]


def is_tiled(points: NDArray[np.float64]) -> bool:
    """Whether columns lie about equally far from each other, as on a grid, so that squares tile the sheet."""
    if len(points) < 2:
        return True
    near = cKDTree(points).query(points, k=2)[0][:, 1]
    return bool(near.min() > 0.6 * near.max())


def squares(axes: Any, points: NDArray[np.float64], colors: NDArray[np.float64]) -> None:
    """A square around each column ``[N,2]`` in its color ``[N,3]``, as large as its neighbors leave room for."""
    from matplotlib.collections import PolyCollection

    near = cKDTree(points).query(points, k=2)[0][:, 1] if len(points) > 1 else np.ones(1)
    half = float(np.median(near)) / 2 or 0.5
    corners = points[:, None] + half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    many = len(points) > _MANY
    axes.add_collection(
        PolyCollection(list(corners), facecolors=colors, edgecolors="face", linewidths=0.2, rasterized=many),
        autolim=False,
    )
    low, high = points.min(0) - half, points.max(0) + half
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    axes.set_aspect("equal")
    axes.spines[["top", "right"]].set_visible(False)


def names_beside(axes: Any, points: NDArray[np.float64], names: list[str], size: float = 7) -> int:
    """Names beside their columns where they fit without covering a name or a column; how many did not."""
    figure = axes.figure
    figure.canvas.draw()
    figure.set_layout_engine("none")  # a place once found stays
    renderer = figure.canvas.get_renderer()
    at = axes.transData.transform(points)
    taken: list[Any] = []
    left_out = 0
    for point, name in zip(points, names, strict=True):
        for dx, dy, ha, va in _AROUND:
            text = axes.annotate(
                name, point, xytext=(5 * dx, 5 * dy), textcoords="offset points", fontsize=size, ha=ha, va=va, color=INK
            )
            text.set_in_layout(False)
            box = text.get_window_extent(renderer)
            dots = (at[:, 0] > box.x0 - 2) & (at[:, 0] < box.x1 + 2) & (at[:, 1] > box.y0 - 2) & (at[:, 1] < box.y1 + 2)
            if not dots.any() and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()
        else:
            left_out += 1
    return left_out


_AROUND = (
    *((1, 1, "left", "bottom"), (-1, 1, "right", "bottom"), (1, -1, "left", "top"), (-1, -1, "right", "top")),
    *(
        (0, 1.3, "center", "bottom"),
        (0, -1.3, "center", "top"),
        (1.2, 0, "left", "center"),
        (-1.2, 0, "right", "center"),
    ),
)
