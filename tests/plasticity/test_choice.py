"""Which edges go and which come: budgets, ties, what is never given up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import colgraph as cg
from colgraph.plasticity import Budget, Candidates, Exchange, all_candidates, exchange, growth_order, rewired_sheet
from colgraph.plasticity.candidates import MOST_COLUMNS
from colgraph.plasticity.choice import drawn_values


def graph(seed: int, n: int = 9, share: float = 0.4) -> tuple[np.ndarray, np.ndarray, Candidates]:
    """Random edges on a line, self-loops among them, and all pairs."""
    rng = np.random.default_rng(seed)
    target, source = np.nonzero(rng.random((n, n)) < share)
    edges = np.stack([source, target])
    pairs = np.stack(np.nonzero(~np.eye(n, dtype=bool))[::-1])
    lengths = [np.abs(ends[0] - ends[1]).astype(float) for ends in (edges, pairs)]
    return edges, lengths[0], Candidates(pairs, lengths[1], n)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    rate=st.floats(0, 0.9),
    share=st.floats(0.3, 1),
    kind=st.sampled_from(["edges", "wire"]),
    density=st.floats(0.1, 1),
)
def test_an_exchange_stays_within_its_budget_and_leaves_no_column_deaf(seed, rate, share, kind, density):
    edges, length, candidates = graph(seed, share=density)
    rng = np.random.default_rng(seed)
    received, fresh = rng.integers(0, 4, edges.shape[1]) / 4, rng.random(edges.shape[1]) < 0.2
    absent = candidates.absent(edges)
    before = Budget(kind).amount(edges, length)
    order = absent[growth_order(rng.random(len(absent)), seed)]
    options = {"kind": kind, "limit": share * before, "rate": rate, "seed": seed}
    change = exchange(edges, length, received, fresh, order, candidates.length, **options)
    again = exchange(edges, length, received, fresh, order, candidates.length, **options)
    assert all(np.array_equal(a, b) for a, b in zip(change, again, strict=True))
    kept = np.isin(np.arange(edges.shape[1]), change.kept)
    loops = edges[0] == edges[1]
    assert kept[loops].all()
    assert kept[fresh].all()
    assert np.isin(change.grown, absent).all()
    others = ~loops
    assert set(edges[1][others & kept]) == set(edges[1][others])
    after = Budget(kind).amount(edges[:, kept], length[kept])
    after += len(change.grown) if kind == "edges" else candidates.length[change.grown].sum()
    strongest = 0.0
    for i in np.unique(edges[1][others]):
        mine = np.flatnonzero(others & (edges[1] == i))
        strongest += 1 if kind == "edges" else length[mine].max()
    stuck = fresh & others
    assert after <= max(share * before, strongest + Budget(kind).amount(edges[:, stuck], length[stuck])) * (1 + 1e-9)
    if kind == "edges" and share == 1:
        assert after == before


def test_the_weakest_go_and_the_best_come():
    edges = np.array([[1, 2, 3, 0, 2, 3], [0, 0, 0, 1, 1, 1]])
    received = np.array([0.5, 0.3, 0.2, 0.6, 0.05, 0.35])
    pairs = np.array([[0, 1, 0, 1], [2, 2, 3, 3]])
    order = growth_order(np.array([0.1, 3.0, 2.0, 3.0]), 0)
    assert set(order[:2]) == {1, 3}
    fresh = np.zeros(6, dtype=bool)
    options = {"kind": "edges", "limit": 6, "rate": 0.34, "seed": 0}
    change = exchange(edges, np.ones(6), received, fresh, order, np.ones(4), **options)
    # Of column 2 and 3, the strongest edges by which they are heard stay: 2 -> 0 and 3 -> 1.
    assert change.kept.tolist() == [0, 1, 3, 5]
    assert change.grown.tolist() == [1, 3]
    fresh[4] = True
    change = exchange(edges, np.ones(6), received, fresh, order, np.ones(4), **options)
    assert change.kept.tolist() == [0, 1, 3, 4, 5]
    assert len(change.grown) == 1
    assert pairs.shape[1] == 4


def test_wire_is_spent_on_what_fits():
    edges, length = np.array([[1, 2, 0, 2], [0, 0, 1, 1]]), np.array([1.0, 4.0, 1.0, 1.0])
    received = np.array([0.9, 0.1, 0.9, 0.2])
    change = exchange(
        edges,
        length,
        received,
        np.zeros(4, dtype=bool),
        np.array([3, 2, 1, 0]),
        np.array([1.5, 0.0, 3.0, 2.0]),
        kind="wire",
        limit=7.0,
        rate=0.5,
        seed=0,
    )
    # 2 -> 0, of length 4, is given up (2 -> 1 is the strongest by which column 2 is heard). In its place come, in this
    # order, the one of length 2, not that of 3, for which there is no room, none without length, and that of 1.5.
    assert change.kept.tolist() == [0, 2, 3]
    assert change.grown.tolist() == [0, 3]


def test_ties_follow_the_seed():
    value = np.zeros(50)
    assert np.array_equal(growth_order(value, 3), growth_order(value, 3))
    assert not np.array_equal(growth_order(value, 3), growth_order(value, 4))
    assert not np.array_equal(growth_order(value, 3), np.arange(50))


def test_draws_by_distance_have_the_odds_that_the_rule_says():
    odds = -np.array([0.0, 1.0, 2.0, 4.0])
    first = np.bincount([np.argmax(drawn_values(odds, seed)) for seed in range(4000)], minlength=4) / 4000
    np.testing.assert_allclose(first, np.exp(odds) / np.exp(odds).sum(), atol=0.03)


@pytest.mark.parametrize("text", ["edge", "wires", "edges:0", "edges:1.5", "wire:nan", "wire:", "edges:half", ""])
def test_other_budgets_are_refused(text):
    with pytest.raises(ValueError, match="must be edges, wire, or one of them with a share"):
        Budget.parse(text)


def test_budgets_below_one_edge_per_column_are_refused():
    edges, length, _ = graph(0)
    hearing = len(np.unique(edges[1][edges[0] != edges[1]]))
    there = int((edges[0] != edges[1]).sum())
    with pytest.raises(ValueError, match=rf"less than one edge for each of the {hearing} columns that hear others"):
        Budget.parse(f"edges:{(hearing - 1) / there}").check(edges, length)
    Budget.parse(f"edges:{hearing / there}").check(edges, length)
    with pytest.raises(
        ValueError, match=r"wire \(in the sheet's units\), less than one edge .* give wire:0\.\d+ or more"
    ):
        Budget.parse("wire:0.01").check(edges, length)
    with pytest.raises(ValueError, match="a budget of wire needs some"):
        Budget.parse("wire").check(edges, 0 * length)


# ---------------------------------------------------------------------- candidates and sheets


def test_candidates_are_all_pairs_or_those_within_a_radius():
    sheet = cg.build_sheet("grid", shape=(5, 5), neighbors="knn:4")
    every = all_candidates(sheet)
    assert every.pairs.shape == (2, 25 * 24)
    near = all_candidates(sheet, 1.1)
    np.testing.assert_allclose(near.length, sheet.spacing)
    codes = near.pairs[1] * 25 + near.pairs[0]
    assert (np.diff(codes) > 0).all()
    absent = every.absent(sheet.edge_index.numpy())
    assert len(absent) == 600 - int((sheet.edge_index[0] != sheet.edge_index[1]).sum())
    with pytest.raises(ValueError, match=r"rewire_radius: no two columns .* within 0\.5 spacings"):
        all_candidates(sheet, 0.5)


def test_a_large_sheet_takes_a_radius():
    sheet = cg.build_sheet("grid", shape=(33, 32), neighbors="knn:4")
    with pytest.raises(ValueError, match=rf"1,056 columns have .* up to {MOST_COLUMNS:,} columns only"):
        all_candidates(sheet)
    assert all_candidates(sheet, 2.1).pairs.shape[1] < 13 * 1056
    with pytest.raises(ValueError, match="reach more than 1,048,576 pairs of columns: give a smaller radius"):
        all_candidates(sheet, 100.0)


def test_given_edges_take_a_radius_and_lengths_go_on_following_the_first_connections():
    ring = np.stack([np.arange(8), (np.arange(8) + 1) % 8])
    edges = np.concatenate([ring, ring[::-1]], axis=1)
    sheet = cg.Sheet.from_edges(edges, 8, edge_distance=np.full(16, 2.0), outputs=[0])
    with pytest.raises(ValueError, match=r"the edges of 'custom' are given \(metric 'given'\), and which others"):
        all_candidates(sheet)
    candidates = all_candidates(sheet, 2.0)
    np.testing.assert_allclose(np.unique(candidates.length), [2, 4])
    absent = candidates.absent(sheet.edge_index.numpy())
    after, came_from = rewired_sheet(sheet, candidates, Exchange(np.arange(12), absent[:4]))
    assert (came_from < 0).sum() == 4
    assert after.space.between(np.array([0]), np.array([4])) == sheet.space.between(np.array([0]), np.array([4])) == 8
    again, _ = rewired_sheet(after, all_candidates(after, 2.0), Exchange(np.arange(16), absent[:0]))
    assert np.array_equal(all_candidates(after, 2.0).pairs, candidates.pairs)
    assert again.fingerprint == after.fingerprint != sheet.fingerprint
    kept = came_from >= 0
    assert np.array_equal(after.edge_index[:, kept], sheet.edge_index[:, came_from[kept]])
    assert np.array_equal(after.outputs, sheet.outputs)
    assert after.spacing == sheet.spacing
