"""Runs that kill themselves with SIGKILL at three moments and go on; prints what each ended with, as JSON.

Every session is a fork of this process, which has only imported and read the images, once for all of them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from colgraph.data import load_images
from colgraph.training import RunFlags, TrainConfig, make_model, open_run_folder, sheet_of_run, train
from colgraph.training.callbacks import Checkpoints
from colgraph.training.figures import RunFigures
from colgraph.training.module import TaskModule

SMALL: dict[str, Any] = {
    "data": "digits",
    "image_size": 8,
    "channels": 1,
    "augment": "affine",
    "neighbors": "knn:4",
    "dim": 8,
    "steps": 2,
    "qk_dim": 4,
    "mlp_dim": 8,
    "epochs": 3,
    "batch_size": 256,
    "lr": 5e-3,
    "warmup": 1,
    "tensorboard": False,
    "backend": "reference",
    "figure_every": 0,
    "checkpoint_every": "2",
    "keep_checkpoints": 8,
    "options": {"widths": [2, 2]},
}

IMAGES = load_images("digits", image_size=8, channels=1)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_the_middle_of_an_epoch() -> None:
    original = TaskModule.training_step

    def training_step(self: TaskModule, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == 8:
            die()
        return original(self, batch, batch_idx)

    TaskModule.training_step = training_step  # type: ignore[method-assign]


def while_a_checkpoint_is_written() -> None:
    original = pl.Trainer.save_checkpoint

    def save_checkpoint(self: pl.Trainer, path: Any, *args: Any, **options: Any) -> None:
        original(self, path, *args, **options)
        if self.global_step == 8:
            os.truncate(path, os.path.getsize(path) // 2)
            die()

    pl.Trainer.save_checkpoint = save_checkpoint  # type: ignore[method-assign]


def between_epochs() -> None:
    original = Checkpoints.on_train_epoch_end

    def on_train_epoch_end(self: Checkpoints, trainer: pl.Trainer, pl_module: Any) -> None:
        original(self, trainer, pl_module)
        if trainer.current_epoch == 1:
            die()

    Checkpoints.on_train_epoch_end = on_train_epoch_end  # type: ignore[method-assign]


def between_best_and_last() -> None:
    original = Checkpoints.save

    def save(self: Checkpoints, trainer: pl.Trainer, path: Path) -> None:
        original(self, trainer, path)
        if path.name == "best.ckpt" and trainer.current_epoch == 1:
            die()

    Checkpoints.save = save  # type: ignore[method-assign]


MOMENTS = (in_the_middle_of_an_epoch, while_a_checkpoint_is_written, between_epochs, between_best_and_last)


def session(folder: Path, resume: bool, before: Callable[[], None] | None = None, **changes: Any) -> int:
    """Train in a fork; returns the signal that ended it, or 0."""
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    try:
        if before is not None:
            before()
        config = TrainConfig(**{**SMALL, **changes})
        run = open_run_folder(config, RunFlags(folder, resume=resume))
        torch.manual_seed(config.seed)
        train(make_model(config, sheet_of_run(config, run), 10), IMAGES, config, run)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(99)
    os._exit(0)


def main(root: Path, moments: Sequence[Callable[[], None]] = MOMENTS, **changes: Any) -> None:
    whole = session(root / "whole", resume=False, **changes)
    ends = {moment.__name__: session(root / moment.__name__, False, moment, **changes) for moment in moments}
    again = {name: session(root / name, True, **changes) for name in ends}
    print(json.dumps({"whole": whole, "killed": ends, "resumed": again}))


if __name__ == "__main__":
    # Figures take longer than such a run, and have tests of their own.
    RunFigures.on_train_start = RunFigures.on_train_end = lambda *args: None  # type: ignore[method-assign]
    torch.set_num_threads(1)
    # Other settings as JSON: then killed in the middle of an epoch alone.
    changes = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    main(Path(sys.argv[1]), MOMENTS[:1] if changes else MOMENTS, **changes)
