"""Columns of a network file in another geometry: a connectome on a surface."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.geometry.base import Geometry
from colgraph.text import count_rows


def matching_columns(network: Geometry, geometry: Geometry, path: str) -> NDArray[np.int64]:
    """For each column of a file its number in the geometry: by name, else by number, else by place.

    Raises:
        ValueError: for columns that are not there, or not told apart.
    """
    n, names = geometry.num_columns, network.names
    if names is not None and geometry.names is not None:
        return _by_name(names, geometry, path)
    size = network.num_columns
    if size == n and (names is None or count_rows(names)):
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
