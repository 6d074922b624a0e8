"""A loss that makes maps of weights: columns that lie together shall compute alike."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colgraph.models import VisionColumnformer
from colgraph.options import check_choice
from colgraph.space import GRAPH_METRICS, Space, TooManyEdges

KINDS = ("cosine", "laplacian-pyramid")
REACH = 3.0
"""A Gaussian kernel ends here, in units of its width: at 1.1% of its height."""

_MOST_PAIRS = 50_000_000
_MOST_LEVELS = 4

Index: TypeAlias = NDArray[np.int64]
Parts: TypeAlias = dict[str, tuple[Tensor, Tensor | None]]


def comparable_weights(net: VisionColumnformer) -> Parts:
    """What columns compute with, as vectors that mean the same in every column.

    A column reads the LayerNorm of states, and what it adds to its state others hear in the same channels, so channels
    are shared up to the gains of each column's norms; those are multiplied into the weights. A query meets the keys of
    other columns, so the rows of query and key weights are shared as well. Hidden units of the MLPs are not: any two of
    one column may change places. What does not depend on their order is the product of both layers, ``[C,C]``, the map
    from channels read to channels written that the MLP is about zero, up to the slope of the GELU.

    Args:
        net: a model with untied attention or MLPs, and without value weights of its own in every column.

    Returns:
        By name ``[n, values]`` and the columns ``[n]`` that have them (None: all): "query" and "key"
        ``W diag(gain of norm1)``, "mlp" ``W_fc2 W_fc1 diag(gain of norm2)``, and with several columns per patch
        "embedding": the linear map through which an input column sees its patch.

    Raises:
        ValueError: for tied weights, and value weights that make channels a column's own.
    """
    model, block = net.model, net.model.block
    parts: Parts = {}
    untied = model.untied
    if not {"attention", "mlp"} & set(untied):
        raise ValueError(
            f"weight_similarity: with untied {','.join(untied) or 'none'} all columns have the same weights: untied "
            "attention or mlp, or leave it out"
        )
    if "attention" in untied and block.attention.value is not None:
        raise ValueError(
            "weight_similarity: with untied value weights the channels of a column are its own, so that weights of two "
            "columns have nothing in common: value_projection=False, or leave it out"
        )
    if "attention" in untied:
        gain = block.norm1.weight.unsqueeze(-2)
        for name in ("query", "key"):
            parts[name] = ((getattr(block.attention, name).weight * gain).flatten(1), None)
    if "mlp" in untied:
        read = block.mlp.fc1.weight * block.norm2.weight.unsqueeze(-2)
        parts["mlp"] = ((block.mlp.fc2.weight @ read).flatten(1), None)
    if net.columns_per_patch > 1:
        maps = net.patch_embedding.weight.unflatten(0, (net.columns_per_patch, -1)).flatten(1)
        parts["embedding"] = (maps.index_select(0, net.input_vectors % net.columns_per_patch), model.inputs)
    return parts


class WeightSimilarity:
    """The loss, with what it needs of a sheet, found once.

    "cosine": the mean over pairs of columns, weighted by a Gaussian of their distance, of ``1 - cos(w_i, w_j)``.
    Source: Lu et al. (2025), "End-to-end topographic networks as models of cortical map formation and human visual
    behaviour", whose neighbors are those beside a unit on its grid.

    "laplacian-pyramid": at each level the mean over places of ``1 - cos(w, expand(reduce(w)))``: how little of the
    weights is in the band of the Laplacian pyramid (Burt and Adelson 1983). Reducing is a Gaussian mean around every
    place that is kept, of those nearer than two spacings the first in the order of columns (on a grid every second one
    of every second row); expanding is a Gaussian mean over these; each level doubles spacing and width. Source: Deb et
    al. (2025), "TopoNets: high performing vision and language models with brain-like topography", who have one level,
    of a grid, by bilinear interpolation.

    Args:
        space: of the sheet: distances are by its metric, along connections of one direction the shorter of both ways.
        spacing: of the sheet.
        kind: one of :data:`KINDS`.
        width: of the Gaussian, in spacings; it ends at :data:`REACH` widths.
    """

    def __init__(self, space: Space, spacing: float, kind: str = "cosine", width: float = 1.0) -> None:
        check_choice("weight_similarity_kind", kind, KINDS)
        self.space, self.spacing, self.kind, self.width = space, spacing, kind, width
        self._made: dict[bytes, Any] = {}

    def of(self, parts: Parts, columns: int) -> Tensor:
        """The loss of weights as :func:`comparable_weights` returns them, on a sheet of so many: the mean over parts.

        Between 0 and 2; 0 where all columns have the same weights, 1 where they have nothing to do with each other.
        """
        losses = []
        for weights, those in parts.values():
            place = np.arange(columns) if those is None else those.cpu().numpy()
            dtype = torch.promote_types(weights.dtype, torch.float32)
            with torch.autocast(weights.device.type, enabled=False):
                losses.append(self._loss(weights.to(dtype), place))
        return torch.stack(losses).mean()

    def _loss(self, weights: Tensor, place: Index) -> Tensor:
        key = place.tobytes() + repr((weights.device, weights.dtype)).encode()
        if key not in self._made:
            make = self._pairs if self.kind == "cosine" else self._pyramid
            self._made[key] = [_as_torch(matrix, weights) for matrix in make(place)]
        if self.kind == "cosine":
            (kernel,) = self._made[key]
            unit = torch.nn.functional.normalize(weights, dim=-1)
            # Of a kernel whose values add up to one.
            return 1 - (unit * torch.sparse.mm(kernel, unit)).sum()
        levels, losses = self._made[key], []
        for reduce, expand in zip(levels[::2], levels[1::2], strict=True):
            smaller = torch.sparse.mm(reduce, weights)
            alike = torch.nn.functional.cosine_similarity(weights, torch.sparse.mm(expand, smaller), dim=-1)
            losses.append(1 - alike.mean())
            weights = smaller
        return torch.stack(losses).mean()

    # ------------------------------------------------------------------ matrices [rows, columns], as row, column, value

    def _pairs(self, place: Index) -> list[Any]:
        row, column, distance = self._near(place, place, REACH * self.width * self.spacing)
        once = row < column
        row, column, value = row[once], column[once], self._height(distance[once], self.width * self.spacing)
        if not len(row):
            raise ValueError(
                f"weight_similarity: none of {len(place)} columns lies within {REACH * self.width:g} spacings of "
                "another: give a larger weight_similarity_range"
            )
        return [(row, column, value / value.sum(), (len(place), len(place)))]

    def _pyramid(self, place: Index) -> list[Any]:
        matrices: list[Any] = []
        spacing = self.spacing
        while len(matrices) < 2 * _MOST_LEVELS:
            kept = self._thinned(place, 2 * spacing)
            if len(kept) == len(place) or (matrices and len(kept) < 2):
                break
            width = self.width * spacing
            # Within two spacings of every place is one that is kept.
            reach = max(REACH * width, 2 * spacing)
            matrices += [self._means(kept, place, width, reach), self._means(place, kept, width, reach)]
            place, spacing = kept, 2 * spacing
        if not matrices:
            raise ValueError(
                f"weight_similarity: no two of {len(place)} columns lie within two spacings of each other, so there is "
                "no pyramid: weight_similarity_kind='cosine', or leave it out"
            )
        return matrices

    def _means(self, rows: Index, columns: Index, width: float, reach: float) -> Any:
        """Weighted means around each of ``rows`` over ``columns``."""
        row, column, distance = self._near(rows, columns, reach)
        value = self._height(distance, width)
        return row, column, value / np.bincount(row, value, len(rows))[row], (len(rows), len(columns))

    def _thinned(self, place: Index, least: float) -> Index:
        """Places in order, those left out that lie nearer than ``least`` to one that is kept."""
        row, column, distance = self._near(place, place, least)
        nearer = distance < least * (1 - 1e-6)
        row, column = row[nearer], column[nearer]
        start = np.searchsorted(row, np.arange(len(place) + 1))
        kept = np.ones(len(place), dtype=bool)
        for i in range(len(place)):
            if kept[i]:
                others = column[start[i] : start[i + 1]]
                kept[others[others > i]] = False
        return place[kept]

    def _near(self, rows: Index, columns: Index, reach: float) -> tuple[Index, Index, NDArray[np.float64]]:
        """Pairs within reach as numbers of rows and columns, sorted, places with themselves too, and distances."""
        try:
            found = self.space.within(reach, rows, columns, _MOST_PAIRS)
        except TooManyEdges as error:
            raise ValueError(
                f"weight_similarity: {self.width:g} spacings of a kernel take in more than {_MOST_PAIRS:,} pairs of "
                "columns: give a smaller weight_similarity_range"
            ) from error
        pairs = [(found.target, found.source, found.distance)]
        if self.space.metric in GRAPH_METRICS:
            back = self.space.within(reach, columns, rows, _MOST_PAIRS)
            pairs.append((back.source, back.target, back.distance))
        same = np.intersect1d(rows, columns)
        pairs.append((same, same, np.zeros(len(same))))
        first, second, distance = (np.concatenate(each) for each in zip(*pairs, strict=True))
        size = int(max(rows.max(), columns.max())) + 1
        # Of both directions, the shorter.
        order = np.lexsort((distance, first * size + second))
        code, chosen = np.unique((first * size + second)[order], return_index=True)
        first, second = np.divmod(code, size)
        row, column, distance = _numbers(rows, first), _numbers(columns, second), distance[order][chosen]
        order = np.lexsort((column, row))
        return row[order], column[order], distance[order]

    @staticmethod
    def _height(distance: NDArray[np.float64], width: float) -> NDArray[np.float64]:
        return np.asarray(np.exp(-((distance / width) ** 2) / 2))


def _numbers(place: Index, those: Index) -> Index:
    order = np.argsort(place)
    return np.asarray(order[np.searchsorted(place, those, sorter=order)])


def _as_torch(matrix: Any, like: Tensor) -> Tensor:
    row, column, value, size = matrix
    index = torch.from_numpy(np.stack([row, column]))
    made = torch.sparse_coo_tensor(index, torch.from_numpy(value), size, is_coalesced=True, check_invariants=False)
    return made.to(like.device, like.dtype)
