"""Gabor functions are found where they were planted, and not where there are none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from colgraph import analysis as an
from colgraph.analysis.gabor import gabor

SIZE = (16, 14)


def planted(rng, count, size=SIZE):
    found = []
    for _ in range(count):
        frequency = rng.uniform(0.08, 0.3)
        found.append(
            {
                "centre": rng.uniform(0.35, 0.65, 2) * size,
                "orientation": rng.uniform(0, np.pi),
                "frequency": frequency,
                "sigma": rng.uniform([0.3, 0.4], [0.6, 0.8]) / frequency,
                "phase": rng.uniform(0, 2 * np.pi),
                "amplitude": rng.uniform(0.5, 5),
            }
        )
    return found


def gap(a, b, period):
    difference = abs(a - b) % period
    return min(difference, period - difference)


def same_function(found, unit, size):
    """The field that a fit describes, from its own numbers."""
    names = ("centre", "orientation", "frequency", "sigma", "phase", "amplitude")
    return gabor(size, **{name: getattr(found, name)[unit] for name in names})


def test_planted_functions_are_recovered():
    rng = np.random.default_rng(0)
    known = planted(rng, 20)
    fields = np.stack([gabor(SIZE, **each) for each in known])
    noisy = fields + 0.02 * fields.std((1, 2), keepdims=True) * rng.normal(size=fields.shape)
    found = an.fit_gabors(noisy, permutations=1, most=2, progress=False)
    assert found.value == 1
    assert found.r2.min() > 0.99
    for unit, each in enumerate(known):
        assert np.allclose(same_function(found, unit, SIZE), found.fitted[unit, 0], atol=1e-4)
        if each["frequency"] * min(each["sigma"]) < 0.32:
            continue  # of fields with a single bar, other numbers make nearly the same function
        assert gap(found.orientation[unit], each["orientation"], np.pi) < 0.05
        assert found.frequency[unit] == pytest.approx(each["frequency"], rel=0.1)
        assert found.centre[unit] == pytest.approx(each["centre"], abs=0.3)
        assert found.nx[unit] == pytest.approx(each["sigma"][0] * each["frequency"], rel=0.15)
        assert found.ny[unit] == pytest.approx(each["sigma"][1] * each["frequency"], rel=0.15)
        # The same function with its bars counted from the other side has the opposite phase.
        turned = abs(found.orientation[unit] - each["orientation"]) > np.pi / 2
        phase = -each["phase"] if turned else each["phase"]
        assert gap(found.phase[unit], phase, 2 * np.pi) < 0.4
        assert found.amplitude[unit] == pytest.approx(each["amplitude"], rel=0.1)


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.integers(9, 20), st.integers(9, 20))
def test_every_planted_function_is_fitted(seed, height, width):
    field = gabor((height, width), **planted(np.random.default_rng(seed), 1, (height, width))[0])
    assume(np.ptp(field) > 1e-3)
    found = an.fit_gabors(field[None], permutations=1, most=1, progress=False)
    assert found.r2[0] > 0.98
    assert np.allclose(same_function(found, 0, (height, width)), found.fitted[0, 0], atol=1e-4)


def test_orientation_is_that_of_the_best_grating():
    fields = np.stack(
        [
            gabor((16, 16), centre=(7.5, 7.5), orientation=theta, frequency=0.15, sigma=(3, 4), phase=0.3)
            for theta in np.pi * np.arange(8) / 8
        ]
    )
    probes = an.gratings(16, channels=1, phases=8)
    drive = np.maximum(probes.images.numpy().reshape(len(probes), -1) @ fields.reshape(8, -1).T, 0)
    preferred = an.orientation_map(drive, probes.labels["orientation"], permutations=2).preference
    found = an.fit_gabors(fields, permutations=1, most=1, progress=False)
    for one, other in zip(preferred, found.orientation, strict=True):
        assert gap(one, other, np.pi) < 0.05


def test_bandwidth_is_that_of_the_spectrum():
    one = {"centre": (32, 32), "orientation": 0.0, "frequency": 0.125, "sigma": (6.0, 6.0), "phase": 0.0}
    found = an.fit_gabors(gabor((65, 65), **one)[None], permutations=1, most=1, progress=False)
    spectrum = np.abs(np.fft.rfft(gabor((65, 65), **one)[:, 32], 8192))
    above = np.flatnonzero(spectrum >= spectrum.max() / 2)
    assert found.bandwidth[0] == pytest.approx(np.log2(above[-1] / above[0]), rel=0.02)
    blob = one | {"frequency": 1e-9}
    assert (
        an.fit_gabors(gabor((33, 33), **blob | {"centre": (16, 16)})[None], permutations=1, progress=False).nx[0] < 0.2
    )


def test_color_is_fitted_along_its_strongest_direction():
    shape = gabor(SIZE, centre=(8, 7), orientation=0.7, frequency=0.15, sigma=(3, 4), phase=1.0)
    hue = np.array([0.8, -0.6, 0.0])
    found = an.fit_gabors((hue[:, None, None] * shape)[None], permutations=1, most=1, progress=False)
    assert np.allclose(found.color[0], hue, atol=1e-6)
    assert found.r2[0] > 0.999
    other = np.random.default_rng(0).normal(size=shape.shape)
    other *= 0.7 * np.linalg.norm(shape) / np.linalg.norm(other)
    mixed = np.stack([shape, other, 0 * shape])
    found = an.fit_gabors(mixed[None], permutations=1, most=1, progress=False)
    assert found.r2[0] == pytest.approx(1 / 1.49, abs=0.06), "what the other color has is not explained"


@pytest.mark.parametrize("null", ["phases", "pixels"])
def test_shapes_stand_out_from_the_null(null):
    rng = np.random.default_rng(1)
    fields = np.stack([gabor((12, 12), **each) for each in planted(rng, 10, (12, 12))])
    fields += 0.2 * fields.std((1, 2), keepdims=True) * rng.normal(size=fields.shape)
    found = an.fit_gabors(fields, null=null, permutations=3, most=5, progress=False)
    assert found.value > 0.9
    assert found.null.mean() < 0.5
    assert found.p_value == pytest.approx(1 / 4)
    noise = an.fit_gabors(rng.normal(size=(8, 12, 12)), null=null, permutations=3, most=5, progress=False)
    assert noise.value < 0.1
    assert noise.p_value > 0.2
    assert 0.2 < np.mean(noise.p_units) < 0.8


def test_fields_without_shape():
    fields = np.zeros((3, 1, 8, 8))
    fields[1, 0] = gabor((8, 8), centre=(4, 4), orientation=0.5, frequency=0.2, sigma=(2, 2), phase=0)
    found = an.fit_gabors(fields, permutations=2, progress=False)
    assert found.value == pytest.approx(1 / 3)
    assert np.isnan(found.r2[[0, 2]]).all()
    assert np.isnan(found.p_units[[0, 2]]).all()
    assert not found.fitted[0].any()
    with pytest.raises(ValueError, match="same everywhere, all 3 of them"):
        an.fit_gabors(np.ones((3, 8, 8)), progress=False)


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        (np.ones((2, 3)), {}, r"\[units, channels, height, width\], got \[2, 3\]"),
        (np.ones((2, 3, 3)), {}, "3 x 3 pixels are too small"),
        (np.full((2, 5, 5), np.nan), {}, "that of unit 0 is not"),
        (np.eye(5)[None], {"threshold": 1.0}, "threshold must lie between 0 and 1"),
        (np.eye(5)[None], {"null": "phase"}, "did you mean 'phases'"),
        (np.eye(5)[None], {"permutations": 0}, "permutations must be an integer of at least 1"),
    ],
)
def test_bad_fields(fields, options, message):
    with pytest.raises(ValueError, match=message) as error:
        an.fit_gabors(fields, progress=False, **options)
    assert "\n" not in str(error.value)


def test_it_draws_itself():
    from matplotlib.figure import Figure

    fields = np.stack([gabor((9, 9), **each) for each in planted(np.random.default_rng(2), 3, (9, 9))])
    ax = an.fit_gabors(fields, permutations=1, progress=False).plot(Figure().subplots())
    assert "100% of 3 fields" in ax.get_title()
    rough = an.fit_gabors(
        np.random.default_rng(3).normal(size=(2, 9, 9)), permutations=1, threshold=0.99, progress=False
    )
    assert "0% of 2 fields" in rough.plot(Figure().subplots()).get_title()
