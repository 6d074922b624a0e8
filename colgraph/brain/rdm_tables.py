"""Dissimilarity matrices in tables of text: with or without names at the rows and columns, whole or condensed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.brain.names import first_twice, plain_number
from colgraph.brain.rdm_shapes import side_of
from colgraph.text import Table, is_number, parse_numbers, read_table


def read_rdm_table(path: Path, count: int | None) -> tuple[NDArray[Any], list[str] | None]:
    """``[n, n]``, ``[pairs]`` or ``[subjects, pairs]`` from a table, and the names of the stimuli that it has.

    Rows are joined to columns by their names, in whatever order they come.

    Raises:
        ValueError: if it cannot be read, is no matrix, or its rows and columns have other names.
    """
    table = read_table(path)
    header, names, body = _parts(table)
    numbers = parse_numbers([cell for row in body for cell in row], table.separator)
    if None in numbers:
        row, column = divmod(numbers.index(None), len(body[0]))
        raise ValueError(f"{str(path)!r}: {body[row][column]!r} in row {row + 1} of the matrix is no number")
    values = np.array(numbers, dtype=np.float64).reshape(len(body), -1)
    rows, columns = values.shape
    if rows == columns and rows > 2:
        return _joined(values, header, names, path)
    if side_of(columns) is None and side_of(rows) is None:
        raise ValueError(
            f"{str(path)!r} is a table of {rows} x {columns} numbers: a matrix is square, and a condensed one has as "
            f"many as there are pairs{'' if count is None else f' ({count * (count - 1) // 2} of {count} stimuli)'}"
        )
    return values.squeeze(), None


def _parts(table: Table) -> tuple[list[str] | None, list[str] | None, list[list[str]]]:
    """The header, the names of rows, and the cells of the matrix."""
    rows = [table.heads, *table.rows[1:]]
    tall, wide = len(rows), len(rows[-1])
    is_words = not all(is_number(cell) for cell in rows[0][1:] or rows[0])
    # Of whole numbers in a first row, the shape says whether they are names: one row more than the matrix has.
    header = rows[0] if tall > 1 and (is_words or rows[0][0] == "" or tall == wide + 1) else None
    body = rows if header is None else rows[1:]
    named = (header is not None and header[0] == "") or not all(is_number(row[0]) for row in body)
    named = named or (header is not None and len(body) == wide - 1)
    names = [row[0] for row in body] if named else None
    cells = [row[1:] for row in body] if named else body
    return (header[1:] if named and header is not None else header), names, cells


def _joined(
    values: NDArray[Any], header: list[str] | None, names: list[str] | None, path: Path
) -> tuple[NDArray[Any], list[str] | None]:
    if header is not None and names is not None:
        for which in (header, names):
            twice = first_twice(which)
            if twice is not None:
                raise ValueError(f"{str(path)!r} names stimuli twice: {twice!r} is the first")
        # Excel and pandas number rows from other numbers than columns.
        if not (_counts(header) and _counts(names)) and header != names:
            place = {name: i for i, name in enumerate(names)}
            missing = next((name for name in header if name not in place), None)
            if missing is not None:
                raise ValueError(f"{str(path)!r} has a column {missing!r}, but no row of that name")
            values = values[[place[name] for name in header]]
    found = header or names
    return values, None if found is None or _counts(found) else found


def _counts(names: list[str]) -> bool:
    """Whether names are nothing but the numbers of the rows."""
    plain = [plain_number(name) for name in names]
    return any(plain == [str(i + start) for i in range(len(plain))] for start in (0, 1))
