"""Tiles: 16 columns that lie together, and the union of the columns they exchange edges with.

A matrix unit multiplies dense blocks, a sheet has sparse rows. Sixteen columns that are neighbors in space listen to
much the same columns, so the union of their neighbors is short (5 rows per column instead of 32 on an icosphere with
``KNN(32)``), and the block of 16 x union scores holds one true edge in two or three. These tables say which.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

TILE = 16
"""Columns in a tile, and the multiple to which the union of their partners is padded."""


class TileSide(NamedTuple):
    """The partners of every tile, all tiles in one list of L rows.

    Attributes:
        pointer: ``[T+1]`` where the rows of each tile begin, in units of ``TILE`` rows.
        member: ``[L]`` the partner column of each row, ascending within a tile; -1 in padding.
        rank: ``[L, TILE]`` which edge joins the row's partner with each of the tile's columns, counted from the first
            incoming edge of the edge's target; -1 where there is no edge. The smallest integer type that fits: a byte
            up to degree 128, so that the table is a quarter of one with edge ids.
    """

    pointer: Tensor
    member: Tensor
    rank: Tensor


class Tiles(NamedTuple):
    """All tables of a graph.

    Attributes:
        column: ``[T * TILE]`` the columns in kd order, a tile after the other; -1 in padding.
        target: the columns that each tile listens to.
        source: the columns that listen to each tile.
    """

    column: Tensor
    target: TileSide
    source: TileSide

    def fill(self) -> float:
        """The smaller share, of the two sides, of table entries that are edges (0 without edges)."""
        entries = max(self.target.rank.numel(), self.source.rank.numel())
        edges = int((self.target.rank >= 0).sum())
        return edges / entries if entries else 0.0


def smallest_integer(largest: int, *types: torch.dtype) -> torch.dtype:
    """The first of ``types`` that holds ``largest``, else int64."""
    return next((t for t in types if largest <= torch.iinfo(t).max), torch.int64)


def build_tiles(order: Tensor, indptr: Tensor, edge_index: Tensor) -> Tiles:
    """The tables of a graph, on its device: two sorts of E numbers, nothing else that grows faster than E.

    Args:
        order: ``[N]`` columns in kd order.
        indptr: ``[N+1]`` where each column's incoming edges begin.
        edge_index: ``[2,E]``, sorted by target.
    """
    source, target = edge_index
    n, device = order.numel(), order.device
    tiles = -(-n // TILE)
    column = torch.full((tiles * TILE,), -1, dtype=torch.int64, device=device)
    column[:n] = order
    place = torch.empty(n, dtype=torch.int64, device=device)
    place[order] = torch.arange(n, device=device)
    rank = torch.arange(target.numel(), device=device) - indptr[target]
    largest = int(rank.max()) if rank.numel() else 0
    rank = rank.to(smallest_integer(largest, torch.int8, torch.int16, torch.int32))
    index = smallest_integer(n, torch.int32)
    return Tiles(
        column.to(index),
        _side(place[target], source, rank, n, index),
        _side(place[source], target, rank, n, index),
    )


def _side(place: Tensor, partner: Tensor, rank: Tensor, n: int, index: torch.dtype) -> TileSide:
    """One side: ``place [E]`` of each edge's own column in kd order, ``partner [E]`` its other column."""
    device = place.device
    tiles = -(-n // TILE)
    key, edge = torch.sort(torch.div(place, TILE, rounding_mode="floor") * n + partner)
    first = torch.ones(key.numel(), dtype=torch.bool, device=device)
    first[1:] = key[1:] != key[:-1]
    pair = key[first]
    tile, member = torch.div(pair, n, rounding_mode="floor"), pair % n
    count = torch.bincount(tile, minlength=tiles)
    pointer = torch.zeros(tiles + 1, dtype=torch.int64, device=device)
    torch.cumsum(torch.div(count + TILE - 1, TILE, rounding_mode="floor"), 0, out=pointer[1:])
    # A pair's row: where its tile's rows begin, plus its position among the tile's pairs.
    begin = torch.cumsum(count, 0) - count
    row = pointer[tile] * TILE + torch.arange(pair.numel(), device=device) - begin[tile]
    rows = int(pointer[-1]) * TILE
    members = torch.full((rows,), -1, dtype=index, device=device)
    members[row] = member.to(index)
    ranks = torch.full((rows * TILE,), -1, dtype=rank.dtype, device=device)
    row_of_edge = row[torch.cumsum(first, 0) - 1]
    ranks[row_of_edge * TILE + place[edge] % TILE] = rank[edge]
    return TileSide(pointer.to(smallest_integer(rows, torch.int32)), members, ranks.view(rows, TILE))
