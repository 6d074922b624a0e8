"""Images on this machine: folders of class subfolders, and parquet files."""

from __future__ import annotations

import re
from pathlib import Path

from colgraph.data.rows import EncodedSplits, from_tables, import_datasets, split_of

__all__ = ["IMAGE_SUFFIXES", "load_folder", "load_parquet", "parquet_files"]

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm"),
)


def _images_below(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and not path.name.startswith(".")
    )


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def load_folder(folder: Path) -> EncodedSplits:
    """A folder with one subfolder per class, or with ``train`` (and ``val``, ``test``) folders that have them.

    Images are found at any depth below their class. Hidden files and files that are no images are passed over.

    Raises:
        ValueError: if there are no classes, a class has no images, or a held-out split has an unknown class.
    """
    datasets = import_datasets()
    named: dict[str, list[Path]] = {}
    for path in _subfolders(folder):
        split = split_of(path.name)
        if split is not None:
            named.setdefault(split, []).append(path)
    if "train" not in named:
        named = {"train": [folder]}
    for split, folders in named.items():
        if len(folders) > 1:
            raise ValueError(f"{str(folder)!r} has two {split} folders: {folders[0].name!r} and {folders[1].name!r}")
    classes = [path.name for path in _subfolders(named["train"][0])]
    if not classes:
        raise ValueError(_no_classes(named["train"][0]))
    features = datasets.Features({"image": datasets.Image(decode=False), "label": datasets.ClassLabel(names=classes)})
    tables = {}
    for split, (root,) in named.items():
        paths, labels = _labelled(root, classes)
        tables[split] = datasets.Dataset.from_dict({"image": paths, "label": labels}, features=features)
    return from_tables(tables, str(folder))


def _labelled(root: Path, classes: list[str]) -> tuple[list[str], list[int]]:
    paths: list[str] = []
    labels: list[int] = []
    for folder in _subfolders(root):
        images = _images_below(folder)
        if folder.name not in classes:
            if images:
                raise ValueError(f"class {folder.name!r} of {str(root)!r} is not among the {len(classes)} trained on")
            continue
        if not images:
            raise ValueError(f"class folder {str(folder)!r} has no images ({', '.join(IMAGE_SUFFIXES)})")
        paths += map(str, images)
        labels += [classes.index(folder.name)] * len(images)
    if not paths:
        raise ValueError(_no_classes(root))
    return paths, labels


def _no_classes(folder: Path) -> str:
    if any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir()):
        return f"{str(folder)!r} has images but no classes: put the images of each class in a subfolder of its own"
    return f"{str(folder)!r} has no images: expected one subfolder per class, or parquet files"


def parquet_files(folder: Path) -> list[Path]:
    """The parquet files at any depth below a folder."""
    return sorted(path for path in folder.rglob("*.parquet") if path.is_file() and not path.name.startswith("."))


def load_parquet(path: Path) -> EncodedSplits:
    """A parquet file, or a folder of them, with an image and a label column, as the ``datasets`` library writes them.

    A file belongs to the split that its folder or the first word of its name says (``train-00000-of-00004.parquet``,
    ``validation/0000.parquet``); files that say none are training data if no file says "train".

    Raises:
        ValueError: if a file cannot be read, or a column or label is missing.
    """
    files = [path] if path.is_file() else parquet_files(path)
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(_split_of_file(file, path), []).append(file)
    if "train" not in by_split:
        if len(by_split) > 1:
            raise ValueError(f"{str(path)!r} has {' and '.join(sorted(by_split))} but no train files")
        by_split = {"train": files}
    return from_tables({split: _read(chosen) for split, chosen in by_split.items()}, str(path))


def _split_of_file(file: Path, root: Path) -> str:
    inside = file.relative_to(root).parts[:-1] if root.is_dir() else ()
    words = [*inside, re.split(r"[-_.]", file.stem)[0]]
    return next((split for split in map(split_of, words) if split is not None), "train")


def _read(files: list[Path]) -> object:
    datasets = import_datasets()
    for file in files:
        _check_parquet(file)
    datasets.disable_progress_bars()
    try:
        return datasets.Dataset.from_parquet([str(file) for file in files])
    except Exception as error:
        cause = error.__cause__ or error
        line = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        raise ValueError(f"cannot read {str(files[0])!r}: {line}") from error
    finally:
        datasets.enable_progress_bars()


def _check_parquet(file: Path) -> None:
    """Read a file's footer: the ``datasets`` library names neither the file nor the fault of a truncated one."""
    from pyarrow import parquet

    try:
        metadata = parquet.read_metadata(file)
    except Exception as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"cannot read {str(file)!r} as parquet: {line}") from error
    if metadata.num_rows == 0:
        raise ValueError(f"{str(file)!r} is empty: it has no images")
