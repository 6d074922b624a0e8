"""Backend "torch_scatter": segment reductions of the torch-scatter package over the edges sorted by target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch_scatter
from torch import Tensor

from colgraph.ops.primitive import in_operations
from colgraph.ops.reference import Operands, attend

__all__ = ["SCATTER"]


@dataclass(frozen=True)
class _Segments:
    """See :class:`colgraph.ops.reference.Reduction`: by where each column's edges begin."""

    indptr: Tensor

    def largest(self, rows: Tensor) -> Tensor:
        return torch_scatter.segment_csr(rows, self.indptr, reduce="max")

    def total(self, rows: Tensor) -> Tensor:
        return torch_scatter.segment_csr(rows, self.indptr, reduce="sum")

    def spread(self, columns: Tensor) -> Tensor:
        return torch_scatter.gather_csr(columns, self.indptr)


def _attend(given: Operands, tables: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    edge_index, indptr = tables
    return attend(given, edge_index, _Segments(indptr))


SCATTER = in_operations("torch_scatter", lambda layout: [layout.edge_index, layout.indptr], _attend)
