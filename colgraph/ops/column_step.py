"""The pieces of one time step of all columns, forward and backward, as functions of tensors.

A step is ``column_in`` (norm, query, key), attention over the edges, and ``column_out`` (norm, MLP). Their backward
passes compute gradients with respect to activations only and leave what the weights need on a tape;
``weight_gradients`` turns the tape of many steps into weight gradients in one pass. Untied weights are far larger than
the activations of a small batch, so a training step costs as much as its passes over the weights: this way there are
two per time step (one forward, one backward) and one more at the end, instead of about six per time step.

Two implementations have the same five functions: batched matrix products (:mod:`colgraph.ops._column_blas`) and, on
the CPU, loops that read each column's weights once for all its rows (:mod:`colgraph.ops._column_numba`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from colgraph.layout import Layout

__all__ = ["ColumnWeights", "GradientTape", "StepTape"]
__all__ += ["attention", "attention_backward", "empty", "new_gradients"]


_T = TypeVar("_T")


class ColumnWeights(NamedTuple, Generic[_T]):
    """The parameters of a block whose columns have their own, or their gradients (None where not wanted).

    Shapes: norms ``[N,C]``; query and key ``[N,HD,C]`` and ``[N,HD]``; fc1 ``[N,M,C]``, ``[N,M]``; fc2 ``[N,C,M]``,
    ``[N,C]``.
    """

    norm1_weight: _T
    norm1_bias: _T
    query_weight: _T
    query_bias: _T
    key_weight: _T
    key_bias: _T
    norm2_weight: _T
    norm2_bias: _T
    fc1_weight: _T
    fc1_bias: _T
    fc2_weight: _T
    fc2_bias: _T


def empty(*shape: int) -> Tensor:
    """A new float32 tensor on the CPU.

    NumPy asks the system for huge pages and torch does not: touching fresh memory is what large activations and
    gradients cost most, and huge pages cut that to a fraction.
    """
    return torch.from_numpy(np.empty(shape, np.float32))


def new_gradients(weights: ColumnWeights[Tensor], wanted: Sequence[bool]) -> ColumnWeights[Tensor | None]:
    """Room for the gradients that are wanted: zeros for the norms, which are summed step by step, else not yet written.

    None in place of the others.
    """
    gradients = [empty(*weight.shape) if want else None for weight, want in zip(weights, wanted)]
    for name, gradient in zip(ColumnWeights._fields, gradients):
        if gradient is not None and name.startswith("norm"):
            gradient.zero_()
    return ColumnWeights(*gradients)


class StepTape(NamedTuple):
    """What the forward pass of S steps leaves for the backward pass, one slot a step.

    Attributes:
        normed: ``[S,N,B,C]`` the state after the first norm: what the others hear.
        query: ``[S,N,B,HD]``.
        key: ``[S,N,B,HD]``.
        middle: ``[S,N,B,C]`` the state after the attention.
        hidden: ``[S,N,B,M]`` the output of fc1, before the GELU.
    """

    normed: Tensor
    query: Tensor
    key: Tensor
    middle: Tensor
    hidden: Tensor

    @classmethod
    def blank(cls, slots: int, batch: int, weights: ColumnWeights[Tensor]) -> StepTape:
        """A tape of so many steps, not yet written."""
        n, m, c = weights.fc1_weight.shape
        j = weights.query_weight.size(1)
        return cls(*(empty(slots, n, batch, width) for width in (c, j, j, c, m)))


class GradientTape(NamedTuple):
    """What the backward pass of S steps leaves for the weight gradients: the gradient of each linear map's output.

    Attributes:
        query: ``[S,N,B,HD]``.
        key: ``[S,N,B,HD]``.
        hidden: ``[S,N,B,M]``.
        out: ``[S,N,B,C]``, the gradient of the step's result.
    """

    query: Tensor
    key: Tensor
    hidden: Tensor
    out: Tensor

    @classmethod
    def blank_like(cls, tape: StepTape) -> GradientTape:
        """A tape for as many steps of the same sizes, not yet written."""
        return cls(*(empty(*like.shape) for like in (tape.query, tape.key, tape.hidden, tape.middle)))


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge_bias: Tensor | None,
    edge_cost: Tensor | None,
    layout: Layout,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output, cost (empty without edge costs) and log-sum-exp of :func:`colgraph.ops.sheet_attention` on the CPU."""
    from colgraph.ops.numba_attention import _tables

    scale = query.size(-1) ** -0.5
    return torch.ops.colgraph.numba_attention(query, key, value, edge_bias, edge_cost, *_tables(layout), scale)


def attention_backward(
    grad_out: Tensor,
    grad_cost: Tensor | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge_bias: Tensor | None,
    edge_cost: Tensor | None,
    log_sum: Tensor,
    layout: Layout,
    bias_too: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of query, key, value and edge bias (empty where it is not wanted)."""
    from colgraph.ops.numba_attention import _tables

    scale = query.size(-1) ** -0.5
    if grad_cost is None:
        edge_cost, grad_cost = None, log_sum  # the operator wants a tensor, which it then does not read
    inputs = (query, key, value, edge_bias, edge_cost, log_sum)
    needs = [True, True, True, bias_too]
    return torch.ops.colgraph.numba_attention_backward(grad_out, grad_cost, *inputs, *_tables(layout), scale, needs)
