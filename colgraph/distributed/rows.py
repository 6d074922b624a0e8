"""Which rows of which parameters belong to whom.

Untied parameters have a leading axis of columns, edge biases one of edges; everything else is *shared*: one copy, equal
on all ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from colgraph.distributed.local import LocalSheet
from colgraph.models import Columnformer
from colgraph.nn import ColumnLayerNorm, ColumnLinear, SheetAttention

_CHUNK_NUMBERS = 2**22  # drawn at a time where only some rows are kept


def row_kinds(module: nn.Module) -> dict[str, str]:
    """``"columns"`` or ``"edges"`` for every entry of the state dict that has such a leading axis."""
    kinds: dict[str, str] = {}
    for prefix, part in module.named_modules():
        dot = f"{prefix}." if prefix else ""
        if isinstance(part, ColumnLinear | ColumnLayerNorm) and part.num_columns is not None:
            kinds |= {f"{dot}weight": "columns", f"{dot}bias": "columns"}
        elif isinstance(part, SheetAttention) and part.edge_bias is not None:
            kinds[f"{dot}edge_bias"] = "edges"
        elif isinstance(part, Columnformer) and part.position_embedding is not None:
            kinds[f"{dot}position_embedding"] = "columns"
    return kinds


def shared_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters without rows of their own: equal on all ranks, with gradients summed over the sheet."""
    own = row_kinds(module)
    return {name: parameter for name, parameter in module.named_parameters() if name not in own}


def take_rows(state: Mapping[str, Tensor], kinds: Mapping[str, str], local: LocalSheet) -> dict[str, Tensor]:
    """The part of a whole model's state dict that one rank holds: copies of its rows, and everything shared."""
    rows = {"columns": local.columns, "edges": local.edges}
    return {
        name: value.index_select(0, rows[kinds[name]].to(value.device)) if name in kinds else value
        for name, value in state.items()
    }


def draw_linear(part: ColumnLinear, total: int, columns: Tensor) -> None:
    """Draw the weights that a map of ``total`` columns would start with, and keep rows ``columns`` of them."""
    if part.num_columns is None or part.zero:
        part.reset_parameters()
    else:
        part.weight.copy_(
            _draw_rows(lambda n: ColumnLinear(part.in_features, part.out_features, n).weight, total, columns)
        )


def draw_embedding(embedding: Tensor, total: int, rows: Tensor) -> None:
    """The same for an embedding of ``total`` rows."""
    dim = embedding.size(1)
    embedding.copy_(_draw_rows(lambda n: nn.init.trunc_normal_(torch.empty(n, dim), std=0.02), total, rows))


def _draw_rows(draw: Callable[[int], Tensor], total: int, rows: Tensor) -> Tensor:
    """Some rows of what ``draw(total)`` would be, without ever holding more than a chunk of it.

    Random numbers are drawn for all rows, in order, so that a start does not depend on how a sheet is cut.
    """
    ordered, place = rows.sort()
    with torch.random.fork_rng(devices=()):
        sample = draw(1)
    chunk = max(1, _CHUNK_NUMBERS // sample.numel())
    kept = sample.new_empty(rows.numel(), *sample.shape[1:])
    for start in range(0, total, chunk):
        stop = min(start + chunk, total)
        drawn = draw(stop - start)
        first, last = torch.searchsorted(ordered, torch.tensor([start, stop])).tolist()
        kept[place[first:last]] = drawn[ordered[first:last] - start]
    return kept
