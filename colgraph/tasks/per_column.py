"""A class, or a vector, per output column."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from colgraph.data import IGNORED, ImageSplits
from colgraph.tasks.classify import check_class_weights, class_weights, entropy_options, weight_of
from colgraph.tasks.known import register_task
from colgraph.tasks.task import Question, Task

FARTHEST = 1e6
"""Standard deviations from zero within which vectors lie: beyond, sums of squares leave no digits for a variance."""


@register_task("columns")
class Columns(Task):
    """What each output column should say: a class, by cross-entropy, or a vector, by its squared error.

    Labels are ``[n,rows,cols]`` for the patches of an image, each of which one output column or several answer for
    (:attr:`colgraph.VisionColumnformer.output_patches`), or ``[n,outputs]`` in the order of the output columns;
    vectors have one axis more. Accuracy is the mean over classes of the share of their columns that are right, so that
    to say the most frequent class is worth no more than 1 / classes; of vectors, the share of their variance that is
    explained, over all numbers.
    """

    labels = "column"
    readouts = ("columns",)
    smooths = True
    accuracy_is = "share of columns that are right, the mean over classes (of vectors: explained variance)"

    def check(self, images: ImageSplits, net: Any) -> None:
        """Labels per patch or per output column; vectors that differ, and have no weights of classes."""
        for part in (images.train, images.val, images.test, *images.harder.values()):
            self._check_labels(part.labels, images, net)
        if not bool(_counts(images.train.labels).any()):
            raise ValueError(f"task: all labels of {images.source!r} are ignored ({IGNORED}, or nan): nothing to learn")
        check_class_weights(self.settings, images)
        if images.train.labels.is_floating_point():
            _check_spread(images.train.labels, images.source)

    def _check_labels(self, labels: Tensor, images: ImageSplits, net: Any) -> None:
        shape = tuple(labels.shape[1 : labels.dim() - labels.is_floating_point()])
        patches, outputs = net.output_patches.numel(), answering(net)
        if not shape:
            raise ValueError(
                f"task: columns takes a label per patch or output column, {images.source!r} has one per image: "
                "give --task classify, or data with masks"
            )
        if len(shape) == 2 and (shape != net.grid or not patches):
            raise ValueError(
                f"task: {images.source!r} has labels for {shape[0]} x {shape[1]} patches, the model {outputs} output "
                f"columns and {net.grid[0]} x {net.grid[1]} patches: give as many outputs as patches, or a multiple"
            )
        if len(shape) == 2 and getattr(net, "sampling", "uniform") != "uniform":
            raise ValueError(
                f"task: {images.source!r} has labels for squares of the image, patches are rings and wedges with "
                f"sampling={net.sampling!r}: give sampling='uniform', or labels in the order of the output columns"
            )
        if len(shape) == 1 and shape[0] != outputs:
            raise ValueError(
                f"task: {images.source!r} has {shape[0]} labels an image, the model {outputs} output columns: they "
                "must be as many"
            )
        if not labels.is_floating_point():
            counted = labels[labels != IGNORED]
            if counted.numel() and not 0 <= int(counted.min()) <= int(counted.max()) < len(images.classes):
                raise ValueError(
                    f"task: labels of {images.source!r} run from {int(counted.min())} to {int(counted.max())}, it has "
                    f"{len(images.classes)} classes: they must be below that ({IGNORED} is ignored)"
                )

    def outputs(self, images: ImageSplits, patch_size: int) -> int:
        """The number of classes, or the length of a vector."""
        labels = images.train.labels
        return labels.size(-1) if labels.is_floating_point() else len(images.classes)

    def question(self, net: Any, images: Tensor, labels: Any, generator: torch.Generator) -> Question:
        """The images, and the labels in the order of the output columns: ``[B,O]``, or vectors ``[B,O,K]``."""
        vectors = labels.is_floating_point()
        if labels.dim() - vectors == 3:
            labels = labels.flatten(1, 2).index_select(1, net.output_patches)
        return Question(images, labels.to(images.dtype) if vectors else labels)

    def begin(self, images: ImageSplits) -> None:
        """The weights of classes."""
        self.weights = class_weights(self.settings, images)

    def loss(self, answers: Tensor, targets: Any, training: bool = False) -> Tensor:
        """The mean over columns that are not ignored, weighted by class; zero where all are ignored."""
        if targets.is_floating_point():
            known = _counts(targets).unsqueeze(-1)
            # A nan would reach the gradient through a factor of zero.
            errors = (answers - targets.nan_to_num()).square() * known
            return errors.sum() / (known.sum() * answers.size(-1)).clamp(min=1)
        counted = _counts(targets)
        options = entropy_options(self, answers, training)
        entropy = F.cross_entropy(answers[counted], targets[counted], reduction="sum", **options)
        total = self.counted(targets, len(targets), training)
        return entropy / total.clamp(min=torch.finfo(torch.float32).tiny)

    def counted(self, targets: Any, images: int, training: bool = False) -> Tensor:
        """Columns that are not ignored; in training with weights of classes, the sum of theirs."""
        known = _counts(targets)
        if not training or self.weights is None or targets.is_floating_point():
            return known.sum()
        return weight_of(self.weights, targets[known])

    def tally(self, answers: Tensor, targets: Any) -> Tensor:
        """Of classes: the right columns and all columns of each class, and images without a wrong column.

        Of vectors: squared errors, numbers, and for each number its sum and that of its squares.
        """
        answers, targets = _exact(answers.detach()), _exact(targets)
        known = _counts(targets)
        if targets.is_floating_point():
            # In float32, the variance of numbers around 3,000 would be lost beside their squares.
            seen = targets[known].double()
            error = (answers[known].double() - seen).square().sum()
            return torch.cat([torch.stack([error, known.sum().double()]), seen.sum(0), seen.square().sum(0)])
        right = (answers.argmax(-1) == targets) & known
        classes = answers.size(-1)
        counts = [torch.bincount(targets[which], minlength=classes) for which in (right, known)]
        perfect = (right | ~known).all(1).sum()
        return torch.cat([*counts, perfect.unsqueeze(0)]).double()

    def metrics(self, tally: list[float], images: float) -> dict[str, float]:
        """Of classes: accuracy, that of all columns alike, and the share of images without a wrong column."""
        sums = torch.tensor(tally, dtype=torch.float64)
        if len(sums) % 2:  # of classes
            right, known = sums[:-1].chunk(2)
            there = known > 0
            return {
                "accuracy": float((right[there] / known[there]).mean()) if bool(there.any()) else 0.0,
                "column_accuracy": float(right.sum() / known.sum().clamp(min=1)),
                "perfect": float(sums[-1] / max(images, 1.0)),
            }
        error, n = sums[:2]
        total, squares = sums[2:].chunk(2)
        variance = float((squares - total.square() / n.clamp(min=1)).sum())
        # Of numbers that are all alike, nothing can be explained: what is left of their variance is rounding.
        varies = variance * FARTHEST**2 > float(squares.sum())
        return {"accuracy": 1 - float(error) / variance if varies else math.nan}

    def per_image(self, answers: Tensor, targets: Any) -> dict[str, Tensor]:
        """Label and answer of each column; of vectors minus the mean squared error."""
        if targets.is_floating_point():
            known = _counts(targets).unsqueeze(-1)
            # A nan would reach the gradient through a factor of zero.
            errors = (answers - targets.nan_to_num()).square() * known
            return {"score": -errors.sum((1, 2)) / (known.sum((1, 2)) * answers.size(-1)).clamp(min=1)}
        return {"label": targets, "prediction": answers.argmax(-1)}


def _check_spread(labels: Tensor, source: str) -> None:
    """Refuse vectors ``[n,...,K]`` of which nothing, or nothing that is left of the digits, could be explained."""
    seen = labels[_counts(labels)].double()
    mean, deviation = float(seen.mean(0).norm()), float(seen.std(0, correction=0).norm())
    if mean >= FARTHEST * deviation and mean > 0:
        raise ValueError(
            f"task: vectors of {source!r} lie {mean:.6g} from zero with a standard deviation of {deviation:.3g}, which "
            "leaves no digits to tell them apart by: subtract their mean, or give vectors that differ"
        )


def answering(net: Any) -> int:
    """How many columns, or patches of a model without a sheet, answer."""
    outputs = getattr(net, "outputs", None)
    return int((net.output_patches if outputs is None else outputs).numel())


def _exact(tensor: Tensor) -> Tensor:
    """Where there are numbers of double precision."""
    return tensor.cpu() if tensor.device.type == "mps" else tensor


def _counts(labels: Tensor) -> Tensor:
    """Which labels are not ignored; of vectors without their last axis."""
    return ~labels.isnan().any(-1) if labels.is_floating_point() else labels != IGNORED
