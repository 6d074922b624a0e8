"""Shared fixtures: small graphs, the comparison of two functions with all their gradients, a real browser."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import hypothesis
import pytest
import torch
from in_browser import browser, open_page
from torch import Tensor

from colgraph.sheet import Sheet

# Named here and nowhere below: a fixture imported by two conftest files is two fixtures, and a second browser in one
# process is refused.
__all__ = ["browser", "open_page"]

# How long an example takes says what else the machine does.
hypothesis.settings.register_profile("any_machine", deadline=None)
hypothesis.settings.load_profile("any_machine")


def random_sheet(
    n: int = 12, edges: int = 50, seed: int = 0, inputs: Sequence[int] = (0, 1, 2), self_loops: bool = True
) -> Sheet:
    """Random positions and random directed edges, every column listening at least to itself."""
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(0, n, (2, edges), generator=generator)
    if self_loops:
        index = torch.cat([index, torch.arange(n).expand(2, n)], 1)
    pos = torch.rand(n, 3, generator=generator)
    distance = (pos[index[0]] - pos[index[1]]).norm(dim=1)
    return Sheet.from_edges(index, n, edge_distance=distance, pos=pos, inputs=list(inputs))


def complete_sheet(n: int = 9, seed: int = 0, inputs: Sequence[int] = (0, 1, 2)) -> Sheet:
    """Every column listens to every column, itself included."""
    pos = torch.rand(n, 3, generator=torch.Generator().manual_seed(seed))
    index = torch.stack([torch.arange(n).repeat(n), torch.arange(n).repeat_interleave(n)])
    distance = (pos[index[0]] - pos[index[1]]).norm(dim=1)
    return Sheet.from_edges(index, n, edge_distance=distance, pos=pos, inputs=list(inputs))


def assert_same(
    first: Callable[..., Tensor | tuple[Tensor, ...]],
    second: Callable[..., Tensor | tuple[Tensor, ...]],
    tensors: dict[str, Tensor],
    tolerance: float = 1e-10,
) -> None:
    """Both functions give the same outputs and the same gradients with respect to all ``tensors``.

    Errors of gradients are relative to the largest gradient, because some (a tied key bias) are zero in exact
    arithmetic.
    """
    results = []
    for function in (first, second):
        leaves = {name: value.detach().clone().requires_grad_() for name, value in tensors.items()}
        out = function(leaves)
        outputs = (out,) if isinstance(out, Tensor) else tuple(out)
        generator = torch.Generator().manual_seed(7)
        loss = sum((o * torch.randn(o.shape, generator=generator, dtype=o.dtype)).sum() for o in outputs)
        gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        results.append((outputs, dict(zip(leaves, gradients, strict=True))))
    (out1, grad1), (out2, grad2) = results
    for a, b in zip(out1, out2, strict=True):
        assert a.shape == b.shape
        a, b = a.detach(), b.detach()
        assert float((a - b).abs().max()) <= tolerance * max(1.0, float(b.abs().max()))
    largest = max(float(g.norm()) for g in grad2.values() if g is not None)
    assert largest > 0
    for name in tensors:
        a, b = grad1[name], grad2[name]
        assert (a is None) == (b is None), f"{name}: one side has no gradient"
        if a is not None and b is not None:
            assert float((a - b).norm()) <= tolerance * largest, f"gradient of {name}"


@pytest.fixture(autouse=True)
def _nothing_compiled_before() -> None:
    """What other tests had torch compile counts towards its limit, so that their order would matter."""
    torch._dynamo.reset()


@pytest.fixture
def sheet() -> Sheet:
    return random_sheet()


@pytest.fixture(name="random_sheet")
def _random_sheet() -> Callable[..., Sheet]:
    return random_sheet


@pytest.fixture(name="complete_sheet")
def _complete_sheet() -> Callable[..., Sheet]:
    return complete_sheet


@pytest.fixture(name="assert_same")
def _assert_same() -> Callable[..., None]:
    return assert_same
