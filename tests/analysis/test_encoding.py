"""Encoding against planted signals of known ceiling, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import LeaveOneGroupOut

from colgraph.analysis.encoding import encode, encode_table, split_half_ceiling
from colgraph.analysis.ridge import HeldOut, ridge_predictions


def planted(stimuli=240, features=20, targets=12, noise=1.0, repeats=4, seed=0):
    """Recordings: a linear map of the features of variance 1, plus noise in each repeat."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(stimuli, features))
    weight = rng.normal(size=(features, targets))
    signal = x @ (weight / np.linalg.norm(weight, axis=0))
    return x, signal, signal + noise * rng.normal(size=(repeats, stimuli, targets))


@pytest.mark.parametrize("repeats", [2, 5, 8])
def test_ceiling_of_known_noise(repeats):
    """Signal variance 1, noise variance 2 per repeat: the mean over R repeats has reliability 1 / (1 + 2 / R)."""
    _, _, recordings = planted(stimuli=3000, noise=np.sqrt(2), repeats=repeats)
    result = split_half_ceiling(recordings, splits=40)
    expected = 1 / (1 + 2 / repeats)
    assert result.reliability.mean() == pytest.approx(expected, abs=0.015)
    assert result.ceiling.mean() == pytest.approx(np.sqrt(expected), abs=0.01)
    half = repeats // 2
    assert result.split_half.mean() == pytest.approx(1 / (1 + 2 / half), abs=0.02)


def test_a_perfect_model_reaches_the_ceiling_and_no_more():
    x, _, recordings = planted(stimuli=600, noise=1.5, repeats=6)
    result = encode(x, recordings, permutations=99)
    assert result.value_normalised == pytest.approx(1, abs=0.04)
    assert result.value == pytest.approx(np.sqrt(1 / (1 + 2.25 / 6)), abs=0.04)
    assert result.p_value == pytest.approx(0.01)
    assert (result.p_targets <= 0.05).all()
    assert result.interval[0] < result.value < result.interval[1]


def test_half_a_model_reaches_half_of_the_variance():
    """Half of the signal's variance is in features that the model lacks."""
    rng = np.random.default_rng(1)
    x, hidden = rng.normal(size=(2, 800, 10))
    recordings = (x + hidden)[None] / np.sqrt(2) + 0.5 * rng.normal(size=(4, 800, 10))
    result = encode(x, recordings, permutations=20)
    assert result.value_normalised == pytest.approx(np.sqrt(0.5), abs=0.04)


def test_unrelated_features_predict_nothing():
    rng = np.random.default_rng(2)
    values, p = [], []
    for seed in range(25):
        result = encode(rng.normal(size=(60, 30)), rng.normal(size=(60, 4)), permutations=99, seed=seed)
        values.append(result.value)
        p.append(result.p_value)
    assert abs(np.mean(values)) < 0.05
    assert (np.array(p) <= 0.05).mean() < 0.2
    assert 0.3 < np.mean(p) < 0.7


@pytest.mark.parametrize("features", [8, 90])
def test_ridge_is_scikit_learns(features):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(50, features)) + 1
    y = x[:, :4] + rng.normal(size=(50, 4)) * [0.1, 1, 3, 10]
    train = np.arange(50) < 40
    alphas = np.logspace(-3, 3, 13)
    prediction, chosen = ridge_predictions(x @ x.T, y, train, alphas)
    centred = x[train] - x[train].mean(0)
    scale = (centred**2).sum() / 40
    theirs = RidgeCV(alphas * scale, alpha_per_target=True).fit(x[train], y[train])
    assert np.allclose(chosen * scale, theirs.alpha_)
    assert np.allclose(prediction, theirs.predict(x[~train]))
    assert len(np.unique(chosen)) > 1, "noisier targets are shrunk more"


def test_the_penalty_is_chosen_for_groups_that_were_not_seen():
    rng = np.random.default_rng(5)
    film = np.repeat(np.arange(12), [3, 5, 4] * 4)
    x = (rng.normal(size=(12, 6))[film] + 0.2 * rng.normal(size=(48, 6))) + 1
    y = x[:, :3] + 2 * rng.normal(size=(12, 3))[film]  # noise that the frames of a film have in common
    train, alphas = film < 9, np.logspace(-3, 3, 13)
    centred = x[train] - x[train].mean(0)
    scale = (centred**2).sum() / train.sum()
    splits = list(LeaveOneGroupOut().split(x[train], groups=film[train]))
    error = np.zeros((len(alphas), 3))
    for a, alpha in enumerate(alphas):
        for seen, left in splits:
            fit = Ridge(alpha * scale).fit(x[train][seen], y[train][seen])
            error[a] += ((fit.predict(x[train][left]) - y[train][left]) ** 2).sum(0)
    chosen = ridge_predictions(x @ x.T, y, train, alphas, film)[1]
    assert np.allclose(chosen, alphas[error.argmin(0)])
    by_frame = ridge_predictions(x @ x.T, y, train, alphas)[1]
    assert (chosen > by_frame).all(), "frames of one film make any fit look good"
    one_each = ridge_predictions(x @ x.T, y, train, alphas, np.arange(48))[1]
    assert np.array_equal(one_each, by_frame)


def test_every_stimulus_is_predicted_unseen():
    x, signal, _ = planted(stimuli=60, noise=0.0)
    base = encode(x, signal, permutations=2)
    changed = signal.copy()
    held = base.fold == 2
    changed[held] += 100 * np.random.default_rng(0).normal(size=changed[held].shape)
    again = encode(x, changed, permutations=2)
    assert np.allclose(again.prediction[held], base.prediction[held])
    assert not np.allclose(again.prediction[~held], base.prediction[~held])


def test_groups_stay_together():
    x, signal, _ = planted(stimuli=90)
    films = np.repeat([f"film {i}" for i in range(18)], 5)
    result = encode(x, signal, groups=films, permutations=2)
    for film in np.unique(films):
        assert len(np.unique(result.fold[films == film])) == 1
    assert np.bincount(result.fold).tolist() in ([20, 20, 20, 15, 15], [15, 20, 20, 20, 15], [20, 20, 15, 20, 15])
    with pytest.raises(ValueError, match="at least as many groups, got 3"):
        encode(x, signal, groups=np.arange(90) % 3)
    lone = np.where(np.arange(90) < 86, 0, np.arange(90))
    with pytest.raises(ValueError, match="use fewer folds"):
        encode(x, signal, groups=lone)


def films_of(seed, films=15, frames=8):
    """Features and recordings that have nothing in common but that both change little within a film."""
    rng = np.random.default_rng(seed)
    film = np.repeat(np.arange(films), frames)
    x, y = (rng.normal(size=(films, k))[film] + 0.3 * rng.normal(size=(len(film), k)) for k in (3, 1))
    return x, y, film


def test_frames_of_a_film_are_no_independent_stimuli():
    """Shuffled and left out frame by frame, independent recordings were predicted in a third of all cases."""
    found = []
    for seed in range(60):
        x, y, film = films_of(seed)
        found.append(encode(x, y, groups=film, folds=3, permutations=39, seed=seed, alphas=[1.0]))
    assert np.mean([result.p_value <= 0.05 for result in found]) <= 0.15
    assert np.mean([result.interval[0] <= 0 <= result.interval[1] for result in found]) >= 0.8


def test_whole_groups_are_shuffled_and_left_out():
    held = HeldOut.of(60, 3, np.repeat(np.arange(12), 5), seed=1)
    stays = 0
    for order in held.orders(20, seed=0):
        moved = held.group[order].reshape(12, 5)
        assert (moved == moved[:, :1]).all()
        assert (np.diff(order.reshape(12, 5), axis=1) == 1).all(), "frames keep their order"
        assert np.array_equal(held.fold[order], held.fold)
        assert np.array_equal(np.sort(order), np.arange(60))
        stays += int(np.array_equal(order, np.arange(60)))
    assert stays < 5
    assert (np.ptp(held.units(0).reshape(12, 5), axis=1) == 0).all()


def test_groups_that_no_other_can_stand_for_are_refused():
    x, signal, _ = planted(stimuli=90)
    with pytest.raises(ValueError, match=r"groups: a fold holds one group, of 18 stimuli, and the null exchanges"):
        encode(x, signal, groups=np.repeat(np.arange(5), 18), permutations=2)
    sizes = np.repeat(np.arange(8), [19, 17, 13, 11, 9, 8, 7, 6])
    with pytest.raises(ValueError, match=r"groups of .* stimuli.*two groups of equally many stimuli, or use fewer"):
        encode_table({"a": x}, signal, groups=sizes, folds=2, permutations=2)


def test_tables_by_step_and_region():
    x, signal, recordings = planted(targets=10)
    rng = np.random.default_rng(4)
    features = {"step 1": rng.normal(size=(240, 5, 4)), "step 2": x.reshape(240, 5, 4)}
    regions = ["V1"] * 4 + ["IT"] * 6
    table = encode_table(features, recordings, regions=regions, permutations=20)
    assert table.regions == ("IT", "V1")
    assert (table.value[1] > table.value[0] + 0.5).all()
    assert table.normalised[1] == pytest.approx(1, abs=0.1)
    alone = encode(x, recordings[:, :, :4], permutations=20)
    assert table.results["step 2", "V1"].value == pytest.approx(alone.value)
    with pytest.raises(ValueError, match="regions must have one entry"):
        encode_table(features, recordings, regions=["V1"])
    with pytest.raises(ValueError, match="step 1 has 239, targets has 240"):
        encode_table({"step 1": features["step 1"][1:]}, signal)


def test_unreliable_targets_are_left_out_of_the_share():
    x, _, recordings = planted(noise=0.5)
    recordings[:, :, 0] = np.random.default_rng(5).normal(size=(4, 240))
    recordings[1, :, 0] -= 2 * recordings[0, :, 0]
    result = encode(x, recordings, permutations=2)
    assert result.ceiling.reliability[0] < 0.1
    assert np.isnan(result.normalised[0])
    assert np.isfinite(result.normalised[1:]).all()
    assert result.summary()["value_normalised"] == pytest.approx(np.nanmean(result.normalised))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x, y[:-1]), "features has 240, targets has 239"),
        (lambda x, y: (x[:9], y[:9]), "5 folds need at least 15 stimuli"),
        (lambda x, y: (x, np.where(np.arange(12) == 3, 1.0, y)), r"constant in 1 of 12 columns \(3\)"),
        (lambda x, y: (x * np.nan, y), "finite"),
        (lambda x, y: (np.ones_like(x), y), "no variance"),
        (lambda x, y: (x, y[None]), "at least 2 repeats"),
    ],
)
def test_bad_recordings(change, message):
    x, y, _ = planted()
    with pytest.raises(ValueError, match=message):
        encode(*change(x, y))
    with pytest.raises(ValueError, match="alphas must be positive"):
        encode(x, y, alphas=[0.0])


def test_encoding_draws_itself():
    from matplotlib.figure import Figure

    x, signal, recordings = planted(stimuli=60)
    for result in (
        encode(x, signal, permutations=2),
        encode(x, recordings, permutations=2),
        encode_table({"a": x, "b": x}, recordings, permutations=2),
    ):
        ax = Figure().subplots()
        assert result.plot(ax) is ax


def test_feature_sets_are_drawn_by_what_they_are_said_to_be_and_not_by_their_names():
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    features = {name: rng.normal(size=(30, 4)) for name in ("step back", "V1", "V2")}
    targets = features["V1"] @ rng.normal(size=(4, 3)) + rng.normal(size=(30, 3))
    table = encode_table(features, targets, controls=["step back"], folds=3, permutations=2)
    assert table.controls == ("step back",)
    bars = [one for one in table.plot().containers if hasattr(one, "patches")]
    colors = [one.patches[0].get_facecolor()[:3] for one in bars]
    assert colors[1] == colors[2] != colors[0]
    with pytest.raises(ValueError, match="control must be one of 'step back', 'V1', 'V2', got 'V3'"):
        encode_table(features, targets, controls=["V3"], folds=3, permutations=2)


def test_each_region_is_drawn_below_its_noise_ceiling():
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    features = {"V1": rng.normal(size=(60, 4))}
    signal = features["V1"] @ rng.normal(size=(4, 4))
    targets = signal + np.array([0.5, 0.5, 3.0, 3.0]) * rng.normal(size=(4, 60, 4))
    table = encode_table(features, targets, regions=["a", "a", "b", "b"], folds=3, permutations=2)
    lines = [line for line in table.plot().get_lines() if line.get_linestyle() == ":"]
    expected = [table.results["V1", region].ceiling.ceiling.mean() for region in ("a", "b")]
    assert [line.get_ydata()[0] for line in lines] == pytest.approx(expected)
    assert expected[0] > expected[1]
    assert lines[0].get_label() == "noise ceiling (mean)"
    assert not [
        line
        for line in encode_table(features, signal, folds=3, permutations=2).plot().get_lines()
        if line.get_linestyle() == ":"
    ]
