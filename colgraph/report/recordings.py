"""What ``colgraph encode`` is given, joined by key: responses, the images shown, and the region of each target."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colgraph.data import decode_image, find_images
from colgraph.extras import optional
from colgraph.text import Table, is_number, parse_numbers, parse_table, read_table, reason_of

_STIMULI = re.compile(
    r"(stim|stimulus|stimuli|images?|imgs?|pictures?|photos?|files?)(ids?|names?|numbers?|index|paths?|files?|filenames?)?"
)
_TARGETS = re.compile(
    r"(targets?|units?|neurons?|neuroids?|channels?|electrodes?|voxels?|sites?|cells?)(ids?|names?|numbers?)?"
)
_REGIONS = ("region", "regions", "area", "areas", "roi", "rois", "parcel", "label")
_NUMBER = re.compile(r"(\d+)(?:[.,]0*)?")
_ENDS = (".npy", ".npz", ".h5", ".hdf5", ".csv", ".tsv", ".txt")


@dataclass(frozen=True, eq=False)
class Recordings:
    """Recorded responses.

    Attributes:
        values: ``[stimuli, targets]``, or ``[repeats, stimuli, targets]``.
        stimuli: the name of each stimulus, where the file has them.
        targets: the name of each target, where the file has them.
        where: the file.
        notes: what a user should know about how they were read.
    """

    values: NDArray[Any]
    stimuli: list[str] | None
    targets: list[str] | None
    where: str
    notes: list[str] = field(default_factory=list)


def natural_key(name: str) -> tuple[Any, ...]:
    """A key that sorts ``stim_2`` before ``stim_10``, capitals beside small letters."""
    parts = re.split(r"(\d+)", name)
    return ([int(part) if i % 2 else part.casefold() for i, part in enumerate(parts)], name)


# ---------------------------------------------------------------------- responses


def read_responses(path: Path) -> Recordings:
    """Responses from a file.

    ``.npy`` has the numbers alone. ``.npz`` and HDF5 have ``responses``, and perhaps names in ``stimuli`` and
    ``targets``. A table has a stimulus a row and a target a column, perhaps with names in its first column and row.

    Raises:
        ValueError: if the file cannot be read, has another shape, or names that do not fit.
        ImportError: for HDF5 without h5py.
    """
    end = path.suffix.lower()
    if end not in _ENDS:
        raise ValueError(f"cannot read responses {str(path)!r}: give a file that ends in {', '.join(_ENDS)}")
    if end in (".csv", ".tsv", ".txt"):
        return _from_table(read_table(path), path)
    try:
        arrays = _hdf5(path) if end in (".h5", ".hdf5") else _numpy(path)
    except (OSError, ValueError, EOFError) as error:
        reason = reason_of(error)
        if "pickle" in reason:
            reason = "it holds Python objects, or is broken: save numbers, and names as text (dtype=str)"
        raise ValueError(f"cannot read responses {str(path)!r}: {reason}") from error
    return _from_arrays(arrays, path)


def _numpy(path: Path) -> dict[str, NDArray[Any]]:
    found = np.load(path, allow_pickle=False)
    if isinstance(found, np.ndarray):
        return {"responses": found}
    with found:
        return {name: found[name] for name in found.files}


def _hdf5(path: Path) -> dict[str, NDArray[Any]]:
    h5py = optional("HDF5 files need", "h5py", "analysis")
    with h5py.File(path, "r") as file:
        found = {name: value for name, value in file.items() if isinstance(value, h5py.Dataset)}
        return {
            name: np.asarray(v.asstr()[...] if h5py.check_string_dtype(v.dtype) else v) for name, v in found.items()
        }


def _from_arrays(arrays: Mapping[str, NDArray[Any]], path: Path) -> Recordings:
    likely = [name for name, value in arrays.items() if value.ndim in (2, 3) and value.dtype.kind in "fiub"]
    chosen = "responses" if "responses" in arrays else likely[0] if len(likely) == 1 else None
    if chosen is None:
        raise ValueError(f"{str(path)!r} must hold one array 'responses', it has {', '.join(arrays) or 'none'}")
    others = [name for name in arrays if name != chosen]
    keys = [next((name for name in others if kind.fullmatch(_plain(name))), None) for kind in (_STIMULI, _TARGETS)]
    _check_no_names(arrays, chosen, keys, path)
    unused = [name for name in arrays if name not in (chosen, *keys)]
    notes = [f"{', '.join(unused)} of {str(path)!r} is not read: names are those of stimuli and targets"]
    named = [None if key is None else _names(arrays[key], key, path) for key in keys]
    return _checked(arrays[chosen], named[0], named[1], notes if unused else [], path)


def _plain(name: str) -> str:
    """A name without capitals, blanks and marks."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _check_no_names(arrays: Mapping[str, NDArray[Any]], chosen: str, keys: Sequence[str | None], path: Path) -> None:
    """Raise for an array under another name that may hold the names of stimuli or targets, where none has the right."""
    for axis, key, what in ((-2, keys[0], "stimuli"), (-1, keys[1], "targets")):
        count = arrays[chosen].shape[axis] if arrays[chosen].ndim > 1 else 0
        for name, values in arrays.items() if key is None else ():
            if name in (chosen, *keys) or values.shape != (count,) or values.dtype.kind not in "USiuO":
                continue
            if count > 1 and len(set(values.tolist())) == count:
                raise ValueError(
                    f"{str(path)!r}: {name} may hold the names of the {what}: call it {what!r}, or leave it out"
                )


def _names(values: NDArray[Any], key: str, path: Path) -> list[str]:
    if values.ndim != 1 or values.dtype.kind not in "USiuO":
        raise ValueError(
            f"{str(path)!r}: {key} must be a list of names, got {values.dtype} of shape {list(values.shape)}"
        )
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()]


def _from_table(table: Table, path: Path) -> Recordings:
    rows = table.rows
    no_corner = rows[0][0] != "" and not _STIMULI.fullmatch(_plain(rows[0][0])) and len(rows[0]) == len(rows[-1])
    header = None if no_corner and all(map(is_number, rows[0][1:] or rows[0])) else rows[0]
    body = rows if header is None else rows[1:]
    if not body:
        raise ValueError(f"{str(path)!r} has no rows of responses")
    if header is None:
        header = _commented(table)
    if header is not None and len(header) < len(body[0]):
        header = ["", *header]
    header, stimuli, body = _without_stimuli(header, body)
    counted = _counting(body) if stimuli is None and len(body) > 5 and len(body[0]) > 1 else None
    if counted is not None:
        place, start = counted
        which = f"column {place + 1}" if header is None else f"the column {header[place]!r}"
        raise ValueError(
            f"{str(path)!r}: {which} holds each of the numbers from {start} on once: call it 'stimulus' if it says "
            "which stimulus a row is, or leave it out"
        )
    numbers = parse_numbers([cell for row in body for cell in row], table.separator)
    if None in numbers:
        row, column = divmod(numbers.index(None), len(body[0]))
        raise ValueError(f"{str(path)!r}: {body[row][column]!r} in row {row + 1} of the responses is no number")
    return _checked(np.array(numbers, dtype=np.float64).reshape(len(body), -1), stimuli, header, [], path)


def _commented(table: Table) -> list[str] | None:
    """Names of columns in a comment, as ``numpy.savetxt(header=...)`` writes them."""
    for comment in filter(None, table.comments):
        cells = parse_table(comment, separators=table.separator, comments="").rows[0]
        if len(set(cells)) == len(cells) == len(table.rows[0]) and not any(map(is_number, cells)):
            return cells
    return None


def _counting(body: list[list[str]]) -> tuple[int, int] | None:
    """The first or the last column, where it has each of the numbers from 0 or 1 on once, in any order; and which."""
    for column in (0, len(body[0]) - 1):
        cells = {_plain_number(row[column]) for row in body if _NUMBER.fullmatch(row[column])}
        for start in (0, 1):
            if cells == {str(i + start) for i in range(len(body))}:
                return column, start
    return None


def _without_stimuli(
    header: list[str] | None, body: list[list[str]]
) -> tuple[list[str] | None, list[str] | None, list[list[str]]]:
    """A table without its column of names of stimuli, and without a column of row numbers; and the names, if any."""
    heads = [] if header is None else header
    named = next((i for i, head in enumerate(heads) if _STIMULI.fullmatch(_plain(head))), None)
    first, is_unnamed = [row[0] for row in body], heads[:1] == [""]
    if named is None and not is_unnamed and all(map(is_number, first)):
        return header, None, body
    place = named or 0
    # A table's own row numbers are no names.
    counted = ([str(i + start) for i in range(len(first))] for start in (0, 1))
    stimuli = None if is_unnamed and not place and first in counted else [row[place] for row in body]
    gone = {place, 0} if is_unnamed else {place}
    kept = [[cell for i, cell in enumerate(row) if i not in gone] for row in body]
    return None if header is None else [cell for i, cell in enumerate(header) if i not in gone], stimuli, kept


def _checked(
    values: NDArray[Any], stimuli: list[str] | None, targets: list[str] | None, notes: list[str], path: Path
) -> Recordings:
    if values.ndim not in (2, 3) or values.dtype.kind not in "fiub":
        raise ValueError(f"{str(path)!r} must hold [stimuli, targets] or [repeats, stimuli, targets]")
    for what, names, count in (("stimuli", stimuli, values.shape[-2]), ("targets", targets, values.shape[-1])):
        if names is None:
            continue
        if len(names) != count:
            raise ValueError(
                f"{str(path)!r} names {len(names)} {what}, but its responses {list(values.shape)} are of {count}"
            )
        twice = _first_twice(names)
        if twice is not None:
            raise ValueError(f"{str(path)!r} names {what} twice: {twice!r} is the first")
    return Recordings(values, stimuli, targets, str(path), notes)


def _first_twice(names: Sequence[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)


# ---------------------------------------------------------------------- stimuli


def read_stimuli(folder: Path, recorded: Recordings, size: int, channels: int) -> tuple[Tensor, list[str]]:
    """``[stimuli, channels, size, size]`` between 0 and 1, in the order of the responses, and what to say of it.

    Images are joined by name, with or without its ending, where the responses name their stimuli; else they are taken
    in natural order, ``stim_2`` before ``stim_10``.

    Raises:
        ValueError: if images and responses do not match, naming the first; for images that cannot be read.
    """
    if not folder.is_dir():
        raise ValueError(f"--stimuli {str(folder)!r} is no folder")
    found = find_images(folder)
    files = [path for path in found.images if path.parent == folder]
    below = len(found.images) - len(files)
    notes = found.notes(folder)
    if below:
        notes.append(f"{below} images in subfolders of {str(folder)!r} are passed over")
    if not files:
        raise ValueError("; ".join([f"--stimuli {str(folder)!r} holds no images", *notes]))
    if recorded.stimuli is not None:
        files = _by_name(files, recorded.stimuli, recorded.where, folder, notes)
    else:
        files.sort(key=lambda path: natural_key(path.name))
        count = recorded.values.shape[-2]
        if len(files) != count:
            raise ValueError(
                "; ".join(
                    [f"{recorded.where!r} has {count} stimuli, but {str(folder)!r} holds {len(files)} images", *notes]
                )
            )
        some = ", ".join(path.name for path in files[:2]) + f", ..., {files[-1].name}"
        notes.append(f"{recorded.where!r} names no stimuli: its rows are the images in natural order ({some})")
    return torch.stack([_decoded(path, size, channels) for path in files]).float() / 255, notes


def _by_name(files: list[Path], names: list[str], where: str, folder: Path, notes: list[str]) -> list[Path]:
    known: dict[str, Path | None] = {}
    for path in files:
        # Two images that differ in their ending only are told apart by it.
        known[path.stem] = None if path.stem in known else path
    known |= {path.name: path for path in files}
    if not set(names) <= set(known) and (numbered := _numbered(files, names)):
        known |= numbered
        some = next(numbered[name].name for name in names if name in numbered)
        notes.append(f"stimuli of {where!r} are joined to images by their number ({some} and so on)")
    chosen: list[Path] = []
    for name in names:
        image = known.get(re.split(r"[/\\]", name)[-1])
        if image is None:
            raise ValueError(f"{where!r} names the stimulus {name!r}, but {str(folder)!r} has no such image, or two")
        chosen.append(image)
    extra = sorted(set(files) - set(chosen), key=lambda path: natural_key(path.name))
    if extra:
        raise ValueError(
            f"{str(folder)!r} holds {extra[0].name!r}, which {where!r} does not name ({len(extra)} such images)"
        )
    twice = _first_twice([path.name for path in chosen])
    if twice is not None:
        raise ValueError(f"{where!r} names the image {twice!r} twice")
    return chosen


def _numbered(files: list[Path], names: list[str]) -> dict[str, Path]:
    """The image of each name that is a number, where images differ in one number only (``18`` and ``stim_018.png``)."""
    alike = {re.sub(r"\d+", "#", path.stem) for path in files}
    images = {int(found[0]): path for path in files if (found := re.search(r"\d+", path.stem))}
    if len(alike) > 1 or alike.pop().count("#") != 1 or len(images) < len(files):
        return {}
    numbers = {name: int(match[1]) for name in names if (match := _NUMBER.fullmatch(name))}
    return {name: images[number] for name, number in numbers.items() if number in images}


def _decoded(path: Path, size: int, channels: int) -> Tensor:
    try:
        return decode_image(str(path), size, channels)
    except ValueError as error:
        raise ValueError(f"cannot read image {str(path)!r}: {error}") from error


# ---------------------------------------------------------------------- regions


def read_regions(path: Path, recorded: Recordings) -> tuple[list[str], list[str]]:
    """The region of each target, in the order of the responses, and what to say of it.

    A table with the columns ``target`` and ``region`` is joined by target: by its name where the responses name their
    targets, else by its number, from 0 or from 1. A single column is taken in the order of the targets.

    Raises:
        ValueError: if the table cannot be read, or does not give each target one region, naming the first.
    """
    count = recorded.values.shape[-1]
    rows = read_table(path).rows
    columns = _target_and_region(rows, path, recorded) if _width(rows) > 1 else None
    if columns is None:  # blanks may lie inside of names
        rows = read_table(path, separators=",;\t|").rows
    if _width(rows) == 1:
        return _single(rows, path, count)
    if columns is None:
        raise ValueError(f"{str(path)!r} must have the columns target and region, it begins with {', '.join(rows[0])}")
    body, target, region = columns
    place, notes = _places([row[target] for row in body], path, recorded)
    regions = [""] * count
    for row, i in zip(body, place, strict=True):
        regions[i] = row[region]
    return _named(regions, path), [*notes, _summary(regions, "joined by target")]


def _width(rows: list[list[str]]) -> int:
    return len(rows[-1])


def _single(rows: list[list[str]], path: Path, count: int) -> tuple[list[str], list[str]]:
    names = [row[0] for row in rows]
    # A first line that comes again is a region.
    if names[0].lower() in _REGIONS or (len(names) == count + 1 and names[0] not in names[1:]):
        names = names[1:]
    if len(names) != count:
        raise ValueError(f"{str(path)!r} names {len(names)} regions, but there are {count} targets")
    return _named(names, path), [_summary(names, f"{str(path)!r} names no targets: its lines are in their order")]


def _named(regions: list[str], path: Path) -> list[str]:
    if "" in regions:
        raise ValueError(f"{str(path)!r} gives target {regions.index('')} no region")
    return regions


def _summary(regions: list[str], how: str) -> str:
    sizes = {name: regions.count(name) for name in regions}
    return f"regions ({how}): " + ", ".join(f"{name} {size}" for name, size in sizes.items()) + " targets"


def _target_and_region(
    rows: list[list[str]], path: Path, recorded: Recordings
) -> tuple[list[list[str]], int, int] | None:
    """The rows without a header, and the numbers of both columns; None where nothing says which they are."""
    width = _width(rows)
    header = [cell.lower() for cell in rows[0]]
    header = header if len(header) == width else ["", *header]
    target = next((i for i, name in enumerate(header) if _TARGETS.fullmatch(_plain(name))), None)
    target = next((header.index(name) for name in ("id", "name") if name in header), None) if target is None else target
    region = next((header.index(name) for name in _REGIONS if name in header), None)
    if target is None and region is None:
        return _without_header(rows, recorded) if width == 2 else None
    if width == 2:
        target = 1 - region if target is None and region is not None else target
        region = 1 - target if region is None and target is not None else region
    if target is None or region is None:
        missing = "target" if target is None else "region"
        raise ValueError(f"{str(path)!r} has the columns {', '.join(rows[0])}: call one {missing!r}")
    return rows[1:], target, region


def _without_header(rows: list[list[str]], recorded: Recordings) -> tuple[list[list[str]], int, int] | None:
    count = recorded.values.shape[-1]
    keys = [set(recorded.targets)] if recorded.targets else []
    keys = keys or [{str(i + start) for i in range(count)} for start in (0, 1)]
    for body in (rows, rows[1:]):
        for column in (0, 1):
            if {row[column] for row in body} in keys:
                return body, column, 1 - column
    return None


def _places(ids: list[str], path: Path, recorded: Recordings) -> tuple[list[int], list[str]]:
    """The place of each target among those of the responses."""
    count, where = recorded.values.shape[-1], str(path)
    notes: list[str] = []
    if recorded.targets is not None:
        known = {name: i for i, name in enumerate(recorded.targets)}
    else:
        odd = next((name for name in ids if not _NUMBER.fullmatch(name)), None)
        if odd is not None:
            raise ValueError(
                f"{where!r} names the target {odd!r}, but {recorded.where!r} has no names of targets: number them "
                "from 0, or give responses as .npz or HDF5 with 'targets'"
            )
        start = 1 if "0" not in map(_plain_number, ids) and str(count) in map(_plain_number, ids) else 0
        known = {str(i + start): i for i in range(count)}
        ids = [_plain_number(name) for name in ids]
        if start:
            notes.append(f"targets of {where!r} are counted from 1")
    wrong = next((name for name in ids if name not in known), None)
    if wrong is not None:
        raise ValueError(f"{where!r} names the target {wrong!r}, which {recorded.where!r} has not ({count} targets)")
    twice = _first_twice(ids)
    if twice is not None:
        raise ValueError(f"{where!r} names the target {twice!r} twice")
    missing = next((name for name in known if name not in ids), None)
    if missing is not None:
        raise ValueError(
            f"{where!r} names {len(ids)} regions, but there are {count} targets: the first without is {missing!r}"
        )
    return [known[name] for name in ids], notes


def _plain_number(name: str) -> str:
    """A whole number without leading zeros, and without the decimals that spreadsheets and pandas may give it."""
    match = _NUMBER.fullmatch(name)
    return name if match is None else str(int(match[1]))
