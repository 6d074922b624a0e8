"""What a sheet loses when columns or edges are taken out, or when its activity is noisy.

These functions run any network step by step that has ``unroll(images, state=..., steps=1, start=t)``, returning an
object with ``state`` ``[columns, B, channels]`` and ``logits``, as :class:`colgraph.VisionColumnformer` does. Where it
has a ``history``, as with conduction delays, the next step is given that, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colgraph.analysis import plotting
from colgraph.analysis.accuracy_curves import AccuracyCurve, accuracy_curve, check_levels, noise_curve
from colgraph.analysis.arrays import (
    Array,
    as_edges,
    as_labels,
    as_mask,
    as_positions,
    as_vector,
    check_choice,
    check_count,
    region_names,
)
from colgraph.analysis.nets import bar, check_edges, device_of, restored
from colgraph.analysis.result import Result
from colgraph.analysis.scoring import PER_IMAGE, Run, Scoring
from colgraph.analysis.sheet_regions import region_columns


def step_by_step(
    net: Any,
    images: Tensor,
    change: Callable[[Tensor, int], Tensor],
    steps: int | None = None,
    **options: Any,
) -> Tensor:
    """Logits ``[B, classes]``, or what else a network answers, whose state is changed after every step.

    Args:
        net: see the module.
        images: ``[B, channels, height, width]``.
        change: the state ``[columns, B, channels]`` after a step, and the step's number, to the state to go on with.
        steps: number of steps; ``net.model.steps`` (or ``net.steps``) if not given.
        options: what else every step of ``net.unroll`` is given, such as which patches are hidden.
    """
    count = steps if steps is not None else getattr(getattr(net, "model", net), "steps", None)
    if count is None:
        raise ValueError("the network does not say how many steps it takes (net.steps): give steps=")
    out = net.unroll(images, steps=1, **options)
    state = change(out.state, 0)
    for t in range(1, check_count("steps", count)):
        # With conduction delays columns hear earlier states as well, as they have been changed.
        history = getattr(out, "history", None)
        before = {} if history is None else {"history": history}
        out = net.unroll(images, state=state, steps=1, start=t, **before, **options)
        state = change(out.state, t)
    logits: Tensor = net.classify(state)
    return logits


def _changing(change: Callable[[Tensor, int], Tensor]) -> Run:
    """How a network is run whose state is changed after every step."""
    return lambda net, images, **options: step_by_step(net, images, change, **options)


# ---------------------------------------------------------------------- taking columns and edges out


@contextmanager
def _cut(net: Any, edges: NDArray[np.bool_] | None) -> Any:
    """The network with minus infinity as the bias of some edges, which is put back afterwards."""
    if edges is None or not edges.any():
        yield
        return
    bias = _edge_bias(net, len(edges))
    with restored([bias]):
        with torch.no_grad():
            bias[torch.from_numpy(edges).to(bias.device)] = -torch.inf
        yield


def _edge_bias(net: Any, edges: int) -> Tensor:
    """The network's edge bias ``[E, H]``, a parameter or a buffer whose name ends in ``edge_bias``."""
    named = [*net.named_parameters(), *net.named_buffers()] if hasattr(net, "named_parameters") else []
    found = [value for name, value in named if name.split(".")[-1] == "edge_bias"]
    if len(found) != 1:
        raise ValueError(
            f"cutting edges needs a network with one edge_bias, this one has {len(found)}: "
            "build it with edge_bias='learned' or 'fixed'"
        )
    if found[0].size(0) != edges:
        raise ValueError(f"the network has {found[0].size(0)} edges, but {edges} were given")
    return found[0]


def predict_lesioned(
    net: Any,
    images: Any,
    labels: Any,
    edges: Any,
    *,
    columns: Any | None = None,
    cut: Any | None = None,
    batch_size: int = 128,
) -> NDArray[np.bool_]:
    """``[B]``: which images a network answers right with columns silenced and edges cut.

    A silenced column's state is zero after every step, and nobody listens to it: attention is shared among the others.
    It stays in the mean of the readout, as a constant.

    Args:
        net: see the module.
        images: ``[B, channels, height, width]`` between 0 and 1, or bytes.
        labels: ``[B]``.
        edges: ``[2,E]`` the sheet's edges, in its order.
        columns: ``[columns]`` True where a column is silenced.
        cut: ``[E]`` True where an edge is cut.
        batch_size: of the network.

    Raises:
        ValueError: for masks that do not fit, edges that are not the network's, or a network without edge bias.
    """
    counts = _lesioned(net, *PER_IMAGE.check(images, labels), as_edges(edges), columns, cut, batch_size, PER_IMAGE)
    return counts[:, 0] > 0


def _lesioned(
    net: Any,
    data: NDArray[Any],
    labels: NDArray[Any],
    links: NDArray[np.int64],
    columns: Any | None,
    cut: Any | None,
    batch_size: int,
    scoring: Scoring,
) -> Array:
    """``[B, k]`` counts of a network with columns silenced and edges cut."""
    check_edges(net, links)
    gone = np.zeros(links.shape[1], dtype=bool) if cut is None else as_mask(cut, "cut", links.shape[1]).copy()
    change: Callable[[Tensor, int], Tensor] = lambda state, _: state  # noqa: E731
    if columns is not None:
        silent = as_mask(columns, "columns")
        if len(silent) <= links.max():
            raise ValueError(f"columns must have one entry per column, got {len(silent)} for edges up to {links.max()}")
        gone |= silent[links[0]] & (links[0] != links[1])
        keep = torch.from_numpy(~silent).to(device_of(net))

        def change(state: Tensor, _: int) -> Tensor:
            return torch.where(keep[:, None, None], state, 0)

    with _cut(net, gone):
        return scoring.counts(net, data, data, labels, batch_size=batch_size, run=_changing(change))


def lesion_curve(
    net: Any,
    images: Any,
    labels: Any,
    edges: Any,
    *,
    what: str = "columns",
    score: Any | None = None,
    columns: int | None = None,
    spare: Any | None = None,
    fractions: Sequence[float] = (0, 0.05, 0.1, 0.2, 0.4),
    draws: int = 5,
    scoring: Scoring = PER_IMAGE,
    batch_size: int = 128,
    seed: int = 0,
    progress: bool = True,
) -> AccuracyCurve:
    """Accuracy against the share of columns or edges taken out.

    With a ``score`` (strength, selectivity, length, ...), those of the highest score go first, and the null is taking
    out as many at random (tail "less": losing these hurts more). Without, they go at random, the accuracy is the mean
    over draws, and there is no null. Interval: jackknife over images.

    Args:
        net: see the module.
        images: ``[B, channels, height, width]`` between 0 and 1, or bytes.
        labels: ``[B]``, or as the scoring takes them.
        edges: ``[2,E]`` the sheet's edges, in its order.
        what: "columns" or "edges".
        score: ``[columns]`` or ``[E]``.
        columns: their number; the highest that occurs in an edge, plus one, if not given.
        spare: ``[columns]`` or ``[E]`` True for what is never taken out. Spare the input columns: without them the
            network does not see the image, which shows nothing about the sheet.
        fractions: shares, from 0 to 1, of what may be taken out.
        draws: random lesions per share.
        scoring: what is counted of answers, and how labels are shaped; by default a class per image.
        batch_size: of the network.
        seed: of the random lesions.
        progress: show a progress bar.

    Raises:
        ValueError: for input that does not fit.
    """
    check_choice("what", what, ("columns", "edges"))
    links = as_edges(edges, columns)
    total = links.shape[1] if what == "edges" else int(links.max()) + 1 if columns is None else columns
    levels = check_levels(fractions, "fractions", 1.0)
    may = np.flatnonzero(_candidates(spare, total))
    order = None if score is None else may[np.argsort(-as_vector(score, "score", total)[may], kind="stable")]

    data, index = scoring.check(images, labels)

    def counts_without(chosen: NDArray[np.int64]) -> Array:
        mask = np.zeros(total, dtype=bool)
        mask[chosen] = True
        columns, cut = (None, mask) if what == "edges" else (mask, None)
        return _lesioned(net, data, index, links, columns, cut, batch_size, scoring)

    rng = np.random.default_rng(seed)
    orders = [rng.permutation(may) for _ in range(check_count("draws", draws))]
    counts = np.round(levels * len(may)).astype(np.int64)
    random = np.stack(
        [[counts_without(o[:n]) for o in orders] for n in bar(counts.tolist(), f"lesions of {what}", progress)]
    )
    by_score = random.mean(1) if order is None else np.stack([counts_without(order[:n]) for n in counts])
    return accuracy_curve(
        f"accuracy without {what}",
        levels,
        by_score,
        np.empty((0, len(levels))) if order is None else scoring.accuracy(random).T,
        level_name=f"share of {what} taken out",
        null_name="taken out at random",
        seed=seed,
        scoring=scoring,
    )


def _candidates(spare: Any | None, total: int) -> NDArray[np.bool_]:
    """``[total]``: what may be taken out."""
    if spare is None:
        return np.ones(total, dtype=bool)
    mask = as_mask(spare, "spare", total)
    if mask.all():
        raise ValueError("spare leaves nothing to take out")
    return ~mask


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class RegionLesions(Result):
    """What :func:`lesion_regions` returns; the value is the largest drop of accuracy.

    Attributes:
        regions: labels.
        accuracy: ``[regions]`` without each of them.
        accuracy_interval: ``[2, regions]``.
        accuracy_null: ``[draws, regions]`` without as many columns at random.
        intact: accuracy of the whole network.
        images: how many images were classified.
    """

    regions: tuple[Any, ...]
    accuracy: Array
    accuracy_interval: Array
    accuracy_null: Array
    intact: float
    images: int

    def plot(self, ax: plotting.Axes | None = None) -> plotting.Axes:
        """Draw the accuracy without each region, beside random lesions of the same size."""
        names = [str(region) for region in self.regions]
        ax = plotting.draw_bars(
            plotting.axes(ax), names, self.accuracy, self.accuracy_interval, "accuracy without it", self.name
        )
        places = np.repeat(np.arange(len(names))[None], len(self.accuracy_null), 0)
        ax.scatter(places, self.accuracy_null, color=plotting.GREY, s=12, zorder=3, label="as many at random")
        ax.axhline(self.intact, color=plotting.INK, linestyle=":", label="intact")
        ax.legend(frameon=False, fontsize=8)
        return ax


def lesion_regions(
    net: Any,
    images: Any,
    labels: Any,
    edges: Any,
    regions: Any,
    *,
    positions: Any | None = None,
    spare: Any | None = None,
    draws: int = 5,
    batch_size: int = 128,
    seed: int = 0,
    progress: bool = True,
) -> RegionLesions:
    """Accuracy with each region of the sheet silenced in turn.

    The value is the largest drop below the intact network. Null: as many columns drawn at random in place of those of
    each region (``draws`` times, the largest drop each time); with positions, as many around a column drawn at random,
    which lie together as those of areas do. Interval of the value: that of the region with the largest drop.

    Args:
        net: see the module.
        images: ``[B, channels, height, width]`` between 0 and 1, or bytes.
        labels: ``[B]``.
        edges: ``[2,E]`` the sheet's edges, in its order.
        regions: ``[columns]`` a label per column (its layer, say; below 0 of none), or names to columns, as
            :func:`colgraph.analysis.sheet_regions` gives them.
        positions: ``[columns, 3]``, for a null of columns that lie together.
        spare: ``[columns]`` True for what is never silenced, such as the columns that the image enters by.
        draws: random regions of the same sizes.
        batch_size: of the network.
        seed: of the random regions.
        progress: show a progress bar.

    Raises:
        ValueError: for input that does not fit.
    """
    masks, names = _region_masks(regions, edges, positions, spare)

    def without(silent: NDArray[np.bool_]) -> Array:
        right = predict_lesioned(net, images, labels, edges, columns=silent, batch_size=batch_size)
        return right.astype(np.float64)

    may = _candidates(spare, masks.shape[1])
    points = None if positions is None else as_positions(positions, len(may))
    rng = np.random.default_rng(seed)
    intact = float(without(np.zeros(len(may), dtype=bool)).mean())
    correct = np.stack([without(mask) for mask in bar(masks, "lesions of regions", progress)])
    counts = correct[..., None]
    sizes, order = masks.sum(1), np.arange(check_count("draws", draws))
    null = np.array([[without(_as_many(size, may, points, rng)).mean() for size in sizes] for _ in order])
    accuracy = PER_IMAGE.accuracy(counts)
    ends = PER_IMAGE.interval(accuracy, PER_IMAGE.left_out(counts, seed))
    worst = int(accuracy.argmin())
    return RegionLesions(
        name=f"drop without region {names[worst]}",
        value=float(intact - accuracy[worst]),
        null=intact - null.min(1),
        interval=intact - ends[::-1, worst],
        regions=tuple(names),
        accuracy=accuracy,
        accuracy_interval=ends,
        accuracy_null=null,
        intact=intact,
        images=correct.shape[1],
    )


def _region_masks(
    regions: Any, edges: Any, positions: Any | None, spare: Any | None
) -> tuple[NDArray[np.bool_], list[Any]]:
    """``[regions, columns]`` what each lesion silences, and names; regions of which all is spared are left out."""
    if isinstance(regions, Mapping):
        sized = [len(values) for values in (positions, spare) if values is not None]
        names, total = list(regions), max([int(as_edges(edges).max()) + 1, *map(_least, regions.values()), *sized])
        masks = np.zeros((len(names), total), dtype=bool)
        for mask, name in zip(masks, names, strict=True):
            mask[region_columns(regions[name], total, name)] = True
    else:
        label = as_labels(regions, len(regions), "regions")
        kinds = region_names(label)
        masks, names = np.stack([label == kind for kind in kinds]), kinds.tolist()
    as_edges(edges, masks.shape[1])
    masks = masks & _candidates(spare, masks.shape[1])
    some = np.flatnonzero(masks.any(1))
    return masks[some], [names[k] for k in some.tolist()]


def _least(columns: Any) -> int:
    """How many columns there are at least, where a region has these, as indices or as a mask."""
    index = np.asarray(columns)
    return len(index) if index.dtype == bool else int(index.max(initial=-1)) + 1


def _as_many(size: int, may: NDArray[np.bool_], points: Array | None, rng: np.random.Generator) -> NDArray[np.bool_]:
    """``[columns]`` a lesion of ``size`` columns: anywhere, or around one of them."""
    columns = np.flatnonzero(may)
    order = rng.permutation(columns)
    if points is not None:
        order = columns[np.argsort(np.linalg.norm(points[columns] - points[order[0]], axis=1), kind="stable")]
    mask = np.zeros(len(may), dtype=bool)
    mask[order[:size]] = True
    return mask


# ---------------------------------------------------------------------- noise


def activity_noise(
    net: Any,
    images: Any,
    labels: Any,
    *,
    levels: Sequence[float] = (0, 0.1, 0.2, 0.5, 1.0),
    draws: int = 3,
    scoring: Scoring = PER_IMAGE,
    batch_size: int = 128,
    seed: int = 0,
    progress: bool = True,
) -> AccuracyCurve:
    """Accuracy with noise on every column's state after every step.

    ``x + level * rms(x) * N(0, 1)``, the root mean square taken over channels of each column and image, so that a level
    is a share of a column's own activity. Null: none. Interval: jackknife over images, of the mean over draws.

    Args:
        net: see the module.
        images: ``[B, channels, height, width]`` between 0 and 1, or bytes.
        labels: ``[B]``, or as the scoring takes them.
        levels: of the noise.
        draws: how often each level is drawn.
        scoring: what is counted of answers, and how labels are shaped; by default a class per image.
        batch_size: of the network.
        seed: of the noise.
        progress: show a progress bar.

    Raises:
        ValueError: for input that does not fit.
    """

    def answer(data: NDArray[Any], index: NDArray[Any], level: float, draw: int) -> Array:
        generator = torch.Generator().manual_seed(seed + draw)

        def change(state: Tensor, _: int) -> Tensor:
            noise = torch.randn(state.shape, generator=generator).to(state)
            return state + level * state.square().mean(-1, keepdim=True).sqrt() * noise

        return scoring.counts(net, data, data, index, batch_size=batch_size, run=_changing(change))

    unit = "shares of a column's activity"
    return noise_curve("activity noise", unit, answer, images, labels, levels, draws, seed, progress, scoring)
