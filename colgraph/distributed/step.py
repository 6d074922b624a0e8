"""Attention over own columns and the halo as the fused column step takes it: forward and backward by hand."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from colgraph.distributed.collectives import NOT_AGAIN
from colgraph.distributed.exchange import Flight, HaloExchange, pack, unpack
from colgraph.distributed.local import LocalSheet
from colgraph.layout import Layout
from colgraph.ops.column_step import attention, attention_backward

__all__ = ["HaloStep"]


@dataclass(frozen=True)
class HaloStep:
    """One step of a part: see :class:`colgraph.ops.column_step.AttentionStep`.

    Attributes:
        local: this rank's part.
        exchange: with the other ranks.
        interior: the layout of interior columns.
        boundary: the layout of near, boundary and halo columns.
    """

    local: LocalSheet
    exchange: HaloExchange
    interior: Layout
    boundary: Layout

    @property
    def kept(self) -> int:
        """The softmax statistics of the interior; where there is a boundary, its own and the halo too."""
        return 3 if self.local.boundary else 1

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, edge_bias: Tensor | None, edge_cost: Tensor | None
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Output, cost (empty without edge costs), and what the backward pass needs."""
        inner, outer = self._edges(edge_bias, edge_cost)
        flight = self.exchange.depart(key, value) if self.exchange.busy else None
        out, cost, softmax = attention(query, key, value, *inner, self.interior)
        halo = None if flight is None else flight.land()
        if halo is None or not self.local.boundary:
            return out, cost, (softmax,)
        edge_out, edge_side_cost, edge_softmax = attention(
            *self._outer_rows(query, key, value, halo), *outer, self.boundary
        )
        rows, own = self._boundary_rows(), slice(self.local.interior, None)
        out[own] = edge_out[rows]
        if edge_cost is not None:
            cost[own] = edge_side_cost[rows]
        return out, cost, (softmax, edge_softmax, halo)

    def backward(
        self,
        grad_out: Tensor,
        grad_cost: Tensor | None,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        edge_bias: Tensor | None,
        edge_cost: Tensor | None,
        kept: tuple[Tensor, ...],
        bias_too: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradients of query, key, value (other ranks' shares included) and edge bias (empty where not wanted)."""
        inner, outer = self._edges(edge_bias, edge_cost)
        edge_grads: tuple[Tensor, ...] = ()
        if self.local.boundary:
            edge_grads = attention_backward(
                self._outer_grad(grad_out),
                None if grad_cost is None else self._outer_grad(grad_cost),
                *self._outer_rows(query, key, value, kept[2]),
                *outer,
                kept[1],
                self.boundary,
                bias_too,
            )
        flight = self._send_back(edge_grads, key, value) if self.exchange.busy else None
        grads = attention_backward(grad_out, grad_cost, query, key, value, *inner, kept[0], self.interior, bias_too)
        grad_query, grad_key, grad_value, grad_bias = grads
        if edge_grads:
            near = self.local.num_columns - self.local.deep
            for grad, edge_grad in zip((grad_query, grad_key, grad_value), edge_grads):
                grad[self.local.deep :] += edge_grad[:near]
            grad_bias = torch.cat([grad_bias, edge_grads[3]]) if bias_too else grad_bias
        if flight is not None:
            to_key, to_value = unpack(flight.land(), key, value)
            grad_key.index_add_(0, self.exchange.send_index, to_key)
            grad_value.index_add_(0, self.exchange.send_index, to_value)
        return grad_query, grad_key, grad_value, grad_bias

    def in_operations(
        self, query: Tensor, key: Tensor, value: Tensor, edge_bias: Tensor | None, edge_cost: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Not to be had: the halo travels outside autograd.

        Raises:
            ValueError: always.
        """
        raise ValueError(NOT_AGAIN)

    def _send_back(self, edge_grads: tuple[Tensor, ...], key: Tensor, value: Tensor) -> Flight:
        """The halo's gradients, on their way to its owners."""
        if edge_grads:
            near = self.local.num_columns - self.local.deep
            rows = torch.cat([edge_grads[1][near:].flatten(2), edge_grads[2][near:].flatten(2)], -1)
        else:
            rows = pack(key[:0], value[:0])
        return self.exchange.send_back(rows)

    def _edges(
        self, edge_bias: Tensor | None, edge_cost: Tensor | None
    ) -> tuple[tuple[Tensor | None, Tensor | None], tuple[Tensor | None, Tensor | None]]:
        """Bias and cost of the interior's edges, and of the boundary's."""
        at = self.local.interior_edges
        both = (edge_bias, edge_cost)
        inner, outer = ([None if x is None else x[part] for x in both] for part in (slice(at), slice(at, None)))
        return (inner[0], inner[1]), (outer[0], outer[1])

    def _boundary_rows(self) -> slice:
        """The boundary columns among the rows of the boundary's layout."""
        return slice(self.local.interior - self.local.deep, self.local.num_columns - self.local.deep)

    def _outer_rows(self, query: Tensor, key: Tensor, value: Tensor, halo: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Near, boundary and halo columns; the halo asks nothing."""
        near = slice(self.local.deep, None)
        halo_key, halo_value = unpack(halo, key, value)
        nobody = query.new_zeros(self.local.num_halo, *query.shape[1:])
        return torch.cat([query[near], nobody]), torch.cat([key[near], halo_key]), torch.cat([value[near], halo_value])

    def _outer_grad(self, grad: Tensor) -> Tensor:
        """The same for a gradient of what columns heard."""
        nobody = grad.new_zeros(self.local.num_halo, *grad.shape[1:])
        return torch.cat([grad[self.local.deep :], nobody])
