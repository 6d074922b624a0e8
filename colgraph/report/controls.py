"""Runs of a sweep that serve as controls: the same settings but for one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colgraph.report.loading import Run, read_config
from colgraph.training.config import describe_settings

__all__ = ["TRAINED_CONTROLS", "Control", "find_controls", "learned_settings"]

# Settings that do not change what is learned.
_FREE = {
    *("seed", "devices", "sheet_parallel", "accelerator", "precision", "workers", "memory_gb", "figure_every"),
    *("backend", "recompute", "tensorboard"),
}


@dataclass(frozen=True)
class Control:
    """A control that has to be trained.

    Attributes:
        name: what it is called in the report.
        setting: the setting in which it differs, and its value there.
        flags: the command-line flags that train it.
        path: the run folder, or None where there is none.
        reason: why there is none.
    """

    name: str
    setting: tuple[str, Any]
    flags: str
    path: Path | None = None
    reason: str = ""


TRAINED_CONTROLS = (
    Control("tied weights", ("untied", "none"), "--untied none"),
    Control("no wiring cost", ("wiring", 0.0), "--wiring 0"),
    Control("random graph", ("control", "random-graph"), "--control random-graph"),
    Control("trained on shuffled positions", ("control", "shuffled-positions"), "--control shuffled-positions"),
)


def find_controls(run: Run) -> list[Control]:
    """For each control its run folder beside the run (in the same parent folder), or why it is missing.

    A folder counts if its settings are the run's but for the control's own one, seeds and settings of the machine
    aside, and it holds a checkpoint; one of the same seed is preferred. Runs of a sweep lie in one folder.
    """
    mine = read_config(run.path)
    others = sorted(p for p in run.path.resolve().parent.iterdir() if p.is_dir() and p != run.path.resolve())
    configs = {path: read_config(path) for path in others if (path / "checkpoints" / "last.ckpt").is_file()}
    return [_find(control, run, mine, configs) for control in TRAINED_CONTROLS]


def _find(control: Control, run: Run, mine: Mapping[str, Any], configs: Mapping[Path, Mapping[str, Any]]) -> Control:
    name, value = control.setting
    if mine.get(name) == value:
        return Control(control.name, control.setting, control.flags, None, "the run itself is this")
    wanted = learned_settings({**mine, name: value})
    alike = [path for path, config in configs.items() if learned_settings(config) == wanted]
    alike.sort(key=lambda path: configs[path].get("seed") != mine.get("seed"))
    if alike:
        return Control(control.name, control.setting, control.flags, alike[0])
    command = f"python examples/imagenet100.py --config {run.path / 'config.yaml'} {control.flags} --out "
    command += f"{run.path}-{control.name.replace(' ', '-')}"
    return Control(control.name, control.setting, control.flags, None, f"not trained yet: {command}")


def learned_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that matter to what is learned; those that a run of an earlier version lacks at their defaults."""
    defaults = {name: default for name, (default, _, _) in describe_settings().items()}
    return {key: value for key, value in {**defaults, **config}.items() if key not in _FREE and value is not None}
