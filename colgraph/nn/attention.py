"""Attention over a sheet's edges as PyG message passing."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Self, TypeAlias

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from colgraph.layout import Layout
from colgraph.nn.constructor import constructor
from colgraph.nn.shared import make_linear
from colgraph.ops import resolve_backend, sheet_attention
from colgraph.ops.primitive import AttentionStep, LayoutAttention
from colgraph.ops.reference import ByTarget, Operands, edge_messages
from colgraph.torch_internals import watches_messages

Observer: TypeAlias = Callable[[Operands, Tensor, Tensor], None]
"""What is called in the backward pass of each step with the operands of the attention, what was heard ``[N,B,H,C/H]``,
and the gradient of the loss with respect to that."""

_log = logging.getLogger("colgraph")
_LARGEST_HALF = torch.finfo(torch.float16).max


class SheetAttention(MessagePassing):
    """Each column listens to its incoming edges.

    ``out_i = sum_j a_ij v_j``, ``a_ij = softmax over j in N(i) of ( q_i . k_j / sqrt(D) + b_ij )``, where ``q`` and
    ``k`` are linear in the input and ``v_j`` is the input itself (or a linear map of it, with an output map behind).

    Args:
        dim: channels C.
        num_heads: H; C must be divisible by it.
        qk_dim: size D of queries and keys, per head.
        num_columns: N for untied projections, None for tied ones.
        value_projection: add value and output weights.
        edge_bias: ``[E,H]`` initial bias, or None for no bias.
        learn_bias: whether the bias is a parameter (else a buffer).
        backend: see :func:`colgraph.ops.sheet_attention`. "reference" runs ``MessagePassing.propagate``; so does "auto"
            where somebody waits for its messages: PyG's hooks and explainers, a subclass's own ``message``.
        parametrization: of untied projections, "plain" or "shared+difference".

    Attributes:
        observer: an :data:`Observer`, or None; it changes nothing.

    Shapes:
        ``forward(x [N,B,C], layout) -> out [N,B,C]``, and with an ``edge_cost [E]`` ``-> out, cost [N,B,H]``.
    """

    edge_bias: Tensor | None
    observer: Observer | None

    @constructor
    def __init__(
        self,
        dim: int,
        num_heads: int,
        qk_dim: int,
        num_columns: int | None,
        value_projection: bool = False,
        edge_bias: Tensor | None = None,
        learn_bias: bool = True,
        backend: str = "auto",
        parametrization: str = "plain",
    ) -> None:
        super().__init__(aggr="add", node_dim=0)
        self.dim, self.num_heads, self.qk_dim, self.backend = dim, num_heads, qk_dim, backend
        self.query = make_linear(dim, num_heads * qk_dim, num_columns, parametrization)
        self.key = make_linear(dim, num_heads * qk_dim, num_columns, parametrization)
        self.value = make_linear(dim, dim, num_columns, parametrization) if value_projection else None
        self.output = make_linear(dim, dim, num_columns, parametrization) if value_projection else None
        if edge_bias is not None and learn_bias:
            self.edge_bias = nn.Parameter(edge_bias.clone())
        else:
            self.register_buffer("edge_bias", edge_bias)
        self.observer = None
        self._announced: str | None = None

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query and key ``[N,B,H,D]`` and value ``[N,B,H,C/H]``, all of the query's dtype."""
        n, b = x.shape[:2]
        query = self.query(x).view(n, b, self.num_heads, self.qk_dim)
        key = self.key(x).view(n, b, self.num_heads, self.qk_dim)
        value = x if self.value is None else self.value(x)
        # Under autocast linear maps come out in low precision and the norm before them does not.
        return query, key, value.view(n, b, self.num_heads, self.dim // self.num_heads).to(query.dtype)

    def forward(
        self, x: Tensor, layout: Layout, edge_cost: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor | None]:
        """What every column hears; see the class for the formula and the shapes."""
        query, key, value = self.project(x)
        backend = self._resolve(query)
        self._announce(backend, query)
        cost: Tensor | None
        if backend == "reference":
            size = (layout.num_columns, layout.num_columns)
            out, cost = self._propagate(query, key, value, layout, edge_cost, self.edge_bias, size)
        else:
            out, cost = sheet_attention(query, key, value, self.edge_bias, layout, edge_cost=edge_cost, backend=backend)
        if self.observer is not None and out.requires_grad:
            self._observe(self.observer, query, key, value, out)
        return self._result(out.reshape(x.shape), cost)

    def _observe(self, observer: Observer, query: Tensor, key: Tensor, value: Tensor, out: Tensor) -> None:
        """Call the observer when the gradient of what was heard is known."""
        bias = None if self.edge_bias is None else self.edge_bias.detach()
        given = Operands(query.detach(), key.detach(), value.detach(), bias, None, self.qk_dim**-0.5)
        out.register_hook(functools.partial(observer, given, out.detach()))

    def _result(self, out: Tensor, cost: Tensor | None) -> Tensor | tuple[Tensor, Tensor | None]:
        out = out if self.output is None else self.output(out)
        return out if cost is None else (out, cost)

    def _resolve(self, query: Tensor) -> str:
        """The backend that will run."""
        messages = watches_messages(self) or type(self).message is not SheetAttention.message
        if not messages or self.backend == "reference":
            return resolve_backend(self.backend, query.device, query.dtype)
        if self.backend != "auto":
            raise ValueError(
                f"backend {self.backend!r} makes no messages, and a hook, an explainer or a message() of "
                f"{type(self).__name__}'s own waits for them: backend='reference' or 'auto'"
            )
        return "reference"

    def in_steps(self, layout: Layout) -> AttentionStep:
        """The same attention, forward and backward by hand, for :mod:`colgraph.nn.unroll`."""
        from colgraph.ops.numba_attention import NUMBA

        return LayoutAttention.of(NUMBA, layout)

    def _propagate(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        layout: Layout,
        edge_cost: Tensor | None,
        edge_bias: Tensor | None,
        size: tuple[int, int],
    ) -> tuple[Tensor, Tensor | None]:
        """By messages, from ``size[0]`` rows of key and value to ``size[1]`` of the query."""
        out = self.propagate(
            layout.edge_index,
            size=size,
            query=query,
            key=key,
            value=value,
            edge_bias=edge_bias,
            edge_cost=edge_cost,
        )
        # Biases and costs of higher precision make messages of higher precision.
        if edge_cost is None:
            return out.to(value.dtype), None
        return out[..., :-1].to(value.dtype), out[..., -1].to(edge_cost.dtype)

    def message(
        self,
        query_i: Tensor,
        key_j: Tensor,
        value_j: Tensor,
        edge_bias: Tensor | None,
        edge_cost: Tensor | None,
        index: Tensor,
        size_i: int,
    ) -> Tensor:
        """``a_ij v_j`` per edge ``[E,B,H,C/H]``; the wiring cost rides along as one more value channel."""
        rows = Operands(query_i, key_j, value_j, edge_bias, edge_cost, self.qk_dim**-0.5)
        message, spent = edge_messages(rows, ByTarget(index, size_i))
        return message if spent is None else torch.cat([message.to(spent.dtype), spent.unsqueeze(-1)], -1)

    def _announce(self, backend: str, query: Tensor) -> None:
        if backend != self._announced and not torch.compiler.is_compiling():
            self._announced = backend
            dtype = str(query.dtype).removeprefix("torch.")
            _log.info("attention backend: %s (%s on %s)", backend, dtype, query.device.type)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        bias = self.edge_bias
        if bias is not None and bias.numel() and not bias.is_meta and bias.dtype != torch.float16:
            largest = float(bias.detach().abs().nan_to_num(posinf=0.0).max())
            if largest > _LARGEST_HALF and fn(bias.detach()[:0]).dtype == torch.float16:
                raise ValueError(
                    f"float16 holds numbers up to {_LARGEST_HALF:g}, and an edge bias is -{largest:g}: "
                    "model.bfloat16(), or a larger locality_sigma"
                )
        super()._apply(fn, recurse)
        return self

    __repr__ = nn.Module.__repr__

    def extra_repr(self) -> str:
        weight = next(self.query.parameters())
        picked = f" ({resolve_backend('auto', weight.device, weight.dtype)})" if self.backend == "auto" else ""
        return f"heads={self.num_heads}, qk_dim={self.qk_dim}, backend={self.backend}{picked}"
