"""Training a vision columnformer: settings, the loop (through Lightning), checkpoints, figures and the run folder.

:func:`train` needs the package ``lightning``, which is imported when it is first asked for.
"""

from __future__ import annotations

import os
from typing import Any

from colgraph.data import ImageSplits
from colgraph.extras import missing_package
from colgraph.models import VisionModel
from colgraph.script import run_script
from colgraph.training.checkpoint import TrainedModel, load_trained, read_checkpoint, sheet_of_run
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
