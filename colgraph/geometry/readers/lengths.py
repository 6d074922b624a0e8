"""Lengths of edges from numbers in files: a distance is taken as it is, a strength becomes one by a rule.

What a number means is one text, the option ``weight_is``: "distance", "strength" or "strength:1/w" (the distance 1/w,
as ``weight_conversion(W, "lengths")`` of the Brain Connectivity Toolbox), or "strength:-log":
``-log(w / (max w + min w))`` over all edges (after Seguin et al., PNAS 115:6297, 2018), so that strengths that differ
by orders of magnitude become lengths that do not, and the strongest edge is longer than zero. "log-strength" is the
natural logarithm of a strength, and its distance again one over that strength.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.geometry.options import OptionGroup

USUAL = ""
"""The default of the option ``weight``: whatever has lengths. (None says that nothing has.)"""

WEIGHT_MEANINGS = ("distance", "strength", "strength:1/w", "strength:-log", "log-strength")


@dataclass(frozen=True)
class Weights(OptionGroup):
    """What the user says about the numbers of edges.

    Attributes:
        weight: what names them: the edge attribute or column with lengths, where "distance" or "weight" is not it.
            None leaves lengths unread.
        weight_is: one of ``WEIGHT_MEANINGS``: "distance" (what a weight is if not said otherwise, with a warning that
            says so), "strength", "strength:-log" or "log-strength".

    Raises:
        ValueError: where the options are wrong or contradict each other.
    """

    weight: str | None = USUAL
    weight_is: str | None = None

    def __post_init__(self) -> None:
        meaning = self.weight_is
        if meaning is not None and meaning not in WEIGHT_MEANINGS:
            raise ValueError(f"weight_is must be one of {', '.join(map(repr, WEIGHT_MEANINGS))}, got {meaning!r}")
        if self.weight is None and meaning is not None:
            raise ValueError(f"weight=None leaves weights unread, so weight_is={meaning!r} means nothing: give one")

    def guessed(self, what: str, lengths: NDArray[np.float64] | None) -> str | None:
        """``what`` where its numbers were taken for distances and nobody said so; None where it is all the same."""
        if lengths is None or self.weight_is is not None or not lengths.size or bool((lengths == 1).all()):
            return None
        return what

    def read(self, values: Sequence[Any] | NDArray[Any], edge: Callable[[int], str]) -> NDArray[np.float64]:
        """Edge lengths ``[E]`` from the numbers of a file.

        Args:
            values: one entry per edge: numbers, or text that is a number.
            edge: names edge ``e`` in messages.

        Raises:
            ValueError: naming the first edge whose value is no number, not finite, negative, or a strength of 0 or
                less.
        """
        lengths = _numbers(values, edge)
        if self.weight_is == "log-strength":
            return _inverse_exponentials(lengths, values, edge)
        strength = self.weight_is not in (None, "distance")
        good = np.isfinite(lengths) & ((lengths > 0) if strength else (lengths >= 0))
        if not good.all():
            e = int(np.flatnonzero(~good)[0])
            what = ("strength", "a strength", "positive") if strength else ("length", "a distance", "not negative")
            raise ValueError(f"{edge(e)} has {what[0]} {values[e]!s}: {what[1]} must be finite and {what[2]}")
        if not strength:
            return lengths
        if self.weight_is == "strength:-log":
            # Of logarithms, because sums of strengths may overflow, and the least distance is a small difference.
            log = np.log(lengths)
            return np.logaddexp(log.max() - log, log.min() - log) if log.size else log
        with np.errstate(over="ignore"):
            inverse = 1.0 / lengths
        if not np.isfinite(inverse).all():
            e = int(np.flatnonzero(~np.isfinite(inverse))[0])
            raise ValueError(f"{edge(e)} has strength {values[e]!s}, too small for the distance 1/strength")
        return inverse


@dataclass(frozen=True)
class Lengths(Weights):
    """The same for edges whose numbers have names.

    Attributes:
        distance: the edge attribute or column with lengths, instead of ``weight``; ``"distance"`` if not given and
            there. Giving ``weight`` or ``weight_is`` sets it aside.
    """

    distance: str | None = None

    @property
    def key(self) -> str | None:
        """The name that the user gives, or None."""
        return self.distance or self.weight or None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.distance is not None and (self.weight or self.weight_is is not None):
            raise ValueError(
                f"give distance={self.distance!r} or weight and weight_is, not both: they name the same lengths"
            )


def edge_name(source: int, target: int, names: Sequence[Any] | None = None) -> str:
    """What messages call an edge."""
    return f"edge {source} -> {target}" if names is None else f"edge {names[source]!r} -> {names[target]!r}"


def _inverse_exponentials(
    logs: NDArray[np.float64], values: Sequence[Any] | NDArray[Any], edge: Callable[[int], str]
) -> NDArray[np.float64]:
    with np.errstate(over="ignore", under="ignore"):
        lengths = np.exp(-logs)
    wrong = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if wrong.size:
        e = int(wrong[0])
        raise ValueError(
            f"{edge(e)} has the log strength {values[e]!s}: it must be finite, and a logarithm (-700 to 700)"
        )
    return lengths


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
