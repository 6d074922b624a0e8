"""BrainNet Viewer's pairs of files: ``.node`` (where the nodes are, and their names) and ``.edge`` (a matrix)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from colgraph.geometry.base import Geometry
from colgraph.geometry.readers.files import Source, open_source, warn
from colgraph.geometry.readers.matrices.adjacency import Cells, adjacency_geometry
from colgraph.text import parse_numbers, parse_table

BRAINNET_SUFFIXES = ("node", "edge")


def read_brainnet(source: Source, *, cells: Cells) -> Geometry:
    """Read a ``.node`` or an ``.edge`` file, and the other of the same name beside it.

    A row of ``.node`` is ``x y z color size label``, with ``-`` for no label; colors and sizes are for drawing and not
    read. Without the ``.edge`` file there are columns and no edges, without the ``.node`` file no positions and names.

    Args:
        source: one of the two.
        cells: what the user says about the matrix.

    Raises:
        ValueError: for rows that are no nodes, a matrix that is not square, and files that do not fit each other.
    """
    other = _partner(source)
    node, edge = (source, other) if source.suffix == "node" else (other, source)
    missing = source.path.with_suffix(".node" if node is None else ".edge").name
    positions, names = (None, None) if node is None else _nodes(node)
    if edge is None:
        warn(source.name, [f"there is no {missing} beside it: columns without edges"])
        return Geometry(np.asarray(positions), name=source.name, names=names)
    matrix = _matrix(edge)
    if positions is not None and len(positions) != len(matrix):
        raise ValueError(f"the .node file has {len(positions)} nodes, the .edge file {len(matrix)} rows")
    alone = f"there is no {missing} beside it: no positions and names"
    warn(source.name, [alone if other is None else f"read with {other.path.name}"])
    return adjacency_geometry(matrix, name=source.name, names=names, positions=positions, cells=cells)


def _partner(source: Source) -> Source | None:
    """The other file of the pair, in capitals or not, compressed or not."""
    stem, other = source.name[: -len(source.suffix)].lower(), "edge" if source.suffix == "node" else "node"
    wanted = (stem + other, f"{stem}{other}.gz")
    found = sorted(path for path in source.path.parent.iterdir() if path.name.lower() in wanted)
    return open_source(found[0]) if found else None


def _nodes(source: Source) -> tuple[NDArray[np.float64], list[str] | None]:
    """Positions ``[N,3]`` and names, or None where no node has one."""
    table = parse_table(source.text)
    for i, row in enumerate(table.rows, start=1):
        if len(row) not in (5, 6):
            raise ValueError(f"row {i} of {source.path.name} has {len(row)} cells: a node is x y z color size label")
    numbers = parse_numbers([cell for row in table.rows for cell in row[:3]], table.separator)
    bad = next((i for i, number in enumerate(numbers) if number is None), None)
    if bad is not None:
        raise ValueError(f"row {bad // 3 + 1} of {source.path.name} has the position {table.rows[bad // 3][:3]}")
    labels = [row[5] if len(row) > 5 else "-" for row in table.rows]
    if all(label in ("-", "") for label in labels):
        return np.array(numbers, dtype=np.float64).reshape(-1, 3), None
    names = [str(i) if label in ("-", "") else label for i, label in enumerate(labels, start=1)]
    return np.array(numbers, dtype=np.float64).reshape(-1, 3), names


def _matrix(source: Source) -> NDArray[np.float64]:
    table = parse_table(source.text)
    numbers = parse_numbers([cell for row in table.rows for cell in row], table.separator)
    if None in numbers:
        raise ValueError(f"cell {numbers.index(None) + 1} of {source.path.name} is not a number: it holds a matrix")
    return np.array(numbers, dtype=np.float64).reshape(len(table.rows), -1)
