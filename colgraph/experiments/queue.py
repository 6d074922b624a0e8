"""A queue of training commands on one machine: some at a time, each with its share of the cores."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colgraph.experiments.jobs import Job
from colgraph.script import on_stop_signals
from colgraph.training.errors import InterruptedRunError
from colgraph.training.lock import holder_of

_POLL = 0.1  # seconds
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes:
        job: the run.
        state: "done", "finished before", "failed", or "running elsewhere" (another sweep or command has it).
        reason: of a failure, one line.
        seconds: that it took.
    """

    job: Job
    state: str
    reason: str = ""
    seconds: float = 0.0


@dataclass
class Running:
    """A run that has been started.

    Attributes:
        job: the run.
        process: its process.
        lock: file descriptor of the lock that it holds.
        log: what it prints.
        log_start: where in the log it began.
        started: time.
    """

    job: Job
    process: subprocess.Popen[bytes]
    lock: int
    log: Path
    log_start: int
    started: float

    def outcome(self) -> Outcome:
        """What has become of it, once its process has ended."""
        code, took = self.process.returncode, time.monotonic() - self.started
        if code == 0 and self.job.finished:
            return Outcome(self.job, "done", seconds=took)
        how = f"exit code {code}"
        if code < 0:
            how = f"ended by signal {-code}" + (" (out of memory?)" if code == -signal.SIGKILL else "")
        return Outcome(self.job, "failed", f"{how}: {last_words(self.log, self.log_start)}", took)


def last_words(log: Path, start: int = 0) -> str:
    """The last error, or else the last line, that a log has from some byte on, and where it is."""
    with log.open("rb") as file:
        file.seek(start)
        lines = [line.strip() for line in file.read().decode(errors="replace").replace("\r", "\n").splitlines()]
    lines = [line for line in lines if line]
    errors = [line for line in lines if line.startswith("error: ")]
    said = (errors or lines or ["it said nothing"])[-1].removeprefix("error: ")
    return f"{said} (log: {log})"


def run_jobs(
    jobs: Sequence[Job],
    out: Path,
    at_once: int = 1,
    *,
    begun: Callable[[Job], None] = lambda job: None,
    ended: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Run what is not finished; a failure stops no other run.

    Each run holds a file lock as long as it lives, also when the sweep that started it has died: a second sweep on
    the same folder takes the runs that nobody has.

    Args:
        jobs: the runs.
        out: the sweep's folder, for locks and logs.
        at_once: runs at a time; each gets ``cores // at_once`` threads, or what ``OMP_NUM_THREADS`` says.
        begun: told of a run that begins or goes on.
        ended: told of every outcome.

    Returns:
        The outcomes, in the order in which runs ended.

    Raises:
        InterruptedRunError: on Ctrl-C or SIGTERM, once the runs at hand have written their checkpoints.
    """
    waiting, running = list(jobs), list[Running]()
    outcomes: list[Outcome] = []
    environment = environment_of(at_once)

    def end(outcome: Outcome) -> None:
        outcomes.append(outcome)
        ended(outcome)

    stop = _Stop()
    with on_stop_signals(stop.ask):
        try:
            while waiting or running:
                while waiting and len(running) < at_once and not stop.asked:
                    found = start(waiting.pop(0), out, environment)
                    if isinstance(found, Outcome):
                        end(found)
                    else:
                        running.append(found)
                        begun(found.job)
                if stop.asked and not running:
                    break
                stop.pass_on([entry.process for entry in running])
                for entry in [entry for entry in running if entry.process.poll() is not None]:
                    running.remove(entry)
                    os.close(entry.lock)
                    if not stop.asked or entry.job.finished:
                        end(entry.outcome())
                time.sleep(_POLL)
        finally:
            # Only an error in here leaves runs behind: ask them to save and end.
            for entry in running:
                entry.process.terminate()
    if stop.asked:
        raise InterruptedRunError("stopped; the same command goes on from the checkpoints")
    return outcomes


def environment_of(at_once: int = 1) -> dict[str, str]:
    """The environment of a run: this one, with the threads that each of some runs at a time may have."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, cores // at_once))
    return {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, threads)}


def start(job: Job, out: Path, environment: dict[str, str]) -> Running | Outcome:
    """Start a run, unless it is finished or somebody has it; its lock and log are in the sweep's folder ``out``."""
    for name in ("locks", "logs"):
        (out / name).mkdir(parents=True, exist_ok=True)
    if job.finished:
        return Outcome(job, "finished before")
    lock = None if holder_of(job.folder) else _lock(out / "locks" / job.name)
    if lock is None:
        return Outcome(job, "running elsewhere")
    if job.finished:  # in the meantime, by the one who had the lock
        os.close(lock)
        return Outcome(job, "finished before")
    log = out / "logs" / f"{job.name}.log"
    with log.open("ab") as file:
        begin = file.tell()
        process = subprocess.Popen(
            job.command(),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=environment,
            pass_fds=(lock,),
            # The terminal's Ctrl-C is passed on by the sweep, once.
            start_new_session=True,
        )
    return Running(job, process, lock, log, begin, time.monotonic())


def _lock(path: Path) -> int | None:
    """A file descriptor that holds the lock, until it and all copies of it are closed; None if another has it."""
    import fcntl

    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


class _Stop:
    """Ctrl-C and SIGTERM: the first asks running jobs to save and end, the second ends them at once."""

    def __init__(self) -> None:
        self.asked = 0
        self._passed: dict[int, int] = {}

    def ask(self, number: int, frame: Any) -> None:
        """To be called at a signal."""
        self.asked += 1

    def pass_on(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        """Tell every process what it has not been told."""
        for process in processes:
            if process.poll() is None and self._passed.get(process.pid, 0) < min(self.asked, 2):
                self._passed[process.pid] = min(self.asked, 2)
                process.send_signal(signal.SIGTERM if self.asked == 1 else signal.SIGKILL)
