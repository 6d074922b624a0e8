"""Made data by name, with options: ``mazes``, or ``mazes:size=16,openness=0.6``."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeAlias

from colgraph.data.puzzles.clutter import Clutter
from colgraph.data.puzzles.mazes import Mazes
from colgraph.data.puzzles.pathfinder import Pathfinder
from colgraph.hints import closest
from colgraph.options import OptionError

Puzzle: TypeAlias = Mazes | Pathfinder | Clutter

PUZZLES: dict[str, type[Puzzle]] = {"mazes": Mazes, "pathfinder": Pathfinder, "clutter": Clutter}
"""The kinds of made data."""


def is_puzzle(source: str) -> bool:
    """Whether a source names made data, with options or without."""
    return source.partition(":")[0] in PUZZLES


def puzzle_of(source: str) -> Puzzle:
    """The made data that a source names.

    Raises:
        ValueError: in one line that says what is wrong with which option.
    """
    name, _, text = source.partition(":")
    kind = PUZZLES[name]
    known = [item.name for item in fields(kind)]
    options: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        option, equals, value = (word.strip() for word in part.partition("="))
        option = option.replace("-", "_")
        if not equals:
            raise ValueError(f"{source!r}: options are written name=value, got {part!r}")
        if option in options:
            raise ValueError(f"{source!r} gives {option} twice")
        if option not in known:
            raise ValueError(f"{source!r}: {name} has no option {option!r}{closest(option, known)}")
        options[option] = value
    try:
        return kind(**options)
    except OptionError as error:
        raise ValueError(f"{source!r}: {error}") from error


def repetitions(puzzle: Puzzle, image_size: int | None, source: str) -> int:
    """How many pixels of an image each pixel that is drawn becomes, along a side.

    Args:
        puzzle: the made data.
        image_size: the side that was asked for; None for what the options say.
        source: what errors call it.

    Raises:
        ValueError: for sides that are no multiple, and for those that contradict an option.
    """
    side = puzzle.side if image_size is None else image_size
    if side % puzzle.unit:
        sizes = ", ".join(str(puzzle.unit * times) for times in (1, 2, 3, 4))
        raise ValueError(f"{source!r} has images of {sizes}, ... pixels, got image_size {side}")
    cell = getattr(puzzle, "cell", 1)
    if cell not in (1, side // puzzle.unit):
        raise ValueError(f"{source!r} has images of {puzzle.side} pixels, got image_size {side}: leave out cell={cell}")
    return side // puzzle.unit
