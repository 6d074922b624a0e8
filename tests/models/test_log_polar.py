"""Images seen finely around a fixation point and coarsely far from it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import colgraph as cg
from colgraph.models.log_polar import LogPolar

SIZE = 32


def seen(image: np.ndarray, fixation: tuple[float, float] = (0.5, 0.5)) -> np.ndarray:
    index, weight = LogPolar(image.shape, fixation, image.shape[1]).taps()
    return (weight * image.ravel()[index]).sum(0).reshape(image.shape)


def vision(side: int = 4, **options: object) -> cg.VisionColumnformer:
    torch.manual_seed(0)
    sheet = cg.build_sheet("grid", shape=(side, side), neighbors="knn:5", num_inputs=side**2)
    model = cg.Columnformer(sheet, dim=6, steps=2, qk_dim=4, mlp_dim=5, backend="reference")
    sizes = {"image_size": SIZE, "patch_size": 8, "in_channels": 2, "num_classes": 3, "sampling": "log-polar"}
    return cg.VisionColumnformer(model, **{**sizes, **options})


@pytest.mark.parametrize("fixation", [(0.5, 0.5), (0.3, 0.8)])
def test_rings_are_eccentricities_and_wedges_angles(fixation: tuple[float, float]) -> None:
    """The formula against what is sampled of images whose pixels say how far off, and which way, they lie."""
    sides = np.arange(SIZE) + 0.5
    y, x = np.meshgrid(sides - fixation[0] * SIZE, sides - fixation[1] * SIZE, indexing="ij")
    farthest = max(math.hypot(a - fixation[0] * SIZE, b - fixation[1] * SIZE) for a in (0, SIZE) for b in (0, SIZE))
    a = farthest / 16
    inside = seen(np.ones((SIZE, SIZE)), fixation) > 0.999
    r = a * np.expm1((np.arange(SIZE) + 0.5) * math.log(1 + farthest / a) / SIZE)
    found = seen(np.hypot(y, x), fixation)
    ring = np.broadcast_to(r[:, None], found.shape)
    clear = inside & (ring > 1.5)
    assert np.abs(found - ring)[clear].max() < 0.5
    up, right = (seen(each, fixation)[clear] for each in (-y, x))
    angle = np.broadcast_to(2 * np.pi * (np.arange(SIZE) + 0.5) / SIZE, found.shape)[clear]
    turn = (np.arctan2(right, up) - angle + np.pi) % (2 * np.pi) - np.pi
    assert np.abs(turn).max() < 0.15


def test_nothing_of_an_image_is_passed_over() -> None:
    index, weight = LogPolar((SIZE, SIZE), (0.5, 0.5), SIZE).taps()
    heard = np.bincount(index.ravel(), weight.ravel(), SIZE * SIZE).reshape(SIZE, SIZE)
    assert heard.min() > 0
    assert heard[SIZE // 2, SIZE // 2] > 20 * heard[1, 1]  # the fixation point has many more of the sampled pixels
    assert weight.min() >= 0
    assert weight.sum(0).max() == pytest.approx(1)


def test_what_lies_outside_is_zero_and_inside_a_flat_image_stays_flat() -> None:
    flat = seen(np.ones((SIZE, SIZE)), (0.0, 0.0))
    right_angle = flat[:, SIZE // 4 : SIZE // 2]
    assert not flat[:, : SIZE // 4].any()
    assert not flat[:, SIZE // 2 :].any()
    assert np.abs(right_angle[:20] - 1).max() < 1e-12


def test_a_turned_image_is_the_sampled_one_moved_along_its_wedges() -> None:
    image = np.random.default_rng(0).normal(size=(SIZE, SIZE))
    turned = seen(np.rot90(image, -1))
    assert np.allclose(turned, np.roll(seen(image), SIZE // 4, axis=1))


def test_wedges_close_around_the_seam() -> None:
    """With patches of 8 every 4 of 32 pixels, seven wedges make the circle: the last 4 pixels are the first ones."""
    net = vision(patch_stride=4, patch_size=8, side=7)
    assert net.grid == (7, 7)
    image = torch.randn(1, 2, SIZE, SIZE)
    found = net.sampled(image)
    assert torch.equal(found[..., 28:], found[..., :4])
    assert set(net.pixel_patches().flatten().tolist()) <= set(range(49))


def test_a_network_sees_what_is_sampled() -> None:
    net, images = vision(), torch.randn(3, 2, SIZE, SIZE, requires_grad=True)
    found = net.sampled(images)
    expected = np.stack([[seen(channel) for channel in image] for image in images.detach().numpy()])
    assert np.allclose(found.detach().numpy(), expected, atol=1e-5)
    plain = vision(sampling="uniform")
    plain.load_state_dict(net.state_dict())
    torch.testing.assert_close(net(images), plain(found))
    net(images).square().sum().backward()
    assert bool((images.grad.abs().sum((0, 1)) > 0).all())


def test_double_half_and_meta_keep_the_sampling() -> None:
    net, images = vision(), torch.rand(1, 2, SIZE, SIZE)
    close = net.double().sampled(images.double())
    torch.testing.assert_close(close.float(), vision().sampled(images), rtol=1e-5, atol=1e-5)
    assert net.half().tap_weights.dtype == torch.float64  # nothing is gained by rounding them
    with torch.device("meta"):
        empty = vision()
    empty.to_empty(device="cpu")
    assert torch.equal(empty.taps, vision().taps)
    torch.testing.assert_close(empty.sampled(images), vision().sampled(images))


@pytest.mark.parametrize("fixation", ["0.5,0.5", "0.25,0.75"])
def test_pixels_lie_in_the_patches_that_see_them(fixation: str) -> None:
    net = vision(fixation=fixation)
    place = net.pixel_patches()
    assert place.shape == (SIZE, SIZE)
    fovea = [int(float(share) * SIZE) for share in fixation.split(",")]
    assert int(place[fovea[0], fovea[1]]) // 4 == 0  # the innermost ring
    assert int(place[-1, 0]) // 4 == 3
    # A single pixel is seen most by its own patch, wherever it lies.
    for y, x in ((4, 5), (20, 28), (30, 3), (16, 12)):
        images = torch.zeros(1, 2, SIZE, SIZE)
        images[:, :, y, x] = 1
        shown = net.patch_pixels(images)[0].sum(-1)
        assert int(shown.argmax()) == int(place[y, x])


def test_a_shared_model_has_its_sampling(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    pytest.importorskip("safetensors.torch")
    net, images = (
        vision(fixation=(0.25, 0.75), patch_size=16, columns_per_patch=4).eval(),
        torch.randn(2, 2, SIZE, SIZE),
    )
    net.save_pretrained(tmp_path / "model")
    back = cg.VisionColumnformer.from_pretrained(tmp_path / "model")
    assert back.options == net.options
    torch.testing.assert_close(back(images), net(images))
    assert "sampling=log-polar, fixation=0.25,0.75" in repr(back)
