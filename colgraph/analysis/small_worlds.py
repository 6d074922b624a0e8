"""What is compared at one density: small worlds and rich clubs, beside random graphs of the same degrees.

Clustering, path length and the density of clubs all grow with the number of edges, and attention graphs of one sheet
differ in how many of their stronger edges are self-loops or join a pair twice. So graphs are cut to the same density
first (``density=``), without self-loops and directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from colgraph.analysis import plotting
from colgraph.analysis.arrays import Array, as_positions, check_count
from colgraph.analysis.result import Result
from colgraph.analysis.stats import column_blocks, jackknife_interval, leaving_out
from colgraph.analysis.undirected import Undirected


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SmallWorld(Result):
    """What :func:`small_world` returns; the value is sigma.

    Attributes:
        clustering: mean clustering coefficient, and ``clustering_null [nulls]`` that of the random graphs.
        path_length: mean shortest path in hops over connected pairs, and ``path_length_null [nulls]``.
        connected: share of pairs that are connected.
        density: edges over pairs of columns, the same in every random graph.
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
    weights: Any | None = None,
    *,
    density: float | None = None,
    columns: int | None = None,
    positions: Any | None = None,
    nulls: int = 10,
    sources: int = 200,
    seed: int = 0,
) -> SmallWorld:
    """Clustering and path length against random graphs of the same degrees.

    With C the mean clustering coefficient (0 for a column with fewer than two neighbors) and L the mean shortest path
    (hops, over connected pairs, from a sample of source columns), ``sigma = (C / C_random) / (L / L_random)``; above 1
    is a small world. Source: Humphries and Gurney (2008), "Network 'small-world-ness'"; C and L are those of the Brain
    Connectivity Toolbox (``clustering_coef_bu``, and ``charpath`` without infinite distances). Directions and
    self-loops are left aside, and weights once they have chosen the edges. The random graphs have exactly the same
    degrees, hence the same density. Sigma grows as a graph gets sparser, so compare graphs at one ``density``.

    Null: sigma of each random graph. Interval: jackknife over blocks of columns, in the means over columns and sources.

    Args:
        edges: ``[2,E]``.
        weights: ``[E]`` (attention, say), which choose the edges; those of both directions are added. 1 if not given.
        density: keep the strongest edges, as many as make this share of all pairs of columns; equal ones by a fixed
            draw. All edges if not given.
        columns: their number; the highest that occurs in an edge, plus one, if not given.
        positions: ``[columns, D]``, for the blocks.
        nulls: number of random graphs, at least 2.
        sources: how many columns shortest paths start from (all, where there are fewer).
        seed: of the sources and the random graphs.

    Raises:
        ValueError: for edges that do not fit, a density higher than the graph's, or random graphs without any triangle
            (too few edges to compare).
    """
    check_count("nulls", nulls, 2)
    graph = Undirected.check(edges, weights, columns).strongest(density)
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
        density=graph.density,
    )


def _clustering(graph: Undirected) -> Array:
    """``[columns]``: closed triangles over possible ones; 0 where a column has fewer than two neighbors."""
    a = graph.matrix(weighted=False)
    degree = np.asarray(a.sum(1)).ravel()
    triangles = np.asarray((a @ a).multiply(a).sum(1)).ravel()
    return np.asarray(triangles / np.maximum(degree * (degree - 1), 1))


def _paths(graph: Undirected, sources: NDArray[np.int64]) -> tuple[Array, Array]:
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


# ---------------------------------------------------------------------- rich club


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class RichClub(Result):
    """What :func:`rich_club` returns; the value is the largest normalised coefficient.

    Attributes:
        degree: ``[K]`` the clubs: columns joined to more than so many others.
        members: ``[K]`` how many columns each has.
        coefficient: ``[K]`` edges among them over pairs of them, and ``coefficient_null [nulls, K]`` of the random
            graphs.
        normalised: ``[K]`` the coefficient over the mean of the random graphs'.
        density: edges over pairs of columns, the same in every random graph.
    """

    degree: NDArray[np.int64]
    members: NDArray[np.int64]
    coefficient: Array
    coefficient_null: Array
    normalised: Array
    density: float

    def plot(self, ax: plotting.Axes | None = None) -> plotting.Axes:
        """Draw the normalised coefficient against the degree, beside that of single random graphs."""
        ax = plotting.axes(ax)
        mean = self.coefficient_null.mean(0)
        for row in self.coefficient_null / mean:
            ax.plot(self.degree, row, color=plotting.GREY, linewidth=0.7)
        ax.plot(self.degree, self.normalised, color=plotting.ORANGE, marker="o", markersize=4)
        ax.axhline(1, color=plotting.INK, linestyle=":")
        title = f"{self.name} = {self.value:.2f} (by chance {self.null.mean():.2f})"
        ax.set(xlabel="joined to more than so many columns", ylabel="multiple of random graphs", title=title)
        return ax


def rich_club(
    edges: Any,
    weights: Any | None = None,
    *,
    density: float | None = None,
    smallest: int | None = None,
    columns: int | None = None,
    positions: Any | None = None,
    nulls: int = 10,
    seed: int = 0,
) -> RichClub:
    """Whether columns of many edges are joined among themselves more than their degrees make likely.

    ``phi(k) = 2 E_k / (N_k (N_k - 1))`` with ``N_k`` the columns joined to more than k others and ``E_k`` the edges
    among them, over its mean in random graphs of the same degrees; above 1 over a range of k is a rich club. Sources:
    Colizza et al. (2006), "Detecting rich-club ordering in complex networks"; van den Heuvel and Sporns (2011),
    "Rich-club organization of the human connectome". Directions and self-loops are left aside, and weights once they
    have chosen the edges. The value is the largest over k.

    Null: the same largest value of each random graph. Interval: jackknife over blocks of columns.

    Args:
        edges: ``[2,E]``.
        weights: ``[E]`` (attention, say), which choose the edges; those of both directions are added. 1 if not given.
        density: keep the strongest edges, as many as make this share of all pairs of columns; equal ones by a fixed
            draw. All edges if not given. Compare graphs at one density.
        smallest: how many columns a club has at least; a tenth of all, and three, if not given. The club of all
            columns is left out: its density is the graph's.
        columns: their number; the highest that occurs in an edge, plus one, if not given.
        positions: ``[columns, D]``, for the blocks.
        nulls: number of random graphs, at least 2.
        seed: of the random graphs.

    Raises:
        ValueError: for edges that do not fit, a density higher than the graph's, or a graph without a club (all columns
            of one degree, say).
    """
    check_count("nulls", nulls, 2)
    graph = Undirected.check(edges, weights, columns).strongest(density)
    points = None if positions is None else as_positions(positions, graph.columns)
    least = max(3, graph.columns // 10) if smallest is None else check_count("smallest", smallest, 2)
    degree = graph.degree
    level, count = np.unique(degree, return_counts=True)
    members = graph.columns - np.cumsum(count)
    random = np.array([_clubs(graph.random(seed + 1 + i), level) for i in range(nulls)])
    kept = (members >= least) & (random.mean(0) > 0)
    if not kept.any():
        raise ValueError(
            f"no club of {least} or more columns: of {graph.columns}, {int(count[-1])} have the largest degree, "
            f"{int(level[-1])}, and {int(count[0])} the smallest, {int(level[0])}"
        )
    level, members, random = level[kept], members[kept], random[:, kept]
    mean = random.mean(0)
    clubs = _clubs(graph, level)
    blocks = column_blocks(graph.columns, graph.links, points)
    left_out = [(_clubs(graph, level, some) / mean).max() for some in leaving_out(blocks)]
    value = float((clubs / mean).max())
    return RichClub(
        name="rich-club coefficient",
        value=value,
        null=(random / mean).max(1),
        interval=jackknife_interval(value, left_out),
        degree=level,
        members=members,
        coefficient=clubs,
        coefficient_null=random,
        normalised=clubs / mean,
        density=graph.density,
    )


def _clubs(graph: Undirected, level: NDArray[np.int64], kept: NDArray[np.bool_] | None = None) -> Array:
    """``[K]``: edges over pairs among the columns (that are kept) of a degree above each level; 0 where no pair is."""
    degree = graph.degree if kept is None else np.where(kept, graph.degree, -1)
    lower = degree[graph.links].min(0)
    members = (degree[:, None] > level).sum(0)
    pairs = members * (members - 1) / 2
    return np.asarray((lower[:, None] > level).sum(0) / np.maximum(pairs, 1))
