"""The initial edge bias: its width, on regular and on heavy-tailed graphs, and the edges it leaves without weight."""

import re
import warnings

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import colgraph as cg
from colgraph.locality import DEAD, dead_edges, default_sigma
from colgraph.models.buffers import initial_edge_bias


def heavy(seed=0, n=60, spread=2.5):
    """Strengths over many orders of magnitude, as of streamline counts."""
    rng = np.random.default_rng(seed)
    network = nx.gnp_random_graph(n, 0.3, seed=seed, directed=True)
    for _, _, data in network.edges(data=True):
        data["weight"] = float(np.exp(spread * rng.standard_normal()))
    return network


@pytest.mark.parametrize("metric", ["euclidean", "great_circle", "periodic", "geodesic", "hops"])
def test_sigma_is_two_spacings_wherever_distance_is_measured(metric):
    assert default_sigma(np.array([[0, 1], [1, 0]]), np.array([900.0, 900.0]), 0.5, metric) == 1.0


@pytest.mark.parametrize("neighbors", ["knn:8", "knn:32", "complete"])
@pytest.mark.parametrize("name", ["stack", "sphere", "grid"])
def test_the_bias_of_built_in_geometries_is_what_it_was(name, neighbors):
    options = {"stack": {"widths": [6, 6]}, "sphere": {"subdivisions": 2}, "grid": {"shape": (9, 9)}}[name]
    sheet = cg.build_sheet(name, neighbors=neighbors, **options)
    before = -(sheet.edge_distance**2) / (2 * (2 * sheet.spacing) ** 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.equal(initial_edge_bias(sheet, 1)[:, 0], before)


def test_lengths_of_a_network_set_the_scale():
    for seed in range(3):
        sheet = cg.build_sheet(heavy(seed), weight_is="strength")
        assert (sheet.edge_distance**2 / (8 * sheet.spacing**2)).median() > 10  # in spacings most edges were dead
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            bias = initial_edge_bias(sheet, 1)
        assert -1 < float(bias.median()) < 0
        values = sheet.describe().values
        assert values["dead_edges"] < 0.3 * values["edges"]
        log = cg.build_sheet(heavy(seed), weight_is="strength:-log")
        assert log.describe().values["dead_edges"] == 0


def test_lengths_that_are_commensurate_keep_two_spacings():
    network = cg.build_sheet("grid", shape=(8, 8), neighbors="knn:12").to_networkx()
    del network.graph["metric"]  # as of a graph that says no more than lengths
    sheet = cg.build_sheet(network)
    assert sheet.metric == "given"
    assert sheet.describe().values["sigma"] == 2 * sheet.spacing == 2.0


def test_dead_edges_are_counted_and_warned_of_once():
    sheet = cg.Sheet.from_edges(
        torch.tensor([[0, 1, 2, 0], [1, 1, 1, 2]]), 3, edge_distance=torch.tensor([1.0, 0.0, 60.0, 60.0]), spacing=1.0,
        metric="euclidean",
    )  # fmt: skip
    report = sheet.describe()
    # 2 -> 1 is dead beside 1 -> 1; 0 -> 2 is as long, but all that column 2 hears.
    assert report.values["dead_edges"] == 1
    assert re.search(r"^dead edges +1 \(25\.0%", report, re.M)
    with pytest.warns(UserWarning, match=r"1 of 4 edges of 'custom' \(25.0%\).*locality_sigma.*strength:-log") as seen:
        cg.Columnformer(sheet, dim=4)
    assert len(seen) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cg.Columnformer(sheet, dim=4, edge_bias=None)
        cg.Columnformer(sheet, dim=4, locality_sigma=20)


@pytest.mark.parametrize("metric", ["given", "euclidean"])
def test_lengths_whose_square_overflows_leave_the_model_finite(metric):
    edges, distance = torch.tensor([[0, 2, 1], [1, 1, 1]]), torch.tensor([1e25, 4e25, 1e24])
    sheet = cg.Sheet.from_edges(edges, 3, edge_distance=distance, spacing=1.0, metric=metric)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = cg.Columnformer(sheet, dim=4)
    assert torch.isfinite(model.block.attention.edge_bias).all()
    assert torch.isfinite(model(torch.randn(3, 1, 4))).all()


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-100, 0)), min_size=1, max_size=30))
def test_dead_is_far_below_the_best_of_the_column(edges):
    target, bias = np.array([t for t, _ in edges]), np.array([b for _, b in edges])
    wanted = sum(max(c for u, c in edges if u == t) - b > DEAD for t, b in edges)
    assert dead_edges(target, bias, 5) == wanted
