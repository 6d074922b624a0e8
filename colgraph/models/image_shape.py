"""Images that a model takes."""

from __future__ import annotations

from torch import Tensor

from colgraph.torch_internals import static_shape


def check_image_shape(images: Tensor, channels: int, size: tuple[int, int]) -> None:
    """Raise ValueError unless images are ``[B,channels,height,width]``."""
    if images.dim() != 4 or static_shape(images)[1:] != (channels, *size):
        raise ValueError(f"images must have shape [B, {channels}, {size[0]}, {size[1]}], got {list(images.shape)}")
