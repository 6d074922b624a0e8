"""The matrices of a file as recordings of several subjects, or as models: by what their names say, and in time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from colgraph.analysis.arrays import Array
from colgraph.brain.names import first_twice
from colgraph.brain.rdm_shapes import side_of
from colgraph.brain.stimulus_keys import Key

_SESSION = re.compile(r"[|,;_\s-]*(?<![a-z])(?:session|sess|ses|run)[-_:=#\s]*\d+[a-z]?(?![a-z0-9])", re.IGNORECASE)
_SUBJECT = re.compile(
    r"[|,;_\s-]*(?<![a-z])(?:subject|subj|sub|participant)(?:[-_#\s]*\d+|\s*[-:=]\s*[a-z0-9]+)(?![a-z0-9])",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"[|,;_\s-]*(?<![a-z])s\d+(?![a-z0-9])", re.IGNORECASE)
"""A subject by its number alone, where no other word says which subject it is."""
_SOMATOSENSORY = re.compile(r"(?:(?:lh|rh|l|r|left|right)[\s._-]*)?(S[12])(?:[\s._-]*(?:lh|rh|l|r|left|right))?")
"""The areas S1 and S2, which are called as subjects may be."""
_MOVIE = 40
"""As many points in time are recordings of their own; of more, somebody has to say which."""


@dataclass(frozen=True, eq=False)
class Rdms:
    """The dissimilarity matrices of one recording, or that of a model.

    Attributes:
        name: of the recording (a region, mostly), or the model.
        values: ``[subjects, pairs]``, in the order of ``scipy.spatial.distance.pdist``.
        subjects: the name of each.
        keys: what names the stimuli, in the order of preference; nothing where the file names none.
        where: the file.
        notes: what a user should know about how they were read.
        is_movie: whether ``times`` were taken from the only axis that the file's matrices have beside their stimuli.
    """

    name: str
    values: Array
    subjects: list[str]
    keys: list[Key]
    where: str
    notes: list[str] = field(default_factory=list)
    is_movie: bool = False

    @property
    def stimuli(self) -> list[str] | None:
        """The name of each stimulus, by the first key, where the file has them."""
        return self.keys[0].names if self.keys else None

    @property
    def perhaps_in(self) -> str:
        """The variable of what may be the names of the stimuli, though it is not called after them; "" where it is."""
        return "" if not self.keys or self.keys[0].is_called else self.keys[0].label

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
        keys = [replace(key, names=[key.names[i] for i in order]) for key in self.keys]
        return replace(self, values=moved[:, rows, columns], keys=keys)


@dataclass(frozen=True, eq=False)
class Part:
    """One array of a file: what it says of whom it is, and its matrices.

    Attributes:
        recording: of which it is.
        triangles: ``[subjects, times, pairs]``.
        subject: whose, where it says so.
        session: which.
        keys: what names its stimuli.
        is_lone: whether its subjects lie on the only axis beside that of its stimuli, which may be one of times.
        is_movie: whether that axis has been taken as one of times.
    """

    recording: str
    triangles: Array
    subject: str = ""
    session: str = ""
    keys: tuple[Key, ...] = ()
    is_lone: bool = False
    is_movie: bool = False


def who(name: str, *, areas: bool = True) -> tuple[str, str, str]:
    """The recording, the subject and the session that a name says: ``IT | BE | Session: 1``, ``sub-01_ses-2_V1``.

    Args:
        name: of a matrix.
        areas: whether S1 and S2 alone are areas. Where there is a third one they are subjects.
    """
    session = _SESSION.search(name)
    rest = _SESSION.sub("", name)
    subject = _SUBJECT.search(rest)
    if subject is not None:
        rest = _SUBJECT.sub("", rest)
    elif not (areas and is_somatosensory(name)):
        subject = _NUMBERED.search(rest)
        rest = _NUMBERED.sub("", rest)
    words = [word.strip() for word in rest.strip(" |,;_-").split("|") if word.strip()]
    inner = " | ".join(words[1:]) if subject is None and len(words) > 1 else ""
    recording = words[0] if inner else " | ".join(words)
    strip = " |,;_-"
    return recording, subject[0].strip(strip) if subject else inner, session[0].strip(strip) if session else ""


def are_areas(names: Sequence[str]) -> bool:
    """Whether S1 and S2 among the names of a file's matrices are areas: no matrix is of an S3, or S01."""
    return not any(re.fullmatch(r"S\d+", name) and not is_somatosensory(name) for name in names)


def is_somatosensory(name: str) -> bool:
    """Whether a name is S1 or S2, of a hemisphere perhaps, and nothing else but that of a session."""
    return _SOMATOSENSORY.fullmatch(_SESSION.sub("", name).strip(" |,;_-")) is not None


# ---------------------------------------------------------------------- times


def as_movies(parts: list[Part], times: str, where: str, must: bool, notes: list[str]) -> list[Part]:
    """The parts of a file of which times are asked for; where none has an axis of subjects, too, the one is of times.

    Args:
        parts: of the file.
        times: what is asked for.
        where: the file.
        must: whether there has to be an axis of times.
        notes: what is to say joins them.

    Raises:
        ValueError: for a file that has none.
    """
    if any(part.triangles.shape[1] > 1 for part in parts):
        return parts
    movies = [part for part in parts if part.is_lone]
    if must and not movies:
        raise ValueError(
            f"--times {times}: no array of {where!r} has an axis of times: give [subjects, times, stimuli, stimuli] "
            "or, of one subject, [times, stimuli, stimuli], or leave --times out"
        )
    notes += [
        f"the {len(part.triangles)} matrices of {part.recording!r} of {where!r} are taken as points in time of one "
        "subject, as --times says"
        for part in movies
    ]
    return [_as_movie(part) if part.is_lone else part for part in parts]


def _as_movie(part: Part) -> Part:
    return replace(part, triangles=part.triangles.swapaxes(0, 1), is_lone=False, is_movie=True)


def in_time(part: Part, times: str | None, where: str) -> list[Part]:
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


# ---------------------------------------------------------------------- recordings and models


def as_models(parts: list[Part], where: str) -> list[Rdms]:
    """Every matrix a model of its own."""
    found: list[Rdms] = []
    for part in parts:
        many = len(part.triangles) > 1
        for i, line in enumerate(part.triangles[:, 0], start=1):
            words = [word for word in (part.recording, part.subject, part.session, str(i) if many else "") if word]
            found.append(Rdms(" ".join(words), line[None], [""], list(part.keys), where))
    return found


def as_recordings(parts: list[Part], where: str) -> list[Rdms]:
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
        other = next((part for part in mine if _names_of(part) != _names_of(mine[0])), None)
        if other is not None:
            of = [
                f"{part.subject} {part.session}".strip() or f"matrix {mine.index(part) + 1}"
                for part in (mine[0], other)
            ]
            raise ValueError(
                f"{where!r}: {of[0]} and {of[1]} of {name!r} name their stimuli differently, or one does not: put the "
                "matrices of a recording into one order, with one list of names"
            )
        found.append(_one_recording(name, mine, where))
    return found


def _names_of(part: Part) -> list[list[str]]:
    return [key.names for key in part.keys]


def _one_recording(name: str, mine: list[Part], where: str) -> Rdms:
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
    elif mine[0].is_lone:
        notes.append(f"{name!r} of {where!r}: its {len(lines)} matrices are taken as subjects")
    values = np.stack([np.mean(each, axis=0) for each in lines.values()])
    return Rdms(name, values, list(lines), list(mine[0].keys), where, notes, mine[0].is_movie)


def checked(found: Rdms) -> Rdms:
    """The same, if its names fit.

    Raises:
        ValueError: for names that come twice.
    """
    twice = None if found.stimuli is None else first_twice(found.stimuli)
    if twice is not None:
        raise ValueError(f"{found.where!r} names stimuli twice: {twice!r} is the first")
    return found
