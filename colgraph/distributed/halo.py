"""Attention of one part's columns over own columns and the halo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from colgraph.distributed.collectives import NOT_AGAIN, TokenChain
from colgraph.distributed.exchange import Flight, HaloExchange, pack, unpack
from colgraph.distributed.local import LocalSheet
from colgraph.layout import Layout
from colgraph.nn import SheetAttention
from colgraph.ops import attention_weights, resolve_backend, sheet_attention
from colgraph.ops.backends import primitive
from colgraph.ops.primitive import AttentionFunction, AttentionStep, Back, Gradients, LayoutAttention
from colgraph.ops.reference import Operands
from colgraph.torch_internals import watches_messages


class HaloAttention(SheetAttention):
    """:class:`colgraph.nn.SheetAttention` where some of the columns listened to live on other ranks.

    Columns that listen to own columns only are computed while the halo travels, then the boundary. Under
    ``torch.compile`` the halo comes first, and all columns are computed at once.

    Args:
        local: this rank's part.
        group: the ranks that share the sheet.
        device: where exchanges take place.
        **options: of :class:`colgraph.nn.SheetAttention`.

    Attributes:
        chain: leads the token through the exchanges of an unroll.
        interior, boundary, whole: the part's layouts; see :class:`LocalSheet`.

    Shapes:
        ``forward(x [n,B,C]) -> out [n,B,C]``, and with an ``edge_cost [e]`` ``-> out, cost [n,B,H]``: own columns and
        own edges.
        The layout is the part's own; the argument is there for the block's sake.
    """

    def __init__(self, local: LocalSheet, group: dist.ProcessGroup, device: torch.device, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.local = local
        self.exchange = HaloExchange(local, group, device)
        self.chain = TokenChain()
        self.interior = local.interior_layout()
        self.boundary = local.boundary_layout()
        self.whole = local.whole_layout()

    def forward(
        self, x: Tensor, layout: Layout | None = None, edge_cost: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor | None]:
        if watches_messages(self):
            raise ValueError("hooks on messages and explainers take the whole model: a part of a sheet makes none")
        query, key, value = self.project(x)
        backend = resolve_backend(self.backend, query.device, query.dtype)
        self._announce(backend, query)
        if self.exchange.busy and not torch.compiler.is_compiling():
            given = Operands(query, key, value, self.edge_bias, edge_cost, self.qk_dim**-0.5)
            out, cost = self._overlapped(given, backend)
        else:
            out, cost = self._at_once(query, key, value, edge_cost)
        return self._result(out.reshape(x.shape), cost)

    def _overlapped(self, given: Operands, backend: str) -> tuple[Tensor, Tensor | None]:
        token = self.chain.take(given.key)
        step = self._over_parts(lambda layout: LayoutAttention.of(primitive(backend, given.query, layout), layout))
        out, cost, token = _HaloFunction.apply(step, *given, token)
        self.chain.pass_on(token)
        return out, None if given.edge_cost is None else cost.to(given.edge_cost.dtype)

    def _at_once(
        self, query: Tensor, key: Tensor, value: Tensor, edge_cost: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        query, key, value = self._with_halo(query, key, value)
        out, cost = sheet_attention(
            query, key, value, self.edge_bias, self.whole, edge_cost=edge_cost, backend=self.backend
        )
        own = self.local.num_columns
        return out[:own], None if cost is None else cost[:own]

    def _with_halo(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Own columns, then the halo, which asks nothing."""
        if not self.exchange.busy:
            return query, key, value
        key, value, halo_key, halo_value, token = self.exchange.run(key, value, self.chain.take(key))
        self.chain.pass_on(token)
        return _followed(query, self.local.num_halo), torch.cat([key, halo_key]), torch.cat([value, halo_value])

    def weights(self, x: Tensor) -> Tensor:
        """Attention weights ``[e,B,H]`` of the own edges, in local edge order."""
        query, key, _ = self._with_halo(*self.project(x))
        return attention_weights(query, key, self.edge_bias, self.whole)

    def in_steps(self, layout: Layout) -> AttentionStep:
        """The same attention for the fused column step."""
        return self._over_parts(super().in_steps)

    def _over_parts(self, over: Callable[[Layout], AttentionStep]) -> HaloStep:
        return HaloStep(self.local, self.exchange, over(self.interior), over(self.boundary))


class _HaloFunction(AttentionFunction):
    """A :class:`HaloStep` as autograd sees it, with the token running through its exchange."""

    @staticmethod
    def forward(ctx: Any, step: HaloStep, *inputs: Any) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        *given, token = inputs
        return *AttentionFunction.forward(ctx, step, *given), token.view_as(token)

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, grad_out: Tensor | None, grad_cost: Tensor | None, token: Tensor | None
    ) -> tuple[Any, ...]:
        return *AttentionFunction.backward(ctx, grad_out, grad_cost), token


@dataclass(frozen=True)
class HaloStep:
    """Attention of a part, forward and backward: see :class:`colgraph.ops.primitive.AttentionStep`.

    Attributes:
        local: this rank's part.
        exchange: with the other ranks.
        interior: over own columns, of which those on the boundary hear nothing.
        boundary: over near, boundary and halo columns.
    """

    local: LocalSheet
    exchange: HaloExchange
    interior: AttentionStep
    boundary: AttentionStep

    def forward(self, given: Operands) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Output, cost (empty without edge costs), and what the backward pass needs."""
        inner, outer = self._edges(given)
        flight = self.exchange.depart(given.key, given.value) if self.exchange.busy else None
        out, cost, kept = self.interior.forward(inner)
        halo = None if flight is None else flight.land()
        if halo is None or not self.local.boundary:
            return out, cost, kept
        edge_out, edge_side_cost, edge_kept = self.boundary.forward(self._outer_rows(outer, halo))
        rows, own = self._boundary_rows(), slice(self.local.interior, None)
        out[own] = edge_out[rows]
        if given.edge_cost is not None:
            cost[own] = edge_side_cost[rows]
        return out, cost, (*kept, *edge_kept, halo)

    def backward(self, given: Operands, back: Back) -> Gradients:
        """Gradients of query, key and value (other ranks' shares included), wanted or not, and of the edge bias."""
        inner, outer = self._edges(given)
        wanted = (True, True, True, back.wanted[3])
        # Interior and boundary keep as many tensors each, and then comes the halo.
        count = len(back.kept) // 2 if self.local.boundary else len(back.kept)
        edge_grads: Gradients = ()
        if self.local.boundary:
            *edge_kept, halo = back.kept[count:]
            edge_back = Back(
                self._outer_grad(back.grad_out),
                None if back.grad_cost is None else self._outer_grad(back.grad_cost),
                edge_kept,
                wanted,
            )
            edge_grads = self.boundary.backward(self._outer_rows(outer, halo), edge_back)
        flight = self._send_back(edge_grads, given) if self.exchange.busy else None
        inner_back = back._replace(kept=back.kept[:count], wanted=wanted)
        grad_query, grad_key, grad_value, grad_bias = self.interior.backward(inner, inner_back)
        if edge_grads:
            near = self.local.num_columns - self.local.deep
            for grad, edge_grad in zip((grad_query, grad_key, grad_value), edge_grads):
                grad[self.local.deep :] += edge_grad[:near]
            grad_bias = None if grad_bias is None else torch.cat([grad_bias, edge_grads[3]])
        if flight is not None:
            to_key, to_value = unpack(flight.land(), given.key, given.value)
            grad_key.index_add_(0, self.exchange.send_index, to_key)
            grad_value.index_add_(0, self.exchange.send_index, to_value)
        return grad_query, grad_key, grad_value, grad_bias

    def in_operations(self, given: Operands) -> tuple[Tensor, Tensor | None]:
        """Not to be had: the halo travels outside autograd.

        Raises:
            ValueError: always.
        """
        raise ValueError(NOT_AGAIN)

    def _send_back(self, edge_grads: Gradients, given: Operands) -> Flight:
        """The halo's gradients, on their way to its owners."""
        if edge_grads:
            near = self.local.num_columns - self.local.deep
            return self.exchange.send_back(pack(edge_grads[1][near:], edge_grads[2][near:]))
        return self.exchange.send_back(pack(given.key[:0], given.value[:0]))

    def _edges(self, given: Operands) -> tuple[Operands, Operands]:
        """With bias and cost of the interior's edges, and with those of the boundary's."""
        at, bias, cost = self.local.interior_edges, given.edge_bias, given.edge_cost
        inner, outer = (
            given._replace(
                edge_bias=None if bias is None else bias[part], edge_cost=None if cost is None else cost[part]
            )
            for part in (slice(at), slice(at, None))
        )
        return inner, outer

    def _boundary_rows(self) -> slice:
        """The boundary columns among the rows of the boundary's layout."""
        return slice(self.local.interior - self.local.deep, self.local.num_columns - self.local.deep)

    def _outer_rows(self, given: Operands, halo: Tensor) -> Operands:
        """Near, boundary and halo columns; the halo asks nothing."""
        near = slice(self.local.deep, None)
        key, value = unpack(halo, given.key, given.value)
        return given._replace(
            query=_followed(given.query[near], self.local.num_halo),
            key=torch.cat([given.key[near], key]),
            value=torch.cat([given.value[near], value]),
        )

    def _outer_grad(self, grad: Tensor) -> Tensor:
        """The same for a gradient of what columns heard."""
        return _followed(grad[self.local.deep :], self.local.num_halo)


def _followed(rows: Tensor, count: int) -> Tensor:
    """The rows, and ``count`` of zeros after them."""
    return torch.cat([rows, rows.new_zeros(count, *rows.shape[1:])])
