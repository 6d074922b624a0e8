"""Keys of images: by what two runs on the same images are paired."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("datasets")
pytest.importorskip("sklearn")

from colgraph.data import ImageSplits, MemoryImages, load_images
from colgraph.training.images import predictions_of

Image = pytest.importorskip("PIL.Image")


def pictures(folder: Path, names: list[str], order: str) -> Path:
    """A folder of images, each with a color of its own by its name, in two classes."""
    for name in names:
        (folder / name[0]).mkdir(parents=True, exist_ok=True)
        color = tuple(hashlib.sha256(name.encode()).digest()[:3])
        Image.new("RGB", (9, 7), color).save(folder / name[0] / f"{order}{name}.png")
    return folder


def keys_of(splits: ImageSplits) -> dict[str, int]:
    """The label of each image by its key, over training and test images."""
    parts = (splits.train, splits.test)
    return {key: int(label) for part in parts for key, label in zip(part.keys(range(len(part))), part.labels)}


@pytest.mark.parametrize("memory_gb", [1.0, 0.0])
def test_keys_name_images_whatever_their_order_place_and_size(tmp_path: Path, memory_gb: float) -> None:
    names = [f"{kind}{i}" for kind in "ab" for i in range(10)]
    usual = load_images(pictures(tmp_path / "one", names, ""), image_size=8, memory_gb=1.0)
    turned = pictures(tmp_path / "two", names, "")
    for i, path in enumerate(sorted(turned.rglob("*.png"), reverse=True)):
        path.rename(path.with_name(f"{i:02}.png"))
    other = load_images(turned, image_size=4, channels=1, memory_gb=memory_gb, split_seed=3)
    assert len(keys_of(usual)) == 20
    assert keys_of(usual) == keys_of(other)
    assert usual.test.keys([1, 0]).tolist() == usual.test.keys([0, 1])[::-1].tolist()
    file = next((tmp_path / "one").rglob("*.png"))
    assert hashlib.sha256(file.read_bytes()).hexdigest()[:32] in keys_of(usual)


def test_keys_of_what_comes_from_no_file() -> None:
    small, large = (load_images("digits", image_size=size, channels=1) for size in (8, 16))
    assert small.test.keys(range(360)).tolist() == large.test.keys(range(360)).tolist()
    assert len(keys_of(small)) == 1797
    twice = MemoryImages(torch.tensor([3, 5, 3], dtype=torch.uint8).view(3, 1, 1, 1), torch.zeros(3, dtype=torch.int64))
    first, second, third = twice.keys([0, 1, 2])
    assert first == third != second
    assert twice.subset(np.array([1])).keys([0]) == [second]


def test_images_that_cannot_be_read_have_no_place_among_the_answers(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "all", [f"{kind}{i}" for kind in "ab" for i in range(10)], "")
    splits = load_images(folder, image_size=8, memory_gb=0.0, max_corrupt=1)
    broken = splits.test.encoded.read([1])[0]
    assert isinstance(broken, str)
    Path(broken).write_bytes(b"no image")
    seen, _ = splits.test.batch(range(len(splits.test)))
    answers = torch.zeros(len(seen), dtype=torch.int64)
    found = predictions_of(splits.test, {"label": answers, "prediction": answers}, splits.classes)
    assert len(found["image"]) == len(found["label"]) == len(seen) == len(splits.test) - 1
    assert found["image"].tolist() == splits.test.keys([0, *range(2, len(splits.test))]).tolist()
