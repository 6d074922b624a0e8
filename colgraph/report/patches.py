"""What the input columns see, as if it were a network: the control that has no network in it."""

from __future__ import annotations

from collections.abc import Collection
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from colgraph.models import VisionColumnformer
from colgraph.report.loading import PlainImages
from colgraph.sheet import Sheet

__all__ = ["Patches", "patch_of_column"]


class Patches(nn.Module):
    """A network of one step whose columns' states are the pixels of the patches that they see.

    Columns that no patch enters by stay at zero, whatever is shown.

    Args:
        net: whose images, patches and sheet these are.
    """

    steps = 1

    def __init__(self, net: PlainImages) -> None:
        super().__init__()
        self.of = net

    @property
    def sheet(self) -> Sheet:
        """The sheet of the network."""
        return self.of.sheet

    def unroll(self, images: Tensor, *, record: Collection[str] = ()) -> SimpleNamespace:
        """``state [N,B,pixels]``, and the same as the only one of ``states``.

        Raises:
            ValueError: where attention is asked for.
        """
        if "attention" in record:
            raise ValueError("patches listen to nothing: there is no attention")
        vision, sheet = self.of.net, self.sheet
        seen = F.unfold(self.of.normalised(images), vision.patch_size, stride=vision.patch_size)
        seen = seen.permute(2, 0, 1).index_select(0, vision.assignment)
        state = seen.new_zeros(sheet.num_columns, *seen.shape[1:]).index_copy(0, sheet.inputs, seen)
        return SimpleNamespace(state=state, states=state.unsqueeze(0))


def patch_of_column(net: VisionColumnformer) -> NDArray[np.int64]:
    """``[N]``: the number of the patch that each column sees.

    Columns that see none have a number of their own, beyond those of the patches.
    """
    sheet, patch = net.model.sheet, net.assignment.cpu().numpy()
    label = len(patch) + np.arange(sheet.num_columns)
    label[sheet.inputs.numpy()] = patch
    return label
