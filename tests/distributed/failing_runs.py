"""Runs that fail: every function here is what one rank of a run does."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

import colgraph as cg
from colgraph.distributed import SheetParallel, distribute, session

QUICK = {"startup_timeout": 30.0, "patience": 2.0}
IMPATIENT = {"startup_timeout": 2.0}


def _sheet(columns: int = 12) -> cg.Sheet:
    return cg.build_sheet("ring", columns=columns, neighbors=cg.KNN(4), num_inputs=2)


def _train(mesh: Any, steps: int, event: Callable[[int], None]) -> None:
    part = distribute(cg.Columnformer(_sheet(), dim=4, steps=2, mlp_dim=3, backend="reference"), mesh)
    for step in range(steps):
        event(step)
        part(torch.ones(2, 1, 4)).sum().backward()


def good(rank: int) -> None:
    """Two ranks that train and end."""
    with session(**QUICK) as mesh:
        _train(mesh, 2, lambda step: None)


def alone(rank: int) -> None:
    """Without a launcher: nothing in the environment."""
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        del os.environ[name]
    with session(**QUICK) as mesh:
        _train(mesh, 1, lambda step: None)


def killed(rank: int) -> None:
    """A rank dies at once, without a word."""
    with session(**QUICK) as mesh:
        _train(mesh, 100, lambda step: os.kill(os.getpid(), signal.SIGKILL) if rank == 1 and step == 2 else None)


def first_killed(rank: int) -> None:
    """The rank that keeps the store dies."""
    with session(**QUICK) as mesh:
        _train(mesh, 100, lambda step: os.kill(os.getpid(), signal.SIGKILL) if rank == 0 and step == 2 else None)


def silent(rank: int) -> None:
    """A rank stops answering, its connections open, as when a machine freezes."""
    with session(**QUICK) as mesh:
        _train(mesh, 100, lambda step: os.kill(os.getpid(), signal.SIGSTOP) if rank == 1 and step == 2 else None)


def raising(rank: int) -> None:
    """One rank meets an error of its own."""
    with session(**QUICK) as mesh:

        def event(step: int) -> None:
            if rank == 1 and step == 1:
                raise ValueError("image 7 cannot be read")

        _train(mesh, 100, event)


def bug(rank: int) -> None:
    """One rank has a programming error, which keeps its traceback."""
    with session(**QUICK):
        if rank == 1:
            raise KeyError("no such thing")
        dist.barrier()


def broken(rank: int) -> None:
    """One rank raises what a transport raises when it has lost another."""
    with session(**QUICK) as mesh:

        def event(step: int) -> None:
            if rank == 1 and step == 1:
                raise RuntimeError("[/x/gloo/pair.cc:5] Connection reset by peer")

        _train(mesh, 100, event)


def missing(rank: int) -> None:
    """The second rank never comes."""
    if rank == 0:
        with session(**IMPATIENT):
            pass


def headless(rank: int) -> None:
    """The first rank never comes."""
    if rank == 1:
        with session(**IMPATIENT):
            pass


def indivisible(rank: int) -> None:
    """Three processes for two parts of the sheet."""
    with session(sheet=2, **QUICK):
        pass


def other_sheet(rank: int) -> None:
    """The ranks were given different sheets."""
    with session(**QUICK) as mesh:
        SheetParallel(_sheet(12 + rank), mesh, dim=4)


def other_options(rank: int) -> None:
    """The ranks were given different options."""
    with session(**QUICK) as mesh:
        SheetParallel(_sheet(), mesh, dim=4, mlp_dim=3 + rank)


def crowded(rank: int) -> None:
    """More ranks than columns."""
    with session(**QUICK) as mesh:
        SheetParallel(cg.build_sheet("ring", columns=2, neighbors=cg.KNN(1)), mesh, dim=4)


def begin(name: str, rank: int, environment: dict[str, str], log: str) -> None:
    """Be one rank of a run: with its environment, its output in a file, and the exit code of a script."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.update(environment, RANK=str(rank), LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    globals()[name](rank)
