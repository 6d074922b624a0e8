"""Where metrics, settings and results go beside the run folder's own files: TensorBoard, W&B, MLflow, by Lightning."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import loggers as lightning_loggers

from colgraph.extras import optional
from colgraph.hints import in_one_line
from colgraph.output import write_text
from colgraph.script import is_helper_process
from colgraph.training.folder import RunFolder, writing
from colgraph.training.resume import RunRecord

PROJECT = "colgraph"
"""The project of W&B, and experiment of MLflow, where WANDB_PROJECT or MLFLOW_EXPERIMENT_NAME names no other."""


def make_loggers(names: Sequence[str], folder: RunFolder) -> list[Any]:
    """Loggers by name, for a run folder; nothing is written yet.

    A run that goes on goes on in the runs of W&B and MLflow that it had.

    Raises:
        ImportError: where the package of one is missing, with the pip line that brings it.
    """
    ids = _read_ids(folder) if folder.resume else {}
    return [_MAKERS[name](folder, ids.get(name)) for name in names]


def _tensorboard(folder: RunFolder, run_id: str | None) -> Any:
    # Lightning would miss the package at the first line that it logs.
    optional("--logger tensorboard (--logger none does without) needs", "tensorboard", "train")
    return lightning_loggers.TensorBoardLogger(folder.path, name=folder.tensorboard.name, version="")


def _wandb(folder: RunFolder, run_id: str | None) -> Any:
    optional("--logger wandb needs", "wandb", "loggers")
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    name = folder.path.resolve().name
    return lightning_loggers.WandbLogger(name=name, save_dir=folder.path, project=project, id=run_id)


def _mlflow(folder: RunFolder, run_id: str | None) -> Any:
    optional("--logger mlflow needs", "mlflow", "loggers")
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        # Files are what the small package mlflow-skinny can write; MLflow 3 asks whether they are meant.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return lightning_loggers.MLFlowLogger(
        experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT),
        run_name=folder.path.resolve().name,
        tracking_uri=uri or folder.mlflow.resolve().as_uri(),
        run_id=run_id,
    )


_MAKERS = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}


@contextlib.contextmanager
def begun(loggers: Sequence[Any], names: Sequence[str], folder: RunFolder, record: RunRecord) -> Iterator[None]:
    """Begin the runs of loggers, or go on with them, and tell them the settings; end them with what becomes of the run.

    Args:
        loggers: from :func:`make_loggers`.
        names: of each.
        folder: the run folder, which keeps which runs they are.
        record: the settings.

    Raises:
        ValueError: where one cannot begin.
    """
    if is_helper_process():
        yield
        return
    there = _read_ids(folder) if folder.resume else {}
    ids = dict(there)
    for name, logger in zip(names, loggers, strict=True):
        if name == "tensorboard":
            continue
        try:
            ids[name] = str(logger.experiment.id if name == "wandb" else logger.run_id)
            # MLflow holds that settings are those of the beginning.
            if name == "wandb" or name not in there:
                logger.log_hyperparams(record.config.flat())
        except Exception as error:
            offline = "; WANDB_MODE=offline keeps what it logs in the run folder" if name == "wandb" else ""
            raise ValueError(f"--logger {name} cannot begin: {in_one_line(error).rstrip('.')}{offline}") from error
    if ids != there:
        with writing(folder.loggers):
            write_text(folder.loggers, json.dumps(ids, indent=2) + "\n")
    failed = True
    try:
        yield
        failed = False
    finally:
        for name, logger in zip(names, loggers, strict=True):
            with _forgiving(name):
                if name == "wandb":
                    logger.experiment.finish(exit_code=int(failed))
                elif name == "mlflow" and failed:
                    logger.finalize("failed")


def log_epoch(logger: Any, row: Mapping[str, float], step: int) -> None:
    """Hand on the metrics of an epoch; a service that does not answer is said, and stops no training."""
    if isinstance(logger, lightning_loggers.TensorBoardLogger):
        logger.log_metrics(dict(row), step=step)
        return
    with _forgiving(type(logger).__name__):
        logger.log_metrics(dict(row), step=step)


def log_summary(loggers: Sequence[Any], names: Sequence[str], summary: Mapping[str, Any], record: RunRecord) -> None:
    """Hand on what ``summary.json`` holds: numbers as metrics under their names there, W&B and MLflow all of it."""
    numbers = {name: value for name, value in summary.items() if _is_number(value)}
    for name, logger in zip(names, loggers, strict=True):
        with _forgiving(name):
            if name == "tensorboard":
                scores = {each: numbers[each] for each in ("test_accuracy", "test_loss") if each in numbers}
                logger.log_hyperparams(record.config.flat(), scores)
                logger.finalize("success")
            elif name == "wandb":
                logger.experiment.summary.update(dict(summary))
            else:
                logger.log_metrics(numbers, step=int(summary["steps"]))
                logger.experiment.log_dict(logger.run_id, dict(summary), RunFolder(Path()).summary.name)
                logger.finalize("success")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@contextlib.contextmanager
def _forgiving(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        sys.stderr.write(f"note: {name} does not take what the run logs, which goes on: {in_one_line(error)[:200]}\n")


def _read_ids(folder: RunFolder) -> dict[str, str]:
    """The runs of loggers that a run folder keeps; a file that cannot be read costs new ones, which is said."""
    if not folder.loggers.is_file():
        return {}
    try:
        content = json.loads(folder.loggers.read_text(encoding="utf-8"))
        return {str(name): str(value) for name, value in content.items()}
    except (OSError, ValueError, AttributeError) as error:
        warnings.warn(
            f"cannot read {str(folder.loggers)!r}, loggers begin new runs: {in_one_line(error)}", stacklevel=2
        )
        return {}
