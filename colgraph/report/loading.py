"""A run folder read back for analysis: the network on plain images, its sheet, its images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from colgraph.data import as_bytes
from colgraph.models import VisionColumnformer
from colgraph.sheet import Sheet
from colgraph.training import RunFolder, TrainConfig, images_of, load_trained, make_model

__all__ = ["PlainImages", "Run", "load_run"]


class PlainImages(nn.Module):
    """A vision columnformer that takes images between 0 and 1, or uint8 or uint16, and normalises them itself.

    Args:
        net: the network.
        mean: per channel.
        std: per channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: VisionColumnformer, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    @property
    def steps(self) -> int:
        """Time steps of a forward pass."""
        return self.net.model.steps

    @property
    def sheet(self) -> Sheet:
        """The sheet of the model."""
        return self.net.model.sheet

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[B, classes]``."""
        logits: Tensor = self.net(self._normalised(images))
        return logits

    def unroll(self, images: Tensor, **options: Any) -> Any:
        """As :meth:`colgraph.VisionColumnformer.unroll`, on images between 0 and 1."""
        return self.net.unroll(self._normalised(images), **options)

    def classify(self, state: Tensor) -> Tensor:
        """Logits from a state."""
        return self.net.classify(state)

    def _normalised(self, images: Tensor) -> Tensor:
        if not images.is_floating_point():
            images = as_bytes(images).to(self.mean) / 255
        return (images.to(self.mean) - self.mean) / self.std


@dataclass(frozen=True, eq=False)
class Run:
    """A trained network with what it was trained on.

    Attributes:
        path: the run folder.
        net: the network, in evaluation mode, on images between 0 and 1.
        config: the settings of the run.
        classes: names.
        images: ``[B, channels, S, S]`` held-out images as bytes.
        labels: ``[B]``.
        summary: ``summary.json``, empty where the run has not ended.
    """

    path: Path
    net: PlainImages
    config: TrainConfig
    classes: list[str]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    summary: dict[str, Any]

    @property
    def sheet(self) -> Sheet:
        """The sheet of the model."""
        return self.net.sheet

    def untrained(self) -> PlainImages:
        """The same network before training, drawn with the run's seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            fresh = make_model(self.config, self.sheet, len(self.classes))
        mean, std = self.net.mean.flatten().tolist(), self.net.std.flatten().tolist()
        return PlainImages(fresh, tuple(mean), tuple(std)).eval()


def load_run(path: str | os.PathLike[str], *, images: int = 1000, seed: int = 0) -> Run:
    """Read a run folder, with at most ``images`` of its held-out images, drawn with the seed.

    Raises:
        ValueError: if it is no run folder, lacks its checkpoint, was written by another version, or its images cannot
            be read again, or if another process is writing to it.
    """
    run, folder = RunFolder(Path(path)), Path(path)
    run.checkpoint()
    baseline = run.record().config.baseline
    if baseline is not None:
        raise ValueError(f"run {str(folder)!r} trained {baseline}, a baseline: only models with a sheet are analysed")
    try:
        trained = load_trained(folder)
    except (KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"run {str(folder)!r} was written by another version of colgraph: its checkpoint does not fit ({reason})"
        ) from error
    config = trained.config
    if not isinstance(trained.net, VisionColumnformer):
        raise ValueError(f"run {str(folder)!r} trained a {type(trained.net).__name__}, which has no sheet to analyse")
    splits = images_of(config).with_classes(trained.classes)
    chosen = np.random.default_rng(seed).permutation(len(splits.test))[:images]
    data, labels = splits.test.batch(sorted(chosen.tolist()))
    net = PlainImages(trained.net, trained.transform.mean, trained.transform.std).eval()
    return Run(folder, net, config, trained.classes, data.numpy(), labels.numpy(), run.results())
