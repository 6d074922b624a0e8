"""Deal pieces of work out to threads, for kernels that release the GIL.

Plain Python threads, not numba's threading layer: that one aborts the process after a fork (GNU OpenMP) or when two
Python threads enter it at once (workqueue), and it is one setting for the whole process. These start on first use, may
be used from any thread, and are forgotten in a forked child, which starts its own.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["run_pieces"]

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0


def _forget_pool() -> None:
    """In a forked child: the parent's threads do not exist here, and its lock may be held for ever."""
    global _lock, _pool, _pool_size
    _lock, _pool, _pool_size = threading.Lock(), None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _submit(work: Callable[[], None], helpers: int) -> list[Future[None]]:
    """Start ``work`` on so many threads of the pool, which grows as needed; on fewer if the system gives no more."""
    global _pool, _pool_size
    futures: list[Future[None]] = []
    with _lock:
        if _pool is None or _pool_size < helpers:
            if _pool is not None:
                _pool.shutdown(wait=False)
            _pool, _pool_size = ThreadPoolExecutor(helpers, thread_name_prefix="colgraph"), helpers
        with contextlib.suppress(RuntimeError):  # no more threads can be started, or the interpreter is shutting down
            for _ in range(helpers):
                futures.append(_pool.submit(work))
    return futures


def run_pieces(work: Callable[[int], None], pieces: int, threads: int) -> None:
    """Call ``work(piece)`` for every piece in ``range(pieces)``, on at most ``threads`` threads, this one included.

    Whoever is free takes the next piece. Returns when all are done; the first exception is raised.
    """
    threads = min(threads, pieces)
    if threads <= 1:
        for piece in range(pieces):
            work(piece)
        return
    taken = itertools.count()  # next() on it is atomic under the GIL

    def take() -> None:
        while (piece := next(taken)) < pieces:
            work(piece)

    helpers = _submit(take, threads - 1)
    try:
        take()
    finally:
        # A helper that has not started by now finds nothing to do: no need to wait for it.
        started = [helper for helper in helpers if not helper.cancel()]
        errors = [error for helper in started if (error := helper.exception()) is not None]
    if errors:
        raise errors[0]
