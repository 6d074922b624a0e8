"""Which pairs of columns may become edges: all of a small sheet, those within a radius on a large one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from colgraph.edges import Index, edge_codes
from colgraph.sheet import Sheet
from colgraph.space import GRAPH_METRICS, TooManyEdges

MOST_COLUMNS = 1024
"""Up to so many columns every pair may become an edge; where there are more, those within a radius."""

_PER_EDGE = 64  # candidates, at most, so that what is gathered grows with the edges


@dataclass(frozen=True)
class Candidates:
    """Pairs of different columns, by target, then by source; those that are edges at present among them.

    Attributes:
        pairs: ``[2,P]`` source and target.
        length: ``[P]`` how far they are from each other by the sheet's metric, in its units.
        columns: N.
    """

    pairs: Index
    length: NDArray[np.float64]
    columns: int

    def absent(self, edges: Index) -> Index:
        """Which of them are no edges of ``edges [2,E]``, ascending."""
        return np.flatnonzero(~np.isin(edge_codes(self.pairs, self.columns), edge_codes(edges, self.columns)))


def all_candidates(sheet: Sheet, radius: float | None = None) -> Candidates:
    """Where edges may grow on a sheet.

    Args:
        sheet: before its first rewiring, or after: what its distances follow stays.
        radius: in spacings.

    Raises:
        ValueError: without a radius on a sheet of given connections, whose metric says nothing of other pairs, and on
            one of more than ``MOST_COLUMNS`` columns; for a radius within which no column lies, or too many do.
    """
    n = sheet.num_columns
    if radius is None and sheet.metric in GRAPH_METRICS:
        raise ValueError(
            f"rewire_radius: the edges of {sheet.geometry!r} are given (metric {sheet.metric!r}), and which others "
            "could be is not: give --rewire-radius, in spacings along its connections, or a metric that measures all "
            "pairs (--metric euclidean)"
        )
    if radius is None and n > MOST_COLUMNS:
        raise ValueError(
            f"rewire_radius: {n:,} columns have {n * (n - 1):,} pairs, all of which may grow on up to {MOST_COLUMNS:,} "
            "columns only: give --rewire-radius, in spacings"
        )
    everyone, space = np.arange(n), sheet.space
    if radius is None:
        source, target = np.tile(everyone, n), np.repeat(everyone, n)
        pairs = np.stack([source, target])[:, source != target]
        length = space.between(*pairs)
        found = np.isfinite(length)
        pairs, length = pairs[:, found], length[found]
    else:
        limit = max(_PER_EDGE * sheet.edge_index.size(1), MOST_COLUMNS**2)
        try:
            links = space.within(radius * sheet.spacing, everyone, everyone, limit)
        except TooManyEdges as error:
            raise ValueError(
                f"rewire_radius: {radius:g} spacings reach more than {limit:,} pairs of columns: give a smaller radius"
            ) from error
        order = np.lexsort((links.source, links.target))
        pairs, length = np.stack([links.source, links.target])[:, order], links.distance[order]
    if not pairs.shape[1]:
        raise ValueError(
            f"rewire_radius: no two columns of {sheet.geometry!r} lie within {radius:g} spacings: give more"
        )
    return Candidates(pairs, length, n)
