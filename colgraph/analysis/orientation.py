"""Orientation: which one a column prefers, how strongly, and where the map turns around a point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.analysis.arrays import (
    Array,
    as_labels,
    as_positions,
    as_vector,
    check_choice,
    check_varies,
    column_signal,
)
from colgraph.analysis.result import OnSheet
from colgraph.analysis.stats import as_groups, jackknife_interval, leaving_out, permuted, random_groups

_ALIKE = 1e-5  # radians: orientations that lie nearer are one, as theta and theta + pi in float32


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class OrientationMap(OnSheet):
    """What :func:`orientation_map` returns; the value is the mean selectivity.

    Attributes:
        preference: ``[columns]`` radians, from 0 to below pi.
        selectivity: ``[columns]`` from 0 (answers all orientations alike) to 1 (answers one only).
        p_columns: ``[columns]`` chance of a column's selectivity when orientations are shuffled; not corrected for the
            number of columns.
        orientations: ``[O]`` radians, ascending.
        tuning: ``[O, columns]`` mean response to each orientation.
    """

    preference: Array
    selectivity: Array
    p_columns: Array
    orientations: Array
    tuning: Array

    def selective(self, *, share: float = 0.25, by: str = "range", p: float | None = None) -> NDArray[np.bool_]:
        """``[columns]``: those whose preference means something, for smoothness and pinwheels.

        Args:
            share: the share of columns that are most selective. Source: the top quartile by the range of the tuning
                curve, of Margalit et al. (2024, TDANN).
            by: "range" (largest less smallest mean response to an orientation) or "selectivity".
            p: instead of a share, all columns whose ``p_columns`` is at most this.

        Raises:
            ValueError: for values out of range, and where no column is selective at ``p``.
        """
        check_choice("by", by, ("range", "selectivity"))
        if p is not None:
            found = self.p_columns <= p
            if not found.any():
                least = float(self.p_columns.min())
                raise ValueError(
                    f"none of the {len(found)} columns is selective at p <= {p:g}, the least is {least:.3g}"
                )
            return found
        if not 0 < share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {share:g}")
        strength = np.ptp(self.tuning, axis=0) if by == "range" else self.selectivity
        return np.asarray(strength >= np.quantile(strength, 1 - share))

    @property
    def resultant(self) -> float:
        """How far preferences coincide: the length of the mean of ``e^{2 i preference}``, from 0 to 1."""
        return float(abs(np.exp(2j * self.preference).mean()))

    def picture(self) -> dict[str, Any]:
        """The preferred orientations.

        Columns that are not selective beyond chance (p > 0.05) are drawn small: what they prefer means nothing.
        """
        title = f"mean selectivity {self.value:.3f} (p = {self.p_value:.2g})"
        look = {"label": "preferred orientation", "title": title, "cyclic": True}
        return {"values": self.preference, "faint": self.p_columns > 0.05, **look}


def orientation_map(
    responses: Any,
    orientations: Any,
    *,
    signal: str | int = "norm",
    within: Any | None = None,
    positions: Any | None = None,
    permutations: int = 200,
    seed: int = 0,
) -> OrientationMap:
    """Preferred orientation and selectivity from responses to gratings.

    With ``R(theta)`` a column's mean response to all gratings of orientation theta (over phases and spatial
    frequencies), the preference is ``arg(sum R e^{2 i theta}) / 2`` and the selectivity
    ``1 - CV = |sum R e^{2 i theta}| / sum |R|``. For responses that are not negative this is one minus the circular
    variance of Ringach, Shapley and Hawken (2002), "Orientation selectivity in macaque V1"; the absolute value keeps it
    between 0 and 1 for signed responses. Adding a constant to a column's responses leaves its preference and lowers its
    selectivity.

    Null: orientations are shuffled over stimuli (``within`` groups), which keeps each column's range of responses.
    Interval: jackknife over repeats of the whole set of orientations (phases, frequencies); NaN without repeats.

    Args:
        responses: ``[stimuli, columns]``, or ``[stimuli, columns, channels]``.
        orientations: ``[stimuli]`` radians; pi and 0 are the same. They must be spread evenly, or a column that answers
            all of them alike would seem to prefer one.
        signal: what of a vector response is taken, see :func:`colgraph.analysis.column_signal`.
        within: ``[stimuli]`` integer labels (one per spatial frequency and phase, say); shuffles stay within a label.
        positions: ``[columns, D]``, for the picture.
        permutations: number of shuffles.
        seed: of the shuffles.

    Raises:
        ValueError: for fewer than three orientations, uneven ones, degrees, NaN, or columns without variance.
    """
    x = column_signal(responses, signal)
    check_varies(x)
    angle, cell = _orientations(as_vector(orientations, "orientations", len(x)))
    label = None if within is None else np.unique(as_labels(within, len(x), "within"), return_inverse=True)[1]
    label = as_groups(label, len(x), what="stimuli")
    points = None if positions is None else as_positions(positions, x.shape[1])
    average = _averaging(cell, len(angle)).astype(x.dtype)
    tuning = average @ x
    preference, selectivity = _preference(tuning, angle)
    null, exceeded = np.empty(permutations), np.zeros(x.shape[1])
    rounding = 16 * float(np.finfo(x.dtype).eps)
    for i, order in enumerate(permuted(permutations, len(x), seed, label)):
        shuffled = _preference(average[:, order] @ x, angle)[1]
        # A shuffle that leaves a column's selectivity as it is must count in spite of rounding.
        shuffled = np.where(np.abs(shuffled - selectivity) <= rounding, selectivity, shuffled)
        null[i] = shuffled.mean()
        exceeded += shuffled >= selectivity
    return OrientationMap(
        name="mean orientation selectivity",
        value=float(selectivity.mean()),
        null=null,
        interval=jackknife_interval(selectivity.mean(), _without_repeats(x, cell, angle, seed)),
        preference=preference,
        selectivity=selectivity,
        p_columns=(1 + exceeded) / (1 + permutations),
        orientations=angle,
        tuning=tuning.astype(np.float64),
        positions=points,
    )


def _orientations(theta: Array) -> tuple[Array, NDArray[np.int64]]:
    """The different orientations ``[O]`` and which of them each stimulus has."""
    if np.abs(theta).max() > 2 * np.pi + 1e-6:
        raise ValueError(f"orientations must be in radians, got {theta[np.abs(theta).argmax()]:g}")
    folded = theta % np.pi
    folded[folded > np.pi - _ALIKE] -= np.pi
    # By the gaps between them: rounding would part angles that differ in nothing but their rounding to float32.
    order = np.argsort(folded, kind="stable")
    begins = np.concatenate([[True], np.diff(folded[order]) > _ALIKE])
    cell = np.empty(len(theta), dtype=np.int64)
    cell[order] = np.cumsum(begins) - 1
    angle = folded[order[begins]]
    if len(angle) < 3:
        raise ValueError(f"orientations must be at least 3 different ones, got {len(angle)}: {angle.tolist()}")
    if abs(np.exp(2j * angle).mean()) > 1e-3:
        raise ValueError(f"orientations must be spread evenly over pi, got {np.round(angle, 4).tolist()} radians")
    return angle, cell


def _averaging(cell: NDArray[np.int64], count: int) -> Array:
    """``[O, stimuli]``: rows that average the stimuli of each orientation."""
    member = (cell[None] == np.arange(count)[:, None]).astype(np.float64)
    return np.asarray(member / member.sum(1, keepdims=True))


def _preference(tuning: NDArray[Any], angle: Array) -> tuple[Array, Array]:
    """Preferred orientation and selectivity from ``tuning [O, columns]``."""
    vector = np.exp(2j * angle) @ tuning
    size = np.abs(tuning).sum(0, dtype=np.float64)
    selectivity = np.abs(vector) / np.where(size > 0, size, 1)
    return np.angle(vector) / 2 % np.pi, selectivity


def _without_repeats(x: NDArray[Any], cell: NDArray[np.int64], angle: Array, seed: int) -> Array:
    """Mean selectivity with each group of repeats left out; a group has every orientation equally often."""
    order = np.argsort(cell, kind="stable")
    count = np.bincount(cell)
    repeat = np.empty(len(cell), dtype=np.int64)
    repeat[order] = np.concatenate([np.arange(n) for n in count])
    if count.min() < 2:
        return np.empty(0)
    group = random_groups(int(count.max()), seed)[repeat]
    out = []
    for keep in leaving_out(group):
        if len(np.unique(cell[keep])) == len(angle):
            out.append(_preference(_averaging(cell[keep], len(angle)).astype(x.dtype) @ x[keep], angle)[1].mean())
    return np.array(out)
