"""Results of tasks: intervals of columns from their answers, perfect images, and accuracies that are no mean."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import colgraph.analysis as an
from colgraph.cli import run
from colgraph.data import IGNORED
from colgraph.experiments.against import compare_with
from colgraph.experiments.markdown import csv_table, markdown_table
from colgraph.experiments.results import FIELDS, predictions_of_runs, read_results, summarize, write_rows
from colgraph.training.folder import RunFolder

IMAGES, COLUMNS = 80, 12


def balanced(label: Any, answer: Any) -> float:
    return float(np.mean([(answer[label == k] == k).mean() for k in (0, 1)]))


def finished(path: Path, name: str, seed: int, accuracy: float, task: str = "columns", **more: Any) -> RunFolder:
    folder = RunFolder(path / f"{name}-seed{seed}")
    folder.path.mkdir(parents=True)
    facts = {"test_accuracy": accuracy, "seed": seed, "data": "mazes", "parameters_sha256": f"{name}{seed}"}
    folder.write_summary({**dict.fromkeys(FIELDS[1:]), **facts, "test_images": IMAGES, "task": task, **more})
    return folder


def columns_of_runs(path: Path, configs: dict[str, float], seeds: int = 2) -> dict[str, Any]:
    """Finished runs of columns, each with its images and its columns in an order of its own; labels and answers."""
    rng, found = np.random.default_rng(0), {}
    label = rng.choice([0, 1, IGNORED], size=(IMAGES, COLUMNS), p=[0.2, 0.6, 0.2])
    keys = np.array([f"{i:03}" for i in range(IMAGES)])
    for name, share in configs.items():
        answers = np.where(rng.random((seeds, *label.shape)) < share, np.maximum(label, 0), 1 - np.maximum(label, 0))
        found[name] = (label, answers)
        for seed, answer in enumerate(answers):
            perfect = float(((answer == label) | (label == IGNORED)).all(1).mean())
            folder = finished(path, name, seed, balanced(label, answer), test_perfect=perfect)
            images, order = rng.permutation(IMAGES), rng.permutation(COLUMNS)
            mixed = {"label": label[images][:, order], "prediction": answer[images][:, order]}
            folder.write_predictions({"image": keys[images], **mixed, "classes": np.array(["no", "yes"])})
    return found


def test_the_interval_of_columns_is_over_seeds_and_images(tmp_path: Path) -> None:
    label, answers = columns_of_runs(tmp_path, {"sheet": 0.9}, seeds=3)["sheet"]
    rows = read_results([tmp_path])
    (entry,) = summarize(rows)
    assert entry["test_accuracy"] == pytest.approx(np.mean([balanced(label, each) for each in answers]))
    image = np.arange(IMAGES).astype(str)
    joined = an.join_predictions(*({"image": image, "label": label, "prediction": each} for each in answers))
    assert entry["test_accuracy_interval"] == pytest.approx(an.accuracy(joined).interval.tolist())
    low, high = entry["test_accuracy_interval"]
    assert low < entry["test_accuracy"] < high
    # Narrower than that of as many images with a label each: every image has several columns.
    assert high - low < np.ptp(an.accuracy_interval(entry["test_accuracies"], IMAGES))
    # From accuracies alone there is none: columns of an image are not independent.
    alone = [{name: value for name, value in row.items() if name != "folder"} for row in rows]
    assert summarize(alone)[0]["test_accuracy_interval"] is None


def test_configs_of_columns_are_compared_on_the_same_images(tmp_path: Path) -> None:
    found = columns_of_runs(tmp_path, {"sheet": 0.9, "vit": 0.7})
    rows = read_results([tmp_path])
    ((entry,), notes) = compare_with(rows, "sheet")
    means = {name: np.mean([balanced(label, each) for each in answers]) for name, (label, answers) in found.items()}
    assert entry["difference"] == pytest.approx(means["vit"] - means["sheet"])
    assert (entry["test"], entry["images"], notes) == ("Student's t", IMAGES, [])
    assert entry["interval"][0] < entry["difference"] < entry["interval"][1] < 0
    folder = RunFolder(tmp_path / "vit-seed0")
    said = folder.predicted()
    assert said is not None
    folder.write_predictions({**said, "prediction": np.maximum(said["label"], 0)})
    with pytest.raises(ValueError, match=r"predictions\.npz' has 100\.0% right, the run's results say 7\d\.\d%"):
        compare_with(rows, "sheet")


def test_accuracies_that_are_no_mean_over_images_have_no_interval_and_are_not_compared(tmp_path: Path) -> None:
    rng, keys = np.random.default_rng(1), np.array([f"{i}" for i in range(IMAGES)])
    errors, shares = -rng.random(IMAGES), rng.integers(0, 3, IMAGES) / 2
    for name, score, accuracy, task in (
        ("hidden", errors, 0.3, "reconstruct"),
        ("views", shares, float(shares.mean()), "contrast"),
        ("again", shares[::-1], float(shares.mean()), "contrast"),
    ):
        for seed in range(2):
            content = {"image": keys, "score": score.copy(), "classes": np.array(["a", "b"])}
            finished(tmp_path, name, seed, accuracy, task).write_predictions(content)
    rows = read_results([tmp_path])
    intervals = {entry["config"]: entry["test_accuracy_interval"] for entry in summarize(rows)}
    assert intervals["hidden"] is None
    assert intervals["views"] == an.accuracy(np.stack([shares, shares])).interval.tolist()
    entries, notes = compare_with(rows, "views")
    assert [entry["config"] for entry in entries] == ["again"]
    assert notes == ["of an accuracy that is no mean over images, left out: hidden"]
    with pytest.raises(ValueError, match=r"'hidden': the test accuracy of its task \(reconstruct\) is no mean"):
        compare_with(rows, "hidden")


def test_rows_and_tables_say_what_is_perfect_where_that_is_known(tmp_path: Path) -> None:
    columns_of_runs(tmp_path / "runs", {"sheet": 0.97})
    old = [{**dict.fromkeys(FIELDS), "config": "old", "seed": 0, "data": "digits", "test_accuracy": 0.5}]
    (tmp_path / "old.json").write_text(json.dumps([{**row, "parameters_sha256": "x"} for row in old]))
    (row,) = read_results([tmp_path / "old.json"])
    assert set(row) == set(FIELDS)
    both = read_results([tmp_path / "runs", tmp_path / "old.json"])
    write_rows(tmp_path / "rows.json", both)
    again = read_results([tmp_path / "rows.json"])
    assert (again[0]["task"], again[0]["perfect"]) == ("columns", both[0]["perfect"])
    assert "perfect" not in again[2]
    perfect = np.mean([each["perfect"] for each in both[:2]])
    table = markdown_table(both)
    assert "| perfect (%) |" in table
    assert f"| {100 * perfect:.1f} |" in table
    assert "share of test images without a wrong column" in table.replace("\n", " ")
    assert [line["perfect"] for line in csv.DictReader(io.StringIO(csv_table(both)))] == [str(perfect), ""]
    for text in (markdown_table([row]), csv_table([row])):
        assert "perfect" not in text
    run(["results", str(tmp_path / "runs"), "--plot", str(tmp_path / "p.png"), "-o", str(tmp_path / "t.md")])
    assert "perfect" in (tmp_path / "t.md").read_text()


@pytest.mark.parametrize(
    "change",
    [
        {"label": np.array([[0, -1]] * 3)},
        {"label": np.array([[0, 2]] * 3)},
        {"prediction": np.array([[0, IGNORED]] * 3)},
        {"label": np.array([0, 1, IGNORED]), "prediction": np.array([0, 1, 0])},
        {"label": np.array([[0, 1]] * 2)},
        {"label": np.array([[0.0, 1.0]] * 3)},
        {"score": np.array([0.1, 0.2, np.nan])},
        {"score": np.array([0.1, 0.2])},
        {"score": np.array([[0.1], [0.2], [0.3]])},
        {"image": np.zeros((3, 1), "U1")},
    ],
)
def test_predictions_that_are_none_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = finished(tmp_path, "a", 0, 0.5)
    good = {"image": np.array(["x", "y", "z"]), "label": np.array([[0, IGNORED]] * 3), "classes": np.array(["a", "b"])}
    good["prediction"] = np.array([[0, 1]] * 3)
    folder.write_predictions(good)
    assert folder.predicted() is not None
    folder.write_predictions(good | change)
    with pytest.raises(ValueError, match="does not hold labels and predictions by the numbers of classes, or scores"):
        folder.predicted()


def test_rows_without_predictions_have_none(tmp_path: Path) -> None:
    finished(tmp_path, "a", 0, 0.5)
    assert predictions_of_runs(read_results([tmp_path])) is None
