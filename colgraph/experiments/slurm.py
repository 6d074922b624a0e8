"""The runs of a sweep as jobs of a SLURM cluster, through submitit."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from colgraph.experiments.jobs import Job
from colgraph.experiments.queue import Outcome, Running, environment_of, last_words, start
from colgraph.extras import optional
from colgraph.hints import in_one_line
from colgraph.output import write_text
from colgraph.script import on_stop_signals
from colgraph.training.errors import InterruptedRunError

_POLL = 2.0  # seconds
_TIMEOUTS = 1000  # how often a job that ran out of its time is put in line again
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?")


class SlurmRun:
    """One run, as submitit calls it on a node: started where it is not finished, on from its last checkpoint.

    Args:
        job: the run.
        out: the sweep's folder.
    """

    def __init__(self, job: Job, out: Path) -> None:
        self._job, self._out = job, out
        self._running: Running | None = None
        self._waiter: threading.Thread | None = None

    def __call__(self) -> str:
        """The state that the run ended in, as of :class:`colgraph.experiments.queue.Outcome`."""
        # Lightning would take the job's one task for the number of processes that it may start.
        environment = {name: value for name, value in environment_of().items() if not name.startswith("SLURM_")}
        # SLURM sends its signal to every process of the job: what ends this run is the SIGTERM of checkpoint().
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        found = start(self._job, self._out, environment)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
        if isinstance(found, Outcome):
            return found.state
        # A signal may call checkpoint() at any time: what waits here must not hold the lock that it waits with.
        self._running, self._waiter = found, threading.Thread(target=found.process.wait, daemon=True)
        self._waiter.start()
        _join(self._waiter)
        os.close(found.lock)
        return found.outcome().state

    def checkpoint(self) -> Any:
        """Called when the job is about to be preempted, or its time is up: saves, and asks to be put in line again."""
        submitit = _submitit()
        if self._running is not None and self._waiter is not None:
            self._running.process.terminate()
            _join(self._waiter)
        return submitit.helpers.DelayedSubmission(SlurmRun(self._job, self._out))


def _join(thread: threading.Thread) -> None:
    while thread.is_alive():
        time.sleep(0.1)


def run_on_slurm(
    jobs: Sequence[Job],
    out: Path,
    at_once: int | None = None,
    parameters: Mapping[str, str] | None = None,
    *,
    begun: Callable[[Job], None] = lambda job: None,
    ended: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Submit what is neither finished nor in line, and wait for all.

    A job that is preempted, or whose time is up, saves a checkpoint, is put in line again and goes on from there. What
    was submitted is in ``out/slurm/jobs.json``: the same call, made again, waits for those jobs.

    Args:
        jobs: the runs.
        out: the sweep's folder, which every node must see.
        at_once: runs at a time; as many as the cluster lets run by default.
        parameters: of ``sbatch`` by name: partition, time, mem, gres and so on.
        begun: told of a run that begins or goes on.
        ended: told of every outcome.

    Returns:
        The outcomes, in the order in which they became known.

    Raises:
        ValueError: without a SLURM here, or for what it refuses.
        ImportError: without submitit.
        InterruptedRunError: on Ctrl-C or SIGTERM; the jobs go on.
    """
    executor = _executor(out, at_once, parameters or {})
    outcomes = [Outcome(job, "finished before") for job in jobs if job.finished]
    for outcome in outcomes:
        ended(outcome)
    left = [job for job in jobs if not job.finished]
    known = _known(out)
    in_line = _in_line()
    waiting = {job.name: known[job.name] for job in left if known.get(job.name) in in_line}
    new = [job for job in left if job.name not in waiting]
    waiting |= _submit(executor, new, out)
    if waiting:
        write_text(out / "slurm" / "jobs.json", json.dumps(known | waiting, indent=1) + "\n")
    return outcomes + _follow(left, waiting, out, begun, ended)


def _follow(
    jobs: Sequence[Job],
    numbers: Mapping[str, str],
    out: Path,
    begun: Callable[[Job], None],
    ended: Callable[[Outcome], None],
) -> list[Outcome]:
    """Wait until none of some jobs is in line any more."""
    outcomes, told, left = list[Outcome](), set[str](), list(jobs)
    asked: list[int] = []
    with on_stop_signals(lambda number, frame: asked.append(number)):
        while left and not asked:
            in_line = _in_line()
            for job in list(left):
                state = in_line.get(numbers[job.name])
                if state == "RUNNING" and job.name not in told:
                    told.add(job.name)
                    begun(job)
                if state is None:
                    left.remove(job)
                    outcomes.append(_outcome(job, numbers[job.name], out))
                    ended(outcomes[-1])
            if left:
                time.sleep(_POLL)
    if left:
        some = ", ".join(numbers[job.name] for job in left[:3]) + (", ..." if len(left) > len("...") else "")
        raise InterruptedRunError(
            f"no longer waiting: {len(left)} jobs go on ({some}; scancel ends them); the same command waits for them"
        )
    return outcomes


def _outcome(job: Job, number: str, out: Path) -> Outcome:
    if job.finished:
        return Outcome(job, "done")
    logs = [out / "logs" / f"{job.name}.log", *sorted((out / "slurm").glob(f"{number}_*.err"))]
    said = next((last_words(log) for log in logs if log.is_file() and log.stat().st_size), "it wrote no log")
    return Outcome(job, "failed", f"SLURM's job {number} ended: {said}")


# ---------------------------------------------------------------------- SLURM


def _submitit() -> Any:
    return optional("--executor slurm needs", "submitit", "cluster")


def _executor(out: Path, at_once: int | None, parameters: Mapping[str, str]) -> Any:
    submitit = _submitit()
    if shutil.which("sbatch") is None:
        raise ValueError(
            "--executor slurm: there is no sbatch here: run this on a machine of the cluster (or apt install "
            "slurm-client and give it the cluster's slurm.conf)"
        )
    executor = submitit.SlurmExecutor(folder=out / "slurm", max_num_timeout=_TIMEOUTS)
    chosen: dict[str, Any] = {"job_name": f"colgraph-{out.name}", "time": 60}
    if at_once is not None:
        chosen["array_parallelism"] = at_once
    own = executor._valid_parameters() - {"additional_parameters", "folder", "map_count", "array_parallelism"}
    others: dict[str, str] = {}
    for name, value in parameters.items():
        if name in own:
            chosen[name] = minutes(value) if name == "time" else int(value) if value.isdigit() else value
        else:
            others[name.replace("_", "-")] = value
    if str(chosen.get("nodes", 1)) != "1":
        raise ValueError(f"--slurm nodes={chosen['nodes']}: a run of a sweep has one node (docs/cluster.md: torchrun)")
    executor.update_parameters(**chosen, additional_parameters=others)
    return executor


def _submit(executor: Any, jobs: Sequence[Job], out: Path) -> dict[str, str]:
    """The number of the job that each run has become, by its name."""
    if not jobs:
        return {}
    submitit = _submitit()
    try:
        # What sbatch says is in the error, and is not to be said twice.
        with contextlib.redirect_stderr(io.StringIO()), executor.batch():
            made = [executor.submit(SlurmRun(job, out)) for job in jobs]
    except submitit.core.utils.FailedJobError as error:
        raise ValueError(f"SLURM refuses: {in_one_line(_said_by_sbatch(error))}") from error
    return {job.name: each.job_id for job, each in zip(jobs, made, strict=True)}


def _said_by_sbatch(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if "sbatch: error:" in line]
    return "; ".join(line.partition("error: ")[2] for line in lines) or str(error)


def _known(out: Path) -> dict[str, str]:
    path = out / "slurm" / "jobs.json"
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no list of jobs: {error}") from error
    return {str(name): str(number) for name, number in found.items()}


def _in_line() -> dict[str, str]:
    """The state of each job of this user that SLURM has in line or runs, by number."""
    command = ["squeue", "--noheader", "--array", "--me", "--format=%i %T"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    if asked.returncode:
        raise ValueError(f"SLURM does not answer: {in_one_line(asked.stderr.strip() or 'squeue failed')}")
    return dict(line.split(maxsplit=1) for line in asked.stdout.splitlines() if " " in line.strip())  # type: ignore[misc]


def minutes(text: str) -> int:
    """A time limit as SLURM writes it, in whole minutes: minutes, minutes:seconds, hours:minutes:seconds, days-hours.

    Raises:
        ValueError: for anything else, and for less than a minute.
    """
    found = _TIME.fullmatch(text.strip())
    if not found:
        raise ValueError(f"--slurm time={text}: expected minutes, hours:minutes:seconds or days-hours:minutes:seconds")
    parts = [int(found[name] or 0) for name in ("first", "second", "third")]
    if found["days"]:
        whole = (int(found["days"]) * 24 + parts[0]) * 60 + parts[1] + parts[2] / 60
    elif found["third"]:
        whole = parts[0] * 60 + parts[1] + parts[2] / 60
    else:
        whole = parts[0] + parts[1] / 60
    if whole < 1:
        raise ValueError(f"--slurm time={text}: expected a minute at least")
    return round(whole)


def parse_parameters(words: Sequence[str]) -> dict[str, str]:
    """``key=value`` words as parameters of ``sbatch``, dashes for underscores and the other way round.

    Raises:
        ValueError: for words that are none, or the same key twice.
    """
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        name = key.strip().lstrip("-").replace("-", "_")
        if not equals or not name.isidentifier() or not value.strip():
            raise ValueError(f"--slurm {word!r}: expected key=value, such as partition=gpu or time=2:00:00")
        if name in found:
            raise ValueError(f"--slurm {word!r}: {name} is given twice")
        found[name] = value.strip()
    return found
