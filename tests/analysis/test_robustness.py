"""Corruptions, attacks, lesions, noise and energy, against closed forms and a smaller model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import colgraph as cg
from colgraph.analysis.corruptions import CORRUPTIONS, _disk, _streak, corrupt
from colgraph.analysis.energy import energy
from colgraph.analysis.lesions import (
    activity_noise,
    lesion_curve,
    lesion_regions,
    predict_lesioned,
    step_by_step,
)
from colgraph.analysis.nets import predict
from colgraph.analysis.robustness import adversarial_accuracy, corruption_errors, weight_noise


def photo(size=32, channels=3, batch=4, seed=0):
    """Smooth random images with some edges."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    waves = [np.sin(2 * np.pi * (rng.normal() * 2 * x + rng.normal() * 2 * y) + rng.random()) for _ in range(channels)]
    images = 0.5 + 0.3 * np.stack(waves)[None] * rng.uniform(0.5, 1, (batch, 1, 1, 1))
    images[:, :, size // 4 : size // 2, size // 3 : size // 2] = 0.9
    return images.astype(np.float32)


# ---------------------------------------------------------------------- corruptions


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize(("size", "channels"), [(8, 1), (33, 3), (64, 3)])
def test_corruptions_of_any_size(name, size, channels):
    images = photo(size, channels)
    worse = corrupt(images, name, 3)
    assert worse.shape == images.shape
    assert worse.dtype == np.float32
    assert worse.min() >= 0
    assert worse.max() <= 1
    assert np.abs(worse - images).max() > 1e-3
    assert np.array_equal(worse, corrupt(images, name, 3)), "the same seed, the same images"
    kept = torch.from_numpy(images)
    assert torch.equal(corrupt(kept, name, 3), torch.from_numpy(worse))
    assert np.array_equal(kept.numpy(), photo(size, channels)), "the input is left alone"


UNEVEN = ("elastic_transform", "glass_blur", "pixelate", "frost")


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name not in UNEVEN])
def test_severity_grows(name):
    """Of four corruptions the published parameters themselves do not change images monotonically."""
    images = photo(64, 3, batch=12)
    change = [float(np.sqrt(((corrupt(images, name, s) - images) ** 2).mean())) for s in range(1, 6)]
    assert change[4] > change[0]
    assert change[4] > 0.9 * max(change)


def test_noise_has_the_published_strength():
    grey = np.full((20, 3, 32, 32), 0.5, np.float32)
    assert corrupt(grey, "gaussian_noise", 1).std() == pytest.approx(0.08, rel=0.03)
    assert corrupt(grey, "shot_noise", 1).std() == pytest.approx(np.sqrt(0.5 / 60), rel=0.03)
    hit = corrupt(grey, "impulse_noise", 5)
    assert (hit != 0.5).mean() == pytest.approx(0.27, abs=0.01)
    assert set(np.unique(hit)) == {0, 0.5, 1}


def test_simple_families_by_hand():
    images = photo(16)
    mean = images.mean((2, 3), keepdims=True)
    assert np.allclose(corrupt(images, "contrast", 5), (images - mean) * 0.05 + mean, atol=1e-6)
    bright = corrupt(images, "brightness", 1)
    assert np.allclose(bright.max(1), np.minimum(images.max(1) + 0.1, 1), atol=1e-6)
    ratio = images / images.max(1, keepdims=True)
    assert np.allclose(bright / bright.max(1, keepdims=True), ratio, atol=1e-5), "hue and saturation stay"
    blocks = corrupt(np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4) / 15, "pixelate", 2)[0, 0]
    assert np.allclose(blocks[:2, :2], 2.5 / 15, atol=1e-6)


def test_blur_kernels():
    assert _disk(0.0).max() == pytest.approx(1)
    for radius in (0.1, 0.7, 3.0):
        kernel = _disk(radius)
        assert kernel.sum() == pytest.approx(1)
        assert np.allclose(kernel, kernel.T)
    assert _disk(0.3).max() < _disk(0.1).max() < 1, "radii below half a pixel blur, too"
    streak = _streak(5.0, 3.0, 0.0)
    assert streak.sum() == pytest.approx(1)
    middle = len(streak) // 2
    assert streak[middle].sum() == pytest.approx(1), "along a row"
    assert streak[middle, :middle].sum() == 0, "one-sided"


@pytest.mark.parametrize("name", ["defocus_blur", "motion_blur", "zoom_blur", "glass_blur", "elastic_transform"])
def test_blurs_leave_a_uniform_image(name):
    grey = np.full((2, 1, 20, 28), 0.3, np.float32)
    assert np.allclose(corrupt(grey, name, 5), 0.3, atol=1e-5)


def test_bad_images():
    for images, message in (
        (np.zeros((3, 8, 8)), r"\[B, channels, height, width\]"),
        (np.full((1, 1, 8, 8), 3.0), "between 0 and 1"),
        (np.full((1, 1, 8, 8), np.nan), "between 0 and 1"),
        (np.zeros((1, 1, 8, 8), np.int64), "uint8"),
    ):
        with pytest.raises(ValueError, match=message):
            corrupt(images, "fog", 1)
    with pytest.raises(ValueError, match="did you mean 'frost'"):
        corrupt(photo(), "forst", 1)
    with pytest.raises(ValueError, match="severity must be one of 1, 2"):
        corrupt(photo(), "fog", 6)
    data = (photo(8) * 255).astype(np.uint8)
    assert np.abs(corrupt(data, "contrast", 1) - corrupt(data / np.float32(255), "contrast", 1)).max() < 1e-6


# ---------------------------------------------------------------------- errors under corruption


class Brightness(nn.Module):
    """Class 1 where the mean is above a half."""

    def forward(self, x):
        mean = x.mean((1, 2, 3))
        return torch.stack([0.5 - mean, mean - 0.5], 1)


def bright_and_dark(count=40):
    images = np.repeat(np.linspace(0.2, 0.8, count), 3 * 64).reshape(count, 3, 8, 8).astype(np.float32)
    return images, (np.linspace(0.2, 0.8, count) > 0.5).astype(np.int64)


def test_mean_corrupted_error_by_hand():
    images, labels = bright_and_dark()
    result = corruption_errors(Brightness(), images, labels, corruptions=["brightness", "contrast"], progress=False)
    assert result.clean_error == 0
    level = np.linspace(0.2, 0.8, 40)
    by_hand = [((level < 0.5) & (level + more > 0.5 + 1e-6)).mean() for more in (0.1, 0.2, 0.3, 0.4, 0.5)]
    assert result.errors[0] == pytest.approx(by_hand)
    assert result.errors[1] == pytest.approx(0)
    assert result.value == pytest.approx(np.mean(by_hand) / 2)
    assert result.interval[0] < result.value < result.interval[1]
    assert result.p_value < 0.02
    half = {"brightness": 0.5, "contrast": 0.25}
    scaled = corruption_errors(
        Brightness(), images, labels, corruptions=["brightness", "contrast"], baseline=half, progress=False
    )
    assert scaled.value == pytest.approx(np.mean(by_hand) / 0.5 / 2)
    with pytest.raises(ValueError, match="baseline lacks fog"):
        corruption_errors(Brightness(), images, labels, corruptions=["fog"], baseline=half)
    with pytest.raises(ValueError, match="one entry per stimulus"):
        corruption_errors(Brightness(), images, labels[:-1])
    with pytest.raises(ValueError, match="logits"):
        predict(lambda x: x, images)


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


# ---------------------------------------------------------------------- lesions


def vision_net(edge_bias="learned", inject="first", seed=0):
    rng = np.random.default_rng(seed)
    n = 14
    edges = np.stack([np.tile(np.arange(n), n), np.repeat(np.arange(n), n)])[:, rng.random(n * n) < 0.8]
    sheet = cg.Sheet.from_edges(edges, n, pos=rng.random((n, 3)), inputs=[0, 1, 2, 3], outputs=[4, 5, 6])
    torch.manual_seed(seed)
    model = cg.Columnformer(sheet, dim=8, steps=3, qk_dim=4, mlp_dim=6, edge_bias=edge_bias, inject=inject)
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


# ---------------------------------------------------------------------- energy


def test_energy_by_hand():
    activity = np.array([[1.0, -2.0, 3.0], [0.0, 1.0, -1.0]])
    edges, weights = np.array([[0, 1, 2], [1, 2, 2]]), np.array([0.5, -1.0, 2.0])
    result = energy(activity, edges, weights, permutations=10)
    sent = np.array([[0, 0.5, 2 + 6], [0, 0, 1 + 2]])
    by_hand = np.abs(activity) / 3 + 2 / 3 * sent
    assert np.allclose(result.map, by_hand.mean(0))
    assert result.value == pytest.approx(by_hand.mean())
    per_stimulus = energy(activity, edges, np.stack([weights, weights]), permutations=10)
    assert per_stimulus.value == pytest.approx(result.value)
    assert np.allclose(per_stimulus.null, result.null)
    channels = energy(np.stack([activity, activity], 2), edges, weights, permutations=2)
    assert channels.value == pytest.approx(2 * result.value)
    with pytest.raises(ValueError, match="3 stimuli, but activity has 2"):
        energy(activity, edges, np.stack([weights] * 3))
    with pytest.raises(ValueError, match="heard must be"):
        energy(activity, edges, weights, heard=activity[:, :2])


def test_energy_null_of_stimulus_wise_weights():
    """Shuffling by hand, per stimulus, gives the same mean over many shuffles."""
    rng = np.random.default_rng(2)
    n, k, s = 10, 4, 6
    edges = np.stack([np.concatenate([rng.choice(n, k, replace=False) for _ in range(n)]), np.repeat(np.arange(n), k)])
    activity, weights = rng.normal(size=(s, n)), np.repeat(rng.random((1, n * k)), s, 0)
    result = energy(activity, edges, weights, permutations=400)
    even = np.repeat(weights.reshape(s, n, k).mean(2), k, 1)
    assert result.null.mean() == pytest.approx(energy(activity, edges, even, permutations=2).value, rel=0.02)


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
