"""MatrixMarket files.

scipy's reader is fast, but a broken number can make it crash the interpreter, so the text is parsed here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.geometry.base import Geometry
from colgraph.geometry.readers.files import Source, parsing
from colgraph.geometry.readers.matrices.adjacency import Cells, adjacency_geometry

_FIELDS = ("real", "integer", "pattern")
_SYMMETRIES = {"general": 0.0, "symmetric": 1.0, "skew-symmetric": -1.0}


def read_matrix_market(source: Source, *, cells: Cells) -> Geometry:
    """Read an adjacency matrix in MatrixMarket form; a ``pattern`` has edges and no lengths.

    Raises:
        ValueError: for another kind of file, complex numbers, indices out of range, and counts that do not agree.
    """
    with parsing("MatrixMarket"):
        matrix, has_lengths = _parsed(source.text)
    return adjacency_geometry(matrix, name=source.name, cells=cells, has_lengths=has_lengths)


def _parsed(text: str) -> tuple[Any, bool]:
    """The matrix, as ``scipy.sparse.coo_array``, and whether its entries have values."""
    lines = text.splitlines()
    header = lines[0].lower().split()
    if len(header) != 5 or header[:2] != ["%%matrixmarket", "matrix"]:
        raise ValueError(f"the first line starts with '%%MatrixMarket matrix', this one is {lines[0][:60]!r}")
    form, field, symmetry = header[2:]
    if field not in _FIELDS or symmetry not in _SYMMETRIES:
        raise ValueError(f"an adjacency matrix holds real numbers, this one is {field} {symmetry}")
    body = [line.split() for line in lines[1:] if line.strip() and not line.lstrip().startswith("%")]
    if form == "coordinate":
        return _coordinates(body, field == "pattern", _SYMMETRIES[symmetry]), field != "pattern"
    if form != "array" or symmetry == "skew-symmetric" or field == "pattern":
        raise ValueError(f"{form} {field} {symmetry} is not supported: save the matrix as coordinate or array general")
    return _array(body, symmetric=symmetry == "symmetric"), True


def _coordinates(body: list[list[str]], pattern: bool, mirrored: float) -> Any:
    from scipy.sparse import coo_array

    rows, columns, count = (int(value) for value in body[0])
    if len(body) - 1 != count:
        raise ValueError(f"it promises {count} entries and has {len(body) - 1}")
    entries = np.array(body[1:], dtype=np.float64).reshape(count, 2 if pattern else 3)
    place = entries[:, :2].astype(np.int64) - 1
    if count and ((place < 0).any() or (place >= [rows, columns]).any() or (place + 1 != entries[:, :2]).any()):
        raise ValueError(f"an entry lies outside of the {rows} x {columns} matrix")
    values = np.ones(count) if pattern else entries[:, 2]
    if mirrored:
        other = place[:, 0] != place[:, 1]
        place = np.concatenate([place, place[other][:, ::-1]])
        values = np.concatenate([values, mirrored * values[other]])
    return coo_array((values, (place[:, 0], place[:, 1])), shape=(rows, columns))


def _array(body: list[list[str]], symmetric: bool) -> Any:
    """All numbers column by column; of a symmetric matrix those on and below the diagonal."""
    from scipy.sparse import coo_array

    rows, columns = (int(value) for value in body[0])
    count = rows * (rows + 1) // 2 if symmetric else rows * columns
    if len(body) - 1 != count or (symmetric and rows != columns):
        raise ValueError(f"it promises {count} numbers for {rows} x {columns} and has {len(body) - 1}")
    values: NDArray[np.float64] = np.array(body[1:], dtype=np.float64).reshape(count)
    if not symmetric:
        return coo_array(values.reshape(columns, rows).T)
    column, row = np.triu_indices(rows)
    matrix = np.zeros((rows, rows))
    matrix[row, column] = matrix[column, row] = values
    return coo_array(matrix)
