"""Wiring, edge lengths, strengths and graph structure, against networkx and planted graphs."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from colgraph.analysis.connectivity import edge_lengths, strengths, wiring
from colgraph.analysis.graphs import communicability, modularity
from colgraph.analysis.small_worlds import rich_club, small_world
from colgraph.analysis.undirected import Undirected, rewire


def random_edges(n=40, k=6, seed=0):
    """Each column listens to itself and to k others."""
    rng = np.random.default_rng(seed)
    source = np.concatenate([np.append(rng.choice(np.delete(np.arange(n), i), k, replace=False), i) for i in range(n)])
    return np.stack([source, np.repeat(np.arange(n), k + 1)])


def softmax_per_target(score, edges):
    weight = np.exp(score)
    return weight / np.bincount(edges[1], weight)[edges[1]]


def as_array(graph):
    return np.array(list(graph.edges)).T


@pytest.fixture
def listening():
    edges = random_edges()
    positions = np.random.default_rng(1).random((40, 2))
    distance = np.linalg.norm(positions[edges[0]] - positions[edges[1]], axis=1)
    return softmax_per_target(-8 * distance, edges), edges, distance, positions


def test_wiring_is_the_sum(listening):
    attention, edges, distance, positions = listening
    result = wiring(attention, edges, distance, positions=positions, permutations=300)
    by_hand = [sum(attention[e] * distance[e] for e in np.flatnonzero(edges[1] == i)) for i in range(40)]
    assert np.allclose(result.map, by_hand)
    assert result.value == pytest.approx(np.mean(by_hand))
    assert result.interval[0] < result.value < result.interval[1]
    assert result.value < result.null.min(), "attention that likes short edges listens through less wire"
    even = np.bincount(edges[1], distance) / 7
    assert result.null.mean() == pytest.approx(even.mean(), rel=0.02), "by chance every edge is as likely"


def test_uniform_attention_is_its_own_null(listening):
    _, edges, distance, _ = listening
    result = wiring(np.full(280, 1 / 7), edges, distance, permutations=50)
    assert np.allclose(result.null, result.value)
    assert result.p_value == 1


def test_samples_give_the_interval(listening):
    attention, edges, distance, _ = listening
    rng = np.random.default_rng(2)
    rows = np.stack([softmax_per_target(np.log(attention) + rng.normal(size=280), edges) for _ in range(30)])
    result = wiring(rows, edges, distance, permutations=20)
    per_row = [wiring(row, edges, distance, permutations=1).value for row in rows]
    assert result.value == pytest.approx(np.mean(per_row))
    reach = 2.09 * np.std(per_row, ddof=1) / np.sqrt(30)
    assert np.ptp(result.interval) / 2 == pytest.approx(reach, rel=0.5)


def test_edge_lengths_before_and_after(listening):
    attention, edges, distance, positions = listening
    real = edges[0] != edges[1]
    result = edge_lengths(attention, edges, distance, before=np.full(280, 1 / 7), positions=positions, bins=10)
    assert result.share.sum() == pytest.approx(1)
    assert result.share_edges == pytest.approx(result.share_before)
    assert result.value == pytest.approx((attention * distance)[real].sum() / attention[real].sum())
    assert result.value_before == pytest.approx(distance[real].mean())
    assert result.value < result.value_before
    counts = np.histogram(distance[real], result.bin_edges)[0]
    assert result.share_edges == pytest.approx(counts / real.sum())
    assert result.p_value < 0.01


def test_strengths_of_a_star():
    """Everyone listens to column 0 only: n - 1 for the hub, 0 for the rest."""
    n = 10
    edges = np.stack([np.zeros(n - 1, int), np.arange(1, n)])
    result = strengths(np.ones(n - 1), edges, columns=n, permutations=5)
    assert result.out_strength.tolist() == [9] + [0] * 9
    assert result.in_strength.tolist() == [0] + [1] * 9
    assert result.value == pytest.approx(3.0)  # mean 0.9, standard deviation 2.7


def test_strength_to_oneself_does_not_count(listening):
    attention, edges, *_ = listening
    result = strengths(attention, edges, permutations=5)
    own = attention[edges[0] == edges[1]]
    assert result.in_strength == pytest.approx(1 - own)
    assert result.out_strength.sum() == pytest.approx(result.in_strength.sum())


def test_bad_listening(listening):
    attention, edges, distance, _ = listening
    for arguments, message in (
        ((attention[:-1], edges, distance), "one entry per edge"),
        ((attention, edges, distance[:-1]), "one entry per edge"),
        ((-attention, edges, distance), "not be negative"),
        ((0 * attention, edges, distance), "zero on every edge"),
        ((attention[None, None], edges, distance), r"\[samples, E\]"),
        ((attention, edges.T, distance), r"shape \[2, E\]"),
        ((np.full(280, np.nan), edges, distance), "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            wiring(*arguments)
    alone = np.tile(np.arange(5), (2, 1))
    for function in (strengths, lambda a, e: edge_lengths(a, e, np.zeros(5))):
        with pytest.raises(ValueError, match="between different columns"):
            function(np.ones(5), alone)


# ---------------------------------------------------------------------- random graphs


@pytest.mark.parametrize("directed", [True, False])
def test_rewiring_keeps_degrees(directed):
    graph = nx.gnp_random_graph(60, 0.1, seed=3, directed=directed)
    edges = as_array(graph)
    other = rewire(edges, 60, directed=directed, seed=1)
    rewired = (nx.DiGraph if directed else nx.Graph)()
    rewired.add_nodes_from(range(60))
    rewired.add_edges_from(other.T.tolist())
    assert rewired.number_of_edges() == graph.number_of_edges(), "no edge twice"
    assert nx.number_of_selfloops(rewired) == 0
    if directed:
        assert dict(rewired.in_degree) == dict(graph.in_degree)
        assert dict(rewired.out_degree) == dict(graph.out_degree)
    else:
        assert dict(rewired.degree) == dict(graph.degree)
    same = set(map(tuple, edges.T.tolist())) & set(map(tuple, other.T.tolist()))
    assert len(same) < 0.3 * edges.shape[1], "and most edges are others"
    assert not np.array_equal(other, rewire(edges, 60, directed=directed, seed=2))


def test_rewiring_keeps_self_loops_and_refuses_doubles():
    edges = random_edges()
    other = rewire(edges, 40)
    loops = edges[0] == edges[1]
    assert (other[:, loops] == edges[:, loops]).all()
    assert (other[0] != other[1])[~loops].all()
    with pytest.raises(ValueError, match="more than once"):
        rewire(np.array([[0, 0, 1], [1, 1, 2]]), 3)


def test_rewiring_destroys_a_lattice():
    lattice = as_array(nx.watts_strogatz_graph(200, 8, 0))
    before, after = (
        nx.average_clustering(nx.Graph(e.T.tolist())) for e in (lattice, rewire(lattice, 200, directed=False))
    )
    assert before == pytest.approx(9 / 14)
    assert after < 0.1


# ---------------------------------------------------------------------- modules, small world, communicability


def test_planted_communities_are_found():
    graph = nx.planted_partition_graph(4, 20, 0.6, 0.02, seed=4)
    result = modularity(as_array(graph), nulls=5)
    planted = np.repeat(np.arange(4), 20)
    assert len(np.unique(result.module)) == 4
    assert len(np.unique(result.module * 4 + planted)) == 4, "the partition is the planted one"
    communities = [set(np.flatnonzero(result.module == m)) for m in range(4)]
    assert result.value == pytest.approx(nx.community.modularity(graph, communities))
    assert result.value > result.null.max() + 0.2
    assert result.null.mean() > 0.1, "random graphs have modules, too"


def test_modularity_takes_weights():
    edges = random_edges()
    weight = np.random.default_rng(5).random(280)
    result = modularity(edges, weight, nulls=2)
    graph = nx.Graph()
    graph.add_nodes_from(range(40))
    for (a, b), w in zip(edges.T.tolist(), weight, strict=True):
        if a != b:
            graph.add_edge(a, b, weight=graph.get_edge_data(a, b, {"weight": 0})["weight"] + w)
    communities = [set(np.flatnonzero(result.module == m)) for m in np.unique(result.module)]
    assert result.value == pytest.approx(nx.community.modularity(graph, communities))


def test_small_world_agrees_with_networkx():
    graph = nx.watts_strogatz_graph(150, 8, 0.05, seed=6)
    result = small_world(as_array(graph), nulls=5)
    assert result.clustering == pytest.approx(nx.average_clustering(graph))
    assert result.path_length == pytest.approx(nx.average_shortest_path_length(graph))
    assert result.density == pytest.approx(nx.density(graph))
    assert result.connected == 1
    assert result.value > 3
    assert result.interval[0] <= result.value <= result.interval[1]
    assert result.value > result.null.max()


def test_a_random_graph_is_no_small_world():
    result = small_world(as_array(nx.random_regular_graph(10, 200, seed=7)), nulls=8)
    assert result.value == pytest.approx(1, abs=0.2)
    assert result.p_value > 0.02


def test_small_world_of_pieces_and_of_trees():
    pieces = nx.disjoint_union(nx.complete_graph(6), nx.complete_graph(6))
    result = small_world(as_array(pieces), nulls=4)
    assert result.path_length == 1
    assert result.connected == pytest.approx(5 / 11)
    with pytest.raises(ValueError, match="no triangles"):
        small_world(as_array(nx.path_graph(4)), nulls=3)
    with pytest.raises(ValueError, match="at least two edges"):
        small_world(np.array([[0, 1], [0, 0]]))


def listening_graph(n=60, seed=0):
    """Edges in both directions and self-loops, which carry most of the attention."""
    edges = random_edges(n, 14, seed)
    score = np.random.default_rng(seed).normal(size=edges.shape[1]) + 4 * (edges[0] == edges[1])
    return softmax_per_target(score, edges), edges


def test_graphs_are_compared_at_one_density_without_self_loops():
    """However much columns listen to themselves, and however many pairs listen to each other."""
    attention, edges = listening_graph()
    loops = edges[0] == edges[1]
    result = small_world(edges, attention, density=0.1, nulls=3)
    assert result.density == pytest.approx(0.1)
    weight = np.zeros((60, 60))
    weight[edges[0, ~loops], edges[1, ~loops]] = attention[~loops]
    weight += weight.T
    strongest = np.sort(weight[np.triu_indices(60, 1)])[-177:].min()
    graph = nx.Graph(weight >= strongest)
    assert graph.number_of_edges() == 177
    assert result.clustering == pytest.approx(nx.average_clustering(graph))
    assert rich_club(edges, attention, density=0.1, nulls=2).density == pytest.approx(0.1)
    flat = np.where(loops, 0, attention)
    assert small_world(edges, flat, density=0.1, nulls=3).value == result.value, "self-loops carry nothing"
    for density in (0, 0.0005, 0.9, 1.5, -1):
        with pytest.raises(ValueError, match=r"density must be from 0.00113 to 0\.\d+, that of all edges"):
            small_world(edges, attention, density=density)


def test_equal_edges_are_chosen_alike_and_all_over_the_graph():
    edges = as_array(nx.complete_graph(50))
    kept = Undirected.check(edges, None, 50).strongest(0.2)
    again = Undirected.check(edges[:, ::-1], np.full(1225, 0.3), 50).strongest(0.2)
    assert np.array_equal(kept.links, again.links)
    assert len(kept.weight) == 245
    assert abs(kept.links.mean() - 24.5) < 2, "not the first columns"
    nearly = np.random.default_rng(0).uniform(1 - 1e-12, 1, 1225)
    assert np.array_equal(kept.links, Undirected.check(edges, nearly, 50).strongest(0.2).links)


def test_rich_club_agrees_with_networkx():
    graph = nx.barabasi_albert_graph(80, 4, seed=9)
    result = rich_club(as_array(graph), nulls=4, smallest=2)
    expected = nx.rich_club_coefficient(graph, normalized=False)
    assert len(result.degree) > 5
    for degree, members, value in zip(result.degree, result.members, result.coefficient, strict=True):
        assert value == pytest.approx(expected[degree])
        assert members == sum(d > degree for _, d in graph.degree)
    assert np.allclose(result.normalised, result.coefficient / result.coefficient_null.mean(0))
    assert result.value == result.normalised.max()
    assert result.interval[0] <= result.interval[1]
    same = rich_club(as_array(graph), nulls=4)
    assert same.members.min() >= 8, "a tenth of the columns"


def test_a_planted_rich_club_is_found():
    """Hubs that are all joined to each other; and the same degrees without."""
    graph = nx.random_regular_graph(4, 90, seed=1)
    rng = np.random.default_rng(0)
    for hub in range(10):
        graph.add_edges_from((hub, int(other)) for other in rng.choice(np.arange(10, 90), 14, replace=False))
    apart = rich_club(as_array(graph), nulls=10, smallest=8)
    graph.add_edges_from((a, b) for a in range(10) for b in range(a))
    joined = rich_club(as_array(graph), nulls=10, smallest=8)
    assert joined.value > joined.null.max() > 0.9
    assert joined.value > 1.3 * apart.value
    assert joined.p_value < 0.1 < apart.p_value


def test_without_hubs_there_is_no_club():
    with pytest.raises(ValueError, match="no club of 5 or more columns: of 50, 50 have the largest degree, 4"):
        rich_club(as_array(nx.random_regular_graph(4, 50, seed=1)))
    with pytest.raises(ValueError, match="nulls must be"):
        rich_club(as_array(nx.barabasi_albert_graph(30, 3, seed=0)), nulls=1)


def test_shuffled_attention_to_others_leaves_that_to_oneself():
    """Measures without self-loops have a null without them: else what a column hears of itself would land on others."""
    attention, edges = listening_graph()

    loops = edges[0] == edges[1]
    for function in (strengths, lambda a, e, **options: edge_lengths(a, e, np.abs(e[0] - e[1]), **options)):
        whole = function(attention, edges, permutations=30)
        alone = function(attention[~loops], edges[:, ~loops], permutations=200)
        assert whole.value == pytest.approx(alone.value)
        assert whole.null.mean() == pytest.approx(alone.null.mean(), rel=0.03)
        assert whole.null.std() == pytest.approx(alone.null.std(), rel=0.6)


def test_communicability_agrees_with_networkx():
    graph = nx.gnp_random_graph(25, 0.2, seed=8)
    result = communicability(as_array(graph), normalised=False, columns=25, nulls=3)
    expected = nx.communicability_exp(graph)
    assert np.allclose(result.map, [sum(expected[i].values()) for i in range(25)])


def test_communicability_between_regions():
    graph = nx.disjoint_union(nx.complete_graph(5), nx.complete_graph(5))
    result = communicability(as_array(graph), regions=["a"] * 5 + ["b"] * 5, nulls=2)
    # Row sums of the normalised complete graph are 1, so exp has row sums e; nothing crosses.
    assert np.allclose(result.between, np.eye(2) * np.e / 5)
    assert result.value == pytest.approx(np.e)
    assert result.regions == ("a", "b")
    with pytest.raises(ValueError, match="regions must have one entry"):
        communicability(as_array(graph), regions=["a"] * 9)


def test_graph_results_draw_themselves(listening):
    from matplotlib.figure import Figure

    attention, edges, distance, positions = listening
    for result in (
        wiring(attention, edges, distance, positions=positions, permutations=5),
        edge_lengths(attention, edges, distance, before=attention, permutations=5),
        strengths(attention, edges, permutations=5),
        modularity(edges, attention, positions=positions, nulls=2),
        modularity(edges, nulls=2),
        small_world(edges, nulls=2),
        rich_club(edges, nulls=2),
        communicability(edges, positions=positions, nulls=2),
    ):
        ax = Figure().subplots()
        assert result.plot(ax) is ax
        assert ax.get_title()
