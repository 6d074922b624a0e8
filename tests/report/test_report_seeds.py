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
    content = {"format": FORMAT, "finished": True, "settings": {"probes": probes, "permutations": 9, "signal": signal}}
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
    assert row.endswith(" | -4 (1 seed) |")
    assert "Seeds 0, 1, 2." in rest[-1]
    assert rest[-1].endswith("Test accuracy: 91 [88.5, 93.5]%.")
    (runs[2] / "summary.json").write_text("[]")
    assert seeds_table(compare_seeds(runs)).strip().endswith("%  (2 of the seeds).".replace("  ", " "))


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
