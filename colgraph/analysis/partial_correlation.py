"""Topography beyond retinotopy: response correlation with proximity, given what the columns see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.analysis.arrays import Array, as_positions, as_responses, same_length, same_order, varying
from colgraph.analysis.pairs import Distance, Pairs, sample_pairs
from colgraph.analysis.result import Result
from colgraph.analysis.stats import as_groups, correlate_rows, jackknife_interval, permuted, random_groups

_PRODUCTS = 2e10
"""Stimuli x columns x columns x channels that are multiplied: some seconds."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class PartialCorrelation(Result):
    """What :func:`partial_correlation_by_distance` returns.

    Attributes:
        plain: correlation of response similarity with proximity, for the same pairs.
        input_value: the same of what the columns see.
        with_input: correlation of response similarity with that of what the columns see.
        columns: how many columns took part.
        pairs: how many pairs.
    """

    plain: float
    input_value: float
    with_input: float
    columns: int
    pairs: int

    def summary(self) -> dict[str, Any]:
        """The same with ``plain``, ``input`` and ``columns``."""
        return super().summary() | {"plain": self.plain, "input": self.input_value, "columns": self.columns}


def partial_correlation_by_distance(
    responses: Any,
    inputs: Any,
    positions: Any,
    *,
    metric: Distance = "euclidean",
    pairs: Pairs | None = None,
    unit: float | None = None,
    groups: Any | None = None,
    permutations: int = 1000,
    seed: int = 0,
) -> PartialCorrelation:
    """Are near columns more alike than what they see makes them?

    Natural images are alike at near places, so that columns answer alike for that alone. With ``r_ij`` how alike the
    responses of two columns are, ``g_ij`` how alike what they see, and ``p_ij = 1 / (d_ij + 1)`` their proximity as in
    :func:`colgraph.analysis.correlation_by_distance`, the value is the partial correlation of r and p given g, over a
    uniform sample of pairs: that of what linear fits on g leave of either. Similarity is Pearson's correlation over
    stimuli; of vectors (channels, pixels) that of all their components together, each less its mean and divided by its
    standard deviation: ``r_ij = sum_k cov(x_ik, x_jk) / sqrt(sum_k var x_ik sum_k var x_jk)``. Source: Legendre and
    Legendre (2012), "Numerical ecology", section 10.5 (partial Mantel statistic).

    Null: the columns' places are shuffled in what the fit on g leaves of r (Anderson and Legendre 1999, "An empirical
    comparison of permutation methods for tests of partial regression coefficients"). Interval: jackknife over groups of
    stimuli.

    Args:
        responses: ``[stimuli, columns]``, or ``[stimuli, columns, channels]``.
        inputs: ``[stimuli, columns]``, or ``[stimuli, columns, pixels]``: the patch that each column sees. Columns that
            see the same in all stimuli, such as zero throughout because they see nothing, do not take part.
        positions: ``[columns, D]``.
        metric: see :func:`colgraph.analysis.sample_pairs`.
        pairs: pairs to look at, instead of a sample made here.
        unit: the distance that counts as 1; the median nearest-neighbor distance if not given.
        groups: ``[columns]`` integer labels: the null shuffles only among columns of one label, such as those that see
            the same patch; columns of a negative label stay.
        permutations: number of shuffles.
        seed: of the sample, the shuffles and the groups; and of the channels and pixels, where there are so many that
            some must do.

    Raises:
        ValueError: for NaN, shapes that do not fit, fewer than 3 stimuli, or fewer than 3 columns that both answer and
            see something, and where similarity is the same for all pairs.
    """
    x = as_responses(responses, "responses", 3, channels=True)
    y = as_responses(inputs, "inputs", 3, channels=True)
    same_length("stimuli", responses=x, inputs=y)
    same_order(responses=responses, inputs=inputs)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"responses are of {x.shape[1]} columns, inputs of {y.shape[1]}")
    if unit is not None and not unit > 0:
        raise ValueError(f"unit must be positive, got {unit:g}")
    points = as_positions(positions, x.shape[1])
    known = _varies(x) & _varies(y)
    if known.sum() < 3:
        raise ValueError(
            f"{int(known.sum())} of {len(known)} columns both answer and see something that varies, 3 are needed"
        )
    if pairs is None:
        pairs = sample_pairs(points, metric=metric, among=known, seed=seed)
    pairs.check(len(known))
    pairs = pairs.among(known)
    used = pairs.columns
    within = as_groups(groups, len(known), among=np.flatnonzero(known)[used])
    first, second = (np.searchsorted(used, each[pairs.uniform]) for each in (pairs.first, pairs.second))
    near = 1 / (pairs.distance[pairs.uniform] / (unit or pairs.spacing) + 1)
    label = random_groups(len(x), seed)
    r, r_left_out = _similarity(x[:, known][:, used], label, first, second, seed)
    g, g_left_out = _similarity(y[:, known][:, used], label, first, second, seed)
    seen, answered = g[first, second], r[first, second]
    for name, values in (("responses", answered), ("inputs", seen)):
        if not np.ptp(values) > 1e-9:
            raise ValueError(f"{name} are equally alike in all {len(values)} pairs of columns")
    value = float(_partial(answered, near, seen))
    slope = np.polyfit(seen, answered, 1)
    residual = r - np.polyval(slope, g)
    null = [
        _partial(residual[o[first], o[second]], near, seen) for o in permuted(permutations, len(used), seed, within)
    ]
    return PartialCorrelation(
        name="response correlation with proximity, given the input",
        value=value,
        null=np.array(null),
        interval=jackknife_interval(value, _partial(r_left_out, near, g_left_out), transform="fisher"),
        plain=float(correlate_rows(answered, near)),
        input_value=float(correlate_rows(seen, near)),
        with_input=float(correlate_rows(answered, seen)),
        columns=len(used),
        pairs=len(first),
    )


def _varies(x: NDArray[Any]) -> NDArray[np.bool_]:
    """``[columns]``: whether anything of a column's vector differs between stimuli."""
    return np.asarray(varying(x.reshape(len(x), -1)).reshape(x.shape[1], -1).any(1))


def _similarity(
    x: NDArray[Any], label: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64], seed: int
) -> tuple[Array, Array]:
    """Of all columns ``[columns, columns]``, and of the pairs without each group of stimuli ``[G, P]``."""
    x = x.reshape(*x.shape[:2], -1)
    most = max(int(_PRODUCTS // (len(x) * x.shape[1] ** 2)), 1)
    if x.shape[2] > most:
        x = x[:, :, np.sort(np.random.default_rng(seed).permutation(x.shape[2])[:most])]
    z = x - x.mean(0, dtype=np.float64)
    spread, still = z.std(0), ~varying(x.reshape(len(x), -1)).reshape(x.shape[1:])
    z[:, still], spread[still] = 0, 1
    z = (z / spread).transpose(0, 2, 1)  # [stimuli, channels, columns]
    parts = [z[label == group] for group in range(int(label.max()) + 1)]
    whole = np.zeros((z.shape[2], z.shape[2]))
    products, sums = [], []
    for part in parts:
        rows = part.reshape(-1, part.shape[2])
        product = rows.T @ rows
        whole += product
        products.append((product[first, second], np.diag(product).copy()))
        sums.append(part.sum(0))
    size, total = np.diag(whole), np.sum(sums, 0)
    left_out = []
    for part, (product, square), mine in zip(parts, products, sums, strict=True):
        count, mean = len(z) - len(part), (total - mine) / (len(z) - len(part))
        joint = whole[first, second] - product - count * np.einsum("kp,kp->p", mean[:, first], mean[:, second])
        alone = np.maximum(size - square - count * (mean**2).sum(0), 1e-30)
        left_out.append(joint / np.sqrt(alone[first] * alone[second]))
    return whole / np.sqrt(size[:, None] * size), np.clip(left_out, -1, 1)


def _partial(r: Array, near: Array, given: Array) -> Array:
    """Correlation of ``r [..., P]`` and ``near [P]`` given ``given [..., P]``."""
    with_near, with_given, between = correlate_rows(r, near), correlate_rows(r, given), correlate_rows(given, near)
    return np.asarray(
        (with_near - with_given * between) / np.sqrt(np.maximum((1 - with_given**2) * (1 - between**2), 1e-30))
    )
