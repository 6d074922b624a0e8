"""Runs of networks of one's own, and of baselines, analyzed and reported as far as they have what that takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("datasets")
pytest.importorskip("matplotlib")

from colgraph.cli import run as command
from colgraph.models import ConvNet, VisionTransformer
from colgraph.report import Settings, analyse, load_run
from colgraph.report.analyse import read_results
from colgraph.report.measures import CATALOGUE
from colgraph.report.needs import NEEDS, WITHOUT
from colgraph.report.page import write_page
from colgraph.training import RunFolder, fit, load_trained

SMALL: dict[str, Any] = {"epochs": 2, "batch_size": 32, "figure_every": 0, "logger": "none", "warmup": 0.0, "lr": 0.01}
QUICK = Settings(probes=40, permutations=2, nulls=1, progress=False)
NETWORKS = """
from types import SimpleNamespace

import torch
from torch import nn

import colgraph as cg


class Rates(nn.Module):
    def __init__(self, num_classes, columns=16, units=3):
        super().__init__()
        self.sheet = cg.build_sheet("grid", shape=(4, 4), neighbors="knn:5", num_inputs=8)
        self.steps, self.units = 3, units
        self.into, self.head = nn.Linear(64, columns * units), nn.Linear(units, num_classes)
        self.weight = nn.Parameter(torch.randn(self.sheet.edge_index.size(1), 1, 1) / 5)

    def unroll(self, images, *, state=None, steps=None, start=None):
        drive = self.into(images.flatten(1)).unflatten(1, (-1, self.units)).transpose(0, 1)
        source, target = self.sheet.edge_index
        state = torch.zeros_like(drive) if state is None else state
        for _ in range(self.steps if steps is None else steps):
            arrived = torch.zeros_like(state).index_add(0, target, self.weight * state[source])
            state = torch.tanh(state / 2 + arrived + drive)
        return SimpleNamespace(state=state)

    def classify(self, state):
        return self.head(state.mean(0))

    def forward(self, images):
        return self.classify(self.unroll(images).state)


def without(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))


def inside(num_classes, image_size):
    sheet = cg.build_sheet("grid", shape=(4, 4), neighbors="knn:5", num_inputs=4)
    model = cg.Columnformer(sheet, dim=4, steps=3)
    return cg.VisionColumnformer(model, image_size=image_size, patch_size=4, in_channels=1, num_classes=num_classes)
"""
OF_ANSWERS = {"corruptions", "attack", "weight_noise"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("own")
    (place / "networks.py").write_text(NETWORKS)
    draw = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 40)
    images = draw.integers(0, 120, (120, 8, 8), dtype=np.uint8)
    for label in range(3):
        images[labels == label, 2 * label : 2 * label + 3] += 100
    for name in ("Rates", "without", "inside"):
        fit(images, labels, model=f"{place / 'networks.py'}:{name}", out=place / name, **SMALL)
    return place


def found(results: dict[str, Any]) -> dict[str, str | None]:
    """Why not, of each analysis."""
    return {entry["key"]: entry["why_not"] for entry in results["analyses"]}


def test_every_need_is_one_of_the_list() -> None:
    assert {need for item in CATALOGUE for need in item.needs} <= set(NEEDS)
    assert {item.key for item in CATALOGUE if not item.needs} == OF_ANSWERS


def test_columns_of_ones_own_are_analyzed_as_far_as_they_go(runs: Path, tmp_path: Path) -> None:
    loaded = load_run(runs / "Rates", images=10)
    assert loaded.sheet.num_columns == 16
    assert set(loaded.lacks) == {"patches", "attention", "heard", "hidden", "evidence"}
    lacking = {item.key for item in CATALOGUE if set(item.needs) & set(loaded.lacks)}
    assert {"wiring", "lesions", "energy", "gabors"} <= lacking
    assert {"correlation_by_distance", "moran", "cka", "rsa", "fields", "activity_noise"}.isdisjoint(lacking)
    able = {"moran", "cka", "rsa", "activity_noise", "weight_noise"}
    reasons = found(analyse(runs / "Rates", QUICK, only=lacking | able))
    assert {key for key, reason in reasons.items() if reason in loaded.lacks.values()} == lacking
    assert {key for key, reason in reasons.items() if reason is None} == able
    results = read_results(runs / "Rates")
    assert results["controls"] == ["untrained", "shuffled positions"]
    assert "networks.py:Rates makes it, with the run's seed" in results["about"]["untrained"]
    assert {each["name"] for each in results["missing"]} > {"input", "untrained, independent weights", "tied weights"}
    assert results["activity"] == "length of the state"
    page = write_page(runs / "Rates", tmp_path / "page.html").read_text()
    assert page.count("Rates keeps no &#x27;attention&#x27;") == len(
        [1 for item in CATALOGUE if "attention" in item.needs]
    )
    assert "out-strength" not in page
    summary = RunFolder(runs / "Rates").results()
    assert (summary["columns"], summary["fingerprint"]) == (16, loaded.sheet.fingerprint)


def test_the_untrained_control_is_what_the_code_makes(runs: Path) -> None:
    loaded = load_run(runs / "Rates", images=2)
    drawn = [loaded.untrained().net.network.into.weight for _ in range(2)]
    assert torch.equal(*drawn)
    assert not torch.equal(drawn[0], loaded.net.net.network.into.weight)
    with pytest.raises(ValueError, match="only its code knows which weights are a column's own"):
        loaded.untrained(independent=True)


def test_a_columnformer_inside_a_network_of_ones_own_has_everything(runs: Path) -> None:
    loaded = load_run(runs / "inside", images=30)
    assert dict(loaded.lacks) == {}
    results = analyse(runs / "inside", QUICK, only=["wiring", "correlation_given_input", "dimensionality"])
    assert set(found(results).values()) == {None}
    assert {"untrained", "input"} <= set(results["controls"])


def test_a_network_without_columns_has_a_page(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--probes", "40", "--permutations", "2", "-o", "page.html"]
    command(["report", str(runs / "without"), *words])
    page = (tmp_path / "page.html").read_text()
    ids = re.findall(r"<section id='([^']+)'", page)
    assert ids == ["verdict", "accuracy", "controls", "training", "family-robustness", "sheet", "reading", "provenance"]
    assert "a network of your own has no columns" in page
    assert WITHOUT[:60] in page
    articles = re.findall(r"<article id='([^']+)'", page)
    assert set(articles) == OF_ANSWERS
    for item in CATALOGUE:
        assert item.title.replace("'", "&#x27;") in page  # what is missing is named, too
    for said in ("95% interval", "which classes are taken for which", "network&#x27;s file (SHA-256)", "networks.py"):
        assert said in page or said.replace("&#x27;", "'") in page, said
    assert "geometry" not in page.partition("<nav")[0]
    shown = RunFolder(runs / "without").predicted()
    assert shown is not None
    right = (shown["label"] == shown["prediction"]).mean()
    assert f"{100 * right:.1f}% correct" in page
    # It is compared over seeds like any other.
    command(["compare", str(runs / "without"), "-o", "seeds.md"])
    assert "Corrupted images" in (tmp_path / "seeds.md").read_text()


@pytest.mark.parametrize("model", ["vit", "local"])
def test_baselines_have_a_page(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 255, (40, 8, 8), dtype=np.uint8), np.arange(40) % 2
    sizes: dict[str, Any] = {"image_size": 8, "patch_size": 4, "in_channels": 1, "num_classes": 2, "dim": 8, "depth": 1}
    net = VisionTransformer(**sizes) if model == "vit" else ConvNet(**sizes, local=True)
    fit(images, labels, model=net, out="run", **{**SMALL, "epochs": 1})
    command(["report", "run", "-o", "page.html", "--probes", "40", "--permutations", "2", "--only", "weight_noise"])
    page = Path("page.html").read_text()
    assert RunFolder("run").record().config.baseline in page  # type: ignore[operator]
    assert "No sheet" in page


def test_another_sheet_than_was_trained_on_is_no_longer_that_run(runs: Path, tmp_path: Path) -> None:
    file = runs / "networks.py"
    try:
        file.write_text(
            NETWORKS.replace('shape=(4, 4), neighbors="knn:5", num_inputs=8', 'shape=(2, 8), neighbors="knn:5"')
        )
        with (
            pytest.warns(UserWarning, match="has changed"),
            pytest.raises(ValueError, match="lies on a sheet") as caught,
        ):
            load_trained(runs / "Rates")
        assert "\n" not in str(caught.value)
        file.write_text(NETWORKS.replace("num_inputs=8", "num_inputs=4"))
        with (
            pytest.warns(UserWarning, match="has changed"),
            pytest.raises(ValueError, match="another input or output columns now than"),
        ):
            load_run(runs / "Rates")
    finally:
        file.write_text(NETWORKS)
