"""What happens to a column's rows between the products: sums, the norm and the GELU.

All numbers are float32. Nothing is checked.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from colgraph.ops._numba_cache import compiled, inlined
from colgraph.ops._numba_vector import (
    LANES,
    Pointer,
    exp,
    first_of,
    fma,
    is_there,
    maximum,
    put_first,
    splat,
    sum_lanes,
    where_negative,
)

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)


@compiled
def add(x: Pointer, y: Pointer, count: int, out: Pointer) -> None:
    """``out = x + y`` for ``count`` numbers; ``out = x`` where there is no ``y``."""
    for c in range(0, count, LANES):
        total = first_of(x, c, count - c)
        if is_there(y):
            total = total + first_of(y, c, count - c)
        put_first(out, c, count - c, total)


# ---------------------------------------------------------------------- the norm


@inlined
def _moments(x: Pointer, width: int, eps: float) -> tuple[Any, Any]:
    """Mean and ``1 / sqrt(variance + eps)`` of ``width`` numbers, in all lanes."""
    share = _ONE / np.float32(width)
    total = splat(_ZERO, LANES)
    for c in range(0, width, LANES):
        total = total + first_of(x, c, width - c)
    average = sum_lanes(total) * share
    mean = splat(average, LANES)
    total = splat(_ZERO, LANES)
    for c in range(0, width, LANES):
        away = first_of(x, c, width - c, average) - mean
        total = fma(away, away, total)
    return mean, splat(_ONE / math.sqrt(sum_lanes(total) * share + eps), LANES)


@compiled
def norm(x: Pointer, width: int, eps: float, weight: Pointer, bias: Pointer, out: Pointer) -> None:
    """``out = (x - mean) / sqrt(variance + eps) * weight + bias`` for one row."""
    mean, scale = _moments(x, width, eps)
    for c in range(0, width, LANES):
        count = width - c
        normal = (first_of(x, c, count) - mean) * scale
        put_first(out, c, count, fma(normal, first_of(weight, c, count), first_of(bias, c, count)))


@compiled
def norm_backward(
    grad: Pointer,
    x: Pointer,
    width: int,
    eps: float,
    weight: Pointer,
    totals: tuple[Pointer, Pointer],
    past: Pointer,
    out: Pointer,
) -> None:
    """``out`` = the gradient of :func:`norm`'s input, plus ``past``, what came past the norm, where there is any.

    The gradients of weight and bias are added to their totals. ``grad`` is left multiplied by the weight.
    """
    weight_total, bias_total = totals
    mean, scale = _moments(x, width, eps)
    first = splat(_ZERO, LANES)
    second = first
    for c in range(0, width, LANES):
        count = width - c
        normal = (first_of(x, c, count) - mean) * scale
        g = first_of(grad, c, count)
        if is_there(weight_total):
            put_first(weight_total, c, count, fma(g, normal, first_of(weight_total, c, count)))
        if is_there(bias_total):
            put_first(bias_total, c, count, g + first_of(bias_total, c, count))
        g = g * first_of(weight, c, count)
        put_first(grad, c, count, g)
        first = first + g
        second = fma(g, normal, second)
    share = _ONE / np.float32(width)
    shift = splat(sum_lanes(first) * share, LANES)
    slope = splat(sum_lanes(second) * share, LANES)
    for c in range(0, width, LANES):
        count = width - c
        normal = (first_of(x, c, count) - mean) * scale
        change = (first_of(grad, c, count) - shift - normal * slope) * scale
        if is_there(past):
            change = change + first_of(past, c, count)
        put_first(out, c, count, change)


# ---------------------------------------------------------------------- GELU


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


@inlined
def _tail(size: Any) -> tuple[Any, Any]:
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


@compiled
def gelu(x: Pointer, count: int, out: Pointer) -> None:
    """``out = x P(normal < x)`` for ``count`` numbers: ``max(x, 0) - |x| P(normal > |x|)``."""
    zero = splat(_ZERO, LANES)
    for c in range(0, count, LANES):
        value = first_of(x, c, count - c)
        positive = maximum(zero, value)
        size = maximum(zero - value, value)
        tail, _ = _tail(size)
        put_first(out, c, count - c, positive - size * tail)


@compiled
def gelu_backward(grad: Pointer, x: Pointer, count: int, out: Pointer) -> None:
    """``out = grad (P(normal < x) + x density(x))`` for ``count`` numbers."""
    zero = splat(_ZERO, LANES)
    for c in range(0, count, LANES):
        value = first_of(x, c, count - c)
        size = maximum(zero - value, value)
        tail, bell = _tail(size)
        slope = tail - size * bell * splat(_DENSITY, LANES)
        slope = where_negative(value, slope, splat(_ONE, LANES) - slope)
        put_first(out, c, count - c, first_of(grad, c, count - c) * slope)
