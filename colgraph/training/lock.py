"""One process writes to a run folder at a time, and whoever else comes is told which."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from colgraph.training.errors import UnwritableRunError

LOCK_NAME = ".lock"

_TAKEN = (errno.EACCES, errno.EAGAIN)
_TRIES, _PAUSE = 5, 0.05  # a reader that looks whether a folder is held keeps it for a moment
_held: set[Path] = set()


@contextlib.contextmanager
def hold_folder(path: Path) -> Iterator[None]:
    """Hold a run folder, which is made where it is not there; one that stays empty is removed again.

    The lock is a POSIX record lock on ``.lock``: the system takes it back when the process ends, however it ends, it is
    not passed on to worker processes, and it holds on NFS.

    Raises:
        ValueError: if another process holds it, naming that one.
        UnwritableRunError: if the folder cannot be written to.
    """
    made, place = not path.exists(), path.resolve()
    if place in _held:
        raise ValueError(_busy(path, _me()))
    try:
        path.mkdir(parents=True, exist_ok=True)
        handle = _take(path)
    except OSError as error:
        raise UnwritableRunError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    _held.add(place)
    try:
        yield
    finally:
        _held.discard(place)
        # Before it is let go: whoever opened the file in the meantime sees that it is no longer the folder's.
        with contextlib.suppress(OSError):
            os.unlink(path / LOCK_NAME)
        if handle is not None:
            os.close(handle)
        if made:
            with contextlib.suppress(OSError):
                path.rmdir()


def holder_of(path: Path) -> str | None:
    """Which other process holds a run folder, as ``process 12 on host``; None if none does."""
    if path.resolve() in _held:
        # Closing the file would let go of this process's own lock.
        return None
    try:
        handle = os.open(path / LOCK_NAME, os.O_RDONLY)
    except OSError:
        return None
    try:
        return _said(handle) if _lock(handle, shared=True) is False else None
    finally:
        os.close(handle)


def check_settled(path: Path) -> None:
    """Refuse to read a run folder that another process is writing to.

    Raises:
        ValueError: naming that process.
    """
    holder = holder_of(path)
    if holder:
        raise ValueError(f"run {str(path)!r} is in use by {holder}, which trains it: wait until that has ended")


def _take(path: Path) -> int | None:
    """A file descriptor that holds the lock; None where the file system knows no locks."""
    for attempt in range(_TRIES):
        handle = os.open(path / LOCK_NAME, os.O_CREAT | os.O_RDWR, 0o666)
        taken = _lock(handle)
        if taken is None:
            os.close(handle)
            return None
        if taken and _is_named(handle, path / LOCK_NAME):
            os.ftruncate(handle, 0)
            os.write(handle, _me().encode())
            return handle
        holder = _said(handle)
        os.close(handle)
        if attempt + 1 < _TRIES:
            time.sleep(_PAUSE)
    raise ValueError(_busy(path, holder))


def _lock(handle: int, shared: bool = False) -> bool | None:
    """Whether the lock was free and is now held; None where the file system knows no locks."""
    import fcntl

    try:
        fcntl.lockf(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in _TAKEN else None
    return True


def _is_named(handle: int, path: Path) -> bool:
    """Whether an open file is still the one of that name: it may have been removed by the process that held it."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _said(handle: int) -> str:
    return os.pread(handle, 200, 0).decode(errors="replace") or "another process"


def _me() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _busy(path: Path, holder: str) -> str:
    return f"the run folder {str(path)!r} is in use by {holder}: wait until it has ended, or name another with --out"
