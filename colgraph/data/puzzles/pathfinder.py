"""Pathfinder: are two dots on one curve?

After Linsley et al. (2018), "Learning long-range spatial dependencies with horizontal gated recurrent units": two long
dashed curves and many short ones; the dots are at both ends of one of the long ones, or at an end of each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from colgraph.data.puzzles.drawn import CHUNK, Drawn, Kind, Made, gather, join
from colgraph.data.puzzles.stream import Stream
from colgraph.options import option

_FINE = 256  # of these are a pixel: positions are whole numbers, the same on every machine
_PITCH = 7 * _FINE // 2  # from the beginning of a dash to that of the next
_INK = (0, _FINE // 2, _FINE, 3 * _FINE // 2)  # where a dash is drawn: two or three pixels
_APART = 4 * _FINE  # between dashes of one curve that do not follow each other
_ROOM = 2  # pixels about a curve that no other curve enters
_TURNS = 64
_BEND, _JITTER = 5, 3  # of 64, at most, from one dash to the next: of a curve, and of a dash; 45 degrees together
_DIRECTIONS = np.array(
    [
        [round(_FINE * math.sin(turn)), round(_FINE * math.cos(turn))]
        for turn in np.arange(_TURNS) * (2 * math.pi / _TURNS)
    ]
)
_SAME = 6  # dashes of one bend, so that long curves wind
_LIKE = 1.5  # pixels by which the distance of the dots may differ between the classes
_TRIES = 100  # to place a curve
_HOPELESS = 10  # after which no more are made, where none of a thousand images has found room for it

Curve = NDArray[np.int64]
"""``[n, points, 2]`` the pixels of a curve in each of n images, from one end to the other: row, column."""


@dataclass(frozen=True)
class Pathfinder(Kind):
    """Two dots and dashed curves, white on black; class 1 if one curve joins the dots, as in half of the images.

    Dashes are two or three pixels long whatever the size of the image. Difficulty ``[n]`` is the distance between the
    dots in pixels, which is alike in both classes: only images that could have been of either are taken. Harder:
    ``longer``, with curves of half as many dashes more, and ``cluttered``, with twice as many short curves.

    Raises:
        OptionError: for values out of range.
    """

    size: int = option(32, "pixels of a side", low=16, high=512)
    length: int = option(6, "dashes of the two long curves", low=2, high=100)
    clutter: int = option(4, "short curves, of a third as many dashes (two at least)", low=0, high=200)
    train: int = option(20_000, "training images", low=2, high=10_000_000)
    val: int = option(1_000, "validation images", low=2, high=10_000_000)
    test: int = option(2_000, "test images", low=2, high=10_000_000)
    harder: int = option(1_000, "images of each harder set", low=0, high=10_000_000)
    seed: int = option(0, "what all is drawn from", low=0)

    @property
    def unit(self) -> int:
        """Images can have multiples of this side."""
        return self.size

    def make(self) -> Made:
        """Draw the sets.

        Raises:
            ValueError: if curves of that length, or as many as that, hardly find room.
        """
        taken: set[str] = set()
        sets = {split: self._set(split, getattr(self, split), taken) for split in ("test", "val", "train")}
        variants = {
            "longer": replace(self, length=min(100, self.length + (self.length + 1) // 2)),
            "cluttered": replace(self, clutter=min(200, 2 * self.clutter or 4)),
        }
        harder, notes = {}, []
        for name, other in variants.items() if self.harder else ():
            try:
                harder[name] = other._set(name, self.harder, taken)
            except ValueError as error:
                notes.append(f"there is no harder set {name!r}: {error}")
        return Made(sets, harder, ["two curves", "one curve"], notes)

    def _set(self, split: str, count: int, taken: set[str]) -> Drawn:
        """Images of both classes, in turn."""
        advice = "choose a larger size, a smaller length or less clutter"
        halves = [
            gather(partial(self._draw, split, label), half, taken, advice)
            for label, half in ((1, (count + 1) // 2), (0, count // 2))
            if half
        ]
        order = np.argsort(np.concatenate([2 * np.arange(len(half)) + i for i, half in enumerate(halves)]))
        return join(halves).take(order)

    def _draw(self, split: str, label: int, number: int) -> Drawn:
        stream = Stream(self.seed, "pathfinder", split, label, number)
        board = _Board(stream, self.size, CHUNK // 4)
        first, second = (board.place(self.length, has_dots=True) for _ in range(2))
        ends, is_matched = _dots(first, second, bool(label))
        board.complete &= is_matched
        for _ in range(self.clutter):
            board.place(max(2, self.length // 3))
        board.dot(ends)
        labels = np.full(len(ends), label, dtype=np.int64)
        return Drawn(board.pixels(), labels, _apart(ends).astype(np.float32)).take(np.flatnonzero(board.complete))


def _dots(first: Curve, second: Curve, same: bool) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """``[n, 2, 2]`` where the dots are: at the ends of the first curve, or at one end of each.

    The second value says where the two are as far apart, so that the distance does not tell one from the other.
    """
    ends = np.stack([curve[:, tip] for curve in (first, second) for tip in (0, -1)], axis=1)
    pairs = ends[:, [[0, 2], [0, 3], [1, 2], [1, 3]]]
    differ = np.abs(_apart(pairs) - _apart(ends[:, :2])[:, None])
    across = pairs[np.arange(len(pairs)), differ.argmin(1)]
    return ends[:, :2] if same else across, differ.min(1) <= _LIKE


def _apart(pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """The distance of two places ``[..., 2, 2]`` in pixels."""
    return np.sqrt(((pairs[..., 0, :] - pairs[..., 1, :]) ** 2).sum(-1))


class _Board:
    """Images in the making: curves are placed where there is room, in all images at once.

    Attributes:
        complete: ``[n]`` whether all curves have found room.
    """

    def __init__(self, stream: Stream, size: int, count: int) -> None:
        self.stream, self.size = stream, size
        # With a frame of a pixel, which the room about a dot at the edge reaches into.
        self._width = size + 2
        self._ink, self._closed = np.zeros((2, count * self._width**2), dtype=bool)
        self.complete = np.ones(count, dtype=bool)

    def place(self, dashes: int, has_dots: bool = False) -> Curve:
        """Draw a curve into each image; one that finds no room leaves its image incomplete.

        Args:
            dashes: of the curve.
            has_dots: whether room is kept for dots at its ends.
        """
        chosen = np.zeros((len(self.complete), dashes * len(_INK), 2), dtype=np.int64)
        images = np.flatnonzero(self.complete)
        for tried in range(_TRIES):
            if not len(images) or (tried == _HOPELESS and len(images) == len(self.complete)):
                break
            curve, is_possible = self._curves(dashes, len(images))
            covered = np.concatenate([curve, _squares(curve[:, [0, -1]])], axis=1) if has_dots else curve
            is_free = is_possible & ~self._closed[self._index(images, covered)].any(1)
            placed = images[is_free]
            chosen[placed] = curve[is_free]
            self._ink[self._index(placed, curve[is_free])] = True
            self._close(self._index(placed, covered[is_free]))
            images = images[~is_free]
        self.complete[images] = False
        return chosen

    def _curves(self, dashes: int, count: int) -> tuple[Curve, NDArray[np.bool_]]:
        """Curves anywhere in an image, and which of them lie in it whole and do not meet themselves."""
        bends = self.stream.below(2 * _BEND + 1, count, -(-dashes // _SAME)) - _BEND
        bends = np.repeat(bends, _SAME, axis=1)[:, :dashes]
        bends = bends + self.stream.below(2 * _JITTER + 1, count, dashes) - _JITTER
        bends[:, 0] = self.stream.below(_TURNS, count)
        along = _DIRECTIONS[np.cumsum(bends, axis=1) % _TURNS]
        begin = (np.cumsum(along, axis=1) - along) * _PITCH // _FINE
        points = begin[:, :, None] + along[:, :, None] * np.array(_INK)[:, None] // _FINE
        lowest, highest = points.min((1, 2)), points.max((1, 2))
        free = (self.size - 2 * _ROOM) * _FINE - (highest - lowest)
        fits = (free > 0).all(1)
        start = self.stream.below(np.maximum(free, 1), count, 2) - lowest + _ROOM * _FINE
        points = np.where(fits[:, None, None, None], points + start[:, None, None], _ROOM * _FINE)
        inside = np.flatnonzero(fits)  # long curves hardly ever are, and each dash is held against each
        fits[inside] = ~_meets_itself(points[inside, :, len(_INK) // 2])
        return (points // _FINE).reshape(count, -1, 2), fits

    def dot(self, ends: NDArray[np.int64]) -> None:
        """Draw dots of 3 x 3 pixels at places ``[n, dots, 2]``."""
        images = np.flatnonzero(self.complete)
        self._ink[self._index(images, _squares(ends[images]))] = True

    def pixels(self) -> NDArray[np.uint8]:
        """``[n, 1, size, size]``."""
        framed = self._ink.reshape(-1, 1, self._width, self._width)
        return framed[:, :, 1:-1, 1:-1].astype(np.uint8) * np.uint8(255)

    def _index(self, images: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
        """``[n, k]`` where places ``[n, k, 2]`` of some images lie in the memory of all."""
        return (images[:, None] * self._width + places[..., 0] + 1) * self._width + places[..., 1] + 1

    def _close(self, index: NDArray[np.int64]) -> None:
        for down in range(-_ROOM, _ROOM + 1):
            for right in range(-_ROOM, _ROOM + 1):
                self._closed[index + (down * self._width + right)] = True


def _squares(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """``[n, 9 * k, 2]``: the pixels at and about k places ``[n, k, 2]``."""
    shifts = np.stack(np.meshgrid((-1, 0, 1), (-1, 0, 1), indexing="ij"), axis=-1).reshape(9, 2)
    return (places[:, :, None] + shifts).reshape(len(places), 9 * places.shape[1], 2)


def _meets_itself(middles: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether dashes of a curve ``[n, dashes, 2]`` come close to each other that do not follow each other."""
    meets = np.zeros(len(middles), dtype=bool)
    left = np.arange(len(middles))
    for between in range(2, middles.shape[1]):
        steps = middles[left, between:] - middles[left, :-between]
        meets[left[((steps**2).sum(2) < _APART**2).any(1)]] = True
        left = left[~meets[left]]
    return meets
