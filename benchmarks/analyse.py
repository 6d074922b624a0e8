"""How long `colgraph analyze` takes on a sphere of 10,242 columns with 1,000 probe images, and how much memory.

    python benchmarks/analyse.py                  # trains the run first: one epoch, which is not timed
    python benchmarks/analyse.py --run runs/mine  # another run

Wall-clock time depends on what else the machine does; CPU time hardly does. Both are written, and the machine's load.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from _common import fresh_process, machine, peak_memory, print_machine, seconds, write_json

SPHERE = {
    "data": "digits",
    "image_size": 8,
    "channels": 1,
    "geometry": "sphere",
    "options": {"subdivisions": 5},
    "neighbors": "knn:16",
    "patch_size": 1,
    "dim": 16,
    "steps": 8,
    "qk_dim": 4,
    "mlp_dim": 8,
    "epochs": 1,
    "batch_size": 128,
    "warmup": 0.0,
    "recompute": "steps",
    "figure_every": 0,
    "tensorboard": False,
}


def train_sphere(path: Path) -> None:
    """A run whose sheet is as large as the question asks; what it has learned does not matter here."""
    from colgraph.data import load_images
    from colgraph.training import RunFlags, TrainConfig, make_model, make_sheet, open_run_folder, train

    config = TrainConfig(**SPHERE)
    images = load_images("digits", image_size=8, channels=1)
    folder = open_run_folder(config, RunFlags(path))
    torch.manual_seed(0)
    train(make_model(config, make_sheet(config), len(images.classes)), images, config, folder)


def measure(run: str) -> dict[str, Any]:
    """In a process of its own: the time and memory of one analysis."""
    from colgraph.report import Settings, analyse

    found: dict[str, Any] = {}
    wall = seconds(lambda: found.update(analyse(run, Settings(probes=1000, progress=False))))
    used = os.times()
    return {
        "wall_seconds": round(wall, 1),
        "cpu_seconds": round(used.user + used.system, 1),
        "peak_gb": round(peak_memory() / 1e9, 2),
        "columns": found["columns"],
        "probes": found["probes"],
        "analyses": {entry["key"]: entry["seconds"] for entry in found["analyses"]},
    }


def main() -> None:
    """Train if needed, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", help="a run folder (default: a new run on a sphere)")
    parser.add_argument("--measure", metavar="RUN", help=argparse.SUPPRESS)
    known = parser.parse_args()
    if known.measure:
        print(json.dumps(measure(known.measure)))
        return
    about = machine("scikit-network")
    print_machine(about)
    with tempfile.TemporaryDirectory() as folder:
        run = known.run or str(Path(folder) / "sphere")
        if not known.run:
            train_sphere(Path(run))
        found = fresh_process(sys.argv[0], "--measure", run)
    for name, value in found["analyses"].items():
        print(f"{value:8.1f} s  {name}")
    print(f"{found['wall_seconds']} s, {found['cpu_seconds']} s of CPU time, {found['peak_gb']} GB at most")
    write_json("analyse", {"machine": about, **found})


if __name__ == "__main__":
    main()
