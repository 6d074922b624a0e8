"""Who lies beside whom: adjacency in space, the same for networks that are wired differently."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.analysis.arrays import as_array, as_faces, as_positions, check_count
from colgraph.analysis.pairs import named_space
from colgraph.space import Space

_MOST = 20_000_000


def spatial_edges(
    positions: Any,
    *,
    k: int | None = None,
    radius: float | None = None,
    faces: Any | None = None,
    metric: str | Space = "euclidean",
) -> NDArray[np.int64]:
    """Pairs of columns that lie beside each other, for :func:`morans_i` and :func:`selective_patches`.

    A map's autocorrelation is compared between networks on one adjacency: on each network's own edges one and the same
    map scores differently, because rewired edges join columns that lie far from each other. Source: Cliff and Ord
    (1981), "Spatial processes: models and applications", who fix the weights before looking at the values.

    Args:
        positions: ``[columns, D]`` of all places of the sheet; for a space, only their number counts.
        k: the k nearest of each column, and of whom it is one of the k nearest. 4, as on a square grid, if neither
            ``radius`` nor ``faces`` is given; which of equally near ones are taken follows no direction.
        radius: all columns within this distance, in units of the metric.
        faces: ``[F,3]`` or ``[3,F]`` triangles of a surface: columns that share an edge of one.
        metric: "euclidean", "great_circle", or a space such as ``sheet.space``: around a torus, over a surface, along
            connections. Along connections of one direction the shorter of both ways counts.

    Returns:
        ``[2,E]`` int64, every pair in both directions, sorted, no column beside itself.

    Raises:
        ValueError: for more than one of ``k``, ``radius`` and ``faces``, and where no column lies beside another.
    """
    points = as_positions(positions) if isinstance(metric, str) else as_array(positions, "positions")
    given = [name for name, value in (("k", k), ("radius", radius), ("faces", faces)) if value is not None]
    if len(given) > 1:
        raise ValueError(f"adjacency takes one of k, radius and faces, got {' and '.join(given)}")
    if not isinstance(metric, str) and callable(metric):
        raise ValueError("metric must be a name or a space such as sheet.space: a function cannot find who is near")
    everyone = np.arange(len(points))
    if faces is not None:
        corner = as_faces(faces, len(points))
        first, second = corner.T.ravel(), np.roll(corner, -1, axis=1).T.ravel()
    else:
        space = named_space(points, metric) if isinstance(metric, str) else metric
        if radius is None:
            found = space.nearest(4 if k is None else check_count("k", k), everyone, everyone)
        elif radius > 0:
            found = space.within(radius, everyone, everyone, _MOST)
        else:
            raise ValueError(f"radius must be positive, got {radius:g}")
        first, second = found.source, found.target
    code = np.unique(np.concatenate([first * len(points) + second, second * len(points) + first]))
    edges = np.stack(np.divmod(code, len(points)))
    edges = edges[:, edges[0] != edges[1]]
    if not edges.shape[1]:
        how = f"within {radius:g} of another" if radius is not None else "beside another by this metric"
        raise ValueError(f"none of the {len(points)} columns lies {how}")
    return edges
