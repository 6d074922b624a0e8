"""The vectors under backend "numba": each function against numpy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numba import njit

from colgraph.ops._numba_groups import row_at
from colgraph.ops._numba_vector import (
    LANES,
    end_of,
    exp,
    fma,
    keep_first,
    largest_lane,
    load,
    load_first,
    maximum,
    poke,
    splat,
    store,
    store_first,
    store_sums,
    sum_lanes,
    take_number,
)


@njit
def _exponential(x, out):
    for i in range(0, x.size, LANES):
        store(out, i, exp(load(x, i, LANES)))


def _exp(values: np.ndarray) -> np.ndarray:
    x = np.zeros(-(-values.size // LANES) * LANES, np.float32)
    x[: values.size] = values
    out = np.empty_like(x)
    _exponential(x, out)
    return out[: values.size]


def test_exponential_is_within_two_units_in_the_last_place():
    x = np.linspace(-87, 88, 200_001).astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    unit = np.spacing(exact.astype(np.float32)).astype(np.float64)
    assert np.abs((_exp(x) - exact) / unit).max() <= 2


@pytest.mark.parametrize(
    ("x", "expected"), [(0.0, 1.0), (-0.0, 1.0), (-87.5, 0.0), (-1e30, 0.0), (-np.inf, 0.0), (np.nan, np.nan)]
)
def test_exponential_of_special_values(x, expected):
    np.testing.assert_array_equal(_exp(np.array([x], np.float32)), np.float32(expected))


@njit
def _first(source, count, filling, target):
    store(target, 0, load_first(source, 0, count, filling, LANES))
    store_first(target, LANES, count, splat(np.float32(7), LANES))


@pytest.mark.parametrize("count", range(17))
def test_partial_loads_and_stores(count):
    source = np.arange(1, 17, dtype=np.float32)
    target = np.full(2 * LANES, -1, np.float32)
    _first(source, count, np.float32(5), target)
    lane = np.arange(16)
    np.testing.assert_array_equal(target[:16], np.where(lane < count, source, 5))
    np.testing.assert_array_equal(target[16:], np.where(lane < count, 7, -1))


@njit
def _ends(source, count, filling, target):
    store(target, 0, end_of(source, 0, count))
    store(target, LANES, keep_first(load(source, 0, LANES), count, filling))


@pytest.mark.parametrize("count", range(16))
def test_ends_of_rows(count):
    """As a masked load, where no mask is needed too; and lanes that hold no number are left out."""
    source = np.arange(1, 17, dtype=np.float32)
    source[count:] = np.nan
    target = np.full(2 * LANES, -1, np.float32)
    _ends(source, count, np.float32(-np.inf), target)
    lane = np.arange(16)
    np.testing.assert_array_equal(target[:16], np.where(lane < count, source, 0))
    np.testing.assert_array_equal(target[16:], np.where(lane < count, source, -np.inf))


def test_poke_writes_one_number_of_the_array_s_type():
    @njit
    def write(array, index, value):
        poke(array, index, np.int32(value))

    array = np.arange(4, dtype=np.int32)
    write(array, 2, 9)
    assert array.tolist() == [0, 1, 9, 3]


@njit
def _sums(x, out):
    a, b, c, d = load(x, 0, LANES), load(x, LANES, LANES), load(x, 2 * LANES, LANES), load(x, 3 * LANES, LANES)
    store_sums(out, 1, a, b, c, d)


def test_four_sums_at_once():
    x = np.random.default_rng(0).integers(-99, 99, (4, LANES)).astype(np.float32)
    out = np.zeros(6, np.float32)
    _sums(x.ravel(), out)
    np.testing.assert_array_equal(out, [0, *x.sum(1), 0])


@njit
def _arithmetic(x, y, out):
    a, b = load(x, 0, 64), load(y, 0, 64)
    store(out, 0, fma(a, b, a - b) + maximum(a, b) * splat(np.float32(2), 64))
    return sum_lanes(a), largest_lane(b)


def test_arithmetic_on_vectors_wider_than_a_register():
    x, y = np.random.default_rng(0).integers(-9, 9, (2, 64)).astype(np.float32)
    out = np.empty(64, np.float32)
    total, largest = _arithmetic(x, y, out)
    np.testing.assert_array_equal(out, x * y + (x - y) + np.maximum(x, y) * 2)
    assert total == x.sum()
    assert largest == y.max()


@njit
def _row_at(near, stride, offset):
    return row_at(near, 0, stride, offset)


def test_addresses_are_64_bits_wide():
    column, stride, offset = 2**31 - 1, 2**20 + 3, 2**33 + 5
    assert _row_at(np.array([column], np.int32), stride, offset) == column * stride + offset


@njit(nogil=True)
def _take(counter, taken):
    number = take_number(counter)
    while number < taken.size:
        taken[number] += 1
        number = take_number(counter)


def test_each_number_is_taken_by_one_thread():
    counter, taken = np.zeros(1, np.int64), np.zeros(200_000, np.int64)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: _take(counter, taken), range(4)))
    assert (taken == 1).all()
    assert counter[0] == taken.size + 4
