"""Conduction delays: the further away, the longer ago."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from dense import dense_bias, linear, norm
from small_models import FAST, SIZES, exact, make, make_input, same

import colgraph as cg
from colgraph import analysis as an
from colgraph.analysis.lesions import step_by_step
from colgraph.distributed import SheetParallel
from colgraph.models import VisionColumnformer, count_flops
from colgraph.models.conduction import conduction_delays
from colgraph.models.reach import steps_to_reach
from colgraph.nn.delays import DelayedBlock

SPEED = 0.8  # on a grid of spacing 1: neighbors are heard after two steps, diagonals too, the furthest after four


def sheet(side=4, neighbors="knn:8", **options):
    return cg.build_sheet("grid", shape=(side, side), neighbors=neighbors, num_inputs=side, **options)


def delayed(seed=0, steps=4, speed=SPEED, **options):
    return make(sheet(), seed, steps=steps, speed=speed, **options)


def ring_of_states(model, x, steps):
    """States, attention and cost by the formulas, pair by pair, from a list of states that begins with zeros."""
    state = dict(model.named_parameters()) | dict(model.named_buffers())
    n, heads, attention = model.num_columns, model.options.num_heads, model.block.attention
    source, target = model.sheet.edge_index
    bias = dense_bias(attention.edge_bias, model.sheet.edge_index, n, heads)
    ago = np.maximum(1, np.ceil(model.sheet.edge_distance.double().numpy() / model.speed))
    current = torch.zeros(n, *x.shape[1:], dtype=x.dtype).index_add(0, model.inputs, x)
    current = current + model.position_embedding[:, None]
    entered, states, kept, costs = [], [], [], []
    for t in range(steps):
        if t and model.leak:
            current = (1 - model.leak) * current
        if t and model.inject == "every":
            current = current.index_add(0, model.inputs, x)
        if model.time_embedding is not None:
            current = current + model.time_embedding[t]
        entered.append(current)
        past = [torch.zeros_like(current)] * 9 + entered
        score = bias[:, None].expand(heads, x.size(1), n, n).clone()
        value = torch.zeros(n, n, x.size(1), x.size(2), dtype=x.dtype)
        query = linear(state, "block.attention.query", norm(state, "block.norm1", current)).unflatten(-1, (heads, -1))
        for d in range(1, 6):
            h = norm(state, "block.norm1", past[-d])
            key = linear(state, "block.attention.key", h).unflatten(-1, (heads, -1))
            v = linear(state, "block.attention.value", h) if attention.value is not None else h
            now = torch.zeros(n, n, dtype=torch.bool)
            now[target[ago == d], source[ago == d]] = True
            each = torch.einsum("ibhd,jbhd->hbij", query, key) / model.options.qk_dim**0.5
            score = torch.where(now, score + each, score)
            value = torch.where(now[..., None, None], v[None], value)
        a = score.softmax(-1)
        heard = torch.einsum("hbij,ijbhc->ibhc", a, value.unflatten(-1, (heads, -1))).flatten(2)
        if attention.value is not None:
            heard = linear(state, "block.attention.output", heard)
        y = current + heard
        hidden = torch.nn.functional.gelu(linear(state, "block.mlp.fc1", norm(state, "block.norm2", y)))
        current = y + linear(state, "block.mlp.fc2", hidden)
        states.append(current)
        kept.append(a[:, :, target, source].permute(2, 1, 0))
        cost = torch.zeros(n, n, dtype=x.dtype)
        cost[target, source] = model.sheet.edge_distance.to(x.dtype)
        costs.append((a * cost).sum(-1).mean())
    return torch.stack(states), torch.stack(kept), torch.stack(costs).mean()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_heads": 1, "value_projection": True},
        {"untied": "none"},
        {"leak": 0.3, "inject": "every", "time_embedding": True},
        {"edge_bias": "fixed", "recompute": "steps"},
    ],
    ids=str,
)
def test_columns_hear_a_ring_of_states(options, assert_same):
    model = exact(delayed(**options))
    assert isinstance(model.block, DelayedBlock)
    assert set(model.delayed.delay.tolist()) == {1, 2, 3, 4}
    x = make_input(model).double().requires_grad_()
    out = model.unroll(x, record=("state", "attention"))
    truth = ring_of_states(model, x, model.steps)
    for found, expected in zip((out.states, out.attention, out.wiring_cost), truth, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    wanted = [x, *model.parameters()]
    draws = torch.randn(out.states.shape, generator=torch.Generator().manual_seed(3)).double()
    for found, expected in zip(
        torch.autograd.grad((model.unroll(x, record=("state",)).states * draws).sum() + out.wiring_cost, wanted),
        torch.autograd.grad((truth[0] * draws).sum() + truth[2], wanted),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_shared_and_difference_are_their_sum():
    model = exact(delayed(parametrization="shared+difference"))
    x = make_input(model).double()
    torch.testing.assert_close(model(x), model.to_plain()(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model(x), model.to_untied()(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "options", [{}, {"parametrization": "shared+difference"}, {"leak": 0.2, "inject": "every"}], ids=str
)
def test_without_delay_it_is_the_model_without_speed(options):
    fast, plain = exact(delayed(speed=1e9, **options)), exact(delayed(speed=None, **options))
    assert fast.delayed is None
    assert type(fast.block) is type(plain.block)
    x = make_input(plain).double().requires_grad_()
    a, b = fast.unroll(x), plain.unroll(x)
    torch.testing.assert_close(a.state, b.state, rtol=1e-10, atol=1e-10)
    grads = [
        torch.autograd.grad(o.state.square().sum() + o.wiring_cost, [x, *m.parameters()])
        for o, m in ((a, fast), (b, plain))
    ]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("options", [{}, {"recompute": "steps", "value_projection": True}], ids=str)
def test_fast_backends_are_the_reference(backend, options):
    model = delayed(backend=backend, **options)
    truth = exact(model)
    x = make_input(model)
    one, other = model.unroll(x, record=("hidden", "heard")), truth.unroll(x.double(), record=("hidden", "heard"))
    for name in ("state", "wiring_cost", "hidden", "heard", "history"):
        same(getattr(one, name), getattr(other, name))
    grads = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    for found, expected in zip(grads, torch.autograd.grad(truth(x.double()).square().sum(), list(truth.parameters()))):
        same(found, expected)


@pytest.mark.parametrize("inject", ["first", "every"])
@pytest.mark.parametrize("pieces", [(1, 1, 1, 1, 1, 1), (2, 4), (5, 1)])
def test_going_on_takes_the_history(inject, pieces):
    model = exact(delayed(inject=inject, leak=0.2, time_embedding=True))
    x = make_input(model).double()
    whole = model.unroll(x, steps=6, record=("state",))
    out, done = model.unroll(x, steps=pieces[0]), pieces[0]
    for steps in pieces[1:]:
        out = model.unroll(x, state=out.state, history=out.history, steps=steps, start=done)
        done += steps
    torch.testing.assert_close(out.state, whole.state, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(out.history, whole.history, rtol=1e-12, atol=1e-12)
    assert out.history.shape == (3, *out.state.shape)


def test_a_missing_or_superfluous_history_is_refused():
    model, x = delayed(), torch.randn(4, 2, 6)
    out = model.unroll(x)
    for history in (None, out.history[1:], out.history[:, :3]):
        with pytest.raises(ValueError, match="takes the history"):
            model.unroll(x, state=out.state, history=history)
    with pytest.raises(ValueError, match="a state to go on from"):
        model.unroll(x, history=out.history)
    plain = delayed(speed=None)
    assert plain.unroll(x).history is None
    with pytest.raises(ValueError, match="conduction delays"):
        plain.unroll(x, state=out.state, history=out.history)


@pytest.mark.parametrize(
    ("distance", "speed", "steps"),
    [
        (3.0, 1.0, 3),
        (3.0000000001, 1.0, 3),
        (2.9999999, 1.0, 3),
        (3.001, 1.0, 4),
        (0.3, 0.1, 3),
        (0.0, 0.1, 1),
        (7e4, 7e3, 10),
    ],
)
def test_delays_are_rounded_up_and_ties_are_not(distance, speed, steps):
    made = cg.Sheet.from_edges(np.array([[1, 0], [0, 1]]), 2, edge_distance=np.array([distance, 0.0]))
    found = conduction_delays(made, speed)
    assert (1 if found is None else int(found[0])) == steps


def test_a_speed_that_delays_beyond_the_steps_is_refused_in_one_line():
    with pytest.raises(
        ValueError, match=r"speed 0\.5 delays the longest edge, of length 1, by 2 steps, and there are 1: "
    ) as error:
        cg.Columnformer(sheet(neighbors="radius:1"), dim=6, steps=1, speed=0.5)
    assert "\n" not in str(error.value)
    model = cg.Columnformer(sheet(neighbors="radius:1"), dim=6, steps=4, speed=0.5)
    with pytest.raises(ValueError, match="by 2 steps, and there are 1"):
        model.steps = 1
    assert model.steps == 4
    for speed in (0, -1.0, float("inf"), float("nan"), "fast", True):
        with pytest.raises(ValueError, match="speed must be"):
            cg.Columnformer(sheet(), dim=6, speed=speed)
    with pytest.raises(ValueError, match="speed 1e-300 delays"):
        cg.Columnformer(sheet(), dim=6, speed=1e-300)


def test_input_arrives_as_late_as_the_delays_say():
    made = sheet(neighbors="radius:1")
    when, later = steps_to_reach(made), steps_to_reach(made, 0.5)
    assert torch.equal(later, 2 * when)
    assert torch.equal(steps_to_reach(made, 100.0), when)
    model = make(made, steps=6, speed=0.5, position_embedding=False)
    with torch.no_grad():
        model.block.attention.edge_bias.zero_()
    x = make_input(model).requires_grad_()
    for t, state in enumerate(model.unroll(x, record=("state",)).states, 1):
        reached = (
            torch.stack([torch.autograd.grad(column.sum(), x, retain_graph=True)[0].abs().sum() for column in state])
            > 0
        )
        assert torch.equal(reached, later <= t)


def net_of(**options):
    torch.manual_seed(0)
    model = make(sheet(), steps=4, **({"speed": SPEED} | options))
    return VisionColumnformer(model, image_size=4, patch_size=2, num_classes=3, in_channels=1)


def test_analyses_hear_what_the_network_hears():
    net, images = net_of(), torch.randn(5, 1, 4, 4)
    out = net.unroll(images, record=("state", "attention", "heard"))
    stepped = step_by_step(net, images, lambda state, _: state)
    torch.testing.assert_close(stepped, out.logits)
    edges = net.model.sheet.edge_index.numpy()
    found = an.network_energy(net, images, edges, permutations=2, progress=False)
    size = out.heard.abs().sum(-1)[:, out.heard_rows]
    arrived = torch.zeros(16).index_add(0, net.model.sheet.edge_index[1], (out.attention * size).sum((0, 2, 3)) / 20)
    np.testing.assert_allclose(found.transmission.map, arrived.detach(), rtol=1e-5)
    said = copy.deepcopy(net)
    said.model.block.attention.register_forward_hook(lambda module, given, result: None)
    torch.testing.assert_close(said(images), net(images))


def test_it_is_saved_moved_and_counted(tmp_path):
    net, images = net_of(num_heads=1), torch.randn(2, 1, 4, 4)
    assert count_flops(net) == count_flops(net_of(speed=None, num_heads=1))
    again = copy.deepcopy(net).double()
    torch.testing.assert_close(again(images.double()).float(), net(images))
    torch.testing.assert_close(
        again.to_empty(device="cpu").float().load_state_dict(net.state_dict()) and again(images), net(images)
    )
    with torch.device("meta"):
        made = cg.Columnformer(sheet(), **SIZES | {"steps": 4, "speed": SPEED})
    made.load_state_dict(delayed().state_dict(), assign=True)
    x = make_input(made)
    torch.testing.assert_close(made(x), delayed()(x))
    pytest.importorskip("huggingface_hub")
    net.save_pretrained(tmp_path)
    back = VisionColumnformer.from_pretrained(tmp_path)
    assert back.model.speed == SPEED
    assert torch.equal(back(images), net(images))


def test_transforms_and_tracing_go_through():
    model = exact(delayed())
    x = make_input(model).double()
    batch = torch.func.vmap(model)(torch.stack([x, 2 * x]))
    torch.testing.assert_close(batch[1], model(2 * x))
    traced = torch.jit.trace(model, (x,), check_trace=False)
    torch.testing.assert_close(traced(make_input(model, 3).double()), model(make_input(model, 3).double()))
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x))
    assert model.unroll(x[:, :0]).state.shape == (16, 0, 6)
    half = delayed().bfloat16()
    assert half(make_input(half).bfloat16()).dtype == torch.bfloat16


def test_parts_of_a_sheet_refuse_delays():
    with pytest.raises(ValueError, match=r"^speed=0\.8: columns of another process are heard without"):
        SheetParallel(sheet(), None, steps=4, speed=SPEED)
