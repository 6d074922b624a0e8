"""Corruptions and the errors under them, against the published constants and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bright_images import Brightness, bright_and_dark

from colgraph.analysis.corruptions import (
    CORRUPTIONS,
    _box,
    _disk,
    _motion,
    _published_disk,
    choose_constants,
    corrupt,
)
from colgraph.analysis.nets import predict
from colgraph.analysis.robustness import corruption_errors


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
    cifar, imagenet = "CIFAR-10-C", "ImageNet-C"
    for constants, spread, photons, hits in ((cifar, 0.04, 500, 0.07), (imagenet, 0.08, 60, 0.27)):
        assert corrupt(grey, "gaussian_noise", 1, constants=constants).std() == pytest.approx(spread, rel=0.03)
        assert corrupt(grey, "shot_noise", 1, constants=constants).std() == pytest.approx(
            np.sqrt(0.5 / photons), rel=0.03
        )
        hit = corrupt(grey, "impulse_noise", 5, constants=constants)
        assert (hit != 0.5).mean() == pytest.approx(hits, abs=0.01)
        assert set(np.unique(hit)) == {0, 0.5, 1}
    assert np.array_equal(corrupt(grey, "fog", 1), corrupt(grey, "fog", 1, constants=cifar))
    with pytest.raises(ValueError, match="constants must be one of 'CIFAR-10-C', 'ImageNet-C', got 'CIFAR-C'"):
        corrupt(grey, "fog", 1, constants="CIFAR-C")


def test_the_nearer_constants_are_chosen_and_said():
    sizes = {
        8: "CIFAR-10-C",
        32: "CIFAR-10-C",
        64: "CIFAR-10-C",
        128: "ImageNet-C",
        224: "ImageNet-C",
        512: "ImageNet-C",
    }
    for side, name in sizes.items():
        assert choose_constants(side, side) == (name, side in (32, 224))
    assert choose_constants(32, 48) == ("CIFAR-10-C", False)
    images, labels = bright_and_dark(6)
    few = {"corruptions": ["contrast"], "severities": [1], "permutations": 2, "progress": False}
    small = corruption_errors(Brightness(), images, labels, **few)
    assert small.name.endswith("constants of CIFAR-10-C (no published benchmark at 8 x 8 pixels)")
    assert small.summary()["images"] == 6
    assert small.summary()["constants"] == "CIFAR-10-C"
    whole = corruption_errors(Brightness(), np.tile(images, (1, 1, 4, 4)), labels, **few)
    assert whole.published
    assert whole.name.endswith("constants of CIFAR-10-C")
    other = corruption_errors(Brightness(), np.tile(images, (1, 1, 4, 4)), labels, constants="ImageNet-C", **few)
    assert not other.published
    assert "ImageNet-C (no published benchmark at 32 x 32" in other.name
    with pytest.raises(ValueError, match="did you mean 'ImageNet-C'"):
        corruption_errors(Brightness(), images, labels, constants="imagenet-c")


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_severity_changes_images_of_any_size(name):
    """Lengths in proportion to small images fall below a pixel, which must not make a corruption nothing."""
    for size in (8, 28, 32, 64):
        images = photo(size, 1)
        for severity in range(1, 6):
            change = np.abs(corrupt(images, name, severity) - images)
            assert change.max() > 5e-3, (size, severity)


def test_pixels_are_those_of_pillow():
    pillow = pytest.importorskip("PIL.Image")
    plane = np.random.default_rng(0).random((32, 32)).astype(np.float32)
    for cells in (30, 28, 27, 24, 20, 7):
        small = pillow.fromarray(plane).resize((cells, cells), pillow.BOX)
        mine = _box(32, cells) @ plane @ _box(32, cells).T
        assert np.allclose(mine, np.asarray(small), atol=1e-5), cells
        large = small.resize((32, 32), pillow.BOX)
        assert np.allclose(_box(cells, 32) @ mine @ _box(cells, 32).T, np.asarray(large), atol=1e-5), cells


def test_simple_families_by_hand():
    images = photo(16)
    mean = images.mean((2, 3), keepdims=True)
    assert np.allclose(corrupt(images, "contrast", 5), (images - mean) * 0.15 + mean, atol=1e-6)
    bright = corrupt(images, "brightness", 1)
    assert np.allclose(bright.max(1), np.minimum(images.max(1) + 0.05, 1), atol=1e-6)
    ratio = images / images.max(1, keepdims=True)
    assert np.allclose(bright / bright.max(1, keepdims=True), ratio, atol=1e-5), "hue and saturation stay"
    steps = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4) / 15
    blocks = corrupt(steps, "pixelate", 2, constants="ImageNet-C")[0, 0]
    assert np.allclose(blocks[:2, :2], 2.5 / 15, atol=1e-6)


def test_blur_kernels():
    assert _disk(0.0).max() == pytest.approx(1)
    for radius in (0.1, 0.7, 3.0):
        kernel = _disk(radius)
        assert kernel.sum() == pytest.approx(1)
        assert np.allclose(kernel, kernel.T)
    assert _disk(0.3).max() < _disk(0.1).max() < 1, "radii below half a pixel blur, too"
    plus = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]]) / 5
    assert np.allclose(_published_disk(1, 0.1)[7:10, 7:10], plus, atol=1e-6)
    bell = np.exp(-(np.arange(-1, 2) ** 2) / (2 * 0.5**2))
    assert np.allclose(_published_disk(0.4, 0.5)[7:10, 7:10], np.outer(bell, bell) / bell.sum() ** 2)


def test_motion_blur_is_a_one_sided_gaussian():
    point = np.zeros((1, 1, 31, 31), np.float32)
    point[0, 0, 15, 15] = 1
    streak = _motion(point, 5.0, 3.0, 0.0, 0.0, np.random.default_rng(0))[0, 0]
    weight = np.exp(-(np.arange(11) ** 2) / 18)
    assert np.allclose(streak[15, 5:16][::-1], weight / weight.sum(), atol=1e-6), "2 x 5 + 1 pixels along a row"
    assert streak[15, 16:].sum() == 0, "one-sided"
    assert streak.sum() == pytest.approx(1)


def test_glass_moves_pixels_no_farther_than_it_says():
    """Where the blur is too narrow to mix, every pixel is that of a place a step or two away."""
    images = np.arange(1024, dtype=np.float32).reshape(1, 1, 32, 32) / 1024
    moved = corrupt(images, "glass_blur", 1)[0, 0] * 1024
    assert np.allclose(moved, np.rint(moved), atol=1e-2)
    assert (moved != images[0, 0] * 1024).mean() > 0.4
    row, column = np.divmod(np.rint(moved), 32)
    assert np.abs(row - np.arange(32)[:, None])[3:-3, 3:-3].max() >= 1
    assert np.median(np.abs(row - np.arange(32)[:, None])) <= 1
    assert np.median(np.abs(column - np.arange(32))) <= 1


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


def test_mean_corrupted_error_by_hand():
    images, labels = bright_and_dark()
    result = corruption_errors(Brightness(), images, labels, corruptions=["brightness", "contrast"], progress=False)
    assert result.clean_error == 0
    level = np.linspace(0.2, 0.8, 40)
    by_hand = [((level < 0.5) & (level + more > 0.5 + 1e-6)).mean() for more in (0.05, 0.1, 0.15, 0.2, 0.3)]
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
