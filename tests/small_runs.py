"""Runs on handwritten digits that take a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from colgraph.data import load_images
from colgraph.training import RunFlags, TrainConfig, make_model, make_sheet, num_answers, open_run_folder, train


def train_on_digits(path: Path, **settings: Any) -> Path:
    """A run with these settings, in this folder."""
    config = TrainConfig(**settings)
    images = load_images("digits", image_size=8, channels=1)
    folder = open_run_folder(config, RunFlags(path))
    torch.manual_seed(config.seed)
    sheet = None if config.baseline else make_sheet(config)
    train(make_model(config, sheet, num_answers(config, sheet, images)), images, config, folder)
    return path
