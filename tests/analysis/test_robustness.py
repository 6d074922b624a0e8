"""Attacks, lesions and noise, against closed forms and a smaller model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bright_images import Brightness, bright_and_dark
from small_models import make_vision
from torch import nn

import colgraph as cg
import colgraph.analysis as an
from colgraph.analysis.lesions import (
    activity_noise,
    lesion_curve,
    lesion_regions,
    predict_lesioned,
    step_by_step,
)
from colgraph.analysis.nets import check_edges, predict
from colgraph.analysis.robustness import adversarial_accuracy, corruption_errors, noisy_weights, weight_noise

# ---------------------------------------------------------------------- attacks


class Linear(nn.Module):
    """Two classes by the sign of w . x + b."""

    def __init__(self, pixels=36, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.w = nn.Parameter(torch.randn(pixels, generator=generator))

    def forward(self, x):
        score = (x.flatten(1) - 0.5) @ self.w
        return torch.stack([-score, score], 1)


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_attacks_on_a_linear_network(attack):
    """An image is withstood exactly if its margin exceeds eps times the L1 norm of the weights."""
    rng = np.random.default_rng(0)
    images = (0.5 + 0.2 * rng.normal(size=(60, 1, 6, 6)).clip(-2, 2)).astype(np.float32)
    net = Linear()
    margin = ((images.reshape(60, -1) - 0.5) @ net.w.detach().numpy()).astype(float)
    labels = (margin > 0).astype(np.int64)
    epsilons = (0, 0.01, 0.03)
    result = adversarial_accuracy(
        net, images, labels, attack=attack, epsilons=epsilons, steps=12, step_size=0.01, progress=False
    )
    l1 = float(net.w.detach().abs().sum())
    assert result.accuracy == pytest.approx([(np.abs(margin) > e * l1).mean() for e in epsilons], abs=1e-9)
    assert result.null.min() > result.value, "random signs do far less"
    assert result.p_value == pytest.approx(1 / 6)


def test_attacks_need_a_module_and_leave_it_alone():
    images, labels = bright_and_dark()
    with pytest.raises(ValueError, match=r"torch\.nn\.Module"):
        adversarial_accuracy(lambda x: x, images, labels)
    with pytest.raises(ValueError, match="did you mean 'fgsm'"):
        adversarial_accuracy(Brightness(), images, labels, attack="fgms")
    net = Linear(192).train()
    state, random = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    adversarial_accuracy(net, images, labels, steps=2, draws=1, progress=False)
    assert net.training
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


def test_weight_noise_hurts_and_is_undone():
    rng = np.random.default_rng(1)
    images = (0.5 + 0.2 * rng.normal(size=(200, 1, 6, 6)).clip(-2, 2)).astype(np.float32)
    net = Linear()
    labels = predict(net, images)
    before = net.w.detach().clone()
    result = weight_noise(net, images, labels, levels=(0, 0.3, 3.0), draws=8, progress=False)
    assert result.accuracy[0] == 1
    assert result.accuracy[0] > result.accuracy[1] > result.accuracy[2]
    # Two Gaussian weight vectors of correlation r agree on a side with probability 1 - acos(r) / pi.
    expected = 1 - np.arccos(1 / np.sqrt(1 + 0.3**2)) / np.pi
    assert result.accuracy[1] == pytest.approx(expected, abs=0.04)
    assert torch.equal(net.w, before)
    with pytest.raises(ValueError, match="levels must be from 0"):
        weight_noise(net, images, labels, levels=[0.0])


def test_noise_is_a_share_of_the_size_of_weights():
    """Not of how much they differ: equal weights (those of fresh norms) are disturbed, and zeros are not."""
    norm = nn.LayerNorm(5000)
    with noisy_weights(norm, 0.5, 3):
        assert float(norm.weight.detach().std()) == pytest.approx(0.5, rel=0.05)
        assert not norm.bias.any()
    assert torch.equal(norm.weight, torch.ones(5000))
    assert torch.equal(norm.weight, nn.LayerNorm(5000).weight)
    with pytest.raises(ValueError, match=r"torch\.nn\.Module, got function"):
        weight_noise(lambda x: x, *bright_and_dark(4))


def written_otherwise(net, **options):
    """The same function by a model of other options."""
    model = net.model
    other = cg.Columnformer(model.sheet, **(model.options.arguments() | options))
    whole = cg.VisionColumnformer(other, image_size=4, patch_size=2, in_channels=1, num_classes=5).eval()
    state, given = whole.state_dict(), net.state_dict()
    for name, value in state.items():
        parts = name.replace("shared.", "").replace("difference.", "")
        if "attention.value" in name or "attention.output" in name:
            eye = torch.eye(model.dim).expand(value.shape) if name.endswith("weight") else torch.zeros(value.shape)
            state[name] = eye.clone()
        elif "difference" in name:
            state[name] = torch.zeros_like(value)
        elif name in given or parts in given:
            state[name] = given[parts].expand(value.shape).clone()
    whole.load_state_dict(state)
    return whole


WRITINGS = {
    "untied": {"untied": "all"},
    "shared + difference": {"untied": "all", "parametrization": "shared+difference"},
    "some parts untied": {"untied": "mlp"},
    "values that are the identity": {"value_projection": True},
    "untied values that are the identity": {"untied": "attention", "value_projection": True},
    "a fixed bias": {"edge_bias": "fixed"},
}


@pytest.mark.parametrize("name", WRITINGS)
def test_weight_noise_is_of_the_function_not_of_its_writing(name):
    """A tied network and the same function written otherwise: equal curves, image by image."""
    net = vision_net(untied="none", seed=1)
    other = written_otherwise(net, **WRITINGS[name])
    images, _ = digits()
    labels = predict(net, images)
    assert np.array_equal(labels, predict(other, images))
    assert len(np.unique(labels)) > 1
    before = {key: value.clone() for key, value in other.state_dict().items()}
    options = {"levels": (0, 0.1, 0.3), "draws": 2, "progress": False}
    here, there = (weight_noise(one, images, labels, **options) for one in (net, other))
    assert np.array_equal(here.accuracy, there.accuracy)
    assert here.accuracy[0] == 1 > here.accuracy[2]
    assert np.array_equal(here.accuracy_interval, there.accuracy_interval)
    assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items())
    if name != "a fixed bias":
        plain = weight_noise(other.to_plain(), images, labels, **options)
        assert np.array_equal(here.accuracy, plain.accuracy)


def test_weight_noise_is_drawn_anew_for_every_column():
    net = vision_net(untied="none").to_untied()
    assert net.model.untied == ("norm", "attention", "mlp")
    weight = net.model.block.mlp.fc1.weight
    assert torch.equal(weight[0], weight[1])
    with noisy_weights(net, 0.1, 0):
        assert (weight[0] != weight[1]).all()
    assert torch.equal(weight[0], weight[1])


# ---------------------------------------------------------------------- lesions


def vision_net(edge_bias="learned", inject="first", seed=0, **options):
    rng = np.random.default_rng(seed)
    n = 14
    edges = np.stack([np.tile(np.arange(n), n), np.repeat(np.arange(n), n)])[:, rng.random(n * n) < 0.8]
    sheet = cg.Sheet.from_edges(edges, n, pos=rng.random((n, 3)), inputs=[0, 1, 2, 3], outputs=[4, 5, 6])
    torch.manual_seed(seed)
    sizes = {"dim": 8, "steps": 3, "qk_dim": 4, "mlp_dim": 6}
    model = cg.Columnformer(sheet, **sizes, edge_bias=edge_bias, inject=inject, **options)
    net = cg.VisionColumnformer(model, image_size=4, patch_size=2, in_channels=1, num_classes=5).eval()
    with torch.no_grad():
        # Untrained networks answer everything alike; large weights and no biases make them tell images apart.
        for name, parameter in net.named_parameters():
            if name.endswith("bias"):
                parameter.mul_("edge_bias" in name)
            elif "norm" not in name:
                parameter.normal_(0, 3.0 if "patch" in name else 0.7)
        net.patch_embedding.weight -= net.patch_embedding.weight.mean((2, 3), keepdim=True)
        net.model.position_embedding.mul_(0.1)
    return net


def digits(count=40, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((count, 1, 4, 4)).astype(np.float32), rng.integers(0, 5, count)


@pytest.mark.parametrize("inject", ["first", "every"])
def test_step_by_step_is_the_network(inject):
    net = vision_net(inject=inject)
    images = torch.from_numpy(digits()[0])
    with torch.no_grad():
        assert torch.allclose(step_by_step(net, images, lambda state, _: state), net(images), atol=1e-6)


def without_columns(net, gone):
    """The same network built on the sheet without some columns."""
    sheet = net.model.sheet
    keep = torch.tensor([i not in gone for i in range(sheet.num_columns)])
    edge = keep[sheet.edge_index].all(0)
    smaller = cg.VisionColumnformer(
        cg.Columnformer(sheet.subgraph(keep), dim=8, steps=3, qk_dim=4, mlp_dim=6),
        image_size=4,
        patch_size=2,
        in_channels=1,
        num_classes=5,
    ).eval()
    state = smaller.state_dict()
    for name, value in net.state_dict().items():
        if name.endswith("fingerprint"):
            continue
        if name.endswith("edge_bias"):
            value = value[edge]
        elif name.startswith("model.") and value.size(0) == sheet.num_columns:
            value = value[keep]
        state[name] = value
    smaller.load_state_dict(state)
    return smaller


def test_a_silenced_column_is_as_if_it_were_not_there():
    net = vision_net()
    images, _ = digits()
    gone = (8, 11)
    mask = np.isin(np.arange(14), gone)
    expected = predict(without_columns(net, gone), images)
    intact = predict(net, images)
    edges = net.model.sheet.edge_index
    assert predict_lesioned(net, images, expected, edges, columns=mask).all()
    assert (expected != intact).any(), "and it made a difference"
    assert (predict(net, images) == intact).all(), "and the network is whole again"


def test_cutting_every_edge_into_a_column_leaves_its_own_state():
    net = vision_net()
    images, labels = digits()
    edges = net.model.sheet.edge_index
    cut = (edges[1] == 4).numpy()
    right = predict_lesioned(net, images, labels, edges, cut=cut)
    kept = net.model.block.attention.edge_bias.detach().clone()
    with torch.no_grad():
        net.model.block.attention.edge_bias[torch.from_numpy(cut)] = -torch.inf
        expected = net(torch.from_numpy(images)).argmax(1).numpy() == labels
        net.model.block.attention.edge_bias.copy_(kept)
    assert (right == expected).all()


def test_lesion_curves():
    net = vision_net()
    images, _ = digits()
    labels = predict(net, images)
    assert len(np.unique(labels)) > 1
    edges = net.model.sheet.edge_index
    outputs_first = np.zeros(14)
    outputs_first[[4, 5, 6]] = 1
    result = lesion_curve(net, images, labels, edges, score=outputs_first, fractions=(0, 0.22), draws=6, progress=False)
    assert result.accuracy[0] == 1
    assert result.accuracy[1] < 1, "three of fourteen columns: the outputs"
    assert result.accuracy_null.shape == (6, 2)
    assert result.null.mean() > result.value
    free = lesion_curve(net, images, labels, edges, what="edges", fractions=(0, 1), draws=2, progress=False)
    assert free.accuracy[0] == 1
    assert len(free.null) == 0
    spare = outputs_first > 0
    kept = lesion_curve(
        net, images, labels, edges, score=outputs_first, spare=spare, fractions=(0.5, 1), draws=1, progress=False
    )
    everything_else = predict_lesioned(net, images, labels, edges, columns=~spare)
    assert kept.accuracy[-1] == kept.accuracy_null[0, -1] == everything_else.mean()
    with pytest.raises(ValueError, match="spare must be a boolean mask of 14 entries"):
        lesion_curve(net, images, labels, edges, spare=[1, 2])
    with pytest.raises(ValueError, match="nothing to take out"):
        lesion_curve(net, images, labels, edges, spare=np.ones(14, dtype=bool))
    with pytest.raises(ValueError, match=r"score must be of shape \[14\]"):
        lesion_curve(net, images, labels, edges, score=np.ones(3))
    with pytest.raises(ValueError, match="did you mean 'edges'"):
        lesion_curve(net, images, labels, edges, what="edge")
    with pytest.raises(ValueError, match="fractions must be from 0 to 1"):
        lesion_curve(net, images, labels, edges, fractions=(0, 2))


def test_regions():
    net = vision_net()
    images, _ = digits()
    labels = predict(net, images)
    regions = np.array(["in"] * 4 + ["out"] * 3 + ["far"] * 7)
    result = lesion_regions(net, images, labels, net.model.sheet.edge_index, regions, draws=3, progress=False)
    assert result.regions == ("far", "in", "out")
    assert result.intact == 1
    assert result.value == pytest.approx(1 - result.accuracy.min())
    assert result.interval[0] <= result.value <= result.interval[1]
    silent_out = predict_lesioned(net, images, labels, net.model.sheet.edge_index, columns=regions == "out")
    assert result.accuracy[2] == pytest.approx(silent_out.mean())
    areas = np.repeat([0, 1, -1], [4, 3, 7])  # as in Sheet.area, -1 is none
    by_number = lesion_regions(net, images, labels, net.model.sheet.edge_index, areas, draws=3, progress=False)
    assert by_number.regions == (0, 1)
    assert by_number.accuracy.tolist() == result.accuracy[[1, 2]].tolist()


def test_regions_by_name_spare_columns_and_are_compared_with_patches():
    net = vision_net()
    images, _ = digits()
    labels, edges = predict(net, images), net.model.sheet.edge_index
    named = {"in": np.arange(4), "out": np.arange(4, 7)}
    options = {"draws": 2, "progress": False}
    plain = lesion_regions(net, images, labels, edges, np.repeat(["in", "out", "rest"], [4, 3, 7]), **options)
    found = lesion_regions(net, images, labels, edges, named, positions=net.model.sheet.pos, **options)
    assert found.regions == ("in", "out")
    assert found.accuracy.tolist() == plain.accuracy[:2].tolist()
    assert found.accuracy_null.shape == (2, 2)
    spared = lesion_regions(net, images, labels, edges, named, spare=np.arange(14) < 4, **options)
    assert spared.regions == ("out",)
    with pytest.raises(ValueError, match="spare"):
        lesion_regions(net, images, labels, edges, named, spare=[1, 2], **options)


def test_lesions_need_a_bias_to_cut_at():
    net = vision_net(edge_bias=None)
    images, labels = digits()
    edges = net.model.sheet.edge_index
    with pytest.raises(ValueError, match="edge_bias='learned' or 'fixed'"):
        predict_lesioned(net, images, labels, edges, columns=np.arange(14) == 3)
    fixed = vision_net(edge_bias="fixed")
    assert predict_lesioned(fixed, images, labels, edges, columns=np.arange(14) == 3).shape == (40,)
    with pytest.raises(ValueError, match="boolean mask"):
        predict_lesioned(fixed, images, labels, edges, columns=np.arange(14))
    with pytest.raises(ValueError, match="boolean mask"):
        predict_lesioned(fixed, images, labels, edges, cut=np.ones(3, bool))


def test_activity_noise_of_level_zero_is_nothing():
    net = vision_net()
    images, _ = digits()
    labels = predict(net, images)
    result = activity_noise(net, images, labels, levels=(0, 0.5, 50.0), draws=2, progress=False)
    assert result.accuracy[0] == 1
    assert result.accuracy[2] < result.accuracy[0]
    again = activity_noise(net, images, labels, levels=(0, 0.5, 50.0), draws=2, progress=False)
    assert np.array_equal(result.accuracy, again.accuracy)


def test_robustness_results_draw_themselves():
    from matplotlib.figure import Figure

    images, labels = bright_and_dark(12)
    net = vision_net()
    small, small_labels = digits(12)
    edges = net.model.sheet.edge_index
    for result in (
        corruption_errors(Brightness(), images, labels, corruptions=["fog", "contrast"], progress=False),
        adversarial_accuracy(Linear(192), images, labels, steps=2, progress=False),
        weight_noise(Linear(192), images, labels, draws=1, progress=False),
        lesion_curve(net, small, small_labels, edges, score=np.arange(14), draws=2, progress=False),
        lesion_regions(net, small, small_labels, edges, np.arange(14) % 2, draws=2, progress=False),
    ):
        ax = Figure().subplots()
        assert result.plot(ax) is ax
        assert ax.get_title()


def test_edges_in_another_order_than_the_networks_are_refused():
    """What is cut, and what attention is weighed with, goes by the number of an edge."""
    net = make_vision()
    edges = net.model.sheet.edge_index.flip(1)
    images, labels = torch.rand(4, 3, 4, 4), [0, 1, 2, 0]
    with pytest.raises(ValueError, match=r"edges must be those of the network's sheet, .*: edge 0 is 0 -> 0, got"):
        an.predict_lesioned(net, images, labels, edges, cut=np.arange(edges.shape[1]) < 5)
    with pytest.raises(ValueError, match=r"edges must be those of the network's sheet, .*: edge 0 is 0 -> 0, got"):
        an.network_energy(net, images, edges, progress=False)


class _Around(nn.Module):
    """A user's network that calls its columnformer its sheet."""

    def __init__(self) -> None:
        super().__init__()
        self.sheet = make_vision()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.sheet(images)


def test_edges_are_found_in_a_network_that_calls_its_columnformer_sheet():
    net = _Around()
    edges = net.sheet.model.sheet.edge_index
    check_edges(net, edges.numpy())
    with pytest.raises(ValueError, match=r"edges must be those of the network's sheet"):
        check_edges(net, edges.flip(1).numpy())


@pytest.mark.parametrize(
    ("columns", "message"), [([-1], r"'a' must lie in 0\.\.15 \(16 columns\), got -1"), ([], "'a' has no columns")]
)
def test_regions_are_of_columns_that_there_are(columns, message):
    """-1 silenced the last column."""
    net = make_vision()
    edges = net.model.sheet.edge_index
    with pytest.raises(ValueError, match=message):
        lesion_regions(net, torch.rand(4, 3, 4, 4), [0, 1, 2, 0], edges, {"a": columns, "b": [3]}, progress=False)


def test_regions_may_be_masks():
    net = make_vision()
    given = net, torch.rand(4, 3, 4, 4), [0, 1, 2, 0], net.model.sheet.edge_index
    mask = np.arange(16) < 5
    masked, named = (lesion_regions(*given, {"a": a, "b": [7]}, progress=False) for a in (mask, [0, 1, 2, 3, 4]))
    np.testing.assert_array_equal(masked.accuracy_null, named.accuracy_null)
