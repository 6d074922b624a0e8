"""Colors of all figures: few that all readers can tell apart, and a map for each kind of value."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Okabe and Ito (2008), "Color universal design".
ORANGE, BLUE, GREEN, PURPLE = "#E69F00", "#0072B2", "#009E73", "#CC79A7"
GREY, PALE, INK = "#8A8F98", "#D9DCE1", "#22262B"

KINDS = {"sequential": "viridis", "signed": "PuOr", "cyclic": "orientation", "labels": "labels"}
"""The color map of each kind of values."""

# All full of color, so that none looks like the grey of what has no value, and no two of 45 degrees apart look alike.
_AROUND = ("#C1272D", "#F0A500", "#139A6B", "#3B5BC8", "#C1272D")
_TURN = 0.61803398875  # of the golden ratio: each hue lies far from those before it


def color_map(kind: str) -> Any:
    """The matplotlib color map of a kind of :data:`KINDS` other than labels, which have :func:`label_colors`."""
    import matplotlib
    from matplotlib.colors import LinearSegmentedColormap

    if kind == "cyclic":
        return LinearSegmentedColormap.from_list("orientation", _AROUND)
    return matplotlib.colormaps[KINDS[kind]]


def label_colors(count: int) -> NDArray[np.float64]:
    """``[count,3]`` muted colors between 0 and 1, those of labels with neighboring numbers far apart."""
    from matplotlib.colors import hsv_to_rgb

    k = np.arange(count)
    return np.asarray(hsv_to_rgb(np.stack([(k * _TURN) % 1, 0.36 + 0.08 * (k % 3), 0.93 - 0.17 * (k % 2)], 1)))
