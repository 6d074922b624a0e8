"""Coordinates for drawing networks that have no positions of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SPRING_LIMIT = 400
_LANDMARKS = 32


def drawing_coordinates(edges: NDArray[np.int64], num_columns: int) -> NDArray[np.float64]:
    """``[N,3]`` coordinates for plotting, the same in every run.

    Up to 400 columns: networkx's spring layout with a fixed seed. Beyond: classical scaling of the hop distances to 32
    landmarks that lie far from each other (landmark multidimensional scaling, de Silva and Tenenbaum 2004), whose cost
    grows with the number of edges only.
    """
    if num_columns > _SPRING_LIMIT:
        return _landmark_scaling(edges, num_columns)
    import networkx as nx

    graph = nx.Graph()
    graph.add_nodes_from(range(num_columns))
    graph.add_edges_from(edges.T.tolist())
    places = nx.spring_layout(graph, dim=3, seed=0)
    return np.array([places[i] for i in range(num_columns)], dtype=np.float64)


def _landmark_scaling(edges: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    from scipy.sparse import csr_array

    both = np.concatenate([edges, edges[::-1]], axis=1)
    graph = csr_array((np.ones(both.shape[1]), (both[0], both[1])), shape=(n, n))
    hops = np.empty((_LANDMARKS, n))
    nearest = np.full(n, np.inf)
    landmark = 0
    for row in range(_LANDMARKS):
        hops[row] = _hops_from(graph, landmark)
        nearest = np.minimum(nearest, hops[row])
        landmark = int(np.argmax(nearest))  # the first of those farthest from all landmarks; other pieces first
    finite = hops[np.isfinite(hops)]
    hops[~np.isfinite(hops)] = float(finite.max()) + 2  # unconnected pieces are far from each other
    squared = hops**2
    centred = -0.5 * (squared - squared.mean(0) - squared.mean(1, keepdims=True) + squared.mean())
    _, vectors = np.linalg.eigh(centred @ centred.T)
    axes = vectors[:, :-4:-1]
    axes = axes * np.where(axes[np.abs(axes).argmax(0), range(axes.shape[1])] < 0, -1.0, 1.0)
    points = centred.T @ axes
    scale = float(np.abs(points).max())
    return points / (scale or 1.0)


def _hops_from(graph: Any, root: int) -> NDArray[np.float64]:
    """``[N]`` number of edges from ``root`` to each column of a symmetric graph, infinite where there is no way."""
    from scipy.sparse.csgraph import breadth_first_order

    order, predecessor = breadth_first_order(graph, root)
    parent = np.where(predecessor < 0, np.arange(len(predecessor)), predecessor)
    depth = (predecessor >= 0).astype(np.int64)
    # Each round doubles the length of path that `parent` skips and `depth` counts.
    while (step := depth[parent]).any():
        depth += step
        parent = parent[parent]
    hops = np.full(len(depth), np.inf)
    hops[order] = depth[order]
    return hops
