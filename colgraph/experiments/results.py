"""Rows of results, one per config and seed: read from run folders and JSON files, merged, written."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import colgraph.analysis as an
from colgraph.experiments.apart import names_apart
from colgraph.output import finite, write_text
from colgraph.training.folder import RunFolder, finished_runs
from colgraph.training.resume import changes_text

FIELDS = (
    *("config", "seed", "data", "test_accuracy", "test_loss", "train_accuracy", "train_loss", "best_val_accuracy"),
    *("parameters", "flops_per_image", "train_flops", "seconds", "cpu_seconds", "images_per_second"),
    *("peak_memory_bytes", "wiring_cost", "wiring_cost_in_spacings", "columns", "edges", "epochs", "steps"),
    *("train_images", "test_images", "device", "processor", "cores", "threads"),
    *("commit", "command", "fingerprint", "parameters_sha256", "resumed_from_step", "changes"),
    "versions",
)
"""What a row holds; all but ``config`` come from a run's ``summary.json``, null where it does not say."""

OPTIONAL = {"task": "task", "perfect": "test_perfect", "wire": "wire", "spacing": "spacing"}
"""What a row holds besides where ``summary.json`` says it, and under which name: the task of the run, the share of test
images without a wrong column, and the length of all edges and the spacing of columns, in the geometry's units."""

_OF_IMAGES = (None, "classify")
"""Tasks whose accuracy is a share of images; runs of before tasks had names have none."""

_SEED = re.compile(r"-seed\d+$")
_Row = dict[str, Any]


def row_of_run(folder: Path) -> _Row:
    """The row of a finished run; its config is the folder's name without ``-seed<n>``. ``folder`` is where it lies.

    Raises:
        ValueError: if its ``summary.json`` is missing or cannot be read, or names no test accuracy.
    """
    file = RunFolder(folder).summary
    summary = _load(file)
    if not isinstance(summary, dict) or "test_accuracy" not in summary or "seed" not in summary:
        raise ValueError(f"{str(file)!r} is no summary of a training run")
    if finite(summary["test_accuracy"]) is None:
        raise ValueError(f"{str(folder)!r} has no test accuracy, as where test targets do not vary: leave it out")
    row = {"config": _SEED.sub("", folder.resolve().name), **{name: finite(summary.get(name)) for name in FIELDS[1:]}}
    more = {name: summary[key] for name, key in OPTIONAL.items() if summary.get(key) is not None}
    return {name: row[name] for name in FIELDS} | more | {"folder": folder}


def read_results(paths: Iterable[str | os.PathLike[str]]) -> list[_Row]:
    """All rows of run folders, folders of run folders, and JSON files of rows; see :func:`merge_rows`.

    Raises:
        ValueError: for a path that holds no results, or rows that contradict each other.
    """
    found: list[tuple[str, _Row]] = []
    for path in map(Path, paths):
        if path.is_dir():
            runs = finished_runs(path)
            if not runs:
                raise ValueError(f"{str(path)!r} holds no finished run (no summary.json in it or in its folders)")
            found += [(str(run), row_of_run(run)) for run in runs]
        else:
            found += [(str(path), row) for row in _rows_of_file(path)]
    return merge_rows(found)


def merge_rows(found: Iterable[tuple[str, _Row]]) -> list[_Row]:
    """Rows from several places: each (config, data, seed) once, configs in the order in which they come first.

    Raises:
        ValueError: if two rows of one config and seed are not the same run.
    """
    rows: dict[tuple[Any, ...], tuple[str, _Row]] = {}
    for where, row in found:
        key = (row["config"], row["data"], row["seed"])
        other, known = rows.setdefault(key, (where, row))
        if "folder" in row and "folder" not in known:
            rows[key] = (other, known | {"folder": row["folder"]})
        if not _is_same_run(known, row):
            raise ValueError(
                f"config {key[0]!r} with seed {key[2]} is in {other!r} and, with other results, in {where!r}: "
                "leave one out, or rename it"
            )
    order = list(dict.fromkeys(key[:2] for key in rows))
    return [rows[key][1] for key in sorted(rows, key=lambda key: (order.index(key[:2]), key[2]))]


def _is_same_run(one: _Row, other: _Row) -> bool:
    """Whether two rows are of one run: by what was learned, and where they do not know, by all that they say."""
    if one["parameters_sha256"] is not None or other["parameters_sha256"] is not None:
        return bool(one["parameters_sha256"] == other["parameters_sha256"])
    return {**one, "folder": None} == {**other, "folder": None}


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as JSON, a row a line, whole or not at all."""
    plain = ({name: value for name, value in row.items() if name != "folder"} for row in rows)
    lines = ",\n".join(json.dumps(row, allow_nan=False) for row in plain)
    write_text(path, f"[\n{lines}\n]\n" if lines else "[]\n")


def summarize(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One entry per config and data: means over seeds, with the standard error and the interval of the test accuracy.

    Numbers are means over seeds; ``test_accuracy_se`` is ``s / sqrt(n)`` with the sample standard deviation s, null
    for a single seed. ``test_accuracy_interval`` is the 95% interval over seeds and test images: of the right and wrong
    answers, or scores, where all runs have ``predictions.npz`` (:func:`colgraph.analysis.accuracy`), else of the
    accuracies (:func:`colgraph.analysis.accuracy_interval`). It is null where the number of test images is unknown, and
    of tasks other than classification without predictions, or whose accuracy is no mean over images.
    ``peak_memory_bytes`` is the largest; ``perfect`` is null for tasks without it.
    """
    return [_entry(config, data, members) for (config, data), members in groups_of(rows).items()]


def groups_of(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, Any], list[Mapping[str, Any]]]:
    """Rows by config and data. A run whose number of epochs or batch was changed when it went on is no such row.

    Nor are runs of one name that were trained otherwise: see :func:`colgraph.experiments.apart.names_apart`.
    """
    named: dict[tuple[str, Any], list[Mapping[str, Any]]] = {}
    for row in rows:
        changed = changes_text(row.get("changes") or ())
        config = f"{row['config']} ({changed})" if changed else row["config"]
        named.setdefault((config, row["data"]), []).append(row)
    groups: dict[tuple[str, Any], list[Mapping[str, Any]]] = {}
    for (config, data), members in named.items():
        for name, row in zip(names_apart(config, members), members, strict=True):
            groups.setdefault((name, data), []).append(row)
    return groups


class NoMeanError(ValueError):
    """An accuracy that cannot be compared image by image."""


def predictions_of_runs(members: Sequence[Mapping[str, Any]]) -> list[dict[str, NDArray[Any]]] | None:
    """What runs say of each test image; None if one of them is known from a file of results, or has no predictions.

    Raises:
        NoMeanError: if a run's accuracy is no mean over images, as explained variance is not.
        ValueError: if they cannot be read, or are of other parameters than the run's accuracy.
    """
    found = []
    for row in members:
        predicted = RunFolder(row["folder"]).predicted() if "folder" in row else None
        if predicted is None:
            return None
        share = float(an.join_predictions(predicted).mean())
        if abs(share - row["test_accuracy"]) > _AS_ACCURATE:
            if "score" in predicted:
                raise NoMeanError(
                    f"{row['config']!r}: the test accuracy of its task ({row.get('task')}) is no mean over images"
                )
            raise ValueError(
                f"{str(RunFolder(row['folder']).predictions)!r} has {share:.1%} right, the run's results say "
                f"{row['test_accuracy']:.1%}: remove the file, and make it again with colgraph evaluate"
            )
        found.append(predicted)
    return found


_AS_ACCURATE = 0.005  # another machine may decide a draw otherwise


def _entry(config: str, data: Any, members: list[Mapping[str, Any]]) -> dict[str, Any]:
    entry: dict[str, Any] = {"config": config, "data": data, "seeds": [row["seed"] for row in members]}
    means = (
        *("test_accuracy", "train_accuracy", "best_val_accuracy", "parameters", "flops_per_image", "train_flops"),
        *("seconds", "cpu_seconds", "images_per_second", "wiring_cost", "wiring_cost_in_spacings"),
    )
    for name in (*means, "perfect"):
        numbers = [float(row[name]) for row in members if row.get(name) is not None]
        entry[name] = float(np.mean(numbers)) if numbers else None
    accuracy = np.array([row["test_accuracy"] for row in members], dtype=float)
    n = len(accuracy)
    entry["test_accuracy_se"] = float(accuracy.std(ddof=1) / math.sqrt(n)) if n > 1 else None
    entry["test_accuracies"] = accuracy.tolist()
    entry["test_accuracy_interval"] = _interval(members, accuracy)
    peaks = [int(row["peak_memory_bytes"]) for row in members if row.get("peak_memory_bytes") is not None]
    entry["peak_memory_bytes"] = max(peaks) if peaks else None
    for name in ("commit", "device", "processor", "threads"):
        entry[name] = list(dict.fromkeys(row[name] for row in members if row.get(name) is not None))
    entry["command"] = next((row["command"] for row in members if row.get("command")), None)
    return entry


def _interval(members: Sequence[Mapping[str, Any]], accuracies: NDArray[Any]) -> list[float] | None:
    try:
        predicted = predictions_of_runs(members)
    except NoMeanError:
        return None
    if predicted is not None:
        with contextlib.suppress(ValueError):  # of different images
            return an.accuracy(an.join_predictions(*predicted)).interval.tolist()
    if any(row.get("task") not in _OF_IMAGES for row in members):
        return None
    images = {row.get("test_images") for row in members}
    number = images.pop() if len(images) == 1 else None
    if not isinstance(number, int) or number < 2:
        return None
    return an.accuracy_interval(accuracies, number).tolist()


def _rows_of_file(path: Path) -> list[_Row]:
    content = _load(path)
    if not isinstance(content, list):
        raise ValueError(f"{str(path)!r} must hold a list of rows, as `colgraph results --json` writes it")
    for row in content:
        if not isinstance(row, dict) or not {"config", "seed", "data", "test_accuracy", "parameters_sha256"} <= set(
            row
        ):
            raise ValueError(f"{str(path)!r} has a row without config, seed, data, test_accuracy or parameters_sha256")
        if not isinstance(row["test_accuracy"], int | float):
            raise ValueError(f"{str(path)!r}: test_accuracy must be a number, got {row['test_accuracy']!r}")
    more = [{name: row[name] for name in OPTIONAL if row.get(name) is not None} for row in content]
    return [{name: row.get(name) for name in FIELDS} | those for row, those in zip(content, more, strict=True)]


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read results {str(path)!r}: {error}") from error
