"""Groups of columns, and the two sums over their neighbors that all attention kernels are made of.

Columns that follow each other in kd order share most of their neighbors. A *group* is a run of them that is worked on
together, a piece of :data:`CHUNK` numbers of each row at a time, so that what one column has brought into the cache
serves the others. While a group is worked on, memory is asked for the rows that the group after it will meet for the
first time: waiting for them would take as long as all arithmetic.

Rows of a column lie together: arrays are ``[N,G,width]``, flattened, with G the *slices*, one per sample and head.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from colgraph.ops._numba_cache import compiled, inlined
from colgraph.ops._numba_vector import (
    LANES,
    at_once,
    end_of,
    fetch,
    first_of,
    fma,
    load,
    peek,
    poke,
    splat,
    store,
    store_past,
    store_sums,
    take_number,
)
from colgraph.ops._processor import PAST_CACHES

COLUMNS = 16  # of a group, at most
CHUNK = 64  # numbers of a row that are worked on at a time; their sum stays in registers
_SLOTS = 64 * COLUMNS  # edges of a group, at most, if it has more than one column
_FRESH_MOST = 16 * COLUMNS  # rows that are asked for ahead of a group, at most
_PACKED_MOST = 12 * COLUMNS  # rows of a group that are packed, at most
_SHARED = 2  # edges that a packed row must serve to be worth it, on average
RECENT = 16  # rows met no longer ago than this many groups are taken to be in the cache still
_LINE = 16  # floats in a cache line
_PERIOD = 1024  # floats after which lines fall on the same set of a first-level cache
_HALF = CHUNK // 2
_LONG = 2 * CHUNK  # the same for dot products, where the end of each piece costs more
_ZERO = np.float32(0.0)


class Edges(NamedTuple):
    """One direction of a layout: columns in the order of work, and for each its edges and who is at their other end.

    ``fresh[fresh_indptr[p] : fresh_indptr[p + 1]]`` are the columns that the one at place p of the order has an edge to
    and those just before it had none to: their rows are not in the cache yet.
    """

    order: np.ndarray
    indptr: np.ndarray
    neighbors: np.ndarray
    fresh: np.ndarray
    fresh_indptr: np.ndarray


# A group is an array of integers (an array argument costs numba seven values, a structure of arrays a second of
# compilation at every call). It holds how many columns there are, how many fresh rows, not met lately, the group has,
# where the next group starts, its own serial number, how many rows it meets in all, if it can pack them (or 0), and
# where its piece of the columns stops; then, by column, which it is, where its edges start, how many they are, and
# where they start in all buffers; then the fresh rows, and all rows. Beside it, ``near [2,slots]`` says for each edge
# which column is at its other end, and, where rows are packed, which of the group's rows that is.
SIZE, _FRESH_ROWS, NEXT, _SERIAL, _ROWS, _STOP = 0, 1, 2, 3, 4, 5
COLUMN = 8
FIRST = COLUMN + COLUMNS
DEGREE = FIRST + COLUMNS
SLOT = DEGREE + COLUMNS
_FRESH = SLOT + COLUMNS
_MET = _FRESH + _FRESH_MOST
_GROUP_LENGTH = _MET + _PACKED_MOST


@inlined
def padded(count: int) -> int:
    """``count`` rounded up to whole vectors."""
    return (count + LANES - 1) // LANES * LANES


@inlined
def _in_fours(count: int) -> int:
    """``count`` rounded up to whole fours: products are taken four at a time, and what is too much is thrown away."""
    return (count + 3) // 4 * 4


@inlined
def _aligned(size: int) -> np.ndarray:
    """Floats that start on a cache line: a vector across two lines takes twice as long to load."""
    room = np.empty(size + _LINE, np.float32)
    start = (-room.ctypes.data % (4 * _LINE)) // 4
    return room[start : start + size]


@compiled
def workspace(indptr: np.ndarray) -> tuple[np.ndarray, ...]:
    """What a thread needs for a pass over columns.

    Returns:
        seen: ``[2,N]`` the serial number of the group that last met each column, and which of its rows that was; looked
            at where rows are packed.
        packed: room for a piece of each row of a group.
        weight, grad: a float for each edge of a group.
        group, near, ahead, near_ahead: the present group, still empty, and the one after it.
    """
    slots = _SLOTS
    for i in range(indptr.size - 1):
        slots = max(slots, padded(indptr[i + 1] - indptr[i]))
    slots += LANES
    group = np.zeros(_GROUP_LENGTH, np.int64)
    ahead = np.zeros(_GROUP_LENGTH, np.int64)
    near = np.empty((2, slots), np.int32)
    near_ahead = np.empty((2, slots), np.int32)
    seen = np.zeros((2, indptr.size), np.int32)
    packed = _aligned(_PACKED_MOST * _LONG)
    return seen, packed, _aligned(slots), _aligned(slots), group, near, ahead, near_ahead


# ---------------------------------------------------------------------- forming groups


@inlined
def packs(slices: int, width: int, other_width: int) -> bool:
    """Whether rows of one of these widths are so far apart that :func:`_gather` packs them."""
    return slices * width % _PERIOD == 0 or slices * other_width % _PERIOD == 0


@compiled
def form_group(
    group: np.ndarray,
    near: np.ndarray,
    before: np.ndarray,
    seen: np.ndarray,
    pieces: np.ndarray,
    edges: Edges,
    pack: bool,
) -> None:
    """Fill ``group`` with the columns that come after the group ``before``; with none when all are done.

    Where its piece of the columns ends, the next one that no thread has taken follows. ``pieces`` is a counter, then
    where they start and stop.
    """
    order, indptr, neighbors, fresh, fresh_indptr = edges
    position, stop, serial = before[NEXT], before[_STOP], before[_SERIAL] + 1
    while position >= stop:
        piece = take_number(pieces)
        if piece + 2 >= pieces.size:
            break
        position, stop = pieces[piece + 1], pieces[piece + 2]
    size = slot = 0
    column = near[0]
    while size < COLUMNS and position + size < stop:
        i = order[position + size]
        first = indptr[i]
        count = indptr[i + 1] - first
        if size and slot + padded(count) > _SLOTS:
            break
        for e in range(count):
            poke(column, slot + e, np.int32(peek(neighbors, first + e)))
        for e in range(slot + count, slot + _in_fours(count)):
            column[e] = column[slot + count - 1]
        group[COLUMN + size], group[FIRST + size], group[DEGREE + size], group[SLOT + size] = i, first, count, slot
        slot += padded(count)
        size += 1
    from_here = fresh_indptr[position]
    group[_FRESH_ROWS] = min(fresh_indptr[position + size] - from_here, _FRESH_MOST)
    for u in range(group[_FRESH_ROWS]):
        group[_FRESH + u] = fresh[from_here + u]
    group[SIZE], group[_SERIAL] = size, serial
    group[NEXT], group[_STOP] = position + size, stop
    group[_ROWS] = _number_rows(group, near, seen) if pack else 0


@compiled
def _number_rows(group: np.ndarray, near: np.ndarray, seen: np.ndarray) -> int:
    """Give the rows that the group meets a number each; how many they are, or 0 where they are not to be packed."""
    column, row = near
    when, place = seen
    serial = np.int32(group[_SERIAL])
    met = edges = 0
    for t in range(group[SIZE]):
        slot, count = group[SLOT + t], group[DEGREE + t]
        for e in range(slot, slot + count):
            j = peek(column, e)
            if peek(when, j) != serial:
                if met < _PACKED_MOST:
                    group[_MET + met] = j
                poke(when, j, serial)
                poke(place, j, np.int32(met))
                met += 1
            poke(row, e, peek(place, j))
        for e in range(slot + count, slot + _in_fours(count)):
            row[e] = row[slot + count - 1]
        edges += count
    return met if met <= _PACKED_MOST and edges >= _SHARED * met else 0


@inlined
def _ask_fresh(rows: np.ndarray, stride: int, offset: int, width: int, ahead: np.ndarray, t: int, size: int) -> None:
    """Column t's share, of ``size``, of the rows that the next group meets for the first time."""
    fresh = ahead[_FRESH_ROWS]
    for u in range(fresh * t // size, fresh * (t + 1) // size):
        fetch(rows, peek(ahead, _FRESH + u) * stride + offset, width)


@inlined
def _gather(
    rows: np.ndarray, stride: int, offset: int, width: int, group: np.ndarray, near: np.ndarray, packed: np.ndarray
) -> tuple[np.ndarray, int, int, np.ndarray]:
    """Where the group's rows are to be read: the array, the distance of rows, where a piece begins, and who is where.

    Rows a multiple of the cache's period apart, as those of most powers of two are, fall on a few lines of the cache
    and drive each other out. Then a piece of each is copied to one place first.
    """
    count = group[_ROWS]
    if stride % _PERIOD or count == 0:
        return rows, stride, offset, near[0]
    for u in range(count):
        at = peek(group, _MET + u) * stride + offset
        for x in range(0, width, LANES):
            store(packed, u * _LONG + x, first_of(rows, at + x, width - x))
    return packed, _LONG, 0, near[1]


@inlined
def row_at(near: np.ndarray, e: int, stride: int, offset: int) -> np.int64:
    """Where the row at the other end of edge e starts, in 64 bits."""
    return np.int64(peek(near, e)) * stride + offset


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

    Four neighbors at a time: each piece of ``own`` is loaded once for the four, whose sums are transposed together.
    """
    whole = width // LANES * LANES
    rest = width - whole
    slot = peek(group, SLOT + t)
    for e in range(slot, slot + peek(group, DEGREE + t), 4):
        a_at = row_at(near, e, stride, offset)
        b_at = row_at(near, e + 1, stride, offset)
        c_at = row_at(near, e + 2, stride, offset)
        d_at = row_at(near, e + 3, stride, offset)
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
            piece = end_of(own, own_at + whole, rest)
            a = fma(piece, end_of(rows, a_at + whole, rest), a)
            b = fma(piece, end_of(rows, b_at + whole, rest), b)
            c = fma(piece, end_of(rows, c_at + whole, rest), c)
            d = fma(piece, end_of(rows, d_at + whole, rest), d)
        before = load(result, e, 4)
        store_sums(result, e, a, b, c, d)
        if add:
            store(result, e, before + load(result, e, 4))


@compiled
def group_dots(
    own: np.ndarray,
    rows: np.ndarray,
    slices: int,
    g: int,
    width: int,
    group: np.ndarray,
    near: np.ndarray,
    ahead: np.ndarray,
    packed: np.ndarray,
    result: np.ndarray,
) -> None:
    """``result[e] = own_i . rows_j`` in slice g for every edge ``j -> i`` of the group."""
    stride = slices * width
    size = group[SIZE]
    for x in range(0, width, _LONG):
        piece = min(_LONG, width - x)
        offset = g * width + x
        block, apart, first, places = _gather(rows, stride, offset, piece, group, near, packed)
        for t in range(size):
            _ask_fresh(rows, stride, offset, piece, ahead, t, size)
            if t < ahead[SIZE]:
                fetch(own, ahead[COLUMN + t] * stride + offset, piece)
            at = group[COLUMN + t] * stride + offset
            _dots(own, at, block, apart, first, piece, group, places, t, result, x > 0)


# ---------------------------------------------------------------------- sums of rows


def _make_sum(width: int) -> Any:
    """A sum over ``width`` numbers of each row (``rest``, if fewer are left), in registers over all neighbors."""
    take, put = at_once(width, width == LANES)
    if width == LANES:
        take = inlined(lambda row, at, count: load(row, at, LANES) if count >= LANES else end_of(row, at, count))

    @inlined
    def weighted_sum(
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
        past: bool,
    ) -> None:
        slot = peek(group, SLOT + t)
        total = splat(_ZERO, width)
        for e in range(slot, slot + peek(group, DEGREE + t)):
            total = fma(splat(peek(weight, e), width), take(rows, row_at(near, e, stride, offset), rest), total)
        if past:
            store_past(result, result_at, total * splat(factor, width))
        else:
            put(result, result_at, rest, total * splat(factor, width))

    return weighted_sum


_sum_chunk, _sum_half, _sum_one = (_make_sum(width) for width in (CHUNK, _HALF, LANES))


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
    past: bool,
) -> None:
    """``result = factor * sum_e weight[e] rows[near[e]]`` over ``width <= CHUNK`` numbers for column t."""
    x = 0
    if width == CHUNK:
        _sum_chunk(weight, factor, rows, stride, offset, CHUNK, group, near, t, result, result_at, past)
        x = CHUNK
    if width - x >= _HALF:
        _sum_half(weight, factor, rows, stride, offset + x, _HALF, group, near, t, result, result_at + x, False)
        x += _HALF
    while width - x > 0:
        rest = width - x
        _sum_one(weight, factor, rows, stride, offset + x, rest, group, near, t, result, result_at + x, False)
        x += LANES


@compiled
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
    packed: np.ndarray,
    ask: bool,
    result: np.ndarray,
) -> None:
    """``result_i = factor_i sum_j weight_ij rows_j`` in slice g for every column i of the group.

    ``ask``: for the rows that the next group will need; False where :func:`group_dots` has just done so. A large result
    is written past the caches, which spares reading what was in its place; it begins at a cache line
    (:func:`colgraph.ops._memory.empty_array`).
    """
    stride = slices * width
    size = group[SIZE]
    large = result.size >= PAST_CACHES and width % _LINE == 0
    for x in range(0, width, CHUNK):
        piece = min(CHUNK, width - x)
        past = large and piece == CHUNK
        offset = g * width + x
        block, apart, first, places = _gather(rows, stride, offset, piece, group, near, packed)
        for t in range(size):
            if ask:
                _ask_fresh(rows, stride, offset, piece, ahead, t, size)
            if t < ahead[SIZE] and not past:
                fetch(result, ahead[COLUMN + t] * stride + offset, piece)
            at = group[COLUMN + t] * stride + offset
            _weighted_sum(weight, factor[t], block, apart, first, piece, group, places, t, result, at, past)
