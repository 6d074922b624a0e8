"""``colgraph data``: what is written is read back, and by the ``datasets`` library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from colgraph import cli
from colgraph.data import ImageSplits, MemoryImages, load_images, write_images

datasets = pytest.importorskip("datasets")

SOURCES = {
    "mazes": ("mazes:size=6,min_path=3,train=40,val=8,test=9,harder=3", 3),
    "pathfinder": ("pathfinder:size=24,length=3,clutter=1,train=20,val=4,test=4,harder=2", 1),
}


def same(one: Any, other: Any) -> bool:
    (images, labels), (again, targets) = (part.batch(range(len(part))) for part in (one, other))
    close = torch.equal(one.difficulty.nan_to_num(-1), other.difficulty.nan_to_num(-1))
    return torch.equal(images, again) and torch.equal(labels, targets) and close


@pytest.mark.parametrize("name", SOURCES)
def test_what_is_written_is_read_back_bit_for_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (source, channels), folder = SOURCES[name], tmp_path / "made"
    kind, options = source.split(":")
    flags = [word for option in options.split(",") for word in ("--" + option.replace("_", "-")).split("=")]
    cli.run(["data", kind, "-o", str(folder), *flags])
    assert capsys.readouterr().out.strip().endswith(str(folder))
    made = load_images(source, channels=channels)
    grid = tuple(made.train.labels.shape[1:]) or None
    again = load_images(folder, image_size=made.image_size, channels=channels, grid=grid)
    assert (again.classes, list(again.harder)) == (made.classes, sorted(made.harder))
    pairs = [(getattr(made, part), getattr(again, part)) for part in ("train", "val", "test")]
    pairs += [(made.harder[part], again.harder[part]) for part in made.harder]
    assert all(same(*pair) for pair in pairs)
    assert made.mean == again.mean
    lazy = load_images(folder, image_size=made.image_size, channels=channels, grid=grid, memory_gb=0)
    assert same(made.test, lazy.test)
    tables = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert set(tables) == {"train", "validation", "test", *(f"harder_{part}" for part in made.harder)}
    assert len(tables["train"]) == len(made.train)
    # Without a grid, mazes have no label.
    if grid:
        with pytest.raises(ValueError, match=r"has no label column: it has image, mask, difficulty; .* --task columns"):
            load_images(folder, image_size=6)


def test_vectors_are_written_as_lists(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.random((6, 2, 3, 4)).astype(np.float32)
    labels[0, 0, 0] = np.nan
    part = MemoryImages(rng.integers(0, 256, (6, 1, 8, 8), dtype=np.uint8), labels)
    images = ImageSplits(part, part, part, list("abcd"), 1, 8, (0.5,), (0.5,), "made up")
    again = load_images(write_images(images, tmp_path / "x"), image_size=8, channels=1, grid=(2, 3))
    assert again.classes == list("abcd")
    assert torch.equal(again.train.labels.nan_to_num(-1), part.labels.nan_to_num(-1))
    turned = again.with_classes(list("dcba"))
    assert torch.equal(turned.train.labels.nan_to_num(-1), part.labels.flip(-1).nan_to_num(-1))
    assert not (tmp_path / "x" / "validation.parquet").exists()


def test_nothing_is_overwritten_and_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SOURCES["mazes"][0]
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("mine")
    with pytest.raises(ValueError, match="is not empty: name a new folder"):
        cli.run(["data", source, "-o", str(tmp_path / "there")])
    with pytest.raises(ValueError, match="there is no folder"):
        cli.run(["data", source, "-o", str(tmp_path / "no" / "such")])
    monkeypatch.setattr(datasets.Dataset, "to_parquet", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(OSError, match="disk full"):
        cli.run(["data", source, "-o", str(tmp_path / "new")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["maze", "-o", "x"],
            "no made data are called 'maze', expected mazes, pathfinder, clutter; did you mean 'mazes'?",
        ),
        (["mazes", "-o", "x", "--siz", "3"], "mazes has no option 'siz': did you mean 'size'?"),
        (["mazes:size=5", "-o", "x", "--size", "6"], "gives size twice"),
        (["mazes"], "the following arguments are required: -o/--output"),
    ],
)
def test_commands_that_do_not_fit_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        cli.run(["data", *words])
    assert said in str(caught.value)
