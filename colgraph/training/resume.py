"""What may change when a run goes on: the one table of it, the check, and the history that records carry."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from colgraph.geometry import parse_neighborhood
from colgraph.geometry.areas import Areas
from colgraph.geometry.registry import find_geometry, is_plugin, list_geometries, load_plugin
from colgraph.options import declared
from colgraph.plasticity import RewireSettings
from colgraph.script import flag_of
from colgraph.training.config import TrainConfig, parse_interval
from colgraph.training.yaml_files import load_yaml, save_yaml

_REFUSED, _APPLIED, _SCHEDULE, _SHARE, _IMAGES = "refused", "applied", "schedule", "share", "images"

ON_RESUME: dict[str, str] = {
    # What is learned, from what, and on which graph: whatever is not named below.
    **dict.fromkeys((*declared(TrainConfig), "options"), _REFUSED),
    # Where and how fast it runs, and what is written beside the parameters.
    **dict.fromkeys(("workers", "memory_gb", "max_corrupt", "recompute", "backend", "accelerator"), _APPLIED),
    **dict.fromkeys(("checkpoint_every", "keep_checkpoints", "figure_every", "tensorboard", "logger"), _APPLIED),
    # The learning rate follows the new number from the step at which the run goes on.
    "epochs": _SCHEDULE,
    # Together, if a step still takes as many images.
    **dict.fromkeys(("devices", "sheet_parallel", "batch_size"), _SHARE),
    # Under another name, if they are the same images.
    "data": _IMAGES,
}
"""For each setting what ``--resume`` does with another value: refused, applied and recorded (the learning rate follows
a new number of epochs), applied where a step still takes as many images in all, or where the images are the same."""

Change = dict[str, Any]
"""``{"step": 880, "setting": "epochs", "before": 10, "after": 20}``: the value holds from that step on."""

_KEY = "record"

# What records of older versions do not name.
_LATER = (
    *("options", "inputs", "outputs", "wiring_power", "spatial_signal", "keep_checkpoints", "tied_blocks"),
    *("task", "step_loss", "class_weights", "mask_ratio", "temperature", "projection_dim", "init", "freeze", "leak"),
    *("burn_in", "columns_per_patch", "patch_stride", "sampling", "fixation", "train_share", "speed", "wiring_kind"),
    *("weight_similarity", "weight_similarity_kind", "weight_similarity_range", "logger"),
    *declared(RewireSettings),
)


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """What ``config.yaml`` says of a run.

    Attributes:
        config: the settings, as they are now.
        changes: what was changed when the run went on, in order.
        own: what was made in Python and no setting describes: "sheet", "network ...", "parameters".
    """

    config: TrainConfig
    changes: tuple[Change, ...] = ()
    own: tuple[str, ...] = ()

    def text(self) -> str:
        """As YAML, which :func:`read_record` reads back; the settings alone where there is no more to say."""
        more = {name: list(value) for name, value in (("changes", self.changes), ("own", self.own)) if value}
        return save_yaml(self.config.flat() | ({_KEY: more} if more else {}))


def read_record(path: Path) -> RunRecord:
    """The record of a run, from its ``config.yaml``; settings that an older version did not have are at their defaults.

    Raises:
        ValueError: if the file cannot be read, or holds no settings.
    """
    return _parsed(load_yaml(path), path)


def as_recorded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run, of this version or an older one, with what that version had no name for.

    Before there was a choice, the spatial loss was that of the length of the state, and baselines took no notice of
    what they now have settings for.
    """
    now = dict(settings)
    if settings.get("spatial_weight") and "spatial_signal" not in settings:
        now["spatial_signal"] = "norm"
    if settings.get("model", "columnformer") != "columnformer" and "tied_blocks" not in settings:
        now |= {"readout": "mean", "inject": "first", "position_embedding": True}
    return now


def repeatable(settings: Mapping[str, Any], given: Collection[str] | None, path: Path) -> dict[str, Any]:
    """The settings of a file without what a run has recorded about itself.

    Args:
        settings: what the file holds.
        given: settings that the command line says anew; None if nothing is to be repeated.
        path: the file.

    Raises:
        ValueError: if it is the record of a run that no settings can repeat.
    """
    plain = {name: value for name, value in settings.items() if name != _KEY}
    plain = as_recorded(plain) if is_whole(plain) else plain
    if _KEY not in settings or given is None:
        return plain
    record = _parsed(settings, path)
    if record.own:
        raise ValueError(
            f"config {str(path)!r} is of a run whose {' and '.join(record.own)} came from Python, which no settings "
            "describe: train it from the script that made it"
        )
    for change in record.changes:
        if ON_RESUME[change["setting"]] in (_SCHEDULE, _SHARE) and change["setting"] not in given:
            flag = flag_of(change["setting"])
            raise ValueError(
                f"config {str(path)!r} is of a run with {describe_change(change)}, which one command cannot repeat: "
                f"give {flag} for a new run with one value"
            )
    return plain


def is_whole(settings: Mapping[str, Any]) -> bool:
    """Whether settings name all there are, as the record of a run does: a preset has nothing to add to them."""
    return settings.keys() >= ON_RESUME.keys() - set(_LATER)


def _parsed(settings: Mapping[str, Any], path: Path) -> RunRecord:
    plain = {name: value for name, value in settings.items() if name != _KEY}
    more = settings.get(_KEY) or {}
    try:
        changes = tuple(dict(change) for change in more.get("changes", ()))
        if not all({"step", "setting", "before", "after"} <= set(c) and c["setting"] in ON_RESUME for c in changes):
            raise ValueError(f"record: changes must each have step, setting, before and after, got {list(changes)}")
        return RunRecord(TrainConfig.from_flat(as_recorded(plain)), changes, tuple(map(str, more.get("own", ()))))
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"config {str(path)!r} is no record of a run: {error}") from error


def describe_change(change: Change) -> str:
    """A change as words: ``epochs=10 until step 880, then 20``."""
    return f"{change['setting']}={change['before']} until step {change['step']}, then {change['after']}"


def changes_text(changes: Iterable[Change]) -> str:
    """The changes after which a run is no longer what its settings alone would train, as words; empty without any."""
    return "; ".join(describe_change(each) for each in changes if ON_RESUME[each["setting"]] in (_SCHEDULE, _SHARE))


# ---------------------------------------------------------------------- the check


def changed_settings(record: TrainConfig, given: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that differ from a run's, each with the run's value and the one given now.

    A value that means the same is no change: a path to the same file, an option at its default.

    Raises:
        ValueError: if there is one that cannot change, naming all of them.
    """
    mine, theirs = record.flat(), given.flat()
    pairs = {name: (mine[name], theirs[name]) for name in ON_RESUME if name != "options"}
    pairs |= _option_pairs(record, given)
    changed = {name: pair for name, pair in pairs.items() if not _same(name, *pair)}
    refused = [name for name in changed if ON_RESUME.get(name, _REFUSED) == _REFUSED]
    if refused:
        named = ", ".join(f"{flag_of(name)} {changed[name][1]} (the run has {changed[name][0]})" for name in refused)
        raise ValueError(
            f"a run goes on with what it began with, and cannot take {named}: leave that out, or begin another run "
            "with --out"
        )
    return changed


def check_share(record: TrainConfig, given: TrainConfig, world: int) -> None:
    """Refuse a number of processes and a batch size that together give steps of another number of images.

    Args:
        record: the run's settings, ``devices`` being the number of processes it ran on.
        given: the settings now.
        world: the number of processes now.

    Raises:
        ValueError: naming the batch size that goes.
    """
    before, now = (_replicas(record, int(record.devices)), _replicas(given, world))
    total = images_a_step(record)
    if now * given.batch_size == total:
        return
    fits = f"--batch-size {total // now}" if total % now == 0 else f"as many processes as before ({record.devices})"
    raise ValueError(
        f"a step of the run takes {before} x {record.batch_size} = {total} images, --devices {world} with --batch-size "
        f"{given.batch_size} would make it {now} x {given.batch_size} = {now * given.batch_size}: give {fits}"
    )


def images_a_step(record: TrainConfig) -> int:
    """How many images a step of a run takes, over all the processes that its record says; of "auto", of one."""
    return _replicas(record, int(record.devices) if record.devices.isdigit() else 1) * record.batch_size


def _replicas(config: TrainConfig, world: int) -> int:
    return max(world // config.sheet_parallel, 1)


def num_processes(config: TrainConfig) -> int:
    """How many processes take part: those that torchrun has started, or one for each of ``devices`` (0: "auto")."""
    if "LOCAL_WORLD_SIZE" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    return int(config.devices) if config.devices.isdigit() else 0


def _option_pairs(record: TrainConfig, given: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """The options of the geometry side by side, those that are not given at their defaults."""
    function = geometry_function(record.geometry) if record.options != given.options else None
    parameters = inspect.signature(function).parameters.values() if function is not None else ()
    defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(Areas)}
    defaults |= {p.name: p.default for p in parameters if p.default is not p.empty}
    names = dict.fromkeys((*record.options, *given.options))
    mine, theirs = ({**defaults, **config.options} for config in (record, given))
    return {name: (mine.get(name), theirs.get(name)) for name in names}


def geometry_function(geometry: str) -> Callable[..., Any] | None:
    """The function behind a registered or plug-in geometry; None for files, whose readers check for themselves."""
    if is_plugin(geometry):
        return load_plugin(geometry)
    return find_geometry(geometry) if geometry in list_geometries() else None


def _same(name: str, mine: Any, theirs: Any) -> bool:
    if name == "spatial_signal" and (theirs is None or (mine, theirs) == (None, "normed")):
        return True  # not said, or said to be what it is by default
    if mine == theirs or (name == "neighbors" and mine and theirs and _parsed_neighbors(mine, theirs)):
        return True
    if name == "checkpoint_every":
        return parse_interval(mine) == parse_interval(theirs)
    if isinstance(mine, list | tuple) and isinstance(theirs, list | tuple):
        return len(mine) == len(theirs) and all(_same("", a, b) for a, b in zip(mine, theirs))
    if isinstance(mine, str) and isinstance(theirs, str):
        (here, colon, function), (there, _, other) = mine.partition(".py:"), theirs.partition(".py:")
        suffix = ".py" if colon else ""
        return function == other and _same_file(here + suffix, there + suffix)
    return False


def _same_file(mine: str, theirs: str) -> bool:
    here, there = (Path(path).expanduser() for path in (mine, theirs))
    return here.exists() and there.exists() and here.samefile(there)


def _parsed_neighbors(mine: str, theirs: str) -> bool:
    try:
        return bool(parse_neighborhood(mine) == parse_neighborhood(theirs))
    except ValueError:
        return False
