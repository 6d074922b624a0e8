"""What a geometry is: where columns sit, what distance means, and what it may say about edges, inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["DIRECTIONS", "METRICS", "Geometry"]

METRICS = ("euclidean", "great_circle", "periodic", "geodesic", "hops", "given")
DIRECTIONS = ("both", "forward", "forward+lateral")


@dataclass(frozen=True, eq=False)
class Geometry:
    """Columns in space, before anybody has chosen who listens to whom.

    Attributes:
        positions: ``[N,3]`` coordinates (``[N,1]`` and ``[N,2]`` are padded with zeros).
        faces: ``[F,3]`` triangles of a surface, or None.
        edges: ``[2,E]`` source and target of the geometry's own connections, or None.
        edge_distance: ``[E]`` their lengths, or None.
        metric: one of ``METRICS``: what distance means here unless the user asks for another.
        name: what messages and reports call it.
        layer: ``[N]`` integer label per column, or None.
        direction: which pairs of layers may be connected: "both" (any), "forward" (only l to l + 1) or
            "forward+lateral" (l to l and l to l + 1).
        period: side lengths of the periodic box (metric "periodic"); 0 where an axis does not wrap.
        axis: ``[3]`` vector that points from inputs to outputs, or None for the widest axis.
        inputs: indices of the input columns in order of rank, or None to let :func:`build_sheet` choose.
        outputs: indices of the columns to read out, or None to let :func:`build_sheet` choose.
        names: a name per column (areas of a connectome), or None.
        spatial: whether the positions mean anything; False where they come from a graph layout, for plotting only.

    Raises:
        ValueError: on construction, for shapes, ranges and values that make no geometry.
    """

    positions: np.ndarray
    faces: np.ndarray | None = None
    edges: np.ndarray | None = None
    edge_distance: np.ndarray | None = None
    metric: str = "euclidean"
    name: str = "custom"
    layer: np.ndarray | None = None
    direction: str = "both"
    period: tuple[float, ...] | None = None
    axis: ArrayLike | None = None
    inputs: ArrayLike | None = None
    outputs: ArrayLike | None = None
    names: Sequence[str] | None = None
    spatial: bool = True
