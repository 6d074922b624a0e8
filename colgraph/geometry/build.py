"""From anything that describes a geometry to a sheet."""

from __future__ import annotations

import dataclasses
import numbers
import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph import checks
from colgraph.edges import canonical_edges
from colgraph.geometry.areas import AREA_OPTIONS, with_areas
from colgraph.geometry.base import Geometry, parse_axis
from colgraph.geometry.neighbors import Edges, Neighborhood, Usual, parse_neighborhood, warn_of_isolated
from colgraph.geometry.options import list_options
from colgraph.geometry.registry import (
    call_geometry,
    describe_geometries,
    find_geometry,
    is_plugin,
    list_geometries,
    load_plugin,
)
from colgraph.hints import did_you_mean
from colgraph.sheet import Sheet
from colgraph.space import GRAPH_METRICS, Index, Space, make_space
from colgraph.space.connections import connections

_ARGUMENTS = ("neighbors", "metric", "mask", "num_inputs", "num_outputs", "inputs", "outputs", "axis")


def geometry(source: Any, **options: Any) -> Geometry:
    """A geometry by registered name, from a plug-in file, from a file, or from an object people already have.

    Args:
        source: a name from :func:`list_geometries`; ``"file.py:function"``; the path of a mesh, surface or network
            file; a networkx graph, ``trimesh.Trimesh`` or PyG ``Data``; or a :class:`Geometry`, which comes back.
        options: what the geometry or reader takes: ``geometry("stack", widths=[8, 8, 8])``.

    Raises:
        ValueError: for an unknown name (with the closest), unknown or wrong options, or files that cannot be read.
    """
    return _resolve(source, options, ())


def _resolve(source: Any, options: dict[str, Any], callers: tuple[str, ...]) -> Geometry:
    """See :func:`geometry`; ``callers`` are the caller's own arguments, to hint at where an option is misspelt."""
    own = _own_options(source)
    areas = {name: options[name] for name in AREA_OPTIONS if name in options and name not in own}
    if "parcellation" in areas:
        rest = {name: value for name, value in options.items() if name not in areas}
        return with_areas(_resolve(source, rest, callers), areas)
    if isinstance(source, Geometry):
        if options:
            first = next(iter(options))
            raise ValueError(f"a Geometry takes no options, got {first!r}{did_you_mean(first, callers)}")
        return source
    if isinstance(source, os.PathLike):
        return _read(os.fspath(source), options)
    if not isinstance(source, str):
        from colgraph.geometry.readers import from_object

        return from_object(source, **options)
    if is_plugin(source):
        return call_geometry(source.rpartition(":")[2], load_plugin(source), options, callers)
    if source not in list_geometries() and _looks_like_file(source):
        return _read(source, options)
    return call_geometry(source, find_geometry(source), options, callers)


def _own_options(source: Any) -> set[str]:
    """The options of a registered geometry or plug-in, which go to it, whatever else has them."""
    if not isinstance(source, str) or not (is_plugin(source) or source in list_geometries()):
        return set()
    function = load_plugin(source) if is_plugin(source) else find_geometry(source)
    return {option.name for option in list_options(function)}


def build_sheet(
    source: Any,
    *,
    neighbors: Neighborhood | str | None = None,
    metric: str | None = None,
    mask: Any = None,
    num_inputs: int | None = None,
    num_outputs: int | None = None,
    inputs: Any = None,
    outputs: Any = None,
    axis: Any = None,
    **options: Any,
) -> Sheet:
    """Make a sheet: columns from a geometry, edges from a neighborhood, inputs and outputs along an axis.

    Args:
        source: as for :func:`geometry`.
        neighbors: who listens to whom: ``KNN``, ``Radius``, ``Given``, ``Complete``, ``Edges``, their union with
            ``|``, or a text such as ``"knn:16|given"`` or ``"knn:16|edges:tracts.csv"``. None takes a network's own
            edges exactly as they are, the edges of a mesh's faces with self-loops (``Given()``), and ``KNN(16)`` where
            there is neither (``Complete()`` on 16 columns or fewer).
        metric: "euclidean", "great_circle", "periodic", "geodesic", "hops" or "given"; None for the geometry's own.
        mask: the columns to keep: a boolean array ``[N]``, indices, or the path of a label file. The geometry is cut
            before anything is measured: geodesic distances go around what is left out. ``inputs``, ``outputs`` and
            ``Edges`` count columns before the cut; the sheet counts those that are left, in the same order.
        num_inputs: make the columns lowest on the axis inputs, this many. Ties go to the lower index.
        num_outputs: read out the columns highest on the axis, this many.
        inputs: the input columns in order of rank, instead of ``num_inputs``: indices, a boolean array ``[N]``, a text
            such as "0-15,20", or the path of a label file as for ``mask`` (its columns in ascending order).
        outputs: the columns to read out, instead of ``num_outputs``; the same.
        axis: "x", "y", "z", "-x", ... or a vector from inputs to outputs; None for the geometry's own, else the
            widest (ties x before y before z).
        options: what the geometry or the file's reader takes; for all of them, what makes areas and their connections:
            ``parcellation``, ``connectome``, ``connectome_labels``, ``strength``, ``tract_lengths``, ``long_range``,
            ``hub``, ``rewire_areas``, ``connectome_seed`` (:class:`colgraph.geometry.areas.Areas`).

    Returns:
        The sheet. Where neither the call nor the geometry says so, no column is an input and every one is read out.
        Its ``spacing`` is the median distance to the nearest other column (with "given" and "hops": the median over
        columns of the shortest edge), whatever the neighborhood.

    Raises:
        ValueError: for anything that cannot be; the message names it and says what would be right.
    """
    shape = _resolve(source, options, _ARGUMENTS)
    shape = _with_ends(shape, num_inputs, num_outputs, inputs, outputs, axis)
    wanted = (Usual() if neighbors is None else parse_neighborhood(neighbors)).with_tracts(shape)
    if metric is not None:
        shape = dataclasses.replace(shape, metric=metric)
    if mask is not None:
        new_id = _new_ids(mask, shape.num_columns)
        shape = _cut(shape, new_id, {"inputs": inputs is not None, "outputs": outputs is not None})
        wanted = wanted.relabeled(new_id)
    shape = _choose_ends(shape, num_inputs, num_outputs)
    neighborhood = wanted.chosen(shape)
    space = make_space(shape.place, shape.metric)
    links = neighborhood.links(shape, space)
    edges, distance = canonical_edges(np.stack([links.source, links.target]), shape.num_columns, links.distance)
    if metric is None:
        _warn_of_unread_lengths(shape, space)
    if neighborhood.may_isolate:
        warn_of_isolated(neighborhood, links, shape, space)
    return Sheet.from_edges(
        edges,
        shape.num_columns,
        edge_distance=distance,
        pos=shape.positions,
        inputs=shape.inputs,
        outputs=shape.outputs,
        layer=shape.layer,
        face=None if shape.faces is None else shape.faces.T,
        spacing=space.spacing(),
        metric=shape.metric,
        geometry=shape.name,
        names=shape.names,
        area=shape.area,
        area_names=shape.area_names,
        tracts=shape.tracts,
        period=shape.period if shape.metric == "periodic" else None,
        wires=_wires(shape, edges, distance),
    )


def _warn_of_unread_lengths(shape: Geometry, space: Space) -> None:
    """Say where a geometry's edges have lengths that its own metric, which nobody asked for, sets aside."""
    if shape.edges is None or shape.edge_distance is None or shape.metric in GRAPH_METRICS:
        return
    length = shape.edge_distance
    # Positions of a sheet that is read again are rounded.
    if not np.allclose(space.between(*shape.edges), length, rtol=1e-4, atol=1e-5 * float(length.max(initial=0))):
        warnings.warn(
            f"the lengths edge_distance of {shape.name!r} are not used: its metric is {shape.metric!r}, which measures "
            "edges otherwise (metric='given' uses them)",
            stacklevel=3,
        )


def _wires(shape: Geometry, edges: Index, distance: Any) -> tuple[Index, Any] | None:
    """The connections that distances follow, where the metric follows any and they are not the edges themselves."""
    if shape.metric not in GRAPH_METRICS:
        return None
    source, target, length = connections(shape.place, shape.metric)
    wires, length = canonical_edges(np.stack([source, target]), shape.num_columns, length)
    return None if np.array_equal(wires, edges) and np.array_equal(length, distance) else (wires, length)


def option_names() -> set[str]:
    """Every option that some registered geometry or file format has."""
    from colgraph.geometry.readers import FORMATS

    names = {*AREA_OPTIONS, *(option.name for info in describe_geometries() for option in info.options)}
    return names.union(*(form.options for form in FORMATS))


# ---------------------------------------------------------------------- sources


def _looks_like_file(source: str) -> bool:
    return Path(source).suffix != "" or "/" in source or os.sep in source or Path(source).is_file()


def _read(path: str, options: dict[str, Any]) -> Geometry:
    file = path.rpartition(":")[0] or path
    if file.endswith(".py"):
        raise ValueError(f"{path!r} names a Python file without a function in it: write {file}:function")
    from colgraph.geometry.readers import read_geometry

    return read_geometry(path, **options)


# ---------------------------------------------------------------------- masks


def _cut(shape: Geometry, new_id: Index, named: dict[str, bool]) -> Geometry:
    """The geometry of the columns that a mask keeps (``new_id`` is -1 for the others), everything relabeled.

    Inputs and outputs that the caller ``named`` must all be kept; of the geometry's own, at least one.
    """
    n, kept = shape.num_columns, np.flatnonzero(new_id >= 0)
    changes: dict[str, Any] = {"positions": shape.positions[kept]}
    if shape.faces is not None:
        faces = new_id[shape.faces]
        faces = faces[(faces >= 0).all(1)]
        if not faces.size and shape.metric == "geodesic":
            raise ValueError(f"mask keeps {kept.size} of {n} columns but no whole face: no surface is left")
        changes["faces"] = faces if faces.size else None
    for ends, lengths in (("edges", "edge_distance"), ("tracts", "tract_lengths")):
        if getattr(shape, ends) is not None:
            inner = Edges(getattr(shape, ends), getattr(shape, lengths)).relabeled(new_id)
            changes |= {ends: inner.edge_index, lengths: inner.distance}
    for labels in ("layer", "area"):
        if getattr(shape, labels) is not None:
            changes[labels] = getattr(shape, labels)[kept]
    if shape.names is not None:
        changes["names"] = [shape.names[i] for i in kept.tolist()]
    for what in ("inputs", "outputs"):
        columns = getattr(shape, what)
        if columns is not None:
            changes[what] = _relabeled(columns, new_id, what, named[what])
    return dataclasses.replace(shape, **changes)


def _relabeled(columns: Index, new_id: Index, what: str, named: bool) -> Index:
    left = new_id[columns]
    lost = columns[left < 0]
    if lost.size and named:
        raise ValueError(f"mask removes column {lost[0]}, which {what} names")
    if lost.size and lost.size == columns.size:
        raise ValueError(
            f"mask removes all {columns.size} {what} of the geometry: name others with {what} or num_{what}"
        )
    return left[left >= 0]


def _new_ids(mask: Any, n: int) -> Index:
    """``[N]`` the number each column has once a mask is applied; -1 for those it removes."""
    if isinstance(mask, str | os.PathLike):
        mask = read_columns(mask, n, "mask")
    values = checks.as_array(mask, "mask")
    # N zeros and ones are a mask too; as indices they would name a column more than once.
    if values.shape == (n,) and n > 2 and values.dtype.kind in "iuf" and bool(np.isin(values, (0, 1)).all()):
        values = values.astype(bool)
    kept = np.sort(checks.columns(values, n, "mask"))
    if not kept.size:
        raise ValueError(f"mask keeps none of {n} columns")
    if kept.size == n:
        warnings.warn(f"the mask keeps all {n:,} columns: nothing is cut away", stacklevel=3)
    new_id = np.full(n, -1)
    new_id[kept] = np.arange(kept.size)
    return new_id


# ---------------------------------------------------------------------- inputs and outputs


_INDICES = re.compile(r"\s*\d+(\s*-\s*\d+)?(\s*,\s*\d+(\s*-\s*\d+)?)*\s*")


def read_columns(columns: Any, n: int, what: str) -> Any:
    """Columns from a text such as "0-15,20" or "all", or from the path of a label file; anything else as it is.

    Args:
        columns: the text or path.
        n: how many columns there are.
        what: their name in errors.

    Raises:
        ValueError: for columns that are not there, and files that cannot be read.
    """
    if not isinstance(columns, str | os.PathLike):
        return columns
    if columns == "all":
        return np.arange(n)
    if not isinstance(columns, str) or not _INDICES.fullmatch(columns):
        from colgraph.geometry.readers import read_mask

        return read_mask(columns, n)
    ranges = [[int(end) for end in part.split("-")] for part in columns.split(",")]
    # No range is spelt out before its end is known to be a column.
    for ends in ranges:
        if ends[-1] < ends[0] or ends[-1] >= n:
            raise ValueError(f"{what} must lie in 0..{n - 1} ({n} columns), ranges in order, got {columns!r}")
    return np.concatenate([np.arange(ends[0], ends[-1] + 1) for ends in ranges])


def _with_ends(
    shape: Geometry, num_inputs: int | None, num_outputs: int | None, inputs: Any, outputs: Any, axis: Any
) -> Geometry:
    """The geometry with what the caller says about inputs, outputs and axis in place of its own."""
    changes: dict[str, Any] = {}
    if axis is not None:
        changes["axis"] = parse_axis(axis)
    for what, columns, number in (("inputs", inputs, num_inputs), ("outputs", outputs, num_outputs)):
        if columns is not None and number is not None:
            raise ValueError(f"give {what} or num_{what}, not both")
        if columns is not None:
            changes[what] = read_columns(columns, shape.num_columns, what)
        elif number is not None:
            changes[what] = None
    return dataclasses.replace(shape, **changes) if changes else shape


def _choose_ends(shape: Geometry, num_inputs: int | None, num_outputs: int | None) -> Geometry:
    """Inputs lowest and outputs highest on the axis, where the caller gives their number."""
    changes: dict[str, Any] = {}
    for what, number, least in (("inputs", num_inputs, 0), ("outputs", num_outputs, 1)):
        if number is None:
            continue
        n = shape.num_columns
        if isinstance(number, bool) or not isinstance(number, numbers.Integral) or not least <= number <= n:
            raise ValueError(
                f"num_{what} must be {least} to {n}, the number of columns of {shape.name!r}, got {number}"
            )
        if not shape.spatial:
            warnings.warn(
                f"num_{what}={number} of {shape.name!r} takes columns by a layout for plotting, which depends on the "
                f"order of its nodes: name them with {what}=",
                stacklevel=3,
            )
        order = _along_axis(shape)
        chosen = order[:number] if what == "inputs" else order[n - number :]
        changes[what] = np.sort(chosen)
    return dataclasses.replace(shape, **changes) if changes else shape


def _along_axis(shape: Geometry) -> Index:
    """Columns from the lowest to the highest on the axis. Heights that differ by rounding are equal."""
    extent = np.ptp(shape.positions, axis=0)
    if shape.axis is None:
        axis: NDArray[np.float64] = np.eye(3)[int(np.argmax(extent >= extent.max() * (1 - 1e-6)))]
    else:
        axis = np.asarray(shape.axis)
    height = shape.positions @ axis
    step = 1e-9 * max(float(np.ptp(height)), np.finfo(np.float64).tiny)
    return np.argsort(np.round((height - height.min()) / step), kind="stable")
