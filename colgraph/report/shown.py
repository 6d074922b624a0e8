"""What is shown to a network and its controls, how much of it, and what they listen to meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from colgraph.analysis import Probes, category_set, gratings, noise
from colgraph.analysis.signals import Signal
from colgraph.report.activity import as_signal
from colgraph.report.loading import Run


@dataclass(frozen=True)
class Settings:
    """How much is shown to a network.

    Attributes:
        probes: number of probe images in all: a third gratings, a quarter natural images, the rest noise.
        permutations: shuffles of each null, at most: where each takes long, fewer are made.
        nulls: random graphs of each graph null.
        seed: of everything drawn.
        signal: what of a column is measured, see :func:`colgraph.analysis.responses`. Maps of one number per column are
            of "evidence" where it is "normed".
        robustness: None for what the size of the sheet allows, or whether to run corruptions, attacks and lesions.
        batch_size: images at a time.
        progress: show progress bars.
    """

    probes: int = 1000
    permutations: int = 200
    nulls: int = 3
    seed: int = 0
    signal: Signal = "normed"
    robustness: bool | None = None
    batch_size: int = 32
    progress: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "signal", as_signal(self.signal))


@dataclass(frozen=True, eq=False)
class ProbeSet:
    """The stimuli of one analysis, the same for a run and its controls."""

    gratings: Probes
    natural: Probes
    noise: Probes


def make_probes(run: Run, settings: Settings) -> ProbeSet:
    """Gratings, natural images of every class, and noise, of the size that the run's network takes.

    Of every class come equally many images, or all where it has fewer. Where images have no class each, they are any.
    """
    size, channels = run.config.image_size, run.config.channels
    frequencies = int(np.clip(settings.probes // 3 // 40, 1, 8))
    classes = run.labels if run.has_classes else np.zeros(len(run.images), np.int64)
    per_class = max(settings.probes // 4 // len(np.unique(classes)), 2)
    natural = category_set(run.images, classes, per_class=per_class, fewer=True, seed=settings.seed)
    if not run.has_classes:
        natural = Probes(natural.images, {"index": natural.labels["index"]}, "natural images")
    bars = gratings(size, frequencies=frequencies, channels=channels)
    rest = max(settings.probes - len(bars) - len(natural), 32)
    return ProbeSet(bars, natural, noise(size, rest, channels=channels, contrast=0.25, seed=settings.seed))


def evenly(images: torch.Tensor, most: int) -> torch.Tensor:
    """At most so many of the images, spread over all of them, because they come class by class."""
    return images[np.unique(np.linspace(0, len(images) - 1, min(most, len(images))).round().astype(int))]


@torch.no_grad()
def mean_attention(net: Any, images: torch.Tensor, most: int = 32) -> NDArray[np.float64]:
    """``[E]``: the mean over at most ``most`` images from all over the set, all steps and heads."""
    edges, steps = net.sheet.edge_index.size(1), net.steps
    # Recording attention holds steps x edges x images numbers.
    batch = int(np.clip(2e7 // (edges * steps), 1, most))
    total, count = np.zeros(edges), 0
    for part in evenly(images, most).split(batch):
        attention = net.unroll(part, record=("attention",)).attention
        total += attention.double().mean((0, 3)).sum(1).numpy()
        count += len(part)
    return total / count
