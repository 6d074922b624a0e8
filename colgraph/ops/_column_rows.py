"""What happens to a column's rows between the products: sums, the norm and the GELU.

All arrays are flat float32; ``at`` is where a row begins in its array. Nothing is checked.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]

from colgraph.ops._numba_cache import compiled, inlined
from colgraph.ops._numba_vector import LANES, exp, first_of, fma, intrinsic, maximum, put_first, splat, sum_lanes

__all__ = ["add", "gelu", "gelu_backward", "norm", "norm_backward"]

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)


@compiled
def add(x: np.ndarray, x_at: int, y: np.ndarray, y_at: int, count: int, out: np.ndarray, out_at: int) -> None:
    """``out = x + y`` for ``count`` numbers; ``out = x`` where there is no ``y``."""
    for c in range(0, count, LANES):
        total = first_of(x, x_at + c, count - c)
        if y.size:
            total = total + first_of(y, y_at + c, count - c)
        put_first(out, out_at + c, count - c, total)


# ---------------------------------------------------------------------- the norm


@inlined
def _moments(x: np.ndarray, at: int, width: int, eps: float) -> tuple[Any, Any]:
    """Mean and ``1 / sqrt(variance + eps)`` of ``x[at : at + width]``, in all lanes."""
    share = _ONE / np.float32(width)
    total = splat(_ZERO, LANES)
    for c in range(0, width, LANES):
        total = total + first_of(x, at + c, width - c)
    average = sum_lanes(total) * share
    mean = splat(average, LANES)
    total = splat(_ZERO, LANES)
    for c in range(0, width, LANES):
        away = first_of(x, at + c, width - c, average) - mean
        total = fma(away, away, total)
    return mean, splat(_ONE / math.sqrt(sum_lanes(total) * share + eps), LANES)


@compiled
def norm(
    x: np.ndarray,
    at: int,
    width: int,
    eps: float,
    weight: np.ndarray,
    bias: np.ndarray,
    weight_at: int,
    out: np.ndarray,
    out_at: int,
) -> None:
    """``out = (x - mean) / sqrt(variance + eps) * weight + bias`` for one row."""
    mean, scale = _moments(x, at, width, eps)
    for c in range(0, width, LANES):
        count = width - c
        normal = (first_of(x, at + c, count) - mean) * scale
        scaled = fma(normal, first_of(weight, weight_at + c, count), first_of(bias, weight_at + c, count))
        put_first(out, out_at + c, count, scaled)


@compiled
def norm_backward(
    grad: np.ndarray,
    grad_at: int,
    x: np.ndarray,
    at: int,
    width: int,
    eps: float,
    weight: np.ndarray,
    weight_at: int,
    weight_total: np.ndarray,
    bias_total: np.ndarray,
    past: np.ndarray,
    past_at: int,
    out: np.ndarray,
    out_at: int,
) -> None:
    """``out`` = the gradient of :func:`norm`'s input, plus ``past``, what came past the norm, where there is any.

    The gradients of weight and bias are added to their totals. ``grad`` is left multiplied by the weight.
    """
    mean, scale = _moments(x, at, width, eps)
    first = splat(_ZERO, LANES)
    second = first
    for c in range(0, width, LANES):
        count = width - c
        normal = (first_of(x, at + c, count) - mean) * scale
        g = first_of(grad, grad_at + c, count)
        if weight_total.size:
            total = first_of(weight_total, weight_at + c, count)
            put_first(weight_total, weight_at + c, count, fma(g, normal, total))
        if bias_total.size:
            put_first(bias_total, weight_at + c, count, g + first_of(bias_total, weight_at + c, count))
        g = g * first_of(weight, weight_at + c, count)
        put_first(grad, grad_at + c, count, g)
        first = first + g
        second = fma(g, normal, second)
    share = _ONE / np.float32(width)
    shift = splat(sum_lanes(first) * share, LANES)
    slope = splat(sum_lanes(second) * share, LANES)
    for c in range(0, width, LANES):
        count = width - c
        normal = (first_of(x, at + c, count) - mean) * scale
        change = (first_of(grad, grad_at + c, count) - shift - normal * slope) * scale
        if past.size:
            change = change + first_of(past, past_at + c, count)
        put_first(out, out_at + c, count, change)


# ---------------------------------------------------------------------- GELU


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
def gelu(x: np.ndarray, at: int, count: int, out: np.ndarray, out_at: int) -> None:
    """``out = x P(normal < x)`` for ``count`` numbers: ``max(x, 0) - |x| P(normal > |x|)``."""
    zero = splat(_ZERO, LANES)
    for c in range(0, count, LANES):
        value = first_of(x, at + c, count - c)
        positive = maximum(zero, value)
        size = maximum(zero - value, value)
        tail, _ = _tail(size)
        put_first(out, out_at + c, count - c, positive - size * tail)


@compiled
def gelu_backward(
    grad: np.ndarray, grad_at: int, x: np.ndarray, at: int, count: int, out: np.ndarray, out_at: int
) -> None:
    """``out = grad (P(normal < x) + x density(x))`` for ``count`` numbers."""
    zero = splat(_ZERO, LANES)
    for c in range(0, count, LANES):
        value = first_of(x, at + c, count - c)
        size = maximum(zero - value, value)
        tail, bell = _tail(size)
        slope = tail - size * bell * splat(_DENSITY, LANES)
        slope = _where_negative(value, slope, splat(_ONE, LANES) - slope)
        put_first(out, out_at + c, count - c, first_of(grad, grad_at + c, count - c) * slope)
