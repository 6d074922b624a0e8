"""Backend "torch_scatter": segment reductions of the torch-scatter package over the edges sorted by target."""

from __future__ import annotations

import torch
import torch_scatter
from torch import Tensor

from colgraph.layout import Layout

__all__ = ["sheet_attention"]


def sheet_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge_bias: Tensor | None,
    layout: Layout,
    scale: float,
    edge_cost: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """See :func:`colgraph.ops.sheet_attention`."""
    source, target, indptr = layout.source, layout.target, layout.indptr
    score = (query.index_select(0, target) * key.index_select(0, source)).sum(-1) * scale
    if edge_bias is not None:
        score = score + (edge_bias if edge_bias.dim() == 2 else edge_bias[:, None])[:, None, :]
    top = torch_scatter.segment_csr(score.detach(), indptr, reduce="max")
    top = torch.where(torch.isfinite(top), top, torch.zeros_like(top))
    weight = torch.exp(score - torch_scatter.gather_csr(top, indptr))
    total = torch_scatter.segment_csr(weight, indptr, reduce="sum")
    total = torch.where(total > 0, total, torch.ones_like(total))
    weight = weight / torch_scatter.gather_csr(total, indptr)
    out = torch_scatter.segment_csr(weight.unsqueeze(-1) * value.index_select(0, source), indptr, reduce="sum")
    if edge_cost is None:
        return out.to(value.dtype), None
    cost = torch_scatter.segment_csr(weight * edge_cost[:, None, None], indptr, reduce="sum")
    return out.to(value.dtype), cost.to(edge_cost.dtype)
