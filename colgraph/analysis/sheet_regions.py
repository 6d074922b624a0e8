"""Regions of a sheet by name: its areas, its layers, bands from its inputs to its outputs, or any that are given."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

from colgraph.analysis.arrays import Array, as_array
from colgraph.hints import did_you_mean

Index = NDArray[np.int64]
REGIONS = ("areas", "layers", "all", "bands:K")
"""Names of what :func:`sheet_regions` can make regions of."""


def sheet_regions(sheet: Any, regions: Any | None = None) -> dict[str, Index]:
    """Named groups of a sheet's columns, for analyses that look at each by itself.

    Args:
        sheet: anything with the attributes of :class:`colgraph.Sheet` that are needed: ``num_columns``, and ``area``
            with ``area_names``, ``layer``, or ``edge_index``, ``edge_distance``, ``input_rank`` and ``output_mask``.
        regions: what to make regions of.

            * None: the areas of a sheet that has them, else its layers where it has several, else all columns.
            * "areas": one for each area that has columns, by its name; columns of no area are in none.
            * "layers": ``layer0`` and so on, by label.
            * "all": ``all``, every column.
            * "bands:4", or another number: ``band1`` to ``band4``, of columns in the order of their way from the inputs
              to the outputs, as many in each as ties allow. A column's place on that way is the length of the shortest
              path along edges, in either direction, from the nearest input column, less that to the nearest output
              column; where every column is an output, the former alone.
            * a mapping of names to indices of columns, or to masks ``[N]``; regions may overlap.
            * ``[N]`` a label for each column, a name or an integer; columns of a negative integer are in none.

    Returns:
        For each region its columns, int64 and ascending, except that indices given keep their order; none is empty.

    Raises:
        ValueError: for a name that is none, what the sheet does not have, labels or indices that do not fit, an empty
            region, and bands that ties leave empty.
    """
    count = int(sheet.num_columns)
    if regions is None:
        if getattr(sheet, "area", None) is not None:
            return _areas(sheet, count)
        layers = _layers(sheet, count)
        return layers if len(layers) > 1 else _all(count)
    if isinstance(regions, str):
        return _named(sheet, regions, count)
    if isinstance(regions, Mapping):
        return given_regions(regions, count)
    return _labeled(regions, count)


def _named(sheet: Any, regions: str, count: int) -> dict[str, Index]:
    bands = re.fullmatch(r"bands:\s*(\d+)", regions)
    if bands:
        return _bands(sheet, int(bands[1]), count)
    if regions == "areas":
        if getattr(sheet, "area", None) is None:
            name = getattr(sheet, "geometry", None) or type(sheet).__name__
            raise ValueError(f"regions 'areas' need a sheet with areas, and this one ({name}) has none")
        return _areas(sheet, count)
    known = {"layers": _layers, "all": lambda _, count: _all(count)}
    if regions not in known:
        hint = did_you_mean(regions, REGIONS, "; ")
        raise ValueError(f"regions must be areas, layers, all, bands:K, a mapping or labels, got {regions!r}{hint}")
    return known[regions](sheet, count)


def _all(count: int) -> dict[str, Index]:
    return {"all": np.arange(count)}


def _areas(sheet: Any, count: int) -> dict[str, Index]:
    label, names = _whole(sheet.area, count, "area"), [str(name) for name in sheet.area_names]
    if label.max(initial=-1) >= len(names):
        raise ValueError(f"area {int(label.max())} has no name: there are {len(names)} area_names")
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise ValueError(f"area_names has {twice!r} twice: regions need names of their own")
    found = {name: np.flatnonzero(label == i) for i, name in enumerate(names)}
    found = {name: columns for name, columns in found.items() if len(columns)}
    if not found:
        raise ValueError(f"none of the {count} columns is in an area")
    return found


def _layers(sheet: Any, count: int) -> dict[str, Index]:
    label = _whole(sheet.layer, count, "layer")
    return {f"layer{value}": np.flatnonzero(label == value) for value in np.unique(label)}


def _whole(values: Any, count: int, what: str) -> Index:
    array = as_array(values, what)
    if array.shape != (count,):
        raise ValueError(f"{what} must have one label per column ({count}), got shape {list(array.shape)}")
    if array.dtype.kind == "b":
        raise ValueError(f"{what} are true or false for each column: give a mask a name, {{'name': mask}}")
    if array.dtype.kind == "f" and not (array == np.round(array)).all():
        wrong = array[array != np.round(array)][0]
        raise ValueError(f"{what} must be names or integers, got {wrong:g}")
    return array.astype(np.int64)


def _labeled(regions: Any, count: int) -> dict[str, Index]:
    if hasattr(regions, "detach"):
        regions = regions.detach().cpu().numpy()
    try:
        label = np.asarray(regions)
    except ValueError as error:
        raise ValueError(
            f"regions must be a label for each of the {count} columns, got rows of unlike length"
        ) from error
    if label.dtype.kind in "OSU" and label.shape == (count,):
        odd = [one for one in label.tolist() if not isinstance(one, str) or not one]
        if odd:
            raise ValueError(f"regions must be names or integers, got {odd[0]!r}")
        return {name: np.flatnonzero(label == name) for name in dict.fromkeys(label.tolist())}
    if label.dtype.kind in "OSU":
        raise ValueError(f"regions must have one label per column ({count}), got shape {list(label.shape)}")
    whole = _whole(label, count, "regions")
    found = {str(value): np.flatnonzero(whole == value) for value in np.unique(whole) if value >= 0}
    if not found:
        raise ValueError(f"regions leave all {count} columns in none: every label is negative")
    return found


def given_regions(regions: Mapping[Any, Any], count: int) -> dict[str, Index]:
    """The columns of each region, from indices or masks, or a ValueError where they are not among so many."""
    if not regions:
        raise ValueError("regions must name at least one, got an empty mapping")
    odd = [name for name in regions if not isinstance(name, str) or not name]
    if odd:
        raise ValueError(f"names of regions must be text, got {odd[0]!r}")
    return {name: region_columns(values, count, name) for name, values in regions.items()}


def region_columns(values: Any, count: int, name: Any) -> Index:
    """The columns of one region, from indices or a mask, or a ValueError as of :func:`sheet_regions`."""
    what = f"region {name!r}"
    index = as_array(values if np.ndim(values) else [values], what)
    if index.dtype == np.bool_:
        if index.shape != (count,):
            raise ValueError(f"{what} as a mask must have {count} entries, got shape {list(index.shape)}")
        index = np.flatnonzero(index)
    if not index.size:
        raise ValueError(f"{what} has no columns")
    if index.ndim != 1 or index.dtype.kind not in "iu":
        raise ValueError(f"{what} must be a list of column indices, got {index.dtype} of shape {list(index.shape)}")
    if index.min() < 0 or index.max() >= count:
        wrong = int(index.min()) if index.min() < 0 else int(index.max())
        raise ValueError(f"{what} must lie in 0..{count - 1} ({count} columns), got {wrong}")
    found, often = np.unique(index, return_counts=True)
    if len(found) < len(index):
        raise ValueError(f"{what} names column {found[often > 1][0]} more than once")
    return index.astype(np.int64)


# ---------------------------------------------------------------------- bands


def _bands(sheet: Any, bands: int, count: int) -> dict[str, Index]:
    if not 2 <= bands <= count:
        raise ValueError(f"regions 'bands:{bands}' must be 2 to {count} bands, as many as there are columns at most")
    place = _way(sheet, count)
    # The mean rank keeps columns that are equally far in one band.
    label = np.floor((stats.rankdata(place) - 0.5) / count * bands).astype(np.int64)
    found = {f"band{i + 1}": np.flatnonzero(label == i) for i in range(bands)}
    empty = [name for name, columns in found.items() if not len(columns)]
    if empty:
        different = len(np.unique(place))
        raise ValueError(
            f"regions 'bands:{bands}' leave {empty[0]} empty: the {count} columns lie at {different} different places "
            "on the way from inputs to outputs, and too many at one"
        )
    return found


def _way(sheet: Any, count: int) -> Array:
    """``[N]`` the length of the way from the inputs, less that to the outputs."""
    inputs = np.flatnonzero(as_array(sheet.input_rank, "input_rank") >= 0)
    outputs = np.flatnonzero(as_array(sheet.output_mask, "output_mask"))
    if not len(inputs):
        raise ValueError("regions in bands need a sheet with input columns, and this one has none")
    source, target = as_array(sheet.edge_index, "edge_index")
    length = as_array(sheet.edge_distance, "edge_distance").astype(np.float64)
    graph = sparse.csr_array((length, (source, target)), shape=(count, count))
    place = _nearest(graph, inputs, "an input")
    if 0 < len(outputs) < count:
        place = place - _nearest(graph, outputs, "an output")
    # Lengths are float32: sums along ways of one length differ by their rounding.
    return np.asarray(np.round(place / max(float(np.abs(place).max()), 1e-300), 5))


def _nearest(graph: Any, ends: Index, what: str) -> Array:
    far = sparse.csgraph.dijkstra(graph, directed=False, indices=ends, min_only=True)
    cut = np.flatnonzero(~np.isfinite(far))
    if len(cut):
        raise ValueError(f"regions in bands: no path joins {len(cut)} columns and {what} column, the first is {cut[0]}")
    return np.asarray(far)
