"""Searchlights find planted geometry where it is and nowhere else, and nothing where there is none."""

from __future__ import annotations

import time
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import squareform

import colgraph.analysis as an

SIDE = 8
PLACE = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), -1).reshape(-1, 2).astype(float)
BESIDE = an.spatial_edges(PLACE, radius=1.1)


@contextmanager
def refused(says):
    with pytest.raises(ValueError, match=says) as caught:
        yield
    assert "\n" not in str(caught.value)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def planted(stimuli=30, seed=0):
    """Responses of which a corner of 3 x 3 columns alone carries a recording's geometry, and the recording."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(stimuli, 4))
    x = rng.normal(size=(stimuli, SIDE * SIDE, 6))
    corner = (PLACE < 3).all(1)
    x[:, corner] += 3 * np.einsum("sk,knc->snc", hidden, rng.normal(size=(4, corner.sum(), 6)))
    subjects = [an.rdm(hidden @ rng.normal(size=(4, 20)) + rng.normal(size=(stimuli, 20))) for _ in range(3)]
    return x, np.array(subjects), corner


def test_planted_geometry_is_found_where_it_is_and_nowhere_else():
    x, recording, corner = planted()
    found = an.searchlight(x, recording, BESIDE, positions=PLACE, permutations=500)
    touches = corner.copy()
    np.logical_or.at(touches, BESIDE[0], corner[BESIDE[1]])
    assert found.significant[corner].all()
    assert not found.significant[~touches].any()
    assert found.map.argmax() in np.flatnonzero(corner)
    assert found.p_value == np.nanmin(found.p_corrected)
    assert (found.p_corrected >= found.p_map - 1e-12).all()
    summary = found.summary()
    assert summary["subjects"] == 3
    assert summary["columns"] == summary["defined"] == 64
    assert summary["significant"] == found.significant.sum()
    found.plot()


@given(
    st.integers(4, 12),
    st.integers(1, 3),
    st.sampled_from(["spearman", "pearson"]),
    st.sampled_from(["correlation", "cosine", "euclidean"]),
    st.booleans(),
    st.integers(0, 99),
)
@settings(max_examples=30)
def test_every_light_is_rsa_of_its_columns(stimuli, subjects, method, metric, partial, seed):
    x = noise(stimuli, 6, 3, seed=seed)
    recording = np.array([an.rdm(noise(stimuli, 5, seed=seed + 100 * s + 100)) for s in range(subjects)])
    fixed = an.rdm(noise(stimuli, 5, seed=seed + 1000)) if partial and stimuli > 5 else None
    line = np.array([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]])
    options = {"method": method, "permutations": 20, "seed": seed, "given": fixed}
    found = an.searchlight(x, recording, line, metric=metric, **options)
    for column in (0, 3):
        light = an.rdm(x[:, max(column - 1, 0) : column + 2], metric)
        # rsa shuffles the second, and where something is given the first: the recording, in both.
        pairs = [(light, one) if fixed is None else (one, light) for one in recording]
        each = [an.rsa(*pair, **options) for pair in pairs]
        np.testing.assert_allclose(found.map[column], np.mean([one.value for one in each]), atol=1e-9)
        null = np.mean([one.null for one in each], axis=0)
        p = (1 + (null >= found.map[column] - 1e-9).sum()) / 21
        assert found.p_map[column] == pytest.approx(p)


def test_lights_reach_hops_and_are_the_same_condensed_or_square():
    x, recording, _ = planted(12)
    one = an.searchlight(x, recording[0], BESIDE, permutations=10)
    square = an.searchlight(x, squareform(recording[0]), BESIDE[::-1], permutations=10)
    stack = an.searchlight(x, np.array([squareform(r) for r in recording]), BESIDE, permutations=10, hops=2)
    np.testing.assert_array_equal(one.map, square.map)
    assert one.sizes.min() == 3
    assert one.sizes.max() == 5
    assert stack.sizes.max() == 13
    assert stack.subjects == 3
    wide = an.rdm(x[:, np.abs(PLACE - PLACE[27]).sum(1) <= 2])
    np.testing.assert_allclose(stack.map[27], np.mean([an.rsa(wide, r, permutations=1).value for r in recording]))


def test_silent_columns_are_left_out_and_dark_lights_are_not_defined():
    x, recording, _ = planted(12)
    x[:, PLACE[:, 0] >= 4] = 0.5
    found = an.searchlight(x, recording, BESIDE, permutations=20)
    dark = PLACE[:, 0] >= 5
    for each in (found.map, found.p_map, found.p_corrected):
        np.testing.assert_array_equal(np.isnan(each), dark)
    assert (found.sizes[dark] == 0).all()
    edge = int(np.flatnonzero((PLACE == [4, 4]).all(1))[0])
    np.testing.assert_allclose(
        found.map[edge], np.mean([an.rsa(an.rdm(x[:, [edge - 1]]), r, permutations=1).value for r in recording])
    )
    assert found.summary()["defined"] == 40
    assert not found.significant[dark].any()


def test_what_is_given_is_taken_away():
    x, _, corner = planted(40)
    hidden = an.rdm(x[:, corner])
    near = hidden + 0.01 * np.random.default_rng(1).normal(size=len(hidden))
    plain = an.searchlight(x, near, BESIDE, permutations=200)
    left = an.searchlight(x, near, BESIDE, given=hidden, permutations=200, seed=1)
    assert plain.significant[corner].all()
    assert not left.significant[corner].any()
    assert left.significant.sum() <= 1


def test_a_recording_of_nothing_is_found_as_often_as_it_should_be():
    # Over 100 recordings, the smallest corrected p of a map is below 0.1 in about ten.
    x = noise(16, 25, 4)
    grid = an.spatial_edges(PLACE[PLACE.max(1) < 5], radius=1.1)
    p = [an.searchlight(x, an.rdm(noise(16, 9, seed=i + 1)), grid, permutations=99, seed=i).p_value for i in range(100)]
    assert 2 <= (np.array(p) < 0.1).sum() <= 20
    assert 0.4 < np.mean(p) < 0.6


def test_thousands_of_columns_take_seconds():
    x = noise(92, 1500, 8).astype(np.float32)
    ring = np.stack([np.arange(1500), np.roll(np.arange(1500), 1)])
    start = time.process_time()
    an.searchlight(x, an.rdm(noise(92, 20, seed=1)), ring, permutations=1000)
    assert time.process_time() - start < 60


def test_bad_recordings_are_refused_in_one_line():
    x, recording, _ = planted(12)
    good = squareform(recording[0])
    broken = good.copy()
    broken[0, 1] = 9
    holes = recording.copy()
    holes[1, 5] = np.nan
    for bad, says in (
        (an.rdm(noise(11, 5)), "of 11 stimuli, the responses are of 12"),
        (squareform(an.rdm(noise(11, 5))), "12 stimuli.*11, 11"),
        (recording[:, :55], "subject 0 is of 11 stimuli, the responses are of 12"),
        (recording[:, :60], "60 entries"),
        (broken, "symmetric"),
        (1 - good, "1 on its diagonal"),
        (holes, "subject 1 must be finite"),
        (np.ones(66), "constant"),
        (np.zeros((0, 66)), "12 stimuli"),
        (3.0, "12 stimuli"),
        ([recording[0], recording[0][:55]], "as many stimuli"),
        (["a"], "numbers"),
    ):
        with refused(says):
            an.searchlight(x, bad, BESIDE, permutations=5)
    with refused("method must be one of 'spearman', 'pearson'"):
        an.searchlight(x, recording, BESIDE, method="kendall")
    with refused("hops"):
        an.searchlight(x, recording, BESIDE, hops=0)
    with refused("64"):
        an.searchlight(x, recording, [[0], [64]])
    with refused("none of the 64 columns"):
        an.searchlight(np.ones((12, 64)), recording, BESIDE)
    with refused("given is of 11"):
        an.searchlight(x, recording, BESIDE, given=an.rdm(noise(11, 5)))
    with refused("given leaves nothing"):
        an.searchlight(x, recording[0], BESIDE, given=recording[0])
    with refused("at least 4 stimuli"):
        an.searchlight(x[:3], recording, BESIDE)
