"""Rows and tables of results: means and errors by hand, merging, markers in documents."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import colgraph.analysis as an
from colgraph.cli import run
from colgraph.experiments.against import compare_with
from colgraph.experiments.markdown import csv_table, fill_markers, markdown_table
from colgraph.experiments.results import FIELDS, read_results, summarize
from colgraph.training import TrainConfig
from colgraph.training.folder import RunFolder
from colgraph.training.resume import RunRecord
from colgraph.viz import draw_results


def row(config: str, seed: int, accuracy: float, **more: Any) -> dict[str, Any]:
    base = {
        "config": config,
        "seed": seed,
        "data": "digits",
        "test_accuracy": accuracy,
        "command": f"run {config} {seed}",
    }
    base |= {"parameters_sha256": f"{config}{seed}", "parameters": 46.9e6, "train_flops": 2.5e15, "seconds": 1234.0}
    base |= {"peak_memory_bytes": 2**30 + seed, "wiring_cost_in_spacings": 1.5, "commit": "0123456789abcdef"}
    return {**dict.fromkeys(FIELDS), **base, "processor": "CPU", "threads": 2, **more}


ROWS = [row("b", 0, 0.50), row("b", 1, 0.52), row("b", 2, 0.57), row("a", 0, 0.9, wiring_cost_in_spacings=None)]


def test_means_and_standard_errors() -> None:
    b, a = summarize(ROWS)
    assert (b["config"], b["seeds"], a["seeds"]) == ("b", [0, 1, 2], [0])
    assert b["test_accuracy"] == pytest.approx(0.53)
    # Deviations -3, -1, 4: variance 26 / 2, standard error sqrt(13 / 3), in hundredths.
    assert b["test_accuracy_se"] == pytest.approx(0.01 * (13 / 3) ** 0.5)
    assert a["test_accuracy_se"] is None
    assert b["peak_memory_bytes"] == 2**30 + 2
    assert a["wiring_cost_in_spacings"] is None


def test_runs_of_one_name_that_were_trained_otherwise_are_no_seeds_of_one_row(tmp_path: Path) -> None:
    """By what rows say, and by the settings of their folders where these are there."""
    rows = [
        row("a", 0, 0.5, steps=3, epochs=1),
        row("a", 1, 0.7, steps=5, epochs=1),
        row("a", 2, 0.6, steps=3, epochs=1, task="classify"),
        row("b", 0, 0.5, edges=10, parameters=100),
        row("b", 1, 0.5, edges=11, parameters=101),  # a graph that is drawn
        row("b", 2, 0.5),  # an older row knows less
    ]
    found = {entry["config"]: entry["seeds"] for entry in summarize(rows)}
    assert found == {"a (steps 3)": [0, 2], "a (steps 5)": [1], "b": [0, 1, 2]}

    def run_folder(seed: int, **settings: Any) -> Path:
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}" / f"c-seed{seed}"
        folder.mkdir(parents=True)
        config = TrainConfig(**{"data": "digits", "image_size": 8, "channels": 1, "seed": seed, **settings})
        (folder / "config.yaml").write_text(RunRecord(config).text())
        (folder / "summary.json").write_text(json.dumps(row("c", seed, 0.5)))
        return folder

    def add(folder: Path, **more: Any) -> None:
        summary = json.loads((folder / "summary.json").read_text())
        (folder / "summary.json").write_text(json.dumps(summary | more))

    same = {"workers": 2, "figure_every": 0, "devices": "2", "batch_size": TrainConfig().batch_size // 2}
    folders = [run_folder(0), run_folder(1, **same), run_folder(2, lr=0.01), run_folder(3)]
    found = {entry["config"]: entry["seeds"] for entry in summarize(read_results(folders))}
    assert found == {"c (lr 0.001)": [0, 1, 3], "c (lr 0.01)": [2]}
    begun = [folders[0], run_folder(1), run_folder(2), run_folder(4)]
    for folder, task in zip(begun[1:], ("contrast", "contrast", "reconstruct"), strict=True):
        add(folder, init={"run": "runs/a", "task": task, "steps": 8})
    found = {entry["config"]: entry["seeds"] for entry in summarize(read_results(begun))}
    assert found == {"c (pretrained no)": [0], "c (pretrained contrast)": [1, 2], "c (pretrained reconstruct)": [4]}
    own = [run_folder(seed) for seed in range(3)]
    for folder, digest in zip(own, ("a" * 64, "a" * 64, "b" * 64), strict=True):
        add(folder, network_sha256=digest)
    found = {entry["config"]: entry["seeds"] for entry in summarize(read_results(own))}
    assert found == {"c (network aaaaaaaa)": [0, 1], "c (network bbbbbbbb)": [2]}


def test_intervals_are_over_seeds_and_test_images(tmp_path: Path) -> None:
    """By hand without predictions, from the answers with them; where the number of images is unknown, none."""
    assert summarize(ROWS)[0]["test_accuracy_interval"] is None
    low, high = summarize([row("a", 0, 0.989, test_images=360)])[0]["test_accuracy_interval"]
    # Wilson's, z = 1.96.
    z, n, p = 1.959964, 360, 0.989
    centre, reach = (
        (p + z * z / (2 * n)) / (1 + z * z / n),
        z / (1 + z * z / n) * (p * (1 - p) / n + (z / n) ** 2 / 4) ** 0.5,
    )
    assert (low, high) == pytest.approx((centre - reach, centre + reach), abs=1e-6)
    assert high - low == pytest.approx(0.024, abs=0.002)
    several = [row("b", seed, value, test_images=100_000) for seed, value in enumerate((0.50, 0.52, 0.57))]
    low, high = summarize(several)[0]["test_accuracy_interval"]
    # Nearly all of it is between the seeds: Student's t with two degrees of freedom.
    assert (low, high) == pytest.approx((0.53 - 4.303 * 0.0208, 0.53 + 4.303 * 0.0208), abs=0.005)
    assert f"| b | 3 | 53.0 ± 2.1 | {100 * low:.1f} to {100 * high:.1f} |" in markdown_table(several)
    right = runs_with_answers(tmp_path, {"a": 2})["a"]
    (entry,) = summarize(read_results([tmp_path]))
    assert entry["test_accuracy_interval"] == an.accuracy(right).interval.tolist()


def runs_with_answers(path: Path, seeds: dict[str, int], images: int = 200, **more: Any) -> dict[str, Any]:
    """Folders of finished runs, each with its images in an order of its own; which answers are right."""
    rng, found = np.random.default_rng(0), {}
    label, keys = rng.integers(0, 3, images), np.array([f"image{i:03}" for i in range(images)])
    for number, (config, count) in enumerate(seeds.items()):
        found[config] = rng.random((count, images)) < 0.6 + 0.15 * number
        for seed, right in enumerate(found[config]):
            folder = RunFolder(path / f"{config}-seed{seed}")
            folder.path.mkdir(parents=True)
            summary = row("", seed, float(right.mean()), test_images=images, **more)
            folder.write_summary({**summary, "parameters_sha256": f"{config}{seed}"})
            order = rng.permutation(images)
            answer = np.where(right, label, (label + 1) % 3)[order]
            content = {"image": keys[order], "label": label[order], "prediction": answer, "classes": np.array([*"abc"])}
            folder.write_predictions(content)
    return found


def test_configs_are_compared_on_the_same_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = runs_with_answers(tmp_path / "runs", {"a": 1, "b": 1, "c": 3})
    runs_with_answers(tmp_path / "runs", {"other": 1}, images=50)
    (tmp_path / "old.json").write_text(json.dumps([row("old", 0, 0.5)]))
    rows = read_results([tmp_path / "runs", tmp_path / "old.json"])
    (b, c), notes = compare_with(rows, "a")
    assert (b["config"], b["seeds"], b["images"], b["test"]) == ("b", (1, 1), 200, "McNemar's exact test")
    assert b["p"] == an.mcnemar(right["b"][0], right["a"][0])
    assert b["difference"] == pytest.approx(right["b"].mean() - right["a"].mean())
    expected = an.accuracy_difference(right["c"], right["a"])
    assert (c["p"], c["interval"], c["test"]) == (expected.p_value, expected.interval.tolist(), "Student's t")
    assert c["holm"] == pytest.approx(min(1.0, 2 * min(b["p"], c["p"])) if c["p"] < b["p"] else max(c["p"], 2 * b["p"]))
    assert notes == [
        "without predictions.npz, left out: old",
        "tested on other images, left out: other",
    ]
    run(["results", str(tmp_path / "runs"), "--against", "a"])
    said = capsys.readouterr()
    assert f"| b | 1 and 1 | 200 | {100 * b['difference']:+.1f} |" in said.out
    assert "note: tested on other images, left out: other" in said.err
    run(
        [
            "results",
            str(tmp_path / "runs"),
            "--against",
            "a",
            "-o",
            str(tmp_path / "t.md"),
            "--json",
            str(tmp_path / "t.json"),
        ]
    )
    assert "| against a | seeds |" in (tmp_path / "t.md").read_text()
    assert "folder" not in json.loads((tmp_path / "t.json").read_text())[0]


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    runs_with_answers(tmp_path, {"a": 1, "b": 1})
    rows = read_results([tmp_path])
    for config, more, message in (
        ("c", [], r"--against 'c' is no config of these runs; known are a, b"),
        ("old", [row("old", 0, 0.5)], r"'old': not all of its runs have predictions\.npz: give run folders"),
        ("a", [row("a", 0, 0.5, data="others")], r"'a' is there for 2 sets of data"),
    ):
        with pytest.raises(ValueError, match=message):
            compare_with([*rows, *more], config)
    twice = RunFolder(tmp_path / "a-seed0")
    found = twice.predicted()
    assert found is not None
    twice.write_predictions({**found, "image": np.array(["same"] * 2 + found["image"][2:].tolist())})
    entries, notes = compare_with(rows, "a")
    assert not entries
    assert "1 of the 200 test images are there more than once" in notes
    twice.write_predictions({**found, "prediction": found["label"]})
    with pytest.raises(ValueError, match=r"predictions\.npz' has 100.0% right, the run's results say 5\d\.\d%: remove"):
        compare_with(rows, "a")


def test_markdown_and_csv_say_the_same() -> None:
    table = markdown_table(ROWS)
    assert "| b | 3 | 53.0 ± 2.1 |  |  | 46.9 M |  | 2.5 P | 1,234 | 1,024 MiB | 1.50 |" in table
    assert "| a | 1 | 90.0 |" in table
    assert "| b | digits | 0, 1, 2 | `run b 0` | 0123456789 | CPU, 2 threads |" in table
    parsed = list(csv.DictReader(io.StringIO(csv_table(ROWS))))
    assert [float(line["test_accuracy"]) for line in parsed] == pytest.approx([0.53, 0.9])
    assert parsed[1]["wiring_cost_in_spacings"] == ""


def test_files_and_folders_are_merged_and_contradictions_refused(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps(ROWS[:2]))
    (tmp_path / "two.json").write_text(json.dumps(ROWS[1:]))
    for seed in (0, 1):
        folder = tmp_path / "runs" / f"c-seed{seed}"
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text(json.dumps(row("", seed, 0.1, train_loss=float("nan"))))
    rows = read_results(
        [tmp_path / "one.json", tmp_path / "two.json", tmp_path / "runs", tmp_path / "runs" / "c-seed0"]
    )
    assert [(r["config"], r["seed"]) for r in rows] == [("b", 0), ("b", 1), ("b", 2), ("a", 0), ("c", 0), ("c", 1)]
    assert rows[-1]["train_loss"] is None
    (tmp_path / "other.json").write_text(json.dumps([row("b", 1, 0.7, parameters_sha256="other")]))
    with pytest.raises(
        ValueError, match=r"config 'b' with seed 1 is in .*one\.json' and, with other results, in .*other"
    ):
        read_results([tmp_path / "one.json", tmp_path / "other.json"])
    unknown = row("b", 1, 0.7, parameters_sha256=None)
    for other, same in ((unknown, True), (unknown | {"test_accuracy": 0.6}, False)):
        (tmp_path / "one.json").write_text(json.dumps([unknown]))
        (tmp_path / "other.json").write_text(json.dumps([other]))
        if same:
            assert len(read_results([tmp_path / "one.json", tmp_path / "other.json"])) == 1
            continue
        with pytest.raises(ValueError, match="with other results"):
            read_results([tmp_path / "one.json", tmp_path / "other.json"])
    for nothing in (None, float("nan")):
        (folder / "summary.json").write_text(json.dumps(row("", 1, 0.1) | {"test_accuracy": nothing}))
        with pytest.raises(ValueError, match=r"c-seed1' has no test accuracy, as where test targets do not vary"):
            read_results([tmp_path / "runs"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot read results"),
        ("{}", "list of rows"),
        ('[{"config": "a"}]', "row without"),
        (json.dumps([{**ROWS[0], "test_accuracy": "high"}]), "test_accuracy must be a number"),
    ],
)
def test_files_that_hold_no_results_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_results([tmp_path / "x.json"])
    with pytest.raises(ValueError, match="no finished run"):
        read_results([tmp_path])
    with pytest.raises(ValueError, match="cannot read"):
        read_results([tmp_path / "missing.json"])


DOCUMENT = """# Results
<!-- results: a, b* -->
old numbers
<!-- end of results -->
text that stays
<!-- results: gpu-* -->
<!-- end of results -->
"""


def test_tables_are_put_between_markers_again_and_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    document = tmp_path / "RESULTS.md"
    document.write_text(DOCUMENT)
    words = ["results", str(tmp_path / "rows.json"), "--into", str(document), "--json", str(tmp_path / "all.json")]
    words += ["-o", str(tmp_path / "t.md"), "--csv", str(tmp_path / "t.csv"), "--plot", str(tmp_path / "t.png")]
    run(words)
    first = document.read_text()
    assert "old numbers" not in first
    assert "text that stays" in first
    assert first.index("| a | 1 |") < first.index("| b | 3 |")
    assert "<!-- results: gpu-* -->\n\nnot run\n" in first
    assert "no config matches 'gpu-*'" in capsys.readouterr().err
    run(words)
    assert document.read_text() == first
    assert json.loads((tmp_path / "all.json").read_text()) == ROWS
    assert (tmp_path / "t.png").read_bytes()[:4] == b"\x89PNG"
    for text in ("nothing here", DOCUMENT.replace("<!-- end of results -->", "", 1)):
        with pytest.raises(ValueError, match="expected pairs of lines"):
            fill_markers(text, ROWS)


def test_table_is_printed_where_no_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    run(["results", str(tmp_path / "rows.json")])
    assert capsys.readouterr().out == markdown_table(ROWS)


def test_figure_has_a_dot_per_config_and_leaves_out_what_was_not_measured() -> None:
    figure = draw_results(summarize(ROWS), title="digits")
    bars, flops, wiring = figure.axes
    assert [text.get_text() for text in bars.get_yticklabels()] == ["b", "a"]
    assert len(flops.containers) == 2
    assert len(wiring.containers) == 1


def test_the_tables_of_this_project_are_those_of_its_rows() -> None:
    root = Path(__file__).parents[2]
    document = (root / "RESULTS.md").read_text(encoding="utf-8")
    text, _ = fill_markers(document, read_results([root / "results.json"]))
    assert text == document, "make them again: colgraph results results.json --into RESULTS.md"
