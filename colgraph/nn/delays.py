"""Conduction delays: columns hear what others were some steps ago, the further away the longer ago."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor, nn

from colgraph.layout import Layout
from colgraph.nn.attention import SheetAttention
from colgraph.nn.block import ColumnBlock
from colgraph.ops import attention_weights, sheet_attention
from colgraph.torch_internals import static_shape

Said: TypeAlias = tuple[Tensor, Tensor]
"""Keys ``[(D-1) N,B,H,D]`` and values ``[(D-1) N,B,H,C/H]`` of the last D - 1 steps, the latest first."""


class DelayedEdges(nn.Module):
    """A sheet's edges with delays of up to D steps, as edges from D sheets, one for each number of steps ago.

    What columns say now and have said in the D - 1 steps before are D N rows, and an edge of delay d comes from row
    ``(d - 1) N + j``. So the attention of any backend serves, over more sources, and keys and values are computed once.

    Args:
        edge_index: ``[2,E]``, in a sheet's order.
        delay: ``[E]`` int64, at least 1.
        num_columns: N.
        positions: ``[N,3]``, for the order of work.

    Attributes:
        delay: ``[E]``.
        rows: ``[E]`` the row that each edge comes from.
        order: ``[E]`` numbers of edges in the order of ``layout``, sorted by target, then by row.
        back: ``[E]`` places in ``layout`` of edges in the sheet's order.
        layout: over D N rows, of which the first N listen.
        depth: D.
    """

    delay: Tensor
    rows: Tensor
    order: Tensor
    back: Tensor

    def __init__(self, edge_index: Tensor, delay: Tensor, num_columns: int, positions: Tensor) -> None:
        super().__init__()
        self.num_columns, self.depth = num_columns, int(delay.max())
        source, target = edge_index
        size = self.depth * num_columns
        rows = (delay - 1) * num_columns + source
        order = torch.argsort(target * size + rows)
        tables = {"delay": delay, "rows": rows, "order": order, "back": torch.argsort(order)}
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)
        self.layout = Layout(torch.stack([rows, target])[:, order], size, positions.repeat(self.depth, 1))

    def ordered(self, values: Tensor | None) -> Tensor | None:
        """What every edge has, ``[E,...]`` in the sheet's order, in that of the layout; None stays None."""
        return None if values is None else values.index_select(0, self.order)

    def followed(self, query: Tensor) -> Tensor:
        """The queries ``[N,...]``, and zeros for rows of the past, which ask nothing."""
        return torch.cat([query, query.new_zeros((self.depth - 1) * self.num_columns, *query.shape[1:])])


def states_before(
    edges: DelayedEdges | None, state: Tensor, history: Tensor | None = None, going_on: bool = False
) -> list[Tensor] | None:
    """The states at the beginning of the D - 1 steps before one, the latest last; None where nothing is delayed.

    Args:
        edges: those of the model, None without delays.
        state: ``[N,B,C]`` of the step.
        history: ``[D-1,N,B,C]`` where the state is one to go on from.
        going_on: whether it is; else all states before it are zero.

    Raises:
        ValueError: for a history that is missing, out of place, or of another shape.
    """
    if history is not None and (edges is None or not going_on):
        needs = "a model with conduction delays (speed=)" if edges is None else "a state to go on from"
        raise ValueError(f"history needs {needs}: leave it out")
    if edges is None:
        return None
    if not going_on:
        return [torch.zeros_like(state)] * (edges.depth - 1)
    shape = (edges.depth - 1, *static_shape(state))
    if history is None or static_shape(history) != shape:
        got = "none" if history is None else f"{list(history.shape)}"
        raise ValueError(
            f"with conduction delays of up to {edges.depth} steps, going on from a state takes the history "
            f"{list(shape)} before it, got {got}: unroll(x, state=out.state, history=out.history)"
        )
    return list(history)


class DelayedAttention(SheetAttention):
    """:class:`colgraph.nn.SheetAttention` in which each edge brings what its source said some steps ago.

    Shapes:
        ``forward(x [N,B,C], edges, edge_cost [E] or None, past) -> out [N,B,C], cost [N,B,H] or None, past`` for the
        next step.
    """

    def forward(  # type: ignore[override]
        self, x: Tensor, edges: DelayedEdges, edge_cost: Tensor | None, past: Said
    ) -> tuple[Tensor, Tensor | None, Said]:
        query, key, value = self.project(x)
        key, value = torch.cat([key, past[0]]), torch.cat([value, past[1]])
        backend = self._resolve(query)
        self._announce(backend, query)
        bias, edge_cost = (
            None if each is None else each.index_select(0, edges.order) for each in (self.edge_bias, edge_cost)
        )
        if backend == "reference":
            size = (edges.layout.num_columns, edges.num_columns)
            out, cost = self._propagate(query, key, value, edges.layout, edge_cost, bias, size)
        else:
            out, cost = sheet_attention(
                edges.followed(query), key, value, bias, edges.layout, edge_cost=edge_cost, backend=backend
            )
            out, cost = out[: edges.num_columns], None if cost is None else cost[: edges.num_columns]
        out = out.reshape(x.shape)
        kept = (edges.depth - 1) * edges.num_columns
        return out if self.output is None else self.output(out), cost, (key[:kept], value[:kept])

    def weights(self, x: Tensor, edges: DelayedEdges, past: Said) -> Tensor:
        """Attention ``[E,B,H]``, in the sheet's order of edges."""
        query, key, _ = self.project(x)
        key, bias = torch.cat([key, past[0]]), edges.ordered(self.edge_bias)
        weights = attention_weights(edges.followed(query), key, bias, edges.layout)
        return weights.index_select(0, edges.back)


class DelayedBlock(ColumnBlock):
    """:class:`colgraph.nn.ColumnBlock` with conduction delays.

    Shapes:
        ``forward(x [N,B,C], edges, edge_cost [E] or None, keep_hidden, past) -> x', cost or None, hidden or None,
        past``.
    """

    attention: DelayedAttention
    attention_class = DelayedAttention

    def forward(  # type: ignore[override]
        self, x: Tensor, edges: DelayedEdges, edge_cost: Tensor | None, keep_hidden: bool, past: Said
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Said]:
        heard, cost, past = self.attention(self.norm1(x), edges, edge_cost, past)
        return *self.take_in(x, heard, cost, keep_hidden), past

    def past(self, history: list[Tensor]) -> Said:
        """What was said in the last steps, of the states ``[N,B,C]`` at their beginning, the latest last."""
        said: list[Tensor] = []
        last: Tensor | None = None
        for state in reversed(history):
            # Of one state over and over, as the zeros before the first step, keys and values are computed once.
            said += said[-2:] if state is last else self.attention.project(self.norm1(state))[1:]
            last = state
        return torch.cat(said[::2]), torch.cat(said[1::2])
