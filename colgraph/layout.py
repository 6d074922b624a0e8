"""The order in which kernels walk a sheet's edges: tensors only, shared by sheets and operators.

A :class:`Layout` is made once per sheet, never per step, and does not change. It holds the edges both ways round:

* by target (``indptr``): the edges column ``i`` listens through are ``indptr[i]:indptr[i + 1]``, in edge order;
* by source (``source_indptr``): positions ``source_indptr[j]:source_indptr[j + 1]`` of ``source_edge`` name the edges
  that leave column ``j``. The backward pass reads it to sum gradients into keys and values without atomics.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from colgraph.checks import check_range
from colgraph.tiles import build_tiles, smallest_integer
from colgraph.torch_internals import ordinary

LEAST_FILL = 0.125
"""Least share of tile entries that are edges for tiles to be worth it on a GPU. There, they load half as many rows as
there are edges and multiply 8 times as many numbers, on units that are about as many times faster."""

Index = NDArray[np.int64]


def edges_are_sorted(edge_index: Tensor) -> bool:
    """Whether ``edge_index [2,E]`` is sorted by target, then by source, without duplicates."""
    source, target = edge_index[0], edge_index[1]
    same_target = target[1:] == target[:-1]
    return bool(((target[1:] > target[:-1]) | (same_target & (source[1:] > source[:-1]))).all())


def _pointers(index: Index, size: int) -> Index:
    """Compressed row pointers ``[size + 1]`` of a sorted ``index``."""
    return np.concatenate([[0], np.cumsum(np.bincount(index, minlength=size))])


class Layout(nn.Module):
    """Both compressed directions of a sheet's edges, checked and built at construction.

    A module without parameters whose tables are buffers outside the state dict: where a model moves, is copied, pickled
    or exported, its layout comes along.

    Args:
        edge_index: ``[2,E]`` int64, source then target, sorted by target then source, no duplicates.
        num_columns: number of columns N.
        positions: ``[N,3]`` coordinates, needed only for :attr:`order`.

    Attributes:
        num_columns: N.
        num_edges: E.
        edge_index: ``[2,E]`` int64, a copy.
        source_edge: ``[E]`` int64, edge ids sorted by source, then target.
        walk: all other tables in one tensor, for what an operator costs apart from its work grows with the number of
            its arguments. The properties name its parts.

    Raises:
        ValueError: if the edges are out of range, unsorted or duplicated.
    """

    edge_index: Tensor
    source_edge: Tensor
    walk: Tensor

    @ordinary()  # what is built there could not be used for training afterwards
    def __init__(self, edge_index: Tensor, num_columns: int, positions: Tensor | None = None) -> None:
        super().__init__()
        edges = _check_edges(edge_index, num_columns)
        self.num_columns, self.num_edges = int(num_columns), edges.shape[1]
        points = None if positions is None else positions.numpy(force=True)
        # A stable sort by source keeps the targets ascending within each source.
        source_edge = np.argsort(edges[0], kind="stable")
        walk = _walk(edges, source_edge, self.num_columns, points)
        for name, table in (("edge_index", edges), ("source_edge", source_edge), ("walk", walk)):
            self.register_buffer(name, torch.from_numpy(table), persistent=False)
        self.kernel: str | None = None
        self._apply(lambda table: table.to(edge_index.device))

    # ------------------------------------------------------------------ the tables

    def _part(self, start: int, size: int) -> Tensor:
        return self.walk.narrow(0, start, size)

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
    def indptr(self) -> Tensor:
        """``[N+1]`` int64, where each column's incoming edges begin."""
        return self._part(0, self.num_columns + 1)

    @property
    def source_indptr(self) -> Tensor:
        """``[N+1]`` int64, where each column's outgoing edges begin in ``source_edge``."""
        return self._part(self.num_columns + 1 + self.num_edges, self.num_columns + 1)

    @property
    def source_target(self) -> Tensor:
        """``[E]`` int64, the target of each entry of ``source_edge``."""
        return self._part(2 * (self.num_columns + 1 + self.num_edges), self.num_edges)

    @property
    def order(self) -> Tensor:
        """``[N]`` columns in kd order, so that columns near in space are near in this list."""
        return self._part(2 * (self.num_columns + 1) + 3 * self.num_edges, self.num_columns)

    @property
    def in_degree(self) -> Tensor:
        """``[N]`` number of columns each column listens to."""
        return self.indptr.diff()

    # ------------------------------------------------------------------ tables of GPU kernels

    def tables(self, kernel: str) -> list[Tensor]:
        """What a GPU kernel reads: "edges" (both directions) or "tiles", in the smallest integers that hold them.

        * "edges": order, indptr, source, source_indptr, source_edge, source_target.
        * "tiles": columns of the tiles, indptr, and pointer, member and rank of both sides; see
          :mod:`colgraph.tiles`.

        They are built as the layout comes to a GPU, and on the CPU (for Triton's interpreter) where first asked for.
        """
        if self.kernel is None:
            self._build_tables()
        return [table for name, table in self._buffers.items() if name.startswith(f"{kernel}_") and table is not None]

    def best_kernel(self) -> str:
        """Which kernel serves this graph on a GPU: "tiles" where they are full enough, else "edges".

        A few hubs do not matter: their share of all entries is small.
        """
        if self.kernel is None:
            self._build_tables()
        return str(self.kernel)

    @ordinary()
    def _build_tables(self) -> None:
        column = smallest_integer(self.num_columns, torch.int32)
        edge = smallest_integer(self.num_edges, torch.int32)
        types = (column, edge, column, edge, edge, column)
        edges = (self.order, self.indptr, self.source, self.source_indptr, self.source_edge, self.source_target)
        tiles = build_tiles(self.order, self.indptr, self.edge_index)
        for name, tables in (
            ("edges", [table.to(kind) for table, kind in zip(edges, types)]),
            ("tiles", [tiles.column, self.indptr.clone(), *tiles.target, *tiles.source]),
        ):
            for i, table in enumerate(tables):
                self.register_buffer(f"{name}_{i}", table, persistent=False)
        self.kernel = "edges" if tiles.fill() < LEAST_FILL else "tiles"

    # ------------------------------------------------------------------ moving

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Layout:
        super()._apply(fn, recurse)
        if self.device.type == "cuda" and self.kernel is None:
            self._build_tables()
        return self

    def to(self, device: torch.device | str) -> Layout:  # type: ignore[override]
        """The same layout on another device: itself when it is there already, else a copy."""
        device = torch.device(device)
        return self if self.device == device else copy.deepcopy(self)._apply(lambda table: table.to(device))

    def extra_repr(self) -> str:
        return f"columns={self.num_columns}, edges={self.num_edges}, device={self.device}"


def _check_edges(edge_index: Tensor, num_columns: int) -> Index:
    """``edge_index`` as an array of its own."""
    if edge_index.dim() != 2 or edge_index.size(0) != 2 or edge_index.dtype != torch.int64:
        raise ValueError(
            f"edge_index must be int64 of shape [2, E], got {edge_index.dtype} of shape {list(edge_index.shape)}"
        )
    edges = np.array(edge_index.numpy(force=True), order="C")
    check_range(edges, num_columns, "edge_index")
    if not edges_are_sorted(edge_index):
        raise ValueError(
            "edge_index is not sorted by target, then by source, without duplicates; learned edge parameters "
            "are indexed by that order: sheet.coalesce() makes a sheet of these edges"
        )
    return edges


def _walk(edges: Index, source_edge: Index, n: int, points: NDArray[Any] | None) -> Index:
    """What the CPU's kernels read, one after the other: by target ``indptr [N+1]`` and ``source [E]``; by source
    ``source_indptr [N+1]``, ``place [E]`` (where, among all edges in the order of work, each is) and
    ``source_target [E]``; ``order [N]``, and the edges and columns up to each position of it, ``[N+1]`` each way.
    """
    source, target = edges
    indptr, source_indptr = _pointers(target, n), _pointers(source[source_edge], n)
    order = np.arange(n) if points is None else spatial_order(points)
    work, source_work = (_running_work(order, pointers) for pointers in (indptr, source_indptr))
    before = np.empty_like(order)  # edges of the columns that come before each column
    before[order] = work[:-1] - np.arange(n)
    place = (before - indptr[:-1])[target] + np.arange(target.size)
    by_source = (source_indptr, place[source_edge], target[source_edge])
    return np.concatenate([indptr, source, *by_source, order, work, source_work])


def _running_work(order: Index, pointers: Index) -> Index:
    return np.concatenate([[0], np.cumsum(np.diff(pointers)[order] + 1)])


def spatial_order(positions: NDArray[Any], leaf: int = 16) -> Index:
    """Order points by recursive bisection of space (kd order).

    Each level cuts every cell at the median of its widest axis, so that each run of ``leaf`` points in the result lies
    together. All cells of a level have (almost) equal size and are cut in one pass.

    Args:
        positions: ``[N,D]`` coordinates.
        leaf: stop when cells hold at most this many points.

    Returns:
        ``[N]`` int64 permutation. Deterministic: equal coordinates keep their order.
    """
    points = np.asarray(positions, dtype=np.float64)
    order = np.arange(len(points))
    # Cut sizes are multiples of `leaf`, so that leaves are full except for the last one.
    starts = np.array([0, len(points)])
    while (size := np.diff(starts)).max() > leaf:
        current = points[order]
        extent = np.maximum.reduceat(current, starts[:-1]) - np.minimum.reduceat(current, starts[:-1])
        cell = np.repeat(np.arange(size.size), size)
        along = np.take_along_axis(current, extent.argmax(1)[cell][:, None], 1)[:, 0]
        order = order[np.lexsort((along, cell))]
        half = np.where(size > leaf, ((size + 1) // 2 + leaf - 1) // leaf * leaf, size)
        starts = np.unique(np.concatenate([starts, starts[:-1] + half]))
    return order
