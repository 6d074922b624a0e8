"""Steps without gradient before those that learn: what the loss and its gradient are then, and what they cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

pytest.importorskip("lightning")
pytest.importorskip("sklearn")

from small_tasks import SMALL as OF_TASKS

from colgraph.data import load_images
from colgraph.models import count_flops
from colgraph.tasks import drawn_steps
from colgraph.training import RunFlags, TrainConfig, load_trained, make_model, make_sheet, open_run_folder, train
from colgraph.training.module import TaskModule
from colgraph.training.questions import task_seed

SMALL = {**OF_TASKS, "epochs": 1}
KINDS: dict[str, dict[str, Any]] = {
    "sheet": {},
    "delays": {"speed": 1.0},
    "no position embedding": {"position_embedding": False},
    "recurrent convolution": {"model": "recurrent", "geometry": "layers", "options": {}, "neighbors": "complete"},
}


def module(burn_in: int, **changes: Any) -> TaskModule:
    config = TrainConfig(**{**SMALL, **changes}, burn_in=burn_in)
    torch.manual_seed(0)
    return TaskModule(make_model(config, None if config.baseline else make_sheet(config), 10), config)


def drawn(of: TaskModule) -> int:
    """How many steps come first in the first training step."""
    draws = torch.Generator().manual_seed(task_seed(of.config, 0, of._share))
    assert drawn_steps(None, of.config.steps, draws) == of.config.steps
    return drawn_steps(0, of.config.burn_in, draws)


def gradients(loss: Tensor, of: TaskModule) -> dict[str, Tensor]:
    found = torch.autograd.grad(loss, list(of.net.parameters()), allow_unused=True)
    return {name: grad for (name, _), grad in zip(of.net.named_parameters(), found, strict=True) if grad is not None}


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_steps_after_others_through_which_nothing_is_learned(kind: str) -> None:
    of = module(9, **KINDS[kind])
    count = drawn(of)
    assert 0 < count < 9
    images, labels = torch.randn(6, 1, 8, 8), torch.arange(6)
    loss = of.training_step((images, labels), 0)
    net: Any = of.net
    before = net.unroll(images, steps=count)
    more = {} if before.history is None else {"history": before.history.detach()}
    assert (before.history is not None) == (kind == "delays")
    after = net.unroll(images, state=before.state.detach(), start=count, steps=3, **more)
    expected = F.cross_entropy(after.logits, labels, label_smoothing=of.config.label_smoothing)
    torch.testing.assert_close(loss, expected)
    found, wanted = gradients(loss, of), gradients(expected, of)
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], msg=name)
    # Through all of them it is another gradient: what is compared above would tell.
    through = F.cross_entropy(net.unroll(images, steps=count + 3).logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(through, expected)
    grads = gradients(through, of)
    assert any(not torch.allclose(grads[name], wanted[name], rtol=1e-3) for name in wanted)


def test_in_the_first_half_of_the_epochs_none_come_first() -> None:
    images, labels = torch.randn(6, 1, 8, 8), torch.arange(6)
    losses = [module(burn_in, epochs=2).training_step((images, labels), 0) for burn_in in (0, 9)]
    assert torch.equal(*losses)
    assert not torch.equal(losses[0], module(9, epochs=1).training_step((images, labels), 0))


def test_how_many_come_first_is_drawn_from_none_to_all() -> None:
    seen = {drawn_steps(0, 3, torch.Generator().manual_seed(seed)) for seed in range(60)}
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize("kind", ["sheet", "recurrent convolution"])
def test_what_they_cost_is_a_forward_pass_of_half_as_many(tmp_path: Path, kind: str) -> None:
    images = load_images("digits", image_size=8, channels=1)
    flops = {}
    for burn_in in (0, 10):
        config = TrainConfig(**{**SMALL, **KINDS[kind]}, burn_in=burn_in)
        net = make_model(config, None if config.baseline else make_sheet(config), 10)
        flops[burn_in] = train(net, images, config, open_run_folder(config, RunFlags(tmp_path / str(burn_in))))
    net = load_trained(tmp_path / "10").net
    assert load_trained(tmp_path / "10").config.burn_in == 10
    steps = count_flops(net, steps=7).forward - count_flops(net, steps=2).forward
    assert flops[10]["flops_per_image"] - flops[0]["flops_per_image"] == steps
    assert flops[0]["flops_per_image"] == count_flops(net).training


def test_a_time_embedding_has_no_vectors_for_it() -> None:
    with pytest.raises(ValueError, match="burn_in: a time embedding has no vectors for steps beyond those that learn"):
        TrainConfig(**SMALL, burn_in=2, time_embedding=True)
