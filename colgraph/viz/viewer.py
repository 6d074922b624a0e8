"""The interactive sheet: HTML with its data and script inside, for notebooks and for pages that open from disk."""

from __future__ import annotations

import base64
import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.colors import KINDS, color_map, label_colors
from colgraph.extras import optional
from colgraph.output import check_file, write_text
from colgraph.sheet import Sheet
from colgraph.viz.maps import check_map
from colgraph.viz.planes import layout_of
from colgraph.viz.views import View, sides_of, views_of


@dataclass(frozen=True, eq=False)
class SheetMap:
    """One coloring of the sheet.

    Attributes:
        name: in the list.
        values: ``[columns]``, or ``[steps, columns]`` for a slider; NaN where there is no value (drawn grey).
        unit: below the legend.
        kind: "sequential", "cyclic" (orientations in radians, from 0 to pi, shown in degrees), "signed" or "labels".
        names: of labels 0, 1, 2, ...; their numbers if not given.
    """

    name: str
    values: NDArray[Any]
    unit: str = ""
    kind: str = "sequential"
    names: Sequence[str] | None = None


class SheetViewer:
    """A sheet to turn and click, which a notebook shows by itself.

    Attributes:
        html: a whole page, that needs no network and no other file.
    """

    def __init__(self, html: str, height: int = 720) -> None:
        self.html, self.height = html, height

    def _repr_html_(self) -> str:
        """For notebooks: the page in a frame of its own, so that several do not get in each other's way."""
        frame = f"width: 100%; height: {self.height}px; border: 0"
        return f'<iframe title="a sheet in three dimensions" srcdoc="{escape(self.html)}" style="{frame}"></iframe>'

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page, whole or not at all.

        Raises:
            ValueError: if the name does not end in ``.html``, or the folder does not exist.
        """
        path = check_file("the viewer's page", path, [".html", ".htm"])
        write_text(path, self.html)
        return path


def sheet_viewer(
    sheet: Sheet,
    maps: Mapping[str, Any] | Sequence[SheetMap],
    *,
    attention: Any = None,
    hemisphere: str | None = None,
    title: str | None = None,
) -> SheetViewer:
    """An interactive sheet: drag to turn, click a column for whom it listens to, with buttons for its views.

    Args:
        sheet: any.
        maps: values ``[N]``, or ``[steps, N]`` for a slider, by their names, NaN where there is no value; or a list of
            :class:`SheetMap`, which say their unit and kind, too. Texts and truth values are labels.
        attention: ``[E]`` of each of the sheet's edges; equal if not given.
        hemisphere: "left" or "right", which a surface is, where its geometry does not say it.
        title: of the page.

    Returns:
        What a notebook shows, and :meth:`SheetViewer.save` writes to a file.

    Raises:
        ValueError: if there is no map, or one is of another length than the sheet; in one line.
        ImportError: without matplotlib, which has the color maps.
    """
    shown = [_as_map(name, one) for name, one in maps.items()] if isinstance(maps, Mapping) else list(maps)
    body = viewer_html(
        sheet.pos.detach().cpu().numpy(),
        shown,
        edges=sheet.edge_index.cpu().numpy(),
        attention=None if attention is None else _checked_attention(attention, sheet.edge_index.size(1)),
        faces=sheet.face.cpu().numpy().T,
        views=viewer_views(sheet, hemisphere),
    )
    style = files("colgraph.viz").joinpath("viewer_page.css").read_text("utf-8")
    return SheetViewer(whole_page(title or str(sheet.geometry), style, body))


def whole_page(title: str, style: str, body: str) -> str:
    """A page that may ask nobody for anything: from its title, CSS, and the HTML of its body."""
    empty = Template(files("colgraph.viz").joinpath("page.html").read_text("utf-8"))
    return empty.substitute(title=escape(title), style=style, body=body)


def _as_map(name: str, values: Any) -> SheetMap:
    if isinstance(values, SheetMap):
        return values
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if array.dtype == bool:
        return SheetMap(name, array.astype(np.int64), kind="labels", names=("no", "yes"))
    if array.dtype.kind in "US":
        names, number = np.unique(array, return_inverse=True)
        return SheetMap(name, number, kind="labels", names=[str(one) for one in names])
    return SheetMap(name, array)


def _checked_attention(attention: Any, edges: int) -> NDArray[np.float64]:
    array = np.asarray(attention.detach().cpu() if hasattr(attention, "detach") else attention, dtype=np.float64)
    if array.shape != (edges,):
        raise ValueError(f"attention must have a value for each of the sheet's {edges} edges, got {list(array.shape)}")
    return array


def viewer_views(sheet: Sheet, hemisphere: str | None = None) -> list[View]:
    """The views that have a button: those of anatomy where sides are known, else of inputs; flat where it can be."""
    if layout_of(sheet) == "plane":
        return []
    names = ["inputs", "opposite"]
    if sheet.face.size(1) and sides_of(sheet, hemisphere) is not None:
        names = ["lateral", "medial", "ventral", "dorsal", "anterior", "posterior"]
    found = views_of(sheet, names, hemisphere)
    if sheet.face.size(1):
        with contextlib.suppress(ValueError):  # a surface with handles
            found += views_of(sheet, ["flat"], hemisphere)
    return found


def viewer_html(
    positions: NDArray[Any],
    maps: Sequence[SheetMap],
    *,
    edges: NDArray[Any],
    attention: NDArray[Any] | None = None,
    faces: NDArray[Any] | None = None,
    fields: tuple[NDArray[Any], NDArray[Any]] | None = None,
    yaw: float = 0.6,
    views: Sequence[View] = (),
) -> str:
    """HTML of an interactive sheet; it needs no network and no other file.

    Args:
        positions: ``[columns, 3]``.
        maps: at least one.
        edges: ``[2,E]`` source and target.
        attention: ``[E]``; equal weights if not given.
        faces: ``[F,3]``; columns are drawn as points where there are none.
        fields: the columns ``[K]`` whose receptive fields are known, and the fields ``[K, height, width]``.
        yaw: from which side the sheet is seen first, in radians, where there are no views.
        views: each a button; the first is what is seen first.

    Raises:
        ValueError: for shapes that do not fit.
        ImportError: without matplotlib, which has the color maps.
    """
    points = np.asarray(positions, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise ValueError(f"positions must have shape [columns, 3], got {list(points.shape)}")
    if not maps:
        raise ValueError("the viewer needs at least one map")
    n = len(points)
    centred = points - (points.max(0) + points.min(0)) / 2
    centred /= max(float(np.linalg.norm(centred, axis=1).max()), 1e-12)
    order = np.argsort(edges[1], kind="stable")
    weight = np.ones(edges.shape[1]) if attention is None else np.asarray(attention, dtype=np.float64)
    target = np.asarray(edges[1])[order]
    # Weights are shown relative to the strongest edge into the same column.
    top = np.zeros(n)
    np.maximum.at(top, target, weight[order])
    spread = np.ptp(points, axis=0)
    coarse = None if faces is None else _coarser(np.asarray(faces), n)
    content = {
        "columns": n,
        "position": _pack(centred, np.float32),
        "face": None if faces is None or not len(faces) else _pack(faces, np.uint32),
        "coarse": None if coarse is None else _pack(coarse, np.uint32),
        "pointer": _pack(np.concatenate([[0], np.cumsum(np.bincount(target, minlength=n))]), np.uint32),
        "source": _pack(np.asarray(edges[0])[order], np.uint32),
        "weight": _pack(np.round(255 * weight[order] / np.maximum(top[target], 1e-300)), np.uint8),
        "dot": float(0.9 / np.sqrt(n) if n > 3 else 0.2),
        "flat": bool((spread < 1e-6 * spread.max()).any()),
        "yaw": yaw,
        "views": _pack_views(views, faces),
        "maps": [_pack_map(one, n) for one in maps],
        "fields": None if fields is None or not len(fields[0]) else _pack_fields(*fields),
        "luts": {KINDS[kind]: _pack(_lut(kind), np.uint8) for kind in KINDS},
    }
    markup, script = (files("colgraph.viz").joinpath(f"viewer.{end}").read_text("utf-8") for end in ("html", "js"))
    text = json.dumps(content, allow_nan=False)
    return f'{markup}<script type="application/json" id="sheet-data">{text}</script>\n<script>{script}</script>\n'


def _coarser(faces: NDArray[Any], columns: int, most: int = 12_000) -> NDArray[np.int64] | None:
    """Fewer faces between some of the same columns, at most ``most``; None where there are no more than that.

    The page draws them while the sheet turns on a machine without a graphics card, with the buffers that it has.
    Columns are kept of which no two are neighbors; every other joins a neighbor that is kept, and faces that close up
    by that are dropped. It follows the surface, so opposite banks of a fold stay apart and a closed surface stays
    closed. Columns are kept in order, which makes of a subdivided sphere, and of fsaverage with it, the one before: a
    quarter of the faces.
    """
    if len(faces) <= most:
        return None
    found = np.asarray(faces, dtype=np.int64)
    while len(found) > most:
        pairs = np.concatenate([found[:, [0, 1]], found[:, [1, 2]], found[:, [2, 0]]])
        pairs = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
        neighbors = np.split(pairs[:, 1], np.searchsorted(pairs[:, 0], np.arange(1, columns)))
        joins = np.full(columns, -1)
        for column, near in enumerate(neighbors):
            if joins[column] < 0:
                joins[near[joins[near] < 0]] = joins[column] = column
        found = joins[found]
        found = found[(found != np.roll(found, 1, axis=1)).all(axis=1)]
    return found


def _pack(values: Any, kind: Any) -> str:
    little = np.dtype(kind).newbyteorder("<")
    return base64.b64encode(np.ascontiguousarray(values).astype(little).tobytes()).decode("ascii")


def _pack_map(one: SheetMap, columns: int) -> dict[str, Any]:
    """A map as bytes: 0 to 254 from lowest to highest and 255 for holes, or 0 to 255 where there are none."""
    given = np.asarray(one.values)
    if given.dtype.kind not in "biuf":
        raise ValueError(f"map {one.name!r} must hold numbers, got {given.dtype}")
    values = np.atleast_2d(given.astype(np.float64))
    if np.isinf(values).any():
        raise ValueError(f"map {one.name!r} must be finite, or NaN where there is no value, and holds inf")
    if values.ndim != 2 or values.shape[1] != columns:
        shape = list(np.shape(one.values))
        raise ValueError(f"map {one.name!r} must have a value for each of the sheet's {columns} columns, got {shape}")
    if one.kind not in KINDS:
        raise ValueError(f"map {one.name!r}: kind must be one of {', '.join(KINDS)}, got {one.kind!r}")
    if one.kind == "labels":
        return _pack_labels(one, values)
    finite = np.isfinite(values)
    low, high = (float(values[finite].min()), float(values[finite].max())) if finite.any() else (0.0, 1.0)
    if one.kind == "cyclic":
        values, low, high = np.degrees(values) % 180, 0.0, 180.0
    elif one.kind == "signed":
        high = max(abs(low), abs(high)) or 1.0
        low = -high
    holes = not bool(finite.all())
    steps = 254 if holes else 255
    share = np.clip((np.where(finite, values, low) - low) / ((high - low) or 1.0), 0, 1)
    return {
        "name": one.name,
        "unit": one.unit,
        "steps": len(values),
        "low": low,
        "high": high,
        "holes": holes,
        "lut": KINDS[one.kind],
        "sign": "\u00b0" if one.kind == "cyclic" else "",
        "values": _pack(np.where(finite, np.round(steps * share), 255), np.uint8),
    }


_MOST_LABELS = 255  # numbers of one byte but the one for none; beyond, colors come again


def _pack_labels(one: SheetMap, values: NDArray[np.float64]) -> dict[str, Any]:
    """Labels as bytes, with their names; more than 255 have two bytes each beside the bytes of their colors."""
    known = check_map(f"map {one.name!r}", values.ravel(), values.size, "labels", names=one.names)
    number = known.values.reshape(values.shape)
    hole = ~np.isfinite(number)
    whole = np.where(hole, 65535, number)
    return {
        "name": one.name,
        "unit": one.unit,
        "steps": len(values),
        "low": 0,
        "high": len(known.names) - 1,
        "holes": bool(hole.any()),
        "lut": KINDS["labels"],
        "sign": "",
        "names": known.names,
        "numbers": _pack(whole, np.uint16) if len(known.names) > _MOST_LABELS else None,
        "values": _pack(np.where(hole, 255, whole % _MOST_LABELS), np.uint8),
    }


def _pack_views(views: Sequence[View], faces: NDArray[Any] | None) -> list[dict[str, Any]]:
    """Each view as a turn of the sheet; flat ones of one surface together, as places and the faces between them."""
    found = [_pack_view(view) for view in views if not view.flat]
    flat = [view.points for view in views if view.flat]
    if not flat or faces is None:
        return found
    beside, right = np.full_like(flat[0], np.nan), 0.0
    for points in flat:
        here = np.isfinite(points).all(1)
        moved = points[here] - (points[here].max(0) + points[here].min(0)) / 2
        beside[here] = moved + np.array([right + np.ptp(moved[:, 0]) / 2, 0])
        right += 1.08 * np.ptp(moved[:, 0])
    here = np.isfinite(beside).all(1)
    beside -= (beside[here].max(0) + beside[here].min(0)) / 2
    place = np.full((len(beside), 3), 1e6)  # out of sight
    place[here, :2] = beside[here] / np.linalg.norm(beside[here], axis=1).max()
    place[here, 2] = 0
    kept = faces[np.isfinite(beside[faces]).all((1, 2))]
    kept = kept[np.ptp(place[kept], axis=1).max(1) < 0.25]
    return [
        *found,
        {
            "name": "flat",
            "turn": np.eye(3).ravel().tolist(),
            "place": _pack(place, np.float32),
            "face": _pack(kept, np.uint32),
        },
    ]


def _pack_view(view: View) -> dict[str, Any]:
    """A turn of the sheet, and which columns are shown where not all are."""
    shown = np.isfinite(view.points).all(1)
    return {
        "name": view.name,
        "turn": view.turn.ravel().tolist(),
        "shown": None if shown.all() else _pack(shown, np.uint8),
    }


def _pack_fields(columns: NDArray[Any], maps: NDArray[Any], most: int = 16) -> dict[str, Any]:
    """Fields as bytes, each scaled to its own largest value, averaged down to at most ``most`` pixels a side."""
    array = np.asarray(maps, dtype=np.float32)
    step = max(1, -(-max(array.shape[1:]) // most))
    height, width = (side // step * step for side in array.shape[1:])
    array = array[:, :height, :width].reshape(len(array), height // step, step, width // step, step).mean((2, 4))
    signed = bool((array < 0).any())
    size = np.maximum(np.abs(array).max((1, 2), keepdims=True), 1e-12)
    share = 0.5 + 0.5 * array / size if signed else array / size
    return {
        "columns": _pack(columns, np.uint32),
        "shape": list(array.shape[1:]),
        "values": _pack(np.round(255 * share), np.uint8),
        "lut": KINDS["signed" if signed else "sequential"],
    }


def _lut(kind: str) -> NDArray[np.float64]:
    """``[256, 3]`` bytes of the color map of a kind; of labels, a color for each."""
    optional("the viewer takes its colors from", "matplotlib", "viz")
    colors = label_colors(256) if kind == "labels" else np.asarray(color_map(kind)(np.linspace(0, 1, 256)))
    return np.round(255 * colors[:, :3])
