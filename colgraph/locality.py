"""How local attention is at the start: the width of the initial edge bias, and the edges that it leaves without weight.

Plain arrays in, numbers out; shared by the report on a sheet and the models.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DEAD = 15.0
"""An edge whose bias is so far below the best of its column starts with less than 3e-7 of that edge's weight."""


def default_sigma(
    edge_index: NDArray[np.int64],
    distance: NDArray[np.floating],
    spacing: float,
    metric: str,
    is_tract: NDArray[np.bool_] | None = None,
) -> float:
    """The width sigma of the initial bias ``-d^2 / (2 sigma^2)``, in the units of the distances.

    Twice the spacing, which means the same on every geometry. Lengths that a network brings along (metric "given") need
    not be commensurate with the shortest ones: there sigma is no less than the median length of edges, which is about
    what two spacings are for 16 to 32 nearest neighbors in a plane. The same goes for the lengths of tracts, the
    long-range edges on a surface: by two spacings they would start without weight. Which columns a tract joins was
    drawn with their distance in it already; neighbors next to each other are nearly alike by so wide a bias.

    Args:
        edge_index: ``[2,E]`` source and target.
        distance: ``[E]``.
        spacing: median distance to the nearest other column.
        metric: what the distance means.
        is_tract: ``[E]`` which edges are tracts; none if not given.
    """
    own = edge_index[0] != edge_index[1]
    if metric != "given":
        own = np.zeros_like(own) if is_tract is None else own & is_tract
    lengths = distance[own]
    if not lengths.size:
        return 2 * spacing
    return max(2 * spacing, float(np.median(lengths)))


def dead_edges(target: NDArray[np.int64], bias: NDArray[np.floating], num_columns: int) -> int:
    """How many edges start practically without weight: a bias more than ``DEAD`` below the best of their column.

    Args:
        target: ``[E]`` the column that listens.
        bias: ``[E]`` initial bias.
        num_columns: N.
    """
    best = np.full(num_columns, -np.inf, dtype=bias.dtype)
    np.maximum.at(best, target, bias)
    return int((best[target] - bias > DEAD).sum())
