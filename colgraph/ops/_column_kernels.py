"""The loops behind the column step on the CPU, compiled on first use and cached on disk.

A kernel works through columns ``start:stop`` and writes only what belongs to them. It reads a column's weights once for
all B rows of its batch, and what lies between two products never leaves the cache. ``sizes`` is (B, C, HD, M, S);
arrays come as addresses, 0 for one that is absent. On a tape of S slots a column's batch is S batches away from the
next's. All release the GIL.
"""

from __future__ import annotations

import numpy as np

from colgraph.ops._column_products import linear, linear_backward, sum_of_products, sum_of_rows
from colgraph.ops._column_rows import add, gelu, gelu_backward, norm, norm_backward
from colgraph.ops._numba_cache import cached_kernel, compiled
from colgraph.ops._numba_vector import LANES, Pointer, begin_of, fence, fetch, is_there, plain, pointers_at, row_of

_kernel = cached_kernel(
    "_column_kernels.py", "_column_products.py", "_column_rows.py", "_numba_vector.py", "_processor.py"
)

_ROWS = 64  # of activations that are taken for one product of a weight gradient: few enough for the cache


@_kernel
def column_in(start: int, stop: int, sizes: tuple[int, ...], eps: float, addresses: tuple[int, ...]) -> None:
    """Norm, query and key."""
    batch, c, j, _, _ = sizes
    x, norm_weight, norm_bias, wq, bq, wk, bk, normed, query, key = pointers_at(addresses)
    for i in range(start, stop):
        row = i * batch
        for r in range(row, row + batch):
            norm(x + r * c, c, eps, norm_weight + i * c, norm_bias + i * c, normed + r * c)
        linear(normed + row * c, batch, c, wq + i * j * c, j, bq + i * j, query + row * j)
        linear(normed + row * c, batch, c, wk + i * j * c, j, bk + i * j, key + row * j)


@_kernel
def column_out(start: int, stop: int, sizes: tuple[int, ...], eps: float, addresses: tuple[int, ...]) -> None:
    """``middle = x + heard``, and the MLP behind it."""
    batch, c, _, m, slots = sizes
    apart = slots * batch
    heard, x, norm_weight, norm_bias, w1, b1, w2, b2, middle, hidden, out = pointers_at(addresses)
    normed = np.empty(batch * c, np.float32)
    active = np.empty(batch * m, np.float32)
    for i in range(start, stop):
        row = i * batch * c
        y, inner = middle + i * apart * c, hidden + i * apart * m
        fetch(y, apart * c, batch * c)
        fetch(inner, apart * m, batch * m)
        add(heard + row, row_of(x, row), batch * c, y)
        for r in range(batch):
            norm(y + r * c, c, eps, norm_weight + i * c, norm_bias + i * c, begin_of(normed) + r * c)
        linear(begin_of(normed), batch, c, w1 + i * m * c, m, b1 + i * m, inner)
        gelu(inner, batch * m, begin_of(active))
        linear(begin_of(active), batch, m, w2 + i * c * m, c, b2 + i * c, out + row)
        add(out + row, y, batch * c, out + row)


@_kernel
def column_out_backward(start: int, stop: int, sizes: tuple[int, ...], eps: float, addresses: tuple[int, ...]) -> None:
    """The gradients of ``hidden`` and ``middle``."""
    batch, c, _, m, slots = sizes
    apart = slots * batch
    arrays = pointers_at(addresses)
    grad_out, middle, hidden, norm_weight, w1, w2, grad_hidden, grad_middle, weight_total, bias_total = arrays
    active = np.empty(batch * m, np.float32)
    normed = np.empty(batch * c, np.float32)
    for i in range(start, stop):
        grad, y = grad_out + i * apart * c, middle + i * apart * c
        inner, grad_inner = hidden + i * apart * m, grad_hidden + i * apart * m
        fetch(grad, apart * c, batch * c)
        fetch(y, apart * c, batch * c)
        fetch(inner, apart * m, batch * m)
        fetch(grad_inner, apart * m, batch * m)
        linear_backward(grad, batch, c, w2 + i * c * m, m, plain(False), begin_of(active))
        gelu_backward(begin_of(active), inner, batch * m, grad_inner)
        linear_backward(grad_inner, batch, m, w1 + i * m * c, c, plain(False), begin_of(normed))
        totals = row_of(weight_total, i * c), row_of(bias_total, i * c)
        for r in range(batch):
            at, result = r * c, grad_middle + (i * batch + r) * c
            norm_backward(begin_of(normed) + at, y + at, c, eps, norm_weight + i * c, totals, grad + at, result)


@_kernel
def column_in_backward(
    start: int, stop: int, sizes: tuple[int, ...], eps: float, out_slots: int, addresses: tuple[int, ...]
) -> None:
    """The gradient of the state ``x``: what comes through the norm, and ``grad_x`` where there is one."""
    batch, c, j, _, slots = sizes
    apart = slots * batch
    arrays = pointers_at(addresses)
    x, grad_value, grad_x, grad_query, grad_key, norm_weight, wq, wk, out, weight_total, bias_total = arrays
    (nothing,) = pointers_at((0,))
    normed = np.empty(batch * c, np.float32)
    for i in range(start, stop):
        row = i * batch * c
        grad_q, grad_k, result = grad_query + i * apart * j, grad_key + i * apart * j, out + out_slots * row
        fetch(grad_q, apart * j, batch * j)
        fetch(grad_k, apart * j, batch * j)
        fetch(result, out_slots * batch * c, batch * c)
        add(grad_value + row, nothing, batch * c, begin_of(normed))
        linear_backward(grad_q, batch, j, wq + i * j * c, c, plain(True), begin_of(normed))
        linear_backward(grad_k, batch, j, wk + i * j * c, c, plain(True), begin_of(normed))
        totals = row_of(weight_total, i * c), row_of(bias_total, i * c)
        for r in range(batch):
            at, past = r * c, row_of(grad_x, row + r * c)
            norm_backward(begin_of(normed) + at, x + row + at, c, eps, norm_weight + i * c, totals, past, result + at)


# ---------------------------------------------------------------------- weight gradients


@compiled
def _add_products(
    grad: Pointer,
    rows: int,
    outs: int,
    x: Pointer,
    width: int,
    more: bool,
    past: bool,
    weight: Pointer,
    bias: Pointer,
    i: int,
) -> None:
    """Column i's ``weight[o, c] = sum_r grad[r, o] x[r, c]`` and ``bias[o] = sum_r grad[r, o]``; ``more``: added.

    ``past``: weights go past the caches, where their rows are whole cache lines.
    """
    if is_there(weight):
        sum_of_products(grad, rows, outs, x, width, more, past and width % LANES == 0, weight + i * outs * width)
    if is_there(bias):
        sum_of_rows(grad, rows, outs, more, bias + i * outs)


@_kernel
def weight_gradients(
    start: int,
    stop: int,
    sizes: tuple[int, ...],
    eps: float,
    columns: int,
    more: bool,
    past: bool,
    addresses: tuple[int, ...],
) -> None:
    """The gradients of all linear maps, summed over the slots of the tapes (``more``: added to what is there).

    ``past``: what is written once may go past the caches; all gradients begin at a cache line.
    """
    batch, c, j, m, slots = sizes
    normed, middle, hidden, grad_query, grad_key, grad_hidden, grad_out = pointers_at(addresses[:7])
    norm_weight, norm_bias, wq, bq, wk, bk, w1, b1, w2, b2 = pointers_at(addresses[7:])
    (nothing,) = pointers_at((0,))
    at_once = max(1, _ROWS // batch)
    once = past and not more and slots <= at_once
    scratch = np.empty(at_once * batch * max(c, m), np.float32)
    for i in range(start, stop):
        for first in range(0, slots, at_once):
            several = min(at_once, slots - first)
            rows = several * batch
            kept = (i * slots + first) * batch
            added = more or first > 0
            x = begin_of(scratch)
            if is_there(wq) or is_there(bq) or is_there(wk) or is_there(bk):
                for s in range(several):
                    at = ((first + s) * columns + i) * batch * c
                    add(normed + at, nothing, batch * c, x + s * batch * c)
                _add_products(grad_query + kept * j, rows, j, x, c, added, once, wq, bq, i)
                _add_products(grad_key + kept * j, rows, j, x, c, added, once, wk, bk, i)
            if is_there(w1) or is_there(b1):
                for r in range(rows):
                    norm(middle + (kept + r) * c, c, eps, norm_weight + i * c, norm_bias + i * c, x + r * c)
                _add_products(grad_hidden + kept * m, rows, m, x, c, added, once, w1, b1, i)
            if is_there(w2) or is_there(b2):
                gelu(hidden + kept * m, rows * m, x)
                _add_products(grad_out + kept * c, rows, c, x, m, added, once, w2, b2, i)
    fence()
