"""Every command says in one line which package it lacks and how to install it, before it has done its work."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("torchmetrics")

from colgraph.data import load_images
from colgraph.training import RunFlags, TrainConfig, make_model, make_sheet, open_run_folder, train

ROOT = Path(__file__).parents[1]
MESH = ROOT / "geometries" / "torus_knot.obj"
ENCODE = "encode RUN --responses OUT/no.npy --stimuli OUT"
TRAIN = "train --data digits --epochs 1 --out OUT/trained"
ANALYSE = "analyze RUN --probes 60 --permutations 2 --only"

# Without a package, commands that need it.
NEED: dict[str, list[str]] = {
    "matplotlib": [
        *("view ring -o OUT/x.png", "results RUN --plot OUT/x.png", "evaluate RUN", f"{ANALYSE} moran"),
        *("report RUN -o OUT/x.html", ENCODE, "sweep CONFIG --out OUT/sweep"),
    ],
    "yaml": [f"{ANALYSE} moran", "report RUN -o OUT/x.html", ENCODE, "sweep CONFIG --out OUT/s", TRAIN],
    "sklearn": [f"{ANALYSE} moran", "evaluate RUN", TRAIN, "recordings.py RUN --out OUT/recordings"],
    "lightning": [TRAIN],
    "torchmetrics": ["evaluate RUN"],
    "PIL": ["recordings.py RUN --out OUT/recordings --stimuli 20 --targets 1", "view ring -o OUT/x.png"],
    "rsatoolbox": ["rsa RUN --rdms OUT/no.npy --stimuli OUT"],
    "huggingface_hub": ["share RUN OUT/shared"],
    "safetensors": ["share RUN OUT/shared"],
    "nibabel": ["describe cortex --mesh fsaverage3"],
    "nilearn": ["describe cortex --mesh fsaverage3"],
    "tensorboard": [TRAIN],
}
# Without it, analyses that are left out with the reason; and what does without it.
LEFT_OUT = {"foolbox": f"{ANALYSE} attack", "sknetwork": f"{ANALYSE} modularity"}
DO_WITHOUT = {
    "matplotlib": ["describe ring", "share RUN OUT/shared", "results RUN"],
    "yaml": ["describe ring", "results RUN"],
    "h5py": [f"{ANALYSE} moran"],
    "tqdm": [f"{ANALYSE} moran"],
    "lightning": ["list", "results RUN", "sweep CONFIG --out OUT/s --dry-run"],
    "trimesh": ["describe ring", f"describe {MESH}"],
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[Any, str]]:
    place = tmp_path_factory.mktemp("missing")
    config = TrainConfig(
        data="digits",
        image_size=8,
        channels=1,
        patch_size=4,
        neighbors="knn:3",
        options={"widths": [2, 2]},
        dim=4,
        qk_dim=4,
        mlp_dim=4,
        steps=2,
        epochs=1,
        warmup=0,
        figure_every=0,
        batch_size=512,
        tensorboard=False,
    )
    images = load_images("digits", image_size=8, channels=1)
    torch.manual_seed(0)
    net = make_model(config, make_sheet(config), len(images.classes))
    train(net, images, config, open_run_folder(config, RunFlags(place / "run")))
    words = {"RUN": str(place / "run"), "OUT": str(place), "CONFIG": "digits"}

    def filled(command: str) -> str:
        return re.sub("RUN|OUT|CONFIG", lambda match: words[match[0]], command)

    asked: dict[str, list[str]] = {}
    for table in (NEED, {package: [command] for package, command in LEFT_OUT.items()}, DO_WITHOUT):
        for package, commands in table.items():
            asked.setdefault(package, []).extend(commands)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(ROOT / "tests" / "missing_packages.py")],
        input=json.dumps({package: list(map(filled, commands)) for package, commands in asked.items()}),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    back = {(package, filled(command)): command for package, commands in asked.items() for command in commands}
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {(package, back[package, command]): (code, text) for package, command, code, text in lines}


@pytest.mark.parametrize(("package", "command"), [(p, c) for p, commands in NEED.items() for c in commands])
def test_what_is_missing_is_one_line_that_installs_it(package: str, command: str, found: Any) -> None:
    pytest.importorskip(package)
    code, text = found[package, command]
    assert code == 2, text
    last = text.splitlines()[-1]
    assert last.startswith("error: ")
    assert "which is not installed: pip install -e '.[" in last
    name = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}.get(package, package)
    assert f" {name}, which is not installed" in last
    assert sum(line.startswith("error") for line in text.splitlines()) == 1


@pytest.mark.parametrize("package", LEFT_OUT)
def test_an_analysis_without_its_package_is_left_out_with_the_line(package: str, found: Any) -> None:
    pytest.importorskip(package)
    code, text = found[package, LEFT_OUT[package]]
    assert code == 0, text
    assert "which is not installed: pip install -e '.[analysis]'" in text


@pytest.mark.parametrize(("package", "command"), [(p, c) for p, commands in DO_WITHOUT.items() for c in commands])
def test_what_does_not_need_a_package_does_without(package: str, command: str, found: Any) -> None:
    code, text = found[package, command]
    assert code == 0, text
