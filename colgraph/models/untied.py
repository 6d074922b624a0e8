"""A columnformer in which all that a column computes with is its own."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from colgraph.nn import ColumnLinear
from colgraph.nn.shared import replace_by_plain


@torch.no_grad()
def written_untied(model: Any) -> Any:
    """A columnformer of plain parameters, changed to have every parameter for every column; see ``to_untied``."""
    attention = model.block.attention
    like = attention.query.weight
    for name in ("value", "output"):
        if getattr(attention, name) is None:
            part = ColumnLinear(model.dim, model.dim, model.num_columns).to(like)
            part.weight.copy_(torch.eye(model.dim))
            setattr(attention, name, part)
    replace_by_plain(model.block, model.num_columns)
    bias = attention.edge_bias
    del attention.edge_bias
    none = like.new_zeros(model.edge_cost.numel(), attention.num_heads)
    attention.edge_bias = nn.Parameter((none if bias is None else bias).detach().clone())
    options = model.options
    model.options = dataclasses.replace(options, untied="all", value_projection=True, edge_bias="learned")
    return model
