"""The sheet after an exchange of edges."""

from __future__ import annotations

import numpy as np

from colgraph.edges import Index, edge_codes
from colgraph.plasticity.candidates import Candidates
from colgraph.plasticity.choice import Exchange
from colgraph.sheet import Sheet
from colgraph.space import GRAPH_METRICS


def rewired_sheet(sheet: Sheet, candidates: Candidates, change: Exchange) -> tuple[Sheet, Index]:
    """The sheet with other edges, and where each of them comes from.

    Distances of the metrics "given" and "hops" go on following the connections that they followed before the first
    exchange: what is found is no new way.

    Args:
        sheet: as it is.
        candidates: pairs of columns that may be joined.
        change: the numbers of edges that are kept, and of candidates that grow.

    Returns:
        The sheet, and ``[E']`` for each of its edges the number that it had, -1 where it has grown.
    """
    arrays = sheet.to_arrays()
    edges, length = arrays["edge_index"], arrays["edge_distance"]
    joined = np.concatenate([edges[:, change.kept], candidates.pairs[:, change.grown]], axis=1)
    lengths = np.concatenate([length[change.kept], candidates.length[change.grown].astype(length.dtype)])
    came_from = np.concatenate([change.kept, np.full(len(change.grown), -1)])
    order = np.argsort(edge_codes(joined, sheet.num_columns), kind="stable")
    if sheet.metric in GRAPH_METRICS and "wire_index" not in arrays:
        arrays |= {"wire_index": edges, "wire_length": length}
    arrays |= {"edge_index": joined[:, order], "edge_distance": lengths[order]}
    return Sheet.from_arrays(arrays), came_from[order]
