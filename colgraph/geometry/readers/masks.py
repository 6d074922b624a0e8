"""Which columns to keep, from the label and mask files that come with cortical surfaces."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.geometry.readers.files import Source, naming, open_source, optional, parsing
from colgraph.geometry.readers.surface_labels import (
    ARRAYS,
    TEXTS,
    beside_numbers,
    is_no_parcel,
    is_wall,
    one_array,
    one_each,
    read_annot_labels,
    read_gifti_labels,
)
from colgraph.hints import closest
from colgraph.text import is_number, parse_numbers, parse_table


def read_mask(path: str | os.PathLike[str], num_columns: int) -> NDArray[np.bool_]:
    """Which columns to keep.

    * ``.npy``, ``.npz``, ``.mat``, ``.txt``, ``.csv``, ``.tsv``: one boolean (or 0 or 1) per column; 1 is kept. Text
      may have the numbers of the columns, from 0 or from 1, before the values.
    * GIFTI shape or functional data (``.shape.gii``, ``.func.gii``): columns whose value is not 0 (nor NaN) are kept.
    * GIFTI labels (``.label.gii``) and FreeSurfer annotations (``.annot``): columns labeled as no parcel (``???``,
      unknown, background, medial wall, corpus callosum, in any spelling) are dropped, and those without a label. If
      only the medial wall and the rest have labels, the wall is dropped. If no label tells, key 0 of GIFTI is dropped.
    * FreeSurfer ``.label`` (``lh.cortex.label``): the columns it lists are kept.

    Args:
        path: the file, perhaps with ``.gz``.
        num_columns: N, how many columns there are to choose from.

    Returns:
        ``[N]`` boolean.

    Raises:
        ValueError: one line that names the file, for a file that is broken or has another length, or a mask that keeps
            nothing.
        ImportError: if nibabel is needed and not installed.
    """
    source = open_source(path)
    reader = _READERS.get(source.suffix)
    if reader is None and source.suffix == "nii":
        raise ValueError(
            f"{str(source.path)!r} is a volume or CIFTI: a mask has one value per vertex of one surface, as in a "
            ".label.gii file (of CIFTI: wb_command -cifti-separate)"
        )
    if reader is None:
        raise ValueError(
            f"{str(source.path)!r} has the unknown suffix {source.suffix!r} for a mask"
            f"{closest(source.suffix, MASK_SUFFIXES)} (and .gz of each)"
        )
    with naming(source):
        keep = reader(source, num_columns)
        if keep.shape != (num_columns,):
            raise ValueError(f"the mask is for {keep.size} columns, but there are {num_columns}")
        if not keep.any():
            raise ValueError(f"the mask keeps none of the {num_columns} columns")
    return keep


# ---------------------------------------------------------------------- plain arrays


def _flags(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Booleans from an array of booleans or of zeros and ones."""
    flat = one_each(values, "a mask has one value per column")
    if flat.dtype == np.bool_:
        return flat
    if flat.dtype.kind not in "iuf":
        raise ValueError(f"a mask holds booleans or zeros and ones, this one {flat.dtype}")
    other = np.flatnonzero((flat != 0) & (flat != 1))
    if other.size:
        raise ValueError(f"a mask holds zeros and ones, but entry {other[0]} is {flat[other[0]]}")
    return flat.astype(np.bool_)


def _read_array(source: Source, num_columns: int) -> NDArray[np.bool_]:
    return _flags(one_array(source, "mask"))


def _read_text(source: Source, num_columns: int) -> NDArray[np.bool_]:
    """One value per column, or rows of a column's number and its value, which are joined by that number."""
    table = parse_table(source.text, comments="#%", ragged=True)
    rows = table.rows
    if len(rows) > 1 and (not rows[0][0] or any(_flag(cell) is None and not is_number(cell) for cell in rows[0])):
        rows = rows[1:]  # a header
    rows = [[cell for cell in row if cell] for row in rows]
    widths = {len(row) for row in rows}
    if len(rows) == num_columns > 1 and widths != {1}:
        if widths != {2}:
            raise ValueError(
                f"rows have {max(widths)} cells: a mask has one value per column, or a column's number and its value"
            )
        rows = [beside_numbers(rows, table.separator)]
    return np.array(_text_flags([cell for row in rows for cell in row], table.separator), dtype=np.bool_)


def _flag(cell: str) -> bool | None:
    return {"true": True, "t": True, "yes": True, "false": False, "f": False, "no": False}.get(cell.lower())


def _text_flags(cells: list[str], separator: str) -> list[bool]:
    """Flags from words and from numbers in any spelling (``1``, ``1.0``, ``1.000e+00``, ``1,0``)."""
    words = [_flag(cell) for cell in cells]
    numbers = parse_numbers(cells, separator)
    for i, (word, number) in enumerate(zip(words, numbers, strict=True)):
        if word is None and number not in (0, 1):
            raise ValueError(f"a mask holds 0 and 1, or true and false, but entry {i} is {cells[i]!r}")
    return [number == 1 if word is None else word for word, number in zip(words, numbers, strict=True)]


# ---------------------------------------------------------------------- labels of surfaces


def _labeled(values: NDArray[Any], labels: Mapping[int, str]) -> NDArray[np.bool_]:
    """Where columns have the label of a parcel; if none has, where they have another than that of the medial wall."""
    occurring = set(np.unique(values).tolist()) & set(labels)
    parcels = [key for key in occurring if not is_no_parcel(labels[key])]
    return np.isin(values, parcels or [key for key in occurring if not is_wall(labels[key])])


def _read_gifti(source: Source, num_columns: int) -> NDArray[np.bool_]:
    values, table = read_gifti_labels(source, "a mask")
    if table is None:
        return np.nan_to_num(values.astype(np.float64), nan=0.0) != 0
    return _labeled(values, table) if table else values != 0


def _read_annot(source: Source, num_columns: int) -> NDArray[np.bool_]:
    codes, labels = read_annot_labels(source)
    return _labeled(codes, labels) & (codes != 0)


def _read_label(source: Source, num_columns: int) -> NDArray[np.bool_]:
    freesurfer = optional("nibabel.freesurfer", "mesh")
    with parsing("a FreeSurfer label"):
        expected = int(source.text.splitlines()[1])
        if expected == 0:
            raise ValueError("it lists no vertex")
        with source.on_disk() as path:
            vertices = np.atleast_1d(freesurfer.read_label(path))
    if len(vertices) != expected:
        raise ValueError(f"cut short: it promises {expected} vertices and lists {len(vertices)}")
    if vertices.min() < 0 or vertices.max() >= num_columns:
        raise ValueError(f"it lists vertex {max(vertices.max(), -vertices.min())}, but there are {num_columns} columns")
    keep = np.zeros(num_columns, dtype=np.bool_)
    keep[vertices] = True
    return keep


_READERS: dict[str, Callable[[Source, int], NDArray[np.bool_]]] = {
    **dict.fromkeys(ARRAYS, _read_array),
    **dict.fromkeys(TEXTS, _read_text),
    "gii": _read_gifti,
    "annot": _read_annot,
    "label": _read_label,
}
MASK_SUFFIXES = tuple(_READERS)
