"""Which edges go and which come: plain arrays in, indices out."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from colgraph.edges import Index

GROWTHS = ("gradient", "distance", "random")
"""By what edges are grown."""

_KINDS = ("edges", "wire")
_ROOM = 1 + 1e-9  # sums of lengths in another order differ in their last digits


class Budget(NamedTuple):
    """What a sheet may have: a share of the edges, or of the wire, that it began with; self-loops do not count.

    Attributes:
        kind: "edges" or "wire".
        share: of what there is at the start, between 0 and 1.
    """

    kind: str
    share: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Budget:
        """From ``edges``, ``wire``, or with a share, ``wire:0.5``.

        Raises:
            ValueError: for anything else.
        """
        kind, colon, number = text.partition(":")
        try:
            share = float(number) if colon else 1.0
        except ValueError:
            share = math.nan
        if kind not in _KINDS or not 0 < share <= 1:
            raise ValueError(
                f"must be edges, wire, or one of them with a share of at most 1, such as wire:0.5, got {text!r}"
            )
        return cls(kind, share)

    def amount(self, edges: Index, length: NDArray[np.float64]) -> float:
        """How much of it some edges ``[2,E]`` with lengths ``[E]`` are."""
        others = edges[0] != edges[1]
        return float(others.sum()) if self.kind == "edges" else float(length[others].sum())

    def check(self, edges: Index, length: NDArray[np.float64]) -> None:
        """Refuse a budget that has no room for an edge to every column that hears another one.

        Raises:
            ValueError: naming what there would be, and what it takes.
        """
        there, others = self.amount(edges, length), edges[0] != edges[1]
        hearing = np.unique(edges[1][others])
        if not there:
            raise ValueError(f"a budget of {self.kind} needs some to begin with, and the sheet has none: give edges")
        shortest = np.full(int(edges.max(initial=0)) + 1, np.inf)
        np.minimum.at(shortest, edges[1][others], length[others])
        least = float(len(hearing)) if self.kind == "edges" else float(shortest[hearing].sum())
        if self.share * there * _ROOM < least:
            unit = "" if self.kind == "edges" else " (in the sheet's units)"
            raise ValueError(
                f"a share of {self.share:g} leaves {self.share * there:,.6g} of {there:,.6g} {self.kind}{unit}, less "
                f"than one edge for each of the {len(hearing):,} columns that hear others, {least:,.6g}: give "
                f"{self.kind}:{math.ceil(1000 * least / there) / 1000:g} or more"
            )


class Exchange(NamedTuple):
    """What becomes of the edges.

    Attributes:
        kept: ``[K]`` edges that stay, ascending.
        grown: ``[G]`` candidates that become edges, ascending.
    """

    kept: Index
    grown: Index


def growth_order(value: NDArray[np.float64], seed: int) -> Index:
    """Candidates from the largest ``value [P]`` to the smallest; ties in an order that follows from the seed."""
    return np.lexsort((np.random.default_rng(seed).permutation(len(value)), -value))


def drawn_values(log_odds: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Values whose order draws candidates without replacement, each with odds ``exp(log_odds)``.

    The largest of log odds plus Gumbel noise is a draw by the odds, the second one a draw among the rest, and so on
    (Kool, van Hoof and Welling, 2019, "Stochastic beams and where to find them").
    """
    return log_odds + np.random.default_rng(seed).gumbel(size=len(log_odds))


def exchange(
    edges: Index,
    length: NDArray[np.float64],
    received: NDArray[np.float64],
    fresh: NDArray[np.bool_],
    order: Index,
    candidate_length: NDArray[np.float64],
    *,
    kind: str,
    limit: float,
    rate: float,
    seed: int,
) -> Exchange:
    """Give up the weakest edges and grow the best candidates, within a budget.

    Never given up: self-loops, fresh edges, and the strongest edge by which each column hears another one. The
    strongest by which a column is heard goes only where the budget shrinks below what is there.

    Args:
        edges: ``[2,E]`` source and target.
        length: ``[E]``, of every edge.
        received: ``[E]`` attention, by which edges are weak or strong.
        fresh: ``[E]`` edges that were grown last time.
        order: candidates ``[P]`` that are no edges yet, the best first.
        candidate_length: of every candidate that ``order`` names.
        kind: of the budget, "edges" or "wire".
        limit: how many edges between different columns there may be, or how long they may be in all.
        rate: share of the edges between different columns that is exchanged.
        seed: of the order of edges that are equally weak.

    Returns:
        What stays and what comes. There are no more edges (or wire) than before, and no more than ``limit``, unless
        what is never given up exceeds it.
    """
    others = edges[0] != edges[1]
    going = _weakest_first(edges, received, fresh, others, seed)
    count = int(others.sum())
    cost = others.astype(np.float64) if kind == "edges" else np.where(others, length, 0.0)
    price = np.ones(len(candidate_length)) if kind == "edges" else candidate_length
    order = order[price[order] > 0]  # wire that has no length would all be grown at once
    there = float(cost.sum())
    limit = min(limit, there) * _ROOM
    swaps = min(round(rate * count), len(going.freely), len(order))
    last = going.freely[:swaps]
    over = there - limit
    rest = np.concatenate([going.freely[swaps:], going.reluctantly])
    # As many more of the weakest as it takes to come within the budget: what is given up in exchange is grown again.
    more = rest[: int(np.searchsorted(np.cumsum(cost[rest]), over * (1 - 1e-12))) + 1] if over > 0 else rest[:0]
    kept = np.ones(edges.shape[1], dtype=bool)
    kept[last] = kept[more] = False
    room = limit - float(cost[kept].sum())
    return Exchange(np.flatnonzero(kept), np.sort(_as_many_as_fit(order, price, room)))


class _Going(NamedTuple):
    freely: Index
    reluctantly: Index


def _weakest_first(edges: Index, received: Any, fresh: Any, others: NDArray[np.bool_], seed: int) -> _Going:
    """Edges that may be given up, the weakest first: in exchange for others, and only where there are too many."""
    chance = np.random.default_rng(seed).permutation(edges.shape[1])
    ranked = np.lexsort((chance, received))
    ranked = ranked[others[ranked]]
    best = [np.full(int(edges.max(initial=0)) + 1, -1) for _ in range(2)]
    for side, strongest in zip(edges, best, strict=True):
        strongest[side[ranked]] = ranked  # the last one written, which is the strongest, stays
    heard_by, hears_by = (np.isin(ranked, strongest) for strongest in best)
    may_go = ~hears_by & ~fresh[ranked]
    return _Going(ranked[may_go & ~heard_by], ranked[may_go & heard_by])


def _as_many_as_fit(order: Index, price: NDArray[np.float64], room: float) -> Index:
    """Candidates in this order, passing over each that there is no room for."""
    taken = []
    while len(order):
        spent = np.cumsum(price[order])
        fitting = int(np.searchsorted(spent, room, side="right"))
        if fitting:
            taken.append(order[:fitting])
            room -= float(spent[fitting - 1])
        order = order[fitting:]
        order = order[price[order] <= room]
    return np.concatenate(taken) if taken else np.empty(0, dtype=np.int64)
