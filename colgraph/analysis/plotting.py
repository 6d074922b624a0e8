"""How results draw themselves: small pieces on matplotlib, imported when the first of them is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from colgraph.analysis.arrays import Array
from colgraph.colors import BLUE as BLUE
from colgraph.colors import GREEN as GREEN
from colgraph.colors import GREY as GREY
from colgraph.colors import INK as INK
from colgraph.colors import ORANGE as ORANGE
from colgraph.colors import PALE as PALE
from colgraph.colors import PURPLE as PURPLE
from colgraph.colors import color_map, label_colors
from colgraph.extras import optional

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
else:
    Axes = Any

_MANY = 2000
"""Marks, from which on they are pixels in files of vector graphics, which would be large and slow otherwise."""


def axes(ax: Axes | None) -> Axes:
    """The given axes, or those of a new figure.

    Raises:
        ImportError: if matplotlib is missing, with the line that installs it.
    """
    if ax is not None:
        return ax
    new: Axes = optional("plots need", "matplotlib.pyplot", "viz").subplots(layout="constrained")[1]
    return new


def draw_null(ax: Axes, value: float, null: Array, interval: Array, label: str, title: str) -> Axes:
    """A histogram of the null, the value as a line, its interval as a band."""
    if len(null):
        ax.hist(null, bins=min(40, max(len(null) // 10, 5)), color=GREY, alpha=0.6, label="by chance")
    if np.isfinite(interval).all():
        ax.axvspan(interval[0], interval[1], color=ORANGE, alpha=0.25, label="95% interval")
    ax.axvline(value, color=ORANGE, linewidth=2, label=f"value {value:.3g}")
    ax.set(xlabel=label, ylabel="permutations" if len(null) else "", title=title)
    ax.legend(frameon=False, fontsize=8)
    return ax


def draw_curve(
    ax: Axes,
    x: Array,
    y: Array,
    *,
    null: Array | None = None,
    interval: Array | None = None,
    xlabel: str,
    ylabel: str,
    title: str,
) -> Axes:
    """A curve with its interval as a band, beside the middle 95% of the null curves ``[permutations, bins]``."""
    if null is not None and len(null):
        low, high = np.nanquantile(null, [0.025, 0.975], axis=0)
        ax.fill_between(x, low, high, color=GREY, alpha=0.35, linewidth=0, label="by chance (95%)")
    if interval is not None and np.isfinite(interval).any():
        ax.fill_between(x, interval[0], interval[1], color=ORANGE, alpha=0.25, linewidth=0, label="95% interval")
    ax.plot(x, y, color=ORANGE, marker="o", markersize=4, linewidth=1.8, label="measured")
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    ax.legend(frameon=False, fontsize=8)
    return ax


def log_axis(ax: Axes) -> None:
    """A logarithmic x axis with plain numbers at 1, 2, 5, 10, ..."""
    from matplotlib.ticker import LogLocator, NullFormatter

    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())


def spread(count: int) -> list[Any]:
    """So many colors, dark to light."""
    from matplotlib import colormaps

    return [colormaps["viridis"](i / max(count, 2)) for i in range(count)]


def draw_bars(ax: Axes, names: list[str], values: Array, interval: Array | None, ylabel: str, title: str) -> Axes:
    """Bars with their intervals ``[2, bars]``."""
    places = np.arange(len(names))
    ax.bar(places, values, color=BLUE, width=0.7)
    if interval is not None:
        reach = np.abs(interval - values)
        ax.errorbar(places, values, yerr=np.nan_to_num(reach), fmt="none", ecolor=INK, capsize=3)
    ax.set_xticks(places, names, rotation=45 if len(names) > 6 else 0, ha="right" if len(names) > 6 else "center")
    ax.set(ylabel=ylabel, title=title)
    return ax


def draw_map(
    ax: Axes,
    positions: Array,
    values: Array,
    *,
    label: str,
    title: str,
    cyclic: bool = False,
    centred: bool = False,
    labels: bool = False,
    faint: NDArray[np.bool_] | None = None,
    marks: tuple[Array, NDArray[np.int64]] | None = None,
    limits: tuple[float, float] | None = None,
    bar: bool = True,
) -> Axes:
    """Columns at their places, colored by a value; ``cyclic`` for orientations, ``centred`` for signed values.

    With ``labels`` values are numbers of modules, areas and the like, from 0, with nothing between them. Columns
    without a value (NaN) are grey, ``faint`` ones small. ``marks`` are places ``[K, D]`` and signs: circles for
    positive, squares for negative ones. ``limits`` of the colors are those of the values if not given; without ``bar``
    nothing beside the map says what they mean.
    """
    seen = look_at(positions if marks is None else np.concatenate([positions, marks[0]]))
    shown = seen.column < len(positions)
    points, column = seen.points[shown], seen.column[shown]
    hue, small = np.asarray(values, dtype=np.float64)[column], np.zeros(len(column), dtype=bool)
    if faint is not None:
        small = faint[column]
    hole = ~np.isfinite(hue)
    _squares(ax, points[hole], np.full(hole.sum(), seen.half), color=PALE)
    colors = _colors_of(hue[~hole], cyclic, centred, labels, limits)
    kept = _squares(ax, points[~hole], np.where(small, 0.4, 1.0)[~hole] * seen.half, array=hue[~hole], **colors)
    if marks is not None:
        sign = np.concatenate([np.zeros(len(positions), dtype=np.int64), marks[1]])[seen.column]
        for side, marker in ((1, "o"), (-1, "s")):
            place = seen.points[(sign == side) & seen.front]
            ax.scatter(
                place[:, 0], place[:, 1], s=16, marker=marker, facecolors="white", edgecolors=INK, linewidths=0.8
            )
    ax.set_aspect("equal")
    low, high, pad = points.min(0), points.max(0), seen.half
    ax.set(xlim=(low[0] - pad, high[0] + pad), ylim=(low[1] - pad, high[1] + pad))
    ax.set(xlabel=seen.names[0], ylabel=seen.names[1], title=title)
    if bar and not (labels and not len(hue[~hole])):
        wide = bool(np.ptp(points[:, 0]) > 1.6 * np.ptp(points[:, 1]))
        _bar(kept, ax, label, "horizontal" if wide else "vertical", cyclic, labels)
    return ax


def _squares(ax: Axes, centers: Array, half: Array, **look: Any) -> Any:
    """Squares ``[K,2]`` of their own half sides ``[K]``, which meet and end where the axes do."""
    from matplotlib.collections import PolyCollection

    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    # A hairline of its own color closes the seam that antialiasing leaves between two squares.
    drawn = PolyCollection(
        centers[:, None] + half[:, None, None] * corners,
        linewidths=0.2,
        edgecolors="face",
        rasterized=len(centers) > _MANY,
        **look,
    )
    return ax.add_collection(drawn, autolim=False)


def _colors_of(
    hue: Array, cyclic: bool, centred: bool, labels: bool, limits: tuple[float, float] | None
) -> dict[str, Any]:
    """The color map of values, and what lies at its ends."""
    if labels:
        from matplotlib.colors import ListedColormap

        count = int(hue.max(initial=0)) + 1
        return {"cmap": ListedColormap(label_colors(count).tolist()), "clim": (-0.5, count - 0.5)}
    if cyclic:
        limits = (0.0, float(np.pi))
    elif centred and limits is None:
        reach = float(np.abs(hue).max(initial=0)) or 1.0
        limits = (-reach, reach)
    return {"cmap": color_map("cyclic" if cyclic else "signed" if centred else "sequential"), "clim": limits}


def _bar(drawn: Any, ax: Axes, label: str, orientation: str, cyclic: bool, labels: bool) -> None:
    """A bar beside a map; of labels a field each, of orientations with a line as it lies."""
    colors = ax.figure.colorbar(drawn, ax=ax, label=label, shrink=0.8, orientation=orientation)
    values = np.asarray(drawn.get_array())
    if labels or np.array_equal(values, np.round(values)):  # counts have nothing between them
        colors.locator = whole_numbers()
        colors.minorticks_off()
    if cyclic:
        signs = zip(range(0, 181, 45), "\u2013/|\\\u2013", strict=True)
        colors.set_ticks([i * np.pi / 4 for i in range(5)], labels=[f"{angle}\u00b0 {sign}" for angle, sign in signs])


def _half_gap(points: Array) -> float:
    """Half of the usual distance to the nearest other point: room for a marker at the border."""
    apart = cKDTree(points).query(points, k=2)[0][:, 1] if len(points) > 1 else np.zeros(1)
    return float(np.median(apart)) / 2 or 0.5


def whole_numbers() -> Any:
    """Ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=8, integer=True, min_n_ticks=1)


@dataclass(frozen=True, eq=False)
class View:
    """Where columns appear in a picture.

    Attributes:
        points: ``[M, 2]``, from the farthest to the nearest; a column may appear more than once.
        column: ``[M]``.
        front: ``[M]`` whether it lies on the side that is seen.
        names: of the axes.
        half: half of the usual distance between columns that lie beside each other.
    """

    points: Array
    column: NDArray[np.int64]
    front: NDArray[np.bool_]
    names: tuple[str, str]
    half: float


def _axis(name: str, more: str = "") -> str:
    return f"{name} ({', '.join(part for part in ('units of distance', more) if part)})"


def look_at(positions: Array) -> View:
    """How columns are drawn in the plane.

    Flat sheets keep their own axes; layers lie side by side; a sphere becomes longitude and latitude; anything else is
    seen from both sides of the direction in which it is thinnest.
    """
    n = len(positions)
    centred = positions - positions.mean(0)
    spread = np.ptp(positions, axis=0)
    flat = np.flatnonzero(spread > 1e-6 * spread.max())

    def plain(points: Array, names: tuple[str, str]) -> View:
        return View(points, np.arange(n), np.ones(n, dtype=bool), names, _half_gap(points))

    if positions.shape[1] == 1:
        return plain(np.column_stack([positions[:, 0], np.zeros(n)]), (_axis("x"), ""))
    if len(flat) < 3:
        shown = (*flat.tolist(), *(i for i in range(positions.shape[1]) if i not in flat))[:2]
        first, second = sorted(shown)
        return plain(positions[:, [first, second]], (_axis("xyz"[first]), _axis("xyz"[second])))
    height = np.round(positions[:, 2] / (1e-6 * spread.max()))
    level, layer, size = np.unique(height, return_inverse=True, return_counts=True)
    if len(level) <= 12 and size.min() >= 4:
        gap = 2 * spread[0] / max(np.sqrt(n / len(level)) - 1, 1)
        beside = positions[:, :2] + layer[:, None] * [1.2 * spread[0] + gap, 0]
        return plain(beside, (_axis("x", "layers side by side, lowest first"), _axis("y")))
    radius = np.linalg.norm(centred, axis=1)
    if radius.std() < 0.02 * radius.mean():
        longitude = np.degrees(np.arctan2(centred[:, 1], centred[:, 0]))
        latitude = np.degrees(np.arcsin(np.clip(centred[:, 2] / radius, -1, 1)))
        return plain(np.column_stack([longitude, latitude]), ("longitude (degrees)", "latitude (degrees)"))
    # Signs of singular vectors are arbitrary: the largest entry of each is made positive.
    axes3 = np.linalg.svd(centred, full_matrices=False)[2]
    axes3 *= np.sign(axes3[np.arange(3), np.abs(axes3).argmax(1)])[:, None]
    first, second, depth = (centred @ axes3.T).T
    up, down = np.argsort(depth, kind="stable"), np.argsort(-depth, kind="stable")
    mirrored = 1.15 * np.ptp(first) - first
    points = np.concatenate([np.stack([first, second], 1)[up], np.stack([mirrored, second], 1)[down]])
    front = np.concatenate([depth[up] >= 0, depth[down] <= 0])
    both = np.concatenate([up, down])
    return View(points, both, front, (_axis("from one side, and from the other"), ""), _half_gap(positions))
