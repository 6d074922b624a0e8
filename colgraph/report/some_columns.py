"""Distances between some columns of a sheet, and whether they take a search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from colgraph.sheet import Sheet
from colgraph.space import GRAPH_METRICS, Index, Links, Space, apart


def is_searched(sheet: Sheet) -> bool:
    """Whether distances of a sheet are those of shortest paths."""
    return sheet.metric in ("geodesic", *GRAPH_METRICS)


@dataclass(frozen=True, eq=False)
class SomeColumns:
    """Some columns of a space, by their numbers among those."""

    space: Space
    columns: Index

    def between(self, source: Index, target: Index) -> NDArray[np.float64]:
        """``[k]`` how far columns are from each other."""
        return apart(self.space, self.columns[source], self.columns[target])

    def nearest(self, k: int, targets: Index, sources: Index) -> Links:
        """The k nearest sources of each target."""
        found = self.space.nearest(k, self.columns[targets], self.columns[sources])
        source, target = np.searchsorted(self.columns, found[:2])
        return Links(source, target, found.distance)
