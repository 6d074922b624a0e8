"""The interactive sheet: one piece of HTML with its data and script inside, for any page that opens from disk."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.extras import optional


@dataclass(frozen=True, eq=False)
class SheetMap:
    """One colouring of the sheet.

    Attributes:
        name: in the list.
        values: ``[columns]``, or ``[steps, columns]`` for a slider; NaN where there is no value (drawn grey).
        unit: below the legend.
        kind: "sequential", "cyclic" (orientations in radians, from 0 to pi, shown in degrees), "signed" or "labels".
    """

    name: str
    values: NDArray[Any]
    unit: str = ""
    kind: str = "sequential"


_COLOURS = {"sequential": "viridis", "cyclic": "twilight", "signed": "PuOr", "labels": "cividis"}


def sheet_viewer(
    positions: NDArray[Any],
    maps: Sequence[SheetMap],
    *,
    edges: NDArray[Any],
    attention: NDArray[Any] | None = None,
    faces: NDArray[Any] | None = None,
    fields: tuple[NDArray[Any], NDArray[Any]] | None = None,
    yaw: float = 0.6,
) -> str:
    """HTML of an interactive sheet; it needs no network and no other file.

    Args:
        positions: ``[columns, 3]``.
        maps: at least one.
        edges: ``[2,E]`` source and target.
        attention: ``[E]``; equal weights if not given.
        faces: ``[F,3]``; columns are drawn as points where there are none.
        fields: the columns ``[K]`` whose receptive fields are known, and the fields ``[K, height, width]``.
        yaw: from which side the sheet is seen first, in radians.

    Raises:
        ValueError: for shapes that do not fit.
        ImportError: without matplotlib, which has the colour maps.
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
        "maps": [_pack_map(one, n) for one in maps],
        "fields": None if fields is None or not len(fields[0]) else _pack_fields(*fields),
        "luts": {name: _pack(_lut(name), np.uint8) for name in set(_COLOURS.values())},
    }
    markup, script = (files("colgraph.viz").joinpath(f"viewer.{end}").read_text("utf-8") for end in ("html", "js"))
    text = json.dumps(content, allow_nan=False)
    return f'{markup}<script type="application/json" id="sheet-data">{text}</script>\n<script>{script}</script>\n'


def _coarser(faces: NDArray[Any], columns: int, most: int = 12_000) -> NDArray[np.int64] | None:
    """Fewer faces between some of the same columns, at most ``most``; None where there are no more than that.

    The page draws them while the sheet turns on a machine without a graphics card, with the buffers that it has.
    Columns are kept of which no two are neighbours; every other joins a neighbour that is kept, and faces that close up
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
        neighbours = np.split(pairs[:, 1], np.searchsorted(pairs[:, 0], np.arange(1, columns)))
        joins = np.full(columns, -1)
        for column, near in enumerate(neighbours):
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
    values = np.atleast_2d(np.asarray(one.values, dtype=np.float64))
    if values.shape[1] != columns:
        raise ValueError(f"map {one.name!r} must have {columns} columns, got {values.shape[1]}")
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
        "lut": _COLOURS[one.kind],
        "sign": "\u00b0" if one.kind == "cyclic" else "",
        "values": _pack(np.where(finite, np.round(steps * share), 255), np.uint8),
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
        "lut": _COLOURS["signed" if signed else "sequential"],
    }


def _lut(name: str) -> NDArray[np.float64]:
    """``[256, 3]`` bytes of a colour map."""
    matplotlib = optional("the viewer takes its colors from", "matplotlib", "viz")
    return np.round(255 * np.asarray(matplotlib.colormaps[name](np.linspace(0, 1, 256)))[:, :3])
