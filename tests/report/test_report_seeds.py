"""Analyses of several seeds: numbers known beforehand, and runs that do not belong together."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from scipy import stats

pytest.importorskip("lightning")
pytest.importorskip("sklearn")

from colgraph import cli
from colgraph.analysis import accuracy, accuracy_difference
from colgraph.report.analyse import FORMAT
from colgraph.report.line_up import LineUp
from colgraph.report.page import _accuracy
from colgraph.report.paired_accuracy import paired_accuracies, right_on_the_same
from colgraph.report.seeds import compare_seeds, seeds_json, seeds_table
from colgraph.training.checkpoint import KEY

VALUES = (1.0, 1.3, 1.1)
UNTRAINED = (0.2, 0.6, 0.3)


def result(value: float, null: float | None = None) -> dict[str, Any]:
    found = {"name": "wire", "unit": "mm", "value": value, "low": None, "high": None, "p_value": None, "z": None}
    return found if null is None else {**found, "null_mean": null}


def write_run(
    path: Path, seed: int, entries: list[dict[str, Any]], probes: int = 100, signal: str = "normed", **settings: Any
) -> Path:
    (path / "analysis").mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump({"data": "digits", "seed": seed, **settings}))
    (path / "summary.json").write_text(json.dumps({"test_accuracy": 0.9 + 0.01 * seed}))
    told = {"probes": probes, "permutations": 9, "signal": signal}
    content: dict[str, Any] = {"format": FORMAT, "finished": True, "settings": told}
    content["test_accuracy"] = {"controls": {}}
    content["analyses"] = entries
    (path / "analysis" / "results.json").write_text(json.dumps(content))
    return path


@pytest.fixture
def runs(tmp_path):
    paths = []
    for seed, (value, before) in enumerate(zip(VALUES, UNTRAINED, strict=True)):
        controls = {
            "untrained": result(before),
            "tied weights": {**result(5.0 + seed), "seed": 0},
            "random graph": {"why_not": "does not apply"},
        }
        entry = {"key": "wiring", "title": "Wire", "result": result(value, 2.0), "why_not": None, "controls": controls}
        none = {"key": "moran", "title": "Moran", "result": None, "why_not": "no", "controls": {}}
        paths.append(write_run(tmp_path / f"run-seed{seed}", seed, [entry, none]))
    return paths


def test_intervals_and_p_values_are_students(runs):
    wiring = compare_seeds(runs)["analyses"]["wiring"]
    expected = stats.ttest_1samp(VALUES, 0).confidence_interval()
    assert wiring["value"].interval == pytest.approx((expected.low, expected.high))
    difference = wiring["differences"]["untrained"]
    assert difference.p_value == pytest.approx(stats.ttest_rel(VALUES, UNTRAINED).pvalue)
    alone = compare_seeds(runs[:1])["analyses"]["wiring"]["differences"]["untrained"]
    assert math.isnan(alone.interval[0])
    assert (alone.p_value, alone.differs) == (None, False)


def test_differences_are_taken_seed_by_seed(runs):
    compared = compare_seeds(runs)
    assert list(compared["analyses"]) == ["wiring"], "what has no number in any seed is left out"
    wiring = compared["analyses"]["wiring"]
    assert wiring["value"].values == VALUES
    assert wiring["differences"]["untrained"].values == pytest.approx(np.subtract(VALUES, UNTRAINED))
    assert wiring["differences"]["by chance"].values == pytest.approx(np.array(VALUES) - 2)
    assert wiring["differences"]["tied weights"].values == (-4.0,), "the tied run of seed 0 is a control of seed 0 only"
    assert "random graph" not in wiring["differences"]
    assert compared["test_accuracy"].mean == pytest.approx(0.91)
    plain = seeds_json(compared)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["analyses"]["wiring"]["differences"]["tied weights"]["low"] is None


def test_the_table_marks_what_differs(runs):
    table = seeds_table(compare_seeds(runs))
    head, _, row, *rest = table.splitlines()
    assert head == "| analysis | value | minus by chance | minus untrained | minus tied weights |"
    assert row.startswith("| Wire (mm) | 1.13 [0.754, 1.51] | **-0.867 [")
    # Of two p-values the smaller is doubled, and the larger stays.
    assert "]**, p 0.01 \N{RIGHTWARDS ARROW} 0.01 |" in row
    assert "]**, p 0.0019 \N{RIGHTWARDS ARROW} 0.0038 |" in row
    assert row.endswith(" | -4 (1 seed) |")
    note = next(line for line in rest if line.startswith("Seeds 0, 1, 2."))
    assert note.endswith("Test accuracy: 91 [88.5, 93.5]%, over seeds alone.")
    (runs[2] / "summary.json").write_text("[]")
    assert "% (2 of the seeds), over seeds alone." in seeds_table(compare_seeds(runs))


def test_what_is_bold_is_corrected_for_its_number(tmp_path):
    """One difference of p = 0.03 stands out alone, and no longer among twenty that are nothing."""

    def runs_with(count: int) -> list[Path]:
        rng, paths = np.random.default_rng(0), []
        noise = np.where(np.arange(count)[:, None] > 0, rng.normal(size=(count, 3)), [[1.0, 1.4, 0.8]])
        noise[1:] -= noise[1:].mean(1, keepdims=True) - 0.1
        for seed in range(3):
            entries = [
                {"key": f"m{k}", "title": f"M{k}", "result": result(float(noise[k, seed]), 0.0), "controls": {}}
                for k in range(count)
            ]
            paths.append(write_run(tmp_path / f"{count}-{seed}", seed, entries))
        return paths

    alone, among = (compare_seeds(runs_with(count)) for count in (1, 20))
    first, second = (each["analyses"]["m0"]["differences"]["by chance"] for each in (alone, among))
    assert first.p_value == second.p_value == first.p_fdr < 0.05 < second.p_fdr
    assert (first.differs, second.differs) == (True, False)
    assert "| **1.07" in seeds_table(alone)
    assert "**1.07" not in seeds_table(among)
    cell = seeds_json(among)["analyses"]["m0"]["differences"]["by chance"]
    assert (cell["p_value"], cell["p_fdr"]) == (second.p_value, second.p_fdr)


# ---------------------------------------------------------------------- accuracies on the same images


def write_predictions(path: Path, right: np.ndarray, order: np.ndarray | None = None, classes: str = "ab") -> None:
    """Images ``0, 1, ...`` whose label is their parity, in any order; the classes' names in any order."""
    image = np.arange(len(right)) if order is None else order
    label = np.array([classes.index("ab"[i % 2]) for i in image])
    prediction = np.where(right[image], label, 1 - label)
    names = np.array([f"image {i}" for i in image])
    path.mkdir(exist_ok=True)
    np.savez(path / "predictions.npz", image=names, label=label, prediction=prediction, classes=np.array(list(classes)))


def two_runs(tmp_path: Path, seeds: int, n: int = 200) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """Runs and their controls, which are right on most of the same images."""
    rng = np.random.default_rng(1)
    easy = rng.random(n) < 0.8
    mine = np.array([easy | (rng.random(n) < 0.35) for _ in range(seeds)])
    theirs = np.array([(mine[s] & (rng.random(n) < 0.93)) for s in range(seeds)])
    paths = []
    for seed in range(seeds):
        entries = [{"key": "moran", "title": "Moran", "result": result(1.0 + seed), "controls": {}}]
        paths.append(write_run(tmp_path / f"run{seed}", seed, entries))
        write_run(tmp_path / f"tied{seed}", seed, [])
        write_predictions(paths[-1], mine[seed])
        # In another order, with the classes in another order.
        write_predictions(tmp_path / f"tied{seed}", theirs[seed], rng.permutation(n), "ba")
        place = paths[-1] / "analysis" / "results.json"
        content = json.loads(place.read_text())
        content["test_accuracy"]["controls"] = {"tied weights": {"folder": f"tied{seed}"}}
        place.write_text(json.dumps(content))
    return paths, mine, theirs


@pytest.mark.parametrize("seeds", [1, 3])
def test_accuracies_are_of_the_same_images_and_carry_their_sample(tmp_path, seeds):
    paths, mine, theirs = two_runs(tmp_path, seeds)
    compared = compare_seeds(paths)
    found = compared["analyses"]["test_accuracy"]
    assert found["value"].values == pytest.approx(100 * mine.mean(1))
    assert found["value"].interval == pytest.approx(100 * accuracy(mine).interval)
    difference, expected = found["differences"]["tied weights"], accuracy_difference(mine, theirs)
    assert difference.values == pytest.approx(100 * (mine.mean(1) - theirs.mean(1)))
    assert difference.interval == pytest.approx(100 * expected.interval)
    assert difference.p_value == pytest.approx(expected.p_value)
    assert compared["test_accuracy"].interval == pytest.approx(accuracy(mine).interval)
    assert "over seeds and test images." in seeds_table(compared)


def test_a_control_of_another_seed_or_other_images_is_not_compared(tmp_path):
    paths, _, _ = two_runs(tmp_path, 2)
    config = tmp_path / "tied1" / "config.yaml"
    config.write_text(config.read_text().replace("seed: 1", "seed: 0"))
    compared = compare_seeds(paths)
    assert len(compared["analyses"]["test_accuracy"]["differences"]["tied weights"].values) == 1
    write_predictions(tmp_path / "tied0", np.ones(300, bool))
    compared = compare_seeds(paths)
    assert compared["analyses"]["test_accuracy"]["differences"] == {}
    assert "tied weights: the predictions of run0, tied0: " in compared["notes"][0]
    assert "are of different images (200 and 300)" in compared["notes"][0]


def test_a_report_has_the_accuracies_of_trained_controls_on_the_same_images(tmp_path):
    _, mine, theirs = two_runs(tmp_path, 1)
    contexts: list[Any] = [SimpleNamespace(name=n, kind="trained") for n in ("tied weights", "no wiring cost")]
    paths = {"run": tmp_path / "run0", "tied weights": tmp_path / "tied0", "no wiring cost": tmp_path / "none"}
    found = paired_accuracies(LineUp(contexts, [], paths))
    tied = found["controls"]["tied weights"]
    assert found["run"]["value"] == pytest.approx(mine.mean())
    assert tied["value"] == pytest.approx(mine.mean() - theirs.mean())
    assert tied["p_value"] == tied["p_fdr"] == pytest.approx(stats.binomtest(0, int((mine & ~theirs).sum())).pvalue)
    assert tied["folder"] == "tied0"
    assert "has no predictions.npz" in found["controls"]["no wiring cost"]["why_not"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    page = _accuracy(found, Path("run0"))
    alone = int((mine & ~theirs).sum())
    for text in (f"{100 * mine.mean():.1f}% on 200 test images", f"<td>{alone} and 0</td>", "has no predictions.npz"):
        assert text in page, text
    (tmp_path / "run0" / "predictions.npz").unlink()
    found = paired_accuracies(LineUp(contexts, [], paths))
    assert "why_not" in found["run"]
    assert "colgraph evaluate" in _accuracy(found, Path("run0"))


def test_runs_without_predictions_are_compared_by_seeds_and_it_is_said(runs, tmp_path):
    compared = compare_seeds(runs)
    assert "test_accuracy" not in compared["analyses"]
    assert "has no predictions.npz: colgraph evaluate" in compared["notes"][0]
    assert compared["notes"][0] in seeds_table(compared)
    paths, _, _ = two_runs(tmp_path, 2)
    (tmp_path / "tied1" / "predictions.npz").write_bytes(b"PK")
    compared = compare_seeds(paths)
    assert compared["analyses"]["test_accuracy"]["differences"] == {}
    assert compared["notes"][0].startswith("Accuracy is not compared with tied weights: cannot read")
    with np.load(paths[0] / "predictions.npz") as file:
        arrays = {**file, "prediction": file["prediction"] + 5}
    np.savez(paths[0] / "predictions.npz", **arrays)
    with pytest.raises(ValueError, match="does not hold labels and predictions by the numbers of classes"):
        right_on_the_same(paths[:1])


def test_from_the_command_line(runs, tmp_path, capsys):
    words = ["compare", *map(str, runs)]
    cli.run(words)
    printed = capsys.readouterr().out
    assert printed.strip() == seeds_table(compare_seeds(runs)).strip()
    cli.run([*words, "-o", str(tmp_path / "table.md"), "--json", str(tmp_path / "numbers.json")])
    assert (tmp_path / "table.md").read_text().strip() == printed.strip()
    assert json.loads((tmp_path / "numbers.json").read_text())["seeds"] == [0, 1, 2]
    with pytest.raises(ValueError, match=r"ends in \.md"):
        cli.run([*words, "-o", str(tmp_path / "table.txt")])
    with pytest.raises(ValueError, match="required"):
        cli.run(["compare"])


def test_runs_that_do_not_belong_together_are_refused(runs, tmp_path):
    entries = json.loads((runs[0] / "analysis" / "results.json").read_text())["analyses"]
    with pytest.raises(ValueError, match="same seed, 0"):
        compare_seeds([*runs, write_run(tmp_path / "again", 0, entries)])
    with pytest.raises(ValueError, match=r"other' has wiring=0\.5, .*run-seed0' 0\.0: .* only in their seed"):
        compare_seeds([*runs, write_run(tmp_path / "other", 7, entries, wiring=0.5)])
    with pytest.raises(ValueError, match=r"analyzed with probes=50, .* with 100"):
        compare_seeds([*runs, write_run(tmp_path / "few", 8, entries, probes=50)])
    with pytest.raises(ValueError, match=r"analyzed with signal=norm, .* with normed"):
        compare_seeds([*runs, write_run(tmp_path / "length", 8, entries, signal="norm")])
    bare = write_run(tmp_path / "bare", 9, entries)
    place = bare / "analysis" / "results.json"
    text = place.read_text()
    place.write_text(text.replace('"finished": true', '"finished": false'))
    with pytest.raises(ValueError, match="had not been trained to its end"):
        compare_seeds([bare])
    place.write_text(text)
    (bare / "checkpoints").mkdir()
    torch.save({KEY: {}, "state_dict": {}, "global_step": 7}, bare / "checkpoints" / "last.ckpt")
    os.utime(place, (0, 0))  # as it does not say of which checkpoint it is
    with pytest.raises(ValueError, match="trained since it was analyzed"):
        compare_seeds([bare])
    place.write_text(json.dumps(json.loads(text) | {"optimizer_steps": 3}))
    with pytest.raises(ValueError, match="trained since it was analyzed"):
        compare_seeds([bare])
    place.write_text(json.dumps({"format": FORMAT - 1}))
    with pytest.raises(ValueError, match="another version"):
        compare_seeds([bare])
    place.write_text("{")
    with pytest.raises(ValueError, match="cannot read"):
        compare_seeds([bare])
    place.unlink()
    with pytest.raises(ValueError, match="has not been analyzed: run colgraph analyze"):
        compare_seeds([bare])
    with pytest.raises(ValueError, match="is no run folder"):
        compare_seeds([tmp_path])
