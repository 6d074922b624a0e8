"""Evaluation of tasks: as good as the summary says, by steps and difficulty, on harder sets and larger sheets."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("matplotlib")
pytest.importorskip("torchmetrics")

import made_runs

import colgraph.training.images
from colgraph.cli import run
from colgraph.data import IGNORED, ImageSplits
from colgraph.experiments.by_task import accuracy_by_steps, evaluate_task, step_numbers
from colgraph.experiments.difficulty import difficulty_bins
from colgraph.experiments.evaluate import evaluate_run, open_run
from colgraph.report.loading import load_run
from colgraph.tasks import Columns, known
from colgraph.training import RunFolder, TrainConfig, load_trained
from colgraph.training.other_size import images_of_any_size

TASKS: dict[str, dict[str, Any]] = {
    "columns": {"task": "columns"},
    "vectors": {"task": "columns", "kind": "vectors"},
    "reconstruct": {"task": "reconstruct", "patch_size": 2, "neighbors": "complete", "options": {"shape": [2, 2]}},
    "contrast": {"task": "contrast", "augment": "shift"},
    "classify": {"task": "classify", "kind": "image"},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("tasks")
    return {name: (folder / name, made_runs.trained(folder / name, **more)) for name, more in TASKS.items()}


@pytest.mark.parametrize("name", [name for name in TASKS if name != "classify"])
def test_a_run_is_as_good_at_its_task_as_its_summary_says(
    runs: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    made_runs.use(monkeypatch, TASKS[name].get("kind", "classes"))
    folder, summary = RunFolder(shutil.copytree(runs[name][0], tmp_path / "run")), runs[name][1]
    own = folder.predicted()
    assert own is not None
    folder.predictions.unlink()
    run(["evaluate", str(folder.path)])
    found, said = json.loads((folder.path / "evaluation.json").read_text()), capsys.readouterr().out
    metrics = [each.removeprefix("test_") for each in summary if each.startswith("test_")]
    for metric in set(metrics) - {"wiring_cost", "images"}:
        assert found[metric] == pytest.approx(summary[f"test_{metric}"], rel=1e-4, abs=1e-6), metric
        assert f"{metric:20}" in said
    assert found["accuracy_is"] == summary["accuracy_is"]
    assert found["accuracy_is"] in said
    assert found["task"] == summary["task"]
    again = folder.predicted()
    assert again is not None
    assert own.keys() == again.keys()
    for key in own:
        assert np.allclose(own[key], again[key]) if key == "score" else np.array_equal(own[key], again[key])
    assert (folder.path / "confusion.png").is_file() == (name == "columns")


@pytest.mark.parametrize("name", [name for name in TASKS if name != "classify"])
def test_answers_of_nan_are_refused(runs: dict[str, Any], name: str) -> None:
    trained = load_trained(runs[name][0])
    with torch.no_grad():
        list(trained.net.head.parameters())[-1][0] = math.nan
    with pytest.raises(ValueError, match="the network's answer to image 0 is NaN"):
        evaluate_task(trained, made_runs.splits(kind=TASKS[name].get("kind", "classes")).test)


def test_confusions_are_over_columns_that_count(
    runs: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made_runs.use(monkeypatch)
    found = evaluate_run(runs["columns"][0], output=tmp_path / "e.json")
    labels = made_runs.splits().test.labels
    confusion = np.array(found["confusion"])
    assert confusion.sum(1).tolist() == [int((labels == k).sum()) for k in range(2)]
    assert found["accuracy"] == pytest.approx(np.mean(np.diag(confusion) / confusion.sum(1)))
    assert found["column_accuracy"] == pytest.approx(np.trace(confusion) / confusion.sum())


def test_the_loss_is_the_mean_over_columns_that_count(
    runs: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever the size of batches, in the run's summary as in its evaluation."""
    made_runs.use(monkeypatch)
    trained, images = load_trained(runs["columns"][0]), made_runs.splits().test
    pixels, labels = images.batch(range(len(images)))
    with torch.no_grad():
        answers = trained.net(trained.transform.evaluate(pixels))
    right = labels.flatten(1)[:, trained.net.output_patches]
    expected = float(torch.nn.functional.cross_entropy(answers.flatten(0, 1), right.flatten()))
    assert runs["columns"][1]["test_loss"] == pytest.approx(expected, rel=1e-5)
    for size in (1, 7, 96):
        found = evaluate_run(runs["columns"][0], batch_size=size, output=tmp_path / f"{size}.json")
        assert found["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["columns", "reconstruct", "classify"])
def test_running_on_from_state_to_state_is_running_for_longer(runs: dict[str, Any], name: str) -> None:
    trained, kind = load_trained(runs[name][0]), TASKS[name].get("kind", "classes")
    images, steps = made_runs.splits(kind=kind).test, [1, 3, 7]
    found = accuracy_by_steps(trained, images, [7, 1, 3, 3])
    assert [entry["steps"] for entry in found] == steps
    for entry in found:
        trained.net.model.steps = entry["steps"]
        alone, _, _ = evaluate_task(trained, images)
        assert {key: entry[key] for key in alone.keys() & entry.keys()} == pytest.approx(
            {key: alone[key] for key in alone.keys() & entry.keys()}, abs=1e-6
        )
        assert "accuracy" in entry
    assert all(("by_difficulty" in entry) == (name != "reconstruct") for entry in found)


def test_accuracy_by_difficulty_is_counted_by_hand(runs: dict[str, Any]) -> None:
    trained, images = load_trained(runs["columns"][0]), made_runs.splits().test
    (entry,) = accuracy_by_steps(trained, images, [3])
    _, _, said = evaluate_task(trained, images)
    patches = trained.net.output_patches
    far = images.difficulty.flatten(1)[:, patches]
    counted = said["label"] != IGNORED
    assert [(each["from"], each["to"]) for each in entry["by_difficulty"]] == [(d, d) for d in range(4)]
    for each in entry["by_difficulty"]:
        those = counted & (far == each["from"])
        assert each["count"] == int(those.sum()) > 0
        assert each["accuracy"] == pytest.approx(float((said["prediction"] == 1)[those].float().mean()))
    trained, images = load_trained(runs["classify"][0]), made_runs.splits(kind="image").test
    (entry,) = accuracy_by_steps(trained, images, [3])
    assert [each["count"] for each in entry["by_difficulty"]] == [12] * 8
    shares = [each["accuracy"] * each["count"] for each in entry["by_difficulty"]]
    assert sum(shares) / 96 == pytest.approx(entry["accuracy"])


def test_bins_are_chosen_from_the_data() -> None:
    lengths = torch.cat([torch.arange(4.0).repeat(50), torch.tensor([40.0, torch.nan])])
    assert [tuple(each) for each in difficulty_bins(lengths)] == [(0, 3), (40, 40)]
    assert difficulty_bins(torch.full((3,), torch.nan)) == []
    assert difficulty_bins(torch.tensor([2.5, 2.5])) == [(2.5, 2.5)]


def test_more_steps_are_printed_written_and_drawn(
    runs: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    made_runs.use(monkeypatch)
    path = shutil.copytree(runs["columns"][0], tmp_path / "run")
    run(["evaluate", str(path), "--steps", "6, 1,3"])
    said = capsys.readouterr().out
    entries = json.loads((path / "evaluation.json").read_text())["accuracy_by_steps"]
    for number, entry in zip((1, 3, 6), entries, strict=True):
        assert f"\nsteps {number}  accuracy {entry['accuracy']:.2%}  perfect {entry['perfect']:.2%}\n" in said
    assert said.endswith(f"{path / 'confusion.png'}\n{path / 'steps.png'}\n")
    assert (path / "steps.png").read_bytes()[:4] == b"\x89PNG"
    run(["evaluate", str(path), "--steps", "2", "--harder"])
    said = capsys.readouterr().out
    assert "96 test images" in said
    assert "40 far images" in said
    far = json.loads((path / "evaluation-far.json").read_text())
    assert (far["images"], far["accuracy_by_steps"][0]["steps"]) == (40, 2)
    assert (path / "steps-far.png").is_file()
    run(["evaluate", str(path), "--split", "far", "-o", str(tmp_path / "far.json")])
    assert json.loads((tmp_path / "far.json").read_text())["accuracy"] == far["accuracy"]
    assert (tmp_path / "confusion.png").is_file()


def test_a_tied_sheet_carries_over_to_larger_images(
    runs: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    made_runs.use(monkeypatch)
    path = shutil.copytree(runs["columns"][0], tmp_path / "run")
    run(["evaluate", str(path), "--data", "made:size=6", "--steps", "6"])
    said = "made has 6 x 6 patches, the run's images 4 x 4: evaluated with the same parameters on a sheet of 6 x 6\n"
    assert f"note: {said}" in capsys.readouterr().err
    found = json.loads((path / "evaluation-made-size-6.json").read_text())
    assert sum(map(sum, found["confusion"])) == int((made_runs.splits(6).test.labels != IGNORED).sum())
    assert found["accuracy_by_steps"][0]["by_difficulty"][-1]["from"] == 5
    run(["evaluate", str(path), "--data", "made:size=4", "-o", str(tmp_path / "same.json")])
    assert "note:" not in capsys.readouterr().err


def test_a_recurrent_convolution_does_too_and_runs_for_longer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    summary = made_runs.trained(tmp_path / "run", task="columns", model="recurrent", depth=1)
    made_runs.use(monkeypatch)
    found = evaluate_run(tmp_path / "run", steps=[3, 6])
    assert found["accuracy"] == found["accuracy_by_steps"][0]["accuracy"] == pytest.approx(summary["test_accuracy"])
    found = evaluate_run(tmp_path / "run", "made:size=6", steps=[6])
    assert "with the same parameters on a map of 6 x 6" in capsys.readouterr().err
    assert sum(map(sum, found["confusion"])) == int((made_runs.splits(6).test.labels != IGNORED).sum())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"untied": "norm"}, "on_sheet: model.block.norm1.weight belongs to the columns or edges"),
        ({"geometry": "hexagonal"}, "geometry: hexagonal has its own columns: a sheet carries over"),
        ({"control": "random-graph"}, "control: random-graph is drawn for its own columns"),
        ({"model": "vit", "position_embedding": True}, "a vit takes images of 4 pixels, got 6"),
    ],
)
def test_what_carries_nothing_over_is_refused(
    settings: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kind = "image" if "model" in settings else "classes"
    task = {} if "model" in settings else {"task": "columns"}
    made_runs.trained(tmp_path / "run", kind, **task, **settings)
    made_runs.use(monkeypatch, kind)
    with pytest.raises(ValueError, match=message) as error:
        run(["evaluate", str(tmp_path / "run"), "--data", "made:size=6"])
    assert "\n" not in str(error.value)


def test_steps_that_cannot_be_run_are_refused_before_images_are_read(
    runs: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made_runs.trained(tmp_path / "timed", task="columns", time_embedding=True)
    made_runs.trained(tmp_path / "vit", "image", model="vit", depth=2)
    monkeypatch.setattr("colgraph.training.images.load_images", None)
    columns, timed, vit = (str(path) for path in (runs["columns"][0], tmp_path / "timed", tmp_path / "vit"))
    for path, steps, message in (
        (columns, "", "--steps takes whole numbers of at least 1 with commas between, such as 5,10,20, got ''"),
        (columns, "5,x", "got '5,x'"),
        (columns, "0,5", "got '0,5'"),
        (columns, "-5", "got '-5'"),
        (columns, "2.5", "got '2.5'"),
        (timed, "2,4", "--steps 4: the model has a time embedding for each of the 3 steps that it was trained for"),
        (vit, "1,50", "--steps 50: a vit of 2 blocks with weights of their own has no further one: give at most 2"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            run(["evaluate", path, f"--steps={steps}"])
        assert "\n" not in str(error.value)
    assert step_numbers("40,5, 5") == [5, 40]
    with pytest.raises(ValueError, match="at least 1, got 0"):
        evaluate_run(Path(columns), steps=[0])


def test_splits_and_harder_sets_that_are_not_there_are_refused(
    runs: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = str(runs["columns"][0])
    made_runs.use(monkeypatch)
    with pytest.raises(ValueError, match="--split must be one of test, val, train, far, got 'long'"):
        run(["evaluate", path, "--split", "long"])
    with pytest.raises(ValueError, match="--harder writes a file for each harder test set: leave out --output"):
        run(["evaluate", path, "--harder", "-o", str(tmp_path / "e.json")])
    made_runs.use(monkeypatch, harder=False)
    with pytest.raises(ValueError, match="--harder: 'made' has no harder test sets"):
        run(["evaluate", path, "--harder"])
    made_runs.use(monkeypatch, kind="image")
    with pytest.raises(ValueError, match="task: columns takes a label per patch"):
        run(["evaluate", path])


def test_files_of_data_with_options_are_told_apart(tmp_path: Path) -> None:
    names = {RunFolder(tmp_path).evaluation(f"mazes:openness=0.{digit}").name for digit in (5, 6)}
    assert names == {"evaluation-mazes-openness-0.5.json", "evaluation-mazes-openness-0.6.json"}
    assert RunFolder(tmp_path).evaluation("data/other.v2.parquet").name == "evaluation-other.json"


@pytest.mark.parametrize("name", ["columns", "reconstruct", "contrast"])
def test_models_of_tasks_are_shared_and_say_which(runs: dict[str, Any], name: str, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    import colgraph as cg

    path, summary = runs[name]
    run(["share", str(path), str(tmp_path / "model")])
    net = cg.VisionColumnformer.from_pretrained(tmp_path / "model")
    assert net.about["task"] == summary["task"]
    assert net.about["scores"]["accuracy_is"] == summary["accuracy_is"]
    assert all(torch.equal(value, load_trained(path).net.state_dict()[key]) for key, value in net.state_dict().items())
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"* task: {name}" in card
    assert f"pipeline_tag: {'image-segmentation' if name == 'columns' else 'image-feature-extraction'}" in card


FEW = "train=2,val=2,test=2"
SMALL_PATH, PATH = f"pathfinder:size=16,length=3,clutter=0,{FEW}", f"pathfinder:size=32,{FEW}"
MAZES = f"mazes:size=8,harder=2,{FEW}"


@pytest.mark.parametrize(
    ("trained", "image_size", "other", "side"),
    [
        (PATH, 32, SMALL_PATH, 16),
        (SMALL_PATH, 32, PATH, 64),
        (MAZES, 16, f"mazes:size=4,harder=0,{FEW}", 8),
        (MAZES, 16, f"mazes:size=8,openness=0.7,harder=2,{FEW}", 16),
    ],
)
def test_made_data_of_another_size_are_not_magnified(trained: str, image_size: int, other: str, side: int) -> None:
    """A pixel that is drawn takes as many of the image's as in the images of the run, whatever divides what."""
    config = TrainConfig(data=trained, image_size=image_size, patch_size=2)
    assert images_of_any_size(config, trained, 2).image_size == image_size
    assert images_of_any_size(config, other, 2).image_size == side


class Centred(Columns):
    """Vectors, from the mean of those to be learned from: what others than the run's images would give wrong."""

    middle = 0.0

    def begin(self, images: ImageSplits) -> None:
        self.middle = float(images.train.labels.nan_to_num().mean())

    def loss(self, answers: torch.Tensor, targets: Any, training: bool = False) -> torch.Tensor:
        return super().loss(answers, targets - self.middle, training)

    def tally(self, answers: torch.Tensor, targets: Any) -> torch.Tensor:
        return super().tally(answers, targets - self.middle)


def test_a_task_begins_with_the_training_images_of_its_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(known._registry, "_known", {**known._registry._known, "centred": Centred})
    made_runs.use(monkeypatch, "vectors")
    path = tmp_path / "run"
    summary = made_runs.trained(path, "vectors", task="centred")
    found = evaluate_run(path, steps=[3])
    assert found["loss"] == pytest.approx(summary["test_loss"], rel=1e-5)
    assert found["accuracy"] == found["accuracy_by_steps"][0]["accuracy"] == pytest.approx(summary["test_accuracy"])
    trained = load_trained(path)
    measures, _, _ = evaluate_task(trained, made_runs.splits(kind="vectors").test)
    assert measures["loss"] == found["loss"]
    middle = float(made_runs.splits(kind="vectors").train.labels.mean())
    assert load_run(path).task.middle == middle
    assert middle != float(made_runs.splits(6, "vectors").train.labels.mean())
    assert open_run(path, "made:size=6").task.middle == middle
    # Those are read where they are asked for, and named where they cannot be.
    load = colgraph.training.images.load_images
    monkeypatch.setattr("colgraph.training.images.load_images", lambda source, **options: gone(source, load, options))
    with pytest.raises(ValueError, match="task 'centred' begins with the training images of the run: no such folder"):
        open_run(path, "made:size=6")


def gone(source: str, load: Any, options: dict[str, Any]) -> ImageSplits:
    if source == "made":
        raise ValueError("no such folder")
    return load(source, **options)


def test_tasks_that_need_no_images_read_none(runs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("colgraph.training.images.load_images", None)
    for name in TASKS:
        trained = load_trained(runs[name][0])
        evaluate_task(trained, made_runs.splits(kind=TASKS[name].get("kind", "classes")).test)
