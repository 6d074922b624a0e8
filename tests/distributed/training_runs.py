"""One process of a training run on several, started as torchrun does it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

SMALL: dict[str, Any] = {
    "data": "digits",
    "image_size": 8,
    "channels": 1,
    "augment": "affine",
    "neighbors": "knn:4",
    "options": {"widths": [2, 2, 2]},
    "dim": 8,
    "steps": 2,
    "qk_dim": 4,
    "mlp_dim": 8,
    "batch_size": 256,
    "lr": 5e-3,
    "warmup": 1,
    "wiring": 0.05,
    "clip": 0.5,
    "tensorboard": False,
    "accelerator": "cpu",
    "figure_every": 1,
}


def train_digits(path: Path, resume: bool = False, die_at: int | None = None, **changes: Any) -> dict[str, Any]:
    """A small run, and its summary; with ``die_at``, the process is killed when it has done so many steps."""
    import torch

    from colgraph.data import load_images
    from colgraph.training import RunFlags, TrainConfig, make_model, num_answers, open_run_folder, sheet_of_run, train
    from colgraph.training.module import TaskModule

    torch.set_num_threads(1)
    if die_at is not None:
        usual = TaskModule.training_step

        def deadly(self: Any, batch: Any, batch_idx: int) -> Any:
            if self.global_step == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return usual(self, batch, batch_idx)

        TaskModule.training_step = deadly  # type: ignore[method-assign]
    images = load_images("digits", image_size=8, channels=1)
    config = TrainConfig(**{**SMALL, **changes})
    folder = open_run_folder(config, RunFlags(path, resume=resume))
    torch.manual_seed(config.seed)
    sheet = sheet_of_run(config, folder)
    return train(make_model(config, sheet, num_answers(config, sheet, images)), images, config, folder)


def begin(rank: int, environment: dict[str, str], log: str, path: str, options: dict[str, Any]) -> None:
    """Be one rank, with the exit code and the last words of a script.

    Options whose names end in ``_of`` are given to one rank alone: ``{"lr_of": (1, 0.5)}``.
    """
    output = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.update(environment, RANK=str(rank), LOCAL_RANK=str(rank), GROUP_RANK="0", TORCHELASTIC_RUN_ID="test")
    from colgraph.script import run_script
    from colgraph.training import parallel

    parallel._STARTUP = 15.0
    mine = {name: value for name, value in options.items() if not name.endswith("_of")}
    mine |= {name[:-3]: pair[1] for name, pair in options.items() if name.endswith("_of") and pair[0] == rank}
    run_script(lambda: train_digits(Path(path), **mine))
