"""What looks like a result and is none: answers of NaN, labels of other classes, tables in another order, twins."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import pdist
from torch import nn

from colgraph import analysis as an


class Fixed(nn.Module):
    """The same logits for every image."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.as_tensor(logits))

    def forward(self, x):
        return self.logits.expand(len(x), -1)


@pytest.fixture
def images(rng):
    return rng.random((8, 1, 16, 16)).astype(np.float32), np.array([0, 0, 0, 0, 0, 0, 1, 1])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def corrupted(net, images, labels):
    return an.corruption_errors(
        net, images, labels, corruptions=["gaussian_noise"], severities=[1], progress=False
    ).value


def test_answers_of_nan_are_no_answers(images):
    with pytest.raises(ValueError, match="answer to image 0 is NaN"):
        corrupted(Fixed([0.0, np.nan, 1.0]), *images)
    assert corrupted(Fixed([1.0, 0.0, 0.0]), *images) == pytest.approx(0.25)


@pytest.mark.parametrize(("shift", "wrong"), [(2, "3 for image 6"), (-1, "-1 for image 0")])
def test_labels_are_classes_of_the_network(images, shift, wrong):
    pixels, labels = images
    with pytest.raises(ValueError, match=f"classes of the network, 0 to 2, got {wrong}"):
        corrupted(Fixed([1.0, 0.0, 0.0]), pixels, labels + shift)


def test_named_rows_are_in_the_same_order(rng):
    first = pd.DataFrame(rng.normal(size=(12, 8)), index=[f"image {i}" for i in range(12)])
    second = first.iloc[::-1]
    for function in (an.cka, lambda a, b: an.encode(a, b, folds=3), lambda a, b: an.rsa(square(a), square(b))):
        with pytest.raises(ValueError, match="same order, row 0 is 'image 0'"):
            function(first, second)
    labels = pd.Series([0, 1] * 6, index=second.index)
    with pytest.raises(ValueError, match="same order"):
        an.category_selectivity(first, labels, 0)
    assert an.cka(first, first.copy()).value == pytest.approx(1)
    # Names of another kind, and numbers that pandas gives by itself, say nothing of an order.
    for other in (first.set_axis([f"row {i}" for i in range(12)]), first.reset_index(drop=True), first.to_numpy()):
        assert an.cka(first, other).value == pytest.approx(1)


def square(table):
    matrix = np.zeros((len(table), len(table)))
    matrix[np.triu_indices(len(table), 1)] = an.rdm(table)
    return pd.DataFrame(matrix + matrix.T, index=table.index, columns=table.index)


def test_stimuli_shown_twice_are_said_to_be(rng):
    features, targets = np.repeat(rng.normal(size=(15, 20)), 2, 0), rng.normal(size=(30, 2))
    with pytest.warns(UserWarning, match="30 of 30 stimuli have the features of another .such as"):
        an.encode(features, targets, folds=3, permutations=5)
    an.encode(features, targets, folds=3, groups=np.repeat(range(15), 2), permutations=5)


@pytest.mark.parametrize("height", [0.1, 0.7, 1.0])
def test_selectivity_of_a_side_that_does_not_vary_is_infinite(rng, height):
    label = np.r_[np.zeros(6, int), np.ones(14, int)]
    responses = np.c_[(label == 0) * height, rng.normal(size=(20, 3))]
    with np.errstate(invalid="ignore"):
        found = an.category_selectivity(responses, label, 0, permutations=5)
    assert found.d_prime[0] == np.inf
    assert np.isfinite(found.d_prime[1:]).all()


def test_one_region_beside_a_negative_one_is_said(rng):
    edges = np.stack([rng.integers(0, 20, 60), rng.integers(20, 40, 60)])
    regions = np.repeat([-1, 1], 20)
    with pytest.warns(UserWarning, match="20 columns have the label -1, and negative ones are in no region"):
        an.communicability(edges, columns=40, nulls=2, regions=regions)


def test_distances_of_near_stimuli_beside_a_far_one(rng):
    x = rng.normal(size=(12, 30))
    x[1] = x[0] + 1e-3 * rng.normal(size=30)
    x[2] *= 1e4
    np.testing.assert_allclose(an.rdm(x, "euclidean"), pdist(x), rtol=1e-9)
    twice = np.repeat(rng.normal(size=(6, 50)), 2, 0)
    assert len(np.unique(an.rdm(twice, "euclidean"))) == 1 + 15  # nothing, and each pair of six
