"""PLY files: text, and binary of either byte order, with elements and properties of any kind."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from colgraph.geometry.readers.meshes.polygons import Mesh, Polygons

_TYPES = {
    name: code
    for names, code in (
        ("char int8", "i1"),
        ("uchar uint8", "u1"),
        ("short int16", "i2"),
        ("ushort uint16", "u2"),
        ("int int32", "i4"),
        ("uint uint32", "u4"),
        ("int64", "i8"),
        ("uint64", "u8"),
        ("float float32", "f4"),
        ("double float64", "f8"),
    )
    for name in names.split()
}
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_END = re.compile(rb"[\r\n]end_header[ \t]*(\r\n|\n|\r|$)")
_CORNERS = ("vertex_indices", "vertex_index")


class _Property(NamedTuple):
    name: str
    kind: str
    length: str | None  # the type of a list's length


class _Element(NamedTuple):
    name: str
    number: int
    properties: list[_Property]


class _Lists(NamedTuple):
    """A list property: the values of all rows, one row after the other, and how many each has."""

    values: NDArray[Any]
    sizes: NDArray[np.int64]


_Columns = dict[str, "NDArray[Any] | _Lists"]


def read_ply(data: bytes) -> Mesh:
    """Vertices and polygons of a PLY file (Turk 1994); triangle strips are read as well.

    Raises:
        ValueError: for a header that makes no sense, a file that is not as long as its header says, faces or vertices
            whose properties are not the usual ones, and a file without faces that holds something else than points.
    """
    order, elements, body = _header(data)
    tables = _read_text(body, elements) if not order else _read_binary(body, elements, order)
    if "vertex" not in tables:
        names = ", ".join(repr(element.name) for element in elements) or "none"
        raise ValueError(f"a PLY file has the element 'vertex', this one has {names}")
    points = _points(tables["vertex"])
    parts = []
    if "face" in tables:
        corners = _corners("face", tables["face"])
        parts.append(Polygons(corners.values.astype(np.int64), corners.sizes))
    if "tristrips" in tables:
        strips = _corners("tristrips", tables["tristrips"])
        parts.append(Polygons(strips.values.astype(np.int64), strips.sizes).unstripped())
    others = [e.name for e in elements if e.number and e.name not in ("vertex", "face", "tristrips", "camera")]
    polygons = Polygons.joined(parts)
    if others and not polygons.sizes.size:
        raise ValueError(
            f"holds no faces, but {', '.join(others)}, which cannot be read: export a mesh or points alone"
        )
    return Mesh(points, polygons, [f"passed over the PLY element {name!r}" for name in others])


def _header(data: bytes) -> tuple[str, list[_Element], bytes]:
    """The byte order ("" for text), the elements, and what follows the header."""
    if not data.lstrip().startswith(b"ply"):
        raise ValueError(f"a PLY file starts with 'ply', this one with {data[:20].decode('latin-1')!r}")
    end = _END.search(data)
    if end is None:
        raise ValueError("cut short: the PLY header has no end_header")
    head, body = data[: end.start()], data[end.end() :]
    order: str | None = None
    elements: list[_Element] = []
    for line in head.decode("latin-1").splitlines()[1:]:
        words = line.split()
        match words:
            case [] | ["comment" | "obj_info", *_]:
                pass
            case ["format", str(form), *_] if form in _ORDERS:
                order = _ORDERS[form]
            case ["element", str(name), str(number)] if number.isdigit():
                elements.append(_Element(name, int(number), []))
            case ["property", "list", str(count), str(kind), str(name)] if elements and {count, kind} <= _TYPES.keys():
                elements[-1].properties.append(_Property(name, _TYPES[kind], _TYPES[count]))
            case ["property", str(kind), str(name)] if elements and kind in _TYPES:
                elements[-1].properties.append(_Property(name, _TYPES[kind], None))
            case _:
                raise ValueError(f"the PLY header has the line {line.strip()!r}, which is none of the format's")
    if order is None:
        raise ValueError(f"the PLY header names no format: known are {', '.join(_ORDERS)}")
    return order, elements, body


def _points(columns: _Columns) -> NDArray[np.float64]:
    for axis in "xyz":
        if not isinstance(columns.get(axis), np.ndarray):
            raise ValueError(
                f"the vertices of a PLY file have x, y and z, these have {', '.join(columns) or 'nothing'}"
            )
    return np.stack([np.asarray(columns[axis], dtype=np.float64) for axis in "xyz"], 1)


def _corners(element: str, columns: _Columns) -> _Lists:
    for name in _CORNERS:
        found = columns.get(name)
        if isinstance(found, _Lists):
            return found
    raise ValueError(
        f"the element {element!r} of a PLY file has the list vertex_indices or vertex_index, this one has "
        f"{', '.join(columns) or 'nothing'}"
    )


# ---------------------------------------------------------------------- rows


def _read_text(body: bytes, elements: list[_Element]) -> dict[str, _Columns]:
    """Text is read as if each of its numbers, whatever its type, were written in eight bytes."""
    numbers = np.array(body.split(), dtype="S").astype(np.float64)
    wide = [
        element._replace(properties=[p._replace(kind="f8", length=p.length and "f8") for p in element.properties])
        for element in elements
    ]
    tables, end = _read_rows(numbers.tobytes(), wide, "=")
    if end != numbers.nbytes:
        raise ValueError(f"holds {(numbers.nbytes - end) // 8} numbers more than the header promises")
    for element in elements:
        for prop in element.properties:
            column = tables[element.name][prop.name]
            values = column.values if isinstance(column, _Lists) else column
            odd = values[values != np.floor(values)]
            if prop.kind[0] != "f" and odd.size:
                raise ValueError(f"the property {prop.name!r} holds integers, got {odd[0]}")
    return tables


def _read_binary(body: bytes, elements: list[_Element], order: str) -> dict[str, _Columns]:
    tables, end = _read_rows(body, elements, order)
    if body[end:].strip(b"\0 \t\r\n"):
        raise ValueError(f"holds {len(body) - end} bytes more than the header promises")
    return tables


def _read_rows(body: bytes, elements: list[_Element], order: str) -> tuple[dict[str, _Columns], int]:
    """The columns of each element, and where the last of them ends."""
    tables = {}
    at = 0
    for element in elements:
        tables[element.name], at = _read_even(body, at, element, order) or _read_uneven(body, at, element, order)
    return tables, at


def _cut_short(element: _Element) -> ValueError:
    return ValueError(f"cut short: the header promises {element.number} of {element.name!r}, there are fewer")


def _read_even(body: bytes, at: int, element: _Element, order: str) -> tuple[_Columns, int] | None:
    """The rows of an element whose lists are all as long as those of its first row; None if they are not."""
    fields: list[tuple[Any, ...]] = []
    _, first, _ = _walk(body, at, element, order, min(element.number, 1))
    sizes = [sum(size) for size in first]
    for p, prop in enumerate(element.properties):
        fields += [(f"n{p}", order + prop.length)] if prop.length else []
        fields.append((f"v{p}", order + prop.kind, (sizes[p],)))
    row = np.dtype(fields)
    end = at + row.itemsize * element.number
    if end > len(body):
        if not any(prop.length for prop in element.properties):
            raise _cut_short(element)
        return None
    table = np.frombuffer(body, row, element.number, at)
    columns: _Columns = {}
    for p, (prop, size) in enumerate(zip(element.properties, sizes, strict=True)):
        if prop.length and (table[f"n{p}"] != size).any():
            return None
        values = table[f"v{p}"].reshape(-1)
        columns[prop.name] = _Lists(values, np.full(element.number, size)) if prop.length else values
    return columns, end


def _read_uneven(body: bytes, at: int, element: _Element, order: str) -> tuple[_Columns, int]:
    """The same, row by row."""
    pieces, sizes, at = _walk(body, at, element, order, element.number)
    columns: _Columns = {}
    for p, prop in enumerate(element.properties):
        values = np.frombuffer(b"".join(pieces[p]), order + prop.kind)
        columns[prop.name] = _Lists(values, np.array(sizes[p], dtype=np.int64)) if prop.length else values
    return columns, at


def _walk(
    body: bytes, at: int, element: _Element, order: str, number: int
) -> tuple[list[list[memoryview]], list[list[int]], int]:
    """The bytes and the sizes of each property in the first rows of an element, and where these end."""
    kinds = [(np.dtype(order + (prop.length or "u1")), np.dtype(order + prop.kind)) for prop in element.properties]
    view = memoryview(body)
    sizes: list[list[int]] = [[] for _ in element.properties]
    pieces: list[list[memoryview]] = [[] for _ in element.properties]
    for _ in range(number):
        for p, prop in enumerate(element.properties):
            size = 1
            if prop.length:
                start, at = at, at + kinds[p][0].itemsize
                if at > len(body):
                    raise _cut_short(element)
                length = np.frombuffer(body, kinds[p][0], 1, start)[0]
                size = int(length)
                if size != length or size < 0:
                    raise ValueError(f"a list {prop.name!r} of the element {element.name!r} has the length {length}")
            end = at + size * kinds[p][1].itemsize
            if end > len(body):
                raise _cut_short(element)
            sizes[p].append(size)
            pieces[p].append(view[at:end])
            at = end
    return pieces, sizes, at
