"""The unroll with its own backward pass: the numbers of the plain path, and everything autograd users may do to it."""

from __future__ import annotations

import math
import threading

import pytest
import torch
from torch.func import functional_call
from torch.profiler import ProfilerActivity, profile
from unrolled import RECOMPUTE, assert_as_good_as_plain, loss_of, make, make_input, plain, solve

from colgraph import build_sheet
from colgraph.ops import _threads, column_step


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_heads": 3, "qk_dim": 2},
        {"attention_residual": False},
        {"edge_bias": None},
        {"edge_bias": "fixed"},
        {"time_embedding": True},
        {"inject": "every"},
        {"inject": "sequence", "time_embedding": True},
        {"recompute": "steps", "inject": "every", "time_embedding": True, "attention_residual": False},
        {"recompute": "sqrt", "steps": 9, "inject": "every", "time_embedding": True, "leak": 0.3},
        {"recompute": "sqrt", "steps": 8, "inject": "sequence", "num_heads": 3, "qk_dim": 2},
        {"dim": 1, "qk_dim": 1, "mlp_dim": 1},
        {"dim": 37, "qk_dim": 19, "mlp_dim": 21},
        {"dim": 70, "qk_dim": 16, "mlp_dim": 33},
        {"steps": 1},
        {"leak": 0.3},
        {"leak": 0.3, "inject": "every", "recompute": "steps", "time_embedding": True},
        {"parametrization": "shared+difference"},
        {"parametrization": "shared+difference", "recompute": "steps", "inject": "every"},
    ],
    ids=str,
)
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_as_good_as_the_plain_path(sheet, options, batch):
    model = make(sheet, **options)
    assert_as_good_as_plain(model, make_input(model, batch))


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("batch", [32, 130])
def test_as_good_as_the_plain_path_with_a_large_batch(sheet, recompute, batch):
    model = make(sheet, recompute=recompute)
    assert_as_good_as_plain(model, make_input(model, batch))


@pytest.mark.parametrize("options", [{"inject": "every", "leak": 0.2}, *({"recompute": r} for r in RECOMPUTE)], ids=str)
def test_recorded_states_are_differentiated_too(sheet, options):
    model = make(sheet, **options)
    assert_as_good_as_plain(model, make_input(model), record=("state",))


def test_one_column(random_sheet):
    model = make(random_sheet(n=1, edges=1, inputs=(0,)))
    assert_as_good_as_plain(model, make_input(model, 2))


def test_large_values_and_wide_gelu(sheet):
    model = make(sheet)
    with torch.no_grad():
        model.block.mlp.fc1.weight.mul_(20)
    assert_as_good_as_plain(model, 100 * make_input(model))


def test_going_on_from_a_state(sheet):
    model = make(sheet, inject="every", time_embedding=True)
    x = make_input(model)
    whole, half = model.unroll(x, steps=5), model.unroll(x, steps=2)
    rest = model.unroll(x, state=half.state, steps=3, start=2)
    assert torch.equal(rest.state, whole.state)
    gradients = []
    for out in (whole, rest):
        model.zero_grad()
        out.state.square().sum().backward()
        gradients.append(model.block.mlp.fc1.weight.grad)
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize(
    "frozen",
    [
        ("norm",),
        ("query", "key"),
        ("mlp.fc1",),
        ("mlp.fc2.weight", "edge_bias"),
        ("bias",),
        ("block",),
        ("position_embedding",),
    ],
    ids=str,
)
def test_frozen_parameters(sheet, frozen):
    model = make(sheet)
    x = make_input(model)
    expected = solve(model, x)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(word in name for word in frozen))
    found = solve(model, x)
    assert {name for name in expected if name not in found} == {
        name for name, parameter in model.named_parameters() if not parameter.requires_grad
    }
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_bitwise_the_same_on_every_run(sheet):
    model = make(sheet)
    x = make_input(model, 9)
    first = solve(model, x)
    for _ in range(3):
        again = solve(model, x)
        assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("inject", ["first", "every"])
def test_the_same_bits_on_every_number_of_threads(inject, monkeypatch):
    model = make(build_sheet("grid", neighbors="knn:9", shape=(9, 10), num_inputs=9), inject=inject)
    x = make_input(model, 9)
    monkeypatch.setattr(_threads, "_WORTH_A_THREAD", 1)
    usual, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(solve(model, x))
    finally:
        torch.set_num_threads(usual)
    assert model._column_step == "fused"
    assert all(torch.equal(found[0][name], other[name]) for other in found[1:] for name in found[0])


@pytest.mark.parametrize("recompute", RECOMPUTE)
def test_nothing_wakes_the_threads_of_torch_between_kernels(recompute):
    """They go on spinning on the cores that the next kernel needs; a step took a fifth longer."""
    model = make(build_sheet("grid", neighbors="knn:20", shape=(40, 40)), recompute=recompute)
    state = torch.randn(model.num_columns, 3, model.dim, requires_grad=True)
    goal = torch.randn_like(state)
    model.unroll(None, state=state)  # makes the tables of the sheet
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        model.unroll(None, state=state).state.backward(goal)
    assert model._column_step == "fused"
    large = {
        event.name
        for event in profiler.events()
        for shape in event.input_shapes
        if all(isinstance(size, int) for size in shape) and math.prod(shape) >= 2**15  # torch's for one thread
    }
    assert "aten::view" in large or "aten::as_strided" in large  # shapes were recorded
    computing = {"add", "add_", "mul", "sum", "copy_", "clone", "zero_", "fill_", "cat", "stack", "index_select"}
    assert sorted(large & {f"aten::{name}" for name in computing}) == []


def test_gradients_accumulate(sheet):
    model = make(sheet)
    first, second = make_input(model, seed=1), make_input(model, seed=2)
    separate = [solve(model, x) for x in (first, second)]
    model.zero_grad()
    for x in (first, second):
        loss_of(model.unroll(x)).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad.double(), separate[0][name] + separate[1][name])


def test_two_unrolls_before_one_backward(sheet):
    model = make(sheet)
    first, second = make_input(model, seed=1), make_input(model, seed=2)
    separate = [solve(model, x) for x in (first, second)]
    model.zero_grad()
    a, b = model.unroll(first), model.unroll(second)
    (loss_of(a) + loss_of(b)).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad.double(), separate[0][name] + separate[1][name])


def test_one_graph_may_be_differentiated_twice(sheet):
    model = make(sheet)
    x = make_input(model)
    once = solve(model, x)
    model.zero_grad()
    loss = loss_of(model.unroll(x))
    loss.backward(retain_graph=True)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.grad.double(), 2 * once[name]), name
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_weight_gradients_nobody_asks_for_are_not_computed(sheet, monkeypatch):
    model = make(sheet)
    x = make_input(model).requires_grad_()
    expected = solve(model, x)
    model.zero_grad()
    loss = loss_of(model.unroll(x))
    seen = []
    original = column_step.new_gradients

    def spy(weights, wanted):
        seen.append(any(wanted))
        return original(weights, wanted)

    monkeypatch.setattr(column_step, "new_gradients", spy)
    (gradient,) = torch.autograd.grad(loss, x, retain_graph=True)
    assert seen == [False]
    assert torch.equal(gradient.double(), expected["x"])
    assert all(parameter.grad is None for parameter in model.parameters())
    weight = model.block.mlp.fc1.weight
    (gradient,) = torch.autograd.grad(loss, weight, retain_graph=True)
    assert torch.equal(gradient.double(), expected["block.mlp.fc1.weight"])
    loss.backward()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.grad.double(), expected[name]), name


def test_a_backward_pass_that_fails_leaves_nothing_behind(sheet):
    model = make(sheet)
    x = make_input(model)
    expected = solve(model, x)
    model.zero_grad()
    failing = model.block.mlp.fc1.weight.register_hook(lambda gradient: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loss_of(model.unroll(x)).backward()
    failing.remove()
    found = solve(model, x)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_gradients_of_any_kind_come_in(sheet):
    model = make(sheet)
    unroll = model.unroll(make_input(model), record=("state",))
    weight = model.block.mlp.fc1.weight
    for output in (unroll.state, unroll.states):
        ones = torch.ones_like(output)
        expected = torch.autograd.grad(output, weight, ones, retain_graph=True)[0]
        negated = torch.complex(ones, -ones).conj().imag  # ones, by a flag that says to change the sign
        assert negated.is_neg()
        for given in (negated, ones.requires_grad_()):
            assert torch.equal(torch.autograd.grad(output, weight, given, retain_graph=True)[0], expected)


@pytest.mark.parametrize(
    "options",
    [{}, {"num_heads": 3, "recompute": "steps"}, {"inject": "every", "time_embedding": True, "edge_bias": None}],
    ids=str,
)
def test_gradients_of_gradients(sheet, options):
    """A penalty on the input's gradient, differentiated with respect to everything."""
    results = []
    model = make(sheet, **options)
    for each in (model, plain(model, torch.float64)):
        x = make_input(model).to(next(each.parameters()).dtype).requires_grad_()
        unroll = each.unroll(x, record=("state",))
        (gradient,) = torch.autograd.grad(loss_of(unroll), x, create_graph=True)
        names, parameters = zip(*each.named_parameters())
        found = torch.autograd.grad(gradient.square().sum(), (x, *parameters), allow_unused=True)
        results.append(dict(zip(("x", *names), found)))
    fused, exact = results
    assert model._column_step == "fused"
    for name, truth in exact.items():
        mine = fused[name]
        assert (mine is None) == (truth is None), name
        if mine is not None:
            torch.testing.assert_close(mine.double(), truth, rtol=2e-3, atol=2e-4 * float(truth.abs().max()) + 1e-6)


def test_gradients_of_many_losses_at_once(sheet):
    model = make(sheet)
    x = make_input(model, 1).requires_grad_()
    out = model(x)
    rows = torch.randn(3, *out.shape, generator=torch.Generator().manual_seed(4))
    (together,) = torch.autograd.grad(out, x, rows, is_grads_batched=True, retain_graph=True)
    for row, found in zip(rows, together):
        (alone,) = torch.autograd.grad(out, x, row, retain_graph=True)
        torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)


def test_no_graph_without_gradients(sheet):
    model = make(sheet)
    x = make_input(model)
    expected = model(x)
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            out = model(x)
        assert not out.requires_grad
        assert torch.equal(out, expected)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    assert model(x).grad_fn is None


def kept_floats(function):
    """Distinct memory kept for the backward pass, in floats."""
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes() // 4
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = function()
    return sum(kept.values()), out


def test_memory_kept_for_the_backward_pass(random_sheet):
    """The formulas of the documentation; nothing kept depends on the number of edges but the bias itself."""
    n, batch, steps, c, j, m = 40, 4, 9, 12, 10, 7
    sheet = random_sheet(n=n, edges=300)
    kept = {}
    for recompute in RECOMPUTE:
        model = make(sheet, num_heads=2, steps=steps, recompute=recompute, qk_dim=j // 2)
        own = sum(parameter.numel() for parameter in model.parameters())
        kept[recompute] = kept_floats(lambda model=model: model(make_input(model, batch)))[0] - own
    assert kept[None] <= steps * n * batch * (4 * c + 2 * j + 2 * m + 2)
    assert kept["steps"] <= steps * n * batch * c
    assert kept["sqrt"] <= 3 * n * batch * c


def test_non_contiguous_input(sheet):
    model = make(sheet, inject="every", position_embedding=False)
    x = make_input(model, 4)
    everywhere = torch.zeros(sheet.num_columns, 4, model.dim)
    everywhere[model.inputs] = x
    strided = everywhere.transpose(0, 2).contiguous().transpose(0, 2)
    assert torch.equal(model(strided), model(everywhere))
    torch.testing.assert_close(model(everywhere), model(x))


def test_functional_call(sheet):
    model, other = make(sheet, seed=0), make(sheet, seed=5)
    x = make_input(model)
    parameters = {name: p.detach().clone().requires_grad_() for name, p in other.named_parameters()}
    out = functional_call(model, parameters, (x,))
    assert torch.equal(out, other(x))
    out.square().sum().backward()
    other(x).square().sum().backward()
    for name, parameter in other.named_parameters():
        assert torch.equal(parameters[name].grad, parameter.grad)


def test_inside_a_checkpoint(sheet):
    model = make(sheet)
    x = make_input(model).requires_grad_()
    model(x).square().sum().backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    torch.utils.checkpoint.checkpoint(model, x, use_reentrant=False).square().sum().backward()
    assert all(torch.equal(p.grad, e) for p, e in zip(model.parameters(), expected))


def test_from_several_threads(sheet):
    models = [make(sheet, seed=seed) for seed in range(4)]
    expected = [solve(model, make_input(model)) for model in models]
    wrong = []

    def work(index):
        for _ in range(5):
            found = solve(models[index], make_input(models[index]))
            wrong.extend(name for name in found if not torch.equal(found[name], expected[index][name]))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# ---------------------------------------------------------------------- when it steps aside


def ran(model):
    return model._column_step


def test_hooks_on_parts_are_honored(sheet):
    model = make(sheet)
    x = make_input(model)
    expected = model(x)
    assert ran(model) == "fused"
    seen = []
    handle = model.block.mlp.fc1.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    torch.testing.assert_close(model(x), expected)
    assert len(seen) == model.steps
    assert ran(model) == "plain (hooks on its parts)"
    handle.remove()
    assert torch.equal(model(x), expected)


class Louder(torch.nn.Module):
    def __init__(self, linear):
        super().__init__()
        self.linear = linear

    def forward(self, x):
        return 2 * self.linear(x)


def test_parts_may_be_replaced(sheet):
    model = make(sheet)
    x = make_input(model)
    before = model(x)
    model.block.mlp.fc2 = Louder(model.block.mlp.fc2)
    assert not torch.allclose(model(x), before)
    assert ran(model) == "plain (parts of other types)"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"backend": "reference"}, "plain (attention backend reference)"),
        ({"untied": ("norm", "mlp")}, "plain (tied weights)"),
        ({"value_projection": True}, "plain (value projection)"),
    ],
)
def test_reasons_for_the_plain_path(sheet, options, reason):
    model = make(sheet, **options)
    model(make_input(model))
    assert ran(model) == reason
    assert reason in repr(model)


def test_double_and_autocast_take_the_plain_path(sheet):
    model = make(sheet, backend="auto")
    x = make_input(model)
    with torch.autocast("cpu", torch.bfloat16):
        model(x)
    assert ran(model) == "plain (autocast)"
    model.double()(x.double())
    assert ran(model) == "plain (attention backend reference)"


def test_recording_attention_gives_the_same_numbers(sheet):
    model = make(sheet)
    x = make_input(model)
    fused, recorded = model.unroll(x), model.unroll(x, record=("attention",))
    torch.testing.assert_close(recorded.state, fused.state)
    torch.testing.assert_close(recorded.wiring_cost, fused.wiring_cost)


def test_repr_says_which_path_ran(sheet):
    model = make(sheet)
    assert "column_step" not in repr(model)
    model(make_input(model))
    assert "column_step=fused" in repr(model)
