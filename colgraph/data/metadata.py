"""Lists of images with their labels, beside the images: ``metadata.csv`` and ``metadata.jsonl``."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colgraph.data.labels import LABEL_COLUMNS, is_same_partition
from colgraph.data.splits import split_of
from colgraph.text import read_table, read_text

METADATA_NAMES = ("metadata.csv", "metadata.tsv", "metadata.jsonl")
_FILE_COLUMNS = ("file_name", "filename", "file", "path")


@dataclass(frozen=True)
class Listed:
    """What a list says of an image.

    Attributes:
        label: its class.
        split: "train", "val" or "test"; None where the list has no such column.
        where: the list.
    """

    label: str
    split: str | None
    where: Path


def read_metadata(files: Sequence[Path]) -> dict[Path, Listed]:
    """What lists of images say, by the path of each image; columns ``file_name`` and ``label``, and perhaps ``split``.

    File names are relative to the list's folder. A list without a column of labels says nothing.

    Raises:
        ValueError: if a list cannot be read, names an image that is not there or twice, lacks a label, or has two
            columns of labels that sort the images in different ways.
    """
    found: dict[Path, Listed] = {}
    for file in files:
        rows = _rows(file)
        columns = _columns(file, rows)
        names = [columns[name] for name in _FILE_COLUMNS if name in columns]
        labels = [columns[name] for name in LABEL_COLUMNS if name in columns]
        if not names or not labels:
            continue
        for other in labels[1:]:
            mine, theirs = ([_text(row.get(name)) for row in rows] for name in (labels[0], other))
            if not is_same_partition(mine, theirs):
                raise ValueError(f"{str(file)!r} has labels in {labels[0]!r} and others in {other!r}: leave one")
        for row in rows:
            image = file.parent / os.path.normpath(str(row.get(names[0]) or "").replace("\\", "/"))
            if not image.is_file():
                raise ValueError(f"{str(file)!r} lists {row.get(names[0])!r}, which is not there")
            label = _text(row.get(labels[0]))
            if isinstance(row.get(labels[0]), (list, dict)):
                raise ValueError(f"{str(file)!r}: the label of {row[names[0]]!r} is {row[labels[0]]!r}: give one class")
            if not label:
                raise ValueError(f"{str(file)!r} gives no label for {row[names[0]]!r}")
            if image in found:
                raise ValueError(f"{str(file)!r} lists {row[names[0]]!r}, which {str(found[image].where)!r} does too")
            found[image] = Listed(label, _split(file, row, columns.get("split")), file)
    return found


def _split(file: Path, row: dict[str, Any], column: str | None) -> str | None:
    if column is None:
        return None
    split = split_of(str(row.get(column)))
    if split is None:
        raise ValueError(f"{str(file)!r}: split must be train, val or test, got {row.get(column)!r}")
    return split


def _columns(file: Path, rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The columns by their names in small letters."""
    columns: dict[str, str] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        if columns.setdefault(name.lower(), name) != name:
            raise ValueError(f"{str(file)!r} has columns {columns[name.lower()]!r} and {name!r}: leave one of them")
    return columns


def _text(value: Any) -> str:
    """A cell as text; "" for a missing one, which JSON of other programs writes as NaN, too."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None or value != value else str(value).strip()


def _rows(file: Path) -> list[dict[str, Any]]:
    if file.suffix != ".jsonl":
        table = read_table(file, separators=",;\t|", comments="")
        return [dict(zip(table.heads, row, strict=True)) for row in table.rows[1:]]
    found = []
    for number, line in enumerate(read_text(file).split("\n"), 1):
        try:
            content = json.loads(line) if line.strip() else {}
        except ValueError as error:
            raise ValueError(f"{str(file)!r}: line {number} is no JSON ({error})") from error
        if not isinstance(content, dict):
            raise ValueError(f"{str(file)!r}: line {number} must be an object, got {line.strip()[:40]!r}")
        if content:
            found.append(content)
    return found
