"""Settings of how a sheet sees images: several columns for each patch, overlap, log-polar sampling."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("lightning")
pytest.importorskip("sklearn")

from small_runs import train_on_digits

from colgraph.report.loading import PlainImages
from colgraph.report.patches import Patches, patch_of_column
from colgraph.tasks import Columns, Reconstruct
from colgraph.training import TrainConfig, load_trained, make_model, make_sheet, parse_flags
from colgraph.training.checkpoint import TrainedModel
from colgraph.training.origin import settings_of
from colgraph.training.other_size import at_size
from colgraph.training.resume import changed_settings
from colgraph.training.setup import grid_of

# Some columns cannot hear the input in so few steps.
pytestmark = pytest.mark.filterwarnings("ignore:.*within 2 steps")

GRID: dict[str, Any] = {
    "data": "digits",
    "image_size": 8,
    "channels": 1,
    "augment": "none",
    "geometry": "grid",
    "options": {"shape": [8, 8]},
    "neighbors": "knn:5",
    "dim": 8,
    "qk_dim": 4,
    "mlp_dim": 8,
    "steps": 2,
}
WAYS: dict[str, dict[str, Any]] = {
    "groups": {"patch_size": 2, "columns_per_patch": 4, "outputs": "all"},
    "overlap": {"patch_size": 4, "patch_stride": 2, "outputs": "0-8"},
    "log-polar": {"patch_size": 2, "columns_per_patch": 2, "sampling": "log-polar", "fixation": "0.25,0.5"},
}


def config(**changes: Any) -> TrainConfig:
    return TrainConfig(**{**GRID, **changes})


@pytest.mark.parametrize(
    ("changes", "inputs", "size"),
    [
        ({"columns_per_patch": 4}, 64, 2),
        ({"columns_per_patch": 4, "patch_size": 4}, 16, 4),
        ({"patch_size": 4, "patch_stride": 2}, 9, 4),
        ({"patch_stride": 2, "columns_per_patch": 3}, 48, 2),  # the eighth of the image is less than the stride
        ({"columns_per_patch": 4, "num_inputs": 16}, 16, 4),
        ({"columns_per_patch": 4, "inputs": "0-35", "patch_stride": 1}, 36, 6),
        ({"columns_per_patch": 64}, 64, 8),
        ({"geometry": "stack", "options": {"widths": [4, 3]}, "columns_per_patch": 4}, 16, 4),
    ],
)
def test_inputs_are_patches_times_columns(changes: dict[str, Any], inputs: int, size: int) -> None:
    settings = config(**changes)
    sheet = make_sheet(settings)
    net = make_model(settings, sheet, 3)
    assert (sheet.inputs.numel(), net.patch_size) == (inputs, size)
    assert math.prod(net.grid) * net.columns_per_patch == inputs
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    again = settings_of(net, TrainConfig(**{**GRID, "dim": 32}))
    for name in ("columns_per_patch", "patch_stride", "sampling", "fixation", "dim"):
        assert getattr(again, name) == getattr(settings, name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"columns_per_patch": 5, "patch_size": 2},
            r"16 patches of 5 columns each \(8 px .*more than the 64.*-size 4 or",
        ),
        (
            {"columns_per_patch": 65},
            "1 patches of 65 columns each .*more than the 64 columns.*--columns-per-patch 64 or",
        ),
        ({"columns_per_patch": 3, "inputs": "0-15"}, "square patches of 3 columns each that amount to the 16 input"),
        (
            {"patch_size": 2, "columns_per_patch": 2, "inputs": "0-7"},
            "16 patches of 2 .* 8 input .* give --patch-size 4",
        ),
        (
            {"patch_size": 4, "patch_stride": 2, "num_inputs": 8},
            "squares, 2 px from one to the next.*give --num-inputs 9",
        ),
        ({"patch_size": 4, "patch_stride": 3}, "patch_stride: 3 does not lead patches of 4 px over .*: 1, 2, 4 do"),
        ({"patch_stride": 9}, "patch_stride: must be at most image_size 8, got 9"),
        ({"model": "vit", "patch_size": 2, "patch_stride": 1}, "patch_stride: a vit takes patches side by side, got 1"),
        ({"model": "cnn", "sampling": "log-polar"}, "sampling: a cnn takes images as they are, got log-polar"),
        ({"sampling": "log-polar", "fixation": "2,0"}, "fixation: must be shares of height and width such as 0.5,0.5"),
    ],
)
def test_what_cannot_be_is_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        make_sheet(config(**changes))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--model vit --columns-per-patch 4", "--columns-per-patch has no effect here: it needs --model columnformer"),
        ("--fixation 0.2,0.2", "--fixation has no effect here: it needs --sampling log-polar"),
        ("--patch-size 4 --patch-stride 3", "--patch-stride: 3 does not lead"),
    ],
)
def test_flags_without_effect_are_refused(flags: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_flags(f"--data digits --image-size 8 --channels 1 {flags}".split())


def test_settings_are_flags_and_a_run_keeps_them() -> None:
    given = "--sampling log-polar --fixation 0.25,.75 --columns-per-patch 2 --patch-stride 1 --patch-size 2"
    settings, _ = parse_flags(f"--image-size 8 {given}".split())
    assert (settings.sampling, settings.fixation) == ("log-polar", "0.25,0.75")
    assert (settings.columns_per_patch, settings.patch_stride) == (2, 1)
    assert TrainConfig.from_flat(settings.flat()) == settings
    assert config(sampling="log-polar", fixation=[0, 1]).fixation == "0.0,1.0"  # a list of a YAML file
    with pytest.raises(ValueError, match=r"cannot take --columns-per-patch 2 \(the run has 1\)"):
        changed_settings(config(), config(columns_per_patch=2))


def test_labels_of_patches_are_repeated_in_their_columns() -> None:
    net = make_model(config(**WAYS["groups"], task="columns"), make_sheet(config(**WAYS["groups"])), 16)
    assert torch.equal(net.output_patches, net.assignment[net.model.sheet.inputs.argsort()])
    labels = torch.arange(16).view(1, 4, 4)
    targets = Columns(config(task="columns")).question(net, torch.zeros(1, 1, 8, 8), labels, torch.Generator()).targets
    assert torch.equal(targets[0], net.output_patches)
    assert torch.bincount(targets[0]).tolist() == [4] * 16
    # On a grid the answers are the labels, each as large as its group.
    assert torch.equal(targets.view(8, 8), labels[0].repeat_interleave(2, 0).repeat_interleave(2, 1))


def test_labels_of_squares_are_not_those_of_rings_and_wedges() -> None:
    way = {**WAYS["log-polar"], "task": "columns", "outputs": "0-31"}
    net = make_model(config(**way), make_sheet(config(**way)), 2)
    labels = torch.zeros(3, 4, 4, dtype=torch.int64)
    part = SimpleNamespace(labels=labels)
    images: Any = SimpleNamespace(train=part, val=part, test=part, harder={}, classes=["a", "b"], source="squares")
    with pytest.raises(ValueError, match="'squares' has labels for squares of the image, patches are rings and wedges"):
        Columns(config(task="columns")).check(images, net)
    part.labels = labels.new_zeros(3, net.outputs.numel())
    Columns(config(task="columns")).check(images, net)
    with pytest.raises(ValueError, match=r"sampling: columns takes labels for squares .*give --sampling uniform"):
        grid_of(config(**way))
    with pytest.raises(ValueError, match=r"patch_stride: columns takes labels for squares .*give --patch-stride 4"):
        grid_of(config(**WAYS["overlap"], task="columns"))
    assert grid_of(config(**WAYS["groups"], task="columns")) == (4, 4)


@pytest.mark.parametrize("way", WAYS)
def test_hidden_patches_are_those_that_columns_see(way: str) -> None:
    settings = config(**{"outputs": "all", **WAYS[way]}, task="reconstruct")
    net = make_model(settings, make_sheet(settings), settings.patch_size**2)
    task = Reconstruct(settings)
    task.check(SimpleNamespace(), net)
    images = torch.randn(3, 1, 8, 8)
    asked = task.question(net, images, None, torch.Generator().manual_seed(0))
    shown = net.sampled(images)
    patches = F.unfold(shown, net.patch_size, stride=net.patch_stride).transpose(1, 2)
    scaled = (patches - patches.mean(-1, keepdim=True)) / (patches.std(-1, keepdim=True, correction=0) + 1e-3)
    by_column = asked.hidden[:, net.output_patches]
    assert torch.equal(~asked.targets.isnan().any(-1), by_column)
    assert torch.allclose(asked.targets[by_column], scaled[:, net.output_patches][by_column], atol=1e-5)
    # No column that sees a hidden patch gets anything of it.
    inputs = net.embed(images, asked.hidden)
    assert bool((inputs[asked.hidden.T[net.assignment]] == net.mask_token).all())


@pytest.mark.parametrize("way", WAYS)
def test_a_run_is_trained_and_read_back(way: str, tmp_path: Path) -> None:
    settings = {**GRID, **WAYS[way], "epochs": 1, "batch_size": 256, "warmup": 0, "lr": 1e-2, "tensorboard": False}
    train_on_digits(tmp_path / "run", **settings, figure_every=0)
    trained = load_trained(tmp_path / "run")
    net: Any = trained.net
    assert net.columns_per_patch == settings.get("columns_per_patch", 1)
    assert (net.patch_stride, net.sampling) == (settings.get("patch_stride", 2), settings.get("sampling", "uniform"))
    assert trained.config.fixation == settings.get("fixation", "0.5,0.5")
    label = patch_of_column(net)
    patches = math.prod(net.grid)
    assert np.bincount(label)[:patches].tolist() == [net.columns_per_patch] * patches
    # Training goes on where it was, and another way of seeing is refused.
    with pytest.raises(ValueError, match="cannot take --patch-stride 1"):
        changed_settings(trained.config, dataclasses.replace(trained.config, patch_stride=1))


@pytest.mark.parametrize("more", [{}, {"sampling": "log-polar"}])
def test_a_tied_sheet_carries_over_to_larger_images_with_its_overlap(more: dict[str, Any]) -> None:
    tied = {"untied": "none", "position_embedding": False, "edge_bias": "fixed", "options": {"shape": [3, 3]}}
    settings = config(**tied, patch_size=4, patch_stride=2, num_outputs=9, **more)
    net = make_model(settings, make_sheet(settings), 3)
    trained = TrainedModel(net, settings, ["a", "b", "c"], Any, 1)  # type: ignore[arg-type]
    larger = at_size(trained, 12)
    assert larger.net.grid == (5, 5)
    assert larger.net.options == dataclasses.replace(net.options, image_size=12)
    same = make_model(larger.config, make_sheet(larger.config), 3)
    same.load_state_dict({**same.state_dict(), **dict(net.named_parameters())})
    images = torch.randn(2, 1, 12, 12)
    torch.testing.assert_close(larger.net(images), same(images))
    with pytest.raises(ValueError, match="images of 13 pixels cannot be cut into patches of 4, 2 from one to the next"):
        at_size(trained, 13)


@pytest.mark.parametrize("way", WAYS)
def test_what_reports_call_the_input_is_what_columns_get(way: str) -> None:
    settings = config(**WAYS[way])
    net = make_model(settings, make_sheet(settings), 10)
    images, plain = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8), PlainImages(net, (0.4,), (0.3,))
    run: Any = SimpleNamespace(net=plain, sheet=net.model.sheet, images=images.numpy())
    seen = Patches(run).unroll(images).state[net.model.sheet.inputs]
    maps = net.patch_embedding.weight.flatten(1).unflatten(0, (net.columns_per_patch, -1))
    bias = net.patch_embedding.bias.unflatten(0, (net.columns_per_patch, -1))
    number = net.input_vectors % net.columns_per_patch if net.columns_per_patch > 1 else 0 * net.assignment
    vectors = torch.einsum("ibp,icp->ibc", seen, maps[number]) + bias[number].unsqueeze(1)
    normal = plain.normalised(images).requires_grad_()
    found = net.embed(normal)
    torch.testing.assert_close(found, vectors, rtol=1e-4, atol=1e-4)
    # Fields in pixels are those of the image itself, whatever is sampled of it.
    found[0].square().sum().backward()
    moves = normal.grad.abs().sum((0, 1)) > 0
    assert bool(moves[net.pixel_patches() == net.assignment[0]].all())
    assert int(moves.sum()) < 64
