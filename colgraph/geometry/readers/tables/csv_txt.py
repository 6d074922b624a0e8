"""Tables as text: adjacency matrices with or without names, and edges with named columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from colgraph.geometry.base import Geometry
from colgraph.geometry.readers.files import Source, refuse, warn
from colgraph.geometry.readers.lengths import Lengths, edge_name
from colgraph.geometry.readers.matrices.adjacency import Cells, adjacency_geometry
from colgraph.geometry.readers.tables.columns import find_ends, find_lengths, may_be_areas
from colgraph.geometry.readers.tables.edge_lists import commented_header, edge_table_geometry, read_edge_list
from colgraph.geometry.readers.tables.matrix_names import is_named_matrix, split_names
from colgraph.text import Table, commented_names, is_number, parse_numbers, parse_table, plain_name


@dataclass(frozen=True)
class Rows(Cells, Lengths):
    """What the user says about a table, which is an adjacency matrix or a list of edges.

    ``distance`` and ``weight`` name columns of lists, and ``directed`` is as in
    :func:`colgraph.geometry.readers.tables.edge_lists.read_edge_list` for them.
    """


def read_csv(source: Source, *, header: bool | None = None, asked: Rows) -> Geometry:
    """Read a table: a weighted adjacency matrix, or a list of edges with the columns ``source`` and ``target``.

    A matrix may have names in its first row, in its first column, or in both (then the cells are joined by name); empty
    cells and zeros are no edges. The columns of edges may have other usual names (``from, to``; ``pre, post``), and a
    table of Cytoscape has them in its ``name``. A ``.txt`` file is such a matrix if it is square, and else a list of
    edges as :func:`read_edge_list` reads it.

    Args:
        source: the file, in any separator, with decimal points or commas.
        header: whether a matrix has names, in a first row, a first column, or both, as its shape tells. If not given,
            text is taken for names; numbers only where an empty corner and both directions say that they are.
        asked: what the user says about the table.

    Raises:
        ValueError: for a table that is not square, names that do not agree, or cells that are no lengths; for numbers
            in two or three rows and columns that may be either.
    """
    if source.suffix == "txt" and not _is_matrix(source.text):
        refuse("a list of edges", transpose=asked.transpose or None)
        return read_edge_list(source, header=header, directed=asked.directed, lengths=asked)
    table = parse_table(source.text, comments="#%")
    edges = _edge_columns(table, header)
    if edges is not None:
        refuse("a list of edges", transpose=asked.transpose or None)
        return edge_table_geometry(
            *edges,
            name=source.name,
            separator=table.separator,
            directed=asked.directed,
            lengths=asked,
            comments=table.comments,
        )
    refuse("an adjacency matrix", distance=asked.distance, weight=asked.weight or None)
    names, body, notes = split_names(_without_order(table.rows), header)
    if names is None and (names := commented_names(table, len(body))) is not None:
        notes = [f"the names are those of the comment: {', '.join(names)[:60]}"]
    matrix = _matrix(body, names, table.separator)
    warn(source.name, notes)
    return adjacency_geometry(matrix, name=source.name, names=names, cells=asked)


def _is_matrix(text: str) -> bool:
    """Whether a text holds about as many rows as cells in a row."""
    lines = [line for line in text.split("\n") if line.strip() and line.lstrip()[0] not in "#%"]
    try:
        width = len(parse_table("\n".join(lines[-3:]), comments="").rows[-1])
        rows = parse_table("\n".join(lines), comments="").rows if abs(len(lines) - width) < 4 else []
    except ValueError:
        return False
    height = len(rows)
    if "{" in text or not rows or abs(height - width) > 1:
        return False
    ends = find_ends(rows[0])
    if ends and not is_named_matrix(rows) and not may_be_areas(rows[0], rows[1:], ends):
        return False
    if width > 3 or (is_named_matrix(rows) and not is_number(rows[0][0])):
        return True
    square = rows[1:] if any(cell and not is_number(cell) for cell in rows[0]) else rows
    if len(square) == width and all(x == 0 for x in parse_numbers(square[i][i] for i in range(width))):
        raise ValueError(
            f"{width} rows of {width} numbers with zeros on the diagonal may be a matrix or a list of edges: call the "
            "file .csv or .edgelist"
        )
    return False


# ---------------------------------------------------------------------- edges


def _edge_columns(table: Table, header: bool | None) -> tuple[list[str], list[list[str]], tuple[int, int]] | None:
    """The names of the columns, the rows and the columns of the ends, if this is a table of edges.

    Raises:
        ValueError: for two columns of numbers below names that may be either.
    """
    heads, rows = table.heads, table.rows[1:]
    if header is False or is_named_matrix(table.rows):
        return None
    ends = find_ends(heads)
    if ends is not None and may_be_areas(heads, rows, ends):
        if header:
            return None
        raise _edges_or_matrix([heads[i] for i in ends])
    if ends is not None:
        return heads, rows, ends
    told = commented_header(table)
    if told is not None and not may_be_areas(told[0], table.rows, told[1]):
        return told[0], table.rows, told[1]
    ends = find_ends(heads, alike=True)
    if ends is not None and (find_lengths(heads, Lengths()) or (len(heads) == 2 and len(rows) != 2)):
        return heads, rows, ends
    small = header is None and len(heads) in (2, 3) and len(rows) == len(heads)
    alike = ends is not None and len(heads) == 2
    if small and (alike or (not any(map(is_number, heads)) and _may_be_edges(rows))):
        raise _edges_or_matrix(heads)
    if header is None and _may_be_bare_edges(table.rows):
        raise ValueError(
            f"{len(heads)} rows of {len(heads)} numbers may be edges or a matrix: say header=False for a matrix, name "
            "the columns of edges source and target"
        )
    return _cytoscape(heads, rows)


def _edges_or_matrix(heads: Sequence[str]) -> ValueError:
    return ValueError(
        f"the rows below {', '.join(heads)} may be edges or a matrix: call the columns of edges source and target, or "
        "say header=True"
    )


def _may_be_edges(rows: list[list[str]]) -> bool:
    """Whether a small matrix looks like edges between numbered nodes: with loops, in whole numbers."""
    whole = all(cell.isdecimal() for row in rows for cell in row[:2])
    return whole and any(row[i] not in ("0", "") for i, row in enumerate(rows))


def _may_be_bare_edges(rows: list[list[str]]) -> bool:
    """Whether a small square of numbers looks like edges between numbered nodes: with loops, and not symmetric."""
    if len(rows) not in (2, 3) or any(len(row) != len(rows) or not all(map(is_number, row)) for row in rows):
        return False
    symmetric = all(rows[i][j] == rows[j][i] for i in range(len(rows)) for j in range(i))
    return _may_be_edges(rows) and (len(rows) == 2 or not symmetric)


def _cytoscape(heads: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]], tuple[int, int]] | None:
    """Cytoscape's table of edges: ``source (interaction) target`` in the column "shared name" or "name"."""
    places = {plain_name(head): i for i, head in enumerate(heads)}
    name = places.get("sharedname", places.get("name"))
    interaction = places.get("sharedinteraction", places.get("interaction"))
    if name is None or interaction is None or not rows:
        return None
    split = [row[name].split(f" ({row[interaction]}) ") for row in rows]
    if any(len(parts) != 2 for parts in split):
        return None
    return (
        [*heads, "source", "target"],
        [[*r, *p] for r, p in zip(rows, split, strict=True)],
        (len(heads), len(heads) + 1),
    )


# ---------------------------------------------------------------------- matrices


def _without_order(rows: list[list[str]]) -> list[list[str]]:
    """DSI Studio's table for Circos without its first row and column, which say in which order to draw regions."""
    if len(rows) < 3 or any(row[:2] != ["data", "data"] for row in rows[:2]):
        return rows
    return [["", *rows[1][2:]], *(row[1:] for row in rows[2:])]


def _matrix(body: list[list[str]], names: list[str] | None, separator: str) -> NDArray[np.float64]:
    """The cells as numbers, empty ones as 0; text that is none becomes an error that names the edge."""
    cells = [cell for row in body for cell in row]
    numbers = parse_numbers(cells, separator)
    bad = next((k for k, number in enumerate(numbers) if number is None and cells[k]), None)
    if bad is not None:
        i, j = divmod(bad, len(body))
        raise ValueError(f"{edge_name(i, j, names)} is {cells[bad]}, which is not a number")
    return np.array([0.0 if number is None else number for number in numbers]).reshape(len(body), len(body))
