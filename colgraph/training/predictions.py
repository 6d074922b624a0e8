"""``predictions.npz``: what a model says of each test image, by which two models are compared on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from numpy.typing import NDArray
from torch import Tensor

from colgraph.data import ImageSplits
from colgraph.training.batches import share_of
from colgraph.training.images import predictions_of


class Predictions(Callback):
    """The test pass's answers, from all processes.

    Args:
        images: the splits.
    """

    def __init__(self, images: ImageSplits) -> None:
        self.images = images
        self.answers: list[dict[str, Tensor]] = []
        self.found: dict[str, NDArray[Any]] = {}

    def on_test_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Begin afresh."""
        self.answers = []

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep the answers of a batch."""
        self.answers.append({name: value.cpu() for name, value in outputs.items()})

    def on_test_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Put those of all processes together; processes that share a sheet have the same."""
        rank, world = share_of(trainer)
        mine = range(rank, len(self.images.test), world)
        names = self.answers[0] if self.answers else {}
        answers = {name: torch.cat([each[name] for each in self.answers]) for name in names}
        part = predictions_of(self.images.test, answers, self.images.classes, mine)
        shares: list[Any] = [(rank, part)] * trainer.world_size
        if trainer.world_size > 1:
            torch.distributed.all_gather_object(shares, (rank, part))
        self.found = _joined(list(dict(shares).values()))


def _joined(parts: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    # A process without images, of which there can be more than images, has nothing to say.
    some = [part for part in parts if len(part["image"])] or [parts[0]]
    together = {name: np.concatenate([part[name] for part in some]) for name in some[0] if name != "classes"}
    return together | {"classes": parts[0]["classes"]}
