"""Attention problems that every backend must solve, and the yardstick they are measured with."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from colgraph.layout import Layout
from colgraph.ops import sheet_attention

Attention = Callable[..., tuple[Tensor, Tensor | None]]
sheet_attention_reference = functools.partial(sheet_attention, backend="reference")

# name: (graph, columns, batch, heads, D, C, bias, cost). Sizes are odd on purpose; bias is "edge", "head" or None.
CASES = {
    "plain": ("random", 23, 3, 1, 16, 32, "edge", True),
    "heads": ("random", 19, 2, 3, 5, 7, "head", True),
    "shared-bias": ("random", 11, 2, 2, 4, 8, "edge", False),
    "no-bias": ("random", 17, 2, 1, 8, 16, None, False),
    "cost-without-bias": ("random", 13, 1, 2, 9, 3, None, True),
    "odd-sizes": ("random", 21, 5, 1, 13, 37, "head", True),
    "single-channel": ("random", 9, 2, 1, 1, 1, "head", True),
    "wide": ("random", 7, 1, 1, 70, 150, "head", True),
    "self-loops-only": ("self", 6, 2, 1, 8, 8, "head", True),
    "one-column": ("self", 1, 2, 1, 3, 5, "head", True),
    "no-edges": ("none", 4, 2, 1, 3, 5, "head", True),
    "hub": ("hub", 41, 2, 1, 6, 10, "head", True),
    "complete": ("complete", 18, 2, 2, 6, 10, "head", True),
    "forward-only": ("chain", 12, 2, 1, 6, 10, "head", True),
    "masked": ("masked", 15, 2, 2, 6, 10, "head", True),
    "far-masks": ("far", 14, 2, 2, 6, 10, "head", True),
}


def make_edges(graph: str, n: int, generator: np.random.Generator) -> Tensor:
    """``[2,E]`` sorted edges: "random" leaves some columns without any, "hub" hears all columns and is heard by all."""
    if graph == "none":
        dense = np.zeros((n, n), bool)
    elif graph == "self":
        dense = np.eye(n, dtype=bool)
    elif graph == "complete":
        dense = np.ones((n, n), bool)
    elif graph == "chain":
        dense = np.eye(n, k=-1, dtype=bool)
    elif graph == "hub":
        dense = np.zeros((n, n), bool)
        dense[n // 2, :] = True
        dense[:, n // 2] = True
    else:
        dense = generator.random((n, n)) < 0.3
        dense[:: max(n // 3, 1)] = False
    target, source = np.nonzero(dense)
    return torch.from_numpy(np.stack([source, target]))


def _mask_by_far_numbers(edge_bias: Tensor, query: Tensor, target: Tensor) -> None:
    """Finite masks of every size among other edges, and columns all of whose edges have them.

    The latter ask nothing, so that their scores are exact in float32.
    """
    lowest = float(torch.finfo(torch.float32).min)
    for start, mask in enumerate((-1e4, -1e6, -1e9, lowest, -torch.inf)):
        edge_bias[start::7] = mask
    columns = target.unique().tolist()
    for column, mask in zip(columns, (-1e6, -1e9, lowest, 3e4, -torch.inf), strict=False):
        edges = torch.nonzero(target == column).flatten()
        edge_bias[edges] = mask
        query[column] = 0
    own = target == columns[0]
    edge_bias[own] += torch.arange(int(own.sum()), dtype=edge_bias.dtype)[:, None] % 3


@dataclass(frozen=True)
class AttentionCase:
    """One problem in float64, with the gradients that come in from above."""

    name: str
    layout: Layout
    query: Tensor
    key: Tensor
    value: Tensor
    edge_bias: Tensor | None
    edge_cost: Tensor | None
    grad_out: Tensor
    grad_cost: Tensor
    scale: float

    def solve(
        self,
        attention: Attention,
        dtype: torch.dtype,
        device: str = "cpu",
        needs_grad: tuple[str, ...] = ("query", "key", "value", "edge_bias"),
    ) -> dict[str, Tensor]:
        """Output, cost and gradients that ``attention(query, key, value, edge_bias, layout, scale, edge_cost)`` gives.

        Inputs are rounded to ``dtype`` first; everything returned is float64 on the CPU.
        """
        inputs = {}
        for name in ("query", "key", "value", "edge_bias"):
            tensor = getattr(self, name)
            inputs[name] = None if tensor is None else tensor.to(device, dtype, copy=True)
            if tensor is not None and name in needs_grad:
                inputs[name].requires_grad_()
        edge_cost = None if self.edge_cost is None else self.edge_cost.to(device, dtype)
        out, cost = attention(
            inputs["query"],
            inputs["key"],
            inputs["value"],
            inputs["edge_bias"],
            self.layout.to(device),
            self.scale,
            edge_cost,
        )
        result = {"out": out}
        loss = (out * self.grad_out.to(out)).sum()
        if cost is not None:
            result["cost"] = cost
            loss = loss + (cost * self.grad_cost.to(cost)).sum()
        if loss.requires_grad:
            loss.backward()
        for name, tensor in inputs.items():
            if tensor is not None and tensor.grad is not None:
                result[f"grad_{name}"] = tensor.grad
        return {name: tensor.detach().to("cpu", torch.float64) for name, tensor in result.items()}


def build_case(
    name: str,
    graph: str | Tensor,
    n: int,
    batch: int,
    heads: int,
    qk_dim: int,
    channels: int,
    bias: str | None = "head",
    cost: bool = True,
    seed: int = 0,
) -> AttentionCase:
    """A random problem on a graph by name (see :func:`make_edges`) or on given sorted edges."""
    generator = np.random.default_rng(seed)
    edges = make_edges(graph, n, generator) if isinstance(graph, str) else graph
    layout = Layout(edges, n, torch.from_numpy(generator.random((n, 3))))
    e = layout.num_edges

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(generator.standard_normal(shape))

    edge_bias = None if bias is None else normal(e, heads) if bias == "head" else normal(e)
    if isinstance(graph, str) and graph == "masked" and edge_bias is not None:
        edge_bias[torch.from_numpy(generator.random(e) < 0.3)] = -torch.inf
        edge_bias[layout.target == layout.target[0]] = -torch.inf  # every edge of one column
    query = normal(n, batch, heads, qk_dim)
    if isinstance(graph, str) and graph == "far" and edge_bias is not None:
        _mask_by_far_numbers(edge_bias, query, layout.target)
    return AttentionCase(
        name=name,
        layout=layout,
        query=query,
        key=normal(n, batch, heads, qk_dim),
        value=normal(n, batch, heads, channels),
        edge_bias=edge_bias,
        edge_cost=normal(e).abs() if cost else None,
        grad_out=normal(n, batch, heads, channels),
        grad_cost=normal(n, batch, heads),
        scale=qk_dim**-0.5,
    )


def check_against_reference(
    case: AttentionCase, attention: Attention, dtype: torch.dtype, device: str = "cpu", factor: float = 4.0
) -> None:
    """Against the float64 reference, ``attention`` errs at most ``factor`` times as much as the reference in ``dtype``.

    The yardstick has a floor of a few roundings of the largest entry: where the reference happens to be exact, nobody
    else need be.
    """
    rounded = AttentionCase(
        **{
            field: value.to(dtype).double() if isinstance(value, Tensor) else value
            for field, value in vars(case).items()
        }
    )
    exact = rounded.solve(sheet_attention_reference, torch.float64)
    usual = rounded.solve(sheet_attention_reference, dtype)
    tested = rounded.solve(attention, dtype, device)
    assert set(tested) == set(exact)
    for name, truth in exact.items():
        assert tested[name].shape == truth.shape, name
        if truth.numel() == 0:
            continue
        assert bool(torch.isfinite(tested[name]).all()), f"{case.name}: {name} is not finite"
        largest = float(truth.abs().max())
        floor = 4 * torch.finfo(dtype).eps * max(largest, 1.0)
        allowed = factor * float((usual[name] - truth).abs().max()) + floor
        error = float((tested[name] - truth).abs().max())
        assert error <= allowed, f"{case.name}: {name} is off by {error:.3g}, allowed {allowed:.3g} of {largest:.3g}"


@pytest.fixture(params=list(CASES))
def attention_case(request: pytest.FixtureRequest) -> AttentionCase:
    """Each of the problems in turn."""
    return build_case(request.param, *CASES[request.param])


@pytest.fixture(scope="session")
def make_attention_case() -> Callable[..., AttentionCase]:
    """:func:`build_case`, for problems of a test's own."""
    return build_case


@pytest.fixture(scope="session")
def compare_with_reference() -> Callable[..., None]:
    """:func:`check_against_reference`."""
    return check_against_reference


@pytest.fixture(scope="session")
def second_derivatives() -> Callable[..., list[Tensor]]:
    """The gradients of a penalty on gradients, for ``(case, attention, dtype, device)``."""

    def differentiate(
        case: AttentionCase, attention: Attention, dtype: torch.dtype, device: str = "cpu"
    ) -> list[Tensor]:
        tensors = (case.query, case.key, case.value, case.edge_bias)
        inputs = [tensor.float().to(device, dtype).requires_grad_() for tensor in tensors if tensor is not None]
        edge_cost = None if case.edge_cost is None else case.edge_cost.float().to(device, dtype)
        out, cost = attention(*inputs, case.layout.to(device), case.scale, edge_cost)
        loss = (out * case.grad_out.float().to(out)).sum()
        if cost is not None:
            loss = loss + cost.square().sum()
        grads = torch.autograd.grad(loss, inputs, create_graph=True)
        found = torch.autograd.grad(sum(grad.square().sum() for grad in grads), inputs)
        return [grad.cpu() for grad in found]

    return differentiate
