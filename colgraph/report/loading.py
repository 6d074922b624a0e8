"""A run folder read back for analysis: the network on plain images, its sheet, its images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from colgraph.analysis.scoring import PER_IMAGE, Scoring
from colgraph.data import as_bytes
from colgraph.hints import in_one_line
from colgraph.models import independent_weights
from colgraph.report.needs import lacks_of, network_of
from colgraph.report.task_scoring import TaskScoring
from colgraph.sheet import Sheet
from colgraph.space import Index
from colgraph.tasks import Classify, Task, make_task
from colgraph.training import RunFolder, TrainConfig, load_trained, make_model
from colgraph.training.checkpoint import TrainedModel, check_images
from colgraph.training.images import begin_task, images_of_run


class PlainImages(nn.Module):
    """A vision model that takes images between 0 and 1, or uint8 or uint16, and normalises them itself.

    Args:
        net: the network, mostly a :class:`colgraph.VisionColumnformer`.
        mean: per channel.
        std: per channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    @property
    def steps(self) -> int:
        """Time steps of a forward pass."""
        steps: int = getattr(self.net, "model", self.net).steps
        return steps

    @property
    def sheet(self) -> Sheet:
        """The sheet of the model.

        Raises:
            ValueError: where it has none.
        """
        sheet: Sheet | None = getattr(getattr(self.net, "model", self.net), "sheet", None)
        if sheet is None:
            raise ValueError(f"a {type(self.net).__name__} has no sheet")
        return sheet

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[B, classes]``, or ``[B, outputs, classes]``."""
        logits: Tensor = self.net(self.normalised(images))
        return logits

    def unroll(self, images: Tensor, **options: Any) -> Any:
        """As :meth:`colgraph.VisionColumnformer.unroll`, on images between 0 and 1."""
        return self.net.unroll(self.normalised(images), **options)

    def classify(self, state: Tensor) -> Tensor:
        """Logits from a state."""
        return self.net.classify(state)

    def __getattr__(self, name: str) -> Any:
        """``normed``, ``evidence`` and ``to_untied`` where the network has them, for analyses that ask whether."""
        if name in _WHERE_THERE:
            found = getattr(super().__getattr__("net"), name)
            return (lambda: self.of(found())) if name == "to_untied" else found
        return super().__getattr__(name)

    def of(self, net: nn.Module) -> PlainImages:
        """Another network on the same images."""
        return PlainImages(net, tuple(self.mean.flatten().tolist()), tuple(self.std.flatten().tolist())).eval()

    def normalised(self, images: Tensor) -> Tensor:
        """Images as the network takes them."""
        if not images.is_floating_point():
            images = as_bytes(images).to(self.mean) / 255
        return (images.to(self.mean) - self.mean) / self.std


_WHERE_THERE = ("normed", "evidence", "to_untied")


@dataclass(frozen=True, eq=False)
class Run:
    """A trained network with what it was trained on.

    Attributes:
        path: the run folder.
        net: the network, in evaluation mode, on images between 0 and 1.
        config: the settings of the run.
        classes: names.
        images: ``[B, channels, S, S]`` held-out images as bytes.
        labels: as the data have them: a class per image ``[B]``, or classes or vectors per patch or output column.
        summary: ``summary.json``, empty where the run has not ended.
        optimizer_steps: that the network has behind it; None where that is not known.
    """

    path: Path
    net: PlainImages
    config: TrainConfig
    classes: list[str]
    images: NDArray[np.uint8]
    labels: NDArray[Any]
    summary: dict[str, Any]
    optimizer_steps: int | None = None

    @property
    def sheet(self) -> Sheet:
        """The sheet of the model.

        Raises:
            ValueError: where it has none.
        """
        return self.net.sheet

    @cached_property
    def lacks(self) -> Mapping[str, str]:
        """What analyses may need and the network does not have (:data:`colgraph.report.needs.NEEDS`), and why."""
        return lacks_of(self.net.net, self.config.baseline or "the model")

    @property
    def starts_alike(self) -> bool:
        """Whether before training a column's own parameters are known to be the same in all columns."""
        if self.config.is_own:
            return False
        return self.config.parametrization != "plain" or not self.config.untied_parts

    @cached_property
    def task(self) -> Task:
        """What the network has learned, begun with the training images of the run.

        Raises:
            ValueError: where it needs those, and they cannot be read any more.
        """
        return begin_task(make_task(self.config), self.config, self.classes)

    @property
    def has_classes(self) -> bool:
        """Whether images have a class each, learned or not."""
        return self.labels.ndim == 1 and self.labels.dtype.kind in "iu"

    @property
    def says_classes(self) -> bool:
        """Whether the network answers with logits of the classes of images, and columns with evidence for them."""
        kind = type(self.task)
        as_classify = kind.tally is Classify.tally and kind.metrics is Classify.metrics
        # What another question asks need not be the class that the data say.
        as_classify &= kind.question is Task.question and kind.outputs is Classify.outputs
        return as_classify and self.has_classes and self.net.net.num_classes == len(self.classes)

    def scoring(self, seed: int) -> Scoring:
        """How right the network is about an image.

        Raises:
            ValueError: for a task whose answers are right or wrong only beside those to other images.
        """
        if self.says_classes:
            return PER_IMAGE
        if self.task.views != 1:
            raise ValueError(
                f"task {self.config.task} compares {self.task.views} views of images of a batch: accuracy image by "
                "image needs a task of one view, such as classify, columns or reconstruct"
            )
        is_share = self.task.labels != "none" and self.labels.dtype.kind in "iu"
        return TaskScoring(self.task, self.config.task, is_share, seed)

    def accuracy(self, net: Any, chosen: Index, seed: int, batch_size: int = 64) -> float:
        """Of a network, on some of the held-out images."""
        scoring = self.scoring(seed)
        images, labels = scoring.check(self.images[chosen], self.labels[chosen])
        return float(scoring.accuracy(scoring.counts(net, images, images, labels, batch_size=batch_size)))

    def untrained(self, *, independent: bool = False) -> PlainImages:
        """The same network before training, drawn with the run's seed; of one's own what its code makes with it.

        Args:
            independent: draw every column's own weights by themselves, of the same variance
                (:func:`colgraph.models.independent_weights`).

        Raises:
            ValueError: for independent weights of a network that ties all of its own, or has drawn them so already, or
                is none of colgraph's; and where code of the user's own makes another sheet than it made.
        """
        if independent and self.config.is_own:
            raise ValueError(f"of {self.config.baseline} only its code knows which weights are a column's own")
        if independent and self.config.parametrization == "plain" and self.config.untied_parts:
            raise ValueError("the control 'untrained' is this: its columns' own weights are independent")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            sheet = None if self.config.baseline else self.sheet
            fresh = network_of(make_model(self.config, sheet, self.net.net.num_classes))
        drawn = self.net.of(independent_weights(fresh, self.config.seed) if independent else fresh)
        if drawn.sheet.marks != self.sheet.marks:
            raise ValueError(f"{self.config.model} makes another sheet each time: it draws without a fixed seed")
        return drawn


def load_run(path: str | os.PathLike[str], *, images: int = 2000, seed: int = 0) -> Run:
    """Read a run folder, with at most ``images`` of its held-out images, drawn with the seed; with 0, none is read.

    Args:
        path: the run folder.
        images: how many, at most.
        seed: of their choice.

    Raises:
        ValueError: if it is no run folder, lacks its checkpoint, was written by another version, or its images cannot
            be read again, or if another process is writing to it.
    """
    run, folder = RunFolder(Path(path)), Path(path)
    run.checkpoint()
    try:
        trained = load_trained(folder)
    except (KeyError, TypeError, RuntimeError) as error:
        reason = in_one_line(error)[:200]
        raise ValueError(
            f"run {str(folder)!r} was written by another version of colgraph: its checkpoint does not fit ({reason})"
        ) from error
    config = trained.config
    data, labels = _held_out(trained, images, seed)
    net = PlainImages(network_of(trained.net), trained.transform.mean, trained.transform.std).eval()
    return Run(folder, net, config, trained.classes, data, labels, run.results(), trained.step)


def _held_out(trained: TrainedModel, most: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Some held-out images and their labels."""
    config = trained.config
    if not most:  # a whole data set would be decoded for nothing
        side = config.image_size
        return np.empty((0, config.channels, side, side), np.uint8), np.empty(0, np.int64)
    splits = images_of_run(config).with_classes(trained.classes)
    # Images of one name may have come with other labels from a program of the run's own.
    make_task(config).check(splits, trained.net)
    check_images(
        trained.began_with, splits, "the run may have learned from images that are held out now, put its own back"
    )
    chosen = np.random.default_rng(seed).permutation(len(splits.test))[:most]
    data, labels = splits.test.batch(sorted(chosen.tolist()))
    return data.numpy(), labels.numpy()
