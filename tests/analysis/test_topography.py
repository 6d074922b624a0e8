"""Topography against cases whose answer is known: a ring, a checkerboard, a cosine, shuffled maps."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from colgraph.analysis.smoothness import smoothness
from colgraph.analysis.topography import correlation_by_distance, morans_i


def ring(n):
    angle = 2 * np.pi * np.arange(n) / n
    return angle, np.stack([np.cos(angle), np.sin(angle)], 1)


def linear_ring(n=24, stimuli=36):
    """Columns that read a point on a circle through a cosine: correlations are cosines of their angle, exactly."""
    angle, positions = ring(n)
    stimulus = 2 * np.pi * np.arange(stimuli) / stimuli
    return np.cos(stimulus[:, None] - angle), angle, positions


def ring_edges(n):
    i = np.arange(n)
    return np.stack([np.concatenate([i, (i + 1) % n]), np.concatenate([(i + 1) % n, i])])


def grid_edges(rows, cols, periodic=True):
    graph = nx.grid_2d_graph(rows, cols, periodic=periodic)
    edges = np.array([[a * cols + b, c * cols + d] for (a, b), (c, d) in graph.edges])
    return np.concatenate([edges, edges[:, ::-1]]).T


def test_correlation_on_a_ring_is_the_cosine():
    responses, angle, positions = linear_ring()
    result = correlation_by_distance(responses, positions, bins=400, permutations=50)
    chord = 2 * np.sin(np.pi / 24)
    for distance, curve in zip(result.distance, result.curve, strict=True):
        between = 2 * np.arcsin(min(distance * chord / 2, 1))
        assert curve == pytest.approx(np.cos(between), abs=1e-6)
    i, j = np.triu_indices(24, 1)
    near = 1 / (np.linalg.norm(positions[i] - positions[j], axis=1) / chord + 1)
    value = np.corrcoef(np.cos(angle[i] - angle[j]), near)[0, 1]
    assert result.value == pytest.approx(value, abs=1e-9)
    assert result.spatial_loss == pytest.approx((1 - value) / 2)
    assert result.p_value < 0.05
    assert result.spacing == pytest.approx(chord)


def test_leaving_stimuli_out_is_what_it_says():
    from colgraph.analysis.topography import _leave_out_correlations, _standardised

    rng = np.random.default_rng(0)
    x = rng.normal(size=(23, 6))
    groups = np.arange(23) % 5
    first, second = np.triu_indices(6, 1)
    ours = _leave_out_correlations(_standardised(x), first, second, groups)
    for group in range(5):
        assert np.allclose(ours[group], np.corrcoef(x[groups != group].T)[first, second], atol=1e-10)


def test_no_topography_is_no_finding():
    rng = np.random.default_rng(1)
    positions = rng.random((60, 2))
    p = [correlation_by_distance(rng.normal(size=(20, 60)), positions, permutations=99).p_value for _ in range(20)]
    assert min(p) > 0.01 / 2
    assert 0.25 < np.mean(p) < 0.75


def test_the_interval_covers_the_true_curve():
    """Stimuli are a sample: the population's correlation lies within the 95% interval about as often as it says."""
    angle, positions = ring(12)
    population = np.cos(angle[:, None] - angle) * 0.6 + 0.4 * np.eye(12)
    root = np.linalg.cholesky(population)
    rng = np.random.default_rng(2)
    hits = []
    for seed in range(60):
        x = rng.normal(size=(80, 12)) @ root.T
        result = correlation_by_distance(x, positions, bins=400, permutations=1, seed=seed)
        truth = np.array([0.6 * np.cos(2 * np.arcsin(min(d * np.sin(np.pi / 12), 1))) for d in result.distance])
        hits.append((result.curve_interval[0] <= truth) & (truth <= result.curve_interval[1]))
    assert 0.88 < np.mean(hits) <= 1


def test_channels_do_not_depend_on_the_basis():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(30, 20, 4))
    turned = np.stack([x[:, i] @ np.linalg.qr(rng.normal(size=(4, 4)))[0] for i in range(20)], 1)
    positions = rng.random((20, 3))
    a = correlation_by_distance(x, positions, signal="norm", permutations=5)
    b = correlation_by_distance(turned, positions, signal="norm", permutations=5)
    assert a.value == pytest.approx(b.value, abs=1e-9)


@pytest.mark.parametrize("channels", ["same", "all"])
def test_channels_are_units_at_their_columns_place(channels):
    """Against all pairs of units, written out; two units of one column are never a pair."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(30, 12, 3)) + rng.normal(size=(30, 1, 1))
    x[:, 2, 1] = 4.0  # one silent unit
    x[:, :, 2] = x[:, :, 0]  # units of a column that are the same: counted, they would lift all bins
    positions = rng.random((12, 2))
    unit = np.repeat(np.arange(12), 3), np.tile(np.arange(3), 12)
    with np.errstate(invalid="ignore"):
        r = np.nan_to_num(np.corrcoef(x.reshape(30, -1).T))
    i, j = np.triu_indices(12, 1)
    of_pair = {}
    for a, b in zip(*np.triu_indices(36, 1), strict=True):
        if unit[0][a] != unit[0][b] and (channels == "all" or unit[1][a] == unit[1][b]):
            of_pair.setdefault((unit[0][a], unit[0][b]), []).append(r[a, b])
    expected = np.array([np.mean(of_pair[pair]) for pair in zip(i, j, strict=True)])
    found = correlation_by_distance(x, positions, channels=channels, permutations=3, bins=400)
    gap = np.linalg.norm(positions[i] - positions[j], axis=1)
    assert found.value == pytest.approx(np.corrcoef(expected, 1 / (gap / found.spacing + 1))[0, 1], abs=1e-6)
    assert (found.curve * found.pairs_per_bin).sum() == pytest.approx(expected.sum())
    assert found.interval[0] < found.value < found.interval[1]
    flat = correlation_by_distance(x[:, :, :1], positions, channels=channels, permutations=3)
    plain = correlation_by_distance(x[:, :, 0], positions, permutations=3)
    assert flat.value == pytest.approx(plain.value)
    assert np.allclose(flat.null, plain.null, atol=1e-6)
    assert np.allclose(flat.interval, plain.interval)


def test_many_channels_are_drawn(monkeypatch):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(200, 40, 5)).astype(np.float32)
    positions = rng.random((40, 2))
    every = correlation_by_distance(x, positions, permutations=3)
    monkeypatch.setattr("colgraph.analysis.topography._PRODUCTS", 200 * 780 * 2)
    some, again, other = (correlation_by_distance(x, positions, permutations=3, seed=seed) for seed in (0, 0, 1))
    assert some.value == again.value
    assert len({every.value, some.value, other.value}) == 3


def test_large_sheets_are_sampled():
    rng = np.random.default_rng(4)
    positions = rng.random((6000, 2))
    field = np.cos(positions @ rng.normal(size=(2, 40)) * 3)
    result = correlation_by_distance(field.T.astype(np.float32), positions, permutations=20)
    assert result.value > 0.5
    assert result.p_value < 0.1
    assert result.pairs_per_bin.sum() < 200_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, p: (np.where(x == x[3, 2], np.nan, x), p), "finite"),
        (lambda x, p: (x * (np.arange(24) != 5), p), "constant in 1 of 24 columns (5)"),
        (lambda x, p: (np.zeros_like(x), p), "no variance"),
        (lambda x, p: (x, p[:-1]), "positions are for 23 columns"),
        (lambda x, p: (x, np.ones_like(p)), "all equal"),
        (lambda x, p: (x[:2], p), "at least 3 stimuli"),
        (lambda x, p: (x[:, :, None, None], p), "shape"),
        (lambda x, p: (x.astype(str), p), "real numbers"),
    ],
)
def test_bad_responses_are_named(change, message):
    responses, _, positions = linear_ring()
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")) as error:
        correlation_by_distance(*change(responses, positions), permutations=5)
    assert "\n" not in str(error.value)


def test_smoothness_of_a_ramp_around_a_ring():
    """|difference| is the angle between columns: the nearest differ by 2 pi / n, the farthest by pi."""
    angle, positions = ring(40)
    result = smoothness(angle, positions, period=2 * np.pi, bins=4000, permutations=200)
    assert result.value == pytest.approx(1 - 2 / 40, abs=1e-9)
    assert result.p_value < 0.02
    assert result.interval[0] <= result.value <= result.interval[1]


def test_a_shuffled_map_is_not_smooth():
    rng = np.random.default_rng(5)
    result = smoothness(rng.permutation(100.0 * np.arange(400)), rng.random((400, 2)), permutations=200)
    assert result.p_value > 0.01
    assert result.null.mean() > 0, "the maximum over bins lifts the null above zero"


@pytest.mark.parametrize("value", [0.0, 3.5])
def test_a_constant_map_is_refused(value):
    with pytest.raises(ValueError, match="same in all 10 columns"):
        smoothness(np.full(10, value), np.random.default_rng(0).random((10, 2)))


def test_period_makes_both_ends_meet():
    angle, positions = ring(30)
    doubled = angle / 2  # orientation: pi is once around
    open_ended = smoothness(doubled, positions, bins=400, permutations=5)
    closed = smoothness(doubled, positions, period=np.pi, bins=400, permutations=5)
    assert closed.value > open_ended.value
    with pytest.raises(ValueError, match="period must be positive"):
        smoothness(doubled, positions, period=0.0)


def test_morans_i_of_a_checkerboard_is_minus_one():
    rows, cols = np.indices((8, 8))
    result = morans_i(((rows + cols) % 2).ravel(), grid_edges(8, 8), permutations=200)
    assert result.value == pytest.approx(-1)
    assert result.p_value < 0.02


@pytest.mark.parametrize("waves", [1, 3, 7])
def test_morans_i_of_a_cosine_on_a_ring(waves):
    n = 48
    result = morans_i(np.cos(2 * np.pi * waves * np.arange(n) / n), ring_edges(n), permutations=10)
    assert result.value == pytest.approx(np.cos(2 * np.pi * waves / n), abs=1e-12)


def test_morans_i_is_assortativity_on_a_regular_graph():
    graph = nx.random_regular_graph(4, 40, seed=1)
    values = np.random.default_rng(6).normal(size=40)
    nx.set_node_attributes(graph, dict(enumerate(values)), "x")
    edges = np.array(graph.edges).T
    result = morans_i(values, edges, permutations=500)
    assert result.value == pytest.approx(nx.numeric_assortativity_coefficient(graph, "x"), abs=1e-10)
    assert result.null.mean() == pytest.approx(-1 / 39, abs=0.02)


def test_morans_i_weights_and_self_loops():
    edges = ring_edges(20)
    values = np.random.default_rng(7).normal(size=20)
    plain = morans_i(values, edges, permutations=5).value
    loops = np.concatenate([edges, np.tile(np.arange(20), (2, 1))], 1)
    assert morans_i(values, loops, permutations=5).value == pytest.approx(plain)
    assert morans_i(values, edges, weights=np.full(40, 3.0), permutations=5).value == pytest.approx(plain)
    for wrong, message in ((np.ones(39), "one entry per edge"), (np.full(40, -1.0), "not be negative")):
        with pytest.raises(ValueError, match=message):
            morans_i(values, edges, weights=wrong)
    with pytest.raises(ValueError, match="same in all 20"):
        morans_i(np.ones(20), edges)
    with pytest.raises(ValueError, match="below 20"):
        morans_i(values, edges + 1)


def test_seeds_fix_everything():
    responses, angle, positions = linear_ring()
    for run in (
        lambda seed: correlation_by_distance(responses, positions, permutations=20, seed=seed),
        lambda seed: smoothness(angle, positions, permutations=20, seed=seed),
        lambda seed: morans_i(angle, ring_edges(24), permutations=20, seed=seed),
    ):
        assert np.array_equal(run(3).null, run(3).null)
        assert not np.array_equal(run(3).null, run(4).null)
