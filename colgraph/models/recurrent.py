"""The baseline that recurs without a sheet: one small block of convolutions, again and again."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from colgraph.models.baseline import Baseline
from colgraph.nn.constructor import constructor
from colgraph.options import OptionError, check_sizes

MOST_CONVOLUTIONS = 2
"""Of 3 x 3 in a step."""


class RecurrentConvNet(Baseline):
    """Images ``[B,channels,S,S]`` to logits ``[B,classes]``, or ``[B,P,classes]``, through one block for T steps.

    Everything around the block is as in :class:`colgraph.VisionColumnformer`: a strided convolution makes patch
    vectors, here a map ``[B,dim,rows,columns]``, and a LayerNorm, the mean over places and a linear head read out. A
    step adds to the map what ``depth`` convolutions of 3 x 3 and one of 1 x 1 make of it, each after LayerNorm and GELU
    (pre-activation: He et al. 2016; LayerNorm at every place: Liu et al. 2022, "A ConvNet for the 2020s"). All steps
    have the same weights (Liao and Poggio 2016, "Bridging the gaps between residual learning, recurrent neural networks
    and visual cortex"; on mazes: Schwarzschild et al. 2021, "Can you learn an algorithm?"). News comes from ``depth``
    places away in a step, and from no further.

    Args:
        image_size: side S in pixels. Images of other sizes run, too.
        patch_size: side of a patch; must divide the image size.
        in_channels: channels of the image.
        num_classes: number of classes, or of other values that are answered.
        dim: channels of a patch vector, and of the map.
        steps: time steps T of a forward pass; can be set on a model that is there already.
        depth: convolutions of 3 x 3 in a step, 1 or 2.
        mlp_dim: hidden size of the block: channels that the last of them makes.
        readout: "mean" over the places, or "columns": an answer of each patch, row by row.
        inject: where patch vectors enter: "first" (step 0), or "every" (added before every step).
        leak: the share of the state that is lost before every step but the first, as on a sheet.

    Raises:
        ValueError: for sizes that do not fit.
    """

    steps: int = 6

    @constructor
    def __init__(
        self,
        image_size: int = 32,
        patch_size: int = 4,
        in_channels: int = 3,
        num_classes: int = 10,
        dim: int = 64,
        steps: int = 6,
        depth: int = 1,
        mlp_dim: int = 128,
        readout: str = "mean",
        inject: str = "first",
        leak: float = 0.0,
    ) -> None:
        super().__init__(image_size, patch_size, in_channels, num_classes, dim, depth, readout, inject, leak)
        check_sizes(steps=steps, mlp_dim=mlp_dim)
        if depth > MOST_CONVOLUTIONS:
            raise OptionError(
                "depth", f"must be at most {MOST_CONVOLUTIONS}, convolutions of 3 x 3 in a step, got {depth}"
            )
        self.steps, self.mlp_dim = steps, mlp_dim
        self.blocks = nn.ModuleList([_Block(dim, mlp_dim, depth)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)

    @property
    def recurs(self) -> bool:
        """Always."""
        return True

    @property
    def takes_any_size(self) -> bool:
        """Always: a convolution knows no places."""
        return True


class _Block(nn.Module):
    """``x + W gelu(norm(conv(gelu(norm(x)))))`` on maps ``[B,dim,rows,columns]``, with one convolution or more."""

    def __init__(self, dim: int, hidden: int, convolutions: int) -> None:
        super().__init__()
        channels, kernels = (*[dim] * convolutions, hidden, dim), (*[3] * convolutions, 1)
        self.norms = nn.ModuleList(nn.LayerNorm(count) for count in channels[:-1])
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, kernel, padding=kernel // 2)
            for (before, after), kernel in zip(pairwise(channels), kernels, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            y = convolution(F.gelu(norm(y.movedim(1, -1)).movedim(-1, 1)))
        return x + y
