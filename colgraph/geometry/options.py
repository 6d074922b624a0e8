"""The options of geometry functions and readers: types, defaults, and the check of what a user passes."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from colgraph.hints import closest, did_you_mean


@dataclass(frozen=True)
class Option:
    """One option of a geometry: its name, its type as written, and its default as Python writes it ("" if none)."""

    name: str
    type: str
    default: str

    def __str__(self) -> str:
        text = f"{self.name}: {self.type}" if self.type else self.name
        return f"{text} = {self.default}" if self.default else text


@dataclass(frozen=True)
class GeometryInfo:
    """What ``colgraph list`` prints about a geometry."""

    name: str
    options: tuple[Option, ...]
    summary: str
    place: str

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.options))})"


class OptionGroup:
    """Base of dataclasses whose fields are options wherever a function takes one as a keyword argument."""


def describe_function(name: str, function: Callable[..., Any], place: str) -> GeometryInfo:
    """Options and first docstring line of a geometry function."""
    lines = (inspect.getdoc(function) or "").strip().splitlines()
    return GeometryInfo(name, list_options(function), lines[0] if lines else "", place)


def list_options(function: Callable[..., Any]) -> tuple[Option, ...]:
    """The options of a function."""
    return tuple(
        Option(key, _type_text(hint), "" if default is _EMPTY else repr(default))
        for key, (hint, default) in _slots(function).items()
    )


def call_with_options(
    what: str, function: Callable[..., Any], options: dict[str, Any], callers: tuple[str, ...] = ()
) -> Any:
    """What a function makes of options, after :func:`check_options`; NumPy's scalars become plain values."""
    options = {name: value.item() if isinstance(value, np.generic) else value for name, value in options.items()}
    check_options(what, function, options, callers)
    for key, group in _groups(function).items():
        own = {field.name for field in dataclasses.fields(group)} & options.keys()
        options[key] = group(**{name: options.pop(name) for name in own})
    return function(**options)


def check_options(
    what: str, function: Callable[..., Any], options: dict[str, Any], callers: tuple[str, ...] = ()
) -> None:
    """Refuse options that ``function`` does not have, leaves without a value, or annotates with another type.

    ``what`` is what messages call it; ``callers`` are further names that a misspelt option may have meant.

    Raises:
        ValueError: naming the option and the options there are.
    """
    slots = _slots(function)
    known = ", ".join(map(str, list_options(function))) or "none"
    takes_any = any(p.kind is p.VAR_KEYWORD for p in _parameters(function).values())
    for key in options:
        if key not in slots and not takes_any:
            hint = did_you_mean(key, (*slots, *callers))
            raise ValueError(f"unknown option {key!r} for {what}{hint}; known are {known}")
    for key, (_, default) in slots.items():
        if key not in options and default is _EMPTY:
            raise ValueError(f"{what} needs option {key!r}; known are {known}")
    for key, value in options.items() if _hints(function) else ():
        kind = slots[key][0] if key in slots else _EMPTY
        if not _fits(value, kind):
            raise ValueError(f"{what}: {_type_error(key, value, kind)}")


_EMPTY = inspect.Parameter.empty
_KINDS = {int: int | np.integer, float: int | float | np.integer | np.floating, str: str}
_UNIONS = (typing.Union, types.UnionType)
_WORDS: dict[Any, str] = {bool: "true or false", str: "a name", Sequence[str]: "a list of names"}


def _type_error(key: str, value: Any, hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return f"unknown {key} {value!r}{closest(value, typing.get_args(hint))}"
    kinds = typing.get_args(hint) if typing.get_origin(hint) in _UNIONS else (hint,)
    wanted = " or ".join(_WORDS.get(kind) or _type_text(kind) for kind in kinds if kind is not type(None))
    return f"option {key!r} must be {wanted}, got {value!r}"


def _slots(function: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """Annotation and default of each option."""
    hints, groups = _hints(function), _groups(function)
    slots: dict[str, tuple[Any, Any]] = {}
    for key, parameter in _parameters(function).items():
        if key in groups:
            slots |= _slots(groups[key])
        elif parameter.kind is not parameter.VAR_KEYWORD:
            slots[key] = (hints.get(key, parameter.annotation), parameter.default)
    return slots


def _groups(function: Callable[..., Any]) -> dict[str, Any]:
    """The keyword arguments that are groups of options."""
    hints = _hints(function)
    found = {key: hints.get(key) for key in _parameters(function)}
    return {key: hint for key, hint in found.items() if isinstance(hint, type) and issubclass(hint, OptionGroup)}


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        parameters = inspect.signature(function).parameters
    except (ValueError, TypeError):
        return {}
    return {key: p for key, p in parameters.items() if p.kind not in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL)}


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    # A plug-in may annotate with names it never imported at run time: then there is nothing to check against.
    function = function.func if isinstance(function, functools.partial) else function
    try:
        return typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except Exception:
        return {}


def _type_text(hint: Any) -> str:
    if hint is inspect.Parameter.empty:
        return ""
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(repr(choice) for choice in typing.get_args(hint))
    if isinstance(hint, type) and not typing.get_args(hint):
        return hint.__name__
    return str(hint).replace("typing.", "").replace("collections.abc.", "")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type: numbers, texts, choices, sequences and unions of them; else True."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in _UNIONS:
        return any(_fits(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if hint in (None, type(None)):
        return value is None
    if hint is bool:
        return isinstance(value, bool | np.bool_)
    if hint in (int, float, str):
        return isinstance(value, _KINDS[hint]) and not isinstance(value, bool)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Iterable):
        return _fits_sequence(value, origin, arguments)
    return True


def _fits_sequence(value: Any, origin: type, arguments: tuple[Any, ...]) -> bool:
    if isinstance(value, str | bytes | dict | Iterator) or not isinstance(value, Iterable):
        return False
    items = list(value)
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return len(items) == len(arguments) and all(_fits(v, a) for v, a in zip(items, arguments, strict=True))
    return not arguments or all(_fits(item, arguments[0]) for item in items)
