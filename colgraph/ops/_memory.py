"""Memory that kernels write, used again from step to step."""

from __future__ import annotations

import math
import mmap
import os
import threading
import weakref

import numpy as np
import torch
from torch import Tensor


def _memory_of_the_machine() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 0


KEPT_BYTES = max(2**29, _memory_of_the_machine() // 4)
"""How much memory, at most, waits to be used again."""

_LINE = 16  # floats in a cache line
_SMALL = 2**14  # floats: the allocator's own memory serves these well

_LARGE = 2**18  # floats: worth huge pages
_HUGE_PAGE = 2**21  # bytes
_free: list[np.ndarray] = []  # the longest unused first
_lent: dict[int, _Loan] = {}  # what watches over memory in use, which nothing else holds
# Kernels never wait for it: who does not get it does without. So neither a fork nor a collection of garbage can block.
_lock = threading.Lock()


def _forget_lock() -> None:
    """In a forked child: the thread that may have held it does not exist there."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lock)


class _Loan(weakref.ref):  # type: ignore[type-arg]
    """Notices that an array is gone. ``weakref.finalize`` does the same in twice the time."""

    __slots__ = ("room",)

    room: np.ndarray


def empty(*shape: int) -> Tensor:
    """A new float32 tensor on the CPU, not yet written; see :func:`empty_array`."""
    return torch.from_numpy(empty_array(*shape))


def empty_array(*shape: int) -> np.ndarray:
    """A new float32 array, not yet written, that begins at a cache line.

    Fresh memory comes in pages that the system clears one by one when they are touched, which takes longer than most
    kernels; and whether an allocator hands freed memory back to the system is a matter of luck. So memory of arrays
    that are gone is kept, :data:`KEPT_BYTES` of it, for others of the same size, as torch does on GPUs; where there is
    none of that size, what was longest unused makes room.

    Hold the array itself, or a tensor made of it: it is taken to be gone when only numpy's views of it are left.
    """
    size = math.prod(shape)
    if size < _SMALL:
        return torch.empty(shape, dtype=torch.float32).numpy()
    room = _take(size)
    array = room.reshape(shape)  # another view of it, to be seen going
    loan = _Loan(array, _give_back)
    loan.room = room
    _lent[id(loan)] = loan
    return array


def begins_at_line(tensor: Tensor) -> bool:
    """Whether a tensor begins at a cache line, as those of :func:`empty` do."""
    return tensor.data_ptr() % (4 * _LINE) == 0


def empty_cache() -> None:
    """Give the memory that waits to be used again back to the system, as ``torch.cuda.empty_cache`` does on GPUs."""
    with _lock:
        _free.clear()


def _take(size: int) -> np.ndarray:
    if _lock.acquire(blocking=False):
        try:
            for place in reversed(range(len(_free))):
                if _free[place].size == size:
                    return _free.pop(place)
            make_room = size
            while _free and make_room > 0:
                make_room -= _free.pop(0).size
        finally:
            _lock.release()
    return _fresh(size)


def _fresh(size: int) -> np.ndarray:
    """Memory from the system, where it can in huge pages, which spare kernels the search for where small ones are."""
    if size < _LARGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        room = np.empty(size + _LINE, np.float32)
        first = -room.ctypes.data % (4 * _LINE) // 4
        return room[first : first + size]
    pages = mmap.mmap(-1, -(-4 * size // _HUGE_PAGE) * _HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, np.float32, size)


def _give_back(loan: _Loan) -> None:
    room = _lent.pop(id(loan)).room
    if _lock.acquire(blocking=False):
        try:
            _free.append(room)
            kept = sum(each.nbytes for each in _free)
            while kept > KEPT_BYTES:
                kept -= _free.pop(0).nbytes
        finally:
            _lock.release()
