"""The networks that a run is compared with: before training, with other weights or edges, and without a sheet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from colgraph.hints import in_one_line
from colgraph.report.controls import find_controls, learned_settings
from colgraph.report.equal_accuracy import TOLERANCE, halves, nearest, reached_by
from colgraph.report.loading import PlainImages, Run
from colgraph.sheet import Sheet
from colgraph.training import RunFolder, load_trained

_SAME_IMAGES = ("data", "image_size", "channels", "task", "split_seed")


@dataclass(frozen=True, eq=False)
class Network:
    """A network whose answers are compared.

    Attributes:
        name: what rows call it.
        net: on images between 0 and 1.
        sheet: None for one without.
        checkpoint: which of a run it is; "" for one that was not trained.
        folder: the run folder that a trained control is of.
        equal_to: of the run, the name of the control that this earlier checkpoint is as accurate as.
        accuracy: its own accuracy and the other's, on held-out images that nothing was chosen on; and whether they are
            equal, up to :data:`colgraph.report.equal_accuracy.TOLERANCE` where the checkpoint was chosen.
        optimizer_steps: that a trained one has behind it.
    """

    name: str
    net: PlainImages
    sheet: Sheet | None = None
    checkpoint: str = ""
    folder: str | None = None
    equal_to: str | None = None
    accuracy: dict[str, Any] = field(default_factory=dict)
    optimizer_steps: int | None = None

    @property
    def steps(self) -> int:
        """How many steps are compared: all of a sheet's, of a baseline what is read out."""
        return 1 if self.sheet is None else self.net.steps


@dataclass(frozen=True, eq=False)
class Networks:
    """The run, then what it is compared with; and why others are missing, each ``name`` and ``reason``."""

    all: list[Network]
    missing: list[dict[str, str]]


def control_runs(run: Run, given: Sequence[str], search: bool) -> tuple[dict[str, Path], list[dict[str, str]]]:
    """The folders of trained controls by their names, and which are missing.

    Those beside the run that differ in one setting (:func:`colgraph.report.controls.find_controls`), baselines beside
    it that were trained on the same images, and those that are given, under the names of their folders.

    Args:
        run: the run.
        given: run folders.
        search: whether to look beside the run.

    Raises:
        ValueError: for a folder that holds no run, or the run itself.
    """
    found: dict[str, Path] = {}
    missing: list[dict[str, str]] = []
    for control in find_controls(run) if search else ():
        if control.path is not None:
            found[control.name] = control.path
        else:
            missing.append({"name": control.name, "reason": control.reason})
    if search:
        found |= _baselines(run)
    known = {path.resolve() for path in found.values()}
    for folder in map(Path, given):
        RunFolder(folder).checkpoint()
        if folder.resolve() == run.path.resolve():
            raise ValueError(f"--controls {str(folder)!r} is the run itself")
        if folder.resolve() in known:
            continue
        name = folder.resolve().name
        found[name if name not in found else str(folder)] = folder
        known.add(folder.resolve())
    return found, missing


def _baselines(run: Run) -> dict[str, Path]:
    """Baselines in the folders beside the run: one for each set of settings, of the same seed where there is one."""
    mine = RunFolder(run.path).settings()
    groups: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
    for path in sorted(run.path.resolve().parent.iterdir()):
        try:
            settings = RunFolder(path).settings() if RunFolder(path).last.is_file() else {}
        except ValueError:
            continue  # not this run's business
        same = all(settings.get(name) == mine.get(name) for name in _SAME_IMAGES)
        if settings and same and settings["model"] != mine["model"]:
            groups.setdefault(str(sorted(learned_settings(settings).items(), key=str)), []).append((path, settings))
    chosen = [min(group, key=lambda each: each[1].get("seed") != mine.get("seed")) for group in groups.values()]
    kinds = [settings["model"] for _, settings in chosen]
    return {
        (kind if kinds.count(kind) == 1 else path.name): path for (path, _), kind in zip(chosen, kinds, strict=True)
    }


def line_up(run: Run, controls: dict[str, Path], missing: list[dict[str, str]], seed: int) -> Networks:
    """The run, both kinds of untrained networks, and the trained controls at the run's accuracy.

    Of a control that is more accurate than the run the kept checkpoint is taken whose accuracy lies nearest to it;
    where the run is the more accurate, its own nearest checkpoint stands beside it. Checkpoints are chosen on one half
    of the run's held-out images, and accuracies are of the other.
    """
    mine = Network("run", run.net, run.sheet, "last", optimizer_steps=run.optimizer_steps)
    found, missing = [mine], list(missing)
    found.append(Network("untrained", run.untrained(), run.sheet))
    name = "untrained-independent"
    _try(found, missing, name, lambda: [Network(name, run.untrained(independent=True), run.sheet)])
    for control, path in controls.items():
        _try(found, missing, control, partial(_at_equal_accuracy, run, control, path, seed))
    return Networks(found, missing)


def _try(found: list[Network], missing: list[dict[str, str]], name: str, make: Callable[[], list[Network]]) -> None:
    try:
        found += make()
    except ValueError as error:
        missing.append({"name": name, "reason": in_one_line(error)})


def _at_equal_accuracy(run: Run, name: str, path: Path, seed: int) -> list[Network]:
    """The control, and where that is less accurate the run as it was when it knew as much."""
    control = _load(run, name, path, RunFolder(path).last)
    try:
        chosen_on, measured_on = _halves(run, seed)
        mine, its = (run.accuracy(net, chosen_on, seed) for net in (run.net, control.net))
    except ValueError as error:
        return [replace(control, accuracy={"why_not": in_one_line(error)})]

    def described(one: Network, other: Network, equal: bool) -> Network:
        own, others = (run.accuracy(net, measured_on, seed) for net in (one.net, other.net))
        return replace(one, accuracy={"own": own, "other": others, "images": len(measured_on), "equal": equal})

    if abs(mine - its) <= TOLERANCE:
        return [described(control, Network("run", run.net), True)]
    is_better = its > mine
    best, goal = (path, mine) if is_better else (run.path, its)
    reached = reached_by(best, lambda file: run.accuracy(_load(run, name, best, file).net, chosen_on, seed))
    reached[RunFolder(best).last] = max(mine, its)
    file = nearest(reached, goal) or RunFolder(best).last
    equal = abs(reached[file] - goal) <= TOLERANCE
    if is_better:
        return [described(_load(run, name, path, file), Network("run", run.net), equal)]
    earlier = replace(_load(run, "run", run.path, file), equal_to=name)
    pair = [described(control, earlier, equal), described(earlier, control, equal)]
    # Its last checkpoint beside itself says nothing.
    return pair if file != RunFolder(run.path).last else [described(control, Network("run", run.net), False)]


def _halves(run: Run, seed: int) -> tuple[Any, Any]:
    if len(run.images) < 2:
        raise ValueError("accuracy was not measured: there are no held-out images")
    return halves(len(run.images), seed)


def _load(run: Run, name: str, path: Path, file: Path) -> Network:
    trained = load_trained(file)
    config = trained.config
    size = (config.image_size, config.channels)
    if size != (run.config.image_size, run.config.channels):
        raise ValueError(
            f"{str(path)!r} takes images of {size[0]} pixels and {size[1]} channels, the run of "
            f"{run.config.image_size} and {run.config.channels}: stimuli would not be the same"
        )
    if trained.classes != run.classes:
        raise ValueError(f"{str(path)!r} answers with other classes than the run, or with its classes in another order")
    net = PlainImages(trained.net, trained.transform.mean, trained.transform.std).eval()
    sheet = None if config.baseline is not None else net.sheet
    folder = None if path == run.path else str(path)
    return Network(name, net, sheet, file.stem, folder, optimizer_steps=trained.step)
