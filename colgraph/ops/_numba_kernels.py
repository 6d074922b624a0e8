"""The three passes of backend "numba": forward, and backward by target and by source.

A kernel releases the GIL and takes one piece of the columns after the other until all are taken, so it runs once on
every thread. It writes only what belongs to its columns, and sums in the order of their edges, so results do not depend
on how columns are dealt out. Samples and heads are one axis of G slices, ``g = sample * H + head``; biases are
``[H,E]``; all arrays are flat, and an absent one is empty.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from colgraph.ops._numba_cache import cached_kernel, inlined
from colgraph.ops._numba_groups import (
    COLUMN,
    COLUMNS,
    DEGREE,
    FIRST,
    NEXT,
    RECENT,
    SIZE,
    SLOT,
    Edges,
    form_group,
    group_dots,
    group_sums,
    packs,
    workspace,
)
from colgraph.ops._numba_vector import (
    LANES,
    exp,
    fence,
    first_of,
    fma,
    keep_first,
    largest_lane,
    load,
    maximum,
    peek,
    plain,
    poke,
    prefetch,
    put_first,
    splat,
    store,
    sum_lanes,
)

_kernel = cached_kernel("_numba_groups.py", "_numba_kernels.py", "_numba_vector.py", "_processor.py")

_MINUS_INFINITY = np.float32(-np.inf)
_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)


class Sizes(NamedTuple):
    """``slices`` = B x H, ``depth`` D, ``channels`` C; ``bias_heads`` is H, 0 without bias, 1 if all heads share it."""

    slices: int
    depth: int
    channels: int
    bias_heads: int


@_kernel
def find_fresh(
    order: np.ndarray, indptr: np.ndarray, neighbors: np.ndarray, fresh: np.ndarray, fresh_indptr: np.ndarray
) -> None:
    """Fill ``Edges.fresh``, in room for all edges, and ``fresh_indptr``: once, and not in every pass."""
    last = np.full(order.size, -RECENT - 1, np.int64)
    found = 0
    fresh_indptr[0] = 0
    for position in range(order.size):
        i, now = order[position], position // COLUMNS
        for e in range(indptr[i], indptr[i + 1]):
            j = neighbors[e]
            if now - last[j] > RECENT:
                fresh[found] = j
                found += 1
            last[j] = now
        fresh_indptr[position + 1] = found


# ---------------------------------------------------------------------- one column's edges


@inlined
def _add_scaled(result: np.ndarray, at: int, factor: float, values: np.ndarray, first: int, count: int) -> None:
    """``result[at : at + count] += factor * values[first : first + count]``."""
    scale = splat(factor, LANES)
    for e in range(0, count, LANES):
        more, before = first_of(values, first + e, count - e), first_of(result, at + e, count - e)
        put_first(result, at + e, count - e, fma(scale, more, before))


@inlined
def _fill_rest(values: np.ndarray, slot: int, count: int, filling: float) -> None:
    """Put ``filling`` where a column's last vector goes on beyond its edges."""
    rest = count % LANES
    if rest:
        at = slot + count - rest
        store(values, at, keep_first(load(values, at, LANES), rest, filling))


@inlined
def _finish_scores(score: np.ndarray, slot: int, count: int, scale: float, bias: np.ndarray, bias_at: int) -> Any:
    """``score * scale + bias``; minus infinity beyond the edges. One lane of the result is the largest."""
    factor, largest = splat(scale, LANES), splat(_MINUS_INFINITY, LANES)
    for e in range(0, count, LANES):
        value = load(score, slot + e, LANES) * factor
        if bias.size:
            value = value + first_of(bias, bias_at + e, count - e)
        if count - e < LANES:
            value = keep_first(value, count - e, _MINUS_INFINITY)
        store(score, slot + e, value)
        largest = maximum(value, largest)
    return largest


@inlined
def _exponentials(score: np.ndarray, slot: int, count: int, largest: Any) -> tuple[float, float]:
    """Scores to ``exp(score - largest)``, in place; the largest score and the sum. 0 and 0 where all are masked."""
    top = largest_lane(largest)
    if top == _MINUS_INFINITY:
        top = _ZERO
    shift = splat(top, LANES)
    total = splat(_ZERO, LANES)
    for e in range(slot, slot + count, LANES):
        weight = exp(load(score, e, LANES) - shift)
        store(score, e, weight)
        total = total + weight
    return top, sum_lanes(total)


@inlined
def _dot(a: np.ndarray, a_at: int, b: np.ndarray, b_at: int, count: int) -> float:
    total = splat(_ZERO, LANES)
    for e in range(0, count, LANES):
        total = fma(first_of(a, a_at + e, count - e), first_of(b, b_at + e, count - e), total)
    return sum_lanes(total)


@inlined
def _score_gradients(weight: np.ndarray, grad: np.ndarray, slot: int, count: int, softmax: np.ndarray, at: int) -> None:
    """In place, scores to weights ``a``, and ``d loss / d a`` to ``d loss / d score = a (da - sum a da)``."""
    # Not by the logarithm of the sum: beside a largest score of -1e9 float32 has no room for it.
    shift, share = splat(softmax[2 * at], LANES), splat(softmax[2 * at + 1], LANES)
    total = splat(_ZERO, LANES)
    for e in range(slot, slot + count, LANES):
        a = exp(load(weight, e, LANES) - shift) * share
        store(weight, e, a)
        total = fma(a, load(grad, e, LANES), total)
    mean = splat(sum_lanes(total), LANES)
    for e in range(slot, slot + count, LANES):
        store(grad, e, load(weight, e, LANES) * (load(grad, e, LANES) - mean))


# ---------------------------------------------------------------------- the passes


@_kernel
def forward(
    pieces: np.ndarray,
    edges: Edges,
    sizes: Sizes,
    scale: float,
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    bias: np.ndarray,
    edge_cost: np.ndarray,
    out: np.ndarray,
    softmax: np.ndarray,
    cost: np.ndarray,
) -> None:
    """``out [N,G,C]``, the largest score and the inverse of the sum of each softmax ``[N,G,2]``, and ``cost [N,G]``."""
    indptr, neighbors = edges.indptr, edges.neighbors
    slices, depth, channels, bias_heads = sizes
    pack = packs(slices, depth, channels)
    seen, packed, weight, _, group, near, ahead, near_ahead = workspace(indptr)
    factor = np.empty(COLUMNS, np.float32)
    form_group(group, near, ahead, seen, pieces, edges, pack)
    while group[SIZE]:
        form_group(ahead, near_ahead, group, seen, pieces, edges, pack)
        for g in range(slices):
            bias_head = g % bias_heads if bias_heads else 0
            group_dots(query, key, slices, g, depth, group, near, ahead, packed, weight)
            for t in range(group[SIZE]):
                slot, first, count = group[SLOT + t], group[FIRST + t], group[DEGREE + t]
                largest = _finish_scores(weight, slot, count, scale, bias, bias_head * neighbors.size + first)
                top, total = _exponentials(weight, slot, count, largest)
                at = group[COLUMN + t] * slices + g
                factor[t] = _ZERO if total == _ZERO else _ONE / total
                softmax[2 * at], softmax[2 * at + 1] = top, factor[t]
                if cost.size:
                    cost[at] = factor[t] * _dot(weight, slot, edge_cost, first, count)
            group_sums(weight, factor, value, slices, g, channels, group, near, ahead, packed, plain(True), out)
        group, ahead = ahead, group
        near, near_ahead = near_ahead, near
    fence()


@_kernel
def backward_targets(
    pieces: np.ndarray,
    edges: Edges,
    sizes: Sizes,
    g_start: int,
    g_stop: int,
    apart: int,
    scale: float,
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    bias: np.ndarray,
    edge_cost: np.ndarray,
    softmax: np.ndarray,
    grad_out: np.ndarray,
    grad_cost: np.ndarray,
    work: np.ndarray,
    scratch: np.ndarray,
    grad_query: np.ndarray,
    grad_bias: np.ndarray,
) -> None:
    """The gradients of query and bias, by slices ``g_start:g_stop``; that of the bias is added to what is there.

    ``scratch [E,apart]`` receives two numbers for each slice, an edge's weight and the gradient of its score, for
    :func:`backward_sources`, in the order of work: what is written together lies together. ``work [N+1]`` counts edges
    and columns in that order.
    """
    indptr, neighbors = edges.indptr, edges.neighbors
    slices, depth, channels, bias_heads = sizes
    pack = packs(slices, depth, channels)
    seen, packed, weight, grad, group, near, ahead, near_ahead = workspace(indptr)
    factor = np.full(COLUMNS, scale, np.float32)
    form_group(group, near, ahead, seen, pieces, edges, pack)
    while group[SIZE]:
        form_group(ahead, near_ahead, group, seen, pieces, edges, pack)
        for g in range(g_start, g_stop):
            bias_head = g % bias_heads if bias_heads else 0
            group_dots(grad_out, value, slices, g, channels, group, near, ahead, packed, grad)
            group_dots(query, key, slices, g, depth, group, near, ahead, packed, weight)
            for t in range(group[SIZE]):
                slot, first, count = group[SLOT + t], group[FIRST + t], group[DEGREE + t]
                at = group[COLUMN + t] * slices + g
                _finish_scores(weight, slot, count, scale, bias, bias_head * neighbors.size + first)
                if edge_cost.size:
                    _add_scaled(grad, slot, grad_cost[at], edge_cost, first, count)
                _fill_rest(grad, slot, count, _ZERO)
                _score_gradients(weight, grad, slot, count, softmax, at)
                if scratch.size:
                    position = group[NEXT] - group[SIZE] + t
                    place = work[position] - position
                    for e in range(count):
                        pair = (place + e) * apart + 2 * (g - g_start)
                        poke(scratch, pair, peek(weight, slot + e))
                        poke(scratch, pair + 1, peek(grad, slot + e))
                if grad_bias.size:
                    _add_scaled(grad_bias, bias_head * neighbors.size + first, _ONE, grad, slot, count)
            if grad_query.size:
                group_sums(grad, factor, key, slices, g, depth, group, near, ahead, packed, plain(False), grad_query)
        group, ahead = ahead, group
        near, near_ahead = near_ahead, near
    fence()


@_kernel
def backward_sources(
    pieces: np.ndarray,
    edges: Edges,
    sizes: Sizes,
    g_start: int,
    g_stop: int,
    apart: int,
    scale: float,
    query: np.ndarray,
    grad_out: np.ndarray,
    places: np.ndarray,
    scratch: np.ndarray,
    grad_key: np.ndarray,
    grad_value: np.ndarray,
) -> None:
    """The gradients of key and value: ``edges`` leave the columns here; ``places`` says where ``scratch`` has them."""
    slices, depth, channels, _ = sizes
    pack = packs(slices, depth, channels)
    seen, packed, weight, grad, group, near, ahead, near_ahead = workspace(edges.indptr)
    factor = np.full(COLUMNS, scale, np.float32)
    ones = np.full(COLUMNS, _ONE, np.float32)
    form_group(group, near, ahead, seen, pieces, edges, pack)
    while group[SIZE]:
        form_group(ahead, near_ahead, group, seen, pieces, edges, pack)
        for t in range(ahead[SIZE]):
            for e in range(ahead[FIRST + t], ahead[FIRST + t] + ahead[DEGREE + t]):
                prefetch(scratch, peek(places, e) * apart)  # written by target: by source, it lies here and there
        for g in range(g_start, g_stop):
            for t in range(group[SIZE]):
                slot, first = group[SLOT + t], group[FIRST + t]
                for e in range(group[DEGREE + t]):
                    pair = peek(places, first + e) * apart + 2 * (g - g_start)
                    poke(weight, slot + e, peek(scratch, pair))
                    poke(grad, slot + e, peek(scratch, pair + 1))
            if grad_key.size:
                group_sums(grad, factor, query, slices, g, depth, group, near, ahead, packed, plain(True), grad_key)
            if grad_value.size:
                group_sums(
                    weight, ones, grad_out, slices, g, channels, group, near, ahead, packed, plain(True), grad_value
                )
        group, ahead = ahead, group
        near, near_ahead = near_ahead, near
    fence()
