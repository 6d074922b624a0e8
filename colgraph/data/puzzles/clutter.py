"""Clutter: which digit lies below fragments of other digits?

After the task "digit debris" of Spoerer et al. (2017), "Recurrent convolutional neural networks: a better model of
biological object recognition", with the handwritten digits that scikit-learn carries in place of a computer font.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from colgraph.data.puzzles.drawn import CHUNK, Drawn, Kind, Made, gather
from colgraph.data.puzzles.stream import Stream
from colgraph.extras import optional
from colgraph.options import option

DEBRIS = {"light": (2, 4), "medium": (6, 9), "heavy": (11, 16)}
"""The fewest and the most fragments of an image."""

_SIDE = 16  # pixels of an image; a digit has 8
_DIGIT = 8
_SHIFT = 1  # pixels by which the digit is off the center, at most
_FRAGMENT = 3  # pixels of a fragment's side
_LEVELS = 16  # of grey, besides black
_SHARES = {"test": 5, "val": 10}  # one of so many digits of a class is for it


@dataclass(frozen=True)
class Clutter(Kind):
    """A digit near the center, below fragments of other digits; the class is that of the digit.

    Light debris are 2 to 4 fragments of 3 x 3 pixels, medium 6 to 9, heavy 11 to 16. Digits and fragments of the
    training, validation and test images are of different handwritten digits: 70%, 10% and 20% of each class.
    Difficulty ``[n]`` is the number of fragments. Harder: the other two kinds of debris.

    Raises:
        OptionError: for values out of range.
    """

    debris: str = option("medium", "how much lies on the digits", choices=tuple(DEBRIS))
    train: int = option(20_000, "training images", low=2, high=10_000_000)
    val: int = option(1_000, "validation images", low=2, high=10_000_000)
    test: int = option(2_000, "test images", low=2, high=10_000_000)
    harder: int = option(1_000, "images of each other kind of debris", low=0, high=10_000_000)
    seed: int = option(0, "what all is drawn from", low=0)

    @property
    def unit(self) -> int:
        """Images can have multiples of this side."""
        return _SIDE

    def make(self) -> Made:
        """Draw the sets.

        Raises:
            ImportError: if scikit-learn is missing.
        """
        bunch = optional("--data clutter needs", "sklearn.datasets", "train").load_digits()
        digits = _Digits(bunch.images.astype(np.uint8), bunch.target.astype(np.int64))
        apart = _apart(digits.classes, self.seed)
        taken: set[str] = set()

        def draw(split: str, debris: str, count: int) -> Drawn:
            some = apart["train" if split == "train" else "val" if split == "val" else "test"]
            chosen = _Digits(digits.levels[some], digits.classes[some])
            return gather(
                lambda number: _draw(chosen, Stream(self.seed, "clutter", split, debris, number), DEBRIS[debris]),
                count,
                taken,
                "ask for fewer",
            )

        sets = {split: draw(split, self.debris, getattr(self, split)) for split in ("test", "val", "train")}
        others = [debris for debris in DEBRIS if debris != self.debris and self.harder]
        harder = {debris: draw("harder", debris, self.harder) for debris in others}
        return Made(sets, harder, [str(name) for name in bunch.target_names])


@dataclass(frozen=True)
class _Digits:
    """Handwritten digits.

    Attributes:
        levels: ``[n, 8, 8]`` uint8 from 0 (black) to 16.
        classes: ``[n]``.
    """

    levels: NDArray[np.uint8]
    classes: NDArray[np.int64]


def _apart(classes: NDArray[np.int64], seed: int) -> dict[str, NDArray[np.int64]]:
    """Which digits are for which split, each class in proportion."""
    order = np.argsort(Stream(seed, "clutter", "digits").words(len(classes)), kind="stable")
    parts: dict[str, list[NDArray[np.int64]]] = {"test": [], "val": [], "train": []}
    for each in np.unique(classes):
        members = order[classes[order] == each]
        begin = 0
        for split, share in _SHARES.items():
            count = len(members) // share
            parts[split].append(members[begin : begin + count])
            begin += count
        parts["train"].append(members[begin:])
    return {split: np.sort(np.concatenate(some)) for split, some in parts.items()}


def _draw(digits: _Digits, stream: Stream, debris: tuple[int, int]) -> Drawn:
    """A digit to each image, then fragments on it, wherever they fall."""
    least, most = debris
    target = stream.below(len(digits.classes), CHUNK)
    canvas = np.zeros((CHUNK, _SIDE, _SIDE), dtype=np.uint8)
    corner = (_SIDE - _DIGIT) // 2 - _SHIFT + stream.below(2 * _SHIFT + 1, CHUNK, 2)
    _lay(canvas, digits.levels[target], corner, np.ones(CHUNK, dtype=bool))
    count = least + stream.below(most - least + 1, CHUNK)
    for number in range(most):
        other = digits.levels[stream.below(len(digits.classes), CHUNK)]
        cut = stream.below(_DIGIT - _FRAGMENT + 1, CHUNK, 2)
        place = stream.below(_SIDE - _FRAGMENT + 1, CHUNK, 2)
        _lay(canvas, other[_window(cut, _FRAGMENT)], place, number < count)
    pixels = (canvas.astype(np.uint16) * 255 // _LEVELS).astype(np.uint8)
    return Drawn(pixels[:, None], digits.classes[target], count.astype(np.float32))


def _lay(
    canvas: NDArray[np.uint8], piece: NDArray[np.uint8], corner: NDArray[np.int64], which: NDArray[np.bool_]
) -> None:
    """Put a piece ``[n, k, k]`` into each image: where it has ink, it covers what lies below."""
    window = _window(corner, piece.shape[1])
    covers = (piece > 0) & which[:, None, None]
    canvas[window] = np.where(covers, piece, canvas[window])


def _window(corner: NDArray[np.int64], side: int) -> tuple[NDArray[np.int64], ...]:
    """Indices of a square ``[n, side, side]`` in each of n images, from its corners ``[n, 2]``."""
    along = np.arange(side)
    images = np.arange(len(corner))[:, None, None]
    return images, corner[:, :1, None] + along[:, None], corner[:, 1:, None] + along
