"""Train a columnformer that lies on a human cortex: both hemispheres of fsaverage5, 20,484 columns, geodesic edges.

    python examples/cortex.py                          # handwritten digits, on two cores and in 8 GB
    python examples/cortex.py --epochs 10 --seed 1     # every flag of imagenet100.py; defaults in configs/cortex.yaml
    torchrun --nproc-per-node 2 examples/cortex.py --sheet-parallel 2      # half of the cortex in each process

An image enters at the occipital pole and is read out at the frontal one, so that it has to cross the whole sheet,
from column to column. Beside what every run writes, figures/arrival.png shows it on its way, on the inflated surface.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

import colgraph as cg
from colgraph.data import load_images
from colgraph.models import VisionColumnformer
from colgraph.script import is_helper_process
from colgraph.training import make_model, make_sheet, open_run_folder, parse_flags, run_script, train
from colgraph.viz import save_figure
from colgraph.viz.style import SEQUENTIAL, new_figure

CONFIG = Path(__file__).parent / "configs" / "cortex.yaml"


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Settings, sheet, data, model, training, and a figure on the surface."""
    given = ["--config", str(CONFIG), *(arguments if arguments is not None else _command_line())]
    config, flags = parse_flags(given, description=__doc__)
    folder = open_run_folder(config, flags)

    sheet = make_sheet(config)
    print(sheet.describe())
    images = load_images(config.data, image_size=config.image_size, channels=config.channels)

    torch.manual_seed(config.seed)
    net = make_model(config, sheet, num_classes=len(images.classes))
    print(f"\n{sum(p.numel() for p in net.parameters()):,} parameters, writing to {folder.path}\n")
    summary = train(net, images, config, folder)

    if not is_helper_process():
        pixels = images.transform().evaluate(images.test.batch(range(16))[0])
        draw_arrival(net, pixels, folder.figures / "arrival.png")
        print(f"\ntest accuracy {summary['test_accuracy']:.1%}; peak memory {_peak_gbytes():.1f} GB")
        print(f"everything is in {folder.path}")
    return summary


@torch.no_grad()
def draw_arrival(net: VisionColumnformer, pixels: torch.Tensor, path: Path, frames: int = 4) -> None:
    """How much images differ in each column, at some steps: where their signal has come, on the inflated surface."""
    net.eval()
    states = net.unroll(pixels, record=("state",)).states
    if states is None:
        raise ValueError("the model recorded no states")
    spread = states.std(2).mean(-1).numpy()
    steps = np.unique(np.linspace(0, len(spread) - 1, frames).round().astype(int))
    surface = cg.geometry("cortex", hemisphere="both", surface="inflated")
    left = surface.layer == 0 if surface.layer is not None else np.ones(surface.num_columns, dtype=bool)
    normal = _normals(surface)
    # Each view: which columns, which way they have to face, and the two coordinates to draw them by.
    views = {
        "left hemisphere, outside": (left & (normal[:, 0] < 0), (1, 2), (-1, 1)),
        "both from above": (normal[:, 2] > 0, (0, 1), (1, 1)),
    }
    figure = new_figure(3.1 * len(steps), 6.0, "Where images make a difference")
    limits = {"vmin": 0.0, "vmax": float(np.quantile(spread[steps], 0.995))}
    grid = figure.subplots(len(views), len(steps), squeeze=False)
    for row, (view, (shown, axes, signs)) in enumerate(views.items()):
        across, up = (surface.positions[shown][:, axis] * sign for axis, sign in zip(axes, signs))
        for column, step in enumerate(steps):
            ax = grid[row][column]
            dots = ax.scatter(across, up, c=spread[step][shown], s=2.5, linewidths=0, cmap=SEQUENTIAL, **limits)
            ax.set_aspect("equal")
            ax.set_axis_off()
            ax.set_title(f"step {step + 1}" if row == 0 else "")
        grid[row][0].text(-0.04, 0.5, view, rotation=90, ha="right", va="center", transform=grid[row][0].transAxes)
    figure.colorbar(dots, ax=grid, shrink=0.6, label="spread over images (standard deviation)")
    save_figure(figure, path)


def _normals(surface: cg.Geometry) -> np.ndarray:
    """``[N,3]`` which way the surface faces at each column."""
    faces = surface.faces if surface.faces is not None else np.empty((0, 3), dtype=np.int64)
    a, b, c = (surface.positions[corner] for corner in faces.T)
    normal = np.zeros_like(surface.positions)
    for corner in faces.T:
        np.add.at(normal, corner, np.cross(b - a, c - a))
    return normal


def _command_line() -> list[str]:
    import sys

    return sys.argv[1:]


def _peak_gbytes() -> float:
    import resource
    import sys

    unit = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    run_script(main)
