"""Pinwheels: points around which the preferred orientation turns once through all orientations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay, QhullError, cKDTree

from colgraph.analysis import plotting
from colgraph.analysis.arrays import Array, among, as_faces, as_mask, as_positions, as_vector
from colgraph.analysis.result import Result
from colgraph.analysis.stats import as_groups, jackknife_interval, permuted, spatial_blocks

_FIRST_ZERO = 2.404825557695773  # of the Bessel function J0


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Pinwheels(Result):
    """What :func:`pinwheels` returns; the value is the number of pinwheels.

    Attributes:
        centres: ``[K, D]`` where they are.
        charge: ``[K]`` +1 where orientation turns with the loop, -1 where it turns against it.
        wavelength: the map's period, in units of the positions; NaN where the map has none.
        density: pinwheels per area of ``wavelength ** 2``; pi in the maps of many animals. NaN without a wavelength.
        density_interval: ``[2]``, given the wavelength.
        preference: ``[columns]`` radians.
        selective: ``[columns]`` those that took part.
        positions: ``[columns, D]``.
    """

    centres: Array
    charge: NDArray[np.int64]
    wavelength: float
    density: float
    density_interval: Array
    preference: Array
    selective: NDArray[np.bool_]
    positions: Array

    def plot(self, ax: plotting.Axes | None = None) -> plotting.Axes:
        """Draw the map with a mark at each pinwheel (circles turn with the loop, squares against it)."""
        density = f", {self.density:.2f} per hypercolumn" if np.isfinite(self.density) else ", no wavelength"
        title = f"{len(self.charge)} pinwheels{density}"
        return plotting.draw_map(
            plotting.axes(ax),
            self.positions,
            self.preference,
            label="orientation",
            title=title,
            cyclic=True,
            faint=~self.selective,
            marks=(self.centres, self.charge),
        )


def pinwheels(
    preference: Any,
    positions: Any,
    *,
    faces: Any | None = None,
    wavelength: float | None = None,
    mask: Any | None = None,
    groups: Any | None = None,
    permutations: int = 200,
    seed: int = 0,
) -> Pinwheels:
    """Find pinwheels by the winding number of preference around small loops.

    A loop is a square of four neighbors on a rectangular grid, or a face of a mesh. Its winding number is the sum of
    the differences of ``2 * preference`` along it, each brought between -pi and pi, over 2 pi; where it is +1 or -1
    there is a pinwheel. On a closed surface they sum to zero. The density is given per hypercolumn area: pi on average
    for an isotropic Gaussian random field of one wavelength (Wolf and Geisel 1998), and measured in several species
    (Kaschube et al. 2010, "Universality in the evolution of orientation columns in the visual cortex"). Noise has many
    pinwheels too (one in four faces by chance), so a count without a smooth map and a wavelength means little.

    Null: preferences are shuffled over columns (two-sided; a smooth map has far fewer pinwheels). Interval: jackknife
    over blocks of the sheet.

    Args:
        preference: ``[columns]`` radians; pi and 0 are the same.
        positions: ``[columns, D]``. A rectangular grid in the plane is recognized, other points in the plane are
            triangulated; points in three dimensions need faces.
        faces: ``[F,3]`` or ``[3,F]`` triangles of a surface.
        wavelength: the period of the map, in units of the positions; see :func:`map_wavelength` if not given.
        mask: ``[columns]`` boolean: the selective columns. Loops through others are left out, with their area, and the
            null shuffles among these alone. All take part if not given.
        groups: ``[columns]`` integer labels: the null shuffles only among columns of one label, such as those that see
            the same patch; columns of a negative label stay.
        permutations: number of shuffles.
        seed: of the shuffles and of the wavelength's sample.

    Raises:
        ValueError: where there is no two-dimensional sheet (a ring, points in space without faces), the mask leaves no
            loop, or input is bad.
    """
    every = as_vector(preference, "preference")
    places = as_positions(positions, len(every))
    around = _loops(places, faces)
    chosen = np.ones(len(every), dtype=bool) if mask is None else as_mask(mask, "mask", len(every), least=3)
    if wavelength is not None and not wavelength > 0:
        raise ValueError(f"wavelength must be positive, got {wavelength:g}")
    within = as_groups(groups, len(every), among=chosen)
    loops = among(around.T, chosen).T
    if not len(loops):
        raise ValueError(
            f"mask leaves {int(chosen.sum())} of {len(every)} columns, and no loop of neighbors among them"
        )
    theta, points = every[chosen], places[chosen]
    area = _areas(points, loops)
    charge = _winding(theta[None], loops)[0]
    found = charge != 0
    orders = permuted(permutations, len(theta), seed, within)
    null = np.array([(_winding(theta[order][None], loops) != 0).sum() for order in orders])
    period = map_wavelength(theta, points, seed=seed) if wavelength is None else float(wavelength)
    centre = points[loops].mean(1)
    per_area = _count_interval(found, area, spatial_blocks(centre))
    scale = period**2
    return Pinwheels(
        name="pinwheels",
        value=float(found.sum()),
        null=null.astype(np.float64),
        interval=per_area * area.sum(),
        tail="two-sided",
        centres=centre[found],
        charge=charge[found],
        wavelength=period,
        density=float(found.sum() / area.sum() * scale),
        density_interval=per_area * scale,
        preference=every % np.pi,
        selective=chosen,
        positions=places,
    )


def map_wavelength(preference: Any, positions: Any, *, columns: int = 800, seed: int = 0) -> float:
    """The period of an orientation map, or NaN where it has none.

    The correlation of ``e^{2 i theta}`` at distance d is followed to its first zero ``d0``; for waves of one length in
    all directions it is ``J0(2 pi d / wavelength)``, so the wavelength is ``2 pi d0 / 2.405``. A map counts as periodic
    only if the correlation then turns negative beyond doubt: below -0.1, and by three standard errors (jackknife over
    blocks of the sheet), at some distance up to ``2 d0``, and if the sheet is at least three periods long. Maps that
    are merely smooth do not.
    Distances are straight lines, which on a curved surface is right for distances short against its curvature.

    Args:
        preference: ``[columns]`` radians.
        positions: ``[columns, D]``.
        columns: how many columns are looked out from.
        seed: chooses them.
    """
    theta = as_vector(preference, "preference")
    points = as_positions(positions, len(theta))
    distance, total, size = _phase_correlation(theta, points, columns, seed)
    curve = total.sum(0) / size.sum(0)
    below = np.flatnonzero(curve < 0)
    if not len(below) or below[0] == 0:
        return float("nan")
    after = int(below[0])
    fraction = curve[after - 1] / (curve[after - 1] - curve[after])
    zero = distance[after - 1] + (distance[after] - distance[after - 1]) * fraction
    lobe = np.flatnonzero((distance > zero) & (distance <= 2 * zero))
    left_out = (total.sum(0) - total) / np.maximum(size.sum(0) - size, 1)
    error = np.sqrt((len(total) - 1) * left_out.var(0))
    if not (curve[lobe] < np.minimum(-0.1, -3 * error[lobe])).any():
        return float("nan")
    period = float(2 * np.pi * zero / _FIRST_ZERO)
    return period if 3 * period <= np.ptp(points, axis=0).max() else float("nan")


def _phase_correlation(theta: Array, points: Array, columns: int, seed: int) -> tuple[Array, Array, Array]:
    """Distances ``[bins]``, and for the columns of each block the sums of ``cos(2 (theta_i - theta_j))`` and counts."""
    sample = np.random.default_rng(seed).permutation(len(theta))[:columns]
    block = spatial_blocks(points[sample])
    spacing = float(np.median(cKDTree(points).query(points[sample], k=2)[0][:, 1])) or 1.0
    width = 0.5 * spacing
    bins = int(np.linalg.norm(np.ptp(points, axis=0)) / 2 / width) + 2
    total, size = np.zeros((int(block.max()) + 1, bins)), np.zeros((int(block.max()) + 1, bins))
    for b, i in zip(block, sample, strict=True):
        index = (np.linalg.norm(points - points[i], axis=1) / width + 0.5).astype(np.int64)
        near = index < bins
        total[b] += np.bincount(index[near], np.cos(2 * (theta[near] - theta[i])), bins)
        size[b] += np.bincount(index[near], minlength=bins)
    use = size.sum(0) >= max(10, len(sample) // 2)
    return width * np.flatnonzero(use).astype(np.float64), total[:, use], size[:, use]


def _loops(points: Array, faces: Any | None) -> NDArray[np.int64]:
    """``[L, 3 or 4]``: the columns around each loop, all turning the same way on a plane or an oriented surface."""
    if faces is not None:
        return as_faces(faces, len(points))
    spread = np.ptp(points, axis=0)
    flat = np.flatnonzero(spread > 1e-6 * spread.max())
    if len(flat) != 2:
        what = "lie on a line" if len(flat) < 2 else "fill space and have no faces"
        raise ValueError(f"pinwheels need a two-dimensional sheet, but the positions {what}")
    square = _grid_squares(points[:, flat])
    return square if square is not None else _triangles(points[:, flat])


def _grid_squares(points: Array) -> NDArray[np.int64] | None:
    """``[L, 4]`` squares of neighbors where the points fill a rectangular grid, else None."""
    step = 1e-6 * np.ptp(points, axis=0).max()
    x, column = np.unique(np.round(points[:, 0] / step), return_inverse=True)
    y, row = np.unique(np.round(points[:, 1] / step), return_inverse=True)
    if (
        len(x) * len(y) != len(points)
        or min(len(x), len(y)) < 2
        or len(np.unique(row * len(x) + column)) != len(points)
    ):
        return None
    index = np.empty((len(y), len(x)), dtype=np.int64)
    index[row, column] = np.arange(len(points))
    return np.stack([index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]], -1).reshape(-1, 4)


def _triangles(points: Array) -> NDArray[np.int64]:
    """Delaunay triangles without long edges; refused where they do not make a sheet."""
    try:
        triangle = Delaunay(points).simplices.astype(np.int64)
    except QhullError as error:
        raise ValueError("pinwheels need a two-dimensional sheet, but the positions lie on a line") from error
    spacing = float(np.median(cKDTree(points).query(points, k=2)[0][:, 1]))
    longest = np.linalg.norm(points[triangle] - points[np.roll(triangle, 1, axis=1)], axis=2).max(1)
    triangle = triangle[longest <= 3 * spacing]
    # A sheet of n points has nearly 2 n triangles; a ring only those of neighboring triples.
    if len(triangle) < 0.75 * len(points):
        raise ValueError("pinwheels need a two-dimensional sheet, but the positions lie along a curve")
    a, b, c = (points[triangle[:, i]] for i in range(3))
    turn = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    triangle[turn < 0] = triangle[turn < 0][:, ::-1]
    return triangle


def _areas(points: Array, loops: NDArray[np.int64]) -> Array:
    corner = np.pad(points, ((0, 0), (0, 3 - points.shape[1])))[loops]
    area = np.zeros(len(loops))
    for k in range(1, loops.shape[1] - 1):
        area += np.linalg.norm(np.cross(corner[:, k] - corner[:, 0], corner[:, k + 1] - corner[:, 0]), axis=1) / 2
    return area


def _winding(theta: Array, loops: NDArray[np.int64]) -> NDArray[np.int64]:
    """``[R, L]`` winding numbers of the doubled angles ``theta [R, columns]`` around the loops."""
    here, there = loops, np.roll(loops, -1, axis=1)
    low, high = np.minimum(here, there), np.maximum(here, there)
    # The difference along an edge is taken in one direction only, so that two loops that share it always cancel.
    step = 2 * (theta[:, high] - theta[:, low])
    step = (step + np.pi) % (2 * np.pi) - np.pi
    turned = np.where(here < there, step, -step).sum(-1) / (2 * np.pi)
    return np.asarray(np.round(turned).astype(np.int64))


def _count_interval(found: NDArray[np.bool_], area: Array, blocks: NDArray[np.int64]) -> Array:
    """``[2]``: the interval of pinwheels per area, not below zero."""
    count, size = np.bincount(blocks, found), np.bincount(blocks, area)
    left_out = (count.sum() - count) / (size.sum() - size)
    return np.maximum(jackknife_interval(count.sum() / size.sum(), left_out), 0)
