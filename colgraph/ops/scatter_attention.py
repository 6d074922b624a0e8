"""Backend "torch_scatter": segment reductions of the torch-scatter package over the edges sorted by target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch_scatter
from torch import Tensor

from colgraph.ops.primitive import in_operations
from colgraph.ops.reference import Operands, attend


def _reduced(rows: Tensor, indptr: Tensor, reduce: str) -> Tensor:
    if not rows.numel():  # the package forgets the shape
        return rows.new_zeros(indptr.numel() - 1, *rows.shape[1:])
    return torch_scatter.segment_csr(rows, indptr, reduce=reduce)


class _Total(torch.autograd.Function):
    """The package's sum, whose own gradient is taken for a constant where it is differentiated again."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, indptr: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(indptr)
        return _reduced(rows, indptr, "sum")

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        total: Tensor = _Spread.apply(grad, *ctx.saved_tensors)
        return total, None


class _Spread(torch.autograd.Function):
    """A row per column to a row per edge into it: the gradient of :class:`_Total`, as that is of this."""

    @staticmethod
    def forward(ctx: Any, columns: Tensor, indptr: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(indptr)
        if not columns.numel():
            return columns.new_zeros(int(indptr[-1]), *columns.shape[1:])
        return torch_scatter.gather_csr(columns.contiguous(), indptr)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        total: Tensor = _Total.apply(grad.contiguous(), *ctx.saved_tensors)
        return total, None


@dataclass(frozen=True)
class _Segments:
    """See :class:`colgraph.ops.reference.Reduction`: by where each column's edges begin."""

    indptr: Tensor

    def largest(self, rows: Tensor) -> Tensor:
        return _reduced(rows.detach(), self.indptr, "max")

    def total(self, rows: Tensor) -> Tensor:
        total: Tensor = _Total.apply(rows, self.indptr)
        return total

    def spread(self, columns: Tensor) -> Tensor:
        spread: Tensor = _Spread.apply(columns, self.indptr)
        return spread


def _attend(given: Operands, tables: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    edge_index, indptr = tables
    return attend(given, edge_index, _Segments(indptr))


SCATTER = in_operations("torch_scatter", lambda layout: [layout.edge_index, layout.indptr], _attend)
