"""What is used of torch and PyG without being documented still means what it is taken to mean."""

from __future__ import annotations

import sys
import threading
import warnings

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

from colgraph.nn import SheetAttention
from colgraph.torch_internals import (
    has_hooks,
    is_dispatched,
    is_traced,
    is_transformed,
    ordinary,
    parallel_region,
    static_shape,
    watches_messages,
    will_run,
)


def test_transforms_are_seen():
    seen = []

    def look(x):
        seen.append(is_transformed())
        return x.sum()

    x = torch.ones(3)
    assert not is_transformed()
    torch.func.grad(look)(x)
    torch.func.vmap(look)(x[:, None])
    torch.func.jvp(look, (x,), (x,))
    with forward_ad.dual_level():
        look(x)
    assert seen == [True] * 4
    assert not is_transformed()


def test_ordinary_tensors_are_made_under_transforms():
    made = []

    def look(x):
        with ordinary():
            assert not is_transformed()
            made.append(torch.ones(3).detach() * 2)
        assert is_transformed()
        return (x * made[-1]).sum()

    x = torch.ones(3)
    assert torch.func.grad(look)(x).tolist() == [2, 2, 2]
    with torch.inference_mode():
        torch.func.vmap(look)(x[:, None])
    assert all(each.numpy().sum() == 6 and not each.is_inference() for each in made)


class Looked(torch.autograd.Function):
    """The identity, which keeps what its backward pass sees."""

    seen: list[bool]

    @staticmethod
    def forward(ctx, x, look):
        ctx.look = look
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        ctx.look(ctx, grad)
        return grad, None


def test_batches_of_gradients_are_seen():
    seen = []
    x = torch.ones(2, requires_grad=True)
    out = Looked.apply(x, lambda _, grad: seen.append(is_transformed(grad)))
    torch.autograd.grad(out, x, torch.eye(2), is_grads_batched=True, retain_graph=True)
    torch.autograd.grad(out, x, torch.ones(2))
    assert seen == [True, False]


def test_modes_are_seen():
    assert not is_dispatched()
    with FlopCounterMode(display=False):
        assert is_dispatched()


def test_tracing_is_seen():
    seen = []

    def look(x):
        seen.append(is_traced())
        return x + 1

    look(torch.ones(1))
    torch.compile(look, backend="eager")(torch.ones(1))
    torch.jit.trace(look, (torch.ones(1),), check_trace=False)
    assert seen == [False, False, True]


def test_hooks_of_every_kind_are_seen():
    def hook(*_):
        return None

    for register in (
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
    ):
        module = nn.Linear(2, 2)
        assert not has_hooks(module)
        handle = getattr(module, register)(hook)
        assert has_hooks(module), register
        handle.remove()
        assert not has_hooks(module)
        assert not has_hooks()
        handle = getattr(nn.modules.module, register.replace("register_", "register_module_"))(hook)
        assert has_hooks(), register
        handle.remove()
    module.forward = hook
    assert has_hooks(module)


def test_who_waits_for_messages_is_seen():
    attention = SheetAttention(4, 1, 2, 3)
    assert not watches_messages(attention)
    for part in ("propagate", "message", "aggregate", "message_and_aggregate", "edge_update"):
        for when in ("forward_pre", "forward"):
            handle = getattr(attention, f"register_{part}_{when}_hook")(lambda *_: None)
            assert watches_messages(attention), (part, when)
            handle.remove()
    assert not watches_messages(attention)
    attention.explain = True
    assert watches_messages(attention)


def test_whose_gradient_is_wanted_is_seen():
    seen = []
    x, y = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    inner = (x * 2, y * 2)
    out = Looked.apply(inner[0] + inner[1], lambda ctx, _: seen.append([will_run(a.grad_fn) for a in inner]))
    out.sum().backward(inputs=[y])
    assert seen == [[False, True]]


def test_shapes_are_numbers_while_tracing():
    seen = []

    def look(x):
        seen.append(static_shape(x))
        return x + 1

    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)
        torch.jit.trace(look, (torch.ones(2, 3),), check_trace=False)
    assert seen == [(2, 3)]
    assert all(type(size) is int for size in seen[0])
    assert static_shape(torch.ones(4, 1)) == (4, 1)


@pytest.mark.skipif(
    sys.platform != "linux" or not torch.backends.openmp.is_available(), reason="needs a torch for Linux with OpenMP"
)
def test_a_region_runs_on_the_threads_of_torch():
    region, ran = parallel_region(), []
    assert region is not None
    region(lambda: ran.append(threading.get_native_id()), 2)
    assert len(set(ran)) == len(ran) == 2
    assert threading.get_native_id() in ran
