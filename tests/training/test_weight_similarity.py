"""Similarity of weights: what is compared, on which geometry, and that it is learned."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("lightning")
pytest.importorskip("sklearn")

from small_runs import train_on_digits

import colgraph as cg
from colgraph.space import apart
from colgraph.training import TrainConfig, make_model, make_sheet
from colgraph.training.module import TaskModule
from colgraph.training.weight_similarity import KINDS, WeightSimilarity, comparable_weights

SMALL: dict[str, Any] = {"data": "digits", "image_size": 8, "channels": 1, "augment": "none", "patch_size": 4}
SMALL |= {"geometry": "grid", "options": {"shape": [4, 4]}, "neighbors": "knn:4", "dim": 6, "steps": 2, "qk_dim": 3}
SMALL |= {"mlp_dim": 5, "columns_per_patch": 4, "tensorboard": False, "figure_every": 0, "batch_size": 256}


def net_of(**changes: Any) -> Any:
    config = TrainConfig(**{**SMALL, **changes})
    net = make_model(config, make_sheet(config), 10)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return net


def directed_ring() -> cg.Sheet:
    """Sixteen columns of which each is heard by the next, at growing lengths: far one way, near the other."""
    first = np.arange(16)
    edges = np.stack([first, (first + 1) % 16])
    return cg.Sheet.from_edges(edges, 16, edge_distance=1 + first % 3 / 4, spacing=1.0)


def sheets() -> dict[str, cg.Sheet]:
    return {
        "grid": cg.build_sheet("grid", shape=(5, 4)),
        "torus": cg.build_sheet("torus", shape=(6, 6)),
        "surface": cg.build_sheet("sphere", subdivisions=1, metric="geodesic"),
        "directed": directed_ring(),
    }


@pytest.mark.parametrize("name", ["grid", "torus", "surface", "directed"])
@pytest.mark.parametrize("width", [0.6, 1.5])
def test_cosine_is_the_mean_over_pairs_by_the_sheets_own_distance(name: str, width: float) -> None:
    sheet = sheets()[name]
    n = sheet.num_columns
    weights = torch.randn(n, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = WeightSimilarity(sheet.space, sheet.spacing, "cosine", width).of({"all": (weights, None)}, n)
    first, second = np.triu_indices(n, 1)
    distance = apart(sheet.space, first, second) / sheet.spacing
    kernel = np.where(distance <= 3 * width * (1 + 1e-9), np.exp(-((distance / width) ** 2) / 2), 0)
    cosine = torch.cosine_similarity(weights[first], weights[second]).numpy()
    assert float(found) == pytest.approx((kernel * (1 - cosine)).sum() / kernel.sum(), abs=1e-12)


def plain_pyramid(image: np.ndarray, width: float) -> float:
    """Laplacian pyramid of a grid ``[rows, columns, values]``, place by place: slices and weighted means."""

    def mean(source: np.ndarray, step: int, at: tuple[float, float]) -> np.ndarray:
        rows, columns = np.indices(source.shape[:2])
        squared = (rows * step - at[0]) ** 2 + (columns * step - at[1]) ** 2
        near = squared <= max(3 * width, 2) ** 2 + 1e-9
        kernel = np.where(near, np.exp(-squared / (2 * width**2)), 0)
        return (source * kernel[..., None]).sum((0, 1)) / kernel.sum()

    losses = []
    while min(image.shape[:2]) > 2 or not losses:
        rows, columns = image.shape[:2]
        smaller = np.array([[mean(image, 1, (i, j)) for j in range(0, columns, 2)] for i in range(0, rows, 2)])
        back = np.array([[mean(smaller, 2, (i, j)) for j in range(columns)] for i in range(rows)])
        cosine = (image * back).sum(-1) / (np.linalg.norm(image, axis=-1) * np.linalg.norm(back, axis=-1))
        losses.append(1 - cosine.mean())
        image = smaller
    return float(np.mean(losses))


@pytest.mark.parametrize(("shape", "width"), [((7, 6), 1.0), ((4, 4), 0.7), ((9, 9), 1.3)])
def test_the_pyramid_on_a_grid_is_the_plain_one(shape: tuple[int, int], width: float) -> None:
    sheet = cg.build_sheet("grid", shape=shape)
    weights = torch.randn(*shape, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pyramid = WeightSimilarity(sheet.space, sheet.spacing, "laplacian-pyramid", width)
    flat = {"all": (weights.flatten(0, 1), None)}
    assert float(pyramid.of(flat, sheet.num_columns)) == pytest.approx(plain_pyramid(weights.numpy(), width), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["grid", "torus", "surface", "directed"])
def test_smooth_maps_cost_less_than_scattered_ones_and_equal_ones_nothing(kind: str, name: str) -> None:
    sheet = sheets()[name]
    n, loss = sheet.num_columns, WeightSimilarity(sheet.space, sheet.spacing, kind)
    generator = torch.Generator().manual_seed(0)
    same = torch.randn(1, 6, generator=generator, dtype=torch.float64).expand(n, 6)
    far = torch.from_numpy(apart(sheet.space, np.zeros(n, np.int64), np.arange(n)))
    angle = far / far.max() * math.pi
    smooth = torch.stack([angle.cos(), angle.sin()], 1)
    values = [
        float(loss.of({"all": (each, None)}, n))
        for each in (same, smooth, smooth[torch.randperm(n, generator=generator)])
    ]
    assert values[0] == pytest.approx(0, abs=1e-12)
    assert values[0] < values[1] < 0.7 * values[2]


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind: str) -> None:
    sheet = cg.build_sheet("grid", shape=(4, 3))
    loss = WeightSimilarity(sheet.space, sheet.spacing, kind)
    weights = torch.randn(12, 4, dtype=torch.float64, requires_grad=True)
    some = torch.tensor([7, 2, 3, 6, 11])

    def of(all_of_them: Tensor, few: Tensor) -> Tensor:
        return loss.of({"a": (all_of_them, None), "b": (few, some)}, 12)

    assert torch.autograd.gradcheck(of, (weights, torch.randn(5, 3, dtype=torch.float64, requires_grad=True)))


def test_what_is_compared_does_not_depend_on_what_is_each_columns_own() -> None:
    """Hidden units change places, and gains of norms move into the weights: the same function, the same vectors."""
    net = net_of()
    before = {name: each[0].detach().clone() for name, each in comparable_weights(net).items()}
    assert {name: each.shape for name, each in before.items()} == {
        "query": (16, 18),
        "key": (16, 18),
        "mlp": (16, 36),
        "embedding": (16, 96),
    }
    images = torch.randn(3, 1, 8, 8)
    said, block = net(images), net.model.block
    with torch.no_grad():
        order = torch.stack([torch.randperm(5) for _ in range(16)])
        for part in (block.mlp.fc1.weight, block.mlp.fc1.bias):
            part.copy_(part.gather(1, order.reshape(16, 5, *[1] * (part.dim() - 2)).expand_as(part)))
        block.mlp.fc2.weight.copy_(block.mlp.fc2.weight.gather(2, order[:, None].expand(16, 6, 5)))
        gain = torch.rand(16, 6) + 0.5
        block.norm2.weight.mul_(gain)
        block.norm2.bias.mul_(gain)
        block.mlp.fc1.weight.div_(gain[:, None])
    torch.testing.assert_close(net(images), said)
    for name, (each, _) in comparable_weights(net).items():
        torch.testing.assert_close(each, before[name], rtol=1e-4, atol=1e-5)


def test_shared_parts_and_patches() -> None:
    both = net_of(parametrization="shared+difference")
    plain = both.to_plain()
    for name, (each, _) in comparable_weights(both).items():
        torch.testing.assert_close(each, comparable_weights(plain)[name][0])
    assert set(comparable_weights(net_of(untied="mlp", columns_per_patch=1, patch_size=2))) == {"mlp"}
    net = net_of(untied="attention,norm")
    maps, those = comparable_weights(net)["embedding"]
    patch = torch.randn(1, 1, 4, 4)
    image = patch.repeat(1, 1, 2, 2)  # every patch shows the same
    with torch.no_grad():
        net.patch_embedding.bias.zero_()
    seen = (maps.unflatten(1, (6, 16)) * patch.flatten()).sum(-1)
    torch.testing.assert_close(net.embed(image)[:, 0], seen)
    assert torch.equal(those, net.model.inputs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"untied": "none"}, "weight_similarity: with untied none all columns have the same weights"),
        ({"untied": "norm"}, "weight_similarity: with untied norm all columns have the same weights"),
        ({"value_projection": True}, "weight_similarity: untied value weights make channels a column's own"),
        ({"model": "vit"}, "weight_similarity: a vit has no columns in space"),
        ({"sheet_parallel": 2}, "weight_similarity: weights of columns on 2 processes are not at hand"),
        ({"weight_similarity_kind": "laplacian"}, "weight_similarity_kind: must be one of cosine, laplacian-pyramid"),
        ({"weight_similarity_range": 0}, "weight_similarity_range: must be greater than 0"),
        ({"weight_similarity": -1}, "weight_similarity: must be at least 0"),
    ],
)
def test_what_has_nothing_in_common_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        TrainConfig(**{**SMALL, "weight_similarity": 0.1, **changes})
    assert "\n" not in str(error.value)


def test_networks_made_in_python_are_refused_alike() -> None:
    for options in ({"untied": "none"}, {"value_projection": True}):
        with pytest.raises(ValueError, match="weight_similarity: "):
            comparable_weights(net_of(**options))
    sheet = cg.build_sheet("grid", shape=(4, 4))
    for kind, message in (("cosine", "larger weight_similarity_range"), ("laplacian-pyramid", "no pyramid")):
        apart_from_all = {"all": (torch.randn(2, 3), torch.tensor([0, 15]))}
        with pytest.raises(ValueError, match=message):
            WeightSimilarity(sheet.space, sheet.spacing, kind, 0.3).of(apart_from_all, 16)


def test_too_many_pairs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("colgraph.training.weight_similarity._MOST_PAIRS", 100)
    sheet = cg.build_sheet("grid", shape=(8, 8))
    with pytest.raises(
        ValueError, match=r"weight_similarity: 4 spacings .* 100 pairs .* smaller weight_similarity_range"
    ):
        WeightSimilarity(sheet.space, sheet.spacing, "cosine", 4.0).of({"all": (torch.randn(64, 3), None)}, 64)


def test_columns_without_neighbors_are_refused_before_the_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="larger weight_similarity_range"):
        train_on_digits(tmp_path / "run", **SMALL, weight_similarity=0.1, weight_similarity_range=0.01)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_training_adds_it_and_lowers_it(tmp_path: Path, kind: str) -> None:
    settings = {**SMALL, "epochs": 4, "lr": 1e-2, "warmup": 0.5, "weight_similarity_kind": kind}
    config = TrainConfig(**settings, weight_similarity=0.3)
    net = net_of()
    module, free = TaskModule(net, config), TaskModule(net, TrainConfig(**SMALL))
    batch = torch.rand(16, 1, 8, 8), torch.arange(16) % 10
    expected = module.regularizers.similarity.of(comparable_weights(net), 16)  # type: ignore[union-attr]
    assert float(module.training_step(batch, 0) - free.training_step(batch, 0)) == pytest.approx(
        0.3 * float(expected), rel=1e-3
    )
    ends = []
    for weight in (0.0, 3.0):
        run = train_on_digits(tmp_path / str(weight), **settings, weight_similarity=weight)
        rows = list(csv.DictReader((run / "metrics.csv").open()))
        ends.append([row["weight_similarity_loss"] for row in rows if row["val_loss"]])
    assert ends[0] == ["", "", "", ""]
    assert float(ends[1][-1]) < 0.7 * float(ends[1][0])
