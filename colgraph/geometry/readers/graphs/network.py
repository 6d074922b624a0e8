"""A networkx graph as a geometry: positions, lengths, layers, inputs and outputs from its attributes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.edges import both_ways, canonical_edges
from colgraph.geometry.base import Geometry
from colgraph.geometry.readers.files import check_unique, warn
from colgraph.geometry.readers.graphs.coordinates import drawing_coordinates
from colgraph.geometry.readers.lengths import Lengths, as_number, edge_name
from colgraph.hints import closest
from colgraph.space import make_space
from colgraph.text import natural_key

_BY_POSITION = ("euclidean", "great_circle", "periodic")
"""Metrics that need nothing but positions, and the last one a period."""

_BRACKETS = str.maketrans("()[],;", "      ")


def graph_geometry(
    graph: Any,
    *,
    name: str,
    position: str | Sequence[str] | bool | None = None,
    lengths: Lengths,
    names: str | None = None,
) -> Geometry:
    """The geometry of a ``networkx`` graph.

    An edge ``j -> i`` means that column ``i`` listens to column ``j``. Undirected edges give both directions, parallel
    edges become one with the shortest length (with a warning), self-loops stay.

    Nodes may have ``pos``, or ``x`` and ``y`` (and ``z``), or GEXF's viz position; ``layer`` (integers, or labels that
    are numbered in their order, ``L2`` before ``L10``), ``input_rank`` (-1 for no input), ``output`` (true or false),
    and ``name`` or ``label``. What one node has, all must have; but ``area``, the name of its area, some may lack.
    Edges may have ``distance`` or ``weight``; ``is_tract`` where they are tracts of a sheet.

    Args:
        graph: ``Graph``, ``DiGraph``, ``MultiGraph`` or ``MultiDiGraph``.
        name: what the geometry is called.
        position: the attribute with 1 to 3 coordinates, or a list of 1 to 3 attributes with one each; False to
            ignore positions; None for the names above.
        lengths: what the user says about the lengths of edges.
        names: the node attribute with column names; ``"name"``, else ``"label"``, else the nodes themselves.

    Returns:
        A geometry with the graph's edges. Its metric is "given" if the edges have lengths (or the graph's attribute
        ``metric``, with ``period``, where they are as long as it says), else "euclidean" if nodes have positions, else
        "hops". Without positions, coordinates come from a layout, for plotting only.

    Raises:
        ValueError: naming the node or edge that is wrong.
    """
    nodes = list(graph.nodes)
    if not nodes:
        raise ValueError("the graph has no nodes")
    nested = [node for node in nodes if hasattr(node, "nodes") and hasattr(node, "edges")]
    if nested:
        raise ValueError(f"a node is itself a graph ({nested[0]}): graphs of graphs are not supported")
    number = {node: i for i, node in enumerate(nodes)}
    warn(name, _other_numbers(nodes))
    attributes: list[Mapping[str, Any]] = [graph.nodes[node] for node in nodes]
    edges = [(number[u], number[v], data) for u, v, data in graph.edges(data=True)]
    values, attribute = _edge_lengths(
        [data for _, _, data in edges], lambda e: edge_name(edges[e][0], edges[e][1], nodes), lengths
    )
    layer = _column_values(attributes, nodes, "layer")
    rank = _column_values(attributes, nodes, "input_rank")
    output = _column_values(attributes, nodes, "output")
    ends = np.array([(u, v) for u, v, _ in edges], dtype=np.int64).reshape(-1, 2).T
    geometry = network_geometry(
        ends,
        len(nodes),
        lengths=values,
        directed=bool(graph.is_directed()),
        positions=_node_positions(attributes, nodes, position),
        name=name,
        names=_node_names(attributes, nodes, names),
        layer=None if layer is None else _layer_numbers(layer),
        areas=_areas(attributes, graph.graph.get("area_names")),
        inputs=None if rank is None else _ranked(rank, nodes),
        outputs=None if output is None else _flagged(output, nodes),
        guessed_from=attribute,
        is_tract=np.array([data.get("is_tract") is True for _, _, data in edges], dtype=bool),
    )
    return with_stated_metric(geometry, graph.graph.get("metric"), graph.graph.get("period"))


def _other_numbers(nodes: list[Any]) -> list[str]:
    """A note on nodes that are called as columns are, by their numbers, but are not in that order."""
    moved = next((i for i, node in enumerate(nodes) if node != i), None)
    numbered = all(isinstance(node, int | np.integer) for node in nodes)
    if moved is None or not numbered or sorted(nodes) != list(range(len(nodes))):
        return []
    return [
        f"node {nodes[moved]} is column {moved}: columns are nodes in the order in which they were added, and inputs, "
        "masks and arrays are by column; sheet.names has the nodes"
    ]


def with_stated_metric(geometry: Geometry, metric: Any, period: Any) -> Geometry:
    """A network with the metric that it says it had as a sheet, where its edges are as long as that makes them.

    Else distances stay those along its edges: nobody said that others mean anything.
    """
    if metric not in _BY_POSITION or not geometry.spatial or geometry.edges is None or geometry.edge_distance is None:
        return geometry
    try:
        box = None if period is None else tuple(np.asarray(period, dtype=float).reshape(-1).tolist())
        sheet = dataclasses.replace(geometry, metric=metric, period=box if metric == "periodic" else None)
        between = make_space(sheet.place, metric).between(*geometry.edges)
    except (TypeError, ValueError):
        return geometry
    same = np.allclose(between, geometry.edge_distance, rtol=1e-4, atol=1e-5 * max(float(between.max()), 1e-30))
    return sheet if same else geometry


def network_geometry(
    edges: NDArray[np.int64],
    num_columns: int,
    *,
    lengths: NDArray[np.float64] | None,
    directed: bool,
    positions: NDArray[np.float64] | None,
    name: str,
    names: Sequence[str] | None = None,
    layer: NDArray[np.int64] | None = None,
    areas: tuple[Any, Sequence[str] | None] = (None, None),
    inputs: NDArray[np.int64] | None = None,
    outputs: NDArray[np.int64] | None = None,
    guessed_from: str | None = None,
    is_tract: NDArray[np.bool_] | None = None,
) -> Geometry:
    """A geometry from edges ``[2,E]`` in any order; coordinates for plotting where there are no positions.

    Positions that are all the same (Pajek and ``Sheet.to_networkx`` write zeros) are none. ``guessed_from`` names what
    was taken for distances although nobody said so, for a warning. ``is_tract`` ``[E]`` says which edges are a sheet's
    tracts; all are ordinary ones where no others would be left, or none have lengths.
    """
    tracts, tract_lengths = None, None
    if is_tract is not None and lengths is not None and is_tract.any() and not is_tract.all():
        tracts, tract_lengths = edges[:, is_tract], lengths[is_tract]
        edges, lengths = edges[:, ~is_tract], lengths[~is_tract]
    if positions is not None and len(positions) > 1 and bool((positions == positions[0]).all()):
        positions = None
    if not edges.size and positions is None:
        raise ValueError(f"has {num_columns} nodes without positions and no edges: there is nothing to connect them by")
    arranged, arranged_lengths = canonical_edges(edges if directed else np.sort(edges, axis=0), num_columns, lengths)
    merged = edges.shape[1] - arranged.shape[1]
    if not directed:
        arranged, arranged_lengths = both_ways(arranged, num_columns, arranged_lengths)
    spatial = positions is not None
    coordinates = positions if positions is not None else drawing_coordinates(arranged, num_columns)
    measured = "given" if lengths is not None and edges.size else "euclidean" if spatial else "hops"
    geometry = Geometry(
        coordinates,
        edges=arranged if edges.size else None,
        edge_distance=arranged_lengths if edges.size else None,
        metric=measured,
        name=name,
        layer=layer,
        area=None if areas[1] is None else areas[0],
        area_names=areas[1],
        inputs=inputs,
        outputs=outputs,
        names=names,
        spatial=spatial,
        tracts=tracts,
        tract_lengths=tract_lengths,
    )
    notes = [f"merged {merged} parallel edges into others, of each pair the shortest stays"] if merged else []
    if guessed_from is not None:
        otherwise = "measures edges between the nodes' positions" if spatial else "makes all edges equally long"
        notes.append(
            f"{guessed_from} is read as the length of edges (weight_is='distance'): if it is a strength say "
            f"weight_is='strength' (1/w) or 'strength:-log'; weight=None {otherwise}"
        )
    warn(name, notes)
    return geometry


# ---------------------------------------------------------------------- edges


def _edge_lengths(
    edges: list[dict[str, Any]],
    name: Callable[[int], str],
    asked: Lengths,
) -> tuple[NDArray[np.float64] | None, str | None]:
    """The lengths of edges, and the attribute that was taken for distances without anybody saying so."""
    present = {str(key) for data in edges for key in data}
    attribute = asked.key or ("weight" if asked.weight_is is not None else None)
    if attribute is None and asked.weight is not None:
        attribute = next((key for key in ("distance", "weight") if key in present), None)
    if attribute is None or not edges:
        return None, None
    if attribute not in present:
        raise ValueError(f"no edge has the attribute {attribute!r}{closest(attribute, sorted(present))}")
    for e, data in enumerate(edges):
        if attribute not in data:
            raise ValueError(f"{name(e)} has no {attribute!r}, but other edges have")
    lengths = asked.read([data[attribute] for data in edges], name)
    told = asked.distance is not None or (attribute == "distance" and not asked.weight)
    return lengths, None if told else asked.guessed(f"the edge attribute {attribute!r}", lengths)


# ---------------------------------------------------------------------- nodes


def _column_values(attributes: list[Mapping[str, Any]], nodes: list[Any], key: str) -> list[Any] | None:
    """One value per node, or None where no node has ``key``; nan is how other programs write that one has none."""
    missing = [i for i, data in enumerate(attributes) if _is_missing(data.get(key))]
    if len(missing) == len(nodes):
        return None
    if missing:
        raise ValueError(
            f"node {nodes[missing[0]]!r} has no {key!r}, but other nodes have ({len(missing)} of {len(nodes)} lack it)"
        )
    return [data[key] for data in attributes]


def _is_missing(value: Any) -> bool:
    number = None if isinstance(value, str) and value.strip().lower() != "nan" else as_number(value)
    return value is None or (number is not None and math.isnan(number))


def _node_positions(
    attributes: list[Mapping[str, Any]], nodes: list[Any], position: str | Sequence[str] | bool | None
) -> NDArray[np.float64] | None:
    """If none are named, ``pos``, else ``x``, ``y`` and perhaps ``z``, else GEXF's ``viz`` position."""
    if position is False:
        return None
    if position is None or position is True:
        if any(data.get("pos") is not None for data in attributes):
            position = "pos"
        elif any("x" in data and "y" in data for data in attributes):
            position = ["x", "y"] + (["z"] if any("z" in data for data in attributes) else [])
        else:
            attributes = [
                {"viz position": data["viz"].get("position") if isinstance(data.get("viz"), dict) else None}
                for data in attributes
            ]
            places = _column_values(attributes, nodes, "viz position")
            return None if places is None else _points(places, nodes)
    if isinstance(position, str):
        return _points(_named(attributes, nodes, position), nodes)
    keys = list(position)
    if not 1 <= len(keys) <= 3:
        raise ValueError(f"position must be one attribute name or a list of 1 to 3, got {keys!r}")
    return _points(list(zip(*(_named(attributes, nodes, key) for key in keys), strict=True)), nodes)


def _named(attributes: list[Mapping[str, Any]], nodes: list[Any], key: str) -> list[Any]:
    values = _column_values(attributes, nodes, key)
    if values is None:
        known = sorted({str(k) for data in attributes for k in data})
        raise ValueError(f"no node has the attribute {key!r}{closest(key, known)}")
    return values


def _points(values: list[Any], nodes: list[Any]) -> NDArray[np.float64]:
    """``[N,D]`` coordinates from tuples, lists, arrays, numbers, or text such as "1, 2, 3"."""
    rows: list[list[float | None]] = []
    for node, value in zip(nodes, values, strict=True):
        parts = value.translate(_BRACKETS).split() if isinstance(value, str) else _parts(value)
        row = [as_number(part) for part in parts]
        if not 1 <= len(row) <= 3 or None in row or not np.isfinite(np.array(row, dtype=float)).all():
            raise ValueError(f"node {node!r} has the position {value!r}: 1 to 3 finite numbers are needed")
        if rows and len(row) != len(rows[0]):
            raise ValueError(f"node {node!r} has {len(row)} coordinates, node {nodes[0]!r} has {len(rows[0])}")
        rows.append(row)
    return np.array(rows, dtype=np.float64)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [value[key] for key in ("x", "y", "z") if key in value]
    try:
        return list(np.asarray(value).reshape(-1)) if not isinstance(value, list | tuple) else list(value)
    except (TypeError, ValueError):
        return []


def _node_names(attributes: list[Mapping[str, Any]], nodes: list[Any], key: str | None) -> list[str] | None:
    if key is not None:
        return [str(value) for value in _named(attributes, nodes, key)]
    for usual in ("name", "label"):
        if all(data.get(usual) not in (None, "") for data in attributes):
            return [str(data[usual]) for data in attributes]
    if nodes == list(range(len(nodes))):
        return None
    called = [str(node) for node in nodes]
    check_unique(called, "the name")  # 1 and "1" are two nodes, and read from a file often one
    return called


def _whole(value: Any) -> int | None:
    number = as_number(value)
    return int(number) if number is not None and number.is_integer() else None


def _layer_numbers(values: list[Any]) -> NDArray[np.int64]:
    numbers = [_whole(value) for value in values]
    if None not in numbers:
        return np.array(numbers, dtype=np.int64)
    numbers_or_names = [as_number(value) for value in values]
    labels: list[Any] = [str(value) for value in values] if None in numbers_or_names else numbers_or_names
    in_order = sorted(set(labels), key=natural_key if None in numbers_or_names else None)
    number_of = {label: i for i, label in enumerate(in_order)}
    return np.array([number_of[label] for label in labels], dtype=np.int64)


def _areas(attributes: list[Mapping[str, Any]], names: Any) -> tuple[NDArray[np.int64] | None, list[str] | None]:
    """The area of each node and the areas' names, where nodes have a text called ``area``; a number may be a size."""
    texts = [data.get("area") for data in attributes]
    if not any(isinstance(text, str) and as_number(text) is None for text in texts) and not isinstance(names, list):
        return None, None
    found = list(dict.fromkeys([*(names if isinstance(names, list) else ()), *(str(t) for t in texts if t)]))
    number = {name: k for k, name in enumerate(found)}
    return np.array([number[str(text)] if text else -1 for text in texts], dtype=np.int64), found


def _ranked(values: list[Any], nodes: list[Any]) -> NDArray[np.int64] | None:
    ranks = []
    for node, value in zip(nodes, values, strict=True):
        rank = _whole(value)
        if rank is None:
            raise ValueError(f"node {node!r} has input_rank {value!r}: an integer is needed, -1 for no input")
        ranks.append(rank)
    columns = [i for i, rank in enumerate(ranks) if rank >= 0]
    if len({ranks[i] for i in columns}) < len(columns):
        repeated = next(ranks[i] for i in columns if ranks.count(ranks[i]) > 1)
        raise ValueError(f"input_rank {repeated} is given to more than one node")
    return np.array(sorted(columns, key=lambda i: ranks[i]), dtype=np.int64) if columns else None


def _flagged(values: list[Any], nodes: list[Any]) -> NDArray[np.int64]:
    true, false = ("true", "yes", "1", "1.0"), ("false", "no", "0", "0.0", "")
    columns = []
    for i, value in enumerate(values):
        text = str(value).strip().lower()
        if text not in true + false:
            raise ValueError(f"node {nodes[i]!r} has output {value!r}: true or false is needed")
        if text in true:
            columns.append(i)
    return np.array(columns, dtype=np.int64)
