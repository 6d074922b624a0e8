"""The training script as a user runs it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

for package in ("lightning", "sklearn", "matplotlib", "datasets"):
    pytest.importorskip(package)

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "imagenet100.py"
TINY = ("--dim", "8", "--steps", "2", "--qk-dim", "4", "--mlp-dim", "8", "--batch-size", "256", "--epochs", "1")


@pytest.fixture(scope="module")
def main() -> Callable[[list[str]], dict[str, Any]]:
    spec = importlib.util.spec_from_file_location("imagenet100", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[[list[str]], dict[str, Any]] = module.main
    return function


def script(*words: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *words]
    environment = {**os.environ, "HF_HOME": str(cwd / "hf"), **variables}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=200, cwd=cwd, env=environment)


def test_digits_from_the_command_line_and_again(
    tmp_path: Path, main: Callable[[list[str]], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = script("--data", "digits", *TINY, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "digits-stack-seed0"
    assert "test accuracy" in done.stdout
    assert "runs/digits-stack-seed0" in done.stdout
    assert "epoch 1/1" in done.stderr
    for noise in ("warning", "Tip", "GPU available", "Traceback"):
        assert noise.lower() not in (done.stdout + done.stderr).lower()
    before = (folder / "summary.json").read_text()
    assert json.loads(before)["data"] == "digits"
    assert yaml.safe_load((folder / "config.yaml").read_text())["dim"] == 8
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"digits-stack-seed0' exists: .*--resume.*--overwrite"):
        main(["--data", "digits", *TINY])
    assert (folder / "summary.json").read_text() == before


@pytest.mark.parametrize("source", ["macaque_visual_areas.graphml", "torus_knot.obj", "moebius.py:moebius"])
def test_any_geometry_trains(tmp_path: Path, main: Callable[[list[str]], dict[str, Any]], source: str) -> None:
    geometry = str(ROOT / "geometries" / source)
    summary = main(["--data", "digits", "--geometry", geometry, *TINY, "--no-tensorboard", "--out", str(tmp_path)])
    assert 0 <= summary["test_accuracy"] <= 1
    assert (tmp_path / "figures" / "sheet.png").is_file()
    assert (tmp_path / "figures" / "column.png").is_file()


def test_own_images_train(tmp_path: Path, main: Callable[[list[str]], dict[str, Any]]) -> None:
    from PIL import Image

    for c, name in enumerate(("dark", "light")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (20, 24), (100 * c + 5 * i, 9, 9)).save(tmp_path / "images" / name / f"{i}.png")
    words = ["--data", str(tmp_path / "images"), "--image-size", "16", "--widths", "2,2", "--neighbors", "knn:4"]
    lazily = ["--memory-gb", "0", "--workers", "1", "--out", str(tmp_path / "run")]
    assert main([*words, *TINY, *lazily])["classes"] == 2


def test_hub_that_cannot_be_reached_is_one_line_soon(tmp_path: Path) -> None:
    # A reserved name (RFC 2606) never resolves; the hub library reads the variable when it is imported. The wait
    # itself has a test of its own; here a busy machine may take long to import torch.
    begin = time.monotonic()
    done = script(cwd=tmp_path, HF_ENDPOINT="http://hub.invalid")
    assert time.monotonic() - begin < 90
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot reach")
    assert done.stderr.count("\n") == 1
    assert "--data digits" in done.stderr
    assert "--data <folder>" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_mistakes_in_data_are_not_below_a_report(
    tmp_path: Path, main: Callable[[list[str]], dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match="has no images"):
        main(
            ["--data", str(tmp_path), "--widths", "2,2", "--neighbors", "knn:4", "--out", str(tmp_path / "run"), *TINY]
        )
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--epoch 3", "did you mean --epochs?"),
        ("--data digits --geometry ring --columns 10", "16 patches"),
        ("--data digits --image-size 9", "not divisible"),
        ("--data nowhere/at/all", "no file or folder"),
        ("--data digits --resume --out nothing", "nothing to resume"),
    ],
)
def test_mistakes_are_found_before_anything_is_written(
    tmp_path: Path,
    main: Callable[[list[str]], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        main(words.split())
    assert not list(tmp_path.iterdir())
