"""Folders: which are splits, which are classes, what lists of images say, and what is passed over."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colgraph.data import load_images

pytest.importorskip("datasets")
Image = pytest.importorskip("PIL.Image")

GRAY = {"cat": 40, "dog": 200}


def fill(folder: Path, name: str, count: int = 3) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("L", (5, 5), GRAY[name]).save(folder / f"{name}{i}.png")


def classes(folder: Path, count: int = 3) -> None:
    for name in GRAY:
        fill(folder / name, name, count)


def check(images: Any) -> None:
    """Dogs are dogs, in every split."""
    for part in (images.train, images.val, images.test):
        pixels, labels = part.batch(range(len(part)))
        for pixel, label in zip(pixels[:, 0, 0, 0].tolist(), labels.tolist(), strict=True):
            assert GRAY[images.classes[label]] == pixel


TRAIN = ["train", "Train", "TRAINING", "seg_train", "images_train", "train2017", "Training Images", "imagesTrain"]
HELD_OUT = ["test", "Testing", "seg_test", "TEST-SET", "test_images", "val", "valid", "Validation", "dev", "val2017"]


@given(train=st.sampled_from(TRAIN), held=st.sampled_from(HELD_OUT), twice=st.booleans(), wrapped=st.booleans())
@settings(max_examples=15)
def test_folders_named_after_splits_are_splits(
    tmp_path_factory: pytest.TempPathFactory, train: str, held: str, twice: bool, wrapped: bool
) -> None:
    root = tmp_path_factory.mktemp("splits")
    inside = root / "archive" if wrapped else root
    for name, count in ((train, 4), (held, 2)):
        classes(inside / name / name if twice else inside / name, count)
    images = load_images(root, image_size=5, channels=1)
    assert images.classes == ["cat", "dog"]
    assert (len(images.train), len(images.test)) == (8, 4)
    check(images)


def test_class_that_is_called_as_a_split_is_a_class(tmp_path: Path) -> None:
    for name in ("bus", "train", "test_tube"):
        fill(tmp_path / name, "cat", 5)
    assert load_images(tmp_path, image_size=5).classes == ["bus", "test_tube", "train"]


def layout(root: Path, kind: str) -> None:
    if kind == "flat splits":
        fill(root / "train", "cat")
        fill(root / "test", "dog")
    elif kind == "split or class":
        classes(root / "train")
        fill(root / "bus", "cat")
    elif kind == "two of a split":
        for name in ("train", "val", "validation"):
            classes(root / name)
    elif kind == "no train":
        for name in ("val", "test"):
            classes(root / name)
    elif kind == "two words":
        for name in ("train", "train_test"):
            classes(root / name)
    elif kind == "splits in classes":
        for name in GRAY:
            for split in ("train", "test"):
                fill(root / name / split, name)
    elif kind == "nothing readable":
        (root / "a").mkdir()
        for i in range(3):
            (root / "a" / f"{i}.HEIC").write_bytes(b"ftypheic")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("flat splits", "'test', 'train' may be splits or classes"),
        ("split or class", "is 'train' a split or a class.*'bus'"),
        ("two of a split", "two val folders: 'val' and 'validation'"),
        ("no train", "'test' and 'val' but no train folder"),
        ("two words", "train_test' names test and train"),
        ("splits in classes", "holds the splits test and train"),
        ("nothing readable", r"has no images, but 3 \.heic"),
    ],
)
def test_folders_that_can_be_read_in_two_ways_are_refused(tmp_path: Path, kind: str, words: str) -> None:
    layout(tmp_path, kind)
    with pytest.raises(ValueError, match=words) as caught:
        load_images(tmp_path, image_size=5)
    assert "\n" not in str(caught.value)


def test_what_is_passed_over_is_counted_by_kind(tmp_path: Path) -> None:
    classes(tmp_path)
    for i in range(7):
        (tmp_path / "cat" / f"x{i}.HEIC").write_bytes(b"ftypheic")
    (tmp_path / "dog" / ".DS_Store").touch()
    (tmp_path / "dog" / "Thumbs.db").touch()
    (tmp_path / "dog" / "README").touch()
    os.symlink(tmp_path / "gone.png", tmp_path / "dog" / "gone.png")
    fill(tmp_path, "cat", 2)
    images = load_images(tmp_path, image_size=5, channels=1)
    check(images)
    passed, outside, held_out, seen = images.notes
    assert passed.startswith("11 of 19 files")
    for words in ("7 .heic", "1 hidden", "1 .db", "1 without a suffix", "1 broken links"):
        assert words in passed
    assert "2 images" in outside
    assert "held out" in held_out
    assert seen.startswith("2 of 2 test images")


def test_images_beside_splits_are_said_and_tests_without_classes_left_out(tmp_path: Path) -> None:
    for name in ("train", "val"):
        classes(tmp_path / name)
    fill(tmp_path / "unlabeled", "cat", 4)
    fill(tmp_path / "test", "cat", 2)
    images = load_images(tmp_path, image_size=5, channels=1)
    assert len(images.test) == 6
    assert any(note.startswith("6 images of 'test', 'unlabeled'") for note in images.notes)


def test_links_are_followed_and_loops_left(tmp_path: Path) -> None:
    classes(tmp_path / "store" / "train", 4)
    classes(tmp_path / "store" / "test", 2)
    data = tmp_path / "data"
    (data / "train").mkdir(parents=True)
    for name in GRAY:
        os.symlink(tmp_path / "store" / "train" / name, data / "train" / name)
    os.symlink(tmp_path / "store" / "test", data / "test")
    os.symlink(data, data / "train" / "cat" / "again")
    images = load_images(data, image_size=5, channels=1)
    assert (len(images.train), len(images.test)) == (8, 4)
    check(images)


# ---------------------------------------------------------------------- lists of images


LISTS = {
    "metadata.csv": "file_name,label\n{}",
    "metadata.tsv": "file_name\tlabel\n{}",
    "metadata.jsonl": "{}",
}


def listing(name: str, rows: list[tuple[str, str]]) -> str:
    if name.endswith("l"):
        return "\n".join(f'{{"file_name": "{file}", "label": "{label}"}}' for file, label in rows)
    mark = "," if name.endswith("csv") else "\t"
    return LISTS[name].format("\n".join(mark.join(row) for row in rows))


def mixed(folder: Path, count: int = 4) -> list[tuple[str, str]]:
    """Images of both classes in one folder, and a list that begins with the last."""
    for name in GRAY:
        fill(folder, name, count)
    return [(f"{name}{i}.png", name) for name in ("dog", "cat") for i in reversed(range(count))]


@pytest.mark.parametrize("name", LISTS)
def test_lists_are_joined_by_file_name(tmp_path: Path, name: str) -> None:
    for split, count in (("train", 4), ("test", 2)):
        (tmp_path / split / name).parent.mkdir()
        (tmp_path / split / name).write_text(listing(name, mixed(tmp_path / split, count)))
    images = load_images(tmp_path, image_size=5, channels=1)
    assert (len(images.train), len(images.test)) == (8, 4)
    check(images)
    assert any(f"{name}', by file name" in note for note in images.notes)


@pytest.mark.parametrize(
    "data",
    [
        "\ufefffile_name;label;split\r\n{}",
        "sep=;\nfile_name;label;split\n{}",
        '"";"file_name";"label";"split"\n{}',
    ],
)
def test_lists_of_other_programs_with_a_column_of_splits(tmp_path: Path, data: str) -> None:
    rows = mixed(tmp_path, 5)
    corner = '"1";' if data.startswith('""') else ""
    lines = "\n".join(f"{corner}{file};{label};{'TEST' if '4' in file else 'Train'}" for file, label in rows)
    (tmp_path / "metadata.csv").write_text(data.format(lines), encoding="utf-8")
    images = load_images(tmp_path, image_size=5, channels=1)
    assert (len(images.train), len(images.test)) == (8, 2)
    check(images)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file_name,label\ncat0.png,cat\n", "does not list .*cat1.png"),
        ("file_name,label\ncat0.png,cat\nghost.png,cat\n", "lists 'ghost.png', which is not there"),
        ("file_name,label\ncat0.png,cat\ncat0.png,dog\n", "lists 'cat0.png', which"),
        ("file_name,label\ncat0.png,\n", "no label for 'cat0.png'"),
        ("file_name,label,class\ncat0.png,cat,a\ncat1.png,cat,b\n", "has labels in 'label' and others in 'class'"),
        ("file_name,label,Label\ncat0.png,cat,a\n", "has columns 'label' and 'Label': leave one"),
        ("file_name,label,split\ncat0.png,cat,fold3\n", "split must be train, val or test, got 'fold3'"),
    ],
)
def test_lists_that_do_not_match_the_images_are_refused(tmp_path: Path, text: str, words: str) -> None:
    mixed(tmp_path)
    (tmp_path / "metadata.csv").write_text(text)
    with pytest.raises(ValueError, match=words):
        load_images(tmp_path, image_size=5)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("NaN", "gives no label for 'cat0.png'"),
        ('["cat", "dog"]', r"the label of 'cat0.png' is \['cat', 'dog'\]: give one"),
    ],
)
def test_labels_of_lists_are_one_class(tmp_path: Path, label: str, words: str) -> None:
    mixed(tmp_path)
    (tmp_path / "metadata.jsonl").write_text(f'{{"file_name": "cat0.png", "label": {label}}}\n')
    with pytest.raises(ValueError, match=words):
        load_images(tmp_path, image_size=5)


def test_two_columns_that_say_the_same_are_one(tmp_path: Path) -> None:
    rows = mixed(tmp_path)
    lines = "\n".join(f"{file},{label},{'cd'.index(label[0])}" for file, label in rows)
    (tmp_path / "metadata.csv").write_text(f"file_name,label,class\n{lines}\n")
    check(load_images(tmp_path, image_size=5, channels=1))


def test_list_without_labels_leaves_classes_to_folders(tmp_path: Path) -> None:
    classes(tmp_path)
    (tmp_path / "metadata.csv").write_text("file_name,caption\ncat/cat0.png,a cat\n")
    images = load_images(tmp_path, image_size=5, channels=1)
    check(images)
    assert any("1 metadata.csv" in note for note in images.notes)


@given(outer=st.lists(st.sampled_from(["fold1", "fold2", "photo", "sketch", "A"]), min_size=2, max_size=3, unique=True))
@settings(max_examples=5)
def test_folders_that_all_hold_the_same_folders_are_refused(
    tmp_path_factory: pytest.TempPathFactory, outer: list[str]
) -> None:
    """Either may be the classes: folds and domains above, or views of an object below."""
    root = tmp_path_factory.mktemp("domains")
    for name in outer:
        classes(root / name)
    with pytest.raises(ValueError, match=r"are the classes .* or the folders 'cat', 'dog' in each of them\?"):
        load_images(root, image_size=5)
    assert load_images(root / outer[0], image_size=5).classes == ["cat", "dog"]


def test_one_folder_of_the_same_name_in_each_class_is_no_class(tmp_path: Path) -> None:
    for name in GRAY:
        fill(tmp_path / name / "images", name)
    assert load_images(tmp_path, image_size=5, channels=1).classes == ["cat", "dog"]
