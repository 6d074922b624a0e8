"""Baselines and controls in the same script: a ViT, and sheets whose space says nothing."""

from __future__ import annotations

import csv
import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("sklearn")

from colgraph.data import load_images
from colgraph.data.sources import ImageSplits
from colgraph.experiments.commands import run_share
from colgraph.experiments.evaluate import evaluate_run
from colgraph.models import ConvNet, RecurrentConvNet, VisionTransformer, count_flops
from colgraph.report.loading import load_run
from colgraph.report.seeds import compare_seeds
from colgraph.training import (
    InterruptedRunError,
    RunFlags,
    RunFolder,
    TrainConfig,
    load_trained,
    make_model,
    make_sheet,
    open_run_folder,
    train,
)
from colgraph.training.batches import StepSampler
from colgraph.training.module import TaskModule
from colgraph.training.origin import settings_of
from colgraph.training.resume import as_recorded
from colgraph.training.run import parameters_sha256

SMALL: dict[str, Any] = {"data": "digits", "image_size": 8, "channels": 1, "augment": "affine", "neighbors": "knn:4"}
SMALL |= {"options": {"widths": [4, 4]}, "dim": 8, "steps": 2, "qk_dim": 4, "mlp_dim": 8, "epochs": 2}
SMALL |= {"batch_size": 256, "wiring": 0.05, "tensorboard": False, "figure_every": 0, "depth": 2, "heads": 2}


@pytest.fixture(scope="module")
def images() -> ImageSplits:
    return load_images("digits", image_size=8, channels=1)


def run(path: Path, images: ImageSplits, resume: bool = False, **changes: Any) -> dict[str, Any]:
    config = TrainConfig(**{**SMALL, **changes})
    folder = open_run_folder(config, RunFlags(path, resume))
    torch.manual_seed(config.seed)
    sheet = None if config.baseline else make_sheet(config)
    return train(make_model(config, sheet, len(images.classes)), images, config, folder)


def interrupted(path: Path, images: ImageSplits, step: int, **changes: Any) -> None:
    """A run that is stopped in the step after the given one."""

    def stop(self: TaskModule, *_: Any) -> None:
        if self.global_step == step:
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TaskModule, "on_train_batch_end", stop)
        with pytest.raises(InterruptedRunError):
            run(path, images, **changes)


@pytest.mark.parametrize(
    ("model", "what", "made"),
    [
        ({"model": "vit"}, "a vit", VisionTransformer),
        ({"model": "cnn", "dim": 9, "ema": 0.5}, "a cnn", ConvNet),
        (
            {"model": "local", "parametrization": "shared+difference", "difference_lr": 0.5},
            "a locally connected network",
            ConvNet,
        ),
        (
            {"model": "vit", "tied_blocks": True, "inject": "every", "position_embedding": False, "steps": 3},
            "a vit",
            VisionTransformer,
        ),
        ({"model": "recurrent", "inject": "every"}, "a recurrent convolution", RecurrentConvNet),
    ],
    ids=["vit", "cnn", "local", "tied-vit", "recurrent"],
)
def test_baselines_train_resume_and_load(
    images: ImageSplits,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    model: dict[str, Any],
    what: str,
    made: type,
) -> None:
    whole = run(tmp_path / "whole", images, **model)
    assert f"{what} has no sheet" in capsys.readouterr().err
    interrupted(tmp_path / "parts", images, 7, **model)
    parts = run(tmp_path / "parts", images, resume=True, **model)
    assert parts["resumed_from_step"] == 8
    assert parts["parameters_sha256"] == whole["parameters_sha256"]
    assert whole["steps"] == parts["steps"] == 10
    assert whole["flops_per_image"] == count_flops(load_trained(tmp_path / "whole").net).training
    assert (whole["wiring_cost"], whole["geometry"], whole["columns"]) == (None, None, None)
    assert json.loads((tmp_path / "whole" / "summary.json").read_text()) == whole
    rows = list(csv.DictReader((tmp_path / "whole" / "metrics.csv").open()))
    assert {row["wiring_cost"] for row in rows} == {""}
    assert {path.name for path in (tmp_path / "whole" / "figures").iterdir()} == {"curves.png", "curves.pdf"}
    trained = load_trained(tmp_path / "whole")
    assert type(trained.net) is made
    assert trained.config == RunFolder(tmp_path / "whole").record().config
    assert trained.config.model == model["model"]
    assert parameters_sha256(trained.net) == whole["parameters_sha256"]
    pixels, labels = images.test.batch(range(len(images.test)))
    with torch.no_grad():
        right = trained.net(trained.transform.evaluate(pixels)).argmax(-1) == labels
    assert float(right.float().mean()) == pytest.approx(whole["test_accuracy"], abs=2e-3)
    assert evaluate_run(tmp_path / "whole")["accuracy"] == pytest.approx(whole["test_accuracy"], abs=2e-3)
    with pytest.raises(ValueError, match=f"trained {what}, a baseline: only models with a sheet are compared"):
        RunFolder(tmp_path / "whole").check_sheet("compared with recordings")
    with pytest.raises(ValueError, match="has no sheet"):
        _ = load_run(tmp_path / "whole", images=0).sheet
    with pytest.raises(ValueError, match="has not been analyzed: run colgraph analyze"):
        compare_seeds([tmp_path / "whole"])
    run_share([str(tmp_path / "whole"), str(tmp_path / "shared")])
    shared = made.from_pretrained(tmp_path / "shared")
    assert shared.about["classes"] == images.classes
    assert parameters_sha256(shared) == whole["parameters_sha256"]
    assert shared.arguments() == trained.net.arguments()


def test_vit_sees_the_patches_of_the_sheet_and_blocks_start_apart() -> None:
    config = TrainConfig(**{**SMALL, "model": "vit"})
    net = make_model(config, None, 10)
    assert net.patch_size == 2
    assert net.position_embedding.shape == (16, 8)
    first, second = (layer.linear1.weight for layer in net.encoder.layers)
    assert not torch.equal(first, second)
    assert net(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
    # Patches 2 (1 x 2^2) 16 8, blocks 16 (8 C^2 + 4 C M) + 4 16^2 C, head 2 C K.
    block = 16 * (8 * 64 + 4 * 8 * 8) + 4 * 16 * 16 * 8
    assert count_flops(net).forward == 2 * 16 * 4 * 8 + 2 * block + 2 * 8 * 10
    with pytest.raises(ValueError, match=r"images must have shape \[B, 1, 8, 8\]"):
        net(torch.zeros(3, 1, 9, 8))


def test_vit_is_the_plain_formula() -> None:
    """Written out for one block: pre-norm attention, pre-norm MLP, norm, mean, head."""
    torch.manual_seed(0)
    net = VisionTransformer(8, 4, 1, 3, dim=6, depth=1, num_heads=2, mlp_dim=5).double()
    images = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    p = {name: value.detach() for name, value in net.named_parameters()}
    cut = images.unfold(2, 4, 4).unfold(3, 4, 4).reshape(2, 4, 16)
    x = cut @ p["patch_embedding.weight"].view(6, 16).T + p["patch_embedding.bias"] + p["position_embedding"]

    def norm(y: torch.Tensor, name: str) -> torch.Tensor:
        y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        return y * p[f"{name}.weight"] + p[f"{name}.bias"]

    layer = "encoder.layers.0"
    h = norm(x, f"{layer}.norm1") @ p[f"{layer}.self_attn.in_proj_weight"].T + p[f"{layer}.self_attn.in_proj_bias"]
    q, k, v = (part.view(2, 4, 2, 3).transpose(1, 2) for part in h.chunk(3, -1))
    heard = ((q @ k.transpose(2, 3) / 3**0.5).softmax(-1) @ v).transpose(1, 2).reshape(2, 4, 6)
    x = x + heard @ p[f"{layer}.self_attn.out_proj.weight"].T + p[f"{layer}.self_attn.out_proj.bias"]
    hidden = norm(x, f"{layer}.norm2") @ p[f"{layer}.linear1.weight"].T + p[f"{layer}.linear1.bias"]
    x = x + torch.nn.functional.gelu(hidden) @ p[f"{layer}.linear2.weight"].T + p[f"{layer}.linear2.bias"]
    logits = norm(x, "encoder.norm").mean(1) @ p["head.weight"].T + p["head.bias"]
    assert torch.allclose(net(images), logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize("control", ["random-graph", "shuffled-positions"])
def test_controls_train_and_come_back(images: ImageSplits, tmp_path: Path, control: str) -> None:
    plain = make_sheet(TrainConfig(**SMALL))
    summary = run(tmp_path / "run", images, control=control, epochs=1)
    assert (summary["fingerprint"] == plain.fingerprint) == (control == "shuffled-positions")
    again = run(tmp_path / "run", images, resume=True, control=control, epochs=2)
    assert again["resumed_from_step"] == 5
    trained = load_trained(tmp_path / "run")
    assert isinstance(trained.net, torch.nn.Module)
    assert parameters_sha256(trained.net) == again["parameters_sha256"]
    assert torch.equal(trained.net.get_buffer("assignment"), make_model(TrainConfig(**SMALL), plain, 10).assignment)


def test_controls_of_other_seeds_are_others() -> None:
    sheets = [make_sheet(TrainConfig(**{**SMALL, "control": "random-graph", "seed": seed})) for seed in (0, 1)]
    assert sheets[0].fingerprint != sheets[1].fingerprint


def test_short_epochs_draw_anew() -> None:
    step = 0
    sampler = StepSampler(50, 8, 3, lambda: step, epoch=17)
    assert sampler.batches == 2
    first = list(sampler)
    step = 2
    assert len(first) == 16
    assert set(sampler) != set(first)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "vit", "sheet_parallel": 2}, "sheet_parallel: a vit has no sheet to share"),
        ({"model": "cnn", "control": "random-graph"}, "control: a cnn has no sheet to rewire"),
        ({"model": "local", "spatial_weight": 1}, "spatial_weight: a locally connected network has no columns"),
        (
            {"model": "vitt"},
            "model: must be columnformer, vit, .*, or file.py:function, got 'vitt'; did you mean 'vit'",
        ),
        ({"model": "vit", "readout": "spatial"}, "readout: a vit has no columns to weigh: mean, got spatial"),
        ({"model": "recurrent", "depth": 3}, "depth: a recurrent convolution has at most 2 convolutions of 3 x 3"),
        ({"control": "random"}, "control: must be one of none, shuffled-positions, random-graph, got 'random'"),
        ({"model": "vit", "heads": 3}, "dim: 8 is not divisible by num_heads=3"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        TrainConfig(**{**SMALL, **changes})
    with pytest.raises(ValueError, match="model 'columnformer' needs a sheet"):
        make_model(TrainConfig(**SMALL), None, 10)


def test_what_an_older_baseline_took_no_notice_of_is_not_what_it_was_trained_with() -> None:
    """Its record may name settings of the sheet of its base, which baselines have only now."""
    config = TrainConfig(**{**SMALL, "model": "vit"})
    ignored = {"readout": "spatial", "inject": "every", "position_embedding": False}
    older = {name: value for name, value in config.flat().items() if name != "tied_blocks"} | ignored
    assert TrainConfig.from_flat(as_recorded(older)) == config
    chosen = config.flat() | {"inject": "every", "position_embedding": False}
    assert TrainConfig.from_flat(as_recorded(chosen)).inject == "every"
    sheet = {name: value for name, value in TrainConfig(**SMALL).flat().items() if name != "tied_blocks"} | ignored
    assert TrainConfig.from_flat(as_recorded(sheet)).readout == "spatial"


def test_networks_of_ones_own_say_what_they_are() -> None:
    for net, model in (
        (
            VisionTransformer(8, 2, 1, 10, 12, 3, 3, 9, tied_blocks=True, inject="every", position_embedding=False),
            "vit",
        ),
        (ConvNet(8, 2, 1, 10, 6, 2), "cnn"),
        (ConvNet(8, 2, 1, 10, 6, 2, True, "shared+difference"), "local"),
        (RecurrentConvNet(8, 2, 1, 10, 6, 7, 2, 5, inject="every"), "recurrent"),
    ):
        config = settings_of(net, TrainConfig(**SMALL))
        again = make_model(config, None, 10)
        assert (config.model, type(again), again.arguments()) == (model, type(net), net.arguments())
        assert make_model(dataclasses.replace(config, dim=24), None, 10).dim == 24
    assert TrainConfig(model="recurrent").depth == 1
    assert TrainConfig(model="cnn").depth == TrainConfig().depth == 4
