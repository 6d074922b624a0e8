"""What makes a PyG ``Data`` a sheet: its attributes, and that they belong to each other whatever was done to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch_geometric.data import Batch, Data

from colgraph import checks
from colgraph.sheet.measured import Measured
from colgraph.sheet.tensors import equal, plainly

TENSORS = ("pos", "edge_index", "edge_distance", "input_rank", "output_mask", "layer", "face")
TEXTS = ("metric", "geometry")
OPTIONAL = ("names", "area", "area_names", "tract_index", "period", "wire_index", "wire_length")


_FOLLOWS_FROM = {"distance": "edge_distance", "inputs": "input_rank", "outputs": "output_mask"}
"""What is to be set in place of what follows from it."""


def _optional(name: str, text: str) -> Any:
    """A property of an attribute that PyG's store holds only where there is one; None elsewhere."""

    def read(sheet: Data) -> Any:
        return sheet._store.get(name)

    def write(sheet: Data, value: Any) -> None:
        if value is not None:
            sheet._store[name] = value
        elif name in sheet._store:
            del sheet._store[name]

    return property(read, write, doc=text)


class CheckedData(Data):
    """The attributes of a sheet, and the checks of them."""

    names = _optional("names", "N column names, or None.")
    area = _optional("area", "``[N]`` int64, the place of each column's area in ``area_names``, -1: none; or None.")
    tract_index = _optional("tract_index", "``[2,T]`` long-range edges, laid along tracts, or None.")
    period = _optional("period", "Side lengths of the periodic box, or None.")
    wire_index = _optional("wire_index", "``[2,W]`` connections that distances follow, or None for the edges.")
    wire_length = _optional("wire_length", "``[W]`` their lengths, or None.")

    @property
    def area_names(self) -> list[str] | None:
        """Names of the areas, or None."""
        names = self._store.get("area_names")
        return names.splitlines() if isinstance(names, str) else names

    @area_names.setter
    def area_names(self, names: Sequence[str] | None) -> None:
        # One text in PyG's store: a list of as many entries as there are columns would be cut where those are.
        if names is not None:
            self._store["area_names"] = "\n".join(checks.area_names(names))
        elif "area_names" in self._store:
            del self._store["area_names"]

    def __setattr__(self, name: str, value: Any) -> None:
        known = getattr(type(self), name, None)
        if isinstance(known, property) and known.fset is None:
            # PyG would put it into its store, where nothing reads it.
            hint = _FOLLOWS_FROM.get(name)
            what = f"set sheet.{hint}" if hint else "build another sheet"
            raise AttributeError(f"{name} of a sheet follows from {hint or 'the rest'}: {what}")
        super().__setattr__(name, value)

    @property
    def num_columns(self) -> int:
        """Number of columns N."""
        return int(self.num_nodes)  # type: ignore[arg-type]

    @plainly
    def checked(self) -> Self:
        """The sheet itself, if it is one: every attribute fits the columns and edges, and belongs to them.

        PyG's transforms, and assignment, can change one attribute and leave others that depend on it behind. Where only
        edges were taken away, put in another order, or self-loops were added, distances follow by the edges' ends.

        Raises:
            ValueError: if an attribute is missing or of a wrong shape; if columns were added or removed by other means
                than :meth:`subgraph`; if other edges were added, or positions changed (but for shifts, rotations, and
                the metrics "given" and "hops"), and distances did not; and if edges kept their ends and got other
                distances while other edges came or went.
        """
        if isinstance(self, Batch):
            raise ValueError(
                f"a batch of {self.num_graphs} sheets is no sheet: build a model on one of them; states have a batch "
                "dimension of their own"
            )
        before: Measured | None = self.__dict__.get("_measured")
        self._check_columns_and_edges()
        if before is not None and not self._is_remembered():
            distances_left = equal(self.edge_distance, before.edge_distance)
            if distances_left and len(before.pos) == self.num_columns:
                self["edge_distance"] = before.lengths_of(self.edge_index)
        self._check_attributes()
        if not self._is_remembered():
            if before is not None:
                before.check(Measured(self.edge_index, self.edge_distance, self.pos), self.metric)
            self._remember()
        return self

    def validate(self, raise_on_error: bool = True) -> bool:
        """PyG's name for :meth:`checked`; False instead of an error with ``raise_on_error=False``."""
        try:
            self.checked()
        except ValueError:
            if raise_on_error:
                raise
            return False
        return True

    def _check_columns_and_edges(self) -> None:
        missing = [name for name in (*TENSORS, *TEXTS, "spacing") if self._store.get(name) is None]
        if missing:
            raise ValueError(f"the sheet lacks {', '.join(missing)}: a transform has removed what a sheet needs")
        for name in TENSORS:
            if not isinstance(self[name], torch.Tensor):
                raise ValueError(f"{name} must be a tensor, got {type(self[name]).__name__}")
            if self[name].is_meta:
                raise ValueError(
                    f"{name} is on the meta device, which holds no numbers: keep the sheet, and move models"
                )
            if self[name].requires_grad:
                raise ValueError(f"{name} is a constant of the sheet and receives no gradient: give {name}.detach()")
        edges = self.edge_index
        if edges.dim() != 2 or edges.size(0) != 2 or edges.dtype != torch.int64:
            raise ValueError(f"edge_index must be int64 of shape [2, E], got {edges.dtype} of {list(edges.shape)}")
        checks.check_range(edges.numpy(force=True), self.num_columns, "edge_index")

    def _check_attributes(self) -> None:
        n = self.num_columns
        checks.lengths(self.edge_distance, self.edge_index)
        checks.positions(self.pos, n, "pos")
        checks.columns(self.output_mask, n, "output_mask")
        checks.labels(self.layer, n, "layer")
        checks.indices(self.face, n, "face", (3, "F"))
        if self.names is not None:
            checks.names(self.names, n)
        if self.area is not None:
            if not isinstance(self.area, torch.Tensor) or self.area.dtype != torch.int64:
                kind = getattr(self.area, "dtype", type(self.area).__name__)
                raise ValueError(f"area must be a tensor of int64, got {kind}")
            _, self.area_names = checks.areas(self.area, self.area_names, n)
        elif self.area_names is not None:
            raise ValueError("the sheet has area_names and lacks area: a transform has removed it")
        if self.tract_index is not None:
            checks.indices(self.tract_index, n, "tracts", (2, "T"))
        if self.wire_index is not None:
            checks.lengths(self.wire_length, checks.indices(self.wire_index, n, "wires", (2, "W")), "length of wires")
        rank = self.input_rank.numpy(force=True)
        if rank.shape != (n,) or not np.array_equal(np.sort(rank[rank >= 0]), np.arange((rank >= 0).sum())):
            raise ValueError(
                f"input_rank must have shape [{n}] and hold 0, 1, 2, ... once each at the input columns, -1 elsewhere; "
                "sheet.subgraph(columns) closes the gaps that a cut leaves"
            )

    def _remember(self) -> None:
        """Note which distances belong to which edges and positions."""
        self.__dict__["_measured"] = Measured(self.edge_index.clone(), self.edge_distance.clone(), self.pos.clone())
        self.__dict__.pop("_layout", None)

    def _is_remembered(self) -> bool:
        """Whether edges, distances and positions are those that were noted."""
        before: Measured | None = self.__dict__.get("_measured")
        now = (self.edge_index, self.edge_distance, self.pos)
        return before is not None and all(map(equal, now, before))
