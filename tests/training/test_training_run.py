"""Whole runs on digits, small: what is written, resuming to the bit, and ending early without losing work."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from colgraph.data import load_images
from colgraph.data.sources import ImageSplits
from colgraph.training import (
    InterruptedRunError,
    RunFlags,
    TrainConfig,
    TrainingDivergedError,
    load_checkpoint,
    load_trained,
    make_model,
    make_sheet,
    open_run_folder,
    sheet_of_run,
    train,
)
from colgraph.training.batches import StepSampler
from colgraph.training.module import TaskModule
from colgraph.training.run import parameters_sha256

SMALL: dict[str, Any] = {
    "data": "digits",
    "image_size": 8,
    "channels": 1,
    "augment": "affine",
    "neighbors": "knn:4",
    "options": {"widths": [2, 2]},
    "dim": 8,
    "steps": 2,
    "qk_dim": 4,
    "mlp_dim": 8,
    "epochs": 3,
    "batch_size": 256,
    "lr": 5e-3,
    "warmup": 1,
    "wiring": 0.05,
    "tensorboard": False,
    "figure_every": 0,
}


@pytest.fixture(scope="module")
def images() -> ImageSplits:
    return load_images("digits", image_size=8, channels=1)


def run(path: Path, images: ImageSplits, flags: dict[str, bool] | None = None, **changes: Any) -> dict[str, Any]:
    config = TrainConfig(**{**SMALL, **changes})
    folder = open_run_folder(config, RunFlags(path, **(flags or {})))
    torch.manual_seed(config.seed)
    net = make_model(config, make_sheet(config), len(images.classes))
    return train(net, images, config, folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, images: ImageSplits) -> tuple[Path, dict[str, Any]]:
    path = tmp_path_factory.mktemp("runs") / "whole"
    return path, run(path, images, tensorboard=True, figure_every=2)


def test_run_folder_holds_what_it_should(finished: tuple[Path, dict[str, Any]]) -> None:
    path, summary = finished
    names = {"config.yaml", "metrics.csv", "summary.json", "predictions.npz", "checkpoints", "figures", "tensorboard"}
    assert {entry.name for entry in path.iterdir()} == names
    figures = {"sheet.png", "curves.png", "attention_by_distance.png", "column.png"}
    for_papers = {figure.replace(".png", ".pdf") for figure in figures}
    assert {entry.name for entry in (path / "figures").iterdir()} == figures | for_papers
    assert {entry.name for entry in (path / "checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}
    assert json.loads((path / "summary.json").read_text()) == summary
    assert any(entry.name.startswith("events.out") for entry in (path / "tensorboard").iterdir())
    for figure in figures:
        assert (path / "figures" / figure).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    for figure in for_papers:
        assert (path / "figures" / figure).read_bytes()[:5] == b"%PDF-"


def test_summary_and_metrics_say_how_it_went(finished: tuple[Path, dict[str, Any]], images: ImageSplits) -> None:
    path, summary = finished
    rows = list(csv.DictReader((path / "metrics.csv").open()))
    assert [int(row["step"]) for row in rows] == list(range(1, 16))
    assert [int(row["epoch"]) for row in rows] == [1] * 5 + [2] * 5 + [3] * 5
    assert all(float(row["loss"]) > 0 and 0 < float(row["learning_rate"]) <= 5e-3 for row in rows)
    assert [row["step"] for row in rows if row["val_accuracy"]] == ["5", "10", "15"]
    rows = rows[4::5]
    assert float(rows[-1]["train_loss"]) == summary["train_loss"] < float(rows[0]["train_loss"])
    assert summary["resumed_from_step"] is None
    assert (summary["seed"], summary["steps"], summary["epochs"]) == (0, 15, 3)
    assert summary["wiring_cost_in_spacings"] == pytest.approx(summary["wiring_cost"] / summary["spacing"])
    assert summary["seconds"] > 0
    assert summary["cpu_seconds"] > 0
    assert summary["images_per_second"] > 0
    assert summary["peak_memory_bytes"] > 50e6
    assert summary["train_flops"] == summary["flops_per_image"] * 15 * 256
    sheet = make_sheet(TrainConfig(**SMALL))
    assert summary["fingerprint"] == sheet.fingerprint
    # The model read back from the folder gives exactly the accuracy that was reported.
    trained = load_trained(path)
    pixels, labels = images.test.batch(range(len(images.test)))
    with torch.no_grad():
        out = trained.net.unroll(trained.transform.evaluate(pixels))
    assert out.logits is not None
    assert float((out.logits.argmax(-1) == labels).float().mean()) == pytest.approx(summary["test_accuracy"])
    assert float(out.wiring_cost) == pytest.approx(summary["wiring_cost"], rel=1e-4)
    assert parameters_sha256(trained.net) == summary["parameters_sha256"]
    assert summary["parameters"] == sum(p.numel() for p in trained.net.parameters())
    assert trained.config.options == {"widths": [2, 2]}
    assert trained.step == 15


def test_same_seed_same_parameters_other_seed_others(
    finished: tuple[Path, dict[str, Any]], images: ImageSplits, tmp_path: Path
) -> None:
    again = run(tmp_path / "again", images)
    other = run(tmp_path / "other", images, seed=1, epochs=1)
    assert again["parameters_sha256"] == finished[1]["parameters_sha256"]
    assert other["parameters_sha256"] != finished[1]["parameters_sha256"]


def interrupt_at(step: int, number: int = signal.SIGINT) -> Callable[..., torch.Tensor]:
    original = TaskModule.training_step

    def training_step(self: TaskModule, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == step:
            os.kill(os.getpid(), number)
        return original(self, batch, batch_idx)

    return training_step


@pytest.mark.parametrize(("step", "number"), [(6, signal.SIGINT), (9, signal.SIGTERM), (0, signal.SIGINT)])
def test_interrupted_run_goes_on_to_the_same_parameters(
    finished: tuple[Path, dict[str, Any]],
    images: ImageSplits,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    number: int,
) -> None:
    path = tmp_path / "run"
    handler = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(TaskModule, "training_step", interrupt_at(step, number))
        with pytest.raises(InterruptedRunError, match=f"stopped after step {step + 1}; go on with --resume"):
            run(path, images)
    assert signal.getsignal(number) == handler
    assert not (path / "summary.json").exists()
    assert load_checkpoint(path / "checkpoints" / "last.ckpt")["global_step"] == step + 1
    summary = run(path, images, {"resume": True})
    whole = finished[1]
    assert summary["resumed_from_step"] == step + 1
    names = ("parameters_sha256", "test_accuracy", "train_loss", "steps", "epochs", "best_epoch", "train_flops")
    for name in names:
        assert summary[name] == whole[name], name
    timeless = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader((p / "metrics.csv").open())]
        for p in (path, finished[0])
    ]
    assert timeless[0] == timeless[1]


def test_killed_run_goes_on_from_the_last_epoch(
    finished: tuple[Path, dict[str, Any]], images: ImageSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TaskModule.training_step

    def die(self: TaskModule, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == 12:
            raise MemoryError("killed")
        return original(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(TaskModule, "training_step", die)
        with pytest.raises(MemoryError):
            run(tmp_path, images)
    summary = run(tmp_path, images, {"resume": True})
    assert summary["resumed_from_step"] == 10
    assert summary["parameters_sha256"] == finished[1]["parameters_sha256"]


def test_finished_run_can_be_resumed_and_extended(images: ImageSplits, tmp_path: Path) -> None:
    first = run(tmp_path / "run", images, epochs=1)
    again = run(tmp_path / "run", images, {"resume": True}, epochs=1)
    assert again["parameters_sha256"] == first["parameters_sha256"]
    assert (again["resumed_from_step"], again["test_accuracy"]) == (5, first["test_accuracy"])
    longer = run(tmp_path / "run", images, {"resume": True}, epochs=2)
    assert (longer["steps"], longer["epochs"]) == (10, 2)


def test_loss_that_is_not_a_number_stops_the_run_and_keeps_the_last_checkpoint(
    images: ImageSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TaskModule._run

    def poisoned(self: TaskModule, pixels: torch.Tensor, *record: Any) -> tuple[Any, ...]:
        logits, *rest = original(self, pixels, *record)
        return (logits * float("nan"), *rest) if self.training and self.global_step == 7 else (logits, *rest)

    monkeypatch.setattr(TaskModule, "_run", poisoned)
    with pytest.raises(
        TrainingDivergedError, match=r"the loss is nan at step 8; the last good checkpoint is .*last\.ckpt"
    ):
        run(tmp_path / "run", images)
    content = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert content["global_step"] == 5
    assert all(bool(torch.isfinite(value.float()).all()) for value in content["state_dict"].values())
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    assert [row["step"] for row in rows] == [str(step) for step in range(1, 8)]


def test_parameter_that_is_not_a_number_never_reaches_a_checkpoint(
    images: ImageSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TaskModule.on_validation_epoch_end

    def poison(self: TaskModule) -> None:
        original(self)
        self.net.head.bias.data[0] = float("inf")

    monkeypatch.setattr(TaskModule, "on_validation_epoch_end", poison)
    with pytest.raises(TrainingDivergedError, match="parameter"):
        run(tmp_path / "run", images)
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["global_step"] == 0


def test_resuming_onto_another_graph_or_model_is_refused(images: ImageSplits, tmp_path: Path) -> None:
    run(tmp_path / "run", images, epochs=1)
    with pytest.raises(ValueError, match="belongs to another graph"):
        run(tmp_path / "run", images, {"resume": True}, neighbors="knn:3")
    with pytest.raises(ValueError, match="does not fit the model"):
        run(tmp_path / "run", images, {"resume": True}, dim=12)


def test_a_run_that_goes_on_keeps_the_outputs_it_began_with(images: ImageSplits, tmp_path: Path) -> None:
    # As of a version that read out every column by default, whether it heard the input or not.
    ring = {"geometry": "ring", "options": {"columns": 64}, "neighbors": "knn:2", "patch_size": 2, "epochs": 1}
    config = TrainConfig(**{**SMALL, **ring})
    every = make_sheet(dataclasses.replace(config, outputs="all"))
    with pytest.warns(UserWarning, match="are read out"):
        heard = make_sheet(config)
    assert heard.outputs.numel() < every.outputs.numel() == 64
    train(make_model(config, every, 10), images, config, open_run_folder(config, RunFlags(tmp_path / "run")))
    folder = open_run_folder(config, RunFlags(tmp_path / "run", resume=True))
    assert sheet_of_run(config, folder).output_mask.tolist() == every.output_mask.tolist()
    with pytest.raises(ValueError, match=r"other output columns than this sheet.*sheet_of_run"):
        train(make_model(config, heard, 10), images, config, folder)
    begun = open_run_folder(config, RunFlags(tmp_path / "other"))
    with pytest.warns(UserWarning, match="are read out"):
        assert sheet_of_run(config, begun).output_mask.tolist() == heard.output_mask.tolist()


def test_broken_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    with pytest.raises(ValueError, match=r"x\.ckpt"):
        load_checkpoint(path)
    path.write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(ValueError, match="cannot read checkpoint"):
        load_checkpoint(path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(ValueError, match="not a checkpoint of a colgraph training run"):
        load_checkpoint(path)
    torch.save({"colgraph": Path, "state_dict": os.system}, path)
    with pytest.raises(ValueError, match="cannot read checkpoint"):
        load_checkpoint(path)


def test_wiring_weight_shortens_the_wires(images: ImageSplits, tmp_path: Path) -> None:
    costs = [
        run(tmp_path / str(weight), images, wiring=weight, epochs=2, lr=2e-2)["wiring_cost"] for weight in (0.0, 5.0)
    ]
    assert costs[1] < 0.9 * costs[0]


@pytest.mark.parametrize("precision", ["bf16", "16", "64"])
def test_other_precisions_train(images: ImageSplits, tmp_path: Path, precision: str) -> None:
    summary = run(tmp_path, images, precision=precision, epochs=1)
    assert 0 < summary["train_loss"] < 5
    dtypes = {p.dtype for p in load_trained(tmp_path).net.parameters()}
    assert dtypes == {torch.float32}


def test_gradients_are_clipped_to_the_given_norm(
    images: ImageSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[float] = []

    def watch(self: TaskModule, optimizer: Any) -> None:
        gradients = [p.grad.norm() for p in self.parameters() if p.grad is not None]
        norms.extend([float(torch.stack(gradients).norm())] if gradients else [])

    monkeypatch.setattr(TaskModule, "on_before_zero_grad", watch, raising=False)
    run(tmp_path, images, clip=1e-3, epochs=1)
    assert norms
    assert all(norm == pytest.approx(1e-3, rel=1e-3) for norm in norms)


def test_devices_that_are_not_there_are_refused(images: ImageSplits, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="--accelerator gpu"):
        run(tmp_path / "run", images, accelerator="gpu")
    assert not (tmp_path / "run").exists()


def test_backend_that_cannot_serve_is_refused_before_anything_is_written(images: ImageSplits, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="triton"):
        run(tmp_path / "run", images, backend="triton", accelerator="cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("world", [1, 3])
def test_sampler_depends_on_the_step_alone_and_shares_an_epoch_out(world: int) -> None:
    step = 0
    samplers = [StepSampler(50, 8, 3, lambda: step, rank, world) for rank in range(world)]
    batches = samplers[0].batches
    assert batches == 50 // (8 * world)
    first = [list(s) for s in samplers]
    seen = [i for indices in first for i in indices]
    assert len(set(seen)) == len(seen) == batches * 8 * world
    step = 1
    assert [list(s) for s in samplers] == [indices[8:] for indices in first]
    step = batches
    assert [list(s) for s in samplers] != first
    step = 0
    assert [list(s) for s in samplers] == first


def test_batches_larger_than_the_set_shrink_to_it() -> None:
    sampler = StepSampler(10, 64, 0, lambda: 0)
    assert (sampler.batch_size, sampler.batches, sorted(sampler)) == (10, 1, list(range(10)))
