"""What the columns of an edge table mean, by the names that Gephi, Cytoscape, SNAP, connectomes and people use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from colgraph.geometry.readers.lengths import Lengths
from colgraph.text import is_number, plain_name

# Who speaks and who listens. A word may be part of a name (pre_root_id, post_root_id) if the rest is the same and the
# word stands apart from it: precentral and postcentral are areas.
_ENDS = (
    *(("source", "target"), ("source", "destination"), ("source", "sink"), ("source", "dest"), ("from", "to")),
    *(("src", "dst"), ("src", "dest"), ("src", "tgt"), ("src", "target"), ("origin", "destination"), ("tail", "head")),
    *(("presynaptic", "postsynaptic"), ("pre", "post"), ("sender", "receiver"), ("parent", "child"), ("start", "end")),
)
# These name two of a kind: the edge's ends only where nothing else can be meant.
_ALIKE = (("1", "2"), ("a", "b"), ("i", "j"))
_ALONE = (("u", "v"), ("i", "j"), ("row", "column"), ("row", "col"))
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_OF_NODES = re.compile("(node|neuron|cell|body|root|syn|vertex|site|region|area|roi)?(ids?|idx|index|name|label|key)?")
# What areas may be called after, too: the head and the tail of the caudate, pre-SMA.
_OF_AREAS = ("tail", "pre", "start", "parent")

_DIRECTIONS = ("type", "directed", "direction", "edgetype", "isdirected", "directionality")
_DIRECTED = {"directed", "directional", "unidirectional", "oneway", "true", "yes", "1", "arc"}
_UNDIRECTED = {"undirected", "bidirectional", "mutual", "reciprocal", "twoway", "false", "no", "0", "edge"}

_KIND = "edge|fib(er|re)|tract|wiring|path|mean|euclidean"
_UNIT = "(nm|um|mm|cm|m|km)?"
_LENGTHS = (
    ("distance", re.compile("distance")),
    ("weight", re.compile("weight")),
    ("distance", re.compile(f"({_KIND})*(distance|dist|length|len)(mean|average)?{_UNIT}")),
    ("weight", re.compile("w|(edge)?weights?(value|float|double|int|long)?|value|values|val")),
    ("strength", re.compile("(edge|connection|synaptic)?strengths?")),
)


def find_ends(heads: Sequence[str], *, alike: bool = False) -> tuple[int, int] | None:
    """The columns with the source and the target of edges.

    Args:
        heads: the names of the columns.
        alike: whether to take pairs such as ``node1, node2`` or ``i, j`` too.
    """
    names = [plain_name(head) for head in heads]
    places: dict[str, list[int]] = {}
    for j, name in enumerate(names):
        places.setdefault(name, []).append(j)
    pairs: list[tuple[int, int]] = []
    for a, b in _ENDS:
        for i, name in enumerate(names):
            others = {b + name[len(a) :]} if name.startswith(a) else set()
            others |= {name[: -len(a)] + b} if name.endswith(a) else set()
            found = sorted(j for other in others for j in places.get(other, ()) if j != i)
            pairs += [(i, j) for j in found if _stands_apart(heads[i], a) and _stands_apart(heads[j], b)]
    exact = [pair for pair in pairs if (names[pair[0]], names[pair[1]]) in _ENDS]
    if pairs or not alike:
        return (exact or pairs)[0] if pairs else None
    for i, name in enumerate(names):
        others = {b for a, b in _ALONE if name == a}
        others |= {name[:-1] + b for a, b in _ALIKE if len(name) > 1 and name.endswith(a)}
        pairs += [(i, j) for j in sorted(j for other in others for j in places.get(other, ()))]
    return pairs[0] if pairs else None


def _stands_apart(head: str, word: str) -> bool:
    """Whether a word is a word of a name (``bodyId_pre``, ``FromNodeId``, ``sourceid``), not the beginning of one."""
    rest = plain_name(head).replace(word, "", 1)
    return word in map(str.lower, _WORD.findall(head)) or bool(_OF_NODES.fullmatch(rest))


def may_be_areas(heads: Sequence[str], rows: Sequence[Sequence[str]], ends: tuple[int, int]) -> bool:
    """Whether columns that look like ends of edges may be areas of a matrix, perhaps beside a column of names.

    So where there are as many rows as columns, of numbers alone, and no column is called after lengths.
    """
    source, target = (plain_name(heads[i]) for i in ends)
    if not (source.startswith(_OF_AREAS) or source.endswith(_OF_AREAS)) or (source, target) == ("pre", "post"):
        return False
    cells = [row[len(heads) - len(rows) :] for row in rows] if len(heads) - len(rows) in (0, 1) else []
    numbers = all(not cell or is_number(cell) for row in cells for cell in row)
    return len(cells) > 2 and numbers and find_lengths(heads, Lengths()) is None


@dataclass(frozen=True)
class Columns:
    """What the columns of an edge table are.

    Attributes:
        ends: those with the source and the target.
        direction: the one that says of each edge whether it is directed.
        length: the one with lengths.
        key: what readers of networks call that: "distance", "weight", or what the user asked for.
        weight_is: what its numbers are, where its name says so.
    """

    ends: tuple[int, int]
    direction: int | None = None
    length: int | None = None
    key: str = ""
    weight_is: str | None = None

    def notes(
        self, heads: Sequence[str], cells: Sequence[Sequence[str]], directed: Sequence[bool], *, asked: bool
    ) -> list[str]:
        """What is used and what is left out, in one line; nothing where it is obvious.

        Args:
            heads: the names of the columns.
            cells: the cells of each column.
            directed: of each edge, whether it goes one way.
            asked: whether the user said so.
        """
        known = {*self.ends, self.direction, self.length}
        unread = [heads[i] for i in range(len(heads)) if i not in known and heads[i] and any(cells[i])]
        spelled = [heads[i] for i in (*self.ends, *([] if self.length is None else [self.length]))]
        if spelled == ["source", "target", self.key][: len(spelled)] and not unread and self.direction is None:
            return []
        way = (
            "directed"
            if all(directed)
            else f"{sum(directed)} of {len(directed)} directed"
            if any(directed)
            else "undirected"
        )
        if self.direction is not None:
            way += f" (column {heads[self.direction]!r}{' set aside' if asked else ''})"
        lengths = "no lengths" if self.length is None else f"{self.weight_is or self.key} from {heads[self.length]!r}"
        left = f"; left out: {', '.join(map(repr, unread))}" if unread else ""
        numbers = any(all(map(is_number, cells[i])) for i in range(len(heads)) if heads[i] in unread)
        hint = " (weight= or distance= names a column to read)" if numbers and self.length is None else ""
        return [f"edges from {spelled[0]!r} to {spelled[1]!r}, {way}, {lengths}{left}{hint}"]


def find_columns(
    heads: Sequence[str],
    cells: Sequence[Sequence[str]],
    ends: tuple[int, int],
    lengths: Lengths,
) -> Columns:
    """What the columns besides the ends are.

    Raises:
        ValueError: for a column that says of some edges only whether they are directed, naming the row.
    """
    direction = _find_direction(heads, cells, ends)
    others = [i for i in range(len(heads)) if i != direction and i not in ends]
    found = find_lengths([heads[i] for i in others], lengths)
    if found is None:
        return Columns(ends, direction)
    place, key, meaning = found
    return Columns(ends, direction, others[place], key, meaning)


def _find_direction(heads: Sequence[str], cells: Sequence[Sequence[str]], ends: tuple[int, int]) -> int | None:
    """The column that says of each edge whether it is directed, by its name and because it says nothing else."""
    for name in _DIRECTIONS:
        for i, head in enumerate(heads):
            if i in ends or plain_name(head) != name or not any(_says(cell) is not None for cell in cells[i]):
                continue
            unsaid = next((row for row, cell in enumerate(cells[i]) if _says(cell) is None), None)
            if unsaid is not None:
                raise ValueError(
                    f"edge {cells[ends[0]][unsaid]!r} -> {cells[ends[1]][unsaid]!r} has {cells[i][unsaid]!r} in the "
                    f"column {head!r}: 'directed' or 'undirected' is needed"
                )
            return i
    return None


def _says(cell: str) -> bool | None:
    word = plain_name(cell)
    return True if word in _DIRECTED else False if word in _UNDIRECTED else None


def commented_direction(comments: Sequence[str]) -> bool | None:
    """Whether a comment says that edges go one way, as KONECT (``% asym``) and SNAP (``# Directed graph``) write it.

    Raises:
        ValueError: for a bipartite list of KONECT's, which numbers its two sides separately.
    """
    said = {"asym": True, "sym": False, "directed graph": True, "undirected graph": False}
    for comment in comments:
        words = comment.lower().replace(":", " ").split()
        if words[:1] == ["bip"]:
            raise ValueError(
                f"the comment {comment[:40]!r} says that the list is bipartite, with numbers from 1 on either side: "
                "give the nodes of the two sides names of their own"
            )
        for start in (" ".join(words[:1]), " ".join(words[:2])):
            if start in said:
                return said[start]
    return None


def is_directed(cell: str) -> bool:
    """Whether a cell of the column about directions says "directed"."""
    return bool(_says(cell))


def find_lengths(columns: Sequence[str], asked: Lengths) -> tuple[int, str, str | None] | None:
    """The place of the column with lengths, the key to read it by, and what it is where its name says so.

    That is the one that is asked for, in capitals or not; else ``distance``, ``weight``, other names of lengths, of
    weights and of strengths, in this order. None where no name fits, and with ``weight=None``.
    """
    key = asked.key
    if key:
        fits = [i for i, c in enumerate(columns) if c == key]
        fits = fits or [i for i, c in enumerate(columns) if c.lower() == key.lower()]
        return (fits[0], key, None) if len(fits) == 1 else None
    for kind, pattern in _LENGTHS if asked.weight is not None else ():
        if kind == "distance" and asked.weight_is is not None:
            continue  # who says what a weight is asks for the weight
        fits = [i for i, column in enumerate(columns) if pattern.fullmatch(plain_name(column))]
        if fits:
            exact = [i for i in fits if columns[i] == kind]
            strength = kind == "strength" and asked.weight_is is None
            key = "distance" if kind == "distance" else "weight"
            return (exact or fits)[0], key, "strength" if strength else None
    return None
