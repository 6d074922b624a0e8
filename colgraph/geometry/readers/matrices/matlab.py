"""MATLAB's ``.mat`` files: v4 to v7 through scipy, v7.3 (which is HDF5) through h5py."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from colgraph.array_files import Structs, is_hdf5, matlab_tree
from colgraph.geometry.base import Geometry
from colgraph.geometry.readers.files import Source, optional, parsing, warn
from colgraph.geometry.readers.matrices.adjacency import Cells, adjacency_geometry
from colgraph.hints import closest
from colgraph.text import plain_name

_NAMES = ("names", "labels", "regions", "areas", "rois", "parcels", "nodes", "name", "label", "region", "area", "roi")
_PLACES = ("pos", "positions", "coords", "coord", "coordinates", "xyz", "mni", "centroids", "centers", "centres")


def read_mat(source: Source, *, variable: str | None = None, names: str | None = None, cells: Cells) -> Geometry:
    """Read an adjacency matrix, full or sparse, from a ``.mat`` file.

    Args:
        source: the file.
        variable: the matrix; ``s.W`` is the field ``W`` of the struct ``s``, ``c{2}`` a matrix in a cell array. Not
            needed where there is one square matrix.
        names: the cell array (of character vectors) or character matrix with the columns' names. If not given, the only
            one of that length, or one called ``names``, ``labels``, ``regions`` and so on.
        cells: what the user says about the matrix.

    A variable called ``coords``, ``xyz``, ``pos`` and so on with three numbers per row is where the columns are.

    Raises:
        ValueError: for a broken file, and several matrices or none, naming what it holds.
        ImportError: if h5py is needed and not installed.
    """
    found = load_mat(source)
    found |= {key: text for key, value in found.items() if (text := _text_of_codes(key, value)) is not None}
    matrices = {key: v for key, v in found.items() if not isinstance(v, list) and _is_square(v)}
    places = [key for key in matrices if _is_places(key)]  # of three nodes, the positions are square too
    matrices = {key: v for key, v in matrices.items() if len(matrices) == 1 or key not in places}
    if variable is not None:
        if variable not in found or isinstance(found[variable], list):
            raise ValueError(f"it has no matrix {variable!r}{closest(variable, list(matrices))}")
        matrices = {variable: found[variable]}
    if len(matrices) != 1:
        held = matrices or {key: v for key, v in found.items() if not isinstance(v, list)}
        listed = ", ".join(f"{key} {list(v.shape)}" for key, v in held.items()) or "nothing that can be read"
        what = "several square matrices" if matrices else "no square matrix"
        raise ValueError(f"holds {what}: {listed}" + (f": say variable={next(iter(matrices))!r}" if matrices else ""))
    (chosen, matrix), size = next(iter(matrices.items())), next(iter(matrices.values())).shape[0]
    named = _named(found, names, size)
    fitting = [key for key in found if key != chosen and _is_places(key) and np.shape(found[key]) == (size, 3)]
    place = fitting[0] if fitting else None
    used = [f"the matrix {chosen!r}", *([] if named is None else [f"names from {named!r}"])]
    used += [] if place is None else [f"positions from {place!r}"]
    left = ", ".join(repr(key) for key in found if key not in (chosen, named, place))
    if len(found) > 1:
        warn(source.name, [", ".join(used), *([f"left out: {left}"] if left else [])])
    return adjacency_geometry(
        matrix,
        name=source.name,
        names=None if named is None else found[named],
        positions=None if place is None else np.asarray(found[place], dtype=np.float64),
        cells=cells,
    )


def _text_of_codes(key: str, value: Any) -> list[str] | None:
    """The lines of names that a program wrote as the codes of their characters (DSI Studio)."""
    if plain_name(key.rpartition(".")[2]) not in _NAMES or not isinstance(value, np.ndarray) or value.dtype != np.uint8:
        return None
    return bytes(value.reshape(-1).tolist()).decode("utf-8", "replace").rstrip("\0").splitlines() or None


def _is_square(value: Any) -> bool:
    return value.ndim == 2 and value.shape[0] == value.shape[1] > 1 and value.dtype.kind in "fiub"


def _is_places(key: str) -> bool:
    return plain_name(key.rpartition(".")[2]) in _PLACES


def _named(found: dict[str, Any], names: str | None, size: int) -> str | None:
    lists = [key for key, value in found.items() if isinstance(value, list)]
    if names is not None:
        if names not in lists:
            raise ValueError(
                f"it has no cell array of names {names!r}{closest(names, lists)} "
                "(string arrays cannot be read: use cellstr)"
            )
        if len(found[names]) != size:
            raise ValueError(f"{names!r} has {len(found[names])} names for {size} columns")
        return names
    fitting = [key for key in lists if len(found[key]) == size and len(set(found[key])) == size]
    usual = [key for key in fitting if plain_name(key.rpartition(".")[2]).endswith(_NAMES)]
    return fitting[0] if len(fitting) == 1 else usual[0] if len(usual) == 1 else None


def load_mat(source: Source) -> dict[str, Any]:
    """The variables of a file: arrays, ``scipy.sparse`` matrices, lists of text; fields and cells as ``a.b``, ``c{1}``.

    What no library reads (tables, string arrays, objects) is left out.

    Raises:
        ValueError: for a broken file.
        ImportError: if it is v7.3 and h5py is not installed.
    """
    if source.data.startswith(b"# Created by Octave"):
        raise ValueError("this is Octave's text format: save it with `save -v7`")
    h5py = optional("h5py", "mesh") if is_hdf5(source.data) else None
    with parsing("a MATLAB file" if h5py is None else "a MATLAB v7.3 file"):
        # Octave, which marks its groups, writes HDF5 by columns, too; other programs by rows.
        by_columns = source.data.startswith(b"MATLAB") or b"OCTAVE_NEW_FORMAT" in source.data
        tree = matlab_tree(io.BytesIO(source.data), h5py, by_columns)
    return {name: value for key, node in tree.items() for name, value in _flat(key, node, h5py is not None)}


def _flat(key: str, node: Any, structs: bool) -> Iterator[tuple[str, Any]]:
    """What lies below a node, by its place; the fields of several ``structs`` as cells, or not at all."""
    if isinstance(node, dict):
        for field, part in node.items():
            yield from _flat(f"{key}.{field}", part, structs)
    elif isinstance(node, Structs):
        for field in node[0] if structs and node else ():
            yield from _flat(f"{key}.{field}", [one[field] for one in node], structs)
    elif isinstance(node, list):
        texts = [_text(cell) for cell in node]
        if texts and None not in texts:
            yield key, texts
            return
        for i, cell in enumerate(node, start=1):
            yield from _flat(f"{key}{{{i}}}", cell, structs)
    elif node is not None:
        yield key, [node] if isinstance(node, str) else node


def _text(cell: Any) -> str | None:
    """The text of a cell, perhaps in a cell of its own."""
    if isinstance(cell, list) and len(cell) == 1:
        return _text(cell[0])
    return cell if isinstance(cell, str) else None
