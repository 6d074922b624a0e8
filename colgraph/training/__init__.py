"""Training a vision columnformer: settings, the loop (through Lightning), checkpoints, figures and the run folder.

:func:`train` needs the package ``lightning``, which is imported when it is first asked for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from torch import nn

from colgraph.data import ImageSplits
from colgraph.extras import missing_package
from colgraph.models import VisionModel
from colgraph.script import run_script
from colgraph.sheet import Sheet
from colgraph.training.checkpoint import (
    TrainedModel,
    gone_on_to,
    load_trained,
    read_checkpoint,
    sheet_of_run,
)
from colgraph.training.config import TrainConfig
from colgraph.training.errors import InterruptedRunError, TrainingDivergedError, UnwritableRunError
from colgraph.training.flags import RunFlags, parse_flags
from colgraph.training.folder import RunFolder
from colgraph.training.images import images_of
from colgraph.training.opening import open_run_folder
from colgraph.training.setup import make_model, make_sheet, num_answers, unreached_outputs

__all__ = [
    "InterruptedRunError",
    "RunFlags",
    "RunFolder",
    "TrainConfig",
    "TrainedModel",
    "TrainingDivergedError",
    "UnwritableRunError",
    "fit",
    "gone_on_to",
    "images_of",
    "load_checkpoint",
    "load_trained",
    "make_model",
    "make_sheet",
    "num_answers",
    "open_run_folder",
    "parse_flags",
    "read_checkpoint",
    "run_script",
    "sheet_of_run",
    "train",
    "unreached_outputs",
]

load_checkpoint = read_checkpoint  # its name before ``colgraph.distributed.load_checkpoint``, which loads into a model


def train(
    net: VisionModel,
    images: ImageSplits,
    config: TrainConfig,
    folder: RunFolder | str | os.PathLike[str],
) -> dict[str, Any]:
    """As :func:`colgraph.training.run.train`, which is imported when it is called.

    Raises:
        ImportError: without Lightning.
    """
    try:
        from colgraph.training.run import train as begin
    except ModuleNotFoundError as error:
        package = (error.name or "lightning").partition(".")[0]
        raise missing_package("training needs", package, "train") from error
    return begin(net, images, config, folder)


def fit(
    images: Any,
    labels: Any,
    *,
    out: str | os.PathLike[str],
    sheet: Sheet | None = None,
    model: nn.Module | str | None = None,
    test: tuple[Any, Any] | None = None,
    val: tuple[Any, Any] | None = None,
    classes: Sequence[str] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Train on arrays, and write a run folder that ``evaluate``, ``analyze``, ``report`` and ``load_trained`` read.

    The images are written into the run folder (``images/``, parquet files of PNG), for the run to be measured again.

    Args:
        images: ``[n,S,S]``, ``[n,C,S,S]`` or ``[n,S,S,C]`` bytes, one or three channels.
        labels: ``[n]``, numbers or names of classes.
        out: the run folder.
        sheet: a sheet to train a columnformer on; by default the one that settings describe.
        model: in place of a sheet, a model: of colgraph, any ``torch.nn.Module`` from normalized images ``[B,C,S,S]``
            to logits ``[B,classes]``, or ``file.py:function``, which returns one (told ``num_classes``, ``image_size``
            and ``channels``, those that it has parameters for). A class at the top of a file that makes the same
            network from these is found by itself. Stored are this reference and the state dict; nothing is pickled.
        test: images and labels to test on; by default a stratified fifth, chosen by ``split_seed``.
        val: images and labels to follow training by; by default those of the test.
        classes: names, where labels are numbers: of 0, 1, 2 and so on.
        overwrite: replace the run that the folder holds.
        resume: go on with the interrupted run that the folder holds, to the same bits as if it had never ended: the
            same call as its beginning, with the same arrays, labels, classes and network (or sheet). What may change is
            what ``colgraph train --resume`` lets change, such as ``epochs``.
        **settings: of :class:`TrainConfig`, and options of the geometry. ``augment`` is "none" unless given.

    Returns:
        What ``summary.json`` holds.

    Raises:
        ValueError: for arrays, labels, settings and models that do not fit together, before anything is written, for
            others than those that a run began with, and as :func:`train` does.
        ImportError: without Lightning, or what writes the images.
    """
    from colgraph.training.from_arrays import fit_arrays

    given: dict[str, Any] = {"sheet": sheet, "model": model, "classes": classes}
    given |= {"overwrite": overwrite, "resume": resume}
    net, splits, config, folder = fit_arrays(images, labels, out=out, test=test, val=val, **given, **settings)
    return train(net, splits, config, folder)
