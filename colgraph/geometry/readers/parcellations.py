"""Parcellations: which area of the cortex each vertex of a surface is in, from the files they are published in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.geometry.readers.files import Source, naming, open_source
from colgraph.geometry.readers.surface_labels import (
    ARRAYS,
    TEXTS,
    beside_numbers,
    is_no_parcel,
    one_array,
    one_each,
    read_annot_labels,
    read_gifti_labels,
)
from colgraph.hints import closest
from colgraph.text import is_number, parse_numbers, parse_table

NO_AREA = -1


@dataclass(frozen=True, eq=False)
class Parcellation:
    """A code for each vertex.

    Attributes:
        code: ``[V]`` int64; ``NO_AREA`` where a vertex is in none.
        names: the name of each code, or None where the file holds codes alone.
        path: the file.
    """

    code: NDArray[np.int64]
    names: dict[int, str] | None
    path: str


def read_parcellation(path: str | os.PathLike[str]) -> Parcellation:
    """One code a vertex, and the names of the codes where the file has them.

    * FreeSurfer's ``.annot`` and GIFTI labels (``.label.gii``): with names; ``???``, unknown, medial wall and the like,
      in any spelling, are no area.
    * GIFTI data, ``.npy``, ``.npz``, ``.mat`` (one array, or one called ``parcellation``), ``.txt``, ``.csv`` and
      ``.tsv``: whole numbers, one a vertex, 0, -1 and NaN for no area; or names, one a vertex, in text and ``.npy``.

    Raises:
        ValueError: one line that names the file, for a file that is broken, or has no such numbers, or no area.
        ImportError: if nibabel is needed and not installed.
    """
    source = open_source(path)
    if source.suffix not in _READERS:
        volume = ": a volume or CIFTI has no value per vertex of one surface" if source.suffix == "nii" else ""
        raise ValueError(
            f"{str(source.path)!r} has the unknown suffix {source.suffix!r} for a parcellation{volume}"
            f"{closest(source.suffix, tuple(_READERS))} (and .gz of each)"
        )
    with naming(source):
        code, names = _READERS[source.suffix](source)
        if not (code != NO_AREA).any():
            raise ValueError(f"none of its {code.size:,} vertices is in an area")
    return Parcellation(code, names, str(source.path))


Labels = tuple[NDArray[np.int64], dict[int, str] | None]


def _named(values: NDArray[Any], table: dict[int, str]) -> Labels:
    """Codes where they have the name of an area, 0 too."""
    names = {key: name.strip() for key, name in table.items() if not is_no_parcel(name)}
    whole = _numbers(values)
    if NO_AREA in names and (whole == NO_AREA).any():
        raise ValueError(f"the label {names[NO_AREA]!r} has the key {NO_AREA}, which means no area: give it another")
    return np.where(np.isin(whole, list(names)), whole, NO_AREA), names


def _whole(values: NDArray[Any]) -> NDArray[np.int64]:
    """Codes ``[V]``: 0, -1 and NaN are no area."""
    code = _numbers(values)
    return np.where(code == 0, NO_AREA, code)


def _numbers(values: NDArray[Any]) -> NDArray[np.int64]:
    """Numbers ``[V]`` of labels from 0 on, -1 for none, 0 for NaN."""
    flat = one_each(values, "a parcellation has one code per vertex")
    if flat.dtype.kind not in "iuf":
        raise ValueError(f"a parcellation holds whole numbers, this one {flat.dtype}")
    filled = np.where(np.isnan(flat), 0, flat) if flat.dtype.kind == "f" else flat
    odd = np.flatnonzero((filled != np.floor(filled)) | (filled < -1) | (filled > 2**53))
    if odd.size:
        raise ValueError(f"a parcellation holds whole numbers from 0 (no area), but vertex {odd[0]} has {flat[odd[0]]}")
    return filled.astype(np.int64)


def _words(words: list[str]) -> Labels:
    """Codes for a name per vertex."""
    names = [name for name in dict.fromkeys(words) if not is_no_parcel(name)]
    number = {name: k for k, name in enumerate(names, 1)}
    return np.array([number.get(word, NO_AREA) for word in words], dtype=np.int64), {k: n for n, k in number.items()}


def _read_array(source: Source) -> Labels:
    values = one_array(source, "parcellation")
    if values.dtype.kind == "U":
        return _words([str(word).strip() for word in values.reshape(-1)])
    return _whole(values), None


def _read_text(source: Source) -> Labels:
    """One code, or one name, a vertex; or rows of a vertex's number and its code, which are joined by that number."""
    table = parse_table(source.text, comments="#%", ragged=True)
    rows = [[cell for cell in row if cell] for row in table.rows]
    if len(rows) > 2 and not any(map(is_number, rows[0])) and any(map(is_number, rows[1])):
        rows = rows[1:]  # a header
    if len(rows) > 1 and {len(row) for row in rows} == {2}:
        rows = [beside_numbers(rows, table.separator)]
    elif len(rows) > 1 and {len(row) for row in rows} != {1}:
        raise ValueError(f"rows have {max(map(len, rows))} cells: a parcellation has one code per vertex")
    cells = [cell for row in rows for cell in row]
    numbers = parse_numbers(cells, table.separator)
    if None not in numbers:
        return _whole(np.array(numbers, dtype=np.float64)), None
    if sum(number is not None and number == number for number in numbers) > len(numbers) / 2:
        at = numbers.index(None)
        raise ValueError(f"a parcellation holds codes or names, but vertex {at} has {cells[at]!r} among numbers")
    return _words(cells)


def _read_gifti(source: Source) -> Labels:
    values, table = read_gifti_labels(source, "a parcellation")
    return (_whole(values), None) if not table else _named(values, table)


def _read_annot(source: Source) -> Labels:
    codes, table = read_annot_labels(source, apart=True)
    table.pop(0, None)  # the code of vertices that nothing was drawn on
    return _named(codes, table)


_READERS = {
    "annot": _read_annot,
    "gii": _read_gifti,
    **dict.fromkeys(ARRAYS, _read_array),
    **dict.fromkeys(TEXTS, _read_text),
}
