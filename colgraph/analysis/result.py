"""What every analysis returns: a number, what it would be by chance, and how sure it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from colgraph.analysis import plotting
from colgraph.analysis.arrays import Array
from colgraph.analysis.stats import p_value


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Result:
    """One analysis.

    Attributes:
        name: what was measured.
        value: the number.
        null: ``[permutations]``, the same number under the null hypothesis that the function's docstring states; empty
            where there is none.
        interval: ``[2]``, the lower and upper end of the 95% interval; NaN where it cannot be had.
        unit: unit of ``value``, empty for pure numbers.
        tail: which side of the null counts as evidence: "greater", "less" or "two-sided".
    """

    name: str
    value: float
    null: Array
    interval: Array
    unit: str = ""
    tail: str = "greater"

    @property
    def p_value(self) -> float:
        """Chance of a value as extreme under the null; NaN where there is no null."""
        return p_value(self.value, self.null, self.tail) if len(self.null) else float("nan")

    @property
    def z(self) -> float:
        """How many of the null's standard deviations the value lies from its mean; NaN where there is no spread."""
        if not len(self.null):
            return float("nan")
        mean, spread = float(self.null.mean()), float(self.null.std())
        # A null of equal numbers has a spread of rounding errors.
        return (self.value - mean) / spread if spread > 1e-12 * abs(mean) else float("nan")

    in_summary: ClassVar[tuple[str, ...]] = ()
    """Attributes that :meth:`summary` holds as well."""

    def summary(self) -> dict[str, Any]:
        """The numbers as plain values that JSON can hold (NaN becomes None), those of :attr:`in_summary` last."""
        low, high = (float(end) for end in self.interval)
        numbers = {"value": float(self.value), "low": low, "high": high, "p_value": self.p_value, "z": self.z}
        if len(self.null):
            numbers |= {"null_mean": float(self.null.mean()), "null_std": float(self.null.std())}
        more = {name: getattr(self, name) for name in self.in_summary}
        found = {"name": self.name, "unit": self.unit, "tail": self.tail, **numbers, **more}
        return {key: None if isinstance(each, float) and not np.isfinite(each) else each for key, each in found.items()}

    def plot(self, ax: plotting.Axes | None = None) -> plotting.Axes:
        """Draw the value with its interval beside the null distribution.

        Args:
            ax: where to draw; a new figure if not given.

        Returns:
            The matplotlib axes.
        """
        return plotting.draw_null(plotting.axes(ax), self.value, self.null, self.interval, self.label, self.name)

    @property
    def label(self) -> str:
        """The name with its unit, for an axis."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def __repr__(self) -> str:
        low, high = self.interval
        text = f"{self.name}: {self.value:.4g}{' ' + self.unit if self.unit else ''}"
        if np.isfinite(low):
            text += f" [{low:.4g}, {high:.4g}]"
        if len(self.null):
            text += f", null {self.null.mean():.4g} +- {self.null.std():.2g}, p = {self.p_value:.3g}"
        extra = [field.name for field in fields(self) if field.name not in _COMMON]
        return f"{type(self).__name__}({text}{'; also ' + ', '.join(extra) if extra else ''})"


_COMMON = {field.name for field in fields(Result)}


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class OnSheet(Result, ABC):
    """A result with a number per column.

    Attributes:
        positions: ``[columns, D]``, or None where none were given.
    """

    positions: Array | None

    @abstractmethod
    def picture(self) -> dict[str, Any]:
        """What :func:`colgraph.analysis.plotting.draw_map` draws at the positions."""

    def plot(self, ax: plotting.Axes | None = None) -> plotting.Axes:
        """Draw the map where positions are known, else the value beside its null."""
        if self.positions is None:
            return super().plot(ax)
        return plotting.draw_map(plotting.axes(ax), self.positions, **self.picture())
