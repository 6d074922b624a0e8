"""``colgraph rsa``: a run and its controls beside recordings, by the command line, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rdm_examples import squares, triangles

pytest.importorskip("lightning")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("rsatoolbox")

from PIL import Image
from rsatoolbox.data import Dataset
from rsatoolbox.inference.noise_ceiling import boot_noise_ceiling
from rsatoolbox.rdm import RDMs, calc_rdm, compare
from small_runs import train_on_digits

from colgraph import analysis as an
from colgraph import cli
from colgraph.brain import networks
from colgraph.brain.stimuli import find_stimuli
from colgraph.report import load_run
from colgraph.report.page_recordings import recordings
from colgraph.training import RunFolder, read_checkpoint

SMALL: dict[str, Any] = {"data": "digits", "image_size": 8, "channels": 1, "patch_size": 2, "steps": 3, "epochs": 2}
SMALL |= {"dim": 8, "batch_size": 128, "lr": 1e-2, "warmup": 0, "figure_every": 0, "tensorboard": False}
SHEET: dict[str, Any] = {
    "parametrization": "shared+difference",
    "neighbors": "knn:6",
    "options": {"widths": [4, 4]},
    "qk_dim": 4,
    "mlp_dim": 8,
}
COUNT = 12
NAMES = [f"thing {'abcdefghijkl'[i]}" for i in range(COUNT)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs")
    train_on_digits(place / "base", **SMALL, **SHEET, wiring=0.05, keep_checkpoints=3)
    train_on_digits(place / "tied", **SMALL, **SHEET, wiring=0.05, untied="none", keep_checkpoints=3)
    baseline = SMALL | {"steps": 2, "neighbors": "knn:6", "options": {"widths": [4, 4]}}
    train_on_digits(place / "small-vit", **baseline, model="vit", depth=2, num_heads=2, keep_checkpoints=3)
    return place


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shown")
    draw = np.random.default_rng(0)
    for name in NAMES:
        Image.fromarray(draw.integers(0, 256, (20, 20), dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy without neighbors."""
    shutil.copytree(trained / "base", tmp_path / "alone" / "base")
    return tmp_path / "alone" / "base"


LINES = triangles(4, count=COUNT)


@pytest.fixture
def it(tmp_path: Path) -> Path:
    np.save(tmp_path / "IT.npy", squares(LINES))
    return tmp_path / "IT.npy"


def rsa(run: Path, rdms: Path, stimuli: Path, *words: object) -> list[dict[str, Any]]:
    given = ["rsa", run, "--rdms", rdms, "--stimuli", stimuli, "--bootstraps", 30, *words]
    cli.run([str(word) for word in given])
    out = Path(words[words.index("-o") + 1]) if "-o" in words else run / "rsa.json"
    return json.loads(out.read_text())


def test_a_run_stands_beside_its_controls_and_models(trained: Path, shown: Path, it: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "models.npz", V1=squares(triangles(1, seed=7, count=COUNT))[0], pixels=LINES.mean(0))
    out = tmp_path / "found.json"
    rows = rsa(
        trained / "base", it, shown, "--models", tmp_path / "models.npz", "--signal", "normed,evidence", "-o", out
    )
    assert (rows[0]["model"], rows[0]["step"], rows[0]["signal"], rows[0]["default"]) == ("run", 3, "normed", True)
    defaults = [row["model"] for row in rows if row["default"]]
    wanted = ["run", "untrained", "untrained-independent", "tied weights", "vit", "pixels", "V1", "pixels (given)"]
    assert defaults == wanted
    folders = {row["model"]: Path(row["folder"]).name for row in rows if "folder" in row}
    assert folders == {"tied weights": "tied", "vit": "small-vit"}
    mine = [row for row in rows if row["model"] == "run" and "equal_to" not in row]
    run = {(row["signal"], row["step"]) for row in mine if row["region"] is None}
    assert run == {(signal, step) for signal in ("normed", "evidence") for step in (1, 2, 3)}
    regions = [(row["region"], row["step"]) for row in mine if row["region"] and row["signal"] == "normed"]
    assert regions == [("layer0", 3), ("layer1", 3)]
    # As rsatoolbox has them, of the images boxed to the network's size.
    loaded = load_run(trained / "base", images=0)
    images = find_stimuli(shown).decoded(8, 1)
    answers = an.responses(loaded.net, images, progress=False)
    theirs = calc_rdm(Dataset(answers.reshape(COUNT, -1)), method="correlation")
    assert rows[0]["similarity"] == pytest.approx(compare(theirs, RDMs(LINES), "spearman").mean())
    first = answers[:, an.sheet_regions(loaded.sheet, "layers")["layer0"]]
    theirs = calc_rdm(Dataset(first.reshape(COUNT, -1)), method="correlation")
    (row,) = [row for row in mine if row["region"] == "layer0" and row["signal"] == "normed"]
    assert row["similarity"] == pytest.approx(compare(theirs, RDMs(LINES), "spearman").mean())
    pixels = calc_rdm(Dataset(images.flatten(1).numpy()), method="correlation")
    row = next(row for row in rows if row["model"] == "pixels")
    assert row["similarity"] == pytest.approx(compare(pixels, RDMs(LINES), "spearman").mean())
    assert rows[0]["ceiling"] == pytest.approx(boot_noise_ceiling(RDMs(LINES), method="spearman"))
    assert rows[0]["subjects"] == 4
    assert rows[0]["interval"][0] < rows[0]["similarity"] < rows[0]["interval"][1]
    about = json.loads((tmp_path / "found-differences.json").read_text())
    pairs = [pair for pair in about["differences"] if pair["between"] == "models"]
    second = next(pair for pair in pairs if pair["second"]["model"] == "untrained")
    assert second["difference"] == pytest.approx(rows[0]["similarity"] - rows[1]["similarity"])
    assert second["p_corrected"] >= second["p"]
    assert rows[1]["run_minus_this"]["difference"] == second["difference"]
    assert {pair["between"] for pair in about["differences"]} == {"models", "steps of the run"}
    assert "random graph" in {one["name"] for one in about["missing"]}
    assert (tmp_path / "found.png").stat().st_size > 5000
    shutil.copy(out, tmp_path / "rsa.json")
    page = recordings(RunFolder(tmp_path))
    assert "IT: 4 subjects, noise ceiling" in page
    assert page.count("<tr><th scope='row'>") == len([r for r in rows if r["default"] or "default_step" in r])


def test_recordings_with_names_are_joined_in_any_order(run: Path, shown: Path, it: Path, tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(COUNT)
    mixed = squares(LINES)[:, order][:, :, order]
    np.savez(tmp_path / "named.npz", IT=mixed, stimuli=[NAMES[i] for i in order])
    plain, named = rsa(run, it, shown), rsa(run, tmp_path / "named.npz", shown)
    assert [row["similarity"] for row in named] == pytest.approx([row["similarity"] for row in plain])
    labels = np.array([NAMES[i] for i in order])
    np.savez(tmp_path / "labels.npz", IT=mixed, labels=labels)
    assert [row["similarity"] for row in rsa(run, tmp_path / "labels.npz", shown)] == pytest.approx(
        [row["similarity"] for row in plain]
    )
    np.savez(tmp_path / "labels.npz", IT=mixed, labels=np.char.add("a ", labels))
    with pytest.raises(ValueError, match="labels may hold the names of the stimuli, which are not those of the images"):
        rsa(run, tmp_path / "labels.npz", shown)
    np.save(tmp_path / "mixed.npy", mixed)
    other = rsa(run, tmp_path / "mixed.npy", shown)
    assert other[0]["similarity"] != pytest.approx(plain[0]["similarity"])


def test_a_searchlight_is_of_the_default_step(run: Path, shown: Path, it: Path, tmp_path: Path) -> None:
    rsa(run, it, shown, "--step", 2, "--searchlight", "-o", tmp_path / "found.json")
    lights = json.loads(RunFolder(run).searchlight.read_text())
    assert (lights["light"]["step"], lights["light"]["signal"]) == (1, "normed")
    assert [(one["name"], one["subjects"]) for one in lights["recordings"]] == [("IT", 4)]
    assert lights["light"]["method"] == "spearman"
    rsa(run, it, shown, "--searchlight", "--method", "corr", "-o", tmp_path / "found.json")
    assert json.loads(RunFolder(run).searchlight.read_text())["light"]["method"] == "pearson"


def test_what_is_of_an_earlier_checkpoint_says_so(run: Path, shown: Path, it: Path) -> None:
    rows = rsa(run, it, shown)
    steps = read_checkpoint(RunFolder(run).last)["global_step"]
    assert rows[0]["optimizer_steps"] == steps
    assert "optimizer_steps" not in next(row for row in rows if row["model"] == "untrained")
    folder = RunFolder(run)
    assert "gone on" not in recordings(folder)
    cli.run(["rsa-table", str(run)])
    content = torch.load(folder.last, weights_only=True)
    torch.save(content | {"global_step": steps + 7}, folder.last)
    page = recordings(folder)
    assert f"of the checkpoint after {steps} optimizer steps, its newest is after {steps + 7}" in page
    with pytest.raises(ValueError, match=rf"is of the run after {steps} optimizer steps, which has gone on to"):
        cli.run(["rsa-table", str(run)])
    old = [{name: value for name, value in row.items() if name != "optimizer_steps"} for row in rows]
    folder.rsa.write_text(json.dumps(old))
    assert "gone on" not in recordings(folder)
    cli.run(["rsa-table", str(run)])


def test_one_region_has_no_rows_and_says_so(
    run: Path, shown: Path, it: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rsa(run, it, shown, "--regions", "all", "-o", tmp_path / "found.json")
    assert {row["region"] for row in rows} == {None}
    assert "note: --regions all: the sheet has one, 'all', and so no rows by region" in capsys.readouterr().err


def test_one_subject_has_no_ceiling(run: Path, shown: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", LINES[0])
    rows = rsa(run, tmp_path / "one.npy", shown, "--method", "tau-a", "--metric", "euclidean")
    assert rows[0]["ceiling"] is None
    assert (rows[0]["method"], rows[0]["metric"], rows[0]["of_subjects"]) == (
        "tau-a",
        "euclidean",
        {"1": rows[0]["similarity"]},
    )


def test_the_default_step_is_chosen_elsewhere(run: Path, shown: Path, it: Path, tmp_path: Path) -> None:
    loaded = load_run(run, images=0)
    images = find_stimuli(shown).decoded(8, 1)
    first = an.rdm(an.responses(loaded.net, images, steps=0, progress=False))
    np.save(tmp_path / "other.npy", first)
    rows = rsa(run, it, shown, "--choose-on", tmp_path / "other.npy")
    assert rows[0]["step"] == 1
    assert rows[0]["step_chosen"].startswith("the best one on ")
    assert rsa(run, it, shown, "--step", 2)[0]["step"] == 2
    with pytest.raises(ValueError, match="is given to --rdms and --choose-on"):
        rsa(run, it, shown, "--choose-on", it)
    np.save(tmp_path / "copy.npy", LINES[2] * 2)
    with pytest.raises(ValueError, match=r"'copy' of --choose-on .* is the recording 'IT' of"):
        rsa(run, it, shown, "--choose-on", tmp_path / "copy.npy")
    with pytest.raises(ValueError, match="--step and --choose-on both say which step"):
        rsa(run, it, shown, "--choose-on", tmp_path / "other.npy", "--step", 1)


def test_the_step_is_chosen_on_other_images_too(run: Path, shown: Path, it: Path, tmp_path: Path) -> None:
    pictures = np.random.default_rng(3).integers(0, 256, (7, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "pictures.npy", pictures)
    loaded = load_run(run, images=0)
    images = find_stimuli(tmp_path / "pictures.npy").decoded(8, 1)
    np.save(tmp_path / "other.npy", an.rdm(an.responses(loaded.net, images, steps=1, progress=False)))
    words = ["--choose-on", tmp_path / "other.npy", "--choose-stimuli", tmp_path / "pictures.npy"]
    assert rsa(run, it, shown, *words)[0]["step"] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--step", "4"], "--step 4: the run has the steps 1 to 3"),
        (["--signal", "normd"], "signal must be one of"),
        (["--method", "spearmen"], "method must be one of"),
        (["--metric", "corr"], "metric must be one of"),
        (
            ["--searchlight", "--method", "tau-a"],
            "maps of --searchlight are made with spearman or corr: give",
        ),
        (["--regions", "areas"], "regions 'areas' need a sheet with areas"),
        (["--bootstraps", "3"], "--bootstraps must be at least 20"),
        (["--times", "each", "--models", "nowhere.npy"], r"there is no file 'nowhere\.npy'"),
        (["-o", "x.csv"], r"ends in \.json"),
        (["--controls", "nowhere"], "is no run folder"),
        (["--choose-stimuli", "x"], "are those of --choose-on, which is not given"),
    ],
)
def test_words_that_mean_nothing_are_refused(run: Path, shown: Path, it: Path, words: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        rsa(run, it, shown, *words)
    assert not (run / "rsa.json").exists()


def test_times_are_of_one_axis_in_all_files(run: Path, shown: Path, it: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "MEG.npy", squares(triangles(6, seed=2, count=COUNT)).reshape(2, 3, COUNT, COUNT))
    words = ["--rdms", it, tmp_path / "MEG.npy", "--times", "mean"]
    with pytest.raises(
        ValueError, match=r"IT\.npy' has its one axis beside stimuli taken as times, and '.*MEG\.npy' has"
    ):
        rsa(run, it, shown, *words)
    rows = rsa(run, tmp_path / "MEG.npy", shown, "--times", "mean", "--choose-on", it)
    assert (rows[0]["subjects"], rows[0]["step_chosen"]) == (2, f"the best one on {it}")


def test_stimuli_and_matrices_of_different_number_are_refused(run: Path, shown: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "IT.npy", squares(triangles(3, count=COUNT - 1)))
    with pytest.raises(ValueError, match=r"IT\.npy' has 11 stimuli, but '.*shown.*' holds 12 images"):
        rsa(run, tmp_path / "IT.npy", shown)
    (run / "config.yaml").write_text("model: vit\n")
    with pytest.raises(ValueError, match="only models with a sheet are compared with recordings"):
        rsa(run, tmp_path / "IT.npy", shown)


def test_controls_are_taken_at_equal_accuracy(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A control that knows more is taken earlier; beside one that knows less stands the run as it was."""
    run = load_run(trained / "base", images=200)
    kept = RunFolder(trained / "base").kept
    of_file = {"tied": {"last": 0.9, kept[1].stem: 0.52}, "base": {"last": 0.5, kept[1].stem: 0.31}}
    of_net: dict[int, float] = {id(run.net): 0.5}
    load = networks._load

    def marked(*given: Any) -> Any:
        found = load(*given)
        of_net[id(found.net)] = of_file[given[2].name].get(found.checkpoint, 0.1)
        kept_alive.append(found)
        return found

    kept_alive: list[Any] = []
    monkeypatch.setattr(networks, "_load", marked)
    monkeypatch.setattr(type(run), "accuracy", lambda run, net, chosen, seed: of_net[id(net)])
    (better,) = networks._at_equal_accuracy(run, "tied weights", trained / "tied", 0)
    assert (better.checkpoint, better.equal_to) == (kept[1].stem, None)
    assert better.accuracy == {"own": 0.52, "other": 0.5, "images": 100, "equal": False}
    of_file["tied"]["last"] = 0.3
    worse, earlier = networks._at_equal_accuracy(run, "tied weights", trained / "tied", 0)
    assert worse.checkpoint == "last"
    assert (earlier.name, earlier.checkpoint, earlier.equal_to) == ("run", kept[1].stem, "tied weights")
    assert earlier.accuracy["own"] == 0.31
