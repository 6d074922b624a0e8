"""Pieces of work on threads."""

from __future__ import annotations

import threading

import pytest

from colgraph.ops import _threads
from colgraph.ops._threads import run_pieces


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("pieces", [0, 1, 2, 17])
def test_every_piece_is_done_once(pieces, threads):
    done = []
    run_pieces(done.append, pieces, threads)
    assert sorted(done) == list(range(pieces))


def test_pieces_run_at_the_same_time():
    both = threading.Barrier(2, timeout=20)
    run_pieces(lambda piece: both.wait() and None, 2, 2)


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_reaches_the_caller(threads):
    def work(piece: int) -> None:
        if piece == 5:
            raise ZeroDivisionError("piece 5")

    with pytest.raises(ZeroDivisionError, match="piece 5"):
        run_pieces(work, 9, threads)


def test_an_error_on_a_helper_reaches_the_caller():
    both = threading.Barrier(2, timeout=20)
    caller = threading.get_ident()

    def work(piece: int) -> None:
        both.wait()
        if threading.get_ident() != caller:
            raise KeyError("helper")

    with pytest.raises(KeyError, match="helper"):
        run_pieces(work, 2, 2)


def test_no_threads_to_be_had_is_no_error(monkeypatch):
    class Exhausted:
        def __init__(self, *args, **kwargs) -> None: ...

        def submit(self, work):
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_threads, "ThreadPoolExecutor", Exhausted)
    monkeypatch.setattr(_threads, "_pool", None)
    done = []
    run_pieces(done.append, 4, 3)
    assert sorted(done) == [0, 1, 2, 3]
