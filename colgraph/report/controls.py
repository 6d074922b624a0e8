"""Runs of a sweep that serve as controls: the same settings but for one."""

from __future__ import annotations

import runpy
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from colgraph.report.loading import Run
from colgraph.script import from_here
from colgraph.sheet import Sheet
from colgraph.training.config import describe_settings
from colgraph.training.flags import parse_flags
from colgraph.training.folder import RunFolder
from colgraph.training.presets import PRESETS
from colgraph.training.setup import make_sheet

_TRAIN = ("colgraph", "train")
_CORTEX = Path(__file__).parents[2] / "examples" / "cortex.py"
"""A training script that makes sheets of its own; a checkout has it."""

# Settings that do not change what is learned.
_FREE = {
    *("seed", "devices", "sheet_parallel", "accelerator", "precision", "workers", "memory_gb", "figure_every"),
    *("backend", "recompute", "tensorboard", "logger", "checkpoint_every", "keep_checkpoints"),
}


@dataclass(frozen=True)
class Control:
    """A control that has to be trained.

    Attributes:
        name: what it is called in the report.
        setting: the setting in which it differs, and its value there.
        keeps: what it has in common with the run: "sheet" (graph and places), "graph" or "columns".
        path: the run folder, or None where there is none.
        reason: why there is none.
    """

    name: str
    setting: tuple[str, Any]
    keeps: str
    path: Path | None = None
    reason: str = ""

    @property
    def flags(self) -> list[str]:
        """The words of a command line that train it."""
        name, value = self.setting
        return [f"--{name}", f"{value:g}" if isinstance(value, float) else str(value)]

    def check(self, run: Sheet, control: Sheet, plastic: bool = False) -> None:
        """Raise ValueError unless the control's sheet has in common with the run's what it should.

        Of a ``plastic`` run, whose edges came and went, the control has found edges of its own: columns are the same.
        """
        keeps = "columns" if plastic else self.keeps
        same = run.fingerprint == control.fingerprint or keeps == "columns"
        same &= run.geometry_fingerprint == control.geometry_fingerprint or keeps != "sheet"
        if run.num_columns != control.num_columns or not same:
            raise ValueError(f"{str(self.path)!r} has the settings of this control, but lies on another sheet")


TRAINED_CONTROLS = (
    Control("tied weights", ("untied", "none"), "sheet"),
    Control("no wiring cost", ("wiring", 0.0), "sheet"),
    Control("random graph", ("control", "random-graph"), "columns"),
    Control("trained on shuffled positions", ("control", "shuffled-positions"), "graph"),
)


def find_controls(run: Run) -> list[Control]:
    """For each control its run folder beside the run (in the same parent folder), or why it is missing.

    A folder counts if its settings are the run's but for the control's own one, seeds and settings of the machine
    aside, and it holds a checkpoint; one of the same seed is preferred. Runs of a sweep lie in one folder.
    """
    if run.config.baseline:
        reason = f"the settings of a sheet, in one of which it would differ, play no part in {run.config.baseline}"
        return [replace(control, reason=reason) for control in TRAINED_CONTROLS]
    mine = RunFolder(run.path).settings()
    others = sorted(p for p in run.path.resolve().parent.iterdir() if p.is_dir() and p != run.path.resolve())
    configs = {path: _config_of(path) for path in others if RunFolder(path).last.is_file()}
    found = [_find(control, mine, configs) for control in TRAINED_CONTROLS]
    if all(control.path or control.reason for control in found):
        return found
    program, why_not = training_program_of(run)
    return [
        control
        if control.path or control.reason
        else replace(
            control, reason=why_not if program is None else f"not trained yet: {_command(program, run, control)}"
        )
        for control in found
    ]


def _config_of(path: Path) -> dict[str, Any]:
    """The settings of a neighboring folder; none where they cannot be read, for it is not this run's business."""
    try:
        return RunFolder(path).settings()
    except ValueError:
        return {}


def _find(control: Control, mine: Mapping[str, Any], configs: Mapping[Path, Mapping[str, Any]]) -> Control:
    name, value = control.setting
    if mine.get(name) == value:
        return replace(control, reason="the run itself is this")
    wanted = learned_settings({**mine, name: value})
    alike = [path for path, config in configs.items() if config and learned_settings(config) == wanted]
    alike.sort(key=lambda path: configs[path].get("seed") != mine.get("seed"))
    return replace(control, path=alike[0]) if alike else control


# ---------------------------------------------------------------------- which command trains a control


def training_program_of(run: Run) -> tuple[tuple[str, ...] | None, str]:
    """The words before the flags of a command that makes the run's own sheet of its settings, or why there is none.

    ``colgraph train`` makes the sheet that settings describe, a training script may have a function
    ``make_sheet(config)`` of its own. What is made is compared with the sheet that the run trained on: a run from
    Python may lie on a sheet that its settings say nothing of.
    """
    programs = [_TRAIN, ("python", from_here(_CORTEX))] if _CORTEX.is_file() else [_TRAIN]
    # The program that the run was started by is the first to be tried.
    if _CORTEX.name in str(run.summary.get("command")):
        programs.reverse()
    unknown = ""
    for words in programs:
        own = words != _TRAIN
        try:
            config, _ = parse_flags(["--config", str(RunFolder(run.path).config)], presets=None if own else PRESETS)
            sheet = (runpy.run_path(str(_CORTEX))["make_sheet"] if own else make_sheet)(config)
        except ValueError:
            continue
        except ImportError as error:
            unknown = f"not trained yet; to know of a command: {error}"
            continue
        begun = run.summary.get("plasticity", {}).get("fingerprint_at_start")
        if sheet.marks == run.sheet.marks or (begun is not None and sheet.fingerprint == begun):
            return words, ""
    return None, unknown or (
        "not trained yet, and no command can: neither colgraph train nor a training script here makes this run's sheet "
        "of its config.yaml; train it as the run was trained, with this one setting, into a folder beside it"
    )


def _command(program: tuple[str, ...], run: Run, control: Control) -> str:
    """As a shell takes it."""
    out = f"{run.path}-{control.name.replace(' ', '-')}"
    return shlex.join([*program, "--config", str(RunFolder(run.path).config), *control.flags, "--out", out])


def learned_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that matter to what is learned; those that a run of an earlier version lacks at their defaults."""
    defaults = {name: default for name, (default, _, _) in describe_settings().items()}
    return {key: value for key, value in {**defaults, **config}.items() if key not in _FREE and value is not None}
