"""The networks that a run is compared with: before training, its input, its columns elsewhere, and other runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from colgraph.hints import in_one_line
from colgraph.report.context import Context
from colgraph.report.controls import Control, find_controls
from colgraph.report.loading import PlainImages, Run, load_run
from colgraph.report.patches import Patches, patch_of_column
from colgraph.report.shown import ProbeSet, Settings
from colgraph.training.measure import parameters_sha256

INDEPENDENT = "untrained, independent weights"
WITHIN_PATCHES = "shuffled within patches"
OF_COLUMNS = "untrained networks, input, shuffled positions"


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

    @property
    def networks(self) -> dict[str, str]:
        """By the name of each control that has a network, the SHA-256 of its parameters: which network it was."""
        nets = {context.name: context.net for context in self.contexts[1:]}
        return {name: parameters_sha256(net.net) for name, net in nets.items() if isinstance(net, PlainImages)}

    def add(self, name: str, make: Callable[[], Context]) -> None:
        """One more context, or the ValueError that says why there is none."""
        try:
            self.contexts.append(make())
        except ValueError as error:
            self.missing.append({"name": name, "reason": in_one_line(error)})


def line_up(run: Run, probes: ProbeSet, settings: Settings) -> LineUp:
    """A run and all controls that there are."""
    main = Context("run", "run", run.net, probes, settings, run)
    found = LineUp([main], [], {"run": run.path})
    if "columns" in run.lacks:
        found.missing.append({"name": OF_COLUMNS, "reason": f"they are of columns, and {run.lacks['columns']}"})
    else:
        _add_untrained(found, main)
        main = found.contexts[0]
        found.add("input", lambda: replace(main, name="input", kind="input", net=_patches(run), shared={}))
        found.contexts.append(main.shuffled())
        found.add(WITHIN_PATCHES, lambda: _within_patches(main))
    for control in find_controls(run):
        found.add(control.name, partial(_trained, control, main, found.paths))
    return found


def _add_untrained(found: LineUp, main: Context) -> None:
    """The networks before training. Before is what the attention of the first was, alike in all columns or not."""

    def make(name: str, kind: str, independent: bool) -> Context:
        return replace(main, name=name, kind=kind, net=main.run.untrained(independent=independent), shared={})

    found.add("untrained", lambda: make("untrained", "untrained", False))
    if len(found.contexts) > 1 and "attention" not in main.run.lacks:
        found.contexts[0] = replace(main, attention_before=found.contexts[1].attention)
    found.add(INDEPENDENT, lambda: make(INDEPENDENT, "untrained-independent", True))


def _patches(run: Run) -> Patches:
    _check_patches(run)
    return Patches(run)


def _check_patches(run: Run) -> None:
    if "patches" in run.lacks:
        raise ValueError(run.lacks["patches"])


def _within_patches(main: Context) -> Context:
    _check_patches(main.run)
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
    return replace(same, net=other.net, seed=seed)
