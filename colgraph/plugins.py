"""Things by name that users can add to: decorators, entry points of installed packages, and plug-in files."""

from __future__ import annotations

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
from typing import Any, TypeVar

from colgraph.hints import closest, in_one_line

_Thing = TypeVar("_Thing", bound=Callable[..., Any])


class Registry:
    """Functions or classes of one kind, by name.

    Args:
        kind: what they are called in errors: "geometry".
        kinds: the group of entry points in which installed packages declare them is ``colgraph.<kinds>``.
        what: what a plug-in file has to define: "function", "class", or "function or class".
    """

    def __init__(self, kind: str, kinds: str, what: str = "function") -> None:
        self.kind, self.group, self.what = kind, f"colgraph.{kinds}", what
        self._known: dict[str, Callable[..., Any]] = {}

    def register(self, name: str) -> Callable[[_Thing], _Thing]:
        """A decorator that makes a function or class known by name; see :func:`colgraph.register_geometry`.

        Raises:
            ValueError: for a name that is none, or is taken by another; the message names both places.
        """
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][\w-]*", name):
            raise ValueError(
                f"a {self.kind}'s name is made of letters, digits, _ and -, got {name!r}: "
                f'write @register_{self.kind}("name") above the {self.what}'
            )

        def register(thing: _Thing) -> _Thing:
            if not callable(thing):
                raise ValueError(f"register_{self.kind}({name!r}) goes above a {self.what}, got {type(thing).__name__}")
            known = self._known.get(name)
            if known is not None and not _same_place(known, thing):
                raise ValueError(
                    f"{self.kind} {name!r} is registered twice: at {place_of(known)} and at {place_of(thing)}; "
                    "rename one"
                )
            self._known[name] = thing
            return thing

        return register

    def names(self) -> list[str]:
        """All names, those of installed plug-ins included, in alphabetical order."""
        return sorted({*self._known, *self._entry_points()})

    def find(self, name: str) -> Callable[..., Any]:
        """What is registered under ``name``.

        Raises:
            ValueError: for an unknown name (with the closest), or a plug-in that cannot be loaded.
        """
        entry = self._entry_points().get(name)
        if entry is not None:
            self._load_entry_point(entry)
        if name not in self._known:
            raise ValueError(f"unknown {self.kind} {name!r}{closest(name, self.names())}")
        return self._known[name]

    def load_plugin(self, spec: str) -> Callable[..., Any]:
        """What ``file.py:name`` names. The file is executed: load only what you trust.

        Args:
            spec: path and name; what it is called in the file or the name it is registered under.

        Raises:
            ValueError: if the file or the name is missing, or running the file fails.
        """
        if not is_plugin(spec):
            raise ValueError(f"a plug-in is named as file.py:{self.what}, got {spec!r}")
        file, _, name = spec.rpartition(":")
        path = Path(file).expanduser()
        if not path.is_file():
            raise ValueError(f"plug-in file {file!r} does not exist")
        module = _run_file(path)
        thing = getattr(module, name, None)
        if callable(thing):
            return thing  # type: ignore[no-any-return]
        registered = self._known.get(name)
        if registered is not None and getattr(registered, "__module__", None) == module.__name__:
            return registered
        kinds: dict[str, Callable[[object], bool]] = {"function": inspect.isfunction, "class": inspect.isclass}
        is_one = kinds.get(self.what, lambda value: inspect.isfunction(value) or inspect.isclass(value))
        there = [key for key, value in vars(module).items() if is_one(value)]
        raise ValueError(f"{file!r} has no {self.what} {name!r}{closest(name, there)}")

    def _entry_points(self) -> dict[str, importlib.metadata.EntryPoint]:
        found: dict[str, importlib.metadata.EntryPoint] = {}
        for entry in importlib.metadata.entry_points(group=self.group):
            other = found.setdefault(entry.name, entry)
            if other.value != entry.value:
                raise ValueError(
                    f"{self.kind} {entry.name!r} is declared twice by installed packages: "
                    f"as {_entry_place(other)} and as {_entry_place(entry)}; uninstall one"
                )
        return found

    def _load_entry_point(self, entry: importlib.metadata.EntryPoint) -> None:
        try:
            thing = entry.load()
        except Exception as error:
            raise ValueError(
                f"the plug-in {self.kind} {entry.name!r} of {_entry_place(entry)} cannot be loaded: "
                f"{error_in_one_line(error)}"
            ) from error
        self.register(entry.name)(thing)


def is_plugin(source: str) -> bool:
    """Whether ``source`` has the form ``file.py:name``."""
    path, colon, name = source.rpartition(":")
    return bool(colon) and path.endswith(".py") and name.isidentifier()


def _entry_place(entry: importlib.metadata.EntryPoint) -> str:
    package = getattr(getattr(entry, "dist", None), "name", None)
    return f"{entry.value} ({package})" if package else entry.value


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
        raise ValueError(f"plug-in file {str(path)!r} failed to run: {error_in_one_line(error)}") from error
    return module


# ---------------------------------------------------------------------- where something was written


def place_of(thing: Any) -> str:
    """File and line of a function; of what has no line of its own, its name."""
    code = _code(thing)
    if code is None:
        return f"{getattr(thing, '__module__', '?')}.{getattr(thing, '__qualname__', thing)}"
    return f"{code.co_filename}:{code.co_firstlineno}"


def _code(thing: Any) -> Any:
    thing = thing.__init__ if inspect.isclass(thing) and "__init__" in vars(thing) else thing
    return getattr(inspect.unwrap(thing), "__code__", None)


def _same_place(one: Any, other: Any) -> bool:
    """Whether two functions are one definition run twice: by a notebook, where each run of a cell has a file name of
    its own, or by loading a module again, where lines may have moved in between."""
    if one is other:
        return True
    if inspect.isclass(one) and inspect.isclass(other):
        return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)
    first, second = _code(one), _code(other)
    if first is None or second is None or one.__qualname__ != other.__qualname__:
        return False
    if one.__module__ == other.__module__ == "__main__":
        return True
    if os.path.realpath(first.co_filename) != os.path.realpath(second.co_filename):
        return False
    return "<locals>" not in one.__qualname__ or first.co_firstlineno == second.co_firstlineno


def error_in_one_line(error: BaseException) -> str:
    """An error's kind and what it says."""
    text = in_one_line(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
