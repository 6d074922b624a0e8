"""What a sheet remembers, to notice that something was changed and what depends on it was not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from colgraph.edges import edge_codes
from colgraph.sheet.tensors import equal
from colgraph.space import GRAPH_METRICS


class Measured(NamedTuple):
    """Which distances belong to which edges and positions."""

    edge_index: Tensor
    edge_distance: Tensor
    pos: Tensor

    def check(self, now: Measured, metric: str) -> None:
        """Raise where a sheet that came from these has kept something that its changes make wrong."""
        if len(now.pos) != len(self.pos):
            raise ValueError(
                f"the sheet had {len(self.pos)} columns and has {len(now.pos)} now: what belongs to columns is cut by "
                "sheet.subgraph(columns), and a sheet with more of them is made by Sheet.from_edges"
            )
        same_edges, same_distances, same_positions = map(equal, now, self)
        if same_distances and not same_positions and metric not in GRAPH_METRICS and self._moved(now.pos):
            raise ValueError(
                "the sheet's positions were changed and edge_distance was left as it was, though metric "
                f"{metric!r} measures it between positions: change the geometry, and build a sheet of that"
            )
        if not same_edges and not same_distances and same_positions:
            self._check_common(now)

    def lengths_of(self, edge_index: Tensor) -> Tensor:
        """``[E]`` distances of edges that were among these, and 0 for self-loops, by their ends.

        Raises:
            ValueError: for an edge that is new.
        """
        source, target = edge_index.tolist()
        known = dict(zip(zip(*self.edge_index.tolist()), self.edge_distance.tolist()))
        lengths = [known.get(ends, 0.0 if ends[0] == ends[1] else None) for ends in zip(source, target)]
        if None in lengths:
            new = lengths.index(None)
            raise ValueError(
                f"an edge from column {source[new]} to {target[new]} was added to the sheet, and edge_distance was "
                "left as it was: make a sheet with Sheet.from_edges(edge_index, ..., edge_distance=...)"
            )
        return self.edge_distance.new_tensor(lengths).to(edge_index.device)

    def _moved(self, pos: Tensor) -> bool:
        """Whether ends of edges lie farther from each other, or closer, than before: rotations and shifts are free."""
        source, target = self.edge_index
        before, after = (
            (points[source] - points[target]).norm(dim=-1) for points in (self.pos, pos.to(self.pos).reshape(-1, 3))
        )
        return bool(((after - before).abs() > 1e-4 * float(before.max())).any()) if before.numel() else False

    def _check_common(self, now: Measured) -> None:
        """Edges that are still there must be as long as they were."""
        n = len(self.pos)
        old, new = (edge_codes(edges.numpy(force=True), n) for edges in (self.edge_index, now.edge_index))
        before, after = self.edge_distance.numpy(force=True), now.edge_distance.numpy(force=True)
        _, i, j = np.intersect1d(old, new, return_indices=True)
        wrong = np.flatnonzero(~np.isclose(before[i], after[j], rtol=1e-5, atol=0))
        if wrong.size:
            k = wrong[0]
            raise ValueError(
                f"the edge from column {old[i[k]] % n} to {old[i[k]] // n} was {before[i[k]]:g} long and is "
                f"{after[j[k]]:g} after the edges were changed (PyG adds up attributes of edges that it merges, unless "
                "told otherwise): make a sheet with Sheet.from_edges"
            )
