"""The dense columnformer, written from the formulas of the design without any of the package's code."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def parameter(state: dict[str, Tensor], name: str, n: int) -> Tensor:
    """A parameter with a leading column axis, whether it is tied or not (biases and norms 1-D, weights 2-D)."""
    value = state[name]
    own_dims = 2 if name.endswith("weight") and "norm" not in name else 1
    return value if value.dim() == own_dims + 1 else value.expand(n, *value.shape)


def linear(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    n = x.shape[0]
    weight, bias = (parameter(state, f"{name}.{kind}", n) for kind in ("weight", "bias"))
    return torch.einsum("nbc,noc->nbo", x, weight) + bias[:, None]


def norm(state: dict[str, Tensor], name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    n = x.shape[0]
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    weight, bias = (parameter(state, f"{name}.{kind}", n) for kind in ("weight", "bias"))
    return (x - mean) / torch.sqrt(variance + eps) * weight[:, None] + bias[:, None]


def dense_bias(edge_bias: Tensor | None, edge_index: Tensor, n: int, heads: int) -> Tensor:
    """``[H,N,N]`` additive mask (target, source): minus infinity where there is no edge."""
    bias = torch.full((heads, n, n), -torch.inf, dtype=torch.float64)
    source, target = edge_index
    values = torch.zeros(heads, edge_index.shape[1], dtype=torch.float64) if edge_bias is None else edge_bias.T
    return bias.index_put((torch.arange(heads)[:, None], target[None], source[None]), values)


def step(
    state: dict[str, Tensor],
    x: Tensor,
    bias: Tensor,
    distance: Tensor,
    heads: int,
    residual: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of the dense model: new state, attention ``[H,B,N,N]`` and its mean wiring cost."""
    n, b, c = x.shape
    h = norm(state, "block.norm1", x)
    q = linear(state, "block.attention.query", h).view(n, b, heads, -1)
    k = linear(state, "block.attention.key", h).view(n, b, heads, -1)
    has_value = "block.attention.value.weight" in state
    v = linear(state, "block.attention.value", h) if has_value else h
    score = torch.einsum("ibhd,jbhd->hbij", q, k) / math.sqrt(q.shape[-1]) + bias[:, None]
    attention = score.softmax(-1)
    heard = torch.einsum("hbij,jbhc->ibhc", attention, v.reshape(n, b, heads, c // heads)).reshape(n, b, c)
    if has_value:
        heard = linear(state, "block.attention.output", heard)
    y = x + heard if residual else heard
    hidden = F.gelu(linear(state, "block.mlp.fc1", norm(state, "block.norm2", y)))
    cost = (attention * distance).sum(-1).mean()
    return y + linear(state, "block.mlp.fc2", hidden), attention, cost


def dense_columnformer(
    state: dict[str, Tensor],
    x: Tensor,
    inputs: Tensor,
    edge_index: Tensor,
    distance: Tensor,
    steps: int,
    heads: int = 1,
    residual: bool = True,
    inject_every: bool = False,
    leak: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """State after ``steps`` and the wiring cost."""
    n = distance.shape[0]
    current = torch.zeros(n, *x.shape[1:], dtype=x.dtype)
    current = current.index_add(0, inputs, x)
    if "position_embedding" in state:
        current = current + state["position_embedding"][:, None]
    bias = dense_bias(state.get("block.attention.edge_bias"), edge_index, n, heads)
    costs = []
    for t in range(steps):
        if t > 0:
            current = (1 - leak) * current
        if inject_every and t > 0:
            current = current.index_add(0, inputs, x)
        if "time_embedding" in state:
            current = current + state["time_embedding"][t]
        current, _, cost = step(state, current, bias, distance, heads, residual)
        costs.append(cost)
    return current, torch.stack(costs).mean()
