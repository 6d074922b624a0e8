"""Which split a folder, a file or a column of a table means by its name."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["split_of", "splits_named"]

_NAMES = {
    "train": ("train", "training", "trainval", "trn"),
    "val": ("val", "valid", "validation", "dev", "eval", "evaluation"),
    "test": ("test", "testing", "tst", "holdout"),
}
_SPLIT = {name: split for split, names in _NAMES.items() for name in names}


def split_of(name: str) -> str | None:
    """The split whose name, in any case, is ``name``: "train", "val" or "test"; None for other names."""
    return _SPLIT.get(name.strip().lower())


def splits_named(*names: str) -> set[str]:
    """The splits that occur as a word in names such as ``seg_train``, ``Test Images``, ``val2017``, ``imagesTrain``."""
    return {_SPLIT[word] for word in _words(names) if word in _SPLIT}


def _words(names: Iterable[str]) -> list[str]:
    spaced = (re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name) for name in names)
    return [word for name in spaced for word in re.findall(r"[a-z]+", name.lower())]
