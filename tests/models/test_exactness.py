"""The special cases that must hold exactly, in float64, outputs and all gradients."""

from __future__ import annotations

import itertools

import pytest
import torch
from dense import dense_columnformer
from torch.func import functional_call
from torch.nn import functional as F

from colgraph.models import Columnformer
from colgraph.ops import sheet_attention
from colgraph.sheet import Sheet


def randomised(model: Columnformer, seed: int = 0) -> Columnformer:
    """Double precision, every parameter away from its special starting value."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def inputs_like(model: Columnformer, batch: int = 3, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(model.inputs.numel(), batch, model.dim, generator=generator, dtype=torch.float64)


def compare_with_dense(model: Columnformer, sheet: Sheet, assert_same, heads: int = 1, residual: bool = True) -> None:
    model = randomised(model)
    names = [name for name, _ in model.named_parameters()]
    buffers = {"block.attention.edge_bias": model.block.attention.edge_bias}
    fixed = {k: v.double() for k, v in buffers.items() if k not in names and v is not None}
    distance = torch.zeros(sheet.num_columns, sheet.num_columns, dtype=torch.float64)
    distance[sheet.edge_index[1], sheet.edge_index[0]] = sheet.edge_distance.double()

    def sparse(leaves):
        parameters = {name: leaves[name] for name in names}
        out = functional_call(model, parameters, (leaves["x"],))
        unrolled = Functional(model, parameters).unroll(leaves["x"])
        torch.testing.assert_close(out, unrolled.state, rtol=0, atol=1e-12)
        return unrolled.state, unrolled.wiring_cost

    def dense(leaves):
        state = {**{name: leaves[name] for name in names}, **fixed}
        return dense_columnformer(
            state,
            leaves["x"],
            sheet.inputs,
            sheet.edge_index,
            distance,
            model.steps,
            heads,
            residual,
            model.inject == "every",
            model.leak,
        )

    assert_same(sparse, dense, {**dict(model.named_parameters()), "x": inputs_like(model)})


class Functional:
    """``model.unroll`` with other parameters (functional_call reaches only ``forward``)."""

    def __init__(self, model: Columnformer, parameters: dict[str, torch.Tensor]) -> None:
        self.model, self.parameters = model, parameters

    def unroll(self, x: torch.Tensor):
        wrapper = _Unroll(self.model)
        return functional_call(wrapper, {f"model.{name}": value for name, value in self.parameters.items()}, (x,))


class _Unroll(torch.nn.Module):
    def __init__(self, model: Columnformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor):
        return self.model.unroll(x)


@pytest.mark.parametrize(
    "untied", [subset for r in range(4) for subset in itertools.combinations(("norm", "attention", "mlp"), r)]
)
def test_complete_graph_is_the_dense_model(untied, complete_sheet, assert_same):
    sheet = complete_sheet()
    model = Columnformer(sheet, dim=6, steps=3, qk_dim=4, mlp_dim=5, untied=untied)
    compare_with_dense(model, sheet, assert_same)


@pytest.mark.parametrize(
    "options",
    [
        {"num_heads": 3, "value_projection": True},
        {"num_heads": 2},
        {"attention_residual": False},
        {"edge_bias": None},
        {"edge_bias": "fixed"},
        {"time_embedding": True, "inject": "every"},
        {"leak": 0.25},
        {"leak": 0.25, "inject": "every", "value_projection": True},
        {"position_embedding": False},
        {"value_projection": True, "untied": ()},
        {"recompute": "steps"},
    ],
    ids=str,
)
def test_complete_graph_is_the_dense_model_with(options, complete_sheet, assert_same):
    sheet = complete_sheet()
    model = Columnformer(sheet, dim=6, steps=2, qk_dim=4, mlp_dim=5, **options)
    compare_with_dense(model, sheet, assert_same, options.get("num_heads", 1), options.get("attention_residual", True))


@pytest.mark.parametrize("seed", range(4))
def test_any_graph_is_the_dense_model_with_a_mask(seed, random_sheet, assert_same):
    sheet = random_sheet(n=8 + seed, edges=20 + 5 * seed, seed=seed)
    model = Columnformer(sheet, dim=4, steps=3, num_heads=2, qk_dim=3, mlp_dim=5)
    compare_with_dense(model, sheet, assert_same, heads=2)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_one_tied_step_is_torchs_encoder_layer(heads, complete_sheet, assert_same):
    n, dim, hidden = 7, 8, 12
    sheet = complete_sheet(n, inputs=range(n))
    model = Columnformer(
        sheet,
        dim=dim,
        steps=1,
        num_heads=heads,
        qk_dim=dim // heads,
        mlp_dim=hidden,
        untied=(),
        value_projection=True,
        edge_bias=None,
        position_embedding=False,
    ).double()
    layer = torch.nn.TransformerEncoderLayer(
        dim, heads, hidden, dropout=0.0, activation="gelu", norm_first=True, layer_norm_eps=1e-5
    ).double()

    def ours(leaves):
        parameters = {name: leaves[name] for name, _ in model.named_parameters()}
        return functional_call(model, parameters, (leaves["x"],))

    def theirs(leaves):
        p = {name.removeprefix("block."): leaves[name] for name, _ in model.named_parameters()}
        parts = ("query", "key", "value")
        parameters = {
            "self_attn.in_proj_weight": torch.cat([p[f"attention.{part}.weight"] for part in parts]),
            "self_attn.in_proj_bias": torch.cat([p[f"attention.{part}.bias"] for part in parts]),
            "self_attn.out_proj.weight": p["attention.output.weight"],
            "self_attn.out_proj.bias": p["attention.output.bias"],
            "linear1.weight": p["mlp.fc1.weight"],
            "linear1.bias": p["mlp.fc1.bias"],
            "linear2.weight": p["mlp.fc2.weight"],
            "linear2.bias": p["mlp.fc2.bias"],
        }
        for k in (1, 2):
            parameters[f"norm{k}.weight"] = p[f"norm{k}.weight"]
            parameters[f"norm{k}.bias"] = p[f"norm{k}.bias"]
        return functional_call(layer, parameters, (leaves["x"],))

    randomised(model)
    assert_same(ours, theirs, {**dict(model.named_parameters()), "x": inputs_like(model)})


@pytest.mark.parametrize("heads", [1, 3])
def test_operator_is_scaled_dot_product_attention(heads, random_sheet, assert_same):
    sheet = random_sheet(n=11, edges=40, seed=5)
    n, e = sheet.num_columns, sheet.edge_index.size(1)
    generator = torch.Generator().manual_seed(3)
    make = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    tensors = {"q": make(n, 2, heads, 5), "k": make(n, 2, heads, 5), "v": make(n, 2, heads, 4), "b": make(e, heads)}

    def sparse(t):
        return sheet_attention(t["q"], t["k"], t["v"], t["b"], sheet.layout, backend="reference")[0]

    def dense(t):
        source, target = sheet.edge_index
        mask = torch.full((heads, n, n), -torch.inf, dtype=torch.float64)
        mask = mask.index_put((torch.arange(heads)[:, None], target[None], source[None]), t["b"].T)
        q, k, v = (t[name].permute(1, 2, 0, 3) for name in "qkv")
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).permute(2, 0, 1, 3)

    assert_same(sparse, dense, tensors)


def forward_stack(width: int = 3, layers: int = 4) -> Sheet:
    """Complete edges from each layer to the next, and no others."""
    edges = [
        (layer * width + j, (layer + 1) * width + i)
        for layer in range(layers - 1)
        for i in range(width)
        for j in range(width)
    ]
    index = torch.tensor(edges).T
    label = torch.arange(layers).repeat_interleave(width)
    return Sheet.from_edges(index, width * layers, layer=label, inputs=range(width), pos=torch.rand(width * layers, 3))


def test_forward_stack_is_a_double_loop(assert_same):
    """A plain loop over steps and layers, written with dense softmax per layer."""
    width, layers, steps = 3, 4, 5
    sheet = forward_stack(width, layers)
    model = randomised(Columnformer(sheet, dim=4, steps=steps, qk_dim=3, mlp_dim=5))
    names = [name for name, _ in model.named_parameters()]

    def ours(leaves):
        return functional_call(model, {name: leaves[name] for name in names}, (leaves["x"],))

    def loop(leaves):
        part = lambda name, layer: leaves[name][layer * width : (layer + 1) * width]  # noqa: E731
        states = [part("position_embedding", layer)[:, None].expand(width, 3, 4) for layer in range(layers)]
        states[0] = states[0] + leaves["x"]
        bias = leaves["block.attention.edge_bias"].view(layers - 1, width, width)

        def norm(name, x, layer):
            scale, shift = part(f"{name}.weight", layer), part(f"{name}.bias", layer)
            return F.layer_norm(x, (4,)) * scale[:, None] + shift[:, None]

        def linear(name, x, layer):
            weight, shift = part(f"{name}.weight", layer), part(f"{name}.bias", layer)
            return torch.stack([x[i] @ weight[i].T + shift[i] for i in range(width)])

        for _ in range(steps):
            new = []
            for layer in range(layers):
                y = states[layer]
                if layer:
                    below = norm("block.norm1", states[layer - 1], layer - 1)
                    q = linear("block.attention.query", norm("block.norm1", y, layer), layer)
                    k = linear("block.attention.key", below, layer - 1)
                    score = torch.einsum("ibd,jbd->bij", q, k) / 3**0.5 + bias[layer - 1]
                    y = y + torch.einsum("bij,jbc->ibc", score.softmax(-1), below)
                hidden = F.gelu(linear("block.mlp.fc1", norm("block.norm2", y, layer), layer))
                new.append(y + linear("block.mlp.fc2", hidden, layer))
            states = new
        return torch.cat(states)

    assert_same(ours, loop, {**dict(model.named_parameters()), "x": inputs_like(model)})


def test_forward_stack_carries_input_one_layer_a_step():
    width, layers = 3, 4
    sheet = forward_stack(width, layers)
    model = randomised(Columnformer(sheet, dim=4, steps=layers, qk_dim=3, mlp_dim=5))
    x = inputs_like(model).requires_grad_()
    states = model.unroll(x, record=("state",)).states
    for t, layer in itertools.product(range(1, layers + 1), range(layers)):
        piece = states[t - 1, layer * width : (layer + 1) * width]
        (gradient,) = torch.autograd.grad(piece.square().sum(), x, retain_graph=True)
        if t < layer:
            assert torch.equal(gradient, torch.zeros_like(gradient))
        else:
            assert float(gradient.abs().max()) > 0


def test_permuting_columns_permutes_the_output(random_sheet):
    sheet = random_sheet(n=10, edges=40, seed=2)
    model = randomised(Columnformer(sheet, dim=4, steps=3, qk_dim=3, mlp_dim=5))
    old_of_new = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    new_of_old = torch.argsort(old_of_new)
    code = new_of_old[sheet.edge_index[1]] * 10 + new_of_old[sheet.edge_index[0]]
    order = torch.argsort(code)
    permuted = Sheet.from_edges(
        new_of_old[sheet.edge_index],
        10,
        edge_distance=sheet.edge_distance,
        pos=sheet.pos[old_of_new],
        inputs=new_of_old[sheet.inputs],
    )
    other = Columnformer(permuted, dim=4, steps=3, qk_dim=3, mlp_dim=5).double()
    with torch.no_grad():
        for name, target in other.named_parameters():
            source = model.get_parameter(name)
            target.copy_(source[order] if name.endswith("edge_bias") else source[old_of_new])
    x = inputs_like(model)
    torch.testing.assert_close(other(x), model(x)[old_of_new], rtol=0, atol=1e-12)
