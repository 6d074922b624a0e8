"""What a task is asked of a batch: the draws of a step, views, and a held-out batch's question, always the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from colgraph.data import BatchTransform
from colgraph.data.augment import mix_seed
from colgraph.tasks import Question, Task
from colgraph.training.config import TrainConfig

HELD_OUT = 0x7FFFFFFF
"""A step that no training reaches: that of held-out images."""

_TASK = 0x7A5C  # sets the draws of a task apart from others
_VIEW = 0x100000  # and those of a second view from those of the first


def task_seed(config: TrainConfig, step: int, rank: int = 0) -> int:
    """The seed of what a task draws; the same on processes that see the same images (``rank`` is their share)."""
    return mix_seed(config.seed, step, rank, _TASK)


def transform_of(config: TrainConfig, mean: Sequence[float], std: Sequence[float]) -> BatchTransform:
    """What images go through in training, with the augmentation of these settings; ``evaluate`` leaves that out."""
    options: dict[str, Any] = {}
    if config.augment in ("natural", "kornia"):
        options = {"min_area": config.crop, "flip": config.flip, "jitter": config.color}
    elif config.augment == "shift":
        options = {"flip": config.flip}
    return BatchTransform(mean, std, config.augment, config.seed, **options)


def views_of(transform: BatchTransform, images: Tensor, views: int, step: int, rank: int = 0) -> Tensor:
    """So many augmentations of images ``[B,C,S,S]``, one after the other."""
    # Ranks of further views are further than any process has.
    ranks = [rank + view * _VIEW for view in range(views)]
    return torch.cat([transform.train(images, step, each) for each in ranks])


def seen_held_out(transform: BatchTransform, images: Tensor, views: int) -> Tensor:
    """Held-out images ``[B,C,S,S]`` as a model sees them: the same views of the same batch, whenever it is asked."""
    return transform.evaluate(images) if views == 1 else views_of(transform, images, views, HELD_OUT)


def held_out_question(
    task: Task, net: Any, config: TrainConfig, pixels: Tensor, labels: Tensor, number: int, rank: int = 0
) -> Question:
    """What a task asks of a held-out batch.

    Args:
        task: of the run.
        net: its model.
        config: its settings.
        pixels: from :func:`seen_held_out`.
        labels: of the batch.
        number: of the batch among those that this process sees.
        rank: of the process.
    """
    draws = torch.Generator().manual_seed(task_seed(config, HELD_OUT - number, rank))
    return task.question(net, pixels, labels, draws)
