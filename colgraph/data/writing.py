"""Labeled images as a folder of parquet files, which the ``datasets`` library and :func:`load_images` read."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from colgraph.data.class_masks import VOID
from colgraph.data.labels import import_datasets
from colgraph.data.sets import IGNORED, ImageSet
from colgraph.data.sources import ImageSplits
from colgraph.output import check_new_folder, making_folder, write_text

_CHUNK = 512
_SPLITS = {"train": "train", "val": "validation", "test": "test"}


def write_images(images: ImageSplits, folder: str | os.PathLike[str]) -> Path:
    """Write labeled images to a new folder, whole or not at all.

    A parquet file for each split and each harder test set (``harder-NAME.parquet``), with the columns ``image`` (PNG)
    and ``label``; ``mask`` (PNG, one pixel a patch, 255 is ignored) where there is a class per patch, and ``target``
    (lists) where there is a vector; ``difficulty`` where there is one. ``classes.txt`` names the classes, ``README.md``
    is the card of a data set of the Hub.

    Returns:
        The folder.

    Raises:
        ValueError: if there is something in the folder, or it cannot be written.
    """
    path = check_new_folder("folder", folder)
    sets: dict[str, ImageSet] = {"train": images.train, "validation": images.val, "test": images.test}
    if images.val is images.test:
        del sets["validation"]
    files = {**sets, **{f"harder-{name}": part for name, part in images.harder.items()}}
    with making_folder(path) as place:
        for name, part in files.items():
            _write_table(part, images.classes, place / f"{name}.parquet")
        write_text(place / "classes.txt", "".join(f"{name}\n" for name in images.classes))
        write_text(place / "README.md", _card(images, files))
    return path


def _write_table(part: ImageSet, classes: list[str], path: Path) -> None:
    datasets = import_datasets()
    features: dict[str, Any] = {"image": datasets.Image()}
    columns: dict[str, list[Any]] = {"image": []}
    labels, kept = part.labels.numpy(), part.readable(range(len(part)))
    for start in range(0, len(kept), _CHUNK):
        columns["image"] += [_png(pixels) for pixels in part.batch(kept[start : start + _CHUNK])[0].numpy()]
    labels = labels[kept]
    if labels.ndim == 1:
        features["label"], columns["label"] = datasets.ClassLabel(names=classes), labels.tolist()
    elif labels.dtype.kind == "i" and len(classes) <= VOID:
        features["mask"] = datasets.Image()
        columns["mask"] = [_png(mask[None]) for mask in np.where(labels == IGNORED, VOID, labels).astype(np.uint8)]
    else:
        features["target"], columns["target"] = _lists(labels.dtype.name, labels.ndim - 1), labels.tolist()
    if part.difficulty is not None:
        values = part.difficulty.to(torch.float32)[kept]
        features["difficulty"], columns["difficulty"] = _lists("float32", values.dim() - 1), values.tolist()
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    datasets.disable_progress_bars()
    try:
        table.to_parquet(str(path))
    finally:
        datasets.enable_progress_bars()


def _png(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """An image ``[C, height, width]``, C = 1 or 3, without a loss."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(out, "PNG")
    return {"bytes": out.getvalue(), "path": None}


def _lists(kind: str, depth: int) -> Any:
    datasets = import_datasets()
    return datasets.Value(kind) if depth == 0 else datasets.Sequence(_lists(kind, depth - 1))


def _card(images: ImageSplits, files: dict[str, ImageSet]) -> str:
    lines = ["---", "configs:", "- config_name: default", "  data_files:"]
    for name in files:
        lines += [f"  - split: {name.replace('-', '_')}", f"    path: {name}.parquet"]
    counts = ", ".join(f"{len(part):,} {name}" for name, part in files.items())
    return "\n".join(
        [
            *lines,
            "---",
            "",
            f"# {images.source}",
            "",
            f"Images of {images.image_size} x {images.image_size} pixels ({counts}), written by colgraph from "
            f"`{images.source}`. Classes: {', '.join(images.classes)}.",
            "",
        ]
    )
