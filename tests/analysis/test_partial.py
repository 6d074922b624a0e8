"""What the input arranges is no finding; what a network arranges beyond it is."""

from __future__ import annotations

import numpy as np
import pytest

from colgraph import analysis as an
from colgraph.analysis.partial_correlation import _similarity


def grid(rows, cols):
    y, x = np.indices((rows, cols))
    return np.stack([x.ravel(), y.ravel()], 1).astype(float)


def smooth_field(rng, positions, stimuli, scale):
    """Gaussian fields whose correlation falls with distance."""
    distance = np.linalg.norm(positions[:, None] - positions, axis=2)
    return (
        rng.normal(size=(stimuli, len(positions)))
        @ np.linalg.cholesky(np.exp(-((distance / scale) ** 2)) + 1e-6 * np.eye(len(positions))).T
    )


def test_partial_correlation_by_hand():
    rng = np.random.default_rng(0)
    positions = rng.random((12, 2))
    x, y = rng.normal(size=(30, 12)), rng.normal(size=(30, 12))
    result = an.partial_correlation_by_distance(x + y, y, positions, permutations=5)
    first, second = np.triu_indices(12, 1)
    distance = np.linalg.norm(positions[first] - positions[second], axis=1)
    r, g = (np.corrcoef(each.T)[first, second] for each in (x + y, y))
    near = 1 / (distance / an.sample_pairs(positions).spacing + 1)
    c = np.corrcoef([r, near, g])
    expected = (c[0, 1] - c[0, 2] * c[1, 2]) / np.sqrt((1 - c[0, 2] ** 2) * (1 - c[1, 2] ** 2))
    assert result.value == pytest.approx(expected)
    assert result.plain == pytest.approx(c[0, 1])
    assert result.input_value == pytest.approx(c[1, 2])
    assert result.with_input == pytest.approx(c[0, 2])
    assert result.plain == pytest.approx(an.correlation_by_distance(x + y, positions, permutations=2).value)
    assert result.summary()["input"] == result.input_value
    assert (result.columns, result.pairs) == (12, 66)


@pytest.mark.parametrize("channels", [1, 3])
def test_leaving_stimuli_out_is_what_it_says(channels):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(23, 6, channels)) * rng.gamma(2, size=(6, channels)) + 5
    label = np.arange(23) % 5
    first, second = np.triu_indices(6, 1)
    whole, left_out = _similarity(x, label, first, second, 0)
    z = (x - x.mean(0)) / x.std(0)
    assert whole[first, second] == pytest.approx((z[:, first] * z[:, second]).mean((0, 2)))
    for group in range(5):
        kept = z[label != group] - z[label != group].mean(0)
        size = (kept**2).sum((0, 2))
        expected = (kept[:, first] * kept[:, second]).sum((0, 2)) / np.sqrt(size[first] * size[second])
        assert np.allclose(left_out[group], expected, atol=1e-10)


def test_what_the_input_arranges_is_no_finding():
    """Responses that follow the patch, with noise of their own: topographic as they are, not given the patch."""
    positions, p = grid(8, 8), []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        seen = smooth_field(rng, positions, 60, 2.5)
        x = seen + 0.7 * rng.normal(size=seen.shape)
        plain = an.correlation_by_distance(x, positions, permutations=20)
        result = an.partial_correlation_by_distance(x, seen, positions, permutations=99, seed=seed)
        assert plain.value > 0.5
        assert abs(result.value) < 0.15
        p.append(result.p_value)
    assert np.mean(p) > 0.2
    seen, own = smooth_field(rng, positions, 250, 2.5), smooth_field(rng, positions, 250, 1.5)
    result = an.partial_correlation_by_distance(seen + own, seen, positions, permutations=99)
    assert result.value > 0.2
    assert result.interval[0] > 0
    assert result.p_value <= 0.01


def test_columns_that_see_nothing_are_left_out():
    rng = np.random.default_rng(2)
    positions = grid(6, 6)
    x, pixels = rng.normal(size=(20, 36, 4)), rng.normal(size=(20, 36, 9))
    pixels[:, :6] = 0
    pixels[:, :, 0] = 0.5  # a pixel that never changes is no reason to leave a column out
    x[:, 35] = 1.0
    result = an.partial_correlation_by_distance(x, pixels, positions, permutations=5)
    assert result.columns == 29
    part = an.partial_correlation_by_distance(x[:, 6:35], pixels[:, 6:35], positions[6:35], permutations=5, unit=1.0)
    assert result.value == pytest.approx(part.value)
    given_pairs = an.partial_correlation_by_distance(
        x, pixels, positions, pairs=an.sample_pairs(positions), permutations=5
    )
    assert given_pairs.value == pytest.approx(result.value)


def test_groups_keep_what_the_patch_arranges():
    rng = np.random.default_rng(3)
    places = grid(5, 5)
    positions, patch = np.concatenate([places, places + np.array([0.3, 0.0])]), np.tile(np.arange(25), 2)
    x = smooth_field(rng, places, 40, 2.0)[:, patch] + 0.3 * rng.normal(size=(40, 50))
    seen = rng.normal(size=(40, 50))
    options = {"permutations": 99}
    free = an.partial_correlation_by_distance(x, seen, positions, **options)
    held = an.partial_correlation_by_distance(x, seen, positions, groups=patch, **options)
    assert free.p_value <= 0.02 < held.p_value
    with pytest.raises(ValueError, match="no two of the 50 columns share a group"):
        an.partial_correlation_by_distance(x, seen, positions, groups=np.arange(50))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y, p: (x, y[:-1], p), "number of stimuli must agree"),
        (lambda x, y, p: (x, y[:, :-1], p), "responses are of 16 columns, inputs of 15"),
        (lambda x, y, p: (x, 0 * y, p), "0 of 16 columns both answer and see something"),
        (lambda x, y, p: (x, y, p[:-1]), "positions are for 15 columns"),
        (lambda x, y, p: (x, y * np.nan, p), "inputs must be finite"),
        (lambda x, y, p: (x[:, :1] + 0 * x, y, p), "responses are equally alike in all 120 pairs"),
    ],
)
def test_bad_inputs_are_one_line(change, message):
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(2, 10, 16))
    with pytest.raises(ValueError, match=message) as error:
        an.partial_correlation_by_distance(*change(x, y, grid(4, 4)), permutations=3)
    assert "\n" not in str(error.value)
