"""Which columns to keep, from the label and mask files that come with cortical surfaces."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.geometry.base import closest
from colgraph.geometry.readers.files import Source, one_line, open_source, optional, parsing
from colgraph.geometry.readers.surface import load_gifti

__all__ = ["MASK_SUFFIXES", "read_mask"]

_SURFACE_INTENTS = ("NIFTI_INTENT_POINTSET", "NIFTI_INTENT_TRIANGLE")


def read_mask(path: str | os.PathLike[str], num_columns: int) -> NDArray[np.bool_]:
    """Which columns to keep.

    * ``.npy``, ``.npz``, ``.txt``, ``.csv``, ``.tsv``: one boolean (or 0 or 1) per column; 1 is kept.
    * GIFTI shape or functional data (``.shape.gii``, ``.func.gii``): columns whose value is not 0 (nor NaN) are kept.
    * GIFTI labels (``.label.gii``) and FreeSurfer annotations (``.annot``): columns labelled as medial wall, unknown
      or corpus callosum are dropped and all others kept, if there are such labels; otherwise columns with key 0 are
      dropped. Columns to which an annotation gives no label are dropped always.
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
    if reader is None:
        raise ValueError(
            f"{str(source.path)!r} has the unknown suffix {source.suffix!r} for a mask"
            f"{closest(source.suffix, MASK_SUFFIXES)} (and .gz of each)"
        )
    try:
        keep = reader(source, num_columns)
        if keep.shape != (num_columns,):
            raise ValueError(f"the mask is for {keep.size} columns, but there are {num_columns}")
        if not keep.any():
            raise ValueError(f"the mask keeps none of the {num_columns} columns")
    except ImportError:
        raise
    except Exception as error:
        raise ValueError(f"{str(source.path)!r}: {one_line(error)}") from error
    return keep


# ---------------------------------------------------------------------- plain arrays


def _flags(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Booleans from an array of booleans or of zeros and ones."""
    flat = values.reshape(-1)
    if values.ndim != 1 and flat.size != max(values.shape, default=0):
        raise ValueError(f"a mask has one value per column, this array has shape {list(values.shape)}")
    if flat.dtype == np.bool_:
        return flat
    if flat.dtype.kind not in "iuf":
        raise ValueError(f"a mask holds booleans or zeros and ones, this one {flat.dtype}")
    other = np.flatnonzero((flat != 0) & (flat != 1))
    if other.size:
        raise ValueError(f"a mask holds zeros and ones, but entry {other[0]} is {flat[other[0]]}")
    return flat.astype(np.bool_)


def _read_numpy(source: Source, num_columns: int) -> NDArray[np.bool_]:
    with parsing("a numpy file of plain arrays"):
        loaded = np.load(io.BytesIO(source.data), allow_pickle=False)
        arrays = {"mask": loaded} if isinstance(loaded, np.ndarray) else {key: loaded[key] for key in loaded.files}
    if "mask" not in arrays and len(arrays) != 1:
        raise ValueError(f"needs an array called 'mask', or one array alone; it holds {', '.join(arrays) or 'none'}")
    return _flags(np.asarray(arrays.get("mask", next(iter(arrays.values())))))


def _read_text(source: Source, num_columns: int) -> NDArray[np.bool_]:
    words = [word for word in re.split(r"[\s,;]+", source.text) if word]
    meaning = {"1": True, "0": False, "true": True, "false": False, "1.0": True, "0.0": False}
    if len(words) == num_columns + 1 and words[0].lower() not in meaning:
        words = words[1:]  # a header
    for i, word in enumerate(words):
        if word.lower() not in meaning:
            raise ValueError(f"a mask holds 0 and 1, or true and false, but entry {i} is {word!r}")
    return np.array([meaning[word.lower()] for word in words], dtype=np.bool_)


# ---------------------------------------------------------------------- labels of surfaces


def _is_no_cortex(label: str) -> bool:
    """Whether a label says that its columns are not part of the cortex."""
    words = re.split(r"[^a-z0-9]+", label.lower())
    joined = "".join(words)
    return "unknown" in words or "medialwall" in joined or "corpuscallosum" in joined


def _read_gifti(source: Source, num_columns: int) -> NDArray[np.bool_]:
    image = load_gifti(source)
    if any(image.get_arrays_from_intent(intent) for intent in _SURFACE_INTENTS):
        raise ValueError("holds a surface, not a mask: give a .label.gii or .shape.gii file")
    if len(image.darrays) != 1:
        raise ValueError(f"holds {len(image.darrays)} maps: a mask is one map")
    values = np.asarray(image.darrays[0].data).reshape(-1)
    if not image.get_arrays_from_intent("NIFTI_INTENT_LABEL"):
        return np.nan_to_num(values.astype(np.float64), nan=0.0) != 0
    table = image.labeltable.get_labels_as_dict() if image.labeltable is not None else {}
    dropped = [key for key, label in table.items() if _is_no_cortex(label or "")] or [0]
    return ~np.isin(values, dropped)


def _read_annot(source: Source, num_columns: int) -> NDArray[np.bool_]:
    freesurfer = optional("nibabel.freesurfer", "mesh")
    with parsing("a FreeSurfer annotation"), source.on_disk() as path:
        codes, table, names = freesurfer.read_annot(path, orig_ids=True)
    if len(table) != len(names):  # a table with gaps: its empty rows have no name
        table = table[table.any(1)]
    if len(table) != len(names):
        raise ValueError(f"its colour table has {len(table)} entries and {len(names)} names")
    dropped = [
        int(code)
        for code, label in zip(table[:, 4], names, strict=True)
        if _is_no_cortex(label.decode("utf-8", "replace"))
    ]
    return ~np.isin(codes, [0, *dropped])


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
    "npy": _read_numpy,
    "npz": _read_numpy,
    "txt": _read_text,
    "csv": _read_text,
    "tsv": _read_text,
    "gii": _read_gifti,
    "annot": _read_annot,
    "label": _read_label,
}
MASK_SUFFIXES = tuple(_READERS)
