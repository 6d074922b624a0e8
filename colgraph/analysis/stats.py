"""What all analyses share: permutations, the delete-a-group jackknife, blocks of columns that lie together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

from colgraph.analysis.arrays import Array, as_labels, check_count

GROUPS = 20
"""Groups of a jackknife: enough for a t interval, few enough to recompute everything in each."""


def as_groups(
    values: Any | None, count: int, *, among: NDArray[Any] | None = None, what: str = "columns"
) -> NDArray[np.int64] | None:
    """Labels within which :func:`permuted` stays, ``[count]``; what has a negative one stays where it is.

    With ``among``, a mask or indices, only of those, in their order.

    Raises:
        ValueError: for another shape, or where no two share a label: there is nothing to permute then.
    """
    if values is None:
        return None
    label = as_labels(values, count, "groups", "column" if what == "columns" else "stimulus")
    label = label if among is None else label[among]
    if label.dtype.kind not in "iu":
        raise ValueError(f"groups must be integers, got {label.dtype}")
    alone = label < 0
    label = np.unique(label, return_inverse=True)[1]
    label[alone] = label.max(initial=0) + 1 + np.arange(int(alone.sum()))
    if np.bincount(label).max() < 2:
        raise ValueError(f"no two of the {len(label)} {what} share a group: there is nothing to shuffle within groups")
    return label.astype(np.int64)


def permuted(count: int, n: int, seed: int, within: NDArray[np.integer] | None = None) -> Iterator[NDArray[np.int64]]:
    """``count`` random permutations of ``0..n-1``; with ``within [n]``, only among entries of equal label."""
    rng = np.random.default_rng(seed)
    places = None if within is None else np.argsort(within, kind="stable")
    for _ in range(check_count("permutations", count)):
        if within is None:
            yield rng.permutation(n)
            continue
        # Sorted by label and then by chance: the places of each label receive its members in random order.
        order = np.empty(n, dtype=np.int64)
        order[places] = np.argsort(within + rng.random(n))
        yield order


def permuted_groups(
    count: int, group: NDArray[np.int64], seed: int, within: NDArray[np.int64]
) -> Iterator[NDArray[np.int64]]:
    """``count`` random permutations ``[n]`` that move whole groups, each to the places of another of its size.

    Neighbors in a group stay neighbors, so what is alike within groups stays so. A group without another of its size
    and ``within`` label stays where it is.

    Args:
        count: of permutations.
        group: ``[n]`` labels from 0, of which every one occurs.
        seed: of the permutations.
        within: ``[n]`` labels, one for each group: groups are exchanged only where they have the same.
    """
    size = np.bincount(group)
    members = np.argsort(group, kind="stable")
    start = np.cumsum(size) - size
    rank = np.empty(len(group), dtype=np.int64)
    rank[members] = np.arange(len(group)) - np.repeat(start, size)
    alike = np.unique(np.stack([within[members[start]], size]), axis=1, return_inverse=True)[1].reshape(-1)
    for order in permuted(count, len(size), seed, alike):
        yield members[start[order[group]] + rank]


def batches(rows: Iterable[NDArray[Any]], size: int = 50) -> Iterator[NDArray[Any]]:
    """Rows stacked, ``size`` at a time."""
    iterator = iter(rows)
    while batch := list(islice(iterator, size)):
        yield np.stack(batch)


def p_value(value: float, null: Array, tail: str = "greater") -> float:
    """``(1 + #{null as extreme as value}) / (1 + #null)``, never zero; NaN where the value is.

    ``tail`` is "greater", "less" or "two-sided" (distance from the null's mean). Source: Phipson and Smyth (2010),
    "Permutation p-values should never be zero".
    """
    if np.isnan(value):
        return float("nan")
    if tail == "two-sided":
        centre = null.mean()
        extreme = np.abs(null - centre) >= abs(value - centre) * (1 - 1e-12)
    else:
        sign = 1 if tail == "greater" else -1
        # A permutation that leaves the value unchanged must count in spite of rounding.
        extreme = sign * null >= sign * value - 1e-12 * max(abs(value), 1e-300)
    return float((1 + extreme.sum()) / (1 + len(null)))


def random_groups(n: int, seed: int, count: int = GROUPS) -> NDArray[np.int64]:
    """``[n]`` labels of at most ``count`` groups of (almost) equal size."""
    labels = np.arange(n) % min(count, n)
    return np.random.default_rng(seed).permutation(labels)


def leaving_out(labels: NDArray[np.int64]) -> Iterator[NDArray[np.bool_]]:
    """For each group of ``labels [n]``, the mask of all entries but its own."""
    return (labels != group for group in range(int(labels.max()) + 1))


def jackknife_interval(
    value: float | Array, estimates: Array | Sequence[Any], level: float = 0.95, transform: str | None = None
) -> Array:
    """Interval from a delete-a-group jackknife.

    ``value +- t_{G-1} * sqrt((G - 1) / G * sum_g (estimate_g - mean)^2)``, where ``estimate_g`` leaves group g out.
    Unlike a bootstrap it never shows the same stimulus twice, which would put zeros into dissimilarity matrices and
    favor smoothness between doubled columns. Source: Wolter (2007), "Introduction to variance estimation", chapter 4.

    Args:
        value: a number or ``[...]``.
        estimates: ``[G, ...]``, the same with each group left out.
        level: coverage.
        transform: "fisher" works on ``atanh`` (correlations), "log" on the logarithm (positive numbers).

    Returns:
        ``[2, ...]``, lower and upper end; NaN where there are fewer than two groups.
    """
    forward, back = _TRANSFORMS[transform]
    centre, each = forward(np.asarray(value, dtype=np.float64)), forward(np.asarray(estimates, dtype=np.float64))
    groups = len(each)
    if groups < 2:
        return np.full((2, *np.shape(value)), np.nan)
    spread = np.sqrt((groups - 1) / groups * ((each - each.mean(0)) ** 2).sum(0))
    reach = stats.t.ppf(0.5 + level / 2, groups - 1) * spread
    return np.stack([back(centre - reach), back(centre + reach)])


_TRANSFORMS: dict[str | None, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    None: (lambda x: x, lambda x: x),
    "fisher": (lambda x: np.arctanh(np.clip(x, -1 + 1e-12, 1 - 1e-12)), np.tanh),
    "log": (lambda x: np.log(np.maximum(x, 1e-300)), np.exp),
}


def spatial_blocks(positions: Array, depth: int = 4) -> NDArray[np.int64]:
    """``[columns]`` labels of up to ``2**depth`` blocks: every block is cut at the median of its widest axis.

    Leaving out whole blocks respects that neighboring columns are not independent. Source: the block jackknife of
    Kuensch (1989), "The jackknife and the bootstrap for general stationary observations".
    """
    labels = np.zeros(len(positions), dtype=np.int64)
    for _ in range(min(depth, int(np.log2(max(len(positions) // 2, 1))))):
        parents = labels
        labels = 2 * parents
        for parent in range(int(parents.max()) + 1):
            members = np.flatnonzero(parents == parent)
            axis = int(np.argmax(np.ptp(positions[members], axis=0)))
            order = members[np.argsort(positions[members, axis], kind="stable")]
            labels[order[len(order) // 2 :]] += 1
    return labels


def column_blocks(columns: int, edges: NDArray[np.int64], positions: Array | None) -> NDArray[np.int64]:
    """Blocks of columns that lie together: in space, or along the graph where there are no positions."""
    if positions is not None:
        return spatial_blocks(positions)
    graph = sparse.coo_array((np.ones(edges.shape[1]), (edges[0], edges[1])), shape=(columns, columns)).tocsr()
    order = sparse.csgraph.reverse_cuthill_mckee(graph, symmetric_mode=False)
    labels = np.empty(columns, dtype=np.int64)
    count = min(16, max(columns // 2, 1))
    labels[order] = np.arange(columns) * count // columns
    return labels


def centred_gram(x: Array) -> Array:
    """``[stimuli, stimuli]`` products of the features ``[stimuli, features]``, less their means."""
    x = x - x.mean(0)
    return np.asarray(x @ x.T)


def recentred(gram: Array) -> Array:
    """A Gram matrix of some of the stimuli, centred on them."""
    mean = gram.mean(0)
    return np.asarray(gram - mean - mean[:, None] + mean.mean())


def correlate_rows(x: Array, y: Array) -> Array:
    """Pearson correlation of each row of ``x [R, n]`` with ``y [n]`` (or with the rows of ``y [R, n]``)."""
    x = x - x.mean(-1, keepdims=True)
    y = y - y.mean(-1, keepdims=True)
    scale = np.sqrt((x * x).sum(-1) * (y * y).sum(-1))
    return np.asarray((x * y).sum(-1) / np.where(scale > 0, scale, np.inf))
