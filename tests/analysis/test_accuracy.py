"""Intervals of accuracies hold as often as they say, and two models are compared image by image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from colgraph import analysis as an


def answers(rng, seeds, images, *, of_seed=0.0, of_image=0.0, base=0.7):
    """Right answers of runs that differ, about images that differ in how hard they are."""
    easy = base + of_seed * rng.normal(size=(seeds, 1)) + of_image * rng.choice([-1, 1], size=images)
    return rng.random((seeds, images)) < np.clip(easy, 0, 1)


def test_one_run_has_wilsons_interval():
    right = np.arange(360) < 345
    result = an.accuracy(right)
    known = stats.binomtest(345, 360).proportion_ci(method="wilson")
    assert np.allclose(result.interval, [known.low, known.high])
    assert np.isnan(result.seeds_variance)
    assert np.isnan(result.seeds_only).all()
    assert result.images_variance == pytest.approx(345 / 360 * 15 / 360 / 359)


def test_seeds_that_agree_do_not_hide_the_test_sample():
    """Five runs that are right about the same 97.5% of 360 images: over seeds alone the interval has no width."""
    right = np.tile(np.arange(360) < 351, (5, 1))
    result = an.accuracy(right)
    assert np.ptp(result.seeds_only) == 0
    assert np.ptp(result.interval) == pytest.approx(np.ptp(an.accuracy(right[0]).interval), rel=0.02)
    perfect = an.accuracy(np.ones((5, 360), bool))
    assert perfect.interval[1] == 1
    assert 0.98 < perfect.interval[0] < 1


@pytest.mark.parametrize(("of_seed", "of_image"), [(0.0, 0.0), (0.05, 0.0), (0.0, 0.28), (0.04, 0.28)])
def test_intervals_hold_as_often_as_they_say(of_seed, of_image):
    rng = np.random.default_rng(0)
    held, alone = [], []
    for _ in range(400):
        result = an.accuracy(answers(rng, 5, 300, of_seed=of_seed, of_image=of_image))
        held.append(result.interval[0] <= 0.7 <= result.interval[1])
        alone.append(result.seeds_only[0] <= 0.7 <= result.seeds_only[1])
    assert np.mean(held) > 0.93
    if of_image:
        assert np.mean(alone) < np.mean(held) - 0.02, "seeds alone leave the test sample out"


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(2, 40), st.floats(0.0, 1.0))
def test_intervals_stay_within_bounds(seed, seeds, images, base):
    result = an.accuracy(np.random.default_rng(seed).random((seeds, images)) < base)
    assert 0 <= result.interval[0] <= result.value + 1e-12
    assert result.value - 1e-12 <= result.interval[1] <= 1
    assert result.interval[0] < result.interval[1]


def test_mcnemar_by_hand():
    first, second = np.zeros(100, bool), np.zeros(100, bool)
    first[:12], second[10:14] = True, True
    p = an.mcnemar(first, second)
    assert p == pytest.approx(stats.binomtest(10, 12).pvalue)
    assert an.mcnemar(first, first) == 1
    result = an.accuracy_difference(first, second)
    assert (result.only_first, result.only_second) == (10, 2)
    assert result.value == pytest.approx(0.08)
    assert result.p_value == p
    assert result.test == "McNemar's exact test"
    assert result.interval[0] < 0.08 < result.interval[1]
    assert result.summary()["p_value"] == p


def test_pairs_are_known_better_than_either():
    """Two runs that are right about nearly the same images: unpaired intervals overlap, the paired one is clear."""
    rng = np.random.default_rng(1)
    second = rng.random(2000) < 0.6
    first = second | (rng.random(2000) < 0.03)
    a, b = an.accuracy(first), an.accuracy(second)
    assert a.interval[0] < b.interval[1]
    result = an.accuracy_difference(first, second)
    assert result.interval[0] > 0
    assert result.p_value < 0.001
    same = an.accuracy_difference(second, first)
    assert same.value == -result.value
    assert np.allclose(same.interval, -result.interval[::-1], atol=1e-3)


def test_a_difference_that_is_the_same_for_every_image_is_no_chance():
    """There is no error to divide by, or nothing but rounding: all images on one side are what a sign test is for."""
    right = an.accuracy_difference(np.ones((2, 50), bool), np.zeros((2, 50), bool))
    scores = an.accuracy_difference(np.full((1, 50), 0.9), np.full((1, 50), 0.1))
    for result in (right, scores):
        assert result.test == "exact sign test"
        assert result.p_value == pytest.approx(0.5**49)
        assert result.interval == pytest.approx(result.value)
    same = an.accuracy_difference(np.full((1, 50), 0.9), np.full((2, 50), 0.3 * 3))
    assert same.p_value == 1
    assert an.accuracy_difference(np.ones((2, 9), bool), np.ones((2, 9), bool)).p_value == 1


def test_p_values_too_small_for_a_number_are_not_zero():
    right, wrong = np.ones((2, 3000), bool), np.zeros((2, 3000), bool)
    assert 0 < an.accuracy_difference(right, wrong).p_value < 1e-300
    assert 0 < an.mcnemar(right[0], wrong[0]) < 1e-300
    noise = 1e-6 * np.random.default_rng(0).normal(size=(2, 3000))
    found = an.accuracy_difference(0.9 + noise[0], 0.1 + noise[1])
    assert found.test == "Student's t"
    assert 0 < found.p_value < 1e-300


@pytest.mark.parametrize("seeds", [1, 4])
def test_no_difference_is_no_finding(seeds):
    rng = np.random.default_rng(2)
    p, held = [], []
    for _ in range(200):
        easy = np.clip(0.7 + 0.25 * rng.choice([-1, 1], size=200), 0, 1)
        one, other = (
            rng.random((seeds, 200)) < np.clip(easy + 0.03 * (seeds > 1) * rng.normal(size=(seeds, 1)), 0, 1)
            for _ in range(2)
        )
        result = an.accuracy_difference(one, other, resamples=500)
        p.append(result.p_value <= 0.05)
        held.append(result.interval[0] <= 0 <= result.interval[1])
    assert np.mean(p) < 0.075
    assert np.mean(held) > 0.925


def test_predictions_are_joined_by_image():
    rng = np.random.default_rng(3)
    keys, label = np.array([f"{i:03x}" for i in range(50)]), rng.integers(0, 3, 50)
    first = {"image": keys, "label": label, "prediction": label.copy(), "classes": np.array(["a", "b", "c"])}
    first["prediction"][:10] = (label[:10] + 1) % 3
    order, other = rng.permutation(50), np.array([2, 0, 1])
    second = {
        "image": keys[order],
        "label": other[label[order]],
        "prediction": other[label[order]],
        "classes": np.array(["b", "c", "a"]),
    }
    right = an.join_predictions(first, second)
    assert right.shape == (2, 50)
    assert right.sum(1).tolist() == [40, 50]
    assert an.accuracy_difference(*right).only_second == 10
    assert not right[0][np.argsort(keys, kind="stable")][:10].any()


def test_predictions_that_do_not_belong_together():
    plain = {"image": np.array(["x", "y", "z"]), "label": np.array([0, 1, 0]), "prediction": np.array([0, 0, 0])}
    for change, message in (
        ({"image": np.array(["x", "y", "w"])}, "different images (3 and 3), the first is image 'w'"),
        ({"label": np.array([0, 0, 0])}, "image 'y' is a '1' in predictions 0, and a '0' in predictions 1"),
        ({"label": np.array([0, 1])}, r"predictions 1: image, label and prediction must be of one length"),
    ):
        with pytest.raises(ValueError) as error:
            an.join_predictions(plain, plain | change)
        assert message in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="predictions 0 have no 'prediction'"):
        an.join_predictions({"image": ["x"], "label": [0]})
    for call, message in (
        (lambda: an.accuracy(np.zeros(5, int)), "correct must be booleans, or finite scores"),
        (lambda: an.accuracy(np.zeros((0, 5), bool)), "correct must be booleans"),
        (lambda: an.mcnemar(np.ones(4, bool), np.ones(5, bool)), "same images, got 4 and 5"),
        (lambda: an.mcnemar(np.ones((2, 4), bool), np.ones(4, bool)), "one run each, got 2 and 1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


# ---------------------------------------------------------------------- many measures


def test_corrections_by_hand():
    """The example of Holm and of Benjamini and Hochberg worked by hand, with a measure that has no p-value."""
    found = an.correct_p_values({"a": 0.01, "b": 0.04, "c": None, "d": 0.03, "e": 0.005})
    assert found.count == 4
    assert found.names == ("a", "b", "c", "d", "e")
    assert found.holm[[0, 1, 3, 4]] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert found.benjamini_hochberg[[0, 1, 3, 4]] == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert np.isnan([found.p[2], found.holm[2], found.benjamini_hochberg[2]]).all()
    assert an.correct_p_values({}).count == 0
    with pytest.raises(ValueError, match=r"got 1\.2 for 'a'"):
        an.correct_p_values({"a": 1.2})


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_corrections_keep_the_order(p):
    found = an.correct_p_values({str(i): value for i, value in enumerate(p)})
    assert (found.p <= found.benjamini_hochberg + 1e-15).all()
    assert (found.benjamini_hochberg <= found.holm + 1e-12).all()
    assert (found.holm <= np.minimum(1, len(p) * found.p) + 1e-12).all()
    order = np.argsort(found.p, kind="stable")
    assert (np.diff(found.holm[order]) >= 0).all()


def test_intervals_of_many_measures_hold_together():
    rng = np.random.default_rng(4)
    together = []
    for _ in range(200):
        x = rng.normal(size=(24, 5))
        wide = np.array([an.mean_interval(row, measures=24) for row in x])
        together.append(((wide[:, 0] < 0) & (wide[:, 1] > 0)).all())
    assert np.mean(together) > 0.92
    one = an.mean_interval([1.0, 2.0, 4.0])
    assert one == pytest.approx(stats.t.interval(0.95, 2, np.mean([1, 2, 4]), stats.sem([1, 2, 4])))
    assert np.isnan(an.mean_interval([1.0])).all()
    with pytest.raises(ValueError, match="measures must be an integer of at least 1"):
        an.mean_interval([1.0, 2.0], measures=0)
