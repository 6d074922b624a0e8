"""What RSA can reach, and what is left of it given the input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import squareform

from colgraph import analysis as an

RNG = np.random.default_rng(0)


def test_ten_classes_reach_half():
    """25 images of each of ten classes: 0.511 at most, by the formula and by an ideal network."""
    labels = np.repeat(np.arange(10), 25)
    model = an.category_rdm(labels)
    ideal = np.eye(10)[labels] + 1e-3 * RNG.normal(size=(250, 10))
    result = an.rsa(an.rdm(ideal), model, permutations=3)
    same, pairs = 10 * 25 * 24 / 2, 250 * 249 / 2
    assert result.attainable == pytest.approx(np.sqrt(3 * same * (pairs - same) / (pairs**2 - 1)), abs=1e-9)
    assert result.attainable == pytest.approx(0.511, abs=1e-3)
    assert result.value == pytest.approx(result.attainable, abs=1e-6)
    assert result.summary()["attainable"] == result.attainable


@pytest.mark.parametrize("method", ["spearman", "kendall", "pearson"])
@settings(max_examples=15)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_no_order_of_the_entries_is_above_the_attainable(method, seed, classes):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(14) % classes)
    model, mine = an.category_rdm(labels), an.rdm(rng.normal(size=(14, 6)))
    result = an.rsa(mine, model, method=method, permutations=1)
    assert result.value <= result.attainable + 1e-12
    ordered = np.empty_like(mine)
    ordered[np.argsort(model, kind="stable")] = np.sort(mine)
    assert an.rsa(ordered, model, method=method, permutations=1).value == pytest.approx(result.attainable)


def test_partial_correlation_by_hand():
    a, b, c = (an.rdm(RNG.normal(size=(12, 5))) for _ in range(3))
    a, b = a + c, b + c
    r = np.corrcoef([a, b, c])
    expected = (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
    result = an.rsa(a, b, given=c, method="pearson", permutations=20)
    assert result.value == pytest.approx(expected)
    assert result.interval[0] < result.value < result.interval[1]
    assert np.isnan(result.attainable)
    assert result.summary()["attainable"] is None


def test_what_the_input_explains_is_no_finding():
    """Two networks that share only the pixels: alike as they are, not given the pixels."""
    low, p = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        pixels = rng.normal(size=(40, 30))
        one, other = (an.rdm(np.hstack([pixels, rng.normal(size=(40, 30))])) for _ in range(2))
        assert an.rsa(one, other, permutations=50).p_value < 0.05
        partial = an.rsa(one, other, given=an.rdm(pixels), permutations=99, seed=seed)
        low.append(partial.interval[0] < 0.05)
        p.append(partial.p_value)
    assert np.mean(low) > 0.8
    assert np.mean(p) > 0.2
    shared = rng.normal(size=(40, 30))
    one, other = (an.rdm(np.hstack([pixels, shared, rng.normal(size=(40, 10))])) for _ in range(2))
    assert an.rsa(one, other, given=an.rdm(pixels), permutations=99).p_value <= 0.02


def test_what_cannot_be_given():
    a, b = (an.rdm(RNG.normal(size=(9, 5))) for _ in range(2))
    for options, message in (
        ({"given": a}, "leaves nothing"),
        ({"given": b, "method": "kendall"}, "'spearman' or 'pearson', got 'kendall'"),
        ({"given": b[:-1]}, "given has 35 entries"),
        ({"given": an.rdm(RNG.normal(size=(8, 5)))}, "pairs"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            an.rsa(a, b, permutations=3, **options)
        assert "\n" not in str(error.value)


def test_similarities_are_refused():
    square = squareform(an.rdm(RNG.normal(size=(9, 5))))
    for matrix, diagonal in ((1 - square, "1"), (square + 0.2 * np.eye(9), "0.2")):
        with pytest.raises(ValueError, match=f"{diagonal} on its diagonal.*similarities") as error:
            an.rsa(square, matrix, permutations=3)
        assert "\n" not in str(error.value)
    missing = square.copy()
    np.fill_diagonal(missing, np.nan)
    assert an.rsa(square, missing, permutations=3).value == pytest.approx(1)


def test_it_draws_what_can_be_reached():
    from matplotlib.figure import Figure

    result = an.rsa(an.rdm(RNG.normal(size=(12, 4))), an.category_rdm(np.arange(12) % 3), permutations=20)
    names = result.plot(Figure().subplots()).get_legend_handles_labels()[1]
    assert f"attainable {result.attainable:.3g}" in names
