"""Neighborhoods: who listens to whom."""

import ast
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import colgraph as cg
from colgraph.geometry import parse_neighborhood
from colgraph.geometry.neighbors import Union
from colgraph.space import points
from colgraph.space.ties import _mix, nearest_mask, pair_hash


def pairs(sheet):
    return set(zip(*sheet.edge_index.tolist(), strict=True))


@pytest.mark.parametrize("k", [4, 5, 8, 12, 16, 24, 32])
@pytest.mark.parametrize("shape", [(16, 16), (20, 30), (33, 31), (64, 64)])
def test_equal_distances_choose_no_direction(shape, k):
    values = cg.build_sheet("grid", shape=shape, neighbors=cg.KNN(k)).describe().values
    assert values["mean_neighbor_offset"] < 0.02
    assert values["in_degree"] == (k + 1, k + 1, k + 1)


def test_index_order_would_choose_a_direction():
    # What the rule above is for: on the same grid, ties broken by index shift every neighborhood.
    points = cg.geometry("grid", shape=(32, 32)).positions
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :16]
    assert np.linalg.norm((points[nearest] - points[:, None]).mean((0, 1))) > 0.2


def test_ties_are_the_same_on_every_machine():
    # The published test vector of splitmix64 with seed 0, and what follows from it for a sheet.
    assert int(_mix(np.array([0], dtype=np.uint64))[0]) == 0xE220A8397B1DCDAF
    one, other = np.array([3, 700]), np.array([700, 3])
    assert pair_hash(one, other).tolist() == pair_hash(other, one).tolist()
    sheet = cg.build_sheet("grid", shape=(12, 12), neighbors=cg.KNN(6))
    assert sheet.fingerprint.startswith("6059bc29ce6ae797")
    rotated = cg.Geometry(cg.geometry("grid", shape=(12, 12)).positions @ rotation(0.3).T)
    assert cg.build_sheet(rotated, neighbors=cg.KNN(6)).fingerprint == sheet.fingerprint


def rotation(angle):
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


@settings(max_examples=60)
@given(st.integers(1, 6), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_nearest_mask_takes_k_and_never_a_farther_one(k, width, seed):
    rng = np.random.default_rng(seed)
    distance = rng.integers(0, 4, size=(5, width)).astype(float)
    distance[rng.random(distance.shape) < 0.2] = np.inf
    source = np.argsort(rng.random((5, width)), axis=1) + 10
    target = np.arange(5)
    chosen = nearest_mask(target, source, distance, k)
    for row in range(5):
        finite = np.isfinite(distance[row])
        assert chosen[row].sum() == min(k, finite.sum())
        assert not chosen[row][~finite].any()
        if chosen[row].any() and (finite & ~chosen[row]).any():
            assert distance[row][chosen[row]].max() <= distance[row][finite & ~chosen[row]].min()
    # The order of candidates does not matter.
    shuffled = rng.permutation(width)
    again = nearest_mask(target, source[:, shuffled], distance[:, shuffled], k)
    np.testing.assert_array_equal(again, chosen[:, shuffled])


def test_the_shell_of_ties_is_completed_when_it_is_larger_than_the_query():
    # One column in the middle of a circle of 500, all at one distance but for rounding.
    angle = 2 * np.pi * np.arange(500) / 500
    points = np.concatenate([[[0, 0, 0]], np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1)])
    g = cg.Geometry(points)
    sheet = cg.build_sheet(g, neighbors=cg.KNN(5, self_loops=False))
    chosen = sheet.edge_index[0][sheet.edge_index[1] == 0].numpy()
    ranked = np.arange(1, 501)[np.argsort(pair_hash(np.zeros(500, np.int64), np.arange(1, 501)))]
    assert set(chosen) == set(ranked[:5])


def test_duplicate_columns_are_kept_as_neighbors():
    sheet = cg.build_sheet(cg.Geometry(np.zeros((9, 3))), neighbors="knn:4")
    assert (sheet.layout.in_degree == 5).all()
    assert sheet.distance.max() == 0


def test_knn_is_k_others_and_the_column_itself():
    for loops in (True, False):
        sheet = cg.build_sheet("sphere", subdivisions=2, neighbors=cg.KNN(7, self_loops=loops))
        own = sheet.edge_index[0] == sheet.edge_index[1]
        assert int(own.sum()) == loops * sheet.num_columns
        assert (sheet.layout.in_degree == 7 + loops).all()
        assert (sheet.distance[own] == 0).all()


def test_edges_are_in_canonical_order():
    for neighbors in ("knn:5", "radius:1.5", "complete", "knn:3|radius:1"):
        sheet = cg.build_sheet("grid", shape=(7, 8), neighbors=neighbors)
        code = sheet.edge_index[1] * sheet.num_columns + sheet.edge_index[0]
        assert (code.diff() > 0).all()


def test_knn_of_all_others_is_complete():
    full = cg.build_sheet("grid", shape=(4, 4), neighbors=cg.KNN(15))
    assert full.fingerprint == cg.build_sheet("grid", shape=(4, 4), neighbors=cg.Complete()).fingerprint
    assert full.num_edges == 256
    with pytest.raises(ValueError, match=r"KNN\(16\) needs more than 16 columns, but 'grid' has 16"):
        cg.build_sheet("grid", shape=(4, 4), neighbors=cg.KNN(16))


def test_radius_includes_its_border_and_is_symmetric():
    sheet = cg.build_sheet("grid", shape=(5, 5), spacing=0.1, neighbors=cg.Radius(0.1 * np.sqrt(2), self_loops=False))
    assert int(sheet.layout.in_degree.max()) == 8
    assert pairs(sheet) == {(j, i) for i, j in pairs(sheet)}


def test_radius_that_isolates_columns_warns_with_the_count():
    points = np.array([[0.0], [1], [2], [50], [99]])
    with pytest.warns(UserWarning, match="radius:1 isolates 2 of 5 columns"):
        sheet = cg.build_sheet(cg.Geometry(points), neighbors="radius:1")
    assert sheet.num_edges == 9


def test_a_union_is_judged_as_a_whole(recwarn):
    points = cg.Geometry(np.array([[0.0], [1], [2], [50], [99]]))
    cg.build_sheet(points, neighbors="radius:1|knn:2")
    nested = type(cg.KNN(1) | cg.KNN(2))
    cg.build_sheet(points, neighbors=nested((nested((cg.Radius(1),)), cg.KNN(2))))
    assert not [w for w in recwarn if "isolates" in str(w.message)], "the nearest columns join what the radius leaves"
    with pytest.warns(UserWarning, match=r"radius:1\|radius:1\.5 isolates 2 of 5 columns") as warned:
        cg.build_sheet(points, neighbors="radius:1|radius:1.5")
    assert sum("isolates" in str(w.message) for w in warned) == 1


def test_a_union_takes_its_parts_at_their_word():
    class Upstream(cg.Radius):
        def links(self, geometry, space):
            links = super().links(geometry, space)
            kept = links.source < links.target
            return type(links)(*(part[kept] for part in links))

    union = cg.build_sheet("grid", shape=(4, 4), neighbors=Upstream(1.0) | cg.Edges([[15], [0]]))
    assert pairs(union) == pairs(cg.build_sheet("grid", shape=(4, 4), neighbors=Upstream(1.0))) | {(15, 0)}


def test_the_warning_names_the_line_that_builds_the_sheet():
    points = cg.Geometry(np.array([[0.0], [1], [50], [99]]))
    with pytest.warns(UserWarning, match="isolates") as warned:
        cg.build_sheet(points, neighbors="radius:1")
    assert warned[0].filename == __file__


def test_radius_does_not_call_the_first_layer_of_a_stack_isolated(recwarn):
    cg.build_sheet("stack", widths=[3, 3], direction="forward", neighbors="radius:3")
    assert not [w for w in recwarn if "isolates" in str(w.message)]


def test_given_takes_edges_else_faces():
    tetrahedron = [[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]]
    mesh = cg.Geometry(np.eye(4)[:, :3], faces=tetrahedron)
    assert cg.build_sheet(mesh, neighbors="given").num_edges == 16
    assert cg.build_sheet(mesh, neighbors=cg.Given(self_loops=False)).num_edges == 12
    both = cg.Geometry(np.eye(4)[:, :3], faces=tetrahedron, edges=[[0, 3, 3], [1, 3, 3]], edge_distance=[7, 5, 4])
    own = cg.build_sheet(both, neighbors=cg.Given(self_loops=False), metric="given")
    assert pairs(own) == {(0, 1), (3, 3)}
    # Parallel edges are merged to the shortest; a self-loop keeps the length it was given.
    assert own.distance.tolist() == [7, 4]
    with pytest.warns(UserWarning, match=r"edge_distance of 'custom' are not used.*metric='given' uses them"):
        assert cg.build_sheet(both, neighbors="given").distance.max() == pytest.approx(np.sqrt(2))
    with pytest.raises(ValueError, match="'grid' has neither"):
        cg.build_sheet("grid", neighbors="given")


def test_lengths_that_are_not_used_are_said_only_where_nobody_asked(recwarn):
    line = np.arange(3.0)[:, None]
    lengths = {"edges": np.array([[0, 1], [1, 2]]), "edge_distance": [5, 7]}
    assert cg.build_sheet(cg.Geometry(line, **lengths, metric="given")).distance.tolist() == [5, 7]
    assert cg.build_sheet(cg.Geometry(line, **lengths), metric="euclidean").distance.tolist() == [1, 1]
    assert cg.build_sheet(cg.Geometry(line, **lengths | {"edge_distance": [1, 1]})).distance.tolist() == [1, 1]
    assert not recwarn


def test_given_edges_obey_the_direction_of_layers():
    g = cg.Geometry(np.eye(3), edges=[[0, 1, 1, 2], [1, 0, 2, 2]], layer=[0, 1, 2], direction="forward")
    assert pairs(cg.build_sheet(g, neighbors="given")) == {(0, 1), (1, 2)}


def test_complete_has_every_pair():
    sheet = cg.build_sheet("ring", columns=6, neighbors=cg.Complete())
    assert sheet.num_edges == 36
    with pytest.raises(ValueError, match=r"25,600,000,000 edges"):
        cg.build_sheet("grid", shape=(400, 400), neighbors="complete")
    with pytest.raises(ValueError, match=r"radius 200 makes more than the 134,217,728 edges"):
        cg.build_sheet("grid", shape=(400, 400), neighbors="radius:200")


def test_own_edges_with_and_without_distances():
    tracts = torch.tensor([[0, 5], [9, 1]])
    measured = cg.build_sheet("ring", columns=10, neighbors=cg.Edges(tracts))
    assert pairs(measured) == {(0, 9), (5, 1)}
    assert measured.distance.tolist() == pytest.approx([4, 1])
    told = cg.build_sheet("ring", columns=10, neighbors=cg.KNN(2) | cg.Edges(tracts, distance=[0.25, 8]))
    assert told.num_edges == 10 * 3 + 1
    found = dict(zip(zip(*told.edge_index.tolist(), strict=True), told.distance.tolist(), strict=True))
    # 0 -> 9 is in both parts of the union: the shorter distance stays.
    assert found[0, 9] == 0.25
    assert found[5, 1] == 8
    for edges, distance, message in [
        (np.array([[0, 10], [1, 1]]), None, r"Edges must lie in 0..9 \(10 columns\), got 10"),
        (np.array([[0, 1]]), None, r"shape \[2, E\]"),
        ([[0], [1]], [-1.0], "not negative"),
        ([[0], [1]], [1.0, 2.0], "one per edge"),
        ([[0.5], [1]], None, "integers"),
    ]:
        with pytest.raises(ValueError, match=message):
            cg.build_sheet("ring", columns=10, neighbors=cg.Edges(edges, distance))


def test_pairs_are_told_from_sources_and_targets():
    drawn = [(0, 1), (2, 9), (4, 3)]
    assert cg.Edges(drawn).edge_index.tolist() == [[0, 2, 4], [1, 9, 3]]
    assert cg.Edges([[0, 2, 4], [1, 9, 3]]).edge_index.tolist() == [[0, 2, 4], [1, 9, 3]]
    assert cg.Edges([(0, 1)]).edge_index.tolist() == [[0], [1]]
    assert cg.Edges([(0, 1), (1, 2)]).edge_index.tolist() == [[0, 1], [1, 2]]  # the same edges either way
    assert cg.Edges((np.array([0, 2]), np.array([1, 9]))).edge_index.tolist() == [[0, 2], [1, 9]]
    geometry = cg.Geometry(np.arange(10.0)[:, None], edges=drawn, metric="given")
    assert geometry.edges.tolist() == [[0, 2, 4], [1, 9, 3]]


def test_two_lists_of_two_columns_are_refused_with_the_way_out():
    with pytest.raises(ValueError, match="may be 0 to 1 and 2 to 9, or 0 to 2 and 1 to 9") as error:
        cg.Edges([(0, 1), (2, 9)])
    advice = re.search(r"np\.array\((.*?)\) for the former", str(error.value))
    assert advice is not None
    assert cg.Edges(np.array(ast.literal_eval(advice[1]))).edge_index.T.tolist() == [[0, 1], [2, 9]]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=12))
def test_edges_are_the_same_in_every_form(drawn):
    wanted = np.array(drawn).T
    forms = [drawn, [list(pair) for pair in drawn], wanted, wanted.tolist(), torch.tensor(wanted), tuple(wanted)]
    for form in forms:
        assert cg.Edges(form).edge_index.tolist() == wanted.tolist()


@pytest.mark.parametrize(
    "neighborhood",
    [
        cg.KNN(np.int64(2), self_loops=np.bool_(False)),
        cg.KNN(np.uint8(2), self_loops=False),
        cg.Radius(np.float32(1), self_loops=np.bool_(False)),
        cg.Radius(np.int32(1), self_loops=False),
    ],
)
def test_numpy_scalars_are_numbers(neighborhood):
    sheet = cg.build_sheet("ring", columns=np.int64(10), neighbors=neighborhood, num_inputs=np.int16(3))
    same = cg.build_sheet("ring", columns=10, neighbors=cg.KNN(2, self_loops=False), num_inputs=3)
    assert sheet.edge_index.tolist() == same.edge_index.tolist()
    assert sheet.inputs.tolist() == same.inputs.tolist()


def test_own_edges_are_counted_before_the_mask():
    both = cg.KNN(2) | cg.Edges([[0, 9, 4], [9, 0, 8]], distance=[1.5, 2.5, 3.5])
    sheet = cg.build_sheet("ring", columns=10, neighbors=both, mask=np.arange(10) != 4)
    found = dict(zip(zip(*sheet.edge_index.tolist(), strict=True), sheet.distance.tolist(), strict=True))
    assert found[0, 8] == 1
    assert found[8, 0] == 1
    only = cg.build_sheet("ring", columns=10, neighbors=both.parts[1], mask=np.arange(10) != 4)
    assert only.edge_index.tolist() == [[8, 0], [0, 8]]
    assert only.distance.tolist() == [2.5, 1.5]
    with pytest.raises(ValueError, match=r"Edges must lie in 0\.\.9"):
        cg.build_sheet("ring", columns=10, neighbors=cg.Edges([[10], [0]]), mask=np.arange(10) != 4)


def test_edges_between_pieces_need_a_distance():
    g = cg.geometry("sphere", subdivisions=0)
    two = cg.Geometry(
        np.concatenate([g.positions, g.positions + 5]), faces=np.concatenate([g.faces, g.faces + 12]), metric="geodesic"
    )
    with pytest.raises(ValueError, match="metric 'geodesic' has no way from column 12 to 0"):
        cg.build_sheet(two, neighbors=cg.KNN(3) | cg.Edges([[12], [0]]))
    sheet = cg.build_sheet(two, neighbors=cg.KNN(3) | cg.Edges([[12], [0]], distance=[9.0]))
    assert sheet.distance.max() == 9
    assert sheet.describe().values["components"] == 1
    with pytest.warns(UserWarning, match="24 of 24 columns reach fewer than 13 others"):
        sheet = cg.build_sheet(two, neighbors="knn:13")
    assert (sheet.layout.in_degree == 12).all()


def test_strings_mean_the_same():
    assert parse_neighborhood("knn:32") == cg.KNN(32)
    assert parse_neighborhood(" KNN : 3 ") == cg.KNN(3)
    assert parse_neighborhood("radius:2.5") == cg.Radius(2.5)
    assert parse_neighborhood("given") == cg.Given()
    assert parse_neighborhood("complete") == cg.Complete()
    assert parse_neighborhood("knn:16|given") == cg.KNN(16) | cg.Given()
    assert parse_neighborhood(cg.KNN(2)) == cg.KNN(2)
    union = "radius:2" | cg.KNN(4) | "given"
    assert isinstance(union, Union)
    assert str(union) == "radius:2|knn:4|given"
    assert parse_neighborhood(str(union)) == union
    assert repr(cg.Edges([[0], [1]])) == "Edges(1 edges)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("knn", "knn:16"),
        ("knn:", "knn:16"),
        ("knn:2.5", "positive whole number"),
        ("knn:0", "positive whole number"),
        ("knn:-4", "positive whole number"),
        ("radius:far", "positive distance"),
        ("radius:-1", "positive distance"),
        ("radius:inf", "positive distance"),
        ("given:3", "unknown neighborhood 'given:3'"),
        ("compleet", "did you mean 'complete'"),
        ("", "unknown neighborhood ''"),
        ("knn:3|", "unknown neighborhood ''"),
        (16, "got 16"),
        (None, "got None"),
    ],
)
def test_texts_that_mean_nothing(text, message):
    with pytest.raises(ValueError, match=message) as error:
        parse_neighborhood(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("k", [0, -1, 2.0, True, "3", None])
def test_knn_takes_positive_integers(k):
    with pytest.raises(ValueError, match="positive whole number"):
        cg.KNN(k)


def test_numpy_numbers_are_numbers():
    assert cg.KNN(np.int64(3)) == cg.KNN(3)
    assert type(cg.KNN(np.int64(3)).k) is int
    assert cg.Radius(np.float32(2)) == cg.Radius(2)
    for r in (0, float("nan"), "1", True):
        with pytest.raises(ValueError, match="positive distance"):
            cg.Radius(r)


def test_blocks_do_not_change_the_result(monkeypatch):
    whole = cg.build_sheet("grid", shape=(40, 40), neighbors="knn:9|radius:1.5").fingerprint
    monkeypatch.setattr(points, "_BLOCK", 1000)
    assert cg.build_sheet("grid", shape=(40, 40), neighbors="knn:9|radius:1.5").fingerprint == whole


def test_a_million_columns_are_a_matter_of_blocks():
    # A tenth of it here; benchmarks/geometry.py has the whole.
    sheet = cg.build_sheet("grid", shape=(316, 316), neighbors="knn:16")
    assert sheet.num_edges == 316 * 316 * 17
