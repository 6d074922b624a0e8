"""Names: digits, paths that do not exist, the Hub that cannot be reached."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from colgraph.data import hold_out, hub, load_images


def test_digits_are_split_1437_to_360_and_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("digits opened a connection"))
    images = load_images("digits", image_size=8, channels=1)
    assert (len(images.train), len(images.val), len(images.test)) == (1437, 360, 360)
    assert images.classes == [str(d) for d in range(10)]
    pixels, labels = images.train.batch([0, 1])
    assert pixels.shape == (2, 1, 8, 8)
    assert labels.dtype == torch.int64
    normalised = images.transform().evaluate(images.train.batch(range(1437))[0])
    assert normalised.dtype == torch.float32
    assert float(normalised.mean()) == pytest.approx(0, abs=1e-4)
    assert float(normalised.std(correction=0)) == pytest.approx(1, abs=1e-4)
    # Stratified: each class gives up a fifth of its images, to within one.
    whole = torch.bincount(images.train.labels) + torch.bincount(images.test.labels)
    assert (torch.bincount(images.test.labels) - whole * 0.2).abs().max() < 1


def test_digits_can_be_enlarged_and_colored() -> None:
    pytest.importorskip("sklearn")
    images = load_images("digits", image_size=12, channels=3)
    pixels = images.train.batch([0])[0]
    assert pixels.shape == (1, 3, 12, 12)
    assert torch.equal(pixels[:, 0], pixels[:, 1])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("./no/such/folder", "no file or folder './no/such/folder'"),
        ("pictures/of/cats", "no file or folder"),
        ("missing.parquet", "no file or folder"),
        ("digit", "did you mean 'digits'"),
        ("what is this", "unknown data"),
    ],
)
def test_names_that_are_nothing_are_refused_without_asking_the_hub(
    name: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_probe", lambda _: pytest.fail("asked the Hub"))
    with pytest.raises(ValueError) as caught:
        load_images(name, image_size=8)
    assert words in str(caught.value)


def test_folder_below_an_existing_one_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    with pytest.raises(ValueError, match="no file or folder 'photos/cats'"):
        load_images("photos/cats", image_size=8)


def test_files_that_are_not_parquet_are_refused(tmp_path: Path) -> None:
    (tmp_path / "images.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"not \.parquet"):
        load_images(tmp_path / "images.zip", image_size=8)


def test_unreachable_hub_names_the_ways_out_within_seconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    import huggingface_hub

    def never(*_: object, **__: object) -> None:
        time.sleep(60)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", never)
    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.3)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    begin = time.monotonic()
    with pytest.raises(ValueError) as caught:
        load_images("clane9/imagenet-100", image_size=8)
    assert time.monotonic() - begin < 10
    message = str(caught.value)
    assert "cannot reach" in message
    assert "--data digits" in message
    assert "--data <folder>" in message
    assert "\n" not in message


def test_waiting_for_the_hub_is_bounded_below_thirty_seconds() -> None:
    assert hub.PROBE_SECONDS <= 15


def test_hub_that_says_no_is_not_called_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    from huggingface_hub.errors import RepositoryNotFoundError

    error = RepositoryNotFoundError.__new__(RepositoryNotFoundError)
    monkeypatch.setattr(hub, "_probe", lambda _: error)
    with pytest.raises(ValueError, match="neither a local path nor a data set on the Hub"):
        load_images("nobody/nothing", image_size=8)


def test_hub_splits_are_recognized(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    from PIL import Image

    def table(count: int) -> object:
        cells = {
            "image": [Image.new("RGB", (5, 5), (9 * i, 0, 0)) for i in range(count)],
            "label": [0, 1] * (count // 2),
        }
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
        return datasets.Dataset.from_dict(cells, features=features)

    monkeypatch.setattr(hub, "_probe", lambda _: None)
    loaded = datasets.DatasetDict(train=table(8), validation=table(4))
    monkeypatch.setattr("datasets.load_dataset", lambda _: loaded)
    images = load_images("some/body", image_size=4)
    assert (len(images.train), len(images.val), len(images.test)) == (8, 4, 4)
    monkeypatch.setattr("datasets.load_dataset", lambda _: datasets.DatasetDict(other=table(8)))
    with pytest.raises(ValueError, match="no train split: it has other"):
        load_images("some/body", image_size=4)


def test_hold_out_takes_exactly_the_share_and_leaves_no_class_empty() -> None:
    labels = torch.arange(50).repeat_interleave(3).numpy()
    kept, held = hold_out(labels, 0.2, seed=0)
    assert len(held) == 30
    assert sorted([*kept, *held]) == list(range(150))
    assert len(set(labels[kept])) == 50
    single, none = hold_out(torch.arange(4).numpy(), 0.5, seed=0)
    assert (len(single), len(none)) == (4, 0)


def test_too_few_images_to_hold_any_out_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    from PIL import Image

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "x.png")
    with pytest.raises(ValueError, match="no image to test on"):
        load_images(tmp_path, image_size=4)


@pytest.mark.parametrize(
    ("options", "words"), [({"channels": 2}, "channels must be 1"), ({"image_size": 0}, "image_size")]
)
def test_bad_sizes_are_refused(options: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_images("digits", **{"image_size": 8, **options})
