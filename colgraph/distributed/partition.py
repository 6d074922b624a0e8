"""Cut a sheet into parts, one per rank, and report what each part holds and hears."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from colgraph.describe import SheetReport
from colgraph.distributed.bisection import bisect_space, graph_coordinate
from colgraph.extras import missing_package
from colgraph.hints import did_you_mean
from colgraph.layout import spatial_order
from colgraph.sheet import Sheet

_METHODS = ("space", "metis")
_COUNTED = ("columns", "edges", "boundary", "halo", "peers")  # of each part, in a report
_SHOWN = 64  # parts listed one by one in a printed report


def halo_bytes(
    halo_columns: int, *, dim: int = 64, qk_dim: int = 16, heads: int = 1, batch: int = 1, dtype: str = "float32"
) -> int:
    """Bytes of one forward exchange: ``halo x B x (H D + C)`` numbers, the key and the value of every halo column.

    Args:
        halo_columns: columns received.
        dim: channels C (of the state, hence of all heads' values together).
        qk_dim: size D of a key, per head.
        heads: heads H.
        batch: B.
        dtype: what travels: "float32", "bfloat16", ... (under autocast, the low precision).

    Raises:
        ValueError: for an unknown dtype.
    """
    kind = getattr(torch, str(dtype).removeprefix("torch."), None)
    if not isinstance(kind, torch.dtype):
        raise ValueError(f"dtype must name a torch dtype such as 'float32' or 'bfloat16', got {dtype!r}")
    return int(halo_columns) * batch * (heads * qk_dim + dim) * kind.itemsize


class PartitionReport(SheetReport):
    """The report as text, with the numbers behind it in ``values``."""


@dataclass(frozen=True, eq=False)
class Partition:
    """Which part every column of a sheet belongs to. Make one with :func:`partition_sheet`; print it for a report.

    Within a part columns come in three groups: *deep* columns, *near* ones that some boundary column of the part
    listens to, and the *boundary*, those that listen to a column of another part. What the boundary needs of its own
    part is then one contiguous run, and everything before the boundary can be computed while the halo travels. Within a
    group columns follow the sheet's kd order.

    Attributes:
        assignment: ``[N]`` int64, the part of each column.
        order: ``[N]`` int64, the columns in partition order: part by part.
        offsets: ``[R+1]`` int64, part ``p`` is ``order[offsets[p]:offsets[p + 1]]``.
        columns: ``[R]`` number of columns of each part.
        edges: ``[R]`` number of edges that end in each part.
        near: ``[R]`` number of near columns.
        boundary: ``[R]`` number of boundary columns.
        halo: ``[R]`` number of columns of other parts that each part listens to.
        peers: ``[R]`` number of other parts each part listens to.
        cut_edges: number of edges between parts.
        column_work: what one column costs, in edges.
        method: how the sheet was cut.
        fingerprint: of the sheet.
    """

    assignment: Tensor
    order: Tensor
    offsets: Tensor
    columns: NDArray[np.int64]
    edges: NDArray[np.int64]
    near: NDArray[np.int64]
    boundary: NDArray[np.int64]
    halo: NDArray[np.int64]
    peers: NDArray[np.int64]
    cut_edges: int
    column_work: float
    method: str
    fingerprint: str

    @property
    def num_parts(self) -> int:
        """Number of parts R."""
        return len(self.columns)

    @property
    def cut_fraction(self) -> float:
        """Fraction of all edges that run between parts."""
        return self.cut_edges / max(int(self.edges.sum()), 1)

    @property
    def work(self) -> NDArray[np.float64]:
        """``[R]`` work of each part: its edges and, at ``column_work`` edges each, its columns."""
        return self.edges + self.column_work * self.columns

    @property
    def imbalance(self) -> float:
        """Work of the largest part over the mean, less one."""
        return float(self.work.max() / self.work.mean() - 1)

    @property
    def digest(self) -> str:
        """SHA-256 of who owns what, in which order, in hexadecimal."""
        digest = hashlib.sha256(self.offsets.numpy().tobytes())
        digest.update(self.order.numpy().tobytes())
        return digest.hexdigest()

    def part(self, index: int) -> Tensor:
        """The columns of one part, in partition order."""
        return self.order[int(self.offsets[index]) : int(self.offsets[index + 1])]

    def bytes_per_step(
        self, *, dim: int = 64, qk_dim: int = 16, heads: int = 1, batch: int = 1, dtype: str = "float32"
    ) -> NDArray[np.int64]:
        """``[R]`` bytes that each part receives in the exchange of one forward step; see :func:`halo_bytes`.

        The backward pass sends as many back, and ``recompute="steps"`` receives them a second time.
        """
        each = halo_bytes(1, dim=dim, qk_dim=qk_dim, heads=heads, batch=batch, dtype=dtype)
        return self.halo * each

    def report(
        self, *, dim: int = 64, qk_dim: int = 16, heads: int = 1, batch: int = 1, dtype: str = "float32"
    ) -> PartitionReport:
        """A table to print: columns, edges, boundary, halo and predicted bytes per step of each part."""
        received = self.bytes_per_step(dim=dim, qk_dim=qk_dim, heads=heads, batch=batch, dtype=dtype)
        values: dict[str, Any] = {
            "parts": self.num_parts,
            "method": self.method,
            "imbalance": self.imbalance,
            "cut_edges": self.cut_edges,
            "cut_fraction": self.cut_fraction,
            **{name: getattr(self, name).tolist() for name in _COUNTED},
            "bytes_per_step": received.tolist(),
            "sizes": {"dim": dim, "qk_dim": qk_dim, "heads": heads, "batch": batch, "dtype": dtype},
        }
        return PartitionReport(_text(values), values)

    def __str__(self) -> str:
        return str(self.report())

    def __repr__(self) -> str:
        return (
            f"Partition({len(self.assignment):,} columns, {self.num_parts} parts, method={self.method!r}, "
            f"imbalance={self.imbalance:.2%}, cut_fraction={self.cut_fraction:.2%}, halo={int(self.halo.sum()):,})"
        )


def partition_sheet(
    sheet: Sheet,
    parts: int | None = None,
    method: str | Sequence[int] | Sequence[str] | NDArray[Any] | Tensor = "space",
    *,
    column_work: float = 1.0,
) -> Partition:
    """Cut a sheet into parts of equal work with few edges across.

    Args:
        sheet: the sheet.
        parts: number of parts R; with labels it may be left out.
        method: "space": recursive bisection of space (of the reverse Cuthill-McKee order where the sheet has no
            positions); "metis": METIS's k-way partition, where ``pymetis`` is installed; or labels, one per column:
            whole numbers ``0..R-1``, or names (areas, hemispheres), which become parts in alphabetical order.
        column_work: what one column costs, in edges; the work of a part is ``edges + column_work * columns``. A
            model's own ratio is near ``2 (H D C + M C) / (H D + C)``, about 80 at default sizes.

    Returns:
        A :class:`Partition`.

    Raises:
        ValueError: for more parts than columns, an empty part, or an unknown method.
        ImportError: for "metis" without ``pymetis``.
    """
    n = sheet.num_columns
    edge_index = sheet.edge_index.cpu().numpy()
    name = method if isinstance(method, str) else "labels"
    if not column_work >= 0:
        raise ValueError(f"column_work must not be negative, got {column_work}")
    if not isinstance(method, str):
        assignment, parts = _from_labels(method, n, parts)
    else:
        parts = check_parts(parts, n)
        work = np.bincount(edge_index[1], minlength=n) + float(column_work)
        # A column without edges costs nothing when column_work is 0; cuts need something to weigh.
        work = np.maximum(work, 1e-6)
        assignment = _assign(name, sheet, edge_index, work, parts)
    return _measure(sheet, edge_index, assignment, parts, column_work, name)


# ---------------------------------------------------------------------- assignments


def check_parts(parts: int | None, n: int) -> int:
    """The number of parts; raise ValueError unless it is one into which ``n`` columns can be cut."""
    if parts is None or isinstance(parts, bool) or int(parts) != parts or parts < 1:
        raise ValueError(f"parts must be a whole number of at least 1, got {parts!r}")
    if parts > n:
        raise ValueError(f"{parts} parts are more than the {n} columns of the sheet: give at most {n}")
    return int(parts)


def _assign(
    method: str, sheet: Sheet, edge_index: NDArray[np.int64], work: NDArray[np.float64], parts: int
) -> NDArray[np.int64]:
    if method == "space":
        positions = sheet.pos.detach().cpu().numpy().astype(np.float64)
        if not (positions != positions[:1]).any():
            positions = graph_coordinate(edge_index, sheet.num_columns)
        return bisect_space(positions, edge_index, work, parts)
    if method == "metis":
        return _metis(edge_index, work, sheet.num_columns, parts)
    hint = did_you_mean(method, _METHODS, "; ")
    raise ValueError(f"method must be 'space', 'metis' or one label per column, got {method!r}{hint}")


def _metis(edge_index: NDArray[np.int64], work: NDArray[np.float64], n: int, parts: int) -> NDArray[np.int64]:
    try:
        import pymetis  # type: ignore[import-not-found]
    except ImportError as error:
        raise missing_package("method 'metis' needs", "pymetis", "metis") from error
    source, target = edge_index[:, edge_index[0] != edge_index[1]]
    # METIS cuts undirected graphs: both directions, each pair once.
    code = np.unique(np.concatenate([target * n + source, source * n + target]))
    pointers = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.bincount(code // n, minlength=n), out=pointers[1:])
    graph = pymetis.CSRAdjacency(pointers, code % n)
    weights = np.maximum(1, np.rint(work)).astype(np.int64)
    assignment = np.asarray(pymetis.part_graph(parts, adjacency=graph, vweights=weights)[1], dtype=np.int64)
    _check_filled(assignment, parts, "METIS left part {} without columns: use method='space'")
    return assignment


def _from_labels(labels: ArrayLike | Tensor, n: int, parts: int | None) -> tuple[NDArray[np.int64], int]:
    array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.shape != (n,):
        raise ValueError(f"labels must have shape [{n}], one per column, got {list(array.shape)}")
    if array.dtype.kind == "U":
        names, array = np.unique(array, return_inverse=True)
        if parts is not None and parts != len(names):
            raise ValueError(f"the labels name {len(names)} parts ({', '.join(names[:8])}), but parts is {parts}")
        return array.astype(np.int64), len(names)
    if array.dtype.kind not in "iu":
        raise ValueError(f"labels must be whole numbers or names, got an array of {array.dtype}")
    count = check_parts(int(array.max()) + 1 if parts is None else parts, n)
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= count:
        raise ValueError(f"labels must lie in 0..{count - 1} ({count} parts), got {low if low < 0 else high}")
    assignment = array.astype(np.int64)
    _check_filled(assignment, count, "part {} is empty: no column has that label; number the parts without gaps")
    return assignment, count


def _check_filled(assignment: NDArray[np.int64], parts: int, message: str) -> None:
    empty = np.flatnonzero(np.bincount(assignment, minlength=parts) == 0)
    if empty.size:
        raise ValueError(message.format(int(empty[0])))


# ---------------------------------------------------------------------- measures


def _measure(
    sheet: Sheet,
    edge_index: NDArray[np.int64],
    assignment: NDArray[np.int64],
    parts: int,
    column_work: float,
    name: str,
) -> Partition:
    n = sheet.num_columns
    source, target = edge_index
    to_part, cut = assignment[target], assignment[source] != assignment[target]
    # Every (part, column it listens to elsewhere) once.
    copies = np.unique(to_part[cut] * n + source[cut])
    listener, copied = np.divmod(copies, n)
    pairs = np.unique(listener * parts + assignment[copied])
    on_boundary = np.zeros(n, dtype=bool)
    on_boundary[target[cut]] = True
    group = _groups(source, target, cut, on_boundary)
    order = np.lexsort((_kd_rank(sheet), group, assignment))
    columns = np.bincount(assignment, minlength=parts)

    def per_part(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(assignment[mask], minlength=parts)

    return Partition(
        assignment=torch.from_numpy(assignment),
        order=torch.from_numpy(order),
        offsets=torch.from_numpy(np.concatenate([[0], np.cumsum(columns)])),
        columns=columns,
        edges=np.bincount(to_part, minlength=parts),
        near=per_part(group == 1),
        boundary=per_part(on_boundary),
        halo=np.bincount(listener, minlength=parts),
        peers=np.bincount(pairs // parts, minlength=parts),
        cut_edges=int(np.count_nonzero(cut)),
        column_work=float(column_work),
        method=name,
        fingerprint=sheet.fingerprint,
    )


def _groups(
    source: NDArray[np.int64], target: NDArray[np.int64], cut: NDArray[np.bool_], on_boundary: NDArray[np.bool_]
) -> NDArray[np.int8]:
    """0 for deep columns, 1 for near ones, 2 for the boundary; see :class:`Partition`."""
    group = np.zeros(len(on_boundary), dtype=np.int8)
    group[source[~cut & on_boundary[target]]] = 1
    group[on_boundary] = 2
    return group


def _kd_rank(sheet: Sheet) -> NDArray[np.int64]:
    order = spatial_order(sheet.pos.numpy(force=True))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank


# ---------------------------------------------------------------------- printing


def _text(v: dict[str, Any]) -> str:
    total, halo, sizes = sum(v["columns"]), sum(v["halo"]), v["sizes"]
    head = [
        f"partition  {v['parts']} parts by {v['method']}, {total:,} columns, {sum(v['edges']):,} edges",
        f"imbalance  {v['imbalance']:.2%} (work of the largest part over the mean)",
        f"cut edges  {v['cut_edges']:,} ({v['cut_fraction']:.2%})",
        f"halo       {halo:,} columns copied ({halo / total:.2%} of all)",
        "traffic    bytes received per forward step, as many in the backward step: "
        + ", ".join(f"{name} {value}" for name, value in sizes.items()),
        "",
    ]
    names = (*_COUNTED, "bytes_per_step")
    table = np.array([v[name] for name in names])
    rows = [(str(p), *(f"{value:,}" for value in table[:, p])) for p in range(min(v["parts"], _SHOWN))]
    if v["parts"] > _SHOWN:
        rows.append(("...", *[""] * len(names)))
    for label, row in (("min", table.min(1)), ("median", np.median(table, 1).astype(np.int64)), ("max", table.max(1))):
        rows.append((label, *(f"{value:,}" for value in row)))
    titles = ("part", *_COUNTED, "bytes")
    widths = [max(len(row[i]) for row in [titles, *rows]) for i in range(len(titles))]
    return "\n".join(head + ["  ".join(f"{cell:>{w}}" for cell, w in zip(row, widths)) for row in [titles, *rows]])
