"""Arrays of dissimilarities, whole or condensed, in any order of axes, to triangles; and what is wrong with them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.analysis.arrays import Array

_ALIKE = 1e-4
"""How far the two triangles may lie apart, by the largest dissimilarity: files in single precision are rounded."""


def side_of(pairs: int) -> int | None:
    """The number of stimuli that have so many pairs; None where no number (of three or more) has."""
    side = round((1 + np.sqrt(1 + 8 * pairs)) / 2)
    return side if side >= 3 and side * (side - 1) // 2 == pairs else None


def as_triangles(values: NDArray[Any], count: int | None, what: str) -> tuple[Array, list[str]] | None:
    """``[subjects, times, pairs]`` of an array of dissimilarity matrices, and what to say of it.

    Matrices are the two axes next to each other that are equally long and symmetric, condensed ones the axis that is
    as long as there are pairs. Of two other axes the first is of subjects, the second of times; of three they are
    subjects, sessions (averaged) and times.

    Args:
        values: ``[n, n]`` or ``[pairs]``, perhaps with more axes before or behind.
        count: the number of stimuli, where it is known; it decides where shapes leave a choice.
        what: the array's name.

    Returns:
        None for an array that cannot be one of dissimilarities.

    Raises:
        ValueError: for matrices that are not symmetric, similarities, NaN, or constant, and shapes that may be read in
            two ways.
    """
    x = np.asarray(values, dtype=np.float64)
    squares = [i for i in range(x.ndim - 1) if x.shape[i] == x.shape[i + 1] >= 3]
    lines = [i for i in range(x.ndim) if side_of(x.shape[i]) is not None] if x.ndim < 4 else []
    # Six subjects are as many as four stimuli have pairs, but there are more pairs than subjects.
    longest = [i for i in lines if x.shape[i] == max(x.shape)]
    if count is not None:
        exact = [i for i in squares if x.shape[i] == count], [i for i in lines if side_of(x.shape[i]) == count]
        squares, lines = exact if any(exact) else (squares, longest)
    else:
        lines = longest
    stacks = {i: _both_triangles(np.moveaxis(x, (i, i + 1), (-2, -1))) for i in squares if x.ndim <= 5}
    fair = [i for i, (stack, _) in stacks.items() if _uneven(stack) is None]
    if fair:
        stack, lone = stacks[fair[0]]
        matrices, notes = _without_diagonal(stack, what)
        notes = [*notes, f"{what} has one triangle alone, the {lone} one"] if lone else notes
    elif len(lines) > 1 and (count is not None or x.ndim > 2):
        raise ValueError(
            f"{what} has shape {list(x.shape)}: either axis may be that of the pairs: give square matrices, [subjects, "
            "stimuli, stimuli]"
        )
    elif lines and not (stacks and x.ndim == 2):
        matrices, notes = np.moveaxis(x, lines[0], -1), []
    elif stacks:
        raise _not_symmetric(next(iter(stacks.values()))[0], what)
    else:
        return None
    if matrices.ndim == 4:
        sizes = " x ".join(map(str, matrices.shape[:3]))
        notes = [*notes, f"{what} is read as {sizes} subjects, sessions and times: sessions are averaged"]
        matrices = matrices.mean(1)
    triangles = matrices[None, None] if matrices.ndim == 1 else matrices[:, None] if matrices.ndim == 2 else matrices
    _check(triangles, what)
    return triangles, notes


def _both_triangles(stack: Array) -> tuple[Array, str]:
    """Matrices of which one triangle is left empty (NaN or zero) with both, and which one they had."""
    turned = np.swapaxes(stack, -2, -1)
    above = np.triu(np.ones(stack.shape[-2:], dtype=bool), 1)
    for name, here, there in (("upper", above, above.T), ("lower", above.T, above)):
        if not np.nan_to_num(stack[..., there]).any() and np.nan_to_num(stack[..., here]).any():
            return np.where(there, turned, stack), name
    return stack, ""


def _uneven(stack: Array) -> tuple[int, ...] | None:
    """The first entry that differs from that across the diagonal; entries that are missing are another fault."""
    apart = np.nan_to_num(np.abs(stack - np.swapaxes(stack, -2, -1)), nan=0.0, posinf=0.0)
    finite = np.abs(stack[np.isfinite(stack)])
    odd = apart > _ALIKE * (finite.max() if finite.size else 1)
    return tuple(int(i) for i in np.argwhere(odd)[0]) if odd.any() else None


def _not_symmetric(stack: Array, what: str) -> ValueError:
    *which, i, j = _uneven(stack) or (0, 0)
    one = f" of matrix {which[0] + 1}" if which else ""
    here, there = stack[(*which, i, j)], stack[(*which, j, i)]
    return ValueError(
        f"{what} is not symmetric: entry ({i + 1}, {j + 1}){one} is {here:.4g}, entry ({j + 1}, {i + 1}) is {there:.4g}"
    )


def _without_diagonal(stack: Array, what: str) -> tuple[Array, list[str]]:
    """The triangles ``[..., pairs]``, and a note on a diagonal that is not zero."""
    n = stack.shape[-1]
    diagonal = np.diagonal(stack, axis1=-2, axis2=-1)
    rows, columns = np.triu_indices(n, 1)
    # A pair is missing if either of its entries is.
    triangles = np.where(np.isnan(stack[..., columns, rows]), np.nan, stack[..., rows, columns])
    size = np.nanmax(np.abs(triangles), initial=0)
    if np.isnan(diagonal).all():
        return triangles, [f"{what} has NaN on its diagonal, which is not read"]
    largest = np.fmax.reduce(np.where(np.eye(n, dtype=bool), -np.inf, np.nan_to_num(stack, nan=-np.inf)), axis=-1)
    low, high = (f"{end(diagonal) + 0.0:.4g}" for end in (np.nanmin, np.nanmax))
    text = low if low == high else f"{low} to {high}"
    # Negative distances are similarities with zeros on their diagonal; one such matrix in a stack is one too many.
    if (
        (diagonal >= largest - _ALIKE * size).all(-1) & (diagonal > np.nanmin(stack, (-2, -1))[..., None]).all(-1)
    ).any():
        raise ValueError(
            f"{what} holds similarities, not dissimilarities: its diagonal ({text}) is the largest of each row: give "
            "1 - similarity, or the largest value less each"
        )
    if np.nanmax(np.abs(diagonal)) <= _ALIKE * size:
        return triangles, []
    return triangles, [f"{what} has {text} on its diagonal, not zero: the diagonal is not read"]


def _check(triangles: Array, what: str) -> None:
    """Raise ValueError for pairs that are missing, and for matrices of one value, naming the first."""
    many = triangles.shape[:2] != (1, 1)
    for place in itertools.product(*map(range, triangles.shape[:2])):
        line, of = triangles[place], f", matrix {place[0] + 1}" if many else ""
        if triangles.shape[1] > 1:
            of += f" at time {place[1] + 1}"
        wrong = np.flatnonzero(~np.isfinite(line))
        if len(wrong):
            i, j = (index[wrong[0]] for index in np.triu_indices(side_of(len(line)) or 0, 1))
            raise ValueError(
                f"{what}{of}: the dissimilarity of stimuli {i + 1} and {j + 1} is {line[wrong[0]]:g} ({len(wrong)} of "
                f"{len(line)} pairs): every pair needs a number in every subject; leave this one out, or the stimuli"
            )
        if not np.ptp(line) > 0:
            raise ValueError(f"{what}{of} is constant: all dissimilarities are {line[0]:g}")
