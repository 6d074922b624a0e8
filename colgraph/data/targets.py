"""Tables with a target per patch to encoded images: which column has the targets, and what their numbers mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.data.class_masks import VOID, Grid, read_lists, read_masks
from colgraph.data.labels import IMAGE_COLUMNS, EncodedSplits, Part, encoded_splits, first_few, import_datasets
from colgraph.data.sets import IGNORED
from colgraph.text import read_text

MASK_COLUMNS = ("mask", "masks", "segmentation_mask", "segmentation", "seg", "annotation", "target", "targets")
_LABEL_COLUMNS = ("label", "labels", "label_mask", "semantic_mask")
_CHUNK = 512


def join_targets(
    parts: Sequence[Part], source: str, notes: Sequence[str] = (), *, grid: Grid, names: Sequence[str] | None = None
) -> EncodedSplits:
    """Tables with an image column and targets per patch to encoded images.

    Targets are masks (a second image column), or lists of numbers; see :mod:`colgraph.data.class_masks`.

    Args:
        parts: at least one of the split "train"; those of a split are put one after the other.
        source: what errors call the data.
        notes: what is to be said besides.
        grid: rows and columns of patches.
        names: of the classes, where a list says so.

    Raises:
        ValueError: if a column is missing, targets do not fit their image or the grid, or are classes without a name.
    """
    columns = [_columns(part, grid) for part in parts]
    targets = [_read(part, *found, grid) for part, found in zip(parts, columns, strict=True)]
    named = [_class_names(part.table.features[target]) for part, (_, target) in zip(parts, columns, strict=True)]
    kinds = {one.shape[3:] for one in targets}
    if len(kinds) > 1:
        raise ValueError(f"{source} has {' and '.join(sorted(map(_kind, kinds)))}: all parts must have the same")
    _check_all_named(parts, targets, named, names)
    classes = _classes(parts, targets, named, names, source)
    for i, (part, (image, _)) in enumerate(zip(parts, columns, strict=True)):
        if not targets[i].shape[3:]:
            targets[i] = _by_name(targets[i], named[i], classes, part)
            _check_named(targets[i], classes, part, image)
    images = [image for image, _ in columns]
    splits = encoded_splits(list(zip(parts, images, targets, strict=True)), source)
    for each in splits.values():
        if not (np.isfinite(each.labels) & (each.labels != IGNORED)).any():
            raise ValueError(f"{each.where}: every target is ignored, from that of image {each.name(0)} on")
    learned = splits["train"].labels
    if learned.ndim == 3 and len(found := np.unique(learned[learned != IGNORED])) == 1:
        raise ValueError(
            f"{splits['train'].where}: every target is class {found[0]} or ignored, as {VOID} is: there must be two "
            "classes at least (masks of two have 0 and 1)"
        )
    return EncodedSplits(splits, classes, list(notes))


def listed_names(path: Path) -> list[str] | None:
    """The names in the file ``classes.txt`` of a folder, one a line, from that of class 0 on; None without such a file.

    Raises:
        ValueError: for a name that is there twice, an empty line before another, and a list without any.
    """
    file = path / "classes.txt"
    if not file.is_file():
        return None
    text = read_text(file).rstrip()
    names = [line.strip() for line in text.split("\n")] if text else []
    if "" in names:
        raise ValueError(
            f"{str(file)!r} has nothing in line {names.index('') + 1}, and classes are numbered by lines: name it"
        )
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None or not names:
        raise ValueError(f"{str(file)!r} {'has no names' if twice is None else f'names {twice!r} twice'}")
    return names


# ---------------------------------------------------------------------- columns


def _columns(part: Part, grid: Grid) -> tuple[str, str]:
    """The column of the images, and that of the targets."""
    datasets = import_datasets()
    features = part.table.features
    pictures = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    others = [name for name in pictures if name not in (*MASK_COLUMNS, *_LABEL_COLUMNS)]
    image = next((name for name in IMAGE_COLUMNS if name in others), others[0] if len(others) == 1 else None)
    there = f"it has {', '.join(features) or 'none'}"
    if image is None:
        raise ValueError(f"{part.where} has no image column: {there}; call it 'image'")
    lists = [name for name, feature in features.items() if _is_list(feature) and name != "difficulty"]
    found = [name for name in (*pictures, *lists) if name != image]
    likely = [name for name in found if name in (*MASK_COLUMNS, *_LABEL_COLUMNS)] or found
    if len(likely) > 1:
        raise ValueError(f"{part.where} has targets in {' and in '.join(likely)}: leave one of the columns")
    if not likely:
        raise ValueError(
            f"{part.where} has no target per patch for a grid of {grid[0]} x {grid[1]}: {there}; give a column 'mask' "
            "of images, or lists of numbers"
        )
    return image, likely[0]


def _is_list(feature: Any) -> bool:
    return isinstance(feature, list) or hasattr(feature, "feature") or hasattr(feature, "shape")


def _class_names(feature: Any) -> list[str] | None:
    """The names that a list of class labels carries, at any depth."""
    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
    if isinstance(inner, import_datasets().ClassLabel):
        return list(inner.names)
    return None if inner is None else _class_names(inner)


def _read(part: Part, image: str, target: str, grid: Grid) -> NDArray[Any]:
    datasets = import_datasets()
    table = part.table.with_format(None).select_columns([image, target])
    pictures = [name for name in (image, target) if isinstance(table.features[name], datasets.Image)]
    for name in pictures:
        table = table.cast_column(name, datasets.Image(decode=False))
    found = []
    for start in range(0, len(table), _CHUNK):
        rows = table[start : start + _CHUNK]

        def called(index: int, start: int = start, rows: Any = rows) -> str:
            return _name(rows[image][index], start + index, part)

        if target in pictures:
            masks, images = (
                [_payload(cell, called(i)) for i, cell in enumerate(rows[name])] for name in (target, image)
            )
            found.append(read_masks(masks, images, grid, called))
        else:
            found.append(read_lists(rows[target], grid, called))
    if not found:
        raise ValueError(f"{part.where} is empty: it has no images")
    odd = next((one for one in found if one.shape[1:] != found[0].shape[1:]), None)
    if odd is not None:
        raise ValueError(f"{part.where} has {_kind(found[0].shape[3:])} and {_kind(odd.shape[3:])}")
    return np.concatenate(found)


def _payload(cell: dict[str, Any] | None, name: str) -> bytes | str:
    if not cell or (cell.get("bytes") is None and not cell.get("path")):
        raise ValueError(f"image {name} or its mask is missing")
    data = cell.get("bytes")
    return data if data is not None else str(cell["path"])


def _name(cell: dict[str, Any] | None, row: int, part: Part) -> str:
    path = (cell or {}).get("path")
    return repr(path) if path else f"{row} of {part.where}"


def _kind(vector: tuple[int, ...]) -> str:
    return f"vectors of {vector[0]} numbers" if vector else "classes"


# ---------------------------------------------------------------------- classes


def _classes(
    parts: Sequence[Part],
    targets: Sequence[NDArray[Any]],
    named: Sequence[list[str] | None],
    listed: Sequence[str] | None,
    source: str,
) -> list[str]:
    """The names of the classes: listed, those that the training images' column carries, or their numbers."""
    train = [i for i, part in enumerate(parts) if part.split == "train"]
    if targets[train[0]].shape[3:]:
        count = targets[train[0]].shape[3]
        if listed is not None and len(listed) != count:
            raise ValueError(f"{source}: classes.txt has {len(listed)} names for vectors of {count} numbers")
        return list(listed) if listed is not None else [str(i) for i in range(count)]
    carried = next((named[i] for i in train if named[i] is not None), None)
    if listed is not None and carried is not None and list(listed) != carried:
        raise ValueError(f"{source}: classes.txt and the column of targets name the classes in different ways")
    if listed is not None or carried is not None:
        return list(listed if listed is not None else carried or ())
    most = max(int(targets[i].max()) for i in train)
    return [str(i) for i in range(max(most, 0) + 1)]


def _check_all_named(
    parts: Sequence[Part],
    targets: Sequence[NDArray[Any]],
    named: Sequence[list[str] | None],
    listed: Sequence[str] | None,
) -> None:
    """Refuse numbers that nobody names beside lists that carry names, unless those names are the numbers."""
    carried = next((i for i, names in enumerate(named) if names is not None), None)
    if carried is None or listed is not None:
        return
    names = named[carried] or []
    for part, target, mine in zip(parts, targets, named, strict=True):
        if mine is None and not target.shape[3:] and names != [str(i) for i in range(len(names))]:
            raise ValueError(
                f"{part.where} has numbers for classes where {parts[carried].where} has names ({first_few(names)}): "
                "give both names, or name them in classes.txt"
            )


def _by_name(target: NDArray[np.int64], names: list[str] | None, classes: list[str], part: Part) -> NDArray[np.int64]:
    """Targets by the places of their names among the classes."""
    if names is None or names == classes:
        return target
    odd = [name for name in names if name not in classes]
    if odd:
        raise ValueError(f"{part.where}: class {odd[0]!r} is not among those trained on ({', '.join(classes)})")
    place = np.array([*(classes.index(name) for name in names)], dtype=np.int64)
    inside = (target >= 0) & (target < len(names))
    return np.where(inside, place[np.clip(target, 0, len(names) - 1)], np.where(target < 0, target, len(classes)))


def _check_named(target: NDArray[np.int64], classes: list[str], part: Part, image: str) -> None:
    bad = ((target < 0) & (target != IGNORED)) | (target >= len(classes)) | (target >= VOID)
    if bad.any():
        index, row, column = (int(each) for each in np.argwhere(bad)[0])
        datasets = import_datasets()
        table = part.table.with_format(None).select_columns([image]).cast_column(image, datasets.Image(decode=False))
        count = min(len(classes), VOID)
        raise ValueError(
            f"the targets of image {_name(table[index][image], index, part)}: class {target[index, row, column]} of "
            f"patch {row}, {column} is outside 0..{count - 1} ({count} classes; {VOID} is ignored)"
        )
