"""Training from Python on arrays: a sheet, a model, or a network of one's own, into a run folder like any other."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from colgraph.data import ImageSplits, MemoryImages, as_bytes, hold_out, write_images
from colgraph.hints import did_you_mean
from colgraph.models import VisionModel
from colgraph.plugins import is_plugin
from colgraph.script import is_helper_process
from colgraph.sheet import Sheet
from colgraph.training.checkpoint import sheet_of_run
from colgraph.training.config import TrainConfig, describe_settings
from colgraph.training.flags import RunFlags
from colgraph.training.folder import RunFolder, writing
from colgraph.training.images import images_of
from colgraph.training.made import SHEET_SETTINGS
from colgraph.training.opening import open_run_folder
from colgraph.training.origin import settings_of
from colgraph.training.own import as_own
from colgraph.training.same_arrays import check_same_arrays, check_same_sheet
from colgraph.training.setup import check_task, make_model, make_sheet, num_answers

_HELD_OUT = 0.2
Pair = tuple[Any, Any]


def fit_arrays(
    images: Any,
    labels: Any,
    *,
    out: str | os.PathLike[str],
    sheet: Sheet | None = None,
    model: nn.Module | str | None = None,
    test: Pair | None = None,
    val: Pair | None = None,
    classes: Sequence[str] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    **settings: Any,
) -> tuple[VisionModel, ImageSplits, TrainConfig, RunFolder]:
    """What :func:`colgraph.training.fit` trains: arguments and errors are those of it."""
    parts = {"train": (images, labels), "test": test, "val": val}
    arrays = {name: _pixels(pair[0], name) for name, pair in parts.items() if pair is not None}
    side, channels = arrays["train"].shape[-1], arrays["train"].shape[1]
    for name, pixels in arrays.items():
        if pixels.shape[1:] != arrays["train"].shape[1:]:
            raise ValueError(f"{name} images are {list(pixels.shape[1:])}, training images {[channels, side, side]}")
    if overwrite and resume:
        raise ValueError("resume goes on with a run, and overwrite replaces it: give one of them")
    if sheet is not None and model is not None:
        raise ValueError("give a sheet, on which a columnformer is made, or a model, not both")
    config = _config(settings, side, channels, out, model, sheet)
    numbers, names = _labels({name: pair[1] for name, pair in parts.items() if pair is not None}, classes)
    splits = _splits(arrays, numbers, names, config.split_seed)
    if resume and not RunFolder(Path(out)).is_run and RunFolder(Path(out)).images.is_dir():
        resume, overwrite = False, True  # it ended between its images and its settings: to go on is to begin
    folder = open_run_folder(config, RunFlags(Path(out), resume, overwrite))
    if folder.resume:
        check_same_arrays(folder, config, splits)
        if sheet is not None:
            check_same_sheet(folder, sheet)
        elif config.baseline is None and model is None:
            sheet = sheet_of_run(config, folder)
        return _network(config, sheet, model, splits), images_of(config), config, folder
    if folder.images.exists() and not folder.overwrite:
        raise ValueError(f"{str(folder.images)!r} is there already: name another out, or give overwrite=True")
    net = _network(config, sheet, model, splits)
    _check_settings(settings, config, net, sheet)
    check_task(net, config, splits)
    if not is_helper_process():
        with writing(folder.images):
            shutil.rmtree(folder.images, ignore_errors=True)
            folder.path.mkdir(parents=True, exist_ok=True)
        write_images(splits, folder.images)
    return net, images_of(config), config, folder


def _config(
    settings: dict[str, Any],
    side: int,
    channels: int,
    out: str | os.PathLike[str],
    model: nn.Module | str | None,
    sheet: Sheet | None,
) -> TrainConfig:
    known = describe_settings()
    for name, why in (("data", "they are the images"), ("image_size", "it is theirs"), ("channels", "they are theirs")):
        if name in settings:
            raise ValueError(f"{name} is no setting for arrays: {why}")
    own = [name for name in settings if name not in known and name != "options"]
    if own and (sheet is not None or model is not None):
        raise ValueError(f"unknown setting {own[0]!r}{did_you_mean(own[0], known)}")
    data = str(RunFolder(Path(out).expanduser()).images.resolve())
    given = {"augment": "none", **settings, "data": data, "image_size": side, "channels": channels}
    if isinstance(model, str):
        if not is_plugin(model):
            raise ValueError(f"model must be a torch.nn.Module or file.py:function, got {model!r}")
        given["model"] = model
    options = {**given.pop("options", {}), **{name: given.pop(name) for name in own}}
    return TrainConfig(**given, options=options)


def _network(
    config: TrainConfig, sheet: Sheet | None, model: nn.Module | str | None, splits: ImageSplits
) -> VisionModel:
    if isinstance(model, VisionModel):
        return model
    if isinstance(model, nn.Module):
        return as_own(model, config, len(splits.classes))
    if config.baseline is not None:
        return make_model(config, None, num_answers(config, None, splits))
    sheet = make_sheet(config) if sheet is None else sheet
    return make_model(config, sheet, num_answers(config, sheet, splits))


def _check_settings(settings: Mapping[str, Any], config: TrainConfig, net: VisionModel, sheet: Sheet | None) -> None:
    """Refuse a network that these images are not for, and settings that go nowhere beside the sheet or model given."""
    if tuple(net.image_size) != (config.image_size, config.image_size) or net.in_channels != config.channels:
        raise ValueError(
            f"the network takes images [{net.in_channels}, {', '.join(map(str, net.image_size))}], these are "
            f"[{config.channels}, {config.image_size}, {config.image_size}]"
        )
    idle = next((name for name in settings if sheet is not None and name in SHEET_SETTINGS), None)
    if idle is not None:
        raise ValueError(f"{idle} has no effect on a sheet that is given: build the sheet with it, or leave it out")
    own, known = settings_of(net, config), describe_settings()
    odd = next((name for name in settings if name in known and getattr(config, name) != getattr(own, name)), None)
    if odd is not None:
        raise ValueError(
            f"{odd}={settings[odd]!r} has no effect on a network that is given, whose own is {getattr(own, odd)!r}: "
            "make the network with it, or leave it out"
        )


def _pixels(images: Any, name: str) -> np.ndarray:
    """``[n,C,S,S]`` uint8 from an array or a tensor, grey without channels, channels first or last."""
    pixels = images.detach().cpu() if isinstance(images, torch.Tensor) else torch.as_tensor(np.asarray(images))
    if pixels.is_floating_point():
        raise ValueError(f"{name} images must be bytes, 0 to 255, got {pixels.dtype}: scale and round them to uint8")
    if pixels.dim() == 3:
        pixels = pixels[:, None]
    first, last = (pixels.dim() == 4 and pixels.shape[axis] in (1, 3) for axis in (1, -1))
    if first and last:
        raise ValueError(f"{name} images {list(pixels.shape)} may have channels first or last: give larger images")
    pixels = pixels.permute(0, 3, 1, 2) if last else pixels
    if not (first or last) or pixels.shape[2] != pixels.shape[3] or not len(pixels):
        raise ValueError(
            f"{name} images must be squares, [n, S, S], [n, C, S, S] or [n, S, S, C] with 1 or 3 channels, got "
            f"{list(pixels.shape)}"
        )
    return as_bytes(pixels.contiguous()).numpy()


def _labels(given: dict[str, Any], classes: Sequence[str] | None) -> tuple[dict[str, np.ndarray], list[str]]:
    """Labels as places in the list of classes, and the list."""
    found = {name: np.asarray(each.cpu() if isinstance(each, torch.Tensor) else each) for name, each in given.items()}
    for name, each in found.items():
        if each.ndim != 1 or each.dtype.kind not in "iuU":
            raise ValueError(
                f"{name} labels must be a number or a name for each image, got {each.dtype}{list(each.shape)}"
            )
    there = sorted(set(found["train"].tolist()))
    if classes is None:
        names = list(map(str, there))
        places = {label: place for place, label in enumerate(there)}
    else:
        names = list(map(str, classes))
        if len(set(names)) < len(names):
            raise ValueError(f"classes must have different names, got {names}")
        places = (
            {name: i for i, name in enumerate(names)}
            if found["train"].dtype.kind == "U"
            else {i: i for i in range(len(names))}
        )
    for name, each in found.items():
        strange = sorted(set(each.tolist()) - set(places))
        if strange:
            raise ValueError(f"{name} labels hold {strange[0]!r}, which is none of {names if classes else there}")
    return {name: np.array([places[label] for label in each.tolist()]) for name, each in found.items()}, names


def _splits(arrays: dict[str, np.ndarray], labels: dict[str, np.ndarray], classes: list[str], seed: int) -> ImageSplits:
    sets = {name: MemoryImages(pixels, labels[name]) for name, pixels in arrays.items()}
    if "test" not in sets and "val" not in sets:
        kept, held = hold_out(labels["train"], _HELD_OUT, seed)
        sets |= {"train": sets["train"].subset(kept), "test": sets["train"].subset(held)}
    held_out = sets.get("test", sets.get("val"))
    if len(classes) < 2 or held_out is None or not len(held_out):
        raise ValueError(f"{len(classes)} classes and {len(arrays['train'])} images are too few to train and test on")
    zeros, ones = (tuple([value] * arrays["train"].shape[1]) for value in (0.0, 1.0))
    return ImageSplits(
        train=sets["train"],
        val=sets.get("val", held_out),
        test=held_out,
        classes=classes,
        channels=arrays["train"].shape[1],
        image_size=arrays["train"].shape[-1],
        mean=zeros,
        std=ones,
        source="arrays",
        notes=[],
    )
