"""The specification of ``sheet_attention``, in plain differentiable tensor operations.

Every other backend is tested against this one. It materialises one row per edge, so it costs
O(E x B x H x (D + C)) memory: use it to check, and where nothing faster runs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from colgraph.layout import Layout
from colgraph.torch_internals import is_traced

__all__ = ["attention_weights", "edge_softmax", "sheet_attention_reference"]


def edge_softmax(score: Tensor, target: Tensor, num_columns: int) -> Tensor:
    """Softmax of ``score [E,B,H]`` over the edges that share a target ``[E]``.

    Differs from ``torch_geometric.utils.softmax`` in one case: where every score of a column is minus infinity (all its
    edges are masked), the weights are zero instead of NaN.
    """
    index = target[:, None, None].expand_as(score)
    shape = (num_columns, *score.shape[1:])
    top = score.new_full(shape, -torch.inf).scatter_reduce(0, index, score.detach(), "amax")
    top = torch.where(torch.isfinite(top), top, torch.zeros_like(top))
    weight = torch.exp(score - top.index_select(0, target))
    total = _sum_by_target(weight, target, num_columns)
    total = torch.where(total > 0, total, torch.ones_like(total))
    return weight / total.index_select(0, target)


def attention_weights(
    query: Tensor, key: Tensor, edge_bias: Tensor | None, layout: Layout, scale: float | None = None
) -> Tensor:
    """Softmax over each column's incoming edges.

    ``a_ij = softmax over j in N(i) of ( q_i . k_j * scale + b_ij )``

    Args:
        query: ``[N,B,H,D]``.
        key: ``[N,B,H,D]``.
        edge_bias: ``[E,H]``, ``[E]`` or None.
        layout: the sheet's layout.
        scale: factor on the dot product; ``1 / sqrt(D)`` by default.

    Returns:
        ``[E,B,H]``, in edge order.
    """
    if scale is None:
        scale = query.size(-1) ** -0.5
    source, target = layout.source, layout.target
    score = (query.index_select(0, target) * key.index_select(0, source)).sum(-1) * scale
    if edge_bias is not None:
        score = score + (edge_bias if edge_bias.dim() == 2 else edge_bias[:, None])[:, None, :]
    return edge_softmax(score, target, layout.num_columns)


def sheet_attention_reference(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge_bias: Tensor | None,
    layout: Layout,
    scale: float | None = None,
    edge_cost: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """``out_i = sum_j a_ij v_j`` and ``cost_i = sum_j a_ij c_ij``; see :func:`colgraph.ops.sheet_attention`.

    Sums are in the widest of the dtypes that come in, and are rounded once, at the end.
    """
    weight = attention_weights(query, key, edge_bias, layout, scale)
    message = weight.unsqueeze(-1) * value.index_select(0, layout.source)
    out = _sum_by_target(message, layout.target, layout.num_columns).to(value.dtype)
    if edge_cost is None:
        return out, None
    spent = weight * edge_cost[:, None, None]
    return out, _sum_by_target(spent, layout.target, layout.num_columns).to(edge_cost.dtype)


def _sum_by_target(rows: Tensor, target: Tensor, num_columns: int) -> Tensor:
    """``[N,...]`` sums of ``rows [E,...]`` that share a target."""
    sums = rows.new_zeros((num_columns, *rows.shape[1:]))
    if is_traced():
        # What ONNX makes of index_add keeps one row of those that share a target.
        return sums.scatter_add(0, target.view(-1, *[1] * (rows.dim() - 1)).expand_as(rows), rows)
    return sums.index_add(0, target, rows)
