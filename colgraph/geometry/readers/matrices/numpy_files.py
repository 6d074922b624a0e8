"""Numpy's and scipy's files: ``.npy``, ``.npz`` with an adjacency matrix, and saved sheets."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.geometry.base import Geometry
from colgraph.geometry.readers.files import Source, parsing, refuse
from colgraph.geometry.readers.graphs.pyg import pyg_geometry
from colgraph.geometry.readers.lengths import Lengths
from colgraph.geometry.readers.matrices.adjacency import Cells, adjacency_geometry
from colgraph.sheet import Sheet


def load_arrays(source: Source, alone: str) -> dict[str, NDArray[Any]]:
    """The arrays of an ``.npz`` by their names, or that of an ``.npy`` as ``alone``. Nothing is unpickled.

    Raises:
        ValueError: for a broken file, and for arrays of Python objects.
    """
    with parsing("a numpy file of plain arrays"):
        loaded = np.load(io.BytesIO(source.data), allow_pickle=False)
        arrays = {alone: loaded} if isinstance(loaded, np.ndarray) else {k: loaded[k] for k in loaded.files}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise ValueError("the archive holds files that are no arrays")
    return arrays


def read_numpy(source: Source, *, cells: Cells) -> Geometry:
    """Read an adjacency matrix from ``.npz`` or ``.npy``, or a sheet that ``Sheet.save`` wrote.

    An ``.npz`` holds a sparse matrix (``scipy.sparse.save_npz``) or one square array, and may hold ``pos`` (``[N,3]``)
    and ``names`` (``[N]``) besides. Arrays of Python objects are refused: nothing is unpickled.

    Raises:
        ValueError: for a broken file, or arrays that are something else.
    """
    arrays = load_arrays(source, "adjacency")
    if {"edge_index", "input_rank", "format"} <= set(arrays):
        refuse("a saved sheet", transpose=cells.transpose or None, directed=cells.directed)
        with source.on_disk() as path:
            return pyg_geometry(Sheet.load(path), lengths=Lengths(cells.weight, cells.weight_is))
    if {"format", "shape", "data"} <= set(arrays):
        from scipy.sparse import load_npz

        with parsing("a scipy sparse matrix"):
            matrix = load_npz(io.BytesIO(source.data))
        return adjacency_geometry(matrix, name=source.name, cells=cells)
    positions = arrays.pop("pos", None)
    names = arrays.pop("names", None)
    if len(arrays) != 1:
        shapes = ", ".join(f"{key} {list(array.shape)}" for key, array in arrays.items()) or "none"
        raise ValueError(f"needs one square array besides 'pos' and 'names', got {shapes}")
    matrix = next(iter(arrays.values()))
    size = matrix.shape[0] if matrix.ndim else 0
    if positions is not None and (positions.ndim != 2 or len(positions) != size):
        raise ValueError(f"'pos' must have shape [{size}, 3], got {list(positions.shape)}")
    if names is not None and names.shape != (size,):
        raise ValueError(f"'names' must have {size} entries, got shape {list(names.shape)}")
    return adjacency_geometry(
        matrix,
        name=source.name,
        names=None if names is None else [e.decode() if isinstance(e, bytes) else str(e) for e in names.tolist()],
        positions=positions,
        cells=cells,
    )
