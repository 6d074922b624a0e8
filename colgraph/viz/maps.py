"""One number per column, on any sheet: ``draw_map``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.colors import KINDS, PALE, color_map, label_colors
from colgraph.extras import optional
from colgraph.hints import did_you_mean
from colgraph.sheet import Sheet
from colgraph.viz.drawn_networks import draw_network, name_columns
from colgraph.viz.planes import draw_squares, draw_stack, flat_axes, is_tiled, layout_of, positions_of
from colgraph.viz.style import Figure, few_ticks, new_figure
from colgraph.viz.surface import draw_faces, panels
from colgraph.viz.views import usual_views, views_of


@dataclass(frozen=True, eq=False)
class Colored:
    """Values with their colors.

    Attributes:
        values: ``[N]``, NaN where there is none; of labels, the numbers of their names.
        kind: of :data:`colgraph.colors.KINDS`.
        low: the value of the lowest color.
        high: that of the highest.
        names: of labels.
    """

    values: NDArray[np.float64]
    kind: str
    low: float
    high: float
    names: list[str] = field(default_factory=list)

    def colors(self) -> NDArray[np.float64]:
        """``[N,3]`` between 0 and 1, pale where there is no value."""
        from matplotlib.colors import to_rgb

        found = np.tile(to_rgb(PALE), (len(self.values), 1))
        known = np.isfinite(self.values)
        if self.kind == "labels":
            found[known] = label_colors(len(self.names))[self.values[known].astype(np.int64)]
        else:
            share = (self.values[known] - self.low) / ((self.high - self.low) or 1.0)
            found[known] = color_map(self.kind)(np.clip(share, 0, 1))[:, :3]
        return found


def check_map(
    name: str,
    values: Any,
    columns: int,
    kind: str = "sequential",
    limits: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
) -> Colored:
    """One value for each column, as numbers with the ends of their colors.

    Raises:
        ValueError: for another number of values than there are columns, values that are no numbers or infinite, labels
            that are no whole numbers, unknown kinds, and limits that are not ascending; each in one line.
    """
    if kind not in KINDS:
        raise ValueError(f"{name}: kind must be one of {', '.join(KINDS)}, got {kind!r}{did_you_mean(kind, KINDS)}")
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if array.shape != (columns,):
        raise ValueError(f"{name} must have a value for each of the sheet's {columns} columns, got {list(array.shape)}")
    if array.dtype.kind in "US":
        said, array = np.unique(array, return_inverse=True)
        kind, names = "labels", [str(one) for one in said]
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold numbers, got {array.dtype}")
    array = array.astype(np.float64)
    if np.isinf(array).any():
        raise ValueError(
            f"{name} must be finite, or NaN where there is no value: column {np.isinf(array).argmax()} is inf"
        )
    known = array[np.isfinite(array)]
    if kind == "labels":
        return _labels(name, array, known, names)
    if kind == "cyclic":
        return Colored(array % np.pi, kind, 0.0, float(np.pi))
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    if kind == "signed":
        high = max(abs(low), abs(high)) or 1.0
        low = -high
    if limits is not None:
        low, high = (float(end) for end in limits)
        if not low < high:
            raise ValueError(f"limits of {name} must ascend, got {low:g} to {high:g}")
    return Colored(array, kind, low, high)


def _labels(name: str, array: Any, known: Any, names: Sequence[str] | None) -> Colored:
    if not np.array_equal(known, np.round(known)):
        raise ValueError(f"{name} is of labels, which are whole numbers: got {known[known != np.round(known)][0]:g}")
    if names is None:
        said = np.unique(known)
        numbered = np.full(len(array), np.nan)
        numbered[np.isfinite(array)] = np.searchsorted(said, known)
        return Colored(numbered, "labels", 0, max(len(said) - 1, 0), [f"{one:g}" for one in said])
    if len(known) and (known.max() >= len(names) or known.min() < -1):
        raise ValueError(f"{name} has label {known.max():g}, and there are {len(names)} names, from 0")
    return Colored(np.where(array < 0, np.nan, array), "labels", 0, len(names) - 1, list(names))


def draw_map(
    sheet: Sheet,
    values: Any,
    *,
    kind: str = "sequential",
    label: str = "",
    title: str | None = None,
    limits: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
    views: Iterable[str] | None = None,
    hemisphere: str | None = None,
) -> Figure:
    """Draw one number per column on the sheet: grids in the plane, stacks layer by layer, surfaces, networks.

    Args:
        sheet: any; its positions say how it is drawn.
        values: ``[N]`` one for each column, NaN where there is none (pale). Texts are labels.
        kind: "sequential"; "signed" (colors centered at 0); "cyclic" (orientations in radians, from 0 to pi, with the
            angle beside each color in degrees); or "labels" (whole numbers of areas, modules and the like).
        label: what the values are, with their unit.
        title: above the figure.
        limits: values of the lowest and highest color; those of the map if not given.
        names: of labels 0, 1, 2, ...; -1 is none.
        views: of surfaces: any of :data:`colgraph.viz.VIEWS`. "lateral" and "medial" of each hemisphere if not given,
            or from the side of the inputs and from behind where no hemisphere is known.
        hemisphere: "left" or "right", which the surface is, where its geometry does not say it.

    Returns:
        A matplotlib ``Figure``; write it with :func:`colgraph.viz.save_figure`.

    Raises:
        ValueError: if the values do not fit the sheet, and for views that it does not have; in one line.
        ImportError: if matplotlib is missing, with the line that installs it.
    """
    optional("figures need", "matplotlib", "viz")
    colored = check_map("the map", values, sheet.num_columns, kind, limits, names)
    colors = colored.colors()
    if sheet.face.size(1) and layout_of(sheet) != "plane":
        figure, axes = _on_surface(sheet, colored, colors, title, views, hemisphere)
    elif views is not None:
        raise ValueError(f"views are of surfaces in space, and sheet {sheet.geometry!r} is none: leave them out")
    else:
        figure, axes = _in_plane(sheet, colored, colors, title)
    add_color_bar(figure, axes, colored, label)
    if layout_of(sheet) == "space":
        name_columns(axes[0], sheet)  # last, when everything has its place
    return figure


def _on_surface(
    sheet: Sheet, colored: Colored, colors: Any, title: str | None, names: Any, hemisphere: str | None
) -> tuple[Figure, list[Any]]:
    views = views_of(sheet, usual_views(sheet, hemisphere) if names is None else names, hemisphere)
    faces = sheet.face.cpu().numpy().T
    # The color of a face is that of most of its corners where nothing lies between, else their mean.
    shown = colors[faces].mean(1)
    if colored.kind in ("labels", "cyclic"):
        shown = colors[faces[np.arange(len(faces)), _most(colored.values[faces])]]
    figure = new_figure(7.2, 5.0, title)
    grid = panels(figure, views)
    for axes, view in zip(grid, views):
        draw_faces(axes, view, positions_of(sheet), faces, shown)
    return figure, grid


def _most(corners: NDArray[np.float64]) -> NDArray[np.int64]:
    """``[F]`` which of three corners has a value that another has, too; the first where all differ."""
    return np.where(corners[:, 1] == corners[:, 2], 1, 0)


def _in_plane(sheet: Sheet, colored: Colored, colors: Any, title: str | None) -> tuple[Figure, list[Any]]:
    if layout_of(sheet) == "stack":
        return draw_stack(sheet, colors, title)
    plane = flat_axes(positions_of(sheet))
    if plane is not None and is_tiled(positions_of(sheet)[:, plane]):
        return draw_squares(sheet, colors, title)
    return draw_network(sheet, colors, title)


def add_color_bar(figure: Figure, axes: list[Any], colored: Colored, label: str) -> None:
    """What colors mean, below the panels: a bar, with angles in degrees, or a field with each label's name."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.patches import Patch

    if colored.kind == "labels":
        known = np.unique(colored.values[np.isfinite(colored.values)]).astype(np.int64)
        shown, colors = known[:24], label_colors(len(colored.names))
        fields = [Patch(facecolor=colors[i], label=colored.names[i]) for i in shown]
        more = f" ({len(shown)} of {len(known)} named)" if len(known) > len(shown) else ""
        columns = min(len(fields), 8) or 1
        figure.legend(handles=fields, title=label + more, loc="outside lower center", ncols=columns, fontsize=8)
        return
    scale = ScalarMappable(Normalize(colored.low, colored.high), color_map(colored.kind))
    bar = figure.colorbar(scale, ax=axes, location="bottom", shrink=0.6, aspect=32, label=label, ticks=few_ticks())
    if colored.kind == "cyclic":
        bar.set_ticks([i * np.pi / 4 for i in range(5)], labels=[f"{angle}\u00b0" for angle in range(0, 181, 45)])
