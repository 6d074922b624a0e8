"""Adjacency matrices: CSV and TSV, numpy and scipy files, MatrixMarket.

``A[i, j]`` is the edge from column ``i`` to column ``j`` (row speaks, column listens), as in networkx and the Brain
Connectivity Toolbox; ``transpose=True`` reads the other convention. A zero or an empty cell is no edge.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.geometry.base import Geometry
from colgraph.geometry.readers.edge_lists import edge_table_geometry
from colgraph.geometry.readers.files import Source, parsing
from colgraph.geometry.readers.lengths import as_number, check_meaning, to_lengths
from colgraph.geometry.readers.matrix_market import parse_matrix_market
from colgraph.geometry.readers.network import network_geometry

__all__ = ["adjacency_geometry", "read_csv", "read_matrix_market", "read_numpy"]


def adjacency_geometry(
    matrix: Any,
    *,
    name: str,
    names: Sequence[str] | None = None,
    positions: NDArray[np.float64] | None = None,
    weight_is: str | None = None,
    transpose: bool = False,
    has_lengths: bool = True,
) -> Geometry:
    """The geometry of a weighted adjacency matrix ``[N,N]``.

    Args:
        matrix: numpy array, or anything of ``scipy.sparse``, whose stored zeros are edges of length 0.
        name: what the geometry is called.
        names: N column names.
        positions: ``[N,D]`` coordinates, D at most 3.
        weight_is: "distance" (what numbers are if not said otherwise) or "strength", which becomes 1/strength.
        transpose: ``A[i, j]`` is the edge from ``j`` to ``i``.
        has_lengths: whether the numbers mean anything; False for patterns.

    Raises:
        ValueError: if it is not square, or naming the edge whose number is no length.
    """
    from scipy.sparse import coo_array, issparse

    check_meaning(weight_is)
    if len(matrix.shape) != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"an adjacency matrix is square, this one has shape {list(matrix.shape)}")
    if matrix.shape[0] == 0:
        raise ValueError("the adjacency matrix is empty")
    if matrix.dtype.kind not in "fiub":
        raise ValueError(f"an adjacency matrix holds real numbers, this one {matrix.dtype}")
    entries = matrix.tocoo() if issparse(matrix) else coo_array(matrix)
    entries.sum_duplicates()
    source, target = (index.astype(np.int64) for index in (entries.row, entries.col))
    if transpose:
        source, target = target, source

    def edge_name(e: int) -> str:
        ends = (source[e], target[e]) if names is None else (repr(names[source[e]]), repr(names[target[e]]))
        return f"edge {ends[0]} -> {ends[1]}"

    return network_geometry(
        np.stack([source, target]),
        int(matrix.shape[0]),
        lengths=to_lengths(entries.data, weight_is, edge_name) if has_lengths else None,
        directed=True,
        positions=positions,
        name=name,
        names=names,
    )


# ---------------------------------------------------------------------- numpy, scipy


def read_numpy(source: Source, *, weight_is: str | None = None, transpose: bool = False) -> Geometry:
    """Read an adjacency matrix from ``.npz`` or ``.npy``, or a sheet that ``Sheet.save`` wrote.

    An ``.npz`` holds a sparse matrix (``scipy.sparse.save_npz``) or one square array, and may hold ``pos`` (``[N,3]``)
    and ``names`` (``[N]``) besides. Arrays of Python objects are refused: nothing is unpickled.

    Raises:
        ValueError: for a broken file, or arrays that are something else.
    """
    with parsing("a numpy file of plain arrays"):
        loaded = np.load(io.BytesIO(source.data), allow_pickle=False)
        arrays = {"adjacency": loaded} if isinstance(loaded, np.ndarray) else {k: loaded[k] for k in loaded.files}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise ValueError("the archive holds files that are no arrays")
    if {"edge_index", "input_rank", "format"} <= set(arrays):
        return _saved_sheet(source)
    if {"format", "shape", "data"} <= set(arrays):
        from scipy.sparse import load_npz

        with parsing("a scipy sparse matrix"):
            matrix = load_npz(io.BytesIO(source.data))
        return adjacency_geometry(matrix, name=source.name, weight_is=weight_is, transpose=transpose)
    positions = arrays.pop("pos", None)
    names = arrays.pop("names", None)
    if len(arrays) != 1:
        shapes = ", ".join(f"{key} {list(array.shape)}" for key, array in arrays.items()) or "none"
        raise ValueError(f"needs one square array besides 'pos' and 'names', got {shapes}")
    matrix = next(iter(arrays.values()))
    size = matrix.shape[0] if matrix.ndim else 0
    if positions is not None and (positions.ndim != 2 or len(positions) != size):
        raise ValueError(f"'pos' must have shape [{size}, 3], got {list(positions.shape)}")
    if names is not None and names.shape != (size,):
        raise ValueError(f"'names' must have {size} entries, got shape {list(names.shape)}")
    return adjacency_geometry(
        matrix,
        name=source.name,
        names=None if names is None else [str(entry) for entry in names],
        positions=positions,
        weight_is=weight_is,
        transpose=transpose,
    )


def _saved_sheet(source: Source) -> Geometry:
    from colgraph.geometry.readers.objects import from_object
    from colgraph.sheet import load_sheet

    with source.on_disk() as path:
        return from_object(load_sheet(path))


def read_matrix_market(source: Source, *, weight_is: str | None = None, transpose: bool = False) -> Geometry:
    """Read an adjacency matrix in MatrixMarket form; a ``pattern`` has edges and no lengths."""
    with parsing("MatrixMarket"):
        matrix, has_lengths = parse_matrix_market(source.text)
    return adjacency_geometry(
        matrix, name=source.name, weight_is=weight_is, transpose=transpose, has_lengths=has_lengths
    )


# ---------------------------------------------------------------------- CSV and TSV


def read_csv(
    source: Source,
    *,
    header: bool | None = None,
    transpose: bool = False,
    directed: bool | None = None,
    distance: str | None = None,
    weight: str | None = None,
    weight_is: str | None = None,
) -> Geometry:
    """Read a table: a weighted adjacency matrix, or a list of edges with the columns ``source`` and ``target``.

    A matrix may have names in its first row, in its first column, or in both; empty cells and zeros are no edges.

    Args:
        source: the file; separated by commas, semicolons or tabs.
        header: whether a matrix has names, in a first row, a first column, or both, as its shape tells. If not given,
            text is taken for names; numbers only if they count 0, 1, 2, ... or 1, 2, 3, ... from an empty corner.
        transpose: ``A[i, j]`` is the edge from ``j`` to ``i``.
        directed: for lists of edges, as in :func:`colgraph.geometry.readers.edge_lists.read_edge_list`.
        distance, weight: for lists of edges, the column to take lengths from.
        weight_is: "distance" or "strength".

    Raises:
        ValueError: for a table that is not square, names that do not agree, or cells that are no lengths.
    """
    with parsing("a table"):
        rows = _cells(source)
    heads = [cell.strip().lower() for cell in rows[0]]
    if {"source", "target"} <= set(heads):
        _refuse("a list of edges", header=header, transpose=transpose or None)
        edges = _edge_rows(rows, heads)
        return edge_table_geometry(
            edges,
            name=source.name,
            directed=bool(directed),
            distance=distance,
            weight=weight,
            weight_is=weight_is,
        )
    _refuse("an adjacency matrix", directed=directed, distance=distance, weight=weight)
    names, body = _split_names(rows, header)
    return adjacency_geometry(
        _matrix(body, names), name=source.name, names=names, weight_is=weight_is, transpose=transpose
    )


def _refuse(what: str, **options: Any) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ValueError(f"the option {given[0]!r} means nothing for {what}")


def _cells(source: Source) -> list[list[str]]:
    """The rows of the table; a row of another length is an error."""
    lines = [line for line in source.text.splitlines() if line.strip(" ") and not line.startswith("#")]
    candidates = "\t,; " if source.suffix == "tsv" else ",;\t "
    delimiter = next((mark for mark in candidates if mark in lines[0]), ",")
    rows = list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
    width = len(rows[-1])
    if len(rows[0]) == width - 1 and all(len(row) == width for row in rows[1:]):
        rows[0] = ["", *rows[0]]  # R leaves out the cell above the row names
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise ValueError(f"row {number} has {len(row)} cells, row 1 has {len(rows[0])}")
    return rows


def _edge_rows(rows: list[list[str]], heads: list[str]) -> list[tuple[str, str, dict[str, Any]]]:
    u, v = heads.index("source"), heads.index("target")
    edges = []
    for row in rows[1:]:
        data = {key.strip(): cell for i, (key, cell) in enumerate(zip(rows[0], row, strict=True)) if i not in (u, v)}
        edges.append((row[u].strip(), row[v].strip(), {key: cell for key, cell in data.items() if cell.strip()}))
    return edges


def _split_names(rows: list[list[str]], header: bool | None) -> tuple[list[str] | None, list[list[str]]]:
    """Column names, if there are any, and the cells of the matrix."""
    height, width = len(rows), len(rows[0])
    if header is None:
        counted = height == width and _counted(rows)
        top, side = _name_text(rows[0]) or counted, _name_text([row[0] for row in rows]) or counted
    else:  # where the shape leaves no choice, names are in the longer direction only
        top, side = header and height >= width, header and width >= height
    across = [cell.strip() for cell in rows[0][int(side) :]] if top else None
    body = rows[int(top) :]
    down = [row[0].strip() for row in body] if side else None
    body = [row[int(side) :] for row in body]
    if len(body) != len(body[0] if body else []):
        raise ValueError(
            f"an adjacency matrix is square, this table has {height} rows and {width} columns"
            f"{' with names' if top or side else ''} (header=True if names are numbers)"
        )
    names = across or down
    for given in (across, down):
        if given is not None:
            _check_names(given)
    if across is not None and down is not None and across != down:
        i = next(i for i, (a, b) in enumerate(zip(across, down, strict=True)) if a != b)
        raise ValueError(f"rows and columns must have the same names in the same order: {down[i]!r} and {across[i]!r}")
    return names, body


def _name_text(cells: list[str]) -> bool:
    """Whether a first row or column is one of names: text in it, and no number in the corner."""
    text = [bool(cell.strip()) and as_number(cell) is None for cell in cells]
    return any(text[1:]) and (text[0] or not cells[0].strip())


def _counted(rows: list[list[str]]) -> bool:
    """Whether the first row and column count from 0 or 1 beside an empty corner, as pandas writes them."""
    across, down = [cell.strip() for cell in rows[0][1:]], [row[0].strip() for row in rows[1:]]
    counts = [[str(i + start) for i in range(len(across))] for start in (0, 1)]
    return not rows[0][0].strip() and bool(across) and across == down and across in counts


def _check_names(names: list[str]) -> None:
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise ValueError(f"the name {name!r} is used {count} times: nodes must not be duplicated")


def _matrix(body: list[list[str]], names: list[str] | None) -> NDArray[np.float64]:
    """The cells as numbers, empty ones as 0; text that is none becomes an error that names the edge."""
    try:
        return np.array([[float(cell) if cell and not cell.isspace() else 0.0 for cell in row] for row in body])
    except ValueError:
        for i, row in enumerate(body):
            for j, cell in enumerate(row):
                if cell.strip() and as_number(cell) is None:
                    ends = (i, j) if names is None else (repr(names[i]), repr(names[j]))
                    raise ValueError(
                        f"edge {ends[0]} -> {ends[1]} is {cell.strip()!s}, which is not a number"
                    ) from None
        raise
