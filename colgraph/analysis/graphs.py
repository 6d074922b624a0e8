"""The shape of the weighted graph, beside random graphs of the same degrees: modules and communicability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import expm_multiply

from colgraph.analysis.arrays import Array, as_labels, as_positions, region_names
from colgraph.analysis.result import OnSheet
from colgraph.analysis.stats import column_blocks, jackknife_interval, leaving_out
from colgraph.analysis.topography import MapResult
from colgraph.analysis.undirected import Undirected
from colgraph.extras import optional

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
        return {"values": self.module.astype(np.float64), "label": "module", "title": title, "labels": True}


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
    graph = Undirected.check(edges, weights, columns)
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


def _louvain(graph: Undirected, seed: int) -> NDArray[np.int64]:
    clustering = optional("modularity needs", "sknetwork.clustering", "analysis")
    louvain = clustering.Louvain(random_state=seed, shuffle_nodes=True)
    found = louvain.fit_predict(sparse.csr_matrix(graph.matrix()))
    size, first = np.bincount(found), np.unique(found, return_index=True)[1]
    rank = np.empty(len(size), dtype=np.int64)
    rank[np.lexsort((first, -size))] = np.arange(len(size))
    return np.asarray(rank[found])


def _quality(graph: Undirected, module: NDArray[np.int64], keep: NDArray[np.bool_] | None = None) -> float:
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
        regions: ``[columns]`` labels (below 0 of none), to get the mean communicability between regions.
        columns: their number; the highest that occurs in an edge, plus one, if not given.
        positions: ``[columns, D]``, for the blocks and the picture.
        nulls: number of random graphs.
        seed: of the random graphs.

    Raises:
        ValueError: for edges or labels that do not fit.
    """
    graph = Undirected.check(edges, weights, columns)
    points = None if positions is None else as_positions(positions, graph.columns)
    total = _spread(graph, np.ones((graph.columns, 1)), normalised)[:, 0]
    names: tuple[Any, ...] = ()
    between = None
    if regions is not None:
        labels = as_labels(regions, graph.columns, "regions")
        unique = region_names(labels)
        member = (labels[:, None] == unique).astype(np.float64)
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


def _spread(graph: Undirected, start: Array, normalised: bool) -> Array:
    """``exp(W) @ start``."""
    w = graph.matrix()
    if normalised:
        strength = np.asarray(w.sum(1)).ravel()
        scale = sparse.diags_array(1 / np.sqrt(np.where(strength > 0, strength, 1)))
        w = scale @ w @ scale
    return np.asarray(expm_multiply(w.tocsr(), start))
