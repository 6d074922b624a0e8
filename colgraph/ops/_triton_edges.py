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

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from colgraph.ops._triton_base import (
    Call,
    Kernels,
    Plan,
    edge_row,
    load_rows,
    load_softmax,
    power_of_two,
    row_index,
    softmax_share,
    softmax_step,
    store_rows,
    store_softmax,
)

# ---------------------------------------------------------------------- kernels


@triton.jit
def _program(order, indptr, first_block, num_blocks, num_samples, num_heads, BLOCK_B: tl.constexpr):
    """Where the column's edges begin and stop, head, block, samples and rows of this program.

    The column changes slowest.
    """
    pid = tl.program_id(0)
    block = pid % num_blocks
    head = (pid // num_blocks) % num_heads
    column = tl.load(order + pid // (num_blocks * num_heads)).to(tl.int64)
    sample = (first_block + block) * BLOCK_B + tl.arange(0, BLOCK_B)
    row = row_index(column, sample, head, num_samples, num_heads)
    return tl.load(indptr + column), tl.load(indptr + column + 1), head, block, sample, row


@triton.jit
def _partners(partner, place, last, sample, head, num_samples, num_heads):
    """Which places hold an edge, and the rows ``[edges,samples]`` at its other end, and which of these there are."""
    present = place < last
    other = tl.load(partner + place, mask=present, other=0)
    row = row_index(other[:, None], sample[None, :], head, num_samples, num_heads)
    return present, row, present[:, None] & (sample < num_samples)[None, :]


@triton.jit
def _scores(query, key, edge_bias, edge, present, head, inside, scale, num_heads, BIAS: tl.constexpr):
    """``[edges,samples]`` scores of blocks that broadcast to ``[edges,samples,D]``; -inf where ``inside`` is false."""
    score = tl.sum(query * key, axis=2) * scale
    if BIAS != 0:
        bias = tl.load(edge_bias + edge_row(edge, head, num_heads, BIAS), mask=present, other=0.0)
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
    first, last, head, _, sample, row = _program(order, indptr, 0, num_blocks, num_samples, num_heads, BLOCK_B)
    d, c = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_C)
    valid = sample < num_samples
    q = load_rows(query, row[None, :], valid[None, :], d, D).to(tl.float32)
    top = tl.full([BLOCK_B], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_B], tl.float32)
    length = tl.zeros([BLOCK_B], tl.float32)
    sums = tl.zeros([BLOCK_B, BLOCK_C], tl.float32)
    for start in range(first, last, BLOCK_E):
        place = start + tl.arange(0, BLOCK_E)
        present, other_row, inside = _partners(source, place, last, sample, head, num_samples, num_heads)
        k = load_rows(key, other_row, inside, d, D).to(tl.float32)
        score = _scores(q, k, edge_bias, place, present, head, inside, scale, num_heads, BIAS)
        top, weight, decay = softmax_step(score, top, 0)
        v = load_rows(value, other_row, inside, c, C).to(tl.float32)
        sums = sums * decay[:, None] + tl.sum(weight[:, :, None] * v, axis=0)
        total = total * decay + tl.sum(weight, axis=0)
        if HAS_COST:
            w = tl.load(edge_cost + place, mask=present, other=0.0).to(tl.float32)
            length = length * decay + tl.sum(weight * w[:, None], axis=0)
    share = softmax_share(total)
    store_rows(out, row[None, :], valid[None, :], c, (sums * share[:, None])[None, :, :], C)
    store_softmax(softmax, row, top, share, valid)
    if HAS_COST:
        tl.store(cost + row, length * share, mask=valid)


@triton.jit(do_not_specialize=["first_block"])
def backward_target_kernel(
    query, key, value, edge_bias, edge_cost, softmax, grad_out, grad_cost,
    delta, out, cost, grad_query, grad_bias,
    order, indptr, source,
    scale, num_samples, num_heads, first_block, num_blocks, num_edges,
    BIAS: tl.constexpr, HAS_COST: tl.constexpr, GRAD_BIAS: tl.constexpr, D: tl.constexpr, C: tl.constexpr,
    BLOCK_E: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Gradients of the query and of the incoming edges' biases (summed over the block's samples), and delta."""
    first, last, head, block, sample, row = _program(
        order, indptr, first_block, num_blocks, num_samples, num_heads, BLOCK_B
    )
    d, c = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_C)
    valid = sample < num_samples
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
    for start in range(first, last, BLOCK_E):
        place = start + tl.arange(0, BLOCK_E)
        present, other_row, inside = _partners(source, place, last, sample, head, num_samples, num_heads)
        k = load_rows(key, other_row, inside, d, D).to(tl.float32)
        score = _scores(q, k, edge_bias, place, present, head, inside, scale, num_heads, BIAS)
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
    store_rows(grad_query, row[None, :], valid[None, :], d, (gq * scale)[None, :, :], D)


@triton.jit
def backward_source_kernel(
    query, key, value, edge_bias, edge_cost, softmax, grad_out, grad_cost,
    delta, grad_key, grad_value,
    order, source_indptr, source_edge, source_target,
    scale, num_samples, num_heads, num_blocks,
    BIAS: tl.constexpr, HAS_COST: tl.constexpr, D: tl.constexpr, C: tl.constexpr,
    BLOCK_E: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Gradients of one column's key and value, over the edges that leave it."""
    first, last, head, _, sample, row = _program(order, source_indptr, 0, num_blocks, num_samples, num_heads, BLOCK_B)
    d, c = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_C)
    valid = sample < num_samples
    k = load_rows(key, row[None, :], valid[None, :], d, D).to(tl.float32)
    v = load_rows(value, row[None, :], valid[None, :], c, C).to(tl.float32)
    gk = tl.zeros([BLOCK_B, BLOCK_D], tl.float32)
    gv = tl.zeros([BLOCK_B, BLOCK_C], tl.float32)
    for start in range(first, last, BLOCK_E):
        place = start + tl.arange(0, BLOCK_E)
        present, other_row, inside = _partners(source_target, place, last, sample, head, num_samples, num_heads)
        edge = tl.load(source_edge + place, mask=present, other=0)
        q = load_rows(query, other_row, inside, d, D).to(tl.float32)
        score = _scores(q, k, edge_bias, edge, present, head, inside, scale, num_heads, BIAS)
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
    store_rows(grad_key, row[None, :], valid[None, :], d, (gk * scale)[None, :, :], D)
    store_rows(grad_value, row[None, :], valid[None, :], c, gv[None, :, :], C)


# ---------------------------------------------------------------------- launches


def choose_blocks(batch: int, qk_dim: int, channels: int, mean_degree: float) -> dict[str, int]:
    """Block sizes and warps by a fixed rule, so that the same call always computes the same bits.

    A program holds about 4096 numbers of the wider operand (32 per thread of four warps): as many samples as fit, then
    as many edges at once as fit and as the graph has.
    """
    qk, wide = power_of_two(qk_dim), power_of_two(channels)
    width = max(qk, wide)
    samples = min(power_of_two(batch), max(1, 2048 // width))
    edges = max(1, min(16, power_of_two(round(mean_degree)), 4096 // (samples * width)))
    warps = min(8, max(1, edges * samples * width // 1024))
    blocks = {"BLOCK_E": edges, "BLOCK_B": samples, "BLOCK_D": qk, "BLOCK_C": wide}
    return blocks | {"num_warps": power_of_two(warps)}


def _plan(call: Call, tables: Sequence[Tensor]) -> Plan:
    n, b, h, d, c = call.shape
    source = tables[2]
    blocks = choose_blocks(b, d, c, source.numel() / n)
    return Plan(n * h, triton.cdiv(b, blocks["BLOCK_B"]), blocks)


KERNELS = Kernels(forward_kernel, backward_target_kernel, backward_source_kernel, None, _plan, (1, 3))
