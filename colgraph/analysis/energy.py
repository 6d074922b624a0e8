"""What activity costs: the energy of firing and of transmission."""

from __future__ import annotations

from typing import Any

import numpy as np

from colgraph.analysis.arrays import Array, as_array, as_edge_values, as_edges, as_positions, as_responses
from colgraph.analysis.stats import jackknife_interval, leaving_out, permuted, random_groups
from colgraph.analysis.topography import MapResult

__all__ = ["energy"]


def energy(
    activity: Any,
    edges: Any,
    weights: Any,
    *,
    heard: Any | None = None,
    positions: Any | None = None,
    permutations: int = 200,
    seed: int = 0,
) -> MapResult:
    """Energy per column and stimulus, ``1/3 |activity_i| + 2/3 sum_j |w_ij| |input_j|``.

    A third is what a column spends on being active, two thirds on what arrives through its edges. Source: the energy
    measure of All-TNN (Lu et al. 2023), after the brain's budget of Attwell and Laughlin (2001). Absolute values are
    summed over channels. It has no unit: compare networks with equally scaled states, or shares within one network.
    The value is the mean over columns and stimuli.

    Null: each column's weights are shuffled over its edges (two-sided): what transmission would cost if a column
    listened regardless of how active others are. Interval: jackknife over stimuli.

    Args:
        activity: ``[stimuli, columns]`` or ``[stimuli, columns, channels]``.
        edges: ``[2,E]`` source and target.
        weights: ``[E]`` (attention, the mean over heads and stimuli), or ``[stimuli, E]``.
        heard: what columns hear of each other, of the same shape as activity, where it is not the activity itself (a
            columnformer hears normalised states).
        positions: ``[columns, D]``, for the picture.
        permutations: number of shuffles.
        seed: of the shuffles and groups.

    Raises:
        ValueError: for shapes that do not fit, or NaN.
    """
    own = _size(activity, "activity")
    other = own if heard is None else _size(heard, "heard")
    if other.shape != own.shape:
        raise ValueError(f"heard must be of activity's stimuli and columns {list(own.shape)}, got {list(other.shape)}")
    links = as_edges(edges, own.shape[1])
    points = None if positions is None else as_positions(positions, own.shape[1])
    raw = as_array(weights, "weights")
    per_stimulus = raw.ndim == 2
    if per_stimulus and len(raw) != len(own):
        raise ValueError(f"weights have {len(raw)} stimuli, but activity has {len(own)}")
    w = np.abs(np.stack([as_edge_values(row, links.shape[1], "weights", negative=True) for row in np.atleast_2d(raw)]))
    sent = np.stack([_transmission(other[s], w[s if per_stimulus else 0], links) for s in range(len(own))])
    total = own / 3 + 2 * sent / 3
    left_out = [total[kept].mean() for kept in leaving_out(random_groups(len(own), seed))]
    # The mean is linear in what arrives, so shuffles need the mean activity only.
    mean_weight, mean_heard = w.mean(0), other.mean(0)
    shift = sent.mean() - _transmission(mean_heard, mean_weight, links).mean()
    null = [
        own.mean() / 3 + 2 / 3 * (_transmission(mean_heard, mean_weight[order], links).mean() + shift)
        for order in permuted(permutations, links.shape[1], seed, links[1])
    ]
    return MapResult(
        name="energy",
        value=float(total.mean()),
        null=np.array(null),
        interval=jackknife_interval(total.mean(), left_out),
        tail="two-sided",
        map=total.mean(0),
        positions=points,
        map_label="energy",
    )


def _size(values: Any, what: str) -> Array:
    """``[stimuli, columns]``: absolute values summed over channels."""
    array = np.abs(as_responses(values, what, channels=True))
    return np.asarray(array if array.ndim == 2 else array.sum(-1), dtype=np.float64)


def _transmission(heard: Array, weight: Array, links: Any) -> Array:
    return np.asarray(np.bincount(links[1], weight * heard[links[0]], len(heard)))
