"""Who listens to whom, and from how far: wire per column, effective edge lengths, strengths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.analysis import plotting
from colgraph.analysis.arrays import Array, as_array, as_edge_values, as_edges, as_positions, check_count
from colgraph.analysis.result import Result
from colgraph.analysis.stats import column_blocks, jackknife_interval, leaving_out, permuted, random_groups
from colgraph.analysis.topography import MapResult


@dataclass(frozen=True, eq=False, kw_only=True)
class _Listening:
    """Checked input: mean attention per edge, its samples if there are several, and blocks of columns."""

    attention: Array
    samples: Array | None
    links: NDArray[np.int64]
    columns: int
    positions: Array | None
    seed: int

    @classmethod
    def check(cls, attention: Any, edges: Any, columns: int | None, positions: Any | None, seed: int) -> _Listening:
        links = as_edges(edges, None if columns is None else check_count("columns", columns))
        n = int(links.max()) + 1 if columns is None else columns
        raw = as_array(attention, "attention")
        if raw.ndim not in (1, 2):
            raise ValueError(f"attention must have shape [E] or [samples, E], got {list(raw.shape)}")
        rows = [as_edge_values(row, links.shape[1], "attention") for row in np.atleast_2d(raw)]
        mean = np.mean(rows, axis=0)
        if not mean.sum() > 0:
            raise ValueError("attention is zero on every edge")
        points = None if positions is None else as_positions(positions, n)
        return cls(
            attention=mean,
            samples=np.stack(rows) if len(rows) > 1 else None,
            links=links,
            columns=n,
            positions=points,
            seed=seed,
        )

    def interval(self, measure: Callable[[Array, NDArray[np.bool_]], Array]) -> Array:
        """``measure(attention, which columns count)`` with its samples, or blocks of columns, left out in turn."""
        everyone = np.ones(self.columns, dtype=bool)
        value = measure(self.attention, everyone)
        if self.samples is not None:
            groups = random_groups(len(self.samples), self.seed)
            left_out = [measure(self.samples[kept].mean(0), everyone) for kept in leaving_out(groups)]
        else:
            blocks = column_blocks(self.columns, self.links, self.positions)
            left_out = [measure(self.attention, kept) for kept in leaving_out(blocks)]
        return jackknife_interval(value, left_out)

    def null(
        self, measure: Callable[[Array, NDArray[np.bool_]], Array], permutations: int, others: bool = False
    ) -> Array:
        """``measure`` with each column's attention shuffled among the columns (or ``others``) that it listens to."""
        everyone, links = np.ones(self.columns, dtype=bool), self.links
        # The group of an edge is its target (with others, an edge to oneself is alone in its group); the shuffle of a
        # million edges is one sort.
        group = np.where(others & (links[0] == links[1]), links[1] + self.columns, links[1])
        orders = permuted(permutations, links.shape[1], self.seed, group)
        return np.array([measure(self.attention[order], everyone) for order in orders])


def _sum_per_column(index: NDArray[np.int64], weight: Array, columns: int) -> Array:
    return np.asarray(np.bincount(index, weight, columns), dtype=np.float64)


def wiring(
    attention: Any,
    edges: Any,
    distance: Any,
    *,
    columns: int | None = None,
    positions: Any | None = None,
    permutations: int = 200,
    seed: int = 0,
) -> MapResult:
    """The expected length of wire each column listens through.

    ``w_i = sum_j a_ij d_ij`` per column, in units of ``distance``; the value is the mean over columns, which is the
    wiring cost that training can weigh. Attention of a column sums to 1 over its edges.

    Null: each column's attention is shuffled among the columns it listens to, itself included where it does, so that it
    does not care for distance (two-sided). Interval: jackknife over samples where there are several, else over blocks
    of columns.

    Args:
        attention: ``[E]``, the mean over images, steps and heads; or ``[samples, E]`` (one row per image, say).
        edges: ``[2,E]`` source and target.
        distance: ``[E]`` not negative.
        columns: their number; the highest that occurs in an edge, plus one, if not given.
        positions: ``[columns, D]``, for the blocks and the picture.
        permutations: number of shuffles.
        seed: of the shuffles.

    Raises:
        ValueError: for lengths that do not agree, negative or NaN entries.
    """
    listening = _Listening.check(attention, edges, columns, positions, seed)
    length = as_edge_values(distance, listening.links.shape[1], "distance")

    def per_column(weight: Array) -> Array:
        return _sum_per_column(listening.links[1], weight * length, listening.columns)

    def measure(weight: Array, counted: NDArray[np.bool_]) -> Array:
        return np.asarray(per_column(weight)[counted].mean())

    return MapResult(
        name="wiring",
        value=float(measure(listening.attention, np.ones(listening.columns, dtype=bool))),
        null=listening.null(measure, permutations),
        interval=listening.interval(measure),
        tail="two-sided",
        unit="units of distance",
        map=per_column(listening.attention),
        positions=listening.positions,
        map_label="wire listened through (units of distance)",
    )


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class EdgeLengths(Result):
    """What :func:`edge_lengths` returns; the value is the attention-weighted mean length.

    Attributes:
        bin_edges: ``[bins + 1]`` lengths.
        share: ``[bins]`` of all attention that runs along edges of each length.
        share_interval: ``[2, bins]``.
        share_before: ``[bins]`` the same before training, or None.
        share_edges: ``[bins]`` of all edges, which is what attention without preference would give.
        value_before: the mean length before training, or NaN.
    """

    bin_edges: Array
    share: Array
    share_interval: Array
    share_before: Array | None
    share_edges: Array
    value_before: float

    def plot(self, ax: plotting.Axes | None = None) -> plotting.Axes:
        """Draw the shares by length, before and after, beside the share of edges."""
        ax = plotting.axes(ax)
        centre, width = (self.bin_edges[1:] + self.bin_edges[:-1]) / 2, np.diff(self.bin_edges)
        ax.bar(centre, 100 * self.share, 0.9 * width, color=plotting.ORANGE, label="attention")
        reach = np.abs(100 * (self.share_interval - self.share))
        ax.errorbar(centre, 100 * self.share, yerr=np.nan_to_num(reach), fmt="none", ecolor=plotting.INK)
        if self.share_before is not None:
            ax.plot(centre, 100 * self.share_before, color=plotting.BLUE, marker="o", label="before training")
        ax.plot(centre, 100 * self.share_edges, color=plotting.INK, linestyle=":", marker=".", label="edges")
        ax.set(xlabel=f"edge length ({self.unit})", ylabel="share (%)", title=f"mean length heard {self.value:.3g}")
        ax.legend(frameon=False, fontsize=8)
        return ax


def edge_lengths(
    attention: Any,
    edges: Any,
    distance: Any,
    *,
    before: Any | None = None,
    bins: int = 20,
    columns: int | None = None,
    positions: Any | None = None,
    permutations: int = 200,
    seed: int = 0,
) -> EdgeLengths:
    """How long the edges are that attention uses, before and after training.

    The effective length is ``sum a_ij d_ij / sum a_ij`` over edges between different columns; the histogram holds the
    share of attention per length. Self-loops have no length and are left out.

    Null: each column's attention to others is shuffled among them (two-sided); that to itself stays. Interval and
    arguments: see :func:`wiring`; ``before`` is ``[E]`` attention before training, ``bins`` the number of lengths.
    """
    listening = _Listening.check(attention, edges, columns, positions, seed)
    links = listening.links
    length = as_edge_values(distance, links.shape[1], "distance")
    real = links[0] != links[1]
    if not (real & (listening.attention > 0)).any():
        raise ValueError("no attention runs between different columns: there is no length to measure")
    top = float(length[real].max()) or 1.0
    bin_edges = np.linspace(0, top, check_count("bins", bins) + 1)
    index = np.clip(np.searchsorted(bin_edges, length, side="left") - 1, 0, bins - 1)

    def shares(weight: Array, counted: NDArray[np.bool_] | None = None) -> Array:
        used = weight * real if counted is None else weight * real * counted[links[1]]
        return np.bincount(index, used, bins) / max(float(used.sum()), 1e-300)

    def measure(weight: Array, counted: NDArray[np.bool_]) -> Array:
        used = weight * real * counted[links[1]]
        return np.asarray((used * length).sum() / max(float(used.sum()), 1e-300))

    everyone = np.ones(listening.columns, dtype=bool)
    earlier = None if before is None else as_edge_values(before, links.shape[1], "before")
    return EdgeLengths(
        name="mean length of edges heard",
        value=float(measure(listening.attention, everyone)),
        null=listening.null(measure, permutations, others=True),
        interval=listening.interval(measure),
        tail="two-sided",
        unit="units of distance",
        bin_edges=bin_edges,
        share=shares(listening.attention),
        share_interval=listening.interval(shares),
        share_before=None if earlier is None else shares(earlier),
        share_edges=shares(np.ones(links.shape[1])),
        value_before=float("nan") if earlier is None else float(measure(earlier, everyone)),
    )


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Strengths(MapResult):
    """What :func:`strengths` returns; the map is the out-strength.

    Attributes:
        out_strength: ``[columns]`` how much others listen to a column.
        in_strength: ``[columns]`` how much a column listens to others; 1 less its attention to itself.
    """

    out_strength: Array
    in_strength: Array


def strengths(
    attention: Any,
    edges: Any,
    *,
    columns: int | None = None,
    positions: Any | None = None,
    permutations: int = 200,
    seed: int = 0,
) -> Strengths:
    """How much each column is listened to, and how unequally.

    Out-strength ``s_j = sum_i a_ij`` and in-strength ``sum_j a_ij``, over edges between different columns. The value
    is the coefficient of variation (standard deviation over mean) of the out-strength: 0 where all columns are heard
    alike, large where some are hubs.

    Null: each column's attention to others is shuffled among them (two-sided); that to itself stays. Interval and
    arguments: see :func:`wiring`.
    """
    listening = _Listening.check(attention, edges, columns, positions, seed)
    links = listening.links
    real = links[0] != links[1]
    if not (real & (listening.attention > 0)).any():
        raise ValueError("no attention runs between different columns: there are no strengths to compare")

    def out(weight: Array) -> Array:
        return _sum_per_column(links[0], weight * real, listening.columns)

    def measure(weight: Array, counted: NDArray[np.bool_]) -> Array:
        strength = out(weight)[counted]
        return np.asarray(strength.std() / max(float(strength.mean()), 1e-300))

    strength = out(listening.attention)
    return Strengths(
        name="inequality of out-strength",
        value=float(measure(listening.attention, np.ones(listening.columns, dtype=bool))),
        null=listening.null(measure, permutations, others=True),
        interval=listening.interval(measure),
        tail="two-sided",
        map=strength,
        positions=listening.positions,
        map_label="out-strength",
        out_strength=strength,
        in_strength=_sum_per_column(links[1], listening.attention * real, listening.columns),
    )
