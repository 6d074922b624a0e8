"""The sheet: a graph of columns embedded in space, as a PyG ``Data``."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import scatter

from colgraph.describe import SheetReport, report
from colgraph.layout import Layout, edges_are_sorted

__all__ = ["Sheet", "load_sheet"]

_TENSORS = ("pos", "edge_index", "edge_distance", "input_rank", "output_mask", "layer", "face")
_TEXTS = ("metric", "geometry")
_FORMAT = 1


class Sheet(Data):
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
        names: optional list of N column names (areas of a connectome).
    """

    @classmethod
    def from_edges(
        cls,
        edge_index: Tensor | np.ndarray,
        num_columns: int,
        *,
        edge_distance: Tensor | np.ndarray | None = None,
        pos: Tensor | np.ndarray | None = None,
        inputs: Sequence[int] | np.ndarray | Tensor | None = None,
        outputs: Sequence[int] | np.ndarray | Tensor | None = None,
        layer: Tensor | np.ndarray | None = None,
        face: Tensor | np.ndarray | None = None,
        spacing: float | None = None,
        metric: str = "given",
        geometry: str = "custom",
        names: Sequence[str] | None = None,
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
            spacing: median distance between nearest neighbours; measured on the incoming edges if not given.
            metric: what the distance means.
            geometry: name of the geometry.
            names: N column names.

        Raises:
            ValueError: for anything out of range, of a wrong shape, not finite, or negative.
        """
        n = _positive(num_columns, "num_columns")
        edges = torch.as_tensor(edge_index)
        if edges.dim() != 2 or edges.size(0) != 2 or edges.is_floating_point():
            raise ValueError(
                f"edge_index must be integers of shape [2, E], got {edges.dtype} of shape {list(edges.shape)}"
            )
        edges = edges.to(torch.int64)
        _check_range(edges, n, "edge_index")
        if edge_distance is None:
            distance = (edges[0] != edges[1]).to(torch.float64)
        else:
            distance = torch.as_tensor(edge_distance).to(torch.float64)
            if distance.shape != (edges.size(1),):
                raise ValueError(
                    f"edge_distance must have shape [{edges.size(1)}], one per edge, got {list(distance.shape)}"
                )
            _check_finite(distance, "edge_distance")
            if distance.numel() and float(distance.min()) < 0:
                raise ValueError(f"edge_distance must not be negative, got {float(distance.min()):g}")
        edges, distance = _canonical(edges, distance, n)
        sheet = cls(edge_index=edges, edge_distance=distance.to(torch.float32), num_nodes=n)
        sheet.pos = _positions(pos, n)
        sheet.input_rank = _ranks(inputs, n)
        sheet.output_mask = _mask(outputs, n)
        sheet.layer = _per_column(layer, n, "layer")
        sheet.face = _faces(face, n)
        sheet.metric = str(metric)
        sheet.geometry = str(geometry)
        sheet.spacing = float(spacing) if spacing is not None else _edge_spacing(edges, distance, n)
        if names is not None:
            if len(names) != n:
                raise ValueError(f"names must have {n} entries, one per column, got {len(names)}")
            sheet.names = [str(name) for name in names]
        return sheet

    # ------------------------------------------------------------------ what a sheet says about itself

    @property
    def num_columns(self) -> int:
        """Number of columns N."""
        return int(self.num_nodes)  # type: ignore[arg-type]

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
    def spacing(self) -> float:
        """Median distance between nearest neighbours: the unit in which widths and wiring weights are given."""
        return float(self._store["spacing"])

    @spacing.setter
    def spacing(self, value: float) -> None:
        self._store["spacing"] = value

    @property
    def layout(self) -> Layout:
        """Both compressed directions of the edges, built once and kept as long as the edges stay what they are.

        Raises:
            ValueError: if a transform has reordered the edges.
        """
        edges = self.edge_index
        cached = self.__dict__.get("_layout_cache")
        if cached is not None:
            tensor, version, layout = cached
            if tensor is edges and version == edges._version:
                return layout
            moved = tensor.device != edges.device and version == tensor._version and tensor.shape == edges.shape
            if moved and torch.equal(tensor.to(edges.device), edges):
                layout = layout.to(edges.device)
                self.__dict__["_layout_cache"] = (edges, edges._version, layout)
                return layout
        layout = Layout(edges, self.num_columns, self.pos)
        self.__dict__["_layout_cache"] = (edges, edges._version, layout)
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

    def describe(self) -> SheetReport:
        """A report to print: degrees, components, distances, tie-breaking offset, inputs and outputs, memory."""
        return report(
            geometry=self.geometry,
            metric=self.metric,
            positions=self.pos.detach().cpu().numpy(),
            edge_index=self.edge_index.cpu().numpy(),
            distance=self.edge_distance.detach().cpu().numpy(),
            spacing=self.spacing,
            num_inputs=int((self.input_rank >= 0).sum()),
            num_outputs=int(self.output_mask.sum()),
            fingerprint=self.fingerprint,
        )

    # ------------------------------------------------------------------ PyG operations that need care

    def coalesce(self) -> Sheet:
        """A copy with the edges in canonical order (by target, then source), parallel edges merged to the shortest."""
        edges, distance = _canonical(self.edge_index, self.edge_distance, self.num_columns)
        out = _copy(self)
        out.edge_index, out.edge_distance = edges, distance
        return out

    def subgraph(self, subset: Tensor) -> Sheet:
        """The sheet of some columns: the edges and faces among them, input ranks closed up.

        Columns come in the order of ``subset`` (indices or a boolean mask); the spacing is the parent's, so that
        distances keep their unit.
        """
        columns = torch.nonzero(subset).flatten() if subset.dtype == torch.bool else subset.to(torch.int64)
        columns = columns.to(self.edge_index.device)
        _check_range(columns, self.num_columns, "subset")
        if columns.unique().numel() != columns.numel():
            raise ValueError("subset names a column more than once")
        face = self.face
        out = super().subgraph(columns)
        new_id = torch.full((self.num_columns,), -1, dtype=torch.int64, device=columns.device)
        new_id[columns] = torch.arange(columns.numel(), device=columns.device)
        relabelled = new_id[face]
        out.face = relabelled[:, (relabelled >= 0).all(0)]
        kept = torch.nonzero(out.input_rank >= 0).flatten()
        rank = torch.full_like(out.input_rank, -1)
        rank[kept[torch.argsort(out.input_rank[kept], stable=True)]] = torch.arange(kept.numel(), device=kept.device)
        out.input_rank = rank
        out.num_nodes = columns.numel()
        # Only the ids of an unsorted subset put the edges out of order; coalescing is free of effect otherwise.
        return out if edges_are_sorted(out.edge_index) else out.coalesce()

    def __getstate__(self) -> dict[str, Any]:
        # The layout is cheap to rebuild and large to send to a worker process.
        return {key: value for key, value in self.__dict__.items() if key != "_layout_cache"}

    # ------------------------------------------------------------------ other forms

    def to_networkx(self) -> Any:
        """A ``networkx.DiGraph``.

        Nodes carry ``pos``, ``layer``, ``input_rank``, ``output`` and, where there are any, ``name``; edges carry
        ``distance``. ``build_sheet`` makes the same sheet of it again.
        """
        import networkx as nx

        graph = nx.DiGraph(geometry=self.geometry, metric=self.metric, spacing=self.spacing)
        names = self.get("names")
        columns = zip(
            self.pos.tolist(), self.layer.tolist(), self.input_rank.tolist(), self.output_mask.tolist(), strict=True
        )
        for i, (pos, layer, rank, output) in enumerate(columns):
            graph.add_node(i, pos=tuple(pos), layer=layer, input_rank=rank, output=output)
            if names is not None:
                graph.nodes[i]["name"] = names[i]
        source, target = self.edge_index.tolist()
        graph.add_edges_from(
            (j, i, {"distance": d}) for j, i, d in zip(source, target, self.edge_distance.tolist(), strict=True)
        )
        return graph

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the sheet to a ``.npz`` file (plain arrays, nothing pickled), whole or not at all."""
        path = Path(path)
        if path.suffix != ".npz":
            raise ValueError(f"a sheet is saved as .npz, got {str(path)!r}")
        arrays: dict[str, np.ndarray] = {name: self[name].detach().cpu().numpy() for name in _TENSORS}
        arrays |= {name: np.array(str(self[name])) for name in _TEXTS}
        arrays["spacing"] = np.array(self.spacing)
        arrays["num_columns"] = np.array(self.num_columns)
        arrays["format"] = np.array(_FORMAT)
        if "names" in self:
            arrays["names"] = np.array(self["names"], dtype=np.str_)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return path


def load_sheet(path: str | os.PathLike[str]) -> Sheet:
    """Read a sheet that :meth:`Sheet.save` wrote.

    Raises:
        ValueError: if the file is missing, truncated, or no sheet.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:
        raise ValueError(f"cannot read a sheet from {str(path)!r}: {error}") from error
    missing = sorted({*_TENSORS, *_TEXTS, "spacing", "num_columns", "format"} - set(arrays))
    if missing:
        raise ValueError(f"{str(path)!r} is not a sheet saved by Sheet.save: it lacks {', '.join(missing)}")
    if int(arrays["format"]) != _FORMAT:
        raise ValueError(
            f"{str(path)!r} has sheet format {int(arrays['format'])}; this version of colgraph reads {_FORMAT}"
        )
    rank = arrays["input_rank"]
    inputs = np.flatnonzero(rank >= 0)
    return Sheet.from_edges(
        arrays["edge_index"],
        int(arrays["num_columns"]),
        edge_distance=arrays["edge_distance"],
        pos=arrays["pos"],
        inputs=inputs[np.argsort(rank[inputs], kind="stable")],
        outputs=np.flatnonzero(arrays["output_mask"]),
        layer=arrays["layer"],
        face=arrays["face"],
        spacing=float(arrays["spacing"]),
        metric=str(arrays["metric"]),
        geometry=str(arrays["geometry"]),
        names=arrays["names"].tolist() if "names" in arrays else None,
    )


# ---------------------------------------------------------------------- checks and small pieces


def _copy(sheet: Sheet) -> Sheet:
    import copy

    return copy.copy(sheet)


def _positive(value: int, name: str) -> int:
    if int(value) < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return int(value)


def _check_range(index: Tensor, n: int, name: str) -> None:
    if index.numel() == 0:
        return
    low, high = int(index.min()), int(index.max())
    if low < 0 or high >= n:
        raise ValueError(f"{name} must lie in 0..{n - 1} ({n} columns), got {low if low < 0 else high}")


def _check_finite(values: Tensor, name: str) -> None:
    bad = ~torch.isfinite(values)
    if bool(bad.any()):
        where = int(torch.nonzero(bad)[0, 0])
        raise ValueError(f"{name} must be finite, entry {where} is {values[where].tolist()}")


def _canonical(edges: Tensor, distance: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Edges sorted by target then source; parallel edges merged, the smallest distance kept."""
    if edges_are_sorted(edges):
        return edges.contiguous(), distance
    code, inverse = torch.unique(edges[1] * n + edges[0], sorted=True, return_inverse=True)
    merged = torch.stack([code % n, torch.div(code, n, rounding_mode="floor")])
    return merged, scatter(distance, inverse, dim=0, dim_size=code.numel(), reduce="min")


def _positions(pos: Tensor | np.ndarray | None, n: int) -> Tensor:
    if pos is None:
        return torch.zeros(n, 3)
    points = torch.as_tensor(pos).to(torch.float32)
    if points.dim() != 2 or points.size(0) != n or points.size(1) not in (1, 2, 3):
        raise ValueError(f"pos must have shape [{n}, 3], got {list(points.shape)}")
    _check_finite(points, "pos")
    return torch.nn.functional.pad(points, (0, 3 - points.size(1))).contiguous()


def _indices(columns: Sequence[int] | np.ndarray | Tensor, n: int, name: str) -> Tensor:
    index = torch.as_tensor(columns)
    if index.dtype == torch.bool:
        if index.shape != (n,):
            raise ValueError(f"{name} as a mask must have shape [{n}], got {list(index.shape)}")
        return torch.nonzero(index).flatten()
    if index.dim() != 1 or (index.numel() and index.is_floating_point()):
        raise ValueError(f"{name} must be a list of column indices, got {index.dtype} of shape {list(index.shape)}")
    index = index.to(torch.int64)
    _check_range(index, n, name)
    if index.unique().numel() != index.numel():
        raise ValueError(f"{name} names a column more than once")
    return index


def _ranks(inputs: Sequence[int] | np.ndarray | Tensor | None, n: int) -> Tensor:
    rank = torch.full((n,), -1, dtype=torch.int64)
    if inputs is not None:
        index = _indices(inputs, n, "inputs")
        rank[index] = torch.arange(index.numel())
    return rank


def _mask(outputs: Sequence[int] | np.ndarray | Tensor | None, n: int) -> Tensor:
    if outputs is None:
        return torch.ones(n, dtype=torch.bool)
    mask = torch.zeros(n, dtype=torch.bool)
    mask[_indices(outputs, n, "outputs")] = True
    return mask


def _per_column(values: Tensor | np.ndarray | None, n: int, name: str) -> Tensor:
    if values is None:
        return torch.zeros(n, dtype=torch.int64)
    labels = torch.as_tensor(values).to(torch.int64)
    if labels.shape != (n,):
        raise ValueError(f"{name} must have shape [{n}], one per column, got {list(labels.shape)}")
    return labels


def _faces(face: Tensor | np.ndarray | None, n: int) -> Tensor:
    if face is None:
        return torch.zeros(3, 0, dtype=torch.int64)
    faces = torch.as_tensor(face).to(torch.int64)
    if faces.dim() != 2 or faces.size(0) != 3:
        raise ValueError(f"face must have shape [3, F], got {list(faces.shape)}")
    _check_range(faces, n, "face")
    return faces.contiguous()


def _edge_spacing(edges: Tensor, distance: Tensor, n: int) -> float:
    """Median over columns of the shortest positive incoming edge; 1 where there is none."""
    real = distance > 0
    if not bool(real.any()):
        return 1.0
    nearest = torch.full((n,), torch.inf, dtype=torch.float64)
    nearest.scatter_reduce_(0, edges[1][real], distance[real].to(torch.float64), "amin")
    return float(nearest[torch.isfinite(nearest)].median())
