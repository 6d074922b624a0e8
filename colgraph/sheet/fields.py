"""What the attributes of a sheet must be: each function makes a tensor of what a user gives, or raises."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch_geometric.utils import scatter

from colgraph.layout import edges_are_sorted

__all__ = ["as_tensor", "box", "canonical", "check_range", "column_names", "edge_spacing", "equal", "faces", "lengths"]
__all__ += ["mask", "per_column", "plainly", "positions", "positive", "ranks", "wires"]


P = ParamSpec("P")
R = TypeVar("R")


def plainly(function: Callable[P, R]) -> Callable[P, R]:
    """The function with tensors made on the CPU, for autograd to use, whatever mode or default device is on."""

    @functools.wraps(function)
    def run(*args: P.args, **options: P.kwargs) -> R:
        with torch.inference_mode(False), torch.device("cpu"):
            return function(*args, **options)

    return run


def as_tensor(values: Tensor | np.ndarray | Sequence[Any]) -> Tensor:
    """A tensor that autograd takes, also where the values were made in inference mode, on the device they are on.

    (``torch.as_tensor`` would move them to the default device.)
    """
    if isinstance(values, Tensor):
        return values.clone() if values.is_inference() else values
    return torch.from_numpy(np.asarray(values))


def equal(now: Tensor, before: Tensor) -> bool:
    """Whether two tensors hold the same, wherever they are; by this thread alone, which wakes none of torch's."""
    return now.dtype == before.dtype and np.array_equal(now.numpy(force=True), before.numpy(force=True))


def lengths(values: Tensor | np.ndarray, edges: int, name: str = "edge_distance") -> Tensor:
    """``[E]`` float64."""
    distance = as_tensor(values).to(torch.float64)
    if distance.shape != (edges,):
        raise ValueError(f"{name} must have shape [{edges}], one per edge, got {list(distance.shape)}")
    _check_finite(distance, name)
    if distance.numel() and float(distance.min()) < 0:
        raise ValueError(f"{name} must not be negative, got {float(distance.min()):g}")
    return distance


def column_names(values: Sequence[str] | None, n: int) -> list[str] | None:
    if values is None:
        return None
    if isinstance(values, str) or len(values) != n:
        raise ValueError(f"names must have {n} entries, one per column, got {len(values)}")
    return [str(name) for name in values]


def positive(value: int, name: str) -> int:
    if int(value) < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return int(value)


def check_range(index: Tensor, n: int, name: str) -> None:
    if index.numel() == 0:
        return
    low, high = int(index.min()), int(index.max())
    if low < 0 or high >= n:
        raise ValueError(f"{name} must lie in 0..{n - 1} ({n} columns), got {low if low < 0 else high}")


def _check_finite(values: Tensor, name: str) -> None:
    bad = ~torch.isfinite(values)
    if bool(bad.any()):
        where = int(torch.nonzero(bad)[0, 0])
        raise ValueError(f"{name} must be finite, entry {where} is {values[where].tolist()}")


def canonical(edges: Tensor, distance: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Edges sorted by target then source; parallel edges merged, the smallest distance kept."""
    if edges_are_sorted(edges):
        return edges.contiguous(), distance
    code, inverse = torch.unique(edges[1] * n + edges[0], sorted=True, return_inverse=True)
    merged = torch.stack([code % n, torch.div(code, n, rounding_mode="floor")])
    return merged, scatter(distance, inverse, dim=0, dim_size=code.numel(), reduce="min")


def positions(pos: Tensor | np.ndarray | None, n: int) -> Tensor:
    if pos is None:
        return torch.zeros(n, 3)
    points = as_tensor(pos).to(torch.float32)
    if points.dim() != 2 or points.size(0) != n or points.size(1) not in (1, 2, 3):
        raise ValueError(f"pos must have shape [{n}, 3], got {list(points.shape)}")
    _check_finite(points, "pos")
    return torch.nn.functional.pad(points, (0, 3 - points.size(1))).contiguous()


def _indices(columns: Sequence[int] | np.ndarray | Tensor, n: int, name: str) -> Tensor:
    index = as_tensor(columns)
    if index.dtype == torch.bool:
        if index.shape != (n,):
            raise ValueError(f"{name} as a mask must have shape [{n}], got {list(index.shape)}")
        return torch.nonzero(index).flatten()
    if index.dim() != 1 or (index.numel() and index.is_floating_point()):
        raise ValueError(f"{name} must be a list of column indices, got {index.dtype} of shape {list(index.shape)}")
    index = index.to(torch.int64)
    check_range(index, n, name)
    if index.unique().numel() != index.numel():
        raise ValueError(f"{name} names a column more than once")
    return index


def ranks(inputs: Sequence[int] | np.ndarray | Tensor | None, n: int) -> Tensor:
    rank = torch.full((n,), -1, dtype=torch.int64)
    if inputs is not None:
        index = _indices(inputs, n, "inputs")
        rank[index] = torch.arange(index.numel())
    return rank


def mask(outputs: Sequence[int] | np.ndarray | Tensor | None, n: int) -> Tensor:
    if outputs is None:
        return torch.ones(n, dtype=torch.bool)
    mask = torch.zeros(n, dtype=torch.bool)
    mask[_indices(outputs, n, "outputs")] = True
    return mask


def per_column(values: Tensor | np.ndarray | None, n: int, name: str) -> Tensor:
    if values is None:
        return torch.zeros(n, dtype=torch.int64)
    labels = as_tensor(values).to(torch.int64)
    if labels.shape != (n,):
        raise ValueError(f"{name} must have shape [{n}], one per column, got {list(labels.shape)}")
    return labels


def faces(face: Tensor | np.ndarray | None, n: int) -> Tensor:
    if face is None:
        return torch.zeros(3, 0, dtype=torch.int64)
    faces = as_tensor(face).to(torch.int64)
    if faces.dim() != 2 or faces.size(0) != 3:
        raise ValueError(f"face must have shape [3, F], got {list(faces.shape)}")
    check_range(faces, n, "face")
    return faces.contiguous()


def edge_spacing(edges: Tensor, distance: Tensor, n: int) -> float:
    """Median over columns of the shortest positive incoming edge; 1 where there is none."""
    real = distance > 0
    if not bool(real.any()):
        return 1.0
    nearest = torch.full((n,), torch.inf, dtype=torch.float64)
    nearest.scatter_reduce_(0, edges[1][real], distance[real].to(torch.float64), "amin")
    return float(nearest[torch.isfinite(nearest)].median())


def box(period: Sequence[float] | None) -> tuple[float, ...] | None:
    """Three side lengths, 0 where an axis does not wrap."""
    if period is None:
        return None
    sides = tuple(float(side) for side in period)
    if len(sides) != 3 or not all(0 <= side < float("inf") for side in sides):
        raise ValueError(f"period must be three side lengths, 0 where an axis does not wrap, got {list(sides)}")
    return sides


def wires(index: Tensor | np.ndarray, length: Tensor | np.ndarray, n: int) -> tuple[Tensor, Tensor]:
    """``[2,W]`` and ``[W]``: the connections that distances follow."""
    ends = as_tensor(index)
    if ends.dim() != 2 or ends.size(0) != 2 or ends.is_floating_point():
        raise ValueError(f"wires must be integers of shape [2, W], got {ends.dtype} of shape {list(ends.shape)}")
    check_range(ends, n, "wires")
    return ends.to(torch.int64), lengths(length, ends.size(1), "length of wires").to(torch.float32)
