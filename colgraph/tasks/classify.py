"""A class per image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from colgraph.data import ImageSplits
from colgraph.tasks.known import register_task
from colgraph.tasks.task import Task


def class_weights(settings: Any, images: ImageSplits) -> Tensor | None:
    """``[K]`` by which the classes of training labels weigh: all alike (None), or "balanced": n / (K n_k).

    ``n_k`` of n labels are of class k (King and Zeng 2001, "Logistic regression in rare events data"); a class without
    a label weighs nothing.

    Raises:
        ValueError: for vectors, which have no classes.
    """
    check_class_weights(settings, images)
    if settings.class_weights == "none":
        return None
    labels = images.train.labels
    count = torch.bincount(labels[labels >= 0], minlength=len(images.classes)).double()
    return (count.sum() / (len(count) * count)).where(count > 0, count.new_zeros(())).float()


def check_class_weights(settings: Any, images: ImageSplits) -> None:
    """Raise ValueError for weights of classes where labels are vectors."""
    if settings.class_weights != "none" and images.train.labels.is_floating_point():
        raise ValueError(
            f"class_weights: labels of {images.source!r} are vectors, which have no classes to weigh, got "
            f"{settings.class_weights}: give none"
        )


def entropy_options(task: Task, answers: Tensor, training: bool) -> dict[str, Any]:
    """What cross-entropy is called with in training: the smoothing of labels, and the weights of classes."""
    if not training:
        return {}
    weights = task.weights
    on = None if weights is None else weights.to(answers)
    return {"label_smoothing": task.settings.label_smoothing, "weight": on}


def weight_of(weights: Tensor, labels: Tensor) -> Tensor:
    """The sum of the weights ``[K]`` of classes over labels ``[n]``, which their weighted mean is divided by."""
    return weights.to(labels.device)[labels].sum()


@register_task("classify")
class Classify(Task):
    """The class of an image, by cross-entropy; of mixed images, that of both labels by their shares."""

    smooths = True
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

    def begin(self, images: ImageSplits) -> None:
        """The weights of classes."""
        self.weights = class_weights(self.settings, images)

    def loss(self, answers: Tensor, targets: Any, training: bool = False) -> Tensor:
        """Cross-entropy; ``targets`` are labels ``[B]``, or those with others' labels and the own share."""
        options = entropy_options(self, answers, training)
        if isinstance(targets, Tensor):
            return F.cross_entropy(answers, targets, **options)
        labels, others, share = targets
        own, other = (F.cross_entropy(answers, each, **options, reduction="none") for each in (labels, others))
        return (share * own + (1 - share) * other).mean()

    def counted(self, targets: Any, images: int, training: bool = False) -> Tensor | float:
        """Images; in training with weights of classes, the sum of theirs. Mixed images count alike."""
        if not training or self.weights is None or not isinstance(targets, Tensor):
            return images
        return weight_of(self.weights, targets)

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
