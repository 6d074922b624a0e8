"""The loops behind the column step on the CPU, compiled on first use and cached on disk.

A kernel works through columns ``start:stop`` and writes only what belongs to them. It reads a column's weights once for
all B rows of its batch, and what lies between two products never leaves the cache. ``sizes`` is (B, C, HD, M, S);
arrays come as addresses, 0 for one that is absent. On a tape of S slots a column's batch is S batches away from the
next's. All release the GIL.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.np.arrayobj import populate_array

from colgraph.ops._column_products import fetch, linear, linear_backward, sum_of_products, sum_of_rows
from colgraph.ops._column_rows import add, gelu, gelu_backward, norm, norm_backward
from colgraph.ops._numba_cache import cached_kernel, compiled
from colgraph.ops._numba_vector import intrinsic

__all__ = ["column_in", "column_in_backward", "column_out", "column_out_backward", "weight_gradients"]

_kernel = cached_kernel("_column_kernels.py", "_column_products.py", "_column_rows.py", "_numba_vector.py")

_ROWS = 64  # of activations that are taken for one product of a weight gradient: few enough for the cache

_floats = types.Array(types.float32, 1, "C")


@intrinsic
def arrays_at(typing: Any, addresses: Any) -> Any:
    """Flat float32 arrays at a tuple of addresses; ``size`` says only whether there is one (0 for the address 0).

    Arrays passed in the usual way count references, atomically, at every call that hands one on, and the threads would
    fight for the counters.
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


@_kernel
def column_in(start: int, stop: int, sizes: tuple[int, ...], eps: float, addresses: tuple[int, ...]) -> None:
    """Norm, query and key."""
    batch, c, j, _, _ = sizes
    x, norm_weight, norm_bias, query_weight, query_bias, key_weight, key_bias, normed, query, key = arrays_at(addresses)
    for i in range(start, stop):
        row = i * batch
        for r in range(row, row + batch):
            norm(x, r * c, c, eps, norm_weight, norm_bias, i * c, normed, r * c)
        linear(normed, row * c, batch, c, query_weight, i * j * c, j, query_bias, i * j, query, row * j)
        linear(normed, row * c, batch, c, key_weight, i * j * c, j, key_bias, i * j, key, row * j)


@_kernel
def column_out(start: int, stop: int, sizes: tuple[int, ...], eps: float, addresses: tuple[int, ...]) -> None:
    """``middle = x + heard``, and the MLP behind it."""
    batch, c, _, m, slots = sizes
    apart = slots * batch
    heard, x, norm_weight, norm_bias, w1, b1, w2, b2, middle, hidden, out = arrays_at(addresses)
    normed = np.empty(batch * c, np.float32)
    active = np.empty(batch * m, np.float32)
    for i in range(start, stop):
        row = i * batch
        kept = i * apart
        fetch(middle, (kept + apart) * c, batch * c)
        fetch(hidden, (kept + apart) * m, batch * m)
        add(heard, row * c, x, row * c, batch * c, middle, kept * c)
        for r in range(batch):
            norm(middle, (kept + r) * c, c, eps, norm_weight, norm_bias, i * c, normed, r * c)
        linear(normed, 0, batch, c, w1, i * m * c, m, b1, i * m, hidden, kept * m)
        gelu(hidden, kept * m, batch * m, active, 0)
        linear(active, 0, batch, m, w2, i * c * m, c, b2, i * c, out, row * c)
        add(out, row * c, middle, kept * c, batch * c, out, row * c)


@_kernel
def column_out_backward(start: int, stop: int, sizes: tuple[int, ...], eps: float, addresses: tuple[int, ...]) -> None:
    """The gradients of ``hidden`` and ``middle``."""
    batch, c, _, m, slots = sizes
    apart = slots * batch
    arrays = arrays_at(addresses)
    grad_out, middle, hidden, norm_weight, w1, w2, grad_hidden, grad_middle, weight_total, bias_total = arrays
    active = np.empty(batch * m, np.float32)
    normed = np.empty(batch * c, np.float32)
    for i in range(start, stop):
        kept = i * apart
        fetch(grad_out, (kept + apart) * c, batch * c)
        fetch(middle, (kept + apart) * c, batch * c)
        fetch(hidden, (kept + apart) * m, batch * m)
        fetch(grad_hidden, (kept + apart) * m, batch * m)
        linear_backward(grad_out, kept * c, batch, c, w2, i * c * m, m, False, active, 0)
        gelu_backward(active, 0, hidden, kept * m, batch * m, grad_hidden, kept * m)
        linear_backward(grad_hidden, kept * m, batch, m, w1, i * m * c, c, False, normed, 0)
        for r in range(batch):
            at = (i * batch + r) * c
            from_out = (kept + r) * c
            norm_backward(
                normed,
                r * c,
                middle,
                from_out,
                c,
                eps,
                norm_weight,
                i * c,
                weight_total,
                bias_total,
                grad_out,
                from_out,
                grad_middle,
                at,
            )


@_kernel
def column_in_backward(
    start: int, stop: int, sizes: tuple[int, ...], eps: float, out_slots: int, addresses: tuple[int, ...]
) -> None:
    """The gradient of the state ``x``: what comes through the norm, and ``grad_x`` where there is one."""
    batch, c, j, _, slots = sizes
    apart = slots * batch
    arrays = arrays_at(addresses)
    x, grad_value, grad_x, grad_query, grad_key, norm_weight, wq, wk, out, weight_total, bias_total = arrays
    normed = np.empty(batch * c, np.float32)
    nothing = np.empty(0, np.float32)
    for i in range(start, stop):
        kept = i * apart
        fetch(grad_query, (kept + apart) * j, batch * j)
        fetch(grad_key, (kept + apart) * j, batch * j)
        fetch(out, (i + 1) * out_slots * batch * c, batch * c)
        add(grad_value, i * batch * c, nothing, 0, batch * c, normed, 0)
        linear_backward(grad_query, kept * j, batch, j, wq, i * j * c, c, True, normed, 0)
        linear_backward(grad_key, kept * j, batch, j, wk, i * j * c, c, True, normed, 0)
        for r in range(batch):
            at = (i * batch + r) * c
            out_at = (i * out_slots * batch + r) * c
            norm_backward(
                normed, r * c, x, at, c, eps, norm_weight, i * c, weight_total, bias_total, grad_x, at, out, out_at
            )


# ---------------------------------------------------------------------- weight gradients


@compiled
def _add_products(
    grad: np.ndarray,
    grad_at: int,
    rows: int,
    outs: int,
    x: np.ndarray,
    width: int,
    more: bool,
    weight: np.ndarray,
    weight_at: int,
    bias: np.ndarray,
    bias_at: int,
) -> None:
    """``weight[o, c] = sum_r grad[r, o] x[r, c]`` and ``bias[o] = sum_r grad[r, o]``; with ``more``, added to those."""
    if weight.size:
        sum_of_products(grad, grad_at, rows, outs, x, width, more, weight, weight_at)
    if bias.size:
        sum_of_rows(grad, grad_at, rows, outs, more, bias, bias_at)


@_kernel
def weight_gradients(
    start: int, stop: int, sizes: tuple[int, ...], eps: float, columns: int, more: bool, addresses: tuple[int, ...]
) -> None:
    """The gradients of all linear maps, summed over the slots of the tapes (``more``: added to what is there)."""
    batch, c, j, m, slots = sizes
    normed, middle, hidden, grad_query, grad_key, grad_hidden, grad_out = arrays_at(addresses[:7])
    norm_weight, norm_bias, wq, bq, wk, bk, w1, b1, w2, b2 = arrays_at(addresses[7:])
    nothing = np.empty(0, np.float32)
    at_once = max(1, _ROWS // batch)
    x = np.empty(at_once * batch * max(c, m), np.float32)
    for i in range(start, stop):
        for first in range(0, slots, at_once):
            several = min(at_once, slots - first)
            rows = several * batch
            kept = (i * slots + first) * batch
            added = more or first > 0
            if wq.size or bq.size or wk.size or bk.size:
                for s in range(several):
                    at = ((first + s) * columns + i) * batch * c
                    add(normed, at, nothing, 0, batch * c, x, s * batch * c)
                _add_products(grad_query, kept * j, rows, j, x, c, added, wq, i * j * c, bq, i * j)
                _add_products(grad_key, kept * j, rows, j, x, c, added, wk, i * j * c, bk, i * j)
            if w1.size or b1.size:
                for r in range(rows):
                    norm(middle, (kept + r) * c, c, eps, norm_weight, norm_bias, i * c, x, r * c)
                _add_products(grad_hidden, kept * m, rows, m, x, c, added, w1, i * m * c, b1, i * m)
            if w2.size or b2.size:
                gelu(hidden, kept * m, rows * m, x, 0)
                _add_products(grad_out, kept * c, rows, c, x, m, added, w2, i * c * m, b2, i * c)
