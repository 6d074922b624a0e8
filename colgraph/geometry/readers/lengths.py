"""Lengths of edges from numbers in files: a distance is taken as it is, a strength becomes one by a rule.

What a number means is one text, the option ``weight_is``: "distance", "strength" or "strength:1/w" (the distance 1/w,
as ``weight_conversion(W, "lengths")`` of the Brain Connectivity Toolbox), or "strength:-log":
``-log(w / (max w + min w))`` over all edges (after Seguin et al., PNAS 115:6297, 2018), so that strengths that differ
by orders of magnitude become lengths that do not, and the strongest edge is longer than zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["USUAL", "WEIGHT_MEANINGS", "check_lengths_asked", "guessed", "to_lengths"]

USUAL = ""
"""The default of the option ``weight``: whatever has lengths. (None says that nothing has.)"""

WEIGHT_MEANINGS = ("distance", "strength", "strength:1/w", "strength:-log")


def check_lengths_asked(weight: str | None, weight_is: str | None, distance: str | None = None) -> None:
    """Raise ValueError where the options that say what an edge's length is are wrong or contradict each other."""
    if weight_is is not None and weight_is not in WEIGHT_MEANINGS:
        raise ValueError(f"weight_is must be one of {', '.join(map(repr, WEIGHT_MEANINGS))}, got {weight_is!r}")
    if distance is not None and (weight or weight_is is not None):
        raise ValueError(f"give distance={distance!r} or weight and weight_is, not both: they name the same lengths")
    if weight is None and weight_is is not None:
        raise ValueError(f"weight=None leaves weights unread, so weight_is={weight_is!r} means nothing: give one")


def guessed(what: str, lengths: NDArray[np.float64] | None, weight_is: str | None) -> str | None:
    """``what`` where its numbers were taken for distances and nobody said so; None where it makes no difference."""
    if lengths is None or weight_is is not None or not lengths.size or bool((lengths == 1).all()):
        return None
    return what


def to_lengths(
    values: Sequence[Any] | NDArray[Any], meaning: str | None, edge: Callable[[int], str]
) -> NDArray[np.float64]:
    """Edge lengths ``[E]`` from the numbers of a file.

    Args:
        values: one entry per edge: numbers, or text that is a number.
        meaning: one of ``WEIGHT_MEANINGS``; None is "distance".
        edge: names edge ``e`` in messages.

    Raises:
        ValueError: naming the first edge whose value is no number, not finite, negative, or a strength of 0 or less.
    """
    lengths = _numbers(values, edge)
    strength = meaning not in (None, "distance")
    good = np.isfinite(lengths) & ((lengths > 0) if strength else (lengths >= 0))
    if not good.all():
        e = int(np.flatnonzero(~good)[0])
        rule = "a strength must be finite and positive" if strength else "a distance must be finite and not negative"
        raise ValueError(f"{edge(e)} has {'strength' if strength else 'length'} {values[e]!s}: {rule}")
    if not strength:
        return lengths
    if meaning == "strength:-log":
        # Of logarithms, because sums of strengths may overflow, and the least distance is a small difference of them.
        log = np.log(lengths)
        return np.logaddexp(log.max() - log, log.min() - log) if log.size else log
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
