"""Targets per patch of a user's own data: masks that are images, and lists of numbers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.data.decode import UnreadableImageError, opened, stored_as, zero_is_white
from colgraph.data.sets import IGNORED
from colgraph.hints import in_one_line

VOID = 255
"""What a mask says where there is no class, as in Pascal VOC."""

Grid = tuple[int, int]

# How class numbers are stored, by Pillow's names, and what it multiplies those of few bits by.
_SCALES = {"L;2": 85, "L;4": 17}
_STORED = ("1", "L", "L;2", "L;4", "P", "P;1", "P;2", "P;4", "I;16", "I;16B", "I;16N", "I;16L")
_FORMATS = ("PNG", "TIFF")
_ORIENTATION = 274
_LAST_UPRIGHT = 4  # of the values of that tag; those above exchange rows and columns


def read_masks(
    masks: Sequence[bytes | str], images: Sequence[bytes | str], grid: Grid, name: Callable[[int], str]
) -> NDArray[np.int64]:
    """The class of each patch, ``[n, rows, cols]``, from masks of one value per patch or per pixel.

    Args:
        masks: the bytes or the path of each mask.
        images: those of the image it belongs to.
        grid: rows and columns of patches.
        name: what errors call an image, given its number.

    Raises:
        ValueError: naming the image whose mask cannot be read or does not fit.
    """

    def one(index: int) -> NDArray[np.int64]:
        try:
            return _patches(masks[index], images[index], grid)
        except UnreadableImageError as error:
            raise ValueError(f"the mask of image {name(index)}: {error}") from error

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = list(pool.map(one, range(len(masks))))
    return np.stack(found) if found else np.zeros((0, *grid), dtype=np.int64)


def _patches(mask: bytes | str, image: bytes | str, grid: Grid) -> NDArray[np.int64]:
    try:
        size, stored, is_turned = _sizes(image)
    except UnreadableImageError as error:
        raise UnreadableImageError(f"the image itself cannot be read: {error}") from error
    numbers = class_numbers(mask)
    if numbers.shape == (size[1], size[0]):
        # As many pixels as the image is shown with; turned as it is shown, or as it is stored?
        if stored == size and is_turned:
            raise UnreadableImageError("the image is turned by its orientation tag, save it upright")
        return patch_classes(numbers, grid)
    if numbers.shape == grid:
        return np.where(numbers == VOID, IGNORED, numbers)
    rows, columns = numbers.shape
    raise UnreadableImageError(
        f"it has {columns} x {rows} pixels and must have {size[0]} x {size[1]} as the image or "
        f"{grid[1]} x {grid[0]}, one a patch"
    )


def class_numbers(mask: bytes | str) -> NDArray[np.int64]:
    """The class numbers ``[height, width]`` of a mask: grey levels as the file has them, or the indices of a palette.

    Raises:
        UnreadableImageError: for colors, formats that change values, and what cannot be read.
    """
    with opened(mask) as picture:
        stored, form, mode = stored_as(picture), picture.format, picture.mode
        if form not in _FORMATS:
            raise ValueError(f"{form} does not keep class numbers as they are, save it as PNG")
        if stored not in _STORED and not (form == "PNG" and mode == "I"):
            raise ValueError(f"its pixels are {mode} ({stored}), class numbers are grey levels or those of a palette")
        if zero_is_white(picture):
            raise ValueError("its zero is white, save it as PNG")
        if picture.getexif().get(_ORIENTATION, 1) != 1:
            raise ValueError("it is turned by its orientation tag, save it upright")
        return np.asarray(picture).astype(np.int64) // _SCALES.get(stored, 1)


def _sizes(image: bytes | str) -> tuple[tuple[int, int], tuple[int, int], bool]:
    """Width and height of an image as it is shown, and as it is stored; and whether it is turned, or mirrored."""
    with opened(image) as picture:
        width, height = picture.size
        orientation = picture.getexif().get(_ORIENTATION, 1)
        shown = (height, width) if orientation > _LAST_UPRIGHT else (width, height)
        return shown, (width, height), orientation != 1


def patch_classes(numbers: NDArray[np.int64], grid: Grid) -> NDArray[np.int64]:
    """The most frequent class of each patch, ``[rows, cols]``: the lowest of several, -100 where all are ignored.

    The patches are those of the square in the middle, which images are cropped to. A pixel belongs to the patch that
    its center lies in.

    Args:
        numbers: ``[height, width]`` class of each pixel; 255 is ignored.
        grid: rows and columns.
    """
    height, width = numbers.shape
    side = min(height, width)
    # In half pixels, so that the center of a pixel is a whole number.
    down = (2 * np.arange(height) + 1 - (height - side)) * grid[0] // (2 * side)
    right = (2 * np.arange(width) + 1 - (width - side)) * grid[1] // (2 * side)
    row, column = np.meshgrid(down, right, indexing="ij")
    counts_here = (row >= 0) & (row < grid[0]) & (column >= 0) & (column < grid[1]) & (numbers != VOID)
    found = np.full(grid[0] * grid[1], IGNORED, dtype=np.int64)
    if not counts_here.any():
        return found.reshape(grid)
    patch, classes = (row * grid[1] + column)[counts_here], numbers[counts_here]
    known, number = np.unique(classes, return_inverse=True)
    votes = np.bincount(patch * len(known) + number, minlength=len(found) * len(known)).reshape(len(found), len(known))
    found[votes.any(1)] = known[votes.argmax(1)][votes.any(1)]
    return found.reshape(grid)


# ---------------------------------------------------------------------- lists of numbers


def read_lists(cells: Iterable[Any], grid: Grid, name: Callable[[int], str]) -> NDArray[Any]:
    """Targets per patch from lists: ``[n, rows, cols]`` int64 classes, or ``[n, rows, cols, K]`` float32 vectors.

    Args:
        cells: of each image ``[rows * cols]`` or ``[rows, cols]`` class numbers, or ``[rows, cols, K]`` numbers. 255,
            -100 and nan are ignored classes; a nan in a vector is for the loss to ignore.
        grid: rows and columns of patches.
        name: what errors call an image, given its number.

    Raises:
        ValueError: naming the image whose targets do not fit.
    """
    found = []
    for index, cell in enumerate(cells):
        try:
            found.append(_targets(cell, grid))
        except ValueError as error:
            raise ValueError(f"the targets of image {name(index)}: {error}") from error
        if found[-1].shape != found[0].shape:
            raise ValueError(
                f"the targets of image {name(index)} have shape {list(found[-1].shape)}, those before "
                f"{list(found[0].shape)}"
            )
    return np.stack(found)


def _targets(cell: Any, grid: Grid) -> NDArray[Any]:
    try:
        # None is what parquet makes of a missing number.
        array = np.asarray(cell, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"they must be numbers in rows of equal length ({in_one_line(error)})") from error
    if array.ndim == 3 and array.shape[:2] == grid:
        size = np.abs(array)
        if (size > np.finfo(np.float32).max).any():
            raise ValueError(f"numbers must be finite in float32, or nan to be ignored, got {np.nanmax(size):g}")
        return array.astype(np.float32)
    if array.shape not in (grid, (grid[0] * grid[1],)):
        rows, columns = grid
        raise ValueError(
            f"expected [{rows * columns}] or [{rows}, {columns}] class numbers or [{rows}, {columns}, K] numbers, got "
            f"{list(array.shape)}"
        )
    known = array[~np.isnan(array)]
    if (known != np.floor(known)).any() or np.isinf(known).any():
        odd = known[(known != np.floor(known)) | np.isinf(known)][0]
        raise ValueError(f"class numbers are whole, got {odd:g}; vectors have shape [{grid[0]}, {grid[1]}, K]")
    return np.where(np.isnan(array) | (array == VOID), IGNORED, array).astype(np.int64).reshape(grid)
