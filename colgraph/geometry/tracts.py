"""Long-range edges between the areas of a surface, drawn from a connectome, and a hub outside the surface."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from colgraph.edges import Index

Array = NDArray[np.float64]


def draw_tracts(strength: Array, members: Sequence[Index], count: int, rng: np.random.Generator) -> tuple[Index, Index]:
    """Edges between areas in proportion to the strengths of their connections.

    Which columns of two areas are joined is drawn uniformly, no pair twice. Edges within an area are not drawn: there
    its own local edges are. A pair of areas holds no more edges than it has pairs of columns; what is above goes to the
    others, again in proportion.

    Args:
        strength: ``[A,A]`` from the area of the row to that of the column, 0 where there is none.
        members: the columns of each area.
        count: number of edges.
        rng: of the draw.

    Returns:
        ``[2,count]`` source and target, and ``[2,count]`` the areas of both.

    Raises:
        ValueError: where the areas that are connected have too few columns for so many edges.
    """
    sizes = np.array([len(columns) for columns in members])
    room = np.outer(sizes, sizes)
    weight = np.where(room > 0, strength, 0.0)
    np.fill_diagonal(weight, 0)
    room = np.where(weight > 0, room, 0).ravel()
    if count > room.sum():
        raise ValueError(
            f"long_range asks for {count:,} edges, but the connectome's areas have only {room.sum():,} pairs of "
            "columns here: ask for fewer"
        )
    drawn = _apportion(weight.ravel(), room, count, rng)
    source, target, ends = [], [], []
    for pair in np.flatnonzero(drawn):
        a, b = divmod(int(pair), len(members))
        chosen = np.sort(rng.choice(int(room[pair]), int(drawn[pair]), replace=False))
        source.append(members[a][chosen // sizes[b]])
        target.append(members[b][chosen % sizes[b]])
        ends.append(np.repeat([[a], [b]], chosen.size, axis=1))
    empty = np.empty((2, 0), dtype=np.int64)
    pairs = np.stack([np.concatenate(source), np.concatenate(target)]) if source else empty
    return pairs, np.concatenate([empty, *ends], axis=1)


def _apportion(weight: Array, room: Index, count: int, rng: np.random.Generator) -> Index:
    """How many of ``count`` go to each, in proportion to ``weight`` but no more than there is ``room``."""
    given = np.zeros(weight.size, dtype=np.int64)
    while (left := count - int(given.sum())) > 0:
        free = np.where(given < room, weight, 0.0)
        # Relative to the largest: sums of strengths that were logarithms may overflow.
        free = free / free.max()
        given = np.minimum(given + rng.multinomial(left, free / free.sum()), room)
    return given


def hub_positions(center: Array, spacing: float, count: int) -> Array:
    """``[count,3]`` places evenly spread over a small sphere of radius ``spacing`` (a Fibonacci lattice)."""
    k = np.arange(count) + 0.5
    height, turn = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    across = np.sqrt(np.maximum(1 - height**2, 0))
    return center + spacing * np.stack([across * np.cos(turn), across * np.sin(turn), height], 1)


def hub_edges(members: Sequence[Index], hub: Index, rng: np.random.Generator) -> Index:
    """Edges ``[2,T]`` both ways: every column of an area listens to one column of the hub, those of an area to all
    of them in turn; and every column of the hub listens to one column of each area, drawn.
    """
    down, up = [], []
    for columns in members:
        if not len(columns):
            continue
        speakers = rng.permutation(np.resize(rng.permutation(hub), len(columns)))
        down.append(np.stack([speakers, columns]))
        up.append(np.stack([rng.choice(columns, hub.size, replace=hub.size > len(columns)), hub]))
    return np.concatenate([*down, *up], axis=1)
