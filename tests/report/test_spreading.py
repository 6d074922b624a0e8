"""The answer of single columns, step by step: what is written, drawn and shown in a browser."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from PIL import Image, ImageColor
from small_tasks import SMALL, TASKS, images_for, run_of

from colgraph.brain.encode import encoding_of
from colgraph.colors import BLUE
from colgraph.report import Settings, analyse
from colgraph.report import loading as report_loading
from colgraph.report.loading import load_run
from colgraph.report.page import fill_page, write_page
from colgraph.report.paired_accuracy import right_on_the_same
from colgraph.report.seeds import compare_seeds
from colgraph.report.spreading import spreading_of
from colgraph.training import RunFlags, RunFolder, TrainConfig, make_model, make_sheet, num_answers, train
from colgraph.training.opening import open_run_folder
from colgraph.viz.moving import animate_spreading
from colgraph.viz.step_answers import Spreading, draw_spreading, some_steps, spreading_viewer

QUICK = Settings(probes=80, permutations=5, nulls=2, progress=False)


def test_columns_answer_at_the_places_of_their_patches() -> None:
    run = run_of("columns", 6)
    found = spreading_of(run, QUICK)
    chosen = np.random.default_rng(QUICK.seed).permutation(6)[:4]
    net, images = run.net.net, torch.from_numpy(run.images[chosen])
    with torch.no_grad():
        said = run.net.unroll(images, steps=6, record=("state",)).step_logits.softmax(-1).transpose(0, 1)
    label = torch.from_numpy(run.labels[chosen]).flatten(1)[:, net.output_patches]
    asked = label >= 0
    expected = said.gather(-1, label.clamp(min=0)[:, None, :, None].expand(-1, 6, -1, 1)).squeeze(-1)
    assert found.share.shape == (4, 6, 16)
    assert np.isnan(found.share).sum() == 4 * 6  # one patch of each image does not count
    where = asked[:, None].expand_as(expected).numpy()
    assert np.allclose(found.share[where], expected.numpy()[where], atol=1e-5)
    right = (said.argmax(-1) == label[:, None]).numpy()
    assert np.array_equal(found.right[where], right[where])
    assert found.captions[1][2] == f"{int((right[1, 2] & asked[1].numpy()).sum())} of 15 right"
    # Patch p of a 4 x 4 grid lies at row p // 4 and column p % 4.
    patch = net.output_patches.numpy()
    assert np.allclose(found.place, (np.stack([patch % 4, patch // 4], 1) + 0.5) / 4)
    assert np.array_equal(found.images, run.images[chosen])
    assert (found.trained, found.steps, found.on_image, found.cell) == (3, 6, True, (0.25, 0.25))
    with torch.no_grad():
        target = torch.from_numpy(run.labels).flatten(1)[:, net.output_patches]
        for step in (1, 6):
            tally = run.task.tally(run.net.unroll(torch.from_numpy(run.images), steps=step).logits, target)
            accuracy = run.task.metrics(tally.tolist(), 6)["accuracy"]
            assert found.overall[step - 1].startswith(f"{100 * accuracy:.1f}% over 6 held-out images; ")


def test_of_two_classes_it_is_the_chance_of_the_second() -> None:
    run = run_of("columns", 4)
    two = replace(run, labels=np.minimum(run.labels, 1), classes=["black", "lit"])
    net = run.net.net
    net.head = torch.nn.Linear(8, 2)
    net.num_classes = 2
    found = spreading_of(two, QUICK)
    assert (found.low, found.high) == ("black", "lit")
    known = np.isfinite(found.share)
    chosen = np.random.default_rng(QUICK.seed).permutation(4)
    label = np.repeat(two.labels[chosen].reshape(4, 1, 16)[..., net.output_patches.numpy()], 6, 1)
    assert np.array_equal((found.share > 0.5)[known], (found.right == (label == 1))[known])


def test_a_class_per_image_is_shown_by_the_evidence_for_it() -> None:
    run = run_of("classify", 5)
    found = spreading_of(run, QUICK)
    chosen = np.random.default_rng(QUICK.seed).permutation(5)[:4]
    with torch.no_grad():
        out = run.net.unroll(torch.from_numpy(run.images[chosen]), steps=6, record=("state",))
        evidence = run.net.evidence(out.states)[:, run.net.net.outputs].softmax(-1)
    own = evidence[4, :, 1, int(run.labels[chosen[1]])]
    assert np.allclose(found.share[1, 4], own.numpy(), atol=1e-5)
    answer, right = (run.classes[int(k)] for k in (out.step_logits[4, 1].argmax(), run.labels[chosen[1]]))
    assert found.captions[1][4] == (f"answer {right}: right" if answer == right else f"answer {answer}, it is {right}")
    assert not found.on_image  # outputs that see no patch lie as on the sheet
    assert (found.place.min() > 0, found.place.max() < 1) == (True, True)


@pytest.mark.parametrize("kind", ["vectors", "reconstruct"])
def test_of_vectors_it_is_what_is_explained(kind: str) -> None:
    found = spreading_of(run_of(kind, 5), QUICK)
    assert (found.low, found.high) == ("nothing explained", "all explained")
    known = np.isfinite(found.share)
    asked = 15 if kind == "vectors" else round(0.6 * 16)
    assert (known.sum(2) == asked).all()
    assert all(caption.endswith("% explained") for caption in found.captions[0])


@pytest.mark.parametrize(("kind", "task"), [("contrast", "contrast"), ("own", "brightness")])
def test_where_columns_answer_nothing_by_themselves_it_is_left_out(kind: str, task: str) -> None:
    with pytest.raises(ValueError, match=f"columns of task {task} answer nothing by themselves: it needs"):
        spreading_of(run_of(kind, 4), QUICK)


def some(images: int = 3, steps: int = 8, side: int = 5, channels: int = 3) -> Spreading:
    """Blue from the upper left on, a diagonal a step."""
    row, column = np.divmod(np.arange(side * side), side)
    share = (row + column <= np.arange(steps)[:, None]).astype(np.float32)
    share = np.repeat(share[None], images, 0)
    share[:, :, -1] = np.nan
    right = (share == 1) | np.isnan(share)
    counts = [[f"{int(one.sum())} of 24 right" for one in each] for each in right]
    place = ((np.stack([column, row], 1) + 0.5) / side).astype(np.float32)
    pictures = np.random.default_rng(0).integers(0, 255, (images, channels, side, side)).astype(np.uint8)
    overall = [f"{10 * t}% over 100 held-out images" for t in range(steps)]
    cell = (1 / side, 1 / side)
    return Spreading(pictures, share, right, place, cell, counts, overall, 4, True, "a", "</script><b>")


def test_what_is_written_is_read_again() -> None:
    shown = some()
    arrays, content = shown.parts()
    again = Spreading.of(arrays, {**json.loads(json.dumps(content)), "more": 1})
    assert np.allclose(again.share, shown.share, atol=1 / 500, equal_nan=True)
    for name in ("images", "right", "place"):
        assert np.array_equal(getattr(again, name), getattr(shown, name))
    assert again.captions == shown.captions
    del arrays["place"]
    with pytest.raises(ValueError, match="lack place"):
        Spreading.of(arrays, content)


def test_the_figure_has_a_row_for_each_image_and_the_trained_step() -> None:
    figure = draw_spreading(some(images=2, channels=1), images=3, steps=4, title="a title")
    titles = [ax.get_title() for ax in figure.axes[:-1]]
    assert titles[: len(titles) // 2] == ["step 1", "step 3", "step 4 (trained)", "step 8"]
    assert some_steps(1, 2, 6) == [0, 1]
    assert some_steps(30, 60, 6) == [0, 7, 14, 22, 29, 59]


def test_the_moving_picture_has_a_frame_for_each_step_that_was_trained(tmp_path: Path) -> None:
    shown = some(images=2)
    sure = replace(shown, share=np.where(np.isnan(shown.share), np.nan, np.float32(1)), on_image=False)
    with Image.open(animate_spreading(sure, tmp_path / "moving.gif", images=5, side=90)) as picture:
        assert picture.n_frames == shown.trained
        picture.seek(picture.n_frames - 1)
        assert picture.info["duration"] > 1000
        colors = picture.convert("RGB")
    asked = np.flatnonzero(np.isfinite(sure.share[0, -1]) & sure.right[0, shown.trained - 1])
    for x, y in 14 + 90 * sure.place[asked] + [0, 18]:
        assert colors.getpixel((int(x), int(y))) == ImageColor.getrgb(BLUE)
    with pytest.raises(ValueError, match=r"is a \.gif, got moving\.png"):
        animate_spreading(shown, tmp_path / "moving.png")


# ---------------------------------------------------------------------- in a browser


@pytest.fixture
def opened(open_page: Any, tmp_path: Path) -> Any:
    path = tmp_path / "page.html"
    path.write_text(fill_page("a test", f"<section id='answers'>{spreading_viewer(some())}</section>"), "utf-8")
    return open_page(path)


def test_the_slider_shows_each_step(opened: Any) -> None:
    assert opened.errors == []
    assert len(opened.requests) == 1
    step, text, status = (opened.part(f"spreading-{name}") for name in ("step", "text", "status"))
    assert (step.input_value(), text.inner_text()) == ("4", "4 of 8 (as trained)")
    assert opened.part("spreading-high").inner_text() == "</script><b>"
    canvas = opened.page.locator("#spreading canvas").first
    shots = []
    for number in ("1", "5", "8"):
        step.fill(number)
        shots.append(canvas.screenshot())
        assert status.inner_text() == f"{10 * (int(number) - 1)}% over 100 held-out images"
        assert f"after step {number}: " in canvas.get_attribute("aria-label")
    assert all(before != after for before, after in pairwise(shots))
    # The cell in the upper left is blue, that in the lower right is not asked and shows the image.
    pixel = "c => [0.1, 0.9].map(p => [...c.getContext('2d').getImageData(480 * p, 480 * p, 1, 1).data.slice(0, 3)])"
    first, last = canvas.evaluate(pixel)
    assert first == [0, 114, 178]
    assert last == some().images[0, :, -1, -1].tolist()


def test_it_is_used_by_keyboard_and_plays(opened: Any) -> None:
    step = opened.part("spreading-step")
    opened.page.keyboard.press("Tab")
    assert opened.page.evaluate("document.activeElement.dataset.part") == "spreading-step"
    opened.page.keyboard.press("ArrowRight")
    assert step.input_value() == "5"
    assert step.get_attribute("aria-valuetext") == "5 of 8 (trained: 4)"
    assert opened.page.locator("label", has=step).inner_text().strip() == "Step"
    opened.page.keyboard.press("Tab")
    opened.page.keyboard.press("Enter")
    assert opened.part("spreading-play").get_attribute("aria-pressed") == "true"
    for _ in range(100):
        opened.page.wait_for_timeout(100)
        if opened.part("spreading-play").inner_text() == "Play":
            break
    assert (step.input_value(), opened.part("spreading-play").get_attribute("aria-pressed")) == ("8", "false")
    assert opened.errors == []


@pytest.mark.parametrize("width", [400, 1400])
def test_it_fits(opened: Any, width: int) -> None:
    opened.page.set_viewport_size({"width": width, "height": 800})
    opened.page.wait_for_timeout(100)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.page.locator("#spreading canvas").first.bounding_box()["width"] > 120
    opened.keep(f"spreading-{width}")


# ---------------------------------------------------------------------- from a run to its page


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs of columns of two seeds, and one of contrast."""
    parent = tmp_path_factory.mktemp("tasks")
    for name, kind, seed in (("columns-0", "columns", 0), ("columns-1", "columns", 1), ("contrast", "contrast", 0)):
        config = TrainConfig(**{**SMALL, **TASKS[kind], "seed": seed, "options": {"widths": [4, 4]}, "dim": 6})
        images, sheet = images_for(kind), make_sheet(config)
        net = make_model(config, sheet, num_answers(config, sheet, images))
        train(net, images, config, open_run_folder(config, RunFlags(parent / name)))
    with pytest.MonkeyPatch.context() as patch:
        kinds = {"columns": "columns", "contrast": "contrast"}
        patch.setattr(report_loading, "images_of_run", lambda config: images_for(kinds[config.task]))
        yield parent


def test_runs_of_columns_are_analyzed_compared_and_encoded(trained: Path, tmp_path: Path) -> None:
    runs = [trained / "columns-0", trained / "columns-1"]
    for run in runs:
        found = analyse(run, QUICK, only=["wiring", "category", "activity_noise"])
    by_key = {entry["key"]: entry for entry in found["analyses"]}
    assert "needs a class per image" in by_key["category"]["why_not"]
    assert "the mean over classes" in by_key["activity_noise"]["reading"]
    noise = by_key["activity_noise"]["result"]["value"]
    assert 0.2 < noise < 1
    assert found["spreading"]["why_not"] is None
    accuracy = RunFolder(runs[1]).results()["test_accuracy"]
    assert found["spreading"]["overall"][2].startswith(f"{100 * accuracy:.1f}% over 360 held-out images")
    for figure in ("spreading.png", "spreading.gif"):
        assert (RunFolder(runs[1]).analysis / "figures" / figure).stat().st_size > 5000
    page = write_page(runs[1], tmp_path / "report.html")
    assert f"{100 * accuracy:.1f}% on 360 test images" in page.read_text()
    assert "over images): share of columns that are right, the mean over classes" in page.read_text()
    assert '"trained": 3,' in page.read_text().partition('id="spreading-data">')[2]
    compared = compare_seeds(runs)
    assert compared["analyses"]["wiring"]["value"].values[0] > 0
    run = load_run(runs[0], images=0)
    recorded = np.random.default_rng(0).normal(size=(20, 3))
    content, _ = encoding_of(run, torch.rand(20, 1, 8, 8), recorded, None, 16, 2, 5)
    assert {cell["features"] for cell in content["cells"]} == {"pixels", "untrained", "step 1", "step 2", "step 3"}


def test_a_run_of_two_views_says_what_is_left_out(trained: Path, tmp_path: Path) -> None:
    found = analyse(trained / "contrast", QUICK, only=["moran", "lesions"])
    assert found["activity"].startswith("length of the hidden units")
    moran, lesions = found["analyses"]
    assert moran["result"]["value"] is not None
    assert "records no hidden units" in moran["controls"]["input"]["why_not"]
    assert "task contrast compares 2 views" in lesions["why_not"]
    page = write_page(trained / "contrast", tmp_path / "report.html").read_text()
    assert "Left out: columns of task contrast answer nothing by themselves" in page


@pytest.mark.parametrize(("known", "message"), [(0.25, None), (0.4, "(40.0%: variance) is no mean over images")])
def test_scores_are_compared_only_where_their_mean_is_the_accuracy(
    tmp_path: Path, known: float, message: str | None
) -> None:
    (tmp_path / "summary.json").write_text(
        json.dumps({"test_accuracy": known, "task": "reconstruct", "accuracy_is": "variance"})
    )
    scores = {"image": np.array(["a", "b"]), "score": np.array([0.0, 0.5]), "classes": np.array(["x"])}
    np.savez(tmp_path / "predictions.npz", **scores)
    if message is None:
        assert right_on_the_same([tmp_path]).mean() == known
    else:
        with pytest.raises(ValueError, match=re.escape(f"the accuracy of task reconstruct {message}")):
            right_on_the_same([tmp_path])


def test_images_that_a_run_of_columns_cannot_be_asked_about_are_refused(trained: Path) -> None:
    """The run's program gave it other labels than the data of that name have."""
    with pytest.MonkeyPatch.context() as patch:
        other = replace(images_for("classify"), classes=["x"] * 3)
        patch.setattr(report_loading, "images_of_run", lambda config: other)
        with pytest.raises(ValueError, match="'digits' has"):
            load_run(trained / "columns-0")
