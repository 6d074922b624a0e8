"""What colgraph 0.1.0 wrote is read back to the same outputs.

``0.1.0/`` was written by that version: a run of two epochs on digits, a shared model and a sheet on a torus, and what
they gave for the same images (``outputs.npz``).
"""

from __future__ import annotations

import dataclasses
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


def test_its_average_goes_on_beside_its_weights(tmp_path, monkeypatch):
    from colgraph.training import RunFolder, images_of, load_checkpoint, make_model, make_sheet, train
    from colgraph.training.average import AverageWeights
    from colgraph.training.module import TaskModule

    folder = RunFolder(tmp_path / "run", resume=True)
    shutil.copytree(HERE / "run", folder.path)
    saved, seen = load_checkpoint(folder.last), []
    original, update = TaskModule.training_step, AverageWeights.on_train_batch_end

    def step(self, batch, batch_idx):
        seen.append(self.net.head.weight.detach().clone())
        return original(self, batch, batch_idx)

    monkeypatch.setattr(TaskModule, "training_step", step)
    monkeypatch.setattr(AverageWeights, "on_train_batch_end", lambda *args: None if len(seen) > 1 else update(*args))
    config = dataclasses.replace(folder.record().config, epochs=3)
    train(make_model(config, make_sheet(config), 10), images_of(config), config, folder)
    raw, average = saved["raw_parameters"]["net.head.weight"], saved["state_dict"]["net.head.weight"]
    assert torch.equal(seen[0], raw)
    assert not torch.equal(raw, average)
    # One step of the average, from where it was.
    once = load_checkpoint(folder.last)["state_dict"]["net.head.weight"]
    torch.testing.assert_close(once, config.ema * average + (1 - config.ema) * seen[1])
