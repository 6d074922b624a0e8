"""Shapes, names, time, recording, checkpoints and messages of the columnformer."""

from __future__ import annotations

import inspect

import pytest
import torch

from colgraph.describe import DEFAULT_SIZES, default_parameters
from colgraph.models import Columnformer, SheetMismatchError
from colgraph.ops import resolve_backend
from colgraph.sheet import Sheet


def make(sheet: Sheet, **options) -> Columnformer:
    return Columnformer(sheet, **({"dim": 6, "steps": 3, "qk_dim": 4, "mlp_dim": 5, "backend": "reference"} | options))


def test_parameter_names_and_shapes(sheet):
    n, e = sheet.num_columns, sheet.edge_index.size(1)
    state = make(sheet, num_heads=2, value_projection=True).state_dict()
    expected = {
        "block.norm1.weight": (n, 6),
        "block.norm1.bias": (n, 6),
        "block.attention.query.weight": (n, 8, 6),
        "block.attention.query.bias": (n, 8),
        "block.attention.key.weight": (n, 8, 6),
        "block.attention.key.bias": (n, 8),
        "block.attention.value.weight": (n, 6, 6),
        "block.attention.value.bias": (n, 6),
        "block.attention.output.weight": (n, 6, 6),
        "block.attention.output.bias": (n, 6),
        "block.attention.edge_bias": (e, 2),
        "block.norm2.weight": (n, 6),
        "block.norm2.bias": (n, 6),
        "block.mlp.fc1.weight": (n, 5, 6),
        "block.mlp.fc1.bias": (n, 5),
        "block.mlp.fc2.weight": (n, 6, 5),
        "block.mlp.fc2.bias": (n, 6),
        "position_embedding": (n, 6),
        "sheet_fingerprint": (32,),
        "geometry_fingerprint": (32,),
    }
    assert {name: tuple(value.shape) for name, value in state.items()} == expected
    tied = make(sheet, untied=()).state_dict()
    assert tuple(tied["block.attention.query.weight"].shape) == (4, 6)
    assert tuple(tied["block.norm2.bias"].shape) == (6,)
    assert tuple(tied["block.attention.edge_bias"].shape) == (e, 1)
    assert bytes(state["sheet_fingerprint"].tolist()).hex() == sheet.fingerprint


def test_the_reports_default_sizes_are_the_models(sheet):
    defaults = inspect.signature(Columnformer).parameters
    assert {name: defaults[name].default for name in DEFAULT_SIZES} == DEFAULT_SIZES
    parameters = sum(p.numel() for p in Columnformer(sheet).parameters())
    assert parameters == default_parameters(sheet.num_columns, sheet.edge_index.size(1))


def test_untied_names(sheet):
    assert make(sheet, untied="all").untied == ("norm", "attention", "mlp")
    assert make(sheet, untied="none").untied == ()
    assert make(sheet, untied="mlp,norm").untied == ("norm", "mlp")
    assert make(sheet, untied=["attention"]).untied == ("attention",)


def test_edge_bias_starts_local(sheet):
    model = make(sheet)
    bias = -(sheet.distance**2) / (2 * (2 * sheet.spacing) ** 2)
    torch.testing.assert_close(model.block.attention.edge_bias[:, 0].detach(), bias)
    original = make(sheet, locality_sigma=2**-0.5, edge_bias="fixed")
    torch.testing.assert_close(original.block.attention.edge_bias[:, 0], -(sheet.distance**2))
    assert "block.attention.edge_bias" in dict(original.named_buffers())
    assert make(sheet, edge_bias=None).block.attention.edge_bias is None


def test_unroll_records(sheet):
    model, x = make(sheet, num_heads=2), torch.randn(3, 4, 6)
    n, e = sheet.num_columns, sheet.edge_index.size(1)
    out = model.unroll(x, record=("state", "attention"))
    assert out.states.shape == (3, n, 4, 6)
    assert out.attention.shape == (3, e, 4, 2)
    assert torch.equal(out.state, out.states[-1])
    assert out.wiring_cost.shape == ()
    torch.testing.assert_close(out.state, model(x))
    listening = torch.zeros(n, 4, 2).index_add(0, sheet.edge_index[1], out.attention[1])
    torch.testing.assert_close(listening, torch.ones(n, 4, 2))
    cost = (out.attention * sheet.distance[None, :, None, None]).sum(1).mean() / n
    torch.testing.assert_close(out.wiring_cost, cost)
    assert model.unroll(x).states is None
    assert model.unroll(x).attention is None


def test_wiring_power(sheet):
    x = torch.randn(3, 4, 6)
    model = make(sheet, wiring_power=2)
    attention = model.unroll(x, record=("attention",)).attention
    expected = (attention * sheet.distance[None, :, None, None] ** 2).sum(1).mean() / sheet.num_columns
    torch.testing.assert_close(model.unroll(x).wiring_cost, expected)


@pytest.mark.parametrize("leak", [0.0, 0.3])
@pytest.mark.parametrize("inject", ["first", "every"])
def test_going_on_equals_never_having_stopped(sheet, inject, leak):
    model, x = make(sheet, inject=inject, leak=leak), torch.randn(3, 2, 6)
    whole = model.unroll(x, steps=7, record=("state",))
    part = model.unroll(x, steps=3)
    rest = model.unroll(x, state=part.state, steps=4, record=("state",))
    torch.testing.assert_close(rest.states, whole.states[3:])
    if inject == "first":
        torch.testing.assert_close(model.unroll(None, state=part.state, steps=4).state, whole.state)
    else:
        with pytest.raises(ValueError, match="every step"):
            model.unroll(None, state=part.state)


def test_time_embedding_counts_on(sheet):
    model = make(sheet, time_embedding=True, steps=4)
    with torch.no_grad():
        model.time_embedding.copy_(torch.randn(4, 6))
    x = torch.randn(3, 2, 6)
    half = model.unroll(x, steps=2)
    torch.testing.assert_close(model.unroll(x, state=half.state, steps=2, start=2).state, model(x))
    assert not torch.allclose(model.unroll(x, state=half.state, steps=2, start=0).state, model(x))
    longer = model.unroll(x, steps=6, record=("state",))
    torch.testing.assert_close(model.unroll(x, state=longer.states[3], steps=2).state, longer.state)


def test_sequence_input(sheet):
    model, x = make(sheet, inject="sequence"), torch.randn(3, 3, 2, 6)
    every = make(sheet, inject="every")
    every.load_state_dict(model.state_dict())
    same = x[:1].expand(3, -1, -1, -1)
    torch.testing.assert_close(model(same), every(x[0]))
    assert not torch.allclose(model(x), every(x[0]))
    assert model.unroll(torch.randn(5, 3, 2, 6), record=("state",)).states.shape[0] == 5
    with pytest.raises(ValueError, match="2 steps"):
        model(x[:2])
    with pytest.raises(ValueError, match=r"\[T, P, B, C\]"):
        model(x[0])


def test_input_at_all_columns_or_at_the_input_columns(sheet):
    model, x = make(sheet), torch.randn(3, 2, 6)
    everywhere = torch.zeros(sheet.num_columns, 2, 6)
    everywhere[sheet.inputs] = x
    torch.testing.assert_close(model(x), model(everywhere))
    deaf = Sheet.from_edges(sheet.edge_index, sheet.num_columns)
    assert make(deaf)(everywhere).shape == everywhere.shape
    with pytest.raises(ValueError, match="for all columns"):
        make(deaf)(x)


def test_input_ranks_decide_where_input_lands():
    sheet = Sheet.from_edges([[0, 1, 2], [0, 1, 2]], 3, inputs=[2, 0])
    model = make(sheet, steps=1, position_embedding=False, attention_residual=True)
    x = torch.randn(2, 1, 6)
    state = model._start(x)
    assert torch.equal(state[2], x[0])
    assert torch.equal(state[0], x[1])
    assert torch.equal(state[1], torch.zeros(1, 6))


@pytest.mark.parametrize("recompute", ["steps", "sqrt"])
@pytest.mark.parametrize(
    "options",
    [{}, {"steps": 7, "inject": "every", "leak": 0.3}, {"steps": 5, "untied": "none", "time_embedding": True}],
)
@pytest.mark.parametrize("record", [(), ("state",)])
def test_recompute_gives_the_same_gradients(sheet, recompute, options, record):
    model, x = make(sheet, **options), torch.randn(3, 2, 6)
    again = make(sheet, recompute=recompute, **options)
    again.load_state_dict(model.state_dict())
    for m in (model, again):
        out = m.unroll(x, record=record)
        (out.state.square().sum() + out.wiring_cost + (out.states[0].sum() if record else 0)).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(again.get_parameter(name).grad, parameter.grad)


def test_films_longer_than_the_steps_and_odd_starts_are_refused(sheet):
    model, film = make(sheet, inject="sequence", steps=3), torch.randn(5, 3, 2, 6)
    with pytest.raises(ValueError, match=r"has 5 steps and the model runs 3: unroll\(x\) runs as many as there are"):
        model(film)
    torch.testing.assert_close(model(film[:3]), model.unroll(film[:3]).state)
    model, x = make(sheet, time_embedding=True), torch.randn(3, 2, 6)
    state = model.unroll(x).state
    for start in (-1, 1.5, True):
        with pytest.raises(ValueError, match="start is the number of steps that a state has behind it, 0 or more"):
            model.unroll(x, state=state, steps=1, start=start)
    with pytest.raises(ValueError, match="got 2 without a state"):
        model.unroll(x, start=2)


def test_loading_onto_another_graph_says_so(sheet, random_sheet):
    model = make(sheet)
    other = make(random_sheet(seed=1))
    for strict in (True, False):
        with pytest.raises(SheetMismatchError, match="another graph"):
            other.load_state_dict(model.state_dict(), strict=strict)
    ends = {"edge_index": sheet.edge_index, "num_columns": sheet.num_columns, "edge_distance": sheet.edge_distance}
    ends |= {"pos": sheet.pos, "outputs": sheet.outputs}
    same = make(Sheet.from_edges(**ends, inputs=sheet.inputs))
    same.load_state_dict(model.state_dict())
    with pytest.raises(SheetMismatchError, match="learned with other input columns than this model's sheet has"):
        make(Sheet.from_edges(**ends, inputs=sheet.inputs.flip(0))).load_state_dict(model.state_dict())
    with pytest.warns(UserWarning, match="learned with other output columns"):
        make(Sheet.from_edges(**{**ends, "outputs": [0]}, inputs=sheet.inputs)).load_state_dict(model.state_dict())
    older = dict(model.state_dict())  # as older versions wrote it, and safetensors do
    make(Sheet.from_edges(**ends, inputs=sheet.inputs.flip(0))).load_state_dict(older)
    assert issubclass(SheetMismatchError, ValueError)
    assert issubclass(SheetMismatchError, RuntimeError)


def test_loading_onto_other_positions_warns(sheet):
    model = make(sheet)
    moved = Sheet.from_edges(sheet.edge_index, sheet.num_columns, pos=sheet.pos + 1, inputs=sheet.inputs)
    other = make(moved)
    with pytest.warns(UserWarning, match="other positions"):
        other.load_state_dict(model.state_dict())
    assert bytes(other.geometry_fingerprint.tolist()).hex() == moved.geometry_fingerprint
    with torch.device("meta"), pytest.warns(UserWarning, match="other positions"):
        other.load_state_dict(model.state_dict())
    assert bytes(other.geometry_fingerprint.tolist()).hex() == moved.geometry_fingerprint


def test_two_models_share_a_sheet(sheet):
    first, second = make(sheet), make(sheet)
    first.double()
    x = torch.randn(3, 2, 6)
    assert first(x.double()).dtype == torch.float64
    assert second(x).dtype == torch.float32
    assert sheet.edge_index.device.type == "cpu"


def test_autocast(sheet):
    model, x = make(sheet), torch.randn(3, 2, 6)
    with torch.autocast("cpu", torch.bfloat16):
        out = model.unroll(x)
    (out.state.float().sum() + out.wiring_cost).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 7, "num_heads": 2}, "dim 7 is not divisible by num_heads=2"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"qk_dim": 2.5}, r"qk_dim .* got 2\.5"),
        ({"untied": ("norms",)}, "did you mean 'norm'"),
        ({"edge_bias": "learn"}, "did you mean 'learned'"),
        ({"inject": "last"}, "inject must be one of"),
        ({"backend": "nunba"}, "did you mean 'numba'"),
        ({"locality_sigma": 0.0}, "locality_sigma must be greater than 0"),
        ({"recompute": "step"}, "must be one of 'steps', 'sqrt'.*did you mean 'steps'"),
    ],
)
def test_bad_options(sheet, options, message):
    with pytest.raises(ValueError, match=message):
        make(sheet, **options)


def test_bad_inputs(sheet):
    model = make(sheet)
    with pytest.raises(ValueError, match=r"colgraph\.Sheet"):
        Columnformer("sphere")
    with pytest.raises(ValueError, match=r"\[3, B, 6\].*got \[4, 2, 6\]"):
        model(torch.randn(4, 2, 6))
    with pytest.raises(ValueError, match="state must have shape"):
        model.unroll(None, state=torch.randn(3, 2, 6))
    with pytest.raises(ValueError, match="did you mean 'state'"):
        model.unroll(torch.randn(3, 2, 6), record=("states",))
    with pytest.raises(ValueError, match="an input x or a state"):
        model.unroll(None)


def test_repr_names_the_backend(sheet):
    model = make(sheet, backend="auto")
    assert f"backend=auto ({resolve_backend('auto', torch.device('cpu'), torch.float32)})" in model.extra_repr()
    assert "backend=auto (reference)" in repr(model.double())
    assert "backend=reference" in make(sheet).extra_repr()
    assert f"columns={sheet.num_columns}" in repr(model)
