"""Unreadable images: counted, named, left out up to a limit, in memory and in worker processes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from colgraph.data import load_images
from colgraph.data.sets import LazyImages

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("datasets")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty noisy JPEGs of two classes, of which three are broken: no image, truncated, empty."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 30), ("test", 10)):
        for i in range(count):
            path = tmp_path / split / ("even" if i % 2 == 0 else "odd") / f"{i:02}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            out = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(out, "JPEG")
            path.write_bytes(out.getvalue())
    (tmp_path / "train" / "even" / "04.jpg").write_bytes(b"this is no image")
    whole = (tmp_path / "train" / "odd" / "07.jpg").read_bytes()
    (tmp_path / "train" / "odd" / "07.jpg").write_bytes(whole[:-100])
    (tmp_path / "test" / "odd" / "03.jpg").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize("memory_gb", [1.0, 0.0])
def test_unreadable_images_are_left_out_and_named(
    folder: Path, memory_gb: float, capfd: pytest.CaptureFixture[str]
) -> None:
    splits = load_images(folder, image_size=16, memory_gb=memory_gb, max_corrupt=3)
    everything = [splits.train.batch(range(len(splits.train))), splits.test.batch(range(len(splits.test)))]
    assert [len(labels) for _, labels in everything] == [28, 9]
    assert [int(labels.sum()) for _, labels in everything] == [14, 4]
    names = splits.skipped.names()
    assert {Path(name.strip("'")).name for name in names} == {"04.jpg", "07.jpg", "03.jpg"}
    said = capfd.readouterr().err
    for name in ("04.jpg", "07.jpg", "03.jpg"):
        assert said.count(f"{name}': ") == 1
    splits.train.batch(range(len(splits.train)))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("memory_gb", [1.0, 0.0])
def test_one_more_than_the_limit_is_an_error_that_names_it(folder: Path, memory_gb: float) -> None:
    def read(limit: int) -> None:
        splits = load_images(folder, image_size=16, memory_gb=memory_gb, max_corrupt=limit)
        splits.train.batch(range(len(splits.train)))

    with pytest.raises(ValueError, match=r"cannot read image .*\.jpg'.*\(2 unreadable images were skipped before"):
        read(2)
    with pytest.raises(ValueError, match=r"cannot read image .*\.jpg'"):
        read(0)


def test_workers_leave_out_the_same_images_in_the_same_order(folder: Path) -> None:
    seen = []
    for workers in (0, 2):
        splits = load_images(folder, image_size=16, memory_gb=0, max_corrupt=3)
        assert isinstance(splits.train, LazyImages)
        loader = DataLoader(splits.train, batch_size=5, num_workers=workers, collate_fn=lambda batch: batch)
        batches = list(loader)
        # What workers have skipped, the main process knows.
        assert len(splits.skipped.names()) == 3
        seen.append(batches)
    # The broken header is out before there are batches; the truncated image leaves a smaller batch behind.
    assert sorted(len(labels) for _, labels in seen[0]) == [4, 4, 5, 5, 5, 5]
    for (images, labels), (others, same) in zip(*seen, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, same)


def test_batch_without_any_readable_image_is_an_error(folder: Path) -> None:
    splits = load_images(folder, image_size=16, memory_gb=0, max_corrupt=3)
    paths = splits.train.encoded.read(range(len(splits.train)))  # type: ignore[attr-defined]
    broken = next(i for i, path in enumerate(paths) if str(path).endswith("07.jpg"))
    with pytest.raises(ValueError, match="none of the 1 images"):
        splits.train.batch([broken])
