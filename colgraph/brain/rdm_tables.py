"""Dissimilarity matrices in tables of text: whole or condensed, a pair in each row, with or without names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.brain.names import NUMBER, first_twice, plain_number
from colgraph.brain.rdm_shapes import side_of
from colgraph.text import Table, count_rows, is_number, natural_key, parse_numbers, read_table

_NUMBERED = re.compile(r"(?:v|x|var|column|col)?(\d+)", re.IGNORECASE)
"""How R, MATLAB and spreadsheets number columns that have no names."""


def read_rdm_table(path: Path, count: int | None) -> dict[str, Any]:
    """What a table holds: ``[n, n]``, ``[pairs]`` or ``[subjects, pairs]`` by name, and the names of ``stimuli``.

    Rows are joined to columns by their names, in whatever order they come. Of several condensed ones each has the name
    that its row or column has. A table with a pair in each row names both stimuli in two columns next to each other.
    Empty cells of a matrix are NaN.

    Raises:
        ValueError: if it cannot be read, is no matrix, or its rows and columns have other names.
    """
    table = read_table(path)
    long = _long(table, path)
    if long is not None:
        return long
    header, names, body = _parts(table)
    is_square = len(body) == len(body[0]) > 2
    cells = [cell or ("nan" if is_square else "") for row in body for cell in row]
    values = _numbers(cells, table, len(body[0]), path).reshape(len(body), -1)
    if is_square:
        return _joined(values, header, names, path)
    rows, columns = values.shape
    sides = side_of(rows), side_of(columns)
    if sides == (None, None):
        raise ValueError(
            f"{str(path)!r} is a table of {rows} x {columns} numbers: a matrix is square, and a condensed one has as "
            f"many as there are pairs{'' if count is None else f' ({count * (count - 1) // 2} of {count} stimuli)'}"
        )
    fits = [side is not None and (count is None or side == count) for side in sides]
    pairs_are_columns = fits[1] if fits[0] != fits[1] else columns >= rows
    return _condensed(*((values, names, header) if pairs_are_columns else (values.T, header, names)), path)


def _numbers(cells: list[str], table: Table, width: int, path: Path) -> NDArray[np.float64]:
    numbers = parse_numbers(cells, table.separator)
    if None in numbers:
        row, column = divmod(numbers.index(None), width)
        raise ValueError(f"{str(path)!r}: {cells[row * width + column]!r} in row {row + 1} of the matrix is no number")
    return np.array(numbers, dtype=np.float64)


def _parts(table: Table) -> tuple[list[str] | None, list[str] | None, list[list[str]]]:
    """The header, the names of rows, and the cells of the matrix."""
    rows = [table.heads, *table.rows[1:]]
    tall, wide = len(rows), len(rows[-1])
    if tall == wide and rows[0][0] == "" and _is_bare(rows):
        return None, None, rows
    is_words = any(map(_is_word, rows[0][1:] or rows[0]))
    # Of whole numbers in a first row, the shape says whether they are names: one row more than the matrix has.
    header = rows[0] if tall > 1 and (is_words or rows[0][0] == "" or tall == wide + 1) else None
    body = rows if header is None else rows[1:]
    named = (header is not None and header[0] == "") or any(_is_word(row[0]) for row in body)
    named = named or (header is not None and len(body) == wide - 1)
    names = [row[0] for row in body] if named else None
    cells = [row[1:] for row in body] if named else body
    return (header[1:] if named and header is not None else header), names, cells


def _is_bare(rows: list[list[str]]) -> bool:
    """Whether the empty first cell of a square table is its diagonal's, not a corner between names."""
    if not any(rows[0]) or not any(row[0] for row in rows):
        return True  # one triangle alone
    first, is_empty = rows[0][1:], all(row[i] == "" for i, row in enumerate(rows))
    are_names = any(map(_is_word, first)) or (len(set(first)) == len(first) and all(map(NUMBER.fullmatch, first)))
    return is_empty and not are_names


def _is_word(cell: str) -> bool:
    return cell != "" and not is_number(cell)


# ---------------------------------------------------------------------- whole


def _joined(values: NDArray[Any], header: list[str] | None, names: list[str] | None, path: Path) -> dict[str, Any]:
    # R, Excel and pandas number rows from other numbers than columns, or name one of both only.
    header, names = (None if words is None or _counts(words) else words for words in (header, names))
    for which in (header, names):
        twice = first_twice(which or ())
        if twice is not None:
            raise ValueError(f"{str(path)!r} names stimuli twice: {twice!r} is the first")
    if header is not None and names is not None and header != names:
        place = {name: i for i, name in enumerate(names)}
        missing = next((name for name in header if name not in place), None)
        if missing is not None:
            raise ValueError(f"{str(path)!r} has a column {missing!r}, but no row of that name")
        values = values[[place[name] for name in header]]
    found = header or names
    return {path.stem: values} | ({} if found is None else {"stimuli": found})


def _counts(names: list[str]) -> bool:
    """Whether names are nothing but the numbers of the rows."""
    whole = [plain_number(name) for name in names]
    marks = {name.rstrip("0123456789").lower() for name in whole}
    plain = [str(int(match[1])) if (match := _NUMBERED.fullmatch(name)) else "" for name in whole]
    return len(marks) == 1 and count_rows(plain)


# ---------------------------------------------------------------------- condensed, and pair by pair


def _condensed(lines: NDArray[Any], names: list[str] | None, pairs: list[str] | None, path: Path) -> dict[str, Any]:
    if pairs is not None and not (_counts(pairs) or len(pairs) == 1):
        raise ValueError(
            f"{str(path)!r} names its pairs ({pairs[0]!r}, ...) in one cell each: write the names of both stimuli in "
            "two columns, or leave these out"
        )
    if names is None or _counts(names):
        return {path.stem: lines.squeeze()}
    twice = first_twice(names)
    if twice is not None:
        raise ValueError(f"{str(path)!r} names matrices twice: {twice!r} is the first")
    return dict(zip(names, lines, strict=True))


def _long(table: Table, path: Path) -> dict[str, Any] | None:
    """Matrices of a table with a pair in each row; None where it has none."""
    rows = [table.heads, *table.rows[1:]]
    has_header = len(rows) > 1 and any(map(_is_word, rows[0])) and not is_number(rows[0][-1])
    body = rows[1:] if has_header else rows
    for at in (0, 1):
        ends = [(plain_number(row[at]), plain_number(row[at + 1])) for row in body if len(row) > at + 2]
        if len(ends) < len(body):
            continue
        names = sorted({name for pair in ends for name in pair}, key=natural_key)
        full = len(names) * (len(names) - 1) // 2
        apart = {frozenset(pair) for pair in ends if pair[0] != pair[1]}
        are_words = all(_is_word(name) for pair in ends for name in pair)
        are_all_pairs = len(apart) == full and len(set(ends)) == len(ends) and len(body) != len(body[0])
        if len(names) < 3 or not (are_words or are_all_pairs):
            continue
        if len(set(ends)) < len(ends):
            one, other = next(pair for i, pair in enumerate(ends) if pair in ends[:i])
            raise ValueError(f"{str(path)!r} has the pair {one!r}, {other!r} twice: give each subject a column")
        return _of_pairs(ends, names, rows[0][at + 2 :] if has_header else None, body, at + 2, table, path)
    return None


def _of_pairs(
    ends: list[tuple[str, str]],
    names: list[str],
    header: list[str] | None,
    body: list[list[str]],
    start: int,
    table: Table,
    path: Path,
) -> dict[str, Any]:
    width = len(body[0]) - start
    values = _numbers([cell for row in body for cell in row[start:]], table, width, path).reshape(len(body), width)
    place = {name: i for i, name in enumerate(names)}
    first, second = np.array([[place[one], place[other]] for one, other in ends]).T
    full = np.full((width, len(names), len(names)), np.nan)
    full[:, second, first] = full[:, first, second] = values.T
    full[:, first, second] = values.T
    full[:, range(len(names)), range(len(names))] = 0
    found = {path.stem: full[0]} if width == 1 or header is None else dict(zip(header, full, strict=True))
    if width > 1 and header is None:
        found = {path.stem: full}
    return found | ({} if _counts(names) else {"stimuli": names})
