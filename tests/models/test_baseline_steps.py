"""Baselines block by block: tied blocks, the input at every step, answers per patch, more steps, other sizes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import colgraph as cg
from colgraph.models import Baseline, ConvNet, RecurrentConvNet, VisionTransformer

SIZES = {"image_size": 8, "patch_size": 2, "in_channels": 2, "num_classes": 3, "dim": 4}
SMALL = {"num_heads": 2, "mlp_dim": 5}
IMAGES = torch.randn(5, 2, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def vit(**options: Any) -> VisionTransformer:
    return made(VisionTransformer, **{**SMALL, "depth": 3, **options})


def stack(**options: Any) -> ConvNet:
    return made(ConvNet, **{"depth": 3, "readout": "columns", **options})


def recurrent(**options: Any) -> RecurrentConvNet:
    return made(RecurrentConvNet, **{"mlp_dim": 5, "steps": 3, **options})


def made(kind: type, **options: Any) -> Any:
    """A model in float64, with every parameter away from its starting value."""
    torch.manual_seed(0)
    net = kind(**{**SIZES, **options}).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return net


def close(found: torch.Tensor | None, expected: torch.Tensor) -> None:
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


MAKERS = [
    *(vit, lambda **o: vit(tied_blocks=True, **o), stack, lambda **o: stack(local=True, **o)),
    *(recurrent, lambda **o: recurrent(depth=2, **o)),
]
IDS = ["vit", "tied-vit", "stack", "local-stack", "recurrent", "recurrent-two"]


@pytest.mark.parametrize("inject", ["first", "every"])
@pytest.mark.parametrize("make", MAKERS, ids=IDS)
def test_an_unroll_is_the_blocks_one_after_another(make: Callable[..., Baseline], inject: str) -> None:
    net = make(readout="columns", inject=inject)
    given = state = net.start(net.embed(IMAGES))
    expected = []
    for t in range(3):
        block = net.blocks[0 if net.recurs else t]
        state = block(state + given if t and inject == "every" else state)
        places = state if isinstance(net, VisionTransformer) else state.flatten(2).transpose(1, 2)
        expected.append(net.head(net.norm(places)))
    out = net.unroll(IMAGES, record=("state",))
    close(out.step_logits, torch.stack(expected))
    close(out.logits, expected[-1])
    close(net(IMAGES), expected[-1])
    assert out.states is not None
    assert out.states.shape == (3, 16, 5, 4)  # columns first, as of a sheet
    close(out.state, out.states[-1])
    close(out.state, places.transpose(0, 1))
    assert float(out.wiring_cost) == 0
    for steps in (1, 2):
        close(net.unroll(IMAGES, steps=steps).logits, expected[steps - 1])
    assert net.unroll(IMAGES).step_logits is None
    assert net.output_patches.tolist() == list(range(16))


@pytest.mark.parametrize("make", [vit, lambda **o: stack(depth=1, **o), recurrent], ids=["vit", "cnn", "recurrent"])
def test_the_mean_of_what_patches_say_is_the_answer_of_all(make: Callable[..., Baseline]) -> None:
    each, together = make(readout="columns"), make(readout="mean")
    together.load_state_dict(each.state_dict())
    assert each(IMAGES).shape == (5, 16, 3)
    close(together(IMAGES), each(IMAGES).mean(1))
    assert together.output_patches.tolist() == []


@pytest.mark.parametrize("make", [vit, recurrent, stack], ids=["vit", "recurrent", "stack"])
def test_answers_are_in_the_order_of_patches(make: Callable[..., Baseline]) -> None:
    """Where nothing is mixed, changing one patch changes its answer alone."""
    net = make(readout="columns", **({"position_embedding": False} if make is vit else {}))
    with torch.no_grad():
        for parameter in net.blocks.parameters():
            parameter.zero_()  # residual blocks that add nothing
    other = IMAGES.clone()
    other[:, :, 4:6, 2:4] += 1
    changed = (net(IMAGES) != net(other)).any(-1)
    assert changed[0].nonzero().flatten().tolist() == [2 * 4 + 1]


def test_a_tied_vit_is_one_whose_blocks_are_equal() -> None:
    tied, untied = vit(tied_blocks=True, inject="every"), vit(inject="every")
    state = tied.state_dict()
    for name in [name for name in state if "layers.0" in name]:
        state |= {name.replace("layers.0", f"layers.{i}"): state[name] for i in (1, 2)}
    untied.load_state_dict(state)
    close(untied(IMAGES), tied(IMAGES))
    assert sum(p.numel() for p in untied.blocks.parameters()) == 3 * sum(p.numel() for p in tied.blocks.parameters())


@pytest.mark.parametrize("depth", [1, 2])
def test_a_recurrent_convolution_is_the_plain_formula(depth: int) -> None:
    net = recurrent(depth=depth, inject="every", leak=0.25)
    p = {name: value.detach() for name, value in net.named_parameters()}

    def norm(y: torch.Tensor, name: str) -> torch.Tensor:
        y = (y - y.mean(1, keepdim=True)) / (y.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        return F.gelu(y * p[f"{name}.weight"][:, None, None] + p[f"{name}.bias"][:, None, None])

    given = x = F.conv2d(IMAGES, p["patch_embedding.weight"], p["patch_embedding.bias"], 2)
    for t in range(3):
        y = x = 0.75 * x + given if t else x
        for i in range(depth + 1):
            at = f"blocks.0.convolutions.{i}"
            y = F.conv2d(norm(y, f"blocks.0.norms.{i}"), p[f"{at}.weight"], p[f"{at}.bias"], padding=int(i < depth))
        x = x + y
    assert p["blocks.0.convolutions.0.weight"].shape == ((4, 4, 3, 3) if depth == 2 else (5, 4, 3, 3))
    places = x.flatten(2).transpose(1, 2)
    normed = (places - places.mean(-1, keepdim=True)) / (places.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    features = normed * p["norm.weight"] + p["norm.bias"]
    close(net(IMAGES), features.mean(1) @ p["head.weight"].T + p["head.bias"])


@pytest.mark.parametrize("depth", [1, 2])
def test_news_travels_as_many_places_a_step_as_there_are_convolutions(depth: int) -> None:
    net = recurrent(depth=depth, readout="columns", image_size=18, steps=2)
    images = torch.randn(1, 2, 18, 18, dtype=torch.float64)
    other = images.clone()
    other[:, :, 8:10, 8:10] += 1  # the patch at (4, 4) of 9 x 9
    for steps in (1, 2):
        heard = (net.unroll(images, steps=steps).logits != net.unroll(other, steps=steps).logits).any(-1)
        far = (heard[0].nonzero().flatten() // 9 - 4).abs().max()
        assert int(far) == steps * depth


def test_what_recurs_runs_longer_and_what_does_not_refuses() -> None:
    for net in (vit(tied_blocks=True), recurrent()):
        out = net.unroll(IMAGES, steps=7, record="state")
        assert out.step_logits is not None
        assert len(out.step_logits) == 7
        close(out.step_logits[2], net(IMAGES))
    model = recurrent()
    model.steps = 7
    close(model(IMAGES), recurrent().unroll(IMAGES, steps=7).logits)
    for net in (vit(), stack()):
        with pytest.raises(ValueError, match=r"steps must be at most 3, got 4: the 3 blocks of this \w+ have weights"):
            net.unroll(IMAGES, steps=4)
        with pytest.raises(ValueError, match="steps must be an integer of at least 1, got 0"):
            net.unroll(IMAGES, steps=0)
        with pytest.raises(ValueError, match="record must be one of 'state', got 'attention'"):
            net.unroll(IMAGES, record=("attention",))


@pytest.mark.parametrize("inject", ["first", "every"])
def test_two_steps_and_three_more_are_five(inject: str) -> None:
    for net in (vit(tied_blocks=True, inject=inject, leak=0.2), recurrent(inject=inject, leak=0.2)):
        begun = net.unroll(IMAGES, steps=2)
        on = net.unroll(IMAGES, state=begun.state, start=2, steps=3, record="state")
        close(on.logits, net.unroll(IMAGES, steps=5).logits)
        assert on.states is not None
        close(on.states, net.unroll(IMAGES, steps=5, record="state").states[2:])
        with pytest.raises(ValueError, match=r"state must have shape \[16, 5, 4\], got \[1, 2, 3\]"):
            net.unroll(IMAGES, state=torch.zeros(1, 2, 3, dtype=torch.float64))
    for net in (vit(), stack()):
        with pytest.raises(ValueError, match=r"state: blocks of this \w+ have weights of their own"):
            net.unroll(IMAGES, state=net.unroll(IMAGES).state)


def test_a_map_that_is_halved_is_read_out_at_its_end() -> None:
    net = made(ConvNet, image_size=16, depth=2)
    images = torch.randn(1, 2, 16, 16, dtype=torch.float64)
    close(net.unroll(images, steps=2).logits, net(images))
    for words in ({"steps": 1}, {"record": ("state",)}):
        with pytest.raises(ValueError, match="halves its map, and is read out after all of its 2 blocks alone"):
            net.unroll(images, **words)
    with pytest.raises(ValueError, match="inject='every' needs a map that stays as it is"):
        ConvNet(**{**SIZES, "image_size": 16, "depth": 2, "inject": "every"})
    assert not ConvNet(**{**SIZES, "image_size": 16, "depth": 2, "readout": "columns"}).halves


def test_images_of_other_sizes_run_where_nothing_is_of_one_size() -> None:
    larger = torch.randn(2, 2, 12, 6, dtype=torch.float64)
    for net in (vit(position_embedding=False, readout="columns"), stack(), recurrent(readout="columns")):
        assert net(larger).shape == (2, 18, 3)
        with pytest.raises(ValueError, match=r"sides that patch_size 2 divides, got \[2, 2, 12, 5\]"):
            net(larger[..., :5])
        with pytest.raises(ValueError, match=r"must have shape \[B, 2, 12, 6\], got \[2, 1, 12, 6\]"):
            net(larger[:, :1])
    for net in (vit(), stack(local=True), stack(readout="mean")):
        with pytest.raises(ValueError, match=r"must have shape \[B, 2, 8, 8\], got \[2, 2, 12, 6\]"):
            net(larger)


def test_without_position_embedding_a_vit_does_not_know_where_patches_are() -> None:
    net = vit(position_embedding=False, readout="columns")
    close(net(IMAGES.roll(2, -1)), net(IMAGES).unflatten(1, (4, 4)).roll(1, 2).flatten(1, 2))
    known = vit(readout="columns")
    assert not torch.allclose(known(IMAGES.roll(2, -1)), known(IMAGES).unflatten(1, (4, 4)).roll(1, 2).flatten(1, 2))


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (vit, {"readout": "spatial"}, "readout must be one of 'mean', 'columns', got 'spatial'"),
        (stack, {"readout": "spatial"}, "readout must be one of 'mean', 'columns', got 'spatial'"),
        (recurrent, {"inject": "sequence"}, "inject must be one of 'first', 'every', got 'sequence'"),
        (recurrent, {"depth": 3}, "depth must be at most 2, convolutions of 3 x 3 in a step, got 3"),
        (recurrent, {"steps": 0}, "steps must be an integer of at least 1, got 0"),
        (recurrent, {"mlp_dim": 0}, "mlp_dim must be an integer of at least 1, got 0"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[..., Baseline], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize("make", MAKERS, ids=IDS)
def test_baselines_are_shared_without_a_sheet(make: Callable[..., Baseline], tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    pytest.importorskip("safetensors.torch")
    net = make(readout="columns", inject="every").eval()
    net.about = {"data": "digits", "classes": list("abc")}
    net.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    back = type(net).from_pretrained(tmp_path)
    assert (back.arguments(), back.about, back.training) == (net.arguments(), net.about, False)
    assert torch.equal(back(IMAGES), net(IMAGES))
    card = (tmp_path / "README.md").read_text()
    for text in (f"cg.models.{type(net).__name__}.from_pretrained", "trained on digits", '"inject": "every"'):
        assert text in card
    assert "sheet.npz" not in card
    assert "columnformer" not in card


def test_a_shared_model_of_another_class_is_named(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    pytest.importorskip("safetensors.torch")
    recurrent().save_pretrained(tmp_path)
    for other in (cg.VisionColumnformer, VisionTransformer):
        with pytest.raises(
            ValueError, match=r"holds a RecurrentConvNet: read it with RecurrentConvNet\.from_pretrained"
        ):
            other.from_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"arguments": {"width": 3}}))
    with pytest.raises(ValueError, match="another version of colgraph"):
        RecurrentConvNet.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"arguments": {"readout": "spatial"}}))
    with pytest.raises(ValueError, match="readout must be one of"):
        RecurrentConvNet.from_pretrained(tmp_path)
    sheet = cg.build_sheet("grid", shape=(4, 4), neighbors="knn:5", num_inputs=16)
    on_sheet = cg.VisionColumnformer(cg.Columnformer(sheet, dim=4), 8, 2, 2, 3)
    on_sheet.save_pretrained(tmp_path, overwrite=True)
    with pytest.raises(ValueError, match="holds a VisionColumnformer"):
        VisionTransformer.from_pretrained(tmp_path)
    recurrent().save_pretrained(tmp_path, overwrite=True)
    assert not (tmp_path / "sheet.npz").exists()
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).unlink()
        with pytest.raises(ValueError, match=rf"^'.*' is not a model saved by save_pretrained: it lacks {name}$"):
            RecurrentConvNet.from_pretrained(tmp_path)
