"""Analyses of networks of every task: a right number, or a line that says why there is none."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("lightning")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from small_tasks import SMALL, TASKS, images_for, run_of

from colgraph import analysis as an
from colgraph.analysis.lesions import step_by_step
from colgraph.analysis.scoring import PER_IMAGE
from colgraph.models import independent_weights
from colgraph.report.analyse import _check_signal
from colgraph.report.catalogue import attempt
from colgraph.report.context import Context
from colgraph.report.loading import Run
from colgraph.report.measures import CATALOGUE
from colgraph.report.notes import about
from colgraph.report.page import _training_loss
from colgraph.report.patches import Patches
from colgraph.report.shown import Settings, make_probes
from colgraph.report.task_scoring import TaskScoring, together
from colgraph.tasks import make_task
from colgraph.training import RunFolder, TrainConfig
from colgraph.training.figures import _said_of
from colgraph.training.resume import RunRecord

SETTINGS = Settings(probes=100, permutations=6, nulls=2, progress=False, batch_size=32)
ROBUST = ("corruptions", "attack", "lesions", "activity_noise", "weight_noise")


@pytest.fixture(scope="module")
def contexts() -> dict[str, Context]:
    found = {}
    for kind in TASKS:
        run = run_of(kind, 48)
        found[kind] = Context("run", "run", run.net, make_probes(run, SETTINGS), SETTINGS, run)
    return found


# Why a measure is left out, by task; every other has a number.
NO_CLASS = r"have no class each here \(labels of shape .*\): it needs a class per image"
LEFT_OUT: dict[str, dict[str, str]] = {
    "classify": {},
    "columns": {"category": NO_CLASS, "patches": NO_CLASS, "rsa": NO_CLASS, "attack": "task columns .*--task classify"},
    "vectors": {"category": NO_CLASS, "patches": NO_CLASS, "rsa": NO_CLASS, "attack": "task columns .*--task classify"},
    "reconstruct": {"attack": "task reconstruct .*--task classify"},
    "contrast": dict.fromkeys(ROBUST, "task contrast compares 2 views .*needs a task of one view"),
    "own": {"attack": "task brightness .*--task classify"},
}


@pytest.mark.parametrize("kind", TASKS)
def test_every_measure_has_a_number_or_names_the_task(kind: str, contexts: dict[str, Context]) -> None:
    context, expected = contexts[kind], LEFT_OUT[kind]
    for item in CATALOGUE:
        if item.key in ("gabors", "small_world", "modularity", "rich_club", "communicability"):
            continue  # of hidden units and graphs, whatever the task
        context.said(item.reading)
        result, why_not = attempt(item, context)
        if item.key in expected:
            assert result is None, item.key
            assert re.search(expected[item.key], why_not or ""), why_not
            assert "\n" not in (why_not or "")
        elif result is None:  # of this sheet or network, in any task
            assert re.search("wavelength|pinwheel|selective|triangle|in no areas", why_not or ""), (
                f"{item.key}: {why_not}"
            )


def direct(run: Run, net: Any, images: Any, labels: Any) -> float:
    """The task's accuracy in one batch, asked what the analysis asks."""
    scoring = run.scoring(SETTINGS.seed)
    assert isinstance(scoring, TaskScoring)
    asked = scoring.ask(net, images, labels, 0)
    pixels, options = together(asked)
    answers = net.net.unroll(pixels, **options).logits
    targets = torch.cat([question.targets for question in asked])
    return float(run.task.metrics(run.task.tally(answers, targets).tolist(), len(asked))["accuracy"])


@pytest.mark.parametrize("kind", ["columns", "vectors", "reconstruct", "own"])
def test_robustness_is_by_the_accuracy_of_the_task(kind: str, contexts: dict[str, Context]) -> None:
    run = contexts[kind].run
    scoring = run.scoring(SETTINGS.seed)
    given: dict[str, Any] = {"draws": 1, "progress": False, "scoring": scoring}
    expected = direct(run, run.net, run.images, run.labels)
    for function in (an.activity_noise, an.weight_noise):
        curve = function(run.net, run.images, run.labels, levels=(0, 3.0), **given)
        assert curve.accuracy[0] == pytest.approx(expected, abs=1e-4)
        assert curve.accuracy[1] != curve.accuracy[0]
    silent = np.zeros(run.sheet.num_columns, dtype=bool)
    lesions = an.lesion_curve(
        run.net, run.images, run.labels, run.sheet.edge_index.numpy(), columns=len(silent), **given
    )
    assert lesions.accuracy[0] == pytest.approx(expected, abs=1e-4)


def test_accuracy_of_columns_is_balanced_and_stays_a_share(contexts: dict[str, Context]) -> None:
    """Not the share of images, and not that of columns: a network that says one class has a third of three."""
    run = contexts["columns"].run
    scoring = run.scoring(0)
    with torch.no_grad():
        net = run.net.of(run.net.net)
        kept = net.net.head.bias.clone()
        net.net.head.bias.copy_(torch.tensor([1e4, 0, 0]))
    data, labels = scoring.check(run.images, run.labels)
    counts = scoring.counts(net, data, data, labels, batch_size=7)
    with torch.no_grad():
        net.net.head.bias.copy_(kept)
    assert float(scoring.accuracy(counts)) == pytest.approx(1 / 3)
    assert (run.labels == 0).sum() > 0.4 * (run.labels >= 0).sum()
    ends = scoring.interval(1.0, [0.9, 1.0, 1.0])
    assert ends[1] == 1


@pytest.mark.parametrize("kind", ["reconstruct", "own"])
def test_what_is_right_about_an_image_stays_so_when_it_is_spoiled(kind: str, contexts: dict[str, Context]) -> None:
    run = contexts[kind].run
    scoring = run.scoring(0)
    data, labels = scoring.check(run.images, run.labels)
    black = np.zeros_like(data)
    spoiled = scoring.counts(run.net, black, data, labels, batch_size=16)
    asked, seen = (scoring.ask(run.net, images, labels, 0) for images in (data, black))
    pixels, options = together(seen)
    answers = run.net.net.unroll(pixels, **options).logits.detach()
    expected = [run.task.tally(answers[i : i + 1], one.targets).numpy() for i, one in enumerate(asked)]
    assert np.allclose(spoiled, np.stack(expected), atol=1e-4)
    if kind == "reconstruct":  # the same patches are hidden, however images are cut into batches
        assert all(torch.equal(a.hidden, b.hidden) for a, b in zip(asked, seen, strict=True))
    whole = scoring.counts(run.net, data, data, labels, batch_size=48)
    assert np.allclose(whole, scoring.counts(run.net, data, data, labels, batch_size=5), atol=1e-4)


def test_a_class_per_image_is_scored_as_ever(contexts: dict[str, Context]) -> None:
    run = contexts["classify"].run
    assert run.scoring(0) is PER_IMAGE
    by_task = TaskScoring(run.task, "classify", True, 0)
    for scoring in (PER_IMAGE, by_task):
        data, labels = scoring.check(run.images, run.labels)
        counts = scoring.counts(run.net, data, data, labels, batch_size=20)
        assert float(scoring.accuracy(counts)) == (an.predict(run.net, data) == run.labels).mean()


def test_a_task_that_fails_on_one_image_is_named(contexts: dict[str, Context]) -> None:
    run = contexts["own"].run
    scoring = TaskScoring(run.task, "mine.py:Task", False, 0)
    run.task.tally = lambda answers, targets: 1 / 0  # type: ignore[method-assign]
    try:
        with pytest.raises(ValueError, match=r"task 'mine.py:Task': its tally of a single image failed"):
            scoring.counts(run.net, run.images / 255, run.images / 255, run.labels, batch_size=8)
    finally:
        del run.task.tally


# ---------------------------------------------------------------------- signals and controls


def test_what_maps_are_made_of(contexts: dict[str, Context]) -> None:
    labels = {kind: context.activity.label for kind, context in contexts.items()}
    assert all("over classes" in labels[kind] for kind in ("classify", "columns"))
    assert all("numbers answered" in labels[kind] for kind in ("vectors", "reconstruct", "own"))
    assert labels["contrast"].startswith("length of the hidden units (an mlp answers")
    assert contexts["contrast"].natural.shape == (len(contexts["contrast"].probes.natural), 48)
    with pytest.raises(ValueError, match="signal 'evidence': in task contrast an mlp answers"):
        _check_signal(contexts["contrast"].run, replace(SETTINGS, signal="evidence"))


def test_categories_are_compared_by_evidence_for_them_only_where_it_is_that(contexts: dict[str, Context]) -> None:
    """The third of 4 pixels is not evidence for the third class."""
    context = contexts["reconstruct"]
    same = context.class_responses([0, 3])
    assert np.array_equal(same[..., 0], same[..., 1])
    own = contexts["classify"].class_responses([0, 3])
    assert not np.array_equal(own[..., 0], own[..., 1])


@pytest.mark.parametrize("kind", TASKS)
def test_the_untrained_network_answers_with_as_many_numbers(kind: str, contexts: dict[str, Context]) -> None:
    run = contexts[kind].run
    begun = replace(run, config=replace(run.config, init="gone/away"))
    for net in (begun.untrained(), run.net.of(independent_weights(begun.untrained().net, 0))):
        assert net.net.num_classes == run.net.net.num_classes
        assert net.net.model.leak == 0.2
        assert [p.shape for p in net.net.head.parameters()] == [p.shape for p in run.net.net.head.parameters()]
    untrained = Context("u", "untrained", begun.untrained(), contexts[kind].probes, SETTINGS, begun)
    assert "took over from gone/away" in about(untrained)


@pytest.mark.parametrize("kind", ["columns", "vectors"])
def test_the_input_says_of_each_patch_what_a_regression_does(kind: str, contexts: dict[str, Context]) -> None:
    run = contexts[kind].run
    net = Patches(run)
    evidence = net.evidence(net.unroll(torch.from_numpy(run.images)).state)
    pixels = F.unfold(run.net.normalised(torch.from_numpy(run.images)), 2, stride=2).transpose(1, 2).double()
    labels = torch.from_numpy(run.labels).flatten(1, 2)
    known = labels >= 0 if kind == "columns" else ~labels.isnan().any(-1)
    seen = evidence[run.sheet.inputs][torch.argsort(run.net.net.assignment)]
    for fold in np.unique(net.fold):
        mine = torch.from_numpy(net.fold == fold)
        asked = known & ~mine[:, None]
        target = F.one_hot(labels[asked], 3).double() if kind == "columns" else labels[asked].double()
        x, y = pixels[asked], target - target.mean(0)
        fit = np.linalg.lstsq((x - x.mean(0)).numpy(), y.numpy(), rcond=None)[0]
        expected = np.einsum("bpc,ck->pbk", pixels[mine].numpy(), fit)
        assert np.allclose(seen[:, mine].numpy(), expected, atol=1e-4)


def test_where_answers_belong_to_no_patch_the_input_has_no_evidence(contexts: dict[str, Context]) -> None:
    run = contexts["own"].run
    with pytest.raises(ValueError, match="the answers of task brightness belong to no patch"):
        Patches(run).evidence(torch.zeros(1, 1, 4))


# ---------------------------------------------------------------------- step by step


@pytest.mark.parametrize("written", [{}, {"untied": "none"}, {"parametrization": "shared+difference"}])
@pytest.mark.parametrize("inject", ["first", "every"])
@pytest.mark.parametrize("kind", ["columns", "reconstruct"])
def test_step_by_step_and_written_out_are_the_network_with_its_leak(
    kind: str, inject: str, written: dict[str, Any]
) -> None:
    run = run_of(kind, 5, inject=inject, leak=0.3, **written)
    scoring = run.scoring(0)
    assert isinstance(scoring, TaskScoring)
    pixels, options = together(scoring.ask(run.net, *scoring.check(run.images, run.labels), 0))
    net = run.net.net
    with torch.no_grad():
        whole = net.unroll(pixels, record=("state",), **options)
        assert not torch.allclose(net.unroll(pixels, steps=1, **options).logits, whole.logits, atol=1e-2)
        for same in (net, net.to_untied(), net.to_plain()):
            one_by_one = step_by_step(same, pixels, lambda state, _: state, **options)
            assert torch.allclose(one_by_one, whole.logits, atol=1e-4)
            assert torch.allclose(same.unroll(pixels, **options).logits, whole.logits, atol=1e-4)
        assert torch.allclose(whole.step_logits[-1], whole.logits, atol=1e-5)


SMOOTHED = "it is taken with label smoothing of 0.1"


@pytest.mark.parametrize(
    ("settings", "predicted", "said"),
    [
        ({"augment": "affine"}, None, f"{SMOOTHED}, below whose entropy it cannot fall, and on augmented images."),
        ({"augment": "none"}, None, f"{SMOOTHED}, below whose entropy it cannot fall."),
        ({"augment": "none", "class_weights": "balanced"}, None, f"{SMOOTHED} and weights of classes."),
        ({"label_smoothing": 0.0}, None, None),
        ({"task": "contrast", "augment": "affine"}, None, None),
        ({"task": "reconstruct"}, None, None),
        ({"task": "brightness"}, None, None),
        ({"task": "columns"}, "classes", f"{SMOOTHED}, below whose entropy it cannot fall."),
        ({"task": "columns"}, "vectors", None),
        ({"task": "columns"}, None, None),
    ],
)
def test_a_page_says_that_labels_are_smoothed_where_they_are(
    tmp_path: Path, settings: dict[str, Any], predicted: str | None, said: str | None
) -> None:
    run = RunFolder(tmp_path / "run")
    run.prepare(RunRecord(TrainConfig(**SMALL | settings)))
    answers = {"label": np.zeros((1, 16), int), "prediction": np.zeros((1, 16), int)}
    if predicted is not None:
        found = answers if predicted == "classes" else {"score": np.zeros(1)}
        run.write_predictions({"image": np.array(["a"]), **found, "classes": np.array(["0", "1"])})
    text = _training_loss(run)
    assert text.endswith(f"{said}</p>") if said else not text


@pytest.mark.parametrize("kind", ["classify", "columns", "vectors", "contrast"])
def test_curves_say_that_labels_are_smoothed_where_they_are(kind: str) -> None:
    config = TrainConfig(**{**SMALL, **TASKS[kind]})
    images = images_for(kind)
    said = _said_of(make_task(config), images)
    assert said["smoothing"] == (0.1 if kind in ("classify", "columns") else 0)
    assert said["augmented"] == (kind == "contrast")
    assert said["classes"] == len(images.classes)
