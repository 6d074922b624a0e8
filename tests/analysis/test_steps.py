"""When and where a model's dissimilarities appear: planted in one area at one step."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from colgraph.analysis import category_rdm, rdm, rsa_by_step


def planted() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Categories that area "v4" (columns 4 to 7) codes from the second of three steps on; "mt" is silent at first."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 8)
    states = rng.normal(size=(32, 3, 12, 5))
    code = rng.normal(size=(4, 4, 5))
    states[:, 1:, 4:8] = 0.01 * states[:, 1:, 4:8] + code[labels][:, None]
    states[:, 0, 8:] = 1.0
    return states, np.repeat(["v1", "v4", "mt"], 4), labels


def test_category_distances_by_hand():
    assert category_rdm(["a", "b", "a"]).tolist() == [1, 0, 1]
    for labels in (["a", "a"], ["a", "b"]):
        with pytest.raises(ValueError, match="two stimuli of one category"):
            category_rdm(labels)


def test_the_planted_cell_is_found():
    states, areas, labels = planted()
    result = rsa_by_step(states, areas, category_rdm(labels), permutations=50)
    assert result.areas == ("mt", "v1", "v4")
    mt, v1, v4 = range(3)
    # Rank correlation with a model of two values: the most that its ties allow.
    order = np.argsort(np.argsort(rdm(states[:, 1, 4:8]), kind="stable")) + 1.0
    most = stats.pearsonr(order, stats.rankdata(category_rdm(labels))).statistic
    assert result.matrix[1, v4] == pytest.approx(most, abs=0.02)
    assert np.isnan(result.matrix[0, mt])
    for t, area in ((0, v1), (1, v1), (2, v1), (0, v4), (1, mt), (2, mt)):
        assert abs(result.matrix[t, area]) < 0.15, (t, area)
    assert result.value > 0.3
    assert result.p_value <= 1 / 50


def test_bad_states():
    states, areas, labels = planted()
    with pytest.raises(ValueError, match=r"\[stimuli, steps, columns, channels\]"):
        rsa_by_step(states[:, 0], areas, category_rdm(labels))
    with pytest.raises(ValueError, match="areas"):
        rsa_by_step(states, areas[:-1], category_rdm(labels))
    with pytest.raises(ValueError, match="pairs"):
        rsa_by_step(states[:-1], areas, category_rdm(labels))


def test_it_draws_itself():
    from matplotlib.figure import Figure

    states, areas, labels = planted()
    ax = Figure().subplots()
    assert rsa_by_step(states, areas, category_rdm(labels), permutations=5).plot(ax) is ax


def test_the_input_stands_beside_the_states():
    """States that carry the categories as their input does, and no more."""
    from matplotlib.figure import Figure

    states, areas, labels = planted()
    rng = np.random.default_rng(3)
    images = rng.normal(size=(32, 1, 4, 4)) + 2 * rng.normal(size=(4, 1, 4, 4))[labels]
    model = category_rdm(labels)
    result = rsa_by_step(states, areas, model, inputs=images, permutations=20)
    alone = rsa_by_step(states, areas, model, permutations=20)
    assert result.value == alone.value
    assert result.input_value > 0.3
    assert alone.partial is None
    assert np.isnan(alone.input_value)
    passed_on = np.tile(images.reshape(32, 1, 1, 16), (1, 2, 1, 1))
    passed_on = passed_on + 0.3 * rng.normal(size=passed_on.shape)
    echo = rsa_by_step(passed_on, ["v1"], model, inputs=images, permutations=20)
    assert echo.value > 0.3
    assert abs(echo.partial.value) < 0.15
    summary = echo.summary()
    assert summary["input"] == pytest.approx(result.input_value)
    assert summary["partial"]["value"] == echo.partial.value
    assert alone.summary()["partial"] is None
    names = result.plot(Figure().subplots()).get_legend_handles_labels()[1]
    assert {f"attainable {result.attainable:.3g}", f"input {result.input_value:.3g}", "v4"} <= set(names)


def test_bad_inputs():
    states, areas, labels = planted()
    blank = np.ones((32, 3, 4, 4))
    for inputs, message in ((blank[:-1], "one row for each of the 32 stimuli"), (blank, "inputs: .* no variance")):
        with pytest.raises(ValueError, match=message):
            rsa_by_step(states, areas, category_rdm(labels), inputs=inputs)


def test_many_steps_are_not_all_named():
    states, model = np.random.default_rng(0).normal(size=(6, 40, 2, 3)), category_rdm([0, 0, 0, 1, 1, 1])
    found = rsa_by_step(states, [0, 0], model, permutations=2)
    assert len(found.plot().get_xticks()) <= 16
