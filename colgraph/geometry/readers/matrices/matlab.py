"""MATLAB's ``.mat`` files: v4 to v7 through scipy, v7.3 (which is HDF5) through h5py."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from colgraph.geometry.base import Geometry
from colgraph.geometry.readers.files import Source, optional, parsing, warn
from colgraph.geometry.readers.matrices.adjacency import Cells, adjacency_geometry
from colgraph.geometry.readers.tables.columns import plain
from colgraph.hints import closest

_HDF5 = b"\x89HDF\r\n\x1a\n"
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
    if plain(key.rpartition(".")[2]) not in _NAMES or not isinstance(value, np.ndarray) or value.dtype != np.uint8:
        return None
    return bytes(value.reshape(-1).tolist()).decode("utf-8", "replace").rstrip("\0").splitlines() or None


def _is_square(value: Any) -> bool:
    return value.ndim == 2 and value.shape[0] == value.shape[1] > 1 and value.dtype.kind in "fiub"


def _is_places(key: str) -> bool:
    return plain(key.rpartition(".")[2]) in _PLACES


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
    usual = [key for key in fitting if plain(key.rpartition(".")[2]).endswith(_NAMES)]
    return fitting[0] if len(fitting) == 1 else usual[0] if len(usual) == 1 else None


def load_mat(source: Source) -> dict[str, Any]:
    """The variables of a file: arrays, ``scipy.sparse`` matrices, lists of text; fields and cells as ``a.b``, ``c{1}``.

    What no library reads (tables, string arrays, objects) is left out.

    Raises:
        ValueError: for a broken file.
        ImportError: if it is v7.3 and h5py is not installed.
    """
    if _HDF5 in (source.data[:8], source.data[512:520]):
        h5py = optional("h5py", "mesh")
        with parsing("a MATLAB v7.3 file"), h5py.File(io.BytesIO(source.data), "r") as file:
            return {name: value for key in file if key[0] != "#" for name, value in _from_hdf5(key, file[key], file)}
    if source.data.startswith(b"# Created by Octave"):
        raise ValueError("this is Octave's text format: save it with `save -v7`")
    from scipy.io import loadmat

    with parsing("a MATLAB file"):
        loaded = loadmat(io.BytesIO(source.data))
    return {name: value for key in loaded if key[:2] != "__" for name, value in _from_scipy(key, loaded[key])}


def _from_scipy(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    from scipy.sparse import issparse

    if issparse(value) or (isinstance(value, np.ndarray) and value.dtype.kind in "fiubc"):
        yield key, value
    elif not isinstance(value, np.ndarray) or type(value) is not np.ndarray:
        return  # tables, strings, functions
    elif value.dtype.kind == "U":
        yield key, [str(row).strip() for row in value.reshape(-1)]
    elif value.dtype.names:
        for field in value.dtype.names if value.size == 1 else ():
            yield from _from_scipy(f"{key}.{field}", value.reshape(-1)[0][field])
    elif value.dtype.kind == "O":
        cells = value.reshape(-1, order="F").tolist()
        yield from _from_cells(key, cells, [_text(cell) for cell in cells], lambda name, cell: _from_scipy(name, cell))


def _text(cell: Any) -> str | None:
    """The text of a cell, which scipy has as an array of one string."""
    if isinstance(cell, np.ndarray) and cell.dtype.kind == "O" and cell.size == 1:
        return _text(cell.reshape(-1)[0])
    return (
        str(cell.reshape(-1)[0]) if isinstance(cell, np.ndarray) and cell.dtype.kind == "U" and cell.size == 1 else None
    )


def _from_cells(key: str, cells: list[Any], texts: list[str | None], read: Any) -> Iterator[tuple[str, Any]]:
    if cells and None not in texts:
        yield key, [str(text).strip() for text in texts]
        return
    for i, cell in enumerate(cells, start=1):
        yield from read(f"{key}{{{i}}}", cell)


def _from_hdf5(key: str, node: Any, file: Any) -> Iterator[tuple[str, Any]]:
    """HDF5 has MATLAB's arrays with their axes in reverse."""
    import h5py

    kind = node.attrs.get("MATLAB_class", b"")
    kind = kind.decode() if isinstance(kind, bytes) else str(kind)
    if isinstance(node, h5py.Group):
        if "MATLAB_sparse" in node.attrs:
            yield key, _sparse(node)
        elif not node.attrs.get("MATLAB_object_decode"):
            for field in node:
                yield from _from_hdf5(f"{key}.{field}", node[field], file)
        return
    if node.attrs.get("MATLAB_empty") or node.attrs.get("MATLAB_object_decode"):
        return
    if kind == "char":
        yield key, _characters(node)
    elif kind == "cell" or node.dtype == h5py.ref_dtype:
        cells = [file[ref] for ref in node[()].reshape(-1)]
        texts = [_characters(cell)[0] if _is_text(cell) else None for cell in cells]
        yield from _from_cells(key, cells, texts, lambda name, cell: _from_hdf5(name, cell, file))
    elif node.dtype.kind in "fiubc":
        yield key, np.asarray(node[()]).T


def _is_text(node: Any) -> bool:
    return node.attrs.get("MATLAB_class") in (b"char", "char") and not node.attrs.get("MATLAB_empty")


def _characters(node: Any) -> list[str]:
    codes = np.atleast_2d(np.asarray(node[()], dtype=np.uint16).T)
    return [row.astype("<u2").tobytes().decode("utf-16-le", "replace").strip() for row in codes]


def _sparse(node: Any) -> Any:
    """Compressed columns; a matrix of nothing but zeros has no ``data``."""
    from scipy.sparse import csc_array

    pointers = np.asarray(node["jc"][()], dtype=np.int64)
    shape = (int(node.attrs["MATLAB_sparse"]), len(pointers) - 1)
    if "data" not in node:
        return csc_array(shape)
    return csc_array((np.asarray(node["data"][()]), np.asarray(node["ir"][()], dtype=np.int64), pointers), shape=shape)
