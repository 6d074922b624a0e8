"""The order in which kernels walk a sheet's edges: tensors only, shared by sheets and operators.

A :class:`Layout` is made once per sheet and never per step. It holds the edge list both ways round:

* by target (``indptr``): the edges column ``i`` listens through are ``indptr[i]:indptr[i + 1]``, in edge order;
* by source (``source_indptr``): positions ``source_indptr[j]:source_indptr[j + 1]`` of ``source_edge`` name the edges
  that leave column ``j``. The backward pass reads it to sum gradients into keys and values without atomics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Layout", "edges_are_sorted", "spatial_order"]


def edges_are_sorted(edge_index: Tensor) -> bool:
    """Whether ``edge_index [2,E]`` is sorted by target, then by source, without duplicates."""
    if edge_index.size(1) < 2:
        return True
    source, target = edge_index[0], edge_index[1]
    later_target = target[1:] > target[:-1]
    same_target = target[1:] == target[:-1]
    return bool((later_target | (same_target & (source[1:] > source[:-1]))).all())


def _pointers(index: Tensor, size: int) -> Tensor:
    """Compressed row pointers ``[size + 1]`` of a sorted ``index``."""
    pointers = torch.zeros(size + 1, dtype=torch.int64, device=index.device)
    torch.cumsum(torch.bincount(index, minlength=size), 0, out=pointers[1:])
    return pointers


class Layout:
    """Both compressed directions of a sheet's edges.

    Args:
        edge_index: ``[2,E]`` int64, source then target, sorted by target then source, no duplicates.
        num_columns: number of columns N.
        positions: ``[N,3]`` coordinates, needed only for :attr:`order`.

    Attributes:
        edge_index: as given.
        num_columns: N.
        indptr: ``[N+1]`` int64, incoming edges of each column.
        source_indptr: ``[N+1]`` int64, outgoing edges of each column.
        source_edge: ``[E]`` int64, edge ids sorted by source, then target.
        source_target: ``[E]`` int64, the target of each entry of ``source_edge``.

    Raises:
        ValueError: if the edges are out of range, unsorted or duplicated.
    """

    def __init__(self, edge_index: Tensor, num_columns: int, positions: Tensor | None = None) -> None:
        if edge_index.dim() != 2 or edge_index.size(0) != 2 or edge_index.dtype != torch.int64:
            raise ValueError(
                f"edge_index must be int64 of shape [2, E], got {edge_index.dtype} of shape {list(edge_index.shape)}"
            )
        if edge_index.numel() and (int(edge_index.min()) < 0 or int(edge_index.max()) >= num_columns):
            raise ValueError(
                f"edge_index refers to column {int(edge_index.max())} (or a negative one), "
                f"but there are {num_columns} columns"
            )
        if not edges_are_sorted(edge_index):
            raise ValueError(
                "edge_index is not sorted by target, then by source, without duplicates; learned edge parameters "
                "are indexed by that order: sheet.coalesce() makes a sheet of these edges"
            )
        self.edge_index = edge_index
        self.num_columns = int(num_columns)
        self.indptr = _pointers(edge_index[1], self.num_columns)
        # A stable sort by source keeps the targets ascending within each source.
        source, self.source_edge = torch.sort(edge_index[0], stable=True)
        self.source_indptr = _pointers(source, self.num_columns)
        self.source_target = edge_index[1][self.source_edge]
        self._positions = positions
        self._derived: dict[str, Any] = {}

    @property
    def num_edges(self) -> int:
        """Number of edges E."""
        return self.edge_index.size(1)

    @property
    def device(self) -> torch.device:
        """Device of all tensors."""
        return self.edge_index.device

    @property
    def source(self) -> Tensor:
        """``[E]`` the column each edge comes from (j)."""
        return self.edge_index[0]

    @property
    def target(self) -> Tensor:
        """``[E]`` the column each edge goes to (i), ascending."""
        return self.edge_index[1]

    @property
    def in_degree(self) -> Tensor:
        """``[N]`` number of columns each column listens to."""
        return self.indptr.diff()

    @property
    def order(self) -> Tensor:
        """``[N]`` columns in kd order, so that columns near in space are near in this list."""
        return self.derived("order", Layout._make_order)

    def _make_order(self) -> Tensor:
        if self._positions is None:
            return torch.arange(self.num_columns, device=self.device)
        return spatial_order(self._positions.detach().cpu()).to(self.device)

    def derived(self, name: str, build: Callable[[Layout], Any]) -> Any:
        """What ``build(self)`` returns, computed on first use and kept: kernels store their own tables here.

        A constant to ``torch.compile``, which runs ``build`` instead of tracing it; ``build`` must be a plain function.
        """
        id(self)  # makes compiled code check that it is given the same layout
        return self._derive(name, build)

    def _derive(self, name: str, build: Callable[[Layout], Any]) -> Any:
        if name not in self._derived:
            self._derived[name] = build(self)
        return self._derived[name]

    # What torch.compiler.assume_constant_result does, without importing all of torch._dynamo.
    _derive._dynamo_marked_constant = True  # type: ignore[attr-defined]

    def to(self, device: torch.device | str) -> Layout:
        """The same layout on another device (itself when it is there already)."""
        device = torch.device(device)
        if self.device == device:
            return self
        moved = object.__new__(type(self))
        moved.num_columns = self.num_columns
        for name in ("edge_index", "indptr", "source_indptr", "source_edge", "source_target"):
            setattr(moved, name, getattr(self, name).to(device))
        moved._positions = self._positions
        moved._derived = {}
        return moved

    def __repr__(self) -> str:
        return f"Layout(columns={self.num_columns}, edges={self.num_edges}, device={self.device})"


def spatial_order(positions: Tensor, leaf: int = 16) -> Tensor:
    """Order points by recursive bisection of space (kd order).

    Each level cuts every cell at the median of its widest axis, so that each run of ``leaf`` points in the result lies
    together. All cells of a level have (almost) equal size and are cut in one pass.

    Args:
        positions: ``[N,D]`` coordinates.
        leaf: stop when cells hold at most this many points.

    Returns:
        ``[N]`` int64 permutation. Deterministic: equal coordinates keep their order.
    """
    n = positions.size(0)
    order = torch.arange(n)
    points = positions.to(torch.float64)
    # Cut sizes are multiples of `leaf`, so that leaves are full except for the last one.
    starts = torch.tensor([0, n])
    while int(starts.diff().max()) > leaf:
        cell = torch.repeat_interleave(torch.arange(starts.numel() - 1), starts.diff())
        current = points[order]
        low = torch.full((starts.numel() - 1, points.size(1)), torch.inf, dtype=torch.float64)
        high = -low
        index = cell[:, None].expand_as(current)
        low.scatter_reduce_(0, index, current, "amin")
        high.scatter_reduce_(0, index, current, "amax")
        axis = (high - low).argmax(1)
        along = current.gather(1, axis[cell][:, None]).squeeze(1)
        by_value = torch.argsort(along, stable=True)
        order = order[by_value[torch.argsort(cell[by_value], stable=True)]]
        size = starts.diff()
        half = torch.where(size > leaf, ((size + 1) // 2 + leaf - 1) // leaf * leaf, size)
        starts = torch.unique(torch.cat([starts, starts[:-1] + half]))
    return order
