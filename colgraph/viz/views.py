"""From where a sheet is seen: lateral, medial and the like where left and right are known, else from named sides."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.hints import did_you_mean
from colgraph.sheet import Sheet
from colgraph.viz.flat import flatten
from colgraph.viz.style import UNIT

# Where the reader stands and what is up for him, in coordinates that run to the right, to the front and upwards.
_ANATOMICAL = {
    "dorsal": ((0, 0, 1), (0, 1, 0)),
    "ventral": ((0, 0, -1), (0, 1, 0)),
    "anterior": ((0, 1, 0), (0, 0, 1)),
    "posterior": ((0, -1, 0), (0, 0, 1)),
}
_OF_ONE_SIDE = ("lateral", "medial", "flat")
VIEWS = (*_OF_ONE_SIDE, *_ANATOMICAL, "inputs", "opposite")
"""From where :func:`colgraph.viz.draw_map` shows a surface."""
SIDES = ("left", "right")


@dataclass(frozen=True, eq=False)
class View:
    """A sheet as it is seen from one side.

    Attributes:
        name: what the view is called, with the hemisphere where it shows one.
        points: ``[N,2]`` to the right and upwards; NaN for columns that are not shown.
        depth: ``[N]`` larger nearer to the reader.
        turn: ``[3,3]`` rows to the right, upwards and to the reader; of a flat view, whose points lie in a plane, one.
        flat: whether the surface is laid out, so that no side of it is hidden.
    """

    name: str
    points: NDArray[np.float64]
    depth: NDArray[np.float64]
    turn: NDArray[np.float64]
    flat: bool = False


def unit_of(sheet: Sheet) -> str:
    """The unit of positions and distances: mm where a format or geometry says so, else the geometry's own.

    FreeSurfer's and GIFTI's coordinates are in mm by their formats' definitions.
    """
    name = str(sheet.geometry)
    known = name == "cortex" or name.endswith((".gii", ".gii.gz")) or name[:3] in ("lh.", "rh.")
    return "mm" if known else UNIT


def sides_of(sheet: Sheet, hemisphere: str | None = None) -> NDArray[np.int64] | None:
    """``[N]`` 0 for columns of the left hemisphere and 1 for those of the right, or None where nobody knows.

    Geometry "cortex" says it in its layers, FreeSurfer in the names of its files; for others ``hemisphere`` does.

    Raises:
        ValueError: if ``hemisphere`` is neither "left" nor "right", or not the one that is there.
    """
    if hemisphere is not None and hemisphere not in SIDES:
        raise ValueError(f"hemisphere must be left or right, got {hemisphere!r}{did_you_mean(hemisphere, SIDES)}")
    found = None
    layer, face = sheet.layer.cpu().numpy(), sheet.get("face")
    # A hub outside the surface is of neither hemisphere, and counts to the one that it is nearer to.
    outside = np.zeros(len(layer), dtype=bool) if face is None else ~np.isin(np.arange(len(layer)), face.cpu().numpy())
    if sheet.geometry == "cortex" and set(layer[~outside].tolist()) <= {0, 1}:
        found = np.where(outside, sheet.pos[:, 0].cpu().numpy() > 0, layer).astype(np.int64)
    elif str(sheet.geometry)[:3] in ("lh.", "rh."):
        found = np.full(sheet.num_columns, int(str(sheet.geometry).startswith("rh.")))
    if hemisphere is None:
        return found
    if found is not None and set(found) != {SIDES.index(hemisphere)}:
        there = " and ".join(SIDES[side] for side in np.unique(found))
        raise ValueError(f"hemisphere is {hemisphere!r}, and the sheet is {there}: leave it out")
    return np.full(sheet.num_columns, SIDES.index(hemisphere))


def usual_views(sheet: Sheet, hemisphere: str | None = None) -> list[str]:
    """The views that show a surface best: both sides of a hemisphere, of any other the side of its inputs."""
    return ["lateral", "medial"] if sides_of(sheet, hemisphere) is not None else ["inputs", "opposite"]


def views_of(sheet: Sheet, names: Iterable[str], hemisphere: str | None = None) -> list[View]:
    """A surface, or columns in space, from each of some sides; lateral, medial and flat once for each hemisphere.

    Args:
        sheet: positions run to the right, to the front and upwards where hemispheres are known.
        names: of :data:`VIEWS`. "inputs" is from where the input columns lie, seen from the middle of the sheet, and
            from the front where there are none; "opposite" is from behind. "flat" lays a surface out
            (:func:`colgraph.viz.flat.flatten`).
        hemisphere: "left" or "right", where the geometry does not say it.

    Raises:
        ValueError: for unknown views, anatomical ones of a sheet whose hemispheres are not known, and surfaces that
            cannot be laid flat.
    """
    sides = sides_of(sheet, hemisphere)
    points = sheet.pos.detach().cpu().numpy().astype(np.float64)
    found = []
    for name in [names] if isinstance(names, str) else names:
        if name not in VIEWS:
            raise ValueError(f"view must be one of {', '.join(VIEWS)}, got {name!r}{did_you_mean(str(name), VIEWS)}")
        if sides is None and name in ("lateral", "medial", *_ANATOMICAL):
            raise ValueError(
                f"view {name!r} needs a hemisphere: sheet {sheet.geometry!r} does not say which it is; give "
                "hemisphere='left' or 'right', or views 'inputs', 'opposite' or 'flat'"
            )
        if name in _OF_ONE_SIDE:
            found += _one_sided(sheet, points, sides, name)
        elif name in _ANATOMICAL:
            found.append(_seen(points, name, *_ANATOMICAL[name]))
        else:
            found.append(_seen(points, *_of_inputs(sheet, points, name)))
    return found


def _one_sided(sheet: Sheet, points: Any, sides: Any, name: str) -> list[View]:
    """A view for each hemisphere, or of all where none is known."""
    found = []
    labels = np.zeros(len(points), dtype=np.int64) if sides is None else sides
    for side in np.unique(labels):
        mine = labels == side
        called = name if sides is None else f"{SIDES[side]} {name}"
        inwards = np.array([1 - 2 * side, 0, 0])  # to the middle of the brain
        if name == "flat":
            laid = flatten(points, sheet.face.cpu().numpy().T, mine, inwards if sides is not None else None)
            found.append(View(called, laid, np.zeros(len(points)), np.eye(3), flat=True))
            continue
        view = _seen(points, called, -inwards if name == "lateral" else inwards, (0, 0, 1))
        found.append(View(called, np.where(mine[:, None], view.points, np.nan), view.depth, view.turn))
    return found


def _seen(points: NDArray[np.float64], name: str, reader: Any, up: Any) -> View:
    """Columns as they appear to a reader far away, ``up`` turned into his picture."""
    toward = np.asarray(reader, dtype=np.float64) / np.linalg.norm(reader)
    right = np.cross(up, toward)
    right /= np.linalg.norm(right)
    turn = np.stack([right, np.cross(toward, right), toward])
    x, y, depth = turn @ (points - points.mean(0)).T
    return View(name, np.stack([x, y], 1), depth, turn)


def _of_inputs(sheet: Sheet, points: NDArray[np.float64], name: str) -> tuple[str, Any, Any]:
    """From where the inputs lie, or from the front and a little from above where that is no side, or from behind it."""
    inputs = (sheet.input_rank >= 0).cpu().numpy()
    toward = points[inputs].mean(0) - points.mean(0) if inputs.any() else np.zeros(3)
    known = np.linalg.norm(toward) > 0.05 * np.ptp(points, axis=0).max()
    if not known:
        toward = np.array([0.35, -1.0, 0.4])
    toward = toward if name == "inputs" else -toward
    words = {"inputs": "from where inputs are", "opposite": "from behind"}
    plain = {"inputs": "from the front (-y), above", "opposite": "from behind (+y), below"}
    up = (0, 0, 1) if abs(toward[2]) < 0.9 * np.linalg.norm(toward) else (0, 1, 0)
    return (words if known else plain)[name], toward, up
