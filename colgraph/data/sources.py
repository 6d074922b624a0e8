"""Where images come from: a name, a folder, parquet files or the Hub, to labeled splits ready for training."""

from __future__ import annotations

import copy
import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from colgraph.data.augment import BatchTransform
from colgraph.data.digits import load_digits
from colgraph.data.folders import load_folder
from colgraph.data.hub import HUB_ID, load_hub
from colgraph.data.labels import EncodedSplits, Join, join_parts
from colgraph.data.made_images import load_made
from colgraph.data.parquet import is_saved, load_parquet, load_saved, parquet_files
from colgraph.data.puzzles import PUZZLES, is_puzzle, puzzle_of
from colgraph.data.sets import IGNORED, EncodedImages, ImageSet, LazyImages, MemoryImages, SkippedImages, hold_out
from colgraph.data.splits import HARDER
from colgraph.data.targets import join_targets, listed_names
from colgraph.hints import did_you_mean

_HELD_OUT = 0.2
_STATISTICS_IMAGES = 2000
MADE = ("digits", *PUZZLES)
"""Images that :func:`load_images` makes or finds installed, by name, without a download."""


@dataclass(frozen=True)
class ImageSplits:
    """Labeled images, split, and what is needed to turn them into a model's input.

    Attributes:
        train: the images to learn from.
        val: the images whose accuracy is followed during training.
        test: the images of the final accuracy; the same set as ``val`` where the source has only one held-out split.
        classes: the name of each class, or of each number of a vector per patch.
        channels: 1 or 3.
        image_size: side of the images in pixels.
        mean: per channel over the training images, pixels in [0, 1].
        std: per channel.
        source: what was asked for.
        notes: what a user should know about how the splits were made.
        skipped: images that could not be read.
        harder: test sets that are harder than what was trained on, of the same image size, by name.
    """

    train: ImageSet
    val: ImageSet
    test: ImageSet
    classes: list[str]
    channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str
    notes: list[str] = field(default_factory=list)
    skipped: SkippedImages = field(default_factory=SkippedImages)
    harder: dict[str, ImageSet] = field(default_factory=dict)

    def transform(self, augmentation: str = "none", seed: int = 0, **options: float) -> BatchTransform:
        """The batch transform that belongs to these images."""
        return BatchTransform(self.mean, self.std, augmentation, seed, **options)

    def with_classes(self, classes: Sequence[str]) -> ImageSplits:
        """The same images with their classes in another order, joined by name: that of a model's answers, say.

        Raises:
            ValueError: if these are not the classes of the images.
        """
        wanted = list(classes)
        if wanted == self.classes:
            return self
        if sorted(wanted) != sorted(self.classes):
            odd = [name for name in self.classes if name not in wanted] or ["nothing"]
            lacking = [name for name in wanted if name not in self.classes] or ["nothing"]
            raise ValueError(
                f"{self.source!r} has other classes ({len(self.classes)}) than were trained on ({len(wanted)}): "
                f"{odd[0]!r} is new, {lacking[0]!r} is missing"
            )
        parts = {id(part): copy.copy(part) for part in (self.train, self.val, self.test, *self.harder.values())}
        for part in parts.values():
            part.labels = self._relabeled(part.labels, wanted)
        train, val, test = (parts[id(part)] for part in (self.train, self.val, self.test))
        harder = {name: parts[id(part)] for name, part in self.harder.items()}
        return replace(self, train=train, val=val, test=test, harder=harder, classes=wanted)

    def _relabeled(self, labels: torch.Tensor, wanted: list[str]) -> torch.Tensor:
        if labels.is_floating_point():
            return labels[..., [self.classes.index(name) for name in wanted]]
        place = torch.tensor([wanted.index(name) for name in self.classes])
        return torch.where(labels == IGNORED, labels, place[labels.clamp(min=0)])


def load_images(
    source: str | os.PathLike[str],
    *,
    image_size: int | None = None,
    channels: int = 3,
    memory_gb: float = 2.0,
    split_seed: int = 0,
    train_share: float = 1.0,
    threads: int | None = None,
    max_corrupt: int = 0,
    grid: tuple[int, int] | None = None,
) -> ImageSplits:
    """Load labeled images.

    Args:
        source: "digits" (scikit-learn's 1,797 handwritten digits, no network), made data with or without options
            ("mazes", "pathfinder:length=9"; see :mod:`colgraph.data.puzzles`), a folder of class subfolders (below
            ``train``, ``val`` and ``test`` where there are such), a parquet file or a folder of them, or the id of a
            data set on the Hugging Face Hub (``owner/name``). A path that exists wins over a Hub id.
        image_size: side S of the squares that come out, in pixels; only made data have a size of their own.
        channels: 1 or 3; images are converted.
        memory_gb: all images are decoded up front if they fit in this many gigabytes, as bytes; otherwise as they are
            needed.
        split_seed: chooses the held-out fifth where the source has no held-out split, and the share to learn from.
        train_share: of the training images, how many to learn from, above 0 and at most 1: of each class in
            proportion, and at least one. A smaller share is part of a larger one, but for an image of a class that
            rounding gives one more; what is held out stays the same.
        threads: for decoding; the number of cores by default.
        max_corrupt: up to so many images that cannot be read are left out, with a note that names each.
        grid: rows and columns of patches, for targets per patch: masks and lists of numbers
            (:mod:`colgraph.data.class_masks`). Without it, labels are classes of images. Mazes have targets per patch
            anyway.

    Returns:
        The splits. Where there is no held-out split, a stratified fifth of the training images is held out.

    Raises:
        ValueError: for a source that does not exist, cannot be reached or read, or has no usable classes.
        ImportError: if a package is missing, with the line that installs it.
    """
    channels = _whole("channels", channels, 1)
    image_size = None if image_size is None else _whole("image_size", image_size, 1)
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 (grey) or 3 (RGB), got {channels}")
    split_seed, max_corrupt = _whole("split_seed", split_seed, 0), _whole("max_corrupt", max_corrupt, 0)
    threads = _whole("threads", threads or os.cpu_count() or 1, 1)
    name = os.fspath(source)
    grid = None if grid is None else _grid(grid)
    if not 0 < train_share <= 1:
        raise ValueError(f"train_share must be above 0 and at most 1, got {train_share!r}")
    if is_puzzle(name):
        if train_share < 1:
            raise ValueError(f"train_share {train_share:g}: {name!r} is made: say how many with {name}:train=N")
        made = load_made(name, image_size, channels, grid, memory_gb)
        return _splits(name, made.sets, made.classes, channels, made.image_size, made.notes)
    if image_size is None:
        raise ValueError(f"image_size: say how many pixels the images of {name!r} should have")
    if name == "digits":
        _check_per_patch(name, grid)
        whole, classes = load_digits(image_size, channels)
        kept, held = hold_out(whole.labels.numpy(), _HELD_OUT, split_seed)
        some, notes = _share_of(whole.labels.numpy()[kept], train_share, split_seed)
        sets: dict[str, ImageSet] = {"train": whole.subset(kept[some]), "test": whole.subset(held)}
        return _splits(name, sets, classes, channels, image_size, notes)
    encoded = _encoded(name, grid)
    notes = list(encoded.notes)
    if not {"val", "test"} & set(encoded.splits):
        kept, held = hold_out(encoded.splits["train"].labels, _HELD_OUT, split_seed)
        whole_split = encoded.splits["train"]
        encoded.splits.update(train=whole_split.subset(kept), test=whole_split.subset(held))
        notes.append(f"{name} has no held-out split: {len(held)} of {len(held) + len(kept)} images are held out")
    some, more = _share_of(encoded.splits["train"].labels, train_share, split_seed)
    if more:
        encoded.splits["train"] = encoded.splits["train"].subset(some)
        notes += more
    _check_classes(name, encoded)
    skipped = SkippedImages(max_corrupt)
    sets = _decode(encoded.splits, image_size, channels, memory_gb, threads, skipped)
    notes += _seen_in_training(name, sets)
    return replace(_splits(name, sets, encoded.classes, channels, image_size, notes), skipped=skipped)


def _share_of(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, list[str]]:
    """Which of the training images to learn from, and what to say of it."""
    if share == 1:
        return np.arange(len(labels)), []
    some = hold_out(labels, 1 - share, seed)[0]
    return some, [f"{len(some):,} of {len(labels):,} training images are learned from (train_share {share:g})"]


def made_size(source: str | os.PathLike[str]) -> int | None:
    """The side in pixels that made data have unless another is asked for; None for what has no size of its own.

    Raises:
        ValueError: for options that made data do not have.
    """
    name = os.fspath(source)
    return puzzle_of(name).side if is_puzzle(name) else None


def _whole(name: str, value: Any, least: int) -> int:
    """A whole number of any library, numpy's and torch's too."""
    try:
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return number


def _grid(grid: Sequence[int]) -> tuple[int, int]:
    if isinstance(grid, str) or not hasattr(grid, "__len__") or len(grid) != len(("rows", "columns")):
        raise ValueError(f"grid must be (rows, columns) of patches, got {grid!r}")
    return _whole("grid", grid[0], 1), _whole("grid", grid[1], 1)


def _check_per_patch(name: str, grid: tuple[int, int] | None) -> None:
    if grid is not None:
        raise ValueError(
            f"{name!r} has a label per image, none per patch: give mazes, or parquet files with image and mask columns"
        )


def _encoded(name: str, grid: tuple[int, int] | None) -> EncodedSplits:
    path = Path(name).expanduser()
    join: Join = join_parts
    if grid is not None:
        join = partial(join_targets, grid=grid, names=listed_names(path))
    if path.is_dir():
        if is_saved(path):
            return load_saved(path, join)
        if parquet_files(path):
            return load_parquet(path, join)
        _check_per_patch(name, grid)
        return load_folder(path)
    if path.is_file():
        if path.suffix == ".parquet":
            return load_parquet(path, join)
        raise ValueError(f"{name!r} is a file but not .parquet: give a folder of class subfolders, or parquet files")
    if _looks_like_path(name):
        raise ValueError(f"no file or folder {name!r}: give a folder of class subfolders, a .parquet file, or 'digits'")
    if not HUB_ID.fullmatch(name):
        hint = did_you_mean(name.lower().partition(":")[0], MADE, "; ")
        raise ValueError(
            f"unknown data {name!r}: expected {', '.join(map(repr, MADE))}, a folder, a .parquet file, or a Hub id "
            f"like owner/name{hint}"
        )
    return load_hub(name, join)


def _looks_like_path(name: str) -> bool:
    path = Path(name)
    return (
        name.startswith((".", "~", os.sep))
        or name.endswith((os.sep, ".parquet", ".zip", ".tar", ".gz"))
        or name.count("/") > 1
        or "\\" in name
        or (len(path.parts) > 1 and Path(path.parts[0]).is_dir())
    )


def _check_classes(name: str, encoded: EncodedSplits) -> None:
    labels = encoded.splits["train"].labels
    if labels.dtype.kind == "f":
        return
    present = np.unique(labels[labels != IGNORED])
    if len(encoded.classes) < 2 or len(present) < 2:
        only = encoded.classes[int(present[0])] if len(present) else "none"
        raise ValueError(f"{name!r} has one class only ({only!r}): a classifier needs at least two")


def _decode(
    splits: dict[str, EncodedImages],
    size: int,
    channels: int,
    memory_gb: float,
    threads: int,
    skipped: SkippedImages,
) -> dict[str, ImageSet]:
    total = sum(len(split.labels) for split in splits.values())
    if total * channels * size * size <= memory_gb * 1e9:
        return {name: split.decode_all(size, channels, threads, skipped) for name, split in splits.items()}
    readable = {name: split.with_headers(threads, skipped) for name, split in splits.items()}
    return {name: LazyImages(split, size, channels, skipped) for name, split in readable.items()}


def _seen_in_training(name: str, sets: dict[str, ImageSet]) -> list[str]:
    """A line for each held-out split that shares images with the training images, pixel by pixel; of sets in memory."""
    train = sets["train"]
    if not isinstance(train, MemoryImages):
        return []
    known = {hash(image.tobytes()) for image in train.images.numpy()}
    notes = []
    for split, part in sets.items():
        if split != "train" and isinstance(part, MemoryImages):
            count = sum(hash(image.tobytes()) in known for image in part.images.numpy())
            if count:
                notes.append(f"{count} of {len(part)} {split} images of {name} are among its training images, too")
    return notes


def _splits(
    name: str, sets: dict[str, ImageSet], classes: Sequence[str], channels: int, image_size: int, notes: list[str]
) -> ImageSplits:
    held = sets.get("test", sets.get("val"))
    if len(sets["train"]) == 0:
        raise ValueError(f"{name!r} has no training image that can be read")
    if held is None or len(held) == 0:
        raise ValueError(f"{name!r} leaves no image to test on: {len(sets['train'])} images are too few")
    mean, std = _statistics(sets["train"])
    return ImageSplits(
        train=sets["train"],
        val=sets.get("val", held),
        test=held,
        classes=list(classes),
        channels=channels,
        image_size=image_size,
        mean=mean,
        std=std,
        source=name,
        notes=notes,
        harder={split.removeprefix(HARDER): part for split, part in sets.items() if split.startswith(HARDER)},
    )


def _statistics(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel over (evenly spaced) training images, pixels in [0, 1]."""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), _STATISTICS_IMAGES)).astype(np.int64))
    pixels = images.batch(chosen.tolist())[0].to(torch.float64) / 255
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3), correction=0)
    # One grey level is the least contrast 8 bits can show; it keeps constant images from dividing by zero.
    return tuple(mean.tolist()), tuple(std.clamp(min=1 / 255).tolist())
