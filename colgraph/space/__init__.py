"""How far columns are from each other: one answer for geometries, sheets, controls, analyses and figures.

Every metric is a *space*: it finds the nearest columns, those within a radius, and the distance of given pairs, always
sparsely.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from colgraph.edges import Index
from colgraph.space.links import Links, Space, TooManyEdges, join
from colgraph.space.paths import make_paths
from colgraph.space.place import GRAPH_METRICS, METRICS, Place
from colgraph.space.points import Euclidean, GreatCircle, Periodic

__all__ = [
    "GRAPH_METRICS",
    "METRICS",
    "Index",
    "Links",
    "Place",
    "Space",
    "TooManyEdges",
    "apart",
    "join",
    "make_space",
]


def make_space(place: Place, metric: str) -> Space:
    """The space of a place under a metric, one of ``METRICS``.

    Raises:
        ValueError: where the place cannot serve the metric.
    """
    place.check_metric(metric)
    if metric == "euclidean":
        return Euclidean(place.positions)
    if metric == "great_circle":
        return GreatCircle(place.positions, place.name)
    if metric == "periodic":
        return Periodic(place.positions, place.period or (0.0, 0.0, 0.0))
    return make_paths(place, metric)


def apart(space: Space, first: Index, second: Index) -> NDArray[np.float64]:
    """``[P]`` how far the columns of each pair are from each other, whichever is the source: the shorter way.

    Args:
        space: of the columns.
        first: ``[P]`` one column of each pair.
        second: ``[P]`` the other.
    """
    distance = space.between(first, second)
    return np.minimum(distance, space.between(second, first)) if space.metric in GRAPH_METRICS else distance
