"""A class per image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from colgraph.data import ImageSplits
from colgraph.tasks.known import register_task
from colgraph.tasks.task import Task


@register_task("classify")
class Classify(Task):
    """The class of an image, by cross-entropy; of mixed images, that of both labels by their shares."""

    accuracy_is = "share of images whose class is right"

    def check(self, images: ImageSplits, net: Any) -> None:
        """Images need a class each."""
        if images.train.labels.dim() != 1 or images.train.labels.is_floating_point():
            shape = list(images.train.labels.shape[1:])
            raise ValueError(
                f"task: classify takes a class per image, {images.source!r} has labels of shape {shape} each: "
                "give --task columns"
            )

    def outputs(self, images: ImageSplits, patch_size: int) -> int:
        """The number of classes."""
        return len(images.classes)

    def loss(self, answers: Tensor, targets: Any, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy; ``targets`` are labels ``[B]``, or those with others' labels and the own share."""
        if isinstance(targets, Tensor):
            return F.cross_entropy(answers, targets, label_smoothing=smoothing)
        labels, others, share = targets
        own, other = (
            F.cross_entropy(answers, each, label_smoothing=smoothing, reduction="none") for each in (labels, others)
        )
        return (share * own + (1 - share) * other).mean()

    def tally(self, answers: Tensor, targets: Any) -> Tensor:
        """The number of right answers."""
        labels = targets if isinstance(targets, Tensor) else targets[0]
        return (answers.detach().argmax(-1) == labels).sum().to(torch.float32).unsqueeze(0)

    def metrics(self, tally: list[float], images: float) -> dict[str, float]:
        """The share of right answers."""
        return {"accuracy": tally[0] / max(images, 1.0)}

    def per_image(self, answers: Tensor, targets: Any) -> dict[str, Tensor]:
        """Label and answer of each image."""
        return {"label": targets, "prediction": answers.argmax(-1)}
