"""A pool of processes that tests run jobs on, each job in a process group of its own; and processes for one run."""

from __future__ import annotations

import itertools
import queue
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
import torch.multiprocessing as mp

sys.path.insert(0, str(Path(__file__).parent))

PROCESSES = 4


@pytest.fixture(scope="session")
def context() -> Any:
    """Processes are forked from one that has done the imports, which take seconds, and nothing else."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(["torch_geometric", "torch.utils.checkpoint", "colgraph.distributed"])
    return context


class Ranks:
    """Four processes that wait for jobs."""

    def __init__(self, context: Any) -> None:
        from parallel_jobs import serve

        self._store = dist.TCPStore("127.0.0.1", 0, is_master=True)
        self._answers = context.Queue()
        self._tasks = [context.Queue() for _ in range(PROCESSES)]
        self._jobs = itertools.count()
        self._processes = [
            context.Process(target=serve, args=(rank, self._store.port, tasks, self._answers), daemon=True)
            for rank, tasks in enumerate(self._tasks)
        ]
        for process in self._processes:
            process.start()

    def run(self, name: str, ranks: int, **options: Any) -> list[Any]:
        """What ``parallel_jobs.<name>(**options)`` returns on each rank; an error there is raised here."""
        job = next(self._jobs)
        for tasks in self._tasks[:ranks]:
            tasks.put((job, ranks, name, options))
        answers: dict[int, Any] = {}
        while len(answers) < ranks:
            try:
                number, rank, value = self._answers.get(timeout=120)
            except queue.Empty:
                raise TimeoutError(f"{name} on {ranks} ranks: only {sorted(answers)} answered") from None
            if number == job:
                answers[rank] = value
        for value in answers.values():
            if isinstance(value, Exception):
                raise value
        return [answers[rank] for rank in range(ranks)]

    def close(self) -> None:
        for tasks in self._tasks:
            tasks.put(None)
        for process in self._processes:
            process.join(1)
            process.kill()


@pytest.fixture(scope="session")
def ranks(context: Any) -> Iterator[Ranks]:
    pool = Ranks(context)
    yield pool
    pool.close()


@dataclass
class End:
    """How a rank ended."""

    code: int
    seconds: float
    said: str


@pytest.fixture
def run_to_the_end(context: Any, tmp_path: Path) -> Callable[..., list[End]]:
    """Start ``failing_runs.<name>`` on some ranks, wait for all but those that freeze, and kill what is left."""
    from failing_runs import begin

    def run(name: str, ranks: int, frozen: int = 0, limit: float = 50.0) -> list[End]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        logs = [tmp_path / f"rank-{rank}" for rank in range(ranks)]
        start = time.monotonic()
        processes = [
            context.Process(target=begin, args=(name, rank, environment, str(log))) for rank, log in enumerate(logs)
        ]
        for process in processes:
            process.start()
        seconds: dict[int, float] = {}
        while len(seconds) < ranks - frozen and time.monotonic() - start < limit:
            for rank, process in enumerate(processes):
                if rank not in seconds and process.exitcode is not None:
                    seconds[rank] = time.monotonic() - start
            time.sleep(0.02)
        for process in processes:
            process.kill()
            process.join()
        return [
            End(process.exitcode or 0, seconds.get(rank, limit), logs[rank].read_text() if logs[rank].exists() else "")
            for rank, process in enumerate(processes)
        ]

    return run
