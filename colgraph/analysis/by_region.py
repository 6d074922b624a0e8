"""What the regions of a sheet do: attention between them, beside a connectome, and how a measure differs among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from colgraph.analysis import plotting
from colgraph.analysis.arrays import Array, as_array, as_edge_values, as_edges, as_vector, check_count
from colgraph.analysis.result import Result
from colgraph.analysis.sheet_regions import given_regions
from colgraph.analysis.stats import jackknife_interval, leaving_out, random_groups

_NAMED = 16  # more names than this cannot be read beside a matrix
_LARGEST = 20


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class RegionAttention(Result):
    """What :func:`region_attention` returns; the value is the rank correlation with the reference.

    Attributes:
        regions: names.
        attention: ``[R,R]`` what the columns of the region of the column give, in sum over them, to those of the region
            of the row: row speaks, column listens, as in a connectome.
        reference: ``[R,R]`` that it is compared with.
        reference_is: what that is.
    """

    regions: tuple[str, ...]
    attention: Array
    reference: Array
    reference_is: str

    def plot(self, ax: plotting.Axes | None = None) -> plotting.Axes:
        """Draw attention between regions, on a logarithmic scale: the row speaks, the column listens."""
        from matplotlib.colors import LogNorm

        ax = plotting.axes(ax)
        shown = np.where(self.attention > 0, self.attention, np.nan)
        top = float(np.nanmax(shown))
        image = ax.imshow(shown, cmap="viridis", norm=LogNorm(top * 1e-4, top))
        every = -(-len(self.regions) // _NAMED)
        at, names = range(0, len(self.regions), every), [_short(name) for name in self.regions[::every]]
        ax.set_xticks(at, names, rotation=90, fontsize=7)
        ax.set_yticks(at, names, fontsize=7)
        ax.set(xlabel="listens", ylabel="speaks", title=f"{self.name} (rho {self.value:.2f})")
        if ax.figure is not None:
            ax.figure.colorbar(image, ax=ax, shrink=0.7, label="attention, summed over columns")
        return ax


def _short(name: str) -> str:
    return name if len(name) <= 20 else f"...{name[-17:]}"


def draw_largest(ax: plotting.Axes | None, values: Array, regions: Sequence[str], title: str) -> plotting.Axes:
    """A bar for each region, the largest first, as many as can be read."""
    ax = plotting.axes(ax)
    order = np.argsort(-values, kind="stable")[:_LARGEST]
    ax.barh(np.arange(len(order)), values[order], color=plotting.BLUE, height=0.7)
    ax.set_yticks(range(len(order)), [_short(regions[k]) for k in order], fontsize=8)
    ax.invert_yaxis()
    rest = "" if len(order) == len(values) else f" (the {len(order)} largest of {len(values)})"
    ax.set(title=title + rest)
    return ax


def region_attention(
    attention: Any,
    edges: Any,
    regions: Mapping[str, Any],
    *,
    reference: Any | None = None,
    columns: int | None = None,
    permutations: int = 200,
    seed: int = 0,
) -> RegionAttention:
    """Attention between regions of a sheet, and how it goes with a connectome.

    The value is Spearman's rank correlation over pairs of different regions that have an edge. Without a reference that
    is what equal attention to all edges of a column would give: 1 means that learning has changed nothing between
    regions. Null: the reference with its regions shuffled (Mantel's test); a value above it says that attention follows
    the reference, which the sheet's own edges do where they were drawn from it. Interval: jackknife over regions.

    Args:
        attention: ``[E]``, or ``[samples, E]``, of which the mean is taken.
        edges: ``[2,E]`` source and target.
        regions: names to columns, as :func:`colgraph.analysis.sheet_regions` gives them, at least three, each column
            in one at most.
        reference: ``[R,R]`` in the order of the regions, row to column, such as a connectome; a table of pandas with
            the names of the regions at its rows and columns, in any order.
        columns: their number; the highest that occurs in an edge, plus one, if not given.
        permutations: of the regions.
        seed: of the shuffles and groups.

    Raises:
        ValueError: for regions that overlap or are fewer than three, and shapes or names that do not fit.
    """
    links = as_edges(edges, columns)
    raw = np.atleast_2d(as_array(attention, "attention"))
    weight = np.mean([as_edge_values(row, links.shape[1], "attention") for row in raw], axis=0)
    names = tuple(regions)
    label = _labels(regions, int(links.max()) + 1 if columns is None else columns)
    if len(names) < 3:
        raise ValueError(f"attention between regions needs at least three of them, got {len(names)}")
    given = _between(weight, links, label, len(names))
    degree = np.bincount(links[1], minlength=len(label))
    equal = _between(1 / degree[links[1]], links, label, len(names))
    compared = equal if reference is None else _by_name(reference, names)
    if compared.shape != given.shape or not np.isfinite(compared).all():
        raise ValueError(
            f"reference must be finite, of shape {list(given.shape)} in the order of the regions, got "
            f"{list(compared.shape)}"
        )
    used = (equal > 0) & ~np.eye(len(names), dtype=bool)

    def correlation(other: Array, kept: NDArray[np.bool_]) -> float:
        pairs = used & np.outer(kept, kept)
        return _spearman(given[pairs], other[pairs])

    everyone = np.ones(len(names), dtype=bool)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(names)) for _ in range(check_count("permutations", permutations, 0))]
    value = correlation(compared, everyone)
    left = np.array([correlation(compared, kept) for kept in leaving_out(random_groups(len(names), seed))])
    return RegionAttention(
        name="attention between regions",
        value=value,
        # A shuffled reference that is the same wherever there is an edge goes with nothing.
        null=np.nan_to_num([correlation(compared[np.ix_(order, order)], everyone) for order in orders]),
        interval=jackknife_interval(np.array(value), left),
        regions=names,
        attention=given,
        reference=compared,
        reference_is="equal attention" if reference is None else "the reference",
    )


def _by_name(reference: Any, regions: Sequence[str]) -> Array:
    """A reference in the order of the regions, where its rows and columns have names by these."""
    values = as_array(reference, "reference").astype(np.float64)
    if not (hasattr(reference, "index") and hasattr(reference, "columns")):
        return values
    rows, columns = ([str(name) for name in side] for side in (reference.index, reference.columns))
    numbered = [str(i) for i in range(len(rows))]
    if rows == columns == numbered and set(numbered) != set(regions):
        return values  # pandas numbers what has no names
    for side, named in (("rows", rows), ("columns", columns)):
        odd = [name for name in named if name not in regions or named.count(name) > 1]
        absent = [name for name in regions if name not in named]
        if odd or absent:
            which = f"has {odd[0]!r}" if odd else f"lacks {absent[0]!r}"
            raise ValueError(
                f"reference {which} at its {side}: it must name each region once ({', '.join(regions)[:200]}), at rows "
                "and columns, or be an array in the order of the regions"
            )
    return values[np.ix_([rows.index(name) for name in regions], [columns.index(name) for name in regions])]


def _labels(regions: Mapping[str, Any], columns: int) -> NDArray[np.int64]:
    label = np.full(columns, -1)
    for k, (name, index) in enumerate(given_regions(regions, columns).items()):
        if (label[index] >= 0).any():
            raise ValueError(f"region {name!r} shares columns with another: regions must not overlap here")
        label[index] = k
    return label


def _between(weight: Array, links: NDArray[np.int64], label: NDArray[np.int64], count: int) -> Array:
    source, target = label[links]
    inside = (source >= 0) & (target >= 0)
    total = np.zeros((count, count))
    np.add.at(total, (source[inside], target[inside]), weight[inside])
    return total


def _spearman(one: Array, other: Array) -> float:
    one, other = (ranks - ranks.mean() for ranks in (rankdata(one), rankdata(other)))
    scale = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / scale if scale > 0 else float("nan")


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class RegionMeans(Result):
    """What :func:`region_means` returns; the value is the share of the variance over columns that lies between regions.

    Attributes:
        regions: names.
        means: ``[R]`` of the measure in each.
        sizes: ``[R]`` numbers of columns.
    """

    regions: tuple[str, ...]
    means: Array
    sizes: NDArray[np.int64]

    def plot(self, ax: plotting.Axes | None = None) -> plotting.Axes:
        """Draw the regions with the largest means, largest first."""
        ax = draw_largest(ax, self.means, self.regions, self.name)
        ax.set(xlabel="mean over columns")
        return ax


def region_means(
    values: Any, regions: Mapping[str, Any], *, what: str = "measure", permutations: int = 200, seed: int = 0
) -> RegionMeans:
    """A measure of columns in each region of a sheet, such as the strength of their evidence.

    The value is eta squared, the share of its variance over the columns that lies between regions. Null: the columns of
    all regions dealt out to regions of the same sizes. Regions are of one piece: any smooth map is above it, so that
    what learning does shows beside the untrained network. Interval: jackknife over groups of columns.

    Args:
        values: ``[columns]``.
        regions: names to columns, as :func:`colgraph.analysis.sheet_regions` gives them, at least two, not overlapping.
        what: the measure, as it is called.
        permutations: of the columns.
        seed: of the permutations and groups.

    Raises:
        ValueError: for regions that overlap or are fewer than two, and values that are all the same or do not fit.
    """
    x = as_vector(values, "values")
    label = _labels(regions, len(x))
    inside = label >= 0
    x, label = x[inside], label[inside]
    if len(regions) < 2:
        raise ValueError(f"regions differ where there are at least two, got {len(regions)}")
    if not np.ptp(x) > 0:
        raise ValueError(f"the {what} of all columns is the same")

    def share(some: Array, groups: NDArray[np.int64]) -> float:
        count = np.bincount(groups, minlength=len(regions))
        means = np.bincount(groups, some, len(regions)) / np.maximum(count, 1)
        total = float(((some - some.mean()) ** 2).sum())
        return float((count * (means - some.mean()) ** 2).sum()) / max(total, 1e-300)

    rng = np.random.default_rng(seed)
    value = share(x, label)
    left = np.array([share(x[kept], label[kept]) for kept in leaving_out(random_groups(len(x), seed))])
    sizes = np.bincount(label, minlength=len(regions))
    return RegionMeans(
        name=f"{what} in regions",
        value=value,
        null=np.array([share(rng.permutation(x), label) for _ in range(check_count("permutations", permutations, 0))]),
        interval=jackknife_interval(np.array(value), left),
        regions=tuple(regions),
        means=np.bincount(label, x, len(regions)) / np.maximum(sizes, 1),
        sizes=sizes,
    )
