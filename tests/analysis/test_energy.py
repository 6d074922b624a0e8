"""Energy, by hand and against networks."""

from __future__ import annotations

import numpy as np
import pytest

from colgraph.analysis.energy import energy


def test_energy_by_hand():
    activity = np.array([[1.0, -2.0, 3.0], [0.0, 1.0, -1.0]])
    edges, weights = np.array([[0, 1, 2], [1, 2, 2]]), np.array([0.5, -1.0, 2.0])
    result = energy(activity, edges, weights, permutations=10)
    sent = np.array([[0, 0.5, 2 + 6], [0, 0, 1 + 2]])
    by_hand = np.abs(activity) / 3 + 2 / 3 * sent
    assert np.allclose(result.map, by_hand.mean(0))
    assert result.value == pytest.approx(by_hand.mean())
    per_stimulus = energy(activity, edges, np.stack([weights, weights]), permutations=10)
    assert per_stimulus.value == pytest.approx(result.value)
    assert np.allclose(per_stimulus.null, result.null)
    channels = energy(np.stack([activity, activity], 2), edges, weights, permutations=2)
    assert channels.value == pytest.approx(2 * result.value)
    with pytest.raises(ValueError, match="3 stimuli, but activity has 2"):
        energy(activity, edges, np.stack([weights] * 3))
    with pytest.raises(ValueError, match="heard must be"):
        energy(activity, edges, weights, heard=activity[:, :2])


def test_energy_null_of_stimulus_wise_weights():
    """Shuffling by hand, per stimulus, gives the same mean over many shuffles."""
    rng = np.random.default_rng(2)
    n, k, s = 10, 4, 6
    edges = np.stack([np.concatenate([rng.choice(n, k, replace=False) for _ in range(n)]), np.repeat(np.arange(n), k)])
    activity, weights = rng.normal(size=(s, n)), np.repeat(rng.random((1, n * k)), s, 0)
    result = energy(activity, edges, weights, permutations=400)
    even = np.repeat(weights.reshape(s, n, k).mean(2), k, 1)
    assert result.null.mean() == pytest.approx(energy(activity, edges, even, permutations=2).value, rel=0.02)
