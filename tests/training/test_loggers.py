"""--logger: TensorBoard, W&B and MLflow get metrics, settings and results, in the same run after --resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

pytest.importorskip("lightning")
pytest.importorskip("sklearn")
pytest.importorskip("tensorboard")

from colgraph import training as tr
from colgraph.data import ImageSplits, load_images
from colgraph.training import RunFolder, TrainConfig, parse_flags
from colgraph.training.loggers import lightning_loggers

SMALL: dict[str, Any] = {"image_size": 8, "channels": 1, "patch_size": 4, "neighbors": "knn:3", "steps": 2, "dim": 4}
SMALL |= {"qk_dim": 4, "mlp_dim": 4, "warmup": 0, "batch_size": 512, "figure_every": 0, "data": "digits"}


@pytest.fixture(scope="module")
def images() -> ImageSplits:
    return load_images("digits", image_size=8, channels=1)


def run(path: Path, images: ImageSplits, resume: bool = False, **changed: Any) -> dict[str, Any]:
    config = TrainConfig(**{**SMALL, "epochs": 1, **changed}, options={"widths": [2, 2]})
    net = tr.make_model(config, tr.make_sheet(config), len(images.classes))
    return tr.train(net, images, config, tr.open_run_folder(config, tr.RunFlags(path, resume)))


class Told(lightning_loggers.Logger):  # type: ignore[misc]
    """What stands in for a logger of a package that tests do not install, and the run of its service."""

    all: ClassVar[list[Told]] = []
    name = version = "told"
    save_dir = None

    def __init__(self, **options: Any) -> None:
        self.options, self.metrics, self.settings, self.ended = options, dict[str, float](), dict[str, Any](), None
        self.id = self.run_id = options.get("id") or options.get("run_id") or f"made{len(Told.all)}"
        self.summary, self.experiment = self.metrics, self
        Told.all.append(self)

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.metrics |= metrics

    def log_hyperparams(self, settings: dict[str, Any]) -> None:
        self.settings |= settings

    def log_dict(self, run_id: str, content: dict[str, Any], name: str) -> None:
        assert (run_id, name) == (self.run_id, "summary.json")
        self.metrics |= content

    def finalize(self, status: str) -> None:
        self.ended = status

    def finish(self, exit_code: int) -> None:
        self.ended = exit_code


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Told]:
    monkeypatch.setattr(Told, "all", [])
    monkeypatch.setattr("colgraph.training.loggers.optional", lambda *words: None)
    for name in ("WandbLogger", "MLFlowLogger"):
        monkeypatch.setattr(lightning_loggers, name, type(name, (Told,), {}))
    for name in ("WANDB_PROJECT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    return Told.all


def test_metrics_settings_and_results_in_one_run_of_each_service(
    tmp_path: Path, images: ImageSplits, told: list[Told]
) -> None:
    path = tmp_path / "a run"
    summary = run(path, images, logger="wandb, mlflow,tensorboard")
    assert [type(each).__name__ for each in told] == ["WandbLogger", "MLFlowLogger"]
    for each in told:
        assert each.metrics["test_accuracy"] == summary["test_accuracy"]
        assert {"train_loss", "val_accuracy", "wiring_cost", "learning_rate"} <= set(each.metrics)
        assert each.settings["dim"] == 4
        assert each.settings["widths"] == [2, 2]
    assert [each.ended for each in told] == [0, "success"]
    assert told[0].options == {"name": "a run", "save_dir": path, "project": "colgraph", "id": None}
    assert told[1].options["tracking_uri"] == (path / "mlflow").as_uri()
    ids = {"wandb": told[0].id, "mlflow": told[1].id}
    assert json.loads(RunFolder(path).loggers.read_text()) == ids
    assert yaml.safe_load((path / "config.yaml").read_text())["logger"] == "wandb,mlflow,tensorboard"
    assert list((path / "tensorboard").glob("events.out*"))
    run(path, images, resume=True, logger="wandb,mlflow", epochs=2)
    assert [(each.options.get("id") or each.options["run_id"]) for each in told[2:]] == list(ids.values())
    assert [each.settings.get("epochs") for each in told[2:]] == [2, None]  # settings of MLflow stay as they began
    assert told[3].metrics["epoch"] == 2
    RunFolder(path).loggers.write_text("[")
    with pytest.warns(UserWarning, match=r"loggers\.json.*new runs"):
        run(path, images, resume=True, logger="wandb", epochs=3)
    assert told[4].options["id"] is None


def test_a_service_that_is_down_stops_no_training_and_one_that_cannot_begin_does(
    tmp_path: Path, images: ImageSplits, told: list[Told], capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr(Told, "log_metrics", lambda self, metrics, step: 1 / 0)
    run(tmp_path / "down", images, logger="mlflow")
    said = capsys.readouterr().err
    for name in ("MLFlowLogger", "mlflow"):  # of the epoch, and of the results
        assert f"note: {name} does not take what the run logs, which goes on: division by zero" in said
    monkeypatch.setattr(Told, "log_hyperparams", lambda self, settings: self.nothing())
    with pytest.raises(ValueError, match=r"--logger wandb cannot begin: .*nothing.*WANDB_MODE=offline"):
        run(tmp_path / "no", images, logger="wandb")


def test_a_run_that_fails_ends_so_everywhere(tmp_path: Path, images: ImageSplits, told: list[Told]) -> None:
    with pytest.raises(RuntimeError, match="the loss is nan"):
        run(tmp_path / "r", images, logger="wandb,mlflow", lr=1e9, clip=0.0, epochs=30)
    assert [each.ended for each in told] == [1, "failed"]


@pytest.mark.parametrize(
    ("words", "loggers"),
    [
        ("", ("tensorboard",)),
        ("--no-tensorboard", ()),
        ("--logger none", ()),
        ("--logger wandb", ("wandb",)),
        ("--logger wandb --no-tensorboard", ("wandb",)),
        ("--logger MLflow,TensorBoard --tensorboard", ("mlflow", "tensorboard")),
    ],
)
def test_flags(words: str, loggers: tuple[str, ...]) -> None:
    config, _ = parse_flags(["--data", "digits", *words.split()])
    assert config.loggers == loggers
    assert TrainConfig.from_flat(config.flat()).loggers == loggers


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--logger wanbd", "--logger: must be some of tensorboard, wandb, mlflow, or none, got 'wanbd'; did you mean"),
        ("--logger wandb,none", "got 'wandb,none'"),
        ("--logger wandb,wandb", "names one twice"),
        ("--logger=,", "must be some of"),
        ("--logger tensorboard,wandb --no-tensorboard", "names tensorboard, which is switched off"),
        ("--logger none --tensorboard", "--tensorboard contradicts --logger none: give --logger tensorboard"),
        ("--logger wandb --tensorboard", "give --logger tensorboard,wandb"),
    ],
)
def test_flags_that_cannot_be_meant(words: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_flags(["--data", "digits", *words.split()])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_one_line_before_anything_is_written(
    name: str, tmp_path: Path, images: ImageSplits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(ImportError, match=rf"--logger {name} needs {name}.* pip install .*\[loggers\]"):
        run(tmp_path / "r", images, logger=name)
    assert not RunFolder(tmp_path / "r").is_run


def test_wandb_itself_offline(tmp_path: Path, images: ImageSplits, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run(tmp_path / "r", images, logger="wandb")
    assert wandb.run is None
    run_id = json.loads(RunFolder(tmp_path / "r").loggers.read_text())["wandb"]
    run(tmp_path / "r", images, resume=True, logger="wandb", epochs=2)
    kept = [path.name.rpartition("-")[2] for path in RunFolder(tmp_path / "r").wandb.glob("offline-run-*")]
    assert set(kept) == {run_id}


def test_mlflow_itself_in_a_local_folder(tmp_path: Path, images: ImageSplits) -> None:
    mlflow = pytest.importorskip("mlflow")
    path = tmp_path / "r"
    run(path, images, logger="mlflow")
    summary = run(path, images, resume=True, logger="mlflow", epochs=2)
    run_id = json.loads(RunFolder(path).loggers.read_text())["mlflow"]
    client = mlflow.tracking.MlflowClient((path / "mlflow").as_uri())
    (found,) = client.search_runs([client.get_experiment_by_name("colgraph").experiment_id])
    assert (found.info.run_id, found.info.run_name, found.info.status) == (run_id, "r", "FINISHED")
    assert found.data.metrics["test_accuracy"] == pytest.approx(summary["test_accuracy"])
    assert (found.data.params["dim"], found.data.params["epochs"]) == ("4", "1")
    assert [metric.value for metric in client.get_metric_history(run_id, "epoch")] == [1, 2]
