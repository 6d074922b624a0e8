"""A trained model on images of another size: the sheet that its settings give there, with the same parameters."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from colgraph.data import ImageSplits, load_images
from colgraph.data.puzzles.named import is_puzzle, puzzle_of, repetitions
from colgraph.models import VisionColumnformer
from colgraph.options import OptionError, patch_grid
from colgraph.training.checkpoint import TrainedModel
from colgraph.training.config import TrainConfig
from colgraph.training.images import images_of, images_of_run
from colgraph.training.setup import make_sheet


def images_of_any_size(config: TrainConfig, data: str | None, patch_size: int) -> ImageSplits:
    """The images of a run, or others; made data of another size, or that patches do not fit, at the size of their own.

    A pixel that is drawn is as large as in the run's images: a small maze or curve is no magnified one.

    Args:
        config: the settings of the run.
        data: as ``--data`` of training; None for the images of the run.
        patch_size: side of a patch in pixels. Made data with a label for each cell have a patch for each.

    Raises:
        ValueError: as :func:`colgraph.data.load_images` does.
    """
    if data is not None and (size := _drawn_alike(config, data)) != config.image_size:
        return load_images(data, image_size=size, **_options(config))
    try:
        return images_of_run(config) if data is None else images_of(config, data)
    except ValueError as refused:
        if data in (None, config.data):
            raise
        try:
            return _of_own_size(config, str(data), patch_size)
        except ValueError:
            raise refused from None


def _options(config: TrainConfig) -> dict[str, Any]:
    return {"channels": config.channels, "memory_gb": config.memory_gb}


def _drawn_alike(config: TrainConfig, data: str) -> int:
    """The side of images on which other made data are drawn as large as the run's; the run's for all other images."""
    here = config.image_size
    if not (isinstance(config.data, str) and is_puzzle(config.data) and is_puzzle(data)):
        return here
    return puzzle_of(data).unit * repetitions(puzzle_of(config.data), here, config.data)


def _of_own_size(config: TrainConfig, data: str, patch_size: int) -> ImageSplits:
    # Without a size, all but made data are refused.
    options = _options(config)
    images = load_images(data, **options)
    labels = images.train.labels
    rows = labels.size(1) if labels.dim() - labels.is_floating_point() > 1 else images.image_size // patch_size
    size = rows * patch_size
    return images if images.image_size == size else load_images(data, image_size=size, **options)


def at_size(trained: TrainedModel, image_size: int) -> TrainedModel:
    """The same parameters for square images of another size, with patches of the same.

    A sheet must be a grid with a column for each patch, with nothing that belongs to a place; it becomes the grid that
    the run's settings give with as many columns as there are patches. A baseline must take images of any size.

    Raises:
        ValueError: for other sheets, naming the setting or the parameter, and baselines that do not.
    """
    net, config = trained.net, trained.config
    stride = config.patch_stride
    try:
        side, _ = patch_grid((image_size, image_size), net.patch_size, stride)
    except OptionError as error:
        apart = "" if stride is None else f", {stride} from one to the next"
        raise ValueError(
            f"images of {image_size} pixels cannot be cut into patches of {net.patch_size}{apart}, as the run's"
        ) from error
    if not isinstance(net, VisionColumnformer):
        if not net.takes_any_size:
            raise ValueError(f"{config.baseline} takes images of {config.image_size} pixels, got {image_size}")
        other = copy.deepcopy(net)
        other.image_size = (image_size, image_size)
        return dataclasses.replace(trained, net=other, config=dataclasses.replace(config, image_size=image_size))
    larger = _config_at(net, config, side, image_size)
    moved = net.on_sheet(make_sheet(larger), image_size).eval()
    return dataclasses.replace(trained, net=moved, config=larger)


def _config_at(net: VisionColumnformer, config: TrainConfig, side: int, image_size: int) -> TrainConfig:
    """The settings of a grid of ``side`` x ``side`` columns, where those of the run are of a smaller one."""
    columns, shape = net.model.sheet.num_columns, config.options.get("shape")
    checks = (
        (config.geometry != "grid", "geometry", f"{config.geometry} has its own columns"),
        (config.control != "none", "control", f"{config.control} is drawn for its own columns"),
        (config.rewire > 0, "rewire", "the edges that the run has found are between its own columns"),
        (config.mask is not None, "mask", f"{config.mask} chooses among its own columns"),
        (config.inputs is not None, "inputs", f"{config.inputs} are its own columns"),
        (config.outputs not in ("all", None), "outputs", f"{config.outputs} are its own columns"),
        (shape != [*net.grid], "shape", f"{shape} is not that of the patches, {[*net.grid]}"),
        (config.num_outputs not in (None, columns), "num_outputs", f"{config.num_outputs} of {columns} are read out"),
    )
    for wrong, setting, reason in checks:
        if wrong:
            raise ValueError(
                f"{setting}: {reason}: a sheet carries over to images of another size if it is a grid (geometry: grid) "
                "with a column for each patch"
            )
    if make_sheet(config).marks != net.model.sheet.marks:
        raise ValueError(
            "geometry: the run's sheet is not the one that its settings give, so that they give no larger one"
        )
    changed: dict[str, Any] = {name: side**2 for name in ("num_inputs", "num_outputs") if getattr(config, name)}
    options = config.options | {"shape": [side, side]}
    return dataclasses.replace(config, image_size=image_size, patch_size=net.patch_size, options=options, **changed)
