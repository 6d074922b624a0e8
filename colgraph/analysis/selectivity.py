"""Category selectivity: which columns answer one category more than the rest, and the patches they form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

from colgraph.analysis.arrays import (
    Array,
    as_edges,
    as_labels,
    as_positions,
    as_vector,
    check_choice,
    check_varies,
    column_signal,
    same_order,
)
from colgraph.analysis.result import OnSheet
from colgraph.analysis.stats import (
    as_groups,
    batches,
    column_blocks,
    jackknife_interval,
    leaving_out,
    permuted,
    random_groups,
)

D_PRIMES = ("rms", "mean")


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class CategorySelectivity(OnSheet):
    """What :func:`category_selectivity` returns; the value is the mean of ``|d'|`` over columns.

    Attributes:
        d_prime: ``[columns]``.
        d_prime_interval: ``[2, columns]``.
        t: ``[columns]`` Welch's t.
        p_welch: ``[columns]`` two-sided, for one column alone.
        p_columns: ``[columns]`` two-sided, corrected for all columns: the chance that any column of shuffled
            categories has so large a ``|t|``.
        selective: ``[columns]`` where ``p_columns`` is at most 0.05 and the category's response is the larger one.
        category: the category.
    """

    d_prime: Array
    d_prime_interval: Array
    t: Array
    p_welch: Array
    p_columns: Array
    selective: NDArray[np.bool_]
    category: object

    def picture(self) -> dict[str, Any]:
        """The map of d'."""
        title = f"selectivity for {self.category}: {int(self.selective.sum())} selective columns"
        return {"values": self.d_prime, "label": "d'", "title": title, "centred": True}


def category_selectivity(
    responses: Any,
    labels: Any,
    category: Any,
    *,
    against: Any | None = None,
    d_prime: str = "rms",
    signal: str | int = "norm",
    positions: Any | None = None,
    permutations: int = 1000,
    seed: int = 0,
) -> CategorySelectivity:
    """How much more each column answers one category than the others.

    With means ``m`` and standard deviations ``s`` (over n, not n - 1) of the category and of the rest,
    ``d' = (m1 - m2) / S``: d_prime="rms" has ``S = sqrt((s1^2 + s2^2) / 2)``, as TDANN (Margalit et al. 2024);
    d_prime="mean" has ``S = (s1 + s2) / 2``, as All-TNN (Lu et al. 2023, "End-to-end topographic networks as models of
    cortical map formation and human visual behaviour"). They agree where ``s1 = s2``; otherwise "mean" is the larger.
    ``t = (m1 - m2) / sqrt(v1 / n1 + v2 / n2)`` with sample variances is Welch's.

    Null: labels are shuffled over stimuli. Intervals: jackknife over stimuli, within each category.

    Args:
        responses: ``[stimuli, columns]``, or ``[stimuli, columns, channels]``.
        labels: ``[stimuli]`` numbers or text.
        category: the label of interest.
        against: one label, or several, to compare it with; all others if not given.
        d_prime: "rms" or "mean".
        signal: what of a vector response is taken, see :func:`colgraph.analysis.column_signal`.
        positions: ``[columns, D]``, for the picture.
        permutations: number of shuffles.
        seed: of the shuffles.

    Raises:
        ValueError: for fewer than two stimuli on either side, unknown labels, NaN, or columns without variance.
    """
    check_choice("d_prime", d_prime, D_PRIMES)
    x = column_signal(responses, signal)
    on, off = _sides(as_labels(labels, len(x)), category, against)
    same_order(responses=responses, labels=labels)
    x = x[on | off].astype(np.float64)
    member = on[on | off].astype(np.float64)
    check_varies(x)
    points = None if positions is None else as_positions(positions, x.shape[1])
    x -= x.mean(0)
    squares = x * x
    d, t, freedom = _contrast(member[None], x, squares, d_prime)
    shuffles = batches(permuted(permutations, len(x), seed))
    null, highest = np.concatenate([_extremes(member[orders], x, squares, d_prime) for orders in shuffles], axis=1)
    highest.sort()
    p_columns = (1 + permutations - np.searchsorted(highest, np.abs(t[0]) * (1 - 1e-12))) / (1 + permutations)
    left_out = _without_groups(member, x, squares, d_prime, seed)
    return CategorySelectivity(
        name=f"mean |d'| for {category}",
        value=float(np.abs(d).mean()),
        null=null,
        interval=jackknife_interval(np.abs(d).mean(), np.abs(left_out).mean(1)),
        d_prime=d[0],
        d_prime_interval=jackknife_interval(d[0], left_out),
        t=t[0],
        p_welch=2 * stats.t.sf(np.abs(t[0]), freedom[0]),
        p_columns=p_columns,
        selective=(p_columns <= 0.05) & (t[0] > 0),
        positions=points,
        category=category,
    )


def _sides(label: NDArray[Any], category: Any, against: Any | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which stimuli are of the category, and which they are compared with."""
    rest = None if against is None else np.atleast_1d(np.asarray(against))
    for name in [category, *([] if rest is None else rest.tolist())]:
        check_choice("category", name, np.unique(label).tolist())
    on = label == category
    off = ~on if rest is None else np.isin(label, rest)
    if (on & off).any():
        raise ValueError(f"category {category!r} cannot be compared with itself")
    for name, side in ((repr(category), on), ("the rest", off)):
        if side.sum() < 2:
            raise ValueError(f"selectivity needs two stimuli on either side, {name} has {int(side.sum())}")
    return on, off


def _contrast(member: Array, x: Array, squares: Array, d_prime: str) -> tuple[Array, Array, Array]:
    """d', Welch's t and its degrees of freedom, each ``[R, columns]``, for rows of membership ``[R, stimuli]``."""
    sums, total = (member @ x, member @ squares), (x.sum(0), squares.sum(0))
    n1 = member.sum(1, keepdims=True)
    n2 = member.shape[1] - n1
    mean1, mean2 = sums[0] / n1, (total[0] - sums[0]) / n2
    # A side that does not vary has a variance of rounding, by which nothing should be divided.
    least = len(x) * np.finfo(x.dtype).eps * squares.max(0)
    var1, var2 = sums[1] / n1 - mean1**2, (total[1] - sums[1]) / n2 - mean2**2
    var1, var2 = np.where(var1 > least, var1, 0.0), np.where(var2 > least, var2, 0.0)
    scale = np.sqrt((var1 + var2) / 2) if d_prime == "rms" else (np.sqrt(var1) + np.sqrt(var2)) / 2
    error1, error2 = var1 / (n1 - 1), var2 / (n2 - 1)
    error = error1 + error2
    freedom = error**2 / np.maximum(error1**2 / (n1 - 1) + error2**2 / (n2 - 1), 1e-300)
    gap = mean1 - mean2
    return _ratio(gap, scale), _ratio(gap, np.sqrt(error)), freedom


def _extremes(member: Array, x: Array, squares: Array, d_prime: str) -> Array:
    """``[2, R]``: mean ``|d'|`` and largest ``|t|`` over columns, for rows of membership ``[R, stimuli]``."""
    d, t, _ = _contrast(member, x, squares, d_prime)
    return np.stack([np.abs(d).mean(1), np.abs(t).max(1)])


def _ratio(gap: Array, scale: Array) -> Array:
    """``gap / scale``; where neither side varies, infinite if the sides differ and 0 if not."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(scale > 0, gap / scale, np.where(gap == 0, 0.0, np.sign(gap) * np.inf))


def _without_groups(member: Array, x: Array, squares: Array, d_prime: str, seed: int) -> Array:
    """``[G, columns]``: d' with each group of stimuli left out; both sides keep at least two stimuli."""
    group = np.empty(len(member), dtype=np.int64)
    for side in (0, 1):
        members = np.flatnonzero(member == side)
        group[members] = random_groups(len(members), seed + side)
    out = []
    for keep in leaving_out(group):
        if min(member[keep].sum(), (1 - member[keep]).sum()) >= 2:
            out.append(_contrast(member[keep][None], x[keep], squares[keep], d_prime)[0][0])
    return np.array(out) if out else np.empty((0, x.shape[1]))


# ---------------------------------------------------------------------- patches


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Patches(OnSheet):
    """What :func:`selective_patches` returns; the value is the area of the largest patch.

    Attributes:
        patch: ``[columns]`` the number of a column's patch, the largest first; -1 outside patches.
        areas: ``[patches]`` descending.
    """

    patch: NDArray[np.int64]
    areas: Array

    def picture(self) -> dict[str, Any]:
        """The patches."""
        count = len(self.areas)
        title = f"{count} patch{'es' * (count != 1)}, the largest {self.value:.3g} {self.unit}"
        label = "patch (0 the largest; grey: in none)"
        values = np.where(self.patch < 0, np.nan, self.patch)
        return {"values": values, "label": label, "title": title, "labels": True}


def selective_patches(
    values: Any,
    edges: Any,
    threshold: float,
    *,
    area: Any | None = None,
    positions: Any | None = None,
    groups: Any | None = None,
    permutations: int = 1000,
    seed: int = 0,
) -> Patches:
    """Connected groups of columns above a threshold.

    Columns with ``values >= threshold`` that are joined by edges (in either direction) form a patch. Networks that are
    wired differently are compared on one adjacency in space, see :func:`colgraph.analysis.spatial_edges`.

    Null: values are shuffled over columns, which keeps how many are above the threshold and breaks where they are.
    Interval: jackknife over blocks of the sheet, each block's columns taken out of the patches that were found.

    Args:
        values: ``[columns]``, such as d'.
        edges: ``[2,E]``.
        threshold: least value of a column in a patch.
        area: ``[columns]`` area of each column; 1 if not given, so that areas count columns.
        positions: ``[columns, D]``, for the blocks and the picture.
        groups: ``[columns]`` integer labels: the null shuffles only among columns of one label, such as those that see
            the same patch; columns of a negative label stay.
        permutations: number of shuffles.
        seed: of the shuffles.

    Raises:
        ValueError: for shapes that do not fit, NaN, or areas that are negative.
    """
    x = as_vector(values, "values")
    links = as_edges(edges, len(x))
    size = np.ones(len(x)) if area is None else as_vector(area, "area", len(x))
    if size.min() < 0:
        raise ValueError(f"area must not be negative, got {size.min():g} in column {int(size.argmin())}")
    points = None if positions is None else as_positions(positions, len(x))
    above = x >= threshold
    label, areas = _patches(above, links, size)
    orders = permuted(permutations, len(x), seed, as_groups(groups, len(x)))
    null = np.array([_patches(above[order], links, size)[1].max(initial=0) for order in orders])
    largest = size * (label == 0)
    blocks = column_blocks(len(x), links, points)
    inside, whole = np.bincount(blocks, largest), np.bincount(blocks, size)
    left_out = (inside.sum() - inside) / np.maximum(whole.sum() - whole, 1e-300) * whole.sum()
    return Patches(
        name="largest patch",
        value=float(areas.max(initial=0)),
        null=null,
        interval=np.maximum(jackknife_interval(largest.sum(), left_out), 0),
        unit="columns" if area is None else "area",
        patch=label,
        areas=areas,
        positions=points,
    )


def _patches(above: NDArray[np.bool_], links: NDArray[np.int64], size: Array) -> tuple[NDArray[np.int64], Array]:
    """Patch of each column, the largest first, and the patches' areas."""
    inside = links[:, above[links[0]] & above[links[1]]]
    graph = sparse.coo_array((np.ones(inside.shape[1], np.int8), (inside[0], inside[1])), shape=(len(above),) * 2)
    raw = sparse.csgraph.connected_components(graph, directed=False)[1]
    label = np.full(len(above), -1, dtype=np.int64)
    if not above.any():
        return label, np.empty(0)
    patch = np.unique(raw[above], return_inverse=True)[1]
    areas = np.bincount(patch, size[above]).astype(np.float64)
    order = np.argsort(-areas, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    label[above] = rank[patch]
    return label, np.asarray(areas[order])
