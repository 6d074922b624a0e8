"""Classes read from regions of a sheet, where it is known which of them hold any."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from colgraph import analysis as an

REGIONS = {"nothing": [0, 1, 2], "sum": [3, 4], "difference": [5, 6], "all": range(7)}
LABELS = np.arange(120) % 3


@pytest.fixture(scope="module")
def responses() -> np.ndarray:
    """Three classes in two channels of columns 3 and 4, and in 5 and 6 with opposite signs, which a mean takes away."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 7, 2))
    signal = 8 * np.stack([np.cos(LABELS * 2 * np.pi / 3), np.sin(LABELS * 2 * np.pi / 3)], axis=-1)
    x[:, 3] += signal
    x[:, 4] += signal
    x[:, 5] += signal
    x[:, 6] -= signal
    return x


def test_classes_are_read_where_the_mean_of_columns_holds_them(responses: np.ndarray) -> None:
    found = an.region_decoding(responses, LABELS, REGIONS, permutations=19)
    accuracy = dict(zip(found.regions, found.accuracy, strict=True))
    assert accuracy["sum"] == 1
    assert accuracy["all"] == 1
    assert accuracy["nothing"] < 0.5
    assert accuracy["difference"] < 0.5
    assert found.value == pytest.approx(found.accuracy.mean())
    # A class is rarer in training where it is frequent among what is held out: below a third, for labels and shuffles.
    assert 0.2 < found.chance < 1 / 3
    assert found.p_value == pytest.approx(0.05)
    axes = found.plot()
    assert {tick.get_text() for tick in axes.get_yticklabels()[:2]} == {"sum", "all"}


def test_names_of_classes_and_channels_make_no_difference(responses: np.ndarray) -> None:
    plain = an.region_decoding(responses, LABELS, REGIONS, permutations=0)
    named = an.region_decoding(responses * 3 + 5, np.array(["cat", "ant", "dog"])[LABELS], REGIONS, permutations=0)
    np.testing.assert_allclose(named.accuracy, plain.accuracy)
    assert plain.chance == pytest.approx(1 / 3)
    masks = {name: np.isin(np.arange(7), columns) for name, columns in REGIONS.items()}
    masked = an.region_decoding(responses, LABELS, masks, permutations=0)
    np.testing.assert_allclose(masked.accuracy, plain.accuracy)
    # One number for each column is one channel.
    one = an.region_decoding(responses[..., 0], LABELS, REGIONS, permutations=0)
    np.testing.assert_allclose(one.accuracy, an.region_decoding(responses[..., :1], LABELS, REGIONS).accuracy)


def test_held_out_is_not_trained_on() -> None:
    """More channels than stimuli fit any labels: noise is read by chance all the same."""
    x = np.random.default_rng(1).normal(size=(60, 2, 300))
    assert an.region_decoding(x, np.arange(60) % 2, {"a": [0], "b": [1]}, permutations=0).value < 0.7


@pytest.mark.parametrize(
    ("labels", "regions", "message"),
    [
        (np.zeros(120), REGIONS, "at least two, got 1"),
        (LABELS, {"one": [0]}, "at least two are needed, got 1"),
        (LABELS, {"one": [0], "none": []}, "region 'none' has no columns"),
        (LABELS, {"one": [0], "far": [7]}, r"region 'far' must lie in 0..6 \(7 columns\), got 7"),
        (LABELS, {"one": [0], "half": [0.5]}, "region 'half' must be a list of column indices, got float64"),
        (LABELS[:5], REGIONS, "labels"),
    ],
)
def test_what_does_not_fit_is_refused(responses: np.ndarray, labels: Any, regions: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        an.region_decoding(responses, labels, regions)
