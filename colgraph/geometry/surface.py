"""The connections a geometry has of its own, and the matrix in which shortest paths are searched."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from colgraph.geometry.base import Geometry

__all__ = ["connections", "listening_matrix", "mesh_edges"]

Index = NDArray[np.int64]


def mesh_edges(faces: Index, n: int) -> Index:
    """``[2,E]`` both directions of every edge of a mesh, without duplicates, sorted by target, then by source."""
    a, b, c = faces.T
    source, target = np.concatenate([a, b, c, b, c, a]), np.concatenate([b, c, a, a, b, c])
    code = np.unique(target * n + source)
    return np.stack([code % n, code // n])


def connections(geometry: Geometry, metric: str) -> tuple[Index, Index, NDArray[np.float64]]:
    """Source, target and length (``[E]`` each) of the geometry's own connections: its edges, or else its faces' edges.

    Lengths are 1 for every edge (0 for a self-loop) with metric "hops". Else they are the geometry's own; where it has
    none, the straight line between the ends, or again 1 where positions mean nothing.

    Raises:
        ValueError: if the geometry has neither edges nor faces.
    """
    if geometry.edges is not None:
        source, target = geometry.edges
    elif geometry.faces is not None:
        source, target = mesh_edges(geometry.faces, geometry.num_columns)
    else:
        raise ValueError(f"{geometry.name!r} has neither edges nor faces")
    if metric == "hops" or (not geometry.spatial and geometry.edge_distance is None):
        return source, target, (source != target).astype(np.float64)
    if geometry.edge_distance is not None:
        return source, target, geometry.edge_distance
    return source, target, np.asarray(np.linalg.norm(geometry.positions[source] - geometry.positions[target], axis=1))


def listening_matrix(source: Index, target: Index, length: NDArray[np.float64], n: int) -> csr_array:
    """Row i holds the length of each edge into i: paths in this matrix from i run against the edges.

    Self-loops are dropped, parallel edges merged to the shortest; lengths of 0 are stored and count as edges.
    """
    others = source != target
    source, target, length = source[others], target[others], length[others]
    order = np.lexsort((length, target * n + source))
    code = (target * n + source)[order]
    first = np.ones(code.size, dtype=bool)
    first[1:] = code[1:] != code[:-1]
    code, length = code[first], length[order][first]
    indptr = np.searchsorted(code, np.arange(n + 1) * n)
    return csr_array((length, code % n, indptr), shape=(n, n))
