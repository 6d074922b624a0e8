"""The sheet as a PyG Data: order, fingerprint, caches, transforms, subgraphs, files."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric import transforms as T
from torch_geometric.data import Batch, Data
from torch_geometric.utils import is_undirected

from colgraph.layout import Layout, edges_are_sorted, spatial_order
from colgraph.sheet import Sheet, load_sheet


def edges(n: int):
    pair = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1))
    return st.lists(pair, max_size=40)


@settings(max_examples=60)
@given(edges(7), st.randoms(use_true_random=False))
def test_order_and_fingerprint_do_not_depend_on_the_order_given(pairs, rng):
    index = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T
    shuffled = list(pairs)
    rng.shuffle(shuffled)
    first = Sheet.from_edges(index, 7)
    second = Sheet.from_edges(torch.tensor(shuffled, dtype=torch.int64).reshape(-1, 2).T, 7)
    assert edges_are_sorted(first.edge_index)
    assert first.fingerprint == second.fingerprint
    assert first.edge_index.size(1) == len(set(pairs))


def test_parallel_edges_keep_the_shortest():
    sheet = Sheet.from_edges([[0, 0, 1], [1, 1, 0]], 2, edge_distance=[3.0, 2.0, 5.0])
    assert sheet.edge_index.tolist() == [[1, 0], [0, 1]]
    assert sheet.distance.tolist() == [5.0, 2.0]


@settings(max_examples=40)
@given(edges(6))
def test_layout_holds_both_directions(pairs):
    sheet = Sheet.from_edges(torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T, 6)
    layout = sheet.layout
    for column in range(6):
        incoming = slice(int(layout.indptr[column]), int(layout.indptr[column + 1]))
        assert (layout.target[incoming] == column).all()
        leaving = slice(int(layout.source_indptr[column]), int(layout.source_indptr[column + 1]))
        ids = layout.source_edge[leaving]
        assert (layout.source[ids] == column).all()
        assert torch.equal(layout.source_target[leaving], layout.target[ids])
        assert (layout.source_target[leaving].diff() > 0).all()
    assert layout.source_edge.sort()[0].tolist() == list(range(layout.num_edges))


def test_layout_is_cached_until_the_edges_change(sheet):
    layout = sheet.layout
    assert sheet.layout is layout
    assert copy.copy(sheet).layout is layout
    changed = copy.copy(sheet)
    changed.edge_index = sheet.edge_index[:, :-1]
    changed.edge_distance = sheet.edge_distance[:-1]
    assert changed.layout.num_edges == layout.num_edges - 1
    assert sheet.layout is layout
    moved = copy.copy(sheet).to("meta")
    assert moved.edge_index.device.type == "meta"


def test_edits_in_place_are_noticed():
    sheet = Sheet.from_edges([[0, 2, 1], [1, 1, 2]], 4, edge_distance=[1.0, 2.0, 3.0])
    before = sheet.layout
    sheet.edge_distance.mul_(2)
    assert torch.equal(sheet.layout.edge_index, before.edge_index)
    sheet.edge_index[0, 1] = 3
    with pytest.raises(ValueError, match="from column 3 to 1 was added"):
        _ = sheet.layout
    assert before.edge_index.tolist() == [[0, 2, 1], [1, 1, 2]]  # a layout does not change


def test_reordered_edges_raise_and_coalesce_mends(sheet):
    broken = copy.copy(sheet)
    broken.edge_index = sheet.edge_index.flip(1)
    broken.edge_distance = sheet.edge_distance.flip(0)
    with pytest.raises(ValueError, match="sorted by target"):
        _ = broken.layout
    mended = broken.coalesce()
    assert mended.fingerprint == sheet.fingerprint
    assert torch.equal(mended.edge_distance, sheet.edge_distance)


def test_fingerprints_tell_graph_from_geometry(sheet):
    moved = copy.copy(sheet)
    moved.pos = sheet.pos + 1
    assert moved.fingerprint == sheet.fingerprint
    assert moved.geometry_fingerprint != sheet.geometry_fingerprint
    more = Sheet.from_edges(sheet.edge_index, sheet.num_columns + 1)
    assert more.fingerprint != sheet.fingerprint


def test_inputs_and_outputs():
    sheet = Sheet.from_edges([[0], [1]], 5, inputs=[3, 0, 4], outputs=[2, 1])
    assert sheet.inputs.tolist() == [3, 0, 4]
    assert sheet.outputs.tolist() == [1, 2]
    assert sheet.input_rank.tolist() == [1, -1, -1, 0, 2]
    by_mask = Sheet.from_edges([[0], [1]], 3, inputs=torch.tensor([True, False, True]))
    assert by_mask.inputs.tolist() == [0, 2]


def test_what_follows_from_the_rest_cannot_be_set(sheet):
    with pytest.raises(AttributeError, match=r"inputs of a sheet follows from input_rank: set sheet\.input_rank"):
        sheet.inputs = [1]
    with pytest.raises(AttributeError, match="fingerprint of a sheet follows from the rest: build another sheet"):
        sheet.fingerprint = ""


def test_subgraph_relabels_everything():
    # As many faces, edges and columns as each other: no attribute may be taken for another kind.
    ring = torch.arange(6)
    sheet = Sheet.from_edges(
        torch.stack([ring, (ring + 1) % 6]),
        6,
        edge_distance=torch.arange(1, 7),
        pos=torch.rand(6, 3),
        inputs=[4, 2, 0],
        outputs=[5, 3],
        face=torch.stack([ring, (ring + 1) % 6, (ring + 2) % 6]),
        layer=ring,
        names=list("abcdef"),
    )
    subset = torch.tensor([4, 2, 3, 5])
    part = sheet.subgraph(subset)
    assert part.num_columns == 4
    assert part.layer.tolist() == [4, 2, 3, 5]
    assert part["names"] == ["e", "c", "d", "f"]
    assert part.inputs.tolist() == [0, 1]
    assert part.outputs.tolist() == [2, 3]
    pairs = {(int(subset[j]), int(subset[i])) for j, i in part.edge_index.T}
    assert pairs == {(2, 3), (3, 4), (4, 5)}
    lengths = {(int(subset[j]), int(subset[i])): float(d) for (j, i), d in zip(part.edge_index.T, part.distance)}
    original = {(int(j), int(i)): float(d) for (j, i), d in zip(sheet.edge_index.T, sheet.distance)}
    assert all(original[pair] == length for pair, length in lengths.items())
    assert {tuple(sorted(subset[face].tolist())) for face in part.face.T} == {(2, 3, 4), (3, 4, 5)}
    assert part.layout.num_edges == 3
    mask = torch.zeros(6, dtype=torch.bool)
    mask[subset] = True
    assert sheet.subgraph(mask).layer.tolist() == [2, 3, 4, 5]


def test_pyg_tools(sheet):
    assert isinstance(sheet, Data)
    assert sheet.validate()
    assert sheet.is_node_attr("pos")
    assert sheet.is_edge_attr("edge_distance")
    undirected = T.ToUndirected(reduce="min")(sheet)
    assert is_undirected(undirected.coalesce().edge_index)
    assert undirected.coalesce().layout.num_edges >= sheet.layout.num_edges
    centred = T.Center()(sheet)
    assert centred.pos.mean(0).abs().max() < 1e-6
    assert centred.fingerprint == sheet.fingerprint
    batch = Batch.from_data_list([sheet, sheet])
    assert batch.num_nodes == 2 * sheet.num_columns
    loops = T.RemoveSelfLoops()(sheet)
    assert not loops.has_self_loops()
    assert loops.layout.num_edges < sheet.layout.num_edges


def test_edge_distance_is_an_edge_attribute_when_there_are_as_many_edges_as_columns():
    ring = torch.arange(5)
    sheet = Sheet.from_edges(torch.stack([ring, (ring + 1) % 5]), 5, edge_distance=torch.arange(1, 6))
    assert sheet.is_edge_attr("edge_distance")
    assert not sheet.is_edge_attr("pos")
    assert sheet.edge_subgraph(torch.tensor([0, 1])).edge_distance.numel() == 2


def test_pickle_leaves_the_layout_behind(sheet):
    _ = sheet.layout
    back = pickle.loads(pickle.dumps(sheet))
    assert back.fingerprint == sheet.fingerprint
    assert back.spacing == sheet.spacing
    assert len(pickle.dumps(sheet)) < 20_000


def test_save_and_load(sheet, tmp_path):
    sheet.names = [f"area {i}" for i in range(sheet.num_columns)]
    back = load_sheet(sheet.save(tmp_path / "s.npz"))
    assert back.fingerprint == sheet.fingerprint
    assert back.geometry_fingerprint == sheet.geometry_fingerprint
    for name in ("pos", "edge_distance", "input_rank", "output_mask", "layer", "face"):
        assert torch.equal(back[name], sheet[name]), name
    assert back.spacing == sheet.spacing
    assert (back.metric, back.geometry, back["names"]) == (sheet.metric, sheet.geometry, sheet["names"])
    assert list(tmp_path.iterdir()) == [tmp_path / "s.npz"]


def test_loading_something_else_is_an_error(tmp_path, sheet):
    path = sheet.save(tmp_path / "s.npz")
    cases = {
        "missing.npz": None,
        "text.npz": b"hello",
        "short.npz": path.read_bytes()[: path.stat().st_size // 2],
    }
    for name, content in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            load_sheet(tmp_path / name)
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="lacks"):
        load_sheet(tmp_path / "other.npz")
    np.savez(tmp_path / "pickled.npz", a=np.array([object()], dtype=object))
    with pytest.raises(ValueError, match=r"pickled\.npz"):
        load_sheet(tmp_path / "pickled.npz")
    with pytest.raises(ValueError, match=r"\.npz"):
        sheet.save(tmp_path / "s.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edge_index": [[0], [9]]}, r"edge_index must lie in 0\.\.3 .* got 9"),
        ({"edge_index": [[-1], [0]]}, "got -1"),
        ({"edge_index": [[0.5], [1.0]]}, "integers"),
        ({"edge_index": [[0, 1]]}, r"\[2, E\]"),
        ({"edge_distance": [1.0]}, r"shape \[2\]"),
        ({"edge_distance": [1.0, -2.0]}, r"edge 1 \(1 to 2\) is -2"),
        ({"edge_distance": [1.0, float("nan")]}, r"edge 1 \(1 to 2\) is nan"),
        ({"pos": torch.zeros(3, 3)}, r"pos must have shape \[4, 3\]"),
        ({"pos": torch.full((4, 3), float("inf"))}, "pos must be finite"),
        ({"inputs": [1, 1]}, "more than once"),
        ({"outputs": [4]}, "outputs must lie"),
        ({"inputs": torch.tensor([True, False])}, "mask"),
        ({"layer": [1, 2]}, "layer must have shape"),
        ({"face": [[0], [1]]}, r"\[3, F\]"),
        ({"face": [[0], [1], [7]]}, "face must lie"),
        ({"num_columns": 0}, "at least 1"),
        ({"names": ["a"]}, "4 entries"),
    ],
)
def test_bad_values_are_named(change, message):
    arguments = {"edge_index": [[0, 1], [1, 2]], "num_columns": 4} | change
    with pytest.raises(ValueError, match=message):
        Sheet.from_edges(**arguments)


def test_spacing_is_the_median_shortest_edge():
    sheet = Sheet.from_edges([[0, 1, 0, 2], [1, 0, 2, 2]], 3, edge_distance=[1.0, 2.0, 5.0, 0.0])
    assert sheet.spacing == 2.0


def test_report_counts():
    sheet = Sheet.from_edges(
        [[0, 1, 1, 2, 3], [1, 0, 2, 2, 3]], 5, edge_distance=[1, 1, 2, 0, 0], pos=torch.eye(5)[:, :3], inputs=[0]
    )
    values = sheet.describe().values
    assert values["columns"] == 5
    assert values["edges"] == 5
    assert values["self_loops"] == 2
    assert values["one_way"] == 1
    assert values["isolated"] == 2
    assert values["components"] == 3
    assert values["in_degree"] == (0, 1.0, 2)
    assert values["distance_quantiles"][0] == 1
    assert values["distance_quantiles"][-1] == 2
    text = str(sheet.describe())
    for word in ("columns", "edges", "in-degree", "isolated", "one-way", "components", "offset", "parameters"):
        assert word in text


def test_networkx_carries_everything(sheet):
    graph = sheet.to_networkx()
    assert graph.number_of_nodes() == sheet.num_columns
    assert graph.number_of_edges() == sheet.edge_index.size(1)
    j, i = sheet.edge_index[:, 5].tolist()
    assert graph.edges[j, i]["distance"] == float(sheet.distance[5])
    assert graph.nodes[2]["input_rank"] == 2
    assert graph.nodes[3]["pos"] == tuple(sheet.pos[3].tolist())


def test_spatial_order_keeps_neighbors_together():
    side = 32
    grid = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), -1).reshape(-1, 2)
    order = spatial_order(grid.numpy())
    assert sorted(order.tolist()) == list(range(side * side))
    tiles = grid[order].reshape(-1, 16, 2).float()
    extent = (tiles.amax(1) - tiles.amin(1)).amax(1)
    assert float(extent.max()) <= 7
    assert float(extent.median()) <= 3
    assert (order == spatial_order(grid.numpy())).all()
    assert spatial_order(np.zeros((5, 3))).tolist() == list(range(5))


def test_layout_refuses_other_shapes():
    with pytest.raises(ValueError, match="int64"):
        Layout(torch.zeros(2, 3), 4)
    with pytest.raises(ValueError, match="5"):
        Layout(torch.tensor([[5], [0]]), 4)
