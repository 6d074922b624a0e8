"""An adjacency matrix as a geometry.

``A[i, j]`` is the edge from column ``i`` to column ``j`` (row speaks, column listens), as in networkx and the Brain
Connectivity Toolbox; ``transpose=True`` reads the other convention. A zero is no edge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.geometry.base import Geometry
from colgraph.geometry.readers.files import warn
from colgraph.geometry.readers.graphs.network import network_geometry
from colgraph.geometry.readers.lengths import Weights, edge_name


@dataclass(frozen=True)
class Cells(Weights):
    """What the user says about an adjacency matrix and its numbers, which have no name to give.

    Attributes:
        transpose: ``A[i, j]`` is the edge from ``j`` to ``i``.
        directed: False if an edge goes both ways though one of its two cells is empty, as where programs write one
            triangle of a symmetric matrix. Not given, every cell is an edge, and a warning says so of a triangle.
    """

    transpose: bool = False
    directed: bool | None = None


def adjacency_geometry(
    matrix: Any,
    *,
    name: str,
    names: Sequence[str] | None = None,
    positions: NDArray[np.float64] | None = None,
    cells: Cells,
    has_lengths: bool = True,
) -> Geometry:
    """The geometry of a weighted adjacency matrix ``[N,N]``.

    Args:
        matrix: numpy array, or anything of ``scipy.sparse``, whose stored zeros are edges of length 0.
        name: what the geometry is called.
        names: N column names.
        positions: ``[N,D]`` coordinates, D at most 3.
        cells: what the user says about it.
        has_lengths: whether the numbers mean anything; False for patterns.

    Raises:
        ValueError: if it is not square, or naming the edge whose number is no length, or that has another number in the
            other direction though ``directed=False``.
    """
    from scipy.sparse import coo_array, issparse

    if cells.weight:
        raise ValueError(
            f"the option 'weight' names nothing in an adjacency matrix, got {cells.weight!r}: give None or no weight"
        )
    has_lengths = has_lengths and cells.weight is not None
    if len(matrix.shape) != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"an adjacency matrix is square, this one has shape {list(matrix.shape)}")
    if matrix.shape[0] == 0:
        raise ValueError("the adjacency matrix is empty")
    if matrix.dtype.kind not in "fiub":
        raise ValueError(f"an adjacency matrix holds real numbers, this one {matrix.dtype}")
    # scipy.sparse knows the machine's own byte order only, no half precision, and adds duplicates up in 8 bits.
    matrix = matrix if matrix.dtype.kind == "b" else matrix.astype(np.float64)
    entries = matrix.tocoo() if issparse(matrix) else coo_array(matrix)
    stored = entries.nnz
    entries.sum_duplicates()
    if entries.nnz < stored:
        warn(name, [f"{stored - entries.nnz} of its entries are of a pair that has one, and are added to that"])
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
    if cells.transpose:
        source, target = target, source
    if cells.directed is None:
        warn(name, _triangle_notes(source, target))

    def edge(e: int) -> str:
        return edge_name(source[e], target[e], names)

    missing = np.flatnonzero(~np.isfinite(data))
    if missing.size:
        raise ValueError(
            f"{edge(int(missing[0]))} has length {data[missing[0]]} ({missing.size} such cells): write 0 or leave "
            "the cell empty where there is no edge"
        )
    if cells.directed is False:
        source, target, data = _pairs(source, target, data, edge)
    lengths = cells.read(data, edge) if has_lengths else None
    return network_geometry(
        np.stack([source, target]),
        int(matrix.shape[0]),
        lengths=lengths,
        directed=cells.directed is not False,
        positions=positions,
        name=name,
        names=names,
        guessed_from=cells.guessed("the matrix", lengths),
    )


def _triangle_notes(source: NDArray[np.int64], target: NDArray[np.int64]) -> list[str]:
    """A line on a matrix with all its numbers on one side of the diagonal."""
    between = source != target
    up = (source < target)[between]
    if up.size < 2 or not (up.all() or not up.any()):
        return []
    return [
        f"the matrix is a triangle: all its edges go to {'later' if up.all() else 'earlier'} columns (if it is half of "
        "a symmetric one say directed=False, else directed=True)"
    ]


def _pairs(
    source: NDArray[np.int64], target: NDArray[np.int64], data: NDArray[Any], edge_name: Callable[[int], str]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
    """Edges that go both ways, each once."""
    low, high = np.minimum(source, target), np.maximum(source, target)
    _, first, pair = np.unique(np.stack([low, high]), axis=1, return_index=True, return_inverse=True)
    odd = np.flatnonzero(data != data[first][pair.reshape(-1)])
    if odd.size:
        e, other = int(odd[0]), int(first[pair.reshape(-1)[odd[0]]])
        raise ValueError(f"{edge_name(e)} is {data[e]}, the other way {data[other]}: directed=False needs one number")
    return low[first], high[first], data[first]
