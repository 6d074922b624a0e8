"""One process of a training run on several, started as torchrun does it."""

from __future__ import annotations

import os
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


def train_digits(path: Path, resume: bool = False, **changes: Any) -> dict[str, Any]:
    """A small run, and its summary."""
    import torch

    from colgraph.data import load_images
    from colgraph.training import RunFlags, TrainConfig, make_model, make_sheet, open_run_folder, train

    torch.set_num_threads(1)
    images = load_images("digits", image_size=8, channels=1)
    config = TrainConfig(**{**SMALL, **changes})
    folder = open_run_folder(config, RunFlags(path, resume=resume))
    torch.manual_seed(config.seed)
    return train(make_model(config, make_sheet(config), len(images.classes)), images, config, folder)


def begin(rank: int, environment: dict[str, str], log: str, path: str, options: dict[str, Any]) -> None:
    """Be one rank."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.update(environment, RANK=str(rank), LOCAL_RANK=str(rank), GROUP_RANK="0", TORCHELASTIC_RUN_ID="test")
    train_digits(Path(path), **options)
