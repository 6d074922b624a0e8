"""Analyses of several seeds: numbers known beforehand, and runs that do not belong together."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

pytest.importorskip("lightning")
pytest.importorskip("sklearn")

from colgraph import cli
from colgraph.report.analyse import FORMAT
from colgraph.report.predictions import (
    bootstrap_of_difference,
    mcnemar,
    mean_over_seeds,
    mean_over_seeds_and_images,
    read_answers,
    right_on_the_same,
)
from colgraph.report.seeds import OverSeeds, compare_seeds, seeds_json, seeds_table

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


def test_interval_is_students():
    over = OverSeeds(VALUES)
    expected = stats.ttest_1samp(VALUES, 0).confidence_interval()
    assert over.interval == pytest.approx((expected.low, expected.high))
    assert over.differs
    assert not OverSeeds((-1.0, 1.0, 0.5)).differs
    assert math.isnan(OverSeeds((1.0,)).interval[0])
    assert not OverSeeds((1.0,)).differs


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
    assert first.p_value == second.p_value == first.p_corrected < 0.05 < second.p_corrected
    assert (first.differs, second.differs) == (True, False)
    assert "| **1.07" in seeds_table(alone)
    assert "**1.07" not in seeds_table(among)
    cell = seeds_json(among)["analyses"]["m0"]["differences"]["by chance"]
    assert (cell["p_value"], cell["p_fdr"]) == (second.p_value, second.p_corrected)


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
        # In another order, with the classes in another order, and without one image.
        write_predictions(tmp_path / f"tied{seed}", theirs[seed], rng.permutation(n)[:-1], "ba")
        place = paths[-1] / "analysis" / "results.json"
        content = json.loads(place.read_text())
        content["test_accuracy"]["controls"] = {"tied weights": {"folder": f"tied{seed}"}}
        place.write_text(json.dumps(content))
    return paths, mine, theirs


def test_answers_are_joined_by_image_whatever_their_order(tmp_path):
    paths, mine, theirs = two_runs(tmp_path, 1)
    with np.load(tmp_path / "tied0" / "predictions.npz") as file:
        kept = np.sort([int(name.split()[1]) for name in file["image"]])
    joined = right_on_the_same([read_answers(paths[0]), read_answers(tmp_path / "tied0")])
    names = [f"image {i}" for i in kept]
    order = np.array(kept)[np.argsort(names)]
    assert np.array_equal(joined, [mine[0][order], theirs[0][order]])
    compared = compare_seeds(paths)
    accuracy = compared["analyses"]["test_accuracy"]
    assert accuracy["value"].mean == pytest.approx(100 * mine[0].mean())
    assert accuracy["differences"]["tied weights"].mean == pytest.approx(100 * (mine[0] ^ theirs[0])[kept].mean())
    # Of one seed, the interval is that of its images.
    low, high = accuracy["value"].interval
    assert high - low == pytest.approx(2 * 1.972 * 100 * mine[0].std(ddof=1) / len(mine[0]) ** 0.5, rel=1e-3)


def test_images_shown_twice_count_twice_and_what_is_not_shared_is_left_out(tmp_path):
    write_predictions(tmp_path / "a", np.array([True, False, True, True]), np.array([0, 0, 2, 3]))
    write_predictions(tmp_path / "b", np.array([False, True, True, True]), np.array([2, 0, 1, 0]))
    a, b = read_answers(tmp_path / "a"), read_answers(tmp_path / "b")
    assert np.array_equal(right_on_the_same([a, b]), [[True, True, True], [False, False, True]])
    write_predictions(tmp_path / "c", np.ones(9, bool), np.array([7, 8]))
    with pytest.raises(ValueError, match="tested on no image in common"):
        right_on_the_same([a, read_answers(tmp_path / "c")])


def test_mcnemar_and_the_bootstrap_know_that_images_are_paired():
    rng = np.random.default_rng(0)
    hard = rng.random(400) < 0.4
    first = ~hard
    second = first.copy()
    second[np.flatnonzero(first)[:12]] = False
    second[np.flatnonzero(hard)[:1]] = True
    assert mcnemar(first, second) == pytest.approx(stats.binomtest(12, 13).pvalue)
    assert mcnemar(first, first) == 1
    low, high = bootstrap_of_difference(first, second)
    each = first.astype(float) - second
    drawn = [each[rng.integers(400, size=400)].mean() for _ in range(4000)]
    assert (low, high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.002)
    assert low > 0, "unpaired, the interval would be four times as wide"


def test_accuracy_intervals_cover_other_seeds_and_other_images():
    """Of many experiments with seeds and images drawn anew, about 95% of the intervals hold the true mean."""
    rng, hits, narrow = np.random.default_rng(0), 0, 0
    for _ in range(300):
        ability = 1.0 + 0.2 * rng.normal(size=(5, 1)) + 1.5 * rng.normal(size=(1, 150))
        right = (ability + rng.normal(size=(5, 150)) > 0).astype(float)
        truth = stats.norm.cdf(1 / (0.2**2 + 1.5**2 + 1) ** 0.5)
        low, high = mean_over_seeds_and_images(right).interval
        hits += low < truth < high
        low, high = mean_over_seeds(right.mean(1)).interval
        narrow += low < truth < high
    assert 0.92 < hits / 300 < 0.98
    assert narrow / 300 < 0.85, "seeds alone leave out the sample of images"


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
    with pytest.raises(ValueError, match="does not hold one label and one prediction per image"):
        read_answers(paths[0])


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
    with pytest.raises(ValueError, match=r"analysed with probes=50, .* with 100"):
        compare_seeds([*runs, write_run(tmp_path / "few", 8, entries, probes=50)])
    with pytest.raises(ValueError, match=r"analysed with signal=norm, .* with normed"):
        compare_seeds([*runs, write_run(tmp_path / "length", 8, entries, signal="norm")])
    bare = write_run(tmp_path / "bare", 9, entries)
    place = bare / "analysis" / "results.json"
    text = place.read_text()
    place.write_text(text.replace('"finished": true', '"finished": false'))
    with pytest.raises(ValueError, match="had not been trained to its end"):
        compare_seeds([bare])
    place.write_text(text)
    (bare / "checkpoints").mkdir()
    (bare / "checkpoints" / "last.ckpt").touch()
    os.utime(place, (0, 0))
    with pytest.raises(ValueError, match="trained since it was analysed"):
        compare_seeds([bare])
    place.write_text(json.dumps({"format": FORMAT - 1}))
    with pytest.raises(ValueError, match="another version"):
        compare_seeds([bare])
    place.write_text("{")
    with pytest.raises(ValueError, match="cannot read"):
        compare_seeds([bare])
    place.unlink()
    with pytest.raises(ValueError, match="has not been analysed: run colgraph analyze"):
        compare_seeds([bare])
    with pytest.raises(ValueError, match="is no run folder"):
        compare_seeds([tmp_path])
