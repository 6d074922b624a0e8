"""Linear, LayerNorm and MLP per column: untied (a leading N on every parameter) or tied (one for all columns)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from colgraph.ops.column_step import empty

__all__ = ["ColumnLayerNorm", "ColumnLinear", "ColumnMlp"]


def _parameter(*shape: int, num_columns: int | None) -> nn.Parameter:
    """A parameter, not yet written, with a leading column axis if it is untied."""
    shape = shape if num_columns is None else (num_columns, *shape)
    like = torch.empty(0)
    usual = type(like) is not Tensor or like.device.type != "cpu" or like.dtype != torch.float32
    # Every step reads all untied parameters: it matters what pages they lie on.
    return nn.Parameter(torch.empty(shape) if usual else empty(*shape))


class ColumnLinear(nn.Module):
    """``y_i = W_i x_i + b_i``.

    Args:
        in_features: size of the last axis of the input.
        out_features: size of the last axis of the output.
        num_columns: N for untied weights, None for one shared linear map.

    Shapes:
        weight ``[N, out, in]`` (tied ``[out, in]``), bias ``[N, out]`` (tied ``[out]``); ``[N,B,in] -> [N,B,out]``.

    Weights start as ``torch.nn.Linear``'s do (uniform within ``1 / sqrt(in)``), independently in every column;
    biases start at zero.
    """

    def __init__(self, in_features: int, out_features: int, num_columns: int | None = None) -> None:
        super().__init__()
        self.in_features, self.out_features, self.num_columns = in_features, out_features, num_columns
        self.weight = _parameter(out_features, in_features, num_columns=num_columns)
        self.bias = _parameter(out_features, num_columns=num_columns)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights."""
        bound = self.in_features**-0.5
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.num_columns is None:
            return F.linear(x, self.weight, self.bias)
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.transpose(1, 2))

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, columns={self.num_columns or 'tied'}"


class ColumnLayerNorm(nn.Module):
    """Layer normalisation over channels with a scale and shift per column (or shared).

    Shapes:
        weight and bias ``[N,C]`` (tied ``[C]``); ``[N,B,C] -> [N,B,C]``.
    """

    def __init__(self, dim: int, num_columns: int | None = None, eps: float = 1e-5) -> None:
        super().__init__()
        self.dim, self.num_columns, self.eps = dim, num_columns, eps
        self.weight = _parameter(dim, num_columns=num_columns)
        self.bias = _parameter(dim, num_columns=num_columns)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scale one, shift zero."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.num_columns is None:
            return F.layer_norm(x, (self.dim,), self.weight, self.bias, self.eps)
        normal = F.layer_norm(x, (self.dim,), None, None, self.eps)
        return torch.addcmul(self.bias.unsqueeze(1), normal, self.weight.unsqueeze(1))

    def extra_repr(self) -> str:
        return f"{self.dim}, eps={self.eps:g}, columns={self.num_columns or 'tied'}"


class ColumnMlp(nn.Module):
    """``fc2(GELU(fc1(x)))`` per column.

    Shapes:
        ``fc1 [N,M,C]``, ``fc2 [N,C,M]``; ``[N,B,C] -> [N,B,C]``.
    """

    def __init__(self, dim: int, hidden_dim: int, num_columns: int | None = None) -> None:
        super().__init__()
        self.fc1 = ColumnLinear(dim, hidden_dim, num_columns)
        self.fc2 = ColumnLinear(hidden_dim, dim, num_columns)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))
