"""The end of messages about a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["closest", "did_you_mean"]


def closest(name: object, known: Iterable[str]) -> str:
    """The end of an error message about an unknown name: the closest known one, if any is close, and all of them."""
    names = [str(k) for k in known]
    return f"{did_you_mean(name, names)}; known are {', '.join(names) or 'none'}"


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """``": did you mean 'this'?"``, or nothing where no known name is close."""
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
    return f": did you mean {near[0]!r}?" if near else ""
