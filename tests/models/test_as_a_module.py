"""A model is a torch module like any other: hooks, parametrizations, copies, devices, tracing, options."""

from __future__ import annotations

import copy
import dataclasses
import io
import itertools
import json
import pickle

import numpy as np
import pytest
import torch
from small_models import FAST, KINDS, SIZES, make, make_input, make_vision, same
from torch import nn

import colgraph as cg
from colgraph.layout import Layout
from colgraph.models import Columnformer, VisionColumnformer
from colgraph.nn import ColumnBlock, ColumnLinear, SheetAttention
from colgraph.options import ColumnformerOptions


@pytest.fixture(params=list(KINDS))
def model(request, sheet):
    return make(sheet, **KINDS[request.param])


# ---------------------------------------------------------------------- torch's other tools


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed(model, reentrant):
    x = make_input(model).requires_grad_()
    (expected,) = torch.autograd.grad(model(x).square().sum(), x)
    loss = torch.utils.checkpoint.checkpoint(model, x, use_reentrant=reentrant).square().sum()
    loss.backward()
    same(x.grad, expected, 1e-5)


def test_what_is_saved_may_go_elsewhere(model):
    x = make_input(model).requires_grad_()
    (expected,) = torch.autograd.grad(model(x).square().sum(), x)
    with torch.autograd.graph.save_on_cpu():
        loss = model(x).square().sum()
    loss.backward()
    assert torch.equal(x.grad, expected)


def test_under_anomaly_detection(model):
    x = make_input(model).requires_grad_()
    with torch.autograd.set_detect_anomaly(True):
        model(x).sum().backward()
    assert bool(x.grad.isfinite().all())


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


def test_parametrized_weights_are_used(sheet):
    for kind, part in (("untied", "fc1"), ("shared", "fc1.shared"), ("shared", "fc1.difference"), ("tied", "fc1")):
        model = make(sheet, **KINDS[kind])
        x, module = make_input(model), model.block.mlp.get_submodule(part)
        twice = copy.deepcopy(model)
        with torch.no_grad():
            twice.block.mlp.get_submodule(part).weight.mul_(2)
        nn.utils.parametrize.register_parametrization(module, "weight", Doubled())
        same(model(x), twice(x), 1e-5)
        model(x).sum().backward()
        assert module.parametrizations.weight.original.grad is not None


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weight_norm_keeps_the_function_and_learns(sheet, norm):
    model = make(sheet)
    x = make_input(model)
    before = model(x)
    norm(model.block.mlp.fc1)
    for _ in range(2):
        model.zero_grad()
        out = model(x)
        same(out, before, 1e-5)
        out.square().sum().backward()
    assert sum(parameter.grad is not None for parameter in model.block.mlp.fc1.parameters()) == 3


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_hooks_that_can_never_run_are_refused(sheet):
    model = make(sheet, **KINDS["shared"])
    model.block.mlp.fc1.shared.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="put them on the whole"):
        model(make_input(model))


# ---------------------------------------------------------------------- hooks

BLOCK_PARTS = ["", "attention", "attention.query", "mlp", "mlp.fc2", "norm1"]


@pytest.mark.parametrize("part", BLOCK_PARTS)
def test_hooks_see_tensors_and_may_change_them(model, part):
    x = make_input(model)
    before = model(x)
    seen = []

    def hook(_, inputs, output):
        seen.append(output)
        return output * 1.5

    handle = model.block.get_submodule(part).register_forward_hook(hook)
    after = model(x)
    assert all(isinstance(output, torch.Tensor) for output in seen)
    assert len(seen) == model.steps
    assert not torch.allclose(before, after)
    handle.remove()
    assert torch.equal(model(x), before)


def test_hooks_of_every_kind_fire(sheet):
    model = make(sheet)
    x = make_input(model).requires_grad_()
    fired = []
    mlp, module = model.block.mlp, nn.modules.module
    registered = {
        "pre": lambda hook: mlp.register_forward_pre_hook(hook),
        "backward": lambda hook: mlp.register_full_backward_hook(hook),
        "backward pre": lambda hook: mlp.register_full_backward_pre_hook(hook),
        "global": lambda hook: module.register_module_forward_hook(hook),
        "global pre": lambda hook: module.register_module_forward_pre_hook(hook),
        "global backward": lambda hook: module.register_module_full_backward_hook(hook),
    }
    for name, register in registered.items():
        handle = register(lambda which, *_, name=name: fired.append(name) if which is mlp else None)
        model(x).sum().backward()
        handle.remove()
        assert fired.count(name) == model.steps, name
    mlp.forward = lambda x: torch.zeros_like(x)
    assert not torch.allclose(model(x), make(sheet)(x))


def test_hooks_on_messages_fire_or_are_refused(sheet):
    seen = []
    for backend in ("auto", "reference"):
        model = make(sheet, backend=backend)
        x = make_input(model)
        expected = model(x)
        model.block.attention.register_message_forward_hook(lambda _, inputs, out: seen.append(out.shape))
        same(model(x), expected, 1e-5)
        assert len(seen) == model.steps
        seen.clear()
    for backend in FAST:
        model = make(sheet, backend=backend)
        model.block.attention.register_propagate_forward_hook(lambda *_: None)
        with pytest.raises(ValueError, match="makes no messages"):
            model(x)


def test_an_explainers_edge_mask_counts(sheet):
    from torch_geometric.explain.algorithm.utils import clear_masks, set_masks

    model = make(sheet, steps=1)
    x, edges = make_input(model), sheet.edge_index
    before = model(x)
    mask = torch.zeros(edges.size(1), requires_grad=True)
    set_masks(model, nn.Parameter(mask.detach()), edges, apply_sigmoid=False)
    deaf = model(x)
    assert not torch.allclose(deaf, before)
    clear_masks(model)
    assert torch.equal(model(x), before)


class Louder(SheetAttention):
    def message(self, query_i, key_j, value_j, edge_bias, edge_cost, index, size_i):
        return 2 * super().message(query_i, key_j, value_j, edge_bias, edge_cost, index, size_i)


def test_a_subclass_with_messages_of_its_own(sheet):
    quiet = SheetAttention(6, 2, 3, sheet.num_columns)
    loud = Louder(6, 2, 3, sheet.num_columns)
    loud.load_state_dict(quiet.state_dict())
    x = torch.randn(sheet.num_columns, 2, 6)
    same(loud(x, sheet.layout), 2 * quiet(x, sheet.layout), 1e-5)


def test_a_block_and_an_attention_return_the_cost_where_it_is_asked_for(sheet):
    model, x = make(sheet), torch.randn(sheet.num_columns, 2, 6)
    for part in (model.block, model.block.attention):
        alone = part(x, sheet.layout)
        out, cost = part(x, sheet.layout, sheet.edge_distance)
        same(out, alone, 1e-6)
        assert cost.shape == (sheet.num_columns, 2, 2)


# ---------------------------------------------------------------------- inference, copies, other places


@pytest.mark.parametrize("kind", list(KINDS))
def test_training_after_inference_mode(sheet, kind):
    trained, other = (make(sheet, **KINDS[kind]) for _ in range(2))
    x = make_input(trained)
    with torch.inference_mode():
        trained(x)
        trained.unroll(x, record=("state", "attention"))
    for each in (trained, other):
        each(x).square().sum().backward()
    for mine, theirs in zip(trained.parameters(), other.parameters()):
        assert torch.equal(mine.grad, theirs.grad)


def test_built_under_inference_mode(random_sheet):
    for options in KINDS.values():
        torch.manual_seed(0)
        with torch.inference_mode():
            sheet = random_sheet()
            model = Columnformer(sheet, **SIZES, **options)
            model(make_input(model))
        model(make_input(model)).sum().backward()
        assert not any(p.is_inference() for p in itertools.chain(model.parameters(), model.buffers()))


def replica(model):
    """What ``torch.nn.parallel.replicate`` makes, which needs GPUs: parameters are plain attributes there."""
    copies = {module: module._replicate_for_data_parallel() for module in model.modules()}
    for module, other in copies.items():
        for name, child in module._modules.items():
            other._modules[name] = copies.get(child)
        for name, parameter in module._parameters.items():
            setattr(other, name, None if parameter is None else parameter.view_as(parameter))
    return copies[model]


def test_copies_of_every_kind(model):
    x = make_input(model)
    expected = model(x)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(buffer, weights_only=False)]
    copies += [copy.deepcopy(model).share_memory(), replica(model)]
    for each in copies:
        assert torch.equal(each(x), expected)


def test_shared_memory_after_it_has_run(model):
    """Tensors are moved in place then, and so they are where a model goes to another process."""
    x = make_input(model)
    expected = model(x)
    tables = [layout.walk for layout in model.modules() if isinstance(layout, Layout)]
    model.share_memory()
    kept = [torch.full_like(table, 2**40) for table in tables for _ in range(200)]  # over what is free now
    assert torch.equal(model(x), expected)
    assert len(kept) >= 200


def test_on_the_meta_device(model):
    state, x = model.state_dict(), make_input(model)
    expected = model(x)
    with torch.device("meta"):
        empty = Columnformer(model.sheet, **model.options.arguments())
    assert all(tensor.is_meta for tensor in itertools.chain(empty.parameters(), empty.buffers()))
    assert empty(x.to("meta")).shape == expected.shape
    assert copy.deepcopy(model).to("meta")(x.to("meta")).is_meta
    filled, refilled = (copy.deepcopy(each).to_empty(device="cpu") for each in (empty, model))
    assigned = copy.deepcopy(empty)
    assigned.load_state_dict(state, assign=True)
    for each in (filled, refilled, assigned):
        each.load_state_dict(state)
        assert torch.equal(each(x), expected)
        assert torch.equal(each.unroll(x).wiring_cost, model.unroll(x).wiring_cost)


def test_a_vision_model_on_the_meta_device():
    net = make_vision()
    images = torch.randn(2, 3, 4, 4)
    with torch.device("meta"):
        empty = VisionColumnformer(Columnformer(net.model.sheet, **SIZES), image_size=4, patch_size=2, num_classes=3)
    assert empty(images.to("meta")).shape == (2, 3)
    filled = copy.deepcopy(empty).to_empty(device="cpu")
    filled.load_state_dict(net.state_dict())
    empty.load_state_dict(net.state_dict(), assign=True)
    for each in (filled, empty):
        assert torch.equal(each(images), net(images))


def test_default_dtype_and_device(sheet):
    x = torch.randn(3, 2, 6, dtype=torch.float64)
    torch.set_default_dtype(torch.float64)
    try:
        model = make(sheet)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    unroll = model.unroll(x)
    assert unroll.state.dtype == unroll.wiring_cost.dtype == torch.float64
    torch.set_default_device("meta")
    try:
        model = Columnformer(sheet, **SIZES)
    finally:
        torch.set_default_device(None)
    assert model(x.float().to("meta")).is_meta


# ---------------------------------------------------------------------- compiled, exported, traced


@pytest.mark.parametrize("kind", ["untied", "tied"])
def test_compiled_whole_and_for_every_batch(sheet, kind):
    model = make(sheet, **KINDS[kind])
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=True)
    for batch in (2, 5):
        x = make_input(model, batch)
        same(compiled(x), model(x), 1e-5)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("inject", ["first", "every", "sequence"])
def test_traced(sheet, inject):
    for options in KINDS.values():
        model = make(sheet, inject=inject, **options)
        x = make_input(model)
        for backend in FAST:
            named = make(sheet, inject=inject, backend=backend, **options)
            same(torch.jit.trace(named, (x,))(make_input(model, 3)), named(make_input(model, 3)), 1e-5)
        traced = torch.jit.trace(model, (x,))
        for batch in (2, 5, 1):
            same(traced(make_input(model, batch)), model(make_input(model, batch)), 1e-5)
        with pytest.raises(ValueError, match="x must have shape"):
            torch.jit.trace(model, (x[..., :2, :, :],))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_traced_vision_model_is_a_file_for_elsewhere():
    net = make_vision()
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(net, (torch.randn(2, 3, 4, 4),)), buffer)
    buffer.seek(0)
    traced = torch.jit.load(buffer)
    # Exporters to ONNX make of index_add what keeps one of several rows.
    assert not any(name in str(traced.inlined_graph) for name in ("colgraph::", "aten::index_add"))
    images = torch.randn(5, 3, 4, 4)
    same(traced(images), net(images), 1e-5)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_written_as_onnx_by_the_older_exporter(sheet):
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    model = make(sheet, inject="every")
    buffer = io.BytesIO()
    options = {"dynamo": False, "input_names": ["x"], "dynamic_axes": {"x": {1: "batch"}}}
    torch.onnx.export(model, (make_input(model),), buffer, **options)
    runtime = ReferenceEvaluator(onnx.load_from_string(buffer.getvalue()))
    for batch in (2, 5):
        x = make_input(model, batch)
        same(torch.from_numpy(runtime.run(None, {"x": x.numpy()})[0]), model(x), 1e-4)
    for backend in FAST:
        with pytest.raises(ValueError, match="its operator is none of ONNX's"):
            torch.onnx.export(make(sheet, backend=backend), (make_input(model),), io.BytesIO(), **options)


@pytest.mark.parametrize("kind", list(KINDS))
def test_exported_for_every_batch(sheet, kind):
    model = make(sheet, **KINDS[kind])
    x = make_input(model)
    program = torch.export.export(model, (x,), dynamic_shapes=({1: torch.export.Dim("batch", min=2, max=64)},))
    for batch in (2, 7):
        x = make_input(model, batch)
        same(program.module()(x), model(x), 1e-5)


# ---------------------------------------------------------------------- options


def test_options_from_numpy(sheet):
    plain = {"dim": 8, "steps": 2, "num_heads": 2, "qk_dim": 3, "mlp_dim": 5, "value_projection": True}
    plain |= {"locality_sigma": 0.5, "wiring_power": 2.0, "inject": "every", "untied": ["norm", "mlp"]}
    given = {
        **{name: np.int64(plain[name]) for name in ("dim", "steps", "num_heads", "qk_dim")},
        "mlp_dim": torch.tensor(5),
        "value_projection": np.bool_(True),
        "locality_sigma": np.float32(0.5),
        "wiring_power": np.longdouble(2),
        "inject": np.str_("every"),
        "untied": np.array(["norm", "mlp"]),
    }
    torch.manual_seed(0)
    model = Columnformer(sheet, **given)
    torch.manual_seed(0)
    other = Columnformer(sheet, **plain)
    assert json.dumps(model.options.arguments()) == json.dumps(other.options.arguments())
    assert all(type(value) in (bool, int, float, str, type(None)) for value in model.options.arguments().values())
    x = torch.randn(3, 2, 8)
    assert torch.equal(model(x), other(x))
    assert torch.equal(model.unroll(x, steps=np.int32(3)).state, other.unroll(x, steps=3).state)
    net = VisionColumnformer(
        make_vision().model, np.array([4, 4]), np.int16(2), np.int64(3), np.int8(3), np.str_("mean")
    )
    assert json.loads(json.dumps(dataclasses.asdict(net.options)))["image_size"] == [4, 4]
    assert type(ColumnLinear(np.int64(3), np.int64(2), np.int64(4)).in_features) is int
    options = ColumnformerOptions(dim=np.int64(4), num_heads=np.int64(2))
    assert type(ColumnBlock(np.int64(3), options).attention.num_heads) is int


@pytest.mark.parametrize("name", ["value_projection", "attention_residual", "position_embedding", "time_embedding"])
def test_flags_are_flags(sheet, name):
    with pytest.raises(ValueError, match=f"{name} must be true or false, got 'no'"):
        Columnformer(sheet, **{name: "no"})


def test_costs_that_are_no_numbers(sheet):
    for power in (float("nan"), float("inf"), "2", None, True):
        with pytest.raises(ValueError, match="wiring_power must be a finite number, got"):
            Columnformer(sheet, wiring_power=power)
    with pytest.raises(ValueError, match=r"wiring_power=-1 .* of length 0: a power of at least 0"):
        Columnformer(sheet, wiring_power=-1)
    far = cg.Sheet.from_edges(torch.tensor([[0], [1]]), 2, edge_distance=[1e10], spacing=1.0)
    with pytest.raises(ValueError, match=r"wiring_power=4 .* a smaller power"):
        Columnformer(far, wiring_power=4)
    assert float(Columnformer(far, wiring_power=-1).edge_cost) == pytest.approx(1e-10)
