"""Groups of columns, and the two sums over their neighbours that all attention kernels are made of.

Columns that follow each other in kd order share most of their neighbours. A *group* is a run of them whose distinct
neighbours, their *union*, fit the first-level cache a piece of :data:`CHUNK` numbers at a time: that piece of each row
is packed side by side once, and then read by every column of the group. (Left where they are, rows a large power of two
apart would also fall on the same few cache sets.) Where columns share too little, as in a random graph, or one column
has too many neighbours, rows are read in place.

While a group is worked on, memory is asked for the rows that the group after it will meet for the first time.

Rows of a column lie together: arrays are ``[N,G,width]``, flattened, with G the *slices*, one per sample and head.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from colgraph.ops._numba_vector import (
    LANES,
    fma,
    load,
    load_first,
    peek,
    prefetch,
    splat,
    store,
    store_first,
    store_sums,
)

__all__ = [
    "CHUNK",
    "COLUMN",
    "COLUMNS",
    "DEGREE",
    "FIRST",
    "SIZE",
    "SLOT",
    "form_group",
    "group_dots",
    "group_sums",
    "inlined",
    "workspace",
]

# Functions inside a kernel: put in place, or called. Both compile with the kernel and are cached with it.
_helper: dict[str, Any] = {"nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "error_model": "numpy"}
inlined: Any = njit(**_helper, forceinline=True)
_compiled: Any = njit(**_helper)

COLUMNS = 16  # of a group, at most
CHUNK = 64  # floats of each row that are packed at a time
_UNION = 96  # rows that are packed, at most: 24 KiB
_SLOTS = 64 * COLUMNS  # edges of a group, at most, if it has more than one column
_WORTH_PACKING = 2  # edges per row of the union, from which packing pays
_RECENT = 512  # rows met no longer ago than this many rows are taken to be in the cache still
_LONG_AGO = -(1 << 62)
_LINE = 16  # floats in a cache line
_HALF = CHUNK // 2
_ZERO = np.float32(0.0)


# A group is an array of integers (one array argument costs numba seven, and a structure of eight would cost a second of
# compilation at each call). It holds: how many columns, how many packed rows (0: rows are read in place) and how many
# fresh rows there are; where the next group starts, and the clock there; then, by column, which it is, where its edges
# start, how many they are, and where they start in all buffers; the union; and the fresh rows, those not met lately.
# Beside it, ``near`` says for each edge which packed row it reads, or, where nothing is packed, which column.
SIZE, _PACKED, _FRESH_ROWS, NEXT, _CLOCK = 0, 1, 2, 3, 4
COLUMN = 8
FIRST = COLUMN + COLUMNS
DEGREE = FIRST + COLUMNS
SLOT = DEGREE + COLUMNS
_ROWS = SLOT + COLUMNS
_FRESH = _ROWS + _UNION
_GROUP_LENGTH = _FRESH + _UNION


@inlined
def padded(count: int) -> int:
    """``count`` rounded up to whole vectors."""
    return (count + LANES - 1) // LANES * LANES


@inlined
def _aligned(size: int) -> np.ndarray:
    """Floats that start on a cache line: a vector across two lines takes twice as long to load."""
    room = np.empty(size + _LINE, np.float32)
    start = (-room.ctypes.data % (4 * _LINE)) // 4
    return room[start : start + size]


@_compiled
def workspace(order: np.ndarray, start: int, stop: int, indptr: np.ndarray) -> tuple[np.ndarray, ...]:
    """What a pass over the columns ``order[start:stop]`` needs.

    Returns:
        seen: ``[N]`` when each column was last met, by the clock.
        buffer: room for the packed rows.
        weight, grad: a float for each edge of a group.
        group, near, ahead, near_ahead: the present group, still empty, and the one after it.
    """
    slots = _SLOTS
    for position in range(start, stop):
        i = order[position]
        slots = max(slots, padded(indptr[i + 1] - indptr[i]))
    slots += LANES
    group = np.zeros(_GROUP_LENGTH, np.int64)
    ahead = np.zeros(_GROUP_LENGTH, np.int64)
    ahead[NEXT] = start
    near = np.empty(slots, np.int32)
    near_ahead = np.empty(slots, np.int32)
    seen = np.full(indptr.size, _LONG_AGO, np.int64)
    return seen, _aligned(_UNION * CHUNK), _aligned(slots), _aligned(slots), group, near, ahead, near_ahead


# ---------------------------------------------------------------------- forming groups


@_compiled
def form_group(
    group: np.ndarray,
    near: np.ndarray,
    before: np.ndarray,
    seen: np.ndarray,
    order: np.ndarray,
    stop: int,
    indptr: np.ndarray,
    neighbours: np.ndarray,
) -> None:
    """Fill ``group`` with the columns that come after the group ``before``; with none when all are done.

    The clock counts the rows of all unions before this one, so that a column is in the present union if it was seen at
    ``clock`` or later.
    """
    position, clock = before[NEXT], before[_CLOCK]
    size = slot = rows = edges = fresh = 0
    while size < COLUMNS and position + size < stop:
        i = order[position + size]
        first = indptr[i]
        count = indptr[i + 1] - first
        if slot + padded(count) > _SLOTS:
            break
        more, more_fresh = _extend_union(group, near, seen, clock, rows, fresh, neighbours, first, count, slot)
        if more < 0:
            break
        rows, fresh = more, more_fresh
        _append_column(group, near, size, i, first, count, slot)
        slot += padded(count)
        edges += count
        size += 1
    if size == 0 and position < stop:
        _one_column(group, near, order[position], indptr, neighbours)
        size, fresh = 1, 0
    group[_CLOCK] = clock + rows
    if edges < _WORTH_PACKING * rows:
        for e in range(slot):
            near[e] = group[_ROWS + near[e]]
        rows = 0
    group[SIZE], group[_PACKED], group[_FRESH_ROWS], group[NEXT] = size, rows, fresh, position + size


@inlined
def _extend_union(
    group: np.ndarray,
    near: np.ndarray,
    seen: np.ndarray,
    clock: int,
    rows: int,
    fresh: int,
    neighbours: np.ndarray,
    first: int,
    count: int,
    slot: int,
) -> tuple[int, int]:
    """Add a column's neighbours to the union; the numbers of rows and of fresh rows, or -1 if they do not fit."""
    before = rows
    for e in range(count):
        j = peek(neighbours, first + e)
        row = peek(seen, j) - clock
        if row < 0:
            if rows == _UNION:
                for u in range(before, rows):
                    seen[group[_ROWS + u]] = _LONG_AGO
                return -1, 0
            if row < -_RECENT:
                group[_FRESH + fresh] = j
                fresh += 1
            group[_ROWS + rows] = j
            seen[j] = clock + rows
            row = rows
            rows += 1
        near[slot + e] = row
    return rows, fresh


@inlined
def _append_column(group: np.ndarray, near: np.ndarray, t: int, i: int, first: int, count: int, slot: int) -> None:
    group[COLUMN + t], group[FIRST + t], group[DEGREE + t], group[SLOT + t] = i, first, count, slot
    for e in range(slot + count, slot + padded(count)):
        near[e] = near[slot + count - 1]  # what is computed there is thrown away


@inlined
def _one_column(group: np.ndarray, near: np.ndarray, i: int, indptr: np.ndarray, neighbours: np.ndarray) -> None:
    """A column with too many neighbours to pack is a group of its own."""
    first = indptr[i]
    count = indptr[i + 1] - first
    for e in range(count):
        near[e] = neighbours[first + e]
    _append_column(group, near, 0, i, first, count, 0)


# ---------------------------------------------------------------------- moving rows


def _make_copy(width: int) -> Any:
    @inlined
    def copy(rows: np.ndarray, stride: int, offset: int, group: np.ndarray, buffer: np.ndarray, at: int) -> None:
        for u in range(group[_PACKED]):
            store(buffer, u * CHUNK + at, load(rows, peek(group, _ROWS + u) * stride + offset + at, width))

    return copy


_copy_chunk, _copy_half, _copy_one = (_make_copy(width) for width in (CHUNK, _HALF, LANES))


@inlined
def _pack(rows: np.ndarray, stride: int, offset: int, width: int, group: np.ndarray, buffer: np.ndarray) -> None:
    """Put ``width <= CHUNK`` numbers of each row of the union side by side."""
    x = 0
    if width == CHUNK:
        _copy_chunk(rows, stride, offset, group, buffer, 0)
        x = CHUNK
    if width - x >= _HALF:
        _copy_half(rows, stride, offset, group, buffer, x)
        x += _HALF
    if width - x >= LANES:
        _copy_one(rows, stride, offset, group, buffer, x)
        x += LANES
    if width - x > 0:
        for u in range(group[_PACKED]):
            at = peek(group, _ROWS + u) * stride + offset + x
            store(buffer, u * CHUNK + x, load_first(rows, at, width - x, _ZERO))


@inlined
def _ask(rows: np.ndarray, at: int, width: int) -> None:
    for x in range(at, at + width, _LINE):
        prefetch(rows, x)


@inlined
def _ask_fresh(rows: np.ndarray, stride: int, offset: int, width: int, ahead: np.ndarray, t: int, size: int) -> None:
    """Column t's share, of ``size``, of the rows that the next group meets for the first time."""
    fresh = ahead[_FRESH_ROWS]
    for u in range(fresh * t // size, fresh * (t + 1) // size):
        _ask(rows, peek(ahead, _FRESH + u) * stride + offset, width)


# ---------------------------------------------------------------------- row against rows


@inlined
def _dots(
    own: np.ndarray,
    own_at: int,
    rows: np.ndarray,
    stride: int,
    offset: int,
    width: int,
    group: np.ndarray,
    near: np.ndarray,
    t: int,
    result: np.ndarray,
    add: bool,
) -> None:
    """``result[e] = own . rows[near[e]]`` over ``width`` numbers for the edges of column t, or ``+=``.

    Four neighbours at a time: each piece of ``own`` is loaded once for the four, whose sums are transposed together.
    """
    whole = width // LANES * LANES
    rest = width - whole
    slot = peek(group, SLOT + t)
    for e in range(slot, slot + peek(group, DEGREE + t), 4):
        a_at = peek(near, e) * stride + offset
        b_at = peek(near, e + 1) * stride + offset
        c_at = peek(near, e + 2) * stride + offset
        d_at = peek(near, e + 3) * stride + offset
        a = splat(_ZERO, LANES)
        b = splat(_ZERO, LANES)
        c = splat(_ZERO, LANES)
        d = splat(_ZERO, LANES)
        for x in range(0, whole, LANES):
            piece = load(own, own_at + x, LANES)
            a = fma(piece, load(rows, a_at + x, LANES), a)
            b = fma(piece, load(rows, b_at + x, LANES), b)
            c = fma(piece, load(rows, c_at + x, LANES), c)
            d = fma(piece, load(rows, d_at + x, LANES), d)
        if rest:
            piece = load_first(own, own_at + whole, rest, _ZERO)
            a = fma(piece, load_first(rows, a_at + whole, rest, _ZERO), a)
            b = fma(piece, load_first(rows, b_at + whole, rest, _ZERO), b)
            c = fma(piece, load_first(rows, c_at + whole, rest, _ZERO), c)
            d = fma(piece, load_first(rows, d_at + whole, rest, _ZERO), d)
        before = load(result, e, 4)
        store_sums(result, e, a, b, c, d)
        if add:
            store(result, e, before + load(result, e, 4))


@_compiled
def group_dots(
    own: np.ndarray,
    rows: np.ndarray,
    slices: int,
    g: int,
    width: int,
    group: np.ndarray,
    near: np.ndarray,
    ahead: np.ndarray,
    buffer: np.ndarray,
    result: np.ndarray,
) -> None:
    """``result[e] = own_i . rows_j`` in slice g for every edge ``j -> i`` of the group."""
    stride = slices * width
    size, packed = group[SIZE], group[_PACKED]
    for x in range(0, width, CHUNK):
        piece = min(CHUNK, width - x)
        offset = g * width + x
        table, table_stride, table_offset = rows, stride, offset
        if packed:
            _pack(rows, stride, offset, piece, group, buffer)
            table, table_stride, table_offset = buffer, CHUNK, 0
        for t in range(size):
            _ask_fresh(rows, stride, offset, piece, ahead, t, size)
            if t < ahead[SIZE]:
                _ask(own, ahead[COLUMN + t] * stride + offset, piece)
            at = group[COLUMN + t] * stride + offset
            _dots(own, at, table, table_stride, table_offset, piece, group, near, t, result, x > 0)


# ---------------------------------------------------------------------- sums of rows


def _make_sum(width: int) -> Any:
    """A sum over ``width`` numbers of each row, in registers over all neighbours."""

    @inlined
    def weighted_sum(
        weight: np.ndarray,
        factor: float,
        rows: np.ndarray,
        stride: int,
        offset: int,
        group: np.ndarray,
        near: np.ndarray,
        t: int,
        result: np.ndarray,
        result_at: int,
    ) -> None:
        slot = peek(group, SLOT + t)
        total = splat(_ZERO, width)
        for e in range(slot, slot + peek(group, DEGREE + t)):
            total = fma(splat(peek(weight, e), width), load(rows, peek(near, e) * stride + offset, width), total)
        store(result, result_at, total * splat(factor, width))

    return weighted_sum


_sum_chunk, _sum_half, _sum_one = (_make_sum(width) for width in (CHUNK, _HALF, LANES))


@inlined
def _sum_rest(
    weight: np.ndarray,
    factor: float,
    rows: np.ndarray,
    stride: int,
    offset: int,
    rest: int,
    group: np.ndarray,
    near: np.ndarray,
    t: int,
    result: np.ndarray,
    result_at: int,
) -> None:
    slot = peek(group, SLOT + t)
    total = splat(_ZERO, LANES)
    for e in range(slot, slot + peek(group, DEGREE + t)):
        row = load_first(rows, peek(near, e) * stride + offset, rest, _ZERO)
        total = fma(splat(peek(weight, e), LANES), row, total)
    store_first(result, result_at, rest, total * splat(factor, LANES))


@inlined
def _weighted_sum(
    weight: np.ndarray,
    factor: float,
    rows: np.ndarray,
    stride: int,
    offset: int,
    width: int,
    group: np.ndarray,
    near: np.ndarray,
    t: int,
    result: np.ndarray,
    result_at: int,
) -> None:
    """``result = factor * sum_e weight[e] rows[near[e]]`` over ``width <= CHUNK`` numbers for column t."""
    x = 0
    if width == CHUNK:
        _sum_chunk(weight, factor, rows, stride, offset, group, near, t, result, result_at)
        x = CHUNK
    if width - x >= _HALF:
        _sum_half(weight, factor, rows, stride, offset + x, group, near, t, result, result_at + x)
        x += _HALF
    if width - x >= LANES:
        _sum_one(weight, factor, rows, stride, offset + x, group, near, t, result, result_at + x)
        x += LANES
    if width - x > 0:
        _sum_rest(weight, factor, rows, stride, offset + x, width - x, group, near, t, result, result_at + x)


@_compiled
def group_sums(
    weight: np.ndarray,
    factor: np.ndarray,
    rows: np.ndarray,
    slices: int,
    g: int,
    width: int,
    group: np.ndarray,
    near: np.ndarray,
    ahead: np.ndarray,
    buffer: np.ndarray,
    still_packed: bool,
    result: np.ndarray,
) -> None:
    """``result_i = factor_i sum_j weight_ij rows_j`` in slice g for every column i of the group.

    ``still_packed``: the buffer holds these rows already, from the :func:`group_dots` just before.
    """
    stride = slices * width
    size, packed = group[SIZE], group[_PACKED]
    for x in range(0, width, CHUNK):
        piece = min(CHUNK, width - x)
        offset = g * width + x
        table, table_stride, table_offset = rows, stride, offset
        if packed:
            table, table_stride, table_offset = buffer, CHUNK, 0
            if not still_packed:
                _pack(rows, stride, offset, piece, group, buffer)
        for t in range(size):
            if not still_packed:
                _ask_fresh(rows, stride, offset, piece, ahead, t, size)
            if t < ahead[SIZE]:
                _ask(result, ahead[COLUMN + t] * stride + offset, piece)
            at = group[COLUMN + t] * stride + offset
            _weighted_sum(weight, factor[t], table, table_stride, table_offset, piece, group, near, t, result, at)
