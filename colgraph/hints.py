"""Messages of all rooms: in one line, and about a name that is not known with what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable


def in_one_line(message: object) -> str:
    """A message, or that of an error, without breaks and doubled blanks."""
    return " ".join(str(message).split())


def reason_of(error: BaseException) -> str:
    """What a library says is wrong, in one line: the first one of its message, or the name of the error."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def closest(name: object, known: Iterable[object]) -> str:
    """The end of an error message about an unknown name: the closest known one, if any is close, and all of them."""
    names = [str(k) for k in known]
    return f"{did_you_mean(name, names)}; known are {', '.join(names) or 'none'}"


def did_you_mean(name: object, known: Iterable[object], start: str = ": ", show: Callable[[str], str] = repr) -> str:
    """``": did you mean 'this'?"``, or nothing where no known name is close; ``show`` writes the name."""
    near = nearest(name, known)
    return "" if near is None else f"{start}did you mean {show(near)}?"


def nearest(name: object, known: Iterable[object], cutoff: float = 0.6) -> str | None:
    """The known name that looks most like this one, or None where none is as alike as ``cutoff`` (of 1)."""
    return next(iter(difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=cutoff)), None)
