"""What the input columns see, as if it were a network: the control that has no network in it."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from types import SimpleNamespace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from colgraph.models import VisionColumnformer
from colgraph.report.loading import Run
from colgraph.sheet import Sheet


class Patches(nn.Module):
    """A network of one step whose columns' states are the pixels of the patches that they see.

    Columns that no patch enters by stay at zero, whatever is shown.

    Args:
        run: whose images, patches and sheet these are.
    """

    steps = 1

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    @property
    def sheet(self) -> Sheet:
        """The sheet of the network."""
        return self._run.sheet

    def unroll(self, images: Tensor, *, record: Collection[str] = ()) -> SimpleNamespace:
        """``state [N,B,pixels]``, and the same as the only one of ``states``.

        Raises:
            ValueError: where attention is asked for.
        """
        if "attention" in record:
            raise ValueError("patches listen to nothing: there is no attention")
        seen, sheet = self._seen(images), self.sheet
        state = seen.new_zeros(sheet.num_columns, *seen.shape[1:]).index_copy(0, sheet.inputs, seen)
        return SimpleNamespace(state=state, states=state.unsqueeze(0))

    def evidence(self, state: Tensor) -> Tensor:
        """``[..., N, B, classes]``: what each patch by itself says for each class.

        That is the linear regression of the class (0 or 1) on the pixels of a patch, one for all patches as the
        network's head is one for all columns, over the run's held-out images. A patch of zeros says nothing.
        """
        evidence: Tensor = state @ self._regression
        return evidence

    @cached_property
    def _regression(self) -> Tensor:
        """``[pixels, classes]``."""
        seen = self._seen(torch.from_numpy(self._run.images)).double()
        pixels = seen.flatten(0, 1) - seen.mean((0, 1))
        label = torch.from_numpy(self._run.labels).repeat(len(seen))
        target = F.one_hot(label, len(self._run.classes)).double()
        # Pixels that never change, or that others determine, take part as little as they can.
        fit = torch.linalg.lstsq(pixels, target - target.mean(0), driver="gelsd").solution
        return fit.float()

    def _seen(self, images: Tensor) -> Tensor:
        """``[P,B,pixels]`` in the order of the input columns."""
        net = self._run.net
        patches = net.net.patch_pixels(net.normalised(images))
        return patches.transpose(0, 1).index_select(0, net.net.assignment)


def patch_of_column(net: VisionColumnformer) -> NDArray[np.int64]:
    """``[N]``: the number of the patch that each column sees.

    Columns that see none have a number of their own, beyond those of the patches.
    """
    sheet, patch = net.model.sheet, net.assignment.cpu().numpy()
    label = len(patch) + np.arange(sheet.num_columns)
    label[sheet.inputs.numpy()] = patch
    return label
