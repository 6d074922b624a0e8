"""glTF 2.0 files (``.gltf``, ``.glb``), as the specification reads them: Khronos Group, glTF 2.0, 2021."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from itertools import filterfalse
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from colgraph.geometry.readers.files import Source, parsing
from colgraph.geometry.readers.meshes.polygons import Mesh, Polygons, moved, passed_over, strip_triangles

_COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_MODES = ("points", "lines", "lines", "lines", "triangles", "strip", "fan")

# Extensions that this reader honors, or that say nothing about where a surface is. Nothing else may be required.
_HONOURED = frozenset(
    (
        *("KHR_mesh_quantization", "KHR_texture_transform", "KHR_texture_basisu", "EXT_texture_webp"),
        *("EXT_texture_avif", "MSFT_texture_dds", "KHR_lights_punctual", "EXT_lights_image_based", "KHR_xmp_json_ld"),
    )
)
_HONOURED_FAMILIES = ("KHR_materials_", "EXT_materials_")

Floats = NDArray[np.float64]


def read_gltf(source: Source) -> Mesh:
    """Vertices and triangles of the scene of a glTF file, all parts in one frame, as it is at rest.

    Quantised, sparse and interleaved accessors, transforms, instances, morph targets at their given weights, skins,
    strips and fans are honored; lines are passed over.

    Raises:
        ValueError: for a file that is broken or cut short, is no glTF 2.0, or uses an extension that moves vertices
            and cannot be read here, with its name.
    """
    return _Reader(source).mesh()


def _honored(extension: str) -> bool:
    return extension in _HONOURED or extension.startswith(_HONOURED_FAMILIES)


def _unreadable(extension: str, use: str) -> ValueError:
    return ValueError(
        f"{use} the glTF extension {extension}, which cannot be read here: export it again without (for compression "
        "by Draco or meshopt: without compression)"
    )


class _Reader:
    """One file: its document, its buffers, and what was passed over."""

    def __init__(self, source: Source) -> None:
        self._folder = source.path.parent
        text, self._chunk = _unpack(source.data) if source.data[:4] == b"glTF" else (source.data, None)
        with parsing("glTF"):
            self._doc = json.loads(text.decode("utf-8-sig"))
            version = str(self._doc["asset"]["version"])
        if not version.startswith("2."):
            raise ValueError(f"glTF {version}, but only glTF 2.0 can be read: export it again as 2.0")
        for extension in self._doc.get("extensionsRequired", []):
            if not _honored(extension):
                raise _unreadable(extension, "requires")
        self._buffers: dict[int, bytes] = {}
        self._notes = Counter[str]()
        self._placed: dict[int, Floats] = {}

    def mesh(self) -> Mesh:
        """All parts of the scene: triangles if there are any, else points."""
        pieces: list[tuple[Floats, Polygons]] = []
        shown = set()
        for node, transform in self._nodes():
            if "mesh" not in node:
                continue
            shown.add(node["mesh"])
            pieces += self._primitives(node, transform)
        self._notes["meshes that are not in its scene"] = len(self._doc.get("meshes", [])) - len(shown)
        clouds = sum(not polygons.sizes.size for _, polygons in pieces)
        if clouds < len(pieces):
            self._notes["primitives of points"] = clouds
        return Mesh.joined(pieces, passed_over(+self._notes))

    # ------------------------------------------------------------------ the scene

    def _nodes(self) -> Iterator[tuple[Any, Floats]]:
        """Each node of the scene and where it is: its transform ``[4,4]`` to the scene."""
        nodes = self._doc.get("nodes", [])
        scenes = self._doc.get("scenes", [])
        if scenes:
            roots = scenes[self._doc.get("scene", 0)].get("nodes", [])
        else:
            children = {child for node in nodes for child in node.get("children", [])}
            roots = [i for i in range(len(nodes)) if i not in children]
        waiting = [(root, np.eye(4)) for root in reversed(roots)]
        while waiting:
            index, above = waiting.pop()
            if index in self._placed:
                raise ValueError(f"node {index} has several parents, where glTF allows one")
            self._placed[index] = above @ _local(nodes[index])
            waiting += [(child, self._placed[index]) for child in reversed(nodes[index].get("children", []))]
        for index, transform in self._placed.items():
            if "EXT_mesh_gpu_instancing" in nodes[index].get("extensions", {}):
                raise _unreadable("EXT_mesh_gpu_instancing", "uses")
            yield nodes[index], transform

    def _primitives(self, node: Any, transform: Floats) -> Iterator[tuple[Floats, Polygons]]:
        """Vertices in the scene and triangles (none of points) of each part of a node's mesh."""
        mesh = self._doc["meshes"][node["mesh"]]
        weights = node.get("weights", mesh.get("weights", []))
        for part in mesh["primitives"]:
            kind = _MODES[part.get("mode", 4)]
            if kind == "lines":
                self._notes["primitives of lines"] += 1
                continue
            compressed = [name for name in part.get("extensions", {}) if not _honored(name)]
            attributes = part["attributes"]
            if "POSITION" not in attributes:
                raise ValueError(f"a mesh has no POSITION, but {', '.join(attributes) or 'nothing'}")
            used = [attributes["POSITION"], *([part["indices"]] if "indices" in part else [])]
            bare = [i for i in used if not {"bufferView", "sparse"} & self._doc["accessors"][i].keys()]
            if bare and compressed:
                raise _unreadable(compressed[0], "uses")
            points = self._accessor(attributes["POSITION"])
            for target, weight in zip(part.get("targets", []), weights, strict=False):
                if weight and "POSITION" in target:
                    points = points + weight * self._accessor(target["POSITION"])
            points = self._skinned(points, node, attributes) if "skin" in node else moved(points, transform)
            corners = np.arange(len(points))
            if "indices" in part:
                corners = self._accessor(part["indices"]).astype(np.int64).reshape(-1)
            yield points, Polygons.of_triangles([] if kind == "points" else _cut(kind, corners))

    def _skinned(self, points: Floats, node: Any, attributes: dict[str, int]) -> Floats:
        """Where the joints put the vertices; the transform of the node itself does not count."""
        skin = self._doc["skins"][node["skin"]]
        joints = np.stack([self._placed[joint] for joint in skin["joints"]])
        if "inverseBindMatrices" in skin:
            inverse = self._accessor(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
            joints = joints @ inverse[: len(joints)]
        moved = np.zeros_like(points)
        for s in range(sum(name.startswith("JOINTS_") for name in attributes)):
            chosen = self._accessor(attributes[f"JOINTS_{s}"]).astype(np.int64)
            weights = self._accessor(attributes[f"WEIGHTS_{s}"])
            for joint, weight in zip(chosen.T, weights.T, strict=True):
                there = np.einsum("vij,vj->vi", joints[joint, :3, :3], points) + joints[joint, :3, 3]
                moved += weight[:, None] * there
        return moved

    # ------------------------------------------------------------------ numbers

    def _accessor(self, index: int) -> Floats:
        """``[count, components]`` of an accessor, as numbers."""
        accessor = self._doc["accessors"][index]
        kind = np.dtype(_COMPONENTS[accessor["componentType"]])
        width = _WIDTHS[accessor["type"]]
        values = np.zeros((accessor["count"], width), kind)
        if "bufferView" in accessor:
            values = self._view(accessor, values.shape, kind)
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            count, where = sparse["count"], sparse["indices"]
            rows = self._view(where, (count, 1), np.dtype(_COMPONENTS[where["componentType"]]))
            values = values.copy()
            values[rows[:, 0].astype(np.int64)] = self._view(sparse["values"], (count, width), kind)
        numbers = values.astype(np.float64)
        if accessor.get("normalized") and kind.kind != "f":
            numbers = np.maximum(numbers / np.iinfo(kind).max, -1.0)
        return numbers

    def _view(self, place: Any, shape: tuple[int, int], kind: np.dtype[Any]) -> NDArray[Any]:
        """The numbers at a place, which names a view and an offset in it."""
        index, offset = place["bufferView"], place.get("byteOffset", 0)
        view = self._doc["bufferViews"][index]
        if not self._has_data(view["buffer"]):
            for extension in filterfalse(_honored, view.get("extensions", {})):
                raise _unreadable(extension, "uses")
        start, length = view.get("byteOffset", 0), view["byteLength"]
        data = self._buffer(view["buffer"])[start : start + length]
        stride = view.get("byteStride", shape[1] * kind.itemsize)
        if len(data) < length or offset + (shape[0] - 1) * stride + shape[1] * kind.itemsize > length:
            raise ValueError(f"cut short: the view {index} has {len(data)} bytes, too few for what it holds")
        return np.ndarray(shape, kind, data, offset, (stride, kind.itemsize))

    def _has_data(self, buffer: int) -> bool:
        return "uri" in self._doc["buffers"][buffer] or (buffer == 0 and self._chunk is not None)

    def _buffer(self, index: int) -> bytes:
        if index not in self._buffers:
            buffer = self._doc["buffers"][index]
            uri = buffer.get("uri")
            if not self._has_data(index):
                raise ValueError(f"buffer {index} has neither a file nor data of its own")
            if uri is None:
                data = self._chunk or b""
            elif uri.startswith("data:"):
                data = base64.b64decode(uri.partition(",")[2], validate=True)
            else:
                path = self._folder / unquote(uri)
                if not path.is_file():
                    raise ValueError(f"its buffer {unquote(uri)!r} is not there: it belongs beside the file")
                data = path.read_bytes()
            if len(data) < buffer["byteLength"]:
                raise ValueError(f"cut short: buffer {index} has {len(data)} of {buffer['byteLength']} bytes")
            self._buffers[index] = data
        return self._buffers[index]


def _unpack(data: bytes) -> tuple[bytes, bytes | None]:
    """The document and the binary chunk (None if there is none) of a GLB file."""
    version, length = (int.from_bytes(data[at : at + 4], "little") for at in (4, 8))
    if version != 2:
        raise ValueError(f"glTF {version}, but only glTF 2.0 can be read: export it again as 2.0")
    if len(data) < max(length, 20):
        raise ValueError(f"cut short: it says {length} bytes, there are {len(data)}")
    chunks = []
    at = 12
    while at + 8 <= length:
        size = int.from_bytes(data[at : at + 4], "little")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 8 + size
    binary = [chunk for kind, chunk in chunks if kind == b"BIN\0"]
    return chunks[0][1], binary[0] if binary else None


def _local(node: Any) -> Floats:
    """``[4,4]`` from a node's frame to that of its parent."""
    if "matrix" in node:
        return np.array(node["matrix"], dtype=np.float64).reshape(4, 4).T
    turn = Rotation.from_quat(node.get("rotation", (0, 0, 0, 1))).as_matrix()
    out = np.eye(4)
    out[:3, :3] = turn * np.asarray(node.get("scale", (1, 1, 1)), dtype=np.float64)
    out[:3, 3] = node.get("translation", (0, 0, 0))
    return out


def _cut(kind: str, corners: NDArray[np.int64]) -> NDArray[np.int64]:
    if kind == "strip":
        return strip_triangles(corners)
    if kind == "fan":
        return np.stack([np.full(len(corners) - 2, corners[0]), corners[1:-1], corners[2:]], 1)
    if corners.size % 3:
        raise ValueError(f"triangles need a number of corners that 3 divides, got {corners.size}")
    return corners.reshape(-1, 3)
