"""Objects people already have, as geometries.

Types are told by the names of their classes, so that no library is imported only to find that an object is not its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.geometry.base import Geometry
from colgraph.geometry.readers.arrays import array_geometry, pair_geometry, table_geometry
from colgraph.geometry.readers.files import warn
from colgraph.geometry.readers.formats import call_with_options
from colgraph.geometry.readers.lengths import USUAL, check_lengths_asked, guessed, to_lengths
from colgraph.geometry.readers.matrices import adjacency_geometry
from colgraph.geometry.readers.mesh import mesh_geometry
from colgraph.geometry.readers.network import graph_geometry, network_geometry
from colgraph.geometry.readers.surface import gifti_geometry
from colgraph.geometry.readers.triangles import surface_geometry

__all__ = ["from_object"]

_ACCEPTED = (
    "a networkx graph, a trimesh.Trimesh, Scene or PointCloud, a PyG Data or Sheet, a scipy.sparse adjacency matrix, "
    "a nibabel GiftiImage, a nilearn surface mesh, coordinates and faces, an adjacency matrix (numpy, torch, pandas)"
)
_PYG_LENGTHS = ("edge_distance", "edge_weight", "edge_attr")


def from_object(obj: Any, **options: Any) -> Geometry:
    """The geometry of an object of another library.

    ========================== =========================================================================================
    networkx graph             any of the four kinds; options ``position, distance, weight, weight_is, names``
    trimesh                    ``Trimesh``, ``Scene``, ``PointCloud``; option ``merge_vertices`` (False: the vertices
                               stay as they are)
    PyG ``Data``, ``Sheet``    ``pos``, ``face``, ``edge_index``; edge lengths from ``edge_distance``, ``edge_weight``
                               or a one-dimensional ``edge_attr``; options ``distance, weight, weight_is``
    scipy.sparse, numpy, torch ``A[i, j]`` is the edge from i to j; options ``weight, weight_is, transpose``
    pandas ``DataFrame``       the same with names, or a table of edges (``source``, ``target``), as in a CSV file
    nibabel, nilearn           ``GiftiImage``; ``InMemoryMesh``, ``FileMesh``; ``PolyMesh``, ``SurfaceImage`` (a layer
                               per part)
    tuple or list              coordinates ``[V,3]`` and faces ``[F,3]``
    ========================== =========================================================================================

    A graph that :meth:`colgraph.Sheet.to_networkx` made comes back as the same graph with the same layers, inputs and
    outputs.

    Raises:
        ValueError: for any other type, an option that the type does not have, or contents that make no geometry.
    """
    if isinstance(obj, Geometry):
        return call_with_options(lambda geometry: geometry, obj, options, "a Geometry")
    for library, kind, reader in _READERS:
        if any(_is(cls, library, kind) for cls in type(obj).__mro__):
            what = f"a {library.partition('.')[0].removeprefix('builtins')} {type(obj).__name__}".replace("  ", " ")
            return call_with_options(reader, obj, options, what)
    module = type(obj).__module__
    kind = type(obj).__name__ if module == "builtins" else f"{module}.{type(obj).__name__}"
    raise ValueError(
        f"cannot make a geometry from an object of type {kind}: give {_ACCEPTED}, a file, or "
        "cg.Geometry(positions, faces=..., edges=...)"
    )


def _is(cls: type, library: str, kind: str) -> bool:
    return cls.__name__ == kind and f"{cls.__module__}.".startswith(f"{library}.")


def _from_networkx(
    graph: Any,
    *,
    position: str | Sequence[str] | bool | None = None,
    distance: str | None = None,
    weight: str | None = USUAL,
    weight_is: str | None = None,
    names: str | None = None,
) -> Geometry:
    return graph_geometry(
        graph,
        name=str(graph.graph.get("geometry") or graph.graph.get("name") or "networkx graph"),
        position=position,
        distance=distance,
        weight=weight,
        weight_is=weight_is,
        names=names,
    )


def _from_trimesh(obj: Any, *, merge_vertices: bool = False) -> Geometry:
    return mesh_geometry(obj, name="trimesh", merge_vertices=merge_vertices, drop_unused=False)


def _from_sparse(
    matrix: Any, *, weight: str | None = USUAL, weight_is: str | None = None, transpose: bool = False
) -> Geometry:
    return adjacency_geometry(matrix, name="sparse matrix", weight=weight, weight_is=weight_is, transpose=transpose)


def _from_gifti(image: Any) -> Geometry:
    return gifti_geometry(image, name="GIFTI surface")


def _from_nilearn(mesh: Any) -> Geometry:
    return surface_geometry(mesh.coordinates, mesh.faces, name="nilearn mesh", merge_vertices=False, drop_unused=False)


def _from_nilearn_parts(mesh: Any) -> Geometry:
    """The parts (hemispheres) in the order of their names, each a layer."""
    parts = [mesh.parts[key] for key in sorted(mesh.parts)]
    sizes = [len(part.coordinates) for part in parts]
    starts = np.cumsum([0, *sizes])
    return Geometry(
        np.concatenate([np.asarray(part.coordinates) for part in parts]),
        faces=np.concatenate([np.asarray(part.faces) + start for part, start in zip(parts, starts, strict=False)]),
        layer=np.repeat(np.arange(len(parts)), sizes),
        metric="geodesic",
        name="nilearn mesh",
    )


def _from_nilearn_image(image: Any) -> Geometry:
    warn("nilearn image", ["its mesh is the geometry, its data are not used"])
    return _from_nilearn_parts(image.mesh)


# ---------------------------------------------------------------------- PyG


def _from_pyg(
    data: Any, *, distance: str | None = None, weight: str | None = USUAL, weight_is: str | None = None
) -> Geometry:
    if data.get("pos") is None and data.get("edge_index") is None:
        raise ValueError("the Data has neither pos nor edge_index: there is nothing to connect its nodes by")
    n = int(data.num_nodes)
    positions = None if data.get("pos") is None else _array(data.pos, "pos").astype(np.float64)
    faces = _triangles(data, positions)
    name = str(data.get("geometry") or "PyG Data")
    if positions is not None and data.get("edge_index") is None:
        return Geometry(positions, faces=faces, metric="euclidean" if faces is None else "geodesic", name=name)
    edges = _edges(data.edge_index, n)
    lengths, attribute = _pyg_lengths(data, edges, distance, weight, weight_is)
    rank, output = data.get("input_rank"), data.get("output_mask")
    network = network_geometry(
        edges,
        n,
        lengths=lengths,
        directed=True,
        positions=positions,
        name=name,
        names=data.get("names"),
        layer=None if data.get("layer") is None else _array(data.layer, "layer"),
        inputs=None if rank is None else _by_rank(_array(rank, "input_rank")),
        outputs=None if output is None else np.flatnonzero(_array(output, "output_mask")),
        guessed_from=attribute,
    )
    return network if faces is None else dataclasses.replace(network, faces=faces)


def _array(tensor: Any, name: str) -> NDArray[Any]:
    if not hasattr(tensor, "detach"):
        raise ValueError(f"{name} must be a tensor, got {type(tensor).__name__}")
    return np.asarray(tensor.detach().cpu().numpy())


def _triangles(data: Any, positions: NDArray[Any] | None) -> NDArray[Any] | None:
    if data.get("face") is None or data.face.numel() == 0:
        return None
    faces = _array(data.face, "face")
    if positions is None:
        raise ValueError("the Data has faces but no pos")
    if faces.ndim != 2 or faces.shape[0] != 3:
        raise ValueError(f"face must have shape [3, F], got {list(faces.shape)}")
    return np.ascontiguousarray(faces.T)


def _edges(edge_index: Any, n: int) -> NDArray[np.int64]:
    edges = _array(edge_index, "edge_index")
    if edges.ndim != 2 or edges.shape[0] != 2 or edges.dtype.kind not in "iu":
        raise ValueError(f"edge_index must be integers of shape [2, E], got {edges.dtype} of shape {list(edges.shape)}")
    if edges.size and (edges.min() < 0 or edges.max() >= n):
        raise ValueError(f"edge_index must lie in 0..{n - 1} ({n} nodes), got {edges.min()} to {edges.max()}")
    return edges.astype(np.int64)


def _pyg_lengths(
    data: Any, edges: NDArray[np.int64], distance: str | None, weight: str | None, weight_is: str | None
) -> tuple[NDArray[np.float64] | None, str | None]:
    """The lengths of edges, and what was taken for distances without anybody saying so."""
    check_lengths_asked(weight, weight_is, distance)
    # What is told to be a strength is not the distance of a sheet.
    usual = () if weight is None else _PYG_LENGTHS if weight_is is None else _PYG_LENGTHS[1:]
    asked = distance or weight or None
    if asked is not None and data.get(asked) is None:
        raise ValueError(f"the Data has no attribute {asked!r}; it has {', '.join(sorted(map(str, data.keys())))}")
    for key in (asked,) if asked else usual:
        if data.get(key) is None:
            continue
        values = _array(data[key], key)
        if values.shape in ((edges.shape[1],), (edges.shape[1], 1)):
            lengths = to_lengths(values.reshape(-1), weight_is, lambda e: f"edge {edges[0, e]} -> {edges[1, e]}")
            told = distance is not None or (key == "edge_distance" and not weight)
            return lengths, None if told else guessed(key, lengths, weight_is)
        if asked or key != "edge_attr":
            raise ValueError(f"{key} must have shape [{edges.shape[1]}], one per edge, got {list(values.shape)}")
    if weight_is is not None:
        raise ValueError(f"weight_is={weight_is!r} needs edge_weight, or edge_attr with one value per edge")
    return None, None


def _by_rank(rank: NDArray[Any]) -> NDArray[np.int64] | None:
    columns = np.flatnonzero(rank >= 0)
    return columns[np.argsort(rank[columns], kind="stable")] if columns.size else None


_READERS: tuple[tuple[str, str, Callable[..., Geometry]], ...] = (
    ("networkx", "Graph", _from_networkx),
    ("trimesh", "Trimesh", _from_trimesh),
    ("trimesh", "PointCloud", _from_trimesh),
    ("trimesh", "Scene", _from_trimesh),
    ("torch_geometric", "Data", _from_pyg),
    ("scipy.sparse", "spmatrix", _from_sparse),
    ("scipy.sparse", "sparray", _from_sparse),
    ("nibabel", "GiftiImage", _from_gifti),
    ("nilearn", "SurfaceMesh", _from_nilearn),
    ("nilearn", "PolyMesh", _from_nilearn_parts),
    ("nilearn", "SurfaceImage", _from_nilearn_image),
    ("pandas", "DataFrame", table_geometry),
    ("numpy", "ndarray", array_geometry),
    ("torch", "Tensor", array_geometry),
    ("builtins", "tuple", pair_geometry),
    ("builtins", "list", pair_geometry),
)
