"""Surfaces laid out in the plane: spheres by an equal-area projection, hemispheres cut open and unfolded."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.sparse.linalg import spsolve

_CUT = 0.10  # of the columns of a closed surface, to be opened where it is seen least


def flatten(
    points: NDArray[np.float64],
    faces: NDArray[np.int64],
    shown: NDArray[np.bool_],
    cut: NDArray[Any] | None = None,
) -> NDArray[np.float64]:
    """``[N,2]`` columns laid out in the plane; NaN for those that are not shown, or cut away.

    A sphere becomes the sinusoidal projection, which keeps areas. Any other surface becomes a disc on which no face
    lies over another: its border is the circle, every other column the mean of those beside it (Tutte 1963, "How to
    draw a graph"), and rings around the middle are then made as wide as their area asks. A closed surface is opened
    first, by taking away a tenth of its columns: the side ``cut`` that is named, the medial wall of a hemisphere.

    Args:
        points: ``[N,3]``.
        faces: ``[F,3]``.
        shown: ``[N]`` the columns of one piece.
        cut: ``[3]`` the direction in which a closed surface is opened; downwards if not given.

    Raises:
        ValueError: where there are no faces, or the surface has handles or holes that no plane has.
    """
    inside = faces[shown[faces].all(1)]
    if not len(inside):
        raise ValueError("view 'flat' needs a surface: the sheet has no faces")
    used = np.unique(inside)
    here = points[used]
    radius = np.linalg.norm(here - (here.max(0) + here.min(0)) / 2, axis=1)
    around, closed = _euler(inside)
    laid = np.full((len(points), 2), np.nan)
    if closed and around == 2 and radius.std() < 0.01 * radius.mean():
        laid[used] = _sinusoidal(here - (here.max(0) + here.min(0)) / 2)
        return laid
    if around != (2 if closed else 1):
        raise ValueError(
            f"view 'flat' needs a surface without handles, and with one border at most: this one's Euler number is "
            f"{around}, a sphere's is 2, a disc's 1"
        )
    kept = _largest_piece(_opened(points, inside, used, cut) if closed else inside)
    rest = np.unique(kept)
    number = np.full(len(points), -1)
    number[rest] = np.arange(len(rest))
    toward = np.array([0.0, 0, 1]) if cut is None else -np.asarray(cut, dtype=np.float64)
    laid[rest] = _upright(_disc(points[rest], number[kept]), points[rest], toward)
    return laid


def _euler(faces: NDArray[np.int64]) -> tuple[int, bool]:
    """Corners less sides plus faces, and whether each side has two faces."""
    sides = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    sides, count = np.unique(sides, axis=0, return_counts=True)
    return len(np.unique(faces)) - len(sides) + len(faces), bool((count == 2).all())


def _sinusoidal(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Longitude, shortened by the cosine of latitude, and latitude, in lengths of the sphere's radius."""
    radius = np.linalg.norm(points, axis=1)
    latitude = np.arcsin(np.clip(points[:, 2] / radius, -1, 1))
    longitude = np.arctan2(points[:, 0], -points[:, 1])  # the middle of the map is in front (-y)
    return radius.mean() * np.stack([longitude * np.cos(latitude), latitude], 1)


def _graph(points: NDArray[np.float64], faces: NDArray[np.int64]) -> Any:
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    ends = np.unique(np.sort(ends, axis=1), axis=0)
    length = np.linalg.norm(points[ends[:, 0]] - points[ends[:, 1]], axis=1)
    return coo_array((length, ends.T), shape=(len(points), len(points))).tocsr()


def _opened(points: Any, faces: Any, used: Any, cut: Any) -> NDArray[np.int64]:
    """The faces without those around the middle of the side that is cut."""
    toward = np.array([0, 0, -1]) if cut is None else np.asarray(cut)
    low, high = points[used].min(0), points[used].max(0)
    pole = (low + high) / 2 + toward * (high - low) / 2
    middle = used[np.linalg.norm(points[used] - pole, axis=1).argmin()]
    away = dijkstra(_graph(points, faces), directed=False, indices=middle)
    near = away <= np.sort(away[used])[max(1, int(_CUT * len(used)))]
    kept = faces[~near[faces].any(1)]
    if not len(kept):
        raise ValueError(f"view 'flat' needs a surface of more than {len(used)} columns")
    return np.asarray(kept)


def _largest_piece(faces: NDArray[np.int64]) -> NDArray[np.int64]:
    """The most faces that are joined by their sides."""
    sides = np.sort(np.stack([faces, np.roll(faces, -1, axis=1)], 2), axis=2).reshape(-1, 2)
    _, side = np.unique(sides, axis=0, return_inverse=True)
    face = np.repeat(np.arange(len(faces)), 3)
    meets = coo_array((np.ones(len(face)), (face, side))).tocsr()
    piece = connected_components(meets @ meets.T, directed=False)[1]
    return np.asarray(faces[piece == np.bincount(piece).argmax()])


def _border(faces: NDArray[np.int64]) -> NDArray[np.int64]:
    """The columns at the border, in order; the longest way around where it touches itself."""
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    _, first, count = np.unique(np.sort(ends, axis=1), axis=0, return_index=True, return_counts=True)
    follows = {int(a): int(b) for a, b in ends[first[count == 1]]}
    longest: list[int] = []
    while follows:
        way, here = [], next(iter(follows))
        while here in follows:
            way.append(here)
            here = follows.pop(here)
        longest = max(longest, way, key=len)
    return np.array(longest)


def _disc(points: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """``[N,2]`` on a disc of the surface's area."""
    border = _border(faces)
    step = np.linalg.norm(points[border] - points[np.roll(border, 1)], axis=1)
    angle = 2 * np.pi * np.cumsum(step) / step.sum()
    laid = np.zeros((len(points), 2))
    laid[border] = np.stack([np.cos(angle), np.sin(angle)], 1)
    weight = _graph(points, faces)
    weight.data = 1 / np.maximum(weight.data, 1e-9)
    weight = weight + weight.T
    inner = np.setdiff1d(np.arange(len(points)), border)
    if len(inner):
        own = coo_array((weight.sum(1)[inner], (np.arange(len(inner)),) * 2)).tocsr()
        rest = own - weight[inner][:, inner]
        laid[inner] = spsolve(rest.tocsc(), weight[inner][:, border] @ laid[border])
    corners = points[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    radius, far = np.linalg.norm(laid, axis=1), np.linalg.norm(laid[faces].mean(1), axis=1)
    order = np.argsort(far)
    # A ring at radius r goes to where a disc holds as much area as the surface within it.
    wanted = np.sqrt(np.cumsum(area[order]) / np.pi)
    new = np.interp(radius, np.append(0, far[order]), np.append(0, wanted))
    return laid * (new / np.maximum(radius, 1e-12))[:, None]


def _upright(laid: Any, points: Any, toward: NDArray[np.float64]) -> NDArray[np.float64]:
    """The plane turned, and mirrored where it must be, to lie as a reader sees the surface who stands at ``toward``."""
    up = np.array([0.0, 0, 1]) if abs(toward[2]) < 0.9 else np.array([0.0, 1, 0])
    seen = (points - points.mean(0)) @ np.stack([np.cross(up, toward), up], 1)
    # The rotation or reflection nearest to what would take one to the other (Schoenemann 1966).
    left, _, right = np.linalg.svd((laid - laid.mean(0)).T @ seen)
    return np.asarray((laid - laid.mean(0)) @ left @ right)
