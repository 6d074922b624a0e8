"""A connectome between areas: its matrix, and which of its rows each area of a surface is."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.geometry.neighbors import EdgeFile
from colgraph.geometry.readers import from_object, read_geometry
from colgraph.geometry.readers.area_names import SIDE_NAMES, base_of, read_area_names, side_of
from colgraph.geometry.readers.files import warn
from colgraph.hints import closest
from colgraph.text import count_rows

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Area:
    """One area of a parcellation on a surface.

    Attributes:
        code: its number in the file.
        name: its name in the file, or None.
        side: 0 where its columns are in the left hemisphere, 1 in the right, None in both or where nobody knows.
    """

    code: int
    name: str | None
    side: int | None

    def __str__(self) -> str:
        return f"{self.code}" if self.name is None else f"{self.name!r}"


@dataclass(frozen=True, eq=False)
class Connectome:
    """Strengths of connections between named areas.

    Attributes:
        strength: ``[R,R]`` from the area of the row to that of the column, 0 where there is none.
        names: of the rows, in order.
        codes: of the rows, where the file of names says them.
        path: what messages call it.
    """

    strength: Array
    names: list[str]
    codes: list[int] | None
    path: str


def read_connectome(source: Any, labels: Any, strength: str) -> Connectome:
    """A connectome from any network file or object, perhaps with the names of its rows in another file.

    Args:
        source: a path, perhaps with options of its reader (``SC.mat?variable=SC``), or a matrix.
        labels: the path of a file that :func:`read_area_names` reads, a list of names, or None.
        strength: "linear", or "log" where the numbers are natural logarithms.

    Raises:
        ValueError: naming the file, for what is no matrix of strengths (finite, and positive unless "log"), rows
            without names, and names that are not those of the rows.
    """
    try:
        matrix, header, path = read_pairs(source, "strength" if strength == "linear" else "log-strength", "connectome")
    except ValueError as error:
        hint = " (of logarithms: strength='log')" if "must be finite and positive" in str(error) else ""
        raise ValueError(f"{error}{hint}") from error
    pairs = matrix > 0
    matrix[pairs] = 1 / matrix[pairs]
    if labels is None:
        if header is None:
            raise ValueError(
                f"connectome {path!r} has {len(matrix)} rows without names: give connectome_labels=FILE, the names of "
                "its rows in order"
            )
        return Connectome(matrix, header, None, path)
    called = None if isinstance(labels, str | os.PathLike) else [str(name) for name in labels]
    names, codes = (called, None) if called is not None else read_area_names(labels)
    what = "connectome_labels" if called is not None else f"connectome_labels {os.fspath(labels)!r}"
    twice = next((name for k, name in enumerate(names) if name in names[:k]), None)
    if twice is not None:
        raise ValueError(f"{what} has the name {twice!r} twice")
    if len(names) != len(matrix):
        raise ValueError(f"{what} has {len(names)} names, and connectome {path!r} has {len(matrix)} rows")
    if header is not None and not count_rows(header):
        matrix = _in_order_of(names, header, matrix, f"{what} and connectome {path!r}")
    return Connectome(matrix, names, codes, path)


def read_pairs(source: Any, weight_is: str, what: str) -> tuple[Array, list[str] | None, str]:
    """``[R,R]`` lengths of a network's edges by their ends, 0 where there is none; names of its nodes; its path."""
    options: dict[str, Any] = {"weight_is": weight_is}
    if isinstance(source, str | os.PathLike):
        file = EdgeFile.parse(os.fspath(source))
        if "weight_is" in file.options:
            raise ValueError(f"what the numbers of the {what} mean is said by strength=, got weight_is in {source!r}")
        path, network = file.path, read_geometry(file.path, **file.options, **options)
    else:
        path = what
        try:
            network = from_object(source, **options)
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from error
    matrix = np.zeros((network.num_columns,) * 2)
    if network.edges is not None:
        matrix[*network.edges] = 1.0 if network.edge_distance is None else network.edge_distance
    np.fill_diagonal(matrix, 0)
    if not matrix.any():
        raise ValueError(f"{what} {path!r} connects none of its {len(matrix)} areas")
    return matrix, None if network.names is None else list(network.names), path


def tract_lengths(source: Any, connectome: Connectome) -> Array:
    """``[R,R]`` lengths of tracts in the order of the connectome's rows, 0 where there is none.

    Raises:
        ValueError: where its rows are others than the connectome's.
    """
    lengths, header, path = read_pairs(source, "distance", "tract_lengths")
    both = f"tract_lengths {path!r} and connectome {connectome.path!r}"
    if len(lengths) != len(connectome.names):
        raise ValueError(f"{both} have {len(lengths)} and {len(connectome.names)} rows: they must be the same areas")
    if header is None or count_rows(header):
        return lengths
    return _in_order_of(connectome.names, header, lengths, both)


def _in_order_of(names: list[str], header: list[str], matrix: Array, what: str) -> Array:
    """A matrix with rows and columns called ``header`` in the order of ``names``."""
    place = {(side_of(name), base_of(name)): k for k, name in enumerate(header)}
    keys = [(side_of(name), base_of(name)) for name in names]
    unknown = [name for name, key in zip(names, keys, strict=True) if key not in place]
    if unknown or len(set(keys)) < len(keys) or len(place) < len(header):
        raise ValueError(
            f"{what} name different areas: {unknown[0] if unknown else names[0]!r} is not in both, or twice"
        )
    order = [place[key] for key in keys]
    return matrix[np.ix_(order, order)]


# ---------------------------------------------------------------------- which row an area is


def rows_of(areas: list[Area], connectome: Connectome, parcellation: str, most: int) -> tuple[NDArray[np.int64], bool]:
    """The row of each area, by name, else by code; and whether nothing but the order of rows says so.

    Rows that are named by numbers are joined by code, and refused where they count from 0. Codes from 1 to as many as
    there are rows are taken for the numbers of the rows where no file says more; or, of a file of the left hemisphere,
    to as many as there are rows of that hemisphere, which must come first.

    Args:
        areas: those that have columns.
        connectome: with its rows.
        parcellation: the file, as messages call it.
        most: the largest code in it.

    Raises:
        ValueError: for areas without a row, two in one row, and hemispheres that contradict each other, naming both.
    """
    by_order = False
    rows: list[int | None]
    if all(area.name is not None for area in areas):
        rows = _by_name(areas, connectome)
    elif connectome.codes is not None:
        rows = _by_key([area.code for area in areas], connectome.codes)
    elif all(name.isascii() and name.isdigit() for name in connectome.names):
        rows, by_order = _by_number(areas, connectome, parcellation), count_rows(connectome.names)
    else:
        rows, by_order = [area.code - 1 for area in areas], True
        here, side = [side_of(name) for name in connectome.names], areas[0].side
        of_side = side is not None and here.count(side) == most and set(here[:most]) == {side}
        if most != len(here) and not (of_side and all(area.side == side for area in areas)):
            raise ValueError(
                f"parcellation {parcellation!r} has codes up to {most} and no names, and connectome "
                f"{connectome.path!r} has {len(connectome.names)} rows without codes: give connectome_labels=FILE with "
                "a code and a name in each row"
            )
    missing = [area for area, row in zip(areas, rows, strict=True) if row is None]
    if missing:
        which = missing[0]
        there = [name for name in connectome.names if which.side is None or side_of(name) in (None, which.side)]
        hint = "" if which.name is None else closest(which.name, there)
        hint = f" of the {SIDE_NAMES[which.side]} hemisphere{hint}" if which.side is not None else hint
        raise ValueError(
            f"{len(missing)} of {len(areas)} areas of parcellation {parcellation!r} have no row in connectome "
            f"{connectome.path!r}, the first is {which}{hint} (its {len(connectome.names)} rows are "
            f"{connectome.names[0]!r} to {connectome.names[-1]!r})"
        )
    found = np.array(rows, dtype=np.int64)
    _check_sides(areas, found, connectome, parcellation)
    return found, by_order


def _by_key(keys: list[int], known: list[int]) -> list[int | None]:
    place = {key: k for k, key in enumerate(known)}
    return [place.get(key) for key in keys]


def _by_number(areas: list[Area], connectome: Connectome, parcellation: str) -> list[int | None]:
    """By names that are numbers: codes, unless they count from 0, where codes count from 1 and 0 is no area."""
    numbers = list(map(int, connectome.names))
    if min(numbers) == 0:
        raise ValueError(
            f"connectome {connectome.path!r} numbers its {len(numbers)} rows from 0, and parcellation {parcellation!r} "
            f"has codes from {min(area.code for area in areas)} and no names: which row is which area is not said: "
            "give connectome_labels=FILE, the names of its rows in order"
        )
    return _by_key([area.code for area in areas], numbers)


def _by_name(areas: list[Area], connectome: Connectome) -> list[int | None]:
    exact = {name: k for k, name in enumerate(connectome.names)}
    place: dict[tuple[int | None, str], int] = {}
    for k, name in enumerate(connectome.names):
        place.setdefault((side_of(name), base_of(name)), k)
    rows: list[int | None] = []
    for area in areas:
        name = str(area.name)
        side = side_of(name)
        side = area.side if side is None else side
        row = exact.get(name)
        rows.append(row if row is not None else place.get((side, base_of(name)), place.get((None, base_of(name)))))
    return rows


def _check_sides(areas: list[Area], rows: NDArray[np.int64], connectome: Connectome, parcellation: str) -> None:
    for k in np.flatnonzero(np.bincount(rows, minlength=len(connectome.names)) > 1):
        one, other = (areas[i] for i in np.flatnonzero(rows == k)[:2])
        where = "" if one.side == other.side else " (in either hemisphere)"
        raise ValueError(
            f"areas {one} and {other} of parcellation {parcellation!r}{where} are both row {connectome.names[k]!r} of "
            f"connectome {connectome.path!r}"
        )
    for area, row in zip(areas, rows, strict=True):
        names = (connectome.names[row], *(() if area.name is None else (area.name,)))
        for name in names:
            said = side_of(name)
            if said is not None and area.side is not None and said != area.side:
                raise ValueError(
                    f"area {area} of parcellation {parcellation!r} lies in the {SIDE_NAMES[area.side]} hemisphere and "
                    f"is row {connectome.names[row]!r} of connectome {connectome.path!r}: they do not belong together, "
                    "or the hemispheres are swapped"
                )


def note_order(
    areas: list[Area], rows: NDArray[np.int64], centers: Array, connectome: Connectome, parcellation: str
) -> None:
    """Say what was assumed of codes without names, and how far it was checked.

    In every connectome strength falls with distance, and would not if rows were in another order: the rank correlation
    must be below those of 199 random orders.
    """
    sided = all(side_of(connectome.names[row]) is not None for row in rows) and all(a.side is not None for a in areas)
    first = areas[0]
    text = (
        f"has codes and no names: code k is taken for row k of {connectome.path!r} (code {first.code} is "
        f"{connectome.names[rows[0]]!r})" + (", and all hemispheres agree" if sided else "")
    )
    rho, share = falls_with_distance(connectome.strength[np.ix_(rows, rows)], centers)
    doubt = f"; but strength does not fall with distance (rho {rho:.2f}), as it would if the rows were in this order"
    warn(parcellation, [text + (doubt if share > 0.05 else f"; strength falls with distance (rho {rho:.2f})")])


def falls_with_distance(strength: Array, centers: Array, draws: int = 199) -> tuple[float, float]:
    """Rank correlation of strength with the distance of areas, and the share of random orders with a lower one.

    A Mantel test (Mantel, Cancer Research 27:209, 1967), one-sided.
    """
    from scipy.stats import rankdata

    n = len(strength)
    upper = np.triu_indices(n, 1)
    if n < 4:
        return 0.0, 1.0
    far = np.linalg.norm(centers[:, None] - centers[None], axis=2)[upper]
    far = rankdata(far) - (far.size + 1) / 2
    ranks = np.zeros((n, n))
    ranks[upper] = rankdata((strength + strength.T)[upper]) - (far.size + 1) / 2
    ranks += ranks.T
    scale = float(np.linalg.norm(far) * np.linalg.norm(ranks[upper]))
    rng = np.random.default_rng(0)
    found = float(far @ ranks[upper])
    orders = [rng.permutation(n) for _ in range(draws)]
    others = [float(far @ ranks[np.ix_(order, order)][upper]) for order in orders]
    share = (1 + sum(other <= found for other in others)) / (draws + 1)
    return found / max(scale, 1e-300), share


def rewired(connectome: Connectome, rows: NDArray[np.int64], seed: int) -> Connectome:
    """The connectome with its rows, and the columns with them, permuted among some areas: a control.

    Strengths are those that were measured, between other areas.
    """
    order = np.arange(len(connectome.names))
    order[rows] = np.random.default_rng(seed).permutation(rows)
    return dataclasses.replace(connectome, strength=connectome.strength[np.ix_(order, order)])
