"""Tables of the ``datasets`` library to encoded images: which column is which, and what the labels mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from colgraph.data.sets import EncodedImages

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["SPLIT_NAMES", "EncodedSplits", "from_tables", "import_datasets", "split_of"]

SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_IMAGE_COLUMNS = ("image", "img", "jpg", "png", "picture")
_LABEL_COLUMNS = ("label", "labels", "class", "cls", "target", "fine_label")


@dataclass(frozen=True)
class EncodedSplits:
    """Splits ("train" and, where there are such, "val" and "test") of one labelling.

    Attributes:
        splits: encoded images by the name of their split.
        classes: the name of each class.
        notes: what a user should know about how the splits were read.
    """

    splits: dict[str, EncodedImages]
    classes: list[str]
    notes: list[str] = field(default_factory=list)


def split_of(name: str) -> str | None:
    """The split that a folder, file or Hub split called ``name`` holds, or None."""
    for split, names in SPLIT_NAMES.items():
        if name.lower() in names:
            return split
    return None


def import_datasets() -> Any:
    """The ``datasets`` package, with its progress bars and chatter off.

    Raises:
        ImportError: if it is missing, with the line that installs it.
    """
    try:
        import datasets
    except ImportError as error:
        raise ImportError("reading images needs the package datasets: pip install 'colgraph[train]'") from error
    datasets.logging.set_verbosity_error()
    return datasets


def from_tables(tables: dict[str, Dataset], source: str) -> EncodedSplits:
    """Tables with an image and a label column, by split, to encoded images.

    Args:
        tables: by split: "train" and, where there are such, "val" and "test".
        source: what errors call the data.

    Raises:
        ValueError: if a column is missing or a label is missing or out of range. A test split without any label (as
            competitions publish them) is left out, with a note.
    """
    datasets = import_datasets()
    columns = {split: _columns(table, f"{source} ({split})") for split, table in tables.items()}
    label_feature = tables["train"].features[columns["train"][1]]
    notes: list[str] = []
    if isinstance(label_feature, datasets.ClassLabel):
        classes: list[str] = list(label_feature.names)
        code = None
    else:
        code = _codes(tables["train"], columns["train"][1], source)
        classes = [str(value) for value in code]
    splits = {}
    for split, table in tables.items():
        image, label = columns[split]
        values = table.with_format(None)[label][:]
        if split == "test" and all(value in (None, -1) for value in values):
            notes.append(f"the test split of {source} has no labels and is left out")
            continue
        labels = _labels(values, code, len(classes), f"{source} ({split})")
        pictures = table.with_format(None).select_columns([image]).cast_column(image, datasets.Image(decode=False))
        splits[split] = EncodedImages(pictures, image, np.arange(len(labels)), labels, f"{source} ({split})")
    return EncodedSplits(splits, classes, notes)


def _columns(table: Dataset, where: str) -> tuple[str, str]:
    """The names of the image and the label column."""
    datasets = import_datasets()
    features = table.features
    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    labels = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    image = _pick(_IMAGE_COLUMNS, list(features), images)
    label = _pick(_LABEL_COLUMNS, list(features), labels)
    if image is None or label is None:
        what = "image" if image is None else "label"
        raise ValueError(f"{where} has no {what} column: it has {', '.join(features) or 'none'}; call it {what!r}")
    return image, label


def _pick(usual: Sequence[str], present: list[str], typed: list[str]) -> str | None:
    """The one column of the right type, else the first with a usual name."""
    if len(typed) == 1:
        return typed[0]
    return next((name for name in usual if name in (typed or present)), None)


def _codes(table: Dataset, column: str, source: str) -> list[Any]:
    """The distinct labels of a column without class names, in order: whole numbers or texts."""
    values = table.with_format(None)[column][:]
    _check_present(values, source)
    kinds = {type(value) for value in values}
    if not kinds <= {int, bool} and kinds != {str}:
        raise ValueError(
            f"{source}: column {column!r} holds {', '.join(sorted(k.__name__ for k in kinds))}; "
            "labels must be whole numbers, texts, or a ClassLabel"
        )
    return sorted(set(values))


def _labels(values: list[Any], code: list[Any] | None, num_classes: int, where: str) -> np.ndarray:
    """Labels as 0..K-1."""
    _check_present(values, where)
    if code is None:
        labels = np.asarray(values, dtype=np.int64)
        bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
        if len(bad):
            raise ValueError(
                f"{where}: label {labels[bad[0]]} of row {bad[0]} is outside 0..{num_classes - 1} "
                f"({num_classes} classes; {len(bad)} such rows)"
            )
        return labels
    index = {value: i for i, value in enumerate(code)}
    for row, value in enumerate(values):
        if value not in index or (isinstance(value, int) and value < 0):
            why = "is negative" if value in index else "does not occur in the training split"
            raise ValueError(f"{where}: label {value!r} of row {row} {why}")
    return np.asarray([index[value] for value in values], dtype=np.int64)


def _check_present(values: list[Any], where: str) -> None:
    missing = [row for row, value in enumerate(values) if value is None]
    if missing:
        raise ValueError(f"{where}: row {missing[0]} has no label ({len(missing)} such rows)")
    if not values:
        raise ValueError(f"{where} is empty: it has no images")
