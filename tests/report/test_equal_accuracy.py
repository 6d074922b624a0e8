"""Robustness of two runs where they are equally accurate: which checkpoint, chosen and measured on which images."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from small_runs import train_on_digits

from colgraph.analysis.nets import predict
from colgraph.report import Settings, load_run
from colgraph.report.catalogue import Analysis
from colgraph.report.equal_accuracy import TOLERANCE, EqualAccuracy
from colgraph.report.line_up import LineUp, line_up
from colgraph.report.measures import CATALOGUE
from colgraph.report.page import _equal
from colgraph.report.shown import make_probes

SETTINGS = Settings(probes=60, permutations=5, nulls=2, progress=False)
SMALL: dict[str, Any] = {"data": "digits", "image_size": 8, "channels": 1, "patch_size": 2, "neighbors": "knn:6"}
SMALL |= {"options": {"widths": [4, 4]}, "dim": 16, "steps": 2, "qk_dim": 4, "mlp_dim": 8, "figure_every": 0}
SMALL |= {"epochs": 3, "batch_size": 128, "lr": 1e-2, "warmup": 1, "wiring": 0.05}
CONTROL = "no wiring cost"


def train_small(path: Path, **changes: Any) -> Path:
    return train_on_digits(path, **{**SMALL, **changes})


def spoiled(source: Path, target: Path, noise: float, seed: int = 0) -> Path:
    """A checkpoint with noise on its weights: the more, the less accurate."""
    content = torch.load(source, weights_only=True)
    draw = torch.Generator().manual_seed(seed)
    for name, value in content["state_dict"].items():
        if value.is_floating_point() and value.numel() > 1:
            content["state_dict"][name] = value + noise * value.std() * torch.randn(value.shape, generator=draw)
    torch.save(content, target)
    return target


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    parent = tmp_path_factory.mktemp("trained")
    train_small(parent / "base")
    train_small(parent / "free", wiring=0.0)
    return parent


@pytest.fixture
def runs(trained, tmp_path) -> Path:
    """The control is worse than the run."""
    shutil.copytree(trained, tmp_path / "runs")
    last = tmp_path / "runs" / "free" / "checkpoints" / "last.ckpt"
    spoiled(last, last, 0.35)
    return tmp_path / "runs"


def keep(run: Path, levels: Any) -> None:
    for k, level in enumerate(levels):
        spoiled(run / "checkpoints" / "last.ckpt", run / "checkpoints" / f"step-{k + 1:07d}.ckpt", level, seed=k)


def compared(path: Path) -> LineUp:
    run = load_run(path, images=360)
    return line_up(run, make_probes(run, SETTINGS), SETTINGS)


def analysis(key: str) -> Analysis:
    return next(item for item in CATALOGUE if item.key == key)


def accuracy(net: Any, images: Any, labels: Any) -> float:
    return float((predict(net, images) == labels).mean())


@pytest.mark.parametrize("better", ["run", CONTROL])
def test_the_more_accurate_of_the_two_is_taken_where_it_was_as_accurate_as_the_other(runs, trained, better):
    first, second = ("base", "free") if better == "run" else ("free", "base")
    if better == CONTROL:
        last = "checkpoints/last.ckpt"
        shutil.copy(trained / "free" / last, runs / "free" / last)
        spoiled(runs / "base" / last, runs / "base" / last, 0.35)
    keep(runs / first, np.linspace(0.5, 0.2, 24))
    found = compared(runs / "base")
    equal = EqualAccuracy(found)
    assert not set(equal._chosen_on) & set(equal._measured_on)
    assert len(equal._chosen_on) + len(equal._measured_on) == 360
    entry = equal.of(analysis("weight_noise"))[CONTROL]
    match = entry["match"]
    assert match["of"] == better
    assert abs(match["chosen_at"][0] - match["chosen_at"][1]) <= TOLERANCE
    assert match["images"] == 180
    # It is the nearest of all that were kept, on the images to choose on, and all that is told is of the others.
    run = found.contexts[0].run
    chosen, measured = ((run.images[half], run.labels[half]) for half in (equal._chosen_on, equal._measured_on))
    goal = accuracy(load_run(runs / second, images=2).net, *chosen)
    reached = {}
    for file in sorted((runs / first / "checkpoints").glob("step-*.ckpt")):
        net = equal._at(file, next(c for c in found.contexts if c.name == better)).net
        reached[file.name] = (abs(accuracy(net, *chosen) - goal), accuracy(net, *measured))
    assert reached[match["checkpoint"]][0] == min(distance for distance, _ in reached.values())
    ends = [accuracy(load_run(runs / second, images=2).net, *measured), reached[match["checkpoint"]][1]]
    assert match["accuracy"] == (ends[::-1] if better == "run" else ends)
    assert match["remaining"] == pytest.approx(match["accuracy"][0] - match["accuracy"][1])
    assert entry["run"]["value"] > 0.2
    assert entry["control"]["value"] > 0.2
    page = _equal({CONTROL: entry})
    assert match["checkpoint"] in page
    assert f"{100 * match['accuracy'][0]:.1f}%" in page


def test_too_few_checkpoints_say_what_to_train_with(runs):
    item = analysis("weight_noise")
    told = EqualAccuracy(compared(runs / "base")).of(item)[CONTROL]
    assert told.keys() == {"why_not"}
    assert "base' is the more accurate" in told["why_not"]
    assert told["why_not"].endswith("it keeps no checkpoints: train it with --keep-checkpoints 20")
    keep(runs / "base", [0.0, 0.01])
    told = EqualAccuracy(compared(runs / "base")).of(item)[CONTROL]["why_not"]
    assert "the nearest of its 2 kept checkpoints has" in told
    assert "\n" not in told
    assert CONTROL in _equal({CONTROL: {"why_not": told}})


def test_what_is_equal_needs_no_checkpoint_and_what_is_of_another_run_is_refused(runs, trained, tmp_path):
    shutil.copy(trained / "base" / "checkpoints" / "last.ckpt", runs / "free" / "checkpoints" / "last.ckpt")
    told = EqualAccuracy(compared(runs / "base")).of(analysis("weight_noise"))[CONTROL]["why_not"]
    assert told.startswith("clean accuracy is equal as it is (")
    spoiled(runs / "free" / "checkpoints" / "last.ckpt", runs / "free" / "checkpoints" / "last.ckpt", 0.35)
    train_small(tmp_path / "other", epochs=1, neighbors="knn:4")
    other = tmp_path / "other" / "checkpoints" / "last.ckpt"
    shutil.copy(other, runs / "base" / "checkpoints" / "step-0000001.ckpt")
    told = EqualAccuracy(compared(runs / "base")).of(analysis("weight_noise"))[CONTROL]["why_not"]
    assert "is no checkpoint of this run: it has other classes or another sheet" in told
