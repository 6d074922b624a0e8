"""Labels of the vertices of a surface: GIFTI's and FreeSurfer's, and which labels say that there is no parcel."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.geometry.readers.files import Source, optional, parsing
from colgraph.geometry.readers.meshes.cortical import load_gifti
from colgraph.text import decode_text

_SURFACE_INTENTS = ("NIFTI_INTENT_POINTSET", "NIFTI_INTENT_TRIANGLE")

# What FreeSurfer, Connectome Workbench and the makers of parcellations call the columns that belong to no parcel: a
# part of a label, or the whole of it.
_WALL = re.compile(r"med(ial)?wall|corpuscallosum|non?t?cort(ex|ical)")
_NO_PARCEL = re.compile(r"unknown|background|unassigned|unlabell?ed|nolabel")
_NO_PARCELS = {"", "none", "null", "nan", "empty", "undefined", "mw", "notlabeled", "notlabelled"}


def _joined(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", label.lower())


def is_wall(label: str) -> bool:
    """Whether a label is that of the medial wall."""
    return bool(_WALL.search(_joined(label)))


def is_no_parcel(label: str) -> bool:
    """Whether a label says that its columns belong to no parcel of the cortex, in any spelling."""
    joined = _joined(label)
    asked = re.search(r"(^|[^a-z0-9?])\?+($|[^a-z0-9?])", label.lower())
    return bool(asked or joined in _NO_PARCELS or _NO_PARCEL.search(joined) or _WALL.search(joined))


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


def read_annot_labels(source: Source) -> tuple[NDArray[np.int64], dict[int, str]]:
    """One code a vertex of a FreeSurfer annotation, and the names of the codes. 0 is no label."""
    freesurfer = optional("nibabel.freesurfer", "mesh")
    with parsing("a FreeSurfer annotation"), source.on_disk() as path:
        codes, table, names = freesurfer.read_annot(path, orig_ids=True)
    if len(table) != len(names):  # a table with gaps: its empty rows have no name
        table = table[table.any(1)]
    if len(table) != len(names):
        raise ValueError(f"its colour table has {len(table)} entries and {len(names)} names")
    labels = {int(code): decode_text(label) for code, label in zip(table[:, 4], names, strict=True)}
    return codes, labels
