"""Dissimilarity matrices from files of many programs, sorted into recordings of several subjects, or into models."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from colgraph.array_files import load_numpy, load_tree
from colgraph.brain.names import first_twice
from colgraph.brain.rdm_parts import (
    Part,
    Rdms,
    are_areas,
    as_models,
    as_movies,
    as_recordings,
    checked,
    in_time,
    is_somatosensory,
    who,
)
from colgraph.brain.rdm_shapes import as_triangles, side_of
from colgraph.brain.rdm_tables import read_rdm_table
from colgraph.brain.stimulus_keys import (
    Key,
    Scope,
    is_called_after_stimuli,
    keys_around,
    names_in,
    preferred,
    strays,
)
from colgraph.hints import in_one_line
from colgraph.text import count_rows, plain_name

TREES = (".mat", ".h5", ".hdf5", ".hdf")
TABLES = (".csv", ".tsv", ".txt")
ENDS = (".npy", ".npz", *TABLES, *TREES)
_PICKLES = (".pkl", ".pickle", ".p", ".joblib")
_CALLED = re.compile(r"rdm|dissim|distance", re.IGNORECASE)
_NAME = ("name", "label", "roi", "region", "area", "model", "title")
_ANY_NAME = re.compile(
    r"(arr_\d+|data|values?|matrix|matrices|d|rdms?|rdv|dissimilarit(y|ies)|distances?)", re.IGNORECASE
)


def read_rdms(
    path: Path,
    count: int | None = None,
    *,
    times: str | None = None,
    models: bool = False,
    lone_axis: Literal["times", "subjects"] = "times",
    needs_times: bool = True,
) -> list[Rdms]:
    """The recordings of a file, each with the matrices of its subjects; or the models of a file.

    ``.npy`` and ``.npz``, tables, MATLAB's ``.mat`` of all versions, and HDF5, as rsatoolbox writes it, too. Whole or
    condensed, with or without an axis of subjects, as :func:`as_triangles` reads them. Of structs the field ``name``
    says which recording a matrix is of; "IT | BE | Session: 1" is of session 1 of the subject BE, and ``sub-02`` of a
    subject. Sessions of a subject are averaged.

    Args:
        path: the file.
        count: the number of stimuli. Arrays of another size whose names do not say that they are RDMs are passed over.
        times: of ``[subjects, times, ...]``, or ``[times, ...]`` of one subject, what becomes a recording: "each"
            point, their "mean", or ranges counted from 1 such as "1:10,11:20", each averaged.
        models: whether each matrix is a model of its own.
        lone_axis: of what an axis alone beside that of the stimuli is where ``times`` are given; where they are not, it
            is of subjects.
        needs_times: whether a file without an axis of times is refused where ``times`` are given.

    Raises:
        ValueError: if the file cannot be read or has no dissimilarities; as :func:`as_triangles`; for names of stimuli
            that do not fit, cannot be read or lie beside no matrix; for ``times`` of a file without; and for a file
            that would have to be unpickled.
        ImportError: for HDF5 without h5py.
    """
    end = path.suffix.lower()
    if end in _PICKLES:
        raise ValueError(
            f"{str(path)!r} is a pickle, which can run any code and is never opened: write HDF5, "
            f"rdms.save({path.stem + '.hdf5'!r}, file_type='hdf5')"
        )
    if end not in ENDS:
        raise ValueError(f"cannot read dissimilarities {str(path)!r}: give a file that ends in {', '.join(ENDS)}")
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}")
    if end in TABLES:
        tree: dict[str, Any] = read_rdm_table(path, count)
    elif end in TREES:
        tree = load_tree(path, squeezed=2)
    else:
        arrays = load_numpy(path, path.stem)
        tree = {name: array.squeeze() if array.ndim < 3 else array for name, array in arrays.items()}
    notes: list[str] = []
    if isinstance(tree.get("dissimilarities"), np.ndarray) and "rdm_descriptors" in tree:
        parts = _from_rsatoolbox(tree, path, count, notes)
    else:
        parts = _from_tree(tree, path, count, notes)
    if models or lone_axis == "subjects" or times is None:
        movies = parts
    else:
        movies = as_movies(parts, times, str(path), needs_times, notes)
    read = [one for part in movies for one in in_time(part, times, str(path))]
    found = as_models(read, str(path)) if models else as_recordings(read, str(path))
    return [checked(replace(each, notes=[*notes, *each.notes])) for each in found]


# ---------------------------------------------------------------------- arrays and structs


def _from_tree(tree: dict[str, Any], path: Path, count: int | None, notes: list[str]) -> list[Part]:
    read, passed, odd = [], [], []
    arrays = [each for each in _labeled(tree, "") if each[1].dtype.kind in "fiub" and each[1].ndim]
    arrays = [each for each in arrays if not _are_ids(*each[:2])] or arrays
    # What says that it is one must be one; of the rest, what has the size of one.
    any_called = any(_CALLED.search(_last(label)) for label, *_ in arrays)
    areas = are_areas([named or _last(label) for label, _, named, _ in arrays])
    for label, values, named, around in arrays:
        is_meant = bool(_CALLED.search(_last(label))) or len(arrays) == 1
        if not is_meant and not (_fits(values, count) if count is not None else not any_called):
            passed.append(f"{label} {list(values.shape)}")
            continue
        try:
            found = as_triangles(values, count, f"{label!r} of {str(path)!r}")
        except ValueError as error:
            if is_meant or not any_called:
                raise
            notes.append(f"not read: {in_one_line(error)}")
            continue
        if found is None:
            passed.append(f"{label} {list(values.shape)}")
            continue
        last = _last(label)
        if count is not None and values.ndim == 1 and not _fits(values, count) and len(arrays) > 1:
            odd.append(label)
            continue
        recording, subject, session = who(named or ("" if _ANY_NAME.fullmatch(last) else last), areas=areas)
        # Explicit axes of length 1 say which axis the other one is.
        is_lone = found[0].shape[1] == 1 < found[0].shape[0] and 1 not in values.shape
        part = Part(recording or _variable(label, path, areas), found[0], subject, session, is_lone=is_lone)
        read.append((part, values, around))
        notes += found[1]
    if not read and odd:
        sizes = ", ".join(f"{label} of {side_of(each.size)}" for label, each, *_ in arrays if label in odd)
        raise ValueError(f"{str(path)!r} holds no matrices of {count} stimuli, as there are images: it has {sizes}")
    if not read:
        held = ", ".join(f"{label} {list(each.shape)}" for label, each, *_ in _labeled(tree, "")) or "no numbers"
        size = "" if count is None else f" of {count} stimuli"
        raise ValueError(f"{str(path)!r} holds no dissimilarity matrices{size}: it has {held[:300]}")
    if passed and path.suffix.lower() != ".mat":
        notes.append(f"not read of {str(path)!r}: {', '.join(passed)}")
    notes += [
        f"{part.recording!r} of {str(path)!r} is taken as an area: call a subject sub-01, or s01"
        for part, *_ in read
        if areas and is_somatosensory(part.recording)
    ]
    return _with_keys(read, tree, path)


def _are_ids(label: str, values: NDArray[Any]) -> bool:
    """Whether numbers are called after stimuli, or lie in a struct that is."""
    words = re.sub(r"\(\d+\)|\{\d+\}", "", label).split(".")
    return values.ndim == 1 and any(map(is_called_after_stimuli, words)) and names_in(values) is not None


def _with_keys(
    read: Sequence[tuple[Part, NDArray[Any], tuple[Scope, ...]]], tree: dict[str, Any], path: Path
) -> list[Part]:
    """Each part with what names its stimuli, beside its matrix or around it.

    Raises:
        ValueError: for what is called after stimuli and is not used, where nothing else names them.
    """
    matrices, scopes = [values for _, values, _ in read], [scope for *_, around in read for scope in around]
    parts = []
    known: dict[tuple[int, ...], tuple[Key, ...]] = {}  # many matrices lie in one struct
    for part, _, around in read:
        count = side_of(part.triangles.shape[2]) or 0
        place = count, *(id(scope) for _, scope in around)
        if place not in known:
            found = keys_around(around, count, matrices)
            is_named = any(key.is_called for key in found.keys)
            odd = [] if is_named else found.odd or strays(tree, scopes, count)
            if odd:
                label, why = odd[0]
                raise ValueError(f"{str(path)!r}: {label} {why} ({part.recording!r} is of {count} stimuli)")
            known[place] = tuple(found.keys)
        parts.append(replace(part, keys=known[place]))
    return parts


def _last(label: str) -> str:
    """The field or variable of a place such as ``s(3).rdm{2}``."""
    return re.sub(r"\(\d+\)|\{\d+\}", "", label).rpartition(".")[2]


def _fits(values: NDArray[Any], count: int) -> bool:
    """Whether an array has the size of matrices of so many stimuli."""
    pairs = zip(values.shape, values.shape[1:], strict=False)
    return (count, count) in pairs or (values.ndim < 4 and any(side_of(size) == count for size in values.shape))


def _variable(label: str, path: Path, areas: bool) -> str:
    """What a matrix is called that says no name: the variable or struct it lies in, or the file."""
    places = re.sub(r"\(\d+\)|\{\d+\}", "", label).split(".")
    words = [who(word, areas=areas)[0] for word in places if not _ANY_NAME.fullmatch(word)]
    words = [word for word in words if word]
    return words[-1] if words else path.stem


def _labeled(
    node: Any, label: str, named: str = "", around: tuple[Scope, ...] = ()
) -> Iterator[tuple[str, NDArray[Any], str, tuple[Scope, ...]]]:
    """Arrays with their places, the name of the struct around each, and all structs around it, the inner first."""
    if isinstance(node, np.ndarray):
        yield label, node, named, around
    elif isinstance(node, dict):
        texts = {plain_name(key): value for key, value in node.items() if isinstance(value, str) and value.strip()}
        own = next((texts[key] for key in _NAME if key in texts), "") if label else ""
        # A name belongs to the matrix beside it; of several in one struct each has its field's.
        called = [key for key, value in node.items() if isinstance(value, np.ndarray) and _CALLED.search(key)]
        for key, value in node.items():
            within = own if isinstance(value, np.ndarray) and len(called) < 2 else ""
            yield from _labeled(value, f"{label}.{key}" if label else key, within, ((label, node), *around))
    elif isinstance(node, list):
        marks = "()" if node and all(isinstance(one, dict) for one in node) else "{}"
        for i, one in enumerate(node, start=1):
            yield from _labeled(one, f"{label}{marks[0]}{i}{marks[1]}", "", around)


# ---------------------------------------------------------------------- rsatoolbox


def _from_rsatoolbox(tree: dict[str, Any], path: Path, count: int | None, notes: list[str]) -> list[Part]:
    """What ``rsatoolbox.rdm.RDMs.save`` has written."""
    found = as_triangles(np.atleast_2d(tree["dissimilarities"]), count, repr(str(path)))
    if found is None:
        raise ValueError(f"{str(path)!r} holds no dissimilarities of rsatoolbox: {list(tree['dissimilarities'].shape)}")
    triangles, more = found
    notes += more
    about = {plain_name(key): value for key, value in (tree["rdm_descriptors"] or {}).items()}

    def each(*words: str) -> list[str]:
        chosen = next(
            (about[word] for word in words if len(np.atleast_1d(about.get(word, []))) == len(triangles)), None
        )
        return [""] * len(triangles) if chosen is None else [str(one) for one in np.atleast_1d(np.asarray(chosen))]

    subject = each("subject", "subjects", "subj", "sub", "participant", "participants")
    session = each("session", "sessions", "run")
    names = [who(name) for name in each(*_NAME, "rdm", "rdmname", "names")]
    keys, order = _patterns(tree, side_of(triangles.shape[2]) or 0, path, notes)
    if order is not None:
        rows, columns = np.triu_indices(len(order), 1)
        full = np.zeros((*triangles.shape[:2], len(order), len(order)))
        full[..., rows, columns] = full[..., columns, rows] = triangles
        triangles = full[..., order, :][..., order][..., rows, columns]
    parts = [
        Part(name or path.stem, triangles[i : i + 1], subject[i] or inner, session[i] or other, tuple(keys))
        for i, (name, inner, other) in enumerate(names)
    ]
    return _one_movie(parts, each("time", "times"), path)


def _patterns(
    tree: dict[str, Any], count: int, path: Path, notes: list[str]
) -> tuple[list[Key], NDArray[np.int64] | None]:
    """What names the stimuli; where nothing does, the order that they had before rsatoolbox reordered them."""
    patterns = dict(tree.get("pattern_descriptors") or {})
    index = patterns.pop("index", None)
    found = keys_around([("", patterns)], count, [])
    if any(key.is_called for key in found.keys):
        return found.keys, None
    if found.odd:
        raise ValueError(f"{str(path)!r}: the pattern descriptor {found.odd[0][0]!r} {found.odd[0][1]}")
    lists = {key: names_in(value) for key, value in patterns.items()}
    others = [Key(key, *names) for key, names in lists.items() if names is not None and len(names[0]) == count]
    unique = [key for key in preferred(others) if first_twice(key.names) is None and not count_rows(key.names)]
    if unique:
        notes.append(f"stimuli of {str(path)!r} are joined by its pattern descriptor {unique[0].label!r}")
        return unique[:1], None
    places = np.arange(count) if index is None else np.atleast_1d(np.asarray(index))
    if np.array_equal(places, np.arange(count)):
        return [], None
    if not np.array_equal(np.sort(places), np.arange(count)):
        raise ValueError(
            f"{str(path)!r} has some of the stimuli that it was made of, and names none: give it a pattern "
            "descriptor 'stimulus' with their names"
        )
    notes.append(f"stimuli of {str(path)!r} are put into the order that they had before they were reordered ('index')")
    return [], np.argsort(places)


def _one_movie(parts: list[Part], times: list[str], path: Path) -> list[Part]:
    """Matrices that differ in the descriptor of time as points in time of one part, in the order of the file."""
    if len(set(times)) < 2:
        return parts
    groups: dict[tuple[str, str, str], list[int]] = {}
    for i, part in enumerate(parts):
        groups.setdefault((part.recording, part.subject, part.session), []).append(i)
    seen = [[times[i] for i in places] for places in groups.values()]
    if any(each != seen[0] for each in seen) or first_twice(seen[0]) is not None:
        raise ValueError(
            f"{str(path)!r} has points in time (its descriptor 'time') that are not the same, once each, for every "
            "recording, subject and session: name subjects in the descriptor 'subject'"
        )
    return [
        replace(parts[places[0]], triangles=np.concatenate([parts[i].triangles for i in places], 1))
        for places in groups.values()
    ]
