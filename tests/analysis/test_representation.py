"""Dimensionality, RDMs, RSA and CKA against closed forms and other implementations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import pdist, squareform

from colgraph.analysis.dissimilarity import category_rdm, rdm, rsa
from colgraph.analysis.representation import _hsic, cka, compare, participation_ratio
from colgraph.analysis.stats import centred_gram

RNG = np.random.default_rng(0)


def rotation(n, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]


# ---------------------------------------------------------------------- dimensionality


@pytest.mark.parametrize("spectrum", [[1, 1, 1, 1], [4, 2, 1, 0], [1, 0, 0, 0]])
def test_participation_ratio_of_a_known_spectrum(spectrum):
    """Orthonormal scores times the roots of the spectrum, hidden by a rotation."""
    scores = np.linalg.qr(np.random.default_rng(1).normal(size=(30, 5)) - 0)[0]
    scores = np.linalg.qr(np.column_stack([np.ones(30), scores[:, :4]]))[0][:, 1:]
    x = scores * np.sqrt(spectrum) @ rotation(4) + 3
    result = participation_ratio(x, permutations=20)
    l = np.array(spectrum, float)  # noqa: E741
    assert result.value == pytest.approx(l.sum() ** 2 / (l**2).sum())
    assert result.spectrum[:4] * 29 == pytest.approx(np.sort(l)[::-1], abs=1e-9)


def test_participation_ratio_takes_channels_and_has_an_upper_null():
    x = RNG.normal(size=(40, 6, 1)) @ RNG.normal(size=(1, 5)) + 0.1 * RNG.normal(size=(40, 6, 5))
    result = participation_ratio(x)
    assert result.value == pytest.approx(participation_ratio(x.reshape(40, 30)).value)
    assert result.value < result.null.min()
    assert result.p_value < 0.05
    noise = participation_ratio(RNG.normal(size=(40, 30)))
    assert noise.p_value > 0.01
    assert result.interval[0] < result.value < result.interval[1]


def test_null_of_many_features_is_that_of_all():
    x = RNG.normal(size=(30, 9000)) * RNG.gamma(2, size=9000)
    result = participation_ratio(x, permutations=5)
    assert result.null.mean() == pytest.approx(result.value, rel=0.02), "the features are independent already"


# ---------------------------------------------------------------------- RDM, RSA


@pytest.mark.parametrize("metric", ["correlation", "cosine", "euclidean"])
def test_rdm_is_scipys(metric):
    x = RNG.normal(size=(12, 7)) + 2
    assert np.allclose(rdm(x, metric), pdist(x, metric))


@pytest.mark.parametrize("metric", ["correlation", "cosine", "euclidean"])
def test_distances_that_differ_by_rounding_are_one(metric):
    label = RNG.integers(0, 10, 60)
    vectors = RNG.normal(size=(10, 7))[label]
    for features in (np.eye(10)[label], np.eye(10)[label] + 0.1):
        assert rsa(rdm(features, metric), category_rdm(label), permutations=2).value == pytest.approx(1, abs=1e-12)
    assert len(np.unique(rdm(vectors, metric))) <= 46, "45 pairs of classes, and none"
    far = vectors + 1e6
    assert np.allclose(rdm(far, "euclidean"), pdist(vectors), atol=1e-8)


def test_distances_of_values_far_from_zero():
    x = RNG.normal(size=(5, 7))[[0, 0, 1, 2, 3]] * 1e-3 + 1e5
    assert np.allclose(rdm(x, "euclidean"), pdist(x), rtol=1e-6, atol=1e-9)


def test_rdm_refuses_what_has_no_distance():
    x = RNG.normal(size=(6, 4))
    x[2] = 5.0
    with pytest.raises(ValueError, match="stimulus 2 is constant over features"):
        rdm(x)
    with pytest.raises(ValueError, match="did you mean 'cosine'"):
        rdm(x, "cosin")
    assert np.isfinite(rdm(x, "cosine")).all()


@pytest.mark.parametrize("method", ["spearman", "kendall", "pearson"])
def test_rsa_is_scipys_and_symmetric_matrices_do(method):
    a, b = rdm(RNG.normal(size=(14, 5))), rdm(RNG.normal(size=(14, 5)))
    expected = {"spearman": stats.spearmanr, "kendall": stats.kendalltau, "pearson": stats.pearsonr}[method](a, b)
    result = rsa(a, squareform(b), method=method, permutations=30)
    assert result.value == pytest.approx(expected.statistic)


def test_tau_a_with_ties_by_hand():
    a, b = np.array([1.0, 1, 2, 3, 3, 3]), np.array([1.0, 2, 2, 3, 1, 4])
    pairs = [(i, j) for i in range(6) for j in range(i)]
    by_hand = sum(np.sign(a[i] - a[j]) * np.sign(b[i] - b[j]) for i, j in pairs) / len(pairs)
    assert rsa(a, b, method="kendall", permutations=2).value == pytest.approx(by_hand)


def test_rsa_does_not_see_rotation_but_sees_noise():
    x = RNG.normal(size=(30, 8))
    same = rsa(rdm(x, "euclidean"), rdm(x @ rotation(8), "euclidean"), permutations=200)
    assert same.value == pytest.approx(1)
    assert same.p_value < 0.01
    p = [rsa(rdm(RNG.normal(size=(12, 6))), rdm(RNG.normal(size=(12, 6))), permutations=99).p_value for _ in range(60)]
    assert (np.array(p) <= 0.05).mean() < 0.15
    assert 0.35 < np.mean(p) < 0.65


def test_mantel_keeps_the_spread_of_the_value():
    """Shuffling stimuli by hand gives the same null."""
    a, b = rdm(RNG.normal(size=(9, 5))), rdm(RNG.normal(size=(9, 5)))
    from colgraph.analysis.stats import permuted

    rows, columns = np.triu_indices(9, 1)
    by_hand = [
        stats.spearmanr(a, squareform(b)[np.ix_(o, o)][rows, columns]).statistic for o in permuted(20, 9, seed=4)
    ]
    assert np.allclose(rsa(a, b, permutations=20, seed=4).null, by_hand)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.arange(10.0), np.arange(15.0), "number of pairs must agree: first has 10, second has 15"),
        (np.arange(9.0), np.arange(9.0), "no triangle"),
        (np.ones(10), np.arange(10.0), "constant"),
        (np.arange(3.0), np.arange(3.0), "at least 4 stimuli, got 3"),
        (np.arange(16.0).reshape(4, 4), np.arange(6.0), "symmetric"),
        (np.array([1, 2, np.nan, 4, 5, 6]), np.arange(6.0), "finite"),
    ],
)
def test_bad_rdms(a, b, message):
    with pytest.raises(ValueError, match=message):
        rsa(a, b)


# ---------------------------------------------------------------------- CKA


def test_cka_is_its_formula_and_invariant():
    x, y = RNG.normal(size=(25, 6)), RNG.normal(size=(25, 4))
    xc, yc = x - x.mean(0), y - y.mean(0)
    formula = np.linalg.norm(xc.T @ yc) ** 2 / (np.linalg.norm(xc.T @ xc) * np.linalg.norm(yc.T @ yc))
    assert cka(x, y, permutations=5).value == pytest.approx(formula)
    assert cka(x, 3 * x @ rotation(6) + 7, permutations=5).value == pytest.approx(1)
    assert cka(x, 3 * x @ rotation(6) + 7, unbiased=True, permutations=5).value == pytest.approx(1)


def test_unbiased_hsic_is_song_et_al():
    x, y = RNG.normal(size=(12, 5)), RNG.normal(size=(12, 7))
    k, m = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    cross = k.sum() * m.sum() / (11 * 10) - 2 * (k.sum(0) @ m.sum(0)) / 10
    assert _hsic(centred_gram(x), centred_gram(y), True) == pytest.approx(np.trace(k @ m) + cross)


def test_cka_of_unrelated_features():
    pairs = [(RNG.normal(size=(30, 200)), RNG.normal(size=(30, 200))) for _ in range(30)]
    biased = [cka(x, y, permutations=99) for x, y in pairs]
    fair = [cka(x, y, unbiased=True, permutations=99) for x, y in pairs]
    assert np.mean([r.value for r in biased]) > 0.5, "biased upwards where features outnumber stimuli"
    assert abs(np.mean([r.value for r in fair])) < 0.05
    assert np.mean([r.p_value for r in biased]) > 0.3, "but its null is biased alike"


def test_bad_cka():
    x = RNG.normal(size=(10, 3))
    with pytest.raises(ValueError, match="first has 10, second has 9"):
        cka(x, x[:9])
    with pytest.raises(ValueError, match="no variance"):
        cka(x, np.ones((10, 2)))
    with pytest.raises(ValueError, match="at least 4 stimuli"):
        cka(x[:3], x[:3])


def test_compare_makes_a_matrix_and_names_the_pair():
    steps = {f"step {t}": RNG.normal(size=(12, 5, 2)) for t in range(3)}
    areas = {"V1": RNG.normal(size=(12, 9)), "same": steps["step 1"]}
    result = compare(steps, areas, permutations=5)
    assert result.value.shape == (3, 2)
    assert result.value[1, 1] == pytest.approx(1)
    assert result.results["step 0", "V1"].value == result.value[0, 0]
    assert compare(steps, areas, method="rsa", permutations=5).value[1, 1] == pytest.approx(1)
    with pytest.raises(ValueError, match="'step 0' against 'bad'"):
        compare(steps, {"bad": np.ones((12, 3))})
    with pytest.raises(ValueError, match="did you mean 'rsa'"):
        compare(steps, areas, method="rsaa")


def test_representation_results_draw_themselves():
    from matplotlib.figure import Figure

    x = RNG.normal(size=(10, 5))
    for result in (
        participation_ratio(x),
        rsa(rdm(x), rdm(x), permutations=9),
        cka(x, x, permutations=9),
        compare({"a": x}, {"b": x}, permutations=3),
    ):
        ax = Figure().subplots()
        assert result.plot(ax) is ax
        assert ax.get_title()
