"""P-values corrected for how many there are.

Two dozen measures are looked at, and one in twenty comes out below 0.05 where there is nothing. Beside each p-value
stands the false discovery rate at which it would be among those that count (Benjamini and Hochberg), which holds for
measures that depend on each other positively, as those of one network do. A bound on any false finding at all (Holm) is
not shown: with 200 shuffles no p-value lies below 1/201, and nothing could pass it among two dozen.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, TypeVar

from colgraph.analysis import correct_p_values

K = TypeVar("K", bound=Hashable)


def false_discovery(p_values: Mapping[K, float | None]) -> dict[K, float | None]:
    """Each p-value corrected for the number of those that are there; None for None."""
    corrected = correct_p_values(p_values).benjamini_hochberg
    return {key: None if p is None else float(q) for (key, p), q in zip(p_values.items(), corrected, strict=True)}


def correct_entries(entries: Iterable[dict[str, Any]]) -> None:
    """Put ``p_fdr`` beside every ``p_value`` of the entries of one report: over all measures of each network."""
    networks: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        for name, found in [("run", entry["result"]), *entry["controls"].items()]:
            if found is not None and "p_value" in found:
                networks.setdefault(name, []).append(found)
    for each in networks.values():
        for place, p in false_discovery({k: found["p_value"] for k, found in enumerate(each)}).items():
            each[place]["p_fdr"] = p
