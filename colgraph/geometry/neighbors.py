"""Who listens to whom: small frozen descriptions of neighborhoods, and the edges they make on a geometry."""

from __future__ import annotations

import itertools
import math
import numbers
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from colgraph import checks
from colgraph.geometry.base import HUB, Geometry
from colgraph.geometry.matching import matching_columns
from colgraph.hints import closest
from colgraph.space import GRAPH_METRICS, Index, Links, Space, join
from colgraph.space.connections import connections

# Making a sheet takes about 50 bytes an edge: what is above this is refused, not left to run out of memory.
MAX_EDGES = 1 << 27


class Neighborhood:
    """Base of all neighborhoods. ``a | b`` is the union; either side may be a string such as "knn:16"."""

    @property
    def may_isolate(self) -> bool:
        """Whether to warn, when a sheet is built, of columns that are joined to no other."""
        return False

    def links(self, geometry: Geometry, space: Space) -> Links:
        """The edges on a geometry with distances in ``space``: duplicates possible, in any order."""
        raise NotImplementedError

    def on(self, geometry: Geometry) -> Neighborhood:
        """The same neighborhood with what it reads from files matched to the columns of ``geometry``."""
        return self

    def with_tracts(self, geometry: Geometry) -> Neighborhood:
        """:meth:`on` a geometry, and the edges of its tracts."""
        own = self.on(geometry)
        return own if geometry.tracts is None else own | Edges(geometry.tracts, geometry.tract_lengths)

    def relabeled(self, new_id: Index) -> Neighborhood:
        """The same neighborhood where column ``i`` has become ``new_id[i]``, or was removed where that is -1."""
        return self

    def chosen(self, geometry: Geometry) -> Neighborhood:
        """The same neighborhood where it depends on nothing but what is left of ``geometry`` after a mask."""
        return self

    def __or__(self, other: Neighborhood | str) -> Union:
        return Union((*_parts(self), *_parts(parse_neighborhood(other))))

    def __ror__(self, other: Neighborhood | str) -> Union:
        return Union((*_parts(parse_neighborhood(other)), *_parts(self)))


@dataclass(frozen=True)
class KNN(Neighborhood):
    """Each column listens to the k nearest others, and to itself with ``self_loops``.

    Distances within 1e-6 of each other (relative) are equal, and equal distances are decided by a fixed hash of the
    pair of columns: the same on every machine, without a preferred direction. Where fewer than k others may be
    listened to (the direction of a stack, a small piece of a surface) all of them are taken.

    Raises:
        ValueError: if k is not a positive integer or, when a sheet is built, if there are not k other columns.
    """

    k: int
    self_loops: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, numbers.Integral) or self.k < 1:
            raise ValueError(f"KNN needs k, a positive whole number of neighbors, got {self.k!r}")
        object.__setattr__(self, "k", int(self.k))

    def __str__(self) -> str:
        return f"knn:{self.k}"

    def links(self, geometry: Geometry, space: Space) -> Links:
        n = geometry.num_columns
        if self.k >= n:
            raise ValueError(f"KNN({self.k}) needs more than {self.k} columns, but {geometry.name!r} has {n}")
        _check_size(n * self.k, self, geometry)
        parts = []
        for targets, sources in _groups(geometry):
            found = space.nearest(self.k, targets, sources)
            possible = min(self.k, sources.size - int(np.isin(targets, sources).any()))
            degree = np.bincount(found.target, minlength=n)[targets]
            _report_short(degree, possible, self.k)
            parts.append(found)
        return join([*parts, _loops(geometry, self.self_loops)])


@dataclass(frozen=True)
class Radius(Neighborhood):
    """Each column listens to all others at distance r or less, in the units of the metric, and to itself with
    ``self_loops``. Warns with the number of columns that have no other column within r.

    Raises:
        ValueError: if r is not positive and finite or, when a sheet is built, if it makes too many edges.
    """

    r: float
    self_loops: bool = True
    may_isolate: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.r, bool) or not isinstance(self.r, numbers.Real) or not 0 < self.r < math.inf:
            raise ValueError(f"Radius needs r, a positive distance, got {self.r!r}")
        object.__setattr__(self, "r", float(self.r))

    def __str__(self) -> str:
        return f"radius:{self.r:g}"

    def links(self, geometry: Geometry, space: Space) -> Links:
        parts = [space.within(self.r, targets, sources, MAX_EDGES) for targets, sources in _groups(geometry)]
        return join([*parts, _loops(geometry, self.self_loops)])


@dataclass(frozen=True)
class Given(Neighborhood):
    """The geometry's own connections: its edges, or else both directions of the edges of its faces.

    ``self_loops`` lets every column also listen to itself; without it, the connections are taken as they are.

    Raises:
        ValueError: when a sheet is built, if the geometry has neither edges nor faces.
    """

    self_loops: bool = True

    def __str__(self) -> str:
        return "given"

    def links(self, geometry: Geometry, space: Space) -> Links:
        if geometry.edges is None and geometry.faces is None:
            raise ValueError(
                f"neighborhood 'given' needs edges or faces, and {geometry.name!r} has neither: use KNN(16)"
            )
        source, target, length = connections(geometry.place, space.metric)
        allowed = _allowed(geometry, source, target)
        source, target, length = source[allowed], target[allowed], length[allowed]
        # An edge of a face is straight in space: no way along the surface is shorter.
        straight = space.metric == "geodesic" and geometry.edges is None
        if space.metric not in GRAPH_METRICS and not straight:
            measured = _measured(geometry, space, source, target)
            # Of a sheet that is read again, whose positions are rounded, lengths stay the same to the bit.
            length = np.where(np.isclose(length, measured, rtol=1e-5, atol=0), length, measured)
        return join([Links(source, target, length), _loops(geometry, self.self_loops)])


@dataclass(frozen=True)
class Complete(Neighborhood):
    """Every column listens to every column, itself included (as far as the geometry's direction allows).

    Raises:
        ValueError: when a sheet is built, if the pairs are too many to keep.
    """

    def __str__(self) -> str:
        return "complete"

    def links(self, geometry: Geometry, space: Space) -> Links:
        groups = list(_groups(geometry))
        _check_size(sum(targets.size * sources.size for targets, sources in groups), self, geometry)
        source = np.concatenate([np.tile(sources, targets.size) for targets, sources in groups])
        target = np.concatenate([np.repeat(targets, sources.size) for targets, sources in groups])
        return Links(source, target, _measured(geometry, space, source, target))


class Usual(Neighborhood):
    """What ``neighbors=None`` means."""

    def chosen(self, geometry: Geometry) -> Neighborhood:
        if geometry.edges is not None:
            return Given(self_loops=False)
        if geometry.faces is not None:
            return Given()
        return KNN(16) if geometry.num_columns > 16 else Complete()


@dataclass(frozen=True, eq=False, repr=False)
class Edges(Neighborhood):
    """The user's own edges, for instance a connectome laid over a surface: ``KNN(16) | Edges(tracts)``.

    Attributes:
        edge_index: ``[2,E]`` source and target: ``edge_index[1]`` listens to ``edge_index[0]``. A list
            of pairs (source, target) will do too, but two lists of two columns may mean either and are refused.
        distance: ``[E]`` lengths in the geometry's units, or None to measure them with the sheet's metric.

    Where an edge is in several parts of a union, its shortest distance is kept. Columns are counted before a mask is
    applied; edges of columns that it removes are left out.

    Raises:
        ValueError: for wrong shapes, negative or non-finite distances and, when a sheet is built, for columns out of
            range or pairs that the metric cannot measure.
    """

    edge_index: Any
    distance: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "edge_index", checks.edges(self.edge_index))
        if self.distance is not None:
            object.__setattr__(self, "distance", checks.lengths(self.distance, self.edge_index))

    def __repr__(self) -> str:
        return f"Edges({self.edge_index.shape[1]} edges)"

    def relabeled(self, new_id: Index) -> Edges:
        checks.check_range(self.edge_index, new_id.size, "Edges")
        edges = new_id[self.edge_index]
        kept = (edges >= 0).all(0)
        return Edges(edges[:, kept], None if self.distance is None else self.distance[kept])

    def links(self, geometry: Geometry, space: Space) -> Links:
        checks.check_range(self.edge_index, geometry.num_columns, "Edges")
        source, target = self.edge_index
        distance = _measured(geometry, space, source, target) if self.distance is None else self.distance
        return Links(source, target, distance)


_VALUES = {"true": True, "false": False, "none": None}


@dataclass(frozen=True)
class EdgeFile(Neighborhood):
    """The edges of a network file: ``KNN(16) | EdgeFile("tracts.csv", {"weight_is": "strength"})``.

    The file's columns are those of the geometry with the same names. Where the geometry has no names: its column of the
    same number, counted from 0; or, of a file with as many columns as the geometry and no other names than numbers in
    order, the column at the same place. Lengths are the file's, in the geometry's units, or else measured.

    Attributes:
        path: any network file that :func:`colgraph.geometry` reads.
        options: of the file's reader.

    Raises:
        ValueError: when a sheet is built, for files that cannot be read and columns that are not there.
    """

    path: str
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> EdgeFile:
        """From ``FILE`` or ``FILE?option=value&option=value``; values are texts, true, false or none."""
        path, mark, query = text.partition("?")
        pairs = parse_qsl(query, keep_blank_values=True)
        if not path or (mark and len(pairs) != query.count("&") + 1) or any(not value for _, value in pairs):
            raise ValueError(
                f"neighborhood 'edges:{text}' needs a file and perhaps options: edges:tracts.csv?directed=true"
            )
        return cls(path, {name: _VALUES.get(value.lower(), value) for name, value in pairs})

    def __str__(self) -> str:
        query = "&".join(f"{name}={str(value).lower()}" for name, value in self.options.items())
        return f"edges:{self.path}{'?' if query else ''}{query}"

    def on(self, geometry: Geometry) -> Edges:
        from colgraph.geometry.readers import read_geometry

        network = read_geometry(self.path, **self.options)
        if network.edges is None:
            raise ValueError(f"{self.path!r} holds no edges: give a network file for neighbors 'edges:FILE'")
        column = matching_columns(network, geometry, self.path)
        return Edges(column[network.edges], network.edge_distance)


@dataclass(frozen=True)
class Union(Neighborhood):
    """All edges of several neighborhoods; made with ``|``."""

    parts: tuple[Neighborhood, ...]

    def __str__(self) -> str:
        return "|".join(map(str, self.parts))

    @property
    def may_isolate(self) -> bool:
        return any(part.may_isolate for part in self.parts)

    def links(self, geometry: Geometry, space: Space) -> Links:
        return join([part.links(geometry, space) for part in self.parts])

    def on(self, geometry: Geometry) -> Union:
        return Union(tuple(part.on(geometry) for part in self.parts))

    def relabeled(self, new_id: Index) -> Union:
        return Union(tuple(part.relabeled(new_id) for part in self.parts))

    def chosen(self, geometry: Geometry) -> Union:
        return Union(tuple(part.chosen(geometry) for part in self.parts))


def warn_of_isolated(neighborhood: Neighborhood, links: Links, geometry: Geometry, space: Space) -> None:
    """Warn, in the name of :func:`colgraph.build_sheet`'s caller, of columns that are joined to no other."""
    alone = np.ones(geometry.num_columns, dtype=bool)
    others = links.source != links.target
    alone[links.source[others]] = alone[links.target[others]] = False
    if alone.any() and geometry.num_columns > 1:
        warnings.warn(
            f"{neighborhood} isolates {int(alone.sum()):,} of {alone.size:,} columns: it joins them to no other "
            f"(columns of {geometry.name!r} are {space.spacing():.3g} apart)",
            stacklevel=3,
        )


def parse_neighborhood(text: str | Neighborhood) -> Neighborhood:
    """A neighborhood from its text: "knn:32", "radius:2.5", "given", "complete", "edges:FILE" with perhaps options of
    the file's reader ("edges:tracts.csv?directed=true&weight_is=strength"), or several joined by "|".

    Raises:
        ValueError: for anything else, with the closest known word.
    """
    if isinstance(text, Neighborhood):
        return text
    if not isinstance(text, str):
        raise ValueError(
            f"neighbors must be KNN, Radius, Given, Complete, Edges or a text such as 'knn:16', got {text!r}"
        )
    parts = [_parse_one(part) for part in text.split("|")]
    return parts[0] if len(parts) == 1 else Union(tuple(parts))


_WORDS = ("knn:K", "radius:R", "given", "complete", "edges:FILE")
NEIGHBORHOODS = ", ".join(_WORDS)
"""What a text may say, for the help of command lines."""


def _parse_one(text: str) -> Neighborhood:
    word, colon, value = (piece.strip() for piece in text.partition(":"))
    word = word.lower()
    if word in ("given", "complete") and not colon:
        return Given() if word == "given" else Complete()
    if word == "edges":
        return EdgeFile.parse(value)
    try:
        if word == "knn":
            return KNN(int(value))
        if word == "radius":
            return Radius(float(value))
    except ValueError:
        number = "a positive whole number" if word == "knn" else "a positive distance"
        raise ValueError(
            f"neighborhood {text.strip()!r} needs {number}: {word}:{'16' if word == 'knn' else '2.5'}"
        ) from None
    raise ValueError(f"unknown neighborhood {text.strip()!r}{closest(word, _WORDS)}")


# ---------------------------------------------------------------------- pieces


def _parts(neighborhood: Neighborhood) -> tuple[Neighborhood, ...]:
    return neighborhood.parts if isinstance(neighborhood, Union) else (neighborhood,)


def _groups(geometry: Geometry) -> Iterator[tuple[Index, Index]]:
    """Targets and the sources they may listen to, as the direction of the geometry allows; each target once."""
    near = ~_off_surface(geometry)
    if geometry.layer is None or geometry.direction == "both":
        everyone = np.flatnonzero(near)
        yield everyone, everyone
        return
    labels = np.unique(geometry.layer[near]).tolist()
    gap = next((high for low, high in itertools.pairwise(labels) if high != low + 1), None)
    if gap is not None:
        raise ValueError(
            f"direction {geometry.direction!r} leads from a layer to the one after it, and there is no layer "
            f"{gap - 1} before layer {gap} of {geometry.name!r}: number layers without gaps"
        )
    for label in labels:
        listened = near & (geometry.layer == label - 1)
        if geometry.direction == "forward+lateral":
            listened |= near & (geometry.layer == label)
        if listened.any():
            yield np.flatnonzero(near & (geometry.layer == label)), np.flatnonzero(listened)


def _allowed(geometry: Geometry, source: Index, target: Index) -> NDArray[np.bool_]:
    """Which edges the direction of the geometry allows."""
    if geometry.layer is None or geometry.direction == "both":
        return np.ones(source.size, dtype=bool)
    step = geometry.layer[target] - geometry.layer[source]
    return (step == 1) | ((step == 0) & (geometry.direction == "forward+lateral"))


def _loops(geometry: Geometry, wanted: bool) -> Links:
    """A self-loop of length 0 for every column; none where only the next layer may listen."""
    everyone = np.arange(geometry.num_columns if wanted and geometry.direction != "forward" else 0)
    return Links(everyone, everyone, np.zeros(everyone.size))


def _off_surface(geometry: Geometry) -> NDArray[np.bool_]:
    """``[N]`` the columns that tracts alone lead to: those beside a surface, and a hub's, wherever it lies."""
    alone = np.zeros(geometry.num_columns, dtype=bool)
    if geometry.tracts is None:
        return alone
    if geometry.faces is not None and geometry.metric == "geodesic":
        alone[geometry.tracts[1]] = True
        alone[geometry.faces] = False
    names = list(geometry.area_names or ())
    if geometry.area is not None and HUB in names:
        hub = geometry.area == names.index(HUB)
        alone |= hub & np.isin(np.flatnonzero(hub), geometry.tracts[1]).all()
    return alone


def _measured(geometry: Geometry, space: Space, source: Index, target: Index) -> NDArray[np.float64]:
    """Distances in ``space``, which must all be finite."""
    distance = space.between(source, target)
    unreachable = np.flatnonzero(~np.isfinite(distance))
    if unreachable.size:
        e = unreachable[0]
        raise ValueError(
            f"metric {space.metric!r} has no way from column {source[e]} to {target[e]} of {geometry.name!r} "
            f"({unreachable.size:,} such edges): give their distances, or use another metric such as 'euclidean'"
        )
    return distance


def _check_size(edges: int, neighborhood: Neighborhood, geometry: Geometry) -> None:
    if edges > MAX_EDGES:
        raise ValueError(
            f"neighborhood '{neighborhood}' on {geometry.num_columns:,} columns makes {edges:,} edges, more than the "
            f"{MAX_EDGES:,} that are allowed: use fewer neighbors, such as KNN(16)"
        )


def _report_short(degree: Index, possible: int, k: int) -> None:
    short = int((degree < possible).sum())
    if short:
        warnings.warn(
            f"{short:,} of {degree.size:,} columns reach fewer than {possible} others (asked for k = {k}): they lie on "
            "pieces that are not connected to the rest, and listen to all they reach (metric 'euclidean' needs no way)",
            stacklevel=4,
        )
