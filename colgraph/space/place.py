"""Where columns lie: all that a metric can need to say how far they are from each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from colgraph.hints import closest

METRICS = ("euclidean", "great_circle", "periodic", "geodesic", "hops", "given")
"""What distance may mean; see :func:`colgraph.space.make_space`."""

GRAPH_METRICS = ("hops", "given")
"""Metrics that follow connections; the only ones that mean something where positions do not."""


@dataclass(frozen=True, eq=False)
class Place:
    """Columns in space, as geometries and sheets hand them to a metric.

    Attributes:
        positions: ``[N,3]`` float64.
        faces: ``[F,3]`` int64 triangles of a surface, or None.
        edges: ``[2,E]`` int64 source and target of connections to follow, or None.
        edge_distance: ``[E]`` float64, their lengths, or None.
        period: side lengths of the periodic box, 0 where an axis does not wrap, or None.
        spatial: whether the positions mean anything.
        name: what messages call it.
    """

    positions: NDArray[np.float64]
    faces: NDArray[np.int64] | None = None
    edges: NDArray[np.int64] | None = None
    edge_distance: NDArray[np.float64] | None = None
    period: tuple[float, ...] | None = None
    spatial: bool = True
    name: str = "sheet"

    @property
    def num_columns(self) -> int:
        """Number of columns N."""
        return len(self.positions)

    def __eq__(self, other: object) -> bool:
        alike = isinstance(other, Place)
        return alike and all(np.array_equal(mine, vars(other)[name]) for name, mine in vars(self).items())

    __hash__ = None  # type: ignore[assignment]

    def check_metric(self, metric: str) -> None:
        """Raise ValueError unless distances under ``metric``, one of ``METRICS``, can be measured here."""
        if metric not in METRICS:
            raise ValueError(f"unknown metric {metric!r}{closest(metric, METRICS)}")
        if not self.spatial and metric not in GRAPH_METRICS:
            raise ValueError(
                f"metric {metric!r} needs positions, but those of {self.name!r} are a layout for plotting: "
                "use 'given' or 'hops', or give the nodes positions"
            )
        if metric == "geodesic" and self.faces is None:
            raise ValueError(f"metric 'geodesic' needs a surface with faces, and {self.name!r} has none")
        if metric in GRAPH_METRICS and self.edges is None and self.faces is None:
            raise ValueError(f"metric {metric!r} needs edges or faces, and {self.name!r} has neither")
        if metric == "periodic" and self.period is None:
            raise ValueError(f"metric 'periodic' needs period, the side lengths of the box, and {self.name!r} has none")
