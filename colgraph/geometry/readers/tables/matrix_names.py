"""The names of rows and columns in a table that is an adjacency matrix: as pandas, R, MATLAB and people write them."""

from __future__ import annotations

import itertools
import re

from colgraph.geometry.readers.files import check_unique
from colgraph.text import count_rows, is_number, parse_numbers, plain_name

_INTEGER = re.compile(r"-?\d+(\.0+)?")
# What stands above the names of rows; another word above numbers is the first column's own name.
_CORNERS = re.compile(
    r"(unnamed\d*|index|id|x|row|rows|rownames?|names?|labels?|nodes?|areas?|regions?|rois?|parcels?)?"
)


def split_names(rows: list[list[str]], header: bool | None) -> tuple[list[str] | None, list[list[str]], list[str]]:
    """Column names, if there are any, the cells of the matrix, and notes on what was done.

    Where rows and columns have the same names in another order, the cells are put in the order of the rows. Rows that
    are only numbered (R, pandas) have the names of the columns and the other way round. Names that R has changed to be
    valid (``CM-1`` to ``CM.1``) are the same names.

    Args:
        rows: the table; the first row may be one cell shorter.
        header: whether there are names; None to tell by the shape and by what the cells hold.

    Raises:
        ValueError: for a table that is not square, names that do not agree or occur twice, and cells that may be names
            or numbers.
    """
    if len(rows) > 1 and len(rows[0]) == len(rows[1]) - 1:
        if header is False:
            raise ValueError("header=False, but the first row has one cell fewer than the others: it holds names")
        return _both_named(_with_whole_names([["", *rows[0]], *rows[1:]]))
    rows = _with_whole_names(rows)
    height, width = len(rows), len(rows[0])
    if height == width:
        return _both_named(rows) if _has_names(rows, header) else (None, rows, [])
    across, down = rows[0], [row[0] for row in rows]
    # Words in the other direction too are names there: then what is too much is an empty row or column at the end.
    named_across, named_down = header or _has_words(across), header or _has_words(down)
    if height == width + 1 and header is not False and named_across and all(across) and not _has_words(down[1:]):
        return _unique(across), rows[1:], []
    if width == height + 1 and header is not False and named_down and all(down) and not _has_words(across[1:]):
        return _unique(down), [row[1:] for row in rows], []
    if not any(row[-1] for row in rows) and width > 2:  # every row ends with a separator
        return split_names([row[:-1] for row in rows], header)
    if not any(rows[-1]) and height > 2:  # a spreadsheet's empty row
        return split_names(rows[:-1], header)
    raise ValueError(
        f"an adjacency matrix is square, this table has {height} rows and {width} columns (header=True if names are "
        "numbers; a list of edges has columns called source and target)"
    )


def _with_whole_names(rows: list[list[str]]) -> list[list[str]]:
    """The table with whole numbers in its first row and column without decimals, which are how doubles are written.

    Where they are no names, they are the same numbers still.
    """
    border = [*rows[0][1:], *(row[0] for row in rows[1:])]
    if not any("." in cell for cell in border) or not all(map(_INTEGER.fullmatch, border)):
        return rows
    first, *others = rows
    whole = [cell.partition(".")[0] for cell in first[1:]]
    return [[first[0], *whole], *([row[0].partition(".")[0], *row[1:]] for row in others)]


def is_named_matrix(rows: list[list[str]]) -> bool:
    """Whether the first row and the first column hold the same names."""
    across, down = rows[0][-(len(rows) - 1) :], [row[0] for row in rows[1:]]
    return len(rows) > 2 and len(across) == len(down) == len(set(down)) and set(across) == set(down)


def _has_words(cells: list[str]) -> bool:
    return any(cell and not is_number(cell) for cell in cells)


def _has_names(rows: list[list[str]], header: bool | None) -> bool:
    """Whether a square table has names in its first row and column."""
    corner, across, down = rows[0][0], rows[0][1:], [row[0] for row in rows[1:]]
    if header is not None:
        return header
    if _has_words(across) and is_named_matrix(rows):
        return True
    if corner and is_number(corner):
        if _may_be_numbered(rows):
            raise _names_or_numbers(across[0], f"a corner of {corner}")
        return False
    if corner and _has_words(across) and not _has_words(down) and not _CORNERS.fullmatch(plain_name(corner)):
        raise ValueError(
            f"an adjacency matrix is square, this table has {len(rows) - 1} rows of numbers below {len(rows)} names "
            "(header=True if the first column holds names)"
        )
    if corner or _has_words(across) or _has_words(down):
        return True
    numbered = [count_rows(cells) for cells in (across, down)]
    if all(numbered) and across == down:
        return True  # as pandas writes what has no names
    integers = all(_INTEGER.fullmatch(cell) for cell in across + down)
    if not integers or len(set(across)) < len(across) or len(set(down)) < len(down):
        return False
    same = set(across) == set(down)
    if same and any(rows[i][i] for i in range(1, len(rows))):
        return True  # the corner alone is empty
    if same or all(rows[i][i] for i in range(1, len(rows))):
        raise _names_or_numbers(across[0], "an empty corner")
    return False


def _names_or_numbers(name: str, corner: str) -> ValueError:
    return ValueError(f"{name!r} and so on, beside {corner}, may be names or numbers: say header=True or header=False")


def _may_be_numbered(rows: list[list[str]]) -> bool:
    """Whether a square table of numbers looks like a matrix in a border of numbers, as MATLAB writes ``[0 k; k' W]``.

    Those grow, are the same in both directions, and larger than any number within.
    """
    across, down = rows[0][1:], [row[0] for row in rows[1:]]
    numbers = [x or 0.0 for x in parse_numbers((cell for row in rows for cell in row), ";")]
    border = numbers[1 : len(rows)]
    within = [x for i in range(1, len(rows)) for x in numbers[i * len(rows) + 1 : (i + 1) * len(rows)] if x == x]
    return (
        len(across) > 2
        and across == down
        and (numbers[0] == 0 or numbers[0] != numbers[0])
        and all(map(_INTEGER.fullmatch, across))
        and all(low < high for low, high in itertools.pairwise([max([0.0, *within]), *border]))
    )


def _both_named(rows: list[list[str]]) -> tuple[list[str], list[list[str]], list[str]]:
    across, down = rows[0][1:], [row[0] for row in rows[1:]]
    body = [row[1:] for row in rows[1:]]
    if len(across) != len(down):
        raise ValueError(f"an adjacency matrix is square, this table names {len(down)} rows and {len(across)} columns")
    for spell in (str, _r_name):
        place = {name: i for i, name in enumerate(across)}
        order = [place[spell(name)] for name in down if spell(name) in place]
        if len(set(order)) == len(order) == len(down):
            notes = [] if order == sorted(order) else ["rows and columns are in different orders: joined by name"]
            return down, [[row[i] for i in order] for row in body], notes
    if count_rows(down) or count_rows(across):
        return _unique(across if count_rows(down) else down), body, []
    _unique(across), _unique(down)
    odd = next((name for name in down if name not in across), down[0])
    other = next((name for name in across if name not in down), across[0])
    raise ValueError(
        f"rows and columns must have the same names, but {odd!r} is only a row and {other!r} only a column (if one of "
        "the two says nothing, leave it out; a list of edges has columns called source and target)"
    )


def _r_name(name: str) -> str:
    """What ``make.names`` of R makes of a name."""
    name = re.sub(r"[^\w.]", ".", name)
    return name if re.match(r"([^\W\d_]|\.(?!\d))", name) else f"X{name}"


def _unique(names: list[str]) -> list[str]:
    check_unique(names, "the name")
    return names
