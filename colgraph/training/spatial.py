"""A loss that makes maps smooth: columns that lie together shall respond alike."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from colgraph.data.augment import mix_seed

__all__ = ["draw_neighbourhoods", "spatial_loss"]

_SALT = 0x5BA71A1


def draw_neighbourhoods(positions: Tensor, seed: int, step: int, count: int = 16, size: int = 32) -> Tensor:
    """``[count,size]`` columns: around columns drawn by (seed, step), the nearest ones (all, where there are fewer).

    Args:
        positions: ``[N,3]`` on the CPU.
        seed: of the run.
        step: the optimizer step.
        count: neighbourhoods.
        size: columns of each.
    """
    generator = np.random.default_rng(mix_seed(seed, step, _SALT))
    centres = torch.from_numpy(generator.integers(len(positions), size=count))
    distance = torch.cdist(positions[centres], positions)
    return distance.topk(min(size, len(positions)), largest=False).indices


def spatial_loss(state: Tensor, positions: Tensor, groups: Tensor) -> Tensor:
    """The mean over neighbourhoods of ``(1 - corr(r_ij, 1 / (d_ij + 1))) / 2``, over the pairs of columns in each.

    ``r_ij`` is the correlation over the batch of two columns' responses, and the response of a column to an image is
    the norm of its state. 0 where the alikeness of columns falls off with distance exactly as ``1 / (d + 1)`` does, 1/2
    where it has nothing to do with it. Source: Margalit et al. (2024), "A unifying framework for functional
    organization in early and higher ventral visual cortex".

    Args:
        state: ``[N,B,C]``.
        positions: ``[N,3]`` in units of the sheet's spacing.
        groups: ``[G,K]`` columns of each neighbourhood.

    Returns:
        A scalar between 0 and 1.
    """
    # Unlike indexing, index_select has a backward pass that adds in a fixed order on CPU threads.
    response = state.float().norm(dim=-1).index_select(0, groups.flatten()).unflatten(0, groups.shape)
    alike = _standard(response) @ _standard(response).transpose(1, 2) / response.size(-1)
    place = positions[groups]
    near = 1 / (torch.cdist(place, place) + 1)
    first, second = torch.triu_indices(groups.size(1), groups.size(1), 1, device=state.device)
    alike, near = alike[:, first, second], near[:, first, second]
    return (1 - (_standard(alike) * _standard(near)).mean(-1)).mean() / 2


def _standard(values: Tensor) -> Tensor:
    """Mean zero and variance one over the last axis; a constant gives zeros."""
    values = values - values.mean(-1, keepdim=True)
    return values * (values.square().mean(-1, keepdim=True) + 1e-12).rsqrt()
