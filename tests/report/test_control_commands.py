"""The commands that a report prints for missing controls make the run's own sheet, or it says that none does."""

from __future__ import annotations

import runpy
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lightning")
pytest.importorskip("yaml")

import colgraph as cg
from colgraph.report.controls import TRAINED_CONTROLS, find_controls
from colgraph.report.loading import PlainImages, Run
from colgraph.training import TrainConfig, make_model, make_sheet, parse_flags
from colgraph.training.presets import PRESETS
from colgraph.training.yaml_files import save_yaml

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run_of(path: Path, config: TrainConfig, sheet: cg.Sheet) -> Run:
    """What a run folder has once its settings are written."""
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(save_yaml(config.flat()))
    net = PlainImages(make_model(config, sheet, 10), (0.5,) * config.channels, (0.3,) * config.channels)
    return Run(path, net, config, [str(i) for i in range(10)], np.empty(0, np.uint8), np.empty(0, np.int64), {})


def check_commands(run: Run) -> None:
    """Each command changes the control's setting and nothing else, and without the change makes the run's sheet."""
    own = None
    for control in find_controls(run):
        name, value = control.setting
        if getattr(run.config, name) == value:
            assert control.reason == "the run itself is this"
            continue
        _, marked, command = control.reason.partition("not trained yet: ")
        assert marked, control.reason
        python, script, *words = shlex.split(command)
        by_settings = (python, script) == ("colgraph", "train")
        config, flags = parse_flags(words, presets=PRESETS if by_settings else None)
        assert by_settings or python == "python"
        assert flags.out == Path(f"{run.path}-{control.name.replace(' ', '-')}")
        assert getattr(config, name) == value
        unchanged = replace(config, **{name: getattr(run.config, name)})
        assert unchanged == run.config
        own = own or (make_sheet if by_settings else runpy.run_path(script)["make_sheet"])(unchanged)
        assert own.fingerprint == run.sheet.fingerprint
        assert own.geometry_fingerprint == run.sheet.geometry_fingerprint


@pytest.mark.parametrize(
    "words",
    [
        "--data digits",
        "--data digits --geometry ring --columns 40 --neighbors knn:5 --num-outputs 7",
        "--data digits --geometry geometries/torus_knot.obj --metric geodesic --neighbors knn:9 --axis=-x",
        "--data digits --geometry geometries/macaque_visual_areas.graphml --patch-size 4",
        "--data digits --geometry geometries/moebius.py:moebius --columns 128 --neighbors knn:5",
        "--data digits --control random-graph --seed 3 --wiring 0",
        "--data digits --control shuffled-positions",
        "--config examples/configs/digits-knn8.yaml --parametrization shared+difference",
        "--data some/images --image-size 32 --geometry sphere --subdivisions 2 --neighbors knn:9",
    ],
)
def test_commands_of_the_training_script(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "torus" in words:
        pytest.importorskip("trimesh")
    monkeypatch.chdir(ROOT)
    config, _ = parse_flags(words.split(), presets=PRESETS)
    check_commands(run_of(tmp_path / "a run", config, make_sheet(config)))


def test_commands_of_the_cortex_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nilearn")
    monkeypatch.chdir(ROOT)
    words = "--mesh fsaverage3 --image-size 16 --num-outputs 32 --wiring 0.5"
    config, _ = parse_flags(["--config", "cortex", *words.split()])
    run = run_of(tmp_path / "run", config, runpy.run_path(str(EXAMPLES / "cortex.py"))["make_sheet"](config))
    run.summary["command"] = "python examples/cortex.py"
    (reason,) = {c.reason.partition(": ")[2].split()[1] for c in find_controls(run)}
    assert reason == "examples/cortex.py"
    check_commands(run)


def own_sheets() -> dict[str, Any]:
    stack = TrainConfig(data="digits", image_size=8, channels=1, patch_size=2, wiring=0.1, options={"widths": [4, 4]})
    rewired = cg.build_sheet("stack", widths=[4, 4], neighbors="knn:9", num_inputs=16)
    other_inputs = make_sheet(replace(stack, neighbors="knn:9"))
    moved = cg.Sheet.from_edges(
        other_inputs.edge_index,
        other_inputs.num_columns,
        edge_distance=other_inputs.edge_distance * 2,
        pos=other_inputs.pos,
        inputs=other_inputs.inputs,
    )
    return {
        "another graph": (replace(stack, neighbors="knn:6"), rewired),
        "other lengths": (replace(stack, neighbors="knn:9"), moved),
        "a geometry that is no longer there": (replace(stack, geometry="gone.py:away", options={}), rewired),
    }


@pytest.mark.parametrize("name", ["another graph", "other lengths", "a geometry that is no longer there"])
def test_a_sheet_that_no_command_makes_is_said(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config, sheet = own_sheets()[name]
    (reason,) = {control.reason for control in find_controls(run_of(tmp_path / "run", config, sheet))}
    assert "no command can: neither colgraph train nor a training script here makes this run's sheet" in reason
    assert "--untied" not in reason


def test_a_run_of_the_same_settings_on_another_sheet_is_no_control() -> None:
    tied, random, shuffled = (TRAINED_CONTROLS[i] for i in (0, 2, 3))
    first = cg.build_sheet("ring", columns=12, neighbors="knn:3", num_inputs=4)
    other = cg.build_sheet("ring", columns=12, neighbors="knn:5", num_inputs=4)
    larger = cg.build_sheet("ring", columns=14, neighbors="knn:3", num_inputs=4)
    for control, sheet in ((tied, other), (shuffled, other), (random, larger)):
        with pytest.raises(ValueError, match="lies on another sheet"):
            control.check(first, sheet)
    tied.check(first, cg.build_sheet("ring", columns=12, neighbors="knn:3", num_inputs=4))
    random.check(first, other)
