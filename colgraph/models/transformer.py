"""The baseline: a plain vision transformer, which has weights per block where a sheet has weights per column."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from colgraph.models.baseline import Baseline
from colgraph.nn.constructor import constructor
from colgraph.options import check_sizes


class VisionTransformer(Baseline):
    """Images ``[B,channels,S,S]`` to logits ``[B,classes]`` through ``torch.nn.TransformerEncoder``.

    Everything around the blocks is as in :class:`colgraph.VisionColumnformer`: a strided convolution makes patch
    vectors, a learned position embedding is added once, and a shared LayerNorm, the mean over patches and a linear head
    read out. Blocks are pre-norm with GELU and without dropout (Dosovitskiy et al. 2021, "An image is worth 16 x 16
    words"; the mean in place of a class token).

    Args:
        image_size: side S in pixels.
        patch_size: side of a patch; must divide the image size.
        in_channels: channels of the image.
        num_classes: number of classes.
        dim: channels of a patch vector; divisible by ``num_heads``.
        depth: number of blocks.
        num_heads: heads of every block.
        mlp_dim: hidden size of every block's MLP.

    Raises:
        ValueError: for sizes that do not fit.
    """

    @constructor
    def __init__(
        self,
        image_size: int = 32,
        patch_size: int = 4,
        in_channels: int = 3,
        num_classes: int = 10,
        dim: int = 64,
        depth: int = 4,
        num_heads: int = 4,
        mlp_dim: int = 128,
    ) -> None:
        super().__init__(image_size, patch_size, in_channels, num_classes, dim, depth)
        check_sizes(num_heads=num_heads, mlp_dim=mlp_dim)
        if dim % num_heads:
            raise ValueError(f"dim={dim} is not divisible by num_heads={num_heads}")
        patches = (image_size // patch_size) ** 2
        self.position_embedding = nn.Parameter(nn.init.trunc_normal_(torch.empty(patches, dim), std=0.02))
        layers = [
            nn.TransformerEncoderLayer(dim, num_heads, mlp_dim, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(depth)
        ]
        self.encoder = nn.TransformerEncoder(layers[0], depth, nn.LayerNorm(dim), enable_nested_tensor=False)
        # By itself it gives all blocks copies of one start.
        self.encoder.layers = nn.ModuleList(layers)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[B,classes]``."""
        x = self.embed(images).flatten(2).transpose(1, 2) + self.position_embedding
        logits: Tensor = self.head(self.encoder(x).mean(1))
        return logits
