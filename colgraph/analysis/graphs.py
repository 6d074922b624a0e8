"""The shape of the learned graph, beside random graphs of the same degrees: modules, small world, communicability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import expm_multiply

from colgraph.analysis import plotting
from colgraph.analysis.arrays import Array, as_edge_values, as_edges, as_labels, as_positions, check_count
from colgraph.analysis.result import OnSheet, Result
from colgraph.analysis.stats import column_blocks, jackknife_interval, leaving_out
from colgraph.analysis.topography import MapResult
from colgraph.edges import edge_codes
from colgraph.extras import optional
from colgraph.rewire import swap_ends

__all__ = ["Communicability", "Modularity", "SmallWorld", "communicability", "modularity", "rewire", "small_world"]


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
class _Undirected:
    """Edges ``[2,M]`` between different columns, each once, with the sum of both directions' weights."""

    links: NDArray[np.int64]
    weight: Array
    columns: int

    @classmethod
    def check(cls, edges: Any, weights: Any | None, columns: int | None) -> _Undirected:
        links = as_edges(edges, None if columns is None else check_count("columns", columns))
        n = int(links.max()) + 1 if columns is None else columns
        w = np.ones(links.shape[1]) if weights is None else as_edge_values(weights, links.shape[1], "weights")
        keep = (links[0] != links[1]) & (w > 0)
        code, inverse = np.unique(edge_codes(links[:, keep], n, False), return_inverse=True)
        if len(code) < 2:
            raise ValueError(f"a graph needs at least two edges between different columns, got {len(code)}")
        return cls(np.stack(np.divmod(code, n)), np.bincount(inverse, w[keep]).astype(np.float64), n)

    def random(self, seed: int) -> _Undirected:
        """A graph of the same degrees, the weights dealt out anew."""
        weight = np.random.default_rng(seed).permutation(self.weight)
        return _Undirected(rewire(self.links, self.columns, directed=False, seed=seed), weight, self.columns)

    def matrix(self, weighted: bool = True) -> Any:
        """Symmetric sparse ``[columns, columns]``."""
        w = self.weight if weighted else np.ones(len(self.weight))
        ends = (np.concatenate([self.links[0], self.links[1]]), np.concatenate([self.links[1], self.links[0]]))
        return sparse.coo_array((np.concatenate([w, w]), ends), shape=(self.columns, self.columns)).tocsr()


# ---------------------------------------------------------------------- modules


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Modularity(OnSheet):
    """What :func:`modularity` returns.

    Attributes:
        module: ``[columns]`` the number of a column's module, the largest first.
    """

    module: NDArray[np.int64]

    def picture(self) -> dict[str, Any]:
        """The modules."""
        title = f"{int(self.module.max()) + 1} modules, Q = {self.value:.3f} (by chance {self.null.mean():.3f})"
        return {"values": self.module.astype(np.float64), "label": "module", "title": title}


def modularity(
    edges: Any,
    weights: Any | None = None,
    *,
    columns: int | None = None,
    positions: Any | None = None,
    nulls: int = 10,
    seed: int = 0,
) -> Modularity:
    """How much the graph falls apart into modules.

    ``Q = sum_c [W_cc / W - (s_c / W)^2]`` with ``W_cc`` the weight inside module c, ``s_c`` the strength of its columns
    and W the sum of all strengths (Newman 2006), for the partition that the Louvain method finds (Blondel et al. 2008;
    scikit-network). Directions are added up. Any graph has modules, sparse ones above all, so the null matters: random
    graphs of the same degrees with the weights dealt out anew.

    Interval: jackknife over blocks of columns, the partition kept.

    Args:
        edges: ``[2,E]``.
        weights: ``[E]`` (attention, say); 1 if not given.
        columns: their number; the highest that occurs in an edge, plus one, if not given.
        positions: ``[columns, D]``, for the blocks and the picture.
        nulls: number of random graphs.
        seed: of the partition and the random graphs.

    Raises:
        ValueError: for edges that do not fit, or negative weights.
    """
    graph = _Undirected.check(edges, weights, columns)
    points = None if positions is None else as_positions(positions, graph.columns)
    module = _louvain(graph, seed)
    blocks = column_blocks(graph.columns, graph.links, points)
    left_out = [_quality(graph, module, kept) for kept in leaving_out(blocks)]
    value = _quality(graph, module)
    rewired = [graph.random(seed + 1 + i) for i in range(nulls)]
    return Modularity(
        name="modularity",
        value=value,
        null=np.array([_quality(other, _louvain(other, seed)) for other in rewired]),
        interval=jackknife_interval(value, left_out),
        module=module,
        positions=points,
    )


def _louvain(graph: _Undirected, seed: int) -> NDArray[np.int64]:
    clustering = optional("modularity needs", "sknetwork.clustering", "analysis")
    louvain = clustering.Louvain(random_state=seed, shuffle_nodes=True)
    found = louvain.fit_predict(sparse.csr_matrix(graph.matrix()))
    size, first = np.bincount(found), np.unique(found, return_index=True)[1]
    rank = np.empty(len(size), dtype=np.int64)
    rank[np.lexsort((first, -size))] = np.arange(len(size))
    return np.asarray(rank[found])


def _quality(graph: _Undirected, module: NDArray[np.int64], keep: NDArray[np.bool_] | None = None) -> float:
    """Newman's Q of a partition, of the columns that are kept."""
    links, weight = graph.links, graph.weight
    if keep is not None:
        inside = keep[links[0]] & keep[links[1]]
        links, weight = links[:, inside], weight[inside]
    if not len(weight):
        return 0.0
    within = weight[module[links[0]] == module[links[1]]].sum()
    strength = np.bincount(module[links].ravel(), np.concatenate([weight, weight]))
    return float(within / weight.sum() - ((strength / (2 * weight.sum())) ** 2).sum())


# ---------------------------------------------------------------------- small world


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SmallWorld(Result):
    """What :func:`small_world` returns; the value is sigma.

    Attributes:
        clustering: mean clustering coefficient, and ``clustering_null [nulls]`` that of the random graphs.
        path_length: mean shortest path in hops over connected pairs, and ``path_length_null [nulls]``.
        connected: share of pairs that are connected.
        density: edges over possible edges, the same in every random graph.
    """

    clustering: float
    clustering_null: Array
    path_length: float
    path_length_null: Array
    connected: float
    density: float

    def plot(self, ax: plotting.Axes | None = None) -> plotting.Axes:
        """Draw clustering and path length as multiples of the random graphs'."""
        ax = plotting.axes(ax)
        centre, length = self.clustering_null.mean(), self.path_length_null.mean()
        names = ["clustering", "path length", "sigma"]
        values = np.array([self.clustering / max(centre, 1e-12), self.path_length / length, self.value])
        plotting.draw_bars(ax, names, values, None, "multiple of random graphs", f"sigma = {self.value:.2f}")
        ax.axhline(1, color=plotting.INK, linestyle=":")
        return ax


def small_world(
    edges: Any,
    *,
    columns: int | None = None,
    positions: Any | None = None,
    nulls: int = 10,
    sources: int = 200,
    seed: int = 0,
) -> SmallWorld:
    """Clustering and path length against random graphs of the same degrees.

    With C the mean clustering coefficient and L the mean shortest path (hops, over connected pairs, from a sample of
    source columns), ``sigma = (C / C_random) / (L / L_random)``; above 1 is a small world. Source: Humphries and Gurney
    (2008), "Network 'small-world-ness'". Directions and weights are left aside; for a learned graph give the edges that
    carry attention. The random graphs have exactly the same degrees, hence the same density.

    Null: sigma of each random graph. Interval: jackknife over blocks of columns, in the means over columns and sources.

    Args:
        edges: ``[2,E]``.
        columns: their number; the highest that occurs in an edge, plus one, if not given.
        positions: ``[columns, D]``, for the blocks.
        nulls: number of random graphs, at least 2.
        sources: how many columns shortest paths start from (all, where there are fewer).
        seed: of the sources and the random graphs.

    Raises:
        ValueError: for edges that do not fit, or random graphs without any triangle (too few edges to compare).
    """
    check_count("nulls", nulls, 2)
    graph = _Undirected.check(edges, None, columns)
    points = None if positions is None else as_positions(positions, graph.columns)
    start = np.sort(np.random.default_rng(seed).permutation(graph.columns)[: check_count("sources", sources)])
    clustering = _clustering(graph)
    length, reached = _paths(graph, start)
    random = [graph.random(seed + 1 + i) for i in range(nulls)]
    c_null = np.array([_clustering(other).mean() for other in random])
    l_null = np.array([_mean_path(*_paths(other, start)) for other in random])
    if not c_null.mean() > 0:
        raise ValueError(
            f"random graphs of these degrees have no triangles ({len(graph.weight)} edges, {graph.columns} columns): "
            "sigma cannot be formed on so sparse a graph"
        )

    def sigma(c: Array | float, path: Array | float) -> Any:
        return (c / c_null.mean()) / (path / l_null.mean())

    left_out = [
        sigma(clustering[kept].mean(), _mean_path(length[kept[start]], reached[kept[start]]))
        for kept in leaving_out(column_blocks(graph.columns, graph.links, points))
        if kept[start].any()
    ]
    value = sigma(float(clustering.mean()), _mean_path(length, reached))
    pairs = graph.columns * (graph.columns - 1) / 2
    return SmallWorld(
        name="small-world sigma",
        value=float(value),
        null=np.asarray(sigma(c_null, l_null)),
        interval=jackknife_interval(value, left_out),
        clustering=float(clustering.mean()),
        clustering_null=c_null,
        path_length=_mean_path(length, reached),
        path_length_null=l_null,
        connected=float(reached.sum() / (len(start) * (graph.columns - 1))),
        density=float(len(graph.weight) / pairs),
    )


def _clustering(graph: _Undirected) -> Array:
    """``[columns]``: closed triangles over possible ones; 0 where a column has fewer than two neighbours."""
    a = graph.matrix(weighted=False)
    degree = np.asarray(a.sum(1)).ravel()
    triangles = np.asarray((a @ a).multiply(a).sum(1)).ravel()
    return np.asarray(triangles / np.maximum(degree * (degree - 1), 1))


def _paths(graph: _Undirected, sources: NDArray[np.int64]) -> tuple[Array, Array]:
    """For each source the sum of its shortest paths, and how many columns it reaches."""
    a = graph.matrix(weighted=False)
    total, reached = np.empty(len(sources)), np.empty(len(sources))
    for first in range(0, len(sources), 64):
        chunk = slice(first, first + 64)
        hops = sparse.csgraph.dijkstra(a, directed=False, unweighted=True, indices=sources[chunk])
        finite = np.isfinite(hops)
        total[chunk], reached[chunk] = np.where(finite, hops, 0).sum(1), finite.sum(1) - 1
    return total, reached


def _mean_path(total: Array, reached: Array) -> float:
    return float(total.sum() / max(float(reached.sum()), 1.0))


# ---------------------------------------------------------------------- communicability


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Communicability(MapResult):
    """What :func:`communicability` returns; the map is each column's total communicability.

    Attributes:
        regions: the labels, where any were given.
        between: ``[regions, regions]`` mean communicability of their columns, or None.
    """

    regions: tuple[Any, ...]
    between: Array | None


def communicability(
    edges: Any,
    weights: Any | None = None,
    *,
    normalised: bool = True,
    regions: Any | None = None,
    columns: int | None = None,
    positions: Any | None = None,
    nulls: int = 10,
    seed: int = 0,
) -> Communicability:
    """How well columns reach each other along all walks, short ones counting most.

    ``G = exp(D^{-1/2} W D^{-1/2})`` with W the symmetrised weights and D their strengths (Crofts and Higham 2009, "A
    weighted communicability measure applied to complex brain networks"); ``normalised=False`` takes ``exp(W)``
    (Estrada and Hatano 2008). A column's total communicability is its row sum (Benzi and Klymko 2013); the value is the
    mean over columns. The matrix itself is never formed.

    Null: random graphs of the same degrees with the weights dealt out anew (two-sided). Interval: jackknife over blocks
    of columns.

    Args:
        edges: ``[2,E]``.
        weights: ``[E]``; 1 if not given.
        normalised: divide by strengths first.
        regions: ``[columns]`` labels, to get the mean communicability between regions.
        columns: their number; the highest that occurs in an edge, plus one, if not given.
        positions: ``[columns, D]``, for the blocks and the picture.
        nulls: number of random graphs.
        seed: of the random graphs.

    Raises:
        ValueError: for edges or labels that do not fit.
    """
    graph = _Undirected.check(edges, weights, columns)
    points = None if positions is None else as_positions(positions, graph.columns)
    total = _spread(graph, np.ones((graph.columns, 1)), normalised)[:, 0]
    names: tuple[Any, ...] = ()
    between = None
    if regions is not None:
        labels = as_labels(regions, graph.columns, "regions")
        unique, index = np.unique(labels, return_inverse=True)
        member = (index[:, None] == np.arange(len(unique))).astype(np.float64)
        member /= member.sum(0)
        names, between = tuple(unique.tolist()), member.T @ _spread(graph, member, normalised)
    block = column_blocks(graph.columns, graph.links, points)
    sums, size = np.bincount(block, total), np.bincount(block)
    random = [graph.random(seed + 1 + i) for i in range(nulls)]
    return Communicability(
        name="mean total communicability",
        value=float(total.mean()),
        null=np.array([_spread(other, np.ones((other.columns, 1)), normalised).mean() for other in random]),
        interval=jackknife_interval(total.mean(), (sums.sum() - sums) / (size.sum() - size)),
        tail="two-sided",
        map=total,
        positions=points,
        map_label="total communicability",
        regions=names,
        between=between,
    )


def _spread(graph: _Undirected, start: Array, normalised: bool) -> Array:
    """``exp(W) @ start``."""
    w = graph.matrix()
    if normalised:
        strength = np.asarray(w.sum(1)).ravel()
        scale = sparse.diags_array(1 / np.sqrt(np.where(strength > 0, strength, 1)))
        w = scale @ w @ scale
    return np.asarray(expm_multiply(w.tocsr(), start))
