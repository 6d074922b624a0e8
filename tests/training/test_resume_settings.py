"""Settings given with --resume: refused by name, or applied and recorded with the step from which they hold."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("sklearn")

from colgraph.data import load_images
from colgraph.data.sets import MemoryImages
from colgraph.data.sources import ImageSplits
from colgraph.experiments.jobs import plan
from colgraph.experiments.results import read_results, summarize
from colgraph.training import (
    RunFlags,
    RunFolder,
    TrainConfig,
    load_checkpoint,
    make_model,
    make_sheet,
    open_run_folder,
    parse_flags,
    train,
)
from colgraph.training.module import schedule_factor
from colgraph.training.resume import ON_RESUME, changed_settings, check_share, read_record
from colgraph.training.yaml_files import load_yaml

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
    "epochs": 1,
    "batch_size": 256,
    "lr": 5e-3,
    "warmup": 1,
    "wiring": 0.05,
    "tensorboard": False,
    "figure_every": 0,
    "options": {"widths": [2, 2]},
}


@pytest.fixture(scope="module")
def images() -> ImageSplits:
    return load_images("digits", image_size=8, channels=1)


def run(path: Path, images: ImageSplits, resume: bool = False, **changes: Any) -> dict[str, Any]:
    config = TrainConfig(**{**SMALL, **changes})
    net = make_model(config, make_sheet(config), len(images.classes))
    return train(net, images, config, RunFolder(path, resume=resume))


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, images: ImageSplits) -> Path:
    path = tmp_path_factory.mktemp("runs") / "begun"
    run(path, images)
    return path


@pytest.fixture
def copy(begun: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(begun, tmp_path / "copy"))


def resumed_flags(path: Path, *words: str) -> TrainConfig:
    return parse_flags(["--resume", "--out", str(path), *words])[0]


def test_every_setting_is_in_the_table() -> None:
    # The smaller number of steps is told with the larger one.
    assert set(ON_RESUME) == {item.name for item in dataclasses.fields(TrainConfig)} - {"least_steps"}
    assert set(ON_RESUME.values()) == {"refused", "applied", "schedule", "share", "images"}


def other_value(name: str) -> Any:
    """A value that is not the run's."""
    limits = next(item.metadata for item in dataclasses.fields(TrainConfig) if item.name == name)
    value = getattr(TrainConfig(**SMALL), name)
    if limits.get("choices") and name != "spatial_signal":
        alike = TrainConfig(precision="32").precision if name == "precision" else value
        return next(c for c in limits["choices"] if c not in (value, alike, "32", "fp32", "32-true"))
    if isinstance(value, bool):
        return not value
    strings = {"untied": "mlp", "neighbors": "knn:3", "geometry": "sphere", "options": {"widths": [4, 4]}}
    strings |= {
        "axis": "y",
        "metric": "geodesic",
        "mask": "m.label",
        "inputs": "0-3",
        "outputs": "all",
        "data": "x",
        "devices": "2",
        "task": "contrast",
        "model": "vit",
        "init": "runs/other",
        "fixation": "0.25,0.5",
        "rewire_budget": "edges:0.5",
        "spatial_signal": "hidden",  # "normed" is what no word of it means
    }
    if name in strings:
        return strings[name]
    fraction = {"crop": 0.5, "color": 0.3, "beta1": 0.8, "beta2": 0.9, "ema": 0.5, "label_smoothing": 0.3}
    return fraction.get(name, 4 if value in (None, 8) else value * 2 + 1)


REFUSED = sorted(name for name, kind in ON_RESUME.items() if kind == "refused")


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_change_is_refused_by_name(name: str) -> None:
    record = TrainConfig(**SMALL)
    given = dataclasses.replace(record)
    # Past the checks of combinations, which would refuse some of these for other reasons.
    object.__setattr__(given, name, other_value(name))
    flag = "--widths" if name == "options" else "--" + name.replace("_", "-")
    with pytest.raises(ValueError, match=rf"cannot take {flag} .* \(the run has ") as caught:
        changed_settings(record, given)
    assert "\n" not in str(caught.value)


def test_all_that_is_refused_is_named_with_both_values(begun: Path) -> None:
    with pytest.raises(ValueError) as caught:
        resumed_flags(begun, "--lr", "0.5", "--seed", "7")
    for part in ("--lr 0.5 (the run has 0.005)", "--seed 7 (the run has 0)", "--out"):
        assert part in str(caught.value)


def test_a_value_that_means_the_same_is_no_change(begun: Path, tmp_path: Path) -> None:
    file = tmp_path / "again.yaml"
    file.write_text("lr: 5.0e-3\nneighbors: knn:4\nwidths: [2, 2]\nprecision: fp32\n")
    record = read_record(begun / "config.yaml").config
    for words in (
        ("--lr", "5e-3", "--data", "digits", "--epochs", "1", "--seed", "0", "--precision", "32"),
        ("--config", str(file)),
        ("--config", str(begun / "config.yaml")),
        ("--geometry", "stack", "--widths", "2,2", "--direction", "both", "--untied", "norm,mlp,attention"),
    ):
        assert changed_settings(record, resumed_flags(begun, *words)) == {}


def test_a_path_is_the_same_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "knot.py").touch()
    (tmp_path / "maps" / "m.txt").touch()
    here = TrainConfig(**{**SMALL, "data": "maps", "geometry": "maps/knot.py:f", "mask": "maps/m.txt", "options": {}})
    there = dataclasses.replace(
        here, data=str(tmp_path / "maps"), geometry=f"{tmp_path}/maps/../maps/knot.py:f", mask=f"{tmp_path}/maps/m.txt"
    )
    assert changed_settings(here, there) == {}
    with pytest.raises(ValueError, match="--geometry"):
        changed_settings(here, dataclasses.replace(there, geometry="maps/knot.py:g"))


def test_a_longer_run_follows_the_longer_schedule_and_says_since_when(images: ImageSplits, copy: Path) -> None:
    longer = run(copy, images, resume=True, epochs=3, workers=0)
    assert longer["changes"] == [
        {"step": 5, "setting": "workers", "before": None, "after": 0},
        {"step": 5, "setting": "epochs", "before": 1, "after": 3},
    ]
    record = read_record(copy / "config.yaml")
    assert list(record.changes) == longer["changes"] == json.loads((copy / "summary.json").read_text())["changes"]
    assert (record.config.epochs, record.config.workers, record.config.lr) == (3, 0, 5e-3)
    rates = [float(row["learning_rate"]) for row in csv.DictReader((copy / "metrics.csv").open())]
    expected = [5e-3 * schedule_factor(step, 5, total) for step, total in [(s, 5) for s in range(5)]]
    expected += [5e-3 * schedule_factor(step, 5, 15) for step in range(5, 15)]
    assert rates == pytest.approx(expected)
    # And on from there: the history stays.
    again = run(copy, images, resume=True, epochs=3, workers=0, figure_every=7)
    assert [change["setting"] for change in again["changes"]] == ["workers", "epochs", "figure_every"]


def test_fewer_epochs_than_are_done_are_refused(images: ImageSplits, copy: Path) -> None:
    run(copy, images, resume=True, epochs=2)
    before = (copy / "config.yaml").read_text()
    with pytest.raises(ValueError, match=r"--epochs 1: the run has 10 steps behind it, 5 an epoch; give at least 2"):
        run(copy, images, resume=True, epochs=1)
    assert (copy / "config.yaml").read_text() == before


def test_library_use_is_held_to_the_same(images: ImageSplits, copy: Path) -> None:
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"cannot take --lr 0\.5 \(the run has 0\.005\)"):
        run(copy, images, resume=True, lr=0.5)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_an_edited_record_is_no_way_around(images: ImageSplits, copy: Path) -> None:
    """What ran is what the checkpoint says."""
    file = copy / "config.yaml"
    file.write_text(file.read_text().replace("lr: 0.005", "lr: 0.5"))
    config = resumed_flags(copy)
    net = make_model(config, make_sheet(config), len(images.classes))
    with pytest.raises(ValueError, match=r"--lr 0\.5 \(the run has 0\.005\)"):
        train(net, images, config, open_run_folder(config, RunFlags(copy, resume=True)))


@pytest.mark.parametrize(
    ("devices", "parts", "batch", "fits"),
    [(2, 1, 64, True), (2, 2, 128, True), (4, 2, 64, True), (2, 1, 128, False), (1, 1, 100, False), (3, 1, 64, False)],
)
def test_processes_may_change_at_an_equal_total_batch(devices: int, parts: int, batch: int, fits: bool) -> None:
    record = TrainConfig(**{**SMALL, "batch_size": 128})
    given = dataclasses.replace(record, devices=str(devices), sheet_parallel=parts, batch_size=batch)
    assert set(changed_settings(record, given)) <= {"devices", "sheet_parallel", "batch_size"}
    if fits:
        check_share(record, given, devices)
        return
    with pytest.raises(ValueError, match=r"takes 1 x 128 = 128 images.*give (--batch-size|as many processes)"):
        check_share(record, given, devices)


def test_other_images_are_refused(images: ImageSplits, copy: Path) -> None:
    few = MemoryImages(*images.train.batch(range(1000)))
    fewer_classes = dataclasses.replace(images, classes=images.classes[:9])
    renamed = dataclasses.replace(images, classes=list(reversed(images.classes)))
    mixed = MemoryImages(images.train.batch(range(len(images.train)))[0], images.train.labels.roll(1))
    darker = dataclasses.replace(images, mean=tuple(value / 2 for value in images.mean))
    for other, message in (
        (dataclasses.replace(images, train=few), "had 1437 training images, 'digits' has 1000"),
        (fewer_classes, "had 10 classes, 'digits' has 9"),
        (renamed, "names or the order of its classes"),
        (dataclasses.replace(images, train=mixed), "labels of its images"),
        (darker, "pixels of its training images"),
    ):
        config = TrainConfig(**SMALL)
        net = make_model(config, make_sheet(config), 10)
        with pytest.raises(ValueError, match=message):
            train(net, other, config, RunFolder(copy, resume=True))


def test_a_folder_of_an_older_version_goes_on(images: ImageSplits, copy: Path) -> None:
    path = copy / "checkpoints" / "last.ckpt"
    content = load_checkpoint(path)
    content["colgraph"] = {
        name: value
        for name, value in content["colgraph"].items()
        if name not in ("changes", "own", "images", "wiring_power")
    }
    torch.save(content, path)
    file = copy / "config.yaml"
    file.write_text(file.read_text().replace("figure_every: 0\n", ""))
    config = resumed_flags(copy, "--epochs", "2")
    assert config.figure_every == TrainConfig.figure_every
    summary = run(copy, images, resume=True, epochs=2)
    assert summary["changes"] == [{"step": 5, "setting": "epochs", "before": 1, "after": 2}]


def test_results_and_sweeps_see_what_changed(images: ImageSplits, copy: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    out.mkdir()
    copy.rename(out / "small-seed0")
    run(out / "small-seed0", images, resume=True, epochs=2)
    run(out / "small-seed1", images, seed=1, epochs=2)
    rows = read_results([out])
    assert [len(row["changes"] or ()) for row in rows] == [1, 0]
    assert [entry["config"] for entry in summarize(rows)] == ["small (epochs=1 until step 5, then 2)", "small"]
    file = tmp_path / "small.yaml"
    settings = load_yaml(out / "small-seed1" / "config.yaml")
    del settings["seed"]
    file.write_text(json.dumps(settings))
    script = tmp_path / "train.py"
    script.touch()
    assert len(plan([str(file)], [1], out, script=script)) == 1
    with pytest.raises(ValueError, match=r"holds a run with epochs=1 until step 5, then 2"):
        plan([str(file)], [0], out, script=script)


def test_no_single_command_claims_to_repeat_a_run_that_changed(images: ImageSplits, copy: Path) -> None:
    run(copy, images, resume=True, epochs=2)
    file = str(copy / "config.yaml")
    with pytest.raises(ValueError, match=r"epochs=1 until step 5, then 2, which one command cannot repeat: .*--epochs"):
        parse_flags(["--config", file])
    assert parse_flags(["--config", file, "--epochs", "2"])[0].epochs == 2
    assert resumed_flags(copy, "--config", file).epochs == 2
