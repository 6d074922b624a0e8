"""Made data as sets of images, at the size and with the channels that were asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from colgraph.data.puzzles import Drawn, puzzle_of, repetitions
from colgraph.data.sets import ImageSet, MemoryImages
from colgraph.data.splits import HARDER

# ITU-R BT.601 in whole numbers, as Pillow makes grey of colors.
_LUMA = np.array([19595, 38470, 7471], dtype=np.int64)


@dataclass(frozen=True)
class MadeSets:
    """Sets of made images.

    Attributes:
        sets: "train", "val", "test" and "harder:NAME".
        classes: the name of each class.
        image_size: side in pixels.
        notes: what a user should know.
    """

    sets: dict[str, ImageSet]
    classes: list[str]
    image_size: int
    notes: list[str]


def load_made(
    source: str, image_size: int | None, channels: int, grid: tuple[int, int] | None, memory_gb: float
) -> MadeSets:
    """Make the data that a source names; arguments as of :func:`colgraph.data.load_images`.

    A pixel that is drawn becomes a square of pixels where larger images are asked for.

    Raises:
        ValueError: for options, sizes and grids that do not fit, and more images than memory has room for.
    """
    puzzle = puzzle_of(source)
    times = repetitions(puzzle, image_size, source)
    side = times * puzzle.unit
    if grid is not None and puzzle.grid is None:
        raise ValueError(
            f"{source!r} has a label per image, none per patch: of made data, mazes have targets per patch"
        )
    if grid is not None and grid != puzzle.grid:
        raise ValueError(
            f"{source!r} has targets for {puzzle.grid} patches, got a grid of {grid}: one patch is one cell"
        )
    count = sum(getattr(puzzle, name) for name in ("train", "val", "test", "harder"))
    if count * channels * side**2 > memory_gb * 1e9:
        raise ValueError(
            f"{source!r}: {count:,} images of {side} pixels take {count * channels * side**2 / 1e9:.1f} GB, more than "
            f"memory_gb={memory_gb:g}: ask for fewer (train=...) or smaller ones"
        )
    made = puzzle.make()
    notes = list(made.notes)
    if Path(source).exists():
        notes.append(f"{source!r} is the made data of that name; write {'./' + source!r} for what lies here")
    drawn = {**made.sets, **{f"{HARDER}{name}": part for name, part in made.harder.items()}}
    sets: dict[str, ImageSet] = {name: _images(part, times, channels) for name, part in drawn.items()}
    return MadeSets(sets, made.classes, side, notes)


def _images(drawn: Drawn, times: int, channels: int) -> MemoryImages:
    pixels = _with_channels(drawn.pixels, channels)
    pixels = np.ascontiguousarray(pixels.repeat(times, axis=2).repeat(times, axis=3))
    return MemoryImages(pixels, drawn.labels, drawn.keys(), drawn.difficulty)


def _with_channels(pixels: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    if pixels.shape[1] == channels:
        return pixels
    if channels == 1:
        luma = (pixels.transpose(0, 2, 3, 1).astype(np.int64) @ _LUMA + 2**15) >> 16
        return luma.astype(np.uint8)[:, None]
    return pixels.repeat(channels, axis=1)
