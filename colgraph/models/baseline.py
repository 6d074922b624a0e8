"""What baselines have in common with each other: the sizes of images, and patch vectors."""

from __future__ import annotations

from torch import Tensor, nn

from colgraph.models.image_shape import check_image_shape
from colgraph.options import check_sizes


class Baseline(nn.Module):
    """The strided convolution that :class:`colgraph.VisionColumnformer` makes patch vectors with, for square images.

    Args:
        image_size: side S in pixels.
        patch_size: side of a patch; must divide the image size.
        in_channels: channels of the image.
        num_classes: number of classes.
        dim: channels of a patch vector.
        depth: number of blocks.

    Raises:
        ValueError: for sizes that do not fit.
    """

    def __init__(
        self, image_size: int, patch_size: int, in_channels: int, num_classes: int, dim: int, depth: int
    ) -> None:
        super().__init__()
        check_sizes(image_size=image_size, patch_size=patch_size, in_channels=in_channels, num_classes=num_classes)
        check_sizes(dim=dim, depth=depth)
        if image_size % patch_size:
            raise ValueError(f"image_size {image_size} is not divisible by patch_size {patch_size}")
        self.image_size, self.patch_size, self.in_channels = (image_size, image_size), patch_size, in_channels
        self.num_classes, self.dim, self.depth = num_classes, dim, depth
        self.patch_embedding = nn.Conv2d(in_channels, dim, patch_size, patch_size)

    def embed(self, images: Tensor) -> Tensor:
        """Patch vectors ``[B,dim,S/patch,S/patch]``, or a ValueError for images of another shape."""
        check_image_shape(images, self.in_channels, self.image_size)
        vectors: Tensor = self.patch_embedding(images)
        return vectors
