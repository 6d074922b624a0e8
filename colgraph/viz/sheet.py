"""The sheet in space: columns, some of their edges, and where input enters and output leaves."""

from __future__ import annotations

from typing import Any

import numpy as np

from colgraph.sheet import Sheet
from colgraph.viz.area_colors import area_colors, face_areas
from colgraph.viz.attention import central_column
from colgraph.viz.style import BLUE, GREEN, GREY, INK, ORANGE, PALE, UNIT, Figure, few_ticks, new_figure

_NAMED = 60
_COARSE_FACES, _MANY_FACES = 6_000, 60_000
_VIEWS = ((22, -155, "one side, from above"), (-22, 25, "other side, from below"))


def draw_sheet(sheet: Sheet, *, max_edges: int = 2500, title: str | None = None, seed: int = 0) -> Figure:
    """Draw a sheet: flat ones in the plane, layers and networks in space, surfaces from two sides.

    Args:
        sheet: the sheet; inputs are orange, output columns are framed in blue.
        max_edges: at most this many edges are drawn, chosen at random.
        title: above the figure; what the sheet is, if not given.
        seed: of that choice.

    Returns:
        A matplotlib ``Figure``; write it with :func:`colgraph.viz.save_figure`.
    """
    position = sheet.pos.detach().cpu().numpy().astype(np.float64)
    edges = _some_edges(sheet, max_edges, seed)
    heading = title or f"{sheet.geometry}: {sheet.num_columns:,} columns, {sheet.edge_index.size(1):,} edges"
    plane = flat_axes(position)
    if plane is not None:
        figure = new_figure(6.6, 6.4, heading)
        _draw_flat(figure.add_subplot(), sheet, position, plane, edges)
    elif sheet.face.size(1):
        figure = new_figure(10.5, 5.6, heading)
        _draw_surface(figure, sheet, position)
    else:
        figure = new_figure(7.6, 7.0, heading)
        _draw_space(figure.add_subplot(projection="3d"), sheet, position, edges)
    _legend(figure, sheet, 0 if plane is None and sheet.face.size(1) else edges.shape[1])
    return figure


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


def _some_edges(sheet: Sheet, max_edges: int, seed: int) -> np.ndarray:
    edges = sheet.edge_index.cpu().numpy()
    other = edges[0] != edges[1]
    edges = edges[:, other]
    if sheet.metric == "periodic":
        # A connection through the border would be drawn right across the sheet.
        drawn = (sheet.pos[edges[0]] - sheet.pos[edges[1]]).norm(dim=1).cpu().numpy()
        edges = edges[:, drawn <= 1.001 * sheet.edge_distance.detach().cpu().numpy()[other]]
    if edges.shape[1] > max_edges:
        chosen = np.random.default_rng(seed).choice(edges.shape[1], max_edges, replace=False)
        edges = edges[:, np.sort(chosen)]
    return edges


def _roles(sheet: Sheet) -> tuple[np.ndarray, np.ndarray]:
    """Which columns are inputs, and which are outputs where not simply all of them are."""
    inputs = (sheet.input_rank >= 0).cpu().numpy()
    outputs = sheet.output_mask.cpu().numpy()
    return inputs, outputs if not outputs.all() else np.zeros_like(outputs)


def _area_colors(sheet: Sheet) -> np.ndarray:
    """``[N,3]`` the color of each column's area, pale where it is in none."""
    from matplotlib.colors import to_rgb

    none = np.array([to_rgb(PALE)])
    if sheet.area is None:
        return none.repeat(sheet.num_columns, 0)
    return np.concatenate([area_colors(len(sheet.area_names or ())), none])[sheet.area.cpu().numpy()]


def _draw_columns(axes: Any, sheet: Sheet, points: np.ndarray, size: float, **depth: bool) -> None:
    """A mark per column, orange for inputs, and a blue ring around those that are read out."""
    from matplotlib.colors import to_rgb

    inputs, outputs = _roles(sheet)
    colors = _area_colors(sheet)
    colors[inputs] = to_rgb(ORANGE)
    axes.scatter(*points.T, s=size, c=colors, edgecolors=GREY, linewidths=0.4, zorder=2, **depth)
    axes.scatter(*points[outputs].T, s=1.9 * size, c="none", edgecolors=BLUE, linewidths=1.2, zorder=3, **depth)


def _draw_flat(axes: Any, sheet: Sheet, position: np.ndarray, plane: tuple[int, int], edges: np.ndarray) -> None:
    from matplotlib.collections import LineCollection

    points = position[:, plane]
    size = float(np.clip(9000 / max(len(points), 1), 4, 90))
    lines = LineCollection(list(points[edges.T]), colors=GREY, linewidths=0.5, alpha=0.45, zorder=1)
    axes.add_collection(lines)
    mine = _ears(sheet, central_column(sheet))
    axes.add_collection(LineCollection(list(points[mine.T]), colors=GREEN, linewidths=1.4, zorder=1.5))
    _draw_columns(axes, sheet, points, size)
    if "names" in sheet and len(points) <= _NAMED:
        for point, name in zip(points, sheet["names"]):
            axes.annotate(name, point, xytext=(4, 4), textcoords="offset points", fontsize=7)
    axes.set_aspect("equal")
    axes.set(xlabel=f"{'xyz'[plane[0]]} ({UNIT})", ylabel=f"{'xyz'[plane[1]]} ({UNIT})")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_space(axes: Any, sheet: Sheet, position: np.ndarray, edges: np.ndarray) -> None:
    from mpl_toolkits.mplot3d.art3d import Line3DCollection

    # The axis along which layers lie is drawn upwards.
    up = _layer_axis(sheet, position)
    order = [axis for axis in range(3) if axis != up] + [up]
    points = position[:, order]
    alpha = float(np.clip(400 / max(edges.shape[1], 1), 0.08, 0.5))
    axes.add_collection3d(Line3DCollection(list(points[edges.T]), colors=GREY, linewidths=0.4, alpha=alpha))
    _draw_planes(axes, sheet, points)
    size = float(np.clip(9000 / max(len(points), 1), 3, 70))
    mine = _ears(sheet, central_column(sheet))
    axes.add_collection3d(Line3DCollection(list(points[mine.T]), colors=GREEN, linewidths=1.1, alpha=0.9, zorder=5))
    _draw_columns(axes, sheet, points, size, depthshade=False)
    if "names" in sheet and len(points) <= _NAMED:
        for point, name in zip(points, sheet["names"]):
            axes.text(*point, f" {name}", fontsize=7)
    _frame(axes, points, 0.95)
    names = [f"{'xyz'[axis]} ({UNIT})" for axis in order]
    axes.set(xlabel=names[0], ylabel=names[1], zlabel=names[2])
    axes.view_init(elev=16, azim=-62)


def _draw_planes(axes: Any, sheet: Sheet, points: np.ndarray) -> None:
    """A faint pane behind each layer whose columns lie at one height."""
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    layer = sheet.layer.cpu().numpy()
    labels = np.unique(layer)
    if not 1 < len(labels) <= 24:
        return
    for label in labels:
        low, high = points[layer == label].min(0), points[layer == label].max(0)
        if high[2] - low[2] > 1e-6 * max(float(np.ptp(points)), 1e-12):
            continue
        corners = [
            (x, y, low[2]) for x, y in ((low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1]))
        ]
        axes.add_collection3d(Poly3DCollection([corners], facecolors=PALE, edgecolors=GREY, linewidths=0.5, alpha=0.22))


def _ears(sheet: Sheet, column: int) -> np.ndarray:
    """``[2,K]`` the edges that one column listens through, itself left out."""
    edges = sheet.edge_index.cpu().numpy()
    return edges[:, (edges[1] == column) & (edges[0] != column)]


def _draw_surface(figure: Figure, sheet: Sheet, position: np.ndarray) -> None:
    """The faces from two sides, in the color of the role that most of their columns have, else of their area."""
    from matplotlib.colors import to_rgb

    faces = sheet.face.cpu().numpy().T
    inputs, outputs = _roles(sheet)
    kind = np.median(np.where(inputs, 1, np.where(outputs, 2, 0))[faces], axis=1).astype(np.int64)
    none = np.array([to_rgb(PALE)])
    color = none.repeat(len(faces), 0)
    if sheet.area is not None:
        colors = np.concatenate([area_colors(len(sheet.area_names or ())), none])
        color = colors[face_areas(faces, sheet.area.cpu().numpy())]
    color[kind > 0] = np.array([to_rgb(ORANGE), to_rgb(BLUE)])[kind[kind > 0] - 1]
    corners = position[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    for i, (elevation, azimuth, title) in enumerate(_VIEWS):
        axes: Any = figure.add_subplot(1, 2, i + 1, projection="3d")
        axes.view_init(elev=elevation, azim=azimuth)
        _draw_faces(axes, corners, normal, color, np.deg2rad([elevation, azimuth]))
        _frame(axes, position, 1.22)
        axes.set_axis_off()
        axes.set_title(title, fontweight="normal", fontsize=10)


def _draw_faces(axes: Any, corners: np.ndarray, normal: np.ndarray, color: np.ndarray, view: np.ndarray) -> None:
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    up, around = view
    reader = np.array([np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)])
    # Light comes from the reader's side and a little from above.
    light = reader + np.array([0, 0, 0.35])
    shaded = color * (0.6 + 0.4 * np.abs(normal @ (light / np.linalg.norm(light))))[:, None]
    if len(corners) > _MANY_FACES:
        # As polygons so many faces take minutes; those that face the reader look the same as points.
        front = normal @ reader > 0
        x, y, z = corners[front].mean(1).T
        axes.scatter(x, y, z, s=2.5, c=shaded[front], linewidths=0, depthshade=False)
        return
    # Edges in the faces' colour close the hairlines between them; on coarse meshes they show the triangles.
    outline = GREY if len(corners) <= _COARSE_FACES else shaded
    axes.add_collection3d(Poly3DCollection(list(corners), facecolors=shaded, edgecolors=outline, linewidths=0.2))


def _layer_axis(sheet: Sheet, position: np.ndarray) -> int:
    """The coordinate that tells layers apart, or z."""
    layer = sheet.layer.cpu().numpy()
    labels = np.unique(layer)
    if len(labels) < 2 or len(labels) == len(layer):
        return 2
    means = np.array([position[layer == label].mean(0) for label in labels])
    within = np.array([position[layer == label].std(0) for label in labels]).mean(0)
    return int(np.argmax(means.std(0) / (within + 1e-9)))


def _frame(axes: Any, points: np.ndarray, zoom: float) -> None:
    """Equal scales, and walls that do not compete with the columns."""
    low, high = points.min(0), points.max(0)
    extent = np.maximum(high - low, 1e-6 * float((high - low).max() or 1.0))
    margin = 0.03 * extent.max()
    axes.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin))
    axes.set_zlim(low[2] - margin, high[2] + margin)
    axes.set_box_aspect(extent + 2 * margin, zoom=zoom)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.pane.set(facecolor="white", edgecolor=PALE)
        axis._axinfo["grid"].update(color=PALE, linewidth=0.4)
        axis.set_major_locator(few_ticks())
    axes.tick_params(labelsize=8)


def _legend(figure: Figure, sheet: Sheet, edges: int) -> None:
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
        filled = sheet.face.size(1) > 0
        handles.append(dot(BLUE if filled else "none", BLUE, 8, f"read out ({outputs:,})"))
    if edges:
        handles.append(Line2D([], [], color=GREEN, linewidth=1.4, label="what one column listens to"))
        real = int((sheet.edge_index[0] != sheet.edge_index[1]).sum())
        drawn = "all" if edges == real else f"{edges:,} of {real:,}"
        handles.append(Line2D([], [], color=GREY, linewidth=1, label=f"edge ({drawn} drawn)"))
    size = " x ".join(f"{extent:.3g}" for extent in np.ptp(sheet.pos.detach().cpu().numpy(), axis=0))
    extent = f"extent {size} ({UNIT})" if not edges else None
    columns = min(len(handles), 3)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, labelcolor=INK, title=extent)
