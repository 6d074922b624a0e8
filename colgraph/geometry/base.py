"""What a geometry is: where columns sit, what distance means, and what it may say about edges, inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from colgraph.hints import closest
from colgraph.space import Place

__all__ = [
    "DIRECTIONS",
    "Geometry",
    "as_edge_distance",
    "as_edges",
    "check_range",
    "column_indices",
    "parse_axis",
]

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
            straight line between its ends, or 1 where positions mean nothing.
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
        names: a name per column (areas of a connectome), or None.
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
    spatial: bool = True

    def __post_init__(self) -> None:
        def put(field: str, value: Any) -> None:
            object.__setattr__(self, field, value)

        put("name", str(self.name))
        put("positions", _positions(self.positions))
        n = self.num_columns
        if self.faces is not None:
            put("faces", _faces(self.faces, self.positions))
        if self.edges is not None:
            edges = as_edges(self.edges)
            check_range(edges, n, "edges")
            put("edges", edges)
        if self.edge_distance is not None:
            if self.edges is None:
                raise ValueError("edge_distance needs edges")
            put("edge_distance", as_edge_distance(self.edge_distance, self.edges))
        if self.layer is not None:
            put("layer", _layer(self.layer, n))
        if self.period is not None:
            put("period", _period(self.period))
        if self.axis is not None:
            put("axis", parse_axis(self.axis))
        for field in ("inputs", "outputs"):
            if getattr(self, field) is not None:
                put(field, column_indices(getattr(self, field), n, field))
        if self.names is not None:
            put("names", _names(self.names, n))
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


# ---------------------------------------------------------------------- checks, some shared with the rest of the room


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
    vector = _numbers(axis, "axis").astype(np.float64)
    if vector.shape != (3,):
        raise ValueError(f"axis must be x, y, z or a vector of 3 numbers, got shape {list(vector.shape)}")
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length == 0:
        raise ValueError(f"axis must be finite and not zero, got {vector.tolist()}")
    return vector / length


def column_indices(columns: Any, n: int, what: str) -> NDArray[np.int64]:
    """Column indices in the order given, from indices or from a boolean mask of length ``n``.

    Raises:
        ValueError: for indices out of range, twice the same, or a mask of another length.
    """
    index = _array(columns, what)
    if index.dtype == np.bool_:
        if index.shape != (n,):
            raise ValueError(f"{what} as a mask must have {n} entries, one per column, got shape {list(index.shape)}")
        return np.flatnonzero(index).astype(np.int64)
    index = _integers(index, what)
    if index.ndim != 1:
        raise ValueError(f"{what} must be a list of column indices, got shape {list(index.shape)}")
    check_range(index, n, what)
    values, counts = np.unique(index, return_counts=True)
    if values.size != index.size:
        raise ValueError(f"{what} names column {values[counts > 1][0]} more than once")
    return index


def check_range(index: NDArray[np.int64], n: int, what: str) -> None:
    """Raise ValueError unless every index is one of ``n`` columns."""
    if index.size and (int(index.min()) < 0 or int(index.max()) >= n):
        wrong = int(index.min()) if int(index.min()) < 0 else int(index.max())
        raise ValueError(f"{what} must lie in 0..{n - 1} ({n} columns), got {wrong}")


def _array(values: Any, what: str) -> NDArray[Any]:
    """A fresh numpy array of anything array-like, torch tensors included."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    try:
        return np.array(values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{what} must be an array of numbers with rows of equal length ({error})") from error


def _numbers(values: Any, what: str) -> NDArray[Any]:
    array = _array(values, what)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{what} must be real numbers, got an array of {array.dtype}")
    return array


def _integers(values: Any, what: str) -> NDArray[np.int64]:
    array = _array(values, what)
    if array.size == 0:
        return array.astype(np.int64)
    if array.dtype.kind == "f" and bool((np.isfinite(array) & (array == np.floor(array))).all()):
        return array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{what} must be integers, got an array of {array.dtype}")
    return array.astype(np.int64)


def _positions(values: Any) -> NDArray[np.float64]:
    array = _numbers(values, "positions").astype(np.float64)
    if array.ndim != 2 or array.shape[1] not in (1, 2, 3):
        raise ValueError(f"positions must have shape [N, 3], [N, 2] or [N, 1], got {list(array.shape)}")
    if array.shape[0] == 0:
        raise ValueError("positions are empty: a geometry needs at least one column")
    # Sheets keep float32 positions; anything beyond its square root overflows as soon as it is squared.
    bad = ~(np.abs(array) < 1e19)
    if bad.any():
        row = int(np.flatnonzero(bad.any(1))[0])
        raise ValueError(f"positions must be finite and below 1e19, column {row} is at {array[row].tolist()}")
    return np.pad(array, ((0, 0), (0, 3 - array.shape[1])))


def _faces(values: Any, positions: NDArray[np.float64]) -> NDArray[np.int64]:
    faces = _integers(values, "faces")
    if faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(f"faces must have shape [F, 3], got {list(faces.shape)}")
    if faces.shape[0] == 0:
        raise ValueError("faces are empty: a surface needs at least one triangle (pass None where there is no surface)")
    check_range(faces, positions.shape[0], "faces")
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


def as_edges(values: Any) -> NDArray[np.int64]:
    """``[2,E]`` int64, sources then targets, of an array of that shape, or of lists: that, or pairs (source, target).

    The range is checked elsewhere.

    Raises:
        ValueError: for another shape, for what are not integers, and for two lists of two columns that mean other edges
            as sources and targets than as pairs.
    """
    edges = _integers(values, "edges")
    listed = edges.ndim == 2 and not hasattr(values, "shape") and not any(hasattr(part, "shape") for part in values)
    if listed and edges.shape == (2, 2) and not (edges == edges.T).all():
        (a, b), (c, d) = edges.tolist()
        raise ValueError(
            f"edges {[[a, b], [c, d]]} may be {a} to {b} and {c} to {d}, or {a} to {c} and {b} to {d}: give an array "
            f"of sources and targets, np.array([[{a}, {c}], [{b}, {d}]]) for the former"
        )
    if listed and edges.shape[1] == 2:
        return np.ascontiguousarray(edges.T)
    if edges.ndim != 2 or edges.shape[0] != 2:
        hint = ": transpose it" if edges.ndim == 2 and edges.shape[1] == 2 else ""
        raise ValueError(f"edges must have shape [2, E], sources then targets, got {list(edges.shape)}{hint}")
    return edges


def as_edge_distance(values: Any, edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """``[E]`` float64 lengths of ``edges``.

    Raises:
        ValueError: for another shape, and for lengths that are negative or not finite.
    """
    distance = _numbers(values, "edge_distance").astype(np.float64)
    if distance.shape != (edges.shape[1],):
        raise ValueError(f"edge_distance must have shape [{edges.shape[1]}], one per edge, got {list(distance.shape)}")
    wrong = ~(np.isfinite(distance) & (distance >= 0))
    if wrong.any():
        e = int(np.flatnonzero(wrong)[0])
        source, target = edges[:, e]
        raise ValueError(
            f"edge_distance must be finite and not negative, edge {e} ({source} to {target}) is {distance[e]:g}"
        )
    return distance


def _layer(values: Any, n: int) -> NDArray[np.int64]:
    layer = _integers(values, "layer")
    if layer.shape != (n,):
        raise ValueError(f"layer must have shape [{n}], one label per column, got {list(layer.shape)}")
    return layer


def _period(values: Any) -> tuple[float, ...]:
    period = _numbers(values, "period").astype(np.float64)
    if period.ndim != 1 or not 1 <= period.size <= 3:
        raise ValueError(f"period must be 1 to 3 side lengths, got shape {list(period.shape)}")
    if not np.isfinite(period).all() or (period < 0).any() or not period.any():
        raise ValueError(f"period must be finite, not negative, and not all zero, got {period.tolist()}")
    return tuple(np.pad(period, (0, 3 - period.size)).tolist())


def _names(values: Sequence[str], n: int) -> tuple[str, ...]:
    if isinstance(values, str) or len(values) != n:
        raise ValueError(f"names must have {n} entries, one per column, got {len(values)}")
    return tuple(str(name) for name in values)
