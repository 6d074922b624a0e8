"""The fifteen corruptions of ImageNet-C, at five severities, for images of any size.

Parameters are those of Hendrycks and Dietterich (2019), "Benchmarking neural network robustness to common corruptions
and perturbations", for images of 224 pixels; lengths in pixels (blurs, displacements, flakes) are scaled with the
image's shorter side, which gives roughly the values that the same authors chose for 32 pixels. Written from the
published parameters on numpy and scipy, so images are not bit-identical to the published files: fog is made in the
frequency domain, glass blur draws each pixel from its surroundings instead of swapping, and frost, which the original
takes from photographs, is a drawn texture. Compare models on the same implementation.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from colgraph.analysis.arrays import as_array, check_choice
from colgraph.extras import optional

__all__ = ["CORRUPTIONS", "FAMILIES", "as_images", "corrupt"]

Images: TypeAlias = NDArray[np.floating[Any]]
"""``[B, C, H, W]`` between 0 and 1."""


def as_images(images: Any) -> Images:
    """``[B, channels, height, width]`` float32 between 0 and 1; uint8, uint16 and bool are divided by their largest.

    Raises:
        ValueError: for another shape, an empty batch, NaN, or values outside 0 to 1.
    """
    array = as_array(images, "images")
    if array.ndim != 4 or 0 in array.shape:
        raise ValueError(f"images must have shape [B, channels, height, width], got {list(array.shape)}")
    if array.dtype in (np.uint8, np.uint16, np.bool_):
        largest = 1 if array.dtype == np.bool_ else np.iinfo(array.dtype).max
        return (array / largest).astype(np.float32)
    if array.dtype.kind != "f":
        raise ValueError(f"images must be uint8, uint16, bool, or floats between 0 and 1, got {array.dtype}")
    low, high = float(array.min()), float(array.max())
    if not (low >= -1e-6 and high <= 1 + 1e-6):
        raise ValueError(f"images must lie between 0 and 1 (before normalisation), got {low:g} to {high:g}")
    return np.clip(array, 0, 1).astype(np.float32)


def corrupt(images: Any, name: str, severity: int = 1, *, seed: int = 0) -> Any:
    """Corrupt images.

    Args:
        images: ``[B, channels, height, width]`` between 0 and 1, numpy or torch; bytes from 0 to 255.
        name: one of :data:`CORRUPTIONS`.
        severity: 1 to 5.
        seed: of what is random; each image of a batch gets its own draw.

    Returns:
        float32 of the same shape between 0 and 1, numpy or torch as given.

    Raises:
        ValueError: for other names, severities, shapes or values.
        ImportError: for jpeg_compression without pillow.
    """
    check_choice("corruption", name, CORRUPTIONS)
    check_choice("severity", severity, (1, 2, 3, 4, 5))
    rng = np.random.default_rng([seed, CORRUPTIONS.index(name), severity])
    out = np.clip(_BY_NAME[name](as_images(images), severity - 1, rng), 0, 1).astype(np.float32)
    if not hasattr(images, "detach"):
        return out
    import torch

    return torch.from_numpy(out).to(images.device)


# ---------------------------------------------------------------------- pieces


def _scale(x: Images) -> float:
    """Pixels here per pixel of the 224 the parameters were chosen for."""
    return min(x.shape[2:]) / 224


def _gaussian(x: Images, sigma: float) -> Images:
    return np.asarray(ndimage.gaussian_filter(x, (0, 0, sigma, sigma), mode="nearest"))


def _convolve(x: Images, kernel: NDArray[np.float64]) -> Images:
    return np.asarray(ndimage.convolve(x, kernel[None, None].astype(np.float32), mode="mirror"))


def _disk(radius: float, fine: int = 15) -> NDArray[np.float64]:
    """A disk of any radius: what a pixel receives from its surroundings when each point is spread over the disk."""
    side = 2 * int(np.ceil(radius + 1)) + 1
    along = (np.arange(side * fine) - side * fine / 2 + 0.5) / fine
    distance = np.hypot(along[:, None], along)
    inside = (distance <= max(radius, float(distance.min()))).astype(np.float64)
    # Light comes from a pixel's area and is collected over a pixel's area, so radii below half a pixel count.
    for _ in range(2):
        inside = ndimage.uniform_filter(inside, fine, mode="constant")
    kernel = inside[fine // 2 :: fine, fine // 2 :: fine]
    return np.asarray(kernel / kernel.sum())


def _streak(radius: float, sigma: float, angle: float) -> NDArray[np.float64]:
    """A one-sided Gaussian along a line, spread over the pixels it crosses."""
    reach = int(np.ceil(radius)) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    along = np.linspace(0, radius, 16 * reach + 1)
    weight = np.exp(-(along**2) / (2 * sigma**2))
    for offset, w in zip(along, weight, strict=True):
        y, x = reach + offset * np.sin(angle), reach + offset * np.cos(angle)
        row, column = int(y), int(x)
        dy, dx = y - row, x - column
        for i, wy in ((row, 1 - dy), (row + 1, dy)):
            for j, wx in ((column, 1 - dx), (column + 1, dx)):
                if wy * wx > 0:
                    kernel[i, j] += w * wy * wx
    return np.asarray(kernel / kernel.sum())


def _motion(x: Images, radius: float, sigma: float, low: float, high: float, rng: np.random.Generator) -> Images:
    """Blur each image along its own direction (degrees)."""
    angles = np.radians(rng.uniform(low, high, len(x)))
    return np.concatenate([_convolve(one[None], _streak(radius, sigma, a)) for one, a in zip(x, angles, strict=True)])


def _zoom(x: Images, factor: float) -> Images:
    """Enlarged around the centre, cut to the same size."""
    rows, columns = (_stretch(side, factor) for side in x.shape[2:])
    return np.asarray(rows @ x @ columns.T)


def _stretch(side: int, factor: float) -> NDArray[np.float32]:
    """``[side, side]``: linear interpolation at places that are ``factor`` times closer to the centre."""
    place = (np.arange(side) - (side - 1) / 2) / factor + (side - 1) / 2
    low = np.clip(place.astype(np.int64), 0, max(side - 2, 0))
    matrix = np.zeros((side, side), dtype=np.float32)
    matrix[np.arange(side), low] = 1 - (place - low)
    matrix[np.arange(side), np.minimum(low + 1, side - 1)] += place - low
    return matrix


def _plasma(shape: tuple[int, int, int], decay: float, rng: np.random.Generator) -> Images:
    """``[B, 1, H, W]`` clouds between 0 and 1, whose amplitude falls by ``decay`` from octave to octave."""
    batch, height, width = shape
    y, x = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    frequency = np.sqrt(y**2 + x**2)
    frequency[0, 0] = np.inf
    # Octaves of equal count per pixel grow as f^2, so amplitude per octave f^-p needs a density of f^-(p + 1).
    amplitude = frequency ** -(np.log2(decay) + 1)
    noise = rng.normal(size=(2, batch, *frequency.shape))
    field = np.fft.irfft2((noise[0] + 1j * noise[1]) * amplitude, s=(height, width))
    field -= field.min((1, 2), keepdims=True)
    return (field / np.maximum(field.max((1, 2), keepdims=True), 1e-12))[:, None].astype(np.float32)


# ---------------------------------------------------------------------- noise


def _gaussian_noise(x: Images, i: int, rng: np.random.Generator) -> Images:
    return x + rng.normal(scale=(0.08, 0.12, 0.18, 0.26, 0.38)[i], size=x.shape)


def _shot_noise(x: Images, i: int, rng: np.random.Generator) -> Images:
    photons = (60, 25, 12, 5, 3)[i]
    return rng.poisson(x * photons) / photons


def _impulse_noise(x: Images, i: int, rng: np.random.Generator) -> Images:
    hit = rng.random(x.shape) < (0.03, 0.06, 0.09, 0.17, 0.27)[i]
    return np.where(hit, rng.random(x.shape) < 0.5, x)


# ---------------------------------------------------------------------- blur


def _defocus_blur(x: Images, i: int, rng: np.random.Generator) -> Images:
    return _convolve(x, _disk((3, 4, 6, 8, 10)[i] * _scale(x)))


def _glass_blur(x: Images, i: int, rng: np.random.Generator) -> Images:
    sigma, reach, rounds = ((0.7, 1.0, 2), (0.9, 2.0, 1), (1.0, 2.0, 3), (1.1, 3.0, 2), (1.5, 4.0, 2))[i]
    sigma, reach = sigma * _scale(x), reach * _scale(x) + 0.5
    x = _gaussian(x, sigma)
    batch, _, height, width = x.shape
    image, row, column = np.ogrid[:batch, :height, :width]
    for _ in range(rounds):
        dy, dx = np.rint(rng.uniform(-reach, reach, size=(2, batch, height, width))).astype(np.int64)
        x = x[image, :, np.clip(row + dy, 0, height - 1), np.clip(column + dx, 0, width - 1)].transpose(0, 3, 1, 2)
    return _gaussian(x, sigma)


def _motion_blur(x: Images, i: int, rng: np.random.Generator) -> Images:
    radius, sigma = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[i]
    return _motion(x, radius * _scale(x), sigma * _scale(x), -45, 45, rng)


def _zoom_blur(x: Images, i: int, rng: np.random.Generator) -> Images:
    top, step = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))[i]
    factors = np.arange(1, top, step)
    total = x.copy()
    for factor in factors:
        total += _zoom(x, float(factor))
    return total / (len(factors) + 1)


# ---------------------------------------------------------------------- weather


def _snow(x: Images, i: int, rng: np.random.Generator) -> Images:
    mean, spread, flake, threshold, radius, sigma, keep = (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    )[i]
    scale = _scale(x)
    layer = rng.normal(mean, spread, size=(len(x), 1, *x.shape[2:])).astype(np.float32)
    layer = _zoom(layer, max(1.0, flake * scale))
    layer = np.clip(np.where(layer < threshold, 0, layer), 0, 1)
    layer = _motion(layer, radius * scale, sigma * scale, -135, -45, rng)
    grey = (x * np.array([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdims=True) if x.shape[1] == 3 else x
    whiter = keep * x + (1 - keep) * np.maximum(x, grey * 1.5 + 0.5)
    return whiter + layer + layer[:, :, ::-1, ::-1]


def _frost(x: Images, i: int, rng: np.random.Generator) -> Images:
    keep, ice = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))[i]
    # Crystals: sharp ridges where two cloudy fields cross, on a pale ground.
    first, second = (_plasma((len(x), *x.shape[2:]), 1.7, rng) for _ in range(2))
    ridge = np.exp(-np.abs(first - second) / 0.06)
    return keep * x + ice * (0.25 + 0.6 * ridge) * (0.6 + 0.4 * first)


def _fog(x: Images, i: int, rng: np.random.Generator) -> Images:
    depth, decay = ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))[i]
    top = x.max((1, 2, 3), keepdims=True)
    return (x + depth * _plasma((len(x), *x.shape[2:]), decay, rng)) * top / np.maximum(top + depth, 1e-6)


def _brightness(x: Images, i: int, rng: np.random.Generator) -> Images:
    """The value of HSV raised; hue and saturation stay, so all channels are multiplied alike."""
    more = (0.1, 0.2, 0.3, 0.4, 0.5)[i]
    value = x.max(1, keepdims=True)
    raised = np.minimum(value + more, 1)
    return np.where(value > 0, x * raised / np.maximum(value, 1e-6), raised)


# ---------------------------------------------------------------------- digital


def _contrast(x: Images, i: int, rng: np.random.Generator) -> Images:
    mean = x.mean((2, 3), keepdims=True)
    return (x - mean) * (0.4, 0.3, 0.2, 0.1, 0.05)[i] + mean


def _elastic_transform(x: Images, i: int, rng: np.random.Generator) -> Images:
    amplitude, sigma, shift = (
        (2, 0.7, 0.1),
        (2, 0.08, 0.2),
        (0.05, 0.01, 0.02),
        (0.07, 0.01, 0.02),
        (0.12, 0.01, 0.02),
    )[i]
    height, width = x.shape[2:]
    side = 244 / 224 * min(height, width)
    out = np.empty_like(x)
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    for n, image in enumerate(x):
        wobble = ndimage.gaussian_filter(
            rng.uniform(-1, 1, (2, height, width)), (0, sigma * side, sigma * side), mode="reflect", truncate=3
        )
        y, x_at = _affine(rows, columns, min(height, width) // 3, shift * side, rng) + amplitude * side * wobble
        for channel, plane in enumerate(image):
            out[n, channel] = ndimage.map_coordinates(plane, [y, x_at], order=1, mode="reflect")
    return out


def _affine(
    rows: NDArray[np.float64], columns: NDArray[np.float64], reach: int, shift: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Where each pixel comes from when three corners of a square around the centre move by up to ``shift``."""
    centre = np.array(rows.shape) // 2
    corners = centre + max(reach, 1) * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = corners + rng.uniform(-shift, shift, (3, 2))
    back = np.linalg.lstsq(np.column_stack([moved, np.ones(3)]), corners, rcond=None)[0]
    return np.stack([rows * back[0, k] + columns * back[1, k] + back[2, k] for k in range(2)])


def _pixelate(x: Images, i: int, rng: np.random.Generator) -> Images:
    share = (0.6, 0.5, 0.4, 0.3, 0.25)[i]
    down = [_box(side, max(1, int(side * share))) for side in x.shape[2:]]
    small = down[0] @ x @ down[1].T
    row, column = (np.arange(side) * len(box) // side for side, box in zip(x.shape[2:], down, strict=True))
    return np.asarray(small[:, :, row][:, :, :, column])


def _box(side: int, cells: int) -> NDArray[np.float64]:
    """``[cells, side]``: each cell's mean over the pixels, or parts of pixels, that it covers."""
    ends = np.linspace(0, side, cells + 1)
    cover = np.minimum(ends[1:, None], np.arange(1, side + 1)) - np.maximum(ends[:-1, None], np.arange(side))
    cover = np.maximum(cover, 0)
    return np.asarray(cover / cover.sum(1, keepdims=True))


def _jpeg_compression(x: Images, i: int, rng: np.random.Generator) -> Images:
    pillow = optional("jpeg_compression needs", "PIL.Image", "analysis")
    quality = (25, 18, 15, 10, 7)[i]

    def through(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
        file = BytesIO()
        pillow.fromarray(plane).save(file, "JPEG", quality=quality)
        return np.asarray(pillow.open(file))

    data = np.round(x * 255).astype(np.uint8)
    if x.shape[1] == 3:
        return np.stack([through(one.transpose(1, 2, 0)).transpose(2, 0, 1) for one in data]) / np.float32(255)
    return np.stack([[through(plane) for plane in one] for one in data]) / np.float32(255)


_FAMILIES: dict[str, tuple[Callable[[Images, int, np.random.Generator], Any], ...]] = {
    "noise": (_gaussian_noise, _shot_noise, _impulse_noise),
    "blur": (_defocus_blur, _glass_blur, _motion_blur, _zoom_blur),
    "weather": (_snow, _frost, _fog, _brightness),
    "digital": (_contrast, _elastic_transform, _pixelate, _jpeg_compression),
}
FAMILIES = {family: tuple(one.__name__[1:] for one in members) for family, members in _FAMILIES.items()}
"""Names of the corruptions of each family, in the order of the paper."""

CORRUPTIONS = tuple(name for members in FAMILIES.values() for name in members)
"""Names of the corruptions, in the order of the paper."""

_BY_NAME = dict(zip(CORRUPTIONS, (one for members in _FAMILIES.values() for one in members), strict=True))
