"""The specification of ``sheet_attention``, in plain differentiable tensor operations.

Every other backend is tested against this one. It materialises one row per edge, so it costs
O(E x B x H x (D + C)) memory: use it to check, and where nothing faster runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from colgraph.layout import Layout
from colgraph.torch_internals import is_traced


class Operands(NamedTuple):
    """What attention is computed from, beside the edges; see :func:`colgraph.ops.sheet_attention`.

    Attributes:
        query: ``[N,B,H,D]``.
        key: ``[N,B,H,D]``.
        value: ``[N,B,H,C]``.
        edge_bias: ``[E,H]``, ``[E]`` or None.
        edge_cost: ``[E]`` or None.
        scale: factor on the dot product.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    edge_bias: Tensor | None
    edge_cost: Tensor | None
    scale: float


class Reduction(Protocol):
    """How rows ``[E,...]`` of edges that share a target become one row of that column, and the other way round."""

    def largest(self, rows: Tensor) -> Tensor:
        """``[N,...]`` the largest; any number where a column has no edge."""

    def total(self, rows: Tensor) -> Tensor:
        """``[N,...]`` the sums."""

    def spread(self, columns: Tensor) -> Tensor:
        """``[E,...]`` each edge's row of ``columns [N,...]``."""


@dataclass(frozen=True)
class ByTarget:
    """The :class:`Reduction` by the index of each edge's target ``[E]``."""

    target: Tensor
    num_columns: int

    def largest(self, rows: Tensor) -> Tensor:
        lowest = rows.new_full((self.num_columns, *rows.shape[1:]), -torch.inf)
        return lowest.scatter_reduce(0, self._index(rows), rows, "amax")

    def total(self, rows: Tensor) -> Tensor:
        sums = rows.new_zeros((self.num_columns, *rows.shape[1:]))
        if is_traced():
            # What ONNX makes of index_add keeps one row of those that share a target.
            return sums.scatter_add(0, self._index(rows), rows)
        return sums.index_add(0, self.target, rows)

    def spread(self, columns: Tensor) -> Tensor:
        return columns.index_select(0, self.target)

    def _index(self, rows: Tensor) -> Tensor:
        return self.target.view(-1, *[1] * (rows.dim() - 1)).expand_as(rows)


def edge_softmax(score: Tensor, by: Reduction) -> Tensor:
    """Softmax of ``score [E,B,H]`` over the edges that share a target.

    Differs from ``torch_geometric.utils.softmax`` in one case: where every score of a column is minus infinity (all its
    edges are masked), the weights are zero instead of NaN.
    """
    top = by.largest(score.detach())
    top = torch.where(torch.isfinite(top), top, torch.zeros_like(top))
    weight = torch.exp(score - by.spread(top))
    total = by.total(weight)
    total = torch.where(total > 0, total, torch.ones_like(total))
    return weight / by.spread(total)


def _weights(query: Tensor, key: Tensor, edge_bias: Tensor | None, scale: float, by: Reduction) -> Tensor:
    """``[E,B,H]`` from a row of query and key for each edge."""
    score = (query * key).sum(-1) * scale
    if edge_bias is not None:
        score = score + (edge_bias if edge_bias.dim() == 2 else edge_bias[:, None])[:, None, :]
    return edge_softmax(score, by)


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
    source, target = layout.edge_index
    rows = query.index_select(0, target), key.index_select(0, source)
    return _weights(*rows, edge_bias, scale, ByTarget(target, layout.num_columns))


def edge_messages(rows: Operands, by: Reduction) -> tuple[Tensor, Tensor | None]:
    """What runs along each edge: ``a_ij v_j [E,B,H,C]``, and the cost ``a_ij c_ij [E,B,H]`` where edges have one.

    Args:
        rows: with the target's query and the source's key and value for each edge, ``[E,B,H,...]``.
        by: sums over the edges that share a target.
    """
    weight = _weights(rows.query, rows.key, rows.edge_bias, rows.scale, by)
    spent = None if rows.edge_cost is None else weight * rows.edge_cost[:, None, None]
    return weight.unsqueeze(-1) * rows.value, spent


def attend(given: Operands, edge_index: Tensor, by: Reduction | None = None) -> tuple[Tensor, Tensor | None]:
    """``out_i = sum_j a_ij v_j`` and ``cost_i = sum_j a_ij c_ij``; see :func:`colgraph.ops.sheet_attention`.

    Sums are in the widest of the dtypes that come in, and are rounded once, at the end.
    """
    source, target = edge_index
    by = ByTarget(target, given.query.size(0)) if by is None else by
    query, key, value = (
        rows.index_select(0, index) for rows, index in zip(given[:3], (target, source, source), strict=True)
    )
    message, spent = edge_messages(given._replace(query=query, key=key, value=value), by)
    out = by.total(message).to(given.value.dtype)
    if spent is None or given.edge_cost is None:
        return out, None
    return out, by.total(spent).to(given.edge_cost.dtype)
