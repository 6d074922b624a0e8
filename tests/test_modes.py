"""Networks that are looked at keep the mode of each of their parts, and what parts count."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import colgraph.analysis as an
from colgraph.models import OwnNetwork, count_flops
from colgraph.modes import evaluation


@pytest.fixture
def net() -> nn.Sequential:
    """A network that trains, with a norm that is held as it is."""
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))
    net[1].eval()
    return net


def modes(net: nn.Module) -> list[bool]:
    return [part.training for part in net.modules()]


LOOKED_AT = {
    "predict": lambda net: an.predict(net, torch.rand(4, 1, 8, 8)),
    "responses": lambda net: an.responses(net, torch.rand(4, 1, 8, 8), progress=False),
    "weight_noise": lambda net: an.weight_noise(net, torch.rand(4, 1, 8, 8), torch.arange(4) % 3, progress=False),
    "count_flops": lambda net: count_flops(net, (1, 8, 8)),
    "a network of one's own": lambda net: OwnNetwork(net, 8, 1, 3),
}


@pytest.mark.parametrize("look", LOOKED_AT.values(), ids=LOOKED_AT.keys())
def test_every_part_keeps_its_mode_and_its_statistics(net: nn.Sequential, look) -> None:
    before, state = modes(net), {name: value.clone() for name, value in net.state_dict().items()}
    look(net)
    assert modes(net) == before
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


def test_a_part_that_trains_in_a_network_that_does_not(net: nn.Sequential) -> None:
    net.eval()
    net[2].train()
    before = modes(net)
    with evaluation(net):
        assert not any(modes(net))
    assert modes(net) == before


def test_modes_come_back_after_an_error(net: nn.Sequential) -> None:
    before = modes(net)
    with pytest.raises(ZeroDivisionError), evaluation(net):
        raise ZeroDivisionError
    assert modes(net) == before


def test_other_callables_are_left_as_they_are() -> None:
    with evaluation(torch.relu):
        assert float(torch.relu(torch.ones(()))) == 1
