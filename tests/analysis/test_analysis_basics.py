"""Permutations, jackknife, blocks, pairs, and what a result can do."""

from __future__ import annotations

import json

import matplotlib as mpl
import numpy as np
import pytest
import torch
from scipy import stats

from colgraph.analysis.arrays import as_array, as_labels, as_responses, column_signal, region_names, varying
from colgraph.analysis.dissimilarity import rsa
from colgraph.analysis.pairs import Pairs, bin_pairs, sample_pairs
from colgraph.analysis.result import Result
from colgraph.analysis.stats import (
    batches,
    column_blocks,
    correlate_rows,
    jackknife_interval,
    p_value,
    permuted,
    random_groups,
    spatial_blocks,
)

mpl.use("Agg")


def test_an_index_in_another_order_is_asked_about():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"label": ["a", "b", "c"], "score": [3.0, 1.0, 2.0]})
    shuffled = frame.sort_values("score")
    for take in (lambda f: as_labels(f["label"], 3), lambda f: as_array(f["score"], "scores")):
        with pytest.raises(ValueError, match=r"have an index that is not in order \(it begins with 1\)"):
            take(shuffled)
        assert take(shuffled.sort_index()).tolist() == take(frame).tolist()
    assert as_labels(shuffled["label"].set_axis([12, 7, 9]), 3).tolist() == ["b", "c", "a"], "names of rows"


def test_columns_of_no_region_are_none():
    assert region_names(np.array([-1, 3, 0, -1, 3])).tolist() == [0, 3]
    assert region_names(np.array(["b", "a", "b"])).tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="areas leave all 2 columns in none"):
        region_names(np.array([-1, -1]), "areas")


def test_permutations_are_permutations_and_stay_within():
    label = np.array([2, 0, 2, 1, 0, 0, 1])
    orders = np.stack(list(permuted(300, 7, seed=0, within=label)))
    assert (np.sort(orders, axis=1) == np.arange(7)).all()
    assert (label[orders] == label).all()
    places = np.stack([(orders[:, 1] == i).mean() for i in np.flatnonzero(label == 0)])
    assert np.allclose(places, 1 / 3, atol=0.1), "every member is equally likely in every place"
    assert np.allclose(np.mean(list(permuted(3000, 4, 1)), axis=0), 1.5, atol=0.1)
    assert [len(batch) for batch in batches(permuted(7, 3, 0), 3)] == [3, 3, 1]


def test_p_value_counts_the_value_itself():
    null = np.arange(9.0)
    assert p_value(100.0, null) == pytest.approx(0.1)
    assert p_value(8.0, null) == pytest.approx(0.2)
    assert p_value(0.0, null, "less") == pytest.approx(0.2)
    assert p_value(8.0, null, "two-sided") == pytest.approx(0.3)


def test_what_is_no_number_has_no_p_value():
    for tail in ("greater", "less", "two-sided"):
        assert np.isnan(p_value(float("nan"), np.zeros(99), tail))


@pytest.mark.parametrize("labels", [np.array([1.0, np.nan]), ["a", np.nan], np.array(["a", None], dtype=object)])
def test_missing_labels_are_no_class(labels):
    with pytest.raises(ValueError, match=r"areas must not be missing, 1 of 2 are: the first is .* at 1"):
        as_labels(labels, 2, "areas", "column")


@pytest.mark.parametrize("dtype", ["string", "category", "object", "str"])
def test_missing_labels_of_a_table_are_no_class(dtype):
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match="labels must not be missing, 1 of 2 are"):
        as_labels(pandas.Series(["a", None], dtype=dtype), 2)
    assert as_labels(pandas.Series(["b", "a"], dtype=dtype), 2).tolist() == ["b", "a"]


def test_masked_entries_do_not_count():
    masked = np.ma.masked_greater(np.arange(6.0), 4)
    with pytest.raises(ValueError, match="states must not be masked, 1 of 6 entries are"):
        as_array(masked, "states")
    with pytest.raises(ValueError, match="first must not be masked, 1 of 6 entries are"):
        rsa(masked, np.arange(6.0))
    assert as_array(np.ma.masked_array([1.0, 2]), "states").tolist() == [1, 2]


def test_tensors_of_half_precision():
    values = torch.tensor([1.0, 2.5], dtype=torch.bfloat16, requires_grad=True)
    assert as_array(values, "states").tolist() == [1, 2.5]


def test_labels_may_be_of_any_kind():
    for labels in ([2, 1], ["b", "a"], [True, False], torch.tensor([2, 1])):
        assert len(as_labels(labels, 2)) == 2
    assert as_labels(["nan", "a"], 2).tolist() == ["nan", "a"]  # bread


def test_jackknife_of_a_mean_is_the_t_interval():
    x = np.random.default_rng(0).normal(size=15)
    left_out = (x.sum() - x) / 14
    expected = stats.t.interval(0.95, 14, loc=x.mean(), scale=stats.sem(x))
    assert np.allclose(jackknife_interval(x.mean(), left_out), expected)


def test_jackknife_transforms_stay_in_range():
    assert np.abs(jackknife_interval(0.95, np.array([0.99, 0.9, 0.97, 0.8]), transform="fisher")).max() < 1
    assert jackknife_interval(0.5, np.array([0.1, 0.9, 0.2, 0.7]), transform="log")[0] > 0
    assert np.isnan(jackknife_interval(0.5, np.array([0.5]))).all()


def test_groups_and_blocks_are_even():
    assert np.bincount(random_groups(50, 0)).tolist() == [3] * 10 + [2] * 10
    assert random_groups(7, 0).max() == 6
    positions = np.random.default_rng(1).random((160, 2))
    blocks = spatial_blocks(positions)
    assert np.bincount(blocks).tolist() == [10] * 16
    spread = np.mean([positions[blocks == b].std(0).mean() for b in range(16)])
    assert spread < positions.std(0).mean() / 2, "a block lies together"
    edges = np.stack([np.arange(31), np.arange(1, 32)])
    along = column_blocks(32, edges, None)
    assert np.bincount(along).max() <= 2
    assert (np.abs(np.diff(along)) <= 1).all(), "blocks follow the chain"


def test_correlate_rows_is_numpys():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(4, 30)), rng.normal(size=30)
    assert np.allclose(correlate_rows(x, y), [np.corrcoef(row, y)[0, 1] for row in x])
    assert correlate_rows(np.ones((1, 5)), np.arange(5.0))[0] == 0


def test_small_sheets_give_all_pairs():
    positions = np.random.default_rng(3).random((30, 3))
    pairs = sample_pairs(positions)
    assert len(pairs) == 30 * 29 // 2
    assert pairs.uniform.all()
    assert np.allclose(pairs.distance, np.linalg.norm(positions[pairs.first] - positions[pairs.second], axis=1))


def test_great_circle_of_an_octahedron():
    positions = 2 * np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
    pairs = sample_pairs(positions, metric="great_circle")
    assert np.allclose(np.sort(pairs.distance), [np.pi] * 12 + [2 * np.pi] * 3)
    assert pairs.spacing == pytest.approx(np.pi)
    assert np.allclose(sample_pairs(positions + 1, metric="great_circle").distance, pairs.distance)
    with pytest.raises(ValueError, match="on one sphere"):
        sample_pairs(positions * [1, 1, 2], metric="great_circle")
    with pytest.raises(ValueError, match="did you mean 'euclidean'"):
        sample_pairs(positions, metric="euclidian")


def test_large_sheets_give_a_uniform_sample_and_near_pairs():
    grid = np.stack(np.meshgrid(np.arange(90), np.arange(90)), -1).reshape(-1, 2)
    pairs = sample_pairs(grid, count=20_000, max_columns=3000, seed=5)
    assert len(pairs.columns) <= 3000
    assert len(np.unique(pairs.first * 8100 + pairs.second)) == len(pairs), "no pair twice"
    expected = 0.5214 * 90  # mean distance of two random points of a square
    assert pairs.distance[pairs.uniform].mean() == pytest.approx(expected, rel=0.03)
    assert (pairs.distance <= 1.5).sum() > 1000
    assert (pairs.distance[pairs.uniform] <= 1.5).sum() < 100
    assert pairs.spacing == 1


def test_own_metric_and_own_pairs():
    n = 50
    wrap = lambda i, j: np.minimum((i - j) % n, (j - i) % n).astype(float)  # noqa: E731
    pairs = sample_pairs(np.arange(n), metric=wrap)
    assert pairs.distance.max() == 25
    for first, second, distance in (([0], [0], [1.0]), ([0], [1], [-1.0]), ([0, 1], [1], [1.0])):
        with pytest.raises(ValueError):
            Pairs(np.array(first), np.array(second), np.array(distance), np.ones(len(first), bool), 1.0)


def test_bins_hold_enough_pairs():
    distance = np.concatenate([np.full(3, 1.0), np.linspace(2, 50, 200)])
    index, centres = bin_pairs(distance, 8, least=10)
    counts = np.bincount(index)
    assert counts.min() >= 10
    assert counts.sum() == 203
    assert (np.diff(centres) > 0).all()
    assert np.allclose(centres, [distance[index == b].mean() for b in range(len(counts))])
    with pytest.raises(ValueError, match="two are needed"):
        bin_pairs(np.array([1.0, 2.0, 3.0]), 5)


def test_signals_of_vectors():
    x = np.random.default_rng(4).normal(size=(5, 3, 2)).astype(np.float32)
    assert np.allclose(column_signal(x), np.linalg.norm(x, axis=2))
    assert np.allclose(column_signal(x, 1), x[:, :, 1])
    assert np.allclose(column_signal(torch.from_numpy(x), "mean"), x.mean(2))
    with pytest.raises(ValueError, match="channel must be 0 to 1, got 2"):
        column_signal(x, 2)
    with pytest.raises(ValueError, match="did you mean 'norm'"):
        column_signal(x, "nrom")
    assert np.allclose(column_signal(x, "spread"), x.std(2))
    normed = (x - x.mean(2, keepdims=True)) / x.std(2, keepdims=True)
    with pytest.raises(ValueError, match="as normed states are"):
        column_signal(normed)


def test_varying_ignores_rounding():
    x = np.ones((4, 3), np.float32) * 1000
    x[:, 1] += np.float32(1e-4) * np.arange(4)
    x[:, 2] += np.arange(4)
    assert varying(as_responses(x)).tolist() == [False, False, True]


def result(**changes):
    numbers = {"name": "a number", "value": 2.0, "null": np.arange(10.0) / 10, "interval": np.array([1.5, 2.5])}
    return Result(**(numbers | changes))


def test_a_result_says_what_it_is():
    r = result(unit="mm")
    assert r.p_value == pytest.approx(1 / 11)
    assert r.z == pytest.approx((2 - 0.45) / np.std(np.arange(10) / 10))
    assert "a number: 2 mm [1.5, 2.5]" in repr(r)
    assert json.loads(json.dumps(r.summary(), allow_nan=False))["low"] == 1.5
    bare = result(null=np.empty(0), interval=np.array([np.nan, np.nan]))
    assert np.isnan(bare.p_value)
    assert json.loads(json.dumps(bare.summary(), allow_nan=False))["p_value"] is None
    with pytest.raises(AttributeError):
        r.value = 3.0


def test_a_result_draws_itself():
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    assert result(unit="mm").plot(ax) is ax
    assert ax.get_xlabel() == "a number (mm)"
    assert result().plot().get_title() == "a number"
    mpl.pyplot.close("all")
