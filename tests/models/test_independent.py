"""Columns whose weights are drawn by themselves: uncorrelated, of the size that the tied ones have."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import colgraph as cg
from colgraph.models import independent_weights


def small(**options) -> cg.VisionColumnformer:
    torch.manual_seed(0)
    sheet = cg.build_sheet("grid", shape=(4, 5), neighbors="knn:5", num_inputs=4)
    model = cg.Columnformer(sheet, dim=16, qk_dim=8, mlp_dim=12, **{"parametrization": "shared+difference", **options})
    return cg.VisionColumnformer(model, image_size=8, patch_size=4, in_channels=1, num_classes=3).eval()


def alike(weight: torch.Tensor) -> float:
    """The mean correlation between columns' weights."""
    among = np.corrcoef(weight.detach().flatten(1).double().numpy())
    return float(among[~np.eye(len(among), dtype=bool)].mean())


@pytest.mark.parametrize("trained", [False, True])
def test_columns_are_uncorrelated_and_of_equal_variance(trained: bool) -> None:
    net = small()
    if trained:
        with torch.no_grad():
            for parameter in net.model.block.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter) + 0.01)
    drawn = independent_weights(net, seed=3)
    for name in ("attention.query", "attention.key", "mlp.fc1", "mlp.fc2", "norm1", "norm2"):
        before, after = net.model.block.get_submodule(name), drawn.model.block.get_submodule(name)
        for which in ("weight", "bias"):
            old, new = getattr(before, which).detach(), getattr(after, which).detach()
            assert new.shape == old.shape
            if float(old.std()) == 0:  # gains, shifts and biases before training
                assert torch.allclose(new, old, atol=1e-7), (name, which)
                continue
            assert float(new.std()) == pytest.approx(float(old.std()), rel=0.12), (name, which)
            assert float(new.mean()) == pytest.approx(float(old.mean()), abs=0.15 * float(old.std())), (name, which)
        if name.startswith(("attention", "mlp")):
            assert alike(before.weight) > 0.5, "the network as it is: columns have a shared part"
            assert abs(alike(after.weight)) < 0.03, name


def test_what_columns_do_not_own_stays_and_the_network_is_not_changed() -> None:
    net = small()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    drawn = independent_weights(net)
    assert drawn.model.parametrization == "plain"
    for name, value in drawn.state_dict().items():
        if name in before and "norm1" not in name and "norm2" not in name:
            assert torch.equal(value, before[name]), name
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    images = torch.rand(3, 1, 8, 8)
    assert torch.equal(drawn(images), independent_weights(net)(images)), "the same seed"
    assert not torch.allclose(drawn(images), independent_weights(net, seed=1)(images))
    assert torch.isfinite(drawn(images)).all()


def test_tied_parts_stay_and_a_tied_network_is_refused() -> None:
    net = small(untied=("mlp",))
    drawn = independent_weights(net)
    assert torch.equal(drawn.model.block.attention.query.weight, net.model.block.attention.query.weight)
    assert abs(alike(drawn.model.block.mlp.fc1.weight)) < 0.03
    with pytest.raises(ValueError, match="ties all of its weights: columns have none of their own"):
        independent_weights(small(untied="none"))
