"""A graph without directions and self-loops, its strongest edges, and random graphs of the same degrees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from colgraph.analysis.arrays import Array, as_edge_values, as_edges, check_count
from colgraph.edges import edge_codes
from colgraph.rewire import swap_ends


def rewire(edges: Any, columns: int, *, directed: bool = True, rounds: int = 10, seed: int = 0) -> NDArray[np.int64]:
    """A random graph with the same degrees: ``[2,E]``.

    See :func:`colgraph.rewire.swap_ends`: Maslov and Sneppen's swaps of ends, so that every degree stays.

    Args:
        edges: ``[2,E]`` without duplicates; undirected graphs have each edge once.
        columns: number of columns.
        directed: False swaps ends regardless of direction.
        rounds: each tries to swap every edge once.
        seed: of the matching.

    Raises:
        ValueError: for edges out of range or given twice.
    """
    links = as_edges(edges, check_count("columns", columns))
    return swap_ends(links, columns, directed=directed, rounds=rounds, seed=seed)


@dataclass(frozen=True, eq=False)
class Undirected:
    """Edges ``[2,M]`` between different columns, each once, with the sum of both directions' weights."""

    links: NDArray[np.int64]
    weight: Array
    columns: int

    @classmethod
    def check(cls, edges: Any, weights: Any | None, columns: int | None) -> Undirected:
        links = as_edges(edges, None if columns is None else check_count("columns", columns))
        n = int(links.max()) + 1 if columns is None else columns
        w = np.ones(links.shape[1]) if weights is None else as_edge_values(weights, links.shape[1], "weights")
        keep = (links[0] != links[1]) & (w > 0)
        code, inverse = np.unique(edge_codes(links[:, keep], n, False), return_inverse=True)
        if len(code) < 2:
            raise ValueError(f"a graph needs at least two edges between different columns, got {len(code)}")
        return cls(np.stack(np.divmod(code, n)), np.bincount(inverse, w[keep]).astype(np.float64), n)

    @property
    def density(self) -> float:
        """Edges over pairs of columns."""
        return len(self.weight) / (self.columns * (self.columns - 1) / 2)

    @property
    def degree(self) -> NDArray[np.int64]:
        """``[columns]``: how many others each is joined to."""
        return np.bincount(self.links.ravel(), minlength=self.columns)

    def strongest(self, density: float | None) -> Undirected:
        """The edges of the largest weight, up to a density; all of them where none is given.

        Equal weights (to nine digits of the largest) are told apart by a draw that depends on nothing but the graph:
        by their order, graphs of equal weights would keep the edges of the first columns.

        Raises:
            ValueError: for a density that is none, leaves fewer than two edges, or is higher than the graph's.
        """
        if density is None:
            return self
        pairs = self.columns * (self.columns - 1) / 2
        count = round(density * pairs) if 0 < density <= 1 else 0
        if not 2 <= count <= len(self.weight):
            raise ValueError(
                f"density must be from {2 / pairs:.3g} to {self.density:.3g}, that of all edges between different "
                f"columns, got {density:g}"
            )
        chance = np.random.default_rng(0).permutation(len(self.weight))
        rank = np.lexsort((chance, -np.round(self.weight / self.weight.max(), 9)))
        kept = np.sort(rank[:count])
        return Undirected(self.links[:, kept], self.weight[kept], self.columns)

    def random(self, seed: int) -> Undirected:
        """A graph of the same degrees, the weights dealt out anew."""
        weight = np.random.default_rng(seed).permutation(self.weight)
        return Undirected(rewire(self.links, self.columns, directed=False, seed=seed), weight, self.columns)

    def matrix(self, weighted: bool = True) -> Any:
        """Symmetric sparse ``[columns, columns]``."""
        w = self.weight if weighted else np.ones(len(self.weight))
        ends = (np.concatenate([self.links[0], self.links[1]]), np.concatenate([self.links[1], self.links[0]]))
        return sparse.coo_array((np.concatenate([w, w]), ends), shape=(self.columns, self.columns)).tocsr()
