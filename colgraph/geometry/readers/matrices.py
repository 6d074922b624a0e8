"""Adjacency matrices: arrays, numpy and scipy files, MatrixMarket.

``A[i, j]`` is the edge from column ``i`` to column ``j`` (row speaks, column listens), as in networkx and the Brain
Connectivity Toolbox; ``transpose=True`` reads the other convention. A zero is no edge.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.geometry.base import Geometry
from colgraph.geometry.readers.files import Source, parsing, warn
from colgraph.geometry.readers.lengths import USUAL, check_lengths_asked, guessed, to_lengths
from colgraph.geometry.readers.matrix_market import parse_matrix_market
from colgraph.geometry.readers.network import network_geometry

__all__ = ["adjacency_geometry", "read_matrix_market", "read_numpy"]


def adjacency_geometry(
    matrix: Any,
    *,
    name: str,
    names: Sequence[str] | None = None,
    positions: NDArray[np.float64] | None = None,
    weight: str | None = USUAL,
    weight_is: str | None = None,
    transpose: bool = False,
    has_lengths: bool = True,
) -> Geometry:
    """The geometry of a weighted adjacency matrix ``[N,N]``.

    Args:
        matrix: numpy array, or anything of ``scipy.sparse``, whose stored zeros are edges of length 0.
        name: what the geometry is called.
        names: N column names.
        positions: ``[N,D]`` coordinates, D at most 3.
        weight: None if the numbers say nothing but where edges are; they have no name to give.
        weight_is: "distance" (what numbers are if not said otherwise), "strength" (1/w) or "strength:-log".
        transpose: ``A[i, j]`` is the edge from ``j`` to ``i``.
        has_lengths: whether the numbers mean anything; False for patterns.

    Raises:
        ValueError: if it is not square, or naming the edge whose number is no length.
    """
    from scipy.sparse import coo_array, issparse

    if weight:
        raise ValueError(
            f"the option 'weight' names nothing in an adjacency matrix, got {weight!r}: give None or no weight"
        )
    check_lengths_asked(weight, weight_is)
    has_lengths = has_lengths and weight is not None
    if len(matrix.shape) != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"an adjacency matrix is square, this one has shape {list(matrix.shape)}")
    if matrix.shape[0] == 0:
        raise ValueError("the adjacency matrix is empty")
    if matrix.dtype.kind not in "fiub":
        raise ValueError(f"an adjacency matrix holds real numbers, this one {matrix.dtype}")
    entries = matrix.tocoo() if issparse(matrix) else coo_array(matrix)
    entries.sum_duplicates()
    source, target = (index.astype(np.int64) for index in (entries.row, entries.col))
    data = entries.data
    # Programs that correlate or measure write NaN or infinity for a node and itself.
    nothing = (source == target) & ~np.isfinite(data)
    if nothing.any():
        warn(
            name,
            [f"{int(nothing.sum())} cells of the diagonal are not finite ({data[nothing][0]}): no self-loops there"],
        )
        source, target, data = source[~nothing], target[~nothing], data[~nothing]
    if transpose:
        source, target = target, source

    def edge_name(e: int) -> str:
        ends = (source[e], target[e]) if names is None else (repr(names[source[e]]), repr(names[target[e]]))
        return f"edge {ends[0]} -> {ends[1]}"

    missing = np.flatnonzero(~np.isfinite(data))
    if missing.size:
        raise ValueError(
            f"{edge_name(int(missing[0]))} has length {data[missing[0]]} ({missing.size} such cells): write 0 or leave "
            "the cell empty where there is no edge"
        )
    lengths = to_lengths(data, weight_is, edge_name) if has_lengths else None
    return network_geometry(
        np.stack([source, target]),
        int(matrix.shape[0]),
        lengths=lengths,
        directed=True,
        positions=positions,
        name=name,
        names=names,
        guessed_from=guessed("the matrix", lengths, weight_is),
    )


# ---------------------------------------------------------------------- numpy, scipy


def read_numpy(
    source: Source, *, weight: str | None = USUAL, weight_is: str | None = None, transpose: bool = False
) -> Geometry:
    """Read an adjacency matrix from ``.npz`` or ``.npy``, or a sheet that ``Sheet.save`` wrote.

    An ``.npz`` holds a sparse matrix (``scipy.sparse.save_npz``) or one square array, and may hold ``pos`` (``[N,3]``)
    and ``names`` (``[N]``) besides. Arrays of Python objects are refused: nothing is unpickled.

    Raises:
        ValueError: for a broken file, or arrays that are something else.
    """
    with parsing("a numpy file of plain arrays"):
        loaded = np.load(io.BytesIO(source.data), allow_pickle=False)
        arrays = {"adjacency": loaded} if isinstance(loaded, np.ndarray) else {k: loaded[k] for k in loaded.files}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise ValueError("the archive holds files that are no arrays")
    if {"edge_index", "input_rank", "format"} <= set(arrays):
        if transpose:
            raise ValueError("the option 'transpose' means nothing for a saved sheet")
        return _saved_sheet(source, weight, weight_is)
    if {"format", "shape", "data"} <= set(arrays):
        from scipy.sparse import load_npz

        with parsing("a scipy sparse matrix"):
            matrix = load_npz(io.BytesIO(source.data))
        return adjacency_geometry(matrix, name=source.name, weight=weight, weight_is=weight_is, transpose=transpose)
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
        names=None if names is None else [str(entry) for entry in names],
        positions=positions,
        weight=weight,
        weight_is=weight_is,
        transpose=transpose,
    )


def _saved_sheet(source: Source, weight: str | None, weight_is: str | None) -> Geometry:
    from colgraph.geometry.readers.objects import from_object
    from colgraph.sheet import load_sheet

    with source.on_disk() as path:
        return from_object(load_sheet(path), weight=weight, weight_is=weight_is)


def read_matrix_market(
    source: Source, *, weight: str | None = USUAL, weight_is: str | None = None, transpose: bool = False
) -> Geometry:
    """Read an adjacency matrix in MatrixMarket form; a ``pattern`` has edges and no lengths."""
    with parsing("MatrixMarket"):
        matrix, has_lengths = parse_matrix_market(source.text)
    return adjacency_geometry(
        matrix,
        name=source.name,
        weight=weight,
        weight_is=weight_is,
        transpose=transpose,
        has_lengths=has_lengths,
    )
