"""Tables of the ``datasets`` library to encoded images: which column is which, and what the labels mean."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from colgraph.data.sets import EncodedImages
from colgraph.extras import optional
from colgraph.hints import did_you_mean

if TYPE_CHECKING:
    from datasets import Dataset

IMAGE_COLUMNS = ("image", "img", "jpg", "png", "picture")
"""What a column of images may be called."""
LABEL_COLUMNS = ("label", "labels", "class", "cls", "target", "fine_label")
"""What a column of labels may be called."""
_CHUNK = 512


@dataclass(frozen=True)
class EncodedSplits:
    """Splits ("train" and, where there are such, "val", "test" and "harder:NAME") of one labelling.

    Attributes:
        splits: encoded images by the name of their split.
        classes: the name of each class.
        notes: what a user should know about how the splits were read.
    """

    splits: dict[str, EncodedImages]
    classes: list[str]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Part:
    """A table with an image and a label column: a split, or some of a split's files.

    Attributes:
        split: "train", "val", "test" or "harder:NAME".
        table: of the ``datasets`` library.
        where: what errors call it.
    """

    split: str
    table: Dataset
    where: str


Join: TypeAlias = Callable[..., EncodedSplits]
"""Makes one labelling of parts, as :func:`join_parts` does."""


def import_datasets() -> Any:
    """The ``datasets`` package, with its progress bars and chatter off.

    Raises:
        ImportError: if it is missing, with the line that installs it.
    """
    datasets = optional("reading images needs", "datasets", "train")
    datasets.logging.set_verbosity_error()
    return datasets


@dataclass(frozen=True)
class _Labels:
    """The labels of a part as it has them.

    Attributes:
        column: their column.
        values: one a row.
        names: what the values count, where the table says so.
        where: what errors call the part.
    """

    column: str
    values: list[Any]
    names: list[str] | None
    where: str

    @property
    def are_numbers(self) -> bool:
        """Whether they are numbers that nobody gave names to."""
        return self.names is None and not any(isinstance(value, str) for value in self.values)


def join_parts(parts: Sequence[Part], source: str, notes: Sequence[str] = ()) -> EncodedSplits:
    """Tables with an image and a label column to encoded images, joined by the names of their classes.

    Each part may list its classes in an order of its own, or only some of them.

    Args:
        parts: at least one of the split "train"; those of a split are put one after the other.
        source: what errors call the data.
        notes: what is to be said besides how the parts were joined.

    Raises:
        ValueError: if a column is missing, a label is missing or out of range, class names contradict each other, or
            only some parts have names. A test split without any label (as competitions publish them) is left out, with
            a note.
    """
    columns = _columns(parts)
    labels = [_labels(part, column) for part, (_, column) in zip(parts, columns, strict=True)]
    unlabeled = _unlabeled(parts, labels)
    left_out = [f"the test split of {source} has no labels and is left out"] if unlabeled else []
    kept = [i for i, part in enumerate(parts) if not (unlabeled and part.split == "test")]
    _check_kinds([labels[i] for i in kept])
    classes = _classes([labels[i] for i in kept if parts[i].split == "train"], source)
    splits = encoded_splits([(parts[i], columns[i][0], _numbers(labels[i], classes)) for i in kept], source)
    return EncodedSplits(
        splits, classes, [*left_out, *_order_note(labels, classes), *_passed_over(parts, columns), *notes]
    )


def encoded_splits(parts: Sequence[tuple[Part, str, np.ndarray]], source: str) -> dict[str, EncodedImages]:
    """The images of each split, from parts with the name of their image column and with their labels."""
    datasets = import_datasets()
    splits = {}
    for split in dict.fromkeys(part.split for part, _, _ in parts):
        mine = [each for each in parts if each[0].split == split]
        tables = [_pictures(part, image) for part, image, _ in mine]
        table = tables[0] if len(tables) == 1 else datasets.concatenate_datasets(tables)
        labels = np.concatenate([each for _, _, each in mine])
        difficulty = _difficulty([part for part, _, _ in mine], labels)
        splits[split] = EncodedImages(table, np.arange(len(labels)), labels, f"{source} ({split})", difficulty)
    return splits


def _pictures(part: Part, image: str) -> Dataset:
    """The column of images alone, undecoded, as "image".

    The ``datasets`` library would take numbers modulo 256, and two channels for one with alpha.
    """
    datasets = import_datasets()
    table = part.table.with_format(None).select_columns([image]).rename_columns({image: "image"})
    feature, encoded = table.features["image"], datasets.Image(decode=False)
    if isinstance(feature, list) or hasattr(feature, "feature") or hasattr(feature, "shape"):
        cells = [
            _png(cell, f"image {start + i} of {part.where}")
            for start in range(0, len(table), _CHUNK)
            for i, cell in enumerate(table[start : start + _CHUNK]["image"])
        ]
        return datasets.Dataset.from_dict({"image": cells}, features=datasets.Features({"image": encoded}))
    try:
        return table.cast_column("image", encoded)
    except Exception as error:
        raise ValueError(
            f"{part.where}: column {image!r} holds no images but {getattr(feature, 'dtype', feature)}: give encoded "
            "images (their bytes), or paths"
        ) from error


def _png(cell: Any, name: str) -> dict[str, Any] | None:
    """An image ``[height, width]``, or with an axis of 1, 3 or 4 channels, of numbers from 0 to 255, encoded."""
    from PIL import Image

    if cell is None:
        return None
    try:
        array = np.asarray(cell)
    except ValueError as error:
        raise ValueError(f"{name} is an array whose rows are of unequal length") from error
    if array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,), (4,)):
        raise ValueError(f"{name} is an array {list(array.shape)}: give [height, width, 3], or encoded images")
    if array.dtype.kind not in "iu" or not array.size or array.min() < 0 or array.max() > 255:
        found = f" from {array.min():g} to {array.max():g}" if array.size and array.dtype.kind in "iuf" else ""
        raise ValueError(f"{name} holds {array.dtype}{found}: give whole numbers from 0 to 255, or encoded images")
    pixels = array.astype(np.uint8)
    with io.BytesIO() as out:
        Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels).save(out, "PNG")
        return {"bytes": out.getvalue(), "path": None}


def _difficulty(parts: Sequence[Part], labels: np.ndarray) -> np.ndarray | None:
    """The columns "difficulty" of some parts, one after the other, float32: one number a label, or one an image.

    None where a part has none, or something else under that name.
    """
    columns = [part.table.with_format(None)["difficulty"][:] for part in parts if "difficulty" in part.table.features]
    try:
        values = np.asarray([cell for column in columns for cell in column], dtype=np.float32)
    except (TypeError, ValueError):
        return None
    fits = len(columns) == len(parts) and values.shape in (labels.shape[:1], labels.shape[:3])
    return values if fits else None


def _unlabeled(parts: Sequence[Part], labels: Sequence[_Labels]) -> bool:
    """Whether there is a test split, and none of its images has a label."""
    values = [one.values for part, one in zip(parts, labels, strict=True) if part.split == "test"]
    return bool(values) and all(value in (None, -1) for some in values for value in some)


# ---------------------------------------------------------------------- columns


def _columns(parts: Sequence[Part]) -> list[tuple[str, str]]:
    """The names of the image and the label column of each part: the training images' label column if a part has it."""
    first = next(part for part in parts if part.split == "train")
    usual = _pick_columns(first, None)[1]
    return [_pick_columns(part, usual) for part in parts]


def _pick_columns(part: Part, usual: str | None) -> tuple[str, str]:
    datasets = import_datasets()
    features = part.table.features
    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    labels = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    image = _pick_image(list(features), images)
    label = usual if usual in features else _pick_label(list(features), labels)
    if image is None or label is None:
        what = "image" if image is None else "label"
        hint = " (targets per patch are for --task columns)" if label is None and len(images) > 1 else ""
        there = f"it has {', '.join(features) or 'none'}"
        raise ValueError(f"{part.where} has no {what} column: {there}; call it {what!r}{hint}")
    return image, label


def _pick_image(present: list[str], typed: list[str]) -> str | None:
    """The one column of images, else the first with a usual name."""
    if len(typed) == 1:
        return typed[0]
    return next((name for name in IMAGE_COLUMNS if name in (typed or present)), None)


def _pick_label(present: list[str], typed: list[str]) -> str | None:
    """The first with a usual name, those with names of classes before others; else the only one that has them.

    So ``label`` is not passed over for a domain, a sex or a split that has names.
    """
    usual = [name for name in LABEL_COLUMNS if name in present]
    named = [name for name in usual if name in typed]
    return next(iter(named or usual or (typed if len(typed) == 1 else [])), None)


def _passed_over(parts: Sequence[Part], columns: Sequence[tuple[str, str]]) -> list[str]:
    """Notes of columns that are called as labels are, too, and sort the training images in another way."""
    datasets, notes = import_datasets(), []
    for part, (_, label) in zip(parts, columns, strict=True):
        table = part.table.with_format(None)
        for other in LABEL_COLUMNS if part.split == "train" else ():
            is_one = other != label and isinstance(table.features.get(other), (datasets.ClassLabel, datasets.Value))
            if is_one and not is_same_partition(table[label][:], table[other][:]):
                notes.append(f"labels are those of column {label!r}; {other!r} has others, and is passed over")
    return list(dict.fromkeys(notes))


def is_same_partition(some: Sequence[Any], others: Sequence[Any]) -> bool:
    """Whether two lists of labels say the same in other words: equal where the other is, and nowhere else."""
    return len(set(some)) == len(set(others)) == len(set(zip(some, others, strict=True)))


# ---------------------------------------------------------------------- labels


def _labels(part: Part, column: str) -> _Labels:
    feature = part.table.features[column]
    is_named = isinstance(feature, import_datasets().ClassLabel)
    values = part.table.with_format(None)[column][:]
    if isinstance(feature, import_datasets().Value) and feature.dtype.startswith("float"):
        values = _whole_labels(values)
    values = [None if isinstance(value, str) and not value.strip() else value for value in values]
    return _Labels(column, values, list(feature.names) if is_named else None, part.where)


def _whole_labels(values: list[Any]) -> list[Any]:
    """Labels that pandas made floating-point numbers, because some were missing, as the whole numbers that they are."""
    known = [None if value is None or value != value else value for value in values]
    whole = [int(value) for value in known if value is not None and value.is_integer()]
    return whole if len(whole) == len(known) else known


def _check_kinds(labels: Sequence[_Labels]) -> None:
    """Refuse numbers that have no names beside others that have, and numbers of different columns."""
    bare = [one for one in labels if one.are_numbers]
    for one in labels if bare else ():
        # Where the names are 0, 1, 2, ... in this order, a number is its name.
        if one.names is not None and one.names != [str(i) for i in range(len(one.names))]:
            raise ValueError(
                f"{bare[0].where} has numbers for classes where {one.where} has names ({first_few(one.names)}): "
                "they cannot be joined, give both names"
            )
    for one in bare[1:]:
        if one.column != bare[0].column:
            raise ValueError(
                f"labels are numbers in column {one.column!r} of {one.where} and in column {bare[0].column!r} of "
                f"{bare[0].where}: give both columns one name"
            )


def _order_note(labels: Sequence[_Labels], classes: list[str]) -> list[str]:
    other = [one for one in labels if one.names is not None and one.names != classes[: len(one.names)]]
    if not other:
        return []
    return [f"{other[0].where} lists its classes in another order or not all of them: labels are joined by class name"]


def _classes(train: Sequence[_Labels], source: str) -> list[str]:
    """The name of each class of the training images, in the order of the longest list of names, else sorted."""
    for one in train:
        _check_present(one)
    named = [one for one in train if one.names is not None]
    if named:
        longest = max(named, key=lambda one: len(one.names or ()))
        classes = list(longest.names or ())
        for one in named:
            odd = [name for name in one.names or () if name not in classes]
            if odd:
                raise ValueError(
                    f"class names contradict each other: {one.where} has {odd[0]!r}, which {longest.where} "
                    f"({first_few(classes)}) has not"
                )
        return classes
    kinds = {type(value) for one in train for value in one.values}
    if not kinds <= {int, bool} and kinds != {str}:
        raise ValueError(
            f"{source}: column {train[0].column!r} holds {', '.join(sorted(k.__name__ for k in kinds))}; "
            "labels must be whole numbers, texts, or a ClassLabel"
        )
    codes = sorted({value for one in train for value in one.values})
    if not isinstance(codes[0], str) and codes[0] < 0:
        where = next(one for one in train if codes[0] in one.values)
        raise ValueError(f"{where.where}: label {codes[0]} of row {where.values.index(codes[0])} is negative")
    return [str(code) for code in codes]


def _numbers(one: _Labels, classes: list[str]) -> np.ndarray:
    """``[n]`` the place of each label's name among the classes."""
    _check_present(one)
    index = {name: i for i, name in enumerate(classes)}
    if one.names is not None:
        codes = np.asarray(one.values, dtype=np.int64)
        bad = np.flatnonzero((codes < 0) | (codes >= len(one.names)))
        if len(bad):
            raise ValueError(
                f"{one.where}: label {codes[bad[0]]} of row {bad[0]} is outside 0..{len(one.names) - 1} "
                f"({len(one.names)} classes; {len(bad)} such rows)"
            )
        texts = [one.names[code] for code in codes]
    else:
        texts = [str(value) for value in one.values]
    for row, text in enumerate(texts):
        if text not in index:
            hint = did_you_mean(text, classes, "; ")
            raise ValueError(
                f"{one.where}: class {text!r} of row {row} is not among the {len(classes)} trained on "
                f"({first_few(classes)}){hint}"
            )
    return np.asarray([index[text] for text in texts], dtype=np.int64)


def _check_present(one: _Labels) -> None:
    missing = [row for row, value in enumerate(one.values) if value is None]
    if missing:
        raise ValueError(f"{one.where}: row {missing[0]} has no label ({len(missing)} such rows)")
    if not one.values:
        raise ValueError(f"{one.where} is empty: it has no images")


def first_few(names: Sequence[str]) -> str:
    """Names for a message: three, and that there are more."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
