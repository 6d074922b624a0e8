"""What every space gives: edges with their lengths."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from colgraph.edges import Index


class Links(NamedTuple):
    """Edges and their lengths, each array ``[E]``: ``target`` listens to ``source``."""

    source: Index
    target: Index
    distance: NDArray[np.float64]

    def take(self, which: Index | NDArray[np.bool_]) -> Links:
        """Some of the edges, by index or mask."""
        return Links(self.source[which], self.target[which], self.distance[which])


class TooManyEdges(ValueError):
    """A radius that reaches more columns than can be kept."""

    def __init__(self, radius: float, limit: int) -> None:
        super().__init__(
            f"radius {radius:g} makes more than the {limit:,} edges that are allowed: choose a smaller radius or a KNN "
            "neighborhood"
        )


class Space(Protocol):
    """A geometry with a distance."""

    metric: str

    def nearest(self, k: int, targets: Index, sources: Index) -> Links:
        """For each of ``targets``, the k nearest others among ``sources`` (fewer where there are fewer)."""

    def within(self, radius: float, targets: Index, sources: Index, limit: int) -> Links:
        """For each of ``targets``, the others among ``sources`` within ``radius``; at most ``limit`` pairs in all."""

    def between(self, source: Index, target: Index) -> NDArray[np.float64]:
        """Distance from each source to its target; infinite where there is no way."""

    def spacing(self) -> float:
        """Median over columns of the distance to the nearest other column at another place; 1 where there is none."""


def join(parts: list[Links]) -> Links:
    """All edges of several parts, in their order."""
    if len(parts) == 1:
        return parts[0]
    empty = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    return Links(*(np.concatenate(arrays) for arrays in zip(*parts, empty, strict=True)))
