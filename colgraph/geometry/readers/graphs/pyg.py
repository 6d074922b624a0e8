"""PyG's ``Data``, and sheets, as geometries."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph import checks
from colgraph.edges import by_rank, edge_codes
from colgraph.geometry.base import Geometry
from colgraph.geometry.readers.files import warn
from colgraph.geometry.readers.graphs.network import network_geometry, with_stated_metric
from colgraph.geometry.readers.lengths import Lengths, edge_name

_LENGTHS = ("edge_distance", "edge_weight", "edge_attr")


def pyg_geometry(data: Any, *, lengths: Lengths) -> Geometry:
    """The geometry of a ``Data``: ``pos``, ``face``, ``edge_index``, and what a :class:`colgraph.Sheet` has besides.

    Edge lengths are those of ``edge_distance``, ``edge_weight`` or a one-dimensional ``edge_attr``.

    Raises:
        ValueError: for neither positions nor edges, and for attributes that make no geometry.
    """
    if getattr(data, "num_graphs", 1) > 1 and data.get("edge_index") is None and data.get("face") is None:
        raise ValueError(
            f"a batch of {data.num_graphs} point clouds is no cloud, whose points would be neighbors of each other: "
            "give one of them, such as batch[0]"
        )
    if data.get("edge_index") is None and data.get("adj_t") is not None:
        raise ValueError("the Data has adj_t in place of edge_index: give it as it was before T.ToSparseTensor()")
    if data.get("pos") is None and data.get("edge_index") is None:
        raise ValueError("the Data has neither pos nor edge_index: there is nothing to connect its nodes by")
    n = int(data.num_nodes)
    positions = None if data.get("pos") is None else checks.positions(data.pos, n, "pos")
    faces = _triangles(data, n)
    name = str(data.get("geometry") or "PyG Data")
    if positions is not None and data.get("edge_index") is None:
        return Geometry(positions, faces=faces, metric="euclidean" if faces is None else "geodesic", name=name)
    edges = checks.edge_index(data.edge_index, n)
    distance, attribute = _lengths(data, edges, lengths)
    output = data.get("output_mask")
    inputs = by_rank(checks.as_array(data.get("input_rank", ()), "input_rank"))
    network = network_geometry(
        edges,
        n,
        lengths=distance,
        directed=True,
        positions=positions,
        name=name,
        names=data.get("names"),
        layer=data.get("layer"),
        areas=(data.get("area"), getattr(data, "area_names", None)),
        inputs=inputs if inputs.size else None,
        outputs=None if output is None else np.flatnonzero(checks.as_array(output, "output_mask")),
        guessed_from=attribute,
        is_tract=_is_tract(data, edges, n),
    )
    network = with_stated_metric(network, data.get("metric"), data.get("period"))
    if faces is None:
        return network
    # Edges that are the sides of faces (T.FaceToEdge) make no network of a surface.
    along = data.get("metric") is None and distance is None
    return dataclasses.replace(network, faces=faces, metric="geodesic" if along else network.metric)


def _is_tract(data: Any, edges: NDArray[np.int64], n: int) -> NDArray[np.bool_] | None:
    """``[E]`` which edges are tracts of a sheet; None of other data."""
    if data.get("tract_index") is None:
        return None
    tracts = checks.indices(data.tract_index, n, "tracts", (2, "T"))
    return np.isin(edge_codes(edges, n), edge_codes(tracts, n))


def _triangles(data: Any, n: int) -> NDArray[np.int64] | None:
    if data.get("face") is None or data.face.numel() == 0:
        return None
    if data.get("pos") is None:
        raise ValueError("the Data has faces but no pos")
    return checks.indices(data.face, n, "face", (3, "F")).T


def _lengths(data: Any, edges: NDArray[np.int64], asked: Lengths) -> tuple[NDArray[np.float64] | None, str | None]:
    """The lengths of edges, and what was taken for distances without anybody saying so."""
    # What is told to be a strength is not the distance of a sheet.
    usual = () if asked.weight is None else _LENGTHS if asked.weight_is is None else _LENGTHS[1:]
    if asked.key is not None and data.get(asked.key) is None:
        raise ValueError(f"the Data has no attribute {asked.key!r}; it has {', '.join(sorted(map(str, data.keys())))}")
    for key in usual if asked.key is None else (asked.key,):
        if data.get(key) is None:
            continue
        values = checks.as_array(data[key], key)
        if values.shape in ((edges.shape[1],), (edges.shape[1], 1)):
            lengths = asked.read(values.reshape(-1), lambda e: edge_name(*edges[:, e]))
            told = asked.distance is not None or (key == "edge_distance" and not asked.weight)
            return lengths, None if told else asked.guessed(key, lengths)
        if asked.key is not None or key != "edge_attr":
            raise ValueError(f"{key} must have shape [{edges.shape[1]}], one per edge, got {list(values.shape)}")
    if asked.weight_is is not None:
        raise ValueError(f"weight_is={asked.weight_is!r} needs edge_weight, or edge_attr with one value per edge")
    unread = [repr(key) for key in data.edge_attrs() if key != "edge_index" and len(data[key]) == edges.shape[1]]
    if unread and asked.weight is not None:
        several = "" if "'edge_attr'" not in unread else ", with one value per edge"
        warn(
            "PyG Data",
            [f"no lengths were read; edges have {', '.join(unread)} (distance= or weight= names one{several})"],
        )
    return None, None
