"""Products of a column's rows with its weights, in registers.

Pointers say where matrices begin; all numbers are float32. Nothing is checked. While one column is worked on, memory is
asked for the weights of the next: waiting for them would take longer than the arithmetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from colgraph.ops._numba_cache import compiled, inlined
from colgraph.ops._numba_vector import (
    LANES,
    Pointer,
    at_once,
    first_of,
    fma,
    load,
    load_first,
    peek,
    plain,
    prefetch,
    put_first,
    splat,
    store,
    store_past,
    store_sums,
)
from colgraph.ops._processor import REGISTERS

_ZERO = np.float32(0.0)
# What a loop adds to must stay in registers: with more than they hold, each sum is written and read at every step.
_TILE = LANES if REGISTERS > 8 else LANES // 2  # lanes of each of eight sums in `linear`
_WIDE = 2 * REGISTERS  # numbers of each of four rows in `_combine`: half of all registers
_TWO = 2 * LANES
_BETWEEN = _WIDE > _TWO  # whether a piece of two vectors may be left
_EARLY = 4  # rows of a batch, during which `_combine` asks for what comes next


# ---------------------------------------------------------------------- forward


@compiled
def linear(x: Pointer, rows: int, width: int, weight: Pointer, outs: int, bias: Pointer, out: Pointer) -> None:
    """``out[r, o] = sum_c x[r, c] weight[o, c] + bias[o]``.

    Four rows of the weight with two of ``x`` at a time: eight sums in registers. Where the last four or two overlap
    with those before, the same numbers are written again. Each line of the next column's weights is asked for once, an
    equal share of them with each of the first pairs of rows.
    """
    if outs < 4:  # number by number
        for r in range(rows):
            for o in range(outs):
                one = peek(bias, o)
                for c in range(width):
                    one += peek(x, r * width + c) * peek(weight, o * width + c)
                put_first(out, r * outs + o, 1, splat(one, LANES))
        return
    whole = width // _TILE * _TILE
    rest = width - whole
    shares = 4 if rows > 6 else 2 if rows > 2 else 1
    lines = 4 // shares
    for block in range(0, outs, 4):
        o = min(block, outs - 4)
        w0 = weight + o * width
        w1 = w0 + width
        w2 = w1 + width
        w3 = w2 + width
        four = load(bias, o, 4)
        for r in range(0, rows, 2):
            other = min(r + 1, rows - 1)
            x0 = x + r * width
            x1 = x + other * width
            a0 = splat(_ZERO, _TILE)
            a1, a2, a3, b0, b1, b2, b3 = a0, a0, a0, a0, a0, a0, a0
            ahead = (outs + r // 2 * lines) * width
            for c in range(0, whole, _TILE):
                if r < 2 * shares and c % LANES == 0:
                    for line in range(lines):
                        prefetch(w0, ahead + lines * c + line * LANES)
                a = load(x0, c, _TILE)
                b = load(x1, c, _TILE)
                w = load(w0, c, _TILE)
                a0, b0 = fma(a, w, a0), fma(b, w, b0)
                w = load(w1, c, _TILE)
                a1, b1 = fma(a, w, a1), fma(b, w, b1)
                w = load(w2, c, _TILE)
                a2, b2 = fma(a, w, a2), fma(b, w, b2)
                w = load(w3, c, _TILE)
                a3, b3 = fma(a, w, a3), fma(b, w, b3)
            if rest:
                a = load_first(x0, whole, rest, _ZERO, _TILE)
                b = load_first(x1, whole, rest, _ZERO, _TILE)
                w = load_first(w0, whole, rest, _ZERO, _TILE)
                a0, b0 = fma(a, w, a0), fma(b, w, b0)
                w = load_first(w1, whole, rest, _ZERO, _TILE)
                a1, b1 = fma(a, w, a1), fma(b, w, b1)
                w = load_first(w2, whole, rest, _ZERO, _TILE)
                a2, b2 = fma(a, w, a2), fma(b, w, b2)
                w = load_first(w3, whole, rest, _ZERO, _TILE)
                a3, b3 = fma(a, w, a3), fma(b, w, b3)
            _store_four(out, r * outs + o, a0, a1, a2, a3, four)
            _store_four(out, other * outs + o, b0, b1, b2, b3, four)


@inlined
def _store_four(out: Pointer, at: int, a: Any, b: Any, c: Any, d: Any, bias: Any) -> None:
    """The sums over lanes of four vectors, and a bias on each."""
    store_sums(out, at, a, b, c, d)
    store(out, at, load(out, at, 4) + bias)


# ---------------------------------------------------------------------- backward


def _make_panel(width: int, masked: bool) -> Any:
    """Four rows of ``out`` from ``c`` on, ``width`` numbers of each kept in registers over all ``count`` rows of ``x``.

    ``rest`` numbers of the rows are left, which may be fewer where ``masked``. What lies ``ahead`` is asked for line by
    line as it lies there, though a panel takes one piece of each row.
    """
    take, put = at_once(width, masked)

    @compiled
    def panel(
        factors: tuple[Pointer, Pointer, Pointer, Pointer],
        of_k: int,
        x: Pointer,
        row_length: int,
        count: int,
        ahead: int,
        add: bool,
        outs: tuple[Pointer, Pointer, Pointer, Pointer],
        c: int,
        rest: int,
        past: bool,
    ) -> None:
        f0, f1, f2, f3 = factors
        o0, o1, o2, o3 = outs
        a0 = splat(_ZERO, width)
        a1, a2, a3 = a0, a0, a0
        if add:
            a0, a1, a2, a3 = take(o0, c, rest), take(o1, c, rest), take(o2, c, rest), take(o3, c, rest)
        for k in range(count):
            if ahead:
                for line in range(0, width, LANES):
                    prefetch(x, ahead + c * count + k * width + line)
            row = take(x, k * row_length + c, rest)
            step = k * of_k
            a0 = fma(splat(peek(f0, step), width), row, a0)
            a1 = fma(splat(peek(f1, step), width), row, a1)
            a2 = fma(splat(peek(f2, step), width), row, a2)
            a3 = fma(splat(peek(f3, step), width), row, a3)
        if past and not masked:
            store_past(o3, c, a3)
            store_past(o2, c, a2)
            store_past(o1, c, a1)
            store_past(o0, c, a0)
        else:
            put(o3, c, rest, a3)
            put(o2, c, rest, a2)
            put(o1, c, rest, a1)
            put(o0, c, rest, a0)

    return panel


_panel_wide, _panel_two = _make_panel(_WIDE, False), _make_panel(_TWO, False)
_panel_end = _make_panel(LANES, True)


@inlined
def _four_rows(i: int, rows: int, begin: Pointer, apart: int) -> tuple[Pointer, Pointer, Pointer, Pointer]:
    """Where rows ``i`` to ``i + 3`` begin; the last row stands in for those beyond it."""
    last = rows - 1
    return (
        begin + i * apart,
        begin + min(i + 1, last) * apart,
        begin + min(i + 2, last) * apart,
        begin + min(i + 3, last) * apart,
    )


@compiled
def _combine(
    factor: Pointer,
    of_row: int,
    of_k: int,
    x: Pointer,
    count: int,
    width: int,
    ahead: int,
    add: bool,
    rows: int,
    out: Pointer,
    out_ahead: int,
    past: bool,
) -> None:
    """``out[i, c] (+)= sum_k factor[i * of_row + k * of_k] x[k, c]`` for ``i < rows`` and ``k < count``.

    Four rows at a time: all four are read before any is written, so that one may stand in for others. ``ahead`` and
    ``out_ahead`` say how far from ``x`` and ``out`` lies what will be wanted next (0: nothing). ``past``: out is
    written past the caches, and its rows are whole cache lines.
    """
    for i in range(0, rows, 4):
        f = _four_rows(i, rows, factor, of_row)
        o = _four_rows(i, rows, out, width)
        if out_ahead:
            for c in range(out_ahead, out_ahead + width, LANES):
                prefetch(o[0], c)
                prefetch(o[1], c)
                prefetch(o[2], c)
                prefetch(o[3], c)
        c = plain(0)
        while width - c >= _WIDE:
            _panel_wide(f, of_k, x, width, count, ahead, add, o, c, plain(_WIDE), past)
            c += _WIDE
        if _BETWEEN and width - c >= _TWO:
            _panel_two(f, of_k, x, width, count, ahead, add, o, c, plain(_TWO), past)
            c += _TWO
        while width > c:
            _panel_end(f, of_k, x, width, count, ahead, add, o, c, width - c, past)
            c += LANES


@inlined
def linear_backward(grad: Pointer, rows: int, outs: int, weight: Pointer, width: int, add: bool, out: Pointer) -> None:
    """``out[r, c] (+)= sum_o grad[r, o] weight[o, c]``."""
    # One compiled sum for all callers: of constants each would have its own, and most of the first step is compiling.
    nothing, one = plain(0), plain(1)
    early = min(rows, _EARLY)
    late = rows - early
    _combine(grad, outs, one, weight, outs, width, outs * width, add, early, out, nothing, plain(False))
    if late:
        _combine(
            grad + early * outs,
            outs,
            one,
            weight,
            outs,
            width,
            nothing,
            add,
            late,
            out + early * width,
            nothing,
            plain(False),
        )


@inlined
def sum_of_products(
    grad: Pointer, rows: int, outs: int, x: Pointer, width: int, add: bool, past: bool, out: Pointer
) -> None:
    """``out[o, c] (+)= sum_r grad[r, o] x[r, c]``."""
    ahead = 0 if past else outs * width
    _combine(grad, plain(1), outs, x, rows, width, plain(0), add, outs, out, ahead, past)


@compiled
def sum_of_rows(x: Pointer, rows: int, width: int, add: bool, out: Pointer) -> None:
    """``out[c] (+)= sum_r x[r, c]``, eight rows at a time, so that long sums lose little."""
    if not add:
        for c in range(0, width, LANES):
            put_first(out, c, width - c, splat(_ZERO, LANES))
    for first in range(0, rows, 8):
        last = min(first + 8, rows)
        for c in range(0, width, LANES):
            total = splat(_ZERO, LANES)
            for r in range(first, last):
                total = total + first_of(x, r * width + c, width - c)
            put_first(out, c, width - c, first_of(out, c, width - c) + total)
