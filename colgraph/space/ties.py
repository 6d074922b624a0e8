"""Which of several equally distant columns are the nearest: without a preferred direction, the same everywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Distances whose relative difference is below this count as equal.
TOLERANCE = 1e-6

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The mixing function of splitmix64 (Steele, Lea and Flood 2014): an invertible scramble of 64 bits."""
    x = x + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


def pair_hash(i: NDArray[np.int64], j: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A fixed 64-bit hash of the unordered pair of columns.

    It is symmetric, so that both ends of a pair tend to choose each other, and what one direction gains the opposite
    one gains too.
    """
    low, high = np.minimum(i, j).astype(np.uint64), np.maximum(i, j).astype(np.uint64)
    return _mix(_mix(low) ^ high)


def shell_is_complete(distance: NDArray[np.float64], k: int) -> NDArray[np.bool_]:
    """Per row, whether ``distance [m,K]`` reaches beyond every candidate that ties with the k-th nearest."""
    if distance.shape[1] < k:
        return np.zeros(distance.shape[0], dtype=bool)
    kth = np.partition(distance, k - 1, axis=1)[:, k - 1]
    furthest = np.where(np.isfinite(distance), distance, -np.inf).max(1)
    return furthest > kth * (1 + TOLERANCE)


def nearest_mask(
    target: NDArray[np.int64], source: NDArray[np.int64], distance: NDArray[np.float64], k: int
) -> NDArray[np.bool_]:
    """The k nearest of each row's candidates, equal distances decided by :func:`pair_hash`.

    Args:
        target: ``[m]`` column of each row.
        source: ``[m,K]`` candidates.
        distance: ``[m,K]``, infinite where there is no candidate.
        k: how many to take; a row with fewer candidates takes all it has.

    Returns:
        ``[m,K]`` bool.
    """
    if distance.shape[1] <= k:
        return np.isfinite(distance)
    kth = np.partition(distance, k - 1, axis=1)[:, k - 1, None]
    with np.errstate(invalid="ignore"):
        slack = np.where(np.isfinite(kth), kth * TOLERANCE, 0.0)
        chosen = distance < kth - slack
        tied = (np.abs(distance - kth) <= slack) & np.isfinite(distance)
    room = k - chosen.sum(1)
    surplus = np.flatnonzero(tied.sum(1) > room)
    chosen |= tied
    if surplus.size:
        # Of the tied ones, those with the lowest hashes: as many as there is room for.
        late = tied[surplus]
        row, column = np.nonzero(late)
        key = np.full(late.shape, np.iinfo(np.uint64).max)
        key[row, column] = pair_hash(target[surplus[row]], source[surplus[row], column])
        last = np.take_along_axis(np.sort(key, axis=1), room[surplus, None] - 1, axis=1)
        chosen[surplus] &= ~(late & (key > last))
    return chosen
