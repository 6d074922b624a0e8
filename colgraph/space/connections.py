"""The connections that columns have of their own, and the matrix in which shortest paths are searched."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from colgraph.edges import Index, both_ways, canonical_edges, distinct_rows, edge_codes, face_sides
from colgraph.space.place import Place


def mesh_edges(faces: Index, n: int) -> Index:
    """``[2,E]`` both directions of every edge of a mesh, without duplicates, sorted by target, then by source."""
    return both_ways(face_sides(faces), n)[0]


def distinct_faces(faces: Index) -> Index:
    """The faces ``[F,3]`` without those that have the three corners of an earlier one, in whatever order."""
    return faces[distinct_rows(np.sort(faces, axis=1))]


def shared_edges(faces: Index, n: int) -> tuple[Index, Index]:
    """``[2,E]`` every edge of a mesh once, and ``[E]`` how many faces meet there."""
    code, shared = np.unique(edge_codes(face_sides(faces), n, directed=False), return_counts=True)
    return np.stack([code // n, code % n]), shared


def num_seam_vertices(positions: NDArray[np.float64], edges: Index, shared: Index) -> int:
    """How many vertices on the border of a surface lie at another one's place without an edge between the two.

    Such a surface looks whole, but falls into pieces where it was cut for textures, or where a format repeats vertices.
    Places are the same within a thousandth of the median edge, as far as rounding moves them.

    Args:
        positions: ``[N,3]``.
        edges: ``[2,E]`` and ``shared`` ``[E]``, from :func:`shared_edges`.
        shared: how many faces meet at each edge; one does at a border.
    """
    border = np.unique(edges[:, shared == 1])
    if border.size < 2:
        return 0
    tolerance = 1e-3 * float(np.median(np.linalg.norm(positions[edges[0]] - positions[edges[1]], axis=1)))
    _, near = cKDTree(positions[border]).query(positions[border], k=2, distance_upper_bound=tolerance)
    # Of several vertices at one place, the first that is found may be the vertex itself or another one.
    itself = near[:, 0] == np.arange(border.size)
    found = np.where(itself, near[:, 1], near[:, 0])
    seam = found < border.size
    pair = np.sort(np.stack([border[seam], border[found[seam]]]), axis=0)
    n = len(positions)
    return int((~np.isin(pair[0] * n + pair[1], edges[0] * n + edges[1])).sum())


def connections(place: Place, metric: str) -> tuple[Index, Index, NDArray[np.float64]]:
    """Source, target and length (``[E]`` each) of a place's own connections: its edges, or else its faces' edges.

    Lengths are 1 for every edge (0 for a self-loop) with metric "hops". Else they are the place's own; where it has
    none, the straight line between the ends, or again 1 where positions mean nothing.

    Raises:
        ValueError: if the place has neither edges nor faces.
    """
    if place.edges is not None:
        source, target = place.edges
    elif place.faces is not None:
        source, target = mesh_edges(place.faces, place.num_columns)
    else:
        raise ValueError(f"{place.name!r} has neither edges nor faces")
    if metric == "hops" or (not place.spatial and place.edge_distance is None):
        return source, target, (source != target).astype(np.float64)
    if place.edge_distance is not None:
        return source, target, place.edge_distance
    return source, target, np.asarray(np.linalg.norm(place.positions[source] - place.positions[target], axis=1))


def listening_matrix(source: Index, target: Index, length: NDArray[np.float64], n: int) -> csr_array:
    """Row i holds the length of each edge into i: paths in this matrix from i run against the edges.

    Self-loops are dropped, parallel edges merged to the shortest; lengths of 0 are stored and count as edges.
    """
    others = source != target
    source, target, length = source[others], target[others], length[others]
    edges, length = canonical_edges(np.stack([source, target]), n, length)
    indptr = np.searchsorted(edges[1], np.arange(n + 1))
    return csr_array((length, edges[0], indptr), shape=(n, n))
