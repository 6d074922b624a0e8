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
from colgraph.report.task_scoring import TaskScoring
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
        """``[..., N, B, K]``: what each patch by itself says of each class, or other number that is answered.

        That is the linear regression of what is right (of a class 0 or 1) on the pixels of a patch, one for all patches
        as the network's head is one for all columns, over the run's held-out images: of the class of the image, or
        where each column answers for a patch, of what is right about that patch. A patch of zeros says nothing.

        Raises:
            ValueError: where the run's answers belong to no patch.
        """
        evidence: Tensor = state @ self._regression
        return evidence

    @cached_property
    def _regression(self) -> Tensor:
        """``[pixels, K]``."""
        seen = self._seen(torch.from_numpy(self._run.images)).double()
        if self._run.says_classes:
            label = torch.from_numpy(self._run.labels).repeat(len(seen))
            pixels, target = seen.flatten(0, 1), F.one_hot(label, len(self._run.classes)).double()
        else:
            _, first = np.unique(self._run.net.net.assignment.numpy(), return_index=True)
            pixels, target = self._answered(seen[first])
        # Pixels that never change, or that others determine, take part as little as they can.
        centred, wanted = pixels - pixels.mean(0), target - target.mean(0)
        fit = torch.linalg.lstsq(centred, wanted, driver="gelsd").solution
        return fit.float()

    def _answered(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels and what is right ``[k, K]`` of all that is asked of patches ``[P, B, pixels]``."""
        run, net = self._run, self._run.net.net
        if net.readout != "columns" or not net.output_patches.numel():
            raise ValueError(f"the answers of task {run.config.task} belong to no patch: patches have no evidence")
        scoring = run.scoring(0)
        if not isinstance(scoring, TaskScoring):
            raise ValueError(f"the answers of task {run.config.task} are no patch's: patches have no evidence")
        data, labels = scoring.check(run.images, run.labels)
        asked = [question.targets for question in scoring.ask(run.net, data, labels, 0)]
        if not all(isinstance(each, Tensor) and each.shape[:2] == (1, len(net.output_patches)) for each in asked):
            raise ValueError(f"task {run.config.task} asks for nothing column by column: patches have no evidence")
        targets = torch.cat(asked)
        pixels = patches.index_select(0, net.output_patches).transpose(0, 1)
        if targets.is_floating_point():
            known = ~targets.isnan().any(-1)
            return pixels[known], targets[known].double()
        known = targets >= 0
        return pixels[known], F.one_hot(targets[known], net.num_classes).double()

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
