"""Structural plasticity: which edges of a sheet are given up, and which are grown in their place."""

from colgraph.plasticity.candidates import Candidates, all_candidates
from colgraph.plasticity.choice import Budget, Exchange, exchange, growth_order
from colgraph.plasticity.evidence import Evidence
from colgraph.plasticity.onto import rewired_sheet
from colgraph.plasticity.settings import RewireSettings

__all__ = [
    "Budget",
    "Candidates",
    "Evidence",
    "Exchange",
    "RewireSettings",
    "all_candidates",
    "exchange",
    "growth_order",
    "rewired_sheet",
]
