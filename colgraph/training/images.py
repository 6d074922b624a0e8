"""The images that settings name, and what a model says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from colgraph.data import MADE, ImageSet, ImageSplits, load_images
from colgraph.tasks import Classify, Columns, Reconstruct, Task
from colgraph.training.config import TrainConfig
from colgraph.training.setup import grid_of


def images_of(config: TrainConfig, data: str | None = None) -> ImageSplits:
    """The images of a run, or others that are read in the same way.

    Args:
        config: the settings of the run.
        data: other images of its kind, as ``--data`` of training.

    Raises:
        ValueError: as :func:`colgraph.data.load_images` does.
    """
    return load_images(
        data or config.data,
        image_size=config.image_size,
        channels=config.channels,
        memory_gb=config.memory_gb,
        split_seed=config.split_seed,
        train_share=config.train_share,
        max_corrupt=config.max_corrupt,
        grid=grid_of(config),
    )


def images_of_run(config: TrainConfig) -> ImageSplits:
    """The images that a run was trained on, once more.

    Raises:
        ValueError: as :func:`images_of`; of a relative path that leads nowhere from here, with where it may lead.
    """
    try:
        return images_of(config)
    except ValueError as error:
        path = Path(config.data).expanduser()
        if config.data.partition(":")[0] in MADE or path.is_absolute() or path.exists():
            raise
        raise ValueError(
            f"{error} (the run calls its images {config.data!r}: if that is a path, do this in the folder that the run "
            "was trained from)"
        ) from error


_WEIGH_CLASSES = (Classify, Columns, Reconstruct)
"""Tasks that take weights of classes from training images, which count in training alone."""


def begin_task(task: Task, config: TrainConfig, classes: Sequence[str], images: ImageSplits | None = None) -> Task:
    """Let a task take from the training images of a run what its loss needs, as it did before training; returns it.

    Args:
        task: for held-out images of any data.
        config: the settings of the run.
        classes: names, in the order of the model's answers.
        images: of the run, where they are at hand; else they are read, where the task asks for any.

    Raises:
        ValueError: if they cannot be read any more.
    """
    if type(task).begin is Task.begin or type(task) in _WEIGH_CLASSES:
        return task
    if images is None:
        try:
            images = images_of_run(config)
            images = images if task.labels == "none" else images.with_classes(classes)
        except ValueError as error:
            raise ValueError(f"task {config.task!r} begins with the training images of the run: {error}") from error
    task.begin(images)
    return task


def predictions_of(
    images: ImageSet, said: Mapping[str, Tensor], classes: Sequence[str], indices: Sequence[int] | None = None
) -> dict[str, NDArray[Any]]:
    """What ``predictions.npz`` holds: ``image`` (keys ``[n]``), what a task keeps of each image, and ``classes``.

    Args:
        images: the images that were asked about, whose :meth:`colgraph.data.ImageSet.keys` name them in any order.
        said: of each image that could be read, in order: "label" and "prediction" ``[n]`` or, of columns, ``[n,O]``;
            or "score" ``[n]``.
        classes: names.
        indices: which images were asked about; all by default.
    """
    asked = images.readable(range(len(images)) if indices is None else indices)
    return {
        "image": images.keys(asked),
        **{name: value.cpu().numpy() for name, value in said.items()},
        "classes": np.array(list(classes), dtype=np.str_),
    }
