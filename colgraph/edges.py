"""Lists of edges in the order that is frozen when a sheet is made: by target, then by source, each edge once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]
"""Numbers of columns or edges."""


def edge_codes(edges: Index, columns: int, directed: bool = True) -> Index:
    """One number per edge ``[E]``, equal for equal edges (undirected: in either direction).

    Directed ones are ``target * N + source``: they grow in the order by target, then by source. Undirected ones are
    ``low * N + high``.
    """
    if directed:
        return edges[1] * columns + edges[0]
    return np.minimum(*edges) * columns + np.maximum(*edges)


def face_sides(faces: Index) -> Index:
    """``[2,3F]`` the sides of triangles ``[F,3]``: side ``3 f + c`` goes from corner c of face f to the next."""
    return np.stack([faces, faces[:, [1, 2, 0]]], 2).reshape(-1, 2).T


def both_ways(edges: Index, columns: int, length: Any = None) -> tuple[Index, Any]:
    """:func:`canonical_edges` of edges in both directions."""
    length = None if length is None else np.concatenate([length, length])
    return canonical_edges(np.concatenate([edges, edges[::-1]], axis=1), columns, length)


def distinct_rows(rows: Index) -> Index:
    """Which rows ``[n,K]`` no earlier one equals, ascending."""
    order = np.lexsort(rows.T)
    new = np.ones(order.size, dtype=bool)
    new[1:] = (rows[order[1:]] != rows[order[:-1]]).any(1)
    return np.sort(order[new])


def by_rank(rank: NDArray[Any]) -> Index:
    """Which columns have a rank of 0 or more (``rank [N]``, -1 elsewhere), in its order."""
    return np.argsort(rank, kind="stable")[np.count_nonzero(rank < 0) :]


def ranges(begin: Index, end: Index) -> Index:
    """All integers of several half-open ranges, one range after the other."""
    size = end - begin
    total = int(size.sum())
    return np.arange(total) + np.repeat(begin - (np.cumsum(size) - size), size)


def canonical_edges(edges: Index, columns: int, length: Any = None) -> tuple[Index, Any]:
    """Edges by target, then by source; of parallel edges the shortest.

    Args:
        edges: ``[2,E]`` source and target, in any order.
        columns: N.
        length: ``[E]``, or None.

    Returns:
        ``[2,E']`` edges and ``[E']`` lengths (None without): those given where they are in order already.
    """
    code = edge_codes(edges, columns)
    if bool((code[1:] > code[:-1]).all()):
        return edges, length
    # Each part of a neighborhood is sorted already, and a stable sort merges sorted runs in linear time.
    order = np.argsort(code, kind="stable")
    code = code[order]
    repeats = code[1:] == code[:-1]
    if not repeats.any():  # nothing to choose among, which reduceat would take long to find
        return edges.take(order, 1), None if length is None else length[order]
    first = np.flatnonzero(np.concatenate([[True], ~repeats]))
    return edges.take(order[first], 1), None if length is None else np.minimum.reduceat(length[order], first)
