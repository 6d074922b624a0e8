"""Runs of every task: what they learn, that they go on to the bit, and from one task to the next."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

pytest.importorskip("lightning")
pytest.importorskip("sklearn")

from small_tasks import digits_by_patch

from colgraph.data import ImageSplits, load_images
from colgraph.tasks import Question
from colgraph.training import (
    RunFlags,
    RunFolder,
    TrainConfig,
    load_trained,
    make_model,
    make_sheet,
    num_answers,
    open_run_folder,
    parse_flags,
    train,
)
from colgraph.training.checkpoint import KEY
from colgraph.training.command import main
from colgraph.training.effects import check_on_data
from colgraph.training.module import TaskModule
from colgraph.training.setup import grid_of
from colgraph.training.take_over import take_over

SMALL: dict[str, Any] = {
    "data": "digits",
    "image_size": 8,
    "channels": 1,
    "geometry": "grid",
    "options": {"shape": [4, 4]},
    "patch_size": 2,
    "neighbors": "radius:1.1",
    "augment": "none",
    "dim": 8,
    "qk_dim": 4,
    "mlp_dim": 8,
    "steps": 3,
    "epochs": 2,
    "batch_size": 128,
    "lr": 1e-2,
    "warmup": 0,
    "figure_every": 0,
    "tensorboard": False,
}
BRIGHT = {"task": "columns", "inject": "every"}
TASKS: dict[str, dict[str, Any]] = {
    "columns": {**BRIGHT, "steps": "2-4", "step_loss": "every", "leak": 0.2, "burn_in": 3},
    "vectors": {**BRIGHT, "step_loss": "rising"},
    "reconstruct": {"task": "reconstruct"},
    "contrast": {"task": "contrast", "augment": "affine", "epochs": 3},
}


def images_for(config: TrainConfig, vectors: bool = False) -> ImageSplits:
    """Digits; for a task of columns each patch is labeled by whether it is brighter than half, or by its pixels."""
    if config.task != "columns":
        return load_images("digits", image_size=8, channels=1)
    labels = (lambda patches: patches / 255) if vectors else (lambda patches: (patches.mean(-1) > 80).long())
    return digits_by_patch(labels, ["dark", "bright"])


def run(path: Path, kind: str = "columns", resume: bool = False, **changes: Any) -> dict[str, Any]:
    config = TrainConfig(**{**SMALL, **TASKS.get(kind, {}), **changes})
    images = images_for(config, kind == "vectors")
    sheet = None if config.baseline else make_sheet(config)
    net = make_model(config, sheet, num_answers(config, sheet, images))
    return train(net, images, config, open_run_folder(config, RunFlags(path, resume=resume)))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("tasks")
    for kind in TASKS:
        run(place / kind, kind, keep_checkpoints=1)
    return {kind: place / kind for kind in TASKS}


# What a network that has learned nothing is worth, and what these few steps reach.
LEVELS = {"columns": (0.5, 0.85), "vectors": (0.0, 0.5), "reconstruct": (0.0, 0.1), "contrast": (0.01, 0.05)}


@pytest.mark.parametrize("kind", TASKS)
def test_every_task_is_learned(runs: dict[str, Path], kind: str) -> None:
    found = RunFolder(runs[kind]).results()
    chance, reached = LEVELS[kind]
    assert chance < reached < found["test_accuracy"] <= 1
    assert found["task"] == TASKS[kind]["task"]
    assert found["accuracy_is"]
    assert ("test_perfect" in found) == (kind == "columns")


@pytest.mark.parametrize("kind", TASKS)
def test_every_task_goes_on_to_the_bit(runs: dict[str, Path], kind: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / kind)
    shutil.copytree(runs[kind], folder.path)
    (kept,) = folder.kept
    shutil.copy(kept, folder.last)
    folder.summary.unlink()
    again = run(folder.path, kind, resume=True, keep_checkpoints=1)
    assert again["resumed_from_step"] == 1  # inside the first epoch
    whole = RunFolder(runs[kind]).results()
    for name in ("parameters_sha256", "train_accuracy", "train_loss", "test_accuracy", "test_loss"):
        assert again[name] == whole[name], name


@pytest.mark.parametrize("kind", TASKS)
def test_what_was_trained_is_read_back(runs: dict[str, Path], kind: str) -> None:
    trained = load_trained(runs[kind])
    config = trained.config
    images = images_for(config, kind == "vectors")
    sheet = make_sheet(config)
    assert trained.net.num_classes == num_answers(config, sheet, images)
    with np.load(RunFolder(runs[kind]).predictions) as file:
        predicted = dict(file)
    assert len(predicted["image"]) == len(images.test)
    if kind == "columns":
        answers = trained.net(trained.transform.evaluate(images.test.images)).argmax(-1)
        assert torch.equal(answers, torch.from_numpy(predicted["prediction"]))


def test_settings_of_tasks_survive_their_record(runs: dict[str, Path]) -> None:
    record = yaml.safe_load(RunFolder(runs["columns"]).config.read_text())
    assert record["steps"] == "2-4"
    assert "least_steps" not in record
    config = RunFolder(runs["columns"]).record().config
    assert (config.least_steps, config.steps, config.readout) == (2, 4, "columns")
    again, _ = parse_flags(["--config", str(RunFolder(runs["columns"]).config), "--out", "x"])
    assert again == config
    assert grid_of(config) == (4, 4)


def test_flops_are_those_of_the_mean_number_of_steps(tmp_path: Path) -> None:
    found = {steps: run(tmp_path / steps, "plain", steps=steps, epochs=1, **BRIGHT) for steps in ("2", "4", "2-4")}
    flops = {steps: each["flops_per_image"] for steps, each in found.items()}
    assert flops["2-4"] == (flops["2"] + flops["4"]) / 2


# ---------------------------------------------------------------------- from one task to the next


def learned(path: Path) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in load_trained(path).net.state_dict().items()}


def test_a_probe_learns_the_head_alone(runs: dict[str, Path], tmp_path: Path) -> None:
    found = run(tmp_path / "probe", "classify", init=str(runs["reconstruct"]), freeze=True, epochs=12, lr=0.1)
    before, after = learned(runs["reconstruct"]), learned(tmp_path / "probe")
    for name in after:
        if not name.startswith("head."):
            assert torch.equal(before[name], after[name]), name
    assert found["test_accuracy"] > 0.2
    assert found["init"] == {
        "run": str(runs["reconstruct"]),
        "task": "reconstruct",
        "steps": 22,
        "parameters_sha256": RunFolder(runs["reconstruct"]).results()["parameters_sha256"],
    }
    assert found["freeze"] is True
    # A probe that goes on is what it was, whatever has become of where it began.
    folder = RunFolder(tmp_path / "again")
    shutil.copytree(tmp_path / "probe", folder.path)
    folder.summary.unlink()
    record = folder.record().config
    images = images_for(record)
    net = make_model(record, make_sheet(record), 10)
    again = train(net, images, record, open_run_folder(record, RunFlags(folder.path, resume=True)))
    assert again["init"] == found["init"]
    assert again["parameters_sha256"] == found["parameters_sha256"]


def test_fine_tuning_begins_where_the_other_task_ended(runs: dict[str, Path], tmp_path: Path) -> None:
    run(tmp_path / "tuned", "classify", init=str(runs["contrast"]), epochs=1, lr=1e-9, weight_decay=0)
    before, after = learned(runs["contrast"]), learned(tmp_path / "tuned")
    for name in ("patch_embedding.weight", "model.block.mlp.fc1.weight"):
        assert torch.allclose(before[name], after[name], atol=1e-6), name
        assert not torch.equal(before[name], after[name]), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"neighbors": "radius:1.5"},
            r"another sheet \(fingerprint \w{16}, 16 columns\) than this one \(\w{16}",
        ),
        ({"dim": 16}, r"init: .* is \[.*8.*\] in '.*' and \[.*16.*\] here"),
        ({"init": "nowhere"}, "'nowhere' is no run folder"),
        ({"sampling": "log-polar"}, "has learned with --sampling uniform, got log-polar: give that of the run"),
        ({"num_heads": 2, "qk_dim": 2}, "has learned with --num-heads 1, got 2: give that of the run"),
        ({"leak": 0.5}, "has learned with --leak 0.0, got 0.5: give that of the run"),
        ({"inject": "every"}, "has learned with --inject first, got every: give that of the run"),
        ({"speed": 50.0}, "has learned with --speed None, got 50.0: give that of the run"),
        (
            {"control": "shuffled-positions"},
            r"learned on a sheet that lies elsewhere \(geometry fingerprint \w{16}\) than this one \(\w{16}\): give",
        ),
        ({"inputs": list(range(15, -1, -1))}, "learned with other input columns than this sheet has: give the inputs"),
        ({"model": "cnn", "depth": 1}, "has trained a VisionColumnformer, this is a ConvNet"),
    ],
)
def test_what_cannot_be_begun_with_is_refused(
    runs: dict[str, Path], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        run(tmp_path / "run", "classify", **{"init": str(runs["reconstruct"]), **changes})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "summary.json").exists()


def test_patches_that_go_to_other_columns_are_not_taken_over_in_silence(runs: dict[str, Path]) -> None:
    config = TrainConfig(**{**SMALL, "init": str(runs["reconstruct"])})
    net = make_model(config, make_sheet(config), 10)
    net.assignment.copy_(net.assignment.flip(0))
    with pytest.raises(ValueError, match=r"init: assignment of '.*' is another than that of this model") as caught:
        take_over(net, config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze": True}, "freeze: .*--init RUN"),
        ({"task": "columns", "readout": "mean"}, "readout: columns takes columns"),
        ({"task": "columns", "augment": "shift"}, "augment: .*--augment none"),
        ({"task": "reconstruct", "mixup": 0.2}, "mixup: mixes classes of images, reconstruct has none"),
        ({"task": "contrast", "model": "vit"}, "task: contrast needs a sheet, a vit has none"),
        ({"task": "columms"}, "unknown task 'columms': did you mean 'columns'"),
        ({"steps": "5-2"}, "steps: a range runs from a smaller"),
        ({"steps": "2-x"}, "steps: must be a whole number, got '2-x'"),
        ({"burn_in": 5}, "burn_in: no gradient would reach the image, .*give inject every, or leave 5 out"),
        ({"burn_in": 5, "model": "vit", "inject": "every"}, "burn_in: blocks of a vit run once each, .*leave 5 out"),
        ({"step_loss": "first"}, "step_loss: must be one of last, every, rising"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**{**SMALL, **changes})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--mask-ratio", "0.5"], "--mask-ratio has no effect here: it needs --task reconstruct"),
        (
            ["--label-smoothing", "0.2", "--task", "contrast"],
            "--label-smoothing has no effect here: it needs --task classify or columns; leave it out",
        ),
        (["--label-smoothing", "0.2", "--task", "reconstruct"], "--label-smoothing has no effect here"),
        (["--temperature", "0.5"], "--temperature has no effect here: it needs --task contrast"),
        (["--step-loss", "every", "--steps", "1"], "--step-loss has no effect here: it needs --steps 2 or more"),
        (
            ["--model", "vit", "--inject", "every", "--burn-in", "9"],
            "--burn-in: blocks of a vit run once each, .*leave 9 out",
        ),
        (["--burn-in", "9"], "--burn-in: no gradient would reach the image, .*give inject every"),
        (["--burn-in=-1"], "--burn-in: must be at least 0, got -1"),
        (["--steps", "9-4"], "--steps: a range runs from"),
        (["--task", "columms"], "^--task: unknown task 'columms': did you mean 'columns'"),
    ],
)
def test_flags_without_effect_are_refused(flags: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_flags(["--data", "digits", *flags])


def test_a_task_without_its_data_is_refused_before_the_first_step(tmp_path: Path) -> None:
    config = TrainConfig(**{**SMALL, **BRIGHT})
    images = load_images("digits", image_size=8, channels=1)
    net = make_model(config, make_sheet(config), 10)
    with pytest.raises(ValueError, match="takes a label per patch or output column, 'digits' has one per image"):
        train(net, images, config, open_run_folder(config, RunFlags(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


def test_a_network_with_another_number_of_answers_is_refused(tmp_path: Path) -> None:
    config = TrainConfig(**{**SMALL, **BRIGHT})
    net = make_model(config, make_sheet(config), 7)
    with pytest.raises(ValueError, match=r"answers with 7 values, columns on 'digits' takes 2: .*num_classes=2"):
        train(net, images_for(config), config, open_run_folder(config, RunFlags(tmp_path / "run")))


def test_the_log_of_a_run_is_of_its_task(runs: dict[str, Path]) -> None:
    summary = json.loads(RunFolder(runs["contrast"]).summary.read_text())
    assert "views" in summary["accuracy_is"]
    assert (RunFolder(runs["contrast"]).figures / "curves.png").is_file()


def test_an_epoch_may_have_more_columns_than_float32_can_count(monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig(**{**SMALL, **BRIGHT})
    module = TaskModule(make_model(config, make_sheet(config), 2), config)
    none = torch.zeros(())
    for count in (2.0**24, 1.0):
        monkeypatch.setattr(module.task, "tally", lambda *_, count=count: torch.tensor([count]))
        module._count(none, none, Question(none, none), none, 1, training=True)
    assert module.totals[1] == 2**24 + 1


def test_sums_of_an_epoch_that_an_older_version_began_go_on_as_they_were() -> None:
    config = TrainConfig(**{**SMALL, **BRIGHT})
    module = TaskModule(make_model(config, make_sheet(config), 2), config)
    answers, targets = torch.zeros(2, 16, 2), torch.full((2, 16), -100)
    targets[0, :3] = 0
    older = {"totals": torch.tensor([8.0, 1, 1, 1, 1, 0, 0.5, 4]), "metrics": {}}  # a loss of 2 over four images
    module.on_load_checkpoint({KEY: older})
    saved: dict[str, Any] = {}
    module.on_save_checkpoint(saved)
    again = TaskModule(module.net, config)
    again.on_load_checkpoint(saved)
    loss, wiring = torch.tensor(5.0), torch.zeros(())
    for each in (module, again):
        each._count(loss, answers, Question(answers, targets), wiring, 2, training=True)
        assert each.totals[[0, -2, -1]].tolist() == [8 + 2 * 5, 6, 6]
    later = TaskModule(module.net, config)
    later._count(loss, answers, Question(answers, targets), wiring, 2, training=True)
    assert later.totals[[0, -2, -1]].tolist() == [3 * 5, 2, 3]


def test_smoothing_is_refused_where_labels_turn_out_to_be_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--data", "digits", "--task", "columns", "--augment", "none"]
    for vectors in (False, True):
        for more, refused in (
            (["--label-smoothing", "0.2"], vectors),
            (["--label-smoothing", "0"], False),
            ([], False),
        ):
            config, flags = parse_flags([*words, *more])
            images = images_for(config, vectors)
            if not refused:
                check_on_data(config, flags.given, images)
                continue
            with pytest.raises(ValueError, match=r"--label-smoothing has no effect here: .* of 'digits' are vectors"):
                check_on_data(config, flags.given, images)
    monkeypatch.setattr("colgraph.training.command.images_of", lambda config: images_for(config, vectors=True))
    with pytest.raises(ValueError, match=r"--label-smoothing has no effect here: .* leave it out") as error:
        main([*words, "--label-smoothing", "0.2", "--out", "nowhere"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("task", ["classify", "contrast", "reconstruct"])
def test_smoothing_that_asks_for_nothing_is_taken(task: str) -> None:
    for smoothing in ("0", "0.1"):
        parse_flags(["--data", "digits", "--task", task, "--label-smoothing", smoothing])
