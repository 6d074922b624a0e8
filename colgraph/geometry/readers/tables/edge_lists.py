"""Edges, one a row: the lists of networkx, SNAP and KONECT, the tables of Gephi, Cytoscape, R and spreadsheets."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from colgraph.geometry.base import Geometry
from colgraph.geometry.readers.files import Source, warn
from colgraph.geometry.readers.graphs.network import graph_geometry
from colgraph.geometry.readers.lengths import Lengths
from colgraph.geometry.readers.tables.columns import commented_direction, find_columns, find_ends, is_directed
from colgraph.text import Table, is_number, parse_numbers, parse_table

EDGE_LIST_SUFFIXES = ("edgelist", "edges")

_Edge = tuple[str, str, dict[str, Any]]
_INTEGER = re.compile(r"-?\d+")
_EXACT = 2**53  # from here on floating-point numbers pass over whole ones, and this may be the next one


def read_edge_list(
    source: Source,
    *,
    header: bool | None = None,
    directed: bool | None = None,
    lengths: Lengths,
) -> Geometry:
    """Read an edge list: ``source target``, ``source target weight`` or ``source target {attributes}``.

    Fields are separated by blanks, tabs, commas, semicolons or bars; what follows ``#`` or ``%`` is a comment. The
    nodes are those that edges name: in the order of their numbers if all are integers, else in the order in which they
    first occur.

    Args:
        source: the file.
        header: whether the first line names the columns. If not given, it does where it holds words such as ``source
            target`` or ``from to``, or words above numbers; there may be more columns then.
        directed: whether the first node speaks and the second listens. If not given, a column such as ``Type`` says so,
            or a comment as KONECT and SNAP write it; otherwise (as in ``networkx.read_edgelist``) every edge goes both
            ways.
        lengths: what the user says about the lengths of edges.

    Raises:
        ValueError: naming the row that is no edge, or a first line that may be a header or an edge.
    """
    text = source.text
    if "{" in text:
        edges = _parse_networkx(text)
        return _edges_geometry(edges, [bool(directed)] * len(edges), source.name, lengths)
    lines = (re.sub(r"(?<=\s)[#%][^\"]*$", "", line).rstrip(" ") for line in text.split("\n"))
    table = parse_table("\n".join(lines), comments="#%", ragged=True)
    heads, rows, ends = _split_header(table, header)
    return edge_table_geometry(
        heads,
        rows,
        ends,
        name=source.name,
        separator=table.separator,
        directed=directed,
        lengths=lengths,
        comments=table.comments,
    )


# ---------------------------------------------------------------------- the columns


def edge_table_geometry(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    ends: tuple[int, int],
    *,
    name: str,
    separator: str,
    directed: bool | None,
    lengths: Lengths,
    comments: Sequence[str] = (),
) -> Geometry:
    """The geometry of a table of edges. What is used and what is left out is said in a warning, unless it is obvious.

    Args:
        heads: the names of the columns.
        rows: the cells; rows may end early.
        ends: the columns with the sources and the targets.
        name: what the geometry is called.
        separator: what separated the table; semicolons stand where commas are decimal.
        directed: whether edges go one way; None if a column or a comment says so, or no.
        lengths: what the user says about the lengths of edges.
        comments: of the table.

    Raises:
        ValueError: naming the row or the edge that is wrong.
    """
    rows = [row for row in rows if any(row)]
    if not rows:
        raise ValueError("holds no edges")
    cells = [[row[i] if i < len(row) else "" for row in rows] for i in range(len(heads))]
    for i in ends:
        if "" in cells[i]:
            raise ValueError(f"row {cells[i].index('') + 2} of the table has no {heads[i]!r}")
    columns = find_columns(heads, cells, ends, lengths)
    values: list[Sequence[Any]] = list(cells)
    keys = list(heads)
    if columns.length is not None:
        numbers = parse_numbers(cells[columns.length], separator)
        values[columns.length] = [
            cell if x is None else x for cell, x in zip(cells[columns.length], numbers, strict=True)
        ]
        keys[columns.length] = columns.key
        _check_whole(heads[columns.length], values[columns.length], cells, ends)
    # Where no column has lengths, all are kept: what was asked for may be misspelled.
    data = [i for i in range(len(heads)) if i not in ends] if columns.length is None else [columns.length]
    nodes = _whole_numbers(cells[ends[0]] + cells[ends[1]], separator)
    edges = [
        (u, v, {keys[i]: values[i][row] for i in data if cells[i][row]})
        for row, (u, v) in enumerate(zip(nodes[: len(rows)], nodes[len(rows) :], strict=True))
    ]
    told = commented_direction(comments) if directed is None else directed
    flags = [bool(told)] * len(rows)
    if directed is None and columns.direction is not None:
        flags = [is_directed(cell) for cell in cells[columns.direction]]
    warn(name, columns.notes(heads, cells, flags, asked=directed is not None))
    if columns.weight_is is not None:
        lengths = replace(lengths, weight_is=columns.weight_is)
    return _edges_geometry(edges, flags, name, lengths)


def _check_whole(head: str, values: Sequence[Any], cells: Sequence[Sequence[str]], ends: tuple[int, int]) -> None:
    """Raise for a column of lengths with some that are missing."""
    missing = [i for i, value in enumerate(values) if value == "" or value != value]
    if missing and len(missing) < len(values):
        u, v = (cells[end][missing[0]] for end in ends)
        raise ValueError(
            f"edge {u!r} -> {v!r} has no {head!r}, but other edges have ({len(missing)} of {len(values)} lack it): "
            "give each a number, or leave the edge out"
        )


def _whole_numbers(nodes: list[str], separator: str) -> list[str]:
    """Node names; whole numbers that were written with a decimal mark (``1.0e+00``, by numpy or MATLAB) without it."""
    odd = [node for node in nodes if not _INTEGER.fullmatch(node)]
    # Names such as 1E2 and 10E1, of wells and cells, are no numbers.
    if not odd or not all(is_number(node) and ("." in node or "," in node) for node in odd):
        return nodes
    pairs = zip(odd, parse_numbers(odd, separator), strict=True)
    numbers = {node: x for node, x in pairs if x is not None and x.is_integer()}
    if len(numbers) < len(set(odd)):
        return nodes
    rounded = next((node for node, x in numbers.items() if abs(x) >= _EXACT), None)
    if rounded is not None:
        raise ValueError(
            f"node {rounded} is a whole number that was made a floating-point one, of more digits than that keeps: "
            "give nodes as whole numbers or as text"
        )
    return [str(int(numbers[node])) if node in numbers else node for node in nodes]


def _edges_geometry(edges: list[_Edge], flags: list[bool], name: str, lengths: Lengths) -> Geometry:
    """The geometry of edges given as (source, target, attributes), each of which goes one way or both."""
    import networkx as nx

    if not edges:
        raise ValueError("holds no edges")
    nodes = list(dict.fromkeys(end for u, v, _ in edges for end in (u, v)))
    if all(_INTEGER.fullmatch(node) for node in nodes):
        nodes.sort(key=int)
    graph = nx.MultiDiGraph() if any(flags) else nx.MultiGraph()
    graph.add_nodes_from(nodes)
    graph.add_edges_from(edges)
    if any(flags):
        graph.add_edges_from(
            (v, u, data) for (u, v, data), one_way in zip(edges, flags, strict=True) if u != v and not one_way
        )
    pairs = {(u, v) for (u, v, _), one_way in zip(edges, flags, strict=True) if u != v and not one_way}
    both = sum((v, u) in pairs for u, v in pairs) // 2
    if both:
        warn(name, [f"{both} pairs of nodes are listed both ways round in an undirected list: pass directed=True?"])
    return graph_geometry(graph, name=name, lengths=lengths)


# ---------------------------------------------------------------------- lines


def _split_header(table: Table, header: bool | None) -> tuple[list[str], list[list[str]], tuple[int, int]]:
    """The names of the columns, the rows, and the columns with the ends of edges."""
    rows = table.rows
    if _has_header(rows, header):
        heads, rows = table.heads, rows[1:]
        ends = find_ends(heads) or find_ends(heads, alike=True) or (0, 1)
        odd = next((i for i, row in enumerate(rows) if len(row) != len(heads)), None)
        if odd is not None:
            raise ValueError(f"row {odd + 2} has {len(rows[odd])} cells, the header has {len(heads)}")
        return heads, rows, ends
    told = commented_header(table)
    if told is not None:
        return told[0], rows, told[1]
    for i, row in enumerate(rows, start=1):
        if len(row) not in (2, 3):
            raise ValueError(
                f"row {i} has {len(row)} fields, an edge is 'source target' or 'source target weight' and more need a "
                f"header; adjacency matrices are read from .csv, .tsv, .txt or .npz: {' '.join(row)[:60]!r}"
            )
    if header is None and _may_be_counts(rows):
        raise ValueError(
            f"the first line {' '.join(rows[0])!r} says how many nodes and edges the others have, or is an edge: say "
            "header=False if it is one, else leave it out"
        )
    return ["source", "target", "weight"][: max(map(len, rows))], rows, (0, 1)


def _may_be_counts(rows: list[list[str]]) -> bool:
    """Whether the first row is the numbers of nodes and edges of the others, as solvers and contests write them.

    It is an edge where the list runs downwards: ``3 2``, ``2 1``, ``1 0``.
    """
    first, others = rows[0], rows[1:]
    nodes = {node for row in others for node in row[:2]}
    if len(first) != 2 or first[1] != str(len(others)) or not all(map(_INTEGER.fullmatch, {first[0], *nodes})):
        return False
    most, sources = max(map(int, nodes)), [int(row[0]) for row in others]
    counted = int(first[0]) in (len(nodes), most, most + 1) and not set(first) <= nodes
    return counted and sources != sorted(sources, reverse=True)


def _has_header(rows: list[list[str]], header: bool | None) -> bool:
    """Whether the first row names the columns.

    Raises:
        ValueError: where it cannot be told.
    """
    first, body = rows[0], rows[1:]
    if header is not None or len(first) < 2 or any(len(row) < 2 for row in body):
        return bool(header)
    nodes = [node for row in body for node in row[:2]]
    unused = not set(first[:2]) & set(nodes)
    if find_ends(first) and (unused or len(first) > 3):
        return True
    if any(map(is_number, first[:2])) or not body or not unused:
        return False
    weights = [row[2] for row in rows if len(row) > 2]
    if len(weights) == len(rows) and not is_number(first[2]) and all(map(is_number, weights[1:])):
        return True
    if all(map(is_number, nodes)):
        return True
    if len(body) > 1 and len(set(nodes)) < len(nodes):
        raise ValueError(
            f"the first line {' '.join(first)[:60]!r} may name the columns, or be an edge whose nodes occur nowhere "
            "else: say header=True or header=False"
        )
    return False


def commented_header(table: Table) -> tuple[list[str], tuple[int, int]] | None:
    """The names of the columns from a comment, as SNAP writes them (``# FromNodeId ToNodeId``), and which are ends."""
    for comment in table.comments:
        heads = parse_table(comment, separators=table.separator, comments="").rows[0] if comment else []
        ends = find_ends(heads)
        if ends is not None and len(heads) == len(table.rows[0]):
            return heads, ends
    return None


def _parse_networkx(text: str) -> list[_Edge]:
    """Lines with a dictionary of attributes, as ``networkx.write_edgelist`` writes them."""
    edges: list[_Edge] = []
    for number, line in enumerate(text.split("\n"), start=1):
        content, brace, braced = line.partition("{")
        for comment in ("#", "%"):
            content, found, _ = content.partition(comment)
            brace = "" if found else brace
        fields = content.replace(",", " ").split()
        if not fields:
            continue
        if len(fields) not in (2, 3) or (brace and len(fields) != 2):
            raise ValueError(
                f"line {number} has {len(fields)} fields, an edge is 'source target {{attributes}}': "
                f"{line.strip()[:60]!r}"
            )
        data = _attributes(brace + braced, number) if brace else {"weight": fields[2]} if len(fields) > 2 else {}
        edges.append((fields[0], fields[1], data))
    return edges


def _attributes(text: str, number: int) -> dict[str, Any]:
    """The attributes that ``networkx.write_edgelist`` writes as a dictionary; only plain values, nothing is run."""
    try:
        data = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        data = None
    if not isinstance(data, dict):
        raise ValueError(f"line {number} has attributes that are no dictionary of plain values: {text[:60]!r}")
    return {str(key): value for key, value in data.items()}
