"""The settings of structural plasticity: part of those of a training run."""

from __future__ import annotations

from dataclasses import dataclass

from colgraph.options import option
from colgraph.plasticity.choice import GROWTHS


@dataclass(frozen=True)
class RewireSettings:
    """How edges are given up and grown as a run goes on."""

    rewire: float = option(
        0.0, "share of the edges that is given up, and grown anew, at a time; 0: never", low=0, below=1
    )
    rewire_every: int = option(200, "steps from one rewiring to the next", low=1)
    rewire_grow: str = option(
        "gradient",
        "which edges are grown: those with the largest gradient, by distance (p ~ exp(-d / rewire_length)), or random",
        choices=GROWTHS,
    )
    rewire_budget: str = option(
        "edges", "what stays within its number at the start: edges, wire (their length), or a share of it: wire:0.5"
    )
    rewire_until: float = option(
        0.75, "rewire during this share of the training, and let edges be after", above=0, high=1
    )
    rewire_radius: float | None = option(
        None, "grow edges within so many spacings only (default: anywhere, on up to 1,024 columns)", above=0
    )
    rewire_length: float = option(2.0, "distance: spacings over which the chance falls to 1/e", above=0)
