"""From settings to the parts of a run: the sheet, and the model on it."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import warnings
from typing import Any, TypeAlias, overload

import numpy as np
import torch
from scipy import sparse

from colgraph.data import ImageSplits
from colgraph.geometry import Geometry, build_control, geometry, read_columns, shuffled_order
from colgraph.models import (
    Columnformer,
    ConvNet,
    OwnNetwork,
    RecurrentConvNet,
    VisionColumnformer,
    VisionModel,
    VisionTransformer,
)
from colgraph.models.conduction import conduction_delays
from colgraph.models.reach import late_columns, steps_to_reach
from colgraph.options import CENTER, OptionError, patch_grid
from colgraph.script import flag_of
from colgraph.sheet import Sheet
from colgraph.space import GRAPH_METRICS
from colgraph.tasks import find_task, make_task
from colgraph.training.communicability import MOST_COLUMNS
from colgraph.training.config import TrainConfig
from colgraph.training.made import remember_net, remember_sheet
from colgraph.training.own import make_own

AnyBaseline: TypeAlias = VisionTransformer | ConvNet | RecurrentConvNet | OwnNetwork
"""A model without a sheet."""

_PATCHES_PER_SIDE = 8


def make_sheet(config: TrainConfig) -> Sheet:
    """The sheet that settings describe, or its control.

    A geometry that names its own input columns keeps them; otherwise the columns lowest on the axis become inputs,
    ``columns_per_patch`` of them for each patch. Read out are the ``outputs`` that are set, the ``num_outputs`` highest
    on the axis, the geometry's own output columns, or else all columns that can know of the input within the steps.

    Raises:
        ValueError: for anything :func:`colgraph.build_sheet` refuses, and where patches and columns do not match.
    """
    shape = _shape(config)
    size = patch_size_for(config, shape)
    needed = _patch_sides(config)[size] ** 2 * config.columns_per_patch
    num_inputs = config.num_inputs
    if num_inputs is None and shape.inputs is None:
        num_inputs = needed
        _check_room(config, size, shape)
    sheet = build_control(
        shape,
        config.control,
        config.seed,
        neighbors=config.neighbors,
        metric=config.metric,
        mask=config.mask,
        axis=config.axis,
        num_inputs=num_inputs,
        num_outputs=config.num_outputs,
        inputs=None if config.inputs is None else shape.inputs,
        outputs=config.outputs,
    )
    inputs = sheet.inputs.numel()
    if inputs != needed:
        fits = _fitting(config, inputs)
        hint = f"give --num-inputs {needed}" if fits is None else f"give --patch-size {fits}"
        raise ValueError(
            f"{_patches_text(config, size)} do not match the {inputs} input columns of {shape.name!r}: {hint}"
        )
    _check_space_and_time(config, sheet)
    chosen = config.num_outputs is not None or config.outputs is not None or shape.outputs is not None
    if not chosen:
        sheet = _read_out_where_heard(sheet, config.steps, config.speed)
    remember_sheet(sheet, config)
    return sheet


def _shape(config: TrainConfig) -> Geometry:
    """The geometry that settings name, with the input columns that they name."""
    shape = geometry(config.geometry, **config.options)
    if config.inputs is None:
        return shape
    if config.num_inputs is not None:
        raise ValueError("give inputs or num_inputs, not both")
    return dataclasses.replace(shape, inputs=read_columns(config.inputs, shape.num_columns, "inputs"))


def _read_out_where_heard(sheet: Sheet, steps: int, speed: float | None) -> Sheet:
    """The sheet without the output columns that cannot know of the input within the steps: they would say nothing."""
    when = steps_to_reach(sheet, speed)
    late = late_columns(when, steps)
    if not bool(late.any()):
        return sheet
    deaf, last = int((when < 0).sum()), int(when.max())
    more = (
        f"--steps {last} lets {'all' if not deaf else f'all but {deaf:,}'} hear it"
        if last > steps
        else "no number of steps does"
    )
    warnings.warn(
        f"{int((~late).sum()):,} of {sheet.num_columns:,} columns of {sheet.geometry!r} are read out: the others "
        f"cannot hear the input within {steps} steps ({more}; --num-outputs or --outputs reads out others, --outputs "
        "all every one)",
        stacklevel=3,
    )
    heard = copy.copy(sheet)
    heard.output_mask = ~late
    return heard


def _check_space_and_time(config: TrainConfig, sheet: Sheet) -> None:
    """Refuse what a sheet gives no meaning to."""
    try:
        delays = conduction_delays(sheet, config.speed, config.steps)
    except OptionError as error:
        raise ValueError(f"{error.name}: {error.reason}") from error
    if delays is not None and config.sheet_parallel > 1:
        raise ValueError(
            f"speed: {config.speed:g} delays edges by up to {int(delays.max())} steps, and parts of a sheet hear each "
            "other without delays only: give --sheet-parallel 1, or a higher --speed"
        )
    if config.wiring > 0 and not bool(sheet.edge_distance.any()):
        raise ValueError(
            f"wiring: all edges of {sheet.geometry!r} have length 0, so wires cost nothing: give --wiring 0, or a "
            "geometry with distances"
        )
    far = sheet.edge_distance if sheet.metric in GRAPH_METRICS else sheet.pos - sheet.pos[0]
    for name in ("spatial_weight", "weight_similarity"):
        if getattr(config, name) > 0 and not bool(far.any()):
            raise ValueError(
                f"{name}: all columns of {sheet.geometry!r} lie in one place: give {flag_of(name)} 0, or a "
                "geometry with positions"
            )
    if config.wiring > 0 and config.wiring_kind != "length" and sheet.num_columns > MOST_COLUMNS:
        raise ValueError(
            f"wiring_kind: {config.wiring_kind} takes the exponential of all pairs of at most {MOST_COLUMNS:,} "
            f"columns, got {sheet.num_columns:,}: give --wiring-kind length, or fewer columns"
        )
    if config.time_embedding and _is_feedforward(sheet):
        raise ValueError(
            f"time_embedding: {sheet.geometry!r} is feedforward here (no column ever hears of itself), so "
            "the step says no more than the layer: leave it out, or use --direction both"
        )


def _is_feedforward(sheet: Sheet) -> bool:
    """Whether the graph has no cycles, self-loops included."""
    source, target = sheet.edge_index.numpy()
    if bool((source == target).any()):
        return False
    n = sheet.num_columns
    graph = sparse.coo_array((np.ones(len(source), np.int8), (source, target)), shape=(n, n))
    return int(sparse.csgraph.connected_components(graph, connection="strong", return_labels=False)) == n


def patch_size_for(config: TrainConfig, shape: Geometry) -> int:
    """The patch size: the one that is set, or one chosen for the geometry.

    For a geometry that names its inputs (or with ``num_inputs``), the size that gives each patch its
    ``columns_per_patch``; otherwise an eighth of the image, or the smallest larger size that leaves no more patches,
    times those, than columns.

    Raises:
        ValueError: if no patch size fits the image.
    """
    if config.patch_size is not None:
        return config.patch_size
    size, each = config.image_size, config.columns_per_patch
    inputs = config.num_inputs or (None if shape.inputs is None else len(np.asarray(shape.inputs)))
    if inputs is not None:
        fits = _fitting(config, inputs)
        if fits is not None:
            return fits
        what = (
            f"{inputs} square patches, one per input column of {shape.name!r}"
            if each == 1
            else f"square patches of {each} columns each that amount to the {inputs} input columns of {shape.name!r}"
        )
        stride = "" if config.patch_stride is None else f", {config.patch_stride} px from one to the next"
        raise ValueError(
            f"image_size {size} cannot be cut into {what}{stride}: give another --image-size, or --patch-size and "
            "--num-inputs"
        )
    if config.patch_stride is None and size % _PATCHES_PER_SIDE:
        raise ValueError(
            f"image_size {size} is not divisible by {_PATCHES_PER_SIDE}: give --patch-size, a divisor of {size}"
        )
    sides = {p: side for p, side in _patch_sides(config).items() if p >= size // _PATCHES_PER_SIDE}
    return next(p for p, side in sides.items() if side**2 * each <= shape.num_columns or p == size)


def _patch_sides(config: TrainConfig) -> dict[int, int]:
    """Patches along a side of the image, for each size of patches that covers it; the last is the image's own."""
    size, sides = config.image_size, {}
    for patch in range(1, size + 1):
        with contextlib.suppress(OptionError):
            sides[patch] = patch_grid((size, size), patch, config.patch_stride)[0]
    return sides


def _fitting(config: TrainConfig, inputs: int) -> int | None:
    """The size of patches that gives so many input columns, if there is one."""
    each = config.columns_per_patch
    return next((patch for patch, side in _patch_sides(config).items() if side**2 * each == inputs), None)


def grid_of(config: TrainConfig) -> tuple[int, int] | None:
    """Rows and columns of patches by which labels are read, where the task has one for each; else None.

    Raises:
        ValueError: where patches are not the squares of a grid, which is what labels in files are for.
    """
    if find_task(config.task).labels != "column":
        return None
    size = patch_size_for(config, _shape(config))
    for setting, usual in (("patch_stride", size), ("sampling", "uniform")):
        given = getattr(config, setting)
        if given not in (None, usual):
            raise ValueError(
                f"{setting}: {config.task} takes labels for squares of the image, side by side, got {given}: give "
                f"{flag_of(setting)} {usual}"
            )
    side = config.image_size // size
    return side, side


def num_answers(config: TrainConfig, sheet: Sheet | None, images: ImageSplits) -> int:
    """Numbers that a model of these settings answers with: classes of images, for one, or pixels of a patch.

    Args:
        config: the settings.
        sheet: of the model, None for a baseline without one.
        images: what is learned from.
    """
    size = _patch_size_on(config, sheet) if sheet is not None else baseline_patch_size(config)
    return make_task(config).outputs(images, size)


def check_task(net: VisionModel, config: TrainConfig, images: ImageSplits) -> None:
    """Refuse images, and a model, that the task cannot be learned from or with.

    Raises:
        ValueError: naming what does not fit.
    """
    task = make_task(config)
    task.check(images, net)
    answers = task.outputs(images, net.patch_size)
    if net.num_classes != answers:
        raise ValueError(
            f"the network answers with {net.num_classes} values, {config.task} on {images.source!r} takes {answers}: "
            f"make it with num_classes={answers}"
        )


def _patch_size_on(config: TrainConfig, sheet: Sheet) -> int:
    """The patch size that gives a sheet's input columns; of none that fits, one near it, which the model refuses."""
    inputs = sheet.inputs.numel()
    fits = _fitting(config, inputs)
    side = max(math.isqrt(inputs // config.columns_per_patch), 1)
    return max(config.image_size // side, 1) if fits is None else fits


@overload
def make_model(config: TrainConfig, sheet: Sheet, num_classes: int) -> VisionColumnformer: ...


@overload
def make_model(config: TrainConfig, sheet: None, num_classes: int) -> AnyBaseline: ...


@overload
def make_model(config: TrainConfig, sheet: Sheet | None, num_classes: int) -> VisionModel: ...


def make_model(config: TrainConfig, sheet: Sheet | None, num_classes: int) -> VisionModel:
    """The vision model that settings describe, on a sheet whose inputs are its patches; a baseline without a sheet.

    ``num_classes`` is the number of classes, or what else the task answers with (:func:`num_answers`).
    Its parameters are drawn from ``config.seed``; torch's global generator is left as it was.

    With shuffled positions, patches go to the columns that they would go to on the sheet itself: the graph, and with it
    who sees what, is the part that stays.

    Raises:
        ValueError: for a baseline with a sheet, or a columnformer without one.
    """
    if (sheet is None) != (config.baseline is not None):
        raise ValueError(f"model {config.model!r} {'needs a' if sheet is None else 'has no'} sheet")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        net = _make_baseline(config, num_classes) if sheet is None else _make_sheet_model(config, sheet, num_classes)
    remember_net(net, config)
    return net


def _make_sheet_model(config: TrainConfig, sheet: Sheet, num_classes: int) -> VisionColumnformer:
    task = find_task(config.task)
    net = VisionColumnformer(
        Columnformer(sheet, **config.arguments()),
        image_size=config.image_size,
        patch_size=_patch_size_on(config, sheet),
        in_channels=config.channels,
        num_classes=num_classes,
        readout=str(config.readout),
        head=task.head,
        mask_token=task.hides,
        columns_per_patch=config.columns_per_patch,
        patch_stride=config.patch_stride,
        sampling=config.sampling,
        fixation=config.fixation if config.sampling == "log-polar" else CENTER,
    )
    if config.control == "shuffled-positions":
        net.match_patches(sheet.pos[np.argsort(shuffled_order(sheet.num_columns, config.seed))])
    return net


def baseline_patch_size(config: TrainConfig) -> int:
    """That of the sheet that these settings would make, unless one is set; of a network of one's own the image's."""
    if config.is_own:
        return config.image_size
    return patch_size_for(config, _shape(config)) if config.patch_size is None else config.patch_size


def _make_baseline(config: TrainConfig, num_classes: int) -> AnyBaseline:
    """A model without a sheet, on the patches that the sheet of these settings would see."""
    if config.is_own:
        return make_own(config, num_classes)
    sizes: dict[str, Any] = {"image_size": config.image_size, "patch_size": baseline_patch_size(config)}
    sizes |= {"in_channels": config.channels, "num_classes": num_classes, "dim": config.dim, "leak": config.leak}
    sizes |= {"readout": config.readout, "inject": config.inject}
    sizes["depth"] = config.steps if config.tied_blocks else config.depth
    if config.model == "vit":
        tied, embedded = config.tied_blocks, config.position_embedding
        sizes |= {"num_heads": config.num_heads, "mlp_dim": config.mlp_dim}
        return VisionTransformer(**sizes, tied_blocks=tied, position_embedding=embedded)
    if config.model == "recurrent":
        return RecurrentConvNet(**sizes, steps=config.steps, mlp_dim=config.mlp_dim)
    return ConvNet(**sizes, local=config.model == "local", parametrization=config.parametrization)


def unreached_outputs(sheet: Sheet, steps: int, speed: float | None = None) -> int:
    """Number of output columns that cannot know of the input after ``steps`` steps.

    Args:
        sheet: of the model.
        steps: of a forward pass.
        speed: how far news travels in a step, in the sheet's units; None where every edge takes one.

    Raises:
        ValueError: if that is all of them: such a model could only guess.
    """
    when = steps_to_reach(sheet, speed)[sheet.outputs]
    late = int(late_columns(when, steps).sum())
    if late and late == len(when):
        connected = when[when >= 0]
        needed = f"the nearest needs {int(connected.min())} steps" if len(connected) else "no path leads there"
        raise ValueError(
            f"none of the {late} output columns of {sheet.geometry!r} can be reached from the input within "
            f"{steps} steps ({needed}): give more --steps, more neighbors, or other outputs"
        )
    return late


def _check_room(config: TrainConfig, size: int, shape: Geometry) -> None:
    sides, each = _patch_sides(config), config.columns_per_patch
    if sides[size] ** 2 * each > shape.num_columns:
        fits = next((p for p, side in sides.items() if side**2 * each <= shape.num_columns), None)
        hint = f"--columns-per-patch {shape.num_columns} or fewer" if fits is None else f"--patch-size {fits} or larger"
        raise ValueError(
            f"{_patches_text(config, size)} are more than the {shape.num_columns} columns of {shape.name!r}: "
            f"give {hint}"
        )


def _patches_text(config: TrainConfig, size: int) -> str:
    each, stride = config.columns_per_patch, config.patch_stride
    columns = "" if each == 1 else f" of {each} columns each"
    apart = "" if stride is None else f", {stride} px from one to the next"
    patches = _patch_sides(config)[size] ** 2
    return f"{patches} patches{columns} ({config.image_size} px cut into {size} px squares{apart})"
