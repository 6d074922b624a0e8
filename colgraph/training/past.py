"""The record of a run as it begins or goes on, and the checkpoint that it goes on from."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from colgraph.data import ImageSplits
from colgraph.models import VisionColumnformer, VisionModel
from colgraph.script import is_helper_process
from colgraph.training.batches import steps_per_epoch
from colgraph.training.checkpoint import KEY, check_images, config_of, read_checkpoint
from colgraph.training.config import TrainConfig
from colgraph.training.folder import RunFolder
from colgraph.training.made import SHEET_SETTINGS
from colgraph.training.origin import own_parts, settings_of, with_sheet
from colgraph.training.own import check_own_sheet, parts_of, warn_of_other_code
from colgraph.training.parallel import is_sharded
from colgraph.training.resume import Change, RunRecord, changed_settings, check_share


@dataclasses.dataclass(frozen=True)
class Past:
    """The checkpoint that a run goes on from: its step, what it says of the run, where its parameters lie."""

    step: int
    packed: dict[str, Any]
    sharded: bool


def read_past(folder: RunFolder, net: nn.Module) -> Past:
    """The checkpoint to go on from, once it is known to fit."""
    content = read_checkpoint(folder.last)
    past = Past(int(content["global_step"]), content[KEY], is_sharded(content))
    check_own_sheet(net, past.packed, str(folder.path))
    if past.sharded:
        return past
    _check_ends(past.packed["sheet"], net)
    theirs = {name.removeprefix("net."): value for name, value in content["state_dict"].items()}
    mine = net.state_dict()
    for name in sorted(mine, key=lambda name: name != "model.sheet_fingerprint"):
        if name not in theirs or theirs[name].shape != mine[name].shape:
            found = list(theirs[name].shape) if name in theirs else "nothing"
            raise ValueError(
                f"{str(folder.last)!r} does not fit the model: {name} is {found} there and {list(mine[name].shape)} "
                "here; resume with the settings of the run (its config.yaml)"
            )
        if name == "model.sheet_fingerprint" and not torch.equal(theirs[name], mine[name]):
            raise ValueError(
                f"{str(folder.last)!r} belongs to another graph: resume with the geometry and neighbors of the run, "
                "or on the sheet of its checkpoint, colgraph.training.sheet_of_run(config, folder)"
            )
    return past


def _check_network(packed: dict[str, Any], net: nn.Module, record: TrainConfig) -> None:
    """Refuse a network of one's own that is made of other parts; warn where the file that makes it has changed."""
    warn_of_other_code(record.model, packed.get("network"))
    then, now = packed.get("network_parts"), parts_of(net)
    if then is None or now is None or list(then) == now:
        return
    before, here = (dict(part.rsplit(" ", 1) for part in parts) for parts in (then, now))
    name = next(name for name in (*before, *here) if before.get(name) != here.get(name))
    what = f"its part {name!r} was" if name else "it was"
    raise ValueError(
        f"the run has trained another network: {what} a {before.get(name, 'nothing')}, and is a "
        f"{here.get(name, 'nothing')} here; resume with the network of the run"
    )


def _check_ends(packed: dict[str, Any] | None, net: nn.Module) -> None:
    """Refuse a sheet with other input or output columns than the run has had; no parameter need tell."""
    if packed is None or not isinstance(net, VisionColumnformer):
        return
    for ends, what in (("input_rank", "input"), ("output_mask", "output")):
        if packed[ends].shape == net.model.sheet[ends].shape and not torch.equal(
            packed[ends], net.model.sheet[ends].cpu()
        ):
            raise ValueError(
                f"the run has other {what} columns than this sheet: take the sheet of its checkpoint, "
                "colgraph.training.sheet_of_run(config, folder)"
            )


def begin(net: VisionModel, images: ImageSplits, config: TrainConfig) -> tuple[RunRecord, list[Change]]:
    """The record of a run that begins, in which nothing has changed."""
    if isinstance(net, VisionColumnformer):
        config = with_sheet(config, net.model.sheet)
    own = () if is_helper_process() else own_parts(net, config, net.num_classes)
    return RunRecord(config, (), own), []


def go_on(past: Past, net: VisionModel, images: ImageSplits, config: TrainConfig) -> tuple[RunRecord, list[Change]]:
    """The record of a run that goes on, and what is new in it; refuses what cannot change."""
    record = config_of(past.packed)
    _check_network(past.packed, net, record)
    if "images" not in past.packed:
        # An older version wrote what was asked for: neither the number of processes nor the network's own sizes.
        record = dataclasses.replace(settings_of(net, record), devices=config.devices)
    if past.packed.get("own"):
        # What came from Python is not for settings to say: the sheet has been compared.
        config = dataclasses.replace(config, **{name: getattr(record, name) for name in SHEET_SETTINGS})
    changed = changed_settings(record, config)
    check_images(past.packed, images)
    check_share(record, config, int(config.devices))
    new: list[Change] = [
        {"step": past.step, "setting": name, "before": before, "after": after}
        for name, (before, after) in changed.items()
    ]
    config = dataclasses.replace(record, **{name: after for name, (_, after) in changed.items()})
    done, per_epoch = past.step, steps_per_epoch(config, len(images.train))
    if done > config.epochs * per_epoch:
        least = -(-done // per_epoch)
        raise ValueError(
            f"--epochs {config.epochs}: the run has {done} steps behind it, {per_epoch} an epoch; give at least {least}"
        )
    changes = (*past.packed.get("changes", ()), *new)
    return RunRecord(config, changes, tuple(past.packed.get("own", ()))), new
