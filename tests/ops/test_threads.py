"""Pieces of work on threads."""

from __future__ import annotations

import os
import sys
import threading

import pytest
import torch

from colgraph.ops import _threads
from colgraph.ops._threads import run_pieces


@pytest.fixture
def region(monkeypatch):
    """Torch's threads, whatever the environment says."""
    if sys.platform != "linux" or not torch.backends.openmp.is_available():
        pytest.skip("needs a torch for Linux with OpenMP")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    found = _threads._parallel_region.__wrapped__()
    assert found is not None, "torch's OpenMP runtime was not found"
    monkeypatch.setattr(_threads, "_parallel_region", lambda: found)


@pytest.fixture
def pool(monkeypatch):
    """Python's threads."""
    monkeypatch.setattr(_threads, "_parallel_region", lambda: None)


@pytest.fixture(params=["region", "pool"])
def whose(request):
    """On whose threads the pieces run."""
    request.getfixturevalue(request.param)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("pieces", [0, 1, 2, 17])
def test_every_piece_is_done_once(whose, pieces, threads):
    done = []
    run_pieces(done.append, pieces, threads)
    assert sorted(done) == list(range(pieces))


def test_pieces_run_at_the_same_time(whose):
    both = threading.Barrier(2, timeout=20)
    run_pieces(lambda piece: both.wait() and None, 2, 2)


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_reaches_the_caller(whose, threads):
    def work(piece: int) -> None:
        if piece == 5:
            raise ZeroDivisionError("piece 5")

    with pytest.raises(ZeroDivisionError, match="piece 5"):
        run_pieces(work, 9, threads)


def test_an_error_on_a_helper_reaches_the_caller(whose):
    both = threading.Barrier(2, timeout=20)
    caller = threading.get_ident()

    def work(piece: int) -> None:
        both.wait()
        if threading.get_ident() != caller:
            raise KeyError("helper")

    with pytest.raises(KeyError, match="helper"):
        run_pieces(work, 2, 2)


def test_no_more_threads_than_asked_for(whose):
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        seen = set()
        run_pieces(lambda piece: seen.add(threading.get_ident()) or torch.rand(100).sort(), 50, 2)
    finally:
        torch.set_num_threads(threads)
    assert 1 <= len(seen) <= 2


def test_torchs_own_threads_are_used(region):
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        torch.ones(2**20).add_(1)  # its threads are there now
        before = os.listdir("/proc/self/task")
        together = threading.Barrier(3, timeout=20)
        run_pieces(lambda piece: together.wait() and None, 3, 3)
        assert os.listdir("/proc/self/task") == before
    finally:
        torch.set_num_threads(threads)


def test_sleeping_threads_are_not_waited_for(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    assert _threads._parallel_region.__wrapped__() is None


def test_no_threads_to_be_had_is_no_error(pool, monkeypatch):
    class Exhausted:
        def __init__(self, *args, **kwargs) -> None: ...

        def submit(self, work):
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_threads, "ThreadPoolExecutor", Exhausted)
    monkeypatch.setattr(_threads, "_pool", None)
    done = []
    run_pieces(done.append, 4, 3)
    assert sorted(done) == [0, 1, 2, 3]
