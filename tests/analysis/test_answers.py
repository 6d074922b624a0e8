"""Accuracy of columns as a mean over images: counted by hand, and known as well as other images would tell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colgraph import analysis as an
from colgraph.analysis.answers import IGNORED, balanced_scores
from colgraph.data import IGNORED as OF_DATA


def predictions(label, answer, **more):
    label = np.asarray(label)
    image = np.array([f"image{i:03}" for i in range(len(label))])
    return {
        "image": image,
        "label": label,
        "prediction": np.asarray(answer),
        "classes": np.array(["no", "yes"]),
        **more,
    }


def balanced(label, answer):
    return np.mean([(answer[label == k] == k).mean() for k in np.unique(label[label != IGNORED])])


def test_two_images_counted_by_hand():
    assert IGNORED == OF_DATA
    # no: 3 of 4 right, yes: 1 of 2 right. Images add (n / K) ((right - share count) / total) = 1 * ...
    label = [[0, 0, 1, IGNORED], [0, 0, 1, IGNORED]]
    (scores,) = an.join_predictions(predictions(label, [[0, 0, 1, 1], [0, 1, 0, 0]]))
    # As many columns of each class in both: the mean over classes of the share that is right.
    assert scores.tolist() == pytest.approx([(1 + 1) / 2, (0.5 + 0) / 2])
    assert scores.mean() == pytest.approx((3 / 4 + 1 / 2) / 2)
    # no: 1 + 3 columns, 1 + 2 right; yes: 2 + 0, 1 right.
    right, count = np.array([[1, 1], [2, 0]]), np.array([[1, 2], [3, 0]])
    first = 5 / 8 + 2 / 2 * ((1 - 3 / 4 * 1) / 4 + (1 - 1 / 2 * 2) / 2)
    second = 5 / 8 + 2 / 2 * ((2 - 3 / 4 * 3) / 4)
    assert balanced_scores(right, count).tolist() == pytest.approx([first, second])
    with pytest.raises(ValueError, match="no column of any image counts"):
        balanced_scores(0 * right, 0 * count)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(2, 30), st.integers(1, 9))
def test_the_mean_of_scores_is_the_balanced_accuracy(seed, runs, images, columns):
    rng = np.random.default_rng(seed)
    label = rng.choice([0, 1, IGNORED], size=(images, columns), p=[0.3, 0.5, 0.2])
    label[0, 0] = 0
    answers = [np.where(rng.random(label.shape) < 0.8, np.maximum(label, 0), 1) for _ in range(runs)]
    scores = an.join_predictions(*(predictions(label, each) for each in answers))
    assert scores.shape == (runs, images)
    assert scores.mean(1) == pytest.approx([balanced(label, each) for each in answers])


def mazes(rng, images, runs=1, cells=30, base=0.9):
    """Labels of which some images have few of a class and some many, and answers that err at random."""
    share = rng.uniform(0.1, 0.9, size=(images, 1))
    label = (rng.random((images, cells)) < share).astype(int)
    easy = np.clip(base + 0.1 * rng.normal(size=(images, 1)), 0, 1)
    right = rng.random((runs, images, cells)) < easy
    return label, np.where(right, label, 1 - label)


def test_intervals_hold_as_often_as_they_say_and_where_all_is_right_counts_do_not_matter():
    rng = np.random.default_rng(0)
    everything, _ = mazes(rng, 200_000)
    truth = np.clip(0.9 + 0.1 * rng.normal(size=200_000), 0, 1).mean()
    held, wide = [], []
    for _ in range(150):
        label, (answer,) = mazes(rng, 150)
        result = an.accuracy(an.join_predictions(predictions(label, answer)))
        held.append(result.interval[0] <= truth <= result.interval[1])
        wide.append(np.ptp(result.interval))
    assert 0.90 < np.mean(held) < 0.995
    assert np.mean(wide) < 0.05
    label = everything[:300]
    perfect = an.accuracy(an.join_predictions(*[predictions(label, label)] * 3))
    assert perfect.value == perfect.interval[1] == 1
    assert perfect.interval[0] == pytest.approx(an.accuracy(np.ones((3, 300), bool)).interval[0], abs=2e-3)


def test_columns_in_another_order_and_classes_by_other_numbers_are_the_same():
    rng = np.random.default_rng(1)
    label, (answer,) = mazes(rng, 20)
    first = predictions(label, answer)
    order, turned = rng.permutation(30), rng.permutation(20)
    second = predictions(1 - label[:, order], 1 - answer[:, order]) | {"classes": np.array(["yes", "no"])}
    second = {name: value if name == "classes" else value[turned] for name, value in second.items()}
    joined = an.join_predictions(first, second)
    assert np.allclose(joined[0], joined[1])
    result = an.accuracy_difference(*joined)
    assert (result.value, result.p_value, result.test) == (0, 1, "Student's t")
    assert result.summary()["only_first"] is None


def test_pairs_of_scores_are_known_better_than_either():
    rng = np.random.default_rng(2)
    label, (answer,) = mazes(rng, 300, base=0.7)
    better = np.where(rng.random(label.shape) < 0.05, label, answer)
    joined = an.join_predictions(predictions(label, better), predictions(label, answer))
    result = an.accuracy_difference(*joined)
    assert result.value == pytest.approx(balanced(label, better) - balanced(label, answer))
    assert 0 < result.interval[0] < result.value < result.interval[1]
    assert np.ptp(result.interval) < 0.5 * np.ptp(an.accuracy(joined[0]).interval)
    # Over seeds, too.
    several = an.accuracy_difference(np.repeat(joined[:1], 3, 0), joined[1:])
    assert several.value == pytest.approx(result.value)


def test_what_does_not_belong_together_is_refused():
    label = np.array([[0, 1], [1, 1]])
    plain = predictions(label, label)
    scores = {"image": plain["image"], "score": np.array([0.5, 1.0])}
    assert an.join_predictions(scores, scores).tolist() == [[0.5, 1.0]] * 2
    for other, message in (
        (
            predictions(label[:, :1], label[:, :1]),
            r"image 'image000' has columns of each class \[1, 1\] .* \[1, 0\]",
        ),
        (plain | {"classes": np.array(["no", "maybe"])}, "0 are of columns of no, yes, predictions 1 of .* maybe, no"),
        (predictions(label[:, 0], label[:, 0]), "0 are of columns of no, yes, predictions 1 of classes of images"),
        (scores, "0 are of columns of no, yes, predictions 1 of scores"),
        (scores | {"score": np.array([0.5, np.nan])}, "predictions 1: image and score must be numbers"),
        (plain | {"label": label[:, :1]}, "must be of one length"),
    ):
        with pytest.raises(ValueError, match=message):
            an.join_predictions(plain, other)
    with pytest.raises(ValueError, match=r"the mean of the scores is -0\.5: an accuracy lies between 0 and 1"):
        an.accuracy(np.array([-1.0, 0.0]))
    with pytest.raises(ValueError, match="both be right answers, or both scores"):
        an.accuracy_difference(np.ones(3), np.ones(3, bool))
    with pytest.raises(ValueError, match="first must be booleans of shape"):
        an.mcnemar(np.ones(3), np.ones(3))
