"""Names of areas: from files, and which names of two programs mean the same area."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import numpy as np

from colgraph.geometry.readers.files import check_unique, naming, open_source
from colgraph.geometry.readers.matrices.numpy_files import load_arrays
from colgraph.text import is_number, parse_numbers, parse_table, plain_name

_SIDES = {"lh": 0, "l": 0, "left": 0, "rh": 1, "r": 1, "right": 1}
_IDLE = {"ctx", "cortex", "hemi", "roi", "label"}
_HEADS = {"name", "names", "label", "labels", "region", "regions", "area", "areas", "roi", "rois", "parcel", "parcels"}
_CODES = re.compile(r"(.*(id|idx|index|code|key|label|number|value|intensity))|nr|no|roi|parcel|area|region")
_NO_CODES = re.compile(r".*[xyz]|[rgba]|red|green|blue|alpha|transparency")
_NAMES = re.compile(r".*(name|label|region|area|roi|parcel)s?")
SIDE_NAMES = ("left", "right")


def side_of(name: str) -> int | None:
    """Which hemisphere a name speaks of: 0 (``LH``, ``L``, ``left``), 1 (``RH``, ...), or None."""
    sides = {_SIDES[word] for word in _words(name) if word in _SIDES}
    return sides.pop() if len(sides) == 1 and _rest(name) else None


def base_of(name: str) -> str:
    """A name without its hemisphere, and what programs put around it: ``ctx-lh-cuneus``, ``L_cuneus_ROI``."""
    return _rest(name) or "".join(_words(name)) or name


def _rest(name: str) -> str:
    return "".join(word for word in _words(name) if word not in _SIDES and word not in _IDLE)


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]


def read_area_names(path: str | os.PathLike[str]) -> tuple[list[str], list[int] | None]:
    """Names of areas in order, and the code of each where the file says so.

    Text: names in one row or in one column, perhaps below a header; or rows with a code and a name, such as a lookup
    table of FreeSurfer's, where a header says which columns these are. ``.npy``: names.

    Raises:
        ValueError: one line that names the file, for a file without names, or with one twice.
    """
    source = open_source(path)
    with naming(source):
        if source.suffix == "npy":
            array = next(iter(load_arrays(source, "names").values()))
            if array.dtype.kind != "U" or array.ndim != 1:
                raise ValueError(f"names are a list of texts, this array is {array.dtype} of shape {list(array.shape)}")
            names, codes = [str(name) for name in array], None
        else:
            names, codes = _of_rows(parse_table(source.text, comments="#%", ragged=True).rows)
        check_unique(names, "the name")
        check_unique(codes or (), "the code")
    return names, codes


def _of_rows(rows: Sequence[Sequence[str]]) -> tuple[list[str], list[int] | None]:
    rows = [row for row in rows if any(row)]
    even = len(rows) > 1 and {len(row) for row in rows} == {max(3, len(rows[0]))}
    if even and not any(map(is_number, rows[0])) and any(map(is_number, rows[1])):
        return _of_columns(rows[0], rows[1:])
    cells = [[cell for cell in row if cell] for row in rows]
    if len(cells) == 1 or all(len(row) == 1 for row in cells):
        names = [cell for row in cells for cell in row]
        return (names[1:] if len(names) > 1 and names[0].lower() in _HEADS else names), None
    if len(cells) > 1 and not any(map(is_number, cells[0])):
        cells = cells[1:]  # a header
    codes, names = [], []
    for row in cells:
        numbers = parse_numbers(row)
        code = next((n for n in numbers if n is not None and n == np.floor(n)), None)
        words = [cell for cell, number in zip(row, numbers, strict=True) if number is None]
        if code is None or not words:
            raise ValueError(f"each row must have a code and a name, but one is {' '.join(row)!r}")
        codes.append(int(code))
        names.append(words[0])
    return names, codes


def _of_columns(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list[str], list[int] | None]:
    """The same of three columns or more below a header: by their names, else the first that there are."""
    columns = list(zip(*rows, strict=True))
    numbers = [parse_numbers(column) for column in columns]
    called = [plain_name(head) for head in heads]
    words = [i for i, found in enumerate(numbers) if None in found and all(columns[i])]
    whole = [i for i, found in enumerate(numbers) if all(x is not None and x == np.floor(x) for x in found)]
    if not words:
        raise ValueError(f"none of the columns {', '.join(heads)} holds a name in each row")
    names = next((i for i in words if _NAMES.fullmatch(called[i])), words[0])
    other = [i for i in whole if not _NO_CODES.fullmatch(called[i])]
    codes = [i for i in whole if _CODES.fullmatch(called[i])] or other
    return list(columns[names]), [int(x) for x in numbers[codes[0]] if x is not None] if codes else None
