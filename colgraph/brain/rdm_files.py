"""Dissimilarity matrices from files of many programs, sorted into recordings of several subjects, or into models."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.analysis.arrays import Array
from colgraph.array_files import load_numpy, load_tree
from colgraph.brain.names import STIMULI, first_twice
from colgraph.brain.rdm_shapes import as_triangles, side_of
from colgraph.brain.rdm_tables import read_rdm_table
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
_SESSION = re.compile(r"[|,;_\s-]*(?<![a-z])(?:session|sess|ses|run)[-_:=#\s]*\d+[a-z]?(?![a-z0-9])", re.IGNORECASE)
_SUBJECT = re.compile(
    r"[|,;_\s-]*(?<![a-z])(?:(?:subject|subj|sub|participant)(?:[-_#\s]*\d+|\s*[-:=]\s*[a-z0-9]+)|s\d+)(?![a-z0-9])",
    re.IGNORECASE,
)
_MOVIE = 40
"""As many points in time are recordings of their own; of more, somebody has to say which."""


@dataclass(frozen=True, eq=False)
class Rdms:
    """The dissimilarity matrices of one recording, or that of a model.

    Attributes:
        name: of the recording (a region, mostly), or the model.
        values: ``[subjects, pairs]``, in the order of ``scipy.spatial.distance.pdist``.
        subjects: the name of each.
        stimuli: the name of each stimulus, where the file has them.
        where: the file.
        notes: what a user should know about how they were read.
        perhaps_in: the variable of what may be the names of the stimuli, though it is not called after them; "" where
            it is.
    """

    name: str
    values: Array
    subjects: list[str]
    stimuli: list[str] | None
    where: str
    notes: list[str] = field(default_factory=list)
    perhaps_in: str = ""

    @property
    def count(self) -> int:
        """How many stimuli there are."""
        return side_of(self.values.shape[1]) or 0

    def matrices(self) -> Array:
        """``[subjects, n, n]``."""
        full = np.zeros((len(self.values), self.count, self.count))
        rows, columns = np.triu_indices(self.count, 1)
        full[:, rows, columns] = full[:, columns, rows] = self.values
        return full

    def in_order(self, order: Sequence[int]) -> Rdms:
        """The same with stimulus ``order[i]`` at place i."""
        rows, columns = np.triu_indices(self.count, 1)
        moved = self.matrices()[:, order][:, :, order]
        names = None if self.stimuli is None else [self.stimuli[i] for i in order]
        return replace(self, values=moved[:, rows, columns], stimuli=names)


@dataclass(frozen=True, eq=False)
class _Part:
    """One array of a file: what it says of whom it is, and its matrices ``[subjects, times, pairs]``."""

    recording: str
    triangles: Array
    subject: str = ""
    session: str = ""


def read_rdms(path: Path, count: int | None = None, *, times: str | None = None, models: bool = False) -> list[Rdms]:
    """The recordings of a file, each with the matrices of its subjects; or the models of a file.

    ``.npy`` and ``.npz``, tables, MATLAB's ``.mat`` of all versions, and HDF5, as rsatoolbox writes it, too. Whole or
    condensed, with or without an axis of subjects, as :func:`as_triangles` reads them. Of structs the field ``name``
    says which recording a matrix is of; "IT | BE | Session: 1" is of session 1 of the subject BE, and ``sub-02`` of a
    subject. Sessions of a subject are averaged.

    Args:
        path: the file.
        count: the number of stimuli. Arrays of another size whose names do not say that they are RDMs are passed over.
        times: of ``[subjects, times, ...]``, what becomes a recording: "each" point, their "mean", or ranges counted
            from 1 such as "1:10,11:20", each averaged.
        models: whether each matrix is a model of its own.

    Raises:
        ValueError: if the file cannot be read or has no dissimilarities; as :func:`as_triangles`; for names that do not
            fit, and a file that would have to be unpickled.
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
        tree = load_tree(path)
    else:
        tree = {name: array.squeeze() for name, array in load_numpy(path, path.stem).items()}
    notes: list[str] = []
    perhaps_in = ""
    if isinstance(tree.get("dissimilarities"), np.ndarray) and "rdm_descriptors" in tree:
        parts, named = _from_rsatoolbox(tree, path, count, notes)
    else:
        parts = _from_tree(tree, path, count, notes)
        named, perhaps_in = _names_of_stimuli(tree, count)
    parts = [one for part in parts for one in _in_time(part, times, str(path))]
    found = _as_models(parts, str(path)) if models else _as_recordings(parts, str(path), notes)
    return [
        _checked(replace(each, stimuli=named, perhaps_in=perhaps_in, notes=[*notes, *each.notes])) for each in found
    ]


def _checked(found: Rdms) -> Rdms:
    if found.stimuli is None:
        return found
    if len(found.stimuli) != found.count:
        raise ValueError(f"{found.where!r} names {len(found.stimuli)} stimuli, but {found.name!r} is of {found.count}")
    twice = first_twice(found.stimuli)
    if twice is not None:
        raise ValueError(f"{found.where!r} names stimuli twice: {twice!r} is the first")
    return found


# ---------------------------------------------------------------------- arrays and structs


def _from_tree(tree: dict[str, Any], path: Path, count: int | None, notes: list[str]) -> list[_Part]:
    parts, passed, odd = [], [], []
    arrays = [each for each in _labelled(tree, "") if each[1].dtype.kind in "fiub" and each[1].ndim]
    # What says that it is one must be one; of the rest, what has the size of one.
    any_called = any(_CALLED.search(_last(label)) for label, _, _ in arrays)
    for label, values, named in arrays:
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
        recording, subject, session = who(named or ("" if _ANY_NAME.fullmatch(last) else last))
        parts.append(_Part(recording or _variable(label, path), found[0], subject, session))
        notes += found[1]
    if not parts and odd:
        sizes = ", ".join(f"{label} of {side_of(values.size)}" for label, values, _ in arrays if label in odd)
        raise ValueError(f"{str(path)!r} holds no matrices of {count} stimuli, as there are images: it has {sizes}")
    if not parts:
        held = ", ".join(f"{label} {list(values.shape)}" for label, values, _ in _labelled(tree, "")) or "no numbers"
        size = "" if count is None else f" of {count} stimuli"
        raise ValueError(f"{str(path)!r} holds no dissimilarity matrices{size}: it has {held[:300]}")
    if passed and path.suffix.lower() != ".mat":
        notes.append(f"not read of {str(path)!r}: {', '.join(passed)}")
    return parts


def _last(label: str) -> str:
    """The field or variable of a place such as ``s(3).rdm{2}``."""
    return re.sub(r"\(\d+\)|\{\d+\}", "", label).rpartition(".")[2]


def _fits(values: NDArray[Any], count: int) -> bool:
    """Whether an array has the size of matrices of so many stimuli."""
    pairs = zip(values.shape, values.shape[1:], strict=False)
    return (count, count) in pairs or (values.ndim < 4 and any(side_of(size) == count for size in values.shape))


def _variable(label: str, path: Path) -> str:
    """What a matrix is called that says no name: the variable or struct it lies in, or the file."""
    words = [who(word)[0] for word in re.sub(r"\(\d+\)|\{\d+\}", "", label).split(".") if not _ANY_NAME.fullmatch(word)]
    words = [word for word in words if word]
    return words[-1] if words else path.stem


def _labelled(node: Any, label: str, named: str = "") -> Iterator[tuple[str, NDArray[Any], str]]:
    """Arrays with their places, and the name that the struct around each of them has."""
    if isinstance(node, np.ndarray):
        yield label, node, named
    elif isinstance(node, dict):
        texts = {plain_name(key): value for key, value in node.items() if isinstance(value, str) and value.strip()}
        own = next((texts[key] for key in _NAME if key in texts), "") if label else ""
        # A name belongs to the matrix beside it; of several in one struct each has its field's.
        called = [key for key, value in node.items() if isinstance(value, np.ndarray) and _CALLED.search(key)]
        for key, value in node.items():
            within = own if isinstance(value, np.ndarray) and len(called) < 2 else ""
            yield from _labelled(value, f"{label}.{key}" if label else key, within)
    elif isinstance(node, list):
        marks = "()" if node and all(isinstance(one, dict) for one in node) else "{}"
        for i, one in enumerate(node, start=1):
            yield from _labelled(one, f"{label}{marks[0]}{i}{marks[1]}")


def who(name: str) -> tuple[str, str, str]:
    """The recording, the subject and the session that a name says: ``IT | BE | Session: 1``, ``sub-01_ses-2_V1``."""
    session, subject = _SESSION.search(name), _SUBJECT.search(name)
    rest = _SUBJECT.sub("", _SESSION.sub("", name)).strip(" |,;_-")
    words = [word.strip() for word in rest.split("|") if word.strip()]
    inner = " | ".join(words[1:]) if subject is None and len(words) > 1 else ""
    recording = words[0] if inner else " | ".join(words)
    strip = " |,;_-"
    return recording, subject[0].strip(strip) if subject else inner, session[0].strip(strip) if session else ""


def _names_of_stimuli(tree: dict[str, Any], count: int | None) -> tuple[list[str] | None, str]:
    """The names that stand beside matrices, and their variable where that is not called after stimuli."""
    texts = {}
    for name, value in tree.items():
        array = np.asarray(value) if isinstance(value, np.ndarray | list) and len(np.shape(value)) == 1 else None
        if array is not None and array.dtype.kind in "USi" and len(array) > 2:
            texts[name] = [one.decode() if isinstance(one, bytes) else str(one).strip() for one in array.tolist()]
    named = [name for name in texts if STIMULI.fullmatch(plain_name(name))]
    if named:
        return texts[named[0]], ""
    for name, found in texts.items():
        is_text = not isinstance(tree[name], np.ndarray) or tree[name].dtype.kind in "US"
        if is_text and len(found) == count and len(set(found)) == count:
            return found, name
    return None, ""


# ---------------------------------------------------------------------- rsatoolbox


def _from_rsatoolbox(
    tree: dict[str, Any], path: Path, count: int | None, notes: list[str]
) -> tuple[list[_Part], list[str] | None]:
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
    parts = [
        _Part(name or path.stem, triangles[i : i + 1], subject[i] or inner, session[i] or other)
        for i, (name, inner, other) in enumerate(names)
    ]
    patterns = {key: value for key, value in (tree.get("pattern_descriptors") or {}).items() if key != "index"}
    lists = {key: [str(one) for one in np.atleast_1d(np.asarray(value))] for key, value in patterns.items()}
    usual = [key for key in lists if STIMULI.fullmatch(plain_name(key)) or plain_name(key) in ("conds", "conditions")]
    if usual:
        return parts, lists[usual[0]]
    unique = [key for key, value in lists.items() if len(set(value)) == len(value) and not count_rows(value)]
    if unique:
        notes.append(f"stimuli of {str(path)!r} are joined by its pattern descriptor {unique[0]!r}")
    return parts, lists[unique[0]] if unique else None


# ---------------------------------------------------------------------- subjects, sessions and times


def _in_time(part: _Part, times: str | None, where: str) -> list[_Part]:
    """A recording for each point or range of time."""
    count = part.triangles.shape[1]
    if count == 1:
        return [part]
    if times is None and count > _MOVIE:
        raise ValueError(
            f"{part.recording!r} of {where!r} has {count} points in time ({len(part.triangles)} subjects): say --times "
            f"mean, --times each, or ranges such as --times 1:{count // 2},{count // 2 + 1}:{count}"
        )
    if times == "mean":
        return [replace(part, triangles=part.triangles.mean(1, keepdims=True))]
    spans = {f"time {i}": (i, i) for i in range(1, count + 1)}
    if times not in (None, "each"):
        spans = {f"times {text}": _span(text, count, part.recording) for text in str(times).split(",")}
    return [
        replace(
            part, recording=f"{part.recording}, {name}", triangles=part.triangles[:, a - 1 : b].mean(1, keepdims=True)
        )
        for name, (a, b) in spans.items()
    ]


def _span(text: str, count: int, name: str) -> tuple[int, int]:
    match = re.fullmatch(r"\s*(\d+)\s*(?:[:-]\s*(\d+))?\s*", text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last <= count:
        raise ValueError(
            f"--times {text!r}: {name!r} has the points 1 to {count}: give mean, each, or ranges as 1:{count}"
        )
    return first, last


def _as_models(parts: list[_Part], where: str) -> list[Rdms]:
    """Every matrix a model of its own."""
    found: list[Rdms] = []
    for part in parts:
        many = len(part.triangles) > 1
        for i, line in enumerate(part.triangles[:, 0], start=1):
            words = [word for word in (part.recording, part.subject, part.session, str(i) if many else "") if word]
            found.append(Rdms(" ".join(words), line[None], [""], None, where))
    return found


def _as_recordings(parts: list[_Part], where: str, notes: list[str]) -> list[Rdms]:
    """The matrices of one recording together, one to each subject."""
    found = []
    for name in dict.fromkeys(part.recording for part in parts):
        mine = [part for part in parts if part.recording == name]
        sizes = {part.triangles.shape[2]: part for part in mine}
        if len(sizes) > 1:
            several = ", ".join(str(side_of(size)) for size in sizes)
            raise ValueError(
                f"{where!r} has matrices of {several} stimuli in {name!r}: they must be of the same stimuli"
            )
        found.append(_one_recording(name, mine, where))
    return found


def _one_recording(name: str, mine: list[_Part], where: str) -> Rdms:
    lines: dict[str, list[Array]] = {}
    for place, part in enumerate(mine, start=1):
        for i, line in enumerate(part.triangles[:, 0], start=1):
            alone = len(part.triangles) == 1
            who_is = part.subject if alone or not part.subject else f"{part.subject} {i}"
            # Matrices of one name that say no subject are of several ones.
            lines.setdefault(who_is or str(place if alone else i), []).append(line)
    notes = []
    several = sum(map(len, lines.values())) - len(lines)
    if several:
        notes.append(
            f"{name!r} of {where!r}: {len(lines) + several} matrices of {len(lines)} subjects "
            f"({', '.join(lines)}): those of one subject (its sessions) are averaged"
        )
    elif len(mine) > 1:
        notes.append(f"{name!r} of {where!r}: its {len(lines)} matrices are taken as subjects ({', '.join(lines)})")
    values = np.stack([np.mean(each, axis=0) for each in lines.values()])
    return Rdms(name, values, list(lines), None, where, notes)
