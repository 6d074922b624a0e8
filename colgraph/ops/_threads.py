"""Deal pieces of work out to threads, for kernels that release the GIL.

Torch's operators run on the threads of an OpenMP runtime, which by default go on spinning for milliseconds after each.
Kernels on other threads would share the cores with those, so they run on the very same threads, as a parallel region of
the runtime that torch is linked with. Where that cannot be had, or would be a disadvantage, they run on plain Python
threads:

* ``OMP_WAIT_POLICY=PASSIVE`` puts torch's threads to sleep instead. A region then waits for all of them to wake, while
  Python threads that come too late are not waited for.
* In a forked child the runtime's threads do not exist, and GNU's waits for them for ever.
* Torch may be linked with no OpenMP, or with one that has no ``GOMP_parallel``.

Numba's own threading layers are no choice: they abort the process after a fork (OpenMP) or when two Python threads
enter at once (workqueue), and are one setting for the whole process. Both ways here may be used from any thread.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from colgraph.torch_internals import parallel_region

_WORTH_A_THREAD = 500_000  # multiply-adds: below, waking a thread costs more than it saves

_MOST_THREADS = 4096  # that the pool may start, which it does only where none is idle
_pool: ThreadPoolExecutor | None = None
_forked = False


def _after_fork() -> None:
    """In a forked child: the parent's threads do not exist here."""
    global _pool, _forked
    _pool, _forked = None, True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def worth_waking(multiply_adds: int) -> int:
    """How many of torch's threads so much work is worth, this one included."""
    return max(1, min(torch.get_num_threads(), multiply_adds // _WORTH_A_THREAD))


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

    region = None if _forked else _parallel_region()
    if region is not None:
        _run_in_region(region, take, threads)
    else:
        _run_in_pool(take, threads)


# ---------------------------------------------------------------------- torch's threads


@functools.cache
def _parallel_region() -> Any:
    """See :func:`colgraph.torch_internals.parallel_region`; None to do without."""
    passive = os.environ.get("OMP_WAIT_POLICY", "").strip().lower() == "passive"
    return None if passive else parallel_region()


def _run_in_region(region: Any, take: Callable[[], None], threads: int) -> None:
    """``take`` on so many threads of a region. It has all that torch uses: the runtime would end those left out."""
    arrived = itertools.count()
    errors: list[BaseException] = []

    def body() -> None:
        try:
            if next(arrived) < threads:
                take()
        except BaseException as error:  # nothing may leave a callback
            errors.append(error)

    region(body, max(threads, torch.get_num_threads()))
    if errors:
        raise errors[0]


# ---------------------------------------------------------------------- Python's threads


def _submit(work: Callable[[], None], helpers: int) -> list[Future[None]]:
    """Start ``work`` on so many threads of the pool, which grows as needed; on fewer if the system gives no more."""
    global _pool
    futures: list[Future[None]] = []
    if _pool is None:
        _pool = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="colgraph")
    with contextlib.suppress(RuntimeError):  # no more threads can be started, or the interpreter is shutting down
        for _ in range(helpers):
            futures.append(_pool.submit(work))
    return futures


def _run_in_pool(take: Callable[[], None], threads: int) -> None:
    """``take`` on this thread and ``threads - 1`` of the pool."""
    helpers = _submit(take, threads - 1)
    try:
        take()
    finally:
        # A helper that has not started by now finds nothing to do: no need to wait for it.
        started = [helper for helper in helpers if not helper.cancel()]
        errors = [error for helper in started if (error := helper.exception()) is not None]
    if errors:
        raise errors[0]
