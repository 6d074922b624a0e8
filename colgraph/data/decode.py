"""One encoded image to one tensor: Pillow decodes, nothing else touches pixels before they are a batch."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["UnreadableImageError", "check_header", "decode_image", "image_to_tensor"]

_ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")


class UnreadableImageError(ValueError):
    """An image that cannot be decoded; the message says why, the caller knows which."""


def decode_image(source: bytes | str, size: int, channels: int) -> Tensor:
    """Decode, bring to the wanted channels, resize and crop.

    Args:
        source: the encoded bytes, or the path of a file.
        size: side S of the square that comes out, in pixels.
        channels: 1 (grey) or 3 (RGB).

    Returns:
        ``[channels, S, S]`` uint8; see :func:`image_to_tensor`.

    Raises:
        UnreadableImageError: if the image cannot be read, is truncated, or has pixels that have no agreed range.
    """
    from PIL import Image

    try:
        with Image.open(_openable(source)) as image:
            if image.format == "JPEG":
                # Lets the JPEG decoder skip resolution that the resize would throw away, with a margin of two.
                image.draft(image.mode, (2 * size, 2 * size))
            image.load()
            return image_to_tensor(image, size, channels)
    except Exception as error:
        raise UnreadableImageError(_reason(error)) from error


def check_header(source: bytes | str) -> None:
    """Read only an image's header.

    Raises:
        UnreadableImageError: if it is not the header of an image.
    """
    from PIL import Image

    try:
        with Image.open(_openable(source)):
            pass
    except Exception as error:
        raise UnreadableImageError(_reason(error)) from error


def image_to_tensor(image: Image, size: int, channels: int) -> Tensor:
    """A Pillow image as ``[channels, size, size]`` uint8.

    The camera's orientation tag is applied; transparent pixels are laid over white; grey is repeated over RGB, and RGB
    becomes grey by its luma (ITU-R BT.601); 16-bit grey is scaled to 8 bits. The shorter side is resized to ``size``
    (bicubic, antialiased) and the centre is kept.
    """
    from PIL import ImageOps
    from PIL.Image import Resampling

    image = _to_mode(ImageOps.exif_transpose(image), "RGB" if channels == 3 else "L")
    width, height = image.size
    if (width, height) != (size, size):
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        # Resizing only the kept square equals resizing all and cropping, and stays small for extreme shapes.
        box = (left, top, left + side, top + side)
        image = image.resize((size, size), Resampling.BICUBIC, box=box)
    pixels = np.array(image, dtype=np.uint8).reshape(size, size, channels)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _to_mode(image: Image, mode: str) -> Image:
    from PIL import Image as PillowImage

    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range: save it with 8 bits a channel")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        # Pillow opens 16-bit grey as "I;16" or "I" and would clip it at 255 instead of scaling it.
        wide = image.mode.startswith("I;16") or int(values.max(initial=0)) > 255
        image = PillowImage.fromarray(np.clip(values // 257 if wide else values, 0, 255).astype(np.uint8))
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        image = image.convert("RGBA")
        white = PillowImage.new("RGBA", image.size, (255, 255, 255, 255))
        image = PillowImage.alpha_composite(white, image)
    return image.convert(mode)


def _openable(source: bytes | str) -> io.BytesIO | str:
    return io.BytesIO(source) if isinstance(source, bytes) else source


def _reason(error: BaseException) -> str:
    if type(error).__name__ == "UnidentifiedImageError":
        return "it is in no image format that Pillow knows"
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
