"""Targets per patch of a user's own data: masks and lists, read as they are meant, or refused by name."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from colgraph.data import IGNORED, load_images
from colgraph.data.class_masks import class_numbers, patch_classes

datasets = pytest.importorskip("datasets")
Image = pytest.importorskip("PIL.Image")

GRID = (2, 2)
NUMBERS = np.array([[0, 1], [2, 255]], dtype=np.uint8)
TARGETS = [[0, 1], [2, IGNORED]]


def encoded(picture: Any, form: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def photo(size: tuple[int, int] = (8, 8), **options: Any) -> bytes:
    return encoded(Image.new("RGB", size, (9, 99, 199)), **options)


def pixels(numbers: np.ndarray = NUMBERS, times: int = 4) -> np.ndarray:
    return numbers.repeat(times, 0).repeat(times, 1)


def grey(numbers: np.ndarray) -> bytes:
    return encoded(Image.fromarray(numbers))


def palette(numbers: np.ndarray) -> bytes:
    picture = Image.fromarray(numbers).convert("P")
    picture.putdata(numbers.ravel().tolist())
    picture.putpalette([255 - i // 3 for i in range(768)])
    return encoded(picture)


def few_bits(numbers: np.ndarray, bits: int) -> bytes:
    """A grey PNG of fewer than 8 bits, which Pillow does not write."""
    rows = b"".join(
        b"\0" + np.packbits(np.unpackbits(row[:, None], axis=1)[:, -bits:].ravel()).tobytes() for row in numbers
    )
    head = struct.pack(">IIBBBBB", numbers.shape[1], numbers.shape[0], bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    parts = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def folder(place: Path, cells: list[Any], image: bytes | None = None, column: str = "mask", **features: Any) -> Path:
    """Training and test images, each with every one of the targets."""
    place.mkdir(exist_ok=True)
    is_mask = isinstance(cells[0], bytes)
    columns = {
        "image": [{"bytes": image or photo(), "path": f"img{i}.png"} for i in range(len(cells))],
        column: [{"bytes": cell, "path": None} for cell in cells] if is_mask else cells,
    }
    kinds = {"image": datasets.Image(), **({column: datasets.Image()} if is_mask else {}), **features}
    table = datasets.Dataset.from_dict(columns)
    for name, kind in kinds.items():
        table = table.cast_column(name, kind)
    for split in ("train", "test"):
        table.to_parquet(str(place / f"{split}.parquet"))
    return place


def read(place: Path, **options: Any) -> Any:
    return load_images(place, **{"image_size": 8, "grid": GRID, **options})


@pytest.mark.parametrize(
    "mask",
    [
        *(grey(pixels()), grey(NUMBERS), palette(pixels()), palette(NUMBERS)),
        encoded(Image.fromarray(pixels().astype(np.uint16))),
        encoded(Image.fromarray(pixels()), "TIFF"),
        encoded(Image.fromarray(pixels()), "TIFF", compression="tiff_lzw"),
    ],
)
def test_masks_are_class_numbers_per_patch_or_per_pixel(tmp_path: Path, mask: bytes) -> None:
    images = read(folder(tmp_path, [mask, mask, mask]))
    assert images.train.labels.tolist() == [TARGETS] * 3
    assert images.classes == ["0", "1", "2"]
    assert images.train.batch([1])[1].tolist() == [TARGETS]
    assert images.train.labels.dtype == torch.int64


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_are_not_stretched(bits: int) -> None:
    numbers = np.arange(16, dtype=np.uint8).reshape(4, 4) % 2**bits
    np.testing.assert_array_equal(class_numbers(few_bits(numbers, bits)), numbers)


@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    seed=st.integers(),
)
@settings(max_examples=40)
def test_a_patch_has_the_class_of_most_of_its_pixels(
    height: int, width: int, rows: int, columns: int, seed: int
) -> None:
    numbers = np.random.default_rng(abs(seed)).choice([0, 1, 3, 255], (height, width)).astype(np.int64)
    side = min(height, width)
    expected = np.full((rows, columns), IGNORED)
    for row in range(rows):
        for column in range(columns):
            inside = [
                int(numbers[y, x])
                for y in range(height)
                for x in range(width)
                if row <= (y + 0.5 - (height - side) / 2) * rows / side < row + 1
                and column <= (x + 0.5 - (width - side) / 2) * columns / side < column + 1
            ]
            counts = {each: inside.count(each) for each in (3, 1, 0) if each in inside}
            if counts:
                expected[row, column] = max(reversed(counts), key=lambda each: counts[each])
    np.testing.assert_array_equal(patch_classes(numbers, (rows, columns)), expected)


def test_masks_are_cropped_as_their_images_are(tmp_path: Path) -> None:
    wide = np.full((8, 16), 3, dtype=np.uint8)
    wide[:, 4:12] = pixels()
    place = folder(tmp_path, [grey(wide)] * 2, photo((16, 8)))
    assert read(place).train.labels[0].tolist() == TARGETS


def test_the_orientation_of_an_image_is_heeded(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    image = photo((8, 16), form="JPEG", exif=exif)
    wide = np.full((8, 16), 2, dtype=np.uint8)
    wide[:, 4:12] = pixels()
    assert read(folder(tmp_path / "shown", [grey(wide)] * 2, image)).train.labels[0].tolist() == TARGETS
    with pytest.raises(ValueError, match=r"image 'img0.png': it has 8 x 16 pixels"):
        read(folder(tmp_path / "stored", [grey(wide.T.copy())] * 2, image))
    square = photo((8, 8), form="JPEG", exif=exif)
    with pytest.raises(ValueError, match="turned by its orientation tag, save it upright"):
        read(folder(tmp_path / "square", [grey(pixels())] * 2, square))


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (grey(pixels()[:6]), "the mask of image 'img0.png': it has 8 x 6 pixels and must have 8 x 8"),
        (encoded(Image.fromarray(pixels()).convert("RGB")), "its pixels are RGB"),
        (encoded(Image.fromarray(pixels()).convert("LA")), "its pixels are LA"),
        (encoded(Image.fromarray(pixels()), "JPEG"), "JPEG does not keep class numbers"),
        (b"nothing", "the mask of image 'img0.png': it is in no image format"),
        (grey(np.full((8, 8), 255, dtype=np.uint8)), "every target is ignored, from that of image 'img0.png' on"),
        (grey(np.zeros((8, 8), dtype=np.uint8)), "every target is class 0 or ignored, as 255 is"),
        (grey(np.where(pixels() == 1, 255, 0).astype(np.uint8)), "(masks of two have 0 and 1)"),
        (encoded(Image.fromarray(np.full((2, 2), 300, dtype=np.uint16))), "class 300 of patch 0, 0 is outside 0..254"),
    ],
)
def test_masks_that_do_not_fit_are_refused_by_name(tmp_path: Path, mask: bytes, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        read(folder(tmp_path, [mask, mask]))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_classes_have_the_names_in_the_folder(tmp_path: Path) -> None:
    place = folder(tmp_path, [grey(NUMBERS)] * 2)
    (place / "classes.txt").write_text("sky\r\nsea\r\nland\r\n")
    assert read(place).classes == ["sky", "sea", "land"]
    (place / "classes.txt").write_text("sky\nsea\n")
    with pytest.raises(ValueError, match=r"image 'img0.png': class 2 of patch 1, 0 is outside 0..1 \(2 classes"):
        read(place)
    (place / "classes.txt").write_text("sky\nsea\nsky")
    with pytest.raises(ValueError, match="names 'sky' twice"):
        read(place)
    (place / "classes.txt").write_text("sky\n\nsea\nland\n")
    with pytest.raises(ValueError, match="has nothing in line 2, and classes are numbered by lines"):
        read(place)


# ---------------------------------------------------------------------- lists


@pytest.mark.parametrize(
    "cell", [[0, 1, 2, 255], [[0, 1], [2, 255]], [[0, 1], [2, IGNORED]], [0.0, 1.0, 2.0, None], [0, 1, 2, float("nan")]]
)
def test_lists_of_class_numbers(tmp_path: Path, cell: Any) -> None:
    images = read(folder(tmp_path, [cell] * 3, column="targets"))
    assert images.train.labels.tolist() == [TARGETS] * 3


def test_lists_of_vectors_and_arrays(tmp_path: Path) -> None:
    vectors = np.arange(12, dtype=np.float32).reshape(2, 2, 3) / 7
    kind = datasets.Array3D((2, 2, 3), "float32")
    for name, features in (("lists", {}), ("arrays", {"targets": kind})):
        images = read(folder(tmp_path / name, [vectors.tolist()] * 2, column="targets", **features))
        np.testing.assert_array_equal(images.test.labels[1], vectors)
        assert images.classes == ["0", "1", "2"]
    kind = datasets.Array2D((2, 2), "int64")
    assert (
        read(folder(tmp_path / "2d", [TARGETS] * 2, column="targets", targets=kind)).test.labels[1].tolist() == TARGETS
    )


def test_names_that_lists_carry_are_joined(tmp_path: Path) -> None:
    first = datasets.Sequence(datasets.ClassLabel(names=["a", "b", "c"]))
    second = datasets.Sequence(datasets.ClassLabel(names=["c", "a"]))
    place = folder(tmp_path / "x", [[0, 1, 2, 1]] * 2, column="targets", targets=first)
    other = folder(tmp_path / "y", [[0, 1, 1, 0]] * 2, column="targets", targets=second)
    (other / "test.parquet").rename(place / "test.parquet")
    images = read(place)
    assert images.classes == ["a", "b", "c"]
    assert images.train.labels[0].tolist() == [[0, 1], [2, 1]]
    assert images.test.labels[0].tolist() == [[2, 0], [0, 2]]


def test_numbers_without_names_beside_lists_that_carry_them_are_refused(tmp_path: Path) -> None:
    names = datasets.Sequence(datasets.ClassLabel(names=["a", "b", "c"]))
    place = folder(tmp_path / "x", [[0, 1, 2, 1]] * 2, column="targets", targets=names)
    other = folder(tmp_path / "y", [[0, 1, 1, 0]] * 2, column="targets")
    (other / "test.parquet").replace(place / "test.parquet")
    with pytest.raises(ValueError, match=r"\(test\) has numbers for classes where .* has names \(a, b, c\)"):
        read(place)
    (place / "classes.txt").write_text("a\nb\nc\n")
    assert read(place).test.labels[0].tolist() == [[0, 1], [1, 0]]


def test_an_image_that_cannot_be_read_is_not_called_its_mask(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'img0\.png': the image itself cannot be read: it is in no image format"):
        read(folder(tmp_path, [grey(NUMBERS)] * 2, b"nothing"))


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([[0, 1, 2]] * 2, "the targets of image 'img0.png': expected [4] or [2, 2] class numbers or [2, 2, K]"),
        ([[0, 1, 2, 0.5]] * 2, "class numbers are whole, got 0.5"),
        ([[0, 1, 2, -3]] * 2, "the targets of image 'img0.png': class -3 of patch 1, 1"),
        ([[0, 1, 1, 0], [0, 1]], "the targets of image 'img1.png'"),
        ([["a", "b", "c", "d"]] * 2, "they must be numbers"),
        ([[[[0.0], [1.0]], [[0.0], [1.0]]], [[[0.0] * 2] * 2] * 2], "'img1.png' have shape [2, 2, 2], those before"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path: Path, cells: list[Any], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        read(folder(tmp_path, cells, column="targets"))
    assert words in str(caught.value)


def test_labels_of_images_are_refused_where_a_grid_is_asked_for(tmp_path: Path) -> None:
    place = folder(tmp_path / "x", [0, 1], column="label")
    with pytest.raises(ValueError, match="no target per patch for a grid of 2 x 2: it has image, label"):
        read(place)
    (tmp_path / "y" / "a").mkdir(parents=True)
    (tmp_path / "y" / "a" / "x.png").write_bytes(photo())
    with pytest.raises(ValueError, match="label per image, none per patch"):
        read(tmp_path / "y")


def test_columns_that_leave_a_choice_are_refused(tmp_path: Path) -> None:
    place = folder(tmp_path, [grey(NUMBERS)] * 2)
    table = datasets.Dataset.from_parquet(str(place / "train.parquet"))
    table.add_column("targets", [[0, 1, 2, 0]] * 2).to_parquet(str(place / "train.parquet"))
    with pytest.raises(ValueError, match="targets in mask and in targets: leave one"):
        read(place)


def test_a_fifth_is_held_out_and_saved_folders_are_read(tmp_path: Path) -> None:
    place = folder(tmp_path / "x", [grey(NUMBERS)] * 10)
    table = datasets.Dataset.from_parquet(str(place / "train.parquet"))
    table = table.add_column("difficulty", [float(i) for i in range(10)])
    table.save_to_disk(str(tmp_path / "saved"))
    for memory_gb in (2.0, 0.0):
        images = read(tmp_path / "saved", memory_gb=memory_gb)
        assert (len(images.train), len(images.test)) == (8, 2)
        whole = torch.cat([images.train.difficulty, images.test.difficulty])
        assert sorted(whole.tolist()) == list(range(10))


def test_vectors_are_finite() -> None:
    from colgraph.data.class_masks import _targets

    vectors = np.zeros((2, 2, 3))
    vectors[0, 1, 2] = np.nan
    assert np.isnan(_targets(vectors.tolist(), (2, 2))).sum() == 1
    vectors[1, 1, 0] = np.inf
    with pytest.raises(ValueError, match="must be finite in float32, or nan to be ignored, got inf"):
        _targets(vectors.tolist(), (2, 2))
