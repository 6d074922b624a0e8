"""Columns that have nothing in common: every weight per column drawn by itself, of the size that it has."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import nn

from colgraph.nn import ColumnLayerNorm, ColumnLinear

N = TypeVar("N", bound=nn.Module)


@torch.no_grad()
def independent_weights(net: N, seed: int = 0) -> N:
    """A plain copy of a network whose columns' own weights are independent of each other.

    Before training a network with ``parametrization="shared+difference"`` is a tied one: its differences start at zero,
    and all columns are alike. Here every entry of the untied tensors (weights ``[N,out,in]``, biases ``[N,out]``, gains
    and shifts of norms ``[N,C]``) is drawn uniformly, with the mean and the variance that its tensor has over columns
    and entries, as the effective weights of ``net``. What all entries have in common stays: of an untrained network the
    gains of one and the biases of zero. So do tied parts, embeddings, edge biases and the readout.

    Args:
        net: a :class:`colgraph.Columnformer` or :class:`colgraph.VisionColumnformer`; it is not changed.
        seed: of what is drawn.

    Raises:
        ValueError: where no part of the network has parameters per column.
    """
    plain: Any = net.to_plain()  # type: ignore[operator]
    generator = torch.Generator().manual_seed(seed)
    parts = [part for part in plain.modules() if isinstance(part, ColumnLinear | ColumnLayerNorm)]
    own = [part for part in parts if part.num_columns is not None]
    if not own:
        raise ValueError("the network ties all of its weights: columns have none of their own to be drawn")
    for part in own:
        for value in part.parameters():
            spread, mean = torch.std_mean(value.double(), correction=0)
            # The variance of a uniform number is a third of its reach, squared.
            drawn = 2 * torch.rand(value.shape, generator=generator, dtype=torch.float64) - 1
            value.copy_(mean + 3**0.5 * spread * drawn.to(value.device))
    independent: N = plain
    return independent
