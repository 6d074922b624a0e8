"""The computation of one column at one step."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor, nn

from colgraph.layout import Layout
from colgraph.nn.attention import SheetAttention
from colgraph.nn.layers import ColumnLayerNorm, ColumnMlp

__all__ = ["ColumnBlock"]


class ColumnBlock(nn.Module):
    """``y = x + attention(norm1(x))``, ``x' = y + mlp(norm2(y))``, with parameters per column.

    Args:
        num_columns: N.
        dim: channels C.
        num_heads: H.
        qk_dim: size of queries and keys per head.
        mlp_dim: hidden size M of the MLP.
        untied: which of "norm", "attention", "mlp" have parameters per column.
        value_projection: add value and output weights.
        attention_residual: False drops the ``x +`` in front of the attention.
        edge_bias: ``[E,H]`` initial bias or None.
        learn_bias: whether the bias is learned.
        backend: attention backend.

    Shapes:
        ``forward(x [N,B,C], layout, edge_cost [E] | None) -> x' [N,B,C], cost [N,B,H] | None``.
    """

    def __init__(
        self,
        num_columns: int,
        dim: int,
        num_heads: int,
        qk_dim: int,
        mlp_dim: int,
        untied: Collection[str],
        value_projection: bool = False,
        attention_residual: bool = True,
        edge_bias: Tensor | None = None,
        learn_bias: bool = True,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        columns = {part: num_columns if part in untied else None for part in ("norm", "attention", "mlp")}
        self.attention_residual = attention_residual
        self.norm1 = ColumnLayerNorm(dim, columns["norm"])
        self.attention = SheetAttention(
            dim, num_heads, qk_dim, columns["attention"], value_projection, edge_bias, learn_bias, backend
        )
        self.norm2 = ColumnLayerNorm(dim, columns["norm"])
        self.mlp = ColumnMlp(dim, mlp_dim, columns["mlp"])

    def forward(self, x: Tensor, layout: Layout, edge_cost: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        heard, cost = self.attention(self.norm1(x), layout, edge_cost)
        y = x + heard if self.attention_residual else heard
        return y + self.mlp(self.norm2(y)), cost
