"""Labels are joined by the names of their classes, over splits, files and lists, or refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from colgraph.data import hub, load_images

datasets = pytest.importorskip("datasets")
Image = pytest.importorskip("PIL.Image")

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def png(name: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (6, 6), COLORS[name]).save(out, "PNG")
    return out.getvalue()


def table(shown: list[str], labels: list[Any], names: list[str] | None, column: str = "label") -> Any:
    """Images of the colors ``shown`` with any labels."""
    label = datasets.ClassLabel(names=names) if names else None
    features = datasets.Features({"image": datasets.Image(decode=False), column: label}) if label else None
    cells = [{"bytes": png(name), "path": None} for name in shown]
    return datasets.Dataset.from_dict({"image": cells, column: labels}, features=features)


def named(shown: list[str], names: list[str]) -> Any:
    return table(shown, [names.index(name) for name in shown], names)


def write(folder: Path, **tables: Any) -> Path:
    for name, content in tables.items():
        content.to_parquet(str(folder / f"{name}.parquet"))
    return folder


def pairs(images: Any) -> set[tuple[str, str]]:
    """Which color has which class, over both splits."""
    found = set()
    for part in (images.train, images.test):
        pixels, labels = part.batch(range(len(part)))
        shown = pixels[:, :, 2, 2].argmax(1).tolist()
        found |= {(list(COLORS)[color], images.classes[label]) for color, label in zip(shown, labels.tolist())}
    return found


RIGHT = {("red", "red"), ("green", "green")}


def test_splits_in_another_order_are_joined_by_name(tmp_path: Path) -> None:
    shown = ["red", "green"] * 4
    write(tmp_path, train=named(shown, ["red", "green"]), test=named(shown, ["green", "red"]))
    images = load_images(tmp_path, image_size=4)
    assert (images.classes, pairs(images)) == (["red", "green"], RIGHT)
    assert any("test" in note and "joined by class name" in note for note in images.notes)


@given(order=st.permutations(list(COLORS)), again=st.permutations(list(COLORS)), subset=st.integers(1, 3))
@settings(max_examples=12)
def test_shards_may_list_classes_in_any_order_or_some_of_them(
    tmp_path_factory: pytest.TempPathFactory, order: list[str], again: list[str], subset: int
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    names = {"train-00000-of-00003": order, "train-00001-of-00003": again[:subset], "train-00002-of-00003": order}
    write(folder, **{file: named(each * 4, each) for file, each in names.items()})
    images = load_images(folder, image_size=4)
    assert images.classes == list(order)
    assert pairs(images) == {(name, name) for name in COLORS}


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (named(["red", "green"] * 3, ["green", "red"]), table(["red", "green"], ["red", "green"], None)),
        (table(["red", "green"] * 3, ["red", "green"] * 3, None), named(["red", "green"], ["red", "green"])),
        (named(["red", "green"] * 3, ["red", "blue", "green"]), named(["green"], ["green", "blue"])),
    ],
)
def test_texts_lists_of_names_and_parts_of_them_are_joined(tmp_path: Path, train: Any, test: Any) -> None:
    assert pairs(load_images(write(tmp_path, train=train, test=test), image_size=4)) == RIGHT


TWO = ["red", "green"] * 3


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        (named(TWO, ["red", "green"]), table(TWO, [0, 1] * 3, None), "numbers for classes where .* has names"),
        (table(TWO, [0, 1] * 3, None), named(TWO, ["red", "green"]), "numbers for classes where .* has names"),
        (named(TWO, ["red", "green"]), table(TWO, [0, 1] * 3, ["0", "1"]), "'0' of row 0 is not among the 2"),
        (table(TWO, [0, 1] * 3, ["1", "0"]), table(TWO, [0, 1] * 3, None), "numbers for classes where"),
        (named(TWO, ["red", "green"]), named(["blue"], ["blue", "red"]), "'blue' of row 0 is not among the 2"),
        (named(TWO, ["red", "green"]), table(TWO, [0, 1] * 3, ["Red", "Green"]), "'Red' .* did you mean 'red'"),
        (table(TWO, [0, 1] * 3, None), table(TWO, [0, 1] * 3, None, "target"), "'label' .* 'target'"),
    ],
)
def test_names_that_cannot_be_joined_are_refused(tmp_path: Path, train: Any, test: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        load_images(write(tmp_path, train=train, test=test), image_size=4)
    assert "\n" not in str(caught.value)


def test_shards_whose_names_contradict_each_other_are_refused(tmp_path: Path) -> None:
    shards = {"train-0": named(TWO, ["red", "green"]), "train-1": named(["blue"], ["blue", "red"])}
    with pytest.raises(
        ValueError, match=r"train-1\.parquet has 'blue', which .*train-0\.parquet \(red, green\) has not"
    ):
        load_images(write(tmp_path, **shards), image_size=4)


def test_numbers_are_their_own_names(tmp_path: Path) -> None:
    write(tmp_path, train=table(TWO, [3, 7] * 3, None), test=table(["green"], [7], None))
    images = load_images(tmp_path, image_size=4)
    assert pairs(images) == {("red", "3"), ("green", "7")}
    write(tmp_path, train=table(TWO, [0, 1] * 3, ["0", "1"]), test=table(["green"], [1], None))
    assert pairs(load_images(tmp_path, image_size=4)) == {("red", "0"), ("green", "1")}


def test_hub_splits_are_joined_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_probe", lambda _: None)
    loaded = {"train": named(TWO, ["red", "green"]), "test": named(TWO, ["green", "red"]), "extra": named(TWO, TWO[:2])}
    monkeypatch.setattr("datasets.load_dataset", lambda _: loaded)
    images = load_images("some/body", image_size=4)
    assert pairs(images) == RIGHT
    assert any("extra of some/body" in note for note in images.notes)
    loaded["testing"] = loaded["test"]
    with pytest.raises(ValueError, match="two test splits: 'test' and 'testing'"):
        load_images("some/body", image_size=4)


@pytest.mark.parametrize("name", ["cifar10_test", "images-Test-000", "seg.test", "batch_TEST"])
def test_split_is_any_word_of_a_parquet_files_name(tmp_path: Path, name: str) -> None:
    write(tmp_path, cifar10_train=named(TWO, TWO[:2]), **{name: named(["green"], TWO[:2])})
    images = load_images(tmp_path, image_size=4)
    assert (len(images.train), len(images.test)) == (6, 1)


def test_parquet_files_without_or_with_two_splits(tmp_path: Path) -> None:
    write(tmp_path, train=named(TWO, TWO[:2]), val=named(TWO, TWO[:2]), more=named(TWO, TWO[:2]))
    images = load_images(tmp_path, image_size=4)
    assert len(images.train) == 6
    assert any("1 of 3 parquet files" in note and "more.parquet" in note for note in images.notes)
    write(tmp_path, train_test=named(TWO, TWO[:2]))
    with pytest.raises(ValueError, match=r"train_test\.parquet' names test and train"):
        load_images(tmp_path, image_size=4)


def test_images_beside_parquet_files_and_files_of_several_folders_are_said(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, train=named(TWO, TWO[:2]))
    (tmp_path / "preview.png").write_bytes(png("red"))
    notes = " ".join(load_images(tmp_path, image_size=4).notes)
    assert "2 folders" in notes
    assert "1 image files" in notes


def test_numpy_numbers_are_options(tmp_path: Path) -> None:
    write(tmp_path, train=named(TWO * 3, TWO[:2]))
    plain = load_images(tmp_path, image_size=4, split_seed=1, channels=1)
    numpy = load_images(
        tmp_path,
        image_size=np.int64(4),  # type: ignore[arg-type]
        split_seed=np.uint8(1),  # type: ignore[arg-type]
        channels=np.int32(1),  # type: ignore[arg-type]
        threads=np.int64(1),  # type: ignore[arg-type]
        memory_gb=np.float32(1),  # type: ignore[arg-type]
    )
    assert torch.equal(plain.test.labels, numpy.test.labels)
    assert type(numpy.image_size) is int
    for wrong in (4.5, np.float32(4), True, "4", -1):
        with pytest.raises(ValueError, match="image_size must be a whole number of at least 1"):
            load_images(tmp_path, image_size=wrong)  # type: ignore[arg-type]


def test_saved_data_sets_are_read(tmp_path: Path) -> None:
    """``save_to_disk`` writes Arrow files; splits have the orders of classes that they have."""
    train, test = (
        named(["red", "green", "blue"] * 2, ["red", "green", "blue"]),
        named(["blue", "red", "green"], ["blue", "green", "red"]),
    )
    datasets.disable_progress_bars()
    train.save_to_disk(tmp_path / "one")
    assert load_images(tmp_path / "one", image_size=4).classes == ["red", "green", "blue"]
    datasets.DatasetDict(train=train).save_to_disk(tmp_path / "dict")
    test.save_to_disk(tmp_path / "dict" / "test")
    (tmp_path / "dict" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert all(shown == label for shown, label in pairs(load_images(tmp_path / "dict", image_size=4)))
    datasets.DatasetDict(extra=train).save_to_disk(tmp_path / "odd")
    with pytest.raises(ValueError, match="has the split 'extra': expected train, val or test"):
        load_images(tmp_path / "odd", image_size=4)
    (tmp_path / "one" / "state.json").write_text("{")
    with pytest.raises(ValueError, match="cannot read the saved data set"):
        load_images(tmp_path / "one", image_size=4)


def test_whole_numbers_with_decimals_are_classes(tmp_path: Path) -> None:
    """pandas makes floating-point numbers of whole ones where a value was missing."""
    root = write(tmp_path, train=table(["red", "green"] * 3, [0.0, 1.0] * 3, None))
    assert load_images(root, image_size=4).classes == ["0", "1"]
    root = write(tmp_path, train=table(["red", "green"] * 3, [0.0, 1.5] * 3, None))
    with pytest.raises(ValueError, match="labels must be whole numbers"):
        load_images(root, image_size=4)
    root = write(tmp_path, train=table(["red", "green"] * 3, [0.0, None] * 3, None))
    with pytest.raises(ValueError, match="row 1 has no label"):
        load_images(root, image_size=4)
