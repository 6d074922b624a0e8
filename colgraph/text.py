"""Text and tables that other programs write: spreadsheets, R, MATLAB, pandas, numpy, on any system.

The quoting is the ``csv`` module's. Its ``Sniffer`` is not used: it takes letters for separators and fails on columns
that are aligned by blanks. pandas is not used: it is no dependency of the core, and it turns cells into numbers before
anybody knows which of them are names.
"""

from __future__ import annotations

import codecs
import csv
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# UTF-32 before UTF-16, whose mark it begins with.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SEPARATORS = "\t;,| "
_NAMES = {"\t": "tabs", ";": "semicolons", ",": "commas", "|": "bars", " ": "blanks"}
_NUMBER = re.compile(r"([-+]?)([\d.,]*\d[\d.,]*)([ed][-+]?\d+)?")
_DECIMAL = re.compile(r"[-+]?\d*,\d+([ed][-+]?\d+)?")
_GROUPED = re.compile(r"\d{1,3}(\D\d{3})+")
_MISSING = {"nan", "na", "n/a", "#n/a", "<na>", "null", "none"}
_INFINITE = {"inf", "infinity"}


# ---------------------------------------------------------------------- characters


def decode_text(data: bytes) -> str:
    """The characters of a text file, with every end of line as ``"\\n"`` and without a byte order mark.

    A byte order mark tells UTF-8, UTF-16 or UTF-32; without one it is UTF-8, UTF-16 where every other byte is zero, and
    else Windows' Latin-1 (cp1252), or Mac Roman in files with the old Mac's ends of lines.

    Raises:
        ValueError: for bytes that are no text.
    """
    text = _decode(data)
    if "\0" in text:
        raise ValueError("it holds zero bytes: a binary file, not text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _decode(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                return data[len(mark) :].decode(encoding)
            except UnicodeDecodeError as error:
                raise ValueError(f"its first bytes promise {encoding}, but it is cut short or broken") from error
    head = data[:4096]
    if len(data) % 2 == 0 and b"\0" in head:
        for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
            zeros, others = head[start::2].count(0), head[1 - start :: 2].count(0)
            if not others and 2 * zeros > len(head[start::2]):
                return data.decode(encoding, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    if b"\r" in data and b"\n" not in data and _count(data, 0x80, 0xA0) > _count(data, 0xC0, 0x100):
        return data.decode("mac_roman")  # what Excel calls CSV (Macintosh)
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _count(data: bytes, start: int, stop: int) -> int:
    """How many bytes lie in ``start .. stop - 1``: there are the letters of Mac Roman, or those of Latin-1."""
    return sum(start <= byte < stop for byte in data)


def read_text(path: str | os.PathLike[str]) -> str:
    """:func:`decode_text` of a file.

    Raises:
        ValueError: one line that names the file, if it cannot be read or is no text.
    """
    try:
        return decode_text(Path(path).read_bytes())
    except FileNotFoundError:
        raise ValueError(f"there is no file {os.fspath(path)!r}") from None
    except OSError as error:
        raise ValueError(f"cannot read {os.fspath(path)!r}: {error.strerror or error}") from error
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)!r}: {error}") from error


# ---------------------------------------------------------------------- tables


@dataclass(frozen=True)
class Table:
    """The cells of a table.

    Attributes:
        rows: the rows, a header among them; cells are stripped of blanks and quotes, empty ones are "".
        separator: what stands between cells: a tab, ``;``, ``,``, ``|`` or a blank (for any number of blanks).
        comments: the lines that are no rows, without the mark that says so.
    """

    rows: list[list[str]]
    separator: str
    comments: tuple[str, ...] = ()

    @property
    def heads(self) -> list[str]:
        """The first row, with an empty cell where R leaves out that above the row names."""
        first, *others = self.rows
        return ["", *first] if others and len(first) == len(others[0]) - 1 else first


def read_table(path: str | os.PathLike[str], *, separators: str = _SEPARATORS, comments: str = "#") -> Table:
    """:func:`parse_table` of a file.

    Raises:
        ValueError: one line that names the file.
    """
    text = read_text(path)
    try:
        return parse_table(text, separators=separators, comments=comments)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)!r}: {error}") from error


def parse_table(text: str, *, separators: str = _SEPARATORS, comments: str = "#", ragged: bool = False) -> Table:
    """The cells of a table, whatever separates them.

    The separator is the first that cuts all rows into the same number of cells, more than one; a first row with one
    cell fewer is a header without a corner, as R writes it. Excel's line ``sep=;`` is followed. A separator at the end
    of every row but the header is none. Between numbers that blanks separate, commas are decimal.

    Args:
        text: what :func:`decode_text` gives.
        separators: those to try, in this order; a blank stands for any number of blanks and tabs. Without a blank,
            names of several words stay whole.
        comments: the marks that start a line that is no row.
        ragged: whether rows may have different numbers of cells.

    Raises:
        ValueError: for no rows, quotes that do not close, rows of different lengths, naming the row, and commas that
            may be decimal or between cells.
    """
    lines = [line.strip(" ") for line in text.split("\n") if line.strip(" ")]
    is_note = [line.startswith(tuple(comments)) and not line.startswith("#N/A") for line in lines]
    noted = tuple(line.lstrip(comments).strip() for line, note in zip(lines, is_note, strict=True) if note)
    lines = [line for line, note in zip(lines, is_note, strict=True) if not note]
    told = re.fullmatch(r'"?sep=(.)"?', lines[0], re.IGNORECASE) if lines else None
    lines, separators = (lines[1:], told[1]) if told else (lines, separators)
    if not lines:
        raise ValueError("it has no rows")
    cut: dict[str, list[list[str]]] = {}
    broken: csv.Error | None = None
    for mark in separators:
        if any(mark in line or (mark == " " and "\t" in line) for line in lines):
            try:
                cut[mark] = _split(lines, mark)
            except csv.Error as error:
                broken = error
    even = [mark for mark, rows in cut.items() if len(rows[-1]) > 1 and _first_odd(rows) is None]
    if even[:1] == [","] and " " in even and _are_decimal(cut[","], cut[" "]):
        even = [" "]
    if even:
        return Table(cut[even[0]], even[0], noted)
    if not ragged:
        cut.pop(" ", None)  # words in the cells of one column
    if not cut and broken is not None:
        raise ValueError(f"its quotes are broken: {broken}")
    if not cut:
        return Table(_split(lines, ","), ",", noted)
    likely = max(cut, key=lambda mark: max(n * (w > 1) for w, n in Counter(map(len, cut[mark])).items()))
    rows = cut[likely]
    odd = _first_odd(rows)
    if odd is not None and not ragged:
        raise ValueError(
            f"row {odd + 1} has {len(rows[odd])} cells, row 1 has {len(rows[0])}"
            f" (separated by {_NAMES.get(likely, repr(likely))})"
        )
    return Table(rows, likely, noted)


def _split(lines: Sequence[str], separator: str) -> list[list[str]]:
    if separator == " ":
        lines = [line.replace("\t", " ").strip() for line in lines]
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=separator, skipinitialspace=True, strict=True)
    rows = [[cell.strip() for cell in row] for row in reader]
    if all(len(row) == len(rows[0]) + 1 and not row[-1] for row in rows[1:]):
        rows[1:] = [row[:-1] for row in rows[1:]]
    return rows


def _are_decimal(by_commas: list[list[str]], by_blanks: list[list[str]]) -> bool:
    """Whether the commas of a table that blanks cut evenly, too, stand in its numbers: ``0 1,5`` and ``2,5 0``.

    Raises:
        ValueError: where words end with the number before a comma, which may be cells or a name: ``a b 1,5``.
    """
    if not all(_DECIMAL.fullmatch(_plain(cell)) for row in by_blanks for cell in row if "," in cell):
        return False
    several = [cell for row in by_commas for cell in row if " " in cell]
    numbers = any(all(map(is_number, cell.split())) for cell in several)
    if several and not numbers and len(by_blanks[-1]) > 2:
        raise ValueError(
            f"{' '.join(by_blanks[-1])!r} may have a decimal comma, or two cells with a comma between them: write "
            "decimal points, or put semicolons between cells"
        )
    return numbers


def _first_odd(rows: list[list[str]]) -> int | None:
    """The first row that has not as many cells as the others; the first may have one fewer, of three or more."""
    width = len(rows[-1])
    if len(rows) > 1 and width > 2 and len(rows[0]) == width - 1 and all(len(row) == width for row in rows[1:]):
        return None
    return next((i for i, row in enumerate(rows) if len(row) != len(rows[0])), None)


def commented_names(table: Table, size: int, *, may_lack: bool = False) -> list[str] | None:
    """A comment with a name for each column, as ``numpy.savetxt(header=...)`` writes it.

    With ``may_lack``, one of them may be empty.
    """
    for comment in filter(None, table.comments):
        words = parse_table(comment, separators=table.separator, comments="").rows[0]
        if len(words) == len(set(words)) == size and not any(map(is_number, words)) and (may_lack or all(words)):
            return words
    return None


# ---------------------------------------------------------------------- numbers


def plain_name(name: str) -> str:
    """A name without capitals, blanks and marks."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def natural_key(name: str) -> tuple[Any, ...]:
    """A key that sorts ``stim_2`` before ``stim_10``, capitals beside small letters."""
    parts = re.split(r"(\d+)", name)
    return ([int(part) if i % 2 else part.casefold() for i, part in enumerate(parts)], name)


def count_rows(cells: Sequence[str]) -> bool:
    """Whether cells do nothing but count: 0, 1, 2, ... or 1, 2, 3, ..."""
    return any(list(cells) == [str(i + start) for i in range(len(cells))] for start in (0, 1))


def is_number(cell: str) -> bool:
    """Whether a cell holds a number, with a decimal point or comma, or says that one is missing (``NaN``, ``NA``)."""
    return _kind(cell) is not None


def parse_numbers(cells: Iterable[str], separator: str = ",") -> list[float | None]:
    """Numbers from cells that were written in one style: decimal points or commas, perhaps with thousands grouped.

    Args:
        cells: the text of the cells that should be numbers, all of one table.
        separator: what separates the table; semicolons stand where commas are decimal.

    Returns:
        A number per cell; NaN for ``NaN``, ``NA`` and the like, None for what is no number (an empty cell, a word).

    Raises:
        ValueError: if cells contradict each other, or ``1,234`` can be two numbers, naming the cells.
    """
    cells = [_plain(cell) for cell in cells]
    if not any("," in cell or "_" in cell for cell in cells):
        try:
            return [float(cell) for cell in cells]  # most tables: plain numbers
        except ValueError:
            pass
    first: dict[str, str] = {}
    for cell in cells:
        first.setdefault(_kind(cell) or "", cell)
    if "," in first and "." in first:
        raise ValueError(f"{first[',']!r} has a decimal comma and {first['.']!r} a decimal point: write one kind")
    if "?," in first and not ("," in first or "." in first or (separator == ";" and "?." not in first)):
        raise ValueError(f"{first['?,']!r} may be a decimal comma or thousands: write decimal points and no thousands")
    comma = "," in first or ("?," in first and "." not in first)
    return [_value(cell, comma) for cell in cells]


def _plain(cell: str) -> str:
    return cell.strip().lower().replace("\N{MINUS SIGN}", "-")


def _kind(cell: str) -> str | None:
    """What a cell says of its decimal mark: "," or ".", "?," or "?." where it may group thousands, "" for no mark.

    None for what is no number.
    """
    cell = _plain(cell)
    if cell in _MISSING or cell.lstrip("+-") in _INFINITE:
        return ""
    match = _NUMBER.fullmatch(cell)
    if not match:
        return None
    digits = match[2]
    marks = [mark for mark in digits if mark in ",."]
    if not marks:
        return ""
    if len(marks) == 1:
        return ("?" if _GROUPED.fullmatch(digits) and digits[0] != "0" and not match[3] else "") + marks[0]
    whole = digits if len(set(marks)) == 1 else digits[: digits.rindex(marks[-1])]
    if len({mark for mark in whole if mark in ",."}) != 1 or not _GROUPED.fullmatch(whole):
        return None
    return "." if "," in whole else ","


def _value(cell: str, comma: bool) -> float | None:
    match = _NUMBER.fullmatch(cell)
    if _kind(cell) is None or match is None:
        return math.nan if cell in _MISSING else float(cell) if cell.lstrip("+-") in _INFINITE else None
    sign, digits, exponent = match.groups(default="")
    decimal, grouping = (",", ".") if comma else (".", ",")
    return float(sign + digits.replace(grouping, "").replace(decimal, ".") + exponent.replace("d", "e"))
