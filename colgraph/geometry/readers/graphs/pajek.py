"""Pajek networks as networkx graphs.

The reader of networkx makes one node of two with the same label, takes edges that follow arcs for one-way arcs, and
reads the lists of neighbors of ``*Arcslist`` as single arcs; so the sections are read here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from colgraph.geometry.readers.files import Source, parsing
from colgraph.geometry.readers.lengths import as_number

_TOKEN = re.compile(r'"[^"]*"|\S+')


def load_pajek(source: Source) -> Any:
    """The ``networkx`` graph of a Pajek network (``*Vertices`` and ``*Arcs``, ``*Edges``, lists of these, ``*Matrix``).

    Vertices have a ``name`` and perhaps ``x``, ``y``, ``z``; what follows in pairs is kept as attributes. Lines have a
    ``weight`` unless all are 1, which is what Pajek means where none is given.

    Raises:
        ValueError: naming the line that is wrong.
    """
    with parsing("Pajek"):
        network = _Network()
        for number, line in enumerate(source.text.splitlines(), start=1):
            tokens = [token.strip('"') for token in _TOKEN.findall(line)]
            if not tokens or tokens[0].startswith("%"):
                continue
            try:
                network.read(tokens)
            except ValueError as error:
                raise ValueError(f"line {number} ({line.strip()[:60]!r}): {error}") from error
        return network.graph()


class _Network:
    """What has been read of one network."""

    def __init__(self) -> None:
        self.size: int | None = None
        self.vertices: dict[int, dict[str, Any]] = {}
        self.arcs: list[tuple[int, int, dict[str, Any]]] = []
        self.edges: list[tuple[int, int, dict[str, Any]]] = []
        self.matrix_row = 0
        self.section: Callable[[list[str]], None] = self._before

    def read(self, tokens: list[str]) -> None:
        """Take in one line."""
        if tokens[0].startswith("*"):
            self._start(tokens)
        else:
            self.section(tokens)

    def _start(self, tokens: list[str]) -> None:
        sections: dict[str, Callable[[list[str]], None]] = {
            "network": self._before,
            "arcs": lambda line: self._line(line, self.arcs),
            "edges": lambda line: self._line(line, self.edges),
            "arcslist": lambda line: self._list(line, self.arcs),
            "edgeslist": lambda line: self._list(line, self.edges),
            "matrix": self._matrix,
        }
        kind = tokens[0][1:].lower()
        if kind == "vertices":
            if self.size is not None:
                raise ValueError("a second list of vertices: give a file with one network")
            self.size = int(tokens[1])
            self.section = self._vertex
        elif kind in sections:
            self.section = sections[kind]
        else:
            raise ValueError(f"the section {tokens[0]} is not part of a network: save the network alone")

    def _before(self, tokens: list[str]) -> None:
        raise ValueError("expected *Vertices and a number")

    def _number(self, token: str) -> int:
        vertex = int(token)
        if self.size is None or not 1 <= vertex <= self.size:
            raise ValueError(f"vertex {vertex} is not one of the {self.size or 0} vertices")
        return vertex

    def _vertex(self, tokens: list[str]) -> None:
        vertex = self._number(tokens[0])
        if vertex in self.vertices:
            raise ValueError(f"vertex {vertex} is listed twice")
        data: dict[str, Any] = {"name": tokens[1]} if len(tokens) > 1 else {}
        rest = tokens[2:]
        for key in ("x", "y", "z"):
            if not rest or as_number(rest[0]) is None:
                break
            data[key] = float(rest.pop(0))
        if len(rest) % 2:
            rest = rest[1:]  # the shape of the vertex
        self.vertices[vertex] = dict(zip(rest[::2], rest[1::2], strict=True)) | data

    def _line(self, tokens: list[str], lines: list[tuple[int, int, dict[str, Any]]]) -> None:
        if len(tokens) < 2:
            raise ValueError("a line needs two vertices")
        data = dict(zip(tokens[3::2], tokens[4::2], strict=False))
        weight = {"weight": tokens[2] if len(tokens) > 2 else 1.0}
        lines.append((self._number(tokens[0]), self._number(tokens[1]), data | weight))

    def _list(self, tokens: list[str], lines: list[tuple[int, int, dict[str, Any]]]) -> None:
        lines.extend((self._number(tokens[0]), self._number(token), {"weight": 1.0}) for token in tokens[1:])

    def _matrix(self, tokens: list[str]) -> None:
        self.matrix_row += 1
        if len(tokens) != self.size:
            raise ValueError(f"a row of the matrix needs {self.size} numbers, got {len(tokens)}")
        row = self._number(str(self.matrix_row))
        self.arcs.extend((row, j, {"weight": w}) for j, w in enumerate(tokens, start=1) if as_number(w) != 0)

    def graph(self) -> Any:
        """All that was read; a network of edges alone is undirected."""
        import networkx as nx

        if self.size is None:
            raise ValueError("it has no *Vertices")
        if self.section == self._vertex:
            raise ValueError("it has no *Arcs or *Edges: it was cut short, or is no network")
        if self.matrix_row not in (0, self.size):
            raise ValueError(f"the matrix has {self.matrix_row} rows for {self.size} vertices")
        lines = self.arcs + self.edges
        unweighted = all(as_number(data["weight"]) == 1 for _, _, data in lines)
        graph = nx.MultiDiGraph() if self.arcs else nx.MultiGraph()
        for i in range(1, self.size + 1):
            graph.add_node(i, **({"name": str(i)} | self.vertices.get(i, {})))
        if self.arcs:
            lines = lines + [(v, u, data) for u, v, data in self.edges if u != v]
        for u, v, data in lines:
            graph.add_edges_from([(u, v, {k: x for k, x in data.items() if k != "weight" or not unweighted})])
        return graph
