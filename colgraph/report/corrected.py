"""P-values corrected for how many there are.

Two dozen measures are looked at, and one in twenty comes out below 0.05 where there is nothing. Beside each p-value
stands the false discovery rate at which it would be among those that count (Benjamini and Hochberg 1995; valid for
independent and for positively dependent tests, as measures of one network are). A bound on any false alarm at all
(Holm 1979) is not shown: with 200 shuffles no p-value lies below 1/201, so that nothing could pass it among two dozen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from scipy import stats

__all__ = ["correct_p_values", "false_discovery"]


def false_discovery(p_values: Iterable[float | None]) -> list[float | None]:
    """Each p-value corrected for the number of those that are there."""
    given = list(p_values)
    known = [p for p in given if p is not None]
    corrected = iter(stats.false_discovery_control(known).tolist() if known else ())
    return [None if p is None else next(corrected) for p in given]


def correct_p_values(entries: Iterable[dict[str, Any]]) -> None:
    """Put ``p_fdr`` beside every ``p_value`` of the entries of one report: over all measures of each network."""
    networks: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        for name, found in [("run", entry["result"]), *entry["controls"].items()]:
            if found is not None and "p_value" in found:
                networks.setdefault(name, []).append(found)
    for each in networks.values():
        for found, p in zip(each, false_discovery(found["p_value"] for found in each), strict=True):
            found["p_fdr"] = p
