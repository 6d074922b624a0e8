"""Does place matter: response correlation against distance, Moran's I."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from colgraph.analysis import plotting
from colgraph.analysis.arrays import (
    Array,
    as_edge_values,
    as_edges,
    as_positions,
    as_responses,
    as_vector,
    check_choice,
    check_varies,
    column_signal,
    varying,
)
from colgraph.analysis.pairs import Distance, Pairs, bin_pairs, sample_pairs
from colgraph.analysis.result import OnSheet, Result
from colgraph.analysis.stats import (
    as_groups,
    batches,
    column_blocks,
    correlate_rows,
    jackknife_interval,
    leaving_out,
    permuted,
    random_groups,
)

Index = NDArray[np.int64]

_PRODUCTS = 3e8
"""Stimuli x pairs x channels that are looked at: some seconds."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class CurveResult(Result):
    """A result with a curve over distance.

    Attributes:
        distance: ``[bins]`` mean distance of the pairs in each bin, in units of ``spacing``.
        curve: ``[bins]``.
        curve_null: ``[permutations, bins]``.
        curve_interval: ``[2, bins]``.
        pairs_per_bin: ``[bins]``.
        spacing: the unit of ``distance``, in units of the positions: the median nearest-neighbor distance by default.
        axis_label: what the curve is.
    """

    distance: Array
    curve: Array
    curve_null: Array
    curve_interval: Array
    pairs_per_bin: NDArray[np.int64]
    spacing: float
    axis_label: str

    def plot(self, ax: plotting.Axes | None = None) -> plotting.Axes:
        """Draw the curve with its interval beside the null's middle 95%."""
        ax = plotting.draw_curve(
            plotting.axes(ax),
            self.distance,
            self.curve,
            null=self.curve_null,
            interval=self.curve_interval,
            xlabel="distance (spacings)",
            ylabel=self.axis_label,
            title=f"{self.name}: {self.value:.3f} (p = {self.p_value:.2g})",
        )
        plotting.log_axis(ax)
        return ax


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class MapResult(OnSheet):
    """A result about a map.

    Attributes:
        map: ``[columns]`` what was measured in each column.
        map_label: what the map shows, with its unit.
        centred: whether the map has a sign.
    """

    map: Array
    map_label: str
    centred: bool = False

    def picture(self) -> dict[str, Any]:
        """The map."""
        title = f"{self.name}: {self.value:.3f}"
        return {"values": self.map, "label": self.map_label, "title": title, "centred": self.centred}


# ---------------------------------------------------------------------- response correlation


def correlation_by_distance(
    responses: Any,
    positions: Any,
    *,
    signal: str | int | None = None,
    channels: str = "same",
    metric: Distance = "euclidean",
    pairs: Pairs | None = None,
    unit: float | None = None,
    bins: int = 20,
    groups: Any | None = None,
    permutations: int = 1000,
    seed: int = 0,
) -> CorrelationByDistance:
    """How alike the responses of two columns are, against the distance between them.

    ``r_ij`` is the Pearson correlation of columns i and j over stimuli. Of vectors, channels are units at their
    column's place: ``r_ij = mean_k corr(x_ik, x_jk)``, or with ``channels="all"`` the mean over all k and l of
    ``corr(x_ik, x_jl)``. Two units of one column are never a pair. The mean over all pairs of LayerNorm's channels is
    zero by construction, because they are centred; use it where channel k of one column and channel k of another have
    nothing in common, as the hidden units of untied columns. The value is ``corr(r_ij, 1 / (d_ij + 1))``
    over a uniform sample of pairs, with d in nearest-neighbor spacings unless a ``unit`` is given, so that it means
    the same on every geometry; the curve is the mean of ``r_ij`` per distance bin. The result's ``spatial_loss`` is
    ``(1 - value) / 2``. Source: Margalit et al. (2024), "A unifying framework for functional organization in early and
    higher ventral visual cortex" (TDANN), whose d is in millimetres.

    Null: the columns' positions are shuffled. Interval: jackknife over groups of stimuli. Local edges make responses
    alike before any training, so compare with the untrained model as well as with the null.

    Args:
        responses: ``[stimuli, columns]``, or ``[stimuli, columns, channels]``.
        positions: ``[columns, D]``.
        signal: one number of a vector response to correlate, see :func:`colgraph.analysis.column_signal`; all its
            channels if not given.
        channels: which units of two columns are pairs: those of the "same" channel, or "all". Where there are more
            than 3e8 products of stimuli, pairs and channels, as many channels as fit are drawn.
        metric: see :func:`colgraph.analysis.sample_pairs`.
        pairs: pairs to look at, instead of a sample made here.
        unit: the distance that counts as 1 in ``d``; the median nearest-neighbor distance if not given.
        bins: number of distance bins.
        groups: ``[columns]`` integer labels: the null shuffles only among columns of one label, such as those that see
            the same patch; columns of a negative label stay.
        permutations: number of shuffles.
        seed: of the sample, the shuffles, the groups and the channels.

    Returns:
        A :class:`CorrelationByDistance`.

    Raises:
        ValueError: for NaN, fewer than 3 stimuli, columns without variance, or positions that are all equal.
    """
    check_choice("channels", channels, ("same", "all"))
    x = as_responses(responses, least=3, channels=True)
    x = x if signal is None else column_signal(x, signal, least=3)
    check_varies(x)
    points = as_positions(positions, x.shape[1])
    pairs = sample_pairs(points, metric=metric, seed=seed) if pairs is None else pairs
    pairs.check(x.shape[1])
    used = pairs.columns
    within = as_groups(groups, x.shape[1], among=used)
    first, second = np.searchsorted(used, pairs.first), np.searchsorted(used, pairs.second)
    units = _Units(_some_channels(x[:, used], channels, len(pairs), seed), channels)
    if unit is not None and not unit > 0:
        raise ValueError(f"unit must be positive, got {unit:g}")
    distance = pairs.distance / (unit or pairs.spacing)
    index, centres = bin_pairs(distance, bins)
    size = np.bincount(index)
    near = 1 / (distance[pairs.uniform] + 1)

    def measure(r: NDArray[Any]) -> tuple[Array, Array]:
        """Of ``r [R, P]``: the values ``[R]`` and the curves ``[R, bins]``."""
        curves = np.stack([np.bincount(index, row, minlength=len(size)) for row in r]) / size
        return correlate_rows(r[:, pairs.uniform], near), curves

    # Single precision halves the memory that a thousand shuffles walk through at random.
    rows = units.rows()
    correlation = np.clip((rows.T @ rows) / len(rows), -1, 1).astype(np.float32)
    value, curve = measure(_pair_correlations(rows, first, second)[None])
    null, curve_null = np.empty(permutations), np.empty((permutations, len(size)))
    for i, order in enumerate(permuted(permutations, len(used), seed, within)):
        null[i : i + 1], curve_null[i : i + 1] = measure(correlation[order[first], order[second]][None])
    left_out, curve_left_out = measure(units.without_groups(first, second, random_groups(len(x), seed)))
    return CorrelationByDistance(
        name="response correlation with proximity",
        value=float(value[0]),
        null=null,
        interval=jackknife_interval(value[0], left_out, transform="fisher"),
        distance=centres,
        curve=curve[0],
        curve_null=curve_null,
        curve_interval=jackknife_interval(curve[0], curve_left_out, transform="fisher"),
        pairs_per_bin=size,
        spacing=unit or pairs.spacing,
        axis_label="response correlation (Pearson r)",
    )


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class CorrelationByDistance(CurveResult):
    """What :func:`correlation_by_distance` returns."""

    @property
    def spatial_loss(self) -> float:
        """``(1 - corr(r_ij, 1 / (d_ij + 1))) / 2``, from 0 (as topographic as can be) to 1."""
        return (1 - self.value) / 2


@dataclass(frozen=True, eq=False)
class _Units:
    """Responses ``[stimuli, columns(, channels)]`` and which units of two columns are pairs."""

    x: NDArray[Any]
    channels: str

    def rows(self, kept: NDArray[np.bool_] | None = None) -> Array:
        """``[rows, columns]``, whose mean product of two columns is their ``r_ij``, over all stimuli or some."""
        z = _standardised(self.x if kept is None else self.x[kept])
        if z.ndim == 2:
            return z
        return np.asarray(z.mean(2)) if self.channels == "all" else z.transpose(0, 2, 1).reshape(-1, z.shape[1])

    def without_groups(self, first: Index, second: Index, groups: Index) -> Array:
        """``[G, P]``: ``r_ij`` of the pairs without each group of stimuli."""
        if self.x.ndim == 2:
            return _leave_out_correlations(_standardised(self.x), first, second, groups)
        if self.channels == "same":
            z = np.moveaxis(_standardised(self.x), 2, 0)
            return np.asarray(sum(_leave_out_correlations(one, first, second, groups) for one in z) / len(z))
        each = (self.rows(kept) for kept in leaving_out(groups))
        return np.stack([_pair_correlations(rows, first, second) for rows in each])


def _some_channels(x: NDArray[Any], channels: str, pairs: int, seed: int) -> NDArray[Any]:
    """All channels, or as many as can be compared within seconds."""
    most = max(int(_PRODUCTS // (len(x) * pairs)), 1)
    if x.ndim == 2 or channels == "all" or x.shape[2] <= most:
        return x
    return x[:, :, np.sort(np.random.default_rng(seed).permutation(x.shape[2])[:most])]


def _standardised(x: NDArray[Any]) -> Array:
    """Mean zero and variance one over stimuli; a unit of a vector that is the same for all of them is zero."""
    z = x.astype(np.float64)
    z -= z.mean(0)
    spread = z.std(0)
    if x.ndim == 3:
        silent = ~varying(x.reshape(len(x), -1)).reshape(spread.shape)
        z[:, silent], spread[silent] = 0, 1
    return np.asarray(z / spread)


def _pair_correlations(z: Array, first: NDArray[np.int64], second: NDArray[np.int64]) -> Array:
    """``[P]`` correlations of pairs of standardised columns."""
    out = np.empty(len(first))
    chunk = max(1, 4_000_000 // len(z))
    for start in range(0, len(first), chunk):
        end = start + chunk
        out[start:end] = np.einsum("sp,sp->p", z[:, first[start:end]], z[:, second[start:end]]) / len(z)
    return out


def _leave_out_correlations(
    z: Array, first: NDArray[np.int64], second: NDArray[np.int64], groups: NDArray[np.int64]
) -> Array:
    """``[G, P]``: correlations of the pairs without each group of stimuli, from sums over groups."""
    member = (groups[None] == np.arange(groups.max() + 1)[:, None]).astype(np.float64)
    left = len(z) - member.sum(1, keepdims=True)
    mean = (z.sum(0) - member @ z) / left
    spread = np.sqrt(np.maximum((len(z) - member @ (z * z)) / left - mean**2, 1e-30))
    out = np.empty((len(member), len(first)))
    chunk = max(1, 4_000_000 // len(z))
    for start in range(0, len(first), chunk):
        i, j = first[start : start + chunk], second[start : start + chunk]
        product = z[:, i] * z[:, j]
        moment = (product.sum(0) - member @ product) / left
        out[:, start : start + chunk] = (moment - mean[:, i] * mean[:, j]) / (spread[:, i] * spread[:, j])
    return np.clip(out, -1, 1)


# ---------------------------------------------------------------------- Moran's I


def morans_i(
    values: Any,
    edges: Any,
    *,
    weights: Any | None = None,
    positions: Any | None = None,
    groups: Any | None = None,
    permutations: int = 1000,
    seed: int = 0,
) -> MapResult:
    """Spatial autocorrelation of a map.

    ``I = (n / sum w) * sum_ij w_ij z_i z_j / sum_i z_i^2`` with ``z`` the values less their mean. By chance it is
    ``-1 / (n - 1)``; -1 on a checkerboard, towards 1 on a smooth map. Source: Moran (1950), "Notes on continuous
    stochastic phenomena". On a graph of equal degrees it equals the numeric assortativity coefficient.

    Null: values are shuffled over columns (two-sided). Interval: jackknife over blocks of columns that lie together.

    Args:
        values: ``[columns]``.
        edges: ``[2,E]`` who lies beside whom. Compare networks on one adjacency in space, as
            :func:`colgraph.analysis.spatial_edges` gives it: on the edges that a network listens through, one and the
            same map scores as the wiring has it. Self-loops are left out. Directions do not matter: ``w_ij`` and
            ``w_ji`` are added.
        weights: ``[E]`` not negative; 1 for every edge if not given.
        positions: ``[columns, D]``, for the blocks and the picture; without them blocks follow the graph.
        groups: ``[columns]`` integer labels: the null shuffles only among columns of one label, such as those that see
            the same patch; columns of a negative label stay.
        permutations: number of shuffles.
        seed: of the shuffles.

    Raises:
        ValueError: for a constant map, NaN, or edges that do not fit.
    """
    x = as_vector(values, "values")
    links = as_edges(edges, len(x))
    w = np.ones(links.shape[1]) if weights is None else as_edge_values(weights, links.shape[1], "weights")
    real = links[0] != links[1]
    links, w = links[:, real], w[real]
    if not w.sum() > 0:
        raise ValueError("edges between different columns must have a positive weight in all, got none")
    if not np.ptp(x) > 0:
        raise ValueError(f"values are the same in all {len(x)} columns ({x[0]:g}): Moran's I means nothing there")
    points = None if positions is None else as_positions(positions, len(x))
    matrix = sparse.coo_array((w, (links[0], links[1])), shape=(len(x), len(x))).tocsr()
    value = float(_moran(x[None], matrix)[0])
    shuffles = batches(permuted(permutations, len(x), seed, as_groups(groups, len(x))))
    null = np.concatenate([_moran(x[orders], matrix) for orders in shuffles])
    left_out = []
    for kept in leaving_out(column_blocks(len(x), links, points)):
        keep = np.flatnonzero(kept)
        if len(keep) > 1 and np.ptp(x[keep]) > 0 and (part := matrix[keep][:, keep]).sum() > 0:
            left_out.append(_moran(x[keep][None], part)[0])
    return MapResult(
        name="Moran's I",
        value=value,
        null=null,
        interval=jackknife_interval(value, left_out),
        tail="two-sided",
        map=x,
        positions=points,
        map_label="value",
    )


def _moran(values: Array, matrix: Any) -> Array:
    """Moran's I of each row of ``values [R, n]``."""
    z = values - values.mean(1, keepdims=True)
    across = (z * (matrix @ z.T).T).sum(1)
    return np.asarray(z.shape[1] / matrix.sum() * across / (z * z).sum(1))
