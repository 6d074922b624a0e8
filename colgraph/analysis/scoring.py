"""How right a network is: about the class of each image, or by what else a task counts of its answers."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from colgraph.analysis.arrays import Array
from colgraph.analysis.nets import labeled_images, predict
from colgraph.analysis.stats import jackknife_interval, leaving_out, random_groups

Run: TypeAlias = Callable[..., Tensor]
"""How a network is run: the network, images and what else it takes, to its answers."""


class Scoring(abc.ABC):
    """What is counted of a network's answers to images, and the accuracy that counts add up to.

    Attributes:
        is_share: whether accuracies lie between 0 and 1.
    """

    is_share: bool = True

    @abc.abstractmethod
    def check(self, images: Any, labels: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Images ``[B, channels, height, width]`` between 0 and 1, and their labels ``[B, ...]``, or a ValueError."""

    @abc.abstractmethod
    def counts(
        self,
        net: Any,
        shown: NDArray[Any],
        images: NDArray[Any],
        labels: NDArray[Any],
        *,
        batch_size: int,
        run: Run | None = None,
    ) -> Array:
        """``[B, k]`` of each image, which add up over images.

        Args:
            net: the network.
            shown: ``[B, ...]`` what the network sees.
            images: ``[B, ...]`` what of it is right: the same images before anything was done to them.
            labels: ``[B, ...]``.
            batch_size: images at a time.
            run: how the network is run; as it is if not given.
        """

    @abc.abstractmethod
    def accuracy(self, counts: Array) -> Array:
        """``[...]`` from the counts ``[..., B, k]`` of B images."""

    def left_out(self, counts: Array, seed: int) -> list[Array]:
        """Accuracies ``[...]`` without each of the groups of images that the seed draws."""
        return [self.accuracy(counts[..., kept, :]) for kept in leaving_out(random_groups(counts.shape[-2], seed))]

    def interval(self, value: float | Array, estimates: Any) -> Array:
        """``[2, ...]``: a jackknife's, within the range of accuracies."""
        ends = jackknife_interval(value, estimates)
        return np.clip(ends, 0, 1) if self.is_share else ends


class ClassPerImage(Scoring):
    """Whether the largest of an image's logits ``[B, classes]`` is that of its class."""

    def check(self, images: Any, labels: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Images, and a class each."""
        return labeled_images(images, labels)

    def counts(
        self,
        net: Any,
        shown: NDArray[Any],
        images: NDArray[Any],
        labels: NDArray[Any],
        *,
        batch_size: int,
        run: Run | None = None,
    ) -> Array:
        """``[B, 1]``: 1 where the answer is right."""
        given = None if run is None else lambda batch: run(net, batch)
        right = predict(net, shown, labels, batch_size=batch_size, run=given) == labels
        return right[:, None].astype(np.float64)

    def accuracy(self, counts: Array) -> Array:
        """The share of images that are right."""
        return np.asarray(counts[..., 0].mean(-1))


PER_IMAGE = ClassPerImage()
