"""Training a vision columnformer: settings, the loop (through Lightning), checkpoints, figures and the run folder.

:func:`train` needs the package ``lightning``, which is imported when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from colgraph.script import run_script
from colgraph.training.checkpoint import TrainedModel, load_checkpoint, load_trained, sheet_of_run
from colgraph.training.config import TrainConfig
from colgraph.training.errors import InterruptedRunError, TrainingDivergedError, UnwritableRunError
from colgraph.training.flags import RunFlags, parse_flags
from colgraph.training.folder import RunFolder, open_run_folder
from colgraph.training.setup import make_model, make_sheet, unreached_outputs

if TYPE_CHECKING:
    from colgraph.training.run import train

__all__ = [
    "InterruptedRunError",
    "RunFlags",
    "RunFolder",
    "TrainConfig",
    "TrainedModel",
    "TrainingDivergedError",
    "UnwritableRunError",
    "load_checkpoint",
    "load_trained",
    "make_model",
    "make_sheet",
    "open_run_folder",
    "parse_flags",
    "run_script",
    "sheet_of_run",
    "train",
    "unreached_outputs",
]


def __getattr__(name: str) -> Any:
    if name != "train":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from colgraph.training.run import train
    except ModuleNotFoundError as error:
        raise ImportError(f"training needs the package {error.name}: pip install 'colgraph[train]'") from error
    return train
