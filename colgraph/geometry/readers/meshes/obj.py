"""Wavefront ``.obj`` files, and the ``.obj`` files of MNI's tools (CIVET), which share no more than the suffix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from colgraph.geometry.readers.meshes.polygons import Mesh, Polygons, passed_over

# What says nothing about where the surface is: texture, normals, names, materials, smoothing, display.
_SILENT = frozenset(
    b"vt vn vp g o s mg usemtl mtllib usemap maplib lod bevel c_interp d_interp shadow_obj trace_obj".split()
)
_CURVED = frozenset(b"cstype deg bmat step curv curv2 surf parm trim hole scrv sp end con bzp bsp cdc cdp res".split())
_OTHERS = {b"l": "lines", b"p": "points"}
_MNI_KINDS = {
    b"L": "lines", b"M": "a marker", b"F": "a model", b"X": "pixels", b"Q": "a quadmesh", b"T": "text"
}  # fmt: skip


def read_wavefront(data: bytes) -> Mesh:
    """Vertices and polygons of a Wavefront OBJ file.

    Indices count from 1; negative ones count back from the vertices above the face's own line. Texture and normal
    indices are not looked at.

    Raises:
        ValueError: for a line that is incomplete or makes no sense, with its number, and for what is no polygon mesh.
    """
    points: list[list[float]] = []
    faces: list[list[int]] = []
    lines: list[int] = []
    others: Counter[bytes] = Counter()
    for number, words in _statements(data):
        kind, values = words[0], words[1:]
        if kind == b"v":
            if len(values) < 3:
                raise _incomplete(number, words)
            points.append(_numbers(values[:3], number))
        elif kind in (b"f", b"fo"):
            if len(values) < 3:
                raise _incomplete(number, words)
            faces.append([_corner(value, len(points), number) for value in values])
            lines.append(number)
        elif kind in _CURVED or kind in (b"call", b"csh"):
            what = "a curved surface" if kind in _CURVED else "parts from other files"
            raise ValueError(f"line {number} ({kind.decode()!r}) belongs to {what}: export the mesh as polygons")
        elif kind not in _SILENT:
            others[kind] += 1
    if others and not points:
        first = next(iter(others)).decode("latin-1")
        raise ValueError(f"not readable as OBJ (of another kind, or broken): it has no vertex, but lines of {first!r}")
    polygons = Polygons.of(faces)
    beyond = np.flatnonzero(polygons.corners >= len(points))
    if beyond.size:
        face = int(np.searchsorted(np.cumsum(polygons.sizes), beyond[0], side="right"))
        wrong = int(polygons.corners[beyond[0]]) + 1
        raise ValueError(f"line {lines[face]}: a face refers to vertex {wrong}, but there are {len(points)} vertices")
    left = {_OTHERS.get(kind) or f"statements {kind.decode('latin-1')!r}": count for kind, count in others.items()}
    return Mesh(np.array(points, dtype=np.float64).reshape(-1, 3), polygons, passed_over(left))


def _statements(data: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """The words of each statement and the number of its first line; a backslash joins a line with the next."""
    held: list[bytes] = []
    first = 0
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        line = line.partition(b"#")[0].rstrip()
        first = first if held else number
        if line.endswith(b"\\"):
            held += line[:-1].split()
            continue
        words = held + line.split()
        held = []
        if words:
            yield first, words
    if held:
        yield first, held


def _incomplete(number: int, words: list[bytes]) -> ValueError:
    text = b" ".join(words).decode("latin-1")
    return ValueError(f"line {number} is incomplete: {text!r} (a vertex has 3 coordinates, a face 3 vertices or more)")


def _numbers(words: list[bytes], number: int) -> list[float]:
    try:
        return list(map(float, words))
    except ValueError:
        text = b" ".join(words).decode("latin-1")
        raise ValueError(f"line {number}: the vertex {text!r} is not 3 numbers") from None


def _corner(word: bytes, seen: int, number: int) -> int:
    """The vertex, from 0, of a face's ``v``, ``v/vt``, ``v//vn`` or ``v/vt/vn``."""
    try:
        index = int(word.partition(b"/")[0])
    except ValueError:
        text = word.decode("latin-1")
        raise ValueError(f"line {number}: a corner of a face starts with a vertex, got {text!r}") from None
    if index == 0 or index < -seen:
        raise ValueError(
            f"line {number}: a face refers to vertex {index}, but there are {seen} vertices above it (the first is 1)"
        )
    return index - 1 if index > 0 else seen + index


# ---------------------------------------------------------------------- MNI


def is_mni(data: bytes) -> bool:
    """Whether a ``.obj`` file is one of MNI's: Wavefront's statements are never a single capital."""
    first = data[:200].split(maxsplit=1)[:1]
    binary = data[:1] in (b"p", b"l") and not data[1:2].isspace() and b"\0" in data[:200]
    return binary or first == [b"P"] or (bool(first) and first[0] in _MNI_KINDS)


def read_mni(data: bytes) -> Mesh:
    """Vertices and polygons of an MNI ``.obj`` file in text form, as CIVET writes.

    A polygons object is ``P``, five numbers for the shading, the number of points, points, normals, the number of
    polygons, a flag for colors (0 one, 1 per polygon, 2 per point), colors, the running ends of the polygons, and
    their corners, counted from 0 (bicpl's ``polygons`` in ``Objects/object_io.c``).

    Raises:
        ValueError: for the binary form, for objects that are no surface, and for a file that is broken or cut short.
    """
    if data[:1] in (b"p", b"l"):
        raise ValueError(
            "a binary MNI obj (CIVET) file, which cannot be read here: convert it with ascii_binary_vtk or "
            "bicpl's tools to the text form, which begins with 'P'"
        )
    words = data.split()
    pieces, at = [], 0
    while at < len(words):
        if words[at] != b"P":
            what = _MNI_KINDS.get(words[at], f"{words[at][:20].decode('latin-1')!r}")
            raise ValueError(f"this MNI obj (CIVET) file holds {what} where a surface ('P') was expected")
        num_points = int(_take(words, at + 6, 1)[0])
        at += 7
        points = _take(words, at, 3 * num_points).astype(np.float64).reshape(-1, 3)
        at += 6 * num_points
        num_items, flag = (int(value) for value in _take(words, at, 2))
        if flag not in (0, 1, 2):
            raise ValueError(f"the color flag of an MNI obj (CIVET) file is 0, 1 or 2, got {flag}")
        at += 2 + 4 * (1, num_items, num_points)[flag]
        ends = _take(words, at, num_items).astype(np.int64)
        sizes = np.diff(ends, prepend=0)
        if (sizes < 1).any():
            raise ValueError("the ends of the polygons of an MNI obj (CIVET) file must grow")
        at += num_items
        corners = _take(words, at, int(sizes.sum())).astype(np.int64)
        at += corners.size
        pieces.append((points, Polygons(corners, sizes)))
    return Mesh.joined(pieces)


def _take(words: list[bytes], at: int, number: int) -> np.ndarray:
    """``number`` words from ``at`` on."""
    if number < 0 or at + number > len(words):
        raise ValueError(
            f"cut short: an MNI obj (CIVET) file needs {number} numbers after word {at}, there are "
            f"{max(0, len(words) - at)}"
        )
    return np.array(words[at : at + number], dtype="S") if number else np.empty(0, dtype="S1")
