"""What arrays about columns and edges must be, for geometries and sheets: anything array-like in, numpy arrays out.

Arrays may be numpy arrays, torch tensors on any device or nested lists. What comes back is a copy. Every function
raises ``ValueError`` for values of another kind, shape or range; ``what`` is what messages call them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]

_ROUNDING = 0.01  # of the spacing, at most, by which a position may be rounded


def check_order(values: Any, what: str) -> None:
    """Raise ValueError for what would lose its meaning as a plain array: a mask, or an index in another order.

    A pandas index that has each of the numbers from 0, but not in order, says where rows belong (after sorting by
    another column, say); one of anything else is taken to be names.
    """
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        masked = int(np.ma.count_masked(values))
        raise ValueError(f"{what} must not be masked, {masked} of {values.size} entries are: leave those out")
    index = getattr(values, "index", None)
    if callable(index) or not hasattr(values, "iloc"):
        return
    number = np.asarray(index)
    falls = number.dtype.kind in "iu" and bool((np.diff(number) < 0).any())
    if falls and np.array_equal(np.sort(number), np.arange(len(number))):
        raise ValueError(
            f"{what} have an index that is not in order (it begins with {number[0]}): give them by .sort_index() "
            "where it says which is which, or .to_numpy() where it does not"
        )


def as_array(values: Any, what: str) -> NDArray[Any]:
    """A fresh numpy array."""
    return plain_array(values, what).copy()


def plain_array(values: Any, what: str) -> NDArray[Any]:
    """As numpy has it, which shares memory where it can.

    Raises:
        ValueError: for rows of unlike length, and as :func:`check_order`.
    """
    check_order(values, what)
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        try:
            values = values.numpy()
        except TypeError:  # numpy has no bfloat16
            values = values.double().numpy()
    try:
        return np.asarray(values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{what} must be an array of numbers with rows of equal length ({error})") from error


def numbers(values: Any, what: str) -> NDArray[np.float64]:
    """Real numbers, finite or not."""
    array = as_array(values, what)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{what} must be real numbers, got an array of {array.dtype}")
    return array.astype(np.float64, copy=False)


def integers(values: Any, what: str) -> Index:
    """Integers, whatever their type."""
    array = as_array(values, what)
    whole = array.dtype.kind == "f" and bool((np.isfinite(array) & (array == np.floor(array))).all())
    if array.size and array.dtype.kind not in "iu" and not whole:
        raise ValueError(f"{what} must be integers, got an array of {array.dtype}")
    return array.astype(np.int64, copy=False)


def check_range(index: Index, n: int, what: str) -> None:
    """Raise ValueError unless every index is one of ``n`` columns."""
    if index.size and (int(index.min()) < 0 or int(index.max()) >= n):
        wrong = int(index.min()) if int(index.min()) < 0 else int(index.max())
        raise ValueError(f"{what} must lie in 0..{n - 1} ({n} columns), got {wrong}")


def indices(values: Any, n: int, what: str, shape: tuple[int | str, ...], meaning: str = "") -> Index:
    """Columns in an array of some shape, such as ``(2, "E")``, where a letter stands for any number."""
    array = integers(values, what)
    _check_shape(array, shape, what, meaning)
    check_range(array, n, what)
    return array


def _check_shape(array: NDArray[Any], shape: tuple[int | str, ...], what: str, meaning: str = "") -> None:
    fits = array.ndim == len(shape) and all(isinstance(w, str) or w == g for w, g in zip(shape, array.shape))
    if not fits:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"{what} must have shape [{wanted}]{meaning}, got {list(array.shape)}")


def columns(values: Any, n: int, what: str) -> Index:
    """Some of ``n`` columns in the order given, from indices or from a boolean mask ``[N]``; each at most once."""
    index = as_array(values, what)
    if index.dtype == np.bool_:
        if index.shape != (n,):
            raise ValueError(f"{what} as a mask must have {n} entries, one per column, got shape {list(index.shape)}")
        return np.flatnonzero(index).astype(np.int64)
    index = integers(index, what)
    if index.ndim != 1:
        raise ValueError(f"{what} must be a list of column indices, got shape {list(index.shape)}")
    check_range(index, n, what)
    found, counts = np.unique(index, return_counts=True)
    if found.size != index.size:
        raise ValueError(f"{what} names column {found[counts > 1][0]} more than once")
    return index


def positions(values: Any, n: int | str = "N", what: str = "positions") -> NDArray[np.float64]:
    """``[N,3]`` from coordinates ``[N,1]``, ``[N,2]`` or ``[N,3]``: zeros where there are fewer."""
    array = numbers(values, what)
    if array.ndim != 2 or array.shape[1] not in (1, 2, 3) or n not in ("N", len(array)):
        raise ValueError(f"{what} must have shape [{n}, 3], [{n}, 2] or [{n}, 1], got {list(array.shape)}")
    if array.shape[0] == 0:
        raise ValueError(f"{what} are empty: there must be at least one column")
    # Sheets keep float32 positions; anything beyond its square root overflows as soon as it is squared.
    bad = ~(np.abs(array) < 1e19)
    if bad.any():
        row = int(np.flatnonzero(bad.any(1))[0])
        raise ValueError(f"{what} must be finite and below 1e19, column {row} is at {array[row].tolist()}")
    return np.pad(array, ((0, 0), (0, 3 - array.shape[1])))


def edge_index(values: Any, n: int) -> Index:
    """``[2,E]`` sources, then targets, as PyG has them: nothing else will do."""
    array = as_array(values, "edge_index")
    if array.ndim != 2 or array.shape[0] != 2 or array.dtype.kind not in "iu":
        raise ValueError(f"edge_index must be integers of shape [2, E], got {array.dtype} of shape {list(array.shape)}")
    check_range(array, n, "edge_index")
    return array.astype(np.int64, copy=False)


def edges(values: Any) -> Index:
    """``[2,E]`` sources, then targets, of an array of that shape, or of lists: that, or pairs (source, target).

    The range is checked elsewhere. Two lists of two columns that mean other edges as sources and targets than as pairs
    are refused.
    """
    array = integers(values, "edges")
    listed = array.ndim == 2 and not hasattr(values, "shape") and not any(hasattr(part, "shape") for part in values)
    if listed and array.shape == (2, 2) and not (array == array.T).all():
        (a, b), (c, d) = array.tolist()
        raise ValueError(
            f"edges {[[a, b], [c, d]]} may be {a} to {b} and {c} to {d}, or {a} to {c} and {b} to {d}: give an array "
            f"of sources and targets, np.array([[{a}, {c}], [{b}, {d}]]) for the former"
        )
    if listed and array.shape[1] == 2:
        return np.ascontiguousarray(array.T)
    if array.ndim != 2 or array.shape[0] != 2:
        hint = ": transpose it" if array.ndim == 2 and array.shape[1] == 2 else ""
        raise ValueError(f"edges must have shape [2, E], sources then targets, got {list(array.shape)}{hint}")
    return array


def lengths(values: Any, ends: Index, what: str = "edge_distance") -> NDArray[np.float64]:
    """``[E]`` finite lengths, 0 or more, of edges ``[2,E]``."""
    array = numbers(values, what)
    _check_shape(array, (ends.shape[1],), what, ", one per edge")
    wrong = ~(np.isfinite(array) & (array >= 0))
    if wrong.any():
        e = int(np.flatnonzero(wrong)[0])
        source, target = ends[:, e]
        raise ValueError(f"{what} must be finite and not negative, edge {e} ({source} to {target}) is {array[e]:g}")
    return array


def rounding(values: NDArray[np.float64], spacing: float) -> None:
    """Refuse positions that float32 cannot tell apart, as of coordinates of a map or a microscope's stage.

    Args:
        values: ``[N,3]``.
        spacing: how far neighbors are apart; 0 where that is not known.
    """
    rounded = float(np.abs(values.astype(np.float32) - values).max(initial=0))
    if rounded > _ROUNDING * spacing > 0:
        far = float(np.abs(values).max())
        raise ValueError(
            f"positions lie up to {far:g} from the origin, where float32 rounds by {rounded:.2g}, and neighbors are "
            f"{spacing:g} apart: subtract their mean"
        )


def labels(values: Any, n: int, what: str) -> Index:
    """``[N]`` integer labels (or booleans, as 0 and 1)."""
    array = as_array(values, what)
    array = array.astype(np.int64) if array.dtype == np.bool_ else integers(array, what)
    _check_shape(array, (n,), what, ", one label per column")
    return array


def names(values: Sequence[str], n: int) -> list[str]:
    """N column names."""
    values = values if isinstance(values, str) else list(values)
    if isinstance(values, str) or len(values) != n:
        raise ValueError(f"names must have {n} entries, one per column, got {len(values)}")
    return [str(name) for name in values]


def area_names(names: Sequence[str]) -> list[str]:
    """Names of areas, which tell them apart."""
    if isinstance(names, str):
        raise ValueError(f"area_names must be a list of names, got the text {names!r}")
    found = [str(name) for name in names]
    odd = [name for name in found if not name.strip() or len(name.splitlines()) != 1]
    if odd:
        raise ValueError(f"area_names must be texts of one line that are not empty, got {odd[0]!r}")
    if len(set(found)) < len(found):
        twice = next(name for name in found if found.count(name) > 1)
        raise ValueError(f"area_names has {twice!r} more than once: the areas could not be told apart")
    return found


def areas(values: Any, names: Sequence[str] | None, n: int) -> tuple[Index, list[str]]:
    """``[N]`` which area each column is in, as places in the list of names, or -1; and that list.

    Without names, areas are called by their numbers.
    """
    area = labels(values, n, "area")
    most = int(area.max(initial=-1))
    found = [str(k) for k in range(most + 1)] if names is None else area_names(names)
    if int(area.min(initial=0)) < -1 or most >= len(found):
        wrong = int(area.min()) if int(area.min(initial=0)) < -1 else most
        raise ValueError(
            f"area must lie in -1 (in none) to {len(found) - 1}, for the {len(found)} area_names, got {wrong}"
        )
    return area, found


def spacing(value: Any) -> float:
    """A distance between neighbors: positive and finite."""
    number = float(value)
    if not 0 < number < float("inf"):
        raise ValueError(f"spacing must be positive and finite, got {number}")
    return number


def period(values: Any) -> tuple[float, ...]:
    """Three side lengths of a periodic box from 1 to 3: 0 where an axis does not wrap, or there are fewer."""
    sides = numbers(values, "period")
    if sides.ndim != 1 or not 1 <= sides.size <= 3:
        raise ValueError(f"period must be 1 to 3 side lengths, got shape {list(sides.shape)}")
    if not np.isfinite(sides).all() or (sides < 0).any() or not sides.any():
        raise ValueError(f"period must be finite, not negative, and not all zero, got {sides.tolist()}")
    return tuple(np.pad(sides, (0, 3 - sides.size)).tolist())
