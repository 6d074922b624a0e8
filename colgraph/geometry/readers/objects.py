"""Objects people already have, as geometries.

Types are told by the names of their classes, so that no library is imported only to find that an object is not its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from colgraph.geometry.base import Geometry
from colgraph.geometry.options import call_with_options
from colgraph.geometry.readers.files import warn
from colgraph.geometry.readers.graphs.attributes import name_lengths, name_places
from colgraph.geometry.readers.graphs.network import graph_geometry
from colgraph.geometry.readers.graphs.pyg import pyg_geometry
from colgraph.geometry.readers.lengths import Lengths
from colgraph.geometry.readers.matrices.adjacency import Cells, adjacency_geometry
from colgraph.geometry.readers.matrices.arrays import array_geometry, pair_geometry, table_geometry
from colgraph.geometry.readers.meshes.cortical import gifti_geometry
from colgraph.geometry.readers.meshes.mesh import mesh_geometry
from colgraph.geometry.readers.meshes.polygons import Mesh, Polygons
from colgraph.geometry.readers.meshes.triangles import surface_geometry

_ACCEPTED = (
    "a networkx graph, a trimesh.Trimesh, Scene or PointCloud, a PyG Data or Sheet, a scipy.sparse adjacency matrix, "
    "a nibabel GiftiImage, a nilearn surface mesh, coordinates and faces, an adjacency matrix (numpy, torch, pandas)"
)


def from_object(obj: Any, **options: Any) -> Geometry:
    """The geometry of an object of another library.

    ========================== =========================================================================================
    networkx graph             any of the four kinds; options ``position, distance, weight, weight_is, names``
    trimesh                    ``Trimesh``, ``Scene``, ``PointCloud``; option ``merge_vertices`` (False: the vertices
                               stay as they are)
    PyG ``Data``, ``Sheet``    ``pos``, ``face``, ``edge_index``; edge lengths from ``edge_distance``, ``edge_weight``
                               or a one-dimensional ``edge_attr``; options ``distance, weight, weight_is``
    scipy.sparse, numpy, torch ``A[i, j]`` is the edge from i to j; options ``weight, weight_is, transpose, directed``
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
        return call_with_options("a Geometry", lambda: obj, options)
    for library, kind, reader in _READERS:
        if any(_is(cls, library, kind) for cls in type(obj).__mro__):
            what = f"a {library.partition('.')[0].removeprefix('builtins')} {type(obj).__name__}".replace("  ", " ")
            return call_with_options(what, partial(reader, obj), options)
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
    lengths: Lengths,
    names: str | None = None,
) -> Geometry:
    name = str(graph.graph.get("geometry") or graph.graph.get("name") or "networkx graph")
    graph = graph.copy()  # its attributes get other names
    lengths = name_lengths(graph, name, lengths)
    name_places(graph, name)
    return graph_geometry(graph, name=name, position=position, lengths=lengths, names=names)


def _from_trimesh(obj: Any, *, merge_vertices: bool = False) -> Geometry:
    return mesh_geometry(obj, name="trimesh", merge_vertices=merge_vertices, drop_unused=False)


def _from_sparse(matrix: Any, *, cells: Cells) -> Geometry:
    return adjacency_geometry(matrix, name="sparse matrix", cells=cells)


def _from_gifti(image: Any) -> Geometry:
    return gifti_geometry(image, name="GIFTI surface")


def _from_nilearn(mesh: Any) -> Geometry:
    return surface_geometry(mesh.coordinates, mesh.faces, name="nilearn mesh", merge_vertices=False, drop_unused=False)


def _from_nilearn_parts(mesh: Any) -> Geometry:
    """The parts (hemispheres) in the order of their names, each a layer."""
    parts = [mesh.parts[key] for key in sorted(mesh.parts)]
    whole = Mesh.joined([(np.asarray(part.coordinates), Polygons.of_triangles(part.faces)) for part in parts])
    return Geometry(
        whole.points,
        faces=whole.polygons.corners.reshape(-1, 3),
        layer=np.repeat(np.arange(len(parts)), [len(part.coordinates) for part in parts]),
        metric="geodesic",
        name="nilearn mesh",
    )


def _from_nilearn_image(image: Any) -> Geometry:
    warn("nilearn image", ["its mesh is the geometry, its data are not used"])
    return _from_nilearn_parts(image.mesh)


_READERS: tuple[tuple[str, str, Callable[..., Geometry]], ...] = (
    ("networkx", "Graph", _from_networkx),
    ("trimesh", "Trimesh", _from_trimesh),
    ("trimesh", "PointCloud", _from_trimesh),
    ("trimesh", "Scene", _from_trimesh),
    ("torch_geometric", "Data", pyg_geometry),
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
