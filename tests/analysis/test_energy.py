"""Energy, by hand and against networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import colgraph as cg
from colgraph.analysis.energy import energy, network_energy


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


def test_null_where_weights_follow_what_is_heard():
    """Weights that go with the activity, stimulus by stimulus: the null is what shuffling every stimulus gives."""
    rng = np.random.default_rng(4)
    n, k, s = 12, 5, 40
    edges = np.stack([np.concatenate([rng.choice(n, k, replace=False) for _ in range(n)]), np.repeat(np.arange(n), k)])
    activity = rng.random((s, n)) * 3
    weights = activity[:, edges[0]] ** 2
    result = energy(activity, edges, weights, permutations=200)
    by_hand = []
    for seed in range(200):
        order = np.concatenate([i * k + np.random.default_rng([seed, i]).permutation(k) for i in range(n)])
        by_hand.append((weights[:, order] * activity[:, edges[0]]).sum() / s / n)
    assert result.transmission.null.mean() == pytest.approx(np.mean(by_hand), rel=0.005)
    assert result.transmission.value > 1.1 * max(by_hand)
    assert result.transmission.p_value < 0.01


def test_energy_of_several_heads_by_hand():
    rng = np.random.default_rng(5)
    edges = np.array([[0, 1, 2, 2], [1, 2, 0, 2]])
    activity, weights = rng.normal(size=(3, 3)), rng.random((3, 4, 2))
    heard = rng.normal(size=(3, 3, 2, 5))
    result = energy(activity, edges, weights, heard=heard, permutations=3)
    sent = np.zeros((3, 3))
    for s, e, h in np.ndindex(3, 4, 2):
        sent[s, edges[1, e]] += weights[s, e, h] * np.abs(heard[s, edges[0, e], h]).sum()
    assert np.allclose(result.transmission.map, sent.mean(0))
    assert np.allclose(result.map, (np.abs(activity) / 3 + 2 / 3 * sent).mean(0))
    assert result.summary()["transmission"] == pytest.approx(sent.mean())
    assert result.summary()["activity"] == pytest.approx(np.abs(activity).mean())
    for wrong, message in (
        ({"heard": heard[:, :, :1]}, r"heard must be \[stimuli, columns, 2 heads, channels\]"),
        ({"heard": heard[..., 0, 0]}, "2 heads"),
        ({}, "2 heads"),
        ({"heard": np.full_like(heard, np.nan)}, "heard must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            energy(activity, edges, weights, **wrong)
    with pytest.raises(ValueError, match=r"weights must have shape \[E\], \[stimuli, E\] or"):
        energy(activity, edges, weights[None])


def vision_net(**options):
    torch.manual_seed(0)
    sheet = cg.build_sheet("grid", shape=(4, 4), neighbors="knn:5", num_inputs=4)
    model = cg.Columnformer(sheet, dim=6, steps=3, num_heads=2, qk_dim=3, mlp_dim=5, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return cg.VisionColumnformer(model, image_size=4, patch_size=2, in_channels=1, num_classes=3).eval()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"value_projection": True},
        {"untied": "none", "time_embedding": True},
        {"inject": "every", "edge_bias": None},
    ],
    ids=str,
)
def test_what_arrives_is_what_the_network_computes(options):
    """The sizes of PyG's own messages, edge by edge, of every step and head."""
    net, images = vision_net(**options), torch.rand(5, 1, 4, 4)
    edges = net.model.sheet.edge_index
    messages = []
    handle = net.model.block.attention.register_message_forward_hook(lambda module, given, out: messages.append(out))
    with torch.no_grad():
        net(images)
    handle.remove()
    assert len(messages) == 3
    arrived = torch.zeros(16, 5).index_add(0, edges[1], torch.stack(messages).abs().sum((0, -1, -2)) / 3)
    result = network_energy(net, images, edges, batch_size=2, permutations=5, progress=False)
    assert np.allclose(result.transmission.map, arrived.mean(1), rtol=1e-5)
    with torch.no_grad():
        states = net.unroll(images, record=("state",)).states
        normed = net.norm(states)
    assert result.activity == pytest.approx(float(normed.abs().sum(-1).mean()), rel=1e-5)
    assert result.state == pytest.approx(float(states.abs().sum(-1).mean()), rel=1e-5)
    assert result.value == pytest.approx(result.activity / 3 + 2 / 3 * result.transmission.value)


def test_energy_is_that_of_arrays():
    net, images = vision_net(), torch.rand(4, 1, 4, 4)
    with torch.no_grad():
        out = net.unroll(images, record=("state", "attention", "heard"), steps=1)
    net.model.steps = 1
    result = network_energy(net, images, net.model.sheet.edge_index, permutations=20, progress=False)
    arrays = energy(
        net.normed(out.states[0]).detach().transpose(0, 1),
        net.model.sheet.edge_index,
        out.attention[0].transpose(0, 1),
        heard=out.heard[0].transpose(0, 1),
        permutations=20,
    )
    assert result.value == pytest.approx(arrays.value)
    assert np.allclose(result.null, arrays.null)
    assert np.allclose(result.interval, arrays.interval)


def test_energy_does_not_grow_with_what_nobody_reads():
    """Longer states, after the last step, change neither logits nor energy."""
    net, images = vision_net(), torch.rand(4, 1, 4, 4)
    edges = net.model.sheet.edge_index
    before = network_energy(net, images, edges, permutations=5, progress=False)
    unroll = net.unroll

    def longer(images, **options):
        out = unroll(images, **options)
        out.states = out.states * 3
        return out

    net.unroll = longer
    after = network_energy(net, images, edges, permutations=5, progress=False)
    assert after.value == pytest.approx(before.value, rel=1e-3)
    assert after.transmission.value == before.transmission.value
    assert after.state == pytest.approx(3 * before.state)


def test_energy_of_a_network_in_a_line():
    net = vision_net()
    edges = net.model.sheet.edge_index
    with pytest.raises(ValueError, match="at least 2, got"):
        network_energy(net, torch.rand(1, 1, 4, 4), edges)
    with pytest.raises(ValueError, match=r"has 96 edges, but 95 were given"):
        network_energy(net, torch.rand(2, 1, 4, 4), edges[:, 1:], progress=False)
    with pytest.raises(ValueError, match=r"needs a network with unroll\(images, record=...\), got Identity"):
        network_energy(torch.nn.Identity(), torch.rand(2, 1, 4, 4), edges, progress=False)
    net.unroll = lambda images, record: cg.models.columnformer.Unroll(torch.zeros(16, 2, 6), torch.zeros(()))
    with pytest.raises(ValueError, match="does not record states, attention and what is heard"):
        network_energy(net, torch.rand(2, 1, 4, 4), edges, progress=False)
