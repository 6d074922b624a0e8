"""OFF files, in text: positions first in each line of a vertex, whatever else it has."""

from __future__ import annotations

import re

import numpy as np

from colgraph.geometry.readers.meshes.polygons import Mesh, Polygons
from colgraph.text import decode_text

# Geomview's prefixes: texture, colors, normals; then a fourth coordinate, then another number of coordinates.
_HEADER = re.compile(r"(ST)?(C)?(N)?(4)?(n)?OFF(?=\s|\d|-|$)", re.IGNORECASE)


def read_off(data: bytes) -> Mesh:
    """Vertices and polygons of an OFF file (OFF, COFF, NOFF, STOFF and their combinations).

    The header may stand on a line of its own, before the counts, joined to them (``OFF4 4 0``, as in ModelNet), or be
    left out. Colors and normals are not looked at.

    Raises:
        ValueError: for binary OFF, coordinates that are not 3, and a file that is not as long as it says.
    """
    if b"BINARY" in data.split(b"\n", 1)[0].upper():
        raise ValueError("binary OFF, which cannot be read here: save it as text, or as PLY")
    lines = [kept for line in decode_text(data).splitlines() if (kept := line.partition("#")[0].strip())]
    header = _HEADER.match(lines[0]) if lines else None
    if header is None and not (lines and re.fullmatch(r"\d+\s+\d+(\s+\d+)?", lines[0])):
        start = lines[0][:40] if lines else ""
        raise ValueError(f"the first line of a text OFF file is 'OFF' or its counts, this one starts with {start!r}")
    if header is not None:
        rest = lines[0][header.end() :].strip()
        if header[4] or header[5]:
            raise ValueError(f"{header[0]} has vertices of other than 3 coordinates: save it as OFF")
        lines = ([rest] if rest else []) + lines[1:]
    counts = lines[0].split() if lines else []
    if len(counts) in (2, 3) and all(count.isdigit() for count in counts):
        num_vertices, num_faces, body = int(counts[0]), int(counts[1]), lines[1:]
        wrong = f"it promises {num_vertices} vertices and {num_faces} faces, but has {len(body)} lines"
    else:
        num_vertices, num_faces, body = 0, 0, lines
        wrong = f"the counts of vertices, faces and edges are 2 or 3 numbers, got {' '.join(counts)[:40]!r}"
    if len(body) != num_vertices + num_faces:
        plain = header is None or len(header[0]) == 3
        stream = _read_stream(" ".join(lines).split()) if plain else None
        if stream is None:
            raise ValueError(wrong)
        return stream
    for line in body[:num_vertices]:
        if len(line.split()) < 3:
            raise ValueError(f"a vertex has 3 coordinates: {line[:60]!r}")
    points = np.array([line.split()[:3] for line in body[:num_vertices]], dtype=np.float64).reshape(-1, 3)
    return Mesh(points, Polygons.of(_face(line) for line in body[num_vertices:]), [])


def _face(line: str) -> list[int]:
    size, *rest = line.split()
    corners = [int(value) for value in rest[: int(size)]]
    if len(corners) != int(size):
        raise ValueError(f"a face has as many vertices as it says, got {line[:60]!r}")
    return corners


def _read_stream(words: list[str]) -> Mesh | None:
    """The same where lines mean nothing: three counts, then numbers without colors; None unless they come out even."""
    if len(words) < 3 or not all(word.isdigit() for word in words[:3]):
        return None
    num_vertices, num_faces, words = int(words[0]), int(words[1]), words[3:]
    at = 3 * num_vertices
    faces = []
    for _ in range(num_faces):
        if at >= len(words) or not words[at].isdigit():
            return None
        end = at + 1 + int(words[at])
        faces.append(words[at + 1 : end])
        at = end
    if at != len(words):
        return None
    points = np.array(words[: 3 * num_vertices], dtype=np.float64).reshape(-1, 3)
    return Mesh(points, Polygons.of([int(word) for word in face] for face in faces), [])
