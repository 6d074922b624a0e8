"""Random bits that are the same on every machine, and in every version of numpy."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

_HALF = np.uint64(32)


class Stream:
    """Random bits that follow from a seed and from what they are for.

    What numpy promises to keep is the bits of a generator, not the numbers it makes of them: those are made here, of
    whole numbers alone.

    Args:
        seed: of the user's.
        *key: names and numbers; another key has other bits.
    """

    def __init__(self, seed: int, *key: str | int) -> None:
        parts = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key]
        self._bits = np.random.PCG64(np.random.SeedSequence([seed, *parts]))

    def words(self, *shape: int) -> NDArray[np.uint64]:
        """Random bits, 64 a number."""
        return self._bits.random_raw(int(np.prod(shape))).reshape(shape)

    def below(self, high: int | NDArray[np.int64], *shape: int) -> NDArray[np.int64]:
        """Whole numbers from 0 to ``high - 1`` (less than 2**32), equally likely to within ``high / 2**32``."""
        return (upper(self.words(*shape)) * np.asarray(high, dtype=np.uint64) >> _HALF).astype(np.int64)


def threshold(share: float) -> np.uint64:
    """The number below which a share of all numbers of 32 bits lie."""
    return np.uint64(round(min(share, 1.0) * 2**32))


def upper(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The upper half of 64 bits; the lower half is independent of it."""
    return words >> _HALF


def lower(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The lower half of 64 bits."""
    return words & np.uint64(2**32 - 1)
