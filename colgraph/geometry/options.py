"""The options of a geometry function: their types, defaults, and the check of what a user passes."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from colgraph.hints import closest, did_you_mean

__all__ = ["GeometryInfo", "Option", "check_options", "describe_function", "plain_values"]


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


def describe_function(name: str, function: Callable[..., Any], place: str) -> GeometryInfo:
    """Options and first docstring line of a geometry function."""
    hints = _hints(function)
    options = tuple(
        Option(
            key,
            _type_text(hints.get(key, parameter.annotation)),
            "" if parameter.default is parameter.empty else repr(parameter.default),
        )
        for key, parameter in _parameters(function).items()
        if parameter.kind is not parameter.VAR_KEYWORD
    )
    lines = (inspect.getdoc(function) or "").strip().splitlines()
    return GeometryInfo(name, options, lines[0] if lines else "", place)


def check_options(
    name: str, function: Callable[..., Any], options: dict[str, Any], callers: tuple[str, ...] = ()
) -> None:
    """Refuse options that ``function`` does not have, leaves without a value, or annotates with another type.

    ``callers`` are further names that a misspelt option may have meant.

    Raises:
        ValueError: naming the option and the options there are.
    """
    parameters = _parameters(function)
    known = ", ".join(str(option) for option in describe_function(name, function, "").options) or "none"
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in options:
        if key not in parameters and not takes_any:
            hint = did_you_mean(key, (*parameters, *callers))
            raise ValueError(f"geometry {name!r} has no option {key!r}{hint}; its options are {known}")
    for key, parameter in parameters.items():
        has_default = parameter.default is not parameter.empty or parameter.kind is parameter.VAR_KEYWORD
        if key not in options and not has_default:
            raise ValueError(f"geometry {name!r} needs option {key!r}; its options are {known}")
    hints = _hints(function)
    for key, value in options.items():
        if key in hints and not _fits(value, hints[key]):
            raise ValueError(f"geometry {name!r}: {_type_error(key, value, hints[key])}")


def plain_values(options: dict[str, Any]) -> dict[str, Any]:
    """Options with NumPy's scalars as the Python values they stand for."""
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in options.items()}


def _type_error(key: str, value: Any, hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return f"unknown {key} {value!r}{closest(value, typing.get_args(hint))}"
    return f"option {key} must be {_type_text(hint)}, got {value!r}"


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        parameters = inspect.signature(function).parameters
    except (ValueError, TypeError):
        return {}
    return {key: p for key, p in parameters.items() if p.kind not in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL)}


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    # A plug-in may annotate with names it never imported at run time: then there is nothing to check against.
    try:
        return typing.get_type_hints(function)
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
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if hint in (None, type(None)):
        return value is None
    if hint is bool:
        return isinstance(value, bool | np.bool_)
    if hint is int:
        return isinstance(value, int | np.integer) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if hint is str:
        return isinstance(value, str)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Iterable):
        return _fits_sequence(value, origin, arguments)
    return True


def _fits_sequence(value: Any, origin: type, arguments: tuple[Any, ...]) -> bool:
    if isinstance(value, str | bytes | dict) or not isinstance(value, Iterable):
        return False
    items = list(value)
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return len(items) == len(arguments) and all(_fits(v, a) for v, a in zip(items, arguments, strict=True))
    return not arguments or all(_fits(item, arguments[0]) for item in items)
