"""One part of a sheet as its rank sees it: own columns, halo, edges in local numbers, and what kernels need of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from colgraph.distributed.partition import Partition
from colgraph.layout import Layout
from colgraph.sheet import Sheet


@dataclass(frozen=True, eq=False)
class LocalSheet:
    """The columns of one part, in partition order, and the halo: the columns of other parts they listen to.

    Local numbers: own columns ``0..n-1`` (deep, then near, then boundary; see
    :class:`~colgraph.distributed.Partition`), then the halo ``n..n+h-1``, grouped by owner.

    Attributes:
        part: which part this is.
        columns: ``[n]`` the sheet's number of every own column.
        halo: ``[h]`` the sheet's number of every halo column.
        halo_counts: how many halo columns each part owns, R numbers.
        edges: ``[e]`` the sheet's number of every edge that ends here, in local edge order (by local target, then
            local source).
        edge_index: ``[2,e]`` in local numbers.
        deep: number of deep columns.
        boundary: number of boundary columns.
        interior_edges: number of edges that end in columns before the boundary; they come first.
        positions: ``[n+h,3]``.
    """

    part: int
    columns: Tensor
    halo: Tensor
    halo_counts: tuple[int, ...]
    edges: Tensor
    edge_index: Tensor
    deep: int
    boundary: int
    interior_edges: int
    positions: Tensor

    @property
    def num_columns(self) -> int:
        """Number of own columns n."""
        return self.columns.numel()

    @property
    def num_halo(self) -> int:
        """Number of halo columns h."""
        return self.halo.numel()

    @property
    def num_edges(self) -> int:
        """Number of edges e that end in own columns."""
        return self.edges.numel()

    @property
    def interior(self) -> int:
        """Number of own columns that listen to own columns only; they come before the boundary."""
        return self.num_columns - self.boundary

    def interior_layout(self) -> Layout:
        """Over the n own columns, with the edges of interior columns only."""
        edges = self.edge_index[:, : self.interior_edges].contiguous()
        return Layout(edges, self.num_columns, self.positions[: self.num_columns])

    def boundary_layout(self) -> Layout:
        """Over near, boundary and halo columns (numbered from the first near one), with the boundary's edges only."""
        edges = self.edge_index[:, self.interior_edges :] - self.deep
        return Layout(edges, self.num_columns + self.num_halo - self.deep, self.positions[self.deep :])

    def whole_layout(self) -> Layout:
        """Over own and halo columns, with all edges that end here."""
        return Layout(self.edge_index, self.num_columns + self.num_halo, self.positions)


def local_sheet(sheet: Sheet, partition: Partition, part: int) -> LocalSheet:
    """What part ``part`` of a sheet owns and hears.

    Raises:
        ValueError: if the partition was made for another sheet, or has no such part.
    """
    if partition.fingerprint != sheet.fingerprint:
        raise ValueError(
            f"the partition belongs to another sheet (fingerprint {partition.fingerprint[:16]}) than this one "
            f"({sheet.fingerprint[:16]}): make it with partition_sheet(sheet, ...)"
        )
    if not 0 <= part < partition.num_parts:
        raise ValueError(f"part must lie in 0..{partition.num_parts - 1}, got {part}")
    source, target = sheet.edge_index.cpu().numpy()
    owner = partition.assignment.numpy()
    columns = partition.part(part).numpy()
    edges = np.flatnonzero(owner[target] == part)
    heard = np.unique(source[edges])
    halo = heard[owner[heard] != part]
    halo = halo[np.argsort(owner[halo], kind="stable")]
    number = np.empty(sheet.num_columns, dtype=np.int64)
    number[columns] = np.arange(len(columns))
    number[halo] = len(columns) + np.arange(len(halo))
    local = np.stack([number[source[edges]], number[target[edges]]])
    order = np.lexsort(local)
    boundary = int(partition.boundary[part])
    return LocalSheet(
        part=part,
        columns=torch.from_numpy(columns),
        halo=torch.from_numpy(halo),
        halo_counts=tuple(np.bincount(owner[halo], minlength=partition.num_parts).tolist()),
        edges=torch.from_numpy(edges[order]),
        edge_index=torch.from_numpy(local[:, order]),
        deep=len(columns) - boundary - int(partition.near[part]),
        boundary=boundary,
        interior_edges=int(np.count_nonzero(local[1] < len(columns) - boundary)),
        positions=sheet.pos.detach().cpu()[torch.from_numpy(np.concatenate([columns, halo]))],
    )
