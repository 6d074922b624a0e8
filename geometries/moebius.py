"""A geometry of one's own: columns on a Möbius band, a strip with a half twist and only one side.

Copy this file, change the function, and give its path and the function's name wherever a geometry is asked for:

    colgraph train --data digits --geometry geometries/moebius.py:moebius
    sheet = cg.build_sheet("geometries/moebius.py:moebius", columns=512)

The arguments of the function are the options of the geometry; give them types and defaults. A package that wants its
geometries listed by ``colgraph list`` names such functions under the entry-point group ``colgraph.geometries``.
"""

import math

import numpy as np

import colgraph as cg


@cg.register_geometry("moebius")
def moebius(columns: int = 256) -> cg.Geometry:
    """A Möbius band, columns 1 apart along its middle; distance is measured along the surface.

    Args:
        columns: how many; they stand in rows across the band, so the number must divide into rows of 2 or more.

    Raises:
        ValueError: if there are too few columns, or their number does not divide into rows.
    """
    # As many rows as make the band about four times as long as it is wide.
    widths = [w for w in range(2, math.isqrt(max(columns, 0)) + 1) if columns % w == 0 and columns // w >= 3 * w]
    if not widths:
        raise ValueError(f"columns must divide into rows of 2 or more, at least 3 times as many rows, got {columns}")
    width = min(widths, key=lambda w: abs(columns - 4 * w * w))
    length = columns // width

    # Where the columns are: `turn` goes once around the band, `across` from one edge to the other. The band turns by
    # half as much as it goes around, which is what makes it one-sided.
    turn = np.repeat(2 * np.pi * np.arange(length) / length, width)
    across = np.tile(np.arange(width) - (width - 1) / 2, length)
    radius = length / (2 * np.pi)
    reach = radius + across * np.cos(turn / 2)
    positions = np.stack([reach * np.cos(turn), reach * np.sin(turn), across * np.sin(turn / 2)], axis=1)

    # How they make a surface: every square of four neighbors is two triangles. Behind the last row comes the first,
    # upside down.
    row = np.arange(columns).reshape(length, width)
    following = np.concatenate([row[1:], row[:1, ::-1]])
    a, b = row[:, :-1].ravel(), row[:, 1:].ravel()
    c, d = following[:, :-1].ravel(), following[:, 1:].ravel()
    faces = np.concatenate([np.stack([a, b, c], axis=1), np.stack([b, d, c], axis=1)])

    # With faces there is a surface to measure along. A geometry without them leaves `faces` out, and may give `edges`
    # instead. `inputs` and `outputs` can be given too; here the sheet chooses them along an axis.
    return cg.Geometry(positions, faces=faces, metric="geodesic", name="moebius")
