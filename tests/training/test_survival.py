"""A run that survives: killed at any moment it goes on to the same bits; full disks end it with one line."""

from __future__ import annotations

import csv
import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("sklearn")

from runs_that_die import killed_and_resumed

pytest.importorskip("matplotlib")

import lightning.pytorch as pl

from colgraph.data import load_images
from colgraph.data.sources import ImageSplits
from colgraph.training import (
    RunFlags,
    TrainConfig,
    UnwritableRunError,
    load_checkpoint,
    load_trained,
    make_model,
    make_sheet,
    open_run_folder,
    train,
)
from colgraph.training.callbacks import Checkpoints, StepSeeds, kept_steps
from colgraph.training.config import parse_interval
from colgraph.training.folder import RunFolder
from colgraph.training.metrics import MetricsLog

HERE = Path(__file__).parent
SMALL: dict[str, Any] = {
    "data": "digits",
    "image_size": 8,
    "channels": 1,
    "augment": "affine",
    "neighbors": "knn:4",
    "dim": 8,
    "steps": 2,
    "qk_dim": 4,
    "mlp_dim": 8,
    "epochs": 2,
    "batch_size": 256,
    "lr": 5e-3,
    "warmup": 1,
    "tensorboard": False,
    "figure_every": 0,
    "options": {"widths": [2, 2]},
}


def metrics(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def test_run_killed_at_any_moment_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    killed = killed_and_resumed(tmp_path)
    whole = json.loads((tmp_path / "whole" / "summary.json").read_text())
    assert whole["resumed_from_step"] is None
    # Five steps an epoch, a checkpoint every two: what was there when the run was killed after eight or ten.
    came_from = {"in_the_middle_of_an_epoch": 8, "while_a_checkpoint_is_written": 6, "between_epochs": 10}
    came_from["between_best_and_last"] = 8
    for name in killed:
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        assert summary["resumed_from_step"] == came_from[name] > 0
        for key in ("parameters_sha256", "test_accuracy", "train_loss", "best_epoch", "steps", "train_flops"):
            assert summary[key] == whole[key], (name, key)
        assert metrics(tmp_path / name) == metrics(tmp_path / "whole")
        best = [load_checkpoint(tmp_path / run / "checkpoints" / "best.ckpt") for run in (name, "whole")]
        assert best[0]["global_step"] == best[1]["global_step"]
        assert all(torch.equal(value, best[1]["state_dict"][key]) for key, value in best[0]["state_dict"].items())
        ours, theirs = RunFolder(tmp_path / name).kept, RunFolder(tmp_path / "whole").kept
        assert [path.name for path in ours] == [path.name for path in theirs]
        for pair in zip(ours, theirs, strict=True):
            mine, whole_one = map(load_checkpoint, pair)
            assert mine["global_step"] == whole_one["global_step"] == int(pair[0].stem[5:])
            assert all(torch.equal(value, whole_one["state_dict"][key]) for key, value in mine["state_dict"].items())
    assert [int(path.stem[5:]) for path in RunFolder(tmp_path / "whole").kept] == list(range(1, 9))
    assert [int(row["step"]) for row in metrics(tmp_path / "whole")] == list(range(1, 16))


@pytest.mark.parametrize(
    ("count", "total", "steps"),
    [(0, 880, []), (1, 880, [9]), (8, 6250, [62, 111, 198, 351, 625, 1111, 1976, 3515]), (3, 4, [1, 2, 3])],
)
def test_checkpoints_are_kept_at_steps_a_factor_apart(count: int, total: int, steps: list[int]) -> None:
    assert kept_steps(count, total) == steps


@pytest.mark.parametrize("total", [2, 15, 100, 6250])
def test_as_many_are_kept_as_asked_for(total: int) -> None:
    for count in {1, total // 2, total - 1}:
        steps = kept_steps(count, total)
        assert len(steps) == count
        assert sorted(set(steps)) == steps
        assert steps[0] >= 1
        assert steps[-1] < total


# ---------------------------------------------------------------------- in this process


@pytest.fixture(scope="module")
def images() -> ImageSplits:
    return load_images("digits", image_size=8, channels=1)


def run(path: Path, images: ImageSplits, resume: bool = False, **changes: Any) -> dict[str, Any]:
    config = TrainConfig(**{**SMALL, **changes})
    folder = open_run_folder(config, RunFlags(path, resume=resume))
    torch.manual_seed(config.seed)
    return train(make_model(config, make_sheet(config), len(images.classes)), images, config, folder)


def full_disk(*args: Any, **options: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_full_disk_at_a_checkpoint_ends_the_run_with_one_line_and_keeps_the_last(
    images: ImageSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = pl.Trainer.save_checkpoint

    def save(self: pl.Trainer, path: Any, *args: Any, **options: Any) -> None:
        if self.global_step > 5:
            Path(path).write_bytes(b"half")
            full_disk()
        original(self, path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pl.Trainer, "save_checkpoint", save)
        with pytest.raises(
            UnwritableRunError, match="No space left on device; what was saved before is intact"
        ) as caught:
            run(tmp_path / "run", images)
    assert "\n" not in str(caught.value)
    assert "--resume --out" in str(caught.value)
    checkpoints = tmp_path / "run" / "checkpoints"
    assert {path.name for path in checkpoints.iterdir()} == {"last.ckpt", "best.ckpt"}
    assert load_checkpoint(checkpoints / "last.ckpt")["global_step"] == 5
    assert run(tmp_path / "run", images, resume=True)["resumed_from_step"] == 5


def test_kept_checkpoints_are_those_of_the_path_that_was_taken(images: ImageSplits, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(ValueError, match="keep_checkpoints: 5 are more than the 4 steps before the last of 5"):
        run(folder.path, images, epochs=1, keep_checkpoints=5)
    assert not folder.is_run
    summary = run(folder.path, images, epochs=1, keep_checkpoints=2)
    assert [path.name for path in folder.kept] == ["step-0000001.ckpt", "step-0000002.ckpt"]
    shutil.copy(folder.last, folder.kept_at(9))  # as of a session that was killed
    run(folder.path, images, resume=True, epochs=2, keep_checkpoints=9)
    assert [int(path.stem[5:]) for path in folder.kept] == [1, 2, 6, 7, 8, 9]
    assert load_checkpoint(folder.kept_at(9))["global_step"] == 9
    trained = load_trained(folder.kept_at(2))
    assert (trained.step, "scores" in trained.net.about) == (2, False)
    assert "scores" in load_trained(folder.path).net.about
    assert load_trained(folder.kept_at(2)).config.epochs == 1
    assert summary["steps"] == 5


@pytest.mark.parametrize("what", ["metrics", "summary", "prepare"])
def test_full_disk_elsewhere_is_one_line_too(
    images: ImageSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "metrics":
        start = MetricsLog.on_train_start

        def full(self: MetricsLog, trainer: Any, module: Any) -> None:
            start(self, trainer, module)
            # The device that is always full.
            self._file = open("/dev/full", "a", buffering=1)  # noqa: SIM115

        monkeypatch.setattr(MetricsLog, "on_train_start", full)
    elif what == "summary":
        monkeypatch.setattr(RunFolder, "summary", property(lambda self: self.path / "gone" / "summary.json"))
    else:
        monkeypatch.setattr("colgraph.training.folder.write_text", full_disk)
    with pytest.raises(UnwritableRunError, match="cannot write") as caught:
        run(tmp_path / "run", images)
    assert "\n" not in str(caught.value)


def test_checkpoints_come_at_the_interval(images: ImageSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Checkpoints.save
    saved: list[tuple[int, str]] = []

    def save(self: Checkpoints, trainer: pl.Trainer, path: Path) -> None:
        original(self, trainer, path)
        saved.append((trainer.global_step, path.stem))

    monkeypatch.setattr(Checkpoints, "save", save)
    for every, steps in (("3", {0, 3, 5, 6, 9, 10}), ("0.00001m", set(range(11))), ("0", {0, 5, 10})):
        saved.clear()
        run(tmp_path / every, images, checkpoint_every=every)
        last = [step for step, name in saved if name == "last"]
        assert last == sorted(steps)


@pytest.mark.parametrize(
    ("text", "expected"), [("200", (200, 0.0)), ("10m", (0, 600.0)), ("0.5m", (0, 30.0)), ("0", (0, 0.0))]
)
def test_intervals_are_steps_or_minutes(text: str, expected: tuple[int, float]) -> None:
    assert parse_interval(text) == expected


@pytest.mark.parametrize("text", ["", "m", "-1", "1.5", "10s", "nanm", "infm", "often"])
def test_other_intervals_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="checkpoint_every"):
        TrainConfig(checkpoint_every=text)


def test_random_numbers_of_a_step_follow_from_seed_and_step(
    images: ImageSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What any layer draws in a step is the same before and after going on, whatever else has drawn in between."""
    drawn: list[float] = []
    original = StepSeeds.on_train_batch_start

    def start(self: StepSeeds, *args: Any) -> None:
        torch.rand(len(drawn) + 1)  # somebody else has used the generator
        original(self, *args)
        drawn.append(float(torch.rand(())))

    monkeypatch.setattr(StepSeeds, "on_train_batch_start", start)
    run(tmp_path / "a", images)
    first = list(drawn)
    assert len(set(first)) == 10
    drawn.clear()
    run(tmp_path / "b", images, epochs=1)
    run(tmp_path / "b", images, resume=True)
    assert drawn == first


def test_folder_left_by_a_run_that_died_at_once_can_be_used(images: ImageSplits, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".config.yamlx1y2").write_text("half")
    assert run(folder, images, epochs=1)["steps"] == 5


def test_unreadable_image_met_by_a_worker_ends_the_run_with_one_line_or_is_in_the_summary(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("datasets")
    generator = torch.Generator().manual_seed(0)
    for i in range(40):
        path = tmp_path / "images" / str(i % 2) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(torch.randint(0, 256, (8, 8), generator=generator, dtype=torch.uint8).numpy()).save(path)
    (tmp_path / "images" / "1" / "7.png").write_bytes(path.read_bytes()[:-30])
    settings = {"data": str(tmp_path / "images"), "workers": 1, "batch_size": 8, "epochs": 1}
    for limit in (1, 0):
        splits = load_images(settings["data"], image_size=8, channels=1, memory_gb=0, max_corrupt=1)
        splits.skipped.limit = limit  # the error, if any, comes from a worker in the middle of the run
        splits.skipped._count.zero_()
        for _, flags in splits.skipped._sets:
            flags.zero_()
        if limit:
            summary = run(tmp_path / "fine", splits, **settings)
            assert [Path(name.strip("'")).name for name in summary["unreadable_images"]] == ["7.png"]
        else:
            with pytest.raises(ValueError, match=r"^cannot read image .*7\.png': [^\n]*$"):
                run(tmp_path / "broken", splits, **settings)


class Learner:
    """What :class:`Checkpoints` asks of a trainer, for the end of an epoch."""

    global_step = 1

    def __init__(self, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written: list[str] = []
        self.checkpoints, self.current_epoch = checkpoints, checkpoints.best_epoch
        monkeypatch.setattr(checkpoints, "save", lambda trainer, path: self.written.append(path.name))

    def ends(self, *accuracies: float) -> list[bool]:
        """Whether the best checkpoint is written after each of some epochs."""
        best = []
        for accuracy in accuracies:
            self.written.clear()
            module: Any = type("Module", (), {"metrics": {"val_accuracy": accuracy}})
            trainer: Any = self
            self.checkpoints.on_train_epoch_end(trainer, module)
            self.current_epoch += 1
            best.append("best.ckpt" in self.written)
        return best


def test_there_is_a_best_epoch_however_low_accuracy_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(RunFolder(tmp_path))
    assert checkpoints.best_accuracy is None
    assert Learner(checkpoints, monkeypatch).ends(-7.0, -8.0, -1.0, float("nan"), 0.5) == [
        True,
        False,
        True,
        False,
        True,
    ]
    assert (checkpoints.best_accuracy, checkpoints.best_epoch) == (0.5, 5)
    undefined = Checkpoints(RunFolder(tmp_path))
    learner = Learner(undefined, monkeypatch)
    assert learner.ends(float("nan"), float("nan")) == [True, False]
    assert (undefined.best_accuracy, undefined.best_epoch) == (None, 1)
    assert learner.ends(-3.0) == [True]
    assert undefined.best_accuracy == -3.0


def test_a_checkpoint_of_an_older_version_that_knows_no_best_epoch_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for older, expected in (({"best": -1.0, "best_epoch": 0}, True), ({"best": -0.5, "best_epoch": 2}, False)):
        checkpoints = Checkpoints(RunFolder(tmp_path))
        checkpoints.load_state_dict(older)
        assert Learner(checkpoints, monkeypatch).ends(-2.0) == [expected]
        again = Checkpoints(RunFolder(tmp_path))
        again.load_state_dict(checkpoints.state_dict())
        assert again.best_accuracy == checkpoints.best_accuracy == (-2.0 if expected else -0.5)
