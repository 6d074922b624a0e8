"""Network files, read as networkx graphs: GraphML, GEXF, GML, Pajek, node-link JSON.

The readers of networkx make one node of two with the same id, and a node of any end of an edge. Here both are errors,
because a column more or less changes the model: what the file declares is checked first.
"""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from colgraph.geometry.base import Geometry
from colgraph.geometry.readers.files import Source, check_unique, parsing, warn
from colgraph.geometry.readers.graphs.attributes import name_lengths, name_places
from colgraph.geometry.readers.graphs.network import graph_geometry
from colgraph.geometry.readers.graphs.pajek import load_pajek
from colgraph.geometry.readers.lengths import Lengths

_GEXF = "http://www.gexf.net/1.2draft"


def read_graph(
    source: Source,
    *,
    position: str | Sequence[str] | bool | None = None,
    lengths: Lengths,
    names: str | None = None,
) -> Geometry:
    """Read GraphML, GEXF, GML, Pajek or node-link JSON, by the suffix of the file.

    The options are those of :func:`colgraph.geometry.readers.graphs.network.graph_geometry`.

    Raises:
        ValueError: for a broken file, nodes declared twice, edges to nodes that are not there, graphs of graphs, and
            whatever attributes make no geometry.
    """
    graph = _LOADERS[source.suffix](source)
    lengths = name_lengths(graph, source.name, lengths)
    name_places(graph, source.name)
    return graph_geometry(graph, name=source.name, position=position, lengths=lengths, names=names)


def _load_graphml(source: Source) -> Any:
    import networkx as nx

    with parsing("GraphML"):
        root = ElementTree.fromstring(source.data)
    graph = _check_xml(root, "GraphML")
    edges = _direct(graph, "edgedefault", lambda edge: {"true": True, "false": False}.get(edge.get("directed", "")))
    for edge in edges:  # those that go both ways among others that do not
        ends = {"source": edge.get("target", ""), "target": edge.get("source", "")}
        copy = ElementTree.Element(edge.tag, ends)
        copy.extend(edge)
        if ends["source"] != ends["target"]:
            graph.append(copy)
    for edge in _elements(graph, "edge"):
        edge.attrib.pop("directed", None)
    with parsing("GraphML"):
        loaded = nx.read_graphml(io.BytesIO(ElementTree.tostring(root)))
    return _with_defaults(loaded)


def _load_gexf(source: Source) -> Any:
    """An edge without a weight has 1, as the format says, if others have one."""
    import networkx as nx

    with parsing("GEXF"):
        root = ElementTree.fromstring(source.data)
    for element in root.iter():  # networkx knows one address of each version, Gephi and others write more
        space, _, tag = str(element.tag).rpartition("}")
        if "viz" in space or "gexf" in space or not space:
            element.tag = f"{{{_GEXF}{'/viz' if 'viz' in space else ''}}}{tag}"
    graph = _check_xml(root, "GEXF")
    kinds = {"directed": True, "undirected": False, "mutual": False}
    mutual = _direct(graph, "defaultedgetype", lambda edge: kinds.get(edge.get("type", "")))
    for edge in _elements(graph, "edge"):
        edge.attrib.pop("type", None)
    for edge in mutual:
        if edge.get("source") != edge.get("target"):
            edge.set("type", "mutual")  # networkx makes two of it
    with parsing("GEXF"):
        loaded = _with_defaults(nx.read_gexf(io.BytesIO(ElementTree.tostring(root))))
    edges = [data for *_, data in loaded.edges(data=True)]
    bare = [data for data in edges if "weight" not in data]
    if 0 < len(bare) < len(edges):
        for data in bare:
            data["weight"] = 1.0
        warn(source.name, [f"{len(bare)} of {len(edges)} edges give no weight: it is 1, the default of GEXF"])
    return loaded


def _load_gml(source: Source) -> Any:
    """Nodes are told apart by ``id`` and named by ``label``; neither may occur twice."""
    import networkx as nx

    with parsing("GML"):
        graph = nx.parse_gml(source.text, label="id")
    check_unique([data["label"] for _, data in graph.nodes(data=True) if "label" in data], "the node label")
    return graph


def _load_node_link(source: Source) -> Any:
    """The JSON of ``networkx.node_link_data`` and D3; edges are listed under "edges" or "links"."""
    import networkx as nx

    with parsing("JSON"):
        data = json.loads(source.text)
    key = _check_node_link(data)
    with parsing("node-link JSON"):
        return nx.node_link_graph(data, **{_edges_argument(nx): key})


_LOADERS: dict[str, Callable[[Source], Any]] = {
    "graphml": _load_graphml,
    "gexf": _load_gexf,
    "gml": _load_gml,
    "net": load_pajek,
    "pajek": load_pajek,
    "paj": load_pajek,
    "json": _load_node_link,
}
GRAPH_SUFFIXES = tuple(_LOADERS)


# ---------------------------------------------------------------------- what a file declares


def _check_xml(root: ElementTree.Element, kind: str) -> ElementTree.Element:
    """The graph of a document, after raising for two nodes with one id, edges to nodes that are not there, several
    graphs, or graphs within graphs."""
    if _tag(root) != kind.lower():
        raise ValueError(f"not {kind}: the document is <{_tag(root)}>, not <{kind.lower()}>")
    graphs = [child for child in root if _tag(child) == "graph"]
    if len(graphs) != 1:
        raise ValueError(f"holds {len(graphs)} graphs: a geometry is one graph")
    nodes = _elements(graphs[0], "node")
    for node in nodes:
        if any(_tag(child) in ("graph", "nodes") for child in node):
            raise ValueError(f"node {node.get('id')!r} holds a graph of its own: graphs of graphs are not supported")
    edges = ((e.get("source"), e.get("target")) for e in _elements(graphs[0], "edge"))
    _check_declared([node.get("id") for node in nodes], edges)
    return graphs[0]


def _direct(
    graph: ElementTree.Element, default: str, says: Callable[[ElementTree.Element], bool | None]
) -> list[ElementTree.Element]:
    """Set a graph's default to what all its edges are, or to directed; returns the undirected edges among directed."""
    edges = _elements(graph, "edge")
    usual = graph.get(default) == "directed"
    directed = [usual if (said := says(edge)) is None else said for edge in edges]
    one_way = any(directed) if edges else usual
    graph.set(default, "directed" if one_way else "undirected")
    return [edge for edge, flag in zip(edges, directed, strict=True) if one_way and not flag]


def _elements(graph: ElementTree.Element, tag: str) -> list[ElementTree.Element]:
    return [element for element in graph.iter() if _tag(element) == tag]


def _tag(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _check_node_link(data: Any) -> str:
    """Check the lists of a node-link document; returns the key of its edges."""
    if not isinstance(data, dict) or not isinstance(data.get("nodes"), list):
        raise ValueError('not node-link JSON: it needs a list "nodes" and a list "edges" or "links"')
    key = "edges" if "edges" in data else "links"
    if not isinstance(data.get(key), list):
        raise ValueError('not node-link JSON: it needs a list "edges" or "links" besides "nodes"')
    if not all(isinstance(entry, dict) for entry in data["nodes"] + data[key]):
        raise ValueError(f'not node-link JSON: the entries of "nodes" and "{key}" must be objects')
    ids = [_hashable(node.get("id", i)) for i, node in enumerate(data["nodes"])]
    _check_declared(ids, ((_hashable(e.get("source")), _hashable(e.get("target"))) for e in data[key]))
    return key


def _hashable(value: Any) -> Any:
    """Lists as tuples, all the way down, as networkx has them."""
    return tuple(_hashable(part) for part in value) if isinstance(value, list) else value


def _edges_argument(nx: Any) -> str:
    """networkx renamed the argument that says under which key the edges are (``link`` before 3.4)."""
    import inspect

    return "edges" if "edges" in inspect.signature(nx.node_link_graph).parameters else "link"


def _check_declared(ids: list[Any], edges: Iterable[tuple[Any, Any]]) -> None:
    if None in ids:
        raise ValueError(f"node number {ids.index(None) + 1} has no id")
    check_unique(ids, "the node id")
    known = set(ids)
    for ends in edges:
        for end in ends:
            if end not in known:
                raise ValueError(f"an edge {ends[0]!r} -> {ends[1]!r} refers to node {end!r}, which is not in the file")


def _with_defaults(graph: Any) -> Any:
    """Give nodes and edges the default attributes that the file declares; networkx only records them."""
    for key, data in (("node_default", graph.nodes(data=True)), ("edge_default", graph.edges(data=True))):
        defaults = graph.graph.get(key) or {}
        for *_, attributes in data:
            for name, value in defaults.items():
                attributes.setdefault(name, value)
    return graph
