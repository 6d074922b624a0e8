"""Areas of a sheet in figures: which area a face is in, and the borders between them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def face_areas(faces: NDArray[np.int64], area: NDArray[np.int64]) -> NDArray[np.int64]:
    """``[F]`` the area that most corners of each face ``[F,3]`` are in, the middle one of three."""
    return np.sort(area[faces], axis=1)[:, 1]


def area_borders(
    faces: NDArray[np.int64], area: NDArray[np.int64], positions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``[L,2,D]`` lines between areas: through each face, from the middle of one side that joins two areas to the next.

    A face whose corners are in three areas has lines from its center to the three sides.

    Args:
        faces: ``[F,3]``.
        area: ``[N]``; -1 counts as an area.
        positions: ``[N,D]``.
    """
    corners = area[faces]
    differs = corners != np.roll(corners, -1, axis=1)  # side c goes from corner c to the next
    middle = (positions[faces] + positions[np.roll(faces, -1, axis=1)]) / 2
    two, three = differs.sum(1) == 2, differs.sum(1) == 3
    across = middle[two][differs[two]].reshape(-1, 2, positions.shape[1])
    center = positions[faces[three]].mean(1, keepdims=True).repeat(3, 1)
    return np.concatenate([across, np.stack([center, middle[three]], 2).reshape(-1, 2, positions.shape[1])])
