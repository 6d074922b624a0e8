"""The other baselines: a small convolutional network, and a locally connected one."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from colgraph.models.baseline import Baseline
from colgraph.nn.constructor import constructor
from colgraph.nn.shared import make_linear
from colgraph.options import PARAMETRIZATIONS, check_choice

_SMALLEST_SIDE = 4  # of a map of features, where halving ends


class ConvNet(Baseline):
    """Images ``[B,channels,S,S]`` to logits ``[B,classes]``, or ``[B,P,classes]``, through blocks of convolutions.

    Everything around the blocks is as in :class:`colgraph.VisionColumnformer`: a strided convolution makes patch
    vectors, and a LayerNorm, the mean over places and a linear head read out. A block is two 3 x 3 convolutions, each
    after GroupNorm and GELU (pre-activation: He et al. 2016, "Identity mappings in deep residual networks"). They are
    shared out over stages, as evenly as they go. The first block of each further stage halves the side of the map and
    doubles its channels, past a mean over 2 x 2 places and a convolution of 1 x 1 (He et al. 2019, "Bag of tricks");
    there are as many stages as leave sides of four places at least. Where patches answer one by one
    (``readout="columns"``), all blocks keep the map as it is: a stack of layers that share nothing, the counterpart of
    one that recurs (:class:`RecurrentConvNet`), over which news travels two places a block.

    A locally connected network (``local=True``) has a kernel and a bias of its own at every place of the map, where a
    convolution has one for all; all else is the same, FLOPs included.

    Args:
        image_size: side S in pixels. Convolutions that keep the map as it is run on images of other sizes, too.
        patch_size: side of a patch; must divide the image size.
        in_channels: channels of the image.
        num_classes: number of classes, or of other values that are answered.
        dim: channels of a patch vector, and of the first stage.
        depth: number of blocks.
        local: a kernel of its own at every place, but for the patch vectors.
        parametrization: of these kernels: "plain", or "shared+difference" (a convolution, and a difference per place
            that starts at zero), as in :class:`colgraph.Columnformer`.
        readout: "mean" over places, or "columns": an answer of each patch, row by row.
        inject: where patch vectors enter: "first" (the first block), or "every" (added before every block), which needs
            a map that stays as it is.
        leak: the share of the state that is lost before every step but the first, as on a sheet.

    Raises:
        ValueError: for sizes that do not fit.
    """

    @constructor
    def __init__(
        self,
        image_size: int = 32,
        patch_size: int = 2,
        in_channels: int = 3,
        num_classes: int = 10,
        dim: int = 16,
        depth: int = 3,
        local: bool = False,
        parametrization: str = "plain",
        readout: str = "mean",
        inject: str = "first",
        leak: float = 0.0,
    ) -> None:
        check_choice("parametrization", parametrization, PARAMETRIZATIONS)
        super().__init__(image_size, patch_size, in_channels, num_classes, dim, depth, readout, inject, leak)
        self.local, self.parametrization = local, parametrization
        how = parametrization if local else None
        side, channels, blocks = image_size // patch_size, dim, []
        halvings = [False] * depth if readout == "columns" else _halvings(side, depth)
        self.halves = any(halvings)
        if self.halves and inject == "every":
            raise ValueError("inject='every' needs a map that stays as it is, which readout='columns' has, got 'mean'")
        for halve in halvings:
            blocks.append(_Block(side, channels, halve, how))
            side, channels = (side // 2, channels * 2) if halve else (side, channels)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, num_classes)

    @property
    def takes_any_size(self) -> bool:
        """Whether kernels are the same at all places, and nothing is halved."""
        return self.readout == "columns" and not self.local

    def check_stops(self, steps: int | None, record: Collection[str]) -> None:
        """Refuse to stop at, or to keep, maps of another size than the readout's."""
        if self.halves and (record or steps not in (None, self.depth)):
            raise ValueError(
                f"this ConvNet halves its map, and is read out after all of its {self.depth} blocks alone, got "
                f"steps={steps}, record={record!r}: readout='columns' keeps the map as it is"
            )


def _halvings(side: int, depth: int) -> list[bool]:
    """For each block whether it halves the side of the map."""
    stages = 1
    while stages < depth and side % 2 == 0 and side // 2 >= _SMALLEST_SIDE:
        side, stages = side // 2, stages + 1
    stage = [block * stages // depth for block in range(depth)]
    return [False, *(here > before for before, here in pairwise(stage))]


class _Block(nn.Module):
    """``x + conv(gelu(norm(conv(gelu(norm(x))))))`` on maps ``[B,C,side,side]``; or to ``[B,2C,side/2,side/2]``."""

    def __init__(self, side: int, channels: int, halve: bool, local: str | None) -> None:
        super().__init__()
        stride, out = (2, 2 * channels) if halve else (1, channels)
        self.norm1, self.norm2 = nn.GroupNorm(1, channels), nn.GroupNorm(1, out)
        self.conv1 = _convolution(side // stride, channels, out, 3, stride, local)
        self.conv2 = _convolution(side // stride, out, out, 3, 1, local)
        self.shortcut = _convolution(side // stride, channels, out, 1, 1, local) if halve else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.gelu(self.norm2(self.conv1(F.gelu(self.norm1(x))))))
        return y + (x if self.shortcut is None else self.shortcut(F.avg_pool2d(x, 2)))


def _convolution(side: int, channels: int, out: int, kernel: int, stride: int, local: str | None) -> nn.Module:
    """A convolution to maps of ``side`` places; of its own at every place where ``local`` says how it is written."""
    if local is None:
        return nn.Conv2d(channels, out, kernel, stride, kernel // 2)
    return _LocalConv2d(side, channels, out, kernel, stride, local)


class _LocalConv2d(nn.Module):
    """An untied convolution: ``[B,channels,side*stride,side*stride]`` to ``[B,out,side,side]``.

    The linear map of a place takes what the kernel of a convolution would see there, in the same order.
    """

    def __init__(self, side: int, channels: int, out: int, kernel: int, stride: int, parametrization: str) -> None:
        super().__init__()
        self.side, self.kernel, self.stride = side, kernel, stride
        self.places = make_linear(channels * kernel**2, out, side**2, parametrization)

    def forward(self, x: Tensor) -> Tensor:
        seen = F.unfold(x, self.kernel, padding=self.kernel // 2, stride=self.stride)
        heard: Tensor = self.places(seen.permute(2, 0, 1))
        return heard.permute(1, 2, 0).unflatten(2, (self.side, self.side))
