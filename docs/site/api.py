"""The reference of the Python interface: which names are public, and a page of docstrings for each room.

Public is what a room lists in ``__all__``, what the pages import, and the classes that signatures of these name, such
as the results of analyses. Each is described once, by the shortest name that it has.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.pycode import ModuleAnalyzer

PACKAGE = "colgraph"
FIRST = ("colgraph", "colgraph.geometry", "colgraph.sheet", "colgraph.models", "colgraph.nn", "colgraph.ops")
NOT_FOR_USERS = ("extra_repr",)
"""Methods that torch calls, and nobody else."""
MANY = 24
"""A room of more names than this is divided by the files that define them."""


@dataclass(frozen=True, eq=False)
class Public:
    """A public name.

    Attributes:
        name: in full, the shortest that it has.
        value: what it names.
        home: the module that defines it.
    """

    name: str
    value: Any
    home: str

    @property
    def kind(self) -> str:
        if inspect.isclass(self.value):
            return "exception" if issubclass(self.value, BaseException) else "class"
        return "function" if inspect.isroutine(self.value) else "data"

    @property
    def text(self) -> str | None:
        """Its docstring; of a constant the one below it."""
        if self.kind != "data":
            return inspect.getdoc(self.value) if self.kind == "function" else self.value.__doc__
        lines = ModuleAnalyzer.for_module(self.home).find_attr_docs().get(("", self.name.rpartition(".")[2]))
        return "\n".join(lines).strip() if lines else None


@dataclass(frozen=True)
class Room:
    """A page of the reference.

    Attributes:
        name: of the package or module.
        names: what it describes.
        elsewhere: names that it has, too, of what another room describes.
    """

    name: str
    names: list[Public] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)


@cache
def rooms(root: Path) -> dict[str, Room]:
    """All public names by room; ``root`` has the pages that are read for names."""
    found: dict[str, Room] = {}
    known: dict[int, str] = {}
    for module in _listed():
        room = found.setdefault(module.__name__, Room(module.__name__))
        origins = _origins(module)
        for name in sorted(module.__all__, key=lambda name: (_is_another(module, name), name)):
            _add(room, f"{module.__name__}.{name}", getattr(module, name), origins.get(name, module.__name__), known)
    waiting = [(module, name, getattr(importlib.import_module(module), name)) for module, name in imported_by(root)]
    while waiting:
        for module, name, value in waiting:
            _add(found.setdefault(_room_of(module), Room(_room_of(module))), f"{module}.{name}", value, module, known)
        described = [public for room in found.values() for public in room.names]
        classes = {id(each): each for public in described for each in _named_by(public.value) if id(each) not in known}
        waiting = [(each.__module__, each.__name__, each) for each in classes.values()]
    order = [*FIRST, *sorted(found.keys() - {*FIRST})]
    return {name: found[name] for name in order if found[name].names}


def _listed() -> list[ModuleType]:
    inner = (each.name for each in pkgutil.iter_modules([str(path) for path in _package().__path__]) if each.ispkg)
    modules = [importlib.import_module(f"{PACKAGE}.{name}") for name in inner]
    return [_package(), *(module for module in modules if hasattr(module, "__all__"))]


def _is_another(module: ModuleType, name: str) -> bool:
    """Whether a name is a second one of something."""
    return getattr(getattr(module, name), "__name__", name).rpartition(".")[2] != name


def _package() -> ModuleType:
    return importlib.import_module(PACKAGE)


def _room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def _origins(module: ModuleType) -> dict[str, str]:
    """The modules that names come from, as the import lines of a package say."""
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    lines = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module]
    return {alias.asname or alias.name: str(node.module) for node in lines for alias in node.names}


def _add(room: Room, name: str, value: Any, home: str, known: dict[int, str]) -> None:
    if inspect.ismodule(value):
        return
    if inspect.isclass(value) or inspect.isroutine(value):
        home = value.__module__
        if id(value) in known:
            room.elsewhere.extend([known[id(value)]] if known[id(value)] not in room.elsewhere else [])
            return
        known[id(value)] = name
    elif any(public.home == home and public.name.endswith(f".{name.rpartition('.')[2]}") for public in room.names):
        return
    room.names.append(Public(name, value, home))


def imported_by(root: Path) -> list[tuple[str, str]]:
    """``(module, name)`` of what the code of pages imports from the package."""
    blocks = [
        block
        for path in sorted((root / "docs").glob("*.md"))
        for block in re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.S | re.M)
    ]
    lines = [node for block in blocks for node in ast.walk(ast.parse(block)) if isinstance(node, ast.ImportFrom)]
    names = {(str(node.module), alias.name) for node in lines for alias in node.names}
    return sorted((module, name) for module, name in names if module.split(".")[0] == PACKAGE)


def _named_by(value: Any) -> Iterator[type]:
    """Public classes of the package that the signatures of a function, or of a class and its methods, name."""
    if inspect.isclass(value):
        yield from filter(_is_ours, value.__mro__[1:])
        for member in vars(value).values():
            member = getattr(member, "fget", None) or getattr(member, "__func__", member)
            if _is_written(member, value) and (not member.__name__.startswith("_") or member.__name__ == "__init__"):
                yield from _in_signature(member)
    elif inspect.isfunction(value):
        yield from _in_signature(value)


def _is_written(member: Any, owner: type) -> bool:
    """Whether it is a function that its class was written with: PyG adds others when a class is first used."""
    return inspect.isfunction(member) and not member.__module__.startswith(f"{owner.__module__}_{owner.__name__}_")


def _in_signature(function: Any) -> Iterator[type]:
    try:
        hints = typing.get_type_hints(function)
    except NameError:  # a name that only type checkers import
        return
    for hint in hints.values():
        yield from filter(_is_ours, _classes(hint))


def _classes(hint: Any) -> Iterator[Any]:
    yield hint
    for inner in typing.get_args(hint):
        yield from _classes(inner)


def _is_ours(each: Any) -> bool:
    ours = inspect.isclass(each) and each.__module__.split(".")[0] == PACKAGE and not typing.get_args(each)
    return bool(ours and not each.__name__.startswith("_") and "._" not in each.__module__)


# ---------------------------------------------------------------------- what must be said


def undocumented(found: Iterable[Public]) -> list[str]:
    """Names without a docstring, among them members of public classes, and arguments that a docstring leaves out."""
    missing = []
    for public in found:
        # Python writes a docstring of its own for data classes without one: the signature.
        if not public.text or public.text.startswith(f"{public.name.rpartition('.')[2]}("):
            missing.append(public.name)
        missing += [f"{public.name}({name})" for name in _untold(public)]
        if inspect.isclass(public.value):
            missing += [f"{public.name}.{name}" for name in _members(public.value) if not _says(public.value, name)]
    return missing


def _untold(public: Public) -> list[str]:
    """Arguments of a function of more than two that its docstring does not name, if it refers to no other's."""
    text = public.text or ""
    if public.kind != "function" or re.search(r"^As :|arguments: see :", text):
        return []
    names = list(inspect.signature(public.value).parameters)
    return [name for name in names if len(names) > 2 and not re.search(rf"\b{name}\b", text)]


def _members(each: type) -> list[str]:
    """Public methods and properties that a class defines itself."""
    kinds = (property, classmethod, staticmethod)
    own = {name: value for name, value in vars(each).items() if not name.startswith("_") and name not in NOT_FOR_USERS}
    return [name for name, value in own.items() if _is_written(value, each) or isinstance(value, kinds)]


def _says(each: type, name: str) -> bool:
    """Whether a member has a docstring, or is an argument or attribute that the class's tells of."""
    text = inspect.getdoc(each) or ""
    in_class = isinstance(vars(each)[name], property) and re.search(rf"^ +{name}: ", text, re.M)
    package = each.__module__.split(".")[0]
    ours = [one for one in each.__mro__ if one.__module__.split(".")[0] == package and name in vars(one)]
    return bool(in_class or any(getattr(one, name).__doc__ for one in ours))


# ---------------------------------------------------------------------- pages


def pages(root: Path) -> dict[str, str]:
    """The pages of the reference in reStructuredText, by their names.

    Raises:
        ValueError: for public names without a docstring.
    """
    found = rooms(root)
    if missing := undocumented(public for room in found.values() for public in room.names):
        raise ValueError(f"public names without a docstring: {', '.join(missing)}")
    places = {name: f"reference/{name.rpartition('.')[2]}" for name in found}
    return {"reference/index": _index(places), **{places[name]: _page(room) for name, room in found.items()}}


def _titled(text: str, line: str) -> list[str]:
    return [text, line * len(text), ""]


def _first_sentence(module: str) -> str:
    text = inspect.cleandoc(importlib.import_module(module).__doc__ or "").split("\n\n")[0]
    return re.split(r"(?<=[^.])\.\s", " ".join(text.split()) + " ")[0].rstrip(". ") + "."


def _index(places: dict[str, str]) -> str:
    lines = [*_titled("Python", "="), "Every public name, from its docstring.", "", ".. list-table::", ""]
    for name, place in places.items():
        lines += [f"   * - :doc:`{name} </{place}>`", f"     - {_first_sentence(name)}"]
    names = [f"   {name} </{place}>" for name, place in places.items()]
    return "\n".join([*lines, "", ".. toctree::", "   :hidden:", "", *names, ""])


def _page(room: Room) -> str:
    lines = [*_titled(room.name, "="), f".. automodule:: {room.name}", ""]
    if room.elsewhere:
        also = ", ".join(f":py:obj:`{name}`" for name in room.elsewhere)
        lines += [f"It has these, too, which are described with other rooms: {also}.", ""]
    if len(room.names) <= MANY:
        return "\n".join([*lines, *_described(room.names, room.name)])
    homes: dict[str, list[Public]] = {}
    for public in room.names:
        homes.setdefault(public.home, []).append(public)
    for home in sorted(homes):
        title = home.removeprefix(f"{room.name}.").replace("_", " ").capitalize()
        lines += [*_titled(title, "-"), _first_sentence(home), "", *_described(homes[home], room.name)]
    return "\n".join(lines)


def _described(names: list[Public], room: str) -> list[str]:
    lines = [".. autosummary::", "   :nosignatures:", ""]
    lines += [f"   ~{public.name.removeprefix(f'{room}.')}" for public in names if public.kind != "data"]
    lines = [*lines, ""] if len(lines) > 3 else []
    for public in names:
        lines += [*_directive(public), ""]
    return lines


def _directive(public: Public) -> list[str]:
    if public.kind != "data":
        members = [] if public.kind == "function" else ["   :members:", "   :show-inheritance:"]
        return [f".. auto{public.kind}:: {public.name}", *members]
    shown = repr(public.value)
    value = [f"   :value: {shown}"] if len(shown) < 200 and " at 0x" not in shown else []
    module, _, name = public.name.rpartition(".")
    text = [f"   {line}" for line in (public.text or "").splitlines()]
    return [f".. py:data:: {name}", f"   :module: {module}", *value, "", *text]
