"""A model whose sheet gets other edges while it learns: what belongs to an edge goes with it."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from colgraph.models.buffers import initial_edge_bias
from colgraph.models.columnformer import Columnformer
from colgraph.sheet import Sheet


def carried(values: Tensor, came_from: Tensor) -> Tensor:
    """Rows ``[E,...]`` of edges in the order of other ones ``[E',...]``; zero where an edge is new.

    Args:
        values: one row for each edge that was.
        came_from: ``[E']`` int64 which of them each edge is, -1 for none.
    """
    came_from = came_from.to(values.device)
    rows = values.index_select(0, came_from.clamp(min=0))
    return rows.masked_fill(came_from.view(-1, *[1] * (values.dim() - 1)) < 0, 0)


@torch.no_grad()
def change_edges(model: Columnformer, sheet: Sheet, came_from: Tensor) -> dict[nn.Parameter, nn.Parameter]:
    """Put a model on a sheet of the same columns with other edges, in place.

    The bias of an edge that is new is the logarithm of the mean of ``exp(b_ij)`` over those of its column that stay,
    for each head: by the biases alone, it gets the mean share of the others. One that is fixed is what it is at the
    start of a model on that sheet, ``-d_ij^2 / (2 sigma^2)``, and so is that of a column none of whose edges stay.

    Args:
        model: the model; its layout, costs of edges and fingerprints are made anew.
        sheet: the columns of its sheet, in the same places.
        came_from: ``[E']`` the number that each edge has on the model's sheet, -1 for a new one.

    Returns:
        The parameters that others have taken the place of, each with the one that did.
    """
    attention = model.block.attention
    replaced: dict[nn.Parameter, nn.Parameter] = {}
    if attention.edge_bias is not None:
        old = attention.edge_bias
        bias = _with_new(old.detach(), model, sheet, came_from)
        if isinstance(old, nn.Parameter):
            attention.edge_bias = replaced[old] = nn.Parameter(bias, requires_grad=old.requires_grad)
        else:
            attention.edge_bias = bias
    with torch.device("cpu"):
        model._sheet = sheet.checked().clone().to("cpu")
    model.restore_buffers(next(model.buffers(recurse=False)).device)
    return replaced


def _with_new(bias: Tensor, model: Columnformer, sheet: Sheet, came_from: Tensor) -> Tensor:
    came_from = came_from.to(bias.device)
    new, target = came_from < 0, sheet.edge_index[1].to(bias.device)
    learned = model.options.edge_bias == "learned"
    with warnings.catch_warnings():
        if learned:  # nearly all new edges start with another bias: none is without weight
            warnings.simplefilter("ignore")
        start = initial_edge_bias(sheet, bias.size(1), model.options.locality_sigma).to(bias)
    moved = torch.where(new[:, None], start, carried(bias, came_from))
    if not learned or not new.any():
        return moved
    wide = torch.promote_types(bias.dtype, torch.float32)
    n = model.num_columns
    stays, where = moved[~new].to(wide), target[~new]
    index = where[:, None].expand_as(stays)
    top = stays.new_full((n, stays.size(1)), -torch.inf).scatter_reduce(0, index, stays, "amax")
    sums = torch.zeros_like(top).index_add(0, where, torch.exp(stays - top[where]))
    mean = (top + torch.log(sums / torch.bincount(where, minlength=n)[:, None])).to(bias.dtype)
    like_others = new & torch.isfinite(mean[target]).all(1)
    moved[like_others] = mean[target[like_others]]
    return moved
