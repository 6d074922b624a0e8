"""Backend "triton": fused attention over a sheet's edges on a GPU, in two kernels.

* ``triton_edges``: one program per column walks its edges; any graph, any width (:mod:`colgraph.ops._triton_edges`).
* ``triton_tiles``: 16 neighboring columns against the union of their partners on matrix units, for graphs whose
  neighbors share neighbors (:mod:`colgraph.ops._triton_tiles`).

``triton`` picks one of them per sheet, by how full the tiles are. Both compute in float32 from float16, bfloat16 or
float32, allocate nothing with a row per edge and sample or per edge and channel, and give the same bits on every run.
Blocks are chosen by a fixed rule. Kernels are compiled on first use for each dtype, pair of widths and set of inputs
(some seconds each), and kept in Triton's cache on disk. Correctness is tested in Triton's interpreter; speed has not
been measured on a GPU yet (``benchmarks/gpu_attention.py`` does that).
"""

import torch
import triton
from torch import Tensor

from colgraph.layout import Layout
from colgraph.ops import _triton_edges, _triton_tiles
from colgraph.ops._triton_base import Call, Kernels, power_of_two
from colgraph.ops.primitive import Back, Gradients, Primitive, Tables, register
from colgraph.ops.reference import Operands


def choose(backend: str, query: Tensor, layout: Layout) -> Primitive:
    """The kernel that ``backend`` names, or the one that ``layout.best_kernel()`` does for "triton".

    Raises:
        ValueError: if query rows are wider than the named kernel holds.
    """
    widest = _triton_tiles.widest_qk(query.dtype)
    if backend == "triton":
        return TILES if query.size(3) <= widest and layout.best_kernel() == "tiles" else EDGES
    if backend == "triton_tiles" and query.size(3) > widest:
        name = str(query.dtype).removeprefix("torch.")
        raise ValueError(f"backend 'triton_tiles' serves D up to {widest} in {name}, query has D={query.size(3)}")
    return TILES if backend == "triton_tiles" else EDGES


def _primitive(kernel: str, kernels: Kernels) -> Primitive:
    """The pair of one of the two ways to walk."""
    both, target = kernels.split

    def forward(given: Operands, tables: Tables) -> tuple[Tensor, Tensor, Tensor]:
        call = Call.of(given)
        n, b, h, _, c = call.shape
        out = call.new(n, b, h, c, dtype=call.query.dtype)
        cost = call.new(*((n, b, h) if call.edge_cost is not None else (0,)))
        softmax = call.new(n, b, h, 2)
        if not given.query.numel():
            return out, cost, softmax
        plan = kernels.plan(call, tables)
        times, own = plan.forward
        with torch.cuda.device_of(given.query):  # Triton launches on the current device
            kernels.forward[(plan.programs * plan.blocks * times,)](
                *call.pointers(), out, cost, softmax,
                *tables[:target],
                call.scale, b, h, plan.blocks,
                **own, **call.constants(), **plan.constants,
            )  # fmt: skip
        return out, cost, softmax

    def backward(given: Operands, tables: Tables, back: Back) -> Gradients:
        grads: list[Tensor | None]
        if not given.query.numel():
            grads = [None if x is None else torch.zeros_like(x) for x in given[:4]]
        else:
            with torch.cuda.device_of(given.query):
                grads = passes(Call.of(given), tables, back)
        return [grad if want else None for grad, want in zip(grads, back.wanted, strict=True)]

    def passes(call: Call, tables: Tables, back: Back) -> list[Tensor | None]:
        """Gradients of query, key, value and edge bias; those that are not wanted may be missing."""
        n, b, h, _, c = call.shape
        plan = kernels.plan(call, tables)
        constants = call.constants() | plan.constants
        out, cost, softmax = back.kept
        grad_out = back.grad_out.contiguous()
        grad_cost = softmax if back.grad_cost is None else back.grad_cost.contiguous()  # a tensor, which is not read
        grad_query, delta = torch.empty_like(call.query), call.new(n, b, h)
        results: tuple[Tensor, ...] = (out, cost)
        if kernels.delta is not None:
            kernels.delta[(triton.cdiv(n * b * h, 16),)](
                out, cost, grad_out, grad_cost, delta, n * b * h,
                HAS_COST=call.edge_cost is not None, C=c, BLOCK_R=16, BLOCK_C=min(power_of_two(c, 16), 128),
            )  # fmt: skip
            results = ()
        inputs = (*call.pointers(), softmax, grad_out, grad_cost, delta)
        edges = 0 if call.edge_bias is None else call.edge_bias.size(0)

        def target_pass(first: int, count: int, partial: Tensor) -> None:
            kernels.target[(plan.programs * count,)](
                *inputs, *results, grad_query, partial,
                *tables[:target],
                call.scale, b, h, first, count, edges,
                GRAD_BIAS=back.wanted[3], **constants,
            )  # fmt: skip

        grad_bias = call.sum_bias(plan.blocks, back.wanted[3], target_pass)
        if not (back.wanted[1] or back.wanted[2]):
            return [grad_query, None, None, grad_bias]
        grad_key, grad_value = torch.empty_like(call.key), torch.empty_like(call.value)
        for times, own in plan.source:
            kernels.source[(plan.programs * plan.blocks * times,)](
                *inputs, grad_key, grad_value,
                *tables[:both], *tables[target:],
                call.scale, b, h, plan.blocks,
                **own, **constants,
            )  # fmt: skip
        return [grad_query, grad_key, grad_value, grad_bias]

    name = f"triton_{kernel}"
    return register(Primitive(name, lambda layout: layout.tables(kernel), forward, backward, keeps_results=True))


EDGES = _primitive("edges", _triton_edges.KERNELS)
TILES = _primitive("tiles", _triton_tiles.KERNELS)
