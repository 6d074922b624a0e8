"""The controls that need no training: what each takes away, and where one does not apply."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lightning")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

import torch

import colgraph as cg
from colgraph.analysis import category_selectivity, category_set, responses
from colgraph.report.activity import class_evidence
from colgraph.report.catalogue import attempt, no_control
from colgraph.report.context import Context
from colgraph.report.line_up import line_up
from colgraph.report.loading import PlainImages, Run
from colgraph.report.measures import CATALOGUE
from colgraph.report.notes import about, note_of
from colgraph.report.patches import Patches, patch_of_column
from colgraph.report.shown import Settings, make_probes
from colgraph.training import TrainConfig, make_model

SETTINGS = Settings(probes=160, permutations=12, nulls=2, progress=False)
CONFIG: dict[str, Any] = {"data": "digits", "image_size": 8, "patch_size": 2, "channels": 1, "dim": 8, "steps": 3}


def run_of(path: Path, shape: tuple[int, int] = (6, 6), **options: Any) -> Run:
    """A run's folder and network, as it is before training."""
    config = TrainConfig(**{**CONFIG, "qk_dim": 4, "mlp_dim": 6, "parametrization": "shared+difference", **options})
    sheet = cg.build_sheet("grid", shape=shape, neighbors="knn:7", num_inputs=16)
    torch.manual_seed(1)
    net = PlainImages(make_model(config, sheet, 3), (0.4,), (0.3,)).eval()
    labels = np.repeat(np.arange(3), 9)
    images = np.random.default_rng(0).integers(0, 255, (27, 1, 8, 8)).astype(np.uint8)
    path.mkdir(parents=True)
    (path / "config.yaml").write_text("data: digits\n")
    return Run(path, net, config, ["a", "b", "c"], images, labels, {})


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    run = run_of(tmp_path_factory.mktemp("runs") / "run")
    return line_up(run, make_probes(run, SETTINGS), SETTINGS)


def kinds(compared: Any) -> dict[str, Context]:
    return {context.kind: context for context in compared.contexts}


def test_before_training_shared_differences_are_tied_and_the_other_control_is_not(compared):
    mine = kinds(compared)
    tied, own = (mine[kind].net.net.model.block.mlp.fc1.weight for kind in ("untrained", "untrained-independent"))
    assert torch.equal(tied, tied[:1].expand_as(tied))
    assert not torch.allclose(own[0], own[1])
    assert float(own.std()) == pytest.approx(float(tied.std()), rel=0.05)
    assert "columns are all alike" in about(mine["untrained"])
    assert "drawn by themselves" in about(mine["untrained-independent"])
    # What the run's attention was before training is that of the very network that was trained.
    assert np.array_equal(mine["run"].attention_before, mine["untrained"].attention)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"parametrization": "plain"}, "the control 'untrained' is this"),
        ({"untied": "none"}, "ties all of its weights"),
    ],
)
def test_independent_weights_say_where_they_are_nothing_new(tmp_path, options, reason):
    run = run_of(tmp_path / "run", **options)
    found = line_up(run, make_probes(run, SETTINGS), SETTINGS)
    assert "untrained-independent" not in kinds(found)
    reasons = {each["name"]: each["reason"] for each in found.missing}
    assert reason in reasons["untrained, independent weights"]


def test_the_input_is_what_each_input_column_sees(compared):
    context = kinds(compared)["input"]
    net, sheet = context.run.net.net, context.sheet
    images = torch.rand(5, 1, 8, 8)
    state = context.net.unroll(images).state
    assert state.shape == (36, 5, 4)
    for column, patch in zip(sheet.inputs.tolist(), net.assignment.tolist(), strict=True):
        row, place = divmod(patch, 4)
        pixels = images[:, 0, 2 * row : 2 * row + 2, 2 * place : 2 * place + 2].flatten(1)
        assert torch.allclose(state[column], (pixels - 0.4) / 0.3, atol=1e-6)
    others = np.setdiff1d(np.arange(36), sheet.inputs.numpy())
    assert not state[others].any()
    assert not context.active[others].any()
    assert context.active[sheet.inputs.numpy()].all()
    with pytest.raises(ValueError, match="patches listen to nothing"):
        _ = context.attention


def test_the_evidence_of_a_patch_is_the_regression_of_the_class_on_pixels_of_other_images(compared):
    context = kinds(compared)["input"]
    run, net = context.run, context.net
    images = torch.from_numpy(run.images)
    state = net.unroll(images).state
    evidence = net.evidence(state)
    assert evidence.shape == (36, 27, 3)
    assert torch.equal(net.evidence(state.unsqueeze(0))[0], evidence)
    inputs = context.sheet.inputs
    pixels = state[inputs].numpy()

    def fit(chosen):
        rows = pixels[:, chosen].reshape(-1, pixels.shape[-1])
        target = np.tile(np.eye(3)[run.labels[chosen]], (16, 1))
        return np.linalg.lstsq(np.column_stack([rows, np.ones(len(rows))]), target, rcond=None)[0][:-1]

    assert np.bincount(net.fold).min() >= 2
    for fold in range(10):
        mine = net.fold == fold
        assert np.allclose(evidence[inputs][:, mine], pixels[:, mine] @ fit(~mine), atol=1e-5)
    others = np.setdiff1d(np.arange(36), inputs.numpy())
    assert not evidence[others].any()
    new = net.unroll(images.flip(-1)).state
    assert np.allclose(net.evidence(new)[inputs], new[inputs].numpy() @ fit(np.arange(27)), atol=1e-5)


def noise_run(images, labels):
    """As much of a run as its patches need: 16 patches of 4 x 4 pixels."""
    sheet = cg.build_sheet("grid", shape=(4, 4), neighbors=cg.KNN(3), num_inputs=16)
    net = cg.VisionColumnformer(cg.Columnformer(sheet, dim=8, steps=1), 16, 4, 1, 5)
    plain = PlainImages(net, (0.5,), (0.3,)).eval()
    classes = [str(k) for k in range(5)]
    return SimpleNamespace(net=plain, sheet=sheet, images=images, labels=labels, says_classes=True, classes=classes)


def test_patches_of_noise_say_no_more_of_classes_than_by_chance():
    """Fitted to the images that it is tested on, noise had d' far beyond the null, p = 0.005."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 1, 16, 16), dtype=np.uint8), np.arange(60) % 5
    probes = category_set(images, labels, per_class=12)
    net = Patches(noise_run(images, labels))
    found = class_evidence(net, probes, [0], 32, False)[..., 0]
    result = category_selectivity(found, probes.labels["category"], 0, permutations=99)
    assert result.null.min() < result.value < result.null.max()
    assert result.p_value > 0.05


def test_what_an_image_says_never_depends_on_its_own_label_nor_on_copies_of_it():
    rng = np.random.default_rng(1)
    images, labels = rng.integers(0, 256, (40, 1, 16, 16), dtype=np.uint8), np.arange(40) % 5
    images[7] = images[3]
    evidence = []
    for label in (3, 4):
        labels[[3, 7]] = label
        net = Patches(noise_run(images, labels))
        other = int(np.flatnonzero(net.fold != net.fold[3])[0])
        evidence.append(net.evidence(net.unroll(torch.from_numpy(images[[3, 7, other]])).state))
    assert torch.allclose(evidence[0][:, :2], evidence[1][:, :2], atol=1e-6)
    assert not torch.allclose(evidence[0][:, 2], evidence[1][:, 2], atol=1e-4)
    assert net.fold[3] == net.fold[7]
    alike = Patches(noise_run(images[[3, 7]], labels[[3, 7]]))
    with pytest.raises(ValueError, match="at least 2 different images, the run has 1"):
        alike.evidence(alike.unroll(torch.from_numpy(images[:1])).state)


def test_correlation_given_the_input_is_of_the_columns_that_see_a_patch(compared):
    """What is handed on is each column's own patch, at its place, by the sheet's distance, for every control."""
    by_kind = kinds(compared)
    item = next(item for item in CATALOGUE if item.key == "correlation_given_input")
    for kind in ("run", "untrained", "untrained-independent", "shuffled"):
        context = by_kind[kind]
        given = context.beside_input
        seen = Patches(context.run).unroll(context.probes.natural.images).state.transpose(0, 1).numpy()
        here = np.flatnonzero(np.isin(np.arange(36), context.sheet.inputs.numpy()))
        here = here[np.argsort(context.place[here])]
        assert np.allclose(given["inputs"], seen[:, here])
        assert np.array_equal(given["positions"], context.positions[here])
        apart = context.sheet.space.between(context.place[here][:-1], context.place[here][1:])
        assert np.allclose(given["metric"].between(np.arange(15), np.arange(1, 16)), apart)
        result, reason = attempt(item, context)
        assert reason is None
        assert result.columns == 16
    assert no_control(item, "input") == "it is what is given"


def test_each_control_has_a_number_or_one_line(compared):
    """What is asked of a control gives a number, or says in one line why it does not."""
    for context in compared.contexts[1:]:
        found = 0
        for item in CATALOGUE:
            reason = no_control(item, context.kind)
            result, why_not = (None, reason) if reason else attempt(item, context)
            assert (result is None) != (why_not is None), (context.name, item.key)
            assert why_not is None or "\n" not in why_not
            found += result is not None
            assert result is None or note_of(item, context) != ""
        assert found > 4, context.name


# ---------------------------------------------------------------------- several columns to a patch


def test_places_are_shuffled_among_the_columns_of_one_patch(compared):
    """With two columns to each patch, both stay within it; columns that see none stay where they are."""
    main = compared.contexts[0]
    patch = np.arange(36) // 2
    patch[30:] = 100 + np.arange(6)
    moved = main.shuffled(patch)
    assert moved.kind == "shuffled-within-patches"
    assert np.array_equal(np.sort(moved.place), np.arange(36))
    assert np.array_equal(patch[moved.place], patch)
    assert 3 < (moved.place != np.arange(36)).sum() <= 30
    assert np.array_equal(moved.place[30:], np.arange(30, 36))
    assert moved.natural is main.natural, "the responses are not collected again"
    everywhere = main.shuffled()
    assert (patch[everywhere.place] != patch).sum() > 20


def test_columns_of_a_patch_are_found_where_several_see_it():
    """A network in which columns share patches: the match of input columns to patches names one more than once."""
    sheet = cg.build_sheet("grid", shape=(4, 4), neighbors="knn:5", num_inputs=8)
    net: Any = SimpleNamespace(model=SimpleNamespace(sheet=sheet), assignment=torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]))
    label = patch_of_column(net)
    assert np.array_equal(label[sheet.inputs.numpy()], [0, 0, 1, 1, 2, 2, 3, 3])
    others = np.setdiff1d(np.arange(16), sheet.inputs.numpy())
    assert len(np.unique(label[others])) == 8
    assert label[others].min() > 3


def test_one_column_to_a_patch_leaves_nothing_to_shuffle(compared):
    reasons = {each["name"]: each["reason"] for each in compared.missing}
    assert reasons["shuffled within patches"] == (
        "every patch is seen by one column: there is nothing to shuffle within it"
    )


def test_a_network_with_shared_patches_gets_the_control(compared):
    """The same network, but two columns to each patch: shuffling within patches keeps retinotopy and nothing finer."""
    main = compared.contexts[0]
    run = replace(main.run, net=PlainImages(main.run.net.net, (0.4,), (0.3,)).eval())
    vision = run.net.net
    before = vision.assignment.clone()
    try:
        vision.assignment.copy_(before // 2)
        found = line_up(run, main.probes, SETTINGS)
        within = kinds(found)["shuffled-within-patches"]
        label = patch_of_column(vision)
        assert np.array_equal(label[within.place], label)
        assert not np.array_equal(within.place, np.arange(36))
        # Columns of one patch see the same pixels: of the input, nothing changes.
        seen = responses(Patches(run), main.probes.natural.images[:4], signal="norm", progress=False)
        assert np.array_equal(seen[:, within.place], seen)
    finally:
        vision.assignment.copy_(before)


# ---------------------------------------------------------------------- near-tautologies


def test_pairs_that_follow_from_how_a_control_is_made_say_so(compared):
    by_kind = kinds(compared)
    by_key = {item.key: item for item in CATALOGUE}
    trained = {
        name: replace(by_kind["run"], name=name, kind="trained", seed=0)
        for name in ("trained on shuffled positions", "no wiring cost", "random graph", "tied weights")
    }
    shuffled = trained["trained on shuffled positions"]
    for item in CATALOGUE:
        if item.family == "topography" and "shuffled" in item.controls:
            assert "near chance by construction" in (note_of(item, shuffled) or ""), item.key
            assert "one draw" in (note_of(item, by_kind["shuffled"]) or ""), item.key
        if item.family == "topography":
            assert "all alike" in (note_of(item, by_kind["untrained"]) or ""), item.key
            assert note_of(item, by_kind["untrained-independent"]) is None
            assert note_of(item, by_kind["input"]) is None
    assert "longer by construction" in (note_of(by_key["wiring"], trained["random graph"]) or "")
    assert "this very term" in (note_of(by_key["wiring"], trained["no wiring cost"]) or "")
    assert "random graphs of the null" in (note_of(by_key["modularity"], trained["random graph"]) or "")
    assert note_of(by_key["rsa"], trained["tied weights"]) is None
    assert note_of(by_key["category"], shuffled) is None, "it does not depend on places"
