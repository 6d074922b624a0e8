"""What analyses look at: one network's responses to all probes, collected once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from colgraph.analysis import (
    Pairs,
    Probes,
    Result,
    among,
    category_set,
    gratings,
    noise,
    responses,
    sample_pairs,
    varying,
)
from colgraph.report.loading import PlainImages, Run
from colgraph.sheet import Sheet

__all__ = ["Context", "Settings", "evenly", "make_probes"]

R = TypeVar("R", bound=Result)


@dataclass(frozen=True)
class Settings:
    """How much is shown to a network.

    Attributes:
        probes: number of probe images in all: a third gratings, a quarter natural images, the rest noise.
        permutations: shuffles of each null, at most: where each takes long, fewer are made.
        nulls: random graphs of each graph null.
        seed: of everything drawn.
        robustness: None for what the size of the sheet allows, or whether to run corruptions, attacks and lesions.
        batch_size: images at a time.
        progress: show progress bars.
    """

    probes: int = 1000
    permutations: int = 200
    nulls: int = 3
    seed: int = 0
    robustness: bool | None = None
    batch_size: int = 32
    progress: bool = True


@dataclass(frozen=True, eq=False)
class ProbeSet:
    """The stimuli of one analysis, the same for a run and its controls."""

    gratings: Probes
    natural: Probes
    noise: Probes


def make_probes(run: Run, settings: Settings) -> ProbeSet:
    """Gratings, natural images of every class, and noise, of the size that the run's network takes.

    Of every class come equally many images, or all where it has fewer.
    """
    size, channels = run.config.image_size, run.config.channels
    frequencies = int(np.clip(settings.probes // 3 // 40, 1, 8))
    per_class = max(settings.probes // 4 // len(np.unique(run.labels)), 2)
    natural = category_set(run.images, run.labels, per_class=per_class, fewer=True, seed=settings.seed)
    bars = gratings(size, frequencies=frequencies, channels=channels)
    rest = max(settings.probes - len(bars) - len(natural), 32)
    return ProbeSet(bars, natural, noise(size, rest, channels=channels, contrast=0.25, seed=settings.seed))


def evenly(images: torch.Tensor, most: int) -> torch.Tensor:
    """At most so many of the images, spread over all of them, because they come class by class."""
    return images[np.unique(np.linspace(0, len(images) - 1, min(most, len(images))).round().astype(int))]


@dataclass(frozen=True, eq=False)
class Context:
    """A network on its sheet, with its responses.

    Attributes:
        name: what the report calls it.
        kind: "run", "untrained", "shuffled" (positions), or "trained" (a run of its own).
        net: the network.
        sheet: its sheet.
        positions: ``[columns, 3]``, shuffled in one of the controls.
        probes: the stimuli.
        settings: how much is computed.
        run: the run that is analysed.
        attention_before: ``[E]`` the untrained network's attention, for comparison.
        seed: of the run that a trained control comes from.
    """

    name: str
    kind: str
    net: PlainImages
    sheet: Sheet
    positions: NDArray[np.float64]
    probes: ProbeSet
    settings: Settings
    run: Run
    attention_before: NDArray[np.float64] | None = None
    shared: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None

    def shuffled(self) -> Context:
        """The same responses with the columns' positions shuffled; the responses are not collected again."""
        order = np.random.default_rng(self.settings.seed).permutation(len(self.positions))
        other = replace(self, name="shuffled positions", kind="shuffled", positions=self.positions[order])
        for name in ("natural_states", "natural", "grating", "attention"):
            other.__dict__[name] = getattr(self, name)
        return other

    def call(self, function: Callable[..., R], *given: Any, **named: Any) -> R:
        """Call an analysis, with what its signature has and the caller does not give taken from here.

        That is the seed, the number of permutations, positions and number of the columns, and how images are run.
        """
        signature = inspect.signature(function)
        taken = signature.bind_partial(*given, **named).arguments
        offered = {
            "seed": self.settings.seed,
            "permutations": self.settings.permutations,
            "positions": self.places(),
            "columns": len(self.positions),
            "batch_size": self.settings.batch_size,
            "progress": self.settings.progress,
        }
        more = {name: value for name, value in offered.items() if name in signature.parameters and name not in taken}
        return function(*given, **named, **more)

    def places(self, columns: Any = slice(None)) -> NDArray[np.float64] | None:
        """Positions of some columns, for pictures and blocks; None where they all lie in one place."""
        points = self.positions[columns]
        return points if len(points) and np.ptp(points, axis=0).any() else None

    def shuffles(self, most: int) -> int:
        """The number of permutations, at most so many."""
        return min(self.settings.permutations, most)

    @property
    def edges(self) -> NDArray[np.int64]:
        """``[2,E]``."""
        return np.asarray(self.sheet.edge_index.numpy())

    @property
    def distance(self) -> NDArray[np.float64]:
        """``[E]`` length of each edge, between the (shuffled) positions."""
        if self.kind != "shuffled":
            return np.asarray(self.sheet.edge_distance.numpy().astype(np.float64))
        return np.asarray(np.linalg.norm(self.positions[self.edges[0]] - self.positions[self.edges[1]], axis=1))

    @cached_property
    def natural_states(self) -> NDArray[np.float32]:
        """``[stimuli, steps, columns]`` length of every column's state for natural images."""
        return self._collect(self.probes.natural, steps="all", signal="norm")

    @cached_property
    def natural(self) -> NDArray[np.float32]:
        """``[stimuli, columns]`` of the last step."""
        return np.ascontiguousarray(self.natural_states[:, -1])

    @cached_property
    def grating(self) -> NDArray[np.float32]:
        """``[stimuli, columns]`` length of every column's state for gratings, after the last step."""
        return self._collect(self.probes.gratings, signal="norm")

    @cached_property
    def noise(self) -> NDArray[np.float32]:
        """``[stimuli, columns]`` length of every column's state for noise, after the last step."""
        return self._collect(self.probes.noise, signal="norm")

    @cached_property
    def sample_states(self) -> NDArray[np.float32]:
        """``[stimuli, steps, some columns, channels]`` for natural images."""
        return self._collect(self.probes.natural, steps="all", columns=self.sample)

    @property
    def sample(self) -> NDArray[np.int64]:
        """``[at most 256]`` columns drawn at random, ascending."""
        return np.sort(np.random.default_rng(self.settings.seed).permutation(self.sheet.num_columns)[:256])

    def class_name(self, label: Any) -> str:
        """The name of a class of natural images."""
        return self.run.classes[int(label)]

    @cached_property
    def attention(self) -> NDArray[np.float64]:
        """``[E]`` attention of each edge, the mean over natural images, steps and heads."""
        return mean_attention(self.net, self.probes.natural.images)

    @cached_property
    def active(self) -> NDArray[np.bool_]:
        """``[columns]``: those whose response to natural images (where there are several) and to gratings varies."""
        grating = varying(self.grating)
        return grating & varying(self.natural) if len(self.natural) > 1 else grating

    @property
    def answering(self) -> NDArray[np.bool_]:
        """The active columns.

        Raises:
            ValueError: if there are none.
        """
        if not self.active.any():
            raise ValueError("no column answers the probes: each is the same for all of them")
        return self.active

    def among_active(self, groups: NDArray[np.int64]) -> NDArray[np.int64]:
        """Edges or faces ``[k, G]`` all of whose columns are active, by their numbers among the active ones.

        Raises:
            ValueError: if there are none.
        """
        inside = among(groups, self.answering)
        if not inside.shape[1]:
            raise ValueError("no two connected columns answer the probes")
        return inside

    @cached_property
    def pairs(self) -> Pairs:
        """Pairs of active columns, at distances of the sheet's metric where that can be had."""
        points = self.positions[self.answering]
        if self.sheet.metric == "geodesic" and self.sheet.face.numel():
            return _surface_pairs(self.sheet, self.positions, self.active, self.settings.seed)
        metric = "great_circle" if self.sheet.metric == "great_circle" else "euclidean"
        return sample_pairs(points, metric=metric, seed=self.settings.seed)

    def _collect(self, probes: Probes, **options: Any) -> Any:
        return responses(
            self.net, probes, batch_size=self.settings.batch_size, progress=self.settings.progress, **options
        )


@torch.no_grad()
def mean_attention(net: PlainImages, images: torch.Tensor, most: int = 32) -> NDArray[np.float64]:
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


def _surface_pairs(
    sheet: Sheet, positions: NDArray[np.float64], active: NDArray[np.bool_], seed: int, sources: int = 200
) -> Pairs:
    """Pairs from some columns to others, at distances along the mesh's edges.

    Paths along edges are some percent longer than true geodesics, everywhere alike, which moves no bin by much.
    """
    face = sheet.face.numpy()
    pos = sheet.pos.numpy().astype(np.float64)
    # Two triangles share most edges; each counts once.
    ends = np.unique(np.sort(np.concatenate([face[[0, 1]], face[[1, 2]], face[[2, 0]]], axis=1), axis=0), axis=1)
    length = np.linalg.norm(pos[ends[0]] - pos[ends[1]], axis=1)
    n = len(pos)
    graph = sparse.coo_array((length, (ends[0], ends[1])), shape=(n, n)).tocsr()
    rng = np.random.default_rng(seed)
    chosen = np.flatnonzero(active)
    first = np.sort(rng.permutation(chosen)[:sources])
    others = np.sort(rng.permutation(chosen)[:3500])
    place = np.full(n, -1)
    place[chosen] = np.arange(len(chosen))
    # A shuffled control keeps the surface and moves columns over it: column i stands where the original column was.
    where = np.arange(n)
    if not np.allclose(positions, pos):
        where = np.lexsort(pos.T)[np.argsort(np.lexsort(positions.T))]
    a, b, d, uniform = [], [], [], []
    for column in first:
        hops = sparse.csgraph.dijkstra(graph, directed=False, indices=where[column])
        near = np.argsort(hops[where[chosen]], kind="stable")[1:17]
        for targets, is_uniform in ((others, True), (chosen[near], False)):
            reach = hops[where[targets]]
            good = np.isfinite(reach) & (targets != column)
            a.append(np.full(int(good.sum()), column))
            b.append(targets[good])
            d.append(reach[good])
            uniform.append(np.full(int(good.sum()), is_uniform))
    pairs = (np.concatenate(a), np.concatenate(b), np.concatenate(d), np.concatenate(uniform))
    keep = rng.permutation(len(pairs[0]))[:150_000]
    return Pairs(place[pairs[0][keep]], place[pairs[1][keep]], pairs[2][keep], pairs[3][keep], sheet.spacing)
