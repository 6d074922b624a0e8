"""The parameters of one sheet on another: which of them belong to a place, and how the others are taken along."""

from __future__ import annotations

from torch import nn

from colgraph.nn import ColumnLayerNorm, ColumnLinear

_OF_PLACES = ("position_embedding", "edge_bias", "pool")
"""Parameters with an entry for each column or edge, whatever the module is that has them."""


def check_carries_over(net: nn.Module) -> None:
    """Raise ValueError where a parameter belongs to columns or edges of the sheet, naming the first."""
    for prefix, module in net.named_modules():
        untied = isinstance(module, ColumnLinear | ColumnLayerNorm) and module.num_columns is not None
        for name, _ in module.named_parameters(recurse=False):
            if untied or name in _OF_PLACES:
                whole = f"{prefix}.{name}" if prefix else name
                raise ValueError(
                    f"on_sheet: {whole} belongs to the columns or edges of the sheet that it was learned on; to carry "
                    "over takes tied parts (untied='none'), no position_embedding, an edge_bias that is fixed or none, "
                    "and no readout='spatial'"
                )


def take_parameters(net: nn.Module, source: nn.Module) -> None:
    """Give a model another's parameters, with their device, dtype and what learns; and its mode.

    Raises:
        ValueError: if the models do not have the same parameters.
    """
    own, other = dict(net.named_parameters()), dict(source.named_parameters())
    if own.keys() != other.keys():
        odd = sorted(own.keys() ^ other.keys())[0]
        raise ValueError(f"on_sheet: the model was changed after it was made: {odd} is in one of the two")
    like = next(iter(other.values()))
    net.to(like.device, like.dtype)
    for name, value in other.items():
        module, _, local = name.rpartition(".")
        taken = nn.Parameter(value.detach().clone(), requires_grad=value.requires_grad)
        setattr(net.get_submodule(module), local, taken)
    net.train(source.training)
