"""Distance along connections: over a surface (geodesic), along given lengths, or in numbers of edges (hops).

Nothing dense of size N x N is ever made. Columns that lie together are served together: shortest paths are searched in
the part of the graph around them, which is grown until nothing outside could be nearer. A path that leaves the part
passes one of its *exits* (columns with an edge out of it), so all distances up to that of the nearest exit are exact.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from colgraph.edges import Index, ranges
from colgraph.layout import spatial_order
from colgraph.space.connections import (
    connections,
    distinct_faces,
    listening_matrix,
    num_seam_vertices,
    shared_edges,
)
from colgraph.space.links import Links, TooManyEdges, join
from colgraph.space.place import Place
from colgraph.space.ties import TOLERANCE, nearest_mask
from colgraph.space.unfold import MOST_FACES, surface_lines

# Columns that are served together.
_ROWS = 64


class _Part(NamedTuple):
    """Exact distances of some columns within the part of the graph around them.

    ``distance [m,S]`` is the way from each of ``columns [S]`` to each of ``rows [m]``; it is exact where it is below
    ``reach [m]``, and whatever is not in the part is at ``reach`` or beyond.
    """

    rows: Index
    columns: Index
    distance: NDArray[np.float64]
    reach: NDArray[np.float64]

    def take(self, which: NDArray[np.bool_]) -> _Part:
        return _Part(self.rows[which], self.columns, self.distance[which], self.reach[which])


def make_paths(place: Place, metric: str) -> Paths:
    """The space of shortest paths over a place's surface or edges."""
    if metric == "geodesic" and place.faces is not None:
        faces = distinct_faces(place.faces)
        _warn_of_walls(place.name, place.positions, faces)
        lines = surface_lines(place.positions, faces)
    else:
        lines = connections(place, metric)
    return Paths(listening_matrix(*lines, place.num_columns), place.positions, metric)


def _warn_of_walls(name: str, positions: NDArray[np.float64], faces: Index) -> None:
    """Say where a surface is cut though it may not look so: distances go around such places, or nowhere."""
    edges, shared = shared_edges(faces, len(positions))
    walls = int((shared > MOST_FACES).sum())
    if walls:
        warnings.warn(
            f"{name}: more than {MOST_FACES} faces meet at {walls} edges, over which geodesics do not run straight: "
            "lengths there are up to 41% too long (are there faces upon each other?)",
            UserWarning,
            stacklevel=4,
        )
    seams = num_seam_vertices(positions, edges, shared)
    if seams:
        warnings.warn(
            f"{name}: {seams} vertices on borders of the surface lie where others lie, but are not joined to them: "
            "geodesics do not cross there (merge_vertices=True joins what is at exactly the same place)",
            UserWarning,
            stacklevel=4,
        )


class Paths:
    """Shortest paths along a graph.

    Args:
        graph: ``[N,N]`` row i holds the length of each edge into i.
        positions: ``[N,3]``, only to find out which columns lie together.
        metric: what the paths mean.
    """

    def __init__(self, graph: csr_array, positions: NDArray[np.float64], metric: str) -> None:
        self.metric = metric
        self._graph = graph
        self._n = graph.shape[0]
        # Where each column comes in an order that keeps neighbors together.
        self._place = np.empty(self._n, np.int64)
        self._place[spatial_order(positions)] = np.arange(self._n)
        self._scratch = np.full(self._n, -1)
        self._rings = 2

    def nearest(self, k: int, targets: Index, sources: Index) -> Links:
        allowed = np.zeros(self._n, dtype=bool)
        allowed[sources] = True

        def finished(part: _Part) -> NDArray[np.bool_]:
            others = _others(part, allowed)
            if others.columns.size < k:
                return np.zeros(part.rows.size, dtype=bool)
            kth = np.partition(others.distance, k - 1, axis=1)[:, k - 1]
            return np.isfinite(kth) & (kth * (1 + TOLERANCE) < part.reach)

        found = []
        for part in self._parts(targets, finished):
            others = _others(part, allowed)
            source = np.broadcast_to(others.columns, others.distance.shape)
            found.append(_links(others, nearest_mask(others.rows, source, others.distance, k)))
        return join(found)

    def within(self, radius: float, targets: Index, sources: Index, limit: int) -> Links:
        allowed = np.zeros(self._n, dtype=bool)
        allowed[sources] = True
        radius_and_ties = radius * (1 + TOLERANCE)
        found, total = [], 0
        for part in self._parts(targets, lambda part: radius_and_ties < part.reach):
            others = _others(part, allowed)
            found.append(_links(others, others.distance <= radius_and_ties))
            total += found[-1].source.size
            if total > limit:
                raise TooManyEdges(radius, limit)
        return join(found)

    def between(self, source: Index, target: Index) -> NDArray[np.float64]:
        out = np.empty(source.size)
        order = np.argsort(target, kind="stable")
        first = np.searchsorted(target[order], np.arange(self._n + 1))

        def wanted(part: _Part) -> tuple[Index, Index, NDArray[np.float64]]:
            """The edges into the part's rows, the row of each, and its length so far (infinite outside the part)."""
            edge = order[ranges(first[part.rows], first[part.rows + 1])]
            row = np.repeat(np.arange(part.rows.size), first[part.rows + 1] - first[part.rows])
            self._scratch[part.columns] = np.arange(part.columns.size)
            column = self._scratch[source[edge]]
            self._scratch[part.columns] = -1
            return edge, row, np.where(column >= 0, part.distance[row, column], np.inf)

        def finished(part: _Part) -> NDArray[np.bool_]:
            _, row, length = wanted(part)
            early = length > part.reach[row]
            return np.bincount(row[early], minlength=part.rows.size) == 0

        for part in self._parts(np.unique(target), finished):
            edge, _, length = wanted(part)
            out[edge] = length
        return out

    def spacing(self) -> float:
        length = self._graph.data
        row = np.repeat(np.arange(self._n), np.diff(self._graph.indptr))
        real = length > 0
        nearest = np.full(self._n, np.inf)
        for end in (row, self._graph.indices):
            np.minimum.at(nearest, end[real], length[real])
        nearest = nearest[np.isfinite(nearest)]
        return float(np.median(nearest)) if nearest.size else 1.0

    def _parts(self, targets: Index, finished: Callable[[_Part], NDArray[np.bool_]]) -> Iterator[_Part]:
        """Each of ``targets`` once, as a row of a part that is large enough: ``finished``, or the whole piece."""
        targets = targets[np.argsort(self._place[targets], kind="stable")]
        for start in range(0, targets.size, _ROWS):
            rows, rings = targets[start : start + _ROWS], self._rings
            while rows.size:
                part = self._around(rows, rings)
                done = finished(part) | np.isinf(part.reach)
                if done.any():
                    yield part.take(done)
                if 2 * done.sum() >= rows.size:
                    # Where most columns of this block were served, start with the next block.
                    self._rings = rings
                rows, rings = rows[~done], rings + max(1, rings // 2)

    def _around(self, rows: Index, rings: int) -> _Part:
        """Distances to ``rows`` within the columns that are at most ``rings`` edges away from one of them."""
        columns = self._ball(rows, rings)
        self._scratch[columns] = np.arange(columns.size)
        begin, end = self._graph.indptr[columns], self._graph.indptr[columns + 1]
        entry = ranges(begin, end)
        local = self._scratch[self._graph.indices[entry]]
        self._scratch[columns] = -1
        inside = local >= 0
        row = np.repeat(np.arange(columns.size), end - begin)
        exits = np.bincount(row[~inside], minlength=columns.size) > 0
        indptr = np.searchsorted(row[inside], np.arange(columns.size + 1))
        graph = csr_array((self._graph.data[entry[inside]], local[inside], indptr), shape=(columns.size,) * 2)
        # The rows come first among the columns of their ball.
        distance = dijkstra(graph, indices=np.arange(rows.size))
        reach = distance[:, exits].min(1) if exits.any() else np.full(rows.size, np.inf)
        return _Part(rows, columns, distance, reach)

    def _ball(self, rows: Index, rings: int) -> Index:
        """``rows``, then their neighbors, and so on outwards."""
        shells = [rows]
        self._scratch[rows] = 0
        for _ in range(rings):
            last = shells[-1]
            near = self._graph.indices[ranges(self._graph.indptr[last], self._graph.indptr[last + 1])]
            fresh = np.unique(near[self._scratch[near] < 0])
            if not fresh.size:
                break
            self._scratch[fresh] = 0
            shells.append(fresh.astype(np.int64))
        ball = np.concatenate(shells)
        self._scratch[ball] = -1
        return ball


def _others(part: _Part, allowed: NDArray[np.bool_]) -> _Part:
    """A part without the columns that may not be listened to; a column is infinitely far from itself."""
    keep = allowed[part.columns]
    distance = part.distance[:, keep]
    columns = part.columns[keep]
    distance[columns == part.rows[:, None]] = np.inf
    return _Part(part.rows, columns, distance, part.reach)


def _links(part: _Part, chosen: NDArray[np.bool_]) -> Links:
    row, column = np.nonzero(chosen)
    return Links(part.columns[column], part.rows[row], part.distance[row, column])
