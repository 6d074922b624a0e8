"""Which split a folder, a file or a column of a table means by its name."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NAMES = {
    "train": ("train", "training", "trainval", "trn"),
    "val": ("val", "valid", "validation", "dev", "eval", "evaluation"),
    "test": ("test", "testing", "tst", "holdout"),
}
_SPLIT = {name: split for split, names in _NAMES.items() for name in names}


HARDER = "harder:"
"""What the name of a harder test set begins with among the names of splits."""


def harder_named(name: str) -> str | None:
    """The harder test set that the name of a file or a split means (``harder-long``): "harder:long", say, or None."""
    found = re.fullmatch(r"harder[-_](.+)", name)
    return f"{HARDER}{found[1]}" if found else None


def split_of(name: str) -> str | None:
    """The split whose name, in any case, is ``name``: "train", "val" or "test"; None for other names."""
    return _SPLIT.get(name.strip().lower())


def splits_named(*names: str) -> set[str]:
    """The splits that occur as a word in names such as ``seg_train``, ``Test Images``, ``val2017``, ``imagesTrain``."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", " ".join(names))
    return {_SPLIT[word] for word in re.findall(r"[a-z]+", spaced.lower()) if word in _SPLIT}


_SHARD = re.compile(r"[-_.]\d+[-_.]of[-_.]\d+([-_.][0-9a-f]{6,})?$|\d+")


def check_one_name(split: str, names: Iterable[str], where: str, what: str) -> None:
    """Refuse parts of one split that are not shards of each other: ``test`` and ``test_corrupted`` are two sets.

    Args:
        split: the one that all of them mean.
        names: of files without their ending, or of splits; numbers, as shards have, tell nothing apart.
        where: what has them.
        what: what they are: "files", say.

    Raises:
        ValueError: naming both.
    """
    kinds: dict[str, str] = {}
    for name in names:
        kinds.setdefault(_SHARD.sub("", name.lower()).strip("-_. "), name)
    if len(kinds) > 1:
        one, other, *_ = kinds.values()
        raise ValueError(f"{where} has two kinds of {split} {what}: {one!r} and {other!r}: leave one out, or rename it")
