"""Parquet files and saved data sets on this machine, as the ``datasets`` library writes them."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

from colgraph.data.folders import find_images
from colgraph.data.labels import EncodedSplits, Join, Part, import_datasets, join_parts
from colgraph.data.splits import check_one_name, harder_named, splits_named
from colgraph.hints import reason_of


def parquet_files(folder: Path) -> list[Path]:
    """The parquet files at any depth below a folder."""
    return sorted(path for path in folder.rglob("*.parquet") if path.is_file() and not path.name.startswith("."))


def is_saved(folder: Path) -> bool:
    """Whether ``save_to_disk`` of the ``datasets`` library wrote a folder."""
    return (folder / "dataset_dict.json").is_file() or all(
        (folder / name).is_file() for name in ("state.json", "dataset_info.json")
    )


def load_saved(folder: Path, join: Join = join_parts) -> EncodedSplits:
    """What ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote (Arrow files; nothing is unpickled).

    Raises:
        ValueError: if it cannot be read, or a split is none of train, val and test.
    """
    datasets = import_datasets()
    try:
        saved = datasets.load_from_disk(str(folder))
    except Exception as error:
        raise ValueError(f"cannot read the saved data set {str(folder)!r}: {reason_of(error)}") from error
    tables = saved if isinstance(saved, dict) else {"train": saved}
    parts = []
    named: dict[str, list[str]] = {}
    for name, table in tables.items():
        harder = harder_named(name)
        found = splits_named(name) if harder is None else {harder}
        if len(found) != 1:
            raise ValueError(f"{str(folder)!r} has the split {name!r}: expected train, val or test")
        parts.append(Part(found.pop(), table, f"{folder} ({name})"))
        named.setdefault(parts[-1].split, []).append(name)
    for split, names in named.items():
        check_one_name(split, names, repr(str(folder)), "splits")
    if not any(part.split == "train" for part in parts):
        raise ValueError(f"{str(folder)!r} has {' and '.join(map(str, tables))} but no train split")
    return join(parts, str(folder))


def load_parquet(path: Path, join: Join = join_parts) -> EncodedSplits:
    """A parquet file, or a folder of them, with an image and a label column, as the ``datasets`` library writes them.

    A file belongs to the split that a word of its name or its folder says (``train-00000-of-00004.parquet``,
    ``cifar10_test.parquet``, ``validation/0000.parquet``); files that say none are training data if no file says
    "train", else they are passed over, with a note. ``harder-NAME.parquet`` is a harder test set. Classes are joined by
    name over splits and files.

    Raises:
        ValueError: if a file cannot be read or says two splits, a column or label is missing, or class names
            contradict each other.
    """
    files = [path] if path.is_file() else parquet_files(path)
    by_split: dict[str | None, list[Path]] = {}
    for file in files:
        by_split.setdefault(_split_of_file(file, path), []).append(file)
    unnamed = by_split.pop(None, [])
    for split, chosen in by_split.items():
        for folder in dict.fromkeys(file.parent for file in chosen):
            names = [file.stem for file in chosen if file.parent == folder and splits_named(file.stem)]
            check_one_name(str(split), names, repr(str(folder)), "files")
    notes = []
    if not by_split or ("train" not in by_split and unnamed):
        by_split["train"] = unnamed
    elif unnamed:
        notes.append(
            f"{len(unnamed)} of {len(files)} parquet files of {str(path)!r} name no split and are passed over: "
            f"the first is {unnamed[0].name!r}"
        )
    if "train" not in by_split:
        if len(by_split) > 1:
            raise ValueError(f"{str(path)!r} has {' and '.join(sorted(map(str, by_split)))} but no train files")
        by_split = {"train": files}
    for split, chosen in by_split.items():
        folders = {file.parent for file in chosen}
        if len(folders) > 1:
            some = ", ".join(sorted(repr(str(folder.relative_to(path))) for folder in folders)[:3])
            notes.append(
                f"the {split} files of {len(folders)} folders of {str(path)!r} are read as one data set: {some}"
            )
    pictures = len(find_images(path).images) if path.is_dir() else 0
    if pictures:
        notes.append(f"{pictures} image files of {str(path)!r} are passed over: its parquet files are read")
    parts = [part for split, chosen in by_split.items() for part in _parts(str(split), chosen, path)]
    return join(parts, str(path), notes)


def _split_of_file(file: Path, root: Path) -> str | None:
    """The split that a file's name says, else its folder below ``root``."""
    harder = harder_named(file.stem)
    if harder is not None:
        return harder
    inside = file.relative_to(root).parts[:-1] if root.is_dir() else ()
    for names in ([file.stem], inside):
        found = splits_named(*names)
        if len(found) > 1:
            raise ValueError(f"{str(file)!r} names {' and '.join(sorted(found))}: one split a file")
        if found:
            return found.pop()
    return None


def _parts(split: str, files: list[Path], root: Path) -> list[Part]:
    """The files of a split, those together that follow each other and have the same columns and class names."""
    where = f"{root} ({split})"
    groups = [list(group) for _, group in groupby([(file, _features(file)) for file in files], key=lambda f: f[1])]
    tables = [_read([file for file, _ in group]) for group in groups]
    if len(groups) == 1:
        return [Part(split, tables[0], where)]
    return [Part(split, table, str(group[0][0])) for table, group in zip(tables, groups, strict=True)]


def _read(files: list[Path]) -> Any:
    datasets = import_datasets()
    datasets.disable_progress_bars()
    try:
        return datasets.Dataset.from_parquet([str(file) for file in files])
    except Exception as error:
        raise ValueError(f"cannot read {str(files[0])!r}: {reason_of(error.__cause__ or error)}") from error
    finally:
        datasets.enable_progress_bars()


def _features(file: Path) -> Any:
    """A file's columns and class names.

    The ``datasets`` library would take those of the first of several files for all, and names neither the file nor the
    fault of a truncated one.
    """
    from pyarrow import parquet

    try:
        metadata = parquet.read_metadata(file)
        features = import_datasets().Features.from_arrow_schema(metadata.schema.to_arrow_schema())
    except Exception as error:
        raise ValueError(f"cannot read {str(file)!r} as parquet: {reason_of(error)}") from error
    if metadata.num_rows == 0:
        raise ValueError(f"{str(file)!r} is empty: it has no images")
    return features
