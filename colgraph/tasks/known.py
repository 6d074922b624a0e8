"""Tasks by name: the registry, entry points of installed packages, and plug-in files."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from colgraph.plugins import Registry, is_plugin, place_of
from colgraph.tasks.task import Task

_registry = Registry("task", "tasks", "class")
_Kind = TypeVar("_Kind", bound=type[Task])


def register_task(name: str) -> Callable[[_Kind], _Kind]:
    """Make a class of :class:`colgraph.tasks.Task` known by name, for ``--task NAME``.

    Raises:
        ValueError: if the name is taken by another class; the message names both places.
    """
    return _registry.register(name)


def list_tasks() -> list[str]:
    """Names of all registered tasks, installed plug-ins included, in alphabetical order."""
    return _registry.names()


def find_task(name: str) -> type[Task]:
    """The class behind a name, or ``file.py:Class``.

    Raises:
        ValueError: for an unknown name, a file that cannot be run, and what is no task.
    """
    found: Any = _registry.load_plugin(name) if is_plugin(name) else _registry.find(name)
    if not inspect.isclass(found) or not issubclass(found, Task):
        raise ValueError(f"task {name!r} ({place_of(found)}) is no class derived from colgraph.tasks.Task")
    missing = sorted(found.__abstractmethods__)
    if missing:
        raise ValueError(f"task {name!r} ({place_of(found)}) lacks {', '.join(missing)}")
    return found


def make_task(settings: Any) -> Task:
    """The task that settings name."""
    return find_task(settings.task)(settings)
