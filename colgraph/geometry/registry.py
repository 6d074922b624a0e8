"""Geometries by name: the registry, entry points of installed packages, and plug-in files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from colgraph.geometry.base import Geometry
from colgraph.geometry.options import GeometryInfo, call_with_options, describe_function
from colgraph.plugins import Registry, error_in_one_line, is_plugin, place_of

GeometryFunction = Callable[..., Geometry]

_registry = Registry("geometry", "geometries")

ENTRY_POINT_GROUP = _registry.group


def register_geometry(name: str) -> Callable[[GeometryFunction], GeometryFunction]:
    """Make a function that returns a :class:`Geometry` known by name.

    The function's keyword arguments are the geometry's options; annotate them and give them defaults, so that
    ``colgraph list`` can show them and wrong types are refused::

        @cg.register_geometry("moebius")
        def moebius(columns: int = 256) -> cg.Geometry: ...

    Defining the same function at the same place again (a notebook cell run twice, a module reloaded) replaces it.

    Raises:
        ValueError: if the name is taken by another function; the message names both places.
    """
    return _registry.register(name)


def list_geometries() -> list[str]:
    """Names of all registered geometries, installed plug-ins included, in alphabetical order."""
    return _registry.names()


def describe_geometries() -> list[GeometryInfo]:
    """For each registered geometry its options with types and defaults, and the first line of its docstring.

    A plug-in of an installed package that cannot be loaded is listed with the reason as its summary.
    """
    infos = []
    for name in list_geometries():
        try:
            function = find_geometry(name)
        except ValueError as error:
            infos.append(GeometryInfo(name, (), f"cannot be loaded: {error}", ""))
        else:
            infos.append(describe_function(name, function, place_of(function)))
    return infos


def find_geometry(name: str) -> GeometryFunction:
    """The function registered under ``name``.

    Raises:
        ValueError: for an unknown name (with the closest), or a plug-in that cannot be loaded.
    """
    return _registry.find(name)


def load_plugin(spec: str) -> GeometryFunction:
    """Load the geometry function that ``file.py:function`` names. The file is executed: load only what you trust.

    Args:
        spec: path and function; what the function is called in the file or the name it is registered under.

    Raises:
        ValueError: if the file or the function is missing, or running the file fails.
    """
    return _registry.load_plugin(spec)


def call_geometry(
    name: str, function: GeometryFunction, options: dict[str, Any], callers: tuple[str, ...] = ()
) -> Geometry:
    """Call a geometry function with checked options; an unnamed result is given ``name``.

    ``callers`` are the caller's own arguments: a misspelt option may have meant one of them.

    Raises:
        ValueError: for options the function does not have or of a wrong type, or when no Geometry comes back.
    """
    try:
        result = call_with_options(f"geometry {name!r}", function, options, callers)
    except (ValueError, ImportError):
        raise
    except Exception as error:
        raise ValueError(f"geometry {name!r} ({place_of(function)}) failed: {error_in_one_line(error)}") from error
    if not isinstance(result, Geometry):
        raise ValueError(f"geometry {name!r} ({place_of(function)}) returned {type(result).__name__}, not a Geometry")
    return dataclasses.replace(result, name=name) if result.name == "custom" else result


__all__ = [
    "ENTRY_POINT_GROUP",
    "call_geometry",
    "describe_geometries",
    "find_geometry",
    "is_plugin",
    "list_geometries",
    "load_plugin",
    "register_geometry",
]
