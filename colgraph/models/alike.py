"""Whether two networks of the same class are the same function of their parameters, as far as their modules tell."""

from __future__ import annotations

from typing import Any

from torch import nn

_PLAIN = (bool, int, float, str, tuple, type(None))
_ELSEWHERE = ("training", "backend", "recompute", "dump_patches", "call_super_init")
"""What modules hold that changes nothing of what they answer, or is chosen where they run."""


def differing_part(net: nn.Module, other: nn.Module) -> str | None:
    """The first part of a network that another has not, or has otherwise; None where there is none.

    A part is a module's class, what it holds (such as ``eps`` and ``activation``), or the shape of a parameter, whose
    values may differ.
    """
    for name, module in net.named_modules():
        try:
            twin = other.get_submodule(name)
        except AttributeError:
            return name
        mine, theirs = _settings(module), _settings(twin)
        if type(module).__qualname__ != type(twin).__qualname__:  # a file that was read twice makes two classes
            return name or type(net).__name__
        odd = next((each for each in mine.keys() | theirs.keys() if mine.get(each) != theirs.get(each)), None)
        if odd is not None:
            return f"{name}.{odd}".removeprefix(".")
    shapes = [{name: value.shape for name, value in each.state_dict().items()} for each in (net, other)]
    return next((name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name)), None)


def _settings(module: nn.Module) -> dict[str, Any]:
    """The plain values and functions that a module holds, functions by name."""
    found = {}
    for name, value in vars(module).items():
        if name.startswith("_") or name in _ELSEWHERE:
            continue
        if isinstance(value, _PLAIN):
            found[name] = value
        elif callable(value) and not isinstance(value, nn.Module | type):
            found[name] = getattr(value, "__qualname__", repr(type(value)))
    return found
