"""From bytes to what the model sees: augmentation and normalisation of whole batches, on the batch's own device."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from colgraph.extras import optional

# ITU-R BT.601 luma, the grey that saturation is changed against.
_LUMA = (0.299, 0.587, 0.114)


def _uniform(generator: torch.Generator, count: int, low: float, high: float) -> Tensor:
    return torch.rand(count, generator=generator) * (high - low) + low


def _warp(images: Tensor, theta: Tensor) -> Tensor:
    """Sample ``images [B,C,S,S]`` at the affine maps ``theta [B,2,3]`` from output to input coordinates in [-1, 1]."""
    grid = F.affine_grid(theta.to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def augment_affine(
    images: Tensor,
    generator: torch.Generator,
    rotation: float = 12.0,
    shift: float = 0.08,
    scale: float = 0.12,
    shear: float = 8.0,
) -> Tensor:
    """A mild affine map per image, for handwriting and other pictures on an empty (zero) background.

    Args:
        images: ``[B,C,S,S]`` in [0, 1].
        generator: on the CPU; the same generator state gives the same maps on every device.
        rotation: at most this many degrees either way.
        shift: at most this fraction of the side, in both directions.
        scale: between ``1 - scale`` and ``1 + scale``.
        shear: at most this many degrees of slant either way.

    Returns:
        ``[B,C,S,S]`` in [0, 1].
    """
    b = images.size(0)
    angle = _uniform(generator, b, -math.radians(rotation), math.radians(rotation))
    slant = torch.tan(_uniform(generator, b, -math.radians(shear), math.radians(shear)))
    zoom = 1 / _uniform(generator, b, 1 - scale, 1 + scale)
    # Coordinates run over 2, so a shift by a fraction of the side is twice that.
    right, down = (_uniform(generator, b, -2 * shift, 2 * shift) for _ in range(2))
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    theta = torch.stack([cos, cos * slant - sin, right, sin, sin * slant + cos, down], dim=1).view(b, 2, 3)
    return _warp(images, theta)


def augment_natural(
    images: Tensor,
    generator: torch.Generator,
    min_area: float = 0.4,
    ratio: float = 4 / 3,
    flip: bool = True,
    jitter: float = 0.2,
) -> Tensor:
    """Random resized crop, mirror image, and color jitter, each drawn per image.

    Args:
        images: ``[B,C,S,S]`` in [0, 1].
        generator: on the CPU; the same generator state gives the same draws on every device.
        min_area: the crop covers between this share and all of the image.
        ratio: its sides' ratio lies between ``1 / ratio`` and ``ratio``.
        flip: whether half of the images are mirrored left to right.
        jitter: brightness, contrast and saturation are scaled by factors within ``1 - jitter .. 1 + jitter``.

    Returns:
        ``[B,C,S,S]`` in [0, 1].
    """
    b = images.size(0)
    area = _uniform(generator, b, min_area, 1.0)
    stretch = torch.exp(_uniform(generator, b, -math.log(ratio), math.log(ratio)) / 2)
    width, height = ((area.sqrt() * s).clamp(max=1.0) for s in (stretch, 1 / stretch))
    right, down = ((1 - side) * _uniform(generator, b, -1, 1) for side in (width, height))
    mirrored = _uniform(generator, b, -1, 1) < 0 if flip else torch.zeros(b, dtype=torch.bool)
    zero = torch.zeros(b)
    theta = torch.stack([torch.where(mirrored, -width, width), zero, right, zero, height, down], dim=1).view(b, 2, 3)
    return _jitter(_warp(images, theta), generator, jitter)


def augment_shift(images: Tensor, generator: torch.Generator, shift: float = 1 / 8, flip: bool = True) -> Tensor:
    """Shift by whole pixels, over zeros, and mirror image, each drawn per image: the usual one for small pictures.

    Args:
        images: ``[B,C,S,S]`` in [0, 1].
        generator: on the CPU; the same generator state gives the same draws on every device.
        shift: at most this fraction of the side, in both directions.
        flip: whether half of the images are mirrored left to right.

    Returns:
        ``[B,C,S,S]`` in [0, 1].
    """
    b, channels, size = images.shape[:3]
    reach = round(shift * size)
    down, right = (torch.randint(0, 2 * reach + 1, (b, 1), generator=generator) for _ in range(2))
    mirrored = torch.rand(b, 1, generator=generator) < (0.5 if flip else 0.0)
    place = torch.arange(size)
    rows, columns = down + place, right + torch.where(mirrored, size - 1 - place, place)
    wide = F.pad(images, (reach, reach, reach, reach))
    index = (rows[:, :, None] * (size + 2 * reach) + columns[:, None, :]).view(b, 1, -1).to(images.device)
    return wide.flatten(2).gather(2, index.expand(-1, channels, -1)).view_as(images)


def augment_kornia(
    images: Tensor,
    generator: torch.Generator,
    min_area: float = 0.4,
    flip: bool = True,
    jitter: float = 0.2,
) -> Tensor:
    """As :func:`augment_natural` through kornia, with its random order of color changes and with hue.

    kornia draws from torch's global generator, which is set for the call and put back.

    Args:
        images: ``[B,3,S,S]`` in [0, 1].
        generator: on the CPU; the same generator state gives the same draws on every device.
        min_area: the crop covers between this share and all of the image.
        flip: whether half of the images are mirrored left to right.
        jitter: strength of brightness, contrast and saturation; a quarter of it that of hue.

    Returns:
        ``[B,3,S,S]`` in [0, 1].

    Raises:
        ImportError: if kornia is missing, with the line that installs it.
        ValueError: for grey images, whose colors cannot change.
    """
    k = optional("--augment kornia needs", "kornia.augmentation", "train")
    if images.size(1) != 3:
        raise ValueError(f"augment kornia takes images of 3 channels, got {images.size(1)}: use natural")
    size = (images.size(2), images.size(3))
    steps = [k.RandomResizedCrop(size, scale=(min_area, 1.0)), k.RandomHorizontalFlip(p=0.5 if flip else 0.0)]
    change = k.AugmentationSequential(*steps, k.ColorJitter(jitter, jitter, jitter, jitter / 4, p=1.0))
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        changed: Tensor = change(images)
    return changed.clamp(0, 1)


def _jitter(images: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    b, channels = images.shape[:2]
    brightness, contrast, saturation = (
        _uniform(generator, b, 1 - strength, 1 + strength).to(images).view(b, 1, 1, 1) for _ in range(3)
    )
    images = images * brightness
    weights = images.new_tensor(_LUMA).view(1, 3, 1, 1) if channels == 3 else images.new_ones(1, 1, 1, 1)
    grey = (images * weights).sum(1, keepdim=True)
    middle = grey.mean((2, 3), keepdim=True)
    # Contrast scales the distance from the image's mean grey, saturation the distance from each pixel's own grey.
    images = middle + contrast * (grey + saturation * (images - grey) - middle)
    return images.clamp(0, 1)


def mix_pairs(images: Tensor, alpha: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Each image mixed with another one of the batch, by shares drawn from Beta(alpha, alpha).

    Source: Zhang et al. (2018), "mixup: Beyond Empirical Risk Minimization". The larger share is the image's own.

    Args:
        images: ``[B,C,S,S]``.
        alpha: greater than 0.
        seed: of partners and shares.

    Returns:
        the mixed images, ``[B]`` the partner of each, ``[B]`` the share of each own image, in [0.5, 1].
    """
    rng = np.random.default_rng(seed)
    share = torch.from_numpy(rng.beta(alpha, alpha, len(images))).to(images)
    share = torch.maximum(share, 1 - share)
    partner = torch.from_numpy(rng.permutation(len(images))).to(images.device)
    weight = share.view(-1, 1, 1, 1)
    return images * weight + images[partner] * (1 - weight), partner, share


_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "affine": augment_affine,
    "natural": augment_natural,
    "shift": augment_shift,
    "kornia": augment_kornia,
}
AUGMENTATIONS = ("none", *_FUNCTIONS)
"""What :class:`BatchTransform` does to images in training."""


class BatchTransform:
    """Bytes to normalised floats, augmented when training.

    Args:
        mean: per channel, of pixels in [0, 1].
        std: per channel.
        augmentation: one of ``AUGMENTATIONS``.
        seed: of the augmentation; the draws of a step follow from it and the step alone, so that a resumed run goes on
            as if it had never stopped.
        **options: of the augmentation's function, such as ``min_area`` of :func:`augment_natural`.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        augmentation: str = "none",
        seed: int = 0,
        **options: float,
    ) -> None:
        if augmentation not in AUGMENTATIONS:
            raise ValueError(f"unknown augmentation {augmentation!r}, expected one of {', '.join(AUGMENTATIONS)}")
        self.mean, self.std = tuple(mean), tuple(std)
        self.augmentation = augmentation
        self.seed = seed
        self.options: dict[str, Any] = options

    def train(self, images: Tensor, step: int, rank: int = 0) -> Tensor:
        """``[B,C,S,S]`` uint8 to augmented, normalised float32; ``rank`` tells processes of one run apart.

        Raises:
            ValueError: for images of another type.
        """
        pixels = _unit(images)
        if self.augmentation != "none":
            generator = torch.Generator().manual_seed(mix_seed(self.seed, step, rank))
            pixels = _FUNCTIONS[self.augmentation](pixels, generator, **self.options)
        return self._normalise(pixels)

    def evaluate(self, images: Tensor) -> Tensor:
        """``[B,C,S,S]`` uint8 to normalised float32.

        Raises:
            ValueError: for images of another type.
        """
        return self._normalise(_unit(images))

    def _normalise(self, pixels: Tensor) -> Tensor:
        mean, std = (pixels.new_tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return (pixels - mean) / std


def _unit(images: Tensor) -> Tensor:
    """Bytes as float32 between 0 and 1."""
    if images.dtype != torch.uint8:
        raise ValueError(f"images must be uint8, from 0 to 255, got {str(images.dtype).removeprefix('torch.')}")
    return images.to(torch.float32) / 255


def mix_seed(*numbers: int) -> int:
    """One 63-bit seed from several numbers, so that neighboring steps draw unrelated values (splitmix64)."""
    mask = (1 << 64) - 1
    state = 0
    for number in numbers:
        state = (state + int(number) + 0x9E3779B97F4A7C15) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    return state >> 1
