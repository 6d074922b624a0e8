"""Orientation maps, pinwheels, category selectivity and patches against planted cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import ConvexHull

from colgraph.analysis.orientation import orientation_map
from colgraph.analysis.pinwheels import map_wavelength, pinwheels
from colgraph.analysis.selectivity import category_selectivity, selective_patches

ANGLES = np.pi * np.arange(8) / 8


def grid(rows, cols):
    y, x = np.indices((rows, cols))
    return np.stack([x.ravel(), y.ravel()], 1).astype(float)


def gratings(repeats=5):
    return np.tile(ANGLES, repeats)


def icosphere_like(n=400, seed=0):
    """A closed triangulated sphere."""
    points = np.random.default_rng(seed).normal(size=(n, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    faces = ConvexHull(points).simplices
    a, b, c = (points[faces[:, i]] for i in range(3))
    inward = (np.cross(b - a, c - a) * a).sum(1) < 0
    faces[inward] = faces[inward][:, ::-1]
    return points, faces


def circular_gap(a, b):
    gap = np.abs(a - b) % np.pi
    return np.minimum(gap, np.pi - gap)


def waves(positions, wavelength, seed, count=60):
    rng = np.random.default_rng(seed)
    angle, phase = 2 * np.pi * rng.random((2, count))
    k = 2 * np.pi / wavelength * np.stack([np.cos(angle), np.sin(angle)])
    return np.angle(np.exp(1j * (positions @ k + phase)).sum(1)) / 2


# ---------------------------------------------------------------------- orientation


@pytest.mark.parametrize("depth", [0.2, 1.0])
def test_cosine_tuning_is_recovered(depth):
    """R = 1 + depth cos 2(theta - p): preference p, selectivity depth / 2."""
    theta = gratings()
    planted = np.linspace(0, np.pi, 21)[:-1]
    responses = 1 + depth * np.cos(2 * (theta[:, None] - planted))
    result = orientation_map(responses, theta, permutations=50)
    assert circular_gap(result.preference, planted).max() < 1e-9
    assert np.allclose(result.selectivity, depth / 2)
    assert result.value == pytest.approx(depth / 2)
    assert np.allclose(result.interval, depth / 2), "repeats agree exactly, so the interval has no width"
    assert (result.p_columns < 0.05).all()
    assert result.tuning.shape == (8, 20)


def test_an_offset_moves_no_preference():
    theta = gratings()
    planted = np.linspace(0, 3, 15)
    responses = np.cos(2 * (theta[:, None] - planted))
    a, b = (orientation_map(responses + offset, theta, permutations=5) for offset in (0, 7))
    assert circular_gap(a.preference, b.preference).max() < 1e-9
    assert (b.selectivity < a.selectivity).all()
    assert a.selectivity.max() <= 1


def test_untuned_columns_are_not_significant():
    rng = np.random.default_rng(0)
    result = orientation_map(rng.random((80, 300)), gratings(10), permutations=199)
    assert 0.02 < (result.p_columns <= 0.05).mean() < 0.09
    assert result.p_value > 0.02


def test_shuffles_within_groups_are_sharper():
    """Spatial frequency drives the response far more than orientation does."""
    theta, frequency = np.tile(ANGLES, 6), np.repeat(np.arange(6), 8)
    planted = np.linspace(0, 3, 10)
    noise = np.random.default_rng(1).normal(size=(48, 10)) * 0.1
    responses = 20 + 3 * frequency[:, None] + 0.3 * np.cos(2 * (theta[:, None] - planted)) + noise
    free = orientation_map(responses, theta, permutations=199)
    held = orientation_map(responses, theta, within=frequency, permutations=199)
    assert held.value == free.value
    assert held.z > 3 * free.z


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shuffles_that_change_nothing_count_for_every_column(dtype):
    """Of three orientations, shown once, every order has the same selectivity, but for rounding."""
    x = np.random.default_rng(0).normal(size=(3, 30)).astype(dtype)
    result = orientation_map(x, np.arange(3) * np.pi / 3, permutations=50)
    assert (result.p_columns == 1).all()
    assert result.p_value == 1
    assert (result.null == result.value).all()


@pytest.mark.parametrize(
    ("theta", "message"),
    [
        (np.tile([0, np.pi / 2], 20), "at least 3 different"),
        (np.tile([0, 0.1, 0.2, 0.3], 10), "spread evenly"),
        (np.tile(np.degrees(ANGLES), 5), "radians"),
        (np.tile(ANGLES, 4), r"shape \[40\]"),
    ],
)
def test_bad_orientations(theta, message):
    with pytest.raises(ValueError, match=message):
        orientation_map(np.random.default_rng(0).random((40, 3)), theta)


def test_pi_is_zero():
    theta = np.concatenate([ANGLES, ANGLES + np.pi, ANGLES - np.pi])
    responses = np.random.default_rng(0).random((24, 4))
    assert len(orientation_map(responses, theta, permutations=3).orientations) == 8


# ---------------------------------------------------------------------- pinwheels


@pytest.mark.parametrize("sign", [1, -1])
def test_one_planted_pinwheel(sign):
    positions = grid(10, 12)
    centre = np.array([5.4, 3.6])
    preference = sign * np.arctan2(*(positions - centre).T[::-1]) / 2
    result = pinwheels(preference, positions, permutations=20)
    assert result.value == 1
    assert result.charge.tolist() == [sign]
    assert result.centres.tolist() == [[5.5, 3.5]]
    assert np.isnan(result.wavelength)
    assert np.isnan(result.density)


def test_points_without_a_grid_are_triangulated():
    rng = np.random.default_rng(2)
    positions = grid(12, 12) + rng.uniform(-0.2, 0.2, (144, 2))
    preference = np.arctan2(*(positions - [6.1, 4.9]).T[::-1]) / 2
    result = pinwheels(preference, positions, permutations=5)
    assert result.charge.tolist() == [1]
    assert np.linalg.norm(result.centres[0] - [6.1, 4.9]) < 1


def test_a_uniform_map_has_none():
    assert pinwheels(np.full(25, 0.3), grid(5, 5), permutations=3).value == 0


def test_charges_of_a_closed_surface_cancel():
    points, faces = icosphere_like()
    rng = np.random.default_rng(3)
    for preference in (rng.random(400) * np.pi, rng.choice(ANGLES, 400)):
        result = pinwheels(preference, points, faces=faces, permutations=3)
        assert result.charge.sum() == 0
        assert result.value > 0
    assert pinwheels(rng.random(400), points, faces=faces.T, permutations=3).positions.shape == (400, 3)


def test_noise_has_a_pinwheel_in_one_of_four_faces():
    points, faces = icosphere_like(2000, seed=4)
    result = pinwheels(np.random.default_rng(4).random(2000) * np.pi, points, faces=faces, permutations=20)
    assert result.null.mean() / len(faces) == pytest.approx(0.25, abs=0.01)
    assert result.p_value > 0.04


def test_random_waves_have_a_density_of_pi():
    positions = grid(80, 80)
    density = []
    for seed in range(5):
        result = pinwheels(waves(positions, 12.0, seed), positions, permutations=3)
        assert result.wavelength == pytest.approx(12, rel=0.03)
        assert result.density_interval[0] < np.pi < result.density_interval[1] * 1.2
        density.append(result.density)
    assert np.mean(density) == pytest.approx(np.pi, rel=0.08)
    given = pinwheels(waves(positions, 12.0, 0), positions, wavelength=6.0, permutations=3)
    assert given.density == pytest.approx(density[0] / 4, rel=0.1)


def test_smooth_is_not_periodic():
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(5)
    z = gaussian_filter(rng.normal(size=(2, 60, 60)), (0, 2, 2))
    assert np.isnan(map_wavelength(np.angle(z[0] + 1j * z[1]).ravel() / 2, grid(60, 60)))
    assert np.isnan(map_wavelength(rng.random(900) * np.pi, grid(30, 30)))


def test_pinwheels_need_a_sheet():
    angle = 2 * np.pi * np.arange(60) / 60
    ring = np.stack([np.cos(angle), np.sin(angle)], 1)
    for positions, message in (
        (ring, "along a curve"),
        (np.arange(60.0)[:, None], "on a line"),
        (np.random.default_rng(0).random((60, 3)), "no faces"),
    ):
        with pytest.raises(ValueError, match=message):
            pinwheels(angle, positions)
    with pytest.raises(ValueError, match=r"0\.\.59, got 60"):
        pinwheels(angle, ring, faces=np.array([[0, 1, 60]]))
    with pytest.raises(ValueError, match="wavelength must be positive"):
        pinwheels(np.zeros(25), grid(5, 5), wavelength=-1.0)


# ---------------------------------------------------------------------- categories


def two_groups(seed=0):
    rng = np.random.default_rng(seed)
    labels = np.array(["face"] * 30 + ["house"] * 50 + ["car"] * 40)
    responses = rng.normal(size=(120, 6))
    responses[:30, 0] += 2.0
    responses[:30, 1] *= 3.0
    return responses, labels


def test_both_d_primes_by_name():
    responses, labels = two_groups()
    on, off = responses[labels == "face"], responses[labels != "face"]
    s1, s2 = on.std(0), off.std(0)
    rms = category_selectivity(responses, labels, "face", permutations=99)
    mean = category_selectivity(responses, labels, "face", d_prime="mean", permutations=99)
    assert np.allclose(rms.d_prime, (on.mean(0) - off.mean(0)) / np.sqrt((s1**2 + s2**2) / 2))
    assert np.allclose(mean.d_prime, (on.mean(0) - off.mean(0)) / ((s1 + s2) / 2))
    assert abs(mean.d_prime[1]) > abs(rms.d_prime[1])
    assert rms.value == pytest.approx(np.abs(rms.d_prime).mean())
    with pytest.raises(ValueError, match="did you mean 'mean'"):
        category_selectivity(responses, labels, "face", d_prime="men")


def test_t_is_welchs():
    responses, labels = two_groups()
    result = category_selectivity(responses, labels, "face", against=["car"], permutations=9)
    expected = stats.ttest_ind(responses[labels == "face"], responses[labels == "car"], equal_var=False)
    assert np.allclose(result.t, expected.statistic)
    assert np.allclose(result.p_welch, expected.pvalue)


def test_selective_columns_are_found_and_others_are_not():
    responses, labels = two_groups()
    result = category_selectivity(responses, labels, "face", permutations=499)
    assert result.selective.tolist() == [True] + [False] * 5
    false = [
        category_selectivity(np.random.default_rng(s).normal(size=(60, 30)), np.arange(60) % 3, 1, permutations=99)
        for s in range(40)
    ]
    assert np.mean([(r.p_columns <= 0.05).any() for r in false]) < 0.2, "corrected for the number of columns"
    assert 0.3 < np.mean([r.p_value for r in false]) < 0.7


def test_d_prime_intervals_cover():
    rng = np.random.default_rng(7)
    hits = []
    for seed in range(80):
        x = rng.normal(size=(100, 4))
        x[:50] += 1.0
        result = category_selectivity(x, np.arange(100) < 50, True, permutations=1, seed=seed)
        hits.append((result.d_prime_interval[0] < 1) & (result.d_prime_interval[1] > 1))
    assert 0.88 < np.mean(hits) < 0.99


def test_bad_categories():
    responses, labels = two_groups()
    for arguments, message in (
        (("fase",), "did you mean 'face'"),
        (("face", ["face"]), "with itself"),
        (("face", ["hose"]), "did you mean 'house'"),
    ):
        with pytest.raises(ValueError, match=message):
            category_selectivity(responses, labels, arguments[0], against=arguments[1] if arguments[1:] else None)
    with pytest.raises(ValueError, match="two stimuli on either side, 'lone' has 1"):
        category_selectivity(responses, np.array(["lone"] + ["x"] * 119), "lone")
    with pytest.raises(ValueError, match="one entry per stimulus"):
        category_selectivity(responses, labels[:-1], "face")


# ---------------------------------------------------------------------- patches


def line_edges(n):
    return np.stack([np.arange(n - 1), np.arange(1, n)])


def test_patches_on_a_line():
    values = np.array([0, 2, 2, 2, 0, 3, 0, 2, 2, 0.0])
    result = selective_patches(values, line_edges(10), 2, permutations=300)
    assert result.areas.tolist() == [3, 2, 1]
    assert result.patch.tolist() == [-1, 0, 0, 0, -1, 2, -1, 1, 1, -1]
    assert result.value == 3
    assert result.null.max() <= 6
    weighted = selective_patches(values, line_edges(10), 2, area=np.arange(10.0), permutations=3)
    assert weighted.areas.tolist() == [15, 6, 5]


def test_one_block_is_more_than_chance():
    values = np.zeros((20, 20))
    values[3:9, 4:10] = 1
    index = np.arange(400).reshape(20, 20)
    right = np.stack([index[:, :-1].ravel(), index[:, 1:].ravel()])
    down = np.stack([index[:-1].ravel(), index[1:].ravel()])
    edges, positions = np.concatenate([right, down], 1), grid(20, 20)
    result = selective_patches(values.ravel(), edges, 0.5, positions=positions, permutations=200)
    assert result.value == 36
    assert result.p_value < 0.01
    assert result.interval[0] <= 36 <= result.interval[1]
    assert selective_patches(values.ravel(), edges, 5.0, permutations=5).value == 0
    with pytest.raises(ValueError, match="area must not be negative"):
        selective_patches(values.ravel(), edges, 0.5, area=-np.ones(400))


# ---------------------------------------------------------------------- pictures


def test_maps_draw_themselves():
    from matplotlib.figure import Figure

    positions = grid(8, 8)
    preference = np.arctan2(*(positions - 3.4).T[::-1]) / 2
    theta = gratings()
    tuned = 1 + np.cos(2 * (theta[:, None] - preference))
    responses, labels = two_groups()
    ring = np.random.default_rng(0).random((6, 3))
    points, faces = icosphere_like(100)
    results = [
        orientation_map(tuned, theta, positions=positions, permutations=5),
        orientation_map(tuned, theta, permutations=5),
        pinwheels(preference, positions, permutations=5),
        pinwheels(np.random.default_rng(1).random(100), points, faces=faces, permutations=5),
        category_selectivity(responses, labels, "face", positions=ring, permutations=9),
        selective_patches(np.arange(64), line_edges(64), 40, positions=positions, permutations=5),
    ]
    for result in results:
        ax = Figure().subplots()
        assert result.plot(ax) is ax
        assert ax.get_title()
        assert ax.collections or ax.patches


@pytest.mark.parametrize("count", [8, 16, 18])
def test_directions_in_single_precision_are_orientations(count):
    """Theta and theta + pi differ by their rounding, which parted them into two orientations."""
    direction = (np.arange(2 * count) * np.pi / count).astype(np.float32)
    responses = 1 + np.cos(2 * (direction.astype(np.float64)[:, None] - [0.3, 1.1]))
    found = orientation_map(responses, direction, permutations=3)
    np.testing.assert_allclose(found.orientations, np.arange(count) * np.pi / count, atol=1e-6)
    np.testing.assert_allclose(found.preference, [0.3, 1.1], atol=1e-6)
