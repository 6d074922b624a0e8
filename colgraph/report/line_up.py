"""The networks that a run is compared with: before training, its input, its columns elsewhere, and other runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from colgraph.hints import in_one_line
from colgraph.report.context import Context, ProbeSet, Settings
from colgraph.report.controls import Control, find_controls
from colgraph.report.loading import Run, load_run
from colgraph.report.patches import Patches, patch_of_column

INDEPENDENT = "untrained, independent weights"
WITHIN_PATCHES = "shuffled within patches"


@dataclass(frozen=True, eq=False)
class LineUp:
    """A run and what it is compared with.

    Attributes:
        contexts: the run, then its controls.
        missing: ``name`` and ``reason`` of each control that there is none of.
        paths: the folders of the run and of its trained controls, by their names.
    """

    contexts: list[Context]
    missing: list[dict[str, str]]
    paths: dict[str, Path]

    @property
    def trained(self) -> list[Context]:
        """The controls that are runs of their own."""
        return [context for context in self.contexts if context.kind == "trained"]

    def add(self, name: str, make: Callable[[], Context]) -> None:
        """One more context, or the ValueError that says why there is none."""
        try:
            self.contexts.append(make())
        except ValueError as error:
            self.missing.append({"name": name, "reason": in_one_line(error)})


def line_up(run: Run, probes: ProbeSet, settings: Settings) -> LineUp:
    """A run and all controls that there are."""
    untrained = Context("untrained", "untrained", run.untrained(), run.sheet, probes, settings, run)
    # What attention was before is that of the network which was trained, alike in all columns or not.
    main = replace(untrained, name="run", kind="run", net=run.net, attention_before=untrained.attention, shared={})
    found = LineUp([main, untrained], [], {"run": run.path})
    found.add(INDEPENDENT, lambda: _independent(untrained))
    found.contexts.append(replace(untrained, name="input", kind="input", net=Patches(run), shared={}))
    found.contexts.append(main.shuffled())
    found.add(WITHIN_PATCHES, lambda: _within_patches(main))
    for control in find_controls(run):
        found.add(control.name, partial(_trained, control, main, found.paths))
    return found


def _independent(untrained: Context) -> Context:
    net = untrained.run.untrained(independent=True)
    return replace(untrained, name=INDEPENDENT, kind="untrained-independent", net=net, shared={})


def _within_patches(main: Context) -> Context:
    patch = patch_of_column(main.run.net.net)
    if np.unique(patch).size == patch.size:
        raise ValueError("every patch is seen by one column: there is nothing to shuffle within it")
    return main.shuffled(patch)


def _trained(control: Control, main: Context, paths: dict[str, Path]) -> Context:
    """The control's own run."""
    if control.path is None:
        raise ValueError(control.reason)
    other = load_run(control.path, images=0)
    control.check(main.sheet, other.sheet, plastic=main.run.config.rewire > 0)
    # The run's labels are shown to the control.
    if other.classes != main.run.classes:
        raise ValueError(f"{control.path} answers with its classes in another order: train it again")
    paths[control.name] = control.path
    seed, same = other.config.seed, replace(main, name=control.name, kind="trained", attention_before=None, shared={})
    return replace(same, net=other.net, sheet=other.sheet, seed=seed)
