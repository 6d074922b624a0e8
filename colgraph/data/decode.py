"""One encoded image to one tensor: Pillow decodes, nothing else touches pixels before they are a batch."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from colgraph.hints import reason_of

if TYPE_CHECKING:
    from PIL.Image import Image

_ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")

# Formats of pictures: Pillow also opens icons, films, documents and scientific arrays.
_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "TGA", "TIFF", "WEBP")
_WHITE_IS_ZERO = 0  # of the TIFF tag PhotometricInterpretation

# Tags of TIFF, and what of them Pillow takes no notice of.
_SUBFILE, _BITS, _PACKED, _PHOTOMETRIC, _SAMPLES, _PLANES, _KIND = 254, 258, 259, 262, 277, 284, 339
_REDUCED, _MASK, _NOT_PACKED, _IN_PLANES, _SIGNED = 1, 4, 1, 2, 2


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
    with opened(source) as image:
        if image.format == "JPEG":
            # Lets the JPEG decoder skip resolution that the resize would throw away, with a margin of two.
            image.draft(image.mode, (2 * size, 2 * size))
        return image_to_tensor(image, size, channels)


def check_header(source: bytes | str) -> None:
    """Read only an image's header.

    Raises:
        UnreadableImageError: if it is not the header of an image.
    """
    with opened(source):
        pass


def image_to_tensor(image: Image, size: int, channels: int) -> Tensor:
    """A Pillow image as ``[channels, size, size]`` uint8.

    The camera's orientation tag is applied; transparent pixels are laid over white; grey is repeated over RGB, and RGB
    becomes grey by its luma (ITU-R BT.601). Pixels of 12 and 16 bits are scaled to 8 by their type, whatever values
    they happen to have. The shorter side is resized to ``size`` (bicubic, antialiased) and the centre is kept.

    Raises:
        ValueError: for pixels that have no agreed range: floats, signed numbers, and integers of 32 bits.
    """
    from PIL import ImageOps
    from PIL.Image import Resampling

    # All three are gone once an image has been loaded or copied.
    stored, bits, is_inverted = stored_as(image), _bits(image), image.mode.startswith("I;16") and zero_is_white(image)
    image.load()
    image = _eight_bits(ImageOps.exif_transpose(image), stored, bits, is_inverted)
    image = _to_mode(image, "RGB" if channels == 3 else "L")
    width, height = image.size
    if (width, height) != (size, size):
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        # Resizing only the kept square equals resizing all and cropping, and stays small for extreme shapes.
        box = (left, top, left + side, top + side)
        image = image.resize((size, size), Resampling.BICUBIC, box=box)
    pixels = np.array(image, dtype=np.uint8).reshape(size, size, channels)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def as_bytes(images: Any) -> Tensor:
    """Pixels as an array or tensor to uint8, scaled by their type: uint16 from 0..65535, bool from 0..1.

    Raises:
        ValueError: for other types, which have no agreed range.
    """
    tensor = torch.as_tensor(images)
    if tensor.dtype == torch.uint8:
        return tensor
    if tensor.dtype == torch.uint16:
        return torch.from_numpy((tensor.numpy() >> 8).astype(np.uint8))
    if tensor.dtype == torch.bool:
        return tensor.to(torch.uint8) * 255
    kind = str(tensor.dtype).removeprefix("torch.")
    raise ValueError(f"{kind} pixels have no agreed range: give uint8 (0..255), uint16 (0..65535) or bool")


@lru_cache
def image_suffixes() -> tuple[str, ...]:
    """How the names of files end that can be read here, in small letters, with their dots."""
    from PIL import Image

    known = Image.registered_extensions()
    return tuple(sorted(end for end, name in known.items() if name in _FORMATS and name in Image.OPEN))


def stored_as(image: Image) -> str:
    """How a file's pixels are stored, in Pillow's words (``I;12``, ``RGB;16B``, ...); "" where it does not say."""
    for tile in getattr(image, "tile", ()):
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        return str(arguments[0])
    return ""


def _bits(image: Image) -> int:
    """Bits of an image's numbers by the type they are stored in; 8 for all that Pillow brings to bytes itself.

    Raises:
        ValueError: for types without an agreed range.
    """
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range: save it with 8 bits a channel")
    if not image.mode.startswith("I"):
        return 8
    # A PGM of more than 8 bits is opened as "I", scaled to 16; so is a PNG before Pillow 11.
    if image.mode.startswith("I;16") or image.format in ("PNG", "PPM"):
        return 12 if stored_as(image) == "I;12" else 16
    what = "signed 16-bit" if "16" in stored_as(image) else "32-bit"
    raise ValueError(f"{what} integer pixels have no agreed range: save it with 8 or 16 bits a channel")


def zero_is_white(image: Image) -> bool:
    """Whether zero is white in a TIFF, which Pillow sees to in those of 8 bits alone."""
    return bool(getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO)


def _eight_bits(image: Image, stored: str, bits: int, is_inverted: bool) -> Image:
    """An image with 8 bits a channel, its transparent color with it."""
    from PIL import Image as PillowImage

    key = image.info.get("transparency")
    if bits == 8:
        # Pillow brings pixels to 8 bits, the transparent color it leaves as the file has it.
        scale = _TO_EIGHT.get(stored.partition(";")[2].rstrip("BLN"))
        if scale is not None and image.mode != "P" and key is not None:
            image.info["transparency"] = tuple(map(scale, key)) if isinstance(key, tuple) else scale(key)
        return image
    values = np.asarray(image).astype(np.int64)
    grey = values >> (bits - 8)
    if is_inverted:
        grey = 255 - grey
    if key is not None:
        grey[values == key] = 255
    return PillowImage.fromarray(grey.astype(np.uint8))


# A number of so many bits as Pillow brings it to 8.
_TO_EIGHT: dict[str, Callable[[int], int]] = {
    "2": lambda value: value * 85,
    "4": lambda value: value * 17,
    "16": lambda value: value >> 8,
}


def _to_mode(image: Image, mode: str) -> Image:
    from PIL import Image as PillowImage

    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        image = image.convert("RGBA")
        white = PillowImage.new("RGBA", image.size, (255, 255, 255, 255))
        image = PillowImage.alpha_composite(white, image)
    return image.convert(mode)


def _check_tiff(image: Image) -> None:
    """Raise ValueError for what Pillow would read of a TIFF in silence as something else than it is."""
    tags = getattr(image, "tag_v2", {})
    bits, samples = max(tags.get(_BITS, (1,))), tags.get(_SAMPLES, 1)
    in_planes = tags.get(_PLANES) == _IN_PLANES and tags.get(_PACKED, _NOT_PACKED) == _NOT_PACKED
    checks = (
        (_has_more_pages(image), "it has several pages, save one image a file"),
        (
            _SIGNED in tags.get(_KIND, ()),
            f"signed {bits}-bit integer pixels have no agreed range: save it with 8 or 16 bits a channel",
        ),
        (samples > 1 and len(image.getbands()) == 1, f"it has {samples} channels, save it with 1 or 3"),
        (
            in_planes and bits > 8 and samples > 1,
            f"its {bits}-bit channels are planes, one after the other, save them pixel by pixel",
        ),
    )
    for wrong, reason in checks:
        if wrong:
            raise ValueError(reason)


def _has_more_pages(image: Image) -> bool:
    """Whether a TIFF holds another image than its first one, or smaller copies and masks of that."""
    page: Any = image
    found = False
    with contextlib.suppress(EOFError):
        while not found:
            page.seek(page.tell() + 1)
            found = not page.tag_v2.get(_SUBFILE, 0) & (_REDUCED | _MASK)
    page.seek(0)
    return found


@contextlib.contextmanager
def opened(source: bytes | str) -> Iterator[Image]:
    """An image whose header has been read; whatever goes wrong with it is an :class:`UnreadableImageError`."""
    from PIL import Image as PillowImage
    from PIL import UnidentifiedImageError

    try:
        if not (source if isinstance(source, bytes) else os.path.getsize(source)):
            raise ValueError("it is empty, of 0 bytes")
        with PillowImage.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.format == "TIFF":
                _check_tiff(image)
            yield image
    except UnidentifiedImageError as error:
        raise UnreadableImageError("it is in no image format that Pillow knows") from error
    except Exception as error:
        raise UnreadableImageError(reason_of(error)) from error
