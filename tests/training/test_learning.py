"""Averages of weights, mixup, the spatial loss and learning rates per kind: what they compute, and that runs resume."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("sklearn")

import colgraph as cg
from colgraph.data import load_images
from colgraph.data.augment import augment_kornia, augment_natural, augment_shift, mix_pairs
from colgraph.data.sources import ImageSplits
from colgraph.tasks import Classify
from colgraph.training import (
    RunFlags,
    TrainConfig,
    load_checkpoint,
    load_trained,
    make_model,
    make_sheet,
    open_run_folder,
    train,
)
from colgraph.training.checkpoint import KEY, config_of
from colgraph.training.flags import parse_flags
from colgraph.training.module import TaskModule, parameter_groups
from colgraph.training.resume import read_record
from colgraph.training.run import parameters_sha256
from colgraph.training.spatial import Neighborhoods, column_responses, spatial_loss
from colgraph.training.yaml_files import save_yaml

SMALL: dict[str, Any] = {"data": "digits", "image_size": 8, "channels": 1, "augment": "affine", "neighbors": "knn:4"}
SMALL |= {"options": {"widths": [2, 2]}, "dim": 8, "steps": 2, "qk_dim": 4, "mlp_dim": 8, "epochs": 2}
SMALL |= {"batch_size": 256, "tensorboard": False, "figure_every": 0, "warmup": 0.5}


@pytest.fixture(scope="module")
def images() -> ImageSplits:
    return load_images("digits", image_size=8, channels=1)


def run(path: Path, images: ImageSplits, resume: bool = False, **changes: Any) -> dict[str, Any]:
    config = TrainConfig(**{**SMALL, **changes})
    folder = open_run_folder(config, RunFlags(path, resume))
    torch.manual_seed(config.seed)
    return train(make_model(config, make_sheet(config), len(images.classes)), images, config, folder)


EVERYTHING: dict[str, Any] = {
    "ema": 0.8,
    "mixup": 0.4,
    "spatial_weight": 0.3,
    "weight_similarity": 0.2,
    "weight_similarity_kind": "laplacian-pyramid",
    "wiring": 0.01,
    "wiring_kind": "communicability",
    "parametrization": "shared+difference",
    "difference_lr": 0.5,
    "difference_decay": 0.2,
    "edge_bias_lr": 10.0,
    "embedding_lr": 3.0,
    "beta2": 0.95,
}


def test_a_run_with_everything_goes_on_to_the_bit(
    images: ImageSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole", images, **EVERYTHING)
    original = TaskModule.training_step

    def die(self: TaskModule, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == 8:
            raise MemoryError("killed")
        return original(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(TaskModule, "training_step", die)
        with pytest.raises(MemoryError):
            run(tmp_path / "parts", images, checkpoint_every="7", **EVERYTHING)
    parts = run(tmp_path / "parts", images, resume=True, **EVERYTHING)
    assert parts["resumed_from_step"] == 7
    for name in ("parameters_sha256", "test_accuracy", "train_loss", "val_accuracy", "best_val_accuracy"):
        assert parts[name] == whole[name], name
    # What is read back is the average that was tested; and a finished run can be looked at again.
    trained = load_trained(tmp_path / "whole")
    assert parameters_sha256(trained.net) == whole["parameters_sha256"]
    again = run(tmp_path / "whole", images, resume=True, **EVERYTHING)
    assert again["parameters_sha256"] == whole["parameters_sha256"]
    assert again["test_accuracy"] == whole["test_accuracy"]


def test_the_average_is_the_average(images: ImageSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    original = TaskModule.training_step

    def watch(self: TaskModule, batch: Any, batch_idx: int) -> torch.Tensor:
        seen.append(self.net.head.weight.detach().clone())
        return original(self, batch, batch_idx)

    monkeypatch.setattr(TaskModule, "training_step", watch)
    plain = run(tmp_path / "plain", images, epochs=1, precision="64")
    weights = [*seen[1:], load_trained(tmp_path / "plain").net.head.weight.detach()]
    averaged = run(tmp_path / "ema", images, epochs=1, precision="64", ema=0.5)
    expected = weights[0]
    for weight in weights[1:]:
        expected = 0.5 * expected + 0.5 * weight
    kept = load_checkpoint(tmp_path / "ema" / "checkpoints" / "last.ckpt")["state_dict"]["net.head.weight"]
    assert torch.allclose(kept, expected, rtol=0, atol=1e-7)
    assert plain["train_loss"] == averaged["train_loss"]
    with pytest.raises(ValueError, match=r"cannot take --ema 0\.5 \(the run has 0\.0\)"):
        run(tmp_path / "plain", images, resume=True, epochs=2, precision="64", ema=0.5)


def test_rates_and_decays_by_kind() -> None:
    config = TrainConfig(**{**SMALL, **EVERYTHING, "lr": 0.01, "weight_decay": 0.1, "time_embedding": True})
    net = make_model(config, make_sheet(config), 10)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    found = {}
    for group in parameter_groups(net, config):
        for parameter in group["params"]:
            found[names[id(parameter)]] = (round(group["lr"], 9), group["weight_decay"])
    assert len(found) == len(names)
    block = "model.block"
    assert found[f"{block}.mlp.fc1.difference.weight"] == (0.005, 0.2)
    assert found[f"{block}.mlp.fc1.difference.bias"] == (0.005, 0.0)
    assert found[f"{block}.norm1.difference.weight"] == (0.005, 0.0)
    assert found[f"{block}.mlp.fc1.shared.weight"] == (0.01, 0.1)
    assert found[f"{block}.attention.edge_bias"] == (0.1, 0.0)
    assert found["model.position_embedding"] == found["model.time_embedding"] == (0.03, 0.0)
    assert found["head.weight"] == (0.01, 0.1)
    assert next(iter(parameter_groups(net, config)))["lr"] == 0.01


def test_mixup_mixes_with_larger_own_shares_and_repeats() -> None:
    pixels = torch.rand(64, 1, 4, 4)
    mixed, partner, share = mix_pairs(pixels, 0.5, 7)
    assert sorted(partner.tolist()) == list(range(64))
    assert float(share.min()) >= 0.5
    assert float(share.std()) > 0.05
    own = share.view(-1, 1, 1, 1)
    assert torch.allclose(mixed, own * pixels + (1 - own) * pixels[partner])
    assert torch.equal(mix_pairs(pixels, 0.5, 7)[0], mixed)
    assert not torch.equal(mix_pairs(pixels, 0.5, 8)[0], mixed)


def test_mixed_labels_weigh_by_their_shares() -> None:
    task = Classify(TrainConfig(**SMALL))
    logits, labels, others = torch.randn(6, 10), torch.arange(6), torch.arange(6).flip(0)
    share = torch.linspace(0.5, 1, 6)
    logs = logits.log_softmax(-1)
    rows = torch.arange(6)
    expected = -(share * logs[rows, labels] + (1 - share) * logs[rows, others]).mean()
    assert torch.allclose(task.loss(logits, (labels, others, share)), expected)


def spatial_reference(
    x: torch.Tensor, groups: torch.Tensor, between: Any, spacing: float, channels: str = "same"
) -> float:
    """The formula, group by group and channel by channel, with distances asked for pair by pair."""
    losses = []
    upper = np.triu_indices(groups.size(1), 1)
    for group in groups.numpy():
        size, count = len(group), x.size(-1)
        units = x[group].permute(0, 2, 1).reshape(size * count, -1)
        every = np.corrcoef(units.numpy()).reshape(size, count, size, count)
        alike = every.mean((1, 3)) if channels == "all" else np.einsum("ikjk->ij", every) / count
        alike = alike[upper]
        distance = np.array([[between(np.array([i]), np.array([j]))[0] for j in group] for i in group]) / spacing
        losses.append((1 - np.corrcoef(alike, 1 / (distance[upper] + 1))[0, 1]) / 2)
    return float(np.mean(losses))


@pytest.mark.parametrize(
    ("name", "metric", "options"),
    [
        ("grid", "euclidean", {"shape": (6, 6)}),
        ("torus", "periodic", {"shape": (6, 6)}),
        ("ring", "great_circle", {"columns": 36}),
        ("sphere", "geodesic", {"subdivisions": 1}),
        ("sphere", "hops", {"subdivisions": 1}),
    ],
)
def test_spatial_loss_is_the_formula_by_the_metric_of_the_sheet(name: str, metric: str, options: Any) -> None:
    sheet = cg.build_sheet(name, metric=metric, neighbors="knn:5", **options)
    near = Neighborhoods(sheet, size=9)
    groups, distance = near.draw(seed=3, step=5, count=4)
    assert groups.shape == (4, 9)
    assert distance.shape == (4, 36)
    again = near.draw(seed=3, step=5, count=4)
    assert torch.equal(groups, again[0])
    assert torch.equal(distance, again[1])
    assert not torch.equal(groups, near.draw(seed=3, step=6, count=4)[0])
    n = sheet.num_columns
    for group in groups.numpy():
        away = np.sort(sheet.space.between(np.arange(n), np.full(n, group[0])))
        mine = np.sort(sheet.space.between(group, np.full(9, group[0])))
        np.testing.assert_allclose(mine, away[:9], rtol=1e-5)
    state = torch.randn(n, 12, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    for channels in ("same", "all"):
        expected = spatial_reference(state.detach(), groups, sheet.space.between, sheet.spacing, channels)
        loss = spatial_loss(state, groups, distance, channels)
        assert float(loss.detach()) == pytest.approx(expected, abs=1e-4)
        (grad,) = torch.autograd.grad(loss, state)
        assert float(grad.abs().sum()) > 0


SIGNALS = ("normed", "evidence", "hidden", "norm")


def vision(**options: Any) -> cg.VisionColumnformer:
    sheet = cg.build_sheet("grid", shape=(4, 4), neighbors="knn:4", num_inputs=4)
    torch.manual_seed(0)
    return cg.VisionColumnformer(cg.Columnformer(sheet, dim=6, steps=2, qk_dim=4, mlp_dim=5, **options), 8, 4, 1, 3)


def test_the_spatial_loss_is_of_what_is_asked_for() -> None:
    net, images = vision(), torch.rand(7, 1, 8, 8)
    out = net.unroll(images, record=("state", "hidden"))
    assert torch.equal(column_responses(net, out, "normed"), net.norm(out.state))
    assert torch.equal(column_responses(net, out, "evidence"), net.head(net.norm(out.state)))
    assert torch.equal(column_responses(net, out, "hidden"), out.hidden[-1])
    assert torch.equal(column_responses(net, out, "norm"), out.state.norm(dim=-1, keepdim=True))
    longer = dataclasses.replace(out, state=out.state * 2.0 ** (torch.arange(16 * 7) % 5).view(16, 7, 1))
    net.norm.eps = 0.0
    for signal, moves in (("normed", False), ("evidence", False), ("norm", True)):
        here, there = (spatial_of(net, each, signal) for each in (out, longer))
        assert (float(here.detach()) != float(there.detach())) == moves, "only the length may tell"


def spatial_of(net: Any, out: Any, signal: str) -> torch.Tensor:
    groups, distance = Neighborhoods(net.model.sheet, size=7).draw(seed=0, step=0, count=3)
    channels = "all" if signal == "hidden" else "same"
    return spatial_loss(column_responses(net, out, signal), groups, distance, channels)


@pytest.mark.parametrize("signal", SIGNALS)
def test_gradients_of_the_spatial_loss_are_those_of_differences(signal: str) -> None:
    """With recompute the same."""
    net, images = vision().double(), torch.rand(7, 1, 8, 8, dtype=torch.float64)
    other = copy.deepcopy(net)
    other.model.recompute = "steps"
    for each in (net, other):
        spatial_of(each, each.unroll(images, record=("hidden",)), signal).backward()
    weight, step = net.model.block.mlp.fc1.weight, 1e-5 if signal != "norm" else 1e-3
    for (name, p), q in zip(net.named_parameters(), other.parameters(), strict=True):
        if p.grad is not None:
            torch.testing.assert_close(p.grad, q.grad, msg=name)
    direction = weight.grad / weight.grad.norm()
    ends = []
    for sign in (1, -1):
        moved = copy.deepcopy(net)
        with torch.no_grad():
            moved.model.block.mlp.fc1.weight += sign * step * direction
            ends.append(float(spatial_of(moved, moved.unroll(images, record=("hidden",)), signal)))
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(float(weight.grad.norm()), rel=0.02)


@pytest.mark.parametrize("signal", [None, *SIGNALS])
def test_training_takes_the_signal(signal: str | None) -> None:
    config = TrainConfig(**{**SMALL, "spatial_weight": 0.3, "spatial_signal": signal})
    torch.manual_seed(0)
    module = TaskModule(make_model(config, make_sheet(config), 10), config)
    free = TaskModule(module.net, TrainConfig(**SMALL))
    batch = torch.rand(32, 1, 8, 8), torch.arange(32) % 10
    out = module.net.unroll(batch[0], record=("hidden",))
    drawn = module.regularizers.neighborhoods.draw(config.seed, 0)
    channels = "all" if signal == "hidden" else "same"
    expected = spatial_loss(column_responses(module.net, out, signal or "normed"), *drawn, channels)
    assert float(module.training_step(batch, 0) - free.training_step(batch, 0)) == pytest.approx(
        0.3 * float(expected), rel=1e-3
    )


def test_runs_of_before_there_was_a_choice_mean_the_length(tmp_path: Path) -> None:
    now = TrainConfig(**{**SMALL, "spatial_weight": 0.3})
    assert now.spatial_signal is None
    before = {name: value for name, value in now.flat().items() if name != "spatial_signal"}
    assert config_of({"config": before, "format": 2}).spatial_signal == "norm"
    assert config_of({"config": now.flat(), "format": 2}).spatial_signal is None
    assert config_of({"config": before | {"spatial_weight": 0.0}, "format": 2}).spatial_signal is None
    record = tmp_path / "config.yaml"
    record.write_text(save_yaml(before))
    assert read_record(record).config.spatial_signal == "norm"
    assert parse_flags(["--config", str(record)])[0].spatial_signal == "norm", "a record stands alone"
    assert parse_flags(["--config", str(record), "--spatial-signal", "evidence"])[0].spatial_signal == "evidence"
    preset = tmp_path / "preset.yaml"
    preset.write_text("data: digits\nspatial_weight: 0.3\n")
    assert parse_flags(["--config", str(preset)])[0].spatial_signal is None, "a new run"


def test_a_run_of_before_goes_on_with_the_length(
    images: ImageSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the command that began it, to the bits that it would have had; what it never was is refused."""
    options = {"spatial_weight": 0.3, "checkpoint_every": "3"}
    whole = run(tmp_path / "whole", images, **options, spatial_signal="norm")
    original = TaskModule.training_step

    def die(self: TaskModule, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == 4:
            raise MemoryError("killed")
        return original(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(TaskModule, "training_step", die)
        with pytest.raises(MemoryError):
            run(tmp_path / "parts", images, **options, spatial_signal="norm")
    last = tmp_path / "parts" / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    del content[KEY]["config"]["spatial_signal"]
    torch.save(content, last)
    with pytest.raises(ValueError, match=r"--spatial-signal evidence \(the run has norm\)"):
        run(tmp_path / "parts", images, resume=True, **options, spatial_signal="evidence")
    parts = run(tmp_path / "parts", images, resume=True, **options)
    assert parts["resumed_from_step"] == 3
    assert parts["parameters_sha256"] == whole["parameters_sha256"]
    assert read_record(tmp_path / "parts" / "config.yaml").config.spatial_signal == "norm"


def test_a_smooth_map_has_a_lower_spatial_loss_than_a_scattered_one() -> None:
    sheet = cg.build_sheet("grid", shape=(6, 6))
    drawn = Neighborhoods(sheet, size=9).draw(seed=3, step=5, count=4)
    wave = torch.sin(sheet.pos[:, :1] / sheet.spacing / 3 + torch.linspace(0, 6, 40)) + 2
    smooth = wave[:, :, None].expand(36, 40, 2)
    scattered = smooth[torch.randperm(36, generator=torch.Generator().manual_seed(0))]
    assert float(spatial_loss(smooth, *drawn)) < float(spatial_loss(scattered, *drawn)) - 0.1


def test_neighborhoods_of_a_sheet_in_pieces_are_filled_from_elsewhere_infinitely_far() -> None:
    """Two chains without a way from one to the other, and a column that nobody is joined to."""
    chain = [*range(1, 3), *range(4, 9)]
    sheet = cg.Sheet.from_edges(
        np.array([[c - 1 for c in chain], chain]), 10, pos=np.random.default_rng(0).random((10, 3))
    )
    groups, distance = Neighborhoods(sheet, size=6).draw(seed=0, step=0, count=40)
    assert all(len(set(group)) == 6 for group in groups.tolist())
    piece = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1, 1, 2])[groups]
    first, second = torch.triu_indices(6, 6, 1)
    assert torch.equal(torch.isinf(distance), piece[:, first] != piece[:, second])
    loss = spatial_loss(torch.randn(10, 7, 4), groups, distance)
    assert 0 < float(loss) < 1


def test_all_columns_are_a_neighborhood_where_there_are_few() -> None:
    groups, _ = Neighborhoods(cg.build_sheet("grid", shape=(3, 3), neighbors="knn:4")).draw(seed=0, step=0)
    assert groups.shape == (16, 9)


def test_crop_flip_and_color_are_settings(images: ImageSplits) -> None:
    from colgraph.training.batches import ImageBatches

    config = TrainConfig(**{**SMALL, "augment": "natural", "crop": 1.0, "flip": False, "color": 0.0})
    transform = ImageBatches(images, config).transform
    assert transform.options == {"min_area": 1.0, "flip": False, "jitter": 0.0}
    pixels = torch.rand(4, 3, 8, 8)
    options = {"min_area": 1.0, "ratio": 1.0, "flip": False, "jitter": 0.0}
    same = augment_natural(pixels, torch.Generator().manual_seed(0), **options)
    assert torch.allclose(same, pixels, atol=1e-5)


def test_shift_moves_by_whole_pixels_and_mirrors() -> None:
    pixels = torch.rand(40, 3, 16, 16)
    moved = augment_shift(pixels, torch.Generator().manual_seed(0))
    wide = torch.nn.functional.pad(pixels, (2, 2, 2, 2))
    places = set()
    for image, out in zip(wide, moved, strict=True):
        found = [
            (down, right, mirrored)
            for down in range(5)
            for right in range(5)
            for mirrored in (False, True)
            if torch.equal(out, image[:, down : down + 16, right : right + 16].flip(2 if mirrored else ()))
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) > 15
    assert {mirrored for *_, mirrored in places} == {False, True}
    still = augment_shift(pixels, torch.Generator().manual_seed(0), shift=0.0, flip=False)
    assert torch.equal(still, pixels)


def test_kornia_draws_from_the_generator_alone() -> None:
    pytest.importorskip("kornia")
    pixels = torch.rand(4, 3, 12, 12)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = augment_kornia(pixels, torch.Generator().manual_seed(5), min_area=0.3, jitter=0.4)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(augment_kornia(pixels, torch.Generator().manual_seed(5), min_area=0.3, jitter=0.4), first)
    assert not torch.equal(augment_kornia(pixels, torch.Generator().manual_seed(6)), first)
    assert first.shape == pixels.shape
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
    with pytest.raises(ValueError, match="3 channels, got 1: use natural"):
        augment_kornia(pixels[:, :1], torch.Generator())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augment": "kornia"}, "augment: kornia takes 3 channels: use natural"),
        ({"ema": 1.0}, "ema: must be less than 1, got 1.0"),
        ({"ema": -0.1}, "ema: must be at least 0, got -0.1"),
        ({"mixup": -1}, "mixup: must be at least 0"),
        ({"crop": 0.0}, "crop: must be greater than 0"),
        ({"crop": 1.5}, "crop: must be at most 1, got 1.5"),
        ({"time_embedding": True, "steps": 1}, "time_embedding: one step has no time to tell"),
        ({"spatial_weight": 0.1, "model": "vit"}, "spatial_weight: a vit has no columns in space"),
        ({"ema": 0.9, "sheet_parallel": 2}, "ema: weights of a sheet in parts cannot be averaged"),
        ({"spatial_weight": 0.1, "spatial_signal": "lenght"}, "spatial_signal: must be one of normed, evidence"),
        ({"spatial_weight": 0.1, "spatial_signal": "nrm"}, "did you mean norm"),
        ({"difference_lr": 0}, "difference_lr: must be greater than 0"),
        ({"parametrization": "shared"}, "parametrization: must be one of plain, shared"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**{**SMALL, **changes})


PLUGIN = """
import colgraph as cg, numpy as np
def heap(columns: int = 8):
    return cg.Geometry(np.zeros((columns, 3)), name="heap", edges=np.array([[0, 1, 2], [1, 2, 3]]),
                       edge_distance=np.zeros(3), metric="given", inputs=[0, 1, 2, 3])
"""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wiring": 0.1}, "wiring: all edges of 'heap' have length 0"),
        ({"spatial_weight": 0.1}, "spatial_weight: all columns of 'heap' lie in one place"),
        ({"weight_similarity": 0.1}, "weight_similarity: all columns of 'heap' lie in one place"),
        ({"time_embedding": True}, "time_embedding: 'heap' is feedforward here"),
    ],
)
def test_sheets_that_give_a_setting_no_meaning_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    file = tmp_path / "heap.py"
    file.write_text(PLUGIN)
    base = {**SMALL, "geometry": f"{file}:heap", "neighbors": None, "options": {}, "wiring": 0.0}
    make_sheet(TrainConfig(**base))
    with pytest.raises(ValueError, match=message):
        make_sheet(TrainConfig(**{**base, **changes}))


def test_time_embedding_needs_recurrence() -> None:
    stack = {**SMALL, "options": {"widths": [2, 2], "direction": "forward"}}
    with pytest.raises(ValueError, match="time_embedding: 'stack' is feedforward here"):
        make_sheet(TrainConfig(**{**stack, "time_embedding": True}))
    make_sheet(TrainConfig(**{**SMALL, "time_embedding": True}))
