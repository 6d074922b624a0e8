"""Similarities over seeds: means, intervals and differences from the files that ``colgraph rsa`` writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("lightning")
pytest.importorskip("matplotlib")

from colgraph.brain.over_seeds import over_seeds, table_of
from colgraph.cli import run
from colgraph.training import RunFolder

SUBJECTS = 5
T = float(stats.t.ppf(0.975, SUBJECTS - 1))


def row(model: str, value: float, *, step: int | None = None, default: bool = True, **more: Any) -> dict[str, Any]:
    facts = {"recording": "IT", "subjects": SUBJECTS, "stimuli": 92, "method": "spearman", "signal": "normed"}
    return facts | {
        "model": model,
        "step": step,
        "region": None,
        "default": default,
        "similarity": value,
        "interval": [value - 0.1, value + 0.1],
        "ceiling": [0.3, 0.6],
        **more,
    }


def pair(first: dict[str, Any], second: dict[str, Any], apart: float, between: str = "models") -> dict[str, Any]:
    named = [{name: each.get(name) for name in ("model", "step", "equal_to")} for each in (first, second)]
    facts = {"recording": "IT", "between": between, "difference": apart, "interval": [apart - 0.04, apart + 0.04]}
    return facts | {"first": named[0], "second": named[1], "p": 0.5}


def of_seed(seed: int, value: float) -> dict[str, Any]:
    """A run, its earlier self, a control that is less accurate, and one named after its folder."""
    last, early = row("run", value, step=2), row("run", value - 0.05, step=1, default=False)
    weak = row("tied weights", 0.1, step=2, accuracy={"equal": True})
    before = row("run", 0.12, step=2, default=False, equal_to="tied weights")
    other = row(f"cifar10-one-step-seed{seed}", 0.2, step=1)
    pairs = [
        pair(last, weak, value - 0.1),
        pair(last, other, value - 0.2),
        pair(weak, before, -0.02),
        pair(early, last, -0.05, "steps of the run"),
    ]
    return {"rows": [last, weak, other, early, before], "differences": pairs, "path": f"seed{seed}"}


def test_means_and_intervals_are_over_seeds_and_what_seeds_share() -> None:
    values = [0.20, 0.24, 0.31]
    rows = over_seeds([of_seed(seed, value) for seed, value in enumerate(values)])
    mine = rows[0]
    assert (mine["model"], mine["seeds"], mine["ceiling"]) == ("run", 3, [0.3, 0.6])
    assert mine["similarity"] == pytest.approx(np.mean(values))
    error = np.sqrt((0.1 / T) ** 2 + np.var(values, ddof=1) / 3)
    assert mine["interval"] == pytest.approx([np.mean(values) - T * error, np.mean(values) + T * error])


def test_a_control_that_runs_share_counts_once() -> None:
    rows = over_seeds([of_seed(seed, value) for seed, value in enumerate([0.20, 0.24, 0.31])])
    counts = {each["model"]: (each["seeds"], each["distinct"]) for each in rows if each["model"] != "run (each step)"}
    assert counts == {"run": (3, 3), "tied weights": (3, 1), "cifar10-one-step": (3, 1)}
    assert "| tied weights, step 2 | 1 in 3 |" in table_of(rows)
    assert "about this one alone" in table_of(rows)
    assert "in 3 |" not in table_of(rows[:1])


def test_a_difference_is_taken_at_equal_accuracy_and_from_the_run() -> None:
    rows = {(each["model"], each["step"]): each for each in over_seeds([of_seed(0, 0.2), of_seed(1, 0.3)])}
    weak = rows["tied weights", 2]["run_minus_this"]
    assert weak["difference"] == pytest.approx(0.02)
    assert weak["interval"] == pytest.approx([-0.02, 0.06])
    assert weak["equal_accuracy"] is True
    other = rows["cifar10-one-step", 1]["run_minus_this"]
    assert (rows["cifar10-one-step", 1]["seeds"], other["equal_accuracy"]) == (2, None)
    assert other["difference"] == pytest.approx(0.05)
    assert other["detectable"] == pytest.approx((T + stats.t.ppf(0.8, 4)) * np.sqrt((0.04 / T) ** 2 + 0.005 / 2))
    assert "run_minus_this" not in rows["run", 2]
    early = rows["run (each step)", 1]["run_minus_this"]
    assert early["difference"] == pytest.approx(0.05)
    assert all(each["p_corrected"] >= each["p"] for each in (weak, other, early))


def of_step(default: int, values: dict[int, float]) -> dict[str, Any]:
    """A seed whose default step was chosen elsewhere."""
    each = {step: row("run", value, step=step, default=step == default) for step, value in values.items()}
    rows = sorted(each.values(), key=lambda one: not one["default"])
    steps = [(a, b) for a in values for b in values if a < b]
    pairs = [pair(each[a], each[b], values[a] - values[b], "steps of the run") for a, b in steps]
    return {"rows": rows, "differences": pairs, "path": f"step{default}"}


def test_seeds_whose_default_steps_differ_are_compared_with_their_own() -> None:
    values = [{1: 0.10, 2: 0.20, 4: 0.40}, {1: 0.15, 2: 0.35, 4: 0.30}, {1: 0.30, 2: 0.25, 4: 0.20}]
    rows = over_seeds([of_step(step, each) for step, each in zip((4, 2, 1), values, strict=True)])
    assert (rows[0]["model"], rows[0]["step"], rows[0]["steps"]) == ("run", None, [4, 2, 1])
    table = table_of(rows)
    assert "| run, steps 1, 2, 4 | 3 | 0.350 " in table
    assert "| run (each step), step 2 | 3 |" in table
    found = {each["step"]: each for each in rows[1:]}
    assert found[2]["steps"] == [2, 2, 2]
    for step, each in found.items():
        wanted = np.mean([own[default] - own[step] for default, own in zip((4, 2, 1), values, strict=True)])
        assert each["run_minus_this"]["difference"] == pytest.approx(wanted)
        assert each["run_minus_this"]["difference"] == pytest.approx(rows[0]["similarity"] - each["similarity"])


def write(folder: Path, found: dict[str, Any]) -> str:
    folder.mkdir()
    (folder / "rsa.json").write_text(json.dumps(found["rows"]))
    (folder / "rsa-differences.json").write_text(json.dumps({"differences": found["differences"]}))
    return str(folder)


def test_runs_that_are_no_seeds_of_one_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"a": {"seed": 0, "dim": 8}, "b": {"seed": 1, "dim": 8}, "c": {"seed": 1, "dim": 8}, "d": {"seed": 2}}
    monkeypatch.setattr(RunFolder, "settings", lambda self: settings[self.path.name])
    a, b, c, d = (write(tmp_path / name, of_seed(i, 0.2 + i / 10)) for i, name in enumerate(settings))
    run(["rsa-table", a, b])
    with pytest.raises(ValueError, match="are one run: each seed counts once"):
        run(["rsa-table", a, b, str(tmp_path / "b" / ".." / "a")])
    with pytest.raises(ValueError, match="have the seed 1, both: each seed counts once"):
        run(["rsa-table", a, b, c])
    with pytest.raises(ValueError, match="differ in more than their seed: dim is 8 and"):
        run(["rsa-table", a, d])


@pytest.mark.parametrize("change", [{"metric": "euclidean"}, {"ceiling": [0.3, 0.7]}, {"step_chosen": "--step 2"}])
def test_recordings_of_one_name_and_other_choices_are_told_apart(change: dict[str, Any]) -> None:
    one, other = of_seed(0, 0.2), of_seed(1, 0.3)
    other["rows"] = [each | change for each in other["rows"]]
    with pytest.raises(ValueError, match="were compared with other recordings or in another way"):
        over_seeds([one, other])


def test_the_command_writes_a_table_and_refuses_what_does_not_belong_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [write(tmp_path / f"run-seed{seed}", of_seed(seed, 0.2 + seed / 10)) for seed in (0, 1)]
    run(["rsa-table", *runs, "-o", str(tmp_path / "t.md"), "--json", str(tmp_path / "t.json")])
    capsys.readouterr()
    text = (tmp_path / "t.md").read_text()
    assert "**IT** (5 subjects, 92 stimuli, 2 seeds; spearman; noise ceiling 0.300 to 0.600)" in text
    assert text == table_of(json.loads((tmp_path / "t.json").read_text()))
    run(["rsa-table", *runs])
    assert capsys.readouterr().out.strip() == text.strip()
    others = of_seed(2, 0.3)
    others["rows"] = [each | {"subjects": 4} for each in others["rows"]]
    with pytest.raises(ValueError, match="were compared with other recordings or in another way"):
        run(["rsa-table", runs[0], write(tmp_path / "other", others)])
    with pytest.raises(ValueError, match=r"has no rsa\.json with its differences: run colgraph rsa"):
        run(["rsa-table", runs[0], str(tmp_path)])
    (tmp_path / "other" / "rsa.json").write_text("{}")
    with pytest.raises(ValueError, match="is not what colgraph rsa writes"):
        run(["rsa-table", str(tmp_path / "other")])
