"""One value a vertex of a surface, in arrays, tables and labels (GIFTI, FreeSurfer), and which labels are no parcel."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.geometry.readers.files import Source, optional, parsing
from colgraph.geometry.readers.matrices.matlab import load_mat
from colgraph.geometry.readers.matrices.numpy_files import load_arrays
from colgraph.geometry.readers.meshes.cortical import load_gifti
from colgraph.text import decode_text, parse_numbers, plain_name

ARRAYS, TEXTS = ("npy", "npz", "mat"), ("txt", "csv", "tsv")
"""How files end that hold arrays, and tables of text."""
_SURFACE_INTENTS = ("NIFTI_INTENT_POINTSET", "NIFTI_INTENT_TRIANGLE")

# What FreeSurfer, Connectome Workbench and the makers of parcellations call the columns that belong to no parcel: a
# part of a label, or the whole of it.
_WALL = re.compile(r"med(ial)?wall|corpuscallosum|non?t?cort(ex|ical)")
_NO_PARCEL = re.compile(r"unknown|background|unassigned|notassigned|unclassified|unlabell?ed|nolabel|clearlabel")
_NO_PARCELS = {"", "none", "null", "nan", "empty", "undefined", "mw", "notlabeled", "notlabelled"}


def is_wall(label: str) -> bool:
    """Whether a label is that of the medial wall."""
    return bool(_WALL.search(plain_name(label)))


def is_no_parcel(label: str) -> bool:
    """Whether a label says that its columns belong to no parcel of the cortex, in any spelling."""
    joined = plain_name(label)
    asked = re.search(r"(^|[^a-z0-9?])\?+($|[^a-z0-9?])", label.lower())
    return bool(asked or joined in _NO_PARCELS or _NO_PARCEL.search(joined) or _WALL.search(joined))


def one_array(source: Source, name: str) -> NDArray[Any]:
    """The array of a name, or the only one, of a file of numpy's or MATLAB's."""
    found = load_mat(source) if source.suffix == "mat" else load_arrays(source, name)
    arrays = {key: value for key, value in found.items() if isinstance(value, np.ndarray)}
    if name not in arrays and len(arrays) != 1:
        raise ValueError(f"needs an array called {name!r}, or one array alone; it holds {', '.join(arrays) or 'none'}")
    return np.asarray(arrays.get(name, next(iter(arrays.values()))))


def one_each(values: NDArray[Any], rule: str) -> NDArray[Any]:
    """``[V]`` one value a vertex; a ValueError with the ``rule`` where an array has several."""
    flat = values.reshape(-1)
    if values.ndim != 1 and flat.size != max(values.shape, default=0):
        raise ValueError(f"{rule}, this array has shape {list(values.shape)}")
    return flat


def beside_numbers(rows: list[list[str]], separator: str) -> list[str]:
    """The cells beside the numbers of the vertices, from 0 or from 1, in the order of these."""
    for at in (0, 1):
        keys = np.array(parse_numbers((row[at] for row in rows), separator), dtype=np.float64)
        for start in (0, 1):
            if np.array_equal(np.sort(keys), np.arange(start, len(rows) + start)):
                return [rows[i][1 - at] for i in np.argsort(keys)]
    raise ValueError(f"neither of its two columns has each of the numbers 0 to {len(rows) - 1}, or 1 to {len(rows)}")


def read_gifti_labels(source: Source, what: str) -> tuple[NDArray[Any], dict[int, str] | None]:
    """One number a vertex, and the names of the labels; None for these where the numbers are data and no labels.

    Where no name says which label is none, 0 is, by convention, and has no name.

    Args:
        source: a GIFTI file.
        what: it should be, as messages call it.
    """
    image = load_gifti(source)
    if any(image.get_arrays_from_intent(intent) for intent in _SURFACE_INTENTS):
        raise ValueError(f"holds a surface, not {what}: give a .label.gii or .shape.gii file")
    if len(image.darrays) != 1:
        raise ValueError(f"holds {len(image.darrays)} maps: {what} is one map")
    values = np.asarray(image.darrays[0].data).reshape(-1)
    if not image.get_arrays_from_intent("NIFTI_INTENT_LABEL"):
        return values, None
    # A label without text has no attribute of that name.
    labels = () if image.labeltable is None else image.labeltable.labels
    table = {label.key: getattr(label, "label", None) or "" for label in labels}
    if not any(map(is_no_parcel, table.values())):
        table.pop(0, None)
    return values, table


def read_annot_labels(source: Source, *, apart: bool = False) -> tuple[NDArray[np.int64], dict[int, str]]:
    """One code a vertex of a FreeSurfer annotation, and the names of the codes. 0 is no label.

    Args:
        source: the file.
        apart: whether parcels must be told apart from each other, and not only from what is no parcel.

    Raises:
        ValueError: for a broken file, and for vertices of a color that two labels have: it is all that says which.
    """
    freesurfer = optional("nibabel.freesurfer", "mesh")
    with parsing("a FreeSurfer annotation"), source.on_disk() as path:
        codes, table, names = freesurfer.read_annot(path, orig_ids=True)
    if len(table) != len(names):  # a table with gaps: its empty rows have no name
        table = table[table.any(1)]
    if len(table) != len(names):
        raise ValueError(f"its colour table has {len(table)} entries and {len(names)} names")
    labels: dict[int, str] = {}
    used = set(np.unique(codes).tolist())
    for code, label in zip(table[:, 4].tolist(), map(decode_text, names), strict=True):
        other = labels.setdefault(code, label)
        if other != label and code in used and (apart or is_no_parcel(other) != is_no_parcel(label)):
            raise ValueError(f"its labels {other!r} and {label!r} have one color, so that vertices may be in either")
    return codes, labels
