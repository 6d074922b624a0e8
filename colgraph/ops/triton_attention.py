"""Backend "triton": fused attention over a sheet's edges on a GPU, in two kernels.

* ``triton_edges``: one program per column walks its edges; any graph, any width (:mod:`colgraph.ops._triton_edges`).
* ``triton_tiles``: 16 neighbouring columns against the union of their partners on matrix units, for graphs whose
  neighbours share neighbours (:mod:`colgraph.ops._triton_tiles`).

``triton`` picks one of them per sheet, by how full the tiles are. Both compute in float32 from float16, bfloat16 or
float32, allocate nothing with a row per edge and sample or per edge and channel, and give the same bits on every run.
Blocks are chosen by a fixed rule. Kernels are compiled on first use for each dtype, pair of widths and set of inputs
(some seconds each), and kept in Triton's cache on disk. Correctness is tested in Triton's interpreter; speed has not
been measured on a GPU yet (``benchmarks/gpu_attention.py`` does that).

The operator is registered with ``torch.library``; its arguments are tensors and numbers, so that ``torch.compile`` and
CUDA graphs take it whole. Where its gradients are differentiated again, the reference computes them.
"""

from typing import Any

import torch
from torch import Tensor

from colgraph.layout import Layout
from colgraph.ops import _triton_edges, _triton_tiles
from colgraph.ops._triton_base import Call, Saved
from colgraph.ops._triton_edges import EdgeTables, edge_layout
from colgraph.ops._triton_tiles import TileTables, tile_layout, widest_qk
from colgraph.ops.higher_order import differentiable_gradients, is_differentiated_again
from colgraph.ops.reference import sheet_attention_reference

__all__ = ["sheet_attention", "sheet_attention_edges", "sheet_attention_tiles"]


def sheet_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge_bias: Tensor | None,
    layout: Layout,
    scale: float,
    edge_cost: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """See :func:`colgraph.ops.sheet_attention`; the kernel is the one ``layout.best_kernel()`` names."""
    kernel = layout.best_kernel() if query.size(3) <= widest_qk(query.dtype) else "edges"
    return _attention(query, key, value, edge_bias, layout, scale, edge_cost, kernel)


def sheet_attention_edges(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge_bias: Tensor | None,
    layout: Layout,
    scale: float,
    edge_cost: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """The per-target kernel, whatever the graph; see :func:`colgraph.ops.sheet_attention`."""
    return _attention(query, key, value, edge_bias, layout, scale, edge_cost, "edges")


def sheet_attention_tiles(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge_bias: Tensor | None,
    layout: Layout,
    scale: float,
    edge_cost: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """The gathered-tile kernel, whatever the graph; see :func:`colgraph.ops.sheet_attention`.

    Raises:
        ValueError: if query rows are wider than the kernel holds.
    """
    widest = widest_qk(query.dtype)
    if query.size(3) > widest:
        name = str(query.dtype).removeprefix("torch.")
        raise ValueError(f"backend 'triton_tiles' serves D up to {widest} in {name}, query has D={query.size(3)}")
    return _attention(query, key, value, edge_bias, layout, scale, edge_cost, "tiles")


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge_bias: Tensor | None,
    layout: Layout,
    scale: float,
    edge_cost: Tensor | None,
    kernel: str,
) -> tuple[Tensor, Tensor | None]:
    tables = layout.tables(kernel)
    out, cost, _ = forward_op(query, key, value, edge_bias, edge_cost, tables, scale, kernel)
    return out, (cost.to(edge_cost.dtype) if edge_cost is not None else None)


# ---------------------------------------------------------------------- the operator


@torch.library.custom_op("colgraph::triton_attention", mutates_args=())
def forward_op(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge_bias: Tensor | None,
    edge_cost: Tensor | None,
    tables: list[Tensor],
    scale: float,
    kernel: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """``out [N,B,H,C]``; in float32 ``cost [N,B,H]`` (empty without edge cost) and softmax statistics ``[N,B,H,2]``."""
    call = Call.of(query, key, value, edge_bias, edge_cost, scale)
    if call.empty:
        return _forward_shapes(query, key, value, edge_bias, edge_cost, tables, scale, kernel)
    with torch.cuda.device_of(query):  # Triton launches on the current device
        if kernel == "tiles":
            return _triton_tiles.forward(call, TileTables(*tables))
        return _triton_edges.forward(call, EdgeTables(*tables))


@forward_op.register_fake
def _forward_shapes(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge_bias: Tensor | None,
    edge_cost: Tensor | None,
    tables: list[Tensor],
    scale: float,
    kernel: str,
) -> tuple[Tensor, Tensor, Tensor]:
    rows = query.shape[:3]
    return (
        query.new_empty(value.shape),
        query.new_empty(rows if edge_cost is not None else (0,), dtype=torch.float32),
        query.new_empty((*rows, 2), dtype=torch.float32),
    )


@torch.library.custom_op("colgraph::triton_attention_backward", mutates_args=())
def backward_op(
    grad_out: Tensor,
    grad_cost: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge_bias: Tensor | None,
    edge_cost: Tensor | None,
    out: Tensor,
    cost: Tensor,
    softmax: Tensor,
    tables: list[Tensor],
    scale: float,
    kernel: str,
    need_bias: bool,
    need_source: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of query, key, value and edge bias; those not needed are empty."""
    call = Call.of(query, key, value, edge_bias, edge_cost, scale)
    saved = Saved(out, cost, softmax, grad_out.contiguous(), grad_cost.contiguous())
    if call.empty:
        shapes = _backward_shapes(
            grad_out, grad_cost, query, key, value, edge_bias, edge_cost, out, cost, softmax,
            tables, scale, kernel, need_bias, need_source,
        )  # fmt: skip
        return tuple(torch.zeros_like(t) for t in shapes)  # type: ignore[return-value]
    with torch.cuda.device_of(query):
        if kernel == "tiles":
            return _triton_tiles.backward(call, saved, TileTables(*tables), need_bias, need_source)
        return _triton_edges.backward(call, saved, EdgeTables(*tables), need_bias, need_source)


@backward_op.register_fake
def _backward_shapes(
    grad_out: Tensor,
    grad_cost: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge_bias: Tensor | None,
    edge_cost: Tensor | None,
    out: Tensor,
    cost: Tensor,
    softmax: Tensor,
    tables: list[Tensor],
    scale: float,
    kernel: str,
    need_bias: bool,
    need_source: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    nothing = query.new_empty(0, dtype=torch.float32)
    bias = edge_bias.new_empty(edge_bias.shape) if need_bias and edge_bias is not None else nothing
    if not need_source:
        return query.new_empty(query.shape), nothing, torch.empty_like(nothing), torch.empty_like(bias)
    return query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape), bias


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    query, key, value, edge_bias, edge_cost, tables, ctx.scale, ctx.kernel = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(query, key, value, edge_bias, edge_cost, *output, *tables)


def _differentiate(ctx: Any, grad_out: Tensor | None, grad_cost: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    query, key, value, edge_bias, edge_cost, out, cost, softmax, *tables = ctx.saved_tensors
    need = ctx.needs_input_grad
    need_bias, need_source = edge_bias is not None and need[3], need[1] or need[2]
    wanted = (need[0], need[1], need[2], need_bias)
    nothing = (None, [None] * len(tables), None, None)
    if not torch.compiler.is_compiling() and is_differentiated_again(grad_out, grad_cost):
        layout = _LAYOUT_OF[ctx.kernel](tables)

        def attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
            return sheet_attention_reference(query, key, value, bias, layout, ctx.scale, edge_cost)

        grads = differentiable_gradients(attention, (query, key, value, edge_bias), wanted, (grad_out, grad_cost))
        return (*grads, *nothing)
    gradients = backward_op(
        torch.zeros_like(out) if grad_out is None else grad_out,
        torch.zeros_like(cost) if grad_cost is None else grad_cost,
        query, key, value, edge_bias, edge_cost, out, cost, softmax,
        tables, ctx.scale, ctx.kernel, need_bias, need_source,
    )  # fmt: skip
    kept = [gradient if want else None for gradient, want in zip(gradients, wanted, strict=True)]
    return (*kept, *nothing)


_LAYOUT_OF = {
    "edges": lambda tables: edge_layout(EdgeTables(*tables)),
    "tiles": lambda tables: tile_layout(TileTables(*tables)),
}


forward_op.register_autograd(_differentiate, setup_context=_save)
