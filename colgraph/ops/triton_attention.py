"""Backend "triton": fused attention over a sheet's edges on a GPU, in two kernels.

* ``triton_edges``: one program per column walks its edges; any graph, any width (:mod:`colgraph.ops._triton_edges`).
* ``triton_tiles``: 16 neighbouring columns against the union of their partners on matrix units, for graphs whose
  neighbours share neighbours (:mod:`colgraph.ops._triton_tiles`).

``triton`` picks one of them per sheet, by how full the tiles are. Both compute in float32 from float16, bfloat16 or
float32, allocate nothing with a row per edge and sample or per edge and channel, and give the same bits on every run.
Blocks are chosen by a fixed rule. Kernels are compiled on first use for each dtype, pair of widths and set of inputs
(some seconds each), and kept in Triton's cache on disk. Correctness is tested in Triton's interpreter; speed has not
been measured on a GPU yet (``benchmarks/gpu_attention.py`` does that).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from colgraph.layout import Layout
from colgraph.ops._triton_base import Call, Saved
from colgraph.ops._triton_edges import EdgeTables
from colgraph.ops._triton_edges import backward as edges_backward
from colgraph.ops._triton_edges import forward as edges_forward
from colgraph.ops._triton_tiles import TileTables, widest_qk
from colgraph.ops._triton_tiles import backward as tiles_backward
from colgraph.ops._triton_tiles import forward as tiles_forward
from colgraph.ops.primitive import Back, Gradients, Primitive, Tables, register
from colgraph.ops.reference import Operands

__all__ = ["EDGES", "TILES", "choose"]


def choose(backend: str, query: Tensor, layout: Layout) -> Primitive:
    """The kernel that ``backend`` names, or the one that ``layout.best_kernel()`` does for "triton".

    Raises:
        ValueError: if query rows are wider than the named kernel holds.
    """
    widest = widest_qk(query.dtype)
    if backend == "triton":
        return TILES if query.size(3) <= widest and layout.best_kernel() == "tiles" else EDGES
    if backend == "triton_tiles" and query.size(3) > widest:
        name = str(query.dtype).removeprefix("torch.")
        raise ValueError(f"backend 'triton_tiles' serves D up to {widest} in {name}, query has D={query.size(3)}")
    return TILES if backend == "triton_tiles" else EDGES


def _primitive(kernel: str, named: Callable[..., Any], launch: Callable[..., None], launch_backward: Any) -> Primitive:
    """The pair of one of the two kernels, from what launches them on tables with names."""

    def forward(given: Operands, tables: Tables) -> tuple[Tensor, Tensor, Tensor]:
        call = Call.of(given)
        n, b, h, _, c = call.shape
        out = call.new(n, b, h, c, dtype=call.query.dtype)
        cost = call.new(*((n, b, h) if call.edge_cost is not None else (0,)))
        softmax = call.new(n, b, h, 2)
        if not call.empty:
            with torch.cuda.device_of(given.query):  # Triton launches on the current device
                launch(call, named(*tables), out, cost, softmax)
        return out, cost, softmax

    def backward(given: Operands, tables: Tables, back: Back) -> Gradients:
        call = Call.of(given)
        out, cost, softmax = back.kept
        grad_cost = softmax if back.grad_cost is None else back.grad_cost  # a tensor, which is then not read
        saved = Saved(out, cost, softmax, back.grad_out.contiguous(), grad_cost.contiguous())
        need_bias, need_source = back.wanted[3], back.wanted[1] or back.wanted[2]
        if call.empty:
            pairs = zip(given[:4], back.wanted, strict=True)
            return [None if x is None or not want else torch.zeros_like(x) for x, want in pairs]
        with torch.cuda.device_of(given.query):
            grads = launch_backward(call, saved, named(*tables), need_bias, need_source)
        return [grad if want else None for grad, want in zip(grads, back.wanted, strict=True)]

    name = f"triton_{kernel}"
    return register(Primitive(name, lambda layout: layout.tables(kernel), forward, backward, keeps_results=True))


EDGES = _primitive("edges", EdgeTables, edges_forward, edges_backward)
TILES = _primitive("tiles", TileTables, tiles_forward, tiles_backward)
