"""The loops behind the column step on the CPU, compiled on first use and cached on disk.

A kernel works through columns ``start:stop`` and writes only what belongs to them. It reads a column's weights once for
all B rows of its batch, and what lies between two products never leaves the cache. ``sizes`` is (B, C, HD, M); every
array is flat float32, an absent one is empty. All release the GIL.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from colgraph.ops._column_loops import combine, gelu, gelu_backward, linear, norm, norm_backward

__all__ = ["column_in", "column_in_backward", "column_out", "column_out_backward", "weight_gradients"]

_helper = njit(nogil=True)
_kernel = njit(nogil=True, cache=True)

_ROWS = 64  # of activations that are gathered for one product: few enough for the cache


@_kernel
def column_in(
    start,
    stop,
    sizes,
    eps,
    x,
    norm_weight,
    norm_bias,
    query_weight,
    query_bias,
    key_weight,
    key_bias,
    normed,
    query,
    key,
):
    """Norm, query and key."""
    batch, c, j, _ = sizes
    nothing = np.empty(0, np.float32)
    for i in range(start, stop):
        row = i * batch
        for r in range(row, row + batch):
            norm(x, r * c, c, eps, norm_weight, norm_bias, i * c, normed, r * c)
        at = row * c
        linear(normed, at, batch, c, query_weight, i * j * c, j, query_bias, i * j, nothing, 0, query, row * j)
        linear(normed, at, batch, c, key_weight, i * j * c, j, key_bias, i * j, nothing, 0, key, row * j)


@_kernel
def column_out(
    start,
    stop,
    sizes,
    eps,
    x,
    heard,
    norm_weight,
    norm_bias,
    fc1_weight,
    fc1_bias,
    fc2_weight,
    fc2_bias,
    middle,
    hidden,
    out,
):
    """``middle = x + heard`` and the MLP behind it."""
    batch, c, _, m = sizes
    nothing = np.empty(0, np.float32)
    normed = np.empty(batch * c, np.float32)
    active = np.empty(batch * m, np.float32)
    for i in range(start, stop):
        row = i * batch
        at = row * c
        for k in range(at, at + batch * c):
            middle[k] = heard[k]
        if x.size:
            for k in range(at, at + batch * c):
                middle[k] += x[k]
        for r in range(batch):
            norm(middle, at + r * c, c, eps, norm_weight, norm_bias, i * c, normed, r * c)
        linear(normed, 0, batch, c, fc1_weight, i * m * c, m, fc1_bias, i * m, nothing, 0, hidden, row * m)
        gelu(hidden, row * m, batch * m, active, 0)
        linear(active, 0, batch, m, fc2_weight, i * c * m, c, fc2_bias, i * c, middle, at, out, at)


@_kernel
def column_out_backward(
    start,
    stop,
    sizes,
    eps,
    grad_out,
    middle,
    hidden,
    norm_weight,
    fc1_weight,
    fc2_weight,
    grad_hidden,
    grad_middle,
    norm_weight_total,
    norm_bias_total,
):
    """The gradients of ``hidden`` and ``middle``."""
    batch, c, _, m = sizes
    grad_active = np.empty(batch * m, np.float32)
    grad_normed = np.empty(batch * c, np.float32)
    for i in range(start, stop):
        row = i * batch
        at = row * c
        combine(grad_out, at, c, 1, fc2_weight, i * c * m, c, m, False, batch, grad_active, 0)
        gelu_backward(grad_active, 0, hidden, row * m, batch * m, grad_hidden, row * m)
        combine(grad_hidden, row * m, m, 1, fc1_weight, i * m * c, m, c, False, batch, grad_normed, 0)
        for k in range(at, at + batch * c):
            grad_middle[k] = grad_out[k]
        for r in range(batch):
            norm_backward(
                grad_normed,
                r * c,
                middle,
                at + r * c,
                c,
                eps,
                norm_weight,
                i * c,
                norm_weight_total,
                norm_bias_total,
                grad_middle,
                at + r * c,
            )


@_kernel
def column_in_backward(
    start,
    stop,
    sizes,
    eps,
    x,
    grad_value,
    grad_x,
    grad_query,
    grad_key,
    norm_weight,
    query_weight,
    key_weight,
    out,
    norm_weight_total,
    norm_bias_total,
):
    """The gradient of the state ``x``: ``grad_x``, and what comes through the norm."""
    batch, c, j, _ = sizes
    grad_normed = np.empty(batch * c, np.float32)
    for i in range(start, stop):
        row = i * batch
        at = row * c
        for k in range(batch * c):
            grad_normed[k] = grad_value[at + k]
            out[at + k] = grad_x[at + k] if grad_x.size else np.float32(0.0)
        combine(grad_query, row * j, j, 1, query_weight, i * j * c, j, c, True, batch, grad_normed, 0)
        combine(grad_key, row * j, j, 1, key_weight, i * j * c, j, c, True, batch, grad_normed, 0)
        for r in range(batch):
            norm_backward(
                grad_normed,
                r * c,
                x,
                at + r * c,
                c,
                eps,
                norm_weight,
                i * c,
                norm_weight_total,
                norm_bias_total,
                out,
                at + r * c,
            )


# ---------------------------------------------------------------------- weight gradients


@_helper
def _gather(tape, first, slots, columns, i, size, out):
    """Column i's ``size`` numbers in ``slots`` slots, from ``first`` on, one after another."""
    for s in range(slots):
        at = ((first + s) * columns + i) * size
        for k in range(size):
            out[s * size + k] = tape[at + k]


@_helper
def _add_products(grad, rows, outs, x, width, add, weight_total, weight_at, bias_total, bias_at):
    """``weight_total[o, c] (+)= sum_r grad[r, o] x[r, c]`` and ``bias_total[o] (+)= sum_r grad[r, o]``."""
    if weight_total.size:
        combine(grad, 0, 1, outs, x, 0, rows, width, add, outs, weight_total, weight_at)
    if bias_total.size:
        if not add:
            for o in range(outs):
                bias_total[bias_at + o] = np.float32(0.0)
        for r in range(rows):
            for o in range(outs):
                bias_total[bias_at + o] += grad[r * outs + o]


@_kernel
def weight_gradients(
    start,
    stop,
    sizes,
    eps,
    columns,
    slots,
    add,
    normed,
    middle,
    hidden,
    grad_query,
    grad_key,
    grad_hidden,
    grad_out,
    norm_weight,
    norm_bias,
    query_weight,
    query_bias,
    key_weight,
    key_bias,
    fc1_weight,
    fc1_bias,
    fc2_weight,
    fc2_bias,
):
    """Gradients of all linear maps, summed over the slots of the tapes; the last eight arrays receive them."""
    batch, c, j, m = sizes
    at_once = max(1, _ROWS // batch)
    x = np.empty(at_once * batch * max(c, m), np.float32)
    grad = np.empty(at_once * batch * max(c, j, m), np.float32)
    for i in range(start, stop):
        for first in range(0, slots, at_once):
            several = min(at_once, slots - first)
            rows = several * batch
            more = add or first > 0
            if query_weight.size or query_bias.size or key_weight.size or key_bias.size:
                _gather(normed, first, several, columns, i, batch * c, x)
                _gather(grad_query, first, several, columns, i, batch * j, grad)
                _add_products(grad, rows, j, x, c, more, query_weight, i * j * c, query_bias, i * j)
                _gather(grad_key, first, several, columns, i, batch * j, grad)
                _add_products(grad, rows, j, x, c, more, key_weight, i * j * c, key_bias, i * j)
            if fc1_weight.size or fc1_bias.size:
                _gather(middle, first, several, columns, i, batch * c, grad)
                for r in range(rows):
                    norm(grad, r * c, c, eps, norm_weight, norm_bias, i * c, x, r * c)
                _gather(grad_hidden, first, several, columns, i, batch * m, grad)
                _add_products(grad, rows, m, x, c, more, fc1_weight, i * m * c, fc1_bias, i * m)
            if fc2_weight.size or fc2_bias.size:
                _gather(hidden, first, several, columns, i, batch * m, grad)
                gelu(grad, 0, rows * m, x, 0)
                _gather(grad_out, first, several, columns, i, batch * c, grad)
                _add_products(grad, rows, c, x, m, more, fc2_weight, i * c * m, fc2_bias, i * c)
