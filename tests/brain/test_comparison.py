"""Similarities, bootstrap, differences and ceilings are rsatoolbox's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rdm_examples import PAIRS, triangles
from scipy.spatial.distance import squareform

pytest.importorskip("rsatoolbox")

from rsatoolbox.data import Dataset
from rsatoolbox.inference import eval_bootstrap, eval_bootstrap_pattern, eval_bootstrap_rdm, eval_dual_bootstrap
from rsatoolbox.inference.noise_ceiling import boot_noise_ceiling
from rsatoolbox.model import ModelFixed
from rsatoolbox.rdm import RDMs, calc_rdm, compare

from colgraph.analysis import rdm
from colgraph.brain.comparison import METHODS, compare_with, noise_ceiling

RECORDED = triangles(4, count=9)
# With ties, as models of categories have them.
MODELS = np.concatenate([triangles(2, seed=1, count=9) + RECORDED.mean(0), np.round(RECORDED[:1])])


def fixed() -> list[ModelFixed]:
    return [ModelFixed(str(i), model) for i, model in enumerate(MODELS)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore:Noise ceiling for tau")
def test_samples_are_those_of_rsatoolbox(method: str) -> None:
    """Copies of a stimulus, whose dissimilarity is zero, are left out by both."""
    (found,) = compare_with(MODELS, [RECORDED], method=method, bootstraps=12, seed=3)
    np.random.seed(3)  # noqa: NPY002
    theirs = eval_bootstrap(fixed(), RDMs(RECORDED), method=method, N=12, boot_noise_ceil=False)
    assert found.drawn[0] == pytest.approx(theirs.evaluations)
    assert found.values == pytest.approx(compare(MODELS, RECORDED, method))
    assert found.ceiling == pytest.approx(boot_noise_ceiling(RDMs(RECORDED), method=method))


def test_a_copy_of_a_stimulus_would_inflate_the_similarity() -> None:
    """What leaving copies out is for: with their zeros in, two matrices that share nothing are alike."""
    draw = np.random.default_rng(0)
    first, second = draw.random((2, 200, PAIRS))
    counted = []
    for a, b in zip(first, second, strict=True):
        chosen = draw.integers(0, 6, 6)
        lines = [squareform(squareform(one)[np.ix_(chosen, chosen)]) for one in (a, b)]
        counted.append(compare(lines[0][None], lines[1][None], "corr")[0, 0])
    (found,) = compare_with(first, [second[:1]], bootstraps=20)
    assert np.nanmean(counted) > 0.3
    assert abs(np.nanmean(found.drawn)) < 0.1


def test_one_subject_is_resampled_over_stimuli_alone() -> None:
    (found,) = compare_with(MODELS, [RECORDED[:1]], bootstraps=40, seed=5)
    np.random.seed(5)  # noqa: NPY002
    theirs = eval_bootstrap_pattern(fixed(), RDMs(RECORDED[:1]), method="spearman", N=40, boot_noise_ceil=False)
    assert found.ceiling is None
    assert found.result(range(3)).model_var == pytest.approx(theirs.model_var)
    assert found.result(range(3)).diff_var == pytest.approx(theirs.diff_var)
    assert found.freedom == theirs.dof == 8


def test_variances_are_those_of_the_dual_bootstrap() -> None:
    """rsatoolbox shuffles within each of its samples, so that no seed makes them the same: its own are taken."""
    (found,) = compare_with(MODELS, [RECORDED], bootstraps=1500)
    options = {"k_pattern": 1, "k_rdm": 1, "n_cv": 1, "use_correction": False}
    theirs = eval_dual_bootstrap(fixed(), RDMs(RECORDED), method="spearman", N=20, **options)
    drawn = theirs.evaluations[:, :, 0, 0].transpose(2, 0, 1)
    mine = replace(found, drawn=drawn).result(range(3))
    assert mine.model_var == pytest.approx(theirs.model_var)
    assert mine.diff_var == pytest.approx(theirs.diff_var)
    assert mine.dof == theirs.dof == 3
    subjects = eval_bootstrap_rdm(fixed(), RDMs(RECORDED), method="spearman", N=300, boot_noise_ceil=False)
    assert found.drawn[1].var(0) == pytest.approx(np.diag(subjects.variances), rel=0.3)


def test_intervals_and_differences_are_about_the_values_of_all_data() -> None:
    (found,) = compare_with(MODELS, [RECORDED], bootstraps=100)
    assert found.intervals().mean(1) == pytest.approx(found.similarity)
    pairs = found.differences([2, 0])
    assert [(pair["first"], pair["second"]) for pair in pairs] == [(0, 1)]
    assert pairs[0]["difference"] == pytest.approx(found.similarity[2] - found.similarity[0])
    low, high = pairs[0]["interval"]
    assert (pairs[0]["p"] < 0.05) == (low > 0 or high < 0)


def test_several_recordings_are_those_one_by_one() -> None:
    both = compare_with(MODELS, [RECORDED, RECORDED[:1]], bootstraps=5)
    alone = compare_with(MODELS, [RECORDED[:1]], bootstraps=5)
    assert both[1].values == pytest.approx(alone[0].values)
    assert [one.ceiling is None for one in both] == [False, True]
    assert noise_ceiling(RECORDED) == pytest.approx(both[0].ceiling)


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(ValueError, match=r"method must be one of spearman, .*, got 'spearmen'"):
        compare_with(MODELS, [RECORDED], method="spearmen")
    with pytest.raises(ValueError, match="'bures' is not defined where stimuli are resampled"):
        compare_with(MODELS, [RECORDED], method="bures")


def test_dissimilarities_of_networks_are_those_of_rsatoolbox() -> None:
    answers = np.random.default_rng(0).normal(size=(9, 5, 4))
    theirs = calc_rdm(Dataset(answers.reshape(9, -1)), method="correlation").dissimilarities[0]
    assert rdm(answers) == pytest.approx(theirs, abs=1e-6)
