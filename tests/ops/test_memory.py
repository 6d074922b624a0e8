"""Memory used again from step to step: never while someone holds it, and never without bound."""

from __future__ import annotations

import gc
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import colgraph as cg
from colgraph.ops import _memory
from colgraph.ops._memory import empty

SIZE = 2**15


@pytest.fixture(autouse=True)
def nothing_kept():
    _memory._free.clear()
    yield
    _memory._free.clear()


@pytest.mark.parametrize("size", [SIZE, 2**18, 2**19 + 1])
def test_memory_of_a_tensor_that_is_gone_serves_the_next_of_its_size(size):
    first = empty(2, size).fill_(1)
    place = first.data_ptr()
    assert place % 64 == 0
    assert empty(size, 2).data_ptr() != place, "it is still in use"
    view = first[1]
    del first
    gc.collect()
    assert empty(2 * size).data_ptr() != place, "a view is still in use"
    assert float(view.sum()) == size
    del view
    gc.collect()
    assert empty(size, 2).data_ptr() == place


def test_numbers_stay_while_others_come_and_go():
    kept = [empty(SIZE).fill_(i) for i in range(20)]
    for i in range(200):
        empty(SIZE).fill_(-1)
        if i % 10 == 0:
            kept[i // 10] = empty(SIZE).fill_(i // 10)
    assert all(bool((tensor == i).all()) for i, tensor in enumerate(kept))


def test_no_two_threads_get_the_same_memory():
    def work(number: int) -> bool:
        right = True
        for _ in range(100):
            tensor = empty(SIZE).fill_(number)
            right &= bool((tensor == number).all())
        return right

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8)))


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(_memory, "KEPT_BYTES", 5 * 4 * SIZE)
    tensors = [empty(SIZE) for _ in range(10)]
    newest = tensors[-1].data_ptr()
    while tensors:
        tensors.pop(0)
    gc.collect()
    assert 0 < sum(room.nbytes for room in _memory._free) <= _memory.KEPT_BYTES
    assert empty(SIZE).data_ptr() == newest


def test_what_was_longest_unused_makes_room_for_other_sizes():
    tensors = [empty(SIZE) for _ in range(4)]
    while tensors:
        tensors.pop(0)
    gc.collect()
    held = sum(room.nbytes for room in _memory._free)
    other = empty(2 * SIZE)
    assert sum(room.nbytes for room in _memory._free) + other.nbytes <= held
    cg.ops.empty_cache()
    assert _memory._free == []


def test_whoever_cannot_look_gets_fresh_memory():
    tensor = empty(SIZE)
    with _memory._lock:
        other = empty(SIZE)
        assert other.data_ptr() != tensor.data_ptr()
        del tensor
        gc.collect()
    assert _memory._free == []


def test_small_and_empty_tensors():
    assert empty(0).shape == (0,)
    assert empty(3, 0, 2).shape == (3, 0, 2)
    assert empty(2, 3).dtype == torch.float32
    assert empty().shape == ()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_forked_while_memory_was_being_given_back_is_not_blocked():
    with _memory._lock:
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            cg.ops.empty_cache()
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
