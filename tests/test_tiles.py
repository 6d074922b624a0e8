"""Tile tables: every edge in its place, once, and nothing else."""

from __future__ import annotations

import pytest
import torch

from colgraph.layout import Layout
from colgraph.tiles import TILE, Tiles, TileSide, build_tiles


def random_layout(n: int, edges: int, seed: int = 0) -> Layout:
    generator = torch.Generator().manual_seed(seed)
    code = torch.unique(torch.randint(0, n * n, (edges,), generator=generator)) if edges else torch.empty(0).long()
    return Layout(torch.stack([code % n, code // n]), n, torch.rand(n, 3, generator=generator))


def grid_layout(side: int, reach: float) -> Layout:
    pos = torch.cartesian_prod(torch.arange(side), torch.arange(side)).double()
    target, source = torch.nonzero(torch.cdist(pos, pos) <= reach, as_tuple=True)
    return Layout(torch.stack([source, target]), side * side, pos)


def tiles_of(layout: Layout) -> Tiles:
    return build_tiles(layout.order, layout.indptr, layout.edge_index)


def decode(side: TileSide, column: torch.Tensor, layout: Layout, tile_is_target: bool) -> list[tuple[int, int, int]]:
    """All (edge id, source, target) that the tables of one side name."""
    found = []
    for tile in range(side.pointer.numel() - 1):
        for row in range(int(side.pointer[tile]) * TILE, int(side.pointer[tile + 1]) * TILE):
            for slot in range(TILE):
                rank = int(side.rank[row, slot])
                if rank >= 0:
                    own, other = int(column[tile * TILE + slot]), int(side.member[row])
                    source, target = (other, own) if tile_is_target else (own, other)
                    found.append((int(layout.indptr[target]) + rank, source, target))
    return found


@pytest.mark.parametrize(("n", "edges"), [(1, 1), (5, 9), (16, 100), (17, 40), (50, 300), (33, 0)])
def test_each_edge_is_in_one_place_of_each_side(n, edges):
    layout = random_layout(n, edges)
    tiles = tiles_of(layout)
    expected = [(e, int(layout.source[e]), int(layout.target[e])) for e in range(layout.num_edges)]
    assert sorted(decode(tiles.target, tiles.column, layout, True)) == expected
    assert sorted(decode(tiles.source, tiles.column, layout, False)) == expected


@pytest.mark.parametrize("n", [1, 15, 16, 40])
def test_columns_are_in_kd_order_and_padded(n):
    layout = random_layout(n, 4 * n)
    column = tiles_of(layout).column
    assert column.numel() == -(-n // TILE) * TILE
    assert torch.equal(column[:n].long(), layout.order)
    assert bool((column[n:] == -1).all())


def test_unions_are_ascending_without_repeats_and_padded():
    layout = random_layout(60, 500)
    tiles = tiles_of(layout)
    for side in (tiles.target, tiles.source):
        assert int(side.pointer[0]) == 0
        assert side.member.numel() == int(side.pointer[-1]) * TILE == side.rank.size(0)
        for tile in range(side.pointer.numel() - 1):
            member = side.member[int(side.pointer[tile]) * TILE : int(side.pointer[tile + 1]) * TILE]
            used = member[member >= 0]
            assert bool((used.diff() > 0).all())
            assert bool((member[used.numel() :] == -1).all())
            assert member.numel() - used.numel() < TILE
    assert bool((tiles.target.rank[tiles.target.member < 0] == -1).all())


@pytest.mark.parametrize(("degree", "dtype"), [(128, torch.int8), (129, torch.int16)])
def test_ranks_take_the_smallest_integers_that_hold_them(degree, dtype):
    layout = Layout(torch.stack([torch.arange(degree), torch.zeros(degree, dtype=torch.int64)]), degree)
    tiles = tiles_of(layout)
    assert tiles.target.rank.dtype == tiles.source.rank.dtype == dtype
    assert int(tiles.target.rank.max()) == degree - 1


def test_fill_tells_local_graphs_from_random_ones():
    local = grid_layout(24, 3.0)
    shuffled = random_layout(24 * 24, local.num_edges)
    assert tiles_of(local).fill() > 0.25
    assert tiles_of(shuffled).fill() < 0.125
    assert tiles_of(random_layout(20, 0)).fill() == 0.0


def test_tables_load_few_rows_per_column():
    """On a grid with 29 neighbors, the union of a tile's neighbors is a sixth of their number."""
    layout = grid_layout(32, 3.0)
    tiles = tiles_of(layout)
    rows = int((tiles.target.member >= 0).sum()) / layout.num_columns
    assert rows < float(layout.in_degree.double().mean()) / 5


def test_tables_are_the_same_every_time():
    first, second = (tiles_of(random_layout(80, 900)) for _ in range(2))
    assert torch.equal(first.target.rank, second.target.rank)
    assert torch.equal(first.source.member, second.source.member)
