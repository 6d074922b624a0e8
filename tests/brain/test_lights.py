"""The searchlight of a run beside those of its controls: numbers, files, and the report's page."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("lightning")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from small_runs import train_on_digits

import colgraph.analysis as an
from colgraph.brain.lights import LightSettings, searchlight_of, write_searchlight
from colgraph.report import Settings, analyse, load_run
from colgraph.report.light_maps import read_lights
from colgraph.report.page import write_page

SMALL = {
    "data": "digits",
    "image_size": 8,
    "channels": 1,
    "neighbors": "knn:6",
    "options": {"widths": [4, 4, 4]},
    "patch_size": 2,
    "dim": 8,
    "steps": 3,
    "qk_dim": 4,
    "mlp_dim": 8,
    "epochs": 1,
    "batch_size": 256,
    "lr": 5e-3,
    "warmup": 0,
    "figure_every": 0,
    "parametrization": "shared+difference",
    "backend": "reference",
}
QUICK = LightSettings(permutations=40)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return load_run(train_on_digits(tmp_path_factory.mktemp("runs") / "one", **SMALL), images=12)


@pytest.fixture(scope="module")
def recordings(run):
    """Dissimilarities of the run's own last layer, and of nothing."""
    own = an.responses(run.net, run.images, columns=np.arange(32, 48), progress=False)
    nothing = np.random.default_rng(0).normal(size=(2, 12, 9))
    return {"own/layer": an.rdm(own), "none": np.array([an.rdm(one) for one in nothing])}


@pytest.fixture(scope="module")
def content(run, recordings):
    return searchlight_of(run, run.images, recordings, QUICK)


def model(content, recording, name):
    return next(one for one in content["recordings"][recording]["models"] if one["model"] == name)


def test_the_run_and_its_controls_have_a_map_each(run, recordings, content):
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert [one["name"] for one in content["recordings"]] == ["own/layer", "none"]
    assert [one["subjects"] for one in content["recordings"]] == [1, 2]
    mine = model(content, 0, "run")
    beside = an.spatial_edges(run.sheet.pos.numpy(), metric=run.sheet.space)
    states = an.responses(run.net, run.images, progress=False)
    pixels = an.rdm(run.images.reshape(12, -1))
    for name, given in (("run", None), ("run-given-pixels", pixels)):
        alone = an.searchlight(states, recordings["own/layer"], beside, permutations=40, given=given)
        found = model(content, 0, name)
        np.testing.assert_allclose(found["map"], alone.map, atol=1e-5)
        assert found["significant"] == alone.significant.sum()
    layer = run.sheet.layer.numpy()
    assert np.argmax(mine["map"]) in np.flatnonzero(layer == 2)
    # What a light sees is defined where it has a column that a patch enters by: beyond the second layer there is none.
    seen = [value is not None for value in model(content, 0, "input")["map"]]
    assert all(np.array(seen)[layer == 0])
    assert not any(np.array(seen)[layer == 2])
    untrained = an.responses(run.untrained(), run.images, progress=False)
    alone = an.searchlight(untrained, recordings["none"], beside, permutations=40)
    np.testing.assert_allclose(model(content, 1, "untrained")["map"], alone.map, atol=1e-5)
    assert model(content, 1, "untrained-independent")["map"] != model(content, 1, "untrained")["map"]


def test_the_step_and_the_signal_are_those_asked_for(run, recordings):
    one = {"none": recordings["none"]}
    first = searchlight_of(run, run.images, one, replace(QUICK, step=0, signal="evidence", hops=2))
    x = an.responses(run.net, run.images, steps=0, signal="evidence", progress=False)
    beside = an.spatial_edges(run.sheet.pos.numpy(), metric=run.sheet.space)
    alone = an.searchlight(x, recordings["none"], beside, hops=2, permutations=40)
    np.testing.assert_allclose(np.array(model(first, 0, "run")["map"], float), alone.map, atol=1e-5)


def test_the_page_has_the_maps_that_are_there(run, recordings, content, tmp_path):
    analyse(run.path, Settings(probes=120, permutations=5, nulls=1, progress=False), only=["wiring"])
    before = write_page(run.path, tmp_path / "before.html").read_text()
    assert "searchlight" not in before
    files = write_searchlight(
        run, searchlight_of(run, run.images, {**recordings, "own layer": recordings["none"]}, QUICK)
    )
    assert len({file.name for file in files}) == 4
    assert all(file.is_file() for file in files)
    page = write_page(run.path, tmp_path / "page.html").read_text()
    assert '"name": "searchlight: own/layer"' in page
    assert "this run, given the pixels" in page
    assert page.count('alt="searchlight: ') == 3
    assert "The run has gone on since" not in page
    path = files[0]
    os.utime(path, (0, 0))
    assert "The run has gone on since" not in write_page(run.path, tmp_path / "page.html").read_text()
    good = path.read_text()
    path.write_text(json.dumps(json.loads(good) | {"optimizer_steps": 1}))
    assert (
        "this is of the checkpoint after 1 optimizer steps" in write_page(run.path, tmp_path / "old.html").read_text()
    )
    for broken, says in (
        (good[:100], "cannot read"),
        ("[]", "cannot read"),
        (good.replace('"format": 1', '"format": 9'), "format 9, this one reads 1"),
        (good.replace('"columns": 48,\n "fing', '"columns": 7,\n "fing'), "is of 7 columns, the analyzed sheet has 48"),
    ):
        path.write_text(broken)
        with pytest.raises(ValueError, match=says):
            read_lights(run.path, 48)
    path.unlink()
    assert read_lights(run.path, 48) is None


def test_what_does_not_fit_is_refused_by_name(run, recordings):
    images = run.images
    for stimuli, given, how, says in (
        (images, {}, QUICK, "at least one recording"),
        (images, [("a", None), ("a", None)], QUICK, "two recordings are called 'a'"),
        (images.astype(np.float32), recordings, QUICK, "between 0 and 1"),
        (images[:11], recordings, QUICK, "recording 'own/layer': .*12 stimuli.*11"),
        (images, {"a": np.full(66, np.nan)}, QUICK, "recording 'a': .*finite"),
        (images, recordings, replace(QUICK, step=3), r"0\.\.2"),
        (images, recordings, replace(QUICK, signal="norms"), "'norm'"),
        (images, recordings, replace(QUICK, hops=0), "hops"),
        (images, recordings, replace(QUICK, permutations=0), "permutations"),
        (images[..., :6], recordings, QUICK, "8"),
    ):
        with pytest.raises(ValueError, match=says) as caught:
            searchlight_of(run, stimuli, given, how)
        assert "\n" not in str(caught.value)
