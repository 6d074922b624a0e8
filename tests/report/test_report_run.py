"""A small run analyzed beside its controls, its page, and recordings predicted from it."""

from __future__ import annotations

import html
import json
import os
import re
import runpy
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from small_runs import train_on_digits

from colgraph import cli
from colgraph.data import load_images
from colgraph.report import Settings, analyse, load_run
from colgraph.report.analyse import is_analyzed
from colgraph.report.controls import find_controls
from colgraph.report.measures import CATALOGUE
from colgraph.report.page import write_page
from colgraph.training.checkpoint import optimizer_steps_of

SMALL: dict[str, Any] = {
    "data": "digits",
    "image_size": 8,
    "channels": 1,
    "neighbors": "knn:6",
    "options": {"widths": [4, 4]},
    "patch_size": 2,
    "dim": 8,
    "steps": 2,
    "qk_dim": 4,
    "mlp_dim": 8,
    "epochs": 2,
    "batch_size": 256,
    "lr": 5e-3,
    "warmup": 1,
    "wiring": 0.05,
    "figure_every": 0,
}
QUICK = Settings(probes=120, permutations=20, nulls=2, progress=False)


def train_small(path: Path, **changes: Any) -> Path:
    return train_on_digits(path, **{**SMALL, **changes})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    parent = tmp_path_factory.mktemp("runs")
    train_small(parent / "base")
    train_small(parent / "free", wiring=0.0)
    return parent


@pytest.fixture(scope="module")
def analyzed(runs):
    return analyse(runs / "base", QUICK)


def test_the_network_takes_plain_images(runs):
    run = load_run(runs / "base", images=20)
    data = torch.from_numpy(run.images)
    expected = run.net.net(load_images("digits", image_size=8, channels=1).transform().evaluate(data))
    assert torch.allclose(run.net(data.float() / 255), expected, atol=1e-4)
    assert not torch.allclose(run.untrained()(data.float() / 255), expected, atol=1e-2)
    same = run.untrained().state_dict()
    assert all(torch.equal(v, same[k]) for k, v in run.untrained().state_dict().items()), "drawn from the seed"


def test_every_analysis_has_a_number_or_a_reason(analyzed):
    assert len(analyzed["analyses"]) > 20
    for entry in analyzed["analyses"]:
        assert (entry["result"] is None) != (entry["why_not"] is None), entry["key"]
    by_key = {entry["key"]: entry for entry in analyzed["analyses"]}
    assert by_key["correlation_by_distance"]["result"]["null_mean"] is not None
    everyone = {"untrained", "input", "shuffled positions", "no wiring cost"}
    assert set(analyzed["about"]) == everyone
    for key, asked in (
        ("correlation_by_distance", everyone),
        ("wiring", everyone - {"input"}),
        ("rsa", everyone - {"shuffled positions"}),
        ("corruptions", {"no wiring cost"}),
    ):
        controls = by_key[key]["controls"]
        assert set(controls) == everyone
        assert {name for name, found in controls.items() if "value" in found} == asked, key
    assert by_key["energy"]["controls"]["shuffled positions"]["why_not"] == "does not depend on where columns lie"
    assert by_key["corruptions"]["result"]["low"] <= by_key["corruptions"]["result"]["value"]


def test_p_values_are_corrected_within_each_network(analyzed):
    """Beside every p-value stands one for their number, and both are written."""
    for name in ("run", *analyzed["controls"]):
        entries = [e["result"] if name == "run" else e["controls"].get(name) for e in analyzed["analyses"]]
        tested = [e for e in entries if e is not None and e.get("p_value") is not None]
        p = np.array([e["p_value"] for e in tested])
        expected = [(len(p) * np.sort(p)[k:] / np.arange(k + 1, len(p) + 1)).min() for k in range(len(p))]
        assert np.sort([e["p_fdr"] for e in tested]) == pytest.approx(np.minimum(expected, 1)), name
        assert len(tested) > 5


def test_near_tautologies_say_so(analyzed):
    by_key = {entry["key"]: entry["controls"] for entry in analyzed["analyses"]}
    assert "one draw of what the null shuffles" in by_key["moran"]["shuffled positions"]["note"]
    assert "this very term" in by_key["wiring"]["no wiring cost"]["note"]
    assert "note" not in by_key["rsa"]["untrained"]


def test_shuffled_positions_have_no_topography(analyzed):
    entry = next(e for e in analyzed["analyses"] if e["key"] == "correlation_by_distance")
    shuffled = entry["controls"]["shuffled positions"]
    assert abs(shuffled["value"]) < abs(entry["result"]["value"]) + 0.3
    assert shuffled["p_value"] > 0.04


def test_missing_controls_say_how_to_get_them(analyzed, runs):
    missing = {m["name"]: m["reason"] for m in analyzed["missing"]}
    assert set(missing) == {
        "untrained, independent weights",
        "shuffled within patches",
        "tied weights",
        "random graph",
        "trained on shuffled positions",
    }
    assert "--untied none" in missing["tied weights"]
    assert missing["untrained, independent weights"].startswith("the control 'untrained' is this")
    assert missing["shuffled within patches"].startswith("every patch is seen by one column")
    found = {control.name: control.path for control in find_controls(load_run(runs / "base", images=2))}
    assert found["no wiring cost"].name == "free"
    # Another seed will do where there is none of the same; settings that an older run lacks are at their defaults.
    other = runs / "other-seed"
    shutil.copytree(runs / "free", other)
    text = (other / "config.yaml").read_text().replace("\nseed: 0", "\nseed: 1")
    (other / "config.yaml").write_text(text.replace("inject: first\n", ""))
    assert "inject" not in (other / "config.yaml").read_text()
    shutil.move(runs / "free", runs.parent / "away")
    found = {control.name: control.path for control in find_controls(load_run(runs / "base", images=2))}
    shutil.move(runs.parent / "away", runs / "free")
    assert found["no wiring cost"].name == "other-seed"
    found = {control.name: control.path for control in find_controls(load_run(runs / "base", images=2))}
    assert found["no wiring cost"].name == "free"
    reverse = {control.name: control.reason for control in find_controls(load_run(runs / "free", images=2))}
    assert reverse["no wiring cost"] == "the run itself is this"


def test_files_are_where_they_should_be(analyzed, runs):
    place = runs / "base" / "analysis"
    assert json.loads((place / "results.json").read_text()) == analyzed
    for entry in analyzed["analyses"]:
        assert bool(entry["figures"]) == (entry["result"] is not None)
        for one in entry["figures"]:
            assert (place / one["file"]).stat().st_size > 5000
            assert one["alt"]
    with np.load(place / "maps.npz", allow_pickle=False) as maps:
        assert maps["activity"].shape == (2, 32)


def test_a_part_made_again_leaves_the_rest(analyzed, runs, tmp_path):
    copy = tmp_path / "base"
    shutil.copytree(runs / "base", copy)
    shutil.copytree(runs / "free", tmp_path / "free")
    place = copy / "analysis" / "results.json"
    before = {entry["key"]: entry for entry in json.loads(place.read_text())["analyses"]}
    fields = np.load(copy / "analysis" / "maps.npz")["fields"]
    analyse(copy, QUICK, only=["wiring", "moran"])
    after = {entry["key"]: entry for entry in json.loads(place.read_text())["analyses"]}
    assert list(after) == list(before)
    assert after["energy"] == before["energy"]
    assert after["wiring"]["result"] == before["wiring"]["result"]
    assert np.array_equal(np.load(copy / "analysis" / "maps.npz")["fields"], fields), "the page still has them"
    assert after["wiring"]["controls"]["no wiring cost"]["seed"] == 0, "which run the control was"
    text = place.read_text()
    with pytest.raises(
        ValueError, match=f"holds {len(CATALOGUE) - 1} other analyses with probes=120, which would be lost"
    ):
        analyse(copy, Settings(probes=80, permutations=20, nulls=2, progress=False), only=["wiring"])
    with pytest.raises(ValueError, match="other analyses with signal=normed, which would be lost"):
        analyse(copy, replace(QUICK, signal="norm"), only=["wiring"])
    assert place.read_text() == text
    # A control that has come or gone is told; broken maps are named, before anything is computed.
    shutil.rmtree(tmp_path / "free")
    said: list[str] = []
    analyse(copy, QUICK, only=["wiring"], say=said.append)
    assert any("made beside other controls" in line for line in said)
    (copy / "analysis" / "maps.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"cannot read .*maps\.npz"):
        analyse(copy, QUICK, only=["wiring"])
    # What is of an older checkpoint is not worth keeping.
    place.write_text(json.dumps(json.loads(text) | {"optimizer_steps": 1}))
    assert [e["key"] for e in analyse(copy, QUICK, only=["wiring"])["analyses"]] == ["wiring"]


def test_analyses_say_which_checkpoint_they_are_of(analyzed, runs, tmp_path):
    """The age of files says nothing: copies and clones write them in any order."""
    copy = shutil.copytree(runs / "base", tmp_path / "base")
    place, checkpoint = copy / "analysis" / "results.json", copy / "checkpoints" / "last.ckpt"
    results = json.loads(place.read_text())
    assert results["optimizer_steps"] == optimizer_steps_of(checkpoint) > 0
    for age in (-10, 10):
        os.utime(checkpoint, (place.stat().st_mtime + age,) * 2)
        assert is_analyzed(copy)
    place.write_text(json.dumps(results | {"optimizer_steps": 1}))
    os.utime(checkpoint, (0, 0))
    assert not is_analyzed(copy)
    del results["optimizer_steps"]  # as versions before this have it: the files' age is all there is
    place.write_text(json.dumps(results))
    for age, current in ((-10, True), (10, False)):
        os.utime(checkpoint, (place.stat().st_mtime + age,) * 2)
        assert is_analyzed(copy) is current


def test_numbers_of_a_control_that_was_trained_again_are_not_kept(analyzed, runs, tmp_path):
    """Of controls, names alone were compared: the page showed numbers of networks that are no more."""
    for name in ("base", "free"):
        shutil.copytree(runs / name, tmp_path / name)
    copy, said = tmp_path / "base", []
    place = copy / "analysis" / "results.json"
    results = json.loads(place.read_text())
    assert set(results["analyses"][0]["networks"]) == {"untrained", "shuffled positions", "no wiring cost"}
    by_key = {entry["key"]: entry for entry in results["analyses"]}
    del by_key["energy"]["networks"]  # as versions before this have it
    place.write_text(json.dumps(results))
    control = tmp_path / "free" / "checkpoints" / "last.ckpt"
    content = torch.load(control, weights_only=True)
    weights = content["state_dict"]
    weights[next(name for name in weights if name.endswith("fc1.weight"))] += 0.01
    torch.save(content, control)
    found = analyse(copy, QUICK, only=["wiring"], say=said.append)
    assert [entry["key"] for entry in found["analyses"]] == ["wiring", "energy"]
    count = len(CATALOGUE) - 2
    wanted = f"note: {count} other analyses are not kept, they were made beside another no wiring cost: without --only"
    assert any(line.startswith(wanted) for line in said)
    assert json.loads(place.read_text())["analyses"] == found["analyses"]


def test_the_page_needs_nothing_else(analyzed, runs, tmp_path):
    path = write_page(runs / "base", tmp_path / "report.html")
    text = path.read_text()
    # "import" by itself may be in the command that trained the run.
    for forbidden in ("http://", "https://", 'src="/', "import(", "import {", "import *", "fetch(", "XMLHttpRequest"):
        assert forbidden not in text, forbidden
    assert "default-src 'none'" in text
    for entry in analyzed["analyses"]:
        assert f"id='{entry['key']}'" in text
    assert path.stat().st_size < 5e6
    assert list(tmp_path.iterdir()) == [path]
    targets = set(re.findall(r"href=.#([^']+)'", text))
    assert targets <= set(re.findall(r"id='([^']+)'", text)), "each entry of the contents leads somewhere"
    assert {"verdict", "accuracy", "controls", "provenance", "sheet"} <= set(re.findall(r"id='([^']+)'", text))
    assert text.count("data:application/pdf") >= len([one for one in analyzed["analyses"] if one["result"]])
    summary = json.loads((runs / "base" / "summary.json").read_text())
    for said in (summary["command"], summary["fingerprint"]):
        assert html.escape(said) in text


def test_the_page_works_in_a_browser(analyzed, runs, tmp_path, open_page):
    path = write_page(runs / "base", tmp_path / "report.html")
    opened = open_page(path)
    assert opened.requests == [path.as_uri()]
    broken = "Array.from(document.images).filter(image => !image.complete || !image.naturalWidth).length"
    assert opened.page.evaluate(broken) == 0
    opened.keep("report")
    first = opened.picture()
    opened.part("map").select_option(label="activity (mean)")
    opened.part("step").fill("1")
    second = opened.picture()
    opened.part("column").fill("20")
    opened.part("column").press("Enter")
    assert len({first, second, opened.picture()}) == 3
    assert opened.part("status").inner_text().startswith("Column 20: activity (mean)")
    assert opened.part("spreading-text").inner_text() == "2 of 4 (as trained)"
    opened.part("spreading-step").fill("4")
    assert "held-out images" in opened.part("spreading-status").inner_text()
    opened.page.set_viewport_size({"width": 400, "height": 800})
    opened.page.wait_for_timeout(200)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 400
    opened.keep("report-narrow")
    assert opened.errors == []


def test_pages_refuse_what_they_cannot_show(analyzed, runs, tmp_path):
    with pytest.raises(ValueError, match="has not been analyzed"):
        write_page(runs / "free", tmp_path / "x.html")
    with pytest.raises(ValueError, match=r"ends in \.html"):
        write_page(runs / "base", tmp_path / "x.pdf")
    copy = tmp_path / "copy"
    shutil.copytree(runs / "base" / "analysis", copy / "analysis")
    (copy / "analysis" / "results.json").write_text('{"format": 0}')
    with pytest.raises(ValueError, match="format 0, this one reads"):
        write_page(copy, tmp_path / "x.html")


def test_bad_runs_are_named(runs, tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no config\.yaml"):
        load_run(tmp_path)
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(runs / "base" / "config.yaml", bare)
    with pytest.raises(ValueError, match="no checkpoint"):
        load_run(bare)
    (bare / "checkpoints").mkdir()
    (bare / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(ValueError, match="cannot read checkpoint"):
        load_run(bare)
    with pytest.raises(ValueError, match="did you mean 'wiring'"):
        analyse(runs / "base", QUICK, only=["wirin"])


def recordings(*words: str) -> None:
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "recordings.py"))["main"](list(words))


def test_encode_predicts_recordings_made_from_the_run(runs, tmp_path, capsys):
    run, place = str(runs / "base"), tmp_path / "recordings"
    recordings(run, "--out", str(place), "--stimuli", "90", "--targets", "3", "--noise", "0.3")
    recorded = np.load(place / "responses.npy")
    assert recorded.shape == (4, 90, 6)
    assert recorded.mean(0).var(0) == pytest.approx(1 + 0.09 / 4, abs=0.1)
    assert recorded.var(0, ddof=1).mean() == pytest.approx(0.09, abs=0.01)
    words = [run, "--responses", str(place / "responses.npy"), "--stimuli", str(place / "stimuli")]
    out = tmp_path / "encoding.json"
    cli.run(["encode", *words, "--regions", str(place / "regions.csv"), "-o", str(out), "--permutations", "20"])
    cells = {(c["features"], c["region"]): c["value_normalised"] for c in json.loads(out.read_text())["cells"]}
    asked = ("pixels", "untrained", "step 1", "step 2")
    assert set(cells) == {(name, region) for name in asked for region in ("first", "last")}
    assert cells["step 1", "first"] > 0.6
    assert cells["step 2", "last"] > max(0.6, cells["pixels", "last"])
    assert "of the ceiling" in capsys.readouterr().out
    assert out.with_suffix(".png").stat().st_size > 5000
    with pytest.raises(ValueError, match=r"ends in \.json"):
        cli.run(["encode", *words, "-o", str(tmp_path / "encoding.txt")])
    np.save(tmp_path / "short.npy", np.random.default_rng(0).normal(size=(89, 6)))
    with pytest.raises(ValueError, match=r"89 stimuli, but .* holds 90 images"):
        cli.run(["encode", words[0], "--responses", str(tmp_path / "short.npy"), *words[3:]])
    (tmp_path / "few.csv").write_text("A\nB\n")
    with pytest.raises(ValueError, match="names 2 regions, but there are 6 targets"):
        cli.run(["encode", *words, "--regions", str(tmp_path / "few.csv")])


def test_recordings_refuse_what_cannot_be(runs, tmp_path):
    run = str(runs / "base")
    with pytest.raises(ValueError, match="nothing is overwritten"):
        recordings(run, "--out", str(tmp_path))
    with pytest.raises(ValueError, match="--stimuli 500: the run has only 360"):
        recordings(run, "--out", str(tmp_path / "new"), "--stimuli", "500")
    with pytest.raises(ValueError, match="--noise must be at least 0, got -1"):
        recordings(run, "--out", str(tmp_path / "new"), "--noise", "-1")
    assert not (tmp_path / "new").exists()


def test_commands_check_their_flags(runs):
    with pytest.raises(ValueError, match="--probes must be at least 40"):
        cli.run(["analyze", str(runs / "base"), "--probes", "3"])
    with pytest.raises(ValueError, match="required"):
        cli.run(["encode", str(runs / "base")])
    for flag in ("--columns", "--folds", "--permutations"):
        with pytest.raises(ValueError, match=f"{flag} must be at least"):
            cli.run(["encode", "nowhere", "--responses", "r.npy", "--stimuli", "s", flag, "0"])
    for given, message in (("evidenc", "did you mean 'evidence'"), ("99", "channel must be 0 to 7, got 99")):
        with pytest.raises(ValueError, match=message):
            cli.run(["analyze", str(runs / "base"), "--signal", given])
    with pytest.raises(ValueError, match="--robustness plays no part in --only wiring"):
        cli.run(["analyze", str(runs / "base"), "--only", "wiring", "--robustness"])


def test_a_report_does_not_pass_over_flags_of_an_analysis_that_is_there(analyzed, runs, tmp_path, capsys):
    run, page = str(runs / "base"), str(tmp_path / "report.html")
    for words in ("--probes 80", "--permutations 30", "--seed 1", "--batch-size 3", "--signal norm", "--robustness"):
        with pytest.raises(ValueError, match=f"{words}: .* has been analyzed with .*colgraph analyze"):
            cli.run(["report", run, "-o", page, *words.split()])
    cli.run(["report", run, "-o", page, "--probes", "120", "--permutations", "20"])
    assert capsys.readouterr().out.strip() == page


def test_a_folder_of_analyses_that_cannot_be_made_is_said_first(runs, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(runs / "base", copy, ignore=shutil.ignore_patterns("analysis"))
    (copy / "analysis").touch()
    said: list[str] = []
    with pytest.raises(ValueError, match="analysis' is a file: name a folder"):
        analyse(copy, QUICK, only=["wiring"], say=said.append)
    assert not said


def test_runs_of_another_version_are_named(runs, tmp_path):
    copy = tmp_path / "old"
    shutil.copytree(runs / "base", copy)
    place = copy / "checkpoints" / "last.ckpt"
    content = torch.load(place, weights_only=True)
    weights = content["state_dict"]
    weights["of_an_old_name"] = weights.pop(next(name for name in weights if name.endswith("fc1.weight")))
    torch.save(content, place)
    with pytest.raises(ValueError, match=r"written by another version of colgraph") as caught:
        cli.run(["analyze", str(copy)])
    assert "\n" not in str(caught.value)
    place.write_bytes(b"no checkpoint at all")
    with pytest.raises(ValueError, match=r"last\.ckpt"):
        cli.run(["analyze", str(copy)])
    (copy / "config.yaml").write_text("epochs: 3\nof_an_old_name: 7\n")
    place.unlink()
    with pytest.raises(ValueError, match="no checkpoint"):
        cli.run(["encode", str(copy), "--responses", "r.npy", "--stimuli", "s"])


def test_what_does_not_apply_says_so_in_the_report(tmp_path):
    train_small(tmp_path / "ring", geometry="ring", options={"columns": 24}, epochs=1)
    (tmp_path / "ring" / "summary.json").unlink()
    found = analyse(tmp_path / "ring", QUICK, only=["pinwheels", "wiring"])
    by_key = {entry["key"]: entry for entry in found["analyses"]}
    assert by_key["pinwheels"]["why_not"].startswith("pinwheels need a two-dimensional sheet")
    assert by_key["wiring"]["result"] is not None
    text = write_page(tmp_path / "ring", tmp_path / "ring.html").read_text()
    assert "Does not apply: pinwheels need a two-dimensional sheet" in text
    assert "The run had not ended when it was analyzed" in text
