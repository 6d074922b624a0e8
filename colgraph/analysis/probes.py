"""Images that ask one question each: gratings, moving bars, noise, balanced sets of categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colgraph.analysis.arrays import Array, as_labels, as_vector, check_choice, check_count
from colgraph.analysis.corruptions import as_images

NOISES = ("white", "binary", "pink", "sparse")
Size = int | tuple[int, int]
"""Side length in pixels, or (height, width)."""


@dataclass(frozen=True, eq=False)
class Probes:
    """Images and what each of them is.

    Attributes:
        images: ``[stimuli, channels, height, width]`` float32 between 0 and 1; films
            ``[stimuli, frames, channels, height, width]``.
        labels: ``[stimuli]`` arrays by name ("orientation", "frequency", ...).
        name: what they are.
    """

    images: Tensor
    labels: Mapping[str, NDArray[Any]]
    name: str

    def __len__(self) -> int:
        return len(self.images)

    def frames(self) -> Probes:
        """Films as single images, with the label "frame" beside the others.

        Raises:
            ValueError: if these are no films.
        """
        if self.images.dim() != 5:
            raise ValueError(f"{self.name} are no films, but images of shape {list(self.images.shape)}")
        count = self.images.size(1)
        labels = {name: np.repeat(values, count) for name, values in self.labels.items()}
        labels["frame"] = np.tile(np.arange(count), len(self))
        return Probes(self.images.flatten(0, 1), labels, self.name)

    def __repr__(self) -> str:
        return f"Probes({self.name}: {list(self.images.shape)}, labels {', '.join(self.labels)})"


def _height_width(image_size: Size, least: int = 4) -> tuple[int, int]:
    height, width = (image_size, image_size) if isinstance(image_size, int | np.integer) else image_size
    for side in (height, width):
        check_count("image_size", side, least)
    return int(height), int(width)


def _coordinates(height: int, width: int) -> tuple[Array, Array]:
    """x to the right and y upwards of the centre, in units of the shorter side, at pixel centres."""
    side = min(height, width)
    y = -(np.arange(height) - (height - 1) / 2) / side
    x = (np.arange(width) - (width - 1) / 2) / side
    return np.broadcast_to(x, (height, width)), np.broadcast_to(y[:, None], (height, width))


def _stack(grey: NDArray[Any], channels: int) -> Tensor:
    """``[..., H, W]`` to ``[..., channels, H, W]`` float32."""
    out = torch.from_numpy(np.clip(grey, 0, 1).astype(np.float32))
    return out.unsqueeze(-3).repeat_interleave(check_count("channels", channels), -3)


def gratings(
    image_size: Size,
    *,
    orientations: int | Sequence[float] = 8,
    frequencies: int | Sequence[float] = 8,
    phases: int | Sequence[float] = 5,
    channels: int = 3,
    contrast: float = 1.0,
) -> Probes:
    """Sine gratings of every orientation, spatial frequency and phase.

    ``0.5 + 0.5 contrast sin(2 pi f u + phase)``, with u the coordinate across the bars in units of the shorter side.

    Args:
        image_size: side length in pixels, or (height, width).
        orientations: how many, spread evenly over pi, or radians. The orientation is that of the bars, counted from
            horizontal bars against the clock.
        frequencies: how many, spaced geometrically from 1 to a quarter of the side, or cycles per shorter side.
        phases: how many, spread evenly over 2 pi, or radians.
        channels: color channels, all alike.
        contrast: from 0 to 1.

    Returns:
        :class:`Probes` with labels "orientation", "frequency", "phase", and "repeat" (one number for each pair of
        frequency and phase: shuffles of orientation may stay within it).

    Raises:
        ValueError: for frequencies that the pixels cannot show (half the side or more) and values out of range.
    """
    height, width = _height_width(image_size)
    side = min(height, width)
    theta = _spread_over(orientations, np.pi, "orientations")
    phi = _spread_over(phases, 2 * np.pi, "phases")
    if isinstance(frequencies, int):
        f = np.geomspace(1, max(side / 4, 1), check_count("frequencies", frequencies))
        f = np.unique(np.round(f, 9))
    else:
        f = as_vector(frequencies, "frequencies")
    if f.min() <= 0 or f.max() >= side / 2:
        wrong = f.min() if f.min() <= 0 else f.max()
        raise ValueError(f"frequencies must lie above 0 and below {side / 2:g}, half of {side} pixels, got {wrong:g}")
    if not 0 < contrast <= 1:
        raise ValueError(f"contrast must be above 0 and at most 1, got {contrast:g}")
    grid = np.stack(np.meshgrid(theta, np.arange(len(f)), np.arange(len(phi)), indexing="ij"), -1).reshape(-1, 3)
    orientation, frequency = grid[:, 0], f[grid[:, 1].astype(int)]
    phase, repeat = phi[grid[:, 2].astype(int)], (grid[:, 1] * len(phi) + grid[:, 2]).astype(np.int64)
    x, y = _coordinates(height, width)
    across = y * np.cos(orientation)[:, None, None] - x * np.sin(orientation)[:, None, None]
    wave = np.sin(2 * np.pi * frequency[:, None, None] * across + phase[:, None, None])
    labels = {"orientation": orientation, "frequency": frequency, "phase": phase, "repeat": repeat}
    return Probes(_stack(0.5 + 0.5 * contrast * wave, channels), labels, "gratings")


def _spread_over(values: int | Sequence[float], period: float, what: str) -> Array:
    if isinstance(values, int | np.integer):
        return period * np.arange(check_count(what, values)) / values
    return as_vector(values, what)


def moving_bars(
    image_size: Size,
    *,
    directions: int | Sequence[float] = 8,
    frames: int = 16,
    width: float | None = None,
    channels: int = 3,
) -> Probes:
    """White bars that sweep once over a black image.

    Args:
        image_size: side length in pixels, or (height, width).
        directions: how many, spread evenly over 2 pi, or radians: where a bar moves to, counted from the right against
            the clock. The bar stands across its direction.
        frames: per film; the first and the last show the bar leaving the image's corners.
        width: of the bar in pixels; an eighth of the shorter side if not given.
        channels: color channels, all alike.

    Returns:
        :class:`Probes` with films ``[stimuli, frames, channels, height, width]`` and the label "direction";
        :meth:`Probes.frames` makes single images of them.

    Raises:
        ValueError: for values out of range.
    """
    height, across = _height_width(image_size)
    side = min(height, across)
    angle = _spread_over(directions, 2 * np.pi, "directions")
    bar = (side / 8 if width is None else float(width)) / side
    if not bar > 0:
        raise ValueError(f"width must be positive, got {width:g}")
    x, y = _coordinates(height, across)
    reach = float(np.hypot(np.ptp(x), np.ptp(y)) / 2)
    place = np.linspace(-reach, reach, check_count("frames", frames, 2))
    along = x * np.cos(angle)[:, None, None] + y * np.sin(angle)[:, None, None]
    distance = np.abs(along[:, None] - place[:, None, None])
    # Edges one pixel wide, so that a bar moves smoothly between pixels.
    films = np.clip((bar / 2 - distance) * side + 0.5, 0, 1)
    return Probes(_stack(films, channels), {"direction": angle}, "moving bars")


def noise(
    image_size: Size,
    count: int,
    *,
    kind: str = "white",
    cell: int = 1,
    channels: int = 3,
    contrast: float = 0.15,
    density: float = 0.02,
    seed: int = 0,
) -> Probes:
    """Noise for reverse correlation; channels are independent.

    Args:
        image_size: side length in pixels, or (height, width).
        count: number of images.
        kind: "white" (Gaussian, standard deviation ``contrast`` around 0.5), "binary" (black or white, each with
            probability a half), "pink" (amplitude 1 / frequency, standard deviation ``contrast``) or "sparse" (grey,
            with a share ``density`` of pixels black or white).
        cell: side of the squares, in pixels, that share one value.
        channels: color channels.
        contrast: standard deviation of "white" and "pink"; values are cut at 0 and 1.
        density: share of pixels that are not grey, of "sparse".
        seed: of the noise.

    Returns:
        :class:`Probes` without labels.

    Raises:
        ValueError: for unknown kinds and values out of range.
    """
    check_choice("kind", kind, NOISES)
    height, width = _height_width(image_size, 1)
    check_count("cell", cell)
    for name, value, top in (("contrast", contrast, 0.5), ("density", density, 1.0)):
        if not 0 < value <= top:
            raise ValueError(f"{name} must be above 0 and at most {top:g}, got {value:g}")
    rng = np.random.default_rng(seed)
    shape = (check_count("count", count), check_count("channels", channels), -(-height // cell), -(-width // cell))
    values: NDArray[Any]
    if kind == "binary":
        values = rng.integers(0, 2, shape).astype(np.float32)
    elif kind == "sparse":
        values = np.where(rng.random(shape) < density, rng.integers(0, 2, shape), 0.5)
    else:
        field = rng.standard_normal(shape, dtype=np.float32)
        values = 0.5 + contrast * (field if kind == "white" else _pink(field))
    values = values.repeat(cell, 2).repeat(cell, 3)[:, :, :height, :width]
    return Probes(torch.from_numpy(np.clip(values, 0, 1).astype(np.float32)), {}, f"{kind} noise")


def _pink(field: NDArray[Any]) -> NDArray[Any]:
    """White noise with its amplitude divided by frequency, brought back to unit variance."""
    height, width = field.shape[2:]
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf
    out = np.fft.irfft2(np.fft.rfft2(field) / frequency, s=(height, width))
    return np.asarray(out / max(float(out.std()), 1e-12))


def category_set(
    images: Any,
    labels: Any,
    *,
    per_class: int = 20,
    fewer: bool = False,
    classes: Sequence[Any] | None = None,
    seed: int = 0,
) -> Probes:
    """Equally many images of each class, drawn at random from any labeled images.

    Args:
        images: ``[n, channels, height, width]`` between 0 and 1, or uint8, uint16 or bool.
        labels: ``[n]`` numbers or text.
        per_class: images of each class.
        fewer: take all images of a class that has not so many, instead of refusing it.
        classes: which ones; all if not given.
        seed: of the draw.

    Returns:
        :class:`Probes` with the labels "category" and "index" (the place in ``images``).

    Raises:
        ValueError: for unknown classes, a class with too few images, and pixels without a range.
    """
    data = as_images(images)
    label = as_labels(labels, len(data))
    known = np.unique(label).tolist()
    chosen = known if classes is None else list(classes)
    rng = np.random.default_rng(seed)
    index = []
    for name in chosen:
        check_choice("class", name, known)
        members = np.flatnonzero(label == name)
        if len(members) < check_count("per_class", per_class) and not fewer:
            raise ValueError(f"class {name!r} has {len(members)} images, {per_class} are needed: lower per_class")
        index.append(np.sort(rng.choice(members, min(per_class, len(members)), replace=False)))
    place = np.concatenate(index)
    return Probes(torch.from_numpy(data[place]), {"category": label[place], "index": place}, "categories")
