"""Sheets that serve as controls: the same numbers of columns and edges, with the space taken out of them.

* **random graph**: every column keeps the number of columns it listens to and is heard by; whom is up to chance. New
  edges are as long as the sheet's metric says, so that they start with a bias, and cost wire, by their true length.
* **shuffled positions**: the graph stays as it is, and columns lie elsewhere: distances, and with them the initial bias
  and the wiring cost, no longer say anything about the graph.

Layers and areas stay with the columns, as their inputs and outputs do: they say which part of the graph a column is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from colgraph.edges import canonical_edges
from colgraph.geometry.base import Geometry
from colgraph.geometry.build import build_sheet
from colgraph.geometry.neighbors import Neighborhood, Usual, parse_neighborhood
from colgraph.rewire import swap_ends
from colgraph.sheet import Sheet
from colgraph.space import Index, Links, Space

CONTROLS = ("none", "shuffled-positions", "random-graph")
"""What :func:`build_control` makes in place of a sheet."""


def build_control(source: Any, control: str, seed: int = 0, **arguments: Any) -> Sheet:
    """:func:`colgraph.build_sheet`, with a control in place of the sheet.

    Input and output columns are those of the sheet.

    Args:
        source: as for :func:`colgraph.build_sheet`.
        control: one of ``CONTROLS``; "none" gives the sheet itself.
        seed: of the random graph or order.
        **arguments: of :func:`colgraph.build_sheet`; options of the geometry among them only where ``source`` is no
            :class:`Geometry`.

    Raises:
        ValueError: for an unknown control; where no edge can be exchanged (a complete graph has no random counterpart);
            and where the metric knows only the given edges.
    """
    if control not in CONTROLS:
        raise ValueError(f"control must be one of {', '.join(CONTROLS)}, got {control!r}")
    if control == "none":
        return build_sheet(source, **arguments)
    neighbors = arguments.pop("neighbors", None)
    inner = Usual() if neighbors is None else parse_neighborhood(neighbors)
    if control == "random-graph":
        sheet = build_sheet(source, neighbors=_Rewired(inner, seed), **arguments)
        if sheet.tract_index is not None:
            # Any edge may lead anywhere now.
            sheet.tract_index = sheet.edge_index[:, sheet.edge_index[0] != sheet.edge_index[1]]
        return sheet
    sheet = build_sheet(source, neighbors=_Displaced(inner, seed), **arguments)
    arrays = sheet.to_arrays()
    order = shuffled_order(sheet.num_columns, seed)
    column_at = np.argsort(order)
    # Triangles and wires stay where they were in space: their ends have other numbers now.
    for name in {"face", "wire_index"} & arrays.keys():
        arrays[name] = column_at[arrays[name]]
    return Sheet.from_arrays({**arrays, "pos": arrays["pos"][order]})


def shuffled_order(columns: int, seed: int) -> Index:
    """``[N]``: with shuffled positions, column i lies where column ``order[i]`` was."""
    return np.random.default_rng(seed).permutation(columns)


@dataclass(frozen=True)
class _Wrapped(Neighborhood):
    """A neighborhood made from another one."""

    inner: Neighborhood
    seed: int

    @property
    def may_isolate(self) -> bool:
        return self.inner.may_isolate

    def with_tracts(self, geometry: Geometry) -> Neighborhood:
        return type(self)(self.inner.with_tracts(geometry), self.seed)

    def relabeled(self, new_id: Index) -> Neighborhood:
        return type(self)(self.inner.relabeled(new_id), self.seed)

    def chosen(self, geometry: Geometry) -> Neighborhood:
        return type(self)(self.inner.chosen(geometry), self.seed)

    def __str__(self) -> str:
        return str(self.inner)


class _Rewired(_Wrapped):
    def links(self, geometry: Geometry, space: Space) -> Links:
        n = geometry.num_columns
        links = self.inner.links(geometry, space)
        edges, _ = canonical_edges(np.stack([links.source, links.target]), n)
        swapped = swap_ends(edges, n, seed=self.seed)
        if np.array_equal(canonical_edges(swapped, n)[0], edges):
            raise ValueError(
                f"control random-graph: no edge of {geometry.name!r} with neighbors {self.inner} can be exchanged for "
                "another: use fewer neighbors"
            )
        return Links(swapped[0], swapped[1], _measured(geometry, space, swapped, "random-graph"))


class _Displaced(_Wrapped):
    def links(self, geometry: Geometry, space: Space) -> Links:
        links = self.inner.links(geometry, space)
        order = shuffled_order(geometry.num_columns, self.seed)
        ends = np.stack([order[links.source], order[links.target]])
        return Links(links.source, links.target, _measured(geometry, space, ends, "shuffled-positions"))


def _measured(geometry: Geometry, space: Space, ends: Index, control: str) -> Any:
    distance = space.between(ends[0], ends[1])
    nowhere = ~np.isfinite(distance)
    if geometry.tracts is not None:
        # Where no way along the surface leads, as between hemispheres, tracts run straight.
        source, target = geometry.positions[ends[0][nowhere]], geometry.positions[ends[1][nowhere]]
        distance = np.array(distance)
        distance[nowhere] = np.linalg.norm(source - target, axis=1)
    elif nowhere.any():
        raise ValueError(
            f"control {control}: metric {space.metric!r} does not say how far all columns of {geometry.name!r} are "
            "from each other: use another metric, such as 'euclidean'"
        )
    return distance
