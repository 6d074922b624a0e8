"""A real cortex: the fsaverage surfaces that nilearn carries inside its package."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from colgraph.edges import face_sides
from colgraph.extras import optional
from colgraph.geometry.areas import FSAVERAGE, Areas, lay_areas
from colgraph.geometry.base import Geometry
from colgraph.geometry.registry import register_geometry

_NILEARN_KEYS = {"white": "white", "pial": "pial", "inflated": "infl", "sphere": "sphere"}


class _Surface(NamedTuple):
    positions: NDArray[np.float64]
    faces: NDArray[np.int64]


@register_geometry("cortex")
def cortex(
    hemisphere: Literal["left", "right", "both"] = "left",
    mesh: Literal["fsaverage5", "fsaverage4", "fsaverage3"] = "fsaverage5",
    surface: Literal["white", "pial", "inflated", "sphere"] = "white",
    *,
    areas: Areas = Areas(),  # noqa: B008 (frozen)
) -> Geometry:
    """The human cortical surface (fsaverage), distance along it, axis from occipital to frontal (+y).

    Columns are the vertices of one hemisphere or both: 10,242 (fsaverage5), 2,562 (fsaverage4) or 642 (fsaverage3) in
    each. Positions are in mm, x to the right, y to the front, z up. Distance is geodesic on the surface that gives the
    positions, so a hemisphere is a closed piece and the two are not connected; ``layer`` is 0 on the left and 1 on the
    right. The inflated surfaces and the spheres of the two hemispheres, both centred on the origin, are moved apart
    sideways until they lie 10 mm from each other. No inputs and outputs of its own: ask for ``num_inputs``.

    The surfaces are those of FreeSurfer's average subject (Fischl, Sereno, Tootell and Dale 1999), read from the files
    in nilearn's package; nothing is downloaded.

    Args:
        hemisphere: "left", "right", or "both", left columns first.
        mesh: how fine; the coarser meshes are the leading vertices of the finer ones.
        surface: "white" (white matter border), "pial" (outer border), "inflated", or "sphere".
        areas: a parcellation, and a connectome between its areas. Parcellations of the finer meshes of fsaverage serve:
            each mesh is the leading vertices of the next. Straight lines that stand for tracts are measured on the
            white surface, whatever is drawn.
    """
    sides: tuple[str, ...] = ("left", "right") if hemisphere == "both" else (hemisphere,)
    pieces = [_coarsen(_load(side, surface), FSAVERAGE[mesh]) for side in sides]
    if hemisphere == "both" and surface in ("inflated", "sphere"):
        pieces = _apart(pieces)
    sizes = [len(piece.positions) for piece in pieces]
    layer = np.repeat(np.arange(len(pieces)) if hemisphere == "both" else [int(hemisphere == "right")], sizes)
    shape = Geometry(
        np.concatenate([piece.positions for piece in pieces]),
        faces=np.concatenate([piece.faces + sum(sizes[:i]) for i, piece in enumerate(pieces)]),
        metric="geodesic",
        layer=layer,
        axis=(0.0, 1.0, 0.0),
        name="cortex",
    )
    if areas.parcellation is None:
        return shape
    white = [_load(side, "white").positions[: sizes[0]] for side in sides]
    return lay_areas(shape, areas, side=layer, anatomy=np.concatenate(white))


def coarser_faces(faces: NDArray[np.int64], coarse: int) -> NDArray[np.int64]:
    """Faces of the mesh that a regular subdivision started from.

    Subdivision cuts each triangle into four by the middles of its sides, which are numbered from ``coarse`` on. The
    triangle in the middle of the four has no old corner, and each of its corners lies between two old vertices.

    Args:
        faces: ``[4F,3]`` of the finer mesh.
        coarse: number of vertices of the coarser mesh.

    Returns:
        ``[F,3]``, with the winding of the finer faces.

    Raises:
        ValueError: if the mesh is not a regular subdivision.
    """
    sides = np.unique(np.sort(face_sides(faces).T, axis=1), axis=0)
    # The middle of an old side has exactly two old neighbors: its ends.
    split = sides[(sides[:, 0] < coarse) & (sides[:, 1] >= coarse)]
    split = split[np.lexsort((split[:, 0], split[:, 1]))]
    middles = np.arange(coarse, int(faces.max()) + 1)
    if not np.array_equal(split[:, 1], np.repeat(middles, 2)):
        raise ValueError(f"the mesh is not a regular subdivision of its leading {coarse} vertices")
    ends = split[:, 0].reshape(-1, 2)
    a, b, c = ends[faces[(faces >= coarse).all(1)] - coarse].transpose(1, 0, 2)
    corners = np.stack([_common(c, a), _common(a, b), _common(b, c)], 1)
    if 4 * len(corners) != len(faces):
        raise ValueError(f"the mesh is not a regular subdivision of its leading {coarse} vertices")
    return corners


def _common(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """The vertex that two sides ``[F,2]`` share."""
    shared = (one[:, :, None] == other[:, None, :]).any(2)
    return np.where(shared[:, 0], one[:, 0], one[:, 1])


def _coarsen(piece: _Surface, vertices: int) -> _Surface:
    positions, faces = piece
    while len(positions) > vertices:
        coarse = (len(positions) - 2) // 4 + 2
        positions, faces = positions[:coarse], coarser_faces(faces, coarse)
    return _Surface(positions, faces)


def _apart(pieces: list[_Surface]) -> list[_Surface]:
    """Left and right piece moved along x until there are 10 mm between them, 5 on each side of the origin."""
    left, right = pieces
    to_left = np.array([left.positions[:, 0].max() + 5.0, 0.0, 0.0])
    to_right = np.array([5.0 - right.positions[:, 0].min(), 0.0, 0.0])
    return [_Surface(left.positions - to_left, left.faces), _Surface(right.positions + to_right, right.faces)]


def _load(side: str, surface: str) -> _Surface:
    nibabel = optional("geometry 'cortex' needs", "nibabel", "cortex")
    datasets = optional("geometry 'cortex' needs", "nilearn.datasets", "cortex")
    # This mesh is part of nilearn's package; only the finer ones would be downloaded.
    file = datasets.fetch_surf_fsaverage("fsaverage5")[f"{_NILEARN_KEYS[surface]}_{side}"]
    image: Any = nibabel.load(file)
    positions, faces = image.agg_data(("pointset", "triangle"))
    return _Surface(np.asarray(positions, dtype=np.float64), np.asarray(faces, dtype=np.int64))
