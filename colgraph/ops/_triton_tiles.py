"""The gathered-tile kernel: 16 columns that lie together against the union of their partners, on matrix units.

A program serves one tile, one head and a block of samples. It walks the union of the tile's partners a block at a time
and multiplies dense blocks ``[samples, 16, union]``; a table says which entries are edges, and the others weigh exactly
zero. The graph is shared by the batch, so the table, the biases and the costs are read once per block of samples. Each
sample has a warp of its own, which is how Triton lays out a batched product.

The backward pass walks the same tiles for the gradients of query and bias (each edge lies in one tile, so its bias has
one writer per block of samples), and tiles of source columns for those of key and value. No atomics.

One thing differs from the per-target kernel: infinite or NaN values of a column reach the other columns of a tile that
has it in its union, since zero times infinity is not zero.
"""

# Kernel arguments are Triton values and have no Python types.
# mypy: allow-untyped-defs, allow-incomplete-defs

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from colgraph.ops._triton_base import (
    INTERPRETED,
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
from colgraph.tiles import TILE


def widest_qk(dtype: torch.dtype) -> int:
    """The largest D served: query and key rows are held whole, and wider ones exhaust registers and shared memory."""
    return 256 // dtype.itemsize


# ---------------------------------------------------------------------- pieces of kernels


@triton.jit
def _program(columns, num_chunks, num_heads, first_block, num_blocks, TILE: tl.constexpr, BLOCK_B: tl.constexpr):
    """Tile, head, block of samples and chunk of channels of this program; the tile changes slowest."""
    pid = tl.program_id(0)
    chunk = pid % num_chunks
    head = (pid // num_chunks) % num_heads
    block = (pid // (num_chunks * num_heads)) % num_blocks
    tile = pid // (num_chunks * num_heads * num_blocks)
    column = tl.load(columns + tile.to(tl.int64) * TILE + tl.arange(0, TILE))
    return tile, column, head, block, (first_block + block) * BLOCK_B + tl.arange(0, BLOCK_B), chunk


@triton.jit
def _rows(column, sample, head, num_samples, num_heads):
    """Rows ``[samples, columns]`` and whether they exist (padding columns are -1)."""
    row = row_index(column[None, :], sample[:, None], head, num_samples, num_heads)
    return row, (column >= 0)[None, :] & (sample < num_samples)[:, None]


@triton.jit
def _edges(rank, indptr, target, place, last, TILE: tl.constexpr):
    """``[TILE, union]`` edge ids and which of them are edges. ``target`` broadcasts to that shape."""
    inside = (place < last)[None, :]
    at = place.to(tl.int64)[None, :] * TILE + tl.arange(0, TILE)[:, None]
    code = tl.load(rank + at, mask=inside, other=-1).to(tl.int64)
    first = tl.load(indptr + target, mask=target >= 0, other=0).to(tl.int64)
    return first + code, code >= 0


@triton.jit
def _product(a, b, total, PRECISION: tl.constexpr, WIDEN: tl.constexpr):
    """``total + a @ b`` per sample, summed in float32. WIDEN: the interpreter has no bfloat16 product."""
    if WIDEN:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, total, input_precision=PRECISION)


@triton.jit
def _scores(
    left, right, edge_bias, edge, exists, head, scale, num_heads,
    BIAS: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_U: tl.constexpr, TILE: tl.constexpr,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """``[samples, TILE, union]`` scores; -inf where there is no edge."""
    zero = tl.zeros([BLOCK_B, TILE, BLOCK_U], tl.float32)
    score = _product(left, tl.trans(right, 0, 2, 1), zero, PRECISION, WIDEN) * scale
    if BIAS != 0:
        bias = tl.load(edge_bias + edge_row(edge, head, num_heads, BIAS), mask=exists, other=0.0)
        score += bias.to(tl.float32)[None, :, :]
    return tl.where(exists[None, :, :], score, float("-inf"))


@triton.jit
def _grad_weights(
    left, left_first, left_row, left_inside, right, right_first, right_row, right_inside,
    C: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_U: tl.constexpr, TILE: tl.constexpr,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """``[samples, TILE, union]`` products over all channels; the first chunk of both sides is at hand."""
    transposed = tl.trans(right_first, 0, 2, 1)
    total = _product(left_first, transposed, tl.zeros([BLOCK_B, TILE, BLOCK_U], tl.float32), PRECISION, WIDEN)
    for start in range(BLOCK_C, C, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        a = load_rows(left, left_row, left_inside, c, C)
        b = load_rows(right, right_row, right_inside, c, C)
        total = _product(a, tl.trans(b, 0, 2, 1), total, PRECISION, WIDEN)
    return total


# ---------------------------------------------------------------------- kernels


@triton.jit
def forward_kernel(
    query, key, value, edge_bias, edge_cost, out, cost, softmax,
    columns, indptr, pointer, member, rank,
    scale, num_samples, num_heads, num_blocks, num_chunks,
    BIAS: tl.constexpr, HAS_COST: tl.constexpr, D: tl.constexpr, C: tl.constexpr,
    BLOCK_B: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_U: tl.constexpr, TILE: tl.constexpr,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Output (one chunk of channels), cost and softmax statistics of a tile."""
    tile, column, head, _, sample, chunk = _program(columns, num_chunks, num_heads, 0, num_blocks, TILE, BLOCK_B)
    d, c = tl.arange(0, BLOCK_D), chunk * BLOCK_C + tl.arange(0, BLOCK_C)
    row, real = _rows(column, sample, head, num_samples, num_heads)
    q = load_rows(query, row, real, d, D)
    top = tl.full([BLOCK_B, TILE], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_B, TILE], tl.float32)
    length = tl.zeros([BLOCK_B, TILE], tl.float32)
    sums = tl.zeros([BLOCK_B, TILE, BLOCK_C], tl.float32)
    last = tl.load(pointer + tile + 1) * TILE
    for start in range(tl.load(pointer + tile) * TILE, last, BLOCK_U):
        place = start + tl.arange(0, BLOCK_U)
        edge, exists = _edges(rank, indptr, column[:, None], place, last, TILE)
        other = tl.load(member + place, mask=place < last, other=-1)
        other_row, other_real = _rows(other, sample, head, num_samples, num_heads)
        k = load_rows(key, other_row, other_real, d, D)
        score = _scores(
            q, k, edge_bias, edge, exists, head, scale, num_heads,
            BIAS, BLOCK_B, BLOCK_U, TILE, PRECISION, WIDEN,
        )  # fmt: skip
        top, weight, decay = softmax_step(score, top, 2)
        v = load_rows(value, other_row, other_real, c, C)
        sums = _product(weight.to(v.dtype), v, sums * decay[:, :, None], PRECISION, WIDEN)
        total = total * decay + tl.sum(weight, axis=2)
        if HAS_COST:
            w = tl.load(edge_cost + edge, mask=exists, other=0.0).to(tl.float32)
            length = length * decay + tl.sum(weight * w[None, :, :], axis=2)
    share = softmax_share(total)
    store_rows(out, row, real, c, sums * share[:, :, None], C)
    if chunk == 0:
        store_softmax(softmax, row, top, share, real)
        if HAS_COST:
            tl.store(cost + row, length * share, mask=real)


@triton.jit
def delta_kernel(
    out, cost, grad_out, grad_cost, delta, num_rows,
    HAS_COST: tl.constexpr, C: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """``delta [N,B,H]``: the mean of each softmax's weight gradients, from what the forward pass saved."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    inside = row < num_rows
    total = tl.zeros([BLOCK_R, BLOCK_C], tl.float32)
    for start in range(0, C, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        at, mask = row[:, None] * C + c[None, :], inside[:, None] & (c < C)[None, :]
        go = tl.load(grad_out + at, mask=mask, other=0.0).to(tl.float32)
        total += go * tl.load(out + at, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(total, axis=1)
    if HAS_COST:
        gc = tl.load(grad_cost + row, mask=inside, other=0.0)
        mean += gc * tl.load(cost + row, mask=inside, other=0.0)
    tl.store(delta + row, mean, mask=inside)


@triton.jit(do_not_specialize=["first_block"])
def backward_target_kernel(
    query, key, value, edge_bias, edge_cost, softmax, grad_out, grad_cost,
    delta, grad_query, grad_bias,
    columns, indptr, pointer, member, rank,
    scale, num_samples, num_heads, first_block, num_blocks, num_edges,
    BIAS: tl.constexpr, HAS_COST: tl.constexpr, GRAD_BIAS: tl.constexpr, D: tl.constexpr, C: tl.constexpr,
    BLOCK_B: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_U: tl.constexpr, TILE: tl.constexpr,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Gradients of a tile's queries and of its incoming edges' biases (summed over the block's samples)."""
    tile, column, head, block, sample, _ = _program(columns, 1, num_heads, first_block, num_blocks, TILE, BLOCK_B)
    d, c = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_C)
    row, real = _rows(column, sample, head, num_samples, num_heads)
    q = load_rows(query, row, real, d, D)
    go = load_rows(grad_out, row, real, c, C)
    top, share = load_softmax(softmax, row, real)
    mean = tl.load(delta + row, mask=real, other=0.0)
    if HAS_COST:
        gc = tl.load(grad_cost + row, mask=real, other=0.0)
    gq = tl.zeros([BLOCK_B, TILE, BLOCK_D], tl.float32)
    last = tl.load(pointer + tile + 1) * TILE
    for start in range(tl.load(pointer + tile) * TILE, last, BLOCK_U):
        place = start + tl.arange(0, BLOCK_U)
        edge, exists = _edges(rank, indptr, column[:, None], place, last, TILE)
        other = tl.load(member + place, mask=place < last, other=-1)
        other_row, other_real = _rows(other, sample, head, num_samples, num_heads)
        k = load_rows(key, other_row, other_real, d, D)
        score = _scores(
            q, k, edge_bias, edge, exists, head, scale, num_heads,
            BIAS, BLOCK_B, BLOCK_U, TILE, PRECISION, WIDEN,
        )  # fmt: skip
        # Samples past the last have no largest score to keep their weights finite.
        weight = tl.where(real[:, :, None], tl.exp(score - top[:, :, None]) * share[:, :, None], 0.0)
        v = load_rows(value, other_row, other_real, c, C)
        grad_weight = _grad_weights(
            grad_out, go, row, real, value, v, other_row, other_real,
            C, BLOCK_B, BLOCK_C, BLOCK_U, TILE, PRECISION, WIDEN,
        )  # fmt: skip
        if HAS_COST:
            w = tl.load(edge_cost + edge, mask=exists, other=0.0).to(tl.float32)
            grad_weight += gc[:, :, None] * w[None, :, :]
        grad_score = weight * (grad_weight - mean[:, :, None])
        gq = _product(grad_score.to(k.dtype), k, gq, PRECISION, WIDEN)
        if GRAD_BIAS:
            slot = edge_row(block.to(tl.int64) * num_edges + edge, head, num_heads, 2)
            tl.store(grad_bias + slot, tl.sum(grad_score, axis=0), mask=exists)
    store_rows(grad_query, row, real, d, gq * scale, D)


@triton.jit
def backward_source_kernel(
    query, key, value, edge_bias, edge_cost, softmax, grad_out, grad_cost,
    delta, grad_key, grad_value,
    columns, indptr, pointer, member, rank,
    scale, num_samples, num_heads, num_blocks, num_chunks,
    GRAD_KEY: tl.constexpr, GRAD_VALUE: tl.constexpr,
    BIAS: tl.constexpr, HAS_COST: tl.constexpr, D: tl.constexpr, C: tl.constexpr,
    BLOCK_B: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_U: tl.constexpr, TILE: tl.constexpr,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Gradients of a tile's keys, and of its values (one chunk of channels)."""
    tile, column, head, _, sample, chunk = _program(columns, num_chunks, num_heads, 0, num_blocks, TILE, BLOCK_B)
    d, c = tl.arange(0, BLOCK_D), chunk * BLOCK_C + tl.arange(0, BLOCK_C)
    row, real = _rows(column, sample, head, num_samples, num_heads)
    k = load_rows(key, row, real, d, D)
    if GRAD_KEY:
        v = load_rows(value, row, real, c, C)
    gk = tl.zeros([BLOCK_B, TILE, BLOCK_D], tl.float32)
    gv = tl.zeros([BLOCK_B, TILE, BLOCK_C], tl.float32)
    last = tl.load(pointer + tile + 1) * TILE
    for start in range(tl.load(pointer + tile) * TILE, last, BLOCK_U):
        place = start + tl.arange(0, BLOCK_U)
        other = tl.load(member + place, mask=place < last, other=-1)
        edge, exists = _edges(rank, indptr, other[None, :], place, last, TILE)
        other_row, other_real = _rows(other, sample, head, num_samples, num_heads)
        q = load_rows(query, other_row, other_real, d, D)
        score = _scores(
            k, q, edge_bias, edge, exists, head, scale, num_heads,
            BIAS, BLOCK_B, BLOCK_U, TILE, PRECISION, WIDEN,
        )  # fmt: skip
        top, share = load_softmax(softmax, other_row, other_real)
        # Samples past the last have no largest score to keep their weights finite.
        weight = tl.where(other_real[:, None, :], tl.exp(score - top[:, None, :]) * share[:, None, :], 0.0)
        go = load_rows(grad_out, other_row, other_real, c, C)
        if GRAD_VALUE:
            gv = _product(weight.to(go.dtype), go, gv, PRECISION, WIDEN)
        if GRAD_KEY:
            grad_weight = _grad_weights(
                value, v, row, real, grad_out, go, other_row, other_real,
                C, BLOCK_B, BLOCK_C, BLOCK_U, TILE, PRECISION, WIDEN,
            )  # fmt: skip
            if HAS_COST:
                w = tl.load(edge_cost + edge, mask=exists, other=0.0).to(tl.float32)
                gc = tl.load(grad_cost + other_row, mask=other_real, other=0.0)
                grad_weight += gc[:, None, :] * w[None, :, :]
            mean = tl.load(delta + other_row, mask=other_real, other=0.0)
            gk = _product((weight * (grad_weight - mean[:, None, :])).to(q.dtype), q, gk, PRECISION, WIDEN)
    if GRAD_KEY:
        store_rows(grad_key, row, real, d, gk * scale, D)
    if GRAD_VALUE:
        store_rows(grad_value, row, real, c, gv, C)


# ---------------------------------------------------------------------- launches


def choose_blocks(batch: int, qk_dim: int, channels: int, itemsize: int) -> dict[str, int]:
    """Block sizes by a fixed rule, so that the same call always computes the same bits; a warp for each sample.

    Channels are cut into chunks (of half the size where that leaves less padding), because a warp holds 16 x chunk sums
    in registers. The sizes are the largest at which compiled kernels use at most 99 KiB of shared memory, which every
    GPU since compute capability 8.0 has, and spill few registers or none.
    """
    qk = power_of_two(qk_dim, 16)
    widest = 128 if itemsize == 2 else 64
    chunk = min(power_of_two(channels, 16), widest)
    if chunk == widest and triton.cdiv(channels, chunk // 2) % 2:
        chunk //= 2
    samples = min(power_of_two(batch), 4)
    union = 32 if itemsize == 2 and qk + chunk <= 96 else 16
    blocks = {"BLOCK_B": samples, "BLOCK_D": qk, "BLOCK_C": chunk, "BLOCK_U": union, "TILE": TILE}
    return blocks | {"num_warps": samples, "num_stages": 2}


def _precision(call: Call) -> dict[str, Any]:
    """How float32 blocks are multiplied: as torch's own matrix products where TF32 is allowed, else as three TF32
    products, which keep 21 bits or more of the 24."""
    matmul = torch.backends.cuda.matmul
    fast = matmul.fp32_precision == "tf32" if hasattr(matmul, "fp32_precision") else matmul.allow_tf32
    return {"PRECISION": "tf32" if fast else "tf32x3", "WIDEN": INTERPRETED and call.query.dtype == torch.bfloat16}


def _plan(call: Call, tables: Sequence[Tensor]) -> Plan:
    n, b, h, d, c = call.shape
    blocks = choose_blocks(b, d, c, call.query.element_size())
    # Keys need all channels at once, values one chunk: together where there is one chunk, else a launch each.
    chunks = max(1, triton.cdiv(c, blocks["BLOCK_C"]))
    passes = [(1, True, True)] if chunks == 1 else [(1, True, False), (chunks, False, True)]
    return Plan(
        triton.cdiv(n, TILE) * h,
        triton.cdiv(b, blocks["BLOCK_B"]),
        blocks | _precision(call),
        forward=(chunks, {"num_chunks": chunks}),
        source=[
            (several, {"num_chunks": several, "GRAD_KEY": need_key, "GRAD_VALUE": need_value})
            for several, need_key, need_value in passes
        ],
    )


KERNELS = Kernels(forward_kernel, backward_target_kernel, backward_source_kernel, delta_kernel, _plan, (2, 5))
