"""Geometries by name: the registry, entry points of installed packages, and plug-in files."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from colgraph.geometry.base import Geometry
from colgraph.geometry.options import GeometryInfo, call_with_options, describe_function
from colgraph.hints import closest, in_one_line

ENTRY_POINT_GROUP = "colgraph.geometries"

GeometryFunction = Callable[..., Geometry]

_registry: dict[str, GeometryFunction] = {}


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
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][\w-]*", name):
        raise ValueError(
            f"a geometry's name is made of letters, digits, _ and -, got {name!r}: "
            'write @register_geometry("name") above the function'
        )

    def register(function: GeometryFunction) -> GeometryFunction:
        if not callable(function):
            raise ValueError(f"register_geometry({name!r}) goes above a function, got {type(function).__name__}")
        known = _registry.get(name)
        if known is not None and not _same_place(known, function):
            raise ValueError(
                f"geometry {name!r} is registered twice: at {_place(known)} and at {_place(function)}; rename one"
            )
        _registry[name] = function
        return function

    return register


def list_geometries() -> list[str]:
    """Names of all registered geometries, installed plug-ins included, in alphabetical order."""
    return sorted({*_registry, *_entry_points()})


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
            infos.append(describe_function(name, function, _place(function)))
    return infos


def find_geometry(name: str) -> GeometryFunction:
    """The function registered under ``name``.

    Raises:
        ValueError: for an unknown name (with the closest), or a plug-in that cannot be loaded.
    """
    entry = _entry_points().get(name)
    if entry is not None:
        _load_entry_point(entry)
    if name not in _registry:
        raise ValueError(f"unknown geometry {name!r}{closest(name, list_geometries())}")
    return _registry[name]


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
        raise ValueError(f"geometry {name!r} ({_place(function)}) failed: {_one_line(error)}") from error
    if not isinstance(result, Geometry):
        raise ValueError(f"geometry {name!r} ({_place(function)}) returned {type(result).__name__}, not a Geometry")
    return dataclasses.replace(result, name=name) if result.name == "custom" else result


# ---------------------------------------------------------------------- installed packages


def _entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    found: dict[str, importlib.metadata.EntryPoint] = {}
    for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise ValueError(
                f"geometry {entry.name!r} is declared twice by installed packages: "
                f"as {_entry_place(other)} and as {_entry_place(entry)}; uninstall one"
            )
    return found


def _entry_place(entry: importlib.metadata.EntryPoint) -> str:
    package = getattr(getattr(entry, "dist", None), "name", None)
    return f"{entry.value} ({package})" if package else entry.value


def _load_entry_point(entry: importlib.metadata.EntryPoint) -> None:
    try:
        function = entry.load()
    except Exception as error:
        raise ValueError(
            f"the plug-in geometry {entry.name!r} of {_entry_place(entry)} cannot be loaded: {_one_line(error)}"
        ) from error
    register_geometry(entry.name)(function)


# ---------------------------------------------------------------------- plug-in files


def is_plugin(source: str) -> bool:
    """Whether ``source`` has the form ``file.py:function``."""
    path, colon, function = source.rpartition(":")
    return bool(colon) and path.endswith(".py") and function.isidentifier()


def load_plugin(spec: str) -> GeometryFunction:
    """Load the geometry function that ``file.py:function`` names. The file is executed: load only what you trust.

    Args:
        spec: path and function; what the function is called in the file or the name it is registered under.

    Raises:
        ValueError: if the file or the function is missing, or running the file fails.
    """
    if not is_plugin(spec):
        raise ValueError(f"a plug-in is named as file.py:function, got {spec!r}")
    file, _, name = spec.rpartition(":")
    path = Path(file).expanduser()
    if not path.is_file():
        raise ValueError(f"plug-in file {file!r} does not exist")
    module = _run_file(path)
    function = getattr(module, name, None)
    if callable(function):
        return function  # type: ignore[no-any-return]
    registered = _registry.get(name)
    if registered is not None and getattr(registered, "__module__", None) == module.__name__:
        return registered
    functions = [key for key, value in vars(module).items() if inspect.isfunction(value)]
    raise ValueError(f"{file!r} has no function {name!r}{closest(name, functions)}")


def _run_file(path: Path) -> ModuleType:
    """Execute a file as a module of its own; its name depends on the path only, so that a second run replaces it."""
    path = path.resolve()
    module_name = f"colgraph_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{str(path)!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise ValueError(f"plug-in file {str(path)!r} failed to run: {_one_line(error)}") from error
    return module


# ---------------------------------------------------------------------- where a function was written


def _code(function: Any) -> Any:
    return getattr(inspect.unwrap(function), "__code__", None)


def _place(function: Any) -> str:
    code = _code(function)
    if code is None:
        return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', function)}"
    return f"{code.co_filename}:{code.co_firstlineno}"


def _same_place(one: Any, other: Any) -> bool:
    """Whether two functions are one definition run twice: by a notebook, where each run of a cell has a file name of
    its own, or by loading a module again, where lines may have moved in between."""
    if one is other:
        return True
    first, second = _code(one), _code(other)
    if first is None or second is None or one.__qualname__ != other.__qualname__:
        return False
    if one.__module__ == other.__module__ == "__main__":
        return True
    if os.path.realpath(first.co_filename) != os.path.realpath(second.co_filename):
        return False
    return "<locals>" not in one.__qualname__ or first.co_firstlineno == second.co_firstlineno


def _one_line(error: BaseException) -> str:
    text = in_one_line(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
