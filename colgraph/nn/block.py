"""The computation of one column at one step."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from colgraph.layout import Layout
from colgraph.nn.attention import SheetAttention
from colgraph.nn.constructor import constructor
from colgraph.nn.shared import make_linear, make_norm
from colgraph.options import PARTS, ColumnformerOptions


class ColumnMlp(nn.Module):
    """``fc2(GELU(fc1(x)))`` per column.

    Shapes:
        ``fc1 [N,M,C]``, ``fc2 [N,C,M]``; ``[N,B,C] -> [N,B,C]``, and where asked for the hidden units ``[N,B,M]``.
    """

    @constructor
    def __init__(
        self, dim: int, hidden_dim: int, num_columns: int | None = None, parametrization: str = "plain"
    ) -> None:
        super().__init__()
        self.fc1 = make_linear(dim, hidden_dim, num_columns, parametrization)
        self.fc2 = make_linear(hidden_dim, dim, num_columns, parametrization)

    def forward(self, x: Tensor, keep_hidden: bool = False) -> Any:
        """``fc2(gelu(fc1(x)))``, ``[N,B,C]``, and with ``keep_hidden`` ``gelu(fc1(x))``, ``[N,B,M]``, as well."""
        hidden = F.gelu(self.fc1(x))
        out = self.fc2(hidden)
        return (out, hidden) if keep_hidden else out


class ColumnBlock(nn.Module):
    """``y = x + attention(norm1(x))``, ``x' = y + mlp(norm2(y))``, with parameters per column.

    Args:
        num_columns: N.
        options: of the model.
        edge_bias: ``[E,H]`` initial bias or None.

    Shapes:
        ``forward(x [N,B,C], layout) -> x' [N,B,C]``, with an ``edge_cost [E]`` ``-> x', cost [N,B,H]``, and with
        ``keep_hidden`` ``-> x', cost or None, hidden [N,B,M]``, what the MLP's second layer is given.
    """

    attention_class: type[SheetAttention] = SheetAttention

    @constructor
    def __init__(
        self,
        num_columns: int,
        options: ColumnformerOptions,
        edge_bias: Tensor | None = None,
    ) -> None:
        super().__init__()
        dim, parametrization = options.dim, options.parametrization
        columns = {part: num_columns if part in options.untied_parts else None for part in PARTS}
        self.attention_residual = options.attention_residual
        self.norm1 = make_norm(dim, columns["norm"], parametrization)
        self.attention = self.attention_class(**attention_arguments(options, num_columns), edge_bias=edge_bias)
        self.norm2 = make_norm(dim, columns["norm"], parametrization)
        self.mlp = ColumnMlp(dim, options.mlp_dim, columns["mlp"], parametrization)

    def forward(
        self, x: Tensor, layout: Layout, edge_cost: Tensor | None = None, keep_hidden: bool = False
    ) -> Tensor | tuple[Tensor | None, ...]:
        """The next state ``x'`` of columns in state ``x``, with what else is asked for."""
        heard = self.attention(self.norm1(x), layout, edge_cost)
        heard, cost = (heard, None) if edge_cost is None else heard
        out, cost, hidden = self.take_in(x, heard, cost, keep_hidden)
        if keep_hidden:
            return out, cost, hidden
        return out if edge_cost is None else (out, cost)

    def take_in(
        self, x: Tensor, heard: Tensor, cost: Tensor | None, keep_hidden: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The next state ``[N,B,C]`` of columns in state ``x`` that have heard this, the cost, and the hidden units."""
        y = x + heard if self.attention_residual else heard
        if keep_hidden:
            change, hidden = self.mlp(self.norm2(y), keep_hidden=True)
            return y + change, cost, hidden
        return y + self.mlp(self.norm2(y)), cost, None


def attention_arguments(options: ColumnformerOptions, num_columns: int) -> dict[str, Any]:
    """What :class:`SheetAttention` takes of a model's options, all but the bias itself."""
    names = ("dim", "num_heads", "qk_dim", "value_projection", "backend", "parametrization")
    return {name: getattr(options, name) for name in names} | {
        "num_columns": num_columns if "attention" in options.untied_parts else None,
        "learn_bias": options.edge_bias == "learned",
    }
