"""Recursive bisection of space: cut a sheet into parts of equal work with few edges across."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import reverse_cuthill_mckee

Index = NDArray[np.int64]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

_SLACK = 0.005  # share of the work by which a cut may miss its place more than the best one does
_SWEEPS = 5  # of smoothing, before a cut is tried again
_MAX_SWEEPS = 40
_WORTHWHILE = 0.97  # smoothing goes on as long as it leaves at most this share of the cut edges


@dataclass(frozen=True)
class _Piece:
    """Columns that are still to be cut into ``count`` parts, and the edges among them, numbered within the piece."""

    columns: Index
    source: Index
    target: Index
    first: int
    count: int

    def take(self, mask: Mask, first: int, count: int) -> _Piece:
        new_id = np.cumsum(mask) - 1
        inside = mask[self.source] & mask[self.target]
        return _Piece(self.columns[mask], new_id[self.source[inside]], new_id[self.target[inside]], first, count)

    def cut_edges(self, mask: Mask) -> int:
        return int(np.count_nonzero(mask[self.source] != mask[self.target]))


def bisect_space(positions: Floats, edge_index: Index, work: Floats, parts: int) -> Index:
    """Assign columns to parts by cutting space, and the pieces again, until there are ``parts`` of them.

    Every cut is a plane, placed where the work on its two sides has the ratio of the parts they will hold. Of six
    directions (the coordinate axes, and the principal axes of the piece) it takes the one that cuts the fewest edges.
    On a folded surface a plane cuts banks that are close in space and far along the surface; averaging the coordinate
    over neighbors straightens such a cut, and is kept where it leaves fewer edges cut.

    Args:
        positions: ``[N,D]``.
        edge_index: ``[2,E]``.
        work: ``[N]``, positive.
        parts: number of parts, at most N.

    Returns:
        ``[N]`` part of each column. Deterministic: equal coordinates keep their order. No part is empty.
    """
    assignment = np.zeros(len(positions), dtype=np.int64)
    pieces = [_Piece(np.arange(len(positions)), edge_index[0], edge_index[1], 0, parts)]
    while pieces:
        piece = pieces.pop()
        if piece.count == 1:
            assignment[piece.columns] = piece.first
            continue
        left = piece.count // 2
        mask = _best_cut(piece, positions[piece.columns], work[piece.columns], left)
        pieces.append(piece.take(mask, piece.first, left))
        pieces.append(piece.take(~mask, piece.first + left, piece.count - left))
    return assignment


def _best_cut(piece: _Piece, positions: Floats, work: Floats, left: int) -> Mask:
    """Which columns of a piece go to its first ``left`` parts."""
    share = left / piece.count
    coordinates = [positions @ direction for direction in _directions(positions)]
    masks = [_cut_at(coordinate, work, left, piece.count) for coordinate in coordinates]
    # A column with very many edges may fall on a plane and tip the scales; another plane passes it by.
    off = [abs(float(work[mask].sum() / work.sum()) - share) for mask in masks]
    level = [i for i, value in enumerate(off) if value <= min(off) + _SLACK]
    cuts = {i: piece.cut_edges(masks[i]) for i in level}
    chosen = min(level, key=lambda i: cuts[i])
    best, fewest = masks[chosen], cuts[chosen]
    for smooth in _smoothed(coordinates[chosen], piece):
        mask = _cut_at(smooth, work, left, piece.count)
        cut = piece.cut_edges(mask)
        if cut > _WORTHWHILE * fewest or abs(float(work[mask].sum() / work.sum()) - share) > min(off) + _SLACK:
            break
        best, fewest = mask, cut
    return best


def _directions(positions: Floats) -> Floats:
    centred = positions - positions.mean(0)
    principal = np.linalg.eigh(centred.T @ centred)[1].T
    return np.concatenate([np.eye(positions.shape[1]), principal[::-1]])


def _smoothed(coordinate: Floats, piece: _Piece) -> Iterator[Floats]:
    """The coordinate after more and more sweeps of averaging over neighbors (half self, half neighbors)."""
    n = len(coordinate)
    incoming = np.bincount(piece.target, minlength=n)
    # Edges are sorted by target in every piece, so the compressed rows need no sorting.
    pointers = np.concatenate([[0], np.cumsum(incoming)])
    graph = csr_array((np.ones(len(piece.source)), piece.source, pointers), shape=(n, n))
    degree = incoming + np.bincount(piece.source, minlength=n)
    keep = np.where(degree > 0, 0.5, 1.0)
    share = (1 - keep) / np.maximum(degree, 1)
    for _ in range(0, _MAX_SWEEPS, _SWEEPS):
        for _ in range(_SWEEPS):
            coordinate = keep * coordinate + share * (graph @ coordinate + graph.T @ coordinate)
        yield coordinate


def _cut_at(coordinate: Floats, work: Floats, left: int, count: int) -> Mask:
    """The lowest columns that come closest to ``left / count`` of the work; every part gets at least one."""
    order = np.argsort(coordinate, kind="stable")
    running = np.cumsum(work[order])
    wanted = running[-1] * left / count
    k = int(np.searchsorted(running, wanted))
    below = running[k - 1] if k else 0.0
    if k < len(work) and running[k] - wanted <= wanted - below:
        k += 1
    mask = np.zeros(len(work), dtype=bool)
    mask[order[: min(max(k, left), len(work) - (count - left))]] = True
    return mask


def graph_coordinate(edge_index: Index, num_columns: int) -> Floats:
    """``[N,1]`` coordinate for graphs without positions: the rank in reverse Cuthill-McKee order."""
    source, target = edge_index
    ends = (np.concatenate([source, target]), np.concatenate([target, source]))
    graph = coo_array((np.ones(2 * len(source), dtype=np.int8), ends), shape=(num_columns, num_columns)).tocsr()
    rank = np.empty((num_columns, 1))
    rank[reverse_cuthill_mckee(graph, symmetric_mode=True), 0] = np.arange(num_columns)
    return rank
