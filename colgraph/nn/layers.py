"""Linear map and LayerNorm per column: untied (a leading N on every parameter) or tied (one for all columns)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from colgraph.nn.constructor import constructor
from colgraph.ops.column_step import empty
from colgraph.torch_internals import is_transformed, static_shape


def _parameter(*shape: int, num_columns: int | None) -> nn.Parameter:
    """A parameter, not yet written, with a leading column axis if it is untied."""
    shape = shape if num_columns is None else (num_columns, *shape)
    like = torch.empty(0)
    usual = type(like) is not Tensor or like.device.type != "cpu" or like.dtype != torch.float32
    # Every step reads all untied parameters: it matters what pages they lie on.
    return nn.Parameter(torch.empty(shape) if usual else empty(*shape))


def apply_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``[N,B,in] -> [N,B,out]`` with weights ``[N,out,in]`` and biases ``[N,out]`` per column."""
    return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))


def apply_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """``[N,B,C] -> [N,B,C]`` with scales and shifts ``[N,C]`` per column."""
    return torch.addcmul(bias.unsqueeze(1), _normal(x, static_shape(weight)[-1], eps), weight.unsqueeze(1))


def _normal(x: Tensor, dim: int, eps: float) -> Tensor:
    """``x`` less its mean over the ``dim`` channels, over its standard deviation.

    Torch's forward mode takes mean and deviation for constants that nothing depends on, so that every derivative of its
    tangents is wrong. Under transforms the formula is written out.
    """
    if not is_transformed():
        return F.layer_norm(x, (dim,), None, None, eps)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    variance, mean = torch.var_mean(wide, -1, correction=0, keepdim=True)
    return ((wide - mean) * torch.rsqrt(variance + eps)).to(x.dtype)


class ColumnLinear(nn.Module):
    """``y_i = W_i x_i + b_i``.

    Args:
        in_features: size of the last axis of the input.
        out_features: size of the last axis of the output.
        num_columns: N for untied weights, None for one shared linear map.
        zero: start at zero instead, and draw nothing.

    Shapes:
        weight ``[N, out, in]`` (tied ``[out, in]``), bias ``[N, out]`` (tied ``[out]``); ``[N,B,in] -> [N,B,out]``.

    Weights start as ``torch.nn.Linear``'s do (uniform within ``1 / sqrt(in)``), independently in every column;
    biases start at zero.
    """

    @constructor
    def __init__(self, in_features: int, out_features: int, num_columns: int | None = None, zero: bool = False) -> None:
        super().__init__()
        self.in_features, self.out_features, self.num_columns = in_features, out_features, num_columns
        self.zero = zero
        self.weight = _parameter(out_features, in_features, num_columns=num_columns)
        self.bias = _parameter(out_features, num_columns=num_columns)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights."""
        nn.init.zeros_(self.bias)
        if self.zero:
            nn.init.zeros_(self.weight)
            return
        bound = self.in_features**-0.5
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """``W_i x_i + b_i`` for every column i."""
        if self.num_columns is None:
            return F.linear(x, self.weight, self.bias)
        return apply_linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, columns={self.num_columns or 'tied'}"


class ColumnLayerNorm(nn.Module):
    """Layer normalisation over channels with a scale and shift per column (or shared).

    Shapes:
        weight and bias ``[N,C]`` (tied ``[C]``); ``[N,B,C] -> [N,B,C]``.
    """

    @constructor
    def __init__(self, dim: int, num_columns: int | None = None, eps: float = 1e-5, zero: bool = False) -> None:
        super().__init__()
        self.dim, self.num_columns, self.eps, self.zero = dim, num_columns, eps, zero
        self.weight = _parameter(dim, num_columns=num_columns)
        self.bias = _parameter(dim, num_columns=num_columns)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scale one (or zero, where asked for), shift zero."""
        nn.init.constant_(self.weight, 0.0 if self.zero else 1.0)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """``weight_i (x_i - mean) / sqrt(variance + eps) + bias_i`` for every column i, over its channels."""
        if self.num_columns is None:
            if is_transformed():
                return torch.addcmul(self.bias, _normal(x, self.dim, self.eps), self.weight)
            return F.layer_norm(x, (self.dim,), self.weight, self.bias, self.eps)
        return apply_norm(x, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.dim}, eps={self.eps:g}, columns={self.num_columns or 'tied'}"
