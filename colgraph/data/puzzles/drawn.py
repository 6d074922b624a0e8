"""Made images as they are drawn: by the chunk, each once, until there are as many as were asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.data.sets import content_keys
from colgraph.options import check_fields

CHUNK = 4096
"""Images drawn together. The first images of a set are the same however many are asked for."""

_MOST_CHUNKS = 1000  # that finding the images may be expected to take
_PATIENCE = 12  # chunks that may bring nothing new


@dataclass(frozen=True)
class Drawn:
    """Images with their targets.

    Attributes:
        pixels: ``[n, C, S, S]`` uint8, C = 1 or 3.
        labels: ``[n]`` or ``[n, rows, cols]`` int64; -100 is ignored.
        difficulty: ``[n]`` or ``[n, rows, cols]`` float32; nan where there is none.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    difficulty: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, which: NDArray[Any]) -> Drawn:
        """Some of the images."""
        return Drawn(self.pixels[which], self.labels[which], self.difficulty[which])

    def keys(self) -> NDArray[np.str_]:
        """A name for each image, from its pixels."""
        return content_keys(image.tobytes() for image in self.pixels)


class Kind(ABC):
    """What the kinds of made data have in common: options that are checked, and images of ``unit`` pixels a side."""

    def __post_init__(self) -> None:
        check_fields(self, written=True)

    @property
    @abstractmethod
    def unit(self) -> int:
        """Images can have multiples of this side."""

    @property
    def side(self) -> int:
        """Pixels of an image's side."""
        return self.unit

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the targets; None for targets of whole images."""
        return None


@dataclass(frozen=True)
class Made:
    """Sets of made images, no two of which are the same.

    Attributes:
        sets: "train", "val" and "test".
        harder: harder sets by name.
        classes: the name of each class.
        notes: what a user should know.
    """

    sets: dict[str, Drawn]
    harder: dict[str, Drawn]
    classes: list[str]
    notes: list[str] = field(default_factory=list)


def join(parts: Sequence[Drawn]) -> Drawn:
    """Several, one after the other."""
    return Drawn(
        np.concatenate([part.pixels for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.difficulty for part in parts]),
    )


def gather(draw: Callable[[int], Drawn], count: int, taken: set[str], advice: str) -> Drawn:
    """The first images of a sequence of chunks that nobody has seen before.

    Args:
        draw: makes the images of a chunk, given its number: those that came out as they should, perhaps none.
        count: how many.
        taken: the keys of all images there are; grows by those that are found.
        advice: the end of the error.

    Raises:
        ValueError: if such images are too rare.
    """
    parts: list[Drawn] = []
    found = number = last = 0
    while found < count:
        if number - last >= _PATIENCE or (number >= _PATIENCE and found * _MOST_CHUNKS < count * number):
            raise ValueError(f"{count:,} different images are too many: {number} rounds gave {found:,}; {advice}")
        parts.append(unseen(draw(number), count - found, taken))
        number += 1
        if len(parts[-1]):
            found, last = found + len(parts[-1]), number
    return join(parts)


def unseen(drawn: Drawn, most: int, taken: set[str]) -> Drawn:
    """The first images, as many as ``most``, whose keys are not among those taken, which grow by theirs."""
    rows: list[int] = []
    for row, key in enumerate(drawn.keys().tolist()):
        if len(rows) == most:
            break
        if key not in taken:
            taken.add(key)
            rows.append(row)
    return drawn.take(np.array(rows, dtype=np.int64))
