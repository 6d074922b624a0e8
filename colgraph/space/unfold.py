"""Straight lines over a triangulated surface: the pieces of which geodesics are made.

From each vertex, strips of triangles are laid out flat, one triangle after the other. A vertex that can be seen from
the first one within its strip is reached in a straight line, whose length is exact on the surface. Shortest paths over
mesh edges and these lines are close to geodesics, where paths over mesh edges alone are 7 to 10% too long.

The construction is the visibility cone of Mitchell, Mount and Papadimitriou (1987), "The discrete geodesic problem",
stopped after a few triangles and done for all vertices at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from colgraph.edges import Index, edge_codes, face_sides, ranges

Points = NDArray[np.float64]

# How many edges a straight line may cross; what each number gives is measured in benchmarks/geometry.py.
CROSSINGS = 3

# Faces whose strips are laid out at the same time; at least so many, where faces branch.
_BLOCK, _LEAST = 1 << 16, 1 << 10

# Lines go on into every face that meets the last one at an edge, up to this many faces at one edge.
MOST_FACES = 8


class _Strips(NamedTuple):
    """The last edge of each strip of triangles, in a plane that has the strip's first vertex at the origin.

    ``left`` and ``right`` are the ends of that edge as seen from the origin, ``left_at`` and ``right_at`` (``[S,2]``)
    where they lie. ``cone_left`` and ``cone_right`` bound the directions that pass through every edge crossed so far.
    ``side`` is the half-edge to be crossed next.
    """

    origin: Index
    side: Index
    left: Index
    right: Index
    left_at: Points
    right_at: Points
    cone_left: Points
    cone_right: Points

    def take(self, which: Index | NDArray[np.bool_]) -> _Strips:
        return _Strips._make(array[which] for array in self)


def surface_lines(positions: Points, faces: Index, crossings: int = CROSSINGS) -> tuple[Index, Index, Points]:
    """Mesh edges, and straight lines over a surface that cross at most ``crossings`` edges.

    A shortest path over faces that branch is straight too wherever it crosses an edge, so a line goes on into each of
    the faces that meet there.

    Args:
        positions: ``[N,3]``.
        faces: ``[F,3]``, each once; the winding does not matter. Lines do not cross borders, nor edges where more than
            ``MOST_FACES`` meet.
        crossings: 0 gives the mesh edges alone.

    Returns:
        The two vertices of each line and its length, ``[L]`` each. Every line is there from both of its ends, and
        may be there more than once.
    """
    ends = face_sides(faces)
    starts, stops = [*ends], [*ends[::-1]]
    lengths = [_length(positions, start, stop) for start, stop in zip(starts, stops, strict=True)]
    beyond = _Beyond(faces)
    block = max(_LEAST, _BLOCK // beyond.branches**crossings)
    for begin in range(0, faces.shape[0] if crossings else 0, block):
        strips = _first_strips(positions, faces, np.arange(begin, min(begin + block, faces.shape[0])))
        for _ in range(crossings):
            strips, across = beyond.cross(strips)
            apex, apex_at = _lay_out(positions, faces, across, strips)
            right_of_left = _cross(apex_at, strips.cone_left) >= 0
            left_of_right = _cross(strips.cone_right, apex_at) >= 0
            seen = right_of_left & left_of_right
            starts.append(strips.origin[seen])
            stops.append(apex[seen])
            lengths.append(np.linalg.norm(apex_at[seen], axis=1))
            strips = _next_strips(strips, faces, across, apex, apex_at, right_of_left, left_of_right)
    return np.concatenate(starts), np.concatenate(stops), np.concatenate(lengths)


# Half-edge 3 f + c is the side of face f between its corners c and c + 1 (modulo 3); corner c + 2 is opposite.


class _Beyond:
    """What lies on the other side of each half-edge.

    Attributes:
        branches: the most faces into which a line may go on.
    """

    def __init__(self, faces: Index) -> None:
        code = edge_codes(face_sides(faces), int(faces.max()) + 1, directed=False)
        # The half-edges of one edge stand together.
        self._order = np.argsort(code, kind="stable")
        starts = np.flatnonzero(np.diff(code[self._order], prepend=-1))
        number = np.diff(starts, append=code.size)
        crossable = number <= MOST_FACES
        self.branches = max(1, int(number[crossable].max(initial=1)) - 1)
        self._first, self._number = np.empty(code.size, np.int64), np.empty(code.size, np.int64)
        self._first[self._order] = np.repeat(starts, number)
        self._number[self._order] = np.repeat(np.where(crossable, number, 1), number)

    def cross(self, strips: _Strips) -> tuple[_Strips, Index]:
        """Each strip once for every half-edge that meets its last edge from another face, and those half-edges."""
        first, number = self._first[strips.side], self._number[strips.side]
        which = np.repeat(np.arange(number.size), number)
        across = self._order[ranges(first, first + number)]
        others = (across != strips.side[which]) & (number[which] > 1)
        return strips.take(which[others]), across[others]


def _length(positions: Points, one: Index, other: Index) -> Points:
    return np.asarray(np.linalg.norm(positions[one] - positions[other], axis=1))


def _cross(one: Points, other: Points) -> Points:
    """Positive where ``other`` lies to the left of ``one``."""
    return one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]


def _third_corner(left_at: Points, right_at: Points, from_left: Points, from_right: Points) -> Points:
    """Where the third corner of each triangle lies, beyond the side from ``right_at`` to ``left_at``."""
    side = left_at - right_at
    length = np.maximum(np.linalg.norm(side, axis=1), np.finfo(np.float64).tiny)
    along = (from_right**2 - from_left**2 + length**2) / (2 * length)
    height = np.sqrt(np.maximum(from_right**2 - along**2, 0.0))
    unit = side / length[:, None]
    outward = np.stack([unit[:, 1], -unit[:, 0]], 1)
    return right_at + along[:, None] * unit + height[:, None] * outward


def _first_strips(positions: Points, faces: Index, which: Index) -> _Strips:
    """A strip for each corner of each face: from the corner over the opposite side."""
    corner = np.repeat(np.arange(3), which.size)
    face = np.tile(which, 3)
    origin, right, left = (faces[face, (corner + turn) % 3] for turn in range(3))
    to_right, to_left, opposite = (
        _length(positions, *pair) for pair in ((origin, right), (origin, left), (right, left))
    )
    right_at = np.stack([to_right, np.zeros(to_right.size)], 1)
    left_at = _third_corner(np.zeros_like(right_at), right_at, to_left, opposite)
    strips = _Strips(origin, 3 * face + (corner + 1) % 3, left, right, left_at, right_at, left_at, right_at)
    # Triangles without area have nothing to be seen through.
    return strips.take(_cross(right_at, left_at) > 0)


def _lay_out(positions: Points, faces: Index, across: Index, strips: _Strips) -> tuple[Index, Points]:
    """The vertex behind each strip's last edge, and where it comes to lie."""
    apex = faces[across // 3, (across % 3 + 2) % 3]
    from_left, from_right = _length(positions, apex, strips.left), _length(positions, apex, strips.right)
    return apex, _third_corner(strips.left_at, strips.right_at, from_left, from_right)


def _next_strips(
    strips: _Strips,
    faces: Index,
    across: Index,
    apex: Index,
    apex_at: Points,
    right_of_left: NDArray[np.bool_],
    left_of_right: NDArray[np.bool_],
) -> _Strips:
    """Each strip goes on over the two other sides of its new triangle, as far as they can be seen."""
    face, corner = across // 3, across % 3
    after, before = 3 * face + (corner + 1) % 3, 3 * face + (corner + 2) % 3
    left_is_second = faces[face, (corner + 1) % 3] == strips.left
    bound = np.where(left_of_right[:, None], apex_at, strips.cone_right)
    to_left = strips._replace(
        side=np.where(left_is_second, after, before), right=apex, right_at=apex_at, cone_right=bound
    )
    bound = np.where(right_of_left[:, None], apex_at, strips.cone_left)
    to_right = strips._replace(
        side=np.where(left_is_second, before, after), left=apex, left_at=apex_at, cone_left=bound
    )
    parts = (to_left.take(right_of_left), to_right.take(left_of_right))
    joined = _Strips._make(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return joined.take(_cross(joined.cone_right, joined.cone_left) > 0)
