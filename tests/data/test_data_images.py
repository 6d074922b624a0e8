"""Decoding and augmentation: closed-form pixels, determinism, bounds."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from colgraph.data import BatchTransform, augment_affine, augment_natural
from colgraph.data.decode import decode_image, image_to_tensor

Image = pytest.importorskip("PIL.Image")


def encode(image: object, kind: str = "PNG", **more: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **more)  # type: ignore[attr-defined]
    return out.getvalue()


def test_pixels_of_an_image_of_the_right_size_are_untouched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    decoded = decode_image(encode(Image.fromarray(pixels)), 7, 3)
    assert torch.equal(decoded, torch.from_numpy(pixels).permute(2, 0, 1))


def test_centre_is_kept_and_scaled() -> None:
    # A white square in the middle of a wide black picture: only the square is left, at half its size. The filter
    # looks over the cut as it would if the whole picture were resized, so only the border may darken a little.
    picture = Image.new("L", (40, 16), 0)
    picture.paste(255, (12, 0, 28, 16))
    for turned in (picture, picture.transpose(Image.Transpose.ROTATE_90)):
        square = image_to_tensor(turned, 8, 1)
        assert (square[:, 1:-1, 1:-1] == 255).all()
        assert int(square.min()) > 220


def test_grey_color_transparency_and_palette_are_converted() -> None:
    grey = image_to_tensor(Image.new("L", (4, 4), 77), 4, 3)
    assert (grey == 77).all()
    luma = image_to_tensor(Image.new("RGB", (4, 4), (100, 50, 200)), 4, 1)
    assert int(luma[0, 0, 0]) == pytest.approx(0.299 * 100 + 0.587 * 50 + 0.114 * 200, abs=1)
    clear = image_to_tensor(Image.new("RGBA", (4, 4), (255, 0, 0, 0)), 4, 3)
    assert (clear == 255).all()
    half = image_to_tensor(Image.new("RGBA", (4, 4), (255, 0, 0, 128)), 4, 3)
    assert int(half[0, 0, 0]) == 255
    assert int(half[1, 0, 0]) == pytest.approx(127, abs=1)
    palette = image_to_tensor(Image.new("RGB", (4, 4), (10, 20, 30)).quantize(), 4, 3)
    assert palette[:, 0, 0].tolist() == [10, 20, 30]


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    wide = Image.fromarray(np.full((4, 4), 257 * 60, dtype=np.uint16))
    assert (decode_image(encode(wide), 4, 1) == 60).all()


def test_orientation_tag_is_applied() -> None:
    picture = Image.new("L", (8, 8), 0)
    picture.paste(255, (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = decode_image(encode(picture, "JPEG", exif=exif, quality=100), 8, 1)
    assert int(turned[0, 0, 0]) < 10
    assert int(turned[0, 7, 0]) > 245


def blob(count: int = 16, channels: int = 3, size: int = 12) -> torch.Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("augment", [augment_affine, augment_natural])
@pytest.mark.parametrize("channels", [1, 3])
def test_augmentation_is_deterministic_per_image_and_stays_in_range(augment: object, channels: int) -> None:
    images = blob(channels=channels)
    runs = [augment(images, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]  # type: ignore[operator]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    assert runs[0].shape == images.shape
    assert float(runs[0].min()) >= 0
    assert float(runs[0].max()) <= 1 + 1e-6
    same = augment(images[:1].expand(8, -1, -1, -1), torch.Generator().manual_seed(0))  # type: ignore[operator]
    assert len({tuple(image.flatten().tolist()) for image in same}) == 8


def test_augmentation_of_no_strength_changes_nothing() -> None:
    images = blob()
    still = augment_affine(images, torch.Generator(), rotation=0, shift=0, scale=0, shear=0)
    assert torch.allclose(still, images, atol=1e-5)
    still = augment_natural(images, torch.Generator(), min_area=1, ratio=1, flip=False, jitter=0)
    assert torch.allclose(still, images, atol=1e-5)


def test_flip_mirrors_half_of_the_images() -> None:
    images = blob(400, 1, 6)
    out = augment_natural(images, torch.Generator().manual_seed(0), min_area=1, ratio=1, jitter=0)
    mirrored = torch.isclose(out, images.flip(-1), atol=1e-4).flatten(1).all(1)
    kept = torch.isclose(out, images, atol=1e-4).flatten(1).all(1)
    assert bool((mirrored ^ kept).all())
    assert 0.4 < float(mirrored.float().mean()) < 0.6


def test_transform_normalises_and_depends_on_step_and_rank_only() -> None:
    images = (blob() * 255).to(torch.uint8)
    transform = BatchTransform((0.5, 0.4, 0.3), (0.1, 0.2, 0.5), "natural", seed=1)
    plain = transform.evaluate(images)
    assert plain[0, 1, 2, 3].item() == pytest.approx((images[0, 1, 2, 3].item() / 255 - 0.4) / 0.2, abs=1e-5)
    first, again = transform.train(images, 7), transform.train(images, 7)
    assert torch.equal(first, again)
    assert not torch.equal(first, transform.train(images, 8))
    assert not torch.equal(first, transform.train(images, 7, rank=1))
    with pytest.raises(ValueError, match="unknown augmentation 'wild'"):
        BatchTransform((0.0,), (1.0,), "wild")
