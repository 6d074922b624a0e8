"""Train a columnformer that lies on a human cortex: both hemispheres of fsaverage5, 20,484 columns.

    python examples/cortex.py                          # handwritten digits, on two cores and in 8 GB
    python examples/cortex.py --epochs 10 --seed 1     # every flag of colgraph train; the preset is `cortex`
    torchrun --nproc-per-node 2 examples/cortex.py --sheet-parallel 2      # half of the cortex in each process
    python examples/cortex.py --config cortex_fsaverage3 --parcellation FILE --connectome FILE

An image enters around the occipital pole and is read out at the frontal one. A column listens to its nearest columns
along the surface, and to some far ones of its hemisphere: the cortex is nearly 40 neighborhoods long, and what passed
through so many columns is lost in what they do of themselves. With a parcellation, far ones are those that a measured
connectome joins (--connectome, docs/cortex.md), or there are none. Controls: --rewire-areas SEED, --parcellation alone.
Long wires cost (--wiring). Beside what every run writes, figures/arrival.png shows where images make a difference, step
by step, on the inflated surface, with the borders of areas.
"""

from __future__ import annotations

import os

# Threads that wait for each other must not spin where they share a few cores; read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

import colgraph as cg
from colgraph.analysis import sheet_regions
from colgraph.geometry.base import HUB
from colgraph.geometry.controls import build_control
from colgraph.geometry.neighbors import parse_neighborhood
from colgraph.models import VisionColumnformer
from colgraph.options import patch_grid
from colgraph.script import is_helper_process
from colgraph.training import TrainConfig, images_of, make_model, open_run_folder, parse_flags, run_script, train
from colgraph.training.presets import PRESETS
from colgraph.viz import save_figure
from colgraph.viz.borders import area_borders
from colgraph.viz.style import SEQUENTIAL, new_figure

TRACTS = 8
"""Far columns that each column listens to, where no connectome says which."""

REACH = 40.0
"""Their number falls with distance as exp(-d / REACH), in mm; tracers show such a law, with shorter wires, in macaques
(Ercsey-Ravasz et al., Neuron 80:184, 2013)."""

CONFIG = PRESETS / "cortex.yaml"


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Settings, sheet, data, model, training, and a figure on the surface."""
    config, flags = parse_flags(arguments, presets=CONFIG, description=__doc__)
    if config.geometry != "cortex":
        raise ValueError(f"this example is about geometry 'cortex', got {config.geometry!r}: use imagenet100.py")
    if config.baseline:
        raise ValueError(f"this example trains a sheet, got --model {config.model}: use imagenet100.py")
    for name in ("mask", "axis", "num_inputs"):
        if getattr(config, name) != getattr(TrainConfig, name):
            raise ValueError(f"--{name.replace('_', '-')} plays no part in this example, which makes its own sheet")
    folder = open_run_folder(config, flags)

    sheet = make_sheet(config)
    images = images_of(config)
    print(sheet.describe())

    net = make_model(config, sheet, num_classes=len(images.classes))
    print(f"\n{sum(p.numel() for p in net.parameters()):,} parameters, writing to {folder.path}\n")
    summary = train(net, images, config, folder)

    if not is_helper_process():
        pixels = images.transform().evaluate(images.test.batch(range(16))[0])
        mesh = {name: config.options[name] for name in ("hemisphere", "mesh") if name in config.options}
        surface = cg.geometry.geometry("cortex", **mesh, surface="inflated")
        spread = spread_over_images(net, pixels)
        draw_arrival(spread, surface, sheet, folder.figures / "arrival.png")
        if sheet.area is not None:
            draw_arrival_by_area(spread, sheet, folder.figures / "arrival_by_area.png")
        print(f"\ntest accuracy {summary['test_accuracy']:.1%}; peak memory {_peak_gbytes():.1f} GB")
        print(f"everything is in {folder.path}")
    return summary


def make_sheet(config: TrainConfig) -> cg.Sheet:
    """The surface with its neighborhoods and tracts, or its control; the columns nearest to the occipital pole see a
    patch each, or with --columns-per-patch several of them one.
    """
    if config.geometry != "cortex":
        raise ValueError(f"this example is about geometry 'cortex', got {config.geometry!r}: use imagenet100.py")
    if config.mask is not None:
        raise ValueError(f"this example keeps the whole surface, got --mask {config.mask}: use imagenet100.py")
    shape = cg.geometry.geometry("cortex", **config.options)
    rows, cols = patch_grid((config.image_size, config.image_size), config.patch_size or 1, config.patch_stride)
    needed = rows * cols * config.columns_per_patch
    local = None if config.neighbors is None else parse_neighborhood(config.neighbors)
    if shape.area is None:
        local = (local or cg.KNN(16)) | cg.Edges(*draw_tracts(shape))
    return build_control(
        shape,
        config.control,
        config.seed,
        neighbors=local,
        metric=config.metric,
        axis=config.axis,
        num_inputs=(config.num_inputs or needed) if config.inputs is None else None,
        num_outputs=config.num_outputs,
        inputs=config.inputs,
        outputs=config.outputs,
    )


def draw_tracts(shape: cg.Geometry, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Edges ``[2,E]`` from far columns of the same hemisphere, and their straight lengths in mm (white matter)."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.as_tensor(shape.positions, dtype=torch.float32)
    side = torch.zeros(len(place)) if shape.layer is None else torch.as_tensor(shape.layer)
    pieces = []
    for here in (torch.nonzero(side == value).flatten() for value in side.unique()):
        for targets in here.split(1024):
            distance = torch.cdist(place[targets], place[here])
            # The largest of log-probability + Gumbel noise are a draw without replacement.
            noise = -torch.rand(distance.shape, generator=generator).log().neg().log()
            score = (noise - distance / REACH).masked_fill(distance == 0, -torch.inf)
            sources = here[score.topk(TRACTS, dim=1).indices]
            pieces.append(torch.stack([sources.flatten(), targets.repeat_interleave(TRACTS)]))
    edges = torch.cat(pieces, 1)
    return edges, (place[edges[0]] - place[edges[1]]).norm(dim=1)


@torch.no_grad()
def spread_over_images(net: VisionColumnformer, pixels: torch.Tensor) -> np.ndarray:
    """``[steps, columns]`` how much images differ in each column: where their signal has come."""
    net.eval()
    states = net.unroll(pixels, record=("state",)).states
    if states is None:
        raise ValueError("the model recorded no states")
    return states.std(2).mean(-1).numpy()


def draw_arrival(spread: np.ndarray, surface: cg.Geometry, sheet: cg.Sheet, path: Path, frames: int = 4) -> None:
    """The spread over images at some steps, on the inflated surface, with the borders of areas."""
    from matplotlib.collections import LineCollection

    if surface.faces is None:
        raise ValueError("the surface has no faces to draw")
    spread = spread[:, : surface.num_columns]  # a hub is beside it
    steps = np.unique(np.linspace(0, len(spread) - 1, frames).round().astype(int))
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
        places = surface.positions[:, axes] * signs
        faces = surface.faces[shown[surface.faces].all(1)]
        for column, step in enumerate(steps):
            ax = grid[row][column]
            drawn = ax.tripcolor(*places.T, faces, spread[step], shading="gouraud", cmap=SEQUENTIAL, **limits)
            if sheet.area is not None:
                lines = area_borders(faces, sheet.area.numpy()[: surface.num_columns], places)
                ax.add_collection(LineCollection(list(lines), colors="white", linewidths=0.6))
            ax.set_aspect("equal")
            ax.set_axis_off()
            ax.set_title(f"step {step + 1}" if row == 0 else "")
        grid[row][0].text(-0.04, 0.5, view, rotation=90, ha="right", va="center", transform=grid[row][0].transAxes)
    figure.colorbar(drawn, ax=grid, shrink=0.6, label="spread over images (standard deviation)")
    save_figure(figure, path)


def draw_arrival_by_area(spread: np.ndarray, sheet: cg.Sheet, path: Path) -> None:
    """The mean spread over images in each area at each step, areas from occipital (below) to frontal."""
    regions = sheet_regions(sheet, "areas")
    order = sorted(regions, key=lambda name: float(sheet.pos[regions[name], 1].mean()))
    rows = np.stack([spread[:, regions[name]].mean(1) for name in order])
    figure = new_figure(6.0, 7.5, "When images make a difference in each area")
    ax = figure.add_subplot()
    image = ax.imshow(rows, aspect="auto", cmap=SEQUENTIAL, origin="lower", vmin=0)
    every = -(-len(order) // 40)
    hub = order.index(HUB) if HUB in order else -9
    named = [k for k in range(len(order)) if k == hub or (k % every == 0 and abs(k - hub) > 1)]
    ax.set_yticks(named, [order[k] for k in named], fontsize=7)
    ax.set_xticks(range(len(spread)), [str(step + 1) for step in range(len(spread))])
    ax.set(xlabel="step", ylabel="area, from occipital to frontal" + ("" if every == 1 else f" (one in {every} named)"))
    figure.colorbar(image, ax=ax, shrink=0.6, label="spread over images (standard deviation)")
    save_figure(figure, path)


def _normals(surface: cg.Geometry) -> np.ndarray:
    """``[N,3]`` which way the surface faces at each column."""
    faces = surface.faces if surface.faces is not None else np.empty((0, 3), dtype=np.int64)
    a, b, c = (surface.positions[corner] for corner in faces.T)
    normal = np.zeros_like(surface.positions)
    for corner in faces.T:
        np.add.at(normal, corner, np.cross(b - a, c - a))
    return normal


def _peak_gbytes() -> float:
    import resource

    unit = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    run_script(main)
