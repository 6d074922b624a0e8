"""A run folder is opened: looked at before anything is touched, with the processes that are going to write to it."""

from __future__ import annotations

import os

from colgraph.script import is_helper_process
from colgraph.training.config import TrainConfig
from colgraph.training.flags import RunFlags, default_folder
from colgraph.training.folder import RunFolder
from colgraph.training.lock import LOCK_NAME, holder_of
from colgraph.training.resume import num_processes


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
    there = path.iterdir() if path.is_dir() else iter(())
    # Arrays that are to be learned from are written before.
    if any(not entry.name.startswith(passing) and entry.name != folder.images.name for entry in there):
        if not folder.is_run:
            raise ValueError(f"--out {str(path)!r} is not empty and not a run folder: name a new or empty folder")
        if not folder.overwrite:
            raise ValueError(
                f"the run folder {str(path)!r} exists: go on with --resume, replace it with --overwrite, or name "
                "another with --out"
            )


def _died_before_its_first_checkpoint(folder: RunFolder) -> bool:
    """Whether there is a run that has nothing but its settings: to go on with it is to begin."""
    return folder.is_run and not folder.finished and not any(folder.checkpoints.glob("*.ckpt"))


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
