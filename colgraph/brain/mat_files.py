"""What a MATLAB file holds, as a tree: structs, cells, text and numbers, alike for v5 (scipy) and v7.3 (h5py)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.extras import optional
from colgraph.text import reason_of

_HDF5 = b"\x89HDF\r\n\x1a\n"


def load_tree(path: Path) -> dict[str, Any]:
    """The variables of a ``.mat`` file, or the data sets of another HDF5 file, by name.

    A struct is a dict, an array of structs and a cell array are lists (in MATLAB's order, the first index fastest),
    text is a string, and numbers are arrays in the shape that MATLAB says, without axes of length 1. What no library
    reads (functions, tables, objects) is None.

    Raises:
        ValueError: one line that names the file, if it cannot be read.
        ImportError: for HDF5 without h5py.
    """
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise ValueError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    is_hdf5 = any(head[place : place + 8] == _HDF5 for place in (0, 512))
    h5py = optional("MATLAB's v7.3 and other HDF5 files need", "h5py", "brain") if is_hdf5 else None
    try:
        if h5py is not None:
            with h5py.File(path, "r") as opened:
                return _from_hdf5_file(opened, head.startswith(b"MATLAB"))
        from scipy.io import loadmat

        return {name: _from_v5(value) for name, value in loadmat(path).items() if not name.startswith("__")}
    except Exception as error:  # scipy and h5py raise what their parsers happen to stumble on
        raise ValueError(f"cannot read {str(path)!r} as a MATLAB file: {reason_of(error)}") from error


def numbers_of(tree: Any, label: str = "") -> Iterator[tuple[str, NDArray[Any]]]:
    """The arrays of numbers below a node, each with its place in MATLAB's words: ``a.b``, ``c{2}``, ``s(3).b``."""
    if isinstance(tree, np.ndarray):
        yield label, tree
    elif isinstance(tree, dict):
        for name, node in tree.items():
            yield from numbers_of(node, f"{label}.{name}" if label else name)
    elif isinstance(tree, list):
        marks = "()" if tree and all(isinstance(node, dict) for node in tree) else "{}"
        for i, node in enumerate(tree, start=1):
            yield from numbers_of(node, f"{label}{marks[0]}{i}{marks[1]}")


# ---------------------------------------------------------------------- v4 to v7


def _from_v5(value: Any) -> Any:
    from scipy.sparse import issparse

    if issparse(value):
        return value.toarray()
    if type(value) is not np.ndarray:
        return None  # functions, and objects of classes
    if value.dtype.names:
        structs = [{name: _from_v5(one[name]) for name in value.dtype.names} for one in value.reshape(-1, order="F")]
        return structs[0] if len(structs) == 1 else structs
    if value.dtype.kind == "O":
        return [_from_v5(cell) for cell in value.reshape(-1, order="F")]
    if value.dtype.kind in "US":
        lines = [str(line).strip() for line in value.reshape(-1)]
        return lines[0] if len(lines) == 1 else lines
    return value.squeeze() if value.dtype.kind in "fiubc" else None


# ---------------------------------------------------------------------- v7.3


def _from_hdf5_file(file: Any, by_matlab: bool) -> dict[str, Any]:
    """MATLAB writes its arrays with their axes in reverse; other programs write them as they are."""
    by_matlab = by_matlab or any("MATLAB_class" in node.attrs for node in file.values())
    found = {name: _from_hdf5(node, file, by_matlab) for name, node in file.items() if name[0] != "#"}
    return found | {name: str(value) for name, value in file.attrs.items() if isinstance(value, str)}


def _kind(node: Any) -> str:
    kind = node.attrs.get("MATLAB_class", b"")
    return kind.decode() if isinstance(kind, bytes) else str(kind)


def _from_hdf5(node: Any, file: Any, by_matlab: bool) -> Any:
    import h5py

    if any(mark in node.attrs for mark in ("MATLAB_object_decode", "MATLAB_empty", "MATLAB_sparse")):
        return None
    if isinstance(node, h5py.Group):
        return None if _kind(node) == "function_handle" else _struct(node, file, by_matlab)
    if node.shape is None:
        return None
    if h5py.check_ref_dtype(node.dtype) is not None:
        return [_from_hdf5(file[cell], file, by_matlab) for cell in node[()].reshape(-1)]
    if h5py.check_string_dtype(node.dtype):
        text = node.asstr()[()]
        return text.tolist() if isinstance(text, np.ndarray) else str(text)
    if _kind(node) == "char":
        codes = np.atleast_2d(np.asarray(node[()], dtype="<u2").T)
        lines = [row.tobytes().decode("utf-16-le", "replace").strip() for row in codes]
        return lines[0] if len(lines) == 1 else lines
    if node.dtype.kind not in "fiub":
        return None
    value = np.asarray(node[()])
    return (value.T if by_matlab else value).squeeze()


def _struct(group: Any, file: Any, by_matlab: bool) -> Any:
    """A struct; or several, of which each field is a data set of references, one to each struct."""
    import h5py

    fields = dict(group.items())
    are_many = fields and all(
        isinstance(node, h5py.Dataset) and h5py.check_ref_dtype(node.dtype) is not None and _kind(node) != "cell"
        for node in fields.values()
    )
    if not are_many or len({node.shape for node in fields.values()}) > 1:
        texts = {} if by_matlab else {name: value for name, value in group.attrs.items() if isinstance(value, str)}
        return {name: _from_hdf5(node, file, by_matlab) for name, node in fields.items()} | texts
    parts = {name: _from_hdf5(node, file, by_matlab) for name, node in fields.items()}
    return [dict(zip(parts, values, strict=True)) for values in zip(*parts.values(), strict=True)]
