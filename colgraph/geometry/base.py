"""What a geometry is: where columns sit, what distance means, and what it may say about edges, inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from colgraph import checks
from colgraph.hints import closest
from colgraph.space import Place

HUB = "hub"
"""The area of columns outside a surface that talk to all areas."""

DIRECTIONS = ("both", "forward", "forward+lateral")
_AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


@dataclass(frozen=True, eq=False)
class Geometry:
    """Columns in space, before anybody has chosen who listens to whom.

    Arrays may be given as numpy arrays, torch tensors or nested lists; they are copied, checked and kept as numpy
    arrays of the types below.

    Attributes:
        positions: ``[N,3]`` float64 coordinates (``[N,1]`` and ``[N,2]`` are padded with zeros).
        faces: ``[F,3]`` int64 triangles of a surface, or None.
        edges: ``[2,E]`` int64 source and target of the geometry's own connections, or None. A list of pairs (source,
            target) will do too, but two lists of two columns may mean either and are refused.
        edge_distance: ``[E]`` float64, their lengths, or None. An edge without a length of its own is as long as the
            straight line between its ends, or 1 where positions mean nothing. The metrics "given" and "hops" follow
            them; any other measures edges itself, and :func:`build_sheet` warns where it finds other lengths.
        metric: one of ``colgraph.space.METRICS``: what distance means here unless the user asks for another.
        name: what messages and reports call it.
        layer: ``[N]`` int64 label per column, or None.
        direction: which pairs of layers may be connected: "both" (any), "forward" (only l to l + 1) or
            "forward+lateral" (l to l and l to l + 1).
        period: side lengths of the periodic box (metric "periodic"); 0 where an axis does not wrap.
        axis: ``[3]`` vector that points from inputs to outputs (or "x", "-y", ...), kept with length 1; None for the
            widest axis.
        inputs: indices of the input columns in order of rank, or None to let :func:`build_sheet` choose.
        outputs: indices of the columns to read out, or None to let :func:`build_sheet` choose.
        names: a name per column (regions of a connectome, where each is a column), or None.
        area: ``[N]`` int64, which area each column is in: its place in ``area_names``, or -1 for none. None where the
            geometry has no areas.
        area_names: A different names of areas, or None to call them by their numbers.
        tracts: ``[2,T]`` int64 source and target of long-range edges that no way along the surface leads through (those
            of a connectome between areas), or None. They are added to every neighborhood.
        tract_lengths: ``[T]`` float64, their lengths, which no metric measures.
        spatial: whether the positions mean anything; False where they come from a graph layout, for plotting only.
            Only the metrics "hops" and "given" are allowed then.

    Raises:
        ValueError: on construction, for shapes, ranges and values that make no geometry.
    """

    positions: NDArray[np.float64]
    faces: NDArray[np.int64] | None = None
    edges: NDArray[np.int64] | None = None
    edge_distance: NDArray[np.float64] | None = None
    metric: str = "euclidean"
    name: str = "custom"
    layer: NDArray[np.int64] | None = None
    direction: str = "both"
    period: tuple[float, ...] | None = None
    axis: ArrayLike | None = None
    inputs: ArrayLike | None = None
    outputs: ArrayLike | None = None
    names: Sequence[str] | None = None
    area: NDArray[np.int64] | None = None
    area_names: Sequence[str] | None = None
    tracts: NDArray[np.int64] | None = None
    tract_lengths: NDArray[np.float64] | None = None
    spatial: bool = True

    def __post_init__(self) -> None:
        def put(field: str, value: Any) -> None:
            object.__setattr__(self, field, value)

        put("name", str(self.name))
        put("positions", checks.positions(self.positions))
        n = self.num_columns
        if self.faces is not None:
            put("faces", _faces(self.faces, self.positions))
        if self.edges is not None:
            put("edges", checks.edges(self.edges))
            checks.check_range(self.edges, n, "edges")
        if self.edge_distance is not None:
            if self.edges is None:
                raise ValueError("edge_distance needs edges")
            put("edge_distance", checks.lengths(self.edge_distance, self.edges))
        if self.layer is not None:
            put("layer", checks.labels(self.layer, n, "layer"))
        if self.period is not None:
            put("period", checks.period(self.period))
        if self.axis is not None:
            put("axis", parse_axis(self.axis))
        for field in ("inputs", "outputs"):
            if getattr(self, field) is not None:
                put(field, checks.columns(getattr(self, field), n, field))
        if self.names is not None:
            put("names", tuple(checks.names(self.names, n)))
        if self.area is not None:
            area, area_names = checks.areas(self.area, self.area_names, n)
            put("area", area)
            put("area_names", tuple(area_names))
        elif self.area_names is not None:
            raise ValueError("area_names needs area, one number per column")
        if (self.tracts is None) != (self.tract_lengths is None):
            raise ValueError("tracts and tract_lengths need each other")
        if self.tracts is not None:
            put("tracts", checks.indices(self.tracts, n, "tracts", (2, "T")))
            put("tract_lengths", checks.lengths(self.tract_lengths, self.tracts, "tract_lengths"))
        put("spatial", bool(self.spatial))
        if self.direction not in DIRECTIONS:
            raise ValueError(f"unknown direction {self.direction!r}{closest(self.direction, DIRECTIONS)}")
        if self.direction != "both" and self.layer is None:
            raise ValueError(f"direction {self.direction!r} needs layer, one label per column")
        self.check_metric(self.metric)

    @property
    def num_columns(self) -> int:
        """Number of columns N."""
        return int(self.positions.shape[0])

    def check_metric(self, metric: str) -> None:
        """Raise ValueError unless distances under ``metric`` can be measured on this geometry."""
        self.place.check_metric(metric)

    @property
    def place(self) -> Place:
        """What a metric can need of the geometry."""
        return Place(
            self.positions, self.faces, self.edges, self.edge_distance, self.period, self.spatial, name=self.name
        )


def parse_axis(axis: Any) -> NDArray[np.float64]:
    """A direction in space as ``[3]`` float64 of length 1, from a vector or from "x", "y", "z", "-x", ...

    Raises:
        ValueError: for anything else, and for a vector of length 0.
    """
    if isinstance(axis, str):
        name = axis.strip().lower()
        if name.lstrip("+-") not in _AXES or len(name) > 2:
            raise ValueError(f"axis must be x, y, z, -x, -y, -z or a vector of 3 numbers, got {axis!r}")
        return np.array(_AXES[name.lstrip("+-")]) * (-1.0 if name.startswith("-") else 1.0)
    vector = checks.numbers(axis, "axis")
    if vector.shape != (3,):
        raise ValueError(f"axis must be x, y, z or a vector of 3 numbers, got shape {list(vector.shape)}")
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length == 0:
        raise ValueError(f"axis must be finite and not zero, got {vector.tolist()}")
    return vector / length


def _faces(values: Any, positions: NDArray[np.float64]) -> NDArray[np.int64]:
    faces = checks.indices(values, len(positions), "faces", ("F", 3))
    if faces.shape[0] == 0:
        raise ValueError("faces are empty: a surface needs at least one triangle (pass None where there is no surface)")
    a, b, c = faces.T
    degenerate = (a == b) | (b == c) | (c == a)
    if degenerate.any():
        first = int(np.flatnonzero(degenerate)[0])
        raise ValueError(
            f"{int(degenerate.sum())} degenerate faces use a vertex twice, the first is face {first}: "
            f"{faces[first].tolist()}"
        )
    if not np.cross(positions[b] - positions[a], positions[c] - positions[a]).any():
        raise ValueError(
            f"the surface has no area: all {faces.shape[0]} faces are degenerate (their corners on a line)"
        )
    return faces
