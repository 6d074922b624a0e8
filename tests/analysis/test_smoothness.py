"""Maps of columns that mean something: masks, preferences that coincide, shuffles within a patch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colgraph import analysis as an

ANGLES = np.tile(np.pi * np.arange(8) / 8, 5)


def grid(rows, cols):
    y, x = np.indices((rows, cols))
    return np.stack([x.ravel(), y.ravel()], 1).astype(float)


def ramp(positions, period=12.0):
    return np.pi * positions[:, 0] / period % np.pi


def tuned(preference, depth):
    """Responses of columns of known preference and depth of tuning."""
    return 1 + depth * np.cos(2 * (ANGLES[:, None] - preference))


def test_columns_that_are_not_selective_do_not_count():
    """A quarter of columns has a smooth map; the others prefer by chance, and hide it."""
    positions = grid(16, 16)
    rng = np.random.default_rng(0)
    strong = rng.random(256) < 0.25
    preference = np.where(strong, ramp(positions), np.pi * rng.random(256))
    found = an.orientation_map(tuned(preference, np.where(strong, 0.8, 0.01)), ANGLES, permutations=5)
    mask = found.selective(share=float(strong.mean()))
    assert np.array_equal(mask, strong)
    options = {"period": np.pi, "permutations": 50}
    whole = an.smoothness(found.preference, positions, **options)
    chosen = an.smoothness(found.preference, positions, mask=mask, **options)
    assert whole.value < 0.3 < 0.7 < chosen.value
    assert chosen.columns == strong.sum()
    part = an.smoothness(found.preference[mask], positions[mask], **options)
    assert chosen.resultant == pytest.approx(part.resultant)
    assert chosen.spacing == whole.spacing, "distances keep their unit whoever takes part"
    given_pairs = an.smoothness(found.preference, positions, mask=mask, pairs=an.sample_pairs(positions), **options)
    assert given_pairs.value == pytest.approx(chosen.value)


def test_selective_by_range_or_by_chance():
    preference = np.linspace(0, 3, 40)
    responses = tuned(preference, np.linspace(0.1, 0.9, 40)) * np.linspace(9, 1, 40)
    found = an.orientation_map(responses, ANGLES, permutations=20)
    by_range, by_index = found.selective(), found.selective(by="selectivity")
    assert by_range.sum() == by_index.sum() == 10
    assert by_index[-10:].all()
    assert not by_range[-1]
    assert found.selective(p=0.05).all()
    with pytest.raises(ValueError, match=r"none of the 40 columns is selective at p <= 0\.001"):
        found.selective(p=0.001)
    for options, message in (({"share": 0.0}, "share must be above 0"), ({"by": "rang"}, "did you mean 'range'")):
        with pytest.raises(ValueError, match=message):
            found.selective(**options)


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.05, 1.0))
def test_the_resultant_is_told_and_kept(seed, width):
    """However far preferences coincide, their resultant is that of the map and of every shuffle of it."""
    rng = np.random.default_rng(seed)
    positions = grid(6, 6)
    preference = width * np.pi * rng.random(36)
    result = an.smoothness(preference, positions, period=np.pi, permutations=20, seed=seed)
    assert result.resultant == pytest.approx(abs(np.exp(2j * preference).mean()))
    # The null is that of these preferences: turning all of them changes nothing.
    turned = an.smoothness(preference + 1.0, positions, period=np.pi, permutations=20, seed=seed)
    assert np.allclose(turned.null, result.null)
    assert turned.resultant == pytest.approx(result.resultant)


def test_preferences_that_coincide_are_told():
    positions = grid(10, 10)
    nearly = 0.1 * ramp(positions, 10)
    result = an.smoothness(nearly, positions, period=np.pi, permutations=20)
    assert result.value > 0.7, "a tenth of the range, and as smooth as the whole"
    assert result.resultant > 0.95
    assert result.summary()["resultant"] == pytest.approx(result.resultant)
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    assert "resultant 0.9" in result.plot(Figure().subplots()).get_title()
    assert an.smoothness(nearly, positions, permutations=5).summary()["resultant"] is None


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros(36, bool), "mask leaves 0 of 36 columns"),
        (np.arange(36) < 2, "mask leaves 2 of 36 columns, at least 3"),
        (np.ones(35, bool), "mask must be a boolean mask of 36 entries"),
        (np.ones(36), "mask must be a boolean mask"),
    ],
)
def test_bad_masks(mask, message):
    positions = grid(6, 6)
    for function in (an.smoothness, an.pinwheels):
        with pytest.raises(ValueError, match=message) as error:
            function(ramp(positions), positions, mask=mask, permutations=3)
        assert "\n" not in str(error.value)


def test_pinwheels_among_selective_columns():
    positions = grid(10, 12)
    theta = np.arctan2(*(positions - [5.4, 3.6]).T[::-1]) / 2
    spoiled = positions[:, 0] > 8
    noisy = np.where(spoiled, np.pi * np.random.default_rng(3).random(120), theta)
    assert an.pinwheels(noisy, positions, permutations=3).value > 1
    result = an.pinwheels(noisy, positions, mask=~spoiled, permutations=3)
    assert result.value == 1
    assert result.centres.tolist() == [[5.5, 3.5]]
    assert np.array_equal(result.selective, ~spoiled)
    with pytest.raises(ValueError, match="mask leaves 60 of 120 columns, and no loop of neighbors"):
        an.pinwheels(theta, positions, mask=positions.sum(1) % 2 == 0)


# ---------------------------------------------------------------------- positions permuted within groups


def two_layers(sides=8):
    """Two columns at each patch: of the places of a patch one is always left of the other."""
    places = grid(sides, sides)
    positions = np.concatenate([places, places + np.array([0.3, 0.0])])
    return positions, np.tile(np.arange(sides * sides), 2)


def test_what_comes_from_the_patch_alone_is_no_finding():
    """Both columns of a patch answer alike, which makes a smooth map; within patches nothing is arranged."""
    positions, patch = two_layers()
    rng = np.random.default_rng(1)
    field = np.cos(positions @ rng.normal(size=(2, 30)) * 0.5)[patch] + 0.02 * rng.normal(size=(128, 30))
    edges = an.spatial_edges(positions, k=4)
    for function, taken in (
        (an.correlation_by_distance, (field.T, positions)),
        (an.morans_i, (field[:, 0], edges)),
        (an.smoothness, (field[:, 0], positions)),
        (an.selective_patches, (field[:, 0], edges, float(np.quantile(field[:, 0], 0.8)))),
    ):
        free = function(*taken, permutations=99)
        held = function(*taken, permutations=99, groups=patch)
        assert held.value == free.value
        assert free.p_value <= 0.02, function.__name__
        assert held.null.mean() > free.null.mean() + 2 * free.null.std(), function.__name__
        assert abs(held.value - held.null.mean()) < 0.05 * max(abs(held.value), 1), function.__name__


def test_arrangement_within_patches_is_found():
    """The left columns of all patches answer one half of stimuli, the right ones the other."""
    positions, patch = two_layers(6)
    side = np.repeat([0, 1], 36)
    values = side + 0.01 * np.random.default_rng(2).normal(size=72)
    edges = an.spatial_edges(positions, radius=0.75)
    assert an.morans_i(values, edges, permutations=99, groups=patch).p_value <= 0.02


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.arange(36), "no two of the 36 columns share a group"),
        (np.full(36, -1), "no two of the 36 columns share a group"),
        (np.zeros(35, int), r"one entry per column \(36\)"),
        (np.zeros(36), "groups must be integers"),
    ],
)
def test_groups_without_company(groups, message):
    positions = grid(6, 6)
    values, edges = np.random.default_rng(0).random(36), an.spatial_edges(positions)
    for call in (
        lambda: an.morans_i(values, edges, groups=groups),
        lambda: an.selective_patches(values, edges, 0.5, groups=groups),
        lambda: an.smoothness(values, positions, groups=groups),
        lambda: an.pinwheels(values, positions, groups=groups),
        lambda: an.correlation_by_distance(np.random.default_rng(1).random((9, 36)), positions, groups=groups),
    ):
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="no two of the 40 stimuli share a group"):
        an.orientation_map(tuned(np.linspace(0, 3, 4), 0.5), ANGLES, within=np.arange(40))


def test_columns_of_no_group_stay():
    from colgraph.analysis.stats import as_groups, permuted

    label = as_groups(np.array([0, 0, -1, 0, -1, 1, 1]), 7)
    for order in permuted(20, 7, 0, label):
        assert order[2] == 2
        assert order[4] == 4
        assert set(order[[0, 1, 3]]) == {0, 1, 3}
