"""Regions of a sheet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from colgraph.sheet import Sheet


def sheet_regions(sheet: Sheet, regions: object = None) -> dict[str, NDArray[np.int64]]:
    """The columns of each area of a sheet, by its name; none of a sheet without areas."""
    area, names = getattr(sheet, "area", None), getattr(sheet, "area_names", None)
    if area is None or names is None:
        return {}
    return {name: np.flatnonzero(np.asarray(area) == i) for i, name in enumerate(names)}
