"""Training runs on several processes: the same numbers, checkpoints that change hands, and what the summary says."""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from training_runs import SMALL, begin, train_digits

from colgraph.training import RunFlags, RunFolder, TrainConfig, load_trained, open_run_folder


class Ends:
    """How the ranks of a run ended."""

    def __init__(self, codes: list[int | None], said: list[str], seconds: float) -> None:
        self.codes, self.said, self.seconds = codes, said, seconds
        self.errors = [[line for line in text.splitlines() if line.startswith("error: ")] for text in said]


@pytest.fixture(scope="module")
def start(context: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Ends]:
    """Start some ranks, or the first few of them, and wait for their end."""

    def run(path: Path, ranks: int, come: int | None = None, **options: Any) -> Ends:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        environment |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
        logs = [tmp_path_factory.mktemp("logs") / "log" for _ in range(ranks if come is None else come)]
        begun = time.monotonic()
        processes = [
            context.Process(target=begin, args=(rank, environment, str(log), str(path), options))
            for rank, log in enumerate(logs)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(max(1.0, begun + 100 - time.monotonic()))
            process.kill()
        said = [log.read_text() if log.exists() else "" for log in logs]
        return Ends([process.exitcode for process in processes], said, time.monotonic() - begun)

    return run


@pytest.fixture(scope="module")
def on_ranks(start: Callable[..., Ends]) -> Callable[..., dict[str, Any]]:
    """Train on some ranks; returns the summary."""

    def run(path: Path, ranks: int, **options: Any) -> dict[str, Any]:
        end = start(path, ranks, **options)
        assert end.codes == [0] * ranks, "\n".join(end.said)[-3000:]
        return json.loads((path / "summary.json").read_text())

    return run


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    path = tmp_path_factory.mktemp("alone") / "run"
    return path, train_digits(path, epochs=3, keep_checkpoints=2)


@pytest.fixture(scope="module")
def halfway(on_ranks, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Three epochs of which two are done, on three ranks."""
    path = tmp_path_factory.mktemp("parallel") / "run"
    return path, on_ranks(path, 3, sheet_parallel=3, epochs=3, keep_checkpoints=2)


NUMBERS = ("test_loss", "train_loss", "val_loss", "wiring_cost")


def test_a_run_in_parts_ends_where_one_process_does(alone, halfway):
    (_, one), (path, three) = alone, halfway
    for name in NUMBERS:
        assert three[name] == pytest.approx(one[name], rel=1e-4)
    for name in ("parameters", "fingerprint", "steps", "test_images"):
        assert three[name] == one[name]
    for name in ("sheet.png", "curves.png", "attention_by_distance.png", "column.png"):
        assert (path / "figures" / name).stat().st_size > 1000


def test_the_summary_names_the_parts(alone, halfway):
    (_, one), (_, three) = alone, halfway
    assert one["columns_per_rank"] == [12]
    assert one["halo_columns_per_rank"] == one["halo_bytes_per_step"] == [0]
    assert three["columns_per_rank"] == [4, 4, 4]
    assert all(0 < halo <= 8 for halo in three["halo_columns_per_rank"])
    width = 4 * SMALL["batch_size"] * (SMALL["qk_dim"] + SMALL["dim"])
    assert three["halo_bytes_per_step"] == [halo * width for halo in three["halo_columns_per_rank"]]


def test_a_trained_model_is_read_back_whole(halfway):
    path, _ = halfway
    trained = load_trained(path)
    assert trained.net.model.block.mlp.fc1.weight.size(0) == 12
    assert trained.step == 15


def test_checkpoints_change_hands(alone, halfway, on_ranks, tmp_path):
    """From three ranks to one process, and from one process to replicas of parts: to the same end."""
    for begun in (alone[0], halfway[0]):
        shutil.copytree(begun, tmp_path / begun.parent.name)
    one = train_digits(tmp_path / halfway[0].parent.name, resume=True, epochs=4)
    four = on_ranks(tmp_path / alone[0].parent.name, 2, resume=True, sheet_parallel=2, epochs=4)
    assert one["resumed_from_step"] == four["resumed_from_step"] == 15
    for name in NUMBERS:
        assert one[name] == pytest.approx(four[name], rel=1e-4)
    assert four["columns_per_rank"] == [6, 6]


def test_replicas_end_where_one_process_does(alone, on_ranks, tmp_path):
    """Two replicas of half the batch each, without a flag: torchrun has said how many. Only the batches differ."""
    two = on_ranks(tmp_path / "run", 2, epochs=3, batch_size=SMALL["batch_size"] // 2)
    assert two["steps"] == alone[1]["steps"]
    assert two["columns_per_rank"] == [12]
    answers = RunFolder(tmp_path / "run").predicted()
    assert len(answers["image"]) == 360
    assert (answers["label"] == answers["prediction"]).mean() == pytest.approx(two["test_accuracy"])
    assert {key: label for key, (label, _) in joined(tmp_path / "run").items()} == {
        key: label for key, (label, _) in joined(alone[0]).items()
    }
    assert two["test_loss"] == pytest.approx(alone[1]["test_loss"], rel=0.05)
    assert not [entry for entry in (tmp_path / "run" / "checkpoints").iterdir() if entry.is_dir()]


def test_replicas_rewire_alike_and_go_on_to_the_bit(start, tmp_path):
    """Edges change in number, so that others' gradients are averaged; what all have seen is in the checkpoint."""
    options = {"epochs": 3, "batch_size": SMALL["batch_size"] // 2, "figure_every": 0, "keep_checkpoints": 5}
    options |= {"rewire": 0.2, "rewire_every": 3, "rewire_budget": "wire:0.8"}
    end = start(tmp_path / "whole", 2, **options)
    assert end.codes == [0, 0], end.said
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    shutil.copy(RunFolder(tmp_path / "parts").kept_at(4), RunFolder(tmp_path / "parts").last)
    end = start(tmp_path / "parts", 2, **options, resume=True)
    assert end.codes == [0, 0], end.said
    whole, parts = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "parts"))
    assert parts["resumed_from_step"] == 4
    for name in ("parameters_sha256", "fingerprint", "plasticity", "test_accuracy"):
        assert parts[name] == whole[name], name
    assert whole["plasticity"]["rewirings"] == 3
    assert whole["edges"] != whole["plasticity"]["edges_at_start"]
    assert load_trained(tmp_path / "whole").net.model.sheet.fingerprint == whole["fingerprint"]


@pytest.mark.parametrize("parts", [2, 1])
def test_a_process_that_is_killed_ends_the_run_and_it_goes_on(start, tmp_path, parts):
    """Parts of a sheet, and replicas; then one process takes the run up."""
    path = tmp_path / "run"
    end = start(path, 2, sheet_parallel=parts, epochs=3, batch_size=256 * parts // 2, die_at_of=(1, 7))
    assert end.codes == [1, -9]
    assert end.errors[0] == [f"error: rank 1 died; go on with --resume --out {path}"]
    assert end.seconds < 60
    assert train_digits(path, resume=True, epochs=3)["resumed_from_step"] == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr_of": (1, 0.5)}, "rank 1 has another configuration than rank 0"),
        ({"neighbors_of": (1, "knn:5")}, "rank 1 has another sheet and geometry and configuration than rank 0"),
        (
            {"neighbors_of": (0, "knn:5"), "sheet_parallel": 1},
            "rank 1 has another sheet and geometry and configuration",
        ),
        (
            {"geometry": "ring", "options": {"columns": 1}, "neighbors": "complete", "patch_size": 8, "wiring": 0},
            "2 parts are more than the 1 columns of the sheet: give at most 1",
        ),
        ({"devices": "3"}, "--devices 3, but torchrun has started 2 processes here: leave it out"),
        ({"come": 1}, "not all of the 2 ranks came within 15 s: no sign of rank 1;"),
    ],
    ids=("learning rate", "neighbors", "replicas", "crowd", "devices", "missing"),
)
def test_what_cannot_be_is_said_once_and_nothing_is_written(start, tmp_path, options, message):
    end = start(tmp_path / "run", 2, **{"sheet_parallel": 2, "epochs": 1, **options})
    assert set(end.codes) == {2}
    assert len(end.errors[0]) == 1, end.said
    assert end.errors[0][0].startswith(f"error: {message}")
    assert "Traceback" not in "".join(end.said)
    assert not (tmp_path / "run").exists()


def test_only_named_folders_of_parameters_stay(halfway):
    path, _ = halfway
    folders = {entry.name for entry in (path / "checkpoints").iterdir() if entry.is_dir()}
    assert {"step-00000001", "step-00000002", "step-00000015"} <= folders
    assert len(folders) <= 4


def joined(path):
    found = RunFolder(path).predicted()
    return {image: (label, answer) for image, label, answer in zip(found["image"], found["label"], found["prediction"])}


def test_predictions_of_several_processes_are_those_of_one(alone, halfway):
    (one, summary), (three, _) = alone, halfway
    assert summary["test_images"] == len(RunFolder(one).predicted()["image"])
    assert joined(one) == joined(three)


def test_kept_checkpoints_of_a_sheet_in_parts_are_those_of_one_process(alone, halfway):
    for step in (1, 2):
        one, three = (load_trained(RunFolder(path).kept_at(step)) for path, _ in (alone, halfway))
        assert one.step == three.step == step
        for name, value in one.net.state_dict().items():
            torch.testing.assert_close(three.net.state_dict()[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (
            "1",
            "--sheet-parallel 3 needs as many processes: start with torchrun --nproc-per-node 3, or give --devices 3",
        ),
        ("4", "4 processes do not divide into data x sheet = 1 x 3"),
    ],
)
def test_wrong_numbers_of_processes_are_refused_before_anything(tmp_path, monkeypatch, devices, message):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    config = TrainConfig(**{**SMALL, "sheet_parallel": 3, "devices": devices})
    with pytest.raises(ValueError) as error:
        open_run_folder(config, RunFlags(tmp_path / "run"))
    assert message in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("task", "ranks", "options"),
    [
        ("contrast", 4, {"sheet_parallel": 2, "batch_size": 128}),
        ("reconstruct", 2, {"sheet_parallel": 2, "geometry": "grid", "options": {"shape": [4, 4]}, "patch_size": 2}),
    ],
)
def test_every_task_on_several_processes(on_ranks, tmp_path, task, ranks, options):
    """As one process, but for the batches of replicas; parts of a sheet are asked about the same views and patches."""
    alone = {name: value for name, value in options.items() if name not in ("sheet_parallel", "batch_size")}
    one = train_digits(tmp_path / "alone", task=task, epochs=2, **alone)
    many = on_ranks(tmp_path / "run", ranks, task=task, epochs=2, **options)
    assert many["steps"] == one["steps"]
    close = 1e-4 if ranks == 2 else 0.05
    # Held-out views are told from those of fewer others, where several processes have a share each.
    for name in ("train_loss",) if task == "contrast" else ("train_loss", "test_loss", "test_accuracy"):
        assert many[name] == pytest.approx(one[name], rel=close), name


def test_a_burn_in_is_of_as_many_steps_on_all_parts(on_ranks, tmp_path):
    """Parts of a sheet draw alike; replicas do not, and may differ in whether a position embedding has a gradient."""
    options = {"burn_in": 3, "inject": "every", "epochs": 1, "figure_every": 0}
    one = train_digits(tmp_path / "one", **options)
    parts = on_ranks(tmp_path / "parts", 2, sheet_parallel=2, **options)
    for name in NUMBERS:
        assert parts[name] == pytest.approx(one[name], rel=1e-4)
    replicas = on_ranks(tmp_path / "replicas", 2, **options, batch_size=SMALL["batch_size"] // 2)
    assert replicas["steps"] == one["steps"]
