"""Faces seen from one side, or laid flat, with a color each: what draws surfaces in all figures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.colors import GREY
from colgraph.viz.views import View

_OUTLINED = 1_000  # faces, up to which the mesh shows
_PIXELS = 4_000  # faces, from which on they are pixels in files of vector graphics


def draw_faces(
    axes: Any,
    view: View,
    positions: NDArray[np.float64],
    faces: NDArray[np.int64],
    colors: NDArray[np.float64],
    lines: NDArray[np.float64] | None = None,
) -> None:
    """Draw faces ``[F,3]`` in their ``colors [F,3]`` from far to near, lit from where the reader is and above.

    Args:
        axes: without ticks or frame afterwards, of equal scales.
        view: as :func:`colgraph.viz.views.views_of` makes them.
        positions: ``[N,3]``.
        faces: columns that the view does not show, and faces of them, are left out.
        colors: between 0 and 1.
        lines: ``[L,2,3]`` to be drawn where they are seen, such as borders of areas.
    """
    from matplotlib.collections import LineCollection, PolyCollection

    shown = np.isfinite(view.points[faces]).all((1, 2))
    if view.flat:
        shown &= _not_across(view.points, faces)
    faces, colors = faces[shown], colors[shown]
    order = np.argsort(view.depth[faces].mean(1), kind="stable")
    faces, colors = faces[order], colors[order]
    corners = view.points[faces]
    shaded = colors if view.flat else colors * _light(view, positions[faces])[:, None]
    axes.add_collection(
        PolyCollection(
            list(corners),
            facecolors=shaded,
            # An outline of the faces' own color closes the hairlines between them.
            edgecolors=GREY if len(faces) <= _OUTLINED else shaded,
            linewidths=0.25,
            rasterized=len(faces) > _PIXELS,
        ),
        autolim=False,
    )
    if lines is not None and len(lines):
        axes.add_collection(LineCollection(list(lines), colors="#22262B", linewidths=0.6), autolim=False)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_title(view.name, fontsize=10, fontweight="normal")


def panels(figure: Any, views: list[View]) -> list[Any]:
    """Axes of one scale for all views but flat ones: both hemispheres beside each other, else up to three in a row."""
    figure.set_layout_engine("compressed")
    across = min(len(views), 3) if len(views) != 4 else 2
    if len({view.name.split()[0] for view in views} & {"left", "right"}) == 2:
        across = 2
    down = -(-len(views) // across)
    grid = figure.subplots(down, across, squeeze=False).ravel()
    low, high = np.array([[np.nanmin(view.points, 0), np.nanmax(view.points, 0)] for view in views]).transpose(1, 0, 2)
    flat = np.array([view.flat for view in views])
    reach = 0.51 * (high - low)[~flat if not flat.all() else flat].max(0)
    for axes in grid[len(views) :]:
        axes.set_axis_off()
    for axes, middle, half, laid in zip(grid, (low + high) / 2, (high - low) / 2, flat):
        # What is laid flat is larger than what is seen from one side, and has a scale of its own.
        own = reach * (1.02 * (half / reach).max() if laid else 1)
        axes.set(xlim=middle[0] + own[0] * np.array([-1, 1]), ylim=middle[1] + own[1] * np.array([-1, 1]))
    width = float(figure.get_size_inches()[0])
    figure.set_figheight(0.9 + down * (0.3 + width / across * reach[1] / reach[0]))
    return list(grid)


def _light(view: View, corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[F]`` how bright each face is, whichever way round its corners are listed."""
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    from_where = view.turn[2] + 0.35 * view.turn[1]
    return np.asarray(0.62 + 0.38 * np.minimum(np.abs(normal @ from_where), 1))


def _not_across(points: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.bool_]:
    """``[F]`` faces that do not reach from one end of a flat map to the other, where it was cut."""
    wide = np.ptp(points[faces], axis=1).max(1)
    return np.asarray(wide < 0.25 * np.nanmax(np.ptp(points[np.isfinite(points).all(1)], axis=0)))
