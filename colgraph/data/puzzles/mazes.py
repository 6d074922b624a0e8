"""Mazes of site percolation: which open cells can be reached from the source?

The task of the mazes of Schwarzschild et al. (2021), "Can you learn an algorithm?", with a label per cell: what a cell
is labeled follows from cells as far away as the path is long.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from colgraph.data.puzzles.drawn import CHUNK, Drawn, Kind, Made, gather, join, unseen
from colgraph.data.puzzles.stream import Stream, lower, threshold, upper
from colgraph.data.sets import IGNORED
from colgraph.options import OptionError, option

_COLORS = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0]], dtype=np.uint8)  # wall, open, source
_MOST_CHUNKS = 16  # of long mazes, before those that were found must do
_LOOK_AFTER = 4
_PROPOSALS = 240  # to each long maze, of one cell in a hundred each

Rows = NDArray[np.unsignedinteger]
"""``[size, n]``: a row of cells as the bits of a number, of one maze beside that of the next."""


@dataclass(frozen=True)
class Mazes(Kind):
    """Mazes with one source: walls are black, open cells white, the source is red.

    Targets ``[n, size, size]``: 1 for open cells that can be reached from the source by steps to the four neighbors
    (the source is one), 0 for other open cells, -100 for walls. Difficulty is the length of the shortest path from the
    source in steps, nan where there is none. Harder: ``long``, mazes whose longest path is longer than any in training.

    Raises:
        OptionError: for values out of range.
    """

    size: int = option(10, "cells of a side", low=3, high=60)
    cell: int = option(1, "pixels of a cell's side", low=1, high=64)
    openness: float = option(0.62, "share of open cells", low=0.05, high=0.95)
    min_path: int = option(6, "the longest of the shortest paths of a maze has at least so many steps", low=0)
    max_path: int | None = option(None, "and at most so many, in all but the harder set", low=1)
    long_path: int | None = option(
        None, "and in the harder set at least so many (default: one more than in training)", low=1
    )
    train: int = option(50_000, "training images", low=1, high=10_000_000)
    val: int = option(1_000, "validation images", low=1, high=10_000_000)
    test: int = option(2_000, "test images", low=1, high=10_000_000)
    harder: int = option(1_000, "images of the harder set", low=0, high=10_000_000)
    seed: int = option(0, "what all is drawn from", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        most = self.size**2 - 1
        if self.min_path > most:
            raise OptionError("min_path", f"must be at most {most} with size={self.size}, got {self.min_path}")
        if self.max_path is not None and self.max_path < self.min_path:
            raise OptionError("max_path", f"must be at least min_path ({self.min_path}), got {self.max_path}")

    @property
    def side(self) -> int:
        """Pixels of an image's side."""
        return self.size * self.cell

    @property
    def unit(self) -> int:
        """Images can have multiples of this side."""
        return self.size

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the targets."""
        return self.size, self.size

    def make(self) -> Made:
        """Draw the sets.

        Raises:
            ValueError: if such mazes are too rare.
        """
        taken: set[str] = set()
        advice = "lower min_path, or choose another openness or size"
        # Test images first: they are the same however many there are to train on.
        sets = {
            split: gather(partial(self._draw, split), getattr(self, split), taken, advice)
            for split in ("test", "val", "train")
        }
        longest = int(np.nanmax(sets["train"].difficulty))
        least = longest + 1 if self.long_path is None else self.long_path
        if least <= longest:
            raise OptionError("long_path", f"must be more than {longest}, the longest path in training, got {least}")
        long, notes = self._long(least, taken)
        return Made(sets, {"long": long} if len(long) else {}, ["unreachable", "reachable"], notes)

    def _draw(self, split: str, number: int) -> Drawn:
        words = Stream(self.seed, "mazes", split, number).words(CHUNK, self.size**2)
        is_open = upper(words) < threshold(self.openness)
        # The open cell with the largest other half is any of them, equally likely.
        source = np.where(is_open, lower(words) + np.uint64(1), np.uint64(0)).argmax(1)
        steps = path_lengths(is_open.reshape(-1, self.size, self.size), source)
        longest = steps.max((1, 2))
        most = self.size**2 if self.max_path is None else self.max_path
        fits = np.flatnonzero((longest >= self.min_path) & (longest <= most))
        return as_images(steps[fits], is_open.reshape(steps.shape)[fits], source[fits])

    def _long(self, least: int, taken: set[str]) -> tuple[Drawn, list[str]]:
        """Mazes whose longest path has at least so many steps, as many as are found."""
        parts = [as_images(*(np.zeros((0, self.size, self.size), dtype=bool),) * 2, np.zeros(0, dtype=np.int64))]
        found = 0
        for number in range(_MOST_CHUNKS):
            if found >= self.harder or (number >= _LOOK_AFTER and not found):
                break
            stream = Stream(self.seed, "mazes", "long", number)
            is_open, source = long_mazes(stream, self.size, self.openness, least, CHUNK // 8)
            part = as_images(path_lengths(is_open, source), is_open, source)
            parts.append(unseen(part, self.harder - found, taken))
            found += len(parts[-1])
        if found < self.harder:
            note = (
                f"the harder set 'long' has {found:,} of {self.harder:,} mazes: paths of {least} steps are too rare at"
            )
            return join(parts), [f"{note} size={self.size}"]
        return join(parts), []


def as_images(steps: NDArray[np.int16], is_open: NDArray[np.bool_], source: NDArray[np.int64]) -> Drawn:
    """Pictures of mazes ``[n, size, size]``, a pixel a cell, with their targets."""
    cells = is_open.astype(np.uint8)
    cells[_at(source, cells.shape[1])] = 2
    labels = np.where(is_open, (steps >= 0).astype(np.int64), IGNORED)
    difficulty = np.where(steps >= 0, steps, np.nan).astype(np.float32)
    return Drawn(np.ascontiguousarray(_COLORS[cells].transpose(0, 3, 1, 2)), labels, difficulty)


# ---------------------------------------------------------------------- paths


def path_lengths(is_open: NDArray[np.bool_], source: NDArray[np.int64]) -> NDArray[np.int16]:
    """Steps of the shortest path to each cell from a source, over all mazes at once; -1 where there is none.

    Args:
        is_open: ``[n, size, size]``.
        source: ``[n]`` the number of a cell, by rows; nothing is reached from one that is a wall.
    """
    size = is_open.shape[1]
    count, reached = np.zeros(is_open.shape, dtype=np.int16), np.zeros(is_open.shape, dtype=bool)
    turns = 0
    for rows in _flood(_as_rows(is_open), _as_rows(_at(source, size))):
        reached = _as_cells(rows, size)
        count += reached
        turns += 1
    # A cell that was reached after t steps has been counted in all turns but the first t.
    return np.where(reached, turns - count, -1).astype(np.int16)


def _longest(rows: Rows, source: Rows) -> NDArray[np.int64]:
    """``[n]`` the most steps that any cell is away from the source."""
    turns = _flood(rows, source)
    longest, before = np.zeros(rows.shape[1], dtype=np.int64), next(turns)
    for reached in turns:
        longest += np.bitwise_or.reduce(reached ^ before, axis=0) != 0
        before = reached
    return longest


def _flood(rows: Rows, source: Rows) -> Iterator[Rows]:
    """What is reached after 0, 1, 2, ... steps, until no maze has more."""
    one = rows.dtype.type(1)
    reached = source & rows
    while True:
        yield reached
        more = reached << one
        more |= reached >> one
        more |= reached
        more[1:] |= reached[:-1]
        more[:-1] |= reached[1:]
        more &= rows
        if np.array_equal(more, reached):
            return
        reached = more


def _at(cells: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    """``[n, size, size]``: true at one cell of each maze."""
    return (np.arange(size * size) == cells[:, None]).reshape(len(cells), size, size)


def _as_rows(cells: NDArray[np.bool_]) -> Rows:
    size = cells.shape[2]
    # The smallest numbers that hold a row; little-endian, as the bits are counted.
    kind = next(kind for kind in ("<u2", "<u4", "<u8") if 8 * np.dtype(kind).itemsize >= size)
    padded = np.zeros((*cells.shape[:2], 8 * np.dtype(kind).itemsize), dtype=np.uint8)
    padded[:, :, :size] = cells
    return np.ascontiguousarray(np.packbits(padded, axis=2, bitorder="little").view(kind)[:, :, 0].T)


def _as_cells(rows: Rows, size: int) -> NDArray[np.bool_]:
    parts = np.ascontiguousarray(rows.T)[:, :, None].view(np.uint8)
    return np.unpackbits(parts, axis=2, count=size, bitorder="little").view(bool)


# ---------------------------------------------------------------------- long paths


def long_mazes(
    stream: Stream, size: int, openness: float, longest: int, count: int
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Mazes of percolation among those that have a path of at least ``longest`` steps, and their sources.

    Such mazes are too rare to wait for. Corridors that were dug depth first have such paths; from there, cells are
    opened and closed by the rule of Metropolis, which leaves a percolation maze as likely as it is, wherever the path
    stays long enough.

    Returns:
        ``[n, size, size]`` open cells and ``[n]`` sources, n at most ``count``.
    """
    is_open, source = dig(stream, size, count)
    start = _as_rows(_at(source, size))
    enough = _longest(_as_rows(is_open), start) >= longest
    is_open, source, start = is_open[enough].reshape(-1, size * size), source[enough], start[:, enough]
    mazes = np.arange(len(source))[:, None]
    together = max(1, size * size // 100)
    odds = openness / (1 - openness)
    accepted = np.array([threshold(odds), threshold(1 / odds)])  # of opening a cell, and of closing one
    for _ in range(_PROPOSALS):
        cells = stream.below(size * size, len(source), together)
        words = upper(stream.words(len(source), together))
        before = is_open[mazes, cells]
        flips = (words < accepted[before.astype(np.int64)]) & (cells != source[:, None])
        tried = is_open.copy()
        tried[mazes, cells] = before ^ flips
        kept = _longest(_as_rows(tried.reshape(-1, size, size)), start) >= longest
        is_open[kept] = tried[kept]
    return is_open.reshape(-1, size, size), source


def dig(stream: Stream, size: int, count: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Corridors without loops, dug from a random cell depth first, in all mazes at once; as :func:`long_mazes`."""
    width = size + 4  # a frame of two: one that nothing enters, and one for the neighbors of that
    steps = np.array([-width, width, -1, 1])
    inside = np.pad(np.ones((size, size), dtype=bool), 2).ravel()
    mazes = np.arange(count)
    source = stream.below(size * size, count)
    is_open = np.zeros((count, width * width), dtype=bool)
    path = np.zeros((count, size * size), dtype=np.int64)
    path[:, 0] = (source // size + 2) * width + source % size + 2
    is_open[mazes, path[:, 0]] = True
    depth = np.zeros(count, dtype=np.int64)
    while (depth >= 0).any():
        near = path[mazes, np.maximum(depth, 0)][:, None] + steps
        touches = is_open[mazes[:, None, None], (near[:, :, None] + steps) * inside[near][:, :, None]].sum(2)
        free = inside[near] & ~is_open[mazes[:, None], near] & (touches == 1) & (depth >= 0)[:, None]
        choice = np.where(free, upper(stream.words(count, 4)) + np.uint64(1), np.uint64(0)).argmax(1)
        ahead = np.flatnonzero(free.any(1))
        depth += np.where(free.any(1), 1, -1)
        path[ahead, depth[ahead]] = near[ahead, choice[ahead]]
        is_open[ahead, path[ahead, depth[ahead]]] = True
    return is_open.reshape(count, width, width)[:, 2:-2, 2:-2], source
