"""Images as the primate retina and cortex sample them: finely around a fixation point, coarsely far from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

_FOVEA = 1 / 16
"""The radius ``a`` within which sampling is even, as a share of the distance to the farthest corner of the image."""

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class LogPolar:
    """A log-polar sampling of images: rows of the sampled image are rings, its columns wedges.

    Seen from the fixation point, a pixel in row i and column j is the mean of the image over ::

        i <= height log(1 + r / a) / log(1 + R / a) < i + 1      r: the distance (eccentricity), R: the largest there is
        j <= period angle / (2 pi)                  < j + 1      angle: clockwise, from straight up

    with ``a = R / 16``, so that a pixel covers ``(r + a) / a`` times as much along a ray as at the fixation point. On
    such a ray that is the complex-log map ``w = log(z + a)`` of Schwartz (1977), "Spatial mapping in the primate
    sensory projection: analytic structure and relevance to perception", Biological Cybernetics 25:181; in the angle it
    is ``log z``, its limit far from the fixation point, which makes rings of circles. The first half of the wedges is
    the right half of the visual field, which in primates is the left hemisphere's. What lies outside of the image is
    zero: the mean color, where images are normalised.

    Args:
        size: height and width of images, and of what is sampled of them.
        fixation: the point that is looked at, as shares of height and width.
        period: wedges of a full circle; further ones repeat the first, for patches that overlap across the seam.
    """

    size: tuple[int, int]
    fixation: tuple[float, float]
    period: int

    def place(self, y: _Array, x: _Array) -> tuple[_Array, _Array]:
        """Rows and columns of the sampled image, ``[0,height]`` and ``[0,period)``, of points of an image in pixels."""
        down, right = y - self._center[0], x - self._center[1]
        ring = np.log1p(np.hypot(down, right) / self._fovea) / self._log_step
        return ring, np.arctan2(right, -down) % (2 * np.pi) / self._angle_step

    def taps(self) -> tuple[NDArray[np.int64], _Array]:
        """For each pixel of the sampled image the pixels of the image that it is a weighted sum of, and the weights.

        Each is sampled at points no farther than a pixel from each other, by bilinear interpolation, so that nothing is
        passed over where it covers many.

        Returns:
            ``[K,height*width]`` each, with weights of zero where there are fewer than K.
        """
        (height, width), reach = self.size, self._reach
        along = math.ceil((reach + self._fovea) * self._log_step)
        around = math.ceil(reach * self._angle_step)
        fine = np.meshgrid(np.arange(height * along), np.arange(width * around), indexing="ij")
        radius = self._fovea * np.expm1((fine[0] + 0.5) / along * self._log_step)
        angle = (fine[1] % (self.period * around) + 0.5) / around * self._angle_step
        y, x = self._center[0] - radius * np.cos(angle), self._center[1] + radius * np.sin(angle)
        inside = (y >= 0) & (y <= height) & (x >= 0) & (x <= width)
        # Equal steps in log r cover areas that grow as r (r + a).
        area = radius * (radius + self._fovea)
        whole = area.reshape(height, along, -1).sum(1)[:, 0] * around
        weight = np.where(inside, area / np.repeat(whole, along)[:, None], 0)
        target = fine[0] // along * width + fine[1] // around
        corners = [
            (target, row * width + column, weight * down * right)
            for row, down in _between(y, height)
            for column, right in _between(x, width)
        ]
        to, of, share = (np.concatenate([corner[i].ravel() for corner in corners]) for i in range(3))
        pixels = height * width
        return _padded(sparse.csr_array((share, (to, of)), shape=(pixels, pixels)))

    @property
    def _center(self) -> tuple[float, float]:
        return self.fixation[0] * self.size[0], self.fixation[1] * self.size[1]

    @property
    def _reach(self) -> float:
        (y, x), (height, width) = self._center, self.size
        return math.hypot(max(y, height - y), max(x, width - x))

    @property
    def _fovea(self) -> float:
        return _FOVEA * self._reach

    @property
    def _log_step(self) -> float:
        return math.log1p(1 / _FOVEA) / self.size[0]

    @property
    def _angle_step(self) -> float:
        return 2 * math.pi / self.period


def _between(place: _Array, size: int) -> list[tuple[NDArray[np.int64], _Array]]:
    """The two pixels whose centers a place lies between, and the share of each; the outermost one beyond its center."""
    place = np.clip(place - 0.5, 0, size - 1)
    low = place.astype(np.int64)
    return [(low, 1 - (place - low)), (np.minimum(low + 1, size - 1), place - low)]


def _padded(rows: sparse.csr_array) -> tuple[NDArray[np.int64], _Array]:
    """Columns and values of the entries of each row, ``[K,rows]``."""
    rows.sum_duplicates()
    rows.eliminate_zeros()
    count = np.diff(rows.indptr)
    row = np.repeat(np.arange(len(count)), count)
    number = np.arange(len(row)) - np.repeat(rows.indptr[:-1], count)
    index, weight = np.zeros((count.max(), len(count)), np.int64), np.zeros((count.max(), len(count)))
    index[number, row], weight[number, row] = rows.indices, rows.data
    return index, weight
