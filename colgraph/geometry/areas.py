"""Areas on a surface: a parcellation, and the long-range edges of a connectome between its areas."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from colgraph import checks
from colgraph.edges import Index
from colgraph.geometry.base import HUB, Geometry
from colgraph.geometry.connectome import Area, Connectome, note_order, read_connectome, rewired, rows_of, tract_lengths
from colgraph.geometry.options import OptionGroup, call_with_options
from colgraph.geometry.readers.area_names import SIDE_NAMES, side_of
from colgraph.geometry.readers.files import warn
from colgraph.geometry.readers.parcellations import NO_AREA, Parcellation, read_parcellation
from colgraph.geometry.tracts import draw_tracts, hub_edges, hub_positions
from colgraph.space import make_space

# Vertices per hemisphere of FreeSurfer's average subjects: each mesh is the leading vertices of the next finer one.
FSAVERAGE = {"fsaverage3": 642, "fsaverage4": 2562, "fsaverage5": 10242, "fsaverage6": 40962, "fsaverage": 163842}


@dataclass(frozen=True)
class Areas(OptionGroup):
    """What the user says about areas and their connections.

    Attributes:
        parcellation: a file with the area of each vertex (:func:`read_parcellation`), a pair of files for the left and
            the right hemisphere (a list, or two paths with a comma), or an array ``[N]`` of codes, 0 for none.
        connectome: strengths of connections between areas: a network file, as for ``edges:FILE``, or a matrix; the row
            speaks, the column listens.
        connectome_labels: the names of its rows: a file, or a list.
        strength: "linear", or "log" where its numbers are natural logarithms of strengths.
        tract_lengths: a file or matrix like the connectome, lengths of its connections in mm (the geometry's units). A
            connection without one is as long as the straight line between its columns.
        long_range: how many long-range edges a column of an area listens through, in the mean.
        hub: columns outside the surface that talk to all areas, both ways; they are the area "hub".
        rewire_areas: a control: the connectome with its rows permuted among the areas, by this seed.
        connectome_seed: of the draw of edges.

    Raises:
        ValueError: where options need others that are not there, or are out of range.
    """

    parcellation: Any = None
    connectome: Any = None
    connectome_labels: Any = None
    strength: Literal["linear", "log"] = "linear"
    tract_lengths: Any = None
    long_range: float = 8.0
    hub: int = 0
    rewire_areas: int | None = None
    connectome_seed: int = 0

    def __post_init__(self) -> None:
        if self.parcellation is None:
            self._needs("parcellation", "connectome", "hub", *_OF_CONNECTOMES)
        if self.connectome is None:
            self._needs("connectome", *_OF_CONNECTOMES)
        if not (np.isfinite(self.long_range) and self.long_range >= 0):
            raise ValueError(f"long_range must be a number of edges per column, 0 or more, got {self.long_range}")
        for name in ("hub", "connectome_seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if self.rewire_areas is not None and self.rewire_areas < 0:
            raise ValueError(f"rewire_areas is a seed, 0 or more, got {self.rewire_areas}")

    def _needs(self, what: str, *names: str) -> None:
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        given = [name for name in names if not _is_default(getattr(self, name), defaults[name])]
        if given:
            raise ValueError(f"{given[0]} needs {what}=FILE")


_OF_CONNECTOMES = ("connectome_labels", "strength", "tract_lengths", "long_range", "rewire_areas", "connectome_seed")
AREA_OPTIONS = tuple(field.name for field in dataclasses.fields(Areas))


def _is_default(value: Any, default: Any) -> bool:
    return value is default or (isinstance(value, str | int | float) and value == default)


def with_areas(shape: Geometry, options: dict[str, Any]) -> Geometry:
    """A geometry with areas from options that are those of :class:`Areas`, one code a column."""

    def lay(*, areas: Areas) -> Geometry:
        return lay_areas(shape, areas)

    result: Geometry = call_with_options("areas", lay, options)
    return result


def lay_areas(
    shape: Geometry,
    asked: Areas,
    *,
    side: NDArray[np.int64] | None = None,
    anatomy: NDArray[np.float64] | None = None,
) -> Geometry:
    """A geometry with its areas, and the long-range edges between them as its tracts.

    Args:
        shape: the geometry.
        asked: what the user says.
        side: ``[N]`` the hemisphere of each column of an fsaverage mesh, 0 left, 1 right, left columns first: files of
            finer meshes fit then, and files of one or both hemispheres. None for any other geometry.
        anatomy: ``[N,3]`` where columns are in the brain, for lengths of tracts, where they are drawn elsewhere.

    Raises:
        ValueError: one line that names both sides where files do not fit the geometry or each other.
    """
    if asked.parcellation is None:
        return shape
    if shape.area is not None:
        raise ValueError(f"{shape.name!r} has areas of its own: leave out parcellation")
    parts, path = _parts(asked.parcellation)
    key, areas = _areas_of(shape, parts, path, side)
    if asked.connectome is None:
        shape = dataclasses.replace(shape, area=key, area_names=[_plain_name(area, areas) for area in areas])
        return _with_hub(shape, asked, anatomy)
    places = shape.positions if anatomy is None else anatomy
    found = read_connectome(asked.connectome, asked.connectome_labels, asked.strength)
    rows, by_order = rows_of(areas, found, path, max(int(part.code.max()) for part in parts))
    if by_order:
        centers = np.stack([places[key == k].mean(0) for k in range(len(areas))])
        note_order(areas, rows, centers, found, path)
    _note_lost(rows, found, side)
    area = np.where(key >= 0, rows[key], NO_AREA)
    used = np.sort(rows)
    area = np.where(area >= 0, np.searchsorted(used, area), NO_AREA)
    shape = dataclasses.replace(shape, area=area, area_names=[found.names[row] for row in used])
    return _with_hub(_with_tracts(shape, asked, found, used, places), asked, anatomy)


# ---------------------------------------------------------------------- parcellations


def _areas_of(
    shape: Geometry, parts: list[Parcellation], path: str, side: NDArray[np.int64] | None
) -> tuple[NDArray[np.int64], list[Area]]:
    """``[N]`` the area of each column as its place in the list of areas, -1 for none; and the areas."""
    if side is None and len(parts) > 1:
        raise ValueError(f"parcellation {path!r}: a pair of files is for both hemispheres of geometry 'cortex'")
    if side is not None:
        codes = _fitted(parts, side, shape, path)
    elif parts[0].code.size != shape.num_columns:
        raise ValueError(
            f"parcellation {path!r} has {parts[0].code.size:,} vertices, and {shape.name!r} has "
            f"{shape.num_columns:,} columns"
        )
    else:
        codes = parts[0].code
    # The same code in two files is two areas.
    which = np.zeros(codes.size, dtype=np.int64) if side is None or len(parts) == 1 else side
    within = codes >= 0
    kinds, inverse = np.unique(np.stack([which, codes])[:, within], axis=1, return_inverse=True)
    key = np.full(codes.size, NO_AREA)
    key[within] = inverse.reshape(-1)
    areas = []
    for k, (part, code) in enumerate(kinds.T.tolist()):
        names = parts[part].names
        sides = set() if side is None else set(side[key == k].tolist())
        areas.append(Area(code, None if names is None else names[code], sides.pop() if len(sides) == 1 else None))
    return key, areas


def _parts(given: Any) -> tuple[list[Parcellation], str]:
    if isinstance(given, str) and "," in given and not Path(given).exists():
        given = [part.strip() for part in given.split(",")]
    if isinstance(given, list | tuple) and given and all(isinstance(part, str | os.PathLike) for part in given):
        if len(given) > 2:
            raise ValueError(f"parcellation must be one file, or two (left, right), got {len(given)}")
        return [read_parcellation(part) for part in given], ",".join(map(os.fspath, given))
    if isinstance(given, str | os.PathLike):
        return [read_parcellation(given)], os.fspath(given)
    codes = checks.integers(given, "parcellation")
    if codes.ndim != 1 or (codes.size and codes.min() < NO_AREA):
        raise ValueError(f"parcellation must be [N] codes, 0 or -1 for none, got an array of shape {list(codes.shape)}")
    return [Parcellation(np.where(codes == 0, NO_AREA, codes), None, "parcellation")], "parcellation"


def _fitted(parts: list[Parcellation], side: NDArray[np.int64], shape: Geometry, path: str) -> NDArray[np.int64]:
    """Codes of the columns of an fsaverage mesh: the leading vertices of each hemisphere of the file's mesh."""
    sides = np.unique(side).tolist()
    count = side.size // len(sides)
    if len(parts) == 2 and len(sides) == 1:
        raise ValueError(f"parcellation {path!r} is two files, and the geometry is one hemisphere: give its file")
    sizes = [part.code.size for part in parts]
    if len(parts) == 1 and sizes[0] // 2 in FSAVERAGE.values() and sizes[0] % 2 == 0:
        halves = dict(enumerate(np.split(parts[0].code, 2)))
    elif len(parts) == len(sides):
        halves = {s: part.code for s, part in zip(sides, parts, strict=True)}
        for s, part in zip(sides, parts, strict=True):
            said = side_of(Path(part.path).name)
            if said not in (None, s):
                raise ValueError(
                    f"parcellation {part.path!r} is called after the {SIDE_NAMES[said]} hemisphere, and is given for "
                    f"the {SIDE_NAMES[s]} one"
                )
    else:
        halves = dict.fromkeys(sides, parts[0].code)
    for half in halves.values():
        whole = len(parts) == len(sides) or half is not parts[0].code
        if half.size not in FSAVERAGE.values() or half.size < count or not whole:
            raise ValueError(
                f"parcellation {path!r} has {sum(sizes):,} vertices, and the geometry {count:,} columns in "
                f"{'each hemisphere' if len(sides) == 2 else 'its hemisphere'}: give one of "
                f"{', '.join(f'{name} ({n:,})' for name, n in FSAVERAGE.items() if n >= count)}, both hemispheres in "
                "one file or a file for each"
            )
    lost = sum(np.setdiff1d(halves[s], halves[s][:count]).size for s in sides)
    if lost:
        warn(path, [f"{lost} of its areas have no column on so coarse a mesh"])
    return np.concatenate([halves[s][:count] for s in sides])


def _plain_name(area: Area, areas: Sequence[Area]) -> str:
    name = str(area.code) if area.name is None else area.name
    twice = sum(other.name == area.name and other.code == area.code for other in areas) > 1
    again = sum(other.name == area.name for other in areas) > 1 and area.name is not None
    if (twice or again) and area.side is not None:
        return f"{SIDE_NAMES[area.side]} {name}"
    return f"{name} ({area.code})" if again else name


def _note_lost(rows: Index, connectome: Connectome, side: NDArray[np.int64] | None) -> None:
    """Say which rows of a connectome have no column, other than those of the hemisphere that is not there."""
    there = set() if side is None else set(np.unique(side).tolist())
    lost = [
        name
        for k, name in enumerate(connectome.names)
        if k not in set(rows.tolist()) and (side_of(name) is None or not there or side_of(name) in there)
    ]
    if lost:
        warn(
            connectome.path, [f"{len(lost)} of {len(connectome.names)} rows have no column here: left out {lost[0]!r}"]
        )


# ---------------------------------------------------------------------- tracts


def _with_tracts(
    shape: Geometry, asked: Areas, found: Connectome, rows: Index, places: NDArray[np.float64]
) -> Geometry:
    area = np.asarray(shape.area)
    members = [np.flatnonzero(area == k) for k in range(len(rows))]
    count = round(asked.long_range * sum(map(len, members)))
    drawn = found if asked.rewire_areas is None else rewired(found, rows, asked.rewire_areas)
    strength = drawn.strength[np.ix_(rows, rows)]
    pairs, ends = draw_tracts(strength, members, count, np.random.default_rng(asked.connectome_seed))
    length = np.linalg.norm(places[pairs[0]] - places[pairs[1]], axis=1)
    if asked.tract_lengths is not None:
        measured = tract_lengths(asked.tract_lengths, found)[np.ix_(rows, rows)][*ends]
        missing = int((measured == 0).sum())
        if missing:
            warn(
                found.path,
                [f"{missing:,} of {measured.size:,} long-range edges have no length in tract_lengths: straight lines"],
            )
        length = np.where(measured > 0, measured, length)
    return dataclasses.replace(shape, tracts=pairs, tract_lengths=length)


def _with_hub(shape: Geometry, asked: Areas, anatomy: NDArray[np.float64] | None) -> Geometry:
    """The geometry with the hub's columns behind its own, at the middle of them, and its edges among the tracts."""
    if not asked.hub:
        return shape
    if HUB in (shape.area_names or ()):
        raise ValueError(f"hub: an area of the parcellation is called {HUB!r}: rename it")
    n, area, names = shape.num_columns, np.asarray(shape.area), list(shape.area_names or ())
    spacing = make_space(shape.place, shape.metric).spacing()
    places = shape.positions if anatomy is None else anatomy
    own, brain = (
        np.concatenate([points, hub_positions(points.mean(0), spacing, asked.hub)])
        for points in (shape.positions, places)
    )
    members = [np.flatnonzero(area == k) for k in range(len(names))]
    rng = np.random.default_rng([asked.connectome_seed, asked.hub])
    pairs = hub_edges(members, n + np.arange(asked.hub), rng)
    lengths = np.linalg.norm(brain[pairs[0]] - brain[pairs[1]], axis=1)
    if shape.tracts is not None and shape.tract_lengths is not None:
        pairs, lengths = np.concatenate([shape.tracts, pairs], 1), np.concatenate([shape.tract_lengths, lengths])
    layer = None if shape.layer is None else np.append(shape.layer, np.full(asked.hub, shape.layer.max() + 1))
    return dataclasses.replace(
        shape,
        positions=own,
        layer=layer,
        names=None if shape.names is None else [*shape.names, *(f"{HUB} {k + 1}" for k in range(asked.hub))],
        area=np.append(area, np.full(asked.hub, len(names))),
        area_names=[*names, HUB],
        tracts=pairs,
        tract_lengths=lengths,
    )
