"""Arrays that a run goes on with: the same as those that it began with, or what differs."""

from __future__ import annotations

import torch

from colgraph.data import ImageSet, ImageSplits
from colgraph.sheet import Sheet
from colgraph.training.checkpoint import KEY, read_checkpoint, unpack_sheet
from colgraph.training.config import TrainConfig
from colgraph.training.folder import RunFolder
from colgraph.training.images import images_of

_CHUNK = 1024
_BEGIN = "go on with what the run began with, or begin another with another out"


def check_same_arrays(folder: RunFolder, config: TrainConfig, given: ImageSplits) -> None:
    """Compare arrays, pixel by pixel, with those that a run keeps.

    Args:
        folder: of the run.
        config: the settings that it is to go on with.
        given: the arrays, split as they would be for a new run.

    Raises:
        ValueError: naming the first thing that differs.
    """
    before = folder.record().config
    for name in ("image_size", "channels", "split_seed"):
        then, now = getattr(before, name), getattr(config, name)
        if then != now:
            raise ValueError(f"{name}: run {str(folder.path)!r} began with {then}, got {now}: {_BEGIN}")
    kept = images_of(config)
    if kept.classes != given.classes:
        raise ValueError(f"classes: run {str(folder.path)!r} began with {kept.classes}, got {given.classes}: {_BEGIN}")
    parts = {"training": "train", "validation": "val", "test": "test"}
    for what, name in parts.items():
        _check_part(what, getattr(kept, name), getattr(given, name), folder)


def _check_part(what: str, kept: ImageSet, given: ImageSet, folder: RunFolder) -> None:
    run = repr(str(folder.path))
    if len(kept) != len(given):
        raise ValueError(f"run {run} began with {len(kept)} {what} images, got {len(given)}: {_BEGIN}")
    other = torch.nonzero(kept.labels != given.labels).flatten().tolist()
    for start in range(0, len(kept) if not other else 0, _CHUNK):
        rows = range(start, min(start + _CHUNK, len(kept)))
        pixels = [part.batch(rows)[0].flatten(1) for part in (kept, given)]
        other += [start + row for row in torch.nonzero((pixels[0] != pixels[1]).any(1)).flatten().tolist()]
    if other:
        differ = "labels" if bool((kept.labels != given.labels).any()) else "images"
        raise ValueError(
            f"the {what} {differ} are not those that run {run} began with ({len(other)} of {len(kept)} differ, the "
            f"first is number {other[0]} of them): {_BEGIN}"
        )


def check_same_sheet(folder: RunFolder, given: Sheet) -> None:
    """Raise ValueError, naming what differs, for another sheet than that of a run."""
    packed = read_checkpoint(folder.last)[KEY]["sheet"]
    if packed is None:
        raise ValueError(f"sheet: run {str(folder.path)!r} trained a model without one: {_BEGIN}")
    parts = ("edges", "positions or distances", "input columns", "output columns")
    for part, then, now in zip(parts, unpack_sheet(packed).marks, given.marks, strict=True):
        if then != now:
            raise ValueError(f"sheet: that of run {str(folder.path)!r} has other {part}: {_BEGIN}")
