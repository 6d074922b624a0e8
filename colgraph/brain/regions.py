"""The region of each recorded target, joined by its name or number."""

from __future__ import annotations

from pathlib import Path

from colgraph.brain.names import NUMBER, TARGETS, first_twice, plain_number
from colgraph.brain.responses import Recordings
from colgraph.text import plain_name, read_table

_REGIONS = ("region", "regions", "area", "areas", "roi", "rois", "parcel", "label")


def read_regions(path: Path, recorded: Recordings) -> tuple[list[str], list[str]]:
    """The region of each target, in the order of the responses, and what to say of it.

    A table with the columns ``target`` and ``region`` is joined by target: by its name where the responses name their
    targets, else by its number, from 0 or from 1. A single column is taken in the order of the targets.

    Raises:
        ValueError: if the table cannot be read, or does not give each target one region, naming the first.
    """
    count = recorded.values.shape[-1]
    rows = read_table(path).rows
    columns = _target_and_region(rows, path, recorded) if _width(rows) > 1 else None
    if columns is None:  # blanks may lie inside of names
        rows = read_table(path, separators=",;\t|").rows
    if _width(rows) == 1:
        return _single(rows, path, count)
    if columns is None:
        raise ValueError(f"{str(path)!r} must have the columns target and region, it begins with {', '.join(rows[0])}")
    body, target, region = columns
    place, notes = _places([row[target] for row in body], path, recorded)
    regions = [""] * count
    for row, i in zip(body, place, strict=True):
        regions[i] = row[region]
    return _named(regions, path), [*notes, _summary(regions, "joined by target")]


def _width(rows: list[list[str]]) -> int:
    return len(rows[-1])


def _single(rows: list[list[str]], path: Path, count: int) -> tuple[list[str], list[str]]:
    names = [row[0] for row in rows]
    # A first line that comes again is a region.
    if names[0].lower() in _REGIONS or (len(names) == count + 1 and names[0] not in names[1:]):
        names = names[1:]
    if len(names) != count:
        raise ValueError(f"{str(path)!r} names {len(names)} regions, but there are {count} targets")
    return _named(names, path), [_summary(names, f"{str(path)!r} names no targets: its lines are in their order")]


def _named(regions: list[str], path: Path) -> list[str]:
    if "" in regions:
        raise ValueError(f"{str(path)!r} gives target {regions.index('')} no region")
    return regions


def _summary(regions: list[str], how: str) -> str:
    sizes = {name: regions.count(name) for name in regions}
    return f"regions ({how}): " + ", ".join(f"{name} {size}" for name, size in sizes.items()) + " targets"


def _target_and_region(
    rows: list[list[str]], path: Path, recorded: Recordings
) -> tuple[list[list[str]], int, int] | None:
    """The rows without a header, and the numbers of both columns; None where nothing says which they are."""
    width = _width(rows)
    header = [cell.lower() for cell in rows[0]]
    header = header if len(header) == width else ["", *header]
    target = next((i for i, name in enumerate(header) if TARGETS.fullmatch(plain_name(name))), None)
    target = next((header.index(name) for name in ("id", "name") if name in header), None) if target is None else target
    region = next((header.index(name) for name in _REGIONS if name in header), None)
    if target is None and region is None:
        return _without_header(rows, recorded) if width == 2 else None
    if width == 2:
        target = 1 - region if target is None and region is not None else target
        region = 1 - target if region is None and target is not None else region
    if target is None or region is None:
        missing = "target" if target is None else "region"
        raise ValueError(f"{str(path)!r} has the columns {', '.join(rows[0])}: call one {missing!r}")
    return rows[1:], target, region


def _without_header(rows: list[list[str]], recorded: Recordings) -> tuple[list[list[str]], int, int] | None:
    count = recorded.values.shape[-1]
    keys = [set(recorded.targets)] if recorded.targets else []
    keys = keys or [{str(i + start) for i in range(count)} for start in (0, 1)]
    for body in (rows, rows[1:]):
        for column in (0, 1):
            if {row[column] for row in body} in keys:
                return body, column, 1 - column
    return None


def _places(ids: list[str], path: Path, recorded: Recordings) -> tuple[list[int], list[str]]:
    """The place of each target among those of the responses."""
    count, where = recorded.values.shape[-1], str(path)
    notes: list[str] = []
    if recorded.targets is not None:
        known = {name: i for i, name in enumerate(recorded.targets)}
    else:
        odd = next((name for name in ids if not NUMBER.fullmatch(name)), None)
        if odd is not None:
            raise ValueError(
                f"{where!r} names the target {odd!r}, but {recorded.where!r} has no names of targets: number them "
                "from 0, or give responses as .npz or HDF5 with 'targets'"
            )
        start = 1 if "0" not in map(plain_number, ids) and str(count) in map(plain_number, ids) else 0
        known = {str(i + start): i for i in range(count)}
        ids = [plain_number(name) for name in ids]
        if start:
            notes.append(f"targets of {where!r} are counted from 1")
    wrong = next((name for name in ids if name not in known), None)
    if wrong is not None:
        raise ValueError(f"{where!r} names the target {wrong!r}, which {recorded.where!r} has not ({count} targets)")
    twice = first_twice(ids)
    if twice is not None:
        raise ValueError(f"{where!r} names the target {twice!r} twice")
    missing = next((name for name in known if name not in ids), None)
    if missing is not None:
        raise ValueError(
            f"{where!r} names {len(ids)} regions, but there are {count} targets: the first without is {missing!r}"
        )
    return [known[name] for name in ids], notes
