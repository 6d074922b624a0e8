"""Arrays in files of other programs: numpy's, and MATLAB's as a tree, alike for v5 (scipy) and v7.3 (h5py)."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from colgraph.extras import optional
from colgraph.hints import reason_of

_HDF5 = b"\x89HDF\r\n\x1a\n"


class Structs(list[Any]):
    """An array of structs, each a dict; a cell array is a plain list."""


def load_numpy(path: Path, alone: str, what: str = "", wanted: str = "numbers") -> dict[str, NDArray[Any]]:
    """The arrays of an ``.npz`` by their names, or that of an ``.npy`` as ``alone``. Nothing is unpickled.

    Raises:
        ValueError: one line that names the file, as ``what`` it should be, and what to save in it that is ``wanted``.
    """
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return {alone: found}
        with found:
            return {name: found[name] for name in found.files}
    except (OSError, ValueError, EOFError) as error:
        raise unreadable(path, error, what, wanted) from error


def unreadable(path: Path, error: Exception, what: str = "", wanted: str = "numbers") -> ValueError:
    """The error of one line for a file that could not be read; arguments as of :func:`load_numpy`."""
    reason = reason_of(error)
    reason = f"it holds Python objects, or is broken: save {wanted}" if "pickle" in reason else reason
    return ValueError(f"cannot read {what}{str(path)!r}: {reason}")


def is_hdf5(head: bytes) -> bool:
    """Whether a file that begins so is HDF5, perhaps behind the block in which MATLAB says what it is."""
    return _HDF5 in (head[:8], head[512:520])


def load_tree(path: Path, squeezed: int = 32) -> dict[str, Any]:
    """:func:`matlab_tree` of a file, with whole matrices for sparse ones, and arrays without axes of length 1.

    Args:
        path: of the file.
        squeezed: arrays of more axes than this keep those of length 1.

    Raises:
        ValueError: one line that names the file, if it cannot be read.
        ImportError: for HDF5 without h5py.
    """
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise ValueError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    h5py = optional("MATLAB's v7.3 and other HDF5 files need", "h5py", "brain") if is_hdf5(head) else None
    try:
        tree: dict[str, Any] = _squeezed(matlab_tree(path, h5py, head.startswith(b"MATLAB")), squeezed)
    except Exception as error:  # scipy and h5py raise what their parsers happen to stumble on
        raise ValueError(f"cannot read {str(path)!r} as a MATLAB file: {reason_of(error)}") from error
    return tree


def _squeezed(node: Any, most: int) -> Any:
    if isinstance(node, dict):
        return {name: _squeezed(part, most) for name, part in node.items()}
    if isinstance(node, list):
        return type(node)(_squeezed(part, most) for part in node)
    if hasattr(node, "toarray"):
        return node.toarray()
    return node.squeeze() if isinstance(node, np.ndarray) and node.ndim <= most else node


def matlab_tree(file: Path | BinaryIO, h5py: Any = None, by_matlab: bool = True) -> dict[str, Any]:
    """The variables of a ``.mat`` file, or the data sets of another HDF5 file, by name.

    A struct is a dict, an array of structs :class:`Structs`, a cell array a list (in MATLAB's order, the first index
    fastest), text is a string, lines of text are a list, and numbers are arrays in the shape that MATLAB says, or
    matrices of ``scipy.sparse``. What no library reads (functions, tables, objects) is None.

    Args:
        file: its path, or the open file.
        h5py: the package, for HDF5.
        by_matlab: whether axes are in reverse in HDF5, as MATLAB writes them. Where a data set says that it is
            MATLAB's, they are, whatever is said here.
    """
    if h5py is None:
        return _variables_v5(file)
    with h5py.File(file, "r") as opened:
        by_matlab = by_matlab or any("MATLAB_class" in node.attrs for node in opened.values())
        found = {name: _from_hdf5(node, opened, by_matlab) for name, node in opened.items() if name[0] != "#"}
        texts = {} if by_matlab else {name: value for name, value in opened.attrs.items() if isinstance(value, str)}
        return found | texts


# ---------------------------------------------------------------------- v4 to v7


def _variables_v5(file: Path | BinaryIO) -> dict[str, Any]:
    """The variables of a file; strings, tables and objects by their own names, which scipy writes into their values."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatlabOpaque, MatReadWarning, varmats_from_mat

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Duplicate variable name", MatReadWarning)
        found = loadmat(file)
    named = {name: _from_v5(value) for name, value in found.items() if not name.startswith("__")}
    if not isinstance(found.get("None"), MatlabOpaque):
        return named
    del named["None"]
    with file.open("rb") if isinstance(file, Path) else nullcontext(file) as opened:
        opened.seek(0)
        opaque = [loadmat(one)[name] for name, one in varmats_from_mat(opened) if name == "None"]
    return named | {one["s0"].item().decode("utf-8", "replace"): None for one in opaque}


def _from_v5(value: Any) -> Any:
    from scipy.sparse import issparse

    if issparse(value):
        return value
    if type(value) is not np.ndarray:
        return None  # functions, and objects of classes
    if value.dtype.names:
        structs = [{name: _from_v5(one[name]) for name in value.dtype.names} for one in value.reshape(-1, order="F")]
        return structs[0] if len(structs) == 1 else Structs(structs)
    if value.dtype.kind == "O":
        return [_from_v5(cell) for cell in value.reshape(-1, order="F")]
    if value.dtype.kind in "US":
        lines = [str(line).strip() for line in value.reshape(-1)]
        return lines[0] if len(lines) == 1 else lines
    return value if value.dtype.kind in "fiubc" else None


# ---------------------------------------------------------------------- v7.3


def _kind(node: Any) -> str:
    kind = node.attrs.get("MATLAB_class", b"")
    return kind.decode() if isinstance(kind, bytes) else str(kind)


def _from_hdf5(node: Any, file: Any, by_matlab: bool) -> Any:
    import h5py

    if "MATLAB_sparse" in node.attrs:
        return _sparse(node)
    if any(mark in node.attrs for mark in ("MATLAB_object_decode", "MATLAB_empty")):
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
    return value.T if by_matlab else value


def _sparse(node: Any) -> Any:
    """Compressed columns; a matrix of nothing but zeros has no ``data``."""
    from scipy.sparse import csc_array

    pointers = np.asarray(node["jc"][()], dtype=np.int64)
    shape = (int(node.attrs["MATLAB_sparse"]), len(pointers) - 1)
    if "data" not in node:
        return csc_array(shape)
    return csc_array((np.asarray(node["data"][()]), np.asarray(node["ir"][()], dtype=np.int64), pointers), shape=shape)


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
    return Structs(dict(zip(parts, values, strict=True)) for values in zip(*parts.values(), strict=True))
