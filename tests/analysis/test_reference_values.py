"""Numbers to reproduce: one small network, its modularity, small-worldness and communicability.

The network follows from ``RandomState(0)``, whose stream numpy keeps for ever. Values without random graphs
were checked against bctpy 0.6.1 (clustering, path length), networkx 3.6.1 (modularity of the partition) and scipy
(communicability); bctpy's Louvain method finds partitions from 0.629 to 0.643 over twenty seeds.
"""

from __future__ import annotations

import numpy as np
import pytest

from colgraph.analysis import communicability, modularity, small_world


def small_world_network(n=60, k=6, share=0.1):
    """A ring of n columns joined to the k nearest, a share of whose edges lead anywhere; weights between 0 and 1."""
    draws, pairs = np.random.RandomState(0), set()
    for i in range(n):
        for step in range(1, k // 2 + 1):
            j = (i + step) % n
            if draws.rand() < share:
                j = draws.randint(n)
                while j == i or (min(i, j), max(i, j)) in pairs:
                    j = draws.randint(n)
            pairs.add((min(i, j), max(i, j)))
    edges = np.array(sorted(pairs)).T
    return edges, draws.rand(edges.shape[1])


def test_small_world_of_the_reference_network():
    edges, _ = small_world_network()
    found = small_world(edges, columns=60)
    assert edges.shape == (2, 180)
    assert found.clustering == pytest.approx(0.4695238095238095, rel=1e-12)
    assert found.path_length == pytest.approx(3.4022598870056497, rel=1e-12)
    assert found.clustering_null.mean() == pytest.approx(0.07864285714285715, rel=1e-9)
    assert found.path_length_null.mean() == pytest.approx(2.4268361581920903, rel=1e-9)
    assert found.value == pytest.approx(4.258643727666031, rel=1e-9)


def test_modularity_of_the_reference_network():
    pytest.importorskip("sknetwork")
    edges, weights = small_world_network()
    found = modularity(edges, weights, columns=60)
    assert found.value == pytest.approx(0.6396028999946359, rel=1e-6)
    assert found.module.max() + 1 == 6
    assert found.null.mean() == pytest.approx(0.4375368819510389, rel=1e-6)


def test_communicability_of_the_reference_network():
    edges, weights = small_world_network()
    assert communicability(edges, weights, columns=60).value == pytest.approx(2.6914099726043785, rel=1e-9)
