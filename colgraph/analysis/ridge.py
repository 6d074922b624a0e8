"""Ridge regression on held-out stimuli: which are held out together, and what is predicted of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.analysis.arrays import Array, as_labels, check_count
from colgraph.analysis.stats import permuted, permuted_groups, random_groups, recentred


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Which stimuli are held out together, and which of them are one of a kind: frames of one film.

    Attributes:
        fold: ``[stimuli]`` the fold in which each is held out.
        group: ``[stimuli]`` labels from 0 of what is never split, or None where every stimulus is by itself.
    """

    fold: NDArray[np.int64]
    group: NDArray[np.int64] | None

    def orders(self, permutations: int, seed: int) -> Iterator[NDArray[np.int64]]:
        """Random orders ``[stimuli]`` within folds: of stimuli, or of whole groups among those of equal size."""
        if self.group is None:
            return permuted(permutations, len(self.fold), seed, self.fold)
        return permuted_groups(permutations, self.group, seed, self.fold)

    def units(self, seed: int) -> NDArray[np.int64]:
        """``[stimuli]`` labels of what a jackknife leaves out together: no group is ever split."""
        if self.group is None:
            return random_groups(len(self.fold), seed)
        return random_groups(int(self.group.max()) + 1, seed)[self.group]

    @classmethod
    def of(cls, stimuli: int, folds: int, groups: Any | None, seed: int) -> HeldOut:
        """Folds of almost equal size.

        Args:
            stimuli: how many.
            folds: how many.
            groups: ``[stimuli]`` labels of any kind that must not be split, or None.
            seed: of the folds.

        Raises:
            ValueError: for too few stimuli or groups, and for a fold in which no two groups have equally many stimuli:
                its recordings could not be shuffled.
        """
        fold = held_out_folds(stimuli, folds, groups, seed)
        if groups is None:
            return cls(fold, None)
        group = np.unique(as_labels(groups, stimuli, "groups"), return_inverse=True)[1].astype(np.int64)
        size = np.bincount(group)
        for f in range(folds):
            held = np.sort(size[np.unique(group[fold == f])])
            if not (np.diff(held) == 0).any():
                raise ValueError(
                    f"groups: a fold holds {_sizes(held)}, and the null exchanges whole groups of one size within a "
                    f"fold: give each of the {folds} folds two groups of equally many stimuli, or use fewer folds"
                )
        return cls(fold, group)


def _sizes(held: NDArray[np.int64]) -> str:
    if len(held) == 1:
        return f"one group, of {held[0]} stimuli"
    return f"groups of {', '.join(map(str, held[:-1]))} and {held[-1]} stimuli"


def held_out_folds(stimuli: int, folds: int, groups: Any | None, seed: int) -> NDArray[np.int64]:
    """``[stimuli]``: the fold in which each is held out."""
    check_count("folds", folds, 2)
    if stimuli < 3 * folds:
        raise ValueError(f"{folds} folds need at least {3 * folds} stimuli (three in each), got {stimuli}")
    if groups is None:
        return random_groups(stimuli, seed, folds)
    label, size = np.unique(as_labels(groups, stimuli, "groups"), return_inverse=True, return_counts=True)[1:]
    if len(size) < folds:
        raise ValueError(f"{folds} folds need at least as many groups, got {len(size)}")
    # The largest groups first, each to the fold with the fewest stimuli so far; equals in random order.
    order = np.random.default_rng(seed).permutation(len(size))
    order = order[np.argsort(-size[order], kind="stable")]
    held, fold_of = np.zeros(folds, dtype=np.int64), np.empty(len(size), dtype=np.int64)
    for group in order:
        fold_of[group] = int(held.argmin())
        held[fold_of[group]] += size[group]
    if held.min() < 3:
        raise ValueError(f"groups leave a fold with {held.min()} stimuli, three are needed: use fewer folds")
    return np.asarray(fold_of[label])


def ridge_predictions(
    gram: Array, y: Array, train: NDArray[np.bool_], alphas: Array, group: NDArray[np.int64] | None = None
) -> tuple[Array, Array]:
    """Predictions for the stimuli that are not ``train``, and the penalty of each target.

    With ``K = U s U^T`` the centred Gram matrix, the fit is ``H y`` with ``H = U s / (s + alpha) U^T + 1 / n``, and the
    errors with the stimuli i left out together are ``(1 - H_ii)^-1 (y - H y)_i``: each by itself, or those of one
    ``group`` ``[stimuli]``, as frames of a film tell each other what a penalty would have to generalize to.
    """
    inside = gram[np.ix_(train, train)]
    mean = inside.mean(0)
    s, u = np.linalg.eigh(recentred(inside))
    s = np.maximum(s, 0)
    scale = s.mean() or 1.0
    centre = y[train].mean(0)
    rotated = u.T @ (y[train] - centre)
    together = None if group is None else [np.flatnonzero(group[train] == g) for g in np.unique(group[train])]
    error = np.stack([_left_out_error(u, s / (s + a * scale), y[train] - centre, rotated, together) for a in alphas])
    best = error.argmin(0)
    dual = u @ (rotated / (s[:, None] + alphas[best] * scale))
    across = gram[np.ix_(~train, train)]
    across = across - across.mean(1, keepdims=True) - mean + mean.mean()
    return across @ dual + centre, alphas[best]


def _left_out_error(
    u: Array, shrink: Array, y: Array, rotated: Array, together: list[NDArray[np.int64]] | None
) -> Array:
    """Mean squared error of stimuli left out ``[targets]``."""
    residual = y - u @ (shrink[:, None] * rotated)
    if together is None:
        leverage = (u * u) @ shrink + 1 / len(y)
        return np.asarray(((residual / np.maximum(1 - leverage, 1e-9)[:, None]) ** 2).mean(0))
    error = np.zeros(y.shape[1])
    for left in together:
        stays = (1 + 1e-9) * np.eye(len(left)) - (u[left] * shrink) @ u[left].T - 1 / len(y)
        error += (np.linalg.solve(stays, residual[left]) ** 2).sum(0)
    return error / len(y)
