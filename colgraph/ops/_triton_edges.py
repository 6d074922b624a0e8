"""The per-target kernel: one program per column, head and block of samples walks the column's edges.

Serves any graph, any degree and any width. Edges are taken a few at a time, so that several rows are under way at
once; the softmax is online, in float32. The backward pass walks twice: over each target's edges for the gradients of
query and bias, and over each source's edges for those of key and value. Every number has one writer, so results do not
depend on the order in which programs run.

Blocks are ``[edges, samples, width]``. Columns are visited in kd order: programs that run at the same time listen to
much the same columns, whose rows then come from the cache.
"""

# Kernel arguments are Triton values and have no Python types.
# mypy: allow-untyped-defs, allow-incomplete-defs

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from colgraph.ops._triton_base import (
    Call,
    Saved,
    edge_row,
    load_rows,
    load_softmax,
    power_of_two,
    row_index,
    store_softmax,
)

__all__ = ["EdgeTables", "backward", "forward"]


class EdgeTables(NamedTuple):
    """Both directions of the edges, as the kernels read them; see :class:`colgraph.layout.Layout`."""

    order: Tensor
    indptr: Tensor
    source: Tensor
    source_indptr: Tensor
    source_edge: Tensor
    source_target: Tensor


# ---------------------------------------------------------------------- kernels


@triton.jit
def _program(order, first_block, num_blocks, num_heads, BLOCK_B: tl.constexpr):
    """The column, head, block and samples of this program; the column changes slowest."""
    pid = tl.program_id(0)
    block = pid % num_blocks
    head = (pid // num_blocks) % num_heads
    column = tl.load(order + pid // (num_blocks * num_heads)).to(tl.int64)
    return column, head, block, (first_block + block) * BLOCK_B + tl.arange(0, BLOCK_B)


@triton.jit
def _scores(query, key, edge_bias, edge, head, inside, scale, num_heads, BIAS: tl.constexpr):
    """``[edges,samples]`` scores of blocks that broadcast to ``[edges,samples,D]``; -inf where ``inside`` is false."""
    score = tl.sum(query * key, axis=2) * scale
    if BIAS != 0:
        bias = tl.load(edge_bias + edge_row(edge, head, num_heads, BIAS), mask=edge >= 0, other=0.0)
        score += bias.to(tl.float32)[:, None]
    return tl.where(inside, score, float("-inf"))


@triton.jit
def forward_kernel(
    query, key, value, edge_bias, edge_cost, out, cost, softmax,
    order, indptr, source,
    scale, num_samples, num_heads, num_blocks,
    BIAS: tl.constexpr, HAS_COST: tl.constexpr, D: tl.constexpr, C: tl.constexpr,
    BLOCK_E: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Output, cost and softmax statistics of one column."""
    column, head, _, sample = _program(order, 0, num_blocks, num_heads, BLOCK_B)
    d, c = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_C)
    valid = sample < num_samples
    row = row_index(column, sample, head, num_samples, num_heads)
    q = load_rows(query, row[None, :], valid[None, :], d, D).to(tl.float32)
    top = tl.full([BLOCK_B], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_B], tl.float32)
    length = tl.zeros([BLOCK_B], tl.float32)
    sums = tl.zeros([BLOCK_B, BLOCK_C], tl.float32)
    last = tl.load(indptr + column + 1)
    for start in range(tl.load(indptr + column), last, BLOCK_E):
        place = start + tl.arange(0, BLOCK_E)
        present = place < last
        inside = present[:, None] & valid[None, :]
        edge = tl.where(present, place, -1)
        other = tl.load(source + place, mask=present, other=0)
        other_row = row_index(other[:, None], sample[None, :], head, num_samples, num_heads)
        k = load_rows(key, other_row, inside, d, D).to(tl.float32)
        score = _scores(q, k, edge_bias, edge, head, inside, scale, num_heads, BIAS)
        new_top = tl.maximum(top, tl.max(score, axis=0))
        # All scores so far may be -inf: then any finite number serves, because every weight is zero.
        level = tl.where(new_top == float("-inf"), 0.0, new_top)
        weight = tl.exp(score - level[None, :])
        decay = tl.exp(top - level)
        v = load_rows(value, other_row, inside, c, C).to(tl.float32)
        sums = sums * decay[:, None] + tl.sum(weight[:, :, None] * v, axis=0)
        total = total * decay + tl.sum(weight, axis=0)
        if HAS_COST:
            w = tl.load(edge_cost + place, mask=present, other=0.0).to(tl.float32)
            length = length * decay + tl.sum(weight * w[:, None], axis=0)
        top = new_top
    heard = total > 0
    share = 1.0 / tl.where(heard, total, 1.0)
    result = (sums * share[:, None]).to(out.dtype.element_ty)
    tl.store(out + row[:, None] * C + c[None, :], result, mask=valid[:, None] & (c < C)[None, :])
    store_softmax(softmax, row, tl.where(heard, top, 0.0), tl.where(heard, share, 0.0), valid)
    if HAS_COST:
        tl.store(cost + row, length * share, mask=valid)


@triton.jit(do_not_specialize=["first_block"])
def backward_target_kernel(
    query, key, value, edge_bias, edge_cost, out, cost, softmax, grad_out, grad_cost,
    grad_query, grad_bias, delta,
    order, indptr, source,
    scale, num_samples, num_heads, first_block, num_blocks, num_edges,
    BIAS: tl.constexpr, HAS_COST: tl.constexpr, GRAD_BIAS: tl.constexpr, D: tl.constexpr, C: tl.constexpr,
    BLOCK_E: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Gradients of the query and of the incoming edges' biases (summed over the block's samples), and delta."""
    column, head, block, sample = _program(order, first_block, num_blocks, num_heads, BLOCK_B)
    d, c = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_C)
    valid = sample < num_samples
    row = row_index(column, sample, head, num_samples, num_heads)
    q = load_rows(query, row[None, :], valid[None, :], d, D).to(tl.float32)
    go = load_rows(grad_out, row[None, :], valid[None, :], c, C).to(tl.float32)
    o = load_rows(out, row[None, :], valid[None, :], c, C).to(tl.float32)
    mean = tl.sum(go * o, axis=2)
    top, share = load_softmax(softmax, row, valid)
    if HAS_COST:
        gc = tl.load(grad_cost + row, mask=valid, other=0.0)
        mean += (gc * tl.load(cost + row, mask=valid, other=0.0))[None, :]
    tl.store(delta + row[None, :], mean, mask=valid[None, :])
    gq = tl.zeros([BLOCK_B, BLOCK_D], tl.float32)
    last = tl.load(indptr + column + 1)
    for start in range(tl.load(indptr + column), last, BLOCK_E):
        place = start + tl.arange(0, BLOCK_E)
        present = place < last
        inside = present[:, None] & valid[None, :]
        edge = tl.where(present, place, -1)
        other = tl.load(source + place, mask=present, other=0)
        other_row = row_index(other[:, None], sample[None, :], head, num_samples, num_heads)
        k = load_rows(key, other_row, inside, d, D).to(tl.float32)
        score = _scores(q, k, edge_bias, edge, head, inside, scale, num_heads, BIAS)
        weight = tl.exp(score - top[None, :]) * share[None, :]
        v = load_rows(value, other_row, inside, c, C).to(tl.float32)
        grad_weight = tl.sum(go * v, axis=2)
        if HAS_COST:
            w = tl.load(edge_cost + place, mask=present, other=0.0).to(tl.float32)
            grad_weight += gc[None, :] * w[:, None]
        grad_score = weight * (grad_weight - mean)
        gq += tl.sum(grad_score[:, :, None] * k, axis=0)
        if GRAD_BIAS:
            slot = edge_row(block.to(tl.int64) * num_edges + place, head, num_heads, 2)
            tl.store(grad_bias + slot, tl.sum(grad_score, axis=1), mask=present)
    result = (gq * scale).to(grad_query.dtype.element_ty)
    tl.store(grad_query + row[:, None] * D + d[None, :], result, mask=valid[:, None] & (d < D)[None, :])


@triton.jit
def backward_source_kernel(
    query, key, value, edge_bias, edge_cost, softmax, delta, grad_out, grad_cost,
    grad_key, grad_value,
    order, source_indptr, source_edge, source_target,
    scale, num_samples, num_heads, num_blocks,
    BIAS: tl.constexpr, HAS_COST: tl.constexpr, D: tl.constexpr, C: tl.constexpr,
    BLOCK_E: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Gradients of one column's key and value, over the edges that leave it."""
    column, head, _, sample = _program(order, 0, num_blocks, num_heads, BLOCK_B)
    d, c = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_C)
    valid = sample < num_samples
    row = row_index(column, sample, head, num_samples, num_heads)
    k = load_rows(key, row[None, :], valid[None, :], d, D).to(tl.float32)
    v = load_rows(value, row[None, :], valid[None, :], c, C).to(tl.float32)
    gk = tl.zeros([BLOCK_B, BLOCK_D], tl.float32)
    gv = tl.zeros([BLOCK_B, BLOCK_C], tl.float32)
    last = tl.load(source_indptr + column + 1)
    for start in range(tl.load(source_indptr + column), last, BLOCK_E):
        place = start + tl.arange(0, BLOCK_E)
        present = place < last
        inside = present[:, None] & valid[None, :]
        edge = tl.load(source_edge + place, mask=present, other=-1)
        other = tl.load(source_target + place, mask=present, other=0)
        other_row = row_index(other[:, None], sample[None, :], head, num_samples, num_heads)
        q = load_rows(query, other_row, inside, d, D).to(tl.float32)
        score = _scores(q, k, edge_bias, edge, head, inside, scale, num_heads, BIAS)
        top, share = load_softmax(softmax, other_row, inside)
        weight = tl.exp(score - top) * share
        go = load_rows(grad_out, other_row, inside, c, C).to(tl.float32)
        gv += tl.sum(weight[:, :, None] * go, axis=0)
        grad_weight = tl.sum(go * v, axis=2)
        if HAS_COST:
            w = tl.load(edge_cost + edge, mask=present, other=0.0).to(tl.float32)
            gc = tl.load(grad_cost + other_row, mask=inside, other=0.0)
            grad_weight += gc * w[:, None]
        grad_score = weight * (grad_weight - tl.load(delta + other_row, mask=inside, other=0.0))
        gk += tl.sum(grad_score[:, :, None] * q, axis=0)
    gk = (gk * scale).to(grad_key.dtype.element_ty)
    tl.store(grad_key + row[:, None] * D + d[None, :], gk, mask=valid[:, None] & (d < D)[None, :])
    gv = gv.to(grad_value.dtype.element_ty)
    tl.store(grad_value + row[:, None] * C + c[None, :], gv, mask=valid[:, None] & (c < C)[None, :])


# ---------------------------------------------------------------------- launches


class Blocks(NamedTuple):
    """Block sizes and warps of one launch."""

    edges: int
    samples: int
    qk: int
    channels: int
    warps: int

    def constants(self) -> dict[str, int]:
        """The same as keyword arguments of a kernel."""
        return {
            "BLOCK_E": self.edges,
            "BLOCK_B": self.samples,
            "BLOCK_D": self.qk,
            "BLOCK_C": self.channels,
            "num_warps": self.warps,
        }


def choose_blocks(batch: int, qk_dim: int, channels: int, mean_degree: float) -> Blocks:
    """Block sizes by a fixed rule, so that the same call always computes the same bits.

    A program holds about 4096 numbers of the wider operand (32 per thread of four warps): as many samples as fit, then
    as many edges at once as fit and as the graph has.
    """
    qk, wide = power_of_two(qk_dim), power_of_two(channels)
    width = max(qk, wide)
    samples = min(power_of_two(batch), max(1, 2048 // width))
    edges = max(1, min(16, power_of_two(round(mean_degree)), 4096 // (samples * width)))
    warps = min(8, max(1, edges * samples * width // 1024))
    return Blocks(edges, samples, qk, wide, power_of_two(warps))


def _launch(call: Call, tables: EdgeTables) -> tuple[Blocks, int, tuple[int]]:
    """Block sizes, number of sample blocks, and grid."""
    n, b, h, d, c = call.shape
    blocks = choose_blocks(b, d, c, tables.source.numel() / n)
    num_blocks = triton.cdiv(b, blocks.samples)
    return blocks, num_blocks, (n * h * num_blocks,)


def forward(call: Call, tables: EdgeTables, out: Tensor, cost: Tensor, softmax: Tensor) -> None:
    """Output ``[N,B,H,C]``; in float32 ``cost [N,B,H]``, where edges have one, and softmax statistics ``[N,B,H,2]``."""
    _, b, h, _, _ = call.shape
    blocks, num_blocks, grid = _launch(call, tables)
    forward_kernel[grid](
        *call.pointers(), out, cost, softmax,
        tables.order, tables.indptr, tables.source,
        call.scale, b, h, num_blocks,
        **call.constants(), **blocks.constants(),
    )  # fmt: skip


def backward(
    call: Call, saved: Saved, tables: EdgeTables, need_bias: bool, need_source: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of query, key, value and edge bias; those not needed are empty."""
    n, b, h, _, _ = call.shape
    blocks, num_blocks, grid = _launch(call, tables)
    grad_query, delta = torch.empty_like(call.query), call.new(n, b, h)

    def target_pass(first: int, count: int, partial: Tensor) -> None:
        backward_target_kernel[(n * h * count,)](
            *call.pointers(), saved.out, saved.cost, saved.softmax, saved.grad_out, saved.grad_cost,
            grad_query, partial, delta,
            tables.order, tables.indptr, tables.source,
            call.scale, b, h, first, count, tables.source.numel(),
            GRAD_BIAS=need_bias, **call.constants(), **blocks.constants(),
        )  # fmt: skip

    grad_bias = call.sum_bias(num_blocks, need_bias, target_pass)
    if not need_source:
        return grad_query, call.new(0), call.new(0), grad_bias
    grad_key, grad_value = torch.empty_like(call.key), torch.empty_like(call.value)
    backward_source_kernel[grid](
        *call.pointers(), saved.softmax, delta, saved.grad_out, saved.grad_cost,
        grad_key, grad_value,
        tables.order, tables.source_indptr, tables.source_edge, tables.source_target,
        call.scale, b, h, num_blocks,
        **call.constants(), **blocks.constants(),
    )  # fmt: skip
    return grad_query, grad_key, grad_value, grad_bias
