"""Networks of one's own with columns: what they lack is known, and what does not fit is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import colgraph as cg
from colgraph.analysis.lesions import step_by_step
from colgraph.models import OwnColumns, OwnNetwork


class Rates(nn.Module):
    """Rate units on a ring."""

    def __init__(self, columns: int = 9, channels: int = 3, **changed: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.sheet = cg.build_sheet("ring", columns=columns, neighbors="knn:3", num_inputs=4)
        self.into, self.head = nn.Linear(64, columns * channels), nn.Linear(channels, 5)
        self.weight = nn.Parameter(torch.randn(self.sheet.edge_index.size(1), 1, 1))
        self.channels = channels
        for name, value in changed.items():
            setattr(self, name, value)

    def unroll(
        self, images: Tensor, *, state: Tensor | None = None, steps: int | None = None, start: int | None = None
    ) -> Any:
        drive = self.into(images.flatten(1)).unflatten(1, (-1, self.channels)).transpose(0, 1)
        source, target = self.sheet.edge_index
        state = torch.zeros_like(drive) if state is None else state
        for _ in range(3 if steps is None else steps):
            arrived = torch.zeros_like(state).index_add(0, target, self.weight * state[source])
            state = torch.tanh(state / 2 + arrived + drive)
        return SimpleNamespace(state=state)

    def classify(self, state: Tensor) -> Tensor:
        return self.head(state.mean(0))

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.unroll(images).state)


class Recording(Rates):
    """The same, which keeps what it has done."""

    def unroll(self, images: Tensor, *, record: Any = (), **options: Any) -> Any:
        out = super().unroll(images, **options)
        steps, edges, count = 3, self.sheet.edge_index.size(1), len(images)
        if "state" in record:
            out.states = torch.stack([super(Recording, self).unroll(images, steps=t + 1).state for t in range(3)])
        if "attention" in record:
            out.attention = torch.ones(steps, edges, count, 1) / 3
        return out

    def evidence(self, state: Tensor) -> Tensor:
        return self.head(state)


def own(network: nn.Module) -> OwnColumns:
    found = OwnNetwork(network, 8, 1, 5).columns()
    assert isinstance(found, OwnColumns)
    return found.eval()


def test_states_are_those_of_one_step_after_another() -> None:
    network, images = Rates(steps=3), torch.randn(2, 1, 8, 8)
    net = own(network)
    assert (net.steps, net.channels, net.num_classes) == (3, 3, 5)
    assert set(net.lacks) == {"attention", "heard", "hidden", "evidence"}
    out = net.unroll(images, record=("state",))
    assert out.states is not None
    expected = torch.stack([network.unroll(images, steps=t + 1).state for t in range(3)])
    assert torch.allclose(out.states, expected, atol=1e-6)
    assert torch.equal(out.logits, network(images))  # type: ignore[arg-type]
    assert torch.allclose(step_by_step(net, images, lambda state, _: state), network(images), atol=1e-6)
    assert not hasattr(net, "evidence")
    with pytest.raises(ValueError, match="Rates keeps no 'attention': its unroll takes no record="):
        net.unroll(images, record=("attention",))


def test_what_a_network_keeps_is_taken() -> None:
    net, images = own(Recording()), torch.randn(2, 1, 8, 8)
    assert net.steps == 3  # as many as there are states
    assert set(net.lacks) == {"heard", "hidden"}
    out = net.unroll(images, record=("state", "attention"))
    assert out.states is not None
    assert out.attention is not None
    assert (len(out.states), len(out.attention)) == (3, 3)
    assert torch.allclose(net.evidence(out.state).mean(0), out.logits, atol=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", [True, False])
def test_trying_leaves_the_network_as_it_was(mode: bool) -> None:
    network = Rates(steps=3).train(mode)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    own(network)
    made = OwnNetwork(network.train(mode), 8, 1, 5)
    assert network.training is mode
    assert set(made.state_dict()) == {f"network.{name}" for name in before}
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())


def test_without_steps_or_with_others_in_between_it_cannot_be_stopped() -> None:
    assert "needs an attribute steps" in own(Rates()).lacks["stepping"]
    assert "another state after 2 single steps" in own(Rates(steps=2)).lacks["states"]
    once = Rates(steps=3)
    once.unroll = lambda images: Rates.unroll(once, images)  # type: ignore[method-assign, assignment]
    net = own(once)
    assert "does not run step by step" in net.lacks["stepping"]
    states = net.unroll(torch.randn(2, 1, 8, 8), record=("state",)).states
    assert states is not None
    assert len(states) == 1


def test_a_columnformer_inside_is_analyzed_as_itself() -> None:
    sheet = cg.build_sheet("ring", columns=9, neighbors="knn:3", num_inputs=4, num_outputs=3)
    inside = cg.VisionColumnformer(
        cg.Columnformer(sheet, dim=4, steps=9), image_size=8, patch_size=4, in_channels=1, num_classes=5
    )
    made = OwnNetwork(inside, 8, 1, 5)
    assert made.columns() is inside
    assert made.sheet is inside.model.sheet


def _of(function: Callable[[Rates], Callable[..., Any]], **changed: Any) -> nn.Module:
    network = Rates(**changed)
    network.unroll = function(network)  # type: ignore[method-assign]
    network.forward = lambda images: Rates.forward(Rates(), images)  # type: ignore[method-assign]
    return network


def _state(change: Callable[[Tensor], Any]) -> nn.Module:
    network = Rates(steps=3)
    network.unroll = lambda *a, **k: SimpleNamespace(state=change(Rates.unroll(network, *a, **k).state))  # type: ignore[method-assign, assignment]
    network.forward = lambda images: Rates.forward(Rates(), images)  # type: ignore[method-assign]
    return network


class NoUnroll(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sheet, self.head = cg.build_sheet("ring", columns=9, neighbors="knn:3"), nn.Linear(64, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.flatten(1))


class NoClassify(NoUnroll):
    def unroll(self, images: Tensor) -> Any: ...


def _other_sheet() -> nn.Module:
    network = Rates()
    network.sheet = cg.build_sheet("ring", columns=7, neighbors="knn:3")
    network.unroll = lambda images, **_: SimpleNamespace(state=torch.zeros(9, len(images), 3))  # type: ignore[method-assign, assignment]
    return network


def _records(**kept: Any) -> nn.Module:
    network = Rates(steps=3)

    def unroll(images: Tensor, record: Any = (), **options: Any) -> Any:
        return SimpleNamespace(**vars(Rates.unroll(network, images, **options)), **(kept if record else {}))

    network.unroll = unroll  # type: ignore[method-assign, assignment]
    return network


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: NoUnroll(), r"a sheet of 9 columns but no unroll\(images, state=, steps=, start=\)"),
        (lambda: NoClassify(), r"no classify\(state\)"),
        (lambda: _other_sheet(), r"7 columns, and the state of unroll\(images\) is \[9, 2, 3\]: .*\[7, 2, C\]"),
        (lambda: _state(lambda x: x.transpose(0, 1)), r"is \[2, 9, 3\]: expected \[columns, images, channels\]"),
        (lambda: _state(lambda x: x[..., 0]), r"is \[9, 2\]"),
        (lambda: _state(lambda x: x.tolist()), "is list"),
        (lambda: _state(lambda x: x.long()), "expected"),
        (lambda: _of(lambda net: lambda images: Rates.unroll(net, images).state), "unroll.* failed: AttributeError"),
        (lambda: _of(lambda _: lambda: 3), "unroll.* failed: TypeError"),
        (lambda: _state(lambda x: 3 * x), r"answers otherwise than classify\(unroll\(images\).state\)"),
        (lambda: Rates(classify=lambda state: state), r"answers|its classify"),
        (lambda: Rates(sheet=nn.Linear(2, 2)), "a sheet of type Linear, expected a colgraph.Sheet"),
        (lambda: Rates(sheet=torch.zeros(9, 3)), "a sheet of type Tensor"),
        (lambda: Rates(steps=0), "steps must be a whole number of at least 1, got 0"),
        (lambda: Rates(steps=True), "got True"),
        (lambda: Rates(steps=3, normed=lambda x: x.transpose(0, 1)), r"normed\(state\) .* is \[2, 9, 3\]"),
        (lambda: Rates(steps=3, evidence=lambda x: x.mean(0)), r"evidence\(state\) .* is \[2, 3\]"),
        (
            lambda: _records(attention=torch.ones(3, 8, 2, 1)),
            r"\[3, 8, 2, 1\]: expected \[steps, 36, 2, heads\]",
        ),
        (
            lambda: _records(states=torch.ones(3, 2, 9, 3)),
            r"\[3, 2, 9, 3\]: expected \[steps, 9, 2, C\]",
        ),
        (lambda: _records(hidden=torch.ones(9, 2, 3)), r"hidden the shape \[9, 2, 3\]"),
    ],
)
def test_what_does_not_fit_is_one_line(make: Callable[[], nn.Module], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        OwnNetwork(make(), 8, 1, 5)
    assert "\n" not in str(caught.value)


def test_two_columns_and_two_images_are_told_apart() -> None:
    network = Rates(columns=4)
    OwnNetwork(network, 8, 1, 5)
    two = nn.Module()
    two.sheet = cg.Sheet.from_edges([[0, 1], [1, 0]], 2)
    two.head = nn.Linear(64, 10)
    two.unroll = lambda images, **_: SimpleNamespace(state=two.head(images.flatten(1)).view(-1, 2, 5))
    two.classify = lambda state: state.mean(1)
    two.forward = lambda images: two.classify(two.unroll(images).state)
    with pytest.raises(ValueError, match=r"state of unroll\(images\) is \[3, 2, 5\]"):
        OwnNetwork(two, 8, 1, 5)
