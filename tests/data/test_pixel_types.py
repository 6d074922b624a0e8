"""Pixels are scaled by the type they are stored in, not by the values they happen to have."""

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

from colgraph.data import BatchTransform, MemoryImages, load_images
from colgraph.data.decode import UnreadableImageError, decode_image

Image = pytest.importorskip("PIL.Image")


def encode(array: np.ndarray, kind: str, **more: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, kind, **more)
    return out.getvalue()


def png_rgb16(pixels: np.ndarray, key: tuple[int, int, int] | None = None) -> bytes:
    """A PNG of 16 bits a channel, which Pillow does not write; ``key`` is its transparent color."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = pixels.shape[:2]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    clear = b"" if key is None else chunk(b"tRNS", struct.pack(">3H", *key))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return b"\x89PNG\r\n\x1a\n" + head + clear + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(pixels: bytes, size: int, bits: int, photometric: int = 1, sample_format: int = 1) -> bytes:
    """A little-endian grey TIFF without compression."""
    tags = ((256, size), (257, size), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, size))
    tags += ((279, len(pixels)), (339, sample_format))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return struct.pack("<2sHI", b"II", 42, 8 + len(pixels)) + pixels + struct.pack("<H", len(tags)) + entries + bytes(4)


WRITTEN = [("PNG", "<u2"), ("PNG", ">u2"), ("TIFF", "<u2"), ("TIFF", ">u2"), ("PPM", "<u2"), ("JPEG2000", "<u2")]


@given(value=st.integers(0, 65535), written=st.sampled_from(WRITTEN))
@settings(max_examples=60)
def test_sixteen_bits_are_scaled_by_their_type(value: int, written: tuple[str, str]) -> None:
    kind, order = written
    # A dark image, all of whose pixels are below 256, is dark.
    found = decode_image(encode(np.full((16, 16), value, order), kind), 16, 1)
    assert (found == value >> 8).all()


def test_sixteen_bit_colors_are_as_grey_ones_of_the_same_values() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (8, 8), dtype=np.uint16)
    grey = decode_image(encode(values, "PNG"), 8, 3)
    assert torch.equal(decode_image(png_rgb16(np.stack([values] * 3, -1)), 8, 3), grey)


@pytest.mark.parametrize("dark", [200, 40])
def test_one_file_of_a_dark_folder_is_as_dark_as_the_others(tmp_path: Path, dark: int) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(5):
            (tmp_path / name / f"{i}.png").write_bytes(encode(np.full((8, 8), dark + 100 * i, np.uint16), "PNG"))
    pytest.importorskip("datasets")
    images = load_images(tmp_path, image_size=8, channels=1)
    assert int(images.train.batch(range(len(images.train)))[0].max()) <= 2


def test_parquet_bytes_are_scaled_as_files_are(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    data = encode(np.full((8, 8), 200, np.uint16), "PNG")
    rows = {"image": [{"bytes": data, "path": None}] * 10, "label": [0, 1] * 5}
    datasets.Dataset.from_dict(rows).to_parquet(str(tmp_path / "x.parquet"))
    assert int(load_images(tmp_path, image_size=8, channels=1).test.batch([0])[0].max()) == 0


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (8, 8, 3)])
def test_arrays_in_parquet_files_are_bytes_or_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """What is above 255 was taken modulo 256, floats ended in a traceback, and grey bytes were called 32-bit."""
    datasets = pytest.importorskip("datasets")

    def read(array: np.ndarray) -> np.ndarray:
        rows = {"image": array.tolist(), "label": [0, 1] * 5}
        datasets.Dataset.from_dict(rows).to_parquet(str(tmp_path / "train.parquet"))
        datasets.Dataset.from_dict(rows).to_parquet(str(tmp_path / "test.parquet"))
        return load_images(tmp_path, image_size=8, channels=shape[2] if len(shape) > 2 else 1).train.batch(range(10))[0]

    values = np.random.default_rng(0).integers(0, 256, (10, *shape))
    assert np.array_equal(read(values).numpy(), values.reshape(10, 8, 8, -1).transpose(0, 3, 1, 2))
    for wrong, words in (
        (values + 1000, "int64 from 1[0-9]+ to 12[0-9]+: give whole numbers from 0 to 255"),
        (values / 255, r"float64 from [0-9.]+ to [0-9.]+: give whole numbers"),
        (values.reshape(10, 1, -1, 8), r"is an array \[1, [0-9]+, 8\]: give \[height, width, 3\]"),
    ):
        with pytest.raises(ValueError, match=rf"image [0-9] of .*{words}"):
            read(wrong)


def test_a_column_that_holds_no_images_is_named(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {"image": [1.5] * 10, "label": [0, 1] * 5}
    datasets.Dataset.from_dict(rows).to_parquet(str(tmp_path / "x.parquet"))
    with pytest.raises(ValueError, match="column 'image' holds no images but float64"):
        load_images(tmp_path, image_size=8, channels=1)


def test_twelve_bits_and_white_as_zero_are_read_as_the_file_says() -> None:
    twelve = bytes([0x0F, 0x80, 0xF8]) * 8  # pairs of 12 bits, 0x0F8
    assert (decode_image(tiff(twelve, 4, 12), 4, 1) == 0x0F).all()
    wide = np.full((4, 4), 1000, "<u2").tobytes()
    assert (decode_image(tiff(wide, 4, 16, photometric=1), 4, 1) == 3).all()
    assert (decode_image(tiff(wide, 4, 16, photometric=0), 4, 1) == 252).all()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (encode(np.full((4, 4), 200, np.int32), "TIFF"), "32-bit integer pixels"),
        (tiff(np.full((4, 4), 200, "<i2").tobytes(), 4, 16, sample_format=2), "signed 16-bit integer pixels"),
        (tiff(np.full((4, 4), -1, "i1").tobytes(), 4, 8, sample_format=2), "signed 8-bit integer pixels"),
        (encode(np.full((4, 4), 0.5, np.float32), "TIFF"), "floating-point pixels"),
    ],
)
def test_types_without_a_range_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(UnreadableImageError, match=f"{words} have no agreed range"):
        decode_image(data, 4, 1)


def test_tiffs_that_pillow_reads_as_something_else_are_refused_and_others_are_not() -> None:
    """Planes of 16 bits came out as noise, and all but the first page or channel was dropped."""
    tifffile = pytest.importorskip("tifffile")
    colors = np.random.default_rng(0).integers(0, 65536, (3, 8, 8), dtype=np.uint16)

    def written(*pages: np.ndarray, **more: Any) -> bytes:
        out = io.BytesIO()
        with tifffile.TiffWriter(out) as file:
            for page in pages:
                file.write(page, contiguous=False, **more)
        return out.getvalue()

    in_planes: dict[str, Any] = {"photometric": "rgb", "planarconfig": "separate"}
    bytes_of = (colors >> 8).astype(np.uint8)
    for data in (
        written(colors, **in_planes, compression="zlib"),
        written(bytes_of, **in_planes),
        written(np.ascontiguousarray(colors.transpose(1, 2, 0)), photometric="rgb"),
    ):
        assert np.array_equal(decode_image(data, 8, 3).numpy(), bytes_of)
    grey: dict[str, Any] = {"photometric": "minisblack"}
    for data, words in (
        (written(colors, **in_planes), "its 16-bit channels are planes"),
        (written(*bytes_of, **grey), "it has several pages"),
        (written(bytes_of[:2].transpose(1, 2, 0).copy(), **grey, planarconfig="contig"), "it has 2 channels"),
    ):
        with pytest.raises(UnreadableImageError, match=words):
            decode_image(data, 8, 3)
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as file:
        file.write(bytes_of[0], **grey)
        file.write(bytes_of[0, ::2, ::2], **grey, subfiletype=1)  # a smaller copy, as cameras and scanners add
    assert np.array_equal(decode_image(out.getvalue(), 8, 1)[0].numpy(), bytes_of[0])


def test_bits_palettes_inks_and_alpha() -> None:
    assert (decode_image(encode(np.ones((4, 4), bool), "PNG"), 4, 1) == 255).all()
    inks = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    out = io.BytesIO()
    inks.save(out, "TIFF")
    assert decode_image(out.getvalue(), 4, 3)[:, 0, 0].tolist() == [255, 0, 0]
    alpha = Image.new("LA", (4, 4), (100, 0))
    out = io.BytesIO()
    alpha.save(out, "PNG")
    assert (decode_image(out.getvalue(), 4, 1) == 255).all()
    palette = Image.fromarray(np.zeros((4, 4), np.uint8)).convert("P")
    out = io.BytesIO()
    palette.save(out, "PNG", transparency=0)
    assert (decode_image(out.getvalue(), 4, 1) == 255).all()


def test_transparent_color_of_sixteen_bits_is_laid_over_white() -> None:
    values = np.full((4, 4), 300, np.uint16)
    values[0, 0] = 301
    found = decode_image(encode(values, "PNG", transparency=301), 4, 1)[0]
    assert (int(found[0, 0]), int(found[1, 1])) == (255, 1)
    colors = np.full((4, 4, 3), 0xFF00, np.uint16)
    colors[0, 0] = (0x1200, 0x3400, 0x5600)
    found = decode_image(png_rgb16(colors, (0x1200, 0x3400, 0x5600)), 4, 3)
    assert found[:, 0, 0].tolist() == [255, 255, 255]


def test_arrays_that_are_handed_over_are_scaled_by_their_type_or_refused() -> None:
    labels = np.array([0, 1])
    wide = MemoryImages(np.full((2, 1, 4, 4), 200, np.uint16), labels)
    assert (wide.images.dtype, int(wide.images.max())) == (torch.uint8, 0)
    assert int(MemoryImages(np.ones((2, 1, 4, 4), bool), labels).images.min()) == 255
    for kind in (np.float32, np.int64, np.int16):
        with pytest.raises(ValueError, match=f"{np.dtype(kind).name} pixels have no agreed range"):
            MemoryImages(np.zeros((2, 1, 4, 4), kind), labels)
    with pytest.raises(ValueError, match="and 3 labels"):
        MemoryImages(np.zeros((2, 1, 4, 4), np.uint8), [0, 1, 1])
    with pytest.raises(ValueError, match="whole numbers"):
        MemoryImages(np.zeros((2, 1, 4, 4), np.uint8), [0.0, 1.0])
    transform = BatchTransform((0.5,), (0.5,))
    for change in (transform.evaluate, lambda images: transform.train(images, 0)):
        with pytest.raises(ValueError, match=r"uint8, from 0 to 255, got float32"):
            change(torch.rand(2, 1, 4, 4))


def test_numpy_numbers_are_numbers() -> None:
    plain = BatchTransform((0.5,), (0.5,), "affine", seed=3)
    numpy = BatchTransform(np.array([0.5]), np.array([0.5]), "affine", seed=np.int64(3))  # type: ignore[arg-type]
    images = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(plain.train(images, 5), numpy.train(images, np.int64(5)))  # type: ignore[arg-type]
