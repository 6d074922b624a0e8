"""The wiring cost of networks embedded in space: length times communicability."""

from __future__ import annotations

import torch
from torch import Tensor

from colgraph.options import check_choice

WIRING_KINDS = ("length", "communicability", "normalized-communicability")
MOST_COLUMNS = 1024
"""Dense exponentials of more columns take seconds and hundreds of megabytes a step."""


def communicability_cost(attention: Tensor, edge_index: Tensor, edge_cost: Tensor, columns: int, kind: str) -> Tensor:
    """The mean over columns of ``sum_j a_ij c_ij G_ij``: wire costs the more, the more walks join its ends.

    "communicability": ``G = exp(S^{-1/2} A S^{-1/2})`` of attention itself, S its sum over whom a column listens to
    (one, wherever it listens to any). Source: Achterberg et al. (2023), "Spatially embedded recurrent neural networks
    reveal widespread links between structural and functional neuroscience findings": their sum over edges, over N.

    "normalized-communicability": the same of ``A + A^T`` without self-loops, S the strengths of both directions:
    columns of many edges do not count more, as :func:`colgraph.analysis.communicability` reports it. Source: Crofts and
    Higham (2009), "A weighted communicability measure applied to complex brain networks".

    Edges of a column to itself cost nothing. The gradient is that of attention everywhere, in G as well.

    Args:
        attention: ``[E]``, the mean over steps, images and heads; not negative.
        edge_index: ``[2,E]``.
        edge_cost: ``[E]``, the length of each edge, or a power of it.
        columns: N, at most :data:`MOST_COLUMNS`.
        kind: one of the latter two.

    Raises:
        ValueError: for more columns, or another kind.
    """
    check_choice("wiring_kind", kind, WIRING_KINDS[1:])
    if columns > MOST_COLUMNS:
        raise ValueError(
            f"wiring_kind: {kind} takes the exponential of all pairs of at most {MOST_COLUMNS:,} columns, got "
            f"{columns:,}: give length"
        )
    source, target = edge_index
    attention = attention.to(torch.promote_types(attention.dtype, torch.float32))
    other = (source != target).to(attention.dtype)
    kept = attention if kind == "communicability" else attention * other
    matrix = attention.new_zeros(columns, columns).index_put((target, source), kept)
    if kind != "communicability":
        matrix = matrix + matrix.T
    strength = matrix.sum(1)
    scale = torch.where(strength > 0, strength, torch.ones_like(strength)).rsqrt()
    walks = torch.linalg.matrix_exp(scale[:, None] * matrix * scale)
    return (attention * other * edge_cost.to(attention.dtype) * walks[target, source]).sum() / columns
