"""The sheet: a graph of columns embedded in space, as a PyG ``Data``."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from colgraph import checks
from colgraph.describe import SheetReport, report
from colgraph.edges import by_rank, canonical_edges, edge_codes
from colgraph.layout import Layout, edges_are_sorted
from colgraph.output import replacing
from colgraph.sheet.checked import OPTIONAL, TENSORS, TEXTS, CheckedData
from colgraph.sheet.tensors import as_tensor, plainly
from colgraph.space import GRAPH_METRICS, Place, Space, make_space

_FORMAT = 3  # 1 had neither period nor wires, 2 neither areas nor tracts


class Sheet(CheckedData):
    """Columns and the edges they listen through.

    A ``Sheet`` is a ``torch_geometric.data.Data`` and behaves as one under PyG's tools. Make one with
    :func:`colgraph.build_sheet` (from a geometry) or :meth:`Sheet.from_edges` (from tensors).

    An edge ``j -> i`` (``edge_index[0] = j``, ``edge_index[1] = i``) means that column ``i`` listens to column ``j``.
    Edges are sorted by target, then by source, without duplicates; that order is frozen, because learned edge
    parameters are indexed by it.

    Attributes:
        pos: ``[N,3]`` float32, where the columns are.
        edge_index: ``[2,E]`` int64.
        edge_distance: ``[E]`` float32, the length of each edge in the geometry's units.
        input_rank: ``[N]`` int64, the order in which columns receive input; -1 where a column is not an input.
        output_mask: ``[N]`` bool, whether a column is read out.
        layer: ``[N]`` int64, a label per column (a layer of a stack, a hemisphere); 0 where there is none.
        face: ``[3,F]`` int64, triangles for drawing; F is 0 where there are none.
        metric: what the distance means ("euclidean", "geodesic", ...).
        geometry: the name of the geometry or file it came from.
        names: optional list of N column names (regions of a connectome, where each is a column).
        area: ``[N]`` int64, which area each column is in: its place in ``area_names``, -1 for none. None on a sheet
            without areas.
        area_names: list of the areas' names, or None. After a cut, areas without columns keep their place in it.
        tract_index: ``[2,T]`` int64, long-range edges (source and target) whose lengths are those of tracts and not of
            the metric, or None. ``is_tract`` says which of the edges they are.
        period: side lengths of the periodic box that distances are measured in, or None.
        wire_index: ``[2,W]`` int64, the connections that distances of the metrics "given" and "hops" follow, or None
            where those are the edges themselves.
        wire_length: ``[W]`` float32, their lengths, or None.
    """

    @classmethod
    @plainly
    def from_edges(
        cls,
        edge_index: Tensor | np.ndarray,
        num_columns: int,
        *,
        edge_distance: Tensor | np.ndarray | None = None,
        pos: Tensor | np.ndarray | None = None,
        inputs: ArrayLike | Tensor | None = None,
        outputs: ArrayLike | Tensor | None = None,
        layer: Tensor | np.ndarray | None = None,
        face: Tensor | np.ndarray | None = None,
        spacing: float | None = None,
        metric: str = "given",
        geometry: str = "custom",
        names: Sequence[str] | None = None,
        area: ArrayLike | Tensor | None = None,
        area_names: Sequence[str] | None = None,
        tracts: Tensor | np.ndarray | None = None,
        period: Sequence[float] | None = None,
        wires: tuple[Tensor | np.ndarray, Tensor | np.ndarray] | None = None,
    ) -> Sheet:
        """A sheet from tensors or arrays.

        Args:
            edge_index: ``[2,E]`` source and target, in any order. Parallel edges are merged (the shortest stays).
            num_columns: N.
            edge_distance: ``[E]``, not negative; 1 for every edge (0 for self-loops) if not given.
            pos: ``[N,3]`` (or ``[N,2]``); zeros if not given.
            inputs: the input columns in order of rank; none if not given.
            outputs: the columns to be read out; all if not given.
            layer: ``[N]`` labels.
            face: ``[3,F]`` triangles.
            spacing: median distance between nearest neighbors; measured on the incoming edges if not given.
            metric: what the distance means.
            geometry: name of the geometry.
            names: N column names.
            area: ``[N]`` place of each column's area in ``area_names``, -1 for none.
            area_names: names of the areas; their numbers if not given.
            tracts: ``[2,T]`` the edges whose lengths are not the metric's.
            period: side lengths of the periodic box, for metric "periodic".
            wires: ``[2,W]`` and ``[W]``, the connections (with their lengths) that distances of the metrics "given" and
                "hops" follow; the edges themselves if not given.

        Raises:
            ValueError: for anything out of range, of a wrong shape, not finite, or negative.
        """
        n = int(num_columns)
        if n < 1:
            raise ValueError(f"num_columns must be at least 1, got {num_columns}")
        edges = checks.edge_index(edge_index, n)
        if edge_distance is None:
            distance = (edges[0] != edges[1]).astype(np.float64)
        else:
            distance = checks.lengths(edge_distance, edges)
        edges, distance = canonical_edges(edges, n, distance)
        rank, mask = np.full(n, -1), np.full(n, outputs is None)
        if inputs is not None:
            columns = checks.columns(inputs, n, "inputs")
            rank[columns] = np.arange(columns.size)
        if outputs is not None:
            mask[checks.columns(outputs, n, "outputs")] = True
        places = np.zeros((n, 3)) if pos is None else checks.positions(pos, n, "pos")
        arrays = {
            "edge_index": edges,
            "edge_distance": distance.astype(np.float32),
            "pos": places.astype(np.float32),
            "input_rank": rank,
            "output_mask": mask,
            "layer": np.zeros(n, np.int64) if layer is None else checks.labels(layer, n, "layer"),
            "face": np.zeros((3, 0), np.int64) if face is None else checks.indices(face, n, "face", (3, "F")),
        }
        if area is not None:
            arrays["area"], area_names = checks.areas(area, area_names, n)
        elif area_names is not None:
            raise ValueError("area_names needs area, one number per column")
        if tracts is not None:
            arrays["tract_index"] = checks.indices(tracts, n, "tracts", (2, "T"))
        if wires is not None:
            arrays["wire_index"] = ends = checks.indices(wires[0], n, "wires", (2, "W"))
            arrays["wire_length"] = checks.lengths(wires[1], ends, "length of wires").astype(np.float32)
        device = edge_index.device if isinstance(edge_index, Tensor) else None
        sheet = cls(num_nodes=n, **{name: as_tensor(array, device) for name, array in arrays.items()})
        sheet.metric = str(metric)
        sheet.geometry = str(geometry)
        sheet.spacing = _edge_spacing(edges, distance, n) if spacing is None else spacing
        if metric not in GRAPH_METRICS:
            checks.rounding(places, sheet.spacing)
        sheet.names = None if names is None else checks.names(names, n)
        sheet.area_names = area_names
        sheet.period = None if period is None else checks.period(period)
        sheet._remember()
        return sheet

    # ------------------------------------------------------------------ what a sheet says about itself

    @property
    def distance(self) -> Tensor:
        """``[E]`` length of each edge (another name for ``edge_distance``)."""
        return self.edge_distance

    @property
    def inputs(self) -> Tensor:
        """``[P]`` the input columns, ascending by rank."""
        columns = torch.nonzero(self.input_rank >= 0).flatten()
        return columns[torch.argsort(self.input_rank[columns], stable=True)]

    @property
    def outputs(self) -> Tensor:
        """The columns that are read out, ascending."""
        return torch.nonzero(self.output_mask).flatten()

    @property
    def is_tract(self) -> Tensor:
        """``[E]`` bool, which edges were laid along tracts."""
        if self.tract_index is None:
            return torch.zeros(self.edge_index.size(1), dtype=torch.bool, device=self.edge_index.device)
        n = self.num_columns
        own, tracts = (edge_codes(edges.numpy(force=True), n) for edges in (self.edge_index, self.tract_index))
        return as_tensor(np.isin(own, tracts), self.edge_index.device)

    @property
    def spacing(self) -> float:
        """Median distance between nearest neighbors: the unit in which widths and wiring weights are given."""
        return float(self._store["spacing"])

    @spacing.setter
    def spacing(self, value: float) -> None:
        self._store["spacing"] = checks.spacing(value)

    @property
    def space(self) -> Space:
        """How far columns are from each other by the sheet's metric: ``sheet.space.between(i, j)`` and more.

        Built once; a search over a surface takes as long as building the sheet did.

        Raises:
            ValueError: for a metric that the sheet does not have what it needs for (made by hand, or by a version of
                colgraph that did not keep it).
        """
        place, known = self._place(), self.__dict__.get("_space")
        if known is None or known[0] != (self.metric, place):
            known = self.__dict__["_space"] = ((self.metric, place), make_space(place, self.metric))
        space: Space = known[1]
        return space

    def _place(self) -> Place:
        self.checked()
        edges, lengths = self.wire_index, self.wire_length
        if edges is None or lengths is None:
            edges, lengths = self.edge_index, self.edge_distance
        return Place(
            self.pos.numpy(force=True).astype(np.float64),
            self.face.numpy(force=True).T if self.face.numel() else None,
            edges.numpy(force=True) if self.metric in GRAPH_METRICS else None,
            lengths.numpy(force=True).astype(np.float64) if self.metric in GRAPH_METRICS else None,
            self.period,
            name=self.geometry,
        )

    @property
    def layout(self) -> Layout:
        """Both compressed directions of the edges, built once and kept as long as the sheet stays what it is.

        Raises:
            ValueError: as :meth:`checked`, and where a transform has reordered the edges.
        """
        known = self.__dict__.get("_layout")
        if known is not None and known.edge_index.device == self.edge_index.device and self._is_remembered():
            return known
        self.checked()
        layout = self.__dict__["_layout"] = Layout(self.edge_index, self.num_columns, self.pos)
        return layout

    @property
    def fingerprint(self) -> str:
        """SHA-256 over N and ``edge_index``, in hexadecimal: which graph learned parameters belong to."""
        digest = hashlib.sha256(np.int64(self.num_columns).astype("<i8").tobytes())
        digest.update(np.ascontiguousarray(self.edge_index.cpu().numpy().astype("<i8")).tobytes())
        return digest.hexdigest()

    @property
    def geometry_fingerprint(self) -> str:
        """SHA-256 over positions and distances: the same graph may lie elsewhere in space."""
        digest = hashlib.sha256()
        for tensor in (self.pos, self.edge_distance):
            digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy().astype("<f4")).tobytes())
        return digest.hexdigest()

    @property
    def marks(self) -> tuple[Any, ...]:
        """Both fingerprints, and the input and output columns: equal for sheets that are the same to a model."""
        ends = (tuple(columns.tolist()) for columns in (self.inputs, self.outputs))
        return (self.fingerprint, self.geometry_fingerprint, *ends)

    def describe(self) -> SheetReport:
        """A report to print: degrees, components, distances, tie-breaking offset, inputs and outputs, memory."""
        return report(
            geometry=self.geometry,
            metric=self.metric,
            positions=self.pos.detach().cpu().numpy(),
            edge_index=self.edge_index.cpu().numpy(),
            distance=self.edge_distance.detach().cpu().numpy(),
            spacing=self.spacing,
            is_tract=self.is_tract.cpu().numpy(),
            areas=None if self.area is None else (self.area.cpu().numpy(), self.area_names or []),
            num_inputs=int((self.input_rank >= 0).sum()),
            num_outputs=int(self.output_mask.sum()),
            fingerprint=self.fingerprint,
        )

    # ------------------------------------------------------------------ PyG operations that need care

    def coalesce(self) -> Sheet:
        """A copy with the edges in canonical order (by target, then source), parallel edges merged to the shortest."""
        self.checked()
        edges, distance = self.edge_index.numpy(force=True), self.edge_distance.numpy(force=True)
        edges, distance = canonical_edges(edges, self.num_columns, distance)
        out = copy.copy(self)
        out.edge_index, out.edge_distance = (as_tensor(array, self.edge_index.device) for array in (edges, distance))
        out._remember()
        return out

    def subgraph(self, subset: Tensor) -> Sheet:
        """The sheet of some columns: the edges and faces among them, input ranks closed up.

        Columns come in the order of ``subset`` (indices or a boolean mask); the spacing is the parent's, so that
        distances keep their unit.
        """
        self.checked()
        columns = as_tensor(checks.columns(subset, self.num_columns, "subset"), self.edge_index.device)
        face = self.face
        out = super().subgraph(columns)
        new_id = torch.full((self.num_columns,), -1, dtype=torch.int64, device=columns.device)
        new_id[columns] = torch.arange(columns.numel(), device=columns.device)
        relabeled = new_id[face]
        out.face = relabeled[:, (relabeled >= 0).all(0)]
        out.period = self.period
        if self.tract_index is not None:
            relabeled = new_id[self.tract_index]
            out.tract_index = relabeled[:, (relabeled >= 0).all(0)]
        if self.wire_index is not None:
            relabeled = new_id[self.wire_index]
            inside = (relabeled >= 0).all(0)
            out.wire_index, out.wire_length = relabeled[:, inside], self.wire_length[inside]
        ranked, rank = out.inputs, torch.full_like(out.input_rank, -1)
        rank[ranked] = torch.arange(ranked.numel(), device=ranked.device)
        out.input_rank = rank
        out.num_nodes = columns.numel()
        out._remember()
        # Only the ids of an unsorted subset put the edges out of order; coalescing is free of effect otherwise.
        return out if edges_are_sorted(out.edge_index) else out.coalesce()

    def __getstate__(self) -> dict[str, Any]:
        # Layout and space are cheap to rebuild and large to send to a worker process.
        return {key: value for key, value in self.__dict__.items() if key not in ("_layout", "_space")}

    # ------------------------------------------------------------------ other forms

    def to_networkx(self) -> Any:
        """A ``networkx.DiGraph``.

        Nodes carry ``pos``, ``layer``, ``input_rank``, ``output`` and, where there are any, ``name`` and ``area`` (the
        name of the area); edges carry ``distance``, and tracts ``is_tract``. The graph has the list ``area_names``.
        ``build_sheet`` makes the same sheet of it again.
        """
        import networkx as nx

        graph = nx.DiGraph(geometry=self.geometry, metric=self.metric, spacing=self.spacing)
        names = self.get("names")
        areas, area_names = None if self.area is None else self.area.tolist(), self.area_names or []
        if self.period is not None:
            graph.graph["period"] = [float(side) for side in self.period]
        if areas is not None:
            graph.graph["area_names"] = area_names
        columns = zip(
            self.pos.tolist(), self.layer.tolist(), self.input_rank.tolist(), self.output_mask.tolist(), strict=True
        )
        for i, (pos, layer, rank, output) in enumerate(columns):
            graph.add_node(i, pos=tuple(pos), layer=layer, input_rank=rank, output=output)
            if names is not None:
                graph.nodes[i]["name"] = names[i]
            if areas is not None and areas[i] >= 0:
                graph.nodes[i]["area"] = area_names[areas[i]]
        source, target = self.edge_index.tolist()
        graph.add_edges_from(
            (j, i, {"distance": d} | ({"is_tract": True} if tract else {}))
            for j, i, d, tract in zip(source, target, self.edge_distance.tolist(), self.is_tract.tolist(), strict=True)
        )
        return graph

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All that makes the sheet, as plain arrays; :meth:`from_arrays` reads them.

        Raises:
            ValueError: as :meth:`checked`.
        """
        self.checked()
        arrays: dict[str, np.ndarray] = {name: self[name].numpy(force=True) for name in TENSORS}
        arrays |= {name: np.array(str(self[name])) for name in TEXTS}
        arrays["spacing"] = np.array(self.spacing)
        arrays["num_columns"] = np.array(self.num_columns)
        arrays["format"] = np.array(_FORMAT)
        for name in OPTIONAL:
            value = getattr(self, name)
            if value is not None:
                arrays[name] = value.numpy(force=True) if isinstance(value, Tensor) else np.array(value)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Sheet:
        """The sheet of :meth:`to_arrays`.

        Raises:
            ValueError: where an array is missing or wrong, or the format is another version's.
        """
        missing = sorted({*TENSORS, *TEXTS, "spacing", "num_columns", "format"} - set(arrays))
        if missing:
            raise ValueError(f"no sheet saved by Sheet.save: it lacks {', '.join(missing)}")
        if not 1 <= int(arrays["format"]) <= _FORMAT:
            raise ValueError(f"sheet format {int(arrays['format'])}; this version of colgraph reads up to {_FORMAT}")
        return cls.from_edges(
            arrays["edge_index"],
            int(arrays["num_columns"]),
            edge_distance=arrays["edge_distance"],
            pos=arrays["pos"],
            inputs=by_rank(arrays["input_rank"]),
            outputs=np.flatnonzero(arrays["output_mask"]),
            layer=arrays["layer"],
            face=arrays["face"],
            spacing=float(arrays["spacing"]),
            metric=str(arrays["metric"]),
            geometry=str(arrays["geometry"]),
            names=arrays["names"].tolist() if "names" in arrays else None,
            area=arrays.get("area"),
            area_names=arrays["area_names"].tolist() if "area_names" in arrays else None,
            tracts=arrays.get("tract_index"),
            period=arrays["period"].tolist() if "period" in arrays else None,
            wires=(arrays["wire_index"], arrays["wire_length"]) if "wire_index" in arrays else None,
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the sheet to a ``.npz`` file (plain arrays, nothing pickled), whole or not at all."""
        path = Path(path)
        if path.suffix != ".npz":
            raise ValueError(f"a sheet is saved as .npz, got {str(path)!r}")
        arrays = self.to_arrays()
        with replacing(path) as temporary:
            np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Sheet:
        """Read a sheet that :meth:`save` wrote.

        Raises:
            ValueError: if the file is missing, truncated, or no sheet.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            return cls.from_arrays(arrays)
        except Exception as error:
            raise ValueError(f"cannot read a sheet from {str(path)!r}: {error}") from error


def _edge_spacing(edges: np.ndarray, distance: np.ndarray, n: int) -> float:
    """Median over columns of the shortest positive incoming edge, the lower of two; 1 where there is none."""
    real = distance > 0
    nearest = np.full(n, np.inf)
    np.minimum.at(nearest, edges[1][real], distance[real])
    nearest = np.sort(nearest[np.isfinite(nearest)])
    return float(nearest[(nearest.size - 1) // 2]) if nearest.size else 1.0


def load_sheet(path: str | os.PathLike[str]) -> Sheet:
    """Another name for :meth:`Sheet.load`."""
    return Sheet.load(path)
