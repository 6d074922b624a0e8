"""What a task is: what a model is asked, how wrong its answer is, and what is counted of it."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from colgraph.data import ImageSplits


@dataclass(frozen=True)
class Question:
    """What a model is shown of a batch, and what is right.

    Attributes:
        images: ``[B,channels,S,S]``, normalised.
        targets: whatever the task's loss takes.
        hidden: ``[B,P]`` bool, patches (row by row) that are hidden from the model; None for none.
    """

    images: Tensor
    targets: Any
    hidden: Tensor | None = None


class Task(abc.ABC):
    """What a model learns from images.

    A task of your own is a class with these methods, made known by :func:`colgraph.register_task` or named as
    ``file.py:Class``. It is made with the settings of a run, of which it reads its own options.

    Attributes:
        labels: what images must come with: "image" (a class each), "column" (a class or a vector per patch or output
            column) or "none".
        readouts: how the model may be read out, see :class:`colgraph.VisionColumnformer`; the first by default.
        head: "linear" or "mlp".
        hides: whether patches are hidden from the model, which then needs a mask token.
        views: how many augmentations of each image make a batch, one after the other.
        smooths: whether the loss smooths labels of classes in training, by ``label_smoothing``; None where that is not
            known: a class with a loss of its own says so itself.
        accuracy_is: what :meth:`metrics` calls accuracy, in words; it is compared between epochs, and more is better.
        gather: joins answers ``[n,...]`` of all processes that see other images, for losses between images; also says
            where this process's own begin among them.
        weights: ``[K]``, how much classes count in training; None for all alike.
    """

    labels: str = "image"
    readouts: tuple[str, ...] = ("mean", "spatial")
    head: str = "linear"
    hides: bool = False
    views: int = 1
    smooths: bool | None = None
    accuracy_is: str = "share of images"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "loss" in vars(cls) and "smooths" not in vars(cls):
            cls.smooths = None  # what the loss that it takes the place of does is not what this one does

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.gather: Callable[[Tensor], tuple[Tensor, int]] = _alone
        self.weights: Tensor | None = None

    def begin(self, images: ImageSplits) -> None:  # noqa: B027 (most tasks have nothing to know beforehand)
        """Take from the training images what the loss needs to know, before the first step of a run.

        Evaluations and reports begin with the run's training images, too, whatever images they are of.
        """

    def check(self, images: ImageSplits, net: Any) -> None:  # noqa: B027 (a task may take whatever there is)
        """Raise ValueError for images or a model that this task cannot be learned from or with."""

    def smoothing(self, vectors: bool) -> float:
        """By how much the training loss is known to smooth labels; by nothing, where they are ``vectors``."""
        return float(self.settings.label_smoothing) if self.smooths and not vectors else 0.0

    @abc.abstractmethod
    def outputs(self, images: ImageSplits, patch_size: int) -> int:
        """Numbers that the model answers with: for an image, or for each output column."""

    def question(self, net: Any, images: Tensor, labels: Any, generator: torch.Generator) -> Question:
        """What the model is shown, and the targets.

        Args:
            net: the model.
            images: ``[views * B,channels,S,S]``, normalised.
            labels: as the data have them; of mixed images with the others' labels and the own share.
            generator: on the CPU; the same on every process that sees these images.
        """
        return Question(images, labels)

    @abc.abstractmethod
    def loss(self, answers: Tensor, targets: Any, training: bool = False) -> Tensor:
        """The mean loss of the model's answers ``[B,...]``, a scalar.

        Label smoothing and weights of classes are for ``training``; what is reported of held-out images goes without.
        A mean over anything but images takes a :meth:`counted` that says over what.
        """

    def counted(self, targets: Any, images: int, training: bool = False) -> Tensor | float:
        """What :meth:`loss` is a mean over, in a batch of so many images, by which losses of batches are averaged.

        The number of images, unless a task says otherwise: one whose loss is a mean over columns that count, or weighs
        classes, returns their number, or the sum of their weights, a scalar. Where that is 0, there is no loss.
        """
        return images

    @abc.abstractmethod
    def tally(self, answers: Tensor, targets: Any) -> Tensor:
        """Sums over a batch, ``[k]``, that add up over batches and processes to what :meth:`metrics` takes."""

    @abc.abstractmethod
    def metrics(self, tally: list[float], images: float) -> dict[str, float]:
        """From sums over a set of ``images`` to "accuracy" and what else is of interest."""

    @abc.abstractmethod
    def per_image(self, answers: Tensor, targets: Any) -> dict[str, Tensor]:
        """What ``predictions.npz`` keeps: "label" and "prediction" ``[B]`` or ``[B,O]``, or "score" ``[B]``."""


def _alone(answers: Tensor) -> tuple[Tensor, int]:
    return answers, 0
