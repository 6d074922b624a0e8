"""Folders and parquet files: what is read, how it is split, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from colgraph.data import LazyImages, MemoryImages, load_images

datasets = pytest.importorskip("datasets")
Image = pytest.importorskip("PIL.Image")


def write_image(path: Path, value: int, size: tuple[int, int] = (12, 12), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode != "RGB" else (value, value // 2, 255 - value)).save(path)


def make_folder(root: Path, classes: dict[str, int], shift: int = 0) -> Path:
    for c, (name, count) in enumerate(classes.items()):
        for i in range(count):
            write_image(root / name / f"{i}.png", 10 + 40 * c + i + shift)
    return root


def test_folder_without_splits_holds_out_a_stratified_fifth(tmp_path: Path) -> None:
    images = load_images(make_folder(tmp_path, {"cat": 10, "dog": 20}), image_size=8)
    assert images.classes == ["cat", "dog"]
    assert (len(images.train), len(images.test)) == (24, 6)
    assert torch.bincount(images.test.labels).tolist() == [2, 4]
    pixels, labels = images.test.batch(range(6))
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (6, 3, 8, 8)
    assert labels.tolist() == images.test.labels.tolist()
    assert "held out" in images.notes[0]


def test_split_seed_chooses_the_held_out_images_and_nothing_else_does(tmp_path: Path) -> None:
    make_folder(tmp_path, {"a": 20, "b": 20})
    first, again, other = (load_images(tmp_path, image_size=4, split_seed=seed) for seed in (0, 0, 1))
    pixels = [run.test.batch(range(len(run.test)))[0] for run in (first, again, other)]
    assert torch.equal(pixels[0], pixels[1])
    assert not torch.equal(pixels[0], pixels[2])
    train = first.train.batch(range(len(first.train)))[0].flatten(1)
    assert not set(map(tuple, train.tolist())) & set(map(tuple, pixels[0].flatten(1).tolist()))


def test_a_share_of_the_training_images_is_of_each_class_and_leaves_what_is_held_out(tmp_path: Path) -> None:
    make_folder(tmp_path, {"a": 50, "b": 100, "c": 5})
    whole, half, tenth = (load_images(tmp_path, image_size=4, train_share=share) for share in (1, 0.5, 0.1))
    assert torch.bincount(half.train.labels).tolist() == [20, 40, 2]
    assert torch.bincount(tenth.train.labels).tolist() == [4, 8, 1]
    keys = [set(images.train.keys(range(len(images.train)))) for images in (whole, half, tenth)]
    assert keys[2] < keys[1] < keys[0]
    held = [images.test.keys(range(len(images.test))).tolist() for images in (whole, half, tenth)]
    assert held[0] == held[1] == held[2]
    assert "62 of 124 training images" in " ".join(half.notes)
    other = load_images(tmp_path, image_size=4, train_share=0.5, memory_gb=0)
    assert set(other.train.keys(range(len(other.train)))) == keys[1]


def test_a_share_that_cannot_be_is_refused(tmp_path: Path) -> None:
    make_folder(tmp_path, {"a": 5, "b": 5})
    for share in (0, -0.5, 1.5, float("nan")):
        with pytest.raises(ValueError, match="train_share must be above 0 and at most 1"):
            load_images(tmp_path, image_size=4, train_share=share)
    with pytest.raises(ValueError, match="mazes:train=N"):
        load_images("mazes", train_share=0.5)


def test_digits_give_a_share_too() -> None:
    digits = load_images("digits", image_size=8, channels=1, train_share=0.1)
    assert len(digits.train) == 143
    assert bool((torch.bincount(digits.train.labels) >= 13).all())


@pytest.mark.parametrize("held_out", ["val", "test", "validation"])
def test_split_folders_are_used(tmp_path: Path, held_out: str) -> None:
    make_folder(tmp_path / "train", {"a": 6, "b": 6})
    make_folder(tmp_path / held_out, {"a": 2, "b": 3}, shift=7)
    images = load_images(tmp_path, image_size=4)
    assert (len(images.train), len(images.val), len(images.test)) == (12, 5, 5)
    assert images.test.labels.tolist() == [0, 0, 1, 1, 1]


def test_train_val_and_test_folders_stay_apart(tmp_path: Path) -> None:
    for name, count in (("train", 5), ("val", 2), ("test", 3)):
        make_folder(tmp_path / name, {"a": count, "b": count})
    images = load_images(tmp_path, image_size=4)
    assert (len(images.train), len(images.val), len(images.test)) == (10, 4, 6)


def test_hidden_files_texts_and_suffix_case_do_not_matter(tmp_path: Path) -> None:
    make_folder(tmp_path, {"a": 5, "b": 5})
    write_image(tmp_path / "a" / "deep" / "x.JPG", 3)
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "b" / ".hidden.png").write_bytes(b"junk")
    images = load_images(tmp_path, image_size=4)
    assert len(images.train) + len(images.test) == 11


def test_images_that_do_not_fit_in_memory_are_read_when_needed(tmp_path: Path) -> None:
    make_folder(tmp_path, {"a": 10, "b": 10})
    held, lazy = (load_images(tmp_path, image_size=6, memory_gb=gb) for gb in (1.0, 0.0))
    assert isinstance(held.train, MemoryImages)
    assert isinstance(lazy.train, LazyImages)
    for a, b in zip(held.train.batch([3, 0, 7]), lazy.train.batch([3, 0, 7]), strict=True):
        assert torch.equal(a, b)
    assert lazy.mean == pytest.approx(held.mean)
    assert torch.equal(lazy.train[5][0], lazy.train.batch([5])[0][0])


def broken_folder(root: Path, kind: str) -> Path:
    if kind == "empty":
        return root
    if kind == "flat":
        write_image(root / "x.png", 3)
        return root
    if kind == "one class":
        return make_folder(root, {"only": 6})
    make_folder(root, {"a": 6, "b": 6})
    if kind == "empty class":
        (root / "c").mkdir()
    elif kind == "not an image":
        (root / "a" / "junk.png").write_bytes(b"this is text")
    elif kind == "truncated":
        target = root / "a" / "photo.jpg"
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(target)
        target.write_bytes(target.read_bytes()[:600])
    elif kind == "empty file":
        (root / "b" / "zero.png").touch()
    elif kind == "float pixels":
        Image.fromarray(np.zeros((5, 5), dtype=np.float32)).save(root / "b" / "f.tiff")
    return root


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("empty", "no images"),
        ("flat", "no classes"),
        ("one class", "one class only ('only')"),
        ("empty class", "c' has no images"),
        ("not an image", "junk.png': it is in no image format"),
        ("truncated", "photo.jpg': "),
        ("empty file", "zero.png'"),
        ("float pixels", "floating-point pixels"),
    ],
)
def test_broken_folders_are_refused_in_one_line(tmp_path: Path, kind: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        load_images(broken_folder(tmp_path, kind), image_size=8)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_headers_are_checked_even_when_images_are_read_later(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"junk\.png"):
        load_images(broken_folder(tmp_path, "not an image"), image_size=8, memory_gb=0)


def test_held_out_class_that_was_never_trained_on_is_refused(tmp_path: Path) -> None:
    make_folder(tmp_path / "train", {"a": 4, "b": 4})
    make_folder(tmp_path / "val", {"a": 2, "zebra": 2})
    with pytest.raises(ValueError, match=r"'zebra'.*not among the 2"):
        load_images(tmp_path, image_size=4)


def png(value: int) -> bytes:
    import io

    out = io.BytesIO()
    Image.new("RGB", (9, 9), (value, value, 0)).save(out, "PNG")
    return out.getvalue()


def write_parquet(path: Path, labels: list[object], label: object = None, image: str = "image") -> Path:
    features = None
    if label is not None:
        features = datasets.Features({image: datasets.Image(), "label": label})
    rows = {image: [{"bytes": png(10 * i), "path": None} for i in range(len(labels))], "label": labels}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(path))
    return path


def test_parquet_with_class_names(tmp_path: Path) -> None:
    label = datasets.ClassLabel(names=["cat", "dog", "eel"])
    images = load_images(write_parquet(tmp_path / "x.parquet", [0, 1, 2] * 5, label), image_size=4)
    assert images.classes == ["cat", "dog", "eel"]
    assert (len(images.train), len(images.test)) == (12, 3)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [([3, 7] * 5, ["3", "7"]), (["b", "a"] * 5, ["a", "b"]), ([False, True] * 5, ["False", "True"])],
)
def test_parquet_labels_without_names_become_classes_in_order(
    tmp_path: Path, labels: list[object], classes: list[str]
) -> None:
    images = load_images(write_parquet(tmp_path / "x.parquet", labels, image="img"), image_size=4)
    assert images.classes == classes
    assert set(images.train.labels.tolist()) == {0, 1}


def test_parquet_folder_splits_by_file_name(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-00000-of-00002.parquet", [0, 1] * 4)
    write_parquet(tmp_path / "train-00001-of-00002.parquet", [1, 0] * 3)
    (tmp_path / "validation").mkdir()
    write_parquet(tmp_path / "validation" / "0000.parquet", [0, 1, 1])
    images = load_images(tmp_path, image_size=4)
    assert (len(images.train), len(images.val), len(images.test)) == (14, 3, 3)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("train", "trainval", "test"), "two kinds of train files: 'train' and 'trainval'"),
        (("train", "test", "test_corrupted"), "two kinds of test files: 'test' and 'test_corrupted'"),
        (("train", "validation", "val-small"), "two kinds of val files: 'val-small' and 'validation'"),
        (("train-00000-of-00002-0a1b2c3d", "train-00001-of-00002-ffee0011", "train_2", "test"), None),
    ],
)
def test_two_sets_are_not_one_split(tmp_path: Path, names: tuple[str, ...], says: str | None) -> None:
    """A validation set that is trained on, or a test set in which two are averaged, would be silent."""
    for name in names:
        write_parquet(tmp_path / "files" / f"{name}.parquet", [0, 1] * 3)
    tables = {name: datasets.Dataset.from_parquet(str(tmp_path / "files" / f"{name}.parquet")) for name in names}
    datasets.DatasetDict({name.replace("-", "_"): table for name, table in tables.items()}).save_to_disk(
        str(tmp_path / "saved")
    )
    if says is None:
        assert len(load_images(tmp_path / "files", image_size=4).train) == 18
        return
    with pytest.raises(ValueError, match=says) as caught:
        load_images(tmp_path / "files", image_size=4)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"two kinds of \w+ splits: "):
        load_images(tmp_path / "saved", image_size=4)


def test_a_column_called_label_is_the_label(tmp_path: Path) -> None:
    """Whatever other column has names of classes; without a usual name, that one is."""
    domain = datasets.ClassLabel(names=["photo", "sketch"])

    def load(name: str, **columns: object) -> list[str]:
        features = {"image": datasets.Image()} | {
            key: domain if key in ("domain", "labels") else datasets.Value("int64") for key in columns
        }
        cells = {"image": [{"bytes": png(i), "path": None} for i in range(10)]}
        table = datasets.Dataset.from_dict(cells | columns, features=datasets.Features(features))
        table.to_parquet(str(tmp_path / name))
        return load_images(tmp_path / name, image_size=4).classes

    five, two = [0, 1, 2, 3, 4] * 2, [0, 1] * 5
    assert load("both.parquet", domain=two, label=five) == ["0", "1", "2", "3", "4"]
    assert load("typed.parquet", label=five, labels=two) == ["photo", "sketch"]
    assert load("alone.parquet", domain=two, number=five) == ["photo", "sketch"]


def test_test_split_without_labels_is_left_out_with_a_note(tmp_path: Path) -> None:
    label = datasets.ClassLabel(names=["a", "b"])
    write_parquet(tmp_path / "train.parquet", [0, 1] * 4, label)
    write_parquet(tmp_path / "val.parquet", [0, 1, 1], label)
    write_parquet(tmp_path / "test.parquet", [-1, -1], label)
    images = load_images(tmp_path, image_size=4)
    assert len(images.test) == 3
    assert "no labels" in images.notes[0]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 1, None, 1], "row 2 has no label"),
        ([0, 1, 5, 1], "label 5 of row 2 is outside 0..1"),
        ([0, 1, -1, 1], "label -1 of row 2 is outside"),
        ([1, 1, 1, 1, 1], "one class only ('b')"),
    ],
)
def test_bad_labels_are_refused(tmp_path: Path, labels: list[object], words: str) -> None:
    from pyarrow import parquet, table

    path = write_parquet(tmp_path / "x.parquet", [0, 1], datasets.ClassLabel(names=["a", "b"]))
    schema = parquet.read_schema(path)
    # Written past the library, which would refuse such labels itself.
    cells = [{"bytes": png(i), "path": None} for i in range(len(labels))]
    parquet.write_table(table({"image": cells, "label": labels}, schema=schema), path)
    with pytest.raises(ValueError) as caught:
        load_images(path, image_size=4)
    assert words in str(caught.value)


def test_blank_labels_are_missing_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"row 2 has no label \(2 such rows\)"):
        load_images(write_parquet(tmp_path / "x.parquet", ["a", "b", "", " ", "a"]), image_size=4)


@pytest.mark.parametrize("labels", [[0.5, 1.5, 0.5, 1.5], [-1, 0, 1, 1, 0]])
def test_labels_that_are_no_classes_are_refused(tmp_path: Path, labels: list[object]) -> None:
    with pytest.raises(ValueError, match=r"whole numbers|negative"):
        load_images(write_parquet(tmp_path / "x.parquet", labels), image_size=4)


def test_other_columns_of_labels_are_said(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", [0, 1] * 5)
    table = datasets.Dataset.from_parquet(str(path))
    table.add_column("class", ["a", "b"] * 5).add_column("target", [0, 1, 2, 3, 4] * 2).to_parquet(str(path))
    notes = load_images(path, image_size=4).notes
    assert [note for note in notes if note.startswith("labels are")] == [
        "labels are those of column 'label'; 'target' has others, and is passed over"
    ]


def test_broken_parquet_files_are_named(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", [0, 1] * 5)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"x\.parquet.*as parquet"):
        load_images(path, image_size=4)
    only_labels = tmp_path / "y.parquet"
    datasets.Dataset.from_dict({"label": [0, 1], "speed": [1.0, 2.0]}).to_parquet(str(only_labels))
    with pytest.raises(ValueError, match="no image column: it has label, speed"):
        load_images(only_labels, image_size=4)


def test_row_of_an_unreadable_parquet_image_is_named(tmp_path: Path) -> None:
    features = datasets.Features({"image": datasets.Image(decode=False), "label": datasets.Value("int64")})
    cells = [{"bytes": png(1), "path": None}] * 5 + [{"bytes": b"junk", "path": None}]
    path = tmp_path / "x.parquet"
    datasets.Dataset.from_dict({"image": cells, "label": [0, 1] * 3}, features=features).to_parquet(str(path))
    with pytest.raises(ValueError, match=r"cannot read image 5 of .*x\.parquet"):
        load_images(path, image_size=4)
