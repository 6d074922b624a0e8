"""Length times communicability: what it costs, its gradient, and the networks it makes, with numbers to reproduce."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import expm

pytest.importorskip("lightning")
pytest.importorskip("sklearn")

from small_runs import train_on_digits

import colgraph as cg
from colgraph.analysis import communicability, modularity, small_world
from colgraph.training import TrainConfig, images_of, load_trained, make_model, make_sheet
from colgraph.training.communicability import WIRING_KINDS, communicability_cost
from colgraph.training.module import TaskModule

WALKS = WIRING_KINDS[1:]
SMALL: dict[str, Any] = {"data": "digits", "image_size": 8, "channels": 1, "augment": "none", "patch_size": 2}
SMALL |= {"geometry": "grid", "options": {"shape": [6, 6]}, "neighbors": "complete", "dim": 12, "steps": 3, "qk_dim": 6}
SMALL |= {"mlp_dim": 12, "tensorboard": False, "figure_every": 0, "batch_size": 128, "epochs": 3, "warmup": 0.5}


def attention(sheet: cg.Sheet, seed: int = 0) -> torch.Tensor:
    """``[E]``: what each column deals out over whom it listens to."""
    raw = torch.rand(sheet.edge_index.size(1), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (
        raw
        / torch.zeros(sheet.num_columns, dtype=torch.float64).index_add(0, sheet.edge_index[1], raw)[
            sheet.edge_index[1]
        ]
    )


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_cost_is_the_sum_over_edges_of_the_sources(power: float) -> None:
    sheet = cg.build_sheet("grid", shape=(4, 4), neighbors="knn:5")
    (source, target), a = sheet.edge_index.numpy(), attention(sheet)
    length = sheet.edge_distance.double().numpy() ** power
    dense = np.zeros((16, 16))
    dense[target, source] = a
    own = dense.sum(1) ** -0.5
    walks = expm(own[:, None] * dense * own)
    np.fill_diagonal(walks, 0)
    found = [float(communicability_cost(a, sheet.edge_index, torch.from_numpy(length), 16, kind)) for kind in WALKS]
    assert found[0] == pytest.approx((a.numpy() * length * walks[target, source]).sum() / 16, rel=1e-12)
    np.fill_diagonal(dense, 0)
    both = dense + dense.T
    own = both.sum(1) ** -0.5
    walks = expm(own[:, None] * both * own)
    assert walks.sum(1) == pytest.approx(communicability(sheet.edge_index, a.numpy(), nulls=2).map, rel=1e-10)
    np.fill_diagonal(walks, 0)
    assert found[1] == pytest.approx((a.numpy() * length * walks[target, source]).sum() / 16, rel=1e-12)


@pytest.mark.parametrize("kind", WALKS)
def test_gradients(kind: str) -> None:
    sheet = cg.build_sheet("grid", shape=(3, 2), neighbors="knn:3")
    length = sheet.edge_distance.double()
    a = attention(sheet).requires_grad_()
    assert torch.autograd.gradcheck(lambda a: communicability_cost(a, sheet.edge_index, length, 6, kind), a)
    lonely = torch.tensor([[0, 1], [1, 0]])  # columns 2 and 3 listen to nobody
    two = torch.ones(2, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(communicability_cost(two, lonely, torch.ones(2), 4, kind), two)
    assert bool(torch.isfinite(grad).all())


@pytest.mark.parametrize("kind", WALKS)
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_training_takes_it_in_units_of_the_spacing(kind: str, power: float) -> None:
    settings = {**SMALL, "neighbors": "knn:6", "wiring_power": power, "num_heads": 2}
    config = TrainConfig(**settings, wiring=0.3, wiring_kind=kind)
    net = make_model(config, make_sheet(config), 10)
    module, free = TaskModule(net, config), TaskModule(net, TrainConfig(**settings))
    batch = torch.rand(16, 1, 8, 8), torch.arange(16) % 10
    loss = module.training_step(batch, 0)
    a = net.unroll(batch[0], record=("attention",)).attention.mean((0, 2, 3))
    sheet = net.model.sheet
    cost = communicability_cost(a, sheet.edge_index, sheet.edge_distance**power, 36, kind)
    expected = 0.3 / sheet.spacing**power * float(cost)
    assert float(loss - free.training_step(batch, 0)) == pytest.approx(expected, rel=1e-3)
    loss.backward()
    assert float(net.model.block.attention.edge_bias.grad.abs().sum()) > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wiring_kind": "comm"}, "wiring_kind: must be one of length, communicability, normalized-communicability"),
        ({"wiring_kind": "communicability", "sheet_parallel": 2}, "wiring_kind: communicability takes the whole sheet"),
        ({"wiring_kind": "communicability", "options": {"shape": [33, 32]}}, "at most 1,024 columns, got 1,056: give"),
    ],
)
def test_what_cannot_be_had_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        make_sheet(TrainConfig(**{**SMALL, "neighbors": "knn:4", "wiring": 0.1, **changes}))
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"at most 1,024 columns, got 1,025"):
        communicability_cost(torch.ones(1), torch.tensor([[0], [1]]), torch.ones(1), 1025, WALKS[0])


def shape_of(run: Path) -> tuple[float, float, float]:
    """Modularity, small-worldness at a density of 0.15 and mean length of the attention on the test images."""
    trained = load_trained(run)
    images, _ = images_of(trained.config).test.batch(range(360))
    out = trained.net.unroll(trained.transform.evaluate(images), record=("attention",))
    edges, weights = trained.net.model.sheet.edge_index.numpy(), out.attention.mean((0, 2, 3)).detach().numpy()
    q = modularity(edges, weights, columns=36, nulls=2).value
    return q, small_world(edges, weights, density=0.15, columns=36).value, float(out.wiring_cost)


WEIGHT = {"length": 0.3, "communicability": 10.0, "normalized-communicability": 10.0}
REFERENCE = {
    "length": (0.4200618, 1.577820, 0.4167798),
    "communicability": (0.1199839, 1.150899, 0.1865810),
    "normalized-communicability": (0.1299188, 1.146286, 0.1993229),
}


@pytest.mark.parametrize("kind", WIRING_KINDS)
def test_reference_values_of_trained_networks(tmp_path: Path, kind: str) -> None:
    """Seed 0, three epochs of digits on a complete graph: who has these numbers has this regularizer (docs/maps.md)."""
    run = train_on_digits(tmp_path / kind, **SMALL, lr=1e-2, edge_bias_lr=10, wiring=WEIGHT[kind], wiring_kind=kind)
    assert shape_of(run) == pytest.approx(REFERENCE[kind], rel=0.01)
    rows = [row for row in csv.DictReader((run / "metrics.csv").open()) if row["val_loss"]]
    costs = [row["communicability_cost"] for row in rows]
    if kind == "length":
        assert costs == ["", "", ""]
    else:
        assert float(costs[-1]) < float(costs[0])
