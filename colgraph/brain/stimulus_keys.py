"""What may name the stimuli in a file of recordings or images: which arrays do, and which of several are meant."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from colgraph.brain.names import STIMULI, first_twice
from colgraph.text import count_rows, plain_name

_CONDITIONS = ("cond", "conds", "condition", "conditions")
_FIELD = re.compile(r"(name|filename|file|stimulus|stim|id|label)s?")
"""What names are called within a struct that is itself called after stimuli, or lies beside images."""
_AFTER = re.compile(r"(stim|image|img|picture|photo)")

Scope = tuple[str, Mapping[str, Any]]
"""A struct or file that a matrix lies in, and its place in the file ("" for the file)."""


@dataclass(frozen=True)
class Key:
    """Names of stimuli.

    Attributes:
        label: their place in the file.
        names: of each stimulus.
        is_text: whether they are texts; numbers are written without decimals.
        is_called: whether they are called after stimuli.
    """

    label: str
    names: list[str]
    is_text: bool
    is_called: bool = True


@dataclass(frozen=True)
class KeysFound:
    """The keys of a matrix, the one to prefer first; and what is called after stimuli and is none, each with why."""

    keys: list[Key]
    odd: list[tuple[str, str]]


def names_in(value: Any) -> tuple[list[str], bool] | None:
    """A list of texts or of whole numbers (of any dtype) as names, and whether they are texts; None for all else."""
    if isinstance(value, list):
        if all(isinstance(one, np.ndarray) and one.size == 1 for one in value):
            value = np.array([one.item() for one in value])  # a cell array of numbers
        elif not all(isinstance(one, str | bytes) for one in value):
            return None
    if not isinstance(value, np.ndarray | list):
        return None
    array = np.asarray(value)
    array = array.squeeze() if array.ndim > 1 else array
    if array.ndim != 1 or not array.size:
        return None
    if array.dtype.kind in "US":
        return [(one.decode() if isinstance(one, bytes) else str(one)).strip() for one in array.tolist()], True
    is_whole = array.dtype.kind == "f" and bool(np.isfinite(array).all()) and bool((array == np.floor(array)).all())
    return ([str(int(one)) for one in array.tolist()], False) if array.dtype.kind in "iu" or is_whole else None


def is_called_after_stimuli(name: str) -> bool:
    """Whether a variable, field or descriptor is called after stimuli, or conditions."""
    plain = plain_name(name)
    return bool(STIMULI.fullmatch(plain)) or plain in _CONDITIONS


def is_called_after_names(name: str) -> bool:
    """Whether a field of a struct of stimuli, or a variable beside images, is called after names or stimuli."""
    plain = plain_name(name)
    return bool(STIMULI.fullmatch(plain)) or bool(_FIELD.fullmatch(plain))


def keys_around(scopes: Sequence[Scope], count: int, matrices: Sequence[Any]) -> KeysFound:
    """What names the ``count`` stimuli of a matrix, in the struct that it lies in and those around.

    Args:
        scopes: from the innermost.
        count: of stimuli.
        matrices: arrays that were read as such, which are no names.
    """
    taken = {id(one) for one in matrices}
    named: list[Key] = []
    perhaps: list[Key] = []
    odd: list[tuple[str, str]] = []
    for label, value, called in _candidates(scopes):
        if id(value) in taken:
            continue
        found = names_in(value)
        if called and found is not None and len(found[0]) == count:
            named.append(Key(label, *found))
        elif called:
            odd += [(label, why)] if (why := _why_not(value, found, count)) else []
        elif found is not None and len(found[0]) == count and first_twice(found[0]) is None:
            if found[1]:
                perhaps.append(Key(label, *found, is_called=False))
            elif _AFTER.match(plain_name(label.rpartition(".")[2])) and not count_rows(found[0]):
                odd.append((label, "may say the order of the stimuli: call it 'stimuli' if it names them"))
    return KeysFound(preferred(named, perhaps), odd)


def preferred(named: Sequence[Key], perhaps: Sequence[Key] = ()) -> list[Key]:
    """The keys that are meant, texts first: a count of rows is none beside others, and names that come twice are none.

    Args:
        named: what is called after stimuli.
        perhaps: what may name them, where nothing else does.
    """
    distinct = [key for key in named if first_twice(key.names) is None] or list(named)
    telling = [key for key in distinct if not count_rows(key.names)]
    if telling:
        return sorted(telling, key=lambda key: not key.is_text)
    return [*perhaps[:1], *distinct]


def strays(tree: Mapping[str, Any], scopes: Sequence[Scope], count: int) -> list[tuple[str, str]]:
    """Names of so many stimuli that lie in structs without matrices, each with what is wrong with it."""
    seen = {id(scope) for _, scope in scopes}
    found = []
    for scope in _structs(tree, ""):
        if id(scope[1]) in seen:
            continue
        for label, value, called in _candidates([scope]):
            names = names_in(value)
            if called and names is not None and len(names[0]) == count:
                found.append((label, "names stimuli, but lies beside no matrix: put it into a struct of matrices"))
    return found


def _structs(node: Any, label: str) -> Iterator[Scope]:
    if isinstance(node, Mapping):
        yield label, node
        for name, part in node.items():
            yield from _structs(part, f"{label}.{name}" if label else name)
    elif isinstance(node, list):
        for i, part in enumerate(node, start=1):
            yield from _structs(part, f"{label}({i})")


def _candidates(scopes: Sequence[Scope]) -> Iterator[tuple[str, Any, bool]]:
    """What may be names: its place, its value, and whether it is called after stimuli."""
    for place, scope in scopes:
        for name, value in scope.items():
            label, called = f"{place}.{name}" if place else name, is_called_after_stimuli(name)
            if not called:
                yield label, value, False
            elif isinstance(value, Mapping):
                yield from _fields(label, value)
            elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
                yield from _fields(label, {key: [one.get(key) for one in value] for key in value[0]})
            else:
                yield label, value, True


def _fields(label: str, struct: Mapping[str, Any]) -> Iterator[tuple[str, Any, bool]]:
    """What may be names in a struct that is called after stimuli; labels that come again are categories."""
    for name, value in struct.items():
        found = names_in(value)
        if is_called_after_names(name) and (found is None or first_twice(found[0]) is None):
            yield f"{label}.{name}", value, True


def _why_not(value: Any, found: tuple[list[str], bool] | None, count: int) -> str:
    """Why what is called after stimuli does not name them; "" for what need not: pictures, their number, a title."""
    if found is not None:
        return f"names {len(found[0])} stimuli" if len(found[0]) > 2 else ""
    if value is None:
        return "is empty, or of a type of MATLAB's that nothing reads (a string array, a table): save it as cellstr"
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "US" and value.ndim > 1:
            return f"is text of shape {list(value.shape)}: give one name for each stimulus"
        is_list = value.ndim == 1 and len(value) == count
        return f"is a list of {value.dtype}, which are no names: give texts or whole numbers" if is_list else ""
    is_mixed = isinstance(value, list) and len(value) == count and not _are_pictures(value)
    return "is a list of unlike things: give texts or whole numbers" if is_mixed else ""


def _are_pictures(values: Sequence[Any]) -> bool:
    return all(isinstance(one, np.ndarray) and one.ndim > 1 for one in values)
