"""Recorded responses from a file, with the names of stimuli and targets that it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.array_files import load_numpy, unreadable
from colgraph.brain.names import NUMBER, STIMULI, TARGETS, first_twice, plain_number
from colgraph.brain.stimulus_keys import Key, names_in, preferred
from colgraph.extras import optional
from colgraph.text import Table, commented_names, count_rows, is_number, parse_numbers, plain_name, read_table

_ENDS = (".npy", ".npz", ".h5", ".hdf5", ".csv", ".tsv", ".txt")
_WANTED = "responses ", "numbers, and names as text (dtype=str)"


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
    return _from_arrays(_hdf5(path) if end in (".h5", ".hdf5") else load_numpy(path, "responses", *_WANTED), path)


def _hdf5(path: Path) -> dict[str, NDArray[Any]]:
    h5py = optional("HDF5 files need", "h5py", "analysis")
    try:
        with h5py.File(path, "r") as file:
            found = {name: value for name, value in file.items() if isinstance(value, h5py.Dataset)}
            return {
                name: np.asarray(v.asstr()[...] if h5py.check_string_dtype(v.dtype) else v) for name, v in found.items()
            }
    except (OSError, ValueError, EOFError) as error:
        raise unreadable(path, error, *_WANTED) from error


def _from_arrays(arrays: Mapping[str, NDArray[Any]], path: Path) -> Recordings:
    likely = [name for name, value in arrays.items() if value.ndim in (2, 3) and value.dtype.kind in "fiub"]
    chosen = "responses" if "responses" in arrays else likely[0] if len(likely) == 1 else None
    if chosen is None:
        raise ValueError(f"{str(path)!r} must hold one array 'responses', it has {', '.join(arrays) or 'none'}")
    others = [name for name in arrays if name != chosen]
    named = [[name for name in others if kind.fullmatch(plain_name(name))] for kind in (STIMULI, TARGETS)]
    keys = [_preferred_key(arrays, each) for each in named]
    _check_no_names(arrays, chosen, keys, path)
    unused = [name for name in arrays if name not in (chosen, *keys)]
    notes = [f"{', '.join(unused)} of {str(path)!r} is not read: names are those of stimuli and targets"]
    stimuli, targets = (None if key is None else _names(arrays[key], key, path) for key in keys)
    return _checked(arrays[chosen], stimuli, targets, notes if unused else [], path)


def _preferred_key(arrays: Mapping[str, NDArray[Any]], named: Sequence[str]) -> str | None:
    """Of several arrays that are called after names the one that is meant: a count of rows is not."""
    found = [(name, names_in(arrays[name])) for name in named]
    keys = preferred([Key(name, *names) for name, names in found if names is not None])
    return keys[0].label if keys else next(iter(named), None)


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
    no_corner = rows[0][0] != "" and not STIMULI.fullmatch(plain_name(rows[0][0])) and len(rows[0]) == len(rows[-1])
    header = None if no_corner and all(map(is_number, rows[0][1:] or rows[0])) else rows[0]
    body = rows if header is None else rows[1:]
    if not body:
        raise ValueError(f"{str(path)!r} has no rows of responses")
    if header is None:
        header = commented_names(table, len(table.rows[0]), may_lack=True)
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


def _counting(body: list[list[str]]) -> tuple[int, int] | None:
    """The first or the last column, where it has each of the numbers from 0 or 1 on once, in any order; and which."""
    for column in (0, len(body[0]) - 1):
        cells = {plain_number(row[column]) for row in body if NUMBER.fullmatch(row[column])}
        for start in (0, 1):
            if cells == {str(i + start) for i in range(len(body))}:
                return column, start
    return None


def _without_stimuli(
    header: list[str] | None, body: list[list[str]]
) -> tuple[list[str] | None, list[str] | None, list[list[str]]]:
    """A table without its column of names of stimuli, and without a column of row numbers; and the names, if any."""
    heads = [] if header is None else header
    named = next((i for i, head in enumerate(heads) if STIMULI.fullmatch(plain_name(head))), None)
    first, is_unnamed = [row[0] for row in body], heads[:1] == [""]
    if named is None and not is_unnamed and all(map(is_number, first)):
        return header, None, body
    place = named or 0
    # A table's own row numbers are no names.
    stimuli = None if is_unnamed and not place and count_rows(first) else [row[place] for row in body]
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
        twice = first_twice(names)
        if twice is not None:
            raise ValueError(f"{str(path)!r} names {what} twice: {twice!r} is the first")
    return Recordings(values, stimuli, targets, str(path), notes)
