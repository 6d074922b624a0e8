"""Accuracy against wire: the Pareto front, what has no wire, the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning")
pytest.importorskip("matplotlib")

from colgraph.cli import run
from colgraph.experiments.results import FIELDS
from colgraph.experiments.trade_off import table_of, trade_off


def row(config: str, seed: int, accuracy: float, wire: float | None, **more: Any) -> dict[str, Any]:
    known = {"config": config, "seed": seed, "data": "digits", "test_accuracy": accuracy, "test_images": 100}
    known |= {"parameters_sha256": f"{config}{seed}", "columns": 10, "edges": 40, "wiring_cost_in_spacings": accuracy}
    known |= {} if wire is None else {"wire": wire, "spacing": 2.0}
    return dict.fromkeys(FIELDS) | known | more


ROWS = [
    row("much", 0, 0.9, 400.0),
    row("much", 1, 0.8, 400.0),
    row("little", 0, 0.7, 100.0),
    row("waste", 0, 0.69, 200.0),
    row("alike", 0, 0.7, 100.0),
    row("vit", 0, 0.99, None, columns=None, edges=None, wiring_cost_in_spacings=None),
]


def test_the_front_is_what_nothing_beats_in_both() -> None:
    entries, left_out = trade_off(ROWS)
    found = {entry["config"]: (entry["cost"], entry["on_front"]) for entry in entries}
    # A column, in spacings: 100 / 10 columns / a spacing of 2.
    assert found == {"little": (5, True), "alike": (5, True), "waste": (10, False), "much": (20, True)}
    assert left_out == ["vit"]
    assert entries[-1]["test_accuracy"] == pytest.approx(0.85)
    assert entries[-1]["costs"] == [20, 20]


def test_other_costs_and_what_has_none() -> None:
    edges, _ = trade_off(ROWS, "edges")
    assert {entry["cost"] for entry in edges} == {4}
    cost, _ = trade_off(ROWS, "cost")
    assert [entry["config"] for entry in cost] == ["waste", "little", "alike", "much"]
    with pytest.raises(ValueError, match="no run says its wire"):
        trade_off([ROWS[-1]])
    with pytest.raises(ValueError, match="'digits' and on 'mazes' cannot be weighed"):
        trade_off([ROWS[0], row("much", 0, 0.5, 1.0, data="mazes")])


def test_the_command_writes_a_table_numbers_and_a_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    files = [str(tmp_path / name) for name in ("t.md", "t.json", "t.png")]
    run(["trade-off", str(tmp_path / "rows.json"), "-o", files[0], "--json", files[1], "--plot", files[2]])
    assert capsys.readouterr().out.split() == files
    text = Path(files[0]).read_text()
    assert "| little | 1 | 70.0 |" in text
    assert "| much | 2 | 85.0 ± 5.0 |" in text
    assert "Without a sheet, or without a record of it: vit." in text
    assert text == table_of(json.loads(Path(files[1]).read_text()), ["vit"], "wire")
    assert Path(files[2]).stat().st_size > 10_000
    with pytest.raises(ValueError, match="--output and --json"):
        run(["trade-off", str(tmp_path / "rows.json"), "-o", files[0], "--json", files[0]])


def test_tasks_are_not_weighed_against_each_other() -> None:
    with pytest.raises(ValueError, match="runs of task classify and of task reconstruct cannot be weighed"):
        trade_off([ROWS[0], row("other", 0, 0.5, 100.0, task="reconstruct")])
