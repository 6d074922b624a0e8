"""The training script as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

for package in ("lightning", "sklearn", "matplotlib", "datasets"):
    pytest.importorskip(package)

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "imagenet100.py"
TINY = "--dim 8 --steps 2 --qk-dim 4 --mlp-dim 8 --batch-size 256 --epochs 1 --no-tensorboard".split()


def script(*words: str, cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HOME": str(cwd / "hf")}
    command = [sys.executable, str(SCRIPT), *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=timeout, cwd=cwd, env=environment
    )


def test_digits_from_the_command_line_and_again(tmp_path: Path) -> None:
    done = script("--data", "digits", *TINY, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "digits-stack-seed0"
    assert "test accuracy" in done.stdout
    assert "runs/digits-stack-seed0" in done.stdout
    assert "epoch 1/1" in done.stderr
    for noise in ("Warning", "warning", "Tip", "GPU available", "Traceback"):
        assert noise not in done.stdout + done.stderr
    before = (folder / "summary.json").read_text()
    assert json.loads(before)["data"] == "digits"
    assert yaml.safe_load((folder / "config.yaml").read_text())["dim"] == 8
    again = script("--data", "digits", *TINY, cwd=tmp_path)
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1
    assert "--resume" in again.stderr
    assert "--overwrite" in again.stderr
    assert (folder / "summary.json").read_text() == before


@pytest.mark.parametrize("source", ["macaque_visual_areas.graphml", "torus_knot.obj", "moebius.py:moebius"])
def test_any_geometry_trains(tmp_path: Path, source: str) -> None:
    done = script(
        "--data", "digits", "--geometry", str(ROOT / "geometries" / source), *TINY, "--out", "run", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "figures" / "sheet.png").is_file()


def test_own_images_train(tmp_path: Path) -> None:
    from PIL import Image

    for c, name in enumerate(("dark", "light")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (20, 24), (100 * c + 5 * i, 9, 9)).save(tmp_path / "images" / name / f"{i}.png")
    words = ("--data", "images", "--image-size", "16", "--widths", "2,2", "--neighbors", "knn:4", "--workers", "0")
    done = script(*words, *TINY, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["classes"] == 2


def test_hub_that_cannot_be_reached_is_one_line_within_30_seconds(tmp_path: Path) -> None:
    # A reserved name (RFC 2606) never resolves; the hub library reads the variable at import.
    environment = {**os.environ, "HF_ENDPOINT": "http://hub.invalid", "HF_HOME": str(tmp_path / "hf")}
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
        env=environment,
    )
    assert time.monotonic() - begin < 30
    assert done.returncode == 2
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: cannot reach")
    assert "--data digits" in line
    assert "--data <folder>" in line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


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
def test_mistakes_leave_with_2_and_one_line(tmp_path: Path, words: str, message: str) -> None:
    done = script(*words.split(), cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("runs"))
