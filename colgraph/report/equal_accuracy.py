"""Robustness at equal clean accuracy: of the more accurate of two runs, an earlier checkpoint.

A network that answers better has more to lose, and one that answers worse withstands less: two runs are compared where
they know equally much. The checkpoint is chosen on one half of the held-out images, and all that is reported comes from
the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from colgraph.hints import in_one_line
from colgraph.models import VisionColumnformer
from colgraph.report.catalogue import Analysis, attempt
from colgraph.report.context import Context
from colgraph.report.line_up import LineUp
from colgraph.report.loading import PlainImages
from colgraph.space import Index
from colgraph.training import RunFolder, load_trained

TOLERANCE = 0.01
"""How far two clean accuracies may lie apart, on the images that the checkpoint is chosen on."""


@dataclass(frozen=True, eq=False)
class _Pair:
    """A run and a control at equal accuracy, on the images that nothing was chosen on; or why there is no such pair."""

    run: Context | None = None
    control: Context | None = None
    match: dict[str, Any] | None = None
    why_not: str = ""


class EqualAccuracy:
    """Robustness of a run and of each of its trained controls, at equal accuracy on clean images.

    Args:
        compared: the run and its controls.
    """

    def __init__(self, compared: LineUp) -> None:
        self._compared, self._run = compared, compared.contexts[0]
        self._chosen_on, self._measured_on = halves(len(self._run.run.images), self._run.settings.seed)
        self._halves: dict[str, Context] = {}

    def of(self, item: Analysis) -> dict[str, Any]:
        """By the name of each trained control: summaries of ``run`` and ``control``, and the ``match``; or ``why_not``.

        A match says of which of the two (``of``) the ``checkpoint`` is, the clean accuracies ``chosen_at`` and, on the
        other half of the images, ``accuracy`` (of the run, then the control), with what is ``remaining`` between them.
        """
        return {name: _measured(item, pair) for name, pair in self._pairs.items()}

    @cached_property
    def _pairs(self) -> dict[str, _Pair]:
        return {context.name: self._pair(context) for context in self._compared.trained}

    def _pair(self, control: Context) -> _Pair:
        try:
            return self._matched(control)
        except ValueError as error:
            return _Pair(why_not=in_one_line(error))

    def _matched(self, control: Context) -> _Pair:
        final = [self._accuracy(context, self._chosen_on) for context in (self._run, control)]
        if abs(final[0] - final[1]) <= TOLERANCE:
            return _Pair(why_not=f"clean accuracy is equal as it is ({final[0]:.1%} and {final[1]:.1%})")
        better = int(final[1] > final[0])
        best, goal = (self._run, control)[better], final[1 - better]
        path = self._compared.paths[best.name]
        kept = {file: self._at(file, best) for file in RunFolder(path).kept}
        reached = reached_by(path, lambda file: self._accuracy(kept[file], self._chosen_on))
        file = nearest(reached, goal)
        if file is None or abs(reached[file] - goal) > TOLERANCE:
            return _Pair(why_not=too_few(path, reached, goal))
        ends = [self._half(self._run), self._half(control)]
        ends[better] = self._half(kept[file], file.name)
        accuracy = [self._accuracy(context, np.arange(len(self._measured_on))) for context in ends]
        match = {
            "of": best.name,
            "checkpoint": file.name,
            "chosen_at": [goal, reached[file]] if better else [reached[file], goal],
            "accuracy": accuracy,
            "remaining": accuracy[0] - accuracy[1],
            "images": len(self._measured_on),
        }
        return _Pair(ends[0], ends[1], match)

    def _accuracy(self, context: Context, chosen: Index) -> float:
        """Of some of the context's held-out images."""
        settings = context.settings
        return context.run.accuracy(context.net, chosen, settings.seed, settings.batch_size)

    def _at(self, file: Path, context: Context) -> Context:
        """A network as it was at an earlier step."""
        trained = load_trained(file)
        if not isinstance(trained.net, VisionColumnformer):
            raise ValueError(f"{str(file)!r} is no checkpoint of this run: it is of a network without a sheet")
        net = PlainImages(trained.net, trained.transform.mean, trained.transform.std).eval()
        # Edges that come and go were others then.
        graphs = [
            sheet.num_columns if trained.config.rewire else sheet.fingerprint for sheet in (net.sheet, context.sheet)
        ]
        if trained.classes != context.run.classes or graphs[0] != graphs[1]:
            raise ValueError(f"{str(file)!r} is no checkpoint of this run: it has other classes or another sheet")
        return replace(context, net=net, shared={})

    def _half(self, context: Context, checkpoint: str = "") -> Context:
        """With the images that nothing was chosen on; made once, so that what is measured of it is measured once."""
        key = f"{context.name} {checkpoint}"
        if key not in self._halves:
            run, chosen = context.run, self._measured_on
            half = replace(run, images=run.images[chosen], labels=run.labels[chosen])
            self._halves[key] = replace(context, run=half, shared={})
        return self._halves[key]


def _measured(item: Analysis, pair: _Pair) -> dict[str, Any]:
    if pair.run is None or pair.control is None:
        return {"why_not": pair.why_not}
    found: dict[str, Any] = {"match": pair.match}
    for name, context in (("run", pair.run), ("control", pair.control)):
        result, why_not = attempt(item, context)
        if result is None:
            return {"why_not": why_not}
        found[name] = result.summary()
    return found


def halves(images: int, seed: int) -> tuple[Index, Index]:
    """Numbers of the images that checkpoints are chosen on, and of those that they are measured on."""
    order = np.random.default_rng(seed).permutation(images)
    return np.sort(order[: images // 2]), np.sort(order[images // 2 :])


def reached_by(run: Path, accuracy: Callable[[Path], float]) -> dict[Path, float]:
    """The accuracy of each checkpoint that a run has kept on the way."""
    return {file: accuracy(file) for file in RunFolder(run).kept}


def nearest(reached: Mapping[Path, float], goal: float) -> Path | None:
    """The checkpoint whose accuracy lies nearest to another; None of none."""
    return min(reached, key=lambda file: abs(reached[file] - goal), default=None)


def too_few(path: Path, reached: Mapping[Path, float], goal: float) -> str:
    """Why none of a run's checkpoints is accurate to the point."""
    nearest = min(reached.values(), key=lambda accuracy: abs(accuracy - goal), default=0.0)
    has = (
        f"the nearest of its {len(reached)} kept checkpoints has {nearest:.1%}"
        if reached
        else "it keeps no checkpoints"
    )
    return (
        f"{str(path)!r} is the more accurate, {goal:.1%} is to be matched, and {has}: train it with "
        f"--keep-checkpoints {max(20, 3 * len(reached))}"
    )
