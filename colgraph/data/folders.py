"""Folders of images: which are classes, which are splits, and what is passed over."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from colgraph.data.decode import image_suffixes
from colgraph.data.labels import EncodedSplits, Part, import_datasets, join_parts
from colgraph.data.metadata import METADATA_NAMES, Listed, read_metadata
from colgraph.data.splits import split_of, splits_named

_Split = tuple[Path, list[Path]]
"""The folder that has the classes, and the images below it."""


@dataclass
class FoundFiles:
    """The files below a folder.

    Attributes:
        images: those whose names end as an image's, sorted.
        lists: ``metadata.csv`` and the like.
        others: how many other files there are of each kind.
    """

    images: list[Path] = field(default_factory=list)
    lists: list[Path] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    def notes(self, folder: Path) -> list[str]:
        """One line that counts what is no image."""
        if not self.others:
            return []
        count = self.others.total()
        kinds = ", ".join(f"{number} {kind}" for kind, number in self.others.most_common())
        return [f"{count} of {count + len(self.images)} files of {str(folder)!r} are passed over: {kinds}"]


def find_images(folder: Path, *, deep: bool = True) -> FoundFiles:
    """The image files of a folder, with ``deep`` at any depth; links are followed, hidden folders are not entered.

    Raises:
        ValueError: if a folder cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise ValueError(f"cannot list {error.filename!r}: {error.strerror}") from error

    found = FoundFiles()
    for place, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        folders[:] = [
            name for name in folders if deep and not name.startswith(".") and not _is_loop(Path(place, name), folder)
        ]
        for name in names:
            _sort_in(found, Path(place, name))
    found.images.sort()
    return found


def _is_loop(path: Path, root: Path) -> bool:
    """Whether a folder is a link to one that it lies in, which would be walked for ever."""
    if not path.is_symlink():
        return False
    above = [parent for parent in path.parents if parent == root or root in parent.parents]
    return os.path.realpath(path) in map(os.path.realpath, above)


def _sort_in(found: FoundFiles, path: Path) -> None:
    end = path.suffix.lower()
    if path.name.startswith("."):
        found.others["hidden"] += 1
    elif not path.is_file():
        found.others["broken links"] += 1
    elif end in image_suffixes():
        found.images.append(path)
    elif path.name.lower() in METADATA_NAMES:
        found.lists.append(path)
    else:
        found.others[end or "without a suffix"] += 1


def load_folder(folder: Path) -> EncodedSplits:
    """A folder with one subfolder per class, perhaps below folders of splits, or with a list of its images' labels.

    Folders are splits if a word of their names says so (``train``, ``seg_test``, ``images_val``) and they hold
    folders of classes, perhaps below one more folder of such a name. Images are found at any depth below their class.
    ``metadata.csv`` or ``metadata.jsonl`` with ``file_name`` and ``label`` counts more than folders. What is passed
    over is counted in a note.

    Raises:
        ValueError: if there are no classes, a class has no images, a held-out split has an unknown class, a list and
            the images do not match, or a folder may be a split or a class.
    """
    files = find_images(folder)
    if not files.images:
        raise ValueError(_no_images(folder, files.others))
    listed = read_metadata(files.lists)
    if not listed:
        files.others.update(path.name for path in files.lists)
    notes = files.notes(folder)
    if listed:
        notes.append(f"labels are those of {str(next(iter(listed.values())).where)!r}, by file name")
        _check_listed(files, listed)
    splits = _listed_splits(listed) or _split_folders(_unwrap(folder, files.images), bool(listed), notes)
    parts = []
    for split, (root, images) in splits.items():
        labels = [listed[path].label for path in images] if listed else _folder_labels(root, images, split, notes)
        pairs = [(str(path), name) for path, name in zip(images, labels, strict=True) if name is not None]
        parts.append(_part(split, pairs, f"{folder} ({split})"))
    return join_parts(parts, str(folder), notes)


def _part(split: str, pairs: Sequence[tuple[str, str]], where: str) -> Part:
    """A table of paths and labels."""
    datasets = import_datasets()
    features = datasets.Features({"image": datasets.Image(decode=False), "label": datasets.Value("string")})
    rows = {"image": [path for path, _ in pairs], "label": [label for _, label in pairs]}
    return Part(split, datasets.Dataset.from_dict(rows, features=features), where)


# ---------------------------------------------------------------------- lists


def _check_listed(files: FoundFiles, listed: dict[Path, Listed]) -> None:
    odd = next((path for path in files.images if path not in listed), None)
    if odd is not None:
        where = next(iter(listed.values())).where
        raise ValueError(f"{str(where)!r} does not list {str(odd)!r}: list every image, or move it elsewhere")
    files.images[:] = sorted(listed)


def _listed_splits(listed: dict[Path, Listed]) -> dict[str, _Split]:
    """The splits of lists with such a column; empty without one."""
    splits: dict[str, _Split] = {}
    for path, one in sorted(listed.items()):
        if one.split is not None:
            splits.setdefault(one.split, (one.where.parent, []))[1].append(path)
    if splits and sum(len(images) for _, images in splits.values()) < len(listed):
        raise ValueError("some lists of images have a column 'split' and others have none: give it to all")
    if splits and "train" not in splits:
        raise ValueError(f"the list of images has {' and '.join(sorted(splits))} but no train")
    return splits


# ---------------------------------------------------------------------- folders


def _by_subfolder(root: Path, images: Iterable[Path]) -> dict[str, list[Path]]:
    """The images below each subfolder of ``root``, and under "" those that lie in it directly."""
    groups: dict[str, list[Path]] = {}
    for path in images:
        parts = path.relative_to(root).parts
        groups.setdefault(parts[0] if len(parts) > 1 else "", []).append(path)
    return groups


def _unwrap(root: Path, images: list[Path]) -> _Split:
    """The folder whose subfolders are the splits, where it is the only one of its parent."""
    groups = _by_subfolder(root, images)
    if len(groups) == 1 and "" not in groups:
        inner = root / next(iter(groups))
        if any(splits_named(name) for name in _by_subfolder(inner, images)):
            return _unwrap(inner, images)
    return root, images


def _split_folders(tree: _Split, is_listed: bool, notes: list[str]) -> dict[str, _Split]:
    """The folder and the images of each split."""
    root, images = tree
    groups = _by_subfolder(root, images)
    likely = {name: splits_named(name) for name in groups if splits_named(name)}
    named = [name for name in likely if is_listed or set(_by_subfolder(root / name, groups[name])) != {""}]
    if not named:
        if likely and not set(groups) - set(likely) - {""}:
            raise ValueError(
                f"{str(root)!r}: {_some(likely)} may be splits or classes: put the images of each class in a "
                "subfolder of the split, or give classes other names"
            )
        _check_classes_hold_no_splits(root, groups)
        if not is_listed:
            _check_classes_hold_no_classes(root, groups)
        return {"train": tree}
    by_split: dict[str, str] = {}
    for name in named:
        if len(likely[name]) > 1:
            raise ValueError(f"{str(root / name)!r} names {' and '.join(sorted(likely[name]))}: one split a folder")
        split = next(iter(likely[name]))
        if split in by_split:
            raise ValueError(f"{str(root)!r} has two {split} folders: {by_split[split]!r} and {name!r}")
        by_split[split] = name
    _check_others(root, groups, named, set(by_split), notes)
    if "train" not in by_split:
        raise ValueError(
            f"{str(root)!r} has {' and '.join(sorted(map(repr, named)))} but no train folder: add one, or give "
            f"{str(root / named[0])!r} to train on it"
        )
    return {split: _inside(root / name, groups[name], split) for split, name in by_split.items()}


def _check_classes_hold_no_splits(root: Path, groups: dict[str, list[Path]]) -> None:
    for name, images in groups.items():
        inner = {split_of(each) for each in _by_subfolder(root / name, images)} if name else set()
        if len(inner - {None}) > 1:
            raise ValueError(
                f"{str(root / name)!r} holds the splits {' and '.join(sorted(filter(None, inner)))}: put folders of "
                "classes below folders of splits"
            )


def _check_classes_hold_no_classes(root: Path, groups: dict[str, list[Path]]) -> None:
    """Raise where every folder holds the same folders: those may be the classes, of several domains or folds."""
    folders = [name for name in groups if name]
    inner = [set(_by_subfolder(root / name, groups[name])) for name in folders]
    shared = set.intersection(*inner) if len(inner) > 1 else set()
    if len(shared) > 1 and not any("" in names for names in inner):
        raise ValueError(
            f"{str(root)!r}: are the classes {_some(folders)} or the folders {_some(shared)} in each of them? give one "
            f"such as {str(root / folders[0])!r}, call splits train and test, or list the labels in metadata.csv"
        )


def _check_others(
    root: Path, groups: dict[str, list[Path]], named: Sequence[str], splits: set[str], notes: list[str]
) -> None:
    """Images beside the folders of splits: passed over with a note, or refused where those may be classes, too."""
    others = [name for name in groups if name not in named and name]
    odd = [name for name in others if not splits_named(name)]
    if odd and len(splits) == 1:
        raise ValueError(
            f"{str(root)!r}: is {named[0]!r} a split or a class? {odd[0]!r} beside it has images too: rename one "
            "of them, or move it elsewhere"
        )
    if others:
        count = sum(len(groups[name]) for name in others)
        notes.append(f"{count} images of {_some(others)} in {str(root)!r} are in no class and are passed over")
    if "" in groups:
        notes.append(f"{len(groups[''])} images of {str(root)!r} are in no split and are passed over")


def _inside(root: Path, images: list[Path], split: str) -> _Split:
    """The folder of a split without further folders of its name (``seg_train/seg_train``)."""
    groups = _by_subfolder(root, images)
    inner = next(iter(groups))
    if len(groups) == 1 and splits_named(inner) == {split}:
        return _inside(root / inner, images, split)
    return root, images


def _folder_labels(root: Path, images: list[Path], split: str, notes: list[str]) -> list[str | None]:
    """The class folder of each image; None for images in none."""
    names = [path.relative_to(root).parts for path in images]
    labels = [parts[0] if len(parts) > 1 else None for parts in names]
    missing = labels.count(None)
    if missing == len(labels):
        raise ValueError(
            f"{str(root)!r} has images but no classes: put the images of each class in a subfolder of its own, or list "
            "them in metadata.csv with the columns file_name and label"
        )
    if missing:
        notes.append(f"{missing} images of {str(root)!r} are in no class folder and are passed over")
    for folder in sorted(root.iterdir()) if split == "train" else ():
        if folder.is_dir() and not folder.name.startswith(".") and folder.name not in labels:
            raise ValueError(_no_images(folder, find_images(folder).others, "class folder "))
    return labels


def _no_images(folder: Path, others: Counter[str], what: str = "") -> str:
    found = "".join(f", but {count} {kind}" for kind, count in others.most_common(1))
    return f"{what}{str(folder)!r} has no images{found}: expected one subfolder per class, of .jpg, .png, .tif ..."


def _some(names: Iterable[str]) -> str:
    found = sorted(names)
    return ", ".join(map(repr, found[:3])) + (", ..." if len(found) > 3 else "")
