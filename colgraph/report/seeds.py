"""Analyzed runs of one configuration and several seeds: means with intervals over seeds, beside their controls.

An interval within one run says how well its number is known; only one over seeds says what training does. Differences
from controls are taken seed by seed: a run shares its stimuli, and with most controls its first parameters, with them.
A control that was trained with another seed than its run does not count, for several runs would then share it.
Accuracies are of a sample of test images, which another sample would change, too: their intervals carry both.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from colgraph.analysis import Result, accuracy, accuracy_difference, mean_interval
from colgraph.report.analyse import is_analyzed, read_results
from colgraph.report.controls import learned_settings
from colgraph.report.multiple_comparisons import false_discovery
from colgraph.report.paired_accuracy import right_on_the_same
from colgraph.training import RunFolder

CHANCE = "by chance"
_Each = Sequence[Mapping[str, Any]]  # one per run


@dataclass(frozen=True)
class OverSeeds:
    """A number over seeds.

    Attributes:
        values: one per seed.
        interval: the 95% interval of their mean; NaN for fewer than two values.
        p_value: of a difference, whether it is zero; None for fewer than two values.
        p_fdr: of a difference, the same corrected for the number of differences beside it.
    """

    values: tuple[float, ...]
    interval: tuple[float, float]
    p_value: float | None = None
    p_fdr: float | None = None

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def differs(self) -> bool:
        """Whether it is no zero, corrected for the number of differences."""
        return self.p_fdr is not None and self.p_fdr < 0.05

    def times(self, factor: float) -> OverSeeds:
        """In another unit."""
        low, high = self.interval
        return replace(self, values=tuple(factor * v for v in self.values), interval=(factor * low, factor * high))

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.mean:.3g}" + ("" if math.isnan(low) else f" [{low:.3g}, {high:.3g}]")


def compare_seeds(runs: Iterable[str | os.PathLike[str]]) -> dict[str, Any]:
    """Collect the analyses of runs that differ in nothing but their seed.

    Args:
        runs: folders of runs, analyzed by ``colgraph analyze``.

    Returns:
        ``runs`` (names), ``seeds``, ``test_accuracy`` (:class:`OverSeeds` or None) and ``analyses``: for each its
        ``title``, ``name`` and ``unit``, ``value`` (:class:`OverSeeds`), and ``differences``: value minus that of each
        control, and minus the mean of its null ("by chance"), seed by seed, where a seed has both. Where runs have
        ``predictions.npz``, one of the analyses is the accuracy, whose intervals carry seeds and test images, and whose
        differences are of the same images. ``notes`` says what is missing of that.

    Raises:
        ValueError: for folders that are no runs, not analyzed, of other settings or amounts, or twice there.
    """
    paths = [Path(run) for run in runs]
    if not paths:
        raise ValueError("no runs to compare")
    found = [_analysis(path) for path in paths]
    configs = [RunFolder(path).settings() for path in paths]
    _check_alike(paths, configs, found)
    seeds = [config.get("seed", 0) for config in configs]
    entries = [{entry["key"]: entry for entry in each["analyses"]} for each in found]
    measures = _measures(entries, seeds)
    notes: list[str] = []
    try:
        shown = _accuracies(paths, found, seeds, notes)
    except ValueError as error:
        shown = {}
        notes.append(str(error))
    analyses = _corrected({"test_accuracy": shown, **measures} if shown else measures)
    plain = [a for a in map(_accuracy, paths) if a is not None]
    return {
        "runs": [path.resolve().name for path in paths],
        "seeds": seeds,
        "test_accuracy": shown["value"].times(0.01) if shown else _over(plain) if plain else None,
        "analyses": analyses,
        "notes": notes,
    }


def seeds_table(compared: Mapping[str, Any]) -> str:
    """Markdown: a row per analysis, a column per control. Differences whose corrected p is below 0.05 are bold."""
    analyses = compared["analyses"].values()
    controls = list(dict.fromkeys(name for each in analyses for name in each["differences"]))
    rows = [["analysis", "value", *(f"minus {name}" for name in controls)]]
    for each in analyses:
        # Titles, for names may say what was found in one seed (the class to which most columns are selective).
        unit = f" ({each['unit']})" if each["unit"] else ""
        rows.append([f"{each['title']}{unit}", str(each["value"]), *(_cell(each, name) for name in controls)])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    accuracy = compared["test_accuracy"]
    percent = None if accuracy is None else accuracy.times(100)
    note = f"Seeds {', '.join(map(str, compared['seeds']))}. Means over seeds with their 95% intervals (Student's t); "
    note += (
        "differences are taken seed by seed, with p (Student's t) and, after the arrow, p corrected for the number of "
    )
    note += "differences in the table (false discovery rate, Benjamini and Hochberg); bold where that is below 0.05."
    if percent is not None:
        few = "" if len(percent.values) == len(compared["seeds"]) else f" ({len(percent.values)} of the seeds)"
        over = "seeds and test images" if "test_accuracy" in compared["analyses"] else "seeds alone"
        note += f" Test accuracy: {percent}%{few}, over {over}."
    return "\n".join([*lines, "", note, *(f"\n{more}." for more in compared["notes"]), ""])


def seeds_json(compared: Mapping[str, Any]) -> dict[str, Any]:
    """The same as plain values, with those of each seed."""
    return {name: _plain(value) for name, value in compared.items()}


# ---------------------------------------------------------------------- reading


def _analysis(path: Path) -> dict[str, Any]:
    RunFolder(path).check()
    content = read_results(path)
    if not content["finished"]:
        raise ValueError(f"{str(path)!r} had not been trained to its end when it was analyzed: compare finished runs")
    if not is_analyzed(path):
        raise ValueError(f"{str(path)!r} has been trained since it was analyzed: run colgraph analyze {path}")
    return content


def _check_alike(paths: Sequence[Path], configs: _Each, found: _Each) -> None:
    first = learned_settings(configs[0])
    for path, config, each in zip(paths, configs, found, strict=True):
        mine = learned_settings(config)
        other = sorted(name for name in first.keys() | mine.keys() if first.get(name) != mine.get(name))
        if other:
            name = other[0]
            raise ValueError(
                f"{str(path)!r} has {name}={mine.get(name)!r}, {str(paths[0])!r} {first.get(name)!r}: "
                "compare runs that differ only in their seed"
            )
        for name in ("probes", "permutations", "nulls", "seed", "signal"):
            here, there = each["settings"].get(name), found[0]["settings"].get(name)
            if here != there:
                raise ValueError(
                    f"{str(path)!r} was analyzed with {name}={here}, {str(paths[0])!r} with {there}: analyze them alike"
                )
    seeds = [config.get("seed", 0) for config in configs]
    for place, seed in enumerate(seeds):
        if seed in seeds[:place]:
            raise ValueError(f"{str(paths[place])!r} and {str(paths[seeds.index(seed)])!r} have the same seed, {seed}")


def _accuracy(path: Path) -> float | None:
    value = RunFolder(path).results().get("test_accuracy")
    return None if value is None else float(value)


# ---------------------------------------------------------------------- over seeds


def _measures(entries: _Each, seeds: Sequence[int]) -> dict[str, Any]:
    keys = list(dict.fromkeys(key for each in entries for key in each))
    found = {}
    for key in keys:
        pairs = [(each[key], seed) for each, seed in zip(entries, seeds, strict=True) if _has_value(each.get(key))]
        if pairs:
            found[key] = _measure(pairs)
    return found


def _has_value(entry: Mapping[str, Any] | None) -> bool:
    return entry is not None and entry["result"] is not None and entry["result"]["value"] is not None


def _measure(pairs: Sequence[tuple[Mapping[str, Any], int]]) -> dict[str, Any]:
    """One analysis of all seeds that have it."""
    first = pairs[0][0]
    differences: dict[str, list[float]] = {}
    for entry, seed in pairs:
        value = entry["result"]["value"]
        others = {CHANCE: entry["result"].get("null_mean")}
        # Controls without a seed of their own come from the run itself.
        others |= {n: c.get("value") for n, c in entry["controls"].items() if c.get("seed", seed) == seed}
        for name, other in others.items():
            if other is not None:
                differences.setdefault(name, []).append(value - other)
    return {
        "title": first["title"],
        "name": first["result"]["name"],
        "unit": first["result"]["unit"],
        "value": _over([entry["result"]["value"] for entry, _ in pairs]),
        "differences": {name: _over(values) for name, values in differences.items()},
    }


def _accuracies(paths: Sequence[Path], found: _Each, seeds: Sequence[int], notes: list[str]) -> dict[str, Any]:
    """Test accuracy in percent, and its differences from trained controls of the same seeds, over seeds and images."""
    right = right_on_the_same([*paths])
    differences = {}
    for name in dict.fromkeys(name for each in found for name in each["test_accuracy"]["controls"]):
        pairs = []
        for path, each, seed in zip(paths, found, seeds, strict=True):
            folder = each["test_accuracy"]["controls"].get(name, {}).get("folder")
            control = path.resolve().parent / str(folder)
            if folder is not None and RunFolder(control).settings().get("seed", 0) == seed:
                pairs.append((path, control))
        if not pairs:
            continue
        try:
            both = right_on_the_same([*(path for path, _ in pairs), *(control for _, control in pairs)])
        except ValueError as error:
            notes.append(f"Accuracy is not compared with {name}: {error}")
            continue
        mine, theirs = both[: len(pairs)], both[len(pairs) :]
        differences[name] = _percent(mine.mean(1) - theirs.mean(1), accuracy_difference(mine, theirs))
    value = _percent(right.mean(1), accuracy(right))
    return {"title": "Test accuracy", "name": "accuracy", "unit": "%", "value": value, "differences": differences}


def _percent(values: NDArray[np.float64], over: Result) -> OverSeeds:
    low, high = (float(end) for end in over.interval)
    p = None if math.isnan(over.p_value) else over.p_value
    return OverSeeds(tuple(values.tolist()), (low, high), p).times(100)


def _corrected(analyses: dict[str, Any]) -> dict[str, Any]:
    """Analyses with the p-values of all of their differences corrected together."""
    cells = [(key, name) for key, each in analyses.items() for name in each["differences"]]
    tested = {(key, name): analyses[key]["differences"][name].p_value for key, name in cells}
    for (key, name), p in false_discovery(tested).items():
        differences = analyses[key]["differences"]
        differences[name] = replace(differences[name], p_fdr=p)
    return analyses


def _over(values: Sequence[float]) -> OverSeeds:
    """By Student's t."""
    low, high = mean_interval(values)
    several = len(values) > 1 and np.ptp(values) > 0
    p = float(stats.ttest_1samp(values, 0).pvalue) if several else None
    return OverSeeds(tuple(map(float, values)), (float(low), float(high)), p)


def _cell(measure: Mapping[str, Any], control: str) -> str:
    difference = measure["differences"].get(control)
    if difference is None:
        return ""
    n = len(difference.values)
    few = "" if n == len(measure["value"].values) else f" ({n} seed{'s' * (n > 1)})"
    p, corrected = difference.p_value, difference.p_fdr
    chance = "" if p is None or corrected is None else f", p {p:.2g} \u2192 {corrected:.2g}"
    return (f"**{difference}**" if difference.differs else str(difference)) + chance + few


def _plain(value: Any) -> Any:
    if isinstance(value, OverSeeds):
        low, high = (None if math.isnan(end) else end for end in value.interval)
        plain = {"mean": value.mean, "low": low, "high": high, "values": list(value.values)}
        return plain | ({} if value.p_fdr is None else {"p_value": value.p_value, "p_fdr": value.p_fdr})
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return value
