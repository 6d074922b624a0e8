"""The computation of one column at one step."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor, nn
from torch.nn import functional as F

from colgraph.layout import Layout
from colgraph.nn.attention import SheetAttention
from colgraph.nn.constructor import constructor
from colgraph.nn.shared import make_linear, make_norm

__all__ = ["ColumnBlock", "ColumnMlp"]


class ColumnMlp(nn.Module):
    """``fc2(GELU(fc1(x)))`` per column.

    Shapes:
        ``fc1 [N,M,C]``, ``fc2 [N,C,M]``; ``[N,B,C] -> [N,B,C]``.
    """

    @constructor
    def __init__(
        self, dim: int, hidden_dim: int, num_columns: int | None = None, parametrization: str = "plain"
    ) -> None:
        super().__init__()
        self.fc1 = make_linear(dim, hidden_dim, num_columns, parametrization)
        self.fc2 = make_linear(hidden_dim, dim, num_columns, parametrization)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.fc1(x)
        out: Tensor = self.fc2(F.gelu(hidden))
        return out


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
        parametrization: "plain", or "shared+difference" to write untied parameters as shared ones plus a difference
            per column (see :mod:`colgraph.nn.shared`).

    Shapes:
        ``forward(x [N,B,C], layout) -> x' [N,B,C]``, and with an ``edge_cost [E]`` ``-> x', cost [N,B,H]``.
    """

    @constructor
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
        parametrization: str = "plain",
    ) -> None:
        super().__init__()
        columns = {part: num_columns if part in untied else None for part in ("norm", "attention", "mlp")}
        self.attention_residual = attention_residual
        self.norm1 = make_norm(dim, columns["norm"], parametrization)
        self.attention = SheetAttention(
            dim,
            num_heads,
            qk_dim,
            columns["attention"],
            value_projection,
            edge_bias,
            learn_bias,
            backend,
            parametrization,
        )
        self.norm2 = make_norm(dim, columns["norm"], parametrization)
        self.mlp = ColumnMlp(dim, mlp_dim, columns["mlp"], parametrization)

    def forward(
        self, x: Tensor, layout: Layout, edge_cost: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor | None]:
        heard = self.attention(self.norm1(x), layout, edge_cost)
        heard, cost = (heard, None) if edge_cost is None else heard
        y = x + heard if self.attention_residual else heard
        out = y + self.mlp(self.norm2(y))
        return out if edge_cost is None else (out, cost)
