"""What colgraph 0.1.0 wrote is read back to the same outputs.

``0.1.0/`` was written by that version: a run of two epochs on digits, a shared model and a sheet on a torus, and what
they gave for the same images (``outputs.npz``).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import colgraph as cg

pytest.importorskip("lightning")

HERE = Path(__file__).parent / "0.1.0"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def outputs() -> dict[str, np.ndarray]:
    with np.load(HERE / "outputs.npz") as file:
        return dict(file)


def close(values: torch.Tensor, expected: np.ndarray) -> None:
    torch.testing.assert_close(values.detach(), torch.from_numpy(expected), rtol=1e-5, atol=1e-6)


def test_a_run(outputs):
    from colgraph.training import load_trained

    trained = load_trained(HERE / "run")
    images = torch.from_numpy(outputs["images"])
    unroll = trained.net.unroll(images, record=("state",))
    close(trained.net(images), outputs["run_logits"])
    close(unroll.states, outputs["run_states"])
    assert float(unroll.wiring_cost.detach()) == pytest.approx(float(outputs["run_wiring"]), rel=1e-5)
    assert trained.config.heads == 2
    assert trained.config.options["widths"] == [2, 2]


def test_a_shared_model(outputs):
    close(
        cg.VisionColumnformer.from_pretrained(HERE / "shared")(torch.from_numpy(outputs["images"])),
        outputs["shared_logits"],
    )


def test_a_sheet(outputs):
    sheet = cg.load_sheet(HERE / "torus.npz")
    assert sheet.fingerprint == str(outputs["torus_fingerprint"])
    assert sheet.geometry_fingerprint == str(outputs["torus_geometry_fingerprint"])
    assert np.array_equal(sheet.edge_index.numpy(), outputs["torus_edge_index"])


def test_a_run_goes_on(tmp_path):
    run = tmp_path / "run"
    shutil.copytree(HERE / "run", run)
    command = [
        sys.executable,
        str(ROOT / "examples" / "imagenet100.py"),
        "--resume",
        "--out",
        str(run),
        "--epochs",
        "3",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "15" in (run / "metrics.csv").read_text()
