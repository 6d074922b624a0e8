"""Attributes of nodes and edges as programs call them, put under the names that the reader of graphs knows."""

from __future__ import annotations

from dataclasses import replace
from numbers import Real
from typing import Any

from colgraph.geometry.readers.files import warn
from colgraph.geometry.readers.lengths import Lengths
from colgraph.geometry.readers.tables.columns import find_lengths
from colgraph.text import plain_name

_NO_LENGTHS = {"id", "key", "source", "target", "start", "end"}


def name_lengths(graph: Any, name: str, asked: Lengths) -> Lengths:
    """Call the edge attribute with lengths "distance" or "weight", whatever the program does; says what it is."""
    edges = [data for *_, data in graph.edges(data=True)]
    keys = list(dict.fromkeys(str(key) for data in edges for key in data))
    found = find_lengths(keys, asked)
    numbers = [k for k in keys if k not in _NO_LENGTHS and all(_is_real(data.get(k, 0)) for data in edges)]
    if found is None:
        listed = ", ".join(map(repr, numbers))
        if numbers and asked == Lengths():
            warn(name, [f"no lengths were read; edges have {listed} (distance= or weight= names one)"])
        return asked
    place, key, meaning = found
    if keys[place] != key:
        for data in edges:
            if keys[place] in data:
                data[key] = data.pop(keys[place])
        left = ", ".join(repr(k) for k in numbers if k != keys[place])
        read = f"the {meaning or key} of edges is read from {keys[place]!r}"
        warn(name, [read, *([f"left out: {left}"] if left else [])])
    return asked if meaning is None else replace(asked, weight_is=meaning)


def _is_real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


_NODE_NAMES = ("pos", "x", "y", "z", "name", "label", "layer")
_PLACES = ("position", "pos", "coord", "coordinate", "mni", "center", "centre", "centroid")


def name_places(graph: Any, name: str) -> None:
    """Give nodes ``x``, ``y``, ``z`` and so on where a program has them in capitals or under a longer name.

    Those are ``X``, ``Label`` and the like, ``dn_position_x`` (connectomes in Lausanne's parcellation), and
    ``graphics`` (GML of yEd and Gephi).
    """
    nodes = [data for _, data in graph.nodes(data=True)]
    if nodes and all({"x", "y"} <= set(_graphics(data)) for data in nodes):
        for data in nodes:
            for key in {"x", "y", "z"} & set(_graphics(data)):
                data.setdefault(key, data["graphics"][key])
    keys = {str(key) for data in nodes for key in data}
    named = {key: key.lower() for key in keys if key.lower() in _NODE_NAMES and key.lower() not in keys}
    if not {"x", "pos"} & (keys | set(named.values())):
        for key in sorted(keys):
            stems = [key[:-1] + axis for axis in "xyz"]
            if key.endswith("x") and {*stems} <= keys and plain_name(key[:-1]).endswith(_PLACES):
                named |= dict(zip(stems, "xyz", strict=True))
                break
    for data in nodes:
        for key in set(named) & set(data):
            data[named[key]] = data[key]
    if named:
        warn(name, [", ".join(f"{new!r} of nodes is read from {old!r}" for old, new in sorted(named.items()))])


def _graphics(data: dict[str, Any]) -> dict[str, Any]:
    drawn = data.get("graphics")
    return drawn if isinstance(drawn, dict) else {}
