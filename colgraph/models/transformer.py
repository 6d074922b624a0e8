"""The baseline: a plain vision transformer, which has weights per block where a sheet has weights per column."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from colgraph.models.baseline import Baseline
from colgraph.nn.constructor import constructor
from colgraph.options import check_sizes


class VisionTransformer(Baseline):
    """Images ``[B,channels,S,S]`` to logits ``[B,classes]``, or ``[B,P,classes]``, through transformer blocks.

    Everything around the blocks is as in :class:`colgraph.VisionColumnformer`: a strided convolution makes patch
    vectors, a learned position embedding is added once, and a shared LayerNorm, the mean over patches and a linear head
    read out. Blocks are ``torch.nn.TransformerEncoderLayer``, pre-norm with GELU and without dropout (Dosovitskiy et
    al. 2021, "An image is worth 16 x 16 words"; the mean in place of a class token). With tied blocks it is one block
    that recurs (Dehghani et al. 2019, "Universal transformers", without its embedding of steps).

    Args:
        image_size: side S in pixels. Without a position embedding, images of other sizes run, too.
        patch_size: side of a patch; must divide the image size.
        in_channels: channels of the image.
        num_classes: number of classes, or of other values that are answered.
        dim: channels of a patch vector; divisible by ``num_heads``.
        depth: number of blocks.
        num_heads: heads of every block.
        mlp_dim: hidden size of every block's MLP.
        readout: "mean" over the patches, or "columns": an answer of each, patches row by row.
        tied_blocks: one block that runs ``depth`` times, and more often where :meth:`unroll` is told so.
        inject: where patch vectors enter: "first" (the first block), or "every" (added, with their position embedding,
            before every block).
        position_embedding: a learned vector per patch.
        leak: the share of the state that is lost before every step but the first, as on a sheet.

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
        readout: str = "mean",
        tied_blocks: bool = False,
        inject: str = "first",
        position_embedding: bool = True,
        leak: float = 0.0,
    ) -> None:
        super().__init__(image_size, patch_size, in_channels, num_classes, dim, depth, readout, inject, leak)
        check_sizes(num_heads=num_heads, mlp_dim=mlp_dim)
        if dim % num_heads:
            raise ValueError(f"dim={dim} is not divisible by num_heads={num_heads}")
        self.num_heads, self.mlp_dim, self.tied_blocks = num_heads, mlp_dim, tied_blocks
        rows, columns = self.grid
        embedding = nn.init.trunc_normal_(torch.empty(rows * columns, dim), std=0.02) if position_embedding else None
        self.position_embedding = None if embedding is None else nn.Parameter(embedding)
        layers = [
            nn.TransformerEncoderLayer(dim, num_heads, mlp_dim, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(1 if tied_blocks else depth)
        ]
        # Parameters keep the names that torch.nn.TransformerEncoder gives them.
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(layers), "norm": nn.LayerNorm(dim)})
        self.head = nn.Linear(dim, num_classes)

    @property
    def blocks(self) -> nn.ModuleList:  # type: ignore[override]
        """The blocks, of which tied ones are one."""
        layers: Any = self.encoder["layers"]
        return layers  # type: ignore[no-any-return]

    @property
    def norm(self) -> nn.Module:  # type: ignore[override]
        """What the readout begins with."""
        return self.encoder["norm"]

    @property
    def recurs(self) -> bool:
        """Whether blocks are tied."""
        return self.tied_blocks

    @property
    def takes_any_size(self) -> bool:
        """Whether there is no position embedding, which is of one size."""
        return self.position_embedding is None

    def start(self, vectors: Tensor) -> Tensor:
        """``[B,P,C]``, with the position embedding."""
        x = vectors.flatten(2).transpose(1, 2)
        return x if self.position_embedding is None else x + self.position_embedding

    def by_patch(self, state: Tensor) -> Tensor:
        """The state as it is."""
        return state

    def from_patch(self, state: Tensor, given: Tensor) -> Tensor:
        """The state as it is."""
        return state

    def arguments(self) -> dict[str, Any]:
        """Plain values that the class can be called with, for a model of the same shapes."""
        return super().arguments() | {"position_embedding": self.position_embedding is not None}
