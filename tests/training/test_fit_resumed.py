"""Runs on arrays that go on with ``fit(resume=True)``: to the same bits, or refused with the name of what differs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("lightning")
pytest.importorskip("datasets")
pytest.importorskip("PIL")

import colgraph as cg
from colgraph.training import RunFolder, fit
from colgraph.training.module import TaskModule

SMALL: dict[str, Any] = {"epochs": 3, "batch_size": 32, "figure_every": 0, "logger": "none", "warmup": 0.0, "lr": 0.01}
NETWORK = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, image_size=8, channels=1):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3))
        self.last = nn.Linear(8, num_classes)

    def forward(self, x):
        return self.last(self.layers(x))

def other(num_classes):
    return Net(num_classes)
"""


class Ended(Exception):
    pass


def interrupted(at: int, *given: Any, **named: Any) -> None:
    """Train until a step, and no further."""
    original = TaskModule.training_step

    def training_step(self: TaskModule, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == at:
            raise Ended
        return original(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TaskModule, "training_step", training_step)
        with pytest.raises(Ended):
            fit(*given, **named)


def same_end(one: Path, other: Path) -> None:
    states = [torch.load(RunFolder(run).last, weights_only=True)["state_dict"] for run in (one, other)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    said = [np.load(RunFolder(run).predictions)["prediction"] for run in (one, other)]
    assert np.array_equal(*said)
    rows = [RunFolder(run).metrics.read_text().splitlines() for run in (one, other)]
    assert len(rows[0]) == len(rows[1])


def test_a_network_of_ones_own_goes_on_to_the_same_bits(tmp_path: Path, arrays: Any, file: Path) -> None:
    model = f"{file}:Net"
    settings = {**SMALL, "checkpoint_every": "1"}  # also in the middle of an epoch
    whole = fit(*arrays, model=model, out=tmp_path / "whole", **settings)
    interrupted(3, *arrays, model=model, out=tmp_path / "parts", **settings)
    # Nothing that differs is gone on with, and what is there stays as it is.
    before = RunFolder(tmp_path / "parts").last.read_bytes()
    images, labels = arrays
    brighter, swapped = images.copy(), labels.copy()
    brighter[::7, 0, 0] += 1
    swapped[[0, 30]] = swapped[[30, 0]]
    for changed, said in (
        ({"images": brighter}, r"training images are not those .*parts.* \(\d+ of 72 differ, the first is number \d+"),
        ({"images": images[:80], "labels": labels[:80]}, "began with 72 training images, got 64"),
        ({"labels": swapped}, "labels are not those|images are not those"),
        ({"classes": ["a", "b", "c"]}, r"classes: .*began with \['0', '1', '2'\], got \['a', 'b', 'c'\]"),
        ({"images": np.repeat(images[:, None], 3, 1)}, "channels: .*began with 1, got 3"),
        ({"split_seed": 1}, "split_seed: .*began with 0, got 1"),
        ({"model": f"{file}:other"}, "model"),
        ({"lr": 0.5}, "lr"),
        ({"overwrite": True}, "give one of them"),
    ):
        given = {"images": images, "labels": labels, "model": model, **settings, **changed}
        with pytest.raises(ValueError, match=said) as caught:
            fit(out=tmp_path / "parts", resume=True, **given)
        assert "\n" not in str(caught.value)
    assert RunFolder(tmp_path / "parts").last.read_bytes() == before
    parts = fit(*arrays, model=model, out=tmp_path / "parts", resume=True, **settings)
    assert parts["resumed_from_step"] == 3
    assert parts["parameters_sha256"] == whole["parameters_sha256"]
    same_end(tmp_path / "whole", tmp_path / "parts")


def test_a_sheet_and_a_module_go_on_too(tmp_path: Path, arrays: Any) -> None:
    sheet = cg.build_sheet("ring", columns=12, neighbors="knn:3", num_inputs=4)
    settings = {**SMALL, "epochs": 2, "dim": 4, "qk_dim": 4, "steps": 2}
    whole = fit(*arrays, sheet=sheet, out=tmp_path / "whole", **settings)
    interrupted(3, *arrays, sheet=sheet, out=tmp_path / "parts", **settings)
    for other, said in (
        (cg.build_sheet("ring", columns=12, neighbors="knn:5", num_inputs=4), "other edges"),
        (cg.build_sheet("ring", columns=12, neighbors="knn:3", num_inputs=4, num_outputs=3), "other output columns"),
    ):
        with pytest.raises(ValueError, match=f"sheet: that of run .*parts.* has {said}"):
            fit(*arrays, sheet=other, out=tmp_path / "parts", resume=True, **settings)
    parts = fit(*arrays, sheet=sheet, out=tmp_path / "parts", resume=True, **settings)
    assert parts["parameters_sha256"] == whole["parameters_sha256"]
    # A module that no file makes: what it is made of is compared.
    made = lambda part: nn.Sequential(nn.Flatten(), nn.Linear(64, 8), part, nn.Linear(8, 3))  # noqa: E731
    with pytest.warns(UserWarning, match="cannot be made again"):
        interrupted(3, *arrays, model=made(nn.ReLU()), out=tmp_path / "module", **SMALL)
    for part, said in ((nn.Tanh(), "part '2' was a ReLU, and is a Tanh here"), (nn.Linear(8, 8), "2")):
        with pytest.warns(UserWarning, match="cannot be made again"), pytest.raises(ValueError, match=said):
            fit(*arrays, model=made(part), out=tmp_path / "module", resume=True, **SMALL)
    with pytest.warns(UserWarning, match="cannot be made again"):
        assert fit(*arrays, model=made(nn.ReLU()), out=tmp_path / "module", resume=True, **SMALL)["steps"] == 6


def test_a_run_that_ended_before_it_began_begins(tmp_path: Path, arrays: Any, file: Path, monkeypatch: Any) -> None:
    with pytest.raises(ValueError, match="nothing to resume"):
        fit(*arrays, model=f"{file}:Net", out=tmp_path / "run", resume=True, **SMALL)
    few = {**SMALL, "epochs": 1}
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["colgraph.training"], "train", lambda *_: {})
        fit(*arrays, model=f"{file}:Net", out=tmp_path / "run", **few)  # writes its images, and no more
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["images"]
    assert fit(*arrays, model=f"{file}:Net", out=tmp_path / "run", resume=True, **few)["steps"] == 2
