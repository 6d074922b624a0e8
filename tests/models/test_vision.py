"""Images in, logits out; patches on neighboring columns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from colgraph import build_sheet
from colgraph.models import Columnformer, VisionColumnformer
from colgraph.models.vision import assign_patches
from colgraph.sheet import Sheet


def grid_positions(rows: int, columns: int) -> np.ndarray:
    r, c = np.divmod(np.arange(rows * columns), columns)
    return np.stack([r, c, np.zeros(rows * columns)], 1).astype(float)


def grid_sheet(rows: int = 2, columns: int = 2, layers: int = 2) -> Sheet:
    plane = grid_positions(rows, columns)
    pos = np.concatenate([plane + np.array([0, 0, layer]) for layer in range(layers)])
    n = len(pos)
    index = np.stack([np.tile(np.arange(n), n), np.repeat(np.arange(n), n)])
    distance = np.linalg.norm(pos[index[0]] - pos[index[1]], axis=1)
    width = rows * columns
    return Sheet.from_edges(index, n, edge_distance=distance, pos=pos, inputs=range(width), outputs=range(n - width, n))


def make(sheet: Sheet, readout: str = "mean", **options) -> VisionColumnformer:
    sizes = {"dim": 6, "steps": 2, "qk_dim": 4, "mlp_dim": 5, "backend": "reference"}
    return VisionColumnformer(Columnformer(sheet, **sizes, **options), 8, 4, 3, 5, readout=readout)


@pytest.mark.parametrize("readout", ["mean", "spatial"])
def test_logits(readout):
    net, images = make(grid_sheet(), readout), torch.randn(3, 3, 8, 8)
    logits = net(images)
    assert isinstance(logits, torch.Tensor)
    assert logits.shape == (3, 5)
    out = net.unroll(images, record=("state",))
    assert out.step_logits.shape == (2, 3, 5)
    torch.testing.assert_close(out.logits, logits)
    torch.testing.assert_close(out.step_logits[-1], logits)
    going_on = net.unroll(None, state=net.unroll(images, steps=1).state, steps=1)
    torch.testing.assert_close(going_on.logits, logits)


def test_the_readout_is_written_out():
    net, images = make(grid_sheet()), torch.randn(3, 3, 8, 8)
    state = net.model(net.embed(images))
    features = torch.nn.functional.layer_norm(state[4:], (6,), net.norm.weight, net.norm.bias).mean(0)
    torch.testing.assert_close(net(images), features @ net.head.weight.T + net.head.bias)


@pytest.mark.parametrize("readout", ["mean", "spatial"])
def test_logits_are_the_evidence_of_the_output_columns(readout):
    net, images = make(grid_sheet(), readout).double(), torch.randn(3, 3, 8, 8, dtype=torch.float64)
    for parameter in (*net.norm.parameters(), *net.head.parameters(), *([] if net.pool is None else [net.pool])):
        torch.nn.init.normal_(parameter)
    states = net.unroll(images, record=("state",)).states
    assert torch.equal(net.normed(states), net.norm(states))
    evidence = net.evidence(states)
    assert evidence.shape == (2, 8, 3, 5)
    share = torch.full((5, 4), 1 / 4, dtype=torch.float64) if net.pool is None else net.pool.softmax(-1)
    heard = torch.einsum("tobk,ko->tbk", evidence[:, 4:], share)
    torch.testing.assert_close(heard, net.classify(states), rtol=1e-12, atol=1e-12)


def test_the_length_of_a_state_is_not_read():
    net = make(grid_sheet()).double()
    state = 3 * torch.randn(8, 3, 6, dtype=torch.float64)
    longer = state * torch.linspace(0.3, 3.3, 8, dtype=torch.float64)[:, None, None]
    for read in (net.normed, net.evidence, net.classify):
        torch.testing.assert_close(read(longer), read(state), rtol=1e-3, atol=1e-4)


def test_spatial_readout_starts_as_the_mean():
    mean, spatial = make(grid_sheet()), make(grid_sheet(), "spatial")
    spatial.load_state_dict(mean.state_dict(), strict=False)
    images = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(spatial(images), mean(images))
    assert spatial.pool.shape == (5, 4)


def test_patches_are_pixels_of_their_place():
    net = make(grid_sheet())
    images = torch.zeros(1, 3, 8, 8)
    images[:, :, 4:, :4] = 1
    with torch.no_grad():
        net.patch_embedding.weight.fill_(1)
        net.patch_embedding.bias.zero_()
    lit = (net.embed(images)[:, 0, 0] > 0).nonzero().flatten()
    assert net.assignment[lit].tolist() == [2]


def test_gradients_reach_the_image():
    net, images = make(grid_sheet()), torch.randn(2, 3, 8, 8, requires_grad=True)
    net(images).sum().backward()
    assert float(images.grad.abs().min()) > 0


def test_film():
    net = make(grid_sheet(), inject="sequence")
    film = torch.randn(3, 2, 3, 8, 8)
    assert net(film).shape == (3, 5)
    still = make(grid_sheet(), inject="every")
    still.load_state_dict(net.state_dict())
    torch.testing.assert_close(net(film[:, :1].expand(-1, 2, -1, -1, -1)), still(film[:, 0]))
    with pytest.raises(ValueError, match="films"):
        net(film[:, 0])


@pytest.mark.parametrize("shape", [(4, 4), (8, 8), (3, 5), (1, 6), (16, 16)])
def test_a_grid_is_matched_patch_by_patch(shape):
    positions = grid_positions(*shape)
    assert assign_patches(shape, positions).tolist() == list(range(shape[0] * shape[1]))
    tilted = positions @ np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    found = assign_patches(shape, tilted)
    assert sorted(found) == list(range(shape[0] * shape[1]))


def test_neighboring_patches_land_on_neighboring_columns():
    rng = np.random.default_rng(0)
    rows, columns = 8, 8
    positions = grid_positions(rows, columns) + rng.normal(scale=0.2, size=(64, 3))
    shuffled = rng.permutation(64)
    found = assign_patches((rows, columns), positions[shuffled])
    place = np.empty((64, 3))
    place[found] = positions[shuffled]
    place = place.reshape(rows, columns, 3)
    step = np.concatenate([np.diff(place, axis=a).reshape(-1, 3) for a in (0, 1)])
    assert np.median(np.linalg.norm(step, axis=1)) < 1.6


def test_degenerate_positions_still_get_a_match():
    for positions in (np.zeros((4, 3)), np.array([[i, i, i] for i in range(4)], float)):
        assert sorted(assign_patches((2, 2), positions)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 9, "patch_size": 4}, "9 x 9 is not divisible by patch_size 4"),
        ({"image_size": 16, "patch_size": 4}, r"16 patches, but the sheet has 4 .*num_inputs=16"),
        ({"image_size": (8, 12), "patch_size": 4}, "6 patches"),
        ({"image_size": 8, "patch_size": 0}, "patch_size must be at least 1"),
        ({"image_size": 8, "patch_size": 4, "num_classes": 0}, "num_classes must be at least 1"),
        ({"image_size": 8, "patch_size": 4, "readout": "max"}, "readout must be"),
    ],
)
def test_bad_sizes(options, message):
    model = Columnformer(grid_sheet(), dim=6, backend="reference")
    with pytest.raises(ValueError, match=message):
        VisionColumnformer(model, **options)


def test_bad_images():
    net = make(grid_sheet())
    with pytest.raises(ValueError, match=r"\[B, 3, 8, 8\], got \[2, 1, 8, 8\]"):
        net(torch.randn(2, 1, 8, 8))


@pytest.mark.parametrize("shape", [(2, 1), (1, 16), (2, 4), (16, 2)])
def test_hidden_patches_are_told_for_each_image_and_patch(shape):
    sheet = build_sheet("grid", shape=(4, 4), num_inputs=16)
    model = Columnformer(sheet, dim=4, steps=1, qk_dim=2, mlp_dim=3)
    net = VisionColumnformer(model, 8, 2, 1, 3, mask_token=True)
    with pytest.raises(ValueError, match=r"hidden must be \[images, patches\] = \[2, 16\], got \[\d+, \d+\]"):
        net.unroll(torch.rand(2, 1, 8, 8), hidden=torch.zeros(shape, dtype=torch.bool))
    assert net.unroll(torch.rand(2, 1, 8, 8), hidden=torch.rand(2, 16) < 0.5).logits.shape == (2, 3)
