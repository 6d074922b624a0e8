"""STL files, in text and binary."""

from __future__ import annotations

import re

import numpy as np

from colgraph.geometry.readers.meshes.polygons import Mesh, Polygons

_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_LOOP = re.compile(rb"outer\s+loop(.*?)endloop", re.IGNORECASE | re.DOTALL)


def read_stl(data: bytes) -> Mesh:
    """Corners and triangles of an STL file, every corner once per triangle.

    A file is binary if it is as long as its count of triangles says, whatever it starts with.

    Raises:
        ValueError: for a file that is not as long as it says, text that does not end as STL does, or is no STL.
    """
    number = int.from_bytes(data[80:84], "little") if len(data) >= 84 else -1
    if number >= 0 and len(data) == 84 + number * _FACET.itemsize:
        corners = np.frombuffer(data, _FACET, number, 84)["corners"].reshape(-1, 3)
        return Mesh(corners.astype(np.float64), Polygons.of_triangles(np.arange(3 * number)), [])
    if not data.lstrip().lower().startswith(b"solid") or b"\0" in data[:2000]:
        raise ValueError(
            f"no STL: text starts with 'solid', and a binary file of {max(number, 0)} triangles, as this one says, has "
            f"{84 + max(number, 0) * _FACET.itemsize} bytes, not {len(data)} (cut short, or of another kind)"
        )
    last = data.rstrip().splitlines()[-1].strip()
    if not last.lower().startswith(b"endsolid"):
        raise ValueError(f"cut short: an ASCII STL ends with 'endsolid', this one with {last[:40].decode('latin-1')!r}")
    loops = [loop.split() for loop in _LOOP.findall(data)]
    if len(loops) != len(re.findall(rb"\bfacet\s+normal\b", data, re.IGNORECASE)):
        raise ValueError("not readable as STL: each facet has one outer loop")
    sizes = []
    words: list[bytes] = []
    for loop in loops:
        if len(loop) % 4 or any(word.lower() != b"vertex" for word in loop[::4]):
            text = b" ".join(loop)[:60].decode("latin-1")
            raise ValueError(f"not readable as STL: a loop is lines of 'vertex x y z', got {text!r}")
        sizes.append(len(loop) // 4)
        words += [word for i, word in enumerate(loop) if i % 4]
    points = np.array(words, dtype="S").astype(np.float64) if words else np.empty(0)
    return Mesh(points.reshape(-1, 3), Polygons(np.arange(sum(sizes)), np.array(sizes, dtype=np.int64)), [])
