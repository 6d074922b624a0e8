"""A loss that makes maps smooth: columns that lie together shall respond alike."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from colgraph.data.augment import mix_seed
from colgraph.distributed import SheetParallelVision
from colgraph.models import VisionColumnformer, VisionUnroll
from colgraph.sheet import Sheet
from colgraph.space import apart

_SALT = 0x5BA71A1


class Neighborhoods:
    """The columns nearest to each, by the sheet's metric, and how far those are from each other.

    Args:
        sheet: the sheet, of at least two columns.
        size: columns of a neighborhood, the one in its middle among them (all, where there are fewer). Where the metric
            knows a way to fewer, others are taken in, which are infinitely far.
    """

    def __init__(self, sheet: Sheet, size: int = 32) -> None:
        everyone = np.arange(sheet.num_columns)
        self._space, self._spacing = sheet.space, sheet.spacing
        self._groups = np.full((len(everyone), min(size, len(everyone))), -1)
        self._groups[:, 0] = everyone
        found = self._space.nearest(self._groups.shape[1] - 1, everyone, everyone)
        order = np.lexsort((found.source, found.distance, found.target))
        target = found.target[order]
        rank = np.arange(len(target)) - np.searchsorted(target, target)
        self._groups[target, 1 + rank] = found.source[order]
        for column in np.flatnonzero((self._groups < 0).any(1)):
            missing = self._groups[column] < 0
            self._groups[column, missing] = np.setdiff1d(everyone, self._groups[column])[: missing.sum()]
        # A search over a surface takes longer than a training step, and columns are drawn again and again.
        self._distances: dict[int, Tensor] = {}

    def draw(self, seed: int, step: int, count: int = 16) -> tuple[Tensor, Tensor]:
        """Neighborhoods around columns drawn by (seed, step), on the CPU.

        Args:
            seed: of the run.
            step: the optimizer step.
            count: how many.

        Returns:
            ``[count,size]`` columns, the middle one first, and ``[count,P]`` the distance of each pair of them (in the
            order of ``torch.triu_indices``), in spacings.
        """
        centers = np.random.default_rng(mix_seed(seed, step, _SALT)).integers(len(self._groups), size=count)
        new = np.array([center for center in np.unique(centers) if center not in self._distances], dtype=np.int64)
        first, second = np.triu_indices(self._groups.shape[1], 1)
        members = self._groups[new]
        distance = apart(self._space, members[:, first].ravel(), members[:, second].ravel()) / self._spacing
        pairs = torch.from_numpy(distance.astype(np.float32)).view(len(new), len(first))
        self._distances.update(zip(new.tolist(), pairs, strict=True))
        return torch.from_numpy(self._groups[centers]), torch.stack([self._distances[c] for c in centers.tolist()])


def column_responses(net: VisionColumnformer, unrolled: VisionUnroll, signal: str) -> Tensor:
    """What each column of the whole sheet answers after the last step, ``[N,B,channels]``.

    Args:
        net: the model, or this process's part of it.
        unrolled: what it returned; with "hidden", hidden units were recorded.
        signal: "normed" (the readout's LayerNorm of the state), "evidence" (the head on that), "hidden" (the MLP's
            hidden units), or "norm" (the length of the state, one number, which nothing reads).
    """
    hidden = signal == "hidden"
    rows = unrolled.hidden[-1] if hidden and unrolled.hidden is not None else unrolled.state
    if isinstance(net, SheetParallelVision):
        # Whole and equal everywhere, so each process computes the one loss with parameters that all of them have.
        rows = net.model.gather(rows)
    if signal == "norm":
        return rows.float().norm(dim=-1, keepdim=True)
    read = {"normed": net.normed, "evidence": net.evidence}
    rows = rows if hidden else read[signal](rows)
    return rows.to(torch.promote_types(rows.dtype, torch.float32))


def spatial_loss(responses: Tensor, groups: Tensor, distance: Tensor, channels: str = "same") -> Tensor:
    """The mean over neighborhoods of ``(1 - corr(r_ij, 1 / (d_ij + 1))) / 2``, over the pairs of columns in each.

    ``r_ij`` is the correlation over the batch of two columns' responses, the mean over channels, as in
    :func:`colgraph.analysis.correlation_by_distance`. 0 where the alikeness of columns falls off with distance exactly
    as ``1 / (d + 1)`` does, 1/2 where it has nothing to do with it. Source: Margalit et al. (2024), "A unifying
    framework for functional organization in early and higher ventral visual cortex".

    Args:
        responses: ``[N,B,channels]``, see :func:`column_responses`.
        groups: ``[G,K]`` columns of each neighborhood.
        distance: ``[G,P]`` how far the columns of each pair are from each other, in the order of
            ``torch.triu_indices(K, K, 1)`` and in units of the sheet's spacing; infinite where there is no way.
        channels: which channels of two columns are compared: the "same", or "all" with all, where channels of
            different columns have nothing in common.

    Returns:
        A scalar between 0 and 1.
    """
    # Unlike indexing, index_select has a backward pass that adds in a fixed order on CPU threads.
    chosen = responses.index_select(0, groups.flatten()).unflatten(0, groups.shape)
    units = _standard(chosen.transpose(2, 3))
    units = units.mean(2) if channels == "all" else units.flatten(2)
    alike = units @ units.transpose(1, 2) / units.size(-1)
    first, second = torch.triu_indices(groups.size(1), groups.size(1), 1, device=responses.device)
    near = 1 / (distance + 1)
    return (1 - (_standard(alike[:, first, second]) * _standard(near)).mean(-1)).mean() / 2


def _standard(values: Tensor) -> Tensor:
    """Mean zero and variance one over the last axis; a constant gives zeros."""
    values = values - values.mean(-1, keepdim=True)
    return values * (values.square().mean(-1, keepdim=True) + 1e-12).rsqrt()
