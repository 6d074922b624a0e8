"""Where on the sheet a recording's geometry is found: the dissimilarities of every column's neighborhood beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial.distance import squareform

from colgraph.analysis.arrays import Array, as_edges, as_positions, as_responses, check_choice, check_count, varying
from colgraph.analysis.dissimilarity import RDM_METRICS, left_by, ranked, rdm, triangle, unit_of
from colgraph.analysis.result import OnSheet
from colgraph.analysis.stats import permuted

METHODS = ("spearman", "pearson")
_TOGETHER = 256
"""Columns whose nulls are computed at a time."""

_LIKE = 1e-9
"""A shuffle that changes nothing counts as equal in spite of rounding."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Searchlight(OnSheet):
    """What :func:`searchlight` returns; the value is the largest of the map, beside the largest of each shuffle.

    Attributes:
        map: ``[columns]`` correlation of a light's dissimilarities with the recording's; NaN where a light has none.
        p_map: ``[columns]`` p-value of each by itself.
        p_corrected: ``[columns]`` the same, corrected for their number: how often the largest of a shuffle is as large.
        sizes: ``[columns]`` how many columns are in each light.
        subjects: how many the recording is of.
    """

    map: Array
    p_map: Array
    p_corrected: Array
    sizes: NDArray[np.int64]
    subjects: int

    @property
    def significant(self) -> NDArray[np.bool_]:
        """``[columns]``: where the corrected p-value is below 0.05."""
        return np.asarray(np.nan_to_num(self.p_corrected, nan=1.0) < 0.05)

    def summary(self) -> dict[str, Any]:
        """The same with the map's ``mean``, ``columns``, how many are ``defined`` and ``significant``, ``subjects``."""
        defined = np.isfinite(self.map)
        counts = {"columns": len(self.map), "defined": int(defined.sum()), "significant": int(self.significant.sum())}
        return super().summary() | {"mean": float(self.map[defined].mean()), **counts, "subjects": self.subjects}

    def picture(self) -> dict[str, Any]:
        """The map; columns that are not significant are small."""
        title = f"{int(self.significant.sum())} of {len(self.map)} columns above chance"
        return {
            "values": self.map,
            "label": "correlation with the recording",
            "title": title,
            "centred": True,
            "faint": ~self.significant,
        }


def searchlight(
    responses: Any,
    recording: Any,
    neighbors: Any,
    *,
    hops: int = 1,
    metric: str = "correlation",
    method: str = "spearman",
    given: Any | None = None,
    positions: Any | None = None,
    permutations: int = 1000,
    seed: int = 0,
) -> Searchlight:
    """How alike the dissimilarities of every column's neighborhood and of a recording are.

    A column's light are the column and those beside it in space. Its dissimilarities are those between the responses of
    all its columns together (:func:`colgraph.analysis.rdm`); columns that answer all stimuli alike tell none apart and
    are left out, and a light of none is dark: NaN. Of several subjects the mean of their correlations is taken. Source:
    Kriegeskorte, Goebel and Bandettini (2006), "Information-based functional brain mapping".

    A map says little by itself: what a column sees is like the recording, too. Compare with that of the patches and of
    the untrained network, and give the pixels' dissimilarities as ``given``.

    Null: the stimuli of the recording are shuffled, rows and columns together, the same for all columns and subjects
    (of what the fit on ``given`` leaves of it, where something is given, as :func:`colgraph.analysis.rsa` does). Of
    each shuffle the largest value over all columns corrects for their number. Source: Nichols and Holmes (2002),
    "Nonparametric permutation tests for functional neuroimaging".

    Args:
        responses: ``[stimuli, columns]`` or ``[stimuli, columns, channels]``.
        recording: dissimilarities of the same stimuli, ``[pairs]`` as of ``scipy.spatial.distance.pdist`` or
            ``[stimuli, stimuli]`` symmetric; of several subjects ``[subjects, pairs]`` or
            ``[subjects, stimuli, stimuli]``.
        neighbors: ``[2,A]`` pairs of columns that lie beside each other, see :func:`colgraph.analysis.spatial_edges`,
            whose ``k`` and ``radius`` make lights of any size.
        hops: how many steps from neighbor to neighbor a light reaches.
        metric: of the lights, see :func:`colgraph.analysis.rdm`.
        method: "spearman" or "pearson".
        given: dissimilarities of the same stimuli, ``[pairs]`` or ``[stimuli, stimuli]``: the map is of partial
            correlations then.
        positions: ``[columns, D]``, to draw the map.
        permutations: number of shuffles.
        seed: of the shuffles.

    Raises:
        ValueError: for recordings of another number of stimuli, matrices that are not symmetric or not finite,
            dissimilarities that are all equal, NaN, fewer than 4 stimuli, and where all lights are dark.
    """
    check_choice("method", method, METHODS)
    check_choice("metric", metric, RDM_METRICS)
    x = as_responses(responses, "responses", 4, channels=True)
    stimuli, columns = x.shape[:2]
    points = None if positions is None else as_positions(positions, columns)
    fixed = None if given is None else unit_of(ranked(_of_stimuli(given, stimuli, "given"), method))
    subjects = _subjects(recording, stimuli)
    units = np.stack([_unit(ranked(one, method), fixed) for one in subjects])
    shuffled = _shuffled(units, fixed, permuted(permutations, stimuli, seed))
    members = _members(as_edges(neighbors, columns), varying(x), check_count("hops", hops))
    found, p_one = np.full(columns, np.nan), np.full(columns, np.nan)
    largest = np.full(permutations, -np.inf)
    for some, lights in _lights(x, members, metric, method, fixed):
        found[some] = lights @ units.mean(0)
        by_chance = shuffled @ lights.T
        p_one[some] = (1 + (by_chance >= found[some] - _LIKE).sum(0)) / (1 + permutations)
        np.maximum(largest, by_chance.max(1), out=largest)
    defined = np.isfinite(found)
    if not defined.any():
        raise ValueError(
            f"none of the {columns} columns has dissimilarities: no light tells the {stimuli} stimuli apart"
        )
    p_all = np.full(columns, np.nan)
    p_all[defined] = (1 + (largest[:, None] >= found[defined] - _LIKE).sum(0)) / (1 + permutations)
    how = method if given is None else f"partial, {method}"
    return Searchlight(
        name=f"largest correlation of a light with the recording ({how})",
        value=float(found[defined].max()),
        null=largest,
        interval=np.full(2, np.nan),
        positions=points,
        map=found,
        p_map=p_one,
        p_corrected=p_all,
        sizes=np.array([len(one) for one in members]),
        subjects=len(subjects),
    )


def _subjects(recording: Any, stimuli: int) -> list[Array]:
    """The dissimilarities ``[pairs]`` of each subject."""
    array = recording.detach().cpu().numpy() if hasattr(recording, "detach") else recording
    try:
        array = np.asarray(array, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise ValueError("recording must be an array of numbers, of as many stimuli in every subject") from error
    alone = array.ndim == 1 or (array.ndim == 2 and array.shape == (stimuli, stimuli))
    several = array.ndim in (2, 3) and not alone and len(array) > 0
    # A matrix of another number of stimuli is one recording, not the pairs of many subjects.
    square = array.ndim == 2 and array.shape[0] == array.shape[1]
    if not alone and (not several or square):
        raise ValueError(
            f"recording must be [pairs] or [stimuli, stimuli] of the {stimuli} stimuli of the responses, or one such "
            f"for each subject, got shape {list(array.shape)}"
        )
    if alone:
        return [_of_stimuli(array, stimuli, "recording")]
    return [_of_stimuli(one, stimuli, f"recording of subject {i}") for i, one in enumerate(array)]


def _of_stimuli(values: Any, stimuli: int, what: str) -> Array:
    found = triangle(values.detach().cpu().numpy() if hasattr(values, "detach") else values, what)
    if len(found) != stimuli * (stimuli - 1) // 2:
        other = round((1 + np.sqrt(1 + 8 * len(found))) / 2)
        raise ValueError(f"{what} is of {other} stimuli, the responses are of {stimuli}")
    return found


def _unit(x: Array, fixed: Array | None) -> Array:
    return unit_of(x if fixed is None else left_by(fixed, x))


def _shuffled(units: Array, fixed: Array | None, orders: Iterable[NDArray[np.int64]]) -> Array:
    """``[permutations, pairs]``, whose product with a light is the mean of the subjects' correlations."""
    means = units.mean(0, keepdims=True) if fixed is None else units
    square = np.stack([squareform(one, checks=False) for one in means])
    rows, columns = np.triu_indices(square.shape[1], 1)
    found = []
    for order in orders:
        moved = square[:, order[rows], order[columns]]
        if fixed is not None:
            moved /= np.sqrt(np.maximum(1 - (moved @ fixed) ** 2, 1e-300))[:, None]
        found.append(moved.mean(0))
    return np.array(found)


def _members(edges: NDArray[np.int64], heard: NDArray[np.bool_], hops: int) -> list[NDArray[np.int64]]:
    """The columns of each light that answer stimuli in different ways."""
    count = len(heard)
    ends = np.concatenate([edges, edges[::-1], np.tile(np.arange(count), (2, 1))], axis=1)
    beside = sparse.csr_array((np.ones(ends.shape[1], bool), (ends[0], ends[1])), shape=(count, count))
    within = beside
    for _ in range(hops - 1):
        within = (within @ beside).astype(bool)
    within = within.tocsr()
    parts = np.split(within.indices, within.indptr[1:-1])
    return [np.sort(part[heard[part]]).astype(np.int64) for part in parts]


def _lights(
    x: NDArray[Any], members: list[NDArray[np.int64]], metric: str, method: str, fixed: Array | None
) -> Iterator[tuple[list[int], Array]]:
    """Columns, some at a time, and the dissimilarities of their lights, centred and of length 1."""
    some: list[int] = []
    lights: list[Array] = []
    for column, those in enumerate(members):
        if len(those):
            try:
                lights.append(_unit(ranked(triangle(rdm(x[:, those], metric), "light"), method), fixed))
            except ValueError:  # a stimulus that its columns answer with one number has no correlation distance
                continue
            some.append(column)
        if len(some) == _TOGETHER:
            yield some, np.stack(lights)
            some, lights = [], []
    if some:
        yield some, np.stack(lights)
