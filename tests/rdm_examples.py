"""Dissimilarities of a few stimuli, and files of them as several programs write them."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat
from scipy.spatial.distance import squareform

N, PAIRS = 6, 15


def triangles(subjects: int = 3, seed: int = 0, count: int = N) -> np.ndarray:
    """``[subjects, pairs]`` with something in common."""
    draw = np.random.default_rng(seed)
    pairs = count * (count - 1) // 2
    return draw.random(pairs) + 0.5 * draw.random((subjects, pairs))


def squares(lines: np.ndarray) -> np.ndarray:
    """``[subjects, n, n]``."""
    return np.stack([squareform(line) for line in lines])


class Matlab73:
    """A file as MATLAB's ``save -v7.3`` writes it: HDF5 behind 512 bytes, axes in reverse, cells by reference."""

    def __init__(self, path: Path) -> None:
        import h5py

        self.path, self._h5py = path, h5py
        self._file = h5py.File(path, "w", userblock_size=512)
        self._refs, self._count = self._file.create_group("#refs#"), 0

    def put(self, name: str, value: Any) -> None:
        """A variable: an array, text, a dict (struct), or a list of dicts (array of structs) or others (cells)."""
        self._put(self._file, name, value)

    def _put(self, place: Any, name: str, value: Any) -> Any:
        if isinstance(value, dict):
            node = place.create_group(name)
            for key, one in value.items():
                self._put(node, key, one)
            kind = "struct"
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            node = place.create_group(name)
            for key in value[0]:
                node.create_dataset(key, data=self._references([one[key] for one in value]))
            kind = "struct"
        elif isinstance(value, list):
            node, kind = place.create_dataset(name, data=self._references(value)), "cell"
        elif isinstance(value, str):
            node, kind = place.create_dataset(name, data=np.array([[ord(c)] for c in value], np.uint16)), "char"
        else:
            value = np.asarray(value)
            node, kind = place.create_dataset(name, data=np.atleast_2d(value).T), str(value.dtype)
        node.attrs["MATLAB_class"] = np.bytes_({"float64": "double", "float32": "single"}.get(kind, kind))
        return node

    def _references(self, values: list[Any]) -> np.ndarray:
        refs = np.empty((len(values), 1), dtype=self._h5py.ref_dtype)
        for i, one in enumerate(values):
            self._count += 1
            refs[i, 0] = self._put(self._refs, f"r{self._count}", one).ref
        return refs

    def close(self) -> Path:
        """The file, whole."""
        self._file.close()
        data = bytearray(self.path.read_bytes())
        head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Sun Nov 29 2026 HDF5 schema 1.00 ."
        data[: len(head)] = head
        self.path.write_bytes(bytes(data))
        return self.path


def opaque(name: str) -> bytes:
    """What follows the variables of a v5 file where MATLAB has saved a string array: its name, and an object."""

    def element(kind: int, data: bytes) -> bytes:
        return struct.pack("<ii", kind, len(data)) + data + b"\0" * (-len(data) % 8)

    words = b"".join(element(1, word.encode()) for word in (name, "MCOS", "string"))
    whole = io.BytesIO()
    savemat(whole, {"x": np.zeros((6, 1), np.uint32)})
    return element(14, element(6, struct.pack("<ii", 17, 0)) + words + whole.getvalue()[128:])
