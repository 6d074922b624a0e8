"""Evaluation: numbers that can be counted by hand, a run's own accuracy, other data, and refusals."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

pytest.importorskip("lightning")
pytest.importorskip("sklearn")
pytest.importorskip("torchmetrics")

import colgraph as cg
from colgraph.cli import run
from colgraph.data import BatchTransform, MemoryImages, load_images
from colgraph.experiments.evaluate import evaluate_images, evaluate_run
from colgraph.report import load_run
from colgraph.training import (
    RunFlags,
    RunFolder,
    TrainConfig,
    images_of,
    make_model,
    make_sheet,
    open_run_folder,
    train,
)
from colgraph.viz import draw_confusion


class Table(nn.Module):
    """Answers with the logits that the first pixel names."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits[(images[:, 0, 0, 0] * 255).round().long()]


def test_measures_are_what_one_counts_by_hand() -> None:
    # Six classes; confidences 0.9 (right, right, wrong) and 0.6 (right): errors |2/3 - 0.9| * 3/4 + |1 - 0.6| * 1/4.
    def answer(k: int, p: float) -> list[float]:
        return [p if i == k else (1 - p) / 5 for i in range(6)]

    logits = torch.tensor([answer(0, 0.9), answer(1, 0.9), answer(2, 0.9), answer(3, 0.6)]).log()
    images = MemoryImages(torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1), torch.tensor([0, 1, 5, 3]))
    found, confusion, answers = evaluate_images(Table(logits), images, BatchTransform((0.0,), (1.0,)), 6, batch_size=3)
    assert found["accuracy"] == 0.75
    assert found["top5_accuracy"] in (0.75, 1.0)  # the label is one of five that are equally unlikely
    assert found["calibration_error"] == pytest.approx(0.75 * (0.9 - 2 / 3) + 0.25 * 0.4, abs=1e-5)
    assert found["loss"] == pytest.approx(-(2 * np.log(0.9) + np.log(0.02) + np.log(0.6)) / 4, abs=1e-5)
    assert found["accuracy_per_step"] is None
    assert found["images_per_second"] > 0
    expected = np.zeros((6, 6))
    expected[[0, 1, 5, 3], [0, 1, 2, 3]] = 1
    assert np.array_equal(confusion, expected)
    assert answers.tolist() == [0, 1, 2, 3]


SMALL: dict[str, Any] = {
    "image_size": 8,
    "channels": 1,
    "augment": "none",
    "neighbors": "knn:4",
    "options": {"widths": [2, 2]},
    "epochs": 2,
    "dim": 8,
    "steps": 3,
    "qk_dim": 4,
    "mlp_dim": 8,
    "batch_size": 128,
    "lr": 1e-2,
    "warmup": 0,
    "tensorboard": False,
    "figure_every": 0,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    path = tmp_path_factory.mktemp("evaluate") / "run"
    config = TrainConfig(**SMALL, data="digits", keep_checkpoints=1)
    torch.manual_seed(0)
    images = load_images("digits", image_size=8, channels=1)
    net = make_model(config, make_sheet(config), 10)
    return path, train(net, images, config, open_run_folder(config, RunFlags(path)))


def test_run_is_as_good_as_its_summary_says(
    trained: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, summary = trained
    run(["evaluate", str(path), "--batch-size", "100"])
    found = json.loads((path / "evaluation.json").read_text())
    assert found["accuracy"] == pytest.approx(summary["test_accuracy"])
    assert found["loss"] == pytest.approx(summary["test_loss"], rel=1e-4)
    assert len(found["accuracy_per_step"]) == 3
    assert found["accuracy_per_step"][-1] == pytest.approx(found["accuracy"])
    confusion = np.array(found["confusion"])
    assert confusion.sum() == found["images"] == 360
    assert np.trace(confusion) == round(found["accuracy"] * 360)
    assert (path / "confusion.png").read_bytes()[:4] == b"\x89PNG"
    said = capsys.readouterr().out
    for words in ("360 test images of digits", "calibration error", "accuracy per step", "images per second"):
        assert words in said


def test_a_run_without_predictions_gets_those_that_it_would_have_written(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, summary = RunFolder(shutil.copytree(trained[0], tmp_path / "run")), trained[1]
    own = folder.predicted()
    assert own is not None
    assert (own["prediction"] == own["label"]).mean() == summary["test_accuracy"]
    folder.predictions.unlink()
    for words in (
        ["--best"],
        ["--split", "train"],
        ["--data", str(folder_of_digits(tmp_path / "other", [*"0123456789"]))],
    ):
        run(["evaluate", str(folder.path), *words])
        assert not folder.predictions.exists()
    assert capsys.readouterr().err.count("note:") == 1  # of the fifth of other images that is held out
    run(["evaluate", str(folder.path)])
    again = folder.predicted()
    assert again is not None
    assert all(np.array_equal(own[name], again[name]) for name in own)
    before = folder.predictions.stat().st_mtime_ns
    run(["evaluate", str(folder.path)])
    assert folder.predictions.stat().st_mtime_ns == before
    assert "note:" not in capsys.readouterr().err
    folder.predictions.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"cannot read .*predictions\.npz"):
        folder.predicted()


def test_images_that_are_not_those_of_the_run_are_refused_unless_they_are_named(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(shutil.copytree(trained[0], tmp_path / "run"))
    folder.predictions.unlink()
    content = torch.load(folder.last, weights_only=True)
    content["colgraph"]["images"]["labels"] = "others"
    torch.save(content, folder.last)
    differs = "'digits' differs from the data of the run in the labels of its images: the run may have learned from"
    with pytest.raises(ValueError, match=f"{differs} images that are held out now, give --data digits to measure on"):
        run(["evaluate", str(folder.path)])
    run(["evaluate", str(folder.path), "--data", "digits"])
    assert not folder.predictions.exists()
    assert f"note: {differs}" in capsys.readouterr().err


def test_images_that_were_added_to_the_folder_of_a_run_let_none_that_was_learned_be_tested_on(tmp_path: Path) -> None:
    """Another fifth would be held out of them: on noise, a run was right about 77% where it is right about half."""
    pytest.importorskip("datasets")
    data, path = folder_of_digits(tmp_path / "data", ["0", "1"]), tmp_path / "run"
    config = TrainConfig(**SMALL, data=str(data))
    images = images_of(config)
    train(make_model(config, make_sheet(config), 2), images, config, open_run_folder(config, RunFlags(path)))
    run(["evaluate", str(path)])
    assert len(load_run(path).images) == len(images.test) == 4
    for name in "01":
        shutil.copy(next((data / name).iterdir()), data / name / "new.png")
    with pytest.raises(ValueError, match=r"the data of the run had 16 training images, .* has 17: the run may have"):
        run(["evaluate", str(path)])
    with pytest.raises(ValueError, match=r"has 17: the run may have learned from images that are held out now, put"):
        load_run(path)


def test_notes_on_other_data_are_said(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("datasets")
    other = folder_of_digits(tmp_path / "other", [str(i) for i in range(10)])
    run(["evaluate", str(trained[0]), "--data", str(other), "-o", str(tmp_path / "e.json")])
    assert "has no held-out split: 20 of 100 images are held out" in capsys.readouterr().err


def test_the_best_checkpoint_has_a_file_of_its_own_that_says_how_it_was_chosen(
    trained: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = trained
    run(["evaluate", str(path)])
    last = (path / "evaluation.json").read_bytes(), (path / "confusion.png").read_bytes()
    run(["evaluate", str(path), "--best"])
    run(["evaluate", str(path), "--split", "train"])
    assert ((path / "evaluation.json").read_bytes(), (path / "confusion.png").read_bytes()) == last
    found = {
        name: json.loads((path / f"evaluation{name}.json").read_text())["chosen"] for name in ("", "-best", "-train")
    }
    assert found[""] == found["-train"] == "the last step, whatever its accuracy"
    assert "on these very images, so that accuracy is biased upwards" in found["-best"]
    assert (path / "confusion-best.png").is_file()
    assert found["-best"] in capsys.readouterr().out


def test_a_checkpoint_kept_on_the_way_is_evaluated(trained: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path, _ = trained
    (kept,) = RunFolder(path).kept
    run(["evaluate", str(kept)])
    found = json.loads((path / f"evaluation-{kept.stem}.json").read_text())
    assert (found["step"], found["checkpoint"]) == (1, "step-0000001")
    assert found["chosen"] == "a step on the way, whatever its accuracy"
    assert (path / f"confusion-{kept.stem}.png").is_file()
    run(["evaluate", str(path / "checkpoints" / "best.ckpt")])
    assert json.loads((path / "evaluation-best.json").read_text())["checkpoint"] == "best"
    with pytest.raises(ValueError, match="--best chooses a checkpoint of a run folder"):
        run(["evaluate", str(kept), "--best"])
    with pytest.raises(ValueError, match=r"is no checkpoint in a run folder \(RUN/checkpoints/NAME.ckpt\)"):
        run(["evaluate", shutil.copy(kept, tmp_path)])
    with pytest.raises(ValueError, match=r"step-0000009.ckpt is missing\): it has step-0000001.ckpt"):
        evaluate_run(path, checkpoint="step-0000009")
    with pytest.raises(ValueError, match=r"step-0000009.ckpt is missing\): it has step-0000001.ckpt"):
        run(["evaluate", str(kept.with_name("step-0000009.ckpt"))])


def folder_of_digits(root: Path, classes: list[str]) -> Path:
    images = load_images("digits", image_size=8, channels=1).train
    for name in classes:
        (root / name).mkdir(parents=True)
        label = int(name) if name.isdigit() else 0
        for i in torch.nonzero(images.labels == label).flatten()[:10].tolist():
            Image.fromarray(images.batch([i])[0][0, 0].numpy()).save(root / name / f"{i}.png")
    return root


def test_other_images_of_the_same_classes_and_of_others(trained: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path, _ = trained
    same = folder_of_digits(tmp_path / "same", [str(i) for i in range(10)])
    words = ["evaluate", str(path), "--data", str(same), "--split", "train", "--best", "-o", str(tmp_path / "e.json")]
    run(words)
    found = json.loads((tmp_path / "e.json").read_text())
    assert (found["images"], found["split"], found["checkpoint"]) == (80, "train", "best")
    assert found["chosen"] == "the epoch with the highest accuracy on the run's validation images"
    assert (tmp_path / "confusion.png").is_file()
    # A run that was trained on the same folder with its classes the other way round.
    turned = load_images(same, image_size=8, channels=1)
    back = turned.with_classes(turned.classes[::-1])
    assert torch.equal(back.train.labels, 9 - turned.train.labels)
    assert [back.classes[i] for i in back.test.labels] == [turned.classes[i] for i in turned.test.labels]
    assert back.val is back.test
    for names in ([str(i) for i in range(9)], [*(str(i) for i in range(9)), "nine"]):
        other = folder_of_digits(tmp_path / f"other{len(names)}", names)
        with pytest.raises(ValueError, match="other classes"):
            run(["evaluate", str(path), "--data", str(other)])


def test_an_evaluation_is_not_written_over_that_of_other_data_of_one_name(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("datasets")
    path = shutil.copytree(trained[0], tmp_path / "run")
    blur, noise = (folder_of_digits(tmp_path / name / "1", [str(i) for i in range(10)]) for name in ("blur", "noise"))
    run(["evaluate", str(path), "--data", str(blur)])
    monkeypatch.chdir(tmp_path)
    run(["evaluate", str(path), "--data", "blur/1"])
    with pytest.raises(ValueError, match=r"-1.json' holds the evaluation of 'blur/1' \(test, last.ckpt\), this"):
        run(["evaluate", str(path), "--data", str(noise)])
    run(["evaluate", str(path), "--data", str(noise), "-o", "noise.json"])
    run(["evaluate", str(path), "--data", "blur/1", "-o", "noise.json"])
    run(["evaluate", str(path), "--split", "val"])
    (tmp_path / "val").symlink_to(blur)
    with pytest.raises(ValueError, match=r"evaluation-val.json' holds the evaluation of 'digits' \(val, last.ckpt\)"):
        run(["evaluate", str(path), "--data", "val"])


def test_classes_of_other_data_are_joined_by_name(trained: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    digits = load_images("digits", image_size=8, channels=1).test
    pictures, labels = digits.batch(range(60))
    cells = []
    for picture in pictures:
        with io.BytesIO() as out:
            Image.fromarray(picture[0].numpy()).save(out, "PNG")
            cells.append({"bytes": out.getvalue(), "path": None})
    found = []
    for names in ([str(i) for i in range(10)], [str(i) for i in reversed(range(10))]):
        features = {"image": datasets.Image(decode=False), "label": datasets.ClassLabel(names=names)}
        rows = {"image": cells, "label": [names.index(str(label)) for label in labels.tolist()]}
        for split in ("train", "test"):
            table = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
            table.to_parquet(str(tmp_path / f"{split}.parquet"))
        run(["evaluate", str(trained[0]), "--data", str(tmp_path), "-o", str(tmp_path / "e.json")])
        found.append(json.loads((tmp_path / "e.json").read_text()))
    assert found[0]["accuracy"] == found[1]["accuracy"] > 0.3
    assert found[0]["confusion"] == found[1]["confusion"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("nowhere", "is no run folder"),
        ("RUN --split tests", "--split must be one of"),
        ("RUN --batch-size 0", "--batch-size must be at least 1"),
        ("RUN --data nowhere/at/all", "no file or folder"),
        ("RUN -o nowhere/e.json", "there is no folder"),
    ],
)
def test_bad_words_are_refused(trained: tuple[Path, dict[str, Any]], words: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(["evaluate", *words.replace("RUN", str(trained[0])).split()])


def test_run_is_shared_with_what_it_was_trained_on(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("safetensors")
    path, summary = trained
    run(["share", str(path), str(tmp_path / "model")])
    assert capsys.readouterr().out.strip() == str(tmp_path / "model")
    net = cg.VisionColumnformer.from_pretrained(tmp_path / "model")
    assert net.about["scores"]["test_accuracy"] == summary["test_accuracy"]
    assert net.about["training"]["lr"] == 1e-2
    transform = BatchTransform(net.about["mean"], net.about["std"])
    found, _, _ = evaluate_images(net, load_images("digits", image_size=8, channels=1).test, transform, 10)
    assert found["accuracy"] == pytest.approx(summary["test_accuracy"])
    with pytest.raises(ValueError, match="already holds"):
        run(["share", str(path), str(tmp_path / "model")])


def test_confusions_are_shares_of_each_label() -> None:
    figure = draw_confusion(np.array([[3, 1], [0, 0]]), ["cat", "dog"], title="two")
    assert [text.get_text() for text in figure.axes[0].texts] == ["75", "25"]
    draw_confusion(np.eye(60), [str(i) for i in range(60)])
    with pytest.raises(ValueError, match=r"\[3, 3\]"):
        draw_confusion(np.eye(2), ["a", "b", "c"])
