"""What hidden patches look like."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from colgraph.data import ImageSplits
from colgraph.tasks.known import register_task
from colgraph.tasks.per_column import Columns, answering
from colgraph.tasks.task import Question


@register_task("reconstruct")
class Reconstruct(Columns):
    """The pixels of patches that a mask token hides, by their squared error.

    Pixels are normalised by mean and standard deviation of their own patch, as in masked autoencoders (He et al. 2022,
    "Masked autoencoders are scalable vision learners"); the token takes the place of patches at the input columns, and
    the loss is over hidden patches only, as in SimMIM (Xie et al. 2022). A share ``mask_ratio`` of an image's patches
    is drawn anew for each image and step; all columns that see a hidden patch get the token. Of patches that overlap, a
    hidden one is in part seen in others. With log-polar sampling, pixels are those of the sampled image. Accuracy is
    the share of the variance that is explained: 0 is what the mean of a patch is worth.
    """

    labels = "none"
    hides = True
    smooths = False
    accuracy_is = "share of the variance of hidden, normalized patches that is explained"

    def check(self, images: ImageSplits, net: Any) -> None:
        """As many output columns as patches, and a mask token."""
        rows, cols = net.grid
        if not net.output_patches.numel():
            raise ValueError(
                f"task: reconstruct takes an output column, or several, for each of the {rows * cols} patches, the "
                f"sheet has {answering(net)}: give --outputs or --num-outputs {rows * cols}"
            )
        if not 1 <= self._hidden(rows * cols) < rows * cols:
            raise ValueError(
                f"mask_ratio: {self.settings.mask_ratio} of {rows * cols} patches hides "
                f"{self._hidden(rows * cols)}: hide one at least, and not all"
            )
        if getattr(net, "mask_token", None) is None:
            raise ValueError("task: reconstruct needs a sheet with a mask token: VisionColumnformer(mask_token=True)")

    def begin(self, images: ImageSplits) -> None:
        """Nothing: pixels have no classes."""

    def _hidden(self, patches: int) -> int:
        return round(self.settings.mask_ratio * patches)

    def outputs(self, images: ImageSplits, patch_size: int) -> int:
        """Pixels of a patch, times channels."""
        return images.channels * patch_size**2

    def question(self, net: Any, images: Tensor, labels: Any, generator: torch.Generator) -> Question:
        """The images with some patches hidden; the targets of the others are nan."""
        patches = net.patch_pixels(images)
        std, mean = torch.std_mean(patches, -1, keepdim=True, correction=0)
        order = torch.rand(patches.shape[:2], generator=generator).argsort(1)
        hidden = (order < self._hidden(patches.size(1))).to(images.device)
        targets = ((patches - mean) / (std + 1e-3)).masked_fill(~hidden.unsqueeze(-1), torch.nan)
        return Question(images, targets.index_select(1, net.output_patches), hidden)
