"""Every preset in colgraph/configs: it loads, makes what its name says, and the small ones learn."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from colgraph.models import VisionColumnformer, count_flops
from colgraph.training import TrainConfig, make_model, make_sheet, parse_flags, unreached_outputs
from colgraph.training.flags import load_settings
from colgraph.training.presets import PRESETS

NAMES = sorted(path.stem for path in PRESETS.glob("*.yaml") if path.stem != "cortex")


def settings(name: str) -> TrainConfig:
    arguments = ["--config", str(PRESETS / f"{name}.yaml")]
    return parse_flags(arguments + (["--data", "x.parquet"] if "cifar" in name else []), presets=PRESETS)[0]


def model(name: str, device: str = "cpu") -> Any:
    config = settings(name)
    classes = 100 if "imagenet" in name else 10
    sheet = None if config.baseline else make_sheet(config)
    with torch.device(device):
        return make_model(config, sheet, classes)


def parameters(net: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_preset_makes_a_model_whose_outputs_know_of_the_image(name: str) -> None:
    config = settings(name)
    net = model(name, "meta")
    if not isinstance(net, VisionColumnformer):
        assert {"recurrent": "conv", "cnn": "stack"}.get(config.model, config.model) in name or config.model in name
        return
    assert unreached_outputs(net.model.sheet, config.steps) == 0
    assert net.model.sheet.inputs.numel() == config.columns_per_patch * patches_of(config)
    assert set(load_settings(PRESETS / f"{name}.yaml")) <= {
        *config.flat(),
        "widths",
        "layer_distance",
        "direction",
        "shape",
    }


def patches_of(config: TrainConfig) -> int:
    size = config.patch_size or 1
    return ((config.image_size - size) // (config.patch_stride or size) + 1) ** 2


@pytest.mark.parametrize("name", [name for name in NAMES if "imagenet" not in name])
def test_small_presets_have_a_finite_loss_and_gradients(name: str) -> None:
    config = settings(name)
    torch.manual_seed(0)
    net = model(name)
    images = torch.randn(2, config.channels, config.image_size, config.image_size)
    some = torch.rand(2, patches_of(config)) < 0.5
    answers = net.unroll(images, hidden=some).logits if config.task == "reconstruct" else net(images)
    F.cross_entropy(answers.flatten(0, -2), torch.ones(answers[..., 0].numel(), dtype=torch.int64)).backward()
    for part, parameter in net.named_parameters():
        assert parameter.grad is not None, part
        assert bool(torch.isfinite(parameter.grad).all()), part


def test_the_original_recipe_and_sizes() -> None:
    config = settings("imagenet100-columnformer")
    sizes = (config.dim, config.heads, config.qk_dim, config.mlp_dim, config.value_projection, config.untied)
    assert sizes == (384, 1, 64, 64, False, "norm,attention,mlp")
    recipe = (config.epochs, config.batch_size, config.lr, config.weight_decay, config.beta1, config.beta2)
    assert recipe == (50, 256, 6e-4, 0.05, 0.9, 0.95)
    assert (config.clip, config.crop, config.flip, config.color) == (1.0, 0.33334, True, 0.4)
    sheet = make_sheet(config)
    assert (sheet.num_columns, sheet.edge_index.size(1)) == (384, 384**2)
    first = settings("imagenet100-first-model")
    assert (first.options["widths"], first.epochs) == ([8, 12, 16], 100)
    net = model("imagenet100-first-model", "meta")
    biases = net.model.block.attention.edge_bias.numel()
    assert parameters(net) - biases == pytest.approx(46.9e6, rel=0.01)


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        (f"{family}-wiring-{weight}", weight)
        for family in ("imagenet100", "digits", "cifar10")
        for weight in (0.01, 0.1)
    ],
)
def test_wiring_weights_are_the_originals(name: str, weight: float) -> None:
    """The original's loss on random attention over all pairs equals ours with the converted weight."""
    config = settings(name)
    place = make_sheet(config).pos.double().numpy()
    distance = np.linalg.norm(place[:, None] - place[None], axis=-1)
    attention = np.random.default_rng(0).dirichlet(np.ones(len(place)), len(place))
    theirs = weight * (distance / distance.mean() * attention).sum(1).mean()
    ours = config.wiring / make_sheet(config).spacing * (distance * attention).sum(1).mean()
    assert ours == pytest.approx(theirs, rel=1e-3)


def vit_cost(name: str) -> int:
    """The formula of tests/training/test_baselines.py, with the backward pass; images need no gradient."""
    vit = settings(name)
    patches = (vit.image_size // model(name, "meta").patch_size) ** 2
    block = patches * (8 * vit.dim**2 + 4 * vit.dim * vit.mlp_dim) + 4 * patches**2 * vit.dim
    embedding = 2 * vit.dim * vit.channels * vit.image_size**2
    classes = 100 if name.startswith("imagenet100") else 10
    return 3 * (embedding + vit.depth * block + 2 * vit.dim * classes) - embedding


@pytest.mark.parametrize(
    ("family", "sheet"), [("digits", "digits"), ("cifar10", "cifar10"), ("imagenet100", "imagenet100-sparse")]
)
def test_vits_are_matched(family: str, sheet: str) -> None:
    reference = model(sheet, "meta")
    flops, config = count_flops(reference).training, settings(sheet)
    assert vit_cost(f"{family}-vit-flops") == pytest.approx(flops, rel=0.03)
    by_size = f"{family}-vit-parameters"
    assert parameters(model(by_size, "meta")) == pytest.approx(parameters(reference), rel=0.03)
    images = {"digits": 1437, "cifar10": 40_000, "imagenet100": 126_689}[family]
    vit = settings(by_size)
    spent = vit_cost(by_size) * vit.epochs * (vit.epoch_images or images)
    assert spent == pytest.approx(flops * config.epochs * images, rel=0.03)


@pytest.mark.parametrize(("family", "factor"), [("digits", 3.3), ("cifar10", 22.9)])
def test_vits_of_as_many_parameters_see_as_many_images_at_the_cost_that_is_said(family: str, factor: float) -> None:
    sheet, vit = settings(family), settings(f"{family}-vit-parameters-long")
    same = ("epochs", "epoch_images", "batch_size", "lr", "warmup", "augment")
    assert [getattr(vit, name) for name in same] == [getattr(sheet, name) for name in same]
    assert parameters(model(f"{family}-vit-parameters-long", "meta")) == pytest.approx(
        parameters(model(family, "meta")), rel=0.03
    )
    flops = count_flops(model(family, "meta")).training
    assert vit_cost(f"{family}-vit-parameters-long") / flops == pytest.approx(factor, abs=0.05)


@pytest.mark.parametrize("family", ["digits", "cifar10"])
def test_convolutional_and_locally_connected_networks_are_matched(family: str) -> None:
    flops = count_flops(model(family, "meta")).training
    cnn, local = (model(f"{family}-{kind}") for kind in ("cnn", "local"))
    assert count_flops(cnn).training == pytest.approx(flops, rel=0.03)
    assert count_flops(local).training == count_flops(cnn).training
    assert parameters(local) > 20 * parameters(cnn)


def test_longer_training_at_fewer_flops_an_image_is_matched() -> None:
    usual, long, vit = settings("cifar10"), settings("cifar10-one-step-long"), settings("cifar10-vit-small")
    flops = count_flops(model("cifar10-one-step-long", "meta")).training
    whole = count_flops(model("cifar10", "meta")).training * usual.epochs
    assert flops * long.epochs == pytest.approx(whole, rel=0.03)
    assert vit_cost("cifar10-vit-small") * vit.epochs == pytest.approx(whole, rel=0.03)
    whole = count_flops(model("digits", "meta")).training * settings("digits").epochs
    flops = count_flops(model("digits-one-step-long", "meta")).training
    assert flops * settings("digits-one-step-long").epochs == pytest.approx(whole, rel=0.03)


def test_one_step_on_the_same_graph_hears_part_of_the_image() -> None:
    """What the comment in the preset says, and that no output is late."""
    whole, sheet = make_sheet(settings("digits")), make_sheet(settings("digits-one-step-same-graph"))
    assert (sheet.fingerprint, sheet.outputs.tolist()) == (whole.fingerprint, whole.outputs.tolist())
    assert unreached_outputs(sheet, 1) == 0
    source, target = sheet.edge_index
    patches = torch.isin(source, sheet.inputs)
    heard = [int((patches & (target == column)).sum()) for column in sheet.outputs]
    assert (min(heard), max(heard)) == (2, 6)
    assert make_sheet(settings("digits-one-step")).fingerprint == make_sheet(settings("digits-dense")).fingerprint


def test_names_say_what_differs() -> None:
    assert settings("digits-tied").untied == "none"
    assert settings("cifar10-random-graph").control == "random-graph"
    assert model("cifar10-shuffled-positions", "meta").model.parametrization == "shared+difference"
    assert settings("imagenet100-local").locality_sigma == pytest.approx(0.5**0.5)
    for name in NAMES:
        if match := re.search(r"knn(\d+)", name):
            assert settings(name).neighbors == f"knn:{match[1]}"


# ---------------------------------------------------------------------- the mechanism


def test_base_files_lie_below(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("lr: 0.1\nepochs: 3\nwidths: [2, 2]\ngeometry: stack\nneighbors: knn:3\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.yaml").write_text("base: ../a.yaml\nlr: 0.2\n")
    (tmp_path / "sub" / "c.yaml").write_text("base: b.yaml\ngeometry: ring\ncolumns: 9\n")
    assert load_settings(tmp_path / "sub" / "b.yaml") == {
        "lr": 0.2,
        "epochs": 3,
        "widths": [2, 2],
        "geometry": "stack",
        "neighbors": "knn:3",
    }
    assert load_settings(tmp_path / "sub" / "c.yaml") == {"lr": 0.2, "epochs": 3, "geometry": "ring", "columns": 9}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: a.yaml\n", "is a base of itself"),
        ("base: b.yaml\n", "is a base of itself"),
        ("base: nowhere.yaml\n", "cannot read config .*nowhere.yaml"),
        ("base: [1]\n", r"base in .*a\.yaml.* must name a YAML file, got \[1\]"),
        ("lrr: 1\n", "unknown key 'lrr' in .*; did you mean 'lr'"),
        ("no_such_thing: 1\n", "unknown flag or key --no-such-thing"),
        ("resume: true\n", "is a flag of the command line"),
        ("epochs: many\n", "--epochs: must be a whole number, got 'many'"),
    ],
)
def test_presets_that_are_wrong_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "b.yaml").write_text("base: a.yaml\n")
    with pytest.raises(ValueError, match=message):
        parse_flags(["--config", str(tmp_path / "a.yaml")])
