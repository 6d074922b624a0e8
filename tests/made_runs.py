"""Small runs of every task, on images with a label for each patch that are made here."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from colgraph.data import IGNORED, ImageSet, ImageSplits, MemoryImages
from colgraph.training import RunFlags, TrainConfig, make_model, make_sheet, num_answers, open_run_folder, train

SETTINGS: dict[str, Any] = {
    "data": "made",
    "image_size": 4,
    "patch_size": 1,
    "channels": 1,
    "augment": "none",
    "geometry": "grid",
    "options": {"shape": [4, 4]},
    "neighbors": "knn:5",
    "untied": "none",
    "position_embedding": False,
    "edge_bias": "fixed",
    "inject": "every",
    "epochs": 1,
    "dim": 8,
    "qk_dim": 4,
    "mlp_dim": 8,
    "steps": 3,
    "batch_size": 64,
    "lr": 1e-2,
    "warmup": 0,
    "tensorboard": False,
    "figure_every": 0,
}


def lines(count: int, side: int, seed: int, kind: str = "classes") -> ImageSet:
    """Dark, grey and bright cells: what is to be said of a bright or grey one is whether it lies right of a bright one.

    Difficulty is how far away that is. Vectors are its brightness, and its column.
    """
    rng = np.random.default_rng(seed)
    cells = rng.choice([0, 128, 255], size=(count, side, side), p=[0.2, 0.6, 0.2])
    bright, far = cells == 255, np.full(cells.shape, np.nan, dtype=np.float32)
    for column in range(side):
        for start in range(column + 1):
            far[..., column] = np.where(bright[..., start], column - start, far[..., column])
    labels = torch.from_numpy(np.where(cells == 0, IGNORED, np.isfinite(far).astype(np.int64)))
    difficulty = torch.from_numpy(far)
    if kind == "vectors":
        place = np.broadcast_to(np.arange(side) / side, cells.shape)
        labels = torch.from_numpy(np.stack([cells / 255, place], -1).astype(np.float32))
    if kind == "image":
        labels, difficulty = torch.from_numpy(bright[:, 0, 0].astype(np.int64)), torch.from_numpy(rng.random(count))
    return MemoryImages(torch.from_numpy(cells.astype(np.uint8)).unsqueeze(1), labels, difficulty=difficulty)


def splits(side: int = 4, kind: str = "classes", harder: bool = True) -> ImageSplits:
    """Images of a size, with a harder set "far"."""
    parts = [lines(count, side, seed, kind) for seed, count in enumerate((256, 64, 96))]
    found = ImageSplits(*parts, ["none", "line"], 1, side, (0.5,), (0.3,), "made")
    if harder:
        found = dataclasses.replace(found, harder={"far": lines(40, side, 9, kind)})
    return found


def use(monkeypatch: pytest.MonkeyPatch, kind: str = "classes", harder: bool = True) -> None:
    """Make "made" these images, and "made:size=6" larger ones, for what loads images of runs."""

    def load(source: str, *, image_size: int | None = None, **_: Any) -> ImageSplits:
        side = int(source.partition("size=")[2] or 4)
        if image_size not in (None, side):
            raise ValueError(f"{source!r} has images of {side} pixels, got image_size {image_size}")
        return splits(side, kind, harder)

    for room in ("images", "other_size"):
        monkeypatch.setattr(f"colgraph.training.{room}.load_images", load)


def trained(path: Path, kind: str = "classes", **settings: Any) -> dict[str, Any]:
    """The summary of a small run in a folder."""
    config = TrainConfig(**SETTINGS | settings)
    images = splits(kind=kind)
    sheet = None if config.baseline else make_sheet(config)
    net = make_model(config, sheet, num_answers(config, sheet, images))
    return train(net, images, config, open_run_folder(config, RunFlags(path)))
