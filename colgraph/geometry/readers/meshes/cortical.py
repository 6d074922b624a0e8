"""Cortical surfaces, through nibabel: GIFTI and FreeSurfer's binary format."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import numpy as np

from colgraph.geometry.base import Geometry
from colgraph.geometry.readers.files import Source, optional, parsing
from colgraph.geometry.readers.meshes.triangles import surface_geometry

# The surfaces that FreeSurfer and its relatives write without a suffix, as in lh.pial; others are known by their bytes.
FREESURFER_SUFFIXES = ("white", "pial", "inflated", "sphere", "orig", "smoothwm", "midthickness", "graymid", "reg")

# The files that hold the numbers of a GIFTI file (ExternalFileBinary), as CAT12 writes them.
_BESIDE = re.compile(rb"""ExternalFileName\s*=\s*["']([^"']+)["']""")

_TRIANGLES, _QUADS, _NEW_QUADS = b"\xff\xff\xfe", b"\xff\xff\xff", b"\xff\xff\xfd"


def read_gifti(source: Source) -> Geometry:
    """Read a GIFTI surface (``.gii``, ``.surf.gii``): one point set and one list of triangles.

    All vertices are kept in their order, so that masks and labels of the same surface fit.

    Raises:
        ValueError: if the file is broken, holds no surface (labels, functional data), or several.
        ImportError: if nibabel is not installed.
    """
    return gifti_geometry(load_gifti(source), name=source.name)


def load_gifti(source: Source) -> Any:
    """The ``nibabel.GiftiImage`` of a file, perhaps with its numbers in files beside it.

    Raises:
        ValueError: if the file is broken, or one that it names is missing.
        ImportError: if nibabel is not installed.
    """
    gifti = optional("nibabel.gifti", "mesh")
    beside = [unescape(name.decode("utf-8", "replace")) for name in _BESIDE.findall(source.data)]
    for name in beside:
        if not (source.path.parent / name).is_file():
            raise ValueError(f"its numbers are in {name!r}, which is not there: it belongs beside the file")
    with parsing("GIFTI"):
        if not beside and b"ExternalFileBinary" not in source.data:
            return gifti.GiftiImage.from_bytes(source.data)
        # Without memory maps: those of nibabel take arrays that are stored by columns for arrays stored by rows.
        return gifti.GiftiImage.from_filename(str(source.path), mmap=False)


def gifti_geometry(image: Any, *, name: str) -> Geometry:
    """The geometry of a ``nibabel.GiftiImage`` that holds one surface."""
    points = image.get_arrays_from_intent("NIFTI_INTENT_POINTSET")
    faces = image.get_arrays_from_intent("NIFTI_INTENT_TRIANGLE")
    if len(points) != 1 or len(faces) != 1:
        kinds = sorted({_intent(array) for array in image.darrays}) or ["nothing"]
        raise ValueError(
            f"a GIFTI surface has one point set and one list of triangles, this has {len(points)} and {len(faces)} "
            f"(it holds {', '.join(kinds)}): give the .surf.gii file"
        )
    return surface_geometry(points[0].data, faces[0].data, name=name, merge_vertices=False, drop_unused=False)


def _intent(array: Any) -> str:
    import nibabel

    code = nibabel.nifti1.intent_codes
    return str(code.niistring[array.intent]).removeprefix("NIFTI_INTENT_").lower().replace("_", " ")


def is_freesurfer(data: bytes) -> bool:
    """Whether these are the first bytes of a FreeSurfer surface, whatever the file is called."""
    return data[:3] in (_TRIANGLES, _QUADS, _NEW_QUADS)


def read_freesurfer(source: Source) -> Geometry:
    """Read a FreeSurfer binary surface (``lh.pial``, ``rh.white``, ...), triangles or the older quadrangles.

    All vertices are kept in their order, so that masks and labels of the same surface fit.

    Raises:
        ValueError: if the file is broken, or holds one value per vertex (``lh.curv``, ``lh.thickness``).
        ImportError: if nibabel is not installed.
    """
    freesurfer = optional("nibabel.freesurfer", "mesh")
    data = source.data
    if not is_freesurfer(data):
        raise ValueError(f"not a FreeSurfer surface: it starts with the bytes {data[:3].hex()}, not fffffe")
    if data[:3] == _QUADS and len(data) >= 15 and len(data) == 15 + 4 * int.from_bytes(data[3:7], "big"):
        raise ValueError("holds one value per vertex (curvature, thickness), not a surface: give lh.white or lh.pial")
    with parsing("a FreeSurfer surface"), source.on_disk() as path:
        points, faces = freesurfer.read_geometry(path)
    return surface_geometry(points, np.asarray(faces), name=source.name, merge_vertices=False, drop_unused=False)
