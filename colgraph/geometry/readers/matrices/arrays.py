"""Plain arrays and tables that people hold in memory, as geometries: what is unambiguous is taken, the rest refused."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.checks import as_array
from colgraph.geometry.base import Geometry
from colgraph.geometry.readers.files import Source, refuse, warn
from colgraph.geometry.readers.matrices.adjacency import Cells, adjacency_geometry
from colgraph.geometry.readers.meshes.triangles import surface_geometry
from colgraph.geometry.readers.tables.columns import find_ends, may_be_areas
from colgraph.geometry.readers.tables.csv_txt import Rows, read_csv


def array_geometry(array: Any, *, cells: Cells) -> Geometry:
    """The geometry of a square array ``[N,N]``, an adjacency matrix: ``A[i, j]`` is the edge from i to j, 0 is none.

    Raises:
        ValueError: for any other shape, and for three columns or fewer: those may be positions.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise ValueError("an adjacency matrix with masked entries: give matrix.filled(0), where 0 is no edge")
    matrix = _dense(array) if hasattr(array, "detach") else as_array(array, "an adjacency matrix")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] <= 3:
        raise ValueError(
            f"an array of shape {list(matrix.shape)} may be positions, faces or edges (an adjacency matrix is square "
            "and larger than 3 x 3): give cg.Geometry(positions, faces=..., edges=...)"
        )
    return adjacency_geometry(matrix, name="matrix", cells=cells)


def _dense(tensor: Any) -> NDArray[Any]:
    """A tensor of any layout and precision."""
    tensor = tensor.detach().cpu().to_dense()
    return np.asarray((tensor.double() if tensor.is_floating_point() else tensor).numpy())


def table_geometry(frame: Any, *, asked: Rows) -> Geometry:
    """The geometry of a ``pandas.DataFrame``: a table of edges with the columns ``source`` and ``target``, read as a
    CSV file of the same content is, or an adjacency matrix whose rows and columns bear the same names, in any order.

    Raises:
        ValueError: for any other table, and for what the readers of files and matrices refuse.
    """
    heads, rows = map(_texts, (frame.columns, frame.index))
    ends = None if sorted(rows) == sorted(heads) else find_ends(heads)
    if ends is not None and may_be_areas(heads, frame.astype(str).to_numpy().tolist(), ends):
        raise ValueError(
            f"a DataFrame with the columns {', '.join(heads[i] for i in ends)} may be edges or a matrix: call the "
            "columns of edges source and target, or give the rows of a matrix the names of its columns"
        )
    if ends is not None:
        refuse("a table of edges", transpose=asked.transpose or None)
        text = Source(Path("DataFrame.csv"), frame.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC).encode())
        return dataclasses.replace(read_csv(text, asked=asked), name="DataFrame")
    refuse("an adjacency matrix", distance=asked.distance)
    small = len(frame) <= 3 and set(rows) != set(heads)
    if frame.shape[0] != frame.shape[1] or frame.empty or small:
        raise ValueError(
            f"a DataFrame of shape {list(frame.shape)} is neither an adjacency matrix (square; of 3 columns or fewer, "
            "with names for both) nor a table of edges (with the columns source and target): for positions give "
            "cg.Geometry(frame[['x', 'y', 'z']].to_numpy())"
        )
    names, frame = _named(frame)
    return adjacency_geometry(frame.fillna(0).to_numpy(), name="DataFrame", names=names, cells=asked)


def _texts(names: Any) -> list[str]:
    """Names as text, whole numbers without decimals: pandas makes floats of them where one was missing."""
    return [str(int(name)) if isinstance(name, float) and name.is_integer() else str(name) for name in names]


def _named(frame: Any) -> tuple[list[str] | None, Any]:
    """Column names, if there are any, and the matrix with its rows in the order of its columns."""
    rows, columns = map(_texts, (frame.index, frame.columns))
    counted = [[str(i + start) for i in range(len(rows))] for start in (0, 1)]
    names = None if columns == counted[0] else columns
    if rows == columns:
        return names, frame
    if len(set(columns)) == len(columns) and sorted(rows) == sorted(columns):
        warn("DataFrame", ["rows and columns are in different orders: joined by name"])
        place = {name: i for i, name in enumerate(rows)}
        return names, frame.iloc[[place[name] for name in columns]]
    if rows in counted or columns in counted:
        return columns if rows in counted else rows, frame
    other = sorted(set(rows) ^ set(columns))
    raise ValueError(
        f"the rows and columns of an adjacency matrix bear the same names, each once, but {(other or rows)[0]!r} is "
        "not once in both: give frame.to_numpy() if they are in the same order"
    )


def pair_geometry(pair: Any) -> Geometry:
    """The geometry of ``(coordinates, faces)``, ``[V,3]`` and ``[F,3]`` integers, as nilearn and nibabel give surfaces.

    Raises:
        ValueError: for any other tuple or list.
    """
    parts = [_plain(part) for part in pair] if len(pair) == 2 else []
    if len(parts) == 2 and all(part.ndim == 2 and part.shape[1] == 3 for part in parts):
        points, faces = parts
        if points.dtype.kind in "fiu" and faces.dtype.kind in "iu":
            return surface_geometry(points, faces, name="surface", merge_vertices=False, drop_unused=False)
    shapes = ", ".join(f"{list(_plain(part).shape)}" for part in list(pair)[:4])
    raise ValueError(
        f"a {type(pair).__name__} of {len(pair)} (shapes {shapes}) is no pair of coordinates [V, 3] and integer faces "
        "[F, 3]: give cg.Geometry(positions, faces=..., edges=...)"
    )


def _plain(part: Any) -> NDArray[Any]:
    try:
        return as_array(part, "a part")
    except ValueError:  # rows of different lengths
        return np.empty(0, dtype=object)
