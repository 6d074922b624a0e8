"""The folder of a run: ``runs/<name>/{config.yaml, metrics.csv, summary.json, checkpoints/, figures/}``."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colgraph.output import write_text
from colgraph.script import is_helper_process
from colgraph.training.config import TrainConfig
from colgraph.training.errors import UnwritableRunError
from colgraph.training.flags import RunFlags, default_folder
from colgraph.training.lock import LOCK_NAME, holder_of
from colgraph.training.resume import RunRecord, num_processes

__all__ = ["RunFolder", "check_run_folder", "open_run_folder", "write_text", "writing"]


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what it writes.

    Attributes:
        path: the folder.
        resume: whether the run goes on from ``last``.
        overwrite: whether what an earlier run left is to be replaced.
    """

    path: Path
    resume: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))

    @property
    def config(self) -> Path:
        """All settings of the run."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One row per step, those at the end of an epoch with its results."""
        return self.path / "metrics.csv"

    @property
    def summary(self) -> Path:
        """Results, once the run has ended."""
        return self.path / "summary.json"

    @property
    def checkpoints(self) -> Path:
        """The folder of ``last.ckpt`` and ``best.ckpt``."""
        return self.path / "checkpoints"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.checkpoints / "last.ckpt"

    @property
    def best(self) -> Path:
        """The checkpoint with the highest held-out accuracy."""
        return self.checkpoints / "best.ckpt"

    @property
    def figures(self) -> Path:
        """The folder of the PNG files."""
        return self.path / "figures"

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's event files."""
        return self.path / "tensorboard"

    def prepare(self, record: RunRecord, ended: bool = False) -> None:
        """Make the folder ready to be written to: remove an earlier run if asked to, and write ``config.yaml``.

        Only what a run writes, and what was measured of it, is removed; other files in the folder stay.

        Args:
            record: the settings and what became of them.
            ended: whether the run that goes on has nothing left to do, so that its results stand.
        """
        if self.overwrite:
            for path in (self.metrics, self.config, *_measured(self.path)):
                path.unlink(missing_ok=True)
            for path in (self.checkpoints, self.figures, self.tensorboard):
                shutil.rmtree(path, ignore_errors=True)
        with writing(self.path):
            if not ended:
                self.summary.unlink(missing_ok=True)
            self.path.mkdir(parents=True, exist_ok=True)
            # Settings first: they make the folder that of a run, however soon it ends.
            write_text(self.config, record.text())
            for path in (self.checkpoints, self.figures):
                path.mkdir(exist_ok=True)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json``."""
        with writing(self.summary, f"go on with --resume --out {self.path}"):
            write_text(self.summary, json.dumps(dict(summary), indent=2) + "\n")


def open_run_folder(config: TrainConfig, flags: RunFlags) -> RunFolder:
    """The folder of a run, checked but not yet touched.

    Raises:
        ValueError: if it holds a run and neither ``resume`` nor ``overwrite`` is given, if there is nothing to resume,
            if it is not a folder that a run may use, if another process writes to it, or if too few or too many
            processes were started or asked for.
    """
    _check_processes(config, flags)
    folder = RunFolder(flags.out or default_folder(config), flags.resume, flags.overwrite)
    if flags.resume and _died_before_its_first_checkpoint(folder):
        folder = RunFolder(folder.path, overwrite=True)
    if is_helper_process():
        return folder
    check_run_folder(folder)
    parent = next(p for p in (folder.path, *folder.path.absolute().parents) if p.exists())
    if not os.access(parent, os.W_OK):
        raise ValueError(f"cannot write to {str(parent)!r}: name another folder with --out")
    holder = holder_of(folder.path)
    if holder:
        raise ValueError(
            f"the run folder {str(folder.path)!r} is in use by {holder}: wait until it has ended, or name another with "
            "--out"
        )
    return folder


def check_run_folder(folder: RunFolder) -> None:
    """Refuse a folder whose content does not allow what is asked for.

    Raises:
        ValueError: if it holds a run and neither ``resume`` nor ``overwrite`` is given, if there is nothing to resume,
            or if it is not a folder that a run may use.
    """
    path = folder.path
    if path.exists() and not path.is_dir():
        raise ValueError(f"--out {str(path)!r} is a file: name a folder")
    if folder.resume:
        if not folder.last.is_file():
            raise ValueError(f"nothing to resume in {str(path)!r}: there is no {folder.last.name} in its checkpoints")
        return
    passing = (f".{folder.config.name}", LOCK_NAME)
    if path.is_dir() and any(not entry.name.startswith(passing) for entry in path.iterdir()):
        if not folder.config.is_file():
            raise ValueError(f"--out {str(path)!r} is not empty and not a run folder: name a new or empty folder")
        if not folder.overwrite:
            raise ValueError(
                f"the run folder {str(path)!r} exists: go on with --resume, replace it with --overwrite, or name "
                "another with --out"
            )


def _measured(path: Path) -> list[Path]:
    """What was measured of the run that a folder held."""
    patterns = ("evaluation*.json", "confusion*.png", "encoding.json", "analysis/results.json")
    return [file for pattern in patterns for file in path.glob(pattern)]


def _died_before_its_first_checkpoint(folder: RunFolder) -> bool:
    """Whether there is a run that has nothing but its settings: to go on with it is to begin."""
    return folder.config.is_file() and not folder.summary.exists() and not any(folder.checkpoints.glob("*.ckpt"))


def _check_processes(config: TrainConfig, flags: RunFlags) -> None:
    """Raise ValueError unless the processes that are started divide into replicas and parts of the sheet."""
    world, here = num_processes(config), os.environ.get("LOCAL_WORLD_SIZE")
    # A run that goes on brings the number of processes that it had; whether another one fits is seen later.
    if here is not None and not flags.resume and config.devices not in ("1", "auto", here, str(world)):
        raise ValueError(f"--devices {config.devices}, but torchrun has started {here} processes here: leave it out")
    if config.sheet_parallel > 1:
        if world in (0, 1):
            raise ValueError(
                f"--sheet-parallel {config.sheet_parallel} needs as many processes: start with torchrun "
                f"--nproc-per-node {config.sheet_parallel}, or give --devices {config.sheet_parallel}"
            )
        from colgraph.distributed.launch import mesh_shape

        mesh_shape(world, config.sheet_parallel)
    if here is None:
        _check_devices(config, world)


def _check_devices(config: TrainConfig, wanted: int) -> None:
    """Raise ValueError if there are fewer devices here than one for each process that would be started."""
    import torch

    there, what = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, "CPU cores"
    if config.accelerator != "cpu" and torch.cuda.is_available():
        there, what = torch.cuda.device_count(), "GPUs"
    elif config.accelerator != "cpu" and torch.backends.mps.is_available():
        there, what = 1, "GPUs"
    if wanted > there:
        raise ValueError(
            f"--devices {wanted}: there are {there} {what} here; give --devices {there} or fewer, or start {wanted} "
            "processes with torchrun"
        )


@contextlib.contextmanager
def writing(path: Path, hint: str = "", part: Path | None = None) -> Iterator[None]:
    """Turn a full disk or a folder that cannot be written to into an error of one line.

    Args:
        path: what is being written.
        hint: how to go on.
        part: an unfinished file that is then removed.

    Raises:
        UnwritableRunError: in place of an ``OSError``, and of the ``RuntimeError`` that ``torch.save`` makes of one.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if part is not None:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        if isinstance(error, RuntimeError) and not (part is not None and "writ" in str(error)):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        more = f"; what was saved before is intact: {hint}" if hint else ""
        raise UnwritableRunError(f"cannot write {str(path)!r}: {reason}{more}") from error
