"""Lengths of edges from numbers in files: a distance is taken as it is, a strength s becomes the distance 1/s."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["WEIGHT_MEANINGS", "canonical_edges", "check_meaning", "to_lengths"]

WEIGHT_MEANINGS = ("distance", "strength")


def check_meaning(weight_is: str | None) -> None:
    """Raise ValueError unless ``weight_is`` is None, "distance" or "strength"."""
    if weight_is is not None and weight_is not in WEIGHT_MEANINGS:
        raise ValueError(f"weight_is must be 'distance' or 'strength', got {weight_is!r}")


def to_lengths(
    values: Sequence[Any] | NDArray[Any], meaning: str | None, edge: Callable[[int], str]
) -> NDArray[np.float64]:
    """Edge lengths ``[E]`` from the numbers of a file.

    Args:
        values: one entry per edge: numbers, or text that is a number.
        meaning: "strength" for 1/s; None is "distance".
        edge: names edge ``e`` in messages.

    Raises:
        ValueError: naming the first edge whose value is no number, not finite, negative, or a strength of 0 or less.
    """
    lengths = _numbers(values, edge)
    strength = meaning == "strength"
    good = np.isfinite(lengths) & ((lengths > 0) if strength else (lengths >= 0))
    if not good.all():
        e = int(np.flatnonzero(~good)[0])
        rule = "a strength must be finite and positive" if strength else "a distance must be finite and not negative"
        raise ValueError(f"{edge(e)} has {'strength' if strength else 'length'} {values[e]!s}: {rule}")
    if not strength:
        return lengths
    with np.errstate(over="ignore"):
        inverse = 1.0 / lengths
    if not np.isfinite(inverse).all():
        e = int(np.flatnonzero(~np.isfinite(inverse))[0])
        raise ValueError(f"{edge(e)} has strength {values[e]!s}, too small for the distance 1/strength")
    return inverse


def _numbers(values: Sequence[Any] | NDArray[Any], edge: Callable[[int], str]) -> NDArray[np.float64]:
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        return values.astype(np.float64)
    numbers = np.empty(len(values))
    for e, value in enumerate(values):
        number = as_number(value)
        if number is None:
            raise ValueError(f"{edge(e)} has the length {value!r}, which is not a number")
        numbers[e] = number
    return numbers


def as_number(value: Any) -> float | None:
    """A real number from a number or from text, or None."""
    if isinstance(value, complex) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.inf if isinstance(value, int) else None


def canonical_edges(
    source: NDArray[np.int64], target: NDArray[np.int64], lengths: NDArray[np.float64] | None, n: int, *, directed: bool
) -> tuple[NDArray[np.int64], NDArray[np.float64] | None, int]:
    """Edges sorted by target, then source; both directions of undirected ones; of parallel edges the shortest.

    Returns:
        ``[2,E]`` edges, their ``[E]`` lengths (or None), and how many parallel edges were merged away.
    """
    low, high = (source, target) if directed else (np.minimum(source, target), np.maximum(source, target))
    merged = len(source) - len(np.unique(high * n + low))
    if not directed:
        other = source != target
        source, target = np.concatenate([source, target[other]]), np.concatenate([target, source[other]])
        lengths = None if lengths is None else np.concatenate([lengths, lengths[other]])
    code, place = np.unique(target * n + source, return_inverse=True)
    edges = np.stack([code % n, code // n])
    if lengths is None:
        return edges, None, merged
    shortest = np.full(len(code), np.inf)
    np.minimum.at(shortest, place.reshape(-1), lengths)
    return edges, shortest, merged
