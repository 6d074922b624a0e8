"""The sheet in space: columns, some of their edges, and where input enters and output leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.colors import BLUE, GREEN, GREY, INK, ORANGE, PALE, label_colors
from colgraph.sheet import Sheet
from colgraph.viz.attention import central_column
from colgraph.viz.borders import face_areas
from colgraph.viz.drawn_networks import NAMED, draw_edges, frame_plane, name_columns, network_plane
from colgraph.viz.planes import draw_panes, flat_axes, layer_axis, layout_of, positions_of, stack_plane
from colgraph.viz.style import Figure, new_figure
from colgraph.viz.surface import draw_faces, panels
from colgraph.viz.views import sides_of, unit_of, usual_views, views_of

_EDGES = {"plane": 2500, "stack": 0, "space": 1500, "surface": 0}
"""Edges that are drawn behind those of single columns, where no number is given: more of a stack's hide its layers."""


def draw_sheet(sheet: Sheet, *, max_edges: int | None = None, title: str | None = None, seed: int = 0) -> Figure:
    """Draw a sheet: flat ones in the plane, stacks as layers above each other, surfaces from several sides, networks.

    Inputs are orange and columns that are read out are framed in blue, on surfaces blue. One column of a flat sheet,
    and one of each layer of a stack, has the edges through which it listens in green. Shorter edges of networks are
    thicker. Hemispheres are drawn from their lateral and medial side, and from behind where inputs are in their
    posterior third; other surfaces from where their inputs are, and from behind.

    Args:
        sheet: the sheet.
        max_edges: at most this many edges are drawn in grey, chosen at random: by default 2,500 of flat sheets, the
            1,500 shortest of networks and none of stacks. Of surfaces none are drawn.
        title: above the figure; what the sheet is, if not given.
        seed: of that choice.

    Returns:
        A matplotlib ``Figure``; write it with :func:`colgraph.viz.save_figure`.
    """
    layout = layout_of(sheet)
    heading = title or f"{sheet.geometry}: {sheet.num_columns:,} columns, {sheet.edge_index.size(1):,} edges"
    if layout == "surface":
        figure = new_figure(7.2, 5.0, heading)
        _draw_surface(figure, sheet)
        _legend(figure, sheet, None)
        return figure
    edges = _some_edges(sheet, layout, max_edges, seed)
    draw = {"plane": _draw_flat, "stack": _draw_stack, "space": _draw_space}[layout]
    figure = draw(sheet, heading, edges)
    _legend(figure, sheet, len(edges))
    if layout == "space" or (layout == "plane" and sheet.names is not None):
        _say_names(figure, sheet, layout)
    return figure


def _some_edges(sheet: Sheet, layout: str, max_edges: int | None, seed: int) -> NDArray[np.int64]:
    """``[K]`` the edges that are drawn, by their place in the sheet's list."""
    ends = sheet.edge_index.cpu().numpy()
    chosen = np.flatnonzero(ends[0] != ends[1])
    length = sheet.edge_distance.detach().cpu().numpy()
    if sheet.metric == "periodic":
        # A connection through the border would be drawn right across the sheet.
        drawn = (sheet.pos[ends[0]] - sheet.pos[ends[1]]).norm(dim=1).cpu().numpy()
        chosen = chosen[drawn[chosen] <= 1.001 * length[chosen]]
    most = _EDGES[layout] if max_edges is None else max_edges
    if len(chosen) <= most:
        return chosen
    if layout == "space" and max_edges is None:
        return chosen[np.argsort(length[chosen], kind="stable")[:most]]
    return np.sort(np.random.default_rng(seed).choice(chosen, most, replace=False))


def _roles(sheet: Sheet) -> tuple[np.ndarray, np.ndarray]:
    """Which columns are inputs, and which are outputs where not simply all of them are."""
    inputs = (sheet.input_rank >= 0).cpu().numpy()
    outputs = sheet.output_mask.cpu().numpy()
    return inputs, outputs if not outputs.all() else np.zeros_like(outputs)


def _colors(sheet: Sheet) -> np.ndarray:
    """``[N,3]`` orange for inputs, else the color of a column's area, pale where it is in none."""
    from matplotlib.colors import to_rgb

    none = np.array([to_rgb(PALE)])
    colors = none.repeat(sheet.num_columns, 0)
    if sheet.area is not None:
        colors = np.concatenate([label_colors(len(sheet.area_names or ())), none])[sheet.area.cpu().numpy()]
    colors[_roles(sheet)[0]] = to_rgb(ORANGE)
    return colors


def _draw_columns(axes: Any, sheet: Sheet, points: np.ndarray, shown: np.ndarray, size: float, layer: int = 0) -> None:
    """A mark per column that is shown, and a blue ring around those that are read out."""
    outputs = _roles(sheet)[1] & shown
    look = {"edgecolors": GREY, "linewidths": 0.4, "zorder": layer + 1.4}
    axes.scatter(*points[shown].T, s=size, c=_colors(sheet)[shown], **look)
    axes.scatter(*points[outputs].T, s=1.7 * size, c="none", edgecolors=BLUE, linewidths=1.2, zorder=layer + 1.5)


def _draw_flat(sheet: Sheet, heading: str, edges: np.ndarray) -> Figure:
    position = positions_of(sheet)
    plane = flat_axes(position) or (0, 1)
    points = position[:, plane]
    wide, high = np.ptp(points, axis=0) + sheet.spacing
    figure = new_figure(6.2, float(np.clip(5.8 * high / max(wide, 1e-12), 1.2, 6)) + 1.3, heading)
    axes = figure.subplots()
    draw_edges(axes, sheet, points, edges, linewidths=0.5, alpha=0.45)
    mine = _ears(sheet, central_column(sheet))
    draw_edges(axes, sheet, points, mine, colors=GREEN, alpha=1, linewidths=1.4, zorder=1.2)
    everyone = np.ones(len(points), dtype=bool)
    _draw_columns(axes, sheet, points, everyone, float(np.clip(9000 / max(len(points), 1), 4, 90)))
    unit = unit_of(sheet)
    frame_plane(axes, (f"{'xyz'[plane[0]]} ({unit})", f"{'xyz'[plane[1]]} ({unit})"))
    return figure


def _draw_stack(sheet: Sheet, heading: str, edges: np.ndarray) -> Figure:
    """Tilted layers, far enough above each other to be seen whole, with what one column of each listens to."""
    points, place, panes = stack_plane(sheet)
    corners = np.concatenate([pane for _, pane in panes])
    wide, high = np.ptp(corners, axis=0)
    figure = new_figure(6.8, float(np.clip(5.8 * high / wide, 2.4, 9)) + 1.3, heading)
    axes = figure.subplots()
    draw_panes(axes, panes)
    draw_edges(axes, sheet, points, edges, zorder=0.5)
    size = float(np.clip(5000 / max(np.bincount(place).max(), 1), 4, 50))
    for i in range(len(panes)):
        here = place == i
        _draw_columns(axes, sheet, points, here, size, layer=2 * i)
        mine = _ears(sheet, _middle(sheet, points, here))
        draw_edges(axes, sheet, points, mine, colors=GREEN, alpha=0.9, linewidths=1.1, zorder=2 * i + 1.2)
    frame_plane(axes, None)
    position = positions_of(sheet)
    axis = layer_axis(sheet, position)
    extent = " x ".join(f"{size:.3g}" for size in np.ptp(np.delete(position, 2 if axis is None else axis, 1), axis=0))
    axes.set_title(f"layers of up to {extent} ({unit_of(sheet)}), drawn apart", fontsize=9, fontweight="normal")
    return figure


def _middle(sheet: Sheet, points: np.ndarray, here: np.ndarray) -> int:
    """The column in the middle of a layer; of those that listen to others, where there are any."""
    ends = sheet.edge_index.cpu().numpy()
    listens = np.bincount(ends[1, ends[0] != ends[1]], minlength=len(points)) > 0
    some = np.flatnonzero(here & listens) if (here & listens).any() else np.flatnonzero(here)
    away = np.linalg.norm(points[some] - points[here].mean(0), axis=1)
    return int(some[np.argmin(np.round(away, 6))])


def _draw_space(sheet: Sheet, heading: str, edges: np.ndarray) -> Figure:
    points, labels = network_plane(sheet)
    wide, high = np.ptp(points, axis=0)
    figure = new_figure(6.8, float(np.clip(6.8 * high / max(wide, 1e-12), 2.5, 6.8)) + 1.2, heading)
    axes = figure.subplots()
    draw_edges(axes, sheet, points, edges)
    mine = _ears(sheet, central_column(sheet))
    draw_edges(axes, sheet, points, mine, colors=GREEN, alpha=0.9, zorder=1.2)
    everyone = np.ones(len(points), dtype=bool)
    _draw_columns(axes, sheet, points, everyone, float(np.clip(6000 / max(len(points), 1), 8, 110)))
    frame_plane(axes, labels)
    extent = " x ".join(f"{size:.3g}" for size in np.ptp(positions_of(sheet), axis=0))
    text = f"seen along its shortest extent; {extent} ({unit_of(sheet)})"
    axes.set_title(text, fontsize=9, fontweight="normal")
    return figure


def _say_names(figure: Figure, sheet: Sheet, layout: str) -> None:
    """Names where they fit, and how many do not."""
    axes = figure.axes[0]
    left_out = name_columns(axes, sheet)
    if left_out and sheet.num_columns <= NAMED:
        before = axes.get_title()
        axes.set_title(
            f"{before}; {left_out} of {sheet.num_columns} names left out, which would cover others"
            if before
            else f"{left_out} of {sheet.num_columns} names left out, which would cover others",
            fontsize=9,
            fontweight="normal",
        )


def _ears(sheet: Sheet, column: int) -> NDArray[np.int64]:
    """``[K]`` the edges that one column listens through, itself left out, by their place in the sheet's list."""
    ends = sheet.edge_index.cpu().numpy()
    mine = np.flatnonzero((ends[1] == column) & (ends[0] != column))
    if sheet.metric == "periodic":
        drawn = (sheet.pos[ends[0, mine]] - sheet.pos[ends[1, mine]]).norm(dim=1).cpu().numpy()
        mine = mine[drawn <= 1.001 * sheet.edge_distance.detach().cpu().numpy()[mine]]
    return mine


def _draw_surface(figure: Figure, sheet: Sheet) -> None:
    """The faces from some sides, in the color of the role that any of their columns has, else of their area."""
    from matplotlib.colors import to_rgb

    faces = sheet.face.cpu().numpy().T
    inputs, outputs = _roles(sheet)
    none = np.array([to_rgb(PALE)])
    color = none.repeat(len(faces), 0)
    if sheet.area is not None:
        colors = np.concatenate([label_colors(len(sheet.area_names or ())), none])
        color = colors[face_areas(faces, sheet.area.cpu().numpy())]
    color[outputs[faces].all(1)] = to_rgb(BLUE)
    color[inputs[faces].any(1)] = to_rgb(ORANGE)
    names = usual_views(sheet)
    position = positions_of(sheet)
    if sides_of(sheet) is not None and inputs.any() and _behind(position, inputs):
        names = [*names, "posterior"]
    views = views_of(sheet, names)
    for axes, view in zip(panels(figure, views), views):
        draw_faces(axes, view, position, faces, color)


def _behind(position: np.ndarray, inputs: np.ndarray) -> bool:
    """Whether inputs lie in the posterior third, where neither the lateral nor the medial side shows them well."""
    low, high = position[:, 1].min(), position[:, 1].max()
    return bool(position[inputs, 1].mean() < low + (high - low) / 3)


def _legend(figure: Figure, sheet: Sheet, edges: int | None) -> None:
    """What marks mean; ``edges`` is how many are drawn in grey, None of surfaces."""
    from matplotlib.lines import Line2D

    def dot(color: str, edge: str, size: int, text: str) -> Line2D:
        return Line2D([], [], linestyle="", marker="o", color=color, markeredgecolor=edge, markersize=size, label=text)

    inputs, outputs = int((sheet.input_rank >= 0).sum()), int(sheet.output_mask.sum())
    handles = [
        dot(PALE, GREY, 7, "column" if sheet.area is None else "column in no area (others in their area's color)")
    ]
    if inputs:
        handles.append(dot(ORANGE, GREY, 7, f"input ({inputs:,})"))
    if outputs < sheet.num_columns:
        handles.append(dot(BLUE if edges is None else "none", BLUE, 8, f"read out ({outputs:,})"))
    if edges is not None:
        several = "one column of each layer listens" if layout_of(sheet) == "stack" else "one column listens"
        handles.append(Line2D([], [], color=GREEN, linewidth=1.4, label=f"what {several} to"))
    if edges:
        real = int((sheet.edge_index[0] != sheet.edge_index[1]).sum())
        drawn = "all" if edges == real else f"{edges:,} of {real:,}"
        lengths = sheet.edge_distance.detach().cpu().numpy()
        thick = ", thicker: shorter" if layout_of(sheet) == "space" and np.ptp(lengths) > 0 else ""
        handles.append(Line2D([], [], color=GREY, linewidth=1, label=f"edge ({drawn} drawn{thick})"))
    size = " x ".join(f"{extent:.3g}" for extent in np.ptp(positions_of(sheet), axis=0))
    extent = f"extent {size} ({unit_of(sheet)})" if edges is None else None
    columns = min(len(handles), 3 if edges is None or len(handles) != 4 else 2)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, labelcolor=INK, title=extent)
