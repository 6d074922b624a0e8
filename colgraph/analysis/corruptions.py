"""The fifteen common corruptions of Hendrycks and Dietterich, at five severities, for images of any size.

Source: Hendrycks and Dietterich (2019), "Benchmarking neural network robustness to common corruptions and
perturbations". Their two published sets differ in their constants: CIFAR-10-C (``make_cifar_c.py``, 32 pixels) and
ImageNet-C (``make_imagenet_c.py``, 224 pixels), milder and coarser in relation to the image. Images of another size get
the constants of the set that is nearer in size, lengths (blurs, displacements, flakes) in proportion to the shorter
side, and :func:`choose_constants` says that this is no published benchmark.

Written anew on numpy and scipy from the published programs, so images are not bit-identical to the published files, at
those sizes neither: values are not rounded to bytes between operations, enlargements (zoom blur, snow) are not rounded
to whole pixels, and frost, which the original takes from photographs, is a drawn texture. Compare models on the same
implementation.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from colgraph.analysis.arrays import as_array, check_choice
from colgraph.analysis.severities import FAMILIES, SEVERITIES, SIZES
from colgraph.extras import optional

Images: TypeAlias = NDArray[np.floating[Any]]
"""``[B, C, H, W]`` between 0 and 1."""

CORRUPTIONS = tuple(name for members in FAMILIES.values() for name in members)
"""Names of the corruptions, in the order of the paper."""

CONSTANTS = tuple(SIZES)
"""Names of the published sets of constants."""


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


def choose_constants(height: int, width: int) -> tuple[str, bool]:
    """The name of the published set nearest in size (the shorter side), and whether it is of exactly this size."""
    side = min(height, width)
    name = min(CONSTANTS, key=lambda name: (abs(side - SIZES[name]), -SIZES[name]))
    return name, height == width == SIZES[name]


def corrupt(images: Any, name: str, severity: int = 1, *, constants: str | None = None, seed: int = 0) -> Any:
    """Corrupt images.

    Args:
        images: ``[B, channels, height, width]`` between 0 and 1, numpy or torch; bytes from 0 to 255.
        name: one of :data:`CORRUPTIONS`.
        severity: 1 to 5.
        constants: "CIFAR-10-C" or "ImageNet-C"; those of the nearer size (:func:`choose_constants`) if not given.
        seed: of what is random; each image of a batch gets its own draw.

    Returns:
        float32 of the same shape between 0 and 1, numpy or torch as given.

    Raises:
        ValueError: for other names, severities, constants, shapes or values.
        ImportError: for jpeg_compression without pillow.
    """
    check_choice("corruption", name, CORRUPTIONS)
    check_choice("severity", severity, (1, 2, 3, 4, 5))
    x = as_images(images)
    chosen = choose_constants(*x.shape[2:])[0] if constants is None else constants
    check_choice("constants", chosen, CONSTANTS)
    values = SEVERITIES[chosen][name][severity - 1]
    scale = min(x.shape[2:]) / SIZES[chosen]
    rng = np.random.default_rng([seed, CORRUPTIONS.index(name), severity])
    out = np.clip(_FUNCTIONS[name](x, values, scale, rng), 0, 1).astype(np.float32)
    if not hasattr(images, "detach"):
        return out
    import torch

    return torch.from_numpy(out).to(images.device)


# ---------------------------------------------------------------------- pieces


def _gaussian(x: Images, sigma: float) -> Images:
    return np.asarray(ndimage.gaussian_filter(x, (0, 0, sigma, sigma), mode="nearest"))


def _published_disk(radius: float, soft: float) -> NDArray[np.float64]:
    """The pixels within a radius, blurred by a Gaussian of three pixels (five, where the disk is large)."""
    reach = max(8, int(np.ceil(radius)))
    along = np.arange(-reach, reach + 1)
    disk = (along[:, None] ** 2 + along**2 <= radius**2).astype(np.float64)
    taps = np.arange(-1, 2) if radius <= 8 else np.arange(-2, 3)
    bell = np.exp(-(taps**2) / (2 * soft**2))
    return np.asarray(ndimage.correlate(disk / disk.sum(), np.outer(bell, bell) / bell.sum() ** 2, mode="mirror"))


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


def _motion(x: Images, radius: float, sigma: float, low: float, high: float, rng: np.random.Generator) -> Images:
    """ImageMagick's motion blur, each image along a direction of its own (degrees).

    A one-sided Gaussian of ``2 radius + 1`` pixels, its deviation half a pixel at least; the image goes on as its edge.
    """
    angle = np.radians(rng.uniform(low, high, len(x)))[:, None, None]
    steps = np.arange(2 * int(np.ceil(radius)) + 1)
    weight = np.exp(-(steps**2) / (2 * max(sigma, 0.5) ** 2))
    batch, _, height, width = x.shape
    image, row, column = np.ogrid[:batch, :height, :width]
    out = np.zeros_like(x)
    for step, share in zip(steps, weight / weight.sum(), strict=True):
        y = np.clip(row + np.ceil(step * np.sin(angle) - 0.5).astype(np.int64), 0, height - 1)
        x_at = np.clip(column + np.ceil(step * np.cos(angle) - 0.5).astype(np.int64), 0, width - 1)
        out += np.float32(share) * x[image, :, y, x_at].transpose(0, 3, 1, 2)
    return out


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
    """``[B, 1, H, W]`` clouds between 0 and 1, by the diamond-square algorithm on a torus.

    From octave to octave the amplitude falls by ``decay ** 2``: the published program squares it.
    """
    batch, height, width = shape
    side = 1 << max(max(height, width) - 1, 1).bit_length()
    field = np.zeros((batch, side, side))
    size, step = 1.0, side
    while step > 1:
        half = step // 2

        def drawn(total: NDArray[np.float64], size: float = size) -> NDArray[np.float64]:
            return total / 4 + size * rng.uniform(-1, 1, total.shape)

        corners = field[:, ::step, ::step]
        pairs = corners + np.roll(corners, -1, 1)
        field[:, half::step, half::step] = centres = drawn(pairs + np.roll(pairs, -1, 2))
        field[:, ::step, half::step] = drawn(centres + np.roll(centres, 1, 1) + corners + np.roll(corners, -1, 2))
        field[:, half::step, ::step] = drawn(centres + np.roll(centres, 1, 2) + corners + np.roll(corners, -1, 1))
        step, size = half, size / decay**2
    field -= field.min((1, 2), keepdims=True)
    field /= np.maximum(field.max((1, 2), keepdims=True), 1e-12)
    return field[:, None, :height, :width].astype(np.float32)


# ---------------------------------------------------------------------- noise


def _gaussian_noise(x: Images, c: Any, scale: float, rng: np.random.Generator) -> Images:
    return x + rng.normal(scale=c, size=x.shape)


def _shot_noise(x: Images, c: Any, scale: float, rng: np.random.Generator) -> Images:
    return rng.poisson(x * c) / c


def _impulse_noise(x: Images, c: Any, scale: float, rng: np.random.Generator) -> Images:
    return np.where(rng.random(x.shape) < c, rng.random(x.shape) < 0.5, x)


# ---------------------------------------------------------------------- blur


def _defocus_blur(x: Images, c: Any, scale: float, rng: np.random.Generator) -> Images:
    # The published disk is made of whole pixels, and at other sizes might be a single one.
    kernel = _published_disk(*c) if scale == 1 else _disk(c[0] * scale)
    return np.asarray(ndimage.correlate(x, kernel[None, None].astype(np.float32), mode="mirror"))


def _glass_blur(x: Images, c: Any, scale: float, rng: np.random.Generator) -> Images:
    """Pixels become their neighbors, from the last to the first; the published program means to swap, and copies."""
    sigma, reach, rounds = c[0] * scale, max(1, round(c[1] * scale)), c[2]
    x = _gaussian(x, sigma)
    batch, _, height, width = x.shape
    image = np.arange(batch)
    for _ in range(rounds):
        for row in range(height - reach, reach, -1):
            for column in range(width - reach, reach, -1):
                dx, dy = rng.integers(-reach, reach, size=(2, batch))
                x[:, :, row, column] = x[image, :, row + dy, column + dx]
    return _gaussian(x, sigma)


def _motion_blur(x: Images, c: Any, scale: float, rng: np.random.Generator) -> Images:
    radius, sigma = c
    return _motion(x, radius * scale, sigma * scale, -45, 45, rng)


def _zoom_blur(x: Images, c: Any, scale: float, rng: np.random.Generator) -> Images:
    factors = np.arange(1, *c)
    total = x.copy()
    for factor in factors:
        total += _zoom(x, float(factor))
    return total / (len(factors) + 1)


# ---------------------------------------------------------------------- weather


def _snow(x: Images, c: Any, scale: float, rng: np.random.Generator) -> Images:
    mean, spread, flake, threshold, radius, sigma, keep = c
    layer = rng.normal(mean, spread, size=(len(x), 1, *x.shape[2:])).astype(np.float32)
    layer = _zoom(layer, max(1.0, flake * scale))
    layer = np.clip(np.where(layer < threshold, 0, layer), 0, 1)
    layer = _motion(layer, radius * scale, sigma * scale, -135, -45, rng)
    grey = (x * np.array([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdims=True) if x.shape[1] == 3 else x
    whiter = keep * x + (1 - keep) * np.maximum(x, grey * 1.5 + 0.5)
    return whiter + layer + layer[:, :, ::-1, ::-1]


def _frost(x: Images, c: Any, scale: float, rng: np.random.Generator) -> Images:
    keep, ice = c
    # Crystals: sharp ridges where two cloudy fields cross, on a pale ground.
    first, second = (_plasma((len(x), *x.shape[2:]), 1.3, rng) for _ in range(2))
    ridge = np.exp(-np.abs(first - second) / 0.06)
    return keep * x + ice * (0.25 + 0.6 * ridge) * (0.6 + 0.4 * first)


def _fog(x: Images, c: Any, scale: float, rng: np.random.Generator) -> Images:
    depth, decay = c
    top = x.max((1, 2, 3), keepdims=True)
    return (x + depth * _plasma((len(x), *x.shape[2:]), decay, rng)) * top / np.maximum(top + depth, 1e-6)


def _brightness(x: Images, c: Any, scale: float, rng: np.random.Generator) -> Images:
    """The value of HSV raised; hue and saturation stay, so all channels are multiplied alike."""
    value = x.max(1, keepdims=True)
    raised = np.minimum(value + c, 1)
    return np.where(value > 0, x * raised / np.maximum(value, 1e-6), raised)


# ---------------------------------------------------------------------- digital


def _contrast(x: Images, c: Any, scale: float, rng: np.random.Generator) -> Images:
    mean = x.mean((2, 3), keepdims=True)
    return (x - mean) * c + mean


def _elastic_transform(x: Images, c: Any, scale: float, rng: np.random.Generator) -> Images:
    amplitude, sigma, shift = (length * scale for length in c)
    height, width = x.shape[2:]
    out = np.empty_like(x)
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    for n, image in enumerate(x):
        wobble = ndimage.gaussian_filter(
            rng.uniform(-1, 1, (2, height, width)), (0, sigma, sigma), mode="reflect", truncate=3
        )
        y, x_at = _affine(rows, columns, min(height, width) // 3, shift, rng) + amplitude * wobble
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


def _pixelate(x: Images, c: Any, scale: float, rng: np.random.Generator) -> Images:
    height, width = x.shape[2:]
    rows, columns = max(1, int(height * c)), max(1, int(width * c))
    small = _box(height, rows) @ x @ _box(width, columns).T
    return np.asarray(_box(rows, height) @ small @ _box(columns, width).T)


def _box(side: int, cells: int) -> NDArray[np.float32]:
    """``[cells, side]``: pillow's BOX filter, the mean of the pixels whose centres a cell covers."""
    step = side / cells
    offset = (np.arange(side) + 0.5 - (np.arange(cells)[:, None] + 0.5) * step) / max(step, 1)
    cover = ((offset > -0.5) & (offset <= 0.5)).astype(np.float32)
    return np.asarray(cover / cover.sum(1, keepdims=True))


def _jpeg_compression(x: Images, c: Any, scale: float, rng: np.random.Generator) -> Images:
    pillow = optional("jpeg_compression needs", "PIL.Image", "analysis")

    def through(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
        file = BytesIO()
        pillow.fromarray(plane).save(file, "JPEG", quality=c)
        return np.asarray(pillow.open(file))

    data = np.round(x * 255).astype(np.uint8)
    if x.shape[1] == 3:
        return np.stack([through(one.transpose(1, 2, 0)).transpose(2, 0, 1) for one in data]) / np.float32(255)
    return np.stack([[through(plane) for plane in one] for one in data]) / np.float32(255)


_FUNCTIONS: dict[str, Callable[[Images, Any, float, np.random.Generator], Any]] = {
    name: globals()[f"_{name}"] for name in CORRUPTIONS
}
