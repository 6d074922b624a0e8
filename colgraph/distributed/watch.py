"""Ranks that keep an eye on each other: the first that fails ends them all, and is named."""

from __future__ import annotations

import atexit
import os
import socket
import sys
import threading
import time
from datetime import timedelta
from typing import NamedTuple

import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from colgraph.hints import reason_of

_INTERVAL = 2.0
_GRACE = 5.0  # seconds to wait for the rank that failed first to say why
_LINGER = 2.0  # seconds for which the rank that keeps the store waits for the others to leave it
_GONE = "-1"


class Failure(NamedTuple):
    """Which rank has ended the run, and why."""

    rank: int
    reason: str


_NO_STORE = Failure(0, "rank 0, which keeps the store, is gone")


def connect(name: str, rank: int, world: int, seconds: float) -> Store:
    """The store at which ranks meet, under a name: at ``MASTER_ADDR``, kept by torchrun's agent or by rank 0.

    The first connection of rank 0 opens it where there is no agent.
    """
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    opens = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    if not opens:
        _wait_for_listener(host, port, seconds)
    store = TCPStore(host, port, world, opens, timedelta(seconds=seconds), wait_for_workers=False, multi_tenant=True)
    # Ranks that torchrun has started again must not read what the last attempt left.
    return PrefixStore(f"colgraph-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}-{name}", store)


def _wait_for_listener(host: str, port: int, seconds: float) -> None:
    """Torch's store client would fill the screen while it waits."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host, port), timeout=seconds).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise dist.DistNetworkError(f"nobody listens at {host}:{port}") from error
            time.sleep(0.1)


class Watch:
    """A thread that beats, listens to the next rank's beat, and ends this process when the run has failed.

    The beats go through the store at which the ranks met, over a connection of this thread's own. Each rank listens to
    one other, so the store's load grows with the number of ranks and not with its square.

    Args:
        rank: this rank.
        world: number of ranks.
        patience: seconds without a beat after which the next rank is taken for dead.
    """

    def __init__(self, rank: int, world: int, patience: float) -> None:
        self._rank, self._world, self._patience = rank, world, patience
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        if world > 1:
            self._store = connect("watch", rank, world, patience)
            self._store.set(_key(rank), "0")
            self._thread = threading.Thread(target=self._run, name="colgraph-watch", daemon=True)
            self._thread.start()
            # At exit the interpreter ends threads wherever they are; inside the store, that aborts the process.
            atexit.register(self._quit)

    def leave(self) -> None:
        """This rank is done; its silence is no alarm from now on."""
        if self._quit():
            self._say_goodbye()

    def blame(self, error: BaseException, own: bool = False) -> Failure | None:
        """The rank whose failure an error here follows from; None if it is this rank's own, which the others are told.

        A transport that loses a peer raises a ``RuntimeError``, and so do many mistakes. Which it was is not read from
        its words, but from what other ranks say within a few seconds, or that they say nothing any more.

        Args:
            error: that has ended this rank's work.
            own: whether it is known to be this rank's own.
        """
        if not self._quit():
            return None
        words = reason_of(error)
        message = words if isinstance(error, ValueError) else f"{type(error).__name__}: {words}"
        try:
            mine = own or isinstance(error, ValueError | ImportError)
            lost = not mine and any(isinstance(each, RuntimeError) for each in (error, error.__cause__))
            found = self._other_failure() if lost else None
            if found is None:
                self._publish(Failure(self._rank, f"rank {self._rank}: {message}"))
        except dist.DistError:
            found = _NO_STORE
        self._say_goodbye()
        return found

    def _other_failure(self) -> Failure | None:
        """What another rank says within a few seconds, or which are silent for so long."""
        before, deadline = self._beats(), time.monotonic() + _GRACE
        while (now := time.monotonic()) < deadline:
            if told := self._told():
                return told
            self._store.set(_key(self._rank), f"asking {now}")
            time.sleep(0.1)
        beats = self._beats()
        silent = [r for r, beat in beats.items() if r != self._rank and beat == before[r] and beat != _GONE]
        return Failure(silent[0], f"rank {', '.join(map(str, silent))} died") if silent else None

    def _beats(self) -> dict[int, str]:
        return {rank: self._beat(rank) for rank in range(self._world)}

    def _beat(self, rank: int) -> str:
        return self._store.get(_key(rank)).decode() if self._store.check([_key(rank)]) else ""

    def _told(self) -> Failure | None:
        return _read(self._store.get("failed")) if self._store.check(["failed"]) else None

    def _publish(self, failure: Failure) -> Failure:
        """Keep the first failure that is told; returns it."""
        return _read(self._store.compare_set("failed", "", f"{failure.rank} {failure.reason}"))

    def _quit(self) -> bool:
        """End the thread. False where there is none."""
        if self._thread is None:
            return False
        self._stopping.set()
        self._thread.join()
        self._thread = None
        atexit.unregister(self._quit)
        return True

    def _say_goodbye(self) -> None:
        """Rank 0 leaves last, because the store may go with it."""
        try:
            self._store.set(_key(self._rank), _GONE)
            deadline = time.monotonic() + _LINGER
            while self._rank == 0 and time.monotonic() < deadline:
                if all(beat == _GONE for beat in self._beats().values()):
                    break
                time.sleep(0.05)
        except dist.DistError:
            pass

    def _run(self) -> None:
        following = (self._rank + 1) % self._world
        heard, since, count = "", time.monotonic(), 0
        while not self._stopping.wait(_INTERVAL):
            count += 1
            try:
                self._store.set(_key(self._rank), str(count))
                failure, beat = self._told(), self._beat(following)
                if beat != heard or beat == _GONE:
                    heard, since = beat, time.monotonic()
                elif failure is None and time.monotonic() - since > self._patience:
                    silence = f"rank {following} has not been heard of for {self._patience:g} s"
                    failure = self._publish(Failure(following, silence))
            except dist.DistError:
                failure = _NO_STORE
            if failure is not None:
                self._give_up(failure)

    def _give_up(self, failure: Failure) -> None:
        """End the process from here: the main thread may be waiting inside a collective for ever."""
        # A collective that fails by itself ends the process in better order: give it the time.
        if not self._stopping.wait(_GRACE):
            if 0 in (self._rank, failure.rank):
                print(f"error: {failure.reason}", file=sys.stderr, flush=True)
            os._exit(1)


def _key(rank: int) -> str:
    return f"beat-{rank}"


def _read(told: bytes) -> Failure:
    rank, _, reason = told.decode().partition(" ")
    return Failure(int(rank), reason)
