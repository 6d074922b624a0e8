"""Lists of edges, one a line: what networkx, SNAP, KONECT and spreadsheets write."""

from __future__ import annotations

import ast
from typing import Any

from colgraph.geometry.base import Geometry
from colgraph.geometry.readers.files import Source, parsing, warn
from colgraph.geometry.readers.network import graph_geometry

__all__ = ["EDGE_LIST_SUFFIXES", "edge_table_geometry", "read_edge_list"]

EDGE_LIST_SUFFIXES = ("edgelist", "edges", "txt")

_Edge = tuple[str, str, dict[str, Any]]


def read_edge_list(
    source: Source,
    *,
    directed: bool = False,
    distance: str | None = None,
    weight: str | None = None,
    weight_is: str | None = None,
) -> Geometry:
    """Read an edge list: ``source target``, ``source target weight`` or ``source target {attributes}``.

    Fields are separated by blanks, tabs or commas; what follows ``#`` or ``%`` is a comment. The nodes are those that
    edges name: in the order of their numbers if all are integers, else in the order in which they first occur.

    Args:
        source: the file.
        directed: whether the first node speaks and the second listens; otherwise (as in ``networkx.read_edgelist``)
            every edge goes both ways.
        distance, weight, weight_is: as in :func:`colgraph.geometry.readers.network.graph_geometry`.

    Raises:
        ValueError: naming the line that is no edge.
    """
    with parsing("an edge list"):
        edges = _parse(source.text)
    return edge_table_geometry(
        edges, name=source.name, directed=directed, distance=distance, weight=weight, weight_is=weight_is
    )


def edge_table_geometry(
    edges: list[_Edge],
    *,
    name: str,
    directed: bool,
    distance: str | None,
    weight: str | None,
    weight_is: str | None,
) -> Geometry:
    """The geometry of edges given as (source, target, attributes)."""
    import networkx as nx

    if not edges:
        raise ValueError("holds no edges")
    nodes = list(dict.fromkeys(end for u, v, _ in edges for end in (u, v)))
    if all(node.isascii() and node.lstrip("-").isdigit() for node in nodes):
        nodes.sort(key=int)
    graph = nx.MultiDiGraph() if directed else nx.MultiGraph()
    graph.add_nodes_from(nodes)
    graph.add_edges_from((u, v, data) for u, v, data in edges)
    pairs = {(u, v) for u, v, _ in edges if u != v}
    both = 0 if directed else sum((v, u) in pairs for u, v in pairs) // 2
    if both:
        warn(name, [f"{both} pairs of nodes are listed both ways round in an undirected list: pass directed=True?"])
    return graph_geometry(graph, name=name, distance=distance, weight=weight, weight_is=weight_is)


def _parse(text: str) -> list[_Edge]:
    edges: list[_Edge] = []
    key = "weight"
    for number, line in enumerate(text.splitlines(), start=1):
        content, brace, braced = line.partition("{")
        for comment in ("#", "%"):
            content, found, _ = content.partition(comment)
            brace = "" if found else brace
        fields = content.replace(",", " ").split()
        if not fields:
            continue
        if not edges and [field.lower() for field in fields[:2]] == ["source", "target"]:
            key = fields[2] if len(fields) > 2 else key
            continue
        if len(fields) not in (2, 3) or (brace and len(fields) != 2):
            raise ValueError(
                f"line {number} has {len(fields)} fields, an edge is 'source target' or 'source target weight'; "
                f"adjacency matrices are read from .csv, .tsv or .npz: {line.strip()[:60]!r}"
            )
        data = _attributes(brace + braced, number) if brace else {key: fields[2]} if len(fields) > 2 else {}
        edges.append((fields[0], fields[1], data))
    return edges


def _attributes(text: str, number: int) -> dict[str, Any]:
    """The attributes that ``networkx.write_edgelist`` writes as a dictionary; only plain values, nothing is run."""
    try:
        data = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError) as error:
        raise ValueError(
            f"line {number} has attributes that are no dictionary of plain values: {text[:60]!r}"
        ) from error
    if not isinstance(data, dict):
        raise ValueError(f"line {number} has attributes that are no dictionary: {text[:60]!r}")
    return {str(key): value for key, value in data.items()}
