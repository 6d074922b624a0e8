"""How results draw themselves: small pieces on matplotlib, imported when the first of them is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from colgraph.analysis.arrays import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "BLUE",
    "GREY",
    "INK",
    "ORANGE",
    "axes",
    "colours",
    "draw_bars",
    "draw_curve",
    "draw_map",
    "draw_null",
    "plane",
]

# Okabe and Ito (2008), "Color universal design".
ORANGE, BLUE, GREY, INK = "#E69F00", "#0072B2", "#8A8F98", "#22262B"


def axes(ax: Axes | None) -> Axes:
    """The given axes, or those of a new figure.

    Raises:
        ImportError: if matplotlib is missing, with the line that installs it.
    """
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'colgraph[viz]'") from error
    return plt.subplots(layout="constrained")[1]


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
    ax: Axes, positions: Array, values: Array, *, label: str, title: str, cyclic: bool = False, centred: bool = False
) -> Axes:
    """Columns at their places, coloured by a value; ``cyclic`` for angles, ``centred`` for signed values."""
    points, names = plane(positions)
    limits: dict[str, Any] = {}
    if cyclic:
        limits = {"vmin": 0.0, "vmax": float(np.pi)}
    elif centred:
        reach = float(np.abs(values).max()) or 1.0
        limits = {"vmin": -reach, "vmax": reach}
    colours = "twilight" if cyclic else "PuOr" if centred else "viridis"
    size = float(np.clip(20000 / len(points), 1, 120))
    dots = ax.scatter(points[:, 0], points[:, 1], c=values, s=size, marker="s", linewidths=0, cmap=colours, **limits)
    ax.set_aspect("equal")
    ax.set(xlabel=names[0], ylabel=names[1], title=title)
    ax.figure.colorbar(dots, ax=ax, label=label, shrink=0.8)
    return ax


def plane(positions: Array) -> tuple[Array, tuple[str, str]]:
    """Coordinates ``[columns, 2]`` for drawing, and what their axes are.

    Flat sheets keep their own axes; a sphere becomes longitude and latitude; anything else is seen along the direction
    in which it is thinnest.
    """
    centred = positions - positions.mean(0)
    if positions.shape[1] == 1:
        return np.column_stack([positions[:, 0], np.zeros(len(positions))]), ("x", "")
    spread = np.ptp(positions, axis=0)
    flat = np.flatnonzero(spread > 1e-6 * spread.max())
    if len(flat) < 3:
        shown = (*flat.tolist(), *(i for i in range(positions.shape[1]) if i not in flat))[:2]
        first, second = sorted(shown)
        return positions[:, [first, second]], ("xyz"[first], "xyz"[second])
    radius = np.linalg.norm(centred, axis=1)
    if radius.std() < 0.02 * radius.mean():
        longitude = np.degrees(np.arctan2(centred[:, 1], centred[:, 0]))
        latitude = np.degrees(np.arcsin(np.clip(centred[:, 2] / radius, -1, 1)))
        return np.column_stack([longitude, latitude]), ("longitude (degrees)", "latitude (degrees)")
    directions = np.linalg.svd(centred, full_matrices=False)[2][:2]
    return centred @ directions.T, ("first principal axis", "second")


def colours(count: int) -> list[Any]:
    """``count`` colours along a map that colour-blind readers can follow."""
    from matplotlib import colormaps

    return [colormaps["cividis"](i / max(count - 1, 1)) for i in range(count)]
