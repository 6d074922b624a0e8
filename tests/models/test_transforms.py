"""Transforms of torch.func, forward mode, and gradients of gradients: right by every road, or refused."""

from __future__ import annotations

import copy

import pytest
import torch
from small_models import FAST, KINDS, SIZES, exact, make, make_input, make_vision, same
from torch.autograd import forward_ad
from torch.func import functional_call

import colgraph as cg
from colgraph.models import Columnformer
from colgraph.ops import sheet_attention


@pytest.fixture(params=list(KINDS))
def model(request, sheet):
    return make(sheet, **KINDS[request.param])


def test_forward_mode(model):
    x = make_input(model)
    along = torch.randn_like(x)
    truth = torch.func.jvp(exact(model), (x.double(),), (along.double(),))[1]
    assert float(truth.detach().norm()) > 1
    same(torch.func.jvp(model, (x,), (along,))[1], truth)
    with forward_ad.dual_level():
        out = model(forward_ad.make_dual(x, along))
        same(forward_ad.unpack_dual(out).tangent, truth)
    model(x).sum().backward()  # nothing is left behind


def test_forward_mode_in_a_parameter(sheet):
    model = make(sheet)
    x, parameters = make_input(model), dict(model.named_parameters())
    for name in ("block.attention.edge_bias", "block.attention.key.weight"):
        along = torch.randn_like(parameters[name])
        with forward_ad.dual_level():
            given = {name: forward_ad.make_dual(parameters[name].detach(), along)}
            tangent = forward_ad.unpack_dual(functional_call(model, given, (x,))).tangent
        truth = torch.autograd.functional.jvp(
            lambda value, name=name: functional_call(exact(model), {name: value}, (x.double(),)),
            parameters[name].detach().double(),
            along.double(),
        )[1]
        same(tangent, truth)


def test_jacobians_by_every_road(sheet):
    model = make(sheet, steps=1)
    x = make_input(model, 1)

    def first(x, model=model):
        return model(x)[:2].sum((1, 2))

    judge = exact(model)
    truth = torch.func.jacrev(lambda x: first(x, judge))(x.double())
    for jacobian in (
        torch.func.jacrev(first)(x),
        torch.func.jacfwd(first)(x),
        torch.autograd.functional.jacobian(first, x),
        torch.autograd.functional.jacobian(first, x, vectorize=True),
        torch.autograd.functional.jacobian(first, x, vectorize=True, strategy="forward-mode"),
    ):
        same(jacobian, truth)


def test_gradients_of_each_sample(model):
    x = make_input(model, 3)
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(values, one):
        return functional_call(model, values, (one.unsqueeze(1),)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 1))(parameters, x)
    judge = exact(model)
    judge(x.double()).square().sum().backward()
    for name, parameter in judge.named_parameters():
        same(each[name].sum(0), parameter.grad, 1e-3)
    copy.deepcopy(model)


def test_hessians(sheet):
    model = make(sheet, steps=1, dim=2, num_heads=1, qk_dim=2, mlp_dim=2)
    x = make_input(model, 1)

    def loss(x, model=model):
        return model(x).square().sum()

    judge = exact(model)
    truth = torch.func.hessian(lambda x: loss(x, judge))(x.double()).detach()
    assert float(truth.norm()) > 1
    for hessian in (
        torch.autograd.functional.hessian(loss, x),
        torch.autograd.functional.hessian(loss, x, vectorize=True),
        torch.func.hessian(loss)(x),
    ):
        same(hessian, truth, 1e-3)


def test_second_derivatives_by_every_nesting(model):
    """Torch's own LayerNorm is wrong here: what its forward mode leaves out is what a mode around it differentiates."""
    x = make_input(model)
    along = torch.randn_like(x)
    jvp, grad, judge = torch.func.jvp, torch.func.grad, exact(model)

    def loss(x, model=model):
        return model(x).pow(3).sum()

    truth = torch.autograd.functional.hvp(lambda x: loss(x, judge), x.double(), along.double())[1]
    assert float(truth.norm()) > 1
    same(grad(lambda x: jvp(loss, (x,), (along,))[1])(x), truth, 1e-3)
    same(jvp(grad(loss), (x,), (along,))[1], truth, 1e-3)
    twice = jvp(lambda x: jvp(loss, (x,), (along,))[1], (x,), (along,))[1]
    same(twice, (truth * along).sum(), 1e-3)
    with forward_ad.dual_level():
        leaf = x.clone().requires_grad_()
        tangent = forward_ad.unpack_dual(loss(forward_ad.make_dual(leaf, along))).tangent
        same(torch.autograd.grad(tangent, leaf)[0], truth, 1e-3)


def test_second_derivatives_of_a_vision_model():
    net = make_vision()
    images = torch.randn(2, 3, 4, 4)
    along = torch.randn_like(images)

    def loss(images):
        return net(images).pow(3).sum()

    truth = torch.autograd.functional.hvp(loss, images, along)[1]
    assert float(truth.norm()) > 0.1
    same(torch.func.grad(lambda x: torch.func.jvp(loss, (x,), (along,))[1])(images), truth, 1e-3)


def test_layouts_and_models_made_under_transforms(random_sheet):
    """What is made there belongs to no transform: it is used, copied and saved afterwards."""
    query = torch.randn(12, 2, 1, 3)
    for transform in (torch.func.grad, torch.func.jacfwd, torch.func.hessian, torch.func.vmap):
        sheet, models = random_sheet(), []

        def total(x, sheet=sheet, models=models):
            models.append(Columnformer(sheet, **SIZES))
            models[0].layout.to("cpu")
            return sheet_attention(x, x, x, None, sheet.layout)[0].square().sum()

        found = transform(total)(query if transform is not torch.func.vmap else query[None])
        assert torch.isfinite(found).all()
        same(sheet.layout.walk, random_sheet().layout.walk)
        copy.deepcopy(sheet.layout)
        models[0](make_input(models[0])).sum().backward()
        copy.deepcopy(models[0])


def test_steps_that_are_recomputed(sheet):
    """Torch's checkpoints take no part in transforms: states are kept there."""
    plain, model = make(sheet), make(sheet, recompute="steps")
    x = make_input(model)
    along = torch.randn_like(x)
    for transform in (
        lambda model: torch.func.grad(lambda x: model(x).square().sum())(x),
        lambda model: torch.func.jacrev(lambda x: model(x).sum((1, 2)))(x),
        lambda model: torch.func.grad(lambda x: torch.func.jvp(model, (x,), (along,))[1].sum())(x),
    ):
        same(transform(model), transform(plain))


def test_hessian_vector_product_with_the_level_around_the_backward_pass_only(sheet):
    """The forward pass does not see the tangent that comes in with the gradient."""
    model = make(sheet)
    x = make_input(model).requires_grad_()
    out = model(x)
    along = torch.randn_like(out)
    with forward_ad.dual_level():
        (grad,) = torch.autograd.grad(out, x, forward_ad.make_dual(torch.zeros_like(out), along))
        tangent = forward_ad.unpack_dual(grad).tangent
    truth = torch.autograd.grad(model(x), x, along)[0]
    same(tangent, truth)


def by_dual_tensors(function, x):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(function(forward_ad.make_dual(x, x))).tangent


TRANSFORMS = {
    "jvp": lambda function, x: torch.func.jvp(function, (x,), (x,)),
    "grad": lambda function, x: torch.func.grad(lambda x: function(x).sum())(x),
    "vmap": lambda function, x: torch.func.vmap(function, in_dims=1)(x.unsqueeze(2)),
    "dual": by_dual_tensors,
}


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("transform", list(TRANSFORMS))
def test_a_named_fast_backend_is_refused_in_one_line(sheet, backend, transform):
    model = make(sheet, backend=backend)
    x = make_input(model)
    with pytest.raises(ValueError, match="take backend='reference' or 'auto'") as error:
        TRANSFORMS[transform](model, x)
    assert "\n" not in str(error.value)
    model(x).sum().backward()


@pytest.mark.parametrize("kind", list(KINDS))
def test_an_ensemble_in_one_call(sheet, kind):
    models = [make(sheet, seed=seed, inject="every", **KINDS[kind]) for seed in range(3)]
    x = make_input(models[0])
    state = torch.func.stack_module_state(models)
    base = copy.deepcopy(models[0]).to("meta")
    together = torch.func.vmap(lambda *state: functional_call(base, state, (x,)))(*state)
    for model, found in zip(models, together):
        same(found, model(x), 1e-5)


@pytest.mark.parametrize("backend", ["reference", *FAST])
def test_second_derivatives_of_the_operator(sheet, backend):
    layout = sheet.layout
    n, e = layout.num_columns, layout.num_edges
    generator = torch.Generator().manual_seed(3)
    shapes = ((n, 1, 2, 3), (n, 1, 2, 3), (n, 1, 2, 2), (e, 2))
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    cost = sheet.edge_distance.double()
    results = []
    for kind, name in ((torch.float64, "reference"), (torch.float32, backend)):
        leaves = [value.to(kind).requires_grad_() for value in inputs]
        out, spent = sheet_attention(*leaves, layout, edge_cost=cost.to(kind), backend=name)
        loss = out.square().sum() + spent.square().sum()
        grads = torch.autograd.grad(loss, leaves, create_graph=True)
        results.append(torch.autograd.grad(sum(grad.square().sum() for grad in grads), leaves))
    for truth, found in zip(*results, strict=True):
        same(found, truth, 1e-3)


def test_gradgradcheck():
    layout = cg.build_sheet("ring", columns=4, neighbors="knn:2").layout
    q, k, v = (torch.randn(4, 1, 1, 2, dtype=torch.float64, requires_grad=True) for _ in range(3))
    bias = torch.randn(layout.num_edges, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda *given: sheet_attention(*given, layout)[0], (q, k, v, bias))
