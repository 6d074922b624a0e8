"""What the column kernels are made of: products with one column's weights, its norm and its GELU.

All arrays are flat float32; ``_at`` is where a matrix or row begins in them. Nothing is checked.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.extending import intrinsic, lower_builtin, type_callable

from colgraph.ops._numba_vector import (
    LANES,
    _Vector,
    exp,
    fma,
    load,
    load_first,
    maximum,
    splat,
    store,
    store_first,
    store_sums,
    sum_lanes,
)

__all__ = ["combine", "gelu", "gelu_backward", "linear", "norm", "norm_backward"]

_helper = njit(nogil=True)

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_TWO, _FOUR = 2 * LANES, 4 * LANES


@_helper
def _first(array, at, count):
    """``array[at : at + count]`` in the first lanes, zeros after."""
    return load_first(array, at, count, _ZERO)


# ---------------------------------------------------------------------- products with a column's weights


@_helper
def _add_bias(result, at, bias, bias_at, residual, residual_at):
    """Add four numbers of a bias, and of a residual where there is one."""
    total = load(result, at, 4) + load(bias, bias_at, 4)
    if residual.size:
        total = total + load(residual, residual_at, 4)
    store(result, at, total)


@_helper
def linear(x, x_at, rows, width, weight, weight_at, outs, bias, bias_at, residual, residual_at, out, out_at):
    """``out[r, o] = sum_c x[r, c] weight[o, c] + bias[o] (+ residual[r, o])``.

    Four rows of the weight with two of ``x`` at a time: eight sums in registers. At the edges the last row stands in
    for those that are missing, and its result is written again.
    """
    sums = np.empty(4, np.float32)
    whole = width // LANES * LANES
    rest = width - whole
    for o in range(0, outs, 4):
        w0 = weight_at + o * width
        w1 = weight_at + min(o + 1, outs - 1) * width
        w2 = weight_at + min(o + 2, outs - 1) * width
        w3 = weight_at + min(o + 3, outs - 1) * width
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
            at0 = r * outs + o
            at1 = other * outs + o
            if outs - o >= 4:
                store_sums(out, out_at + at0, a0, a1, a2, a3)
                _add_bias(out, out_at + at0, bias, bias_at + o, residual, residual_at + at0)
                store_sums(out, out_at + at1, b0, b1, b2, b3)
                _add_bias(out, out_at + at1, bias, bias_at + o, residual, residual_at + at1)
            else:
                store_sums(sums, 0, a0, a1, a2, a3)
                _store_rest(sums, outs - o, bias, bias_at + o, residual, residual_at + at0, out, out_at + at0)
                store_sums(sums, 0, b0, b1, b2, b3)
                _store_rest(sums, outs - o, bias, bias_at + o, residual, residual_at + at1, out, out_at + at1)


@_helper
def _store_rest(sums, count, bias, bias_at, residual, residual_at, out, out_at):
    """As :func:`_add_bias`, for the last ``count < 4`` outputs of a row."""
    for k in range(count):
        total = sums[k] + bias[bias_at + k]
        if residual.size:
            total += residual[residual_at + k]
        out[out_at + k] = total


def _make_panel(width):
    """Four rows of ``out`` over ``width`` channels, kept in registers over all ``count`` rows of ``x``."""

    @_helper
    def panel(factor, f0, f1, f2, f3, next_factor, x, x_at, next_x, count, add, out, o0, o1, o2, o3):
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
            row = load(x, x_at + k * next_x, width)
            step = k * next_factor
            a0 = fma(splat(factor[f0 + step], width), row, a0)
            a1 = fma(splat(factor[f1 + step], width), row, a1)
            a2 = fma(splat(factor[f2 + step], width), row, a2)
            a3 = fma(splat(factor[f3 + step], width), row, a3)
        store(out, o3, a3)
        store(out, o2, a2)
        store(out, o1, a1)
        store(out, o0, a0)

    return panel


_panel_four, _panel_two, _panel_one = (_make_panel(width) for width in (_FOUR, _TWO, LANES))


@_helper
def _panel_rest(factor, f0, f1, f2, f3, next_factor, x, x_at, next_x, count, add, out, o0, o1, o2, o3, rest):
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
        step = k * next_factor
        a0 = fma(splat(factor[f0 + step], LANES), row, a0)
        a1 = fma(splat(factor[f1 + step], LANES), row, a1)
        a2 = fma(splat(factor[f2 + step], LANES), row, a2)
        a3 = fma(splat(factor[f3 + step], LANES), row, a3)
    store_first(out, o3, rest, a3)
    store_first(out, o2, rest, a2)
    store_first(out, o1, rest, a1)
    store_first(out, o0, rest, a0)


@_helper
def combine(factor, factor_at, of_row, of_k, x, x_at, count, width, add, rows, out, out_at):
    """``out[i, c] (+)= sum_k factor[i * of_row + k * of_k] x[k, c]`` for ``i < rows`` and ``k < count``.

    With the factors by rows this is a product with the transposed weight, by columns a weight gradient. Four rows at a
    time; at the edge the last row stands in for those that are missing (all are read before any is written).
    """
    for i in range(0, rows, 4):
        i1 = min(i + 1, rows - 1)
        i2 = min(i + 2, rows - 1)
        i3 = min(i + 3, rows - 1)
        f0 = factor_at + i * of_row
        f1 = factor_at + i1 * of_row
        f2 = factor_at + i2 * of_row
        f3 = factor_at + i3 * of_row
        o0 = out_at + i * width
        o1 = out_at + i1 * width
        o2 = out_at + i2 * width
        o3 = out_at + i3 * width
        c = 0
        while width - c >= _FOUR:
            _panel_four(
                factor, f0, f1, f2, f3, of_k, x, x_at + c, width, count, add, out, o0 + c, o1 + c, o2 + c, o3 + c
            )
            c += _FOUR
        if width - c >= _TWO:
            _panel_two(
                factor, f0, f1, f2, f3, of_k, x, x_at + c, width, count, add, out, o0 + c, o1 + c, o2 + c, o3 + c
            )
            c += _TWO
        if width - c >= LANES:
            _panel_one(
                factor, f0, f1, f2, f3, of_k, x, x_at + c, width, count, add, out, o0 + c, o1 + c, o2 + c, o3 + c
            )
            c += LANES
        if width > c:
            _panel_rest(
                factor,
                f0,
                f1,
                f2,
                f3,
                of_k,
                x,
                x_at + c,
                width,
                count,
                add,
                out,
                o0 + c,
                o1 + c,
                o2 + c,
                o3 + c,
                width - c,
            )


# ---------------------------------------------------------------------- the norm


@_helper
def _moments(x, at, width, eps):
    """Mean and ``1 / sqrt(variance + eps)`` of ``x[at : at + width]``."""
    total = splat(_ZERO, LANES)
    whole = width // LANES * LANES
    for c in range(0, whole, LANES):
        total = total + load(x, at + c, LANES)
    mean = sum_lanes(total)
    for c in range(whole, width):
        mean += x[at + c]
    mean /= np.float32(width)
    total = splat(_ZERO, LANES)
    for c in range(0, whole, LANES):
        away = load(x, at + c, LANES) - splat(mean, LANES)
        total = fma(away, away, total)
    variance = sum_lanes(total)
    for c in range(whole, width):
        variance += (x[at + c] - mean) * (x[at + c] - mean)
    return mean, _ONE / np.float32(math.sqrt(variance / np.float32(width) + eps))


@_helper
def norm(x, at, width, eps, weight, bias, weight_at, out, out_at):
    """``out = (x - mean) / sqrt(variance + eps) * weight + bias`` for one row."""
    mean, scale = _moments(x, at, width, eps)
    for c in range(0, width, LANES):
        count = min(width - c, LANES)
        normal = (_first(x, at + c, count) - splat(mean, LANES)) * splat(scale, LANES)
        result = fma(normal, _first(weight, weight_at + c, count), _first(bias, weight_at + c, count))
        store_first(out, out_at + c, count, result)


@_helper
def norm_backward(grad, grad_at, x, at, width, eps, weight, weight_at, weight_total, bias_total, out, out_at):
    """``out +=`` the gradient of :func:`norm`'s input; those of its weight and bias are added to the totals."""
    mean, scale = _moments(x, at, width, eps)
    first = splat(_ZERO, LANES)
    second = first
    for c in range(0, width, LANES):
        count = min(width - c, LANES)
        normal = (_first(x, at + c, count) - splat(mean, LANES)) * splat(scale, LANES)
        g = _first(grad, grad_at + c, count)
        if weight_total.size:
            store_first(weight_total, weight_at + c, count, fma(g, normal, _first(weight_total, weight_at + c, count)))
        if bias_total.size:
            store_first(bias_total, weight_at + c, count, g + _first(bias_total, weight_at + c, count))
        g = g * _first(weight, weight_at + c, count)
        first = first + g
        second = fma(g, normal, second)
    shift = splat(sum_lanes(first) / np.float32(width), LANES)
    slope = splat(sum_lanes(second) / np.float32(width), LANES)
    for c in range(0, width, LANES):
        count = min(width - c, LANES)
        normal = (_first(x, at + c, count) - splat(mean, LANES)) * splat(scale, LANES)
        g = _first(grad, grad_at + c, count) * _first(weight, weight_at + c, count)
        change = (g - shift - normal * slope) * splat(scale, LANES)
        store_first(out, out_at + c, count, _first(out, out_at + c, count) + change)


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


@_helper
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
