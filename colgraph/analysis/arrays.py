"""Checks of what callers hand in: plain arrays out, or one line that says what is wrong."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.checks import plain_array as plain_array
from colgraph.options import check_choice as check_choice

Array = NDArray[np.float64]


def as_array(values: Any, what: str) -> NDArray[Any]:
    array = plain_array(values, what)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{what} must be real numbers, got an array of {array.dtype}")
    return array


def _finite(array: NDArray[Any], what: str) -> None:
    if np.isfinite(array.sum(dtype=np.float64)):
        return
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        first = tuple(int(i) for i in bad[0])
        raise ValueError(f"{what} must be finite, {len(bad)} entries are not: the first is {array[first]} at {first}")


def as_vector(values: Any, what: str, length: int | None = None) -> Array:
    """``[n]`` finite float64.

    Raises:
        ValueError: for another shape or length, and for entries that are not finite.
    """
    array = as_array(values, what).astype(np.float64)
    if array.ndim != 1 or (length is not None and array.size != length):
        wanted = "one-dimensional" if length is None else f"of shape [{length}]"
        raise ValueError(f"{what} must be {wanted}, got shape {list(array.shape)}")
    _finite(array, what)
    return array


def as_mask(values: Any, what: str, length: int | None = None, least: int = 0) -> NDArray[np.bool_]:
    """``[n]`` of booleans.

    Raises:
        ValueError: for another type, shape or length, or fewer than ``least`` that are true.
    """
    array = as_array(values, what)
    if array.dtype != bool or array.ndim != 1 or (length is not None and array.size != length):
        wanted = "" if length is None else f" of {length} entries"
        raise ValueError(f"{what} must be a boolean mask{wanted}, got {array.dtype} of shape {list(array.shape)}")
    if array.sum() < least:
        raise ValueError(f"{what} leaves {int(array.sum())} of {array.size} columns, at least {least} are needed")
    return array


def as_responses(values: Any, what: str = "responses", least: int = 2, channels: bool = False) -> NDArray[Any]:
    """Responses ``[stimuli, columns]`` (with ``channels`` also ``[stimuli, columns, channels]``), finite floats.

    float32 stays float32; everything else becomes float64.

    Raises:
        ValueError: for another shape, fewer than ``least`` stimuli, no columns, and entries that are not finite.
    """
    array = as_array(values, what)
    if array.dtype != np.float32:
        array = array.astype(np.float64)
    if array.ndim != 2 and not (channels and array.ndim == 3):
        shapes = "[stimuli, columns]" + (" or [stimuli, columns, channels]" if channels else "")
        raise ValueError(f"{what} must have shape {shapes}, got {list(array.shape)}")
    if array.shape[0] < least:
        raise ValueError(f"{what} must have at least {least} stimuli, got {array.shape[0]}")
    if 0 in array.shape:
        raise ValueError(f"{what} must not be empty, got shape {list(array.shape)}")
    _finite(array, what)
    return array


def as_features(values: Any, what: str, least: int = 3) -> Array:
    """``[stimuli, features]`` float64; channels and columns are all features.

    Raises:
        ValueError: as :func:`as_responses`, and where no feature varies.
    """
    array = as_responses(values, what, least, channels=True)
    flat = array.reshape(len(array), -1)
    if not np.ptp(flat, axis=0).any():
        raise ValueError(f"{what} have no variance: every feature is the same for all {len(flat)} stimuli")
    return flat.astype(np.float64)


def varying(responses: NDArray[Any]) -> NDArray[np.bool_]:
    """``[columns]``: whether a column's response differs between stimuli by more than rounding."""
    rest = tuple(i for i in range(responses.ndim) if i != 1)
    spread = np.ptp(responses, axis=0) if responses.ndim == 2 else np.ptp(responses, axis=0).max(-1)
    size = np.abs(responses).max(axis=rest)
    return np.asarray(spread > 8 * np.finfo(responses.dtype).eps * size)


def among(groups: Any, kept: Any) -> NDArray[np.int64]:
    """Edges ``[2,E]`` or faces ``[3,F]`` all of whose columns are kept, by the columns' numbers among those.

    Args:
        groups: ``[k, G]`` indices of columns.
        kept: ``[columns]`` True where a column is kept, such as :func:`varying` says.

    Raises:
        ValueError: for a mask that is none, or groups that name a column beyond it.
    """
    index, mask = as_array(groups, "groups"), as_mask(kept, "kept")
    if index.ndim != 2 or index.dtype.kind not in "iu":
        raise ValueError(f"groups must be integers of shape [k, G], got {index.dtype} of shape {list(index.shape)}")
    if index.size and (index.min() < 0 or index.max() >= len(mask)):
        raise ValueError(f"groups must lie in 0..{len(mask) - 1}, got {int(index.min())}..{int(index.max())}")
    return np.asarray((np.cumsum(mask) - 1)[index[:, mask[index].all(0)]], dtype=np.int64)


def check_varies(responses: NDArray[Any], what: str = "responses") -> None:
    """Raise ValueError, naming them, if some columns are the same for all stimuli."""
    constant = np.flatnonzero(~varying(responses))
    if constant.size == responses.shape[1]:
        raise ValueError(f"{what} have no variance: every column is the same for all {responses.shape[0]} stimuli")
    if constant.size:
        some = ", ".join(map(str, constant[:3])) + (", ..." if constant.size > 3 else "")
        raise ValueError(
            f"{what} are constant in {constant.size} of {responses.shape[1]} columns ({some}): "
            "leave them out, varying(responses) says which columns vary"
        )


def column_signal(responses: Any, how: str | int = "norm", what: str = "responses", least: int = 2) -> NDArray[Any]:
    """One number per stimulus and column from vector responses; ``[stimuli, columns]`` passes through.

    Args:
        responses: ``[stimuli, columns, channels]``, or ``[stimuli, columns]``.
        how: "norm" (Euclidean length of the column's vector), "spread" (the standard deviation over its channels: of
            evidence, how strongly a column speaks for some classes and against others), "mean" over channels, or the
            number of a channel. Without value projection the columns of a sheet add each other's normed states channel
            by channel, and share a readout: channel k means the same in all of them, up to each column's own gains.
        what: what errors call it.
        least: the least number of stimuli.

    Raises:
        ValueError: for shapes that do not fit, unknown names or channels, and the norm of vectors that all have the
            same length, as normed states have.
    """
    array = as_responses(responses, what, least, channels=True)
    if array.ndim == 2:
        return array
    if isinstance(how, int | np.integer) and not isinstance(how, bool):
        if not 0 <= how < array.shape[2]:
            raise ValueError(f"channel must be 0 to {array.shape[2] - 1}, got {how}")
        return np.ascontiguousarray(array[:, :, how])
    check_choice("signal", how, ("norm", "spread", "mean"))
    if how != "norm":
        return np.asarray(array.mean(-1) if how == "mean" else array.std(-1))
    length = np.sqrt(np.einsum("snc,snc->sn", array, array))
    if array.shape[2] > 1 and np.ptp(length) <= 1e-3 * length.max():
        raise ValueError(
            f"{what} are vectors of one length, {length.flat[0]:.3g}, as normed states are: give evidence with "
            "signal='spread', or choose 'mean' or the number of a channel"
        )
    return length


def as_positions(values: Any, columns: int | None = None) -> Array:
    """``[columns, D]`` finite float64 with D of 1, 2 or 3, at least two of them different.

    Raises:
        ValueError: for another shape, entries that are not finite, or positions that are all equal.
    """
    array = as_array(values, "positions").astype(np.float64)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] not in (1, 2, 3):
        raise ValueError(f"positions must have shape [columns, 1 to 3], got {list(array.shape)}")
    if columns is not None and len(array) != columns:
        raise ValueError(f"positions are for {len(array)} columns, but the responses have {columns}")
    _finite(array, "positions")
    if len(array) < 2 or not np.ptp(array, axis=0).any():
        raise ValueError(f"positions are all equal ({len(array)} columns): there is no distance to measure")
    return array


def as_edges(values: Any, columns: int | None = None) -> NDArray[np.int64]:
    """``[2,E]`` int64, sources then targets.

    Raises:
        ValueError: for another shape, no edges, or ends out of range.
    """
    array = as_array(values, "edges")
    if array.ndim != 2 or array.shape[0] != 2 or array.dtype.kind not in "iu":
        raise ValueError(f"edges must be integers of shape [2, E], got {array.dtype} of shape {list(array.shape)}")
    if array.shape[1] == 0:
        raise ValueError("edges are empty")
    if array.min() < 0 or (columns is not None and array.max() >= columns):
        bound = "" if columns is None else f" and below {columns}, the number of columns"
        wrong = array.min() if array.min() < 0 else array.max()
        raise ValueError(f"edges must not be negative{bound}, got {int(wrong)}")
    return array.astype(np.int64)


def as_edge_values(values: Any, edges: int, what: str, negative: bool = False) -> Array:
    """``[E]`` finite float64; not below zero unless ``negative``."""
    array = as_vector(values, what)
    if array.size != edges:
        raise ValueError(f"{what} must have one entry per edge ({edges}), got {array.size}")
    if not negative and array.min() < 0:
        raise ValueError(f"{what} must not be negative, got {array.min():g} at edge {int(array.argmin())}")
    return array


def as_faces(values: Any, columns: int) -> NDArray[np.int64]:
    """``[F,3]`` int64 triangles, from ``[F,3]`` or ``[3,F]``.

    Raises:
        ValueError: for another shape, no faces, or corners out of range.
    """
    array = as_array(values, "faces")
    if array.ndim == 2 and array.shape[1] != 3 and array.shape[0] == 3:
        array = array.T
    if array.ndim != 2 or array.shape[1] != 3 or array.dtype.kind not in "iu" or not len(array):
        raise ValueError(f"faces must be integers of shape [F, 3], got {array.dtype} of shape {list(array.shape)}")
    if array.min() < 0 or array.max() >= columns:
        wrong = array.min() if array.min() < 0 else array.max()
        raise ValueError(f"faces must lie in 0..{columns - 1}, got {int(wrong)}")
    return array.astype(np.int64)


def as_labels(values: Any, count: int, what: str = "labels", each: str = "stimulus") -> NDArray[Any]:
    """``[count]`` labels of any kind (numbers or text), one per stimulus (or whatever ``each`` says).

    Raises:
        ValueError: for another shape, and for missing labels (NaN, None): they would be one more class.
    """
    array = plain_array(values, what)
    if array.shape != (count,):
        raise ValueError(f"{what} must have one entry per {each} ({count}), got shape {list(array.shape)}")
    # Of a list, before numpy makes the text "nan" of it.
    each_one = list(values) if isinstance(values, list | tuple) else array.tolist()
    missing = [i for i, one in enumerate(each_one) if _is_missing(one)]
    if missing:
        raise ValueError(
            f"{what} must not be missing, {len(missing)} of {count} are: the first is {each_one[missing[0]]} at "
            f"{missing[0]}; leave those out"
        )
    return array


def _is_missing(label: Any) -> bool:
    try:
        return label is None or bool(label != label)
    except TypeError:  # pandas' NA is neither like itself nor unlike
        return True


def region_names(label: NDArray[Any], what: str = "regions") -> NDArray[Any]:
    """The different labels of columns. A negative number is that of no region, as in ``Sheet.area``.

    Raises:
        ValueError: if there is no other.
    """
    every = np.unique(label)
    names = every[every >= 0] if every.dtype.kind in "if" else every
    if not len(names):
        raise ValueError(f"{what} leave all {len(label)} columns in none: every label is negative")
    if len(every) == 2 and len(names) == 1:  # left and right may be called so
        warnings.warn(
            f"{what}: {int((label < 0).sum())} columns have the label {every[0]}, and negative ones are in no region; "
            "if they are one, number regions from 0",
            stacklevel=3,
        )
    return names


def same_length(what: str, **arrays: NDArray[Any]) -> None:
    """Raise ValueError unless all arrays have equally many rows."""
    if len({len(array) for array in arrays.values()}) > 1:
        counts = ", ".join(f"{name} has {len(array)}" for name, array in arrays.items())
        raise ValueError(f"the number of {what} must agree: {counts}")


def same_order(**tables: Any) -> None:
    """Raise ValueError for pandas tables of the same stimuli by name, of which rows are in another order.

    A table that is only numbered, as pandas does by itself, says no names, and names of which none is in both are two
    ways to call stimuli.
    """
    named = {
        what: table.index.tolist()
        for what, table in tables.items()
        if hasattr(table, "iloc") and type(table.index).__name__ != "RangeIndex"
    }
    first = next(iter(named), "")
    for other in [what for what in named if what != first]:
        names, theirs = named[first], named[other]
        i = next((i for i, (a, b) in enumerate(zip(names, theirs)) if a != b), None)
        if i is not None and set(names) & set(theirs):
            raise ValueError(
                f"{first} and {other} must have the same stimuli in the same order, row {i} is {names[i]!r} in {first} "
                f"and {theirs[i]!r} in {other}: {other}.loc[{first}.index], or .to_numpy() of both"
            )


def check_count(name: str, value: int, least: int = 1) -> int:
    """An integer of at least ``least``, or a ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    return int(value)
