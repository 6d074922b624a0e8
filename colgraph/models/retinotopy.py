"""Which column sees which patch: images laid on sheets so that neighboring patches land on neighboring columns."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

_EXACT = 1024
"""The most columns of which groups are matched by an assignment of the least cost: its time grows with their cube."""
_FLIPS = ((1, 1), (1, -1), (-1, 1), (-1, -1))


def assign_patches(
    grid: tuple[int, int], positions: NDArray[np.floating], along: NDArray[np.float64] | None = None
) -> NDArray[np.int64]:
    """Match the patches of an image to the input columns, one or a compact group of as many to each.

    The columns are projected on their best-fitting plane and scaled to the image's extent; the match minimizes the sum
    of squared distances (a linear assignment, in which a patch takes part once for each column of its group). Of the
    eight ways to lay a square on the plane the cheapest is taken, and among equals the one closest to the order of the
    columns. Groups of more than 1,024 columns in all are cut out instead: strips of equally many columns along one
    direction, and each strip along the other.

    Args:
        grid: rows and columns of patches; the patch at (r, c) is number ``r * columns + c``.
        positions: ``[I,3]`` of the input columns in order of rank; I is a multiple of the number of patches.
        along: ``[2,3]`` where in space rows and columns of patches grow, if that is known: of the eight ways those that
            go there most are left.

    Returns:
        ``[I]`` int64: for each input column the number of its patch.
    """
    rows, columns = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    size = len(positions) // len(rows)
    patches = np.repeat(np.stack([_centred(rows), _centred(columns)], 1), size, 0)
    plane = _plane_coordinates(positions.astype(np.float64))
    in_order = np.arange(len(plane))
    best: tuple[float, float] | None = None
    chosen = in_order
    exact = size == 1 or len(plane) <= _EXACT
    # A large assignment is slow (cubic); then only the two axis orders are tried.
    quick = along is not None or len(plane) <= _EXACT or not exact
    for target in _laid(plane, _FLIPS if quick else _FLIPS[:1], along, positions):
        if exact:
            cost = ((target[:, None] - patches[None]) ** 2).sum(-1)
            assignment = linear_sum_assignment(cost)[1]
            total = float(cost[in_order, assignment].sum())
        else:
            assignment = np.argsort(_in_strips(target, grid[0]))
            total = float(((target - patches[assignment]) ** 2).sum())
        moved = assignment // size * size - in_order // size * size
        rank = (round(total, 6), float(np.abs(moved).sum()))
        if best is None or rank < best:
            best, chosen = rank, assignment
    return (chosen // size).astype(np.int64)


def _laid(
    plane: NDArray[np.float64],
    flips: tuple[tuple[int, int], ...],
    along: NDArray[np.float64] | None,
    positions: NDArray[np.floating],
) -> list[NDArray[np.float64]]:
    """Ways to lay an image on the plane: for each ``[I,2]`` where columns are among rows and columns of patches."""
    ways = [axes * np.array(flip) for axes in (plane, plane[:, ::-1]) for flip in flips]
    if along is None:
        return ways
    grows = (positions - positions.mean(0)).astype(np.float64) @ along.T
    agrees = np.array([(way * grows).sum() for way in ways])
    return [ways[i] for i in np.flatnonzero(agrees >= agrees.max() - 1e-6 * np.abs(grows).sum())]


def number_in_patch(assignment: NDArray[np.int64], positions: NDArray[np.floating]) -> NDArray[np.int64]:
    """``[I]``: 0, 1, ... among the columns of one patch, by where they lie in their group, the same in every group.

    Args:
        assignment: ``[I]`` the patch of each column, from :func:`assign_patches`.
        positions: ``[I,3]``.
    """
    plane = _plane_coordinates(positions.astype(np.float64))
    size = len(plane) // (int(assignment.max()) + 1)
    number = np.empty(len(plane), dtype=np.int64)
    for group in np.argsort(assignment, kind="stable").reshape(-1, size):
        number[group[_in_strips(plane[group], math.isqrt(size))]] = np.arange(size)
    return number


def patches_of_outputs(
    grid: tuple[int, int],
    positions: NDArray[np.floating],
    ends: tuple[NDArray[np.int64], NDArray[np.int64]],
    assignment: NDArray[np.int64],
) -> NDArray[np.int64]:
    """The patch that each output column answers for; empty where they are no multiple of the patches.

    The image lies on the output columns as on the input columns: not mirrored or turned against them.

    Args:
        grid: rows and columns of patches.
        positions: ``[N,3]`` of all columns.
        ends: the input columns and the output columns. Outputs that are all inputs answer for the patch they see.
        assignment: the patch of each input column.
    """
    inputs, outputs = ends
    if np.isin(outputs, inputs).all():
        return assignment[np.argsort(inputs)[np.searchsorted(np.sort(inputs), outputs)]]
    if len(outputs) % (grid[0] * grid[1]):
        return np.zeros(0, np.int64)
    place = np.stack([_centred(each) for each in np.divmod(assignment, grid[1])], 1)
    seen = positions[inputs].astype(np.float64)
    return assign_patches(grid, positions[outputs], along=place.T @ (seen - seen.mean(0)))


def _in_strips(points: NDArray[np.float64], strips: int) -> NDArray[np.int64]:
    """Points ``[n,2]`` in the order of strips of equally many along the first axis, each ordered along the second."""
    # Columns of a grid lie in rows to within rounding.
    first, second = np.round(points, 9).T
    order = np.lexsort((second, first))
    return np.concatenate([strip[np.argsort(second[strip], kind="stable")] for strip in np.array_split(order, strips)])


def _centred(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scaled to [-1, 1]; zeros where there is no extent."""
    low, high = values.min(), values.max()
    extent = high - low
    return np.zeros(len(values)) if extent <= 1e-9 else (2 * values - low - high) / extent


def _plane_coordinates(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coordinates ``[P,2]`` in the best-fitting plane, along directions close to the coordinate axes."""
    centred = positions - positions.mean(0)
    # All left singular vectors are as many as columns, squared; fewer than three columns have no normal without them.
    normal = np.linalg.svd(centred, full_matrices=len(centred) < 3)[2][-1]
    first, second = np.sort(np.argsort(np.abs(np.round(normal, 9)), kind="stable")[:2])
    u = np.eye(3)[first] - normal[first] * normal
    u /= np.linalg.norm(u)
    v = np.cross(normal, u)
    v *= np.sign(v[second]) or 1.0
    return np.stack([_centred(centred @ u), _centred(centred @ v)], 1)
