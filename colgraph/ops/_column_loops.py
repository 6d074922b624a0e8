"""What the column kernels are made of: products with one column's weights, its norm and its GELU.

All arrays are flat float32; ``_at`` is where a matrix or row begins in them. Nothing is checked.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, lower_builtin, type_callable
from numba.np.arrayobj import populate_array

from colgraph.ops._numba_vector import (
    LANES,
    _Vector,
    exp,
    fma,
    load,
    load_first,
    maximum,
    peek,
    prefetch,
    splat,
    store,
    store_first,
    store_sums,
    sum_lanes,
)

__all__ = ["add", "arrays_at", "gelu", "gelu_backward", "linear", "linear_backward", "norm", "norm_backward"]
__all__ += ["sum_of_products", "sum_of_rows"]

_helper = njit(nogil=True, error_model="numpy")
_inlined = njit(nogil=True, error_model="numpy", inline="always")  # for what takes vectors: a call would spill them

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_TWO, _FOUR = 2 * LANES, 4 * LANES
_AHEAD_ROWS = 8  # of a batch, during which the next column's weights are fetched: longer ones have time enough


@_inlined
def _first(array, at, count):
    """``array[at : at + count]`` in the first lanes, zeros after."""
    return load_first(array, at, count, _ZERO)


_floats = types.Array(types.float32, 1, "C")


@intrinsic
def arrays_at(typing: Any, addresses: Any) -> Any:
    """Flat float32 arrays at a tuple of addresses; ``size`` says only whether there is one (0 for the address 0).

    Arrays passed in the usual way count references, with an atomic operation in every call that hands one on, and the
    threads would fight for the counters.
    """

    def code(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
        values = []
        for place in range(sig.return_type.count):
            address = builder.extract_value(args[0], place)
            array = context.make_array(_floats)(context, builder)
            data = builder.inttoptr(address, array.data.type)
            present = builder.zext(builder.icmp_signed("!=", address, address.type(0)), address.type)
            populate_array(array, data, [present], [address.type(4)], 4, None)
            values.append(array._getvalue())
        return context.make_tuple(builder, sig.return_type, values)

    return types.UniTuple(_floats, addresses.count)(addresses), code


# ---------------------------------------------------------------------- matrix products


@_helper
def linear(x, x_at, rows, width, weight, weight_at, outs, bias, bias_at, out, out_at):
    """``out[r, o] = sum_c x[r, c] weight[o, c] + bias[o]``.

    Four rows of the weight with two of ``x`` at a time: eight sums in registers. Where the last four or two overlap
    with those before, the same numbers are written again. Meanwhile the next column's weight is fetched.
    """
    if outs < 4:
        _narrow_linear(x, x_at, rows, width, weight, weight_at, outs, bias, bias_at, out, out_at)
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
            a1 = a0
            a2 = a0
            a3 = a0
            b0 = a0
            b1 = a0
            b2 = a0
            b3 = a0
            for c in range(0, whole, LANES):
                if r < _AHEAD_ROWS:
                    prefetch(weight, w0 + ahead + c)
                    prefetch(weight, w1 + ahead + c)
                    prefetch(weight, w2 + ahead + c)
                    prefetch(weight, w3 + ahead + c)
                a = load(x, x0 + c, LANES)
                b = load(x, x1 + c, LANES)
                w = load(weight, w0 + c, LANES)
                a0 = fma(a, w, a0)
                b0 = fma(b, w, b0)
                w = load(weight, w1 + c, LANES)
                a1 = fma(a, w, a1)
                b1 = fma(b, w, b1)
                w = load(weight, w2 + c, LANES)
                a2 = fma(a, w, a2)
                b2 = fma(b, w, b2)
                w = load(weight, w3 + c, LANES)
                a3 = fma(a, w, a3)
                b3 = fma(b, w, b3)
            if rest:
                a = _first(x, x0 + whole, rest)
                b = _first(x, x1 + whole, rest)
                w = _first(weight, w0 + whole, rest)
                a0 = fma(a, w, a0)
                b0 = fma(b, w, b0)
                w = _first(weight, w1 + whole, rest)
                a1 = fma(a, w, a1)
                b1 = fma(b, w, b1)
                w = _first(weight, w2 + whole, rest)
                a2 = fma(a, w, a2)
                b2 = fma(b, w, b2)
                w = _first(weight, w3 + whole, rest)
                a3 = fma(a, w, a3)
                b3 = fma(b, w, b3)
            at = out_at + r * outs + o
            store_sums(out, at, a0, a1, a2, a3)
            store(out, at, load(out, at, 4) + four)
            at = out_at + other * outs + o
            store_sums(out, at, b0, b1, b2, b3)
            store(out, at, load(out, at, 4) + four)


@_helper
def _narrow_linear(x, x_at, rows, width, weight, weight_at, outs, bias, bias_at, out, out_at):
    """As :func:`linear`, number by number."""
    for r in range(rows):
        for o in range(outs):
            total = bias[bias_at + o]
            for c in range(width):
                total += x[x_at + r * width + c] * weight[weight_at + o * width + c]
            out[out_at + r * outs + o] = total


def _make_panel(width):
    """Four rows of ``out`` over ``width`` channels, kept in registers over all ``count`` rows of ``x``."""

    @_helper
    def panel(factor, f0, f1, f2, f3, of_k, x, x_at, next_x, count, ahead, add, out, o0, o1, o2, o3):
        if add:
            a0 = load(out, o0, width)
            a1 = load(out, o1, width)
            a2 = load(out, o2, width)
            a3 = load(out, o3, width)
        else:
            a0 = splat(_ZERO, width)
            a1 = a0
            a2 = a0
            a3 = a0
        for k in range(count):
            at = x_at + k * next_x
            if ahead:
                for line in range(0, width, LANES):
                    prefetch(x, at + ahead + line)
            row = load(x, at, width)
            step = k * of_k
            a0 = fma(splat(peek(factor, f0 + step), width), row, a0)
            a1 = fma(splat(peek(factor, f1 + step), width), row, a1)
            a2 = fma(splat(peek(factor, f2 + step), width), row, a2)
            a3 = fma(splat(peek(factor, f3 + step), width), row, a3)
        store(out, o3, a3)
        store(out, o2, a2)
        store(out, o1, a1)
        store(out, o0, a0)

    return panel


_panel_four, _panel_two, _panel_one = (_make_panel(width) for width in (_FOUR, _TWO, LANES))


@_helper
def _panel_rest(factor, f0, f1, f2, f3, of_k, x, x_at, next_x, count, add, out, o0, o1, o2, o3, rest):
    """As a panel, for the ``rest < LANES`` channels at the end of a row."""
    a0 = splat(_ZERO, LANES)
    a1 = a0
    a2 = a0
    a3 = a0
    if add:
        a0 = _first(out, o0, rest)
        a1 = _first(out, o1, rest)
        a2 = _first(out, o2, rest)
        a3 = _first(out, o3, rest)
    for k in range(count):
        row = _first(x, x_at + k * next_x, rest)
        step = k * of_k
        a0 = fma(splat(peek(factor, f0 + step), LANES), row, a0)
        a1 = fma(splat(peek(factor, f1 + step), LANES), row, a1)
        a2 = fma(splat(peek(factor, f2 + step), LANES), row, a2)
        a3 = fma(splat(peek(factor, f3 + step), LANES), row, a3)
    store_first(out, o3, rest, a3)
    store_first(out, o2, rest, a2)
    store_first(out, o1, rest, a1)
    store_first(out, o0, rest, a0)


@_helper
def _combine(factor, factor_at, of_row, of_k, x, x_at, count, width, ahead, add, rows, out, out_at, out_ahead):
    """``out[i, c] (+)= sum_k factor[i * of_row + k * of_k] x[k, c]`` for ``i < rows`` and ``k < count``.

    Four rows at a time; where fewer are left, the last one stands in for the others (all four are read before any is
    written). ``ahead`` and ``out_ahead`` say how far from ``x`` and ``out`` lies what will be wanted next, to have it
    fetched meanwhile (0: nothing).
    """
    for i in range(0, rows, 4):
        i1, i2, i3 = min(i + 1, rows - 1), min(i + 2, rows - 1), min(i + 3, rows - 1)
        f0 = factor_at + i * of_row
        f1 = factor_at + i1 * of_row
        f2 = factor_at + i2 * of_row
        f3 = factor_at + i3 * of_row
        at = x_at
        o0 = out_at + i * width
        o1 = out_at + i1 * width
        o2 = out_at + i2 * width
        o3 = out_at + i3 * width
        if out_ahead:
            for line in range(0, width, LANES):
                prefetch(out, o0 + out_ahead + line)
                prefetch(out, o1 + out_ahead + line)
                prefetch(out, o2 + out_ahead + line)
                prefetch(out, o3 + out_ahead + line)
        left = width
        while left >= LANES:
            if left >= _FOUR:
                size = _FOUR
                _panel_four(factor, f0, f1, f2, f3, of_k, x, at, width, count, ahead, add, out, o0, o1, o2, o3)
            elif left >= _TWO:
                size = _TWO
                _panel_two(factor, f0, f1, f2, f3, of_k, x, at, width, count, ahead, add, out, o0, o1, o2, o3)
            else:
                size = LANES
                _panel_one(factor, f0, f1, f2, f3, of_k, x, at, width, count, ahead, add, out, o0, o1, o2, o3)
            left -= size
            at += size
            o0 += size
            o1 += size
            o2 += size
            o3 += size
        if left:
            _panel_rest(factor, f0, f1, f2, f3, of_k, x, at, width, count, add, out, o0, o1, o2, o3, left)


@_helper
def linear_backward(grad, grad_at, rows, outs, weight, weight_at, width, add, out, out_at):
    """``out[r, c] (+)= sum_o grad[r, o] weight[o, c]``; meanwhile the next column's weight is fetched."""
    early = min(rows, _AHEAD_ROWS)
    late = rows - early
    _combine(grad, grad_at, outs, 1, weight, weight_at, outs, width, outs * width, add, early, out, out_at, 0)
    if late:
        grad_at += early * outs
        _combine(grad, grad_at, outs, 1, weight, weight_at, outs, width, 0, add, late, out, out_at + early * width, 0)


@_helper
def sum_of_products(grad, grad_at, rows, outs, x, x_at, width, add, out, out_at):
    """``out[o, c] (+)= sum_r grad[r, o] x[r, c]``; meanwhile the next column's ``out`` is fetched."""
    _combine(grad, grad_at, 1, outs, x, x_at, rows, width, 0, add, outs, out, out_at, outs * width)


@_helper
def sum_of_rows(x, x_at, rows, width, add, out, out_at):
    """``out[c] (+)= sum_r x[r, c]``, eight rows at a time, so that long sums lose little."""
    if not add:
        for c in range(out_at, out_at + width):
            out[c] = _ZERO
    whole = width // LANES * LANES
    rest = width - whole
    for first in range(0, rows, 8):
        last = min(first + 8, rows)
        for c in range(0, whole, LANES):
            total = splat(_ZERO, LANES)
            for r in range(first, last):
                total = total + load(x, x_at + r * width + c, LANES)
            store(out, out_at + c, load(out, out_at + c, LANES) + total)
        if rest:
            total = splat(_ZERO, LANES)
            for r in range(first, last):
                total = total + _first(x, x_at + r * width + whole, rest)
            store_first(out, out_at + whole, rest, _first(out, out_at + whole, rest) + total)


# ---------------------------------------------------------------------- the norm


@_inlined
def _moments(x, at, width, eps):
    """Mean and ``1 / sqrt(variance + eps)`` of ``x[at : at + width]``, in all lanes."""
    whole = width // LANES * LANES
    rest = width - whole
    share = _ONE / np.float32(width)
    total = splat(_ZERO, LANES)
    for c in range(0, whole, LANES):
        total = total + load(x, at + c, LANES)
    if rest:
        total = total + _first(x, at + whole, rest)
    average = sum_lanes(total) * share
    mean = splat(average, LANES)
    total = splat(_ZERO, LANES)
    for c in range(0, whole, LANES):
        away = load(x, at + c, LANES) - mean
        total = fma(away, away, total)
    if rest:
        away = load_first(x, at + whole, rest, average) - mean
        total = fma(away, away, total)
    return mean, splat(_ONE / math.sqrt(sum_lanes(total) * share + eps), LANES)


@_helper
def norm(x, at, width, eps, weight, bias, weight_at, out, out_at):
    """``out = (x - mean) / sqrt(variance + eps) * weight + bias`` for one row."""
    mean, scale = _moments(x, at, width, eps)
    whole = width // LANES * LANES
    for c in range(0, whole, LANES):
        normal = (load(x, at + c, LANES) - mean) * scale
        store(out, out_at + c, fma(normal, load(weight, weight_at + c, LANES), load(bias, weight_at + c, LANES)))
    rest = width - whole
    if rest:
        normal = (_first(x, at + whole, rest) - mean) * scale
        scaled = fma(normal, _first(weight, weight_at + whole, rest), _first(bias, weight_at + whole, rest))
        store_first(out, out_at + whole, rest, scaled)


@_helper
def norm_backward(
    grad, grad_at, x, at, width, eps, weight, weight_at, weight_total, bias_total, past, past_at, out, out_at
):
    """``out`` = the gradient of :func:`norm`'s input, plus ``past``, what came past the norm, where there is any.

    The gradients of weight and bias are added to their totals. ``grad`` is left multiplied by the weight.
    """
    mean, scale = _moments(x, at, width, eps)
    whole = width // LANES * LANES
    rest = width - whole
    first = splat(_ZERO, LANES)
    second = first
    for c in range(0, whole, LANES):
        normal = (load(x, at + c, LANES) - mean) * scale
        g = load(grad, grad_at + c, LANES)
        if weight_total.size:
            store(weight_total, weight_at + c, fma(g, normal, load(weight_total, weight_at + c, LANES)))
        if bias_total.size:
            store(bias_total, weight_at + c, g + load(bias_total, weight_at + c, LANES))
        g = g * load(weight, weight_at + c, LANES)
        store(grad, grad_at + c, g)
        first = first + g
        second = fma(g, normal, second)
    if rest:
        c = whole
        normal = (_first(x, at + c, rest) - mean) * scale
        g = _first(grad, grad_at + c, rest)
        if weight_total.size:
            total = _first(weight_total, weight_at + c, rest)
            store_first(weight_total, weight_at + c, rest, fma(g, normal, total))
        if bias_total.size:
            store_first(bias_total, weight_at + c, rest, g + _first(bias_total, weight_at + c, rest))
        g = g * _first(weight, weight_at + c, rest)
        store_first(grad, grad_at + c, rest, g)
        first = first + g
        second = fma(g, normal, second)
    share = _ONE / np.float32(width)
    shift = splat(sum_lanes(first) * share, LANES)
    slope = splat(sum_lanes(second) * share, LANES)
    for c in range(0, whole, LANES):
        normal = (load(x, at + c, LANES) - mean) * scale
        change = (load(grad, grad_at + c, LANES) - shift - normal * slope) * scale
        if past.size:
            change = change + load(past, past_at + c, LANES)
        store(out, out_at + c, change)
    if rest:
        c = whole
        normal = (_first(x, at + c, rest) - mean) * scale
        change = (_first(grad, grad_at + c, rest) - shift - normal * slope) * scale
        if past.size:
            change = change + _first(past, past_at + c, rest)
        store_first(out, out_at + c, rest, change)


@_helper
def add(x, x_at, y, y_at, count, out, out_at):
    """``out = x + y`` for ``count`` numbers; ``out = x`` where there is no ``y``."""
    whole = count // LANES * LANES
    for c in range(0, whole, LANES):
        total = load(x, x_at + c, LANES)
        if y.size:
            total = total + load(y, y_at + c, LANES)
        store(out, out_at + c, total)
    for c in range(whole, count):
        total = x[x_at + c]
        if y.size:
            total += y[y_at + c]
        out[out_at + c] = total


# ---------------------------------------------------------------------- GELU


@type_callable(operator.truediv)
def _quotient(context: Any) -> Any:
    def same(a: Any, b: Any) -> Any:
        return a if isinstance(a, _Vector) and a == b else None

    return same


@lower_builtin(operator.truediv, _Vector, _Vector)
def _lower_quotient(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
    return builder.fdiv(*args)


@intrinsic
def _where_negative(typing: Any, x: Any, a: Any, b: Any) -> Any:
    """``a`` in the lanes where ``x < 0``, else ``b``."""

    def code(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
        negative = builder.fcmp_ordered("<", args[0], ir.Constant(args[0].type, [0.0] * args[0].type.count))
        return builder.select(negative, args[1], args[2])

    return x(x, a, b), code


# The probability that a normal number exceeds a > 0 is exp(-a^2 / 2) t poly(t) with t = 1 / (1 + slope a), up to 3.2e-8
# of it: a least-squares fit, reweighted until the largest relative error was least.
_SLOPE = np.float32(0.32)
_TAIL = tuple(
    np.float32(coefficient)
    for coefficient in (
        -0.0210781728,
        0.0954072712,
        -0.146707473,
        0.0653280307,
        -0.00937757048,
        0.0586539657,
        0.0878290982,
        0.114622359,
        0.127660946,
        0.127661529,
    )
)
_HALF = np.float32(0.5)
_DENSITY = np.float32(1 / math.sqrt(2 * math.pi))


@_inlined
def _tail(size):
    """For ``size = |x|``: the probability of a normal number beyond it, and ``exp(-x^2 / 2)``."""
    bell = exp(splat(_ZERO, LANES) - size * size * splat(_HALF, LANES))
    one = splat(_ONE, LANES)
    t = one / fma(size, splat(_SLOPE, LANES), one)
    p = splat(_TAIL[0], LANES)
    p = fma(p, t, splat(_TAIL[1], LANES))
    p = fma(p, t, splat(_TAIL[2], LANES))
    p = fma(p, t, splat(_TAIL[3], LANES))
    p = fma(p, t, splat(_TAIL[4], LANES))
    p = fma(p, t, splat(_TAIL[5], LANES))
    p = fma(p, t, splat(_TAIL[6], LANES))
    p = fma(p, t, splat(_TAIL[7], LANES))
    p = fma(p, t, splat(_TAIL[8], LANES))
    p = fma(p, t, splat(_TAIL[9], LANES))
    return bell * t * p, bell


@_helper
def gelu(x, at, count, out, out_at):
    """``out = x P(normal < x)`` for ``count`` numbers: ``max(x, 0) - |x| P(normal > |x|)``."""
    zero = splat(_ZERO, LANES)
    for c in range(0, count, LANES):
        valid = min(count - c, LANES)
        value = _first(x, at + c, valid)
        positive = maximum(zero, value)
        size = maximum(zero - value, value)
        tail, _ = _tail(size)
        store_first(out, out_at + c, valid, positive - size * tail)


@_helper
def gelu_backward(grad, grad_at, x, at, count, out, out_at):
    """``out = grad (P(normal < x) + x density(x))`` for ``count`` numbers."""
    zero = splat(_ZERO, LANES)
    for c in range(0, count, LANES):
        valid = min(count - c, LANES)
        value = _first(x, at + c, valid)
        size = maximum(zero - value, value)
        tail, bell = _tail(size)
        slope = tail - size * bell * splat(_DENSITY, LANES)
        slope = _where_negative(value, slope, splat(_ONE, LANES) - slope)
        store_first(out, out_at + c, valid, _first(grad, grad_at + c, valid) * slope)
