"""The canonical order of edges, against a dictionary."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from colgraph.edges import canonical_edges, edge_codes

EDGE = st.tuples(st.integers(0, 4), st.integers(0, 4), st.floats(0, 9))


@settings(max_examples=60)
@given(edges=st.lists(EDGE, max_size=30))
def test_edges_come_by_target_then_source_and_the_shortest_of_parallel_ones_stays(edges):
    shortest = {}
    for source, target, length in edges:
        shortest[target, source] = min(length, shortest.get((target, source), np.inf))
    given_edges = np.array([edge[:2] for edge in edges], dtype=np.int64).reshape(-1, 2).T
    found, length = canonical_edges(given_edges, 5, np.array([edge[2] for edge in edges]))
    assert [(target, source) for source, target in found.T.tolist()] == sorted(shortest)
    assert length.tolist() == [shortest[ends] for ends in sorted(shortest)]
    alone, nothing = canonical_edges(given_edges, 5)
    assert np.array_equal(alone, found)
    assert nothing is None
    again, same = canonical_edges(found, 5, length)
    assert again is found
    assert same is length


def test_codes_of_undirected_edges_are_equal_both_ways():
    edges = np.array([[0, 3, 1], [3, 0, 1]])
    assert edge_codes(edges, 4).tolist() == [12, 3, 5]
    assert edge_codes(edges, 4, directed=False).tolist() == [3, 3, 5]
