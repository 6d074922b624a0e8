"""Attention of one part's columns over own columns and the halo."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from colgraph.distributed.collectives import TokenChain
from colgraph.distributed.exchange import HaloExchange
from colgraph.distributed.local import LocalSheet
from colgraph.distributed.step import HaloStep
from colgraph.layout import Layout
from colgraph.nn import SheetAttention
from colgraph.ops import attention_weights, resolve_backend, sheet_attention
from colgraph.ops.column_step import AttentionStep
from colgraph.torch_internals import watches_messages

__all__ = ["HaloAttention"]


class HaloAttention(SheetAttention):
    """:class:`colgraph.nn.SheetAttention` where some of the columns listened to live on other ranks.

    Columns that listen to own columns only are computed while the halo travels, then the boundary.

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
        self._announce(resolve_backend(self.backend, query.device, query.dtype), query)
        out, cost = self._attend(query, key, value, edge_cost)
        return self._result(out.reshape(x.shape), cost)

    def weights(self, x: Tensor) -> Tensor:
        """Attention weights ``[e,B,H]`` of the own edges, in local edge order."""
        query, key, value = self.project(x)
        _, _, halo_key, _, token = self.exchange.run(key, value, self.chain.take(key))
        self.chain.pass_on(token)
        query = torch.cat([query, query.new_zeros(self.local.num_halo, *query.shape[1:])])
        return attention_weights(query, torch.cat([key, halo_key]), self.edge_bias, self.whole)

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, edge_cost: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        if not self.exchange.busy:
            return self._interior(query, key, value, edge_cost)
        token = self.chain.take(key)
        if torch.compiler.is_compiling():
            key, value, halo_key, halo_value, token = self.exchange.run(key, value, token)
            out, cost = self._interior(query, key, value, edge_cost)
        else:
            flight, key, value, token = self.exchange.start(key, value, token)
            out, cost = self._interior(query, key, value, edge_cost)
            halo_key, halo_value, token = self.exchange.finish(flight, token, key, value)
        self.chain.pass_on(token)
        if self.local.boundary == 0:
            return out, cost
        edge_out, edge_side_cost = self._boundary(query, key, value, halo_key, halo_value, edge_cost)
        inside = self.local.interior
        out = torch.cat([out[:inside], edge_out])
        return out, None if cost is None or edge_side_cost is None else torch.cat([cost[:inside], edge_side_cost])

    def _interior(
        self, query: Tensor, key: Tensor, value: Tensor, edge_cost: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """All own columns, of which those on the boundary hear nothing yet."""
        edges = slice(0, self.local.interior_edges)
        layout = self.interior
        return self._operator(query, key, value, edges, layout, edge_cost)

    def _boundary(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        halo_key: Tensor,
        halo_value: Tensor,
        edge_cost: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """The boundary columns alone, which listen to near, boundary and halo columns."""
        near = slice(self.local.deep, None)
        nobody = query.new_zeros(self.local.num_halo, *query.shape[1:])
        out, cost = self._operator(
            torch.cat([query[near], nobody]),
            torch.cat([key[near], halo_key]),
            torch.cat([value[near], halo_value]),
            slice(self.local.interior_edges, None),
            self.boundary,
            edge_cost,
        )
        rows = slice(self.local.interior - self.local.deep, self.local.num_columns - self.local.deep)
        return out[rows], None if cost is None else cost[rows]

    def _operator(
        self, query: Tensor, key: Tensor, value: Tensor, edges: slice, layout: Layout, edge_cost: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        bias = None if self.edge_bias is None else self.edge_bias[edges]
        cost = None if edge_cost is None else edge_cost[edges]
        return sheet_attention(query, key, value, bias, layout, edge_cost=cost, backend=self.backend)

    def in_steps(self, layout: Layout) -> AttentionStep:
        """The same attention for the fused column step."""
        return HaloStep(self.local, self.exchange, self.interior, self.boundary)
