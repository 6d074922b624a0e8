"""Edges from a network file, laid over another geometry: a connectome on a surface."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from colgraph.geometry.base import Geometry
from colgraph.geometry.neighbors import FROM_FILES, Edges, Neighborhood

__all__ = ["EdgeFile"]

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
                f"neighbourhood 'edges:{text}' needs a file and perhaps options: edges:tracts.csv?directed=true"
            )
        return cls(path, {name: _VALUES.get(value.lower(), value) for name, value in pairs})

    def __str__(self) -> str:
        query = "&".join(f"{name}={str(value).lower()}" for name, value in self.options.items())
        return f"edges:{self.path}{'?' if query else ''}{query}"

    def on(self, geometry: Geometry) -> Edges:
        from colgraph.geometry.readers import read_geometry

        network = read_geometry(self.path, **self.options)
        if network.edges is None:
            raise ValueError(f"{self.path!r} holds no edges: give a network file for neighbours 'edges:FILE'")
        column = _columns(network, geometry, self.path)
        return Edges(column[network.edges], network.edge_distance)


FROM_FILES["edges"] = EdgeFile.parse


def _columns(network: Geometry, geometry: Geometry, path: str) -> NDArray[np.int64]:
    """For each column of the file its number in the geometry."""
    n, names = geometry.num_columns, network.names
    if names is not None and geometry.names is not None:
        return _by_name(names, geometry, path)
    size = network.num_columns
    if size == n and (names is None or names in (_counted(0, n), _counted(1, n))):
        return np.arange(n)
    if names is None:
        raise ValueError(f"{path!r} has {size:,} columns without names, {geometry.name!r} has {n:,}: they do not match")
    unknown = [name for name in names if not (name.isascii() and name.isdigit() and int(name) < n)]
    if unknown:
        raise ValueError(
            f"{path!r} names column {unknown[0]!r}, but those of {geometry.name!r} are 0..{n - 1} and have no names"
        )
    return np.array([int(name) for name in names], dtype=np.int64)


def _by_name(names: Any, geometry: Geometry, path: str) -> NDArray[np.int64]:
    known = list(geometry.names or ())
    number = {name: i for i, name in enumerate(known)}
    if len(number) < len(known):
        twice = next(name for name in known if known.count(name) > 1)
        raise ValueError(f"{geometry.name!r} has several columns named {twice!r}: {path!r} cannot be matched by name")
    unknown = [name for name in names if name not in number]
    if unknown:
        raise ValueError(f"{path!r} names column {unknown[0]!r}, which {geometry.name!r} does not have")
    if len(set(names)) < len(names):
        raise ValueError(f"{path!r} names a column of {geometry.name!r} more than once")
    return np.array([number[name] for name in names], dtype=np.int64)


def _counted(first: int, count: int) -> tuple[str, ...]:
    return tuple(map(str, range(first, first + count)))
