"""What a checkpoint carries besides parameters, and the way back from a file to a model."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from colgraph.data import BatchTransform, ImageSplits
from colgraph.distributed import checkpoint as sharded
from colgraph.hints import in_one_line, reason_of
from colgraph.models import OwnNetwork, SheetMismatchError, VisionModel
from colgraph.options import OPTIONS_FORMAT, as_now
from colgraph.sheet import Sheet
from colgraph.training.config import TrainConfig
from colgraph.training.folder import RunFolder
from colgraph.training.own import check_own_sheet, file_digest, warn_of_other_code
from colgraph.training.resume import RunRecord, as_recorded
from colgraph.training.setup import make_model, make_sheet

KEY = "colgraph"
"""Where a checkpoint keeps what :func:`pack_run` returns."""

NET = "net."
"""The prefix of the model's parameters in a checkpoint's state dict."""


@dataclass(frozen=True)
class TrainedModel:
    """A model read back from a run.

    Attributes:
        net: the vision model, in evaluation mode, on the CPU.
        config: the settings of the run.
        classes: the name of each class.
        transform: ``transform.evaluate`` turns uint8 images ``[B,C,S,S]`` into the model's input.
        step: optimizer steps the model has behind it.
        began_with: what its checkpoint says of the images of the run, for :func:`check_images`.
    """

    net: VisionModel
    config: TrainConfig
    classes: list[str]
    transform: BatchTransform
    step: int
    began_with: Mapping[str, Any] = field(default_factory=dict)


def pack_run(
    record: RunRecord, sheet: Sheet | None, images: ImageSplits, answers: int, init: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Record, sheet and classes as plain values and tensors, which ``torch.load(weights_only=True)`` reads.

    ``answers`` is the number of values that the model answers with, ``init`` what it began with
    (:func:`colgraph.training.take_over.take_over`).
    """
    return {
        "format": OPTIONS_FORMAT,
        "config": record.config.flat(),
        "changes": [dict(change) for change in record.changes],
        "own": list(record.own),
        "sheet": None if sheet is None else pack_sheet(sheet),
        "classes": list(images.classes),
        "answers": answers,
        "init": init,
        "network": file_digest(record.config.model),
        "mean": list(images.mean),
        "std": list(images.std),
        "images": _count(images),
    }


_SAME_IMAGES = "resume with the images that it began with, or begin another run with --out"
_SAME_PIXELS = 1e-4  # in the mean over many images, on a scale from 0 to 1


def check_images(packed: Mapping[str, Any], images: ImageSplits, instead: str = _SAME_IMAGES) -> None:
    """Refuse images that are not those a run has learned from.

    Args:
        packed: from :func:`pack_run`, when the run was saved; of a version that counted no images, less is compared.
        images: those that are there now, their classes in the order of the model's answers.
        instead: what to do then.

    Raises:
        ValueError: naming what differs.
    """
    then, now = packed.get("images", {}), _count(images)
    told = [(f"{name} images", then.get(name, now[name]), now[name]) for name in ("training", "validation", "test")]
    told.append(("classes", len(packed["classes"]), len(images.classes)))
    for what, before, after in told:
        if before != after:
            raise ValueError(f"the data of the run had {before} {what}, {images.source!r} has {after}: {instead}")
    pixels = [abs(a - b) for name in ("mean", "std") for a, b in zip(packed[name], getattr(images, name))]
    for differs, what in (
        (list(packed["classes"]) != list(images.classes), "the names or the order of its classes"),
        (then.get("labels", now["labels"]) != now["labels"], "the labels of its images"),
        (max(pixels, default=0.0) > _SAME_PIXELS, "the pixels of its training images"),
    ):
        if differs:
            raise ValueError(f"{images.source!r} differs from the data of the run in {what}: {instead}")


def _of_images(packed: Mapping[str, Any]) -> dict[str, Any]:
    """The part of what :func:`pack_run` returned that :func:`check_images` reads."""
    return {name: packed[name] for name in ("classes", "mean", "std", "images") if name in packed}


def _count(images: ImageSplits) -> dict[str, Any]:
    sets = {"training": images.train, "validation": images.val, "test": images.test}
    labels = hashlib.sha256()
    for part in sets.values():
        whole = part.labels if part.labels.is_floating_point() else part.labels.to(torch.int64)
        labels.update(whole.numpy().tobytes())
    return {**{name: len(part) for name, part in sets.items()}, "labels": labels.hexdigest()}


def pack_sheet(sheet: Sheet) -> dict[str, Any]:
    """A sheet as plain values and tensors, which :func:`unpack_sheet` reads."""
    arrays = sheet.to_arrays().items()
    return {name: value.tolist() if value.dtype.kind in "US" else torch.from_numpy(value) for name, value in arrays}


def unpack_sheet(packed: Mapping[str, Any]) -> Sheet:
    """The sheet in what :func:`pack_run` returned, in this version or an older one.

    Raises:
        ValueError: as :meth:`Sheet.from_arrays`.
    """
    # Format 1 did not say so, and wrote None where there were no names.
    found = {"format": 1, **packed}
    return Sheet.from_arrays({name: np.asarray(value) for name, value in found.items() if value is not None})


def config_of(packed: Mapping[str, Any]) -> TrainConfig:
    """The settings in what :func:`pack_run` returned, in this version or an older one.

    Raises:
        ValueError: for what a later version has written.
    """
    # Format 1 kept the power of the wiring cost beside the settings.
    beside = {"wiring_power": packed.get("wiring_power", 1.0)}
    return TrainConfig.from_flat(beside | as_recorded(as_now(packed["config"], packed.get("format", 1))))


def sheet_of_run(config: TrainConfig, folder: RunFolder) -> Sheet:
    """The sheet that settings describe; for a run that goes on the one in its checkpoint, with its inputs and outputs.

    What a geometry, a file or a default amounts to may have changed since the run began.

    Raises:
        ValueError: as :func:`make_sheet` and :func:`read_checkpoint` do.
    """
    packed = read_checkpoint(folder.last)[KEY]["sheet"] if folder.resume else None
    return make_sheet(config) if packed is None else unpack_sheet(packed)


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint's tensors and plain values; nothing is unpickled into objects.

    Raises:
        ValueError: if the file is missing, truncated, or no checkpoint of a training run.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"cannot read checkpoint {os.fspath(path)!r}: {reason_of(error)}") from error
    if not isinstance(content, dict) or KEY not in content or "state_dict" not in content:
        raise ValueError(f"{os.fspath(path)!r} is not a checkpoint of a colgraph training run")
    return content


def optimizer_steps_of(path: str | os.PathLike[str]) -> int:
    """How many optimizer steps the model in a checkpoint has behind it.

    Raises:
        ValueError: as :func:`read_checkpoint`.
    """
    return int(read_checkpoint(path)["global_step"])


def gone_on_to(run: RunFolder, measured: int | None, written: Path) -> int | None:
    """How many optimizer steps a run has behind it by now, where what was measured is of another number of them.

    Args:
        run: the run.
        measured: after how many it was measured; None where an earlier version did not say. Then the file counts as of
            now unless it is older than the newest checkpoint.
        written: the file that was measured into.

    Returns:
        None where nothing has changed since, or the run has no checkpoint any more.

    Raises:
        ValueError: as :func:`read_checkpoint`.
    """
    if not run.last.is_file():
        return None
    if measured is None and written.stat().st_mtime >= run.last.stat().st_mtime:
        return None
    now = optimizer_steps_of(run.last)
    return None if now == measured else now


def load_trained(run: str | os.PathLike[str], network: nn.Module | None = None) -> TrainedModel:
    """Read a model back from a run folder (its ``last.ckpt``) or a checkpoint file, one kept on the way too.

    Args:
        run: the folder or the file.
        network: for a run of a network of one's own that no file makes: one of the same shapes, which is written to.

    Raises:
        ValueError: if there is no checkpoint, it cannot be read, or the network was of a class of the user's own.
    """
    path = Path(run)
    path = RunFolder(path).last if path.is_dir() else path
    content = read_checkpoint(path)
    packed = content[KEY]
    foreign = [part for part in packed.get("own", ()) if part.startswith("network")]
    config, answers = config_of(packed), packed.get("answers", len(packed["classes"]))
    if network is not None and not config.is_own:
        raise ValueError(f"network: {str(run)!r} has trained a {config.model}, which needs none: leave it out")
    if foreign and network is None:
        how = (
            "give one of its shapes as load_trained(run, network=...)"
            if config.is_own
            else "build it there, and load the state_dict that read_checkpoint reads"
        )
        raise ValueError(f"{str(run)!r} has trained a {foreign[0]}, which only its own code can make: {how}")
    sheet = None if packed["sheet"] is None else unpack_sheet(packed["sheet"])
    net: VisionModel
    if network is not None:
        net = OwnNetwork(network, config.image_size, config.channels, answers)
    else:
        warn_of_other_code(config.model, packed.get("network"))
        net = make_model(config, sheet, answers)
    check_own_sheet(net, packed, str(run))
    if "shards" in content:
        sharded.load_checkpoint(path.parent / content["shards"], net)
    else:
        state = {name.removeprefix(NET): value for name, value in content["state_dict"].items() if name.startswith(NET)}
        _load(net, state, path)
    transform = BatchTransform(packed["mean"], packed["std"])
    step = int(content["global_step"])
    net.about = _about(config, packed, RunFolder(path.parent.parent).summary, step)
    return TrainedModel(net.eval(), config, list(packed["classes"]), transform, step, _of_images(packed))


def _load(net: nn.Module, state: Mapping[str, Any], path: Path) -> None:
    try:
        net.load_state_dict(state)
    except SheetMismatchError:
        raise
    except RuntimeError as error:
        reason = in_one_line(error)[:200]
        raise ValueError(
            f"the parameters in {str(path)!r} do not fit the network that its settings describe: it was changed after "
            f"it was made, or written by another version of colgraph ({reason})"
        ) from error


_SCORES = (
    "test_accuracy",
    "accuracy_is",
    "test_perfect",
    "test_loss",
    "train_accuracy",
    "best_val_accuracy",
    "wiring_cost",
    "wiring_cost_in_spacings",
)


def _about(config: TrainConfig, packed: dict[str, Any], summary: Path, step: int) -> dict[str, Any]:
    """What a shared model should say of itself; scores where the run has ended at this step."""
    about: dict[str, Any] = {"data": Path(config.data).name if Path(config.data).exists() else config.data}
    about |= {name: list(packed[name]) for name in ("classes", "mean", "std")}
    about["task"] = Path(config.task).name
    about["training"] = {**config.flat(), "data": about["data"]}
    try:
        scores = json.loads(summary.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return about
    if scores.get("steps", step) != step:
        return about
    about["scores"] = {name: scores[name] for name in (*_SCORES, "seed", "steps", "commit") if name in scores}
    return about
