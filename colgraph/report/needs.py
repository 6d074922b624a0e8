"""What analyses ask of a network: the one list of it, and why a network does not have something."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from colgraph.models import OwnColumns, OwnNetwork, VisionColumnformer, VisionModel

NEEDS = {
    "columns": "columns: a sheet, and a state for each of them",
    "states": "its states after every step",
    "stepping": "to go on from a state, so that it can be changed on the way",
    "patches": "which pixels each input column sees",
    "attention": "what each column listens to",
    "heard": "what arrives along an edge",
    "hidden": "hidden units of columns",
    "evidence": "what each column says by itself",
}
"""What an analysis may need of a network (:attr:`colgraph.report.catalogue.Analysis.needs`), by name.

A :class:`colgraph.VisionColumnformer` has all of it, a :class:`colgraph.models.SheetNetwork` what its methods give.
Accuracy, corruptions, attacks and noise on weights need nothing of it.
"""


def network_of(net: VisionModel) -> nn.Module:
    """The network as it is analyzed: of one's own that which has columns, where there are any."""
    columns = net.columns() if isinstance(net, OwnNetwork) else None
    return net if columns is None else columns


def lacks_of(net: nn.Module, model: str) -> Mapping[str, str]:
    """What of :data:`NEEDS` a network from :func:`network_of` does not have, and why.

    Args:
        net: the network.
        model: what sentences call it.
    """
    if isinstance(net, VisionColumnformer):
        return {}
    if isinstance(net, OwnColumns):
        unknown = f"{model} does not say which pixels its columns see: that takes a colgraph.VisionColumnformer"
        return {"patches": unknown, **net.lacks}
    return dict.fromkeys(NEEDS, f"{model} has no columns")


WITHOUT = (
    "A sheet would add where its units are and which of them are joined, and with it the maps, wires, steps, receptive "
    "fields, lesions and controls of this page. A network of your own brings one by an attribute sheet (a "
    "colgraph.Sheet) and methods unroll and classify."
)
"""What is missing from the page of a network without columns."""
