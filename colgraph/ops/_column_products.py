"""Products of a column's rows with its weights, in registers.

All arrays are flat float32; ``_at`` is where a matrix begins in its array. Nothing is checked. While one column is
worked on, memory is asked for the weights of the next: waiting for them would take longer than the arithmetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from colgraph.ops._numba_cache import compiled, inlined
from colgraph.ops._numba_vector import (
    LANES,
    at_once,
    first_of,
    fma,
    load,
    peek,
    prefetch,
    put_first,
    splat,
    store,
    store_sums,
)

__all__ = ["fetch", "linear", "linear_backward", "sum_of_products", "sum_of_rows"]

_ZERO = np.float32(0.0)
_TWO, _FOUR = 2 * LANES, 4 * LANES
_EARLY = 8  # rows of a batch, during which the next column's weights are fetched; what comes after them needs no help


@inlined
def fetch(array: np.ndarray, at: int, count: int) -> None:
    """Ask for ``array[at : at + count]`` without waiting for it; it may lie beyond the array."""
    for line in range(at, at + count, LANES):
        prefetch(array, line)


# ---------------------------------------------------------------------- forward


@compiled
def linear(
    x: np.ndarray,
    x_at: int,
    rows: int,
    width: int,
    weight: np.ndarray,
    weight_at: int,
    outs: int,
    bias: np.ndarray,
    bias_at: int,
    out: np.ndarray,
    out_at: int,
) -> None:
    """``out[r, o] = sum_c x[r, c] weight[o, c] + bias[o]``.

    Four rows of the weight with two of ``x`` at a time: eight sums in registers. Where the last four or two overlap
    with those before, the same numbers are written again.
    """
    if outs < 4:  # number by number
        for r in range(rows):
            for o in range(outs):
                one = bias[bias_at + o]
                for c in range(width):
                    one += x[x_at + r * width + c] * weight[weight_at + o * width + c]
                out[out_at + r * outs + o] = one
        return
    whole = width // LANES * LANES
    rest = width - whole
    ahead = outs * width
    for block in range(0, outs, 4):
        o = min(block, outs - 4)
        w0 = weight_at + o * width
        w1 = w0 + width
        w2 = w1 + width
        w3 = w2 + width
        four = load(bias, bias_at + o, 4)
        for r in range(0, rows, 2):
            other = min(r + 1, rows - 1)
            x0 = x_at + r * width
            x1 = x_at + other * width
            a0 = splat(_ZERO, LANES)
            a1, a2, a3, b0, b1, b2, b3 = a0, a0, a0, a0, a0, a0, a0
            for c in range(0, whole, LANES):
                if r < _EARLY:
                    prefetch(weight, w0 + ahead + c)
                    prefetch(weight, w1 + ahead + c)
                    prefetch(weight, w2 + ahead + c)
                    prefetch(weight, w3 + ahead + c)
                a = load(x, x0 + c, LANES)
                b = load(x, x1 + c, LANES)
                w = load(weight, w0 + c, LANES)
                a0, b0 = fma(a, w, a0), fma(b, w, b0)
                w = load(weight, w1 + c, LANES)
                a1, b1 = fma(a, w, a1), fma(b, w, b1)
                w = load(weight, w2 + c, LANES)
                a2, b2 = fma(a, w, a2), fma(b, w, b2)
                w = load(weight, w3 + c, LANES)
                a3, b3 = fma(a, w, a3), fma(b, w, b3)
            if rest:
                a = first_of(x, x0 + whole, rest)
                b = first_of(x, x1 + whole, rest)
                w = first_of(weight, w0 + whole, rest)
                a0, b0 = fma(a, w, a0), fma(b, w, b0)
                w = first_of(weight, w1 + whole, rest)
                a1, b1 = fma(a, w, a1), fma(b, w, b1)
                w = first_of(weight, w2 + whole, rest)
                a2, b2 = fma(a, w, a2), fma(b, w, b2)
                w = first_of(weight, w3 + whole, rest)
                a3, b3 = fma(a, w, a3), fma(b, w, b3)
            _store_four(out, out_at + r * outs + o, a0, a1, a2, a3, four)
            _store_four(out, out_at + other * outs + o, b0, b1, b2, b3, four)


@inlined
def _store_four(out: np.ndarray, at: int, a: Any, b: Any, c: Any, d: Any, bias: Any) -> None:
    """The sums over lanes of four vectors, and a bias on each."""
    store_sums(out, at, a, b, c, d)
    store(out, at, load(out, at, 4) + bias)


# ---------------------------------------------------------------------- backward


def _make_panel(width: int) -> Any:
    """Four rows of ``out``, ``width`` numbers of each kept in registers over all ``count`` rows of ``x``.

    ``rest`` numbers of the rows are left, which may be fewer where the width is ``LANES``.
    """
    take, put = at_once(width)

    @compiled
    def panel(
        factor: np.ndarray,
        f: tuple[int, int, int, int],
        of_k: int,
        x: np.ndarray,
        x_at: int,
        next_x: int,
        count: int,
        ahead: int,
        add: bool,
        out: np.ndarray,
        o: tuple[int, int, int, int],
        offset: int,
        rest: int,
    ) -> None:
        o0, o1, o2, o3 = o[0] + offset, o[1] + offset, o[2] + offset, o[3] + offset
        a0 = splat(_ZERO, width)
        a1, a2, a3 = a0, a0, a0
        if add:
            a0, a1, a2, a3 = take(out, o0, rest), take(out, o1, rest), take(out, o2, rest), take(out, o3, rest)
        for k in range(count):
            at = x_at + k * next_x + offset
            if ahead:
                for line in range(0, width, LANES):
                    prefetch(x, at + ahead + line)
            row = take(x, at, rest)
            step = k * of_k
            a0 = fma(splat(peek(factor, f[0] + step), width), row, a0)
            a1 = fma(splat(peek(factor, f[1] + step), width), row, a1)
            a2 = fma(splat(peek(factor, f[2] + step), width), row, a2)
            a3 = fma(splat(peek(factor, f[3] + step), width), row, a3)
        put(out, o3, rest, a3)
        put(out, o2, rest, a2)
        put(out, o1, rest, a1)
        put(out, o0, rest, a0)

    return panel


_panel_four, _panel_two, _panel_one = (_make_panel(width) for width in (_FOUR, _TWO, LANES))


@inlined
def _four_rows(i: int, rows: int, at: int, apart: int) -> tuple[int, int, int, int]:
    """Where rows ``i`` to ``i + 3`` begin; the last row stands in for those beyond it."""
    last = rows - 1
    return (
        at + i * apart,
        at + min(i + 1, last) * apart,
        at + min(i + 2, last) * apart,
        at + min(i + 3, last) * apart,
    )


@compiled
def _combine(
    factor: np.ndarray,
    factor_at: int,
    of_row: int,
    of_k: int,
    x: np.ndarray,
    x_at: int,
    count: int,
    width: int,
    ahead: int,
    add: bool,
    rows: int,
    out: np.ndarray,
    out_at: int,
    out_ahead: int,
) -> None:
    """``out[i, c] (+)= sum_k factor[i * of_row + k * of_k] x[k, c]`` for ``i < rows`` and ``k < count``.

    Four rows at a time: all four are read before any is written, so that one may stand in for others. ``ahead`` and
    ``out_ahead`` say how far from ``x`` and ``out`` lies what will be wanted next (0: nothing).
    """
    for i in range(0, rows, 4):
        f = _four_rows(i, rows, factor_at, of_row)
        o = _four_rows(i, rows, out_at, width)
        if out_ahead:
            for c in range(out_ahead, out_ahead + width, LANES):
                prefetch(out, o[0] + c)
                prefetch(out, o[1] + c)
                prefetch(out, o[2] + c)
                prefetch(out, o[3] + c)
        c = 0
        while width - c >= _FOUR:
            _panel_four(factor, f, of_k, x, x_at, width, count, ahead, add, out, o, c, _FOUR)
            c += _FOUR
        if width - c >= _TWO:
            _panel_two(factor, f, of_k, x, x_at, width, count, ahead, add, out, o, c, _TWO)
            c += _TWO
        while width > c:
            _panel_one(factor, f, of_k, x, x_at, width, count, ahead, add, out, o, c, width - c)
            c += LANES


@inlined
def linear_backward(
    grad: np.ndarray,
    grad_at: int,
    rows: int,
    outs: int,
    weight: np.ndarray,
    weight_at: int,
    width: int,
    add: bool,
    out: np.ndarray,
    out_at: int,
) -> None:
    """``out[r, c] (+)= sum_o grad[r, o] weight[o, c]``."""
    early = min(rows, _EARLY)
    late = rows - early
    _combine(grad, grad_at, outs, 1, weight, weight_at, outs, width, outs * width, add, early, out, out_at, 0)
    if late:
        grad_at += early * outs
        _combine(grad, grad_at, outs, 1, weight, weight_at, outs, width, 0, add, late, out, out_at + early * width, 0)


@inlined
def sum_of_products(
    grad: np.ndarray,
    grad_at: int,
    rows: int,
    outs: int,
    x: np.ndarray,
    width: int,
    add: bool,
    out: np.ndarray,
    out_at: int,
) -> None:
    """``out[o, c] (+)= sum_r grad[r, o] x[r, c]``."""
    _combine(grad, grad_at, 1, outs, x, 0, rows, width, 0, add, outs, out, out_at, outs * width)


@compiled
def sum_of_rows(x: np.ndarray, x_at: int, rows: int, width: int, add: bool, out: np.ndarray, out_at: int) -> None:
    """``out[c] (+)= sum_r x[r, c]``, eight rows at a time, so that long sums lose little."""
    if not add:
        for c in range(out_at, out_at + width):
            out[c] = _ZERO
    for first in range(0, rows, 8):
        last = min(first + 8, rows)
        for c in range(0, width, LANES):
            total = splat(_ZERO, LANES)
            for r in range(first, last):
                total = total + first_of(x, x_at + r * width + c, width - c)
            put_first(out, out_at + c, width - c, first_of(out, out_at + c, width - c) + total)
