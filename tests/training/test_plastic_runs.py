"""Runs whose edges come and go: what is written, read, resumed to the bit, and refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from runs_that_die import killed_and_resumed

import colgraph as cg
from colgraph.data import load_images
from colgraph.data.sources import ImageSplits
from colgraph.training import (
    RunFlags,
    RunFolder,
    TrainConfig,
    load_checkpoint,
    load_trained,
    make_model,
    open_run_folder,
    parse_flags,
    sheet_of_run,
    train,
)
from colgraph.training.figures import RunFigures
from colgraph.training.module import TaskModule

HERE = Path(__file__).parent
SMALL: dict[str, Any] = {"data": "digits", "image_size": 8, "channels": 1, "augment": "affine", "neighbors": "knn:3"}
SMALL |= {"options": {"widths": [2, 2]}, "dim": 8, "steps": 2, "qk_dim": 4, "mlp_dim": 8, "epochs": 3}
SMALL |= {"batch_size": 256, "tensorboard": False, "figure_every": 0, "warmup": 0.5}
PLASTIC: dict[str, Any] = {"rewire": 0.2, "rewire_every": 3}


@pytest.fixture(scope="module")
def images() -> ImageSplits:
    return load_images("digits", image_size=8, channels=1)


@pytest.fixture(autouse=True)
def without_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longer than such a run."""
    if "figures" not in request.fixturenames:
        for hook in ("on_train_start", "on_train_end"):
            monkeypatch.setattr(RunFigures, hook, lambda *args: None)


def run(path: Path, images: ImageSplits, resume: bool = False, **changes: Any) -> dict[str, Any]:
    config = TrainConfig(**{**SMALL, **PLASTIC, **changes})
    folder = open_run_folder(config, RunFlags(path, resume))
    torch.manual_seed(config.seed)
    return train(make_model(config, sheet_of_run(config, folder), len(images.classes)), images, config, folder)


def history(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RunFolder(path).plasticity.read_text())
    return found


def die_at(step: int, patch: pytest.MonkeyPatch) -> None:
    original = TaskModule.training_step

    def die(self: TaskModule, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == step:
            raise MemoryError("killed")
        return original(self, batch, batch_idx)

    patch.setattr(TaskModule, "training_step", die)


def test_a_run_that_is_killed_goes_on_with_its_edges_to_the_same_bits(tmp_path: Path) -> None:
    changes = {**PLASTIC, "rewire_every": 3, "neighbors": "knn:3", "figure_every": 0, "num_heads": 2}
    killed = killed_and_resumed(tmp_path, changes)
    whole = RunFolder(tmp_path / "whole")
    for name in killed:
        other = RunFolder(tmp_path / name)
        for key in ("parameters_sha256", "fingerprint", "plasticity", "test_accuracy", "wire"):
            assert other.results()[key] == whole.results()[key], (name, key)
        assert history(other.path) == history(whole.path)
        for mine, theirs in zip([*other.kept, other.best], [*whole.kept, whole.best], strict=True):
            sheets = [load_checkpoint(path)["colgraph"]["sheet"]["edge_index"] for path in (mine, theirs)]
            assert torch.equal(*sheets)
    assert [row["step"] for row in history(whole.path)["rows"]] == [3, 6, 9]
    # Every checkpoint has the sheet of its own step, and is read back on it.
    edges = [load_trained(path).net.model.sheet.fingerprint for path in whole.kept]
    assert [len(set(edges[i:j])) for i, j in ((0, 2), (2, 5), (5, 8), (0, 8))] == [1, 1, 1, 3]  # after steps 1 to 8
    assert edges[0] == history(whole.path)["start"]["fingerprint"]
    assert load_trained(whole.path).net.model.sheet.fingerprint == whole.results()["fingerprint"] not in edges


@pytest.mark.parametrize(
    "changes",
    [
        {"ema": 0.8, "parametrization": "shared+difference", "rewire_grow": "distance"},
        {"untied": "none", "value_projection": True, "leak": 0.1, "rewire_budget": "wire:0.8"},
        {"edge_bias": "fixed", "rewire_grow": "random", "rewire_budget": "edges:0.8"},
    ],
)
def test_every_kind_of_model_goes_on_to_the_bit(
    images: ImageSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    whole = run(tmp_path / "whole", images, **changes)
    with monkeypatch.context() as patch:
        die_at(8, patch)
        with pytest.raises(MemoryError):
            run(tmp_path / "parts", images, checkpoint_every="5", **changes)
    parts = run(tmp_path / "parts", images, resume=True, **changes)
    assert parts["resumed_from_step"] == 5
    for name in ("parameters_sha256", "test_accuracy", "train_loss", "fingerprint", "plasticity", "edges", "wire"):
        assert parts[name] == whole[name], name
    trained = load_trained(tmp_path / "whole")
    assert trained.net.model.sheet.fingerprint == whole["fingerprint"]
    budget = changes.get("rewire_budget", "edges")
    start = whole["plasticity"]
    if budget == "wire:0.8":
        assert whole["wire"] <= 0.8 * start["wire_at_start"] * (1 + 1e-6)
    else:
        loops = 16 // 2
        share = float(budget.partition(":")[2] or 1)
        assert whole["edges"] - loops == int(share * (start["edges_at_start"] - loops))
    assert run(tmp_path / "whole", images, resume=True, **changes)["parameters_sha256"] == whole["parameters_sha256"]


def test_moments_of_edges_that_stay_go_along(
    images: ImageSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is new has none: compared with what the optimizer had before."""
    seen: list[dict[str, Any]] = []
    from colgraph.training import plastic

    original = plastic.carry_optimizer

    def watch(optimizers: Any, replaced: Any, came_from: torch.Tensor) -> None:
        ((old, new),) = replaced.items()
        before = {name: value.clone() for name, value in optimizers[0].state[old].items()}
        original(optimizers, replaced, came_from)
        after = optimizers[0].state[new]
        assert any(new is parameter for group in optimizers[0].param_groups for parameter in group["params"])
        assert old not in optimizers[0].state
        seen.append({"before": before, "after": after, "came_from": came_from})
        kept = came_from >= 0
        for name in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(after[name][kept], before[name][came_from[kept]])
            assert not after[name][~kept].any()
            assert before[name].any()
        assert torch.equal(after["step"], before["step"])

    monkeypatch.setattr(plastic, "carry_optimizer", watch)
    run(tmp_path / "run", images)
    assert len(seen) == 3
    assert all((one["came_from"] < 0).any() for one in seen)


@pytest.fixture
def figures() -> None:
    """Let them be drawn."""


@pytest.mark.usefixtures("figures")
def test_what_a_run_says_of_its_edges(images: ImageSplits, tmp_path: Path) -> None:
    summary = run(tmp_path / "run", images)
    folder = RunFolder(tmp_path / "run")
    told, net = history(folder.path), load_trained(folder.path).net
    rows = told["rows"]
    assert [row["step"] for row in rows] == [3, 6, 9]
    assert all(row["won"] == row["lost"] > 0 and row["edges"] == told["start"]["edges"] for row in rows)
    assert all(row["attention_lost"] < row["attention_kept"] for row in rows)
    assert sum(rows[-1]["lengths"]) == int((net.model.sheet.edge_index[0] != net.model.sheet.edge_index[1]).sum())
    assert rows[-1]["wire"] == pytest.approx(float(net.model.sheet.edge_distance.sum())) == summary["wire"]
    assert summary["plasticity"]["lost"] == sum(row["lost"] for row in rows)
    assert summary["plasticity"]["edges_from_start"] == rows[-1]["from_start"] < rows[-1]["edges"]
    with folder.metrics.open(newline="") as file:
        epochs = [row for row in csv.DictReader(file) if row["val_loss"]]
    assert [float(row["wire"]) for row in epochs] == pytest.approx([rows[0]["wire"], rows[2]["wire"], rows[2]["wire"]])
    assert {row["edges"] for row in epochs} == {str(told["start"]["edges"])}
    assert (folder.figures / "plasticity.png").is_file()
    assert (folder.figures / "attention_by_distance.png").is_file()
    # A model that is shared has the edges that were found.
    net.save_pretrained(tmp_path / "shared")
    again = cg.VisionColumnformer.from_pretrained(str(tmp_path / "shared"))
    assert again.model.sheet.fingerprint == summary["fingerprint"]


def test_edges_follow_from_the_seed(images: ImageSplits, tmp_path: Path) -> None:
    one, again, other = (run(tmp_path / str(i), images, epochs=1, seed=seed) for i, seed in enumerate((0, 0, 1)))
    assert one["parameters_sha256"] == again["parameters_sha256"]
    assert one["fingerprint"] == again["fingerprint"] != other["fingerprint"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--rewire", "1"], "--rewire: must be less than 1"),
        (["--rewire", "0.1", "--rewire-budget", "wires"], "--rewire-budget: must be edges, wire, or one of them"),
        (["--rewire", "0.1", "--rewire-grow", "gradients"], "--rewire-grow: must be one of gradient, distance, random"),
        (["--rewire-every", "7"], "--rewire-every has no effect here: it needs --rewire; leave it out"),
        (["--rewire", "0.1", "--rewire-length", "3"], "--rewire-length has no effect here: it needs --rewire-grow"),
        (["--rewire", "0.1", "--model", "vit"], "--rewire: a vit has no sheet"),
        (["--rewire", "0.1", "--sheet-parallel", "2"], "--rewire: the edges of a sheet in 2 parts cannot change"),
        (["--rewire", "0.1", "--speed", "2"], "--rewire: an edge with a delay cannot come and go"),
        (["--rewire", "0.1", "--init", "x", "--freeze"], "--rewire: with freeze the sheet stays as it is"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(flags: list[str], said: str) -> None:
    with pytest.raises(ValueError, match="^" + said.replace("(", r"\(")) as caught:
        parse_flags(["--data", "digits", *flags])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"neighbors": "complete"}, "rewire: every pair of columns of 'stack' that may be an edge is one"),
        ({"rewire_every": 50}, "rewire_every: 50 steps are more than the 11 in which edges change"),
        (
            {"rewire_budget": "edges:0.1"},
            "rewire_budget: a share of 0.1 leaves .* less than one edge for each of the 8",
        ),
    ],
)
def test_sheets_that_cannot_be_rewired_are_refused_before_a_run_begins(
    images: ImageSplits, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        run(tmp_path / "run", images, **changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_attention_that_says_nothing_to_its_observer_ends_the_run_in_words(
    images: ImageSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("colgraph.plasticity.Evidence.__call__", lambda *args: None)
    with pytest.raises(ValueError, match="rewire: nothing was heard of the attention of SheetAttention up to step 3"):
        run(tmp_path / "run", images)


def test_a_model_on_a_graph_of_given_edges_is_rewired_along_them(images: ImageSplits, tmp_path: Path) -> None:
    config = TrainConfig(**{**SMALL, **PLASTIC, "rewire_radius": 2.5})
    ring = np.stack([np.arange(8), (np.arange(8) + 1) % 8])
    edges = np.concatenate([ring, ring[::-1]], axis=1)
    sheet = cg.Sheet.from_edges(edges, 8, inputs=[0, 1, 4, 5], outputs=np.arange(8))
    net = make_model(TrainConfig(**{**SMALL, "patch_size": 4}), sheet, 10)
    summary = train(net, images, config, tmp_path / "run")
    after = load_trained(tmp_path / "run").net.model.sheet
    assert summary["edges"] == 16
    assert after.fingerprint != sheet.fingerprint
    assert float(after.edge_distance.max()) == 2
    assert after.space.between(np.array([0]), np.array([4])) == 4
