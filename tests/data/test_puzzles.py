"""Made data: right by another way of telling, the same everywhere, and apart from split to split."""

from __future__ import annotations

import hashlib
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from colgraph.data import IGNORED, load_images, made_size
from colgraph.data.puzzles import Made, puzzle_of
from colgraph.data.puzzles.clutter import DEBRIS
from colgraph.data.puzzles.drawn import Drawn
from colgraph.data.puzzles.mazes import long_mazes, path_lengths
from colgraph.data.puzzles.stream import Stream

SMALL = {
    "mazes": "mazes:train=300,val=20,test=30,harder=10",
    "pathfinder": "pathfinder:train=60,val=10,test=10,harder=4",
    "clutter": "clutter:train=60,val=10,test=10,harder=6",
}
HASHES = {
    "mazes": "45c7487edae82f9bd1752ab9b5b03a4c9ca45df96e5d6426ccacd37db02bf8fc",
    "pathfinder": "bb0bf174c99b47e2baa747957a5bff7c38545ad1bca2390dbe94a287da309ad0",
    "clutter": "b0887377c88e51403a9d5b84a45131df28ab83593fc761d66af6bcbbeca50bfd",
}


@pytest.fixture(scope="module")
def made() -> dict[str, Made]:
    pytest.importorskip("sklearn")
    return {name: puzzle_of(source).make() for name, source in SMALL.items()}


def all_sets(one: Made) -> dict[str, Drawn]:
    return {**one.sets, **one.harder}


@pytest.mark.parametrize("name", SMALL)
def test_the_same_on_every_machine(made: dict[str, Made], name: str) -> None:
    found = hashlib.sha256()
    for split, part in all_sets(made[name]).items():
        found.update(split.encode() + part.pixels.tobytes())
        found.update(part.labels.astype("<i8").tobytes() + part.difficulty.astype("<f4").tobytes())
    assert found.hexdigest() == HASHES[name]


@pytest.mark.parametrize("name", SMALL)
def test_no_image_comes_twice_and_another_seed_is_other_data(made: dict[str, Made], name: str) -> None:
    keys = [key for part in all_sets(made[name]).values() for key in part.keys().tolist()]
    assert len(set(keys)) == len(keys) > 80
    if name == "clutter":
        other = puzzle_of(f"{SMALL[name]},seed=1").make()
        assert not set(keys) & {key for part in other.sets.values() for key in part.keys().tolist()}


def test_the_first_images_are_the_same_however_many_there_are() -> None:
    few, many = (puzzle_of(f"mazes:train={count},val=5,test=5,harder=0").make() for count in (7, 50))
    for split in ("train", "val", "test"):
        np.testing.assert_array_equal(few.sets[split].pixels[:7], many.sets[split].pixels[:7])


# ---------------------------------------------------------------------- mazes


@given(size=st.integers(3, 20), openness=st.integers(2, 9), seed=st.integers(0, 999))
@settings(max_examples=12)
def test_paths_are_those_of_networkx(size: int, openness: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    is_open = rng.random((3, size, size)) < openness / 10
    source = rng.integers(size * size, size=3)
    found = path_lengths(is_open, source)
    for maze in range(3):
        grid = nx.grid_2d_graph(size, size).subgraph([tuple(cell) for cell in np.argwhere(is_open[maze]).tolist()])
        start = divmod(int(source[maze]), size)
        steps = nx.single_source_shortest_path_length(grid, start) if start in grid else {}
        expected = np.full((size, size), -1)
        for cell, count in dict(steps).items():
            expected[cell] = count
        np.testing.assert_array_equal(found[maze], expected)


def test_mazes_show_what_their_targets_say(made: dict[str, Made]) -> None:
    for part in all_sets(made["mazes"]).values():
        red, green = part.pixels[:, 0] > 0, part.pixels[:, 1] > 0
        source = red & ~green
        assert (source.sum((1, 2)) == 1).all()
        np.testing.assert_array_equal(part.labels == IGNORED, ~red)
        np.testing.assert_array_equal(part.labels == 1, np.isfinite(part.difficulty))
        assert (part.difficulty[source] == 0).all()
        assert (np.nanmax(part.difficulty, axis=(1, 2)) >= 6).all()
    train = made["mazes"].sets["train"]
    assert abs((train.labels != IGNORED).mean() - 0.62) < 0.03
    assert 0.65 < (train.labels == 1).sum() / (train.labels >= 0).sum() < 0.8
    assert np.nanmax(made["mazes"].harder["long"].difficulty, axis=(1, 2)).min() > np.nanmax(train.difficulty)


def test_limits_of_paths_hold() -> None:
    one = puzzle_of("mazes:size=6,min_path=4,max_path=9,long_path=14,train=200,val=10,test=10,harder=5").make()
    longest = np.nanmax(one.sets["train"].difficulty, axis=(1, 2))
    assert (longest.min(), longest.max()) == (4, 9)
    assert np.nanmax(one.harder["long"].difficulty, axis=(1, 2)).min() >= 14
    with pytest.raises(ValueError, match="long_path must be more than 9"):
        puzzle_of("mazes:size=6,max_path=9,long_path=9,train=200,val=10,test=10").make()


def test_long_mazes_are_percolation_mazes_with_a_long_path() -> None:
    """The rule of Metropolis against mazes that were waited for: the same share of open cells, and of those reached."""
    rng = np.random.default_rng(0)
    is_open, source = rng.random((40_000, 16)) < 0.6, rng.integers(16, size=40_000)
    steps = path_lengths(is_open.reshape(-1, 4, 4), source)
    kept = steps.max((1, 2)) >= 7
    waited = (is_open[kept].mean(), (steps[kept] >= 0).mean())
    walked, start = long_mazes(Stream(0, "test"), 4, 0.6, 7, 3000)
    steps = path_lengths(walked, start)
    assert steps.max((1, 2)).min() >= 7
    np.testing.assert_allclose((walked.mean(), (steps >= 0).mean()), waited, atol=0.015)


def test_harder_mazes_that_hardly_exist_are_left_out_with_a_note() -> None:
    one = puzzle_of("mazes:size=3,min_path=2,train=100,val=10,test=10,harder=500,long_path=8").make()
    assert not one.harder
    assert "long" in one.notes[0]


# ---------------------------------------------------------------------- pathfinder


def dots_are_joined(image: np.ndarray) -> bool:
    """Whether steps of at most two pixels lead from one dot to the other: dashes of one curve are no farther apart."""
    points = np.argwhere(image > 0)
    is_dot = np.array([(image[r - 1 : r + 2, c - 1 : c + 2] > 0).all() for r, c in points])
    assert is_dot.sum() == 2
    pairs = cKDTree(points).query_pairs(2, p=np.inf, output_type="ndarray")
    graph = coo_matrix((np.ones(len(pairs)), pairs.T), (len(points), len(points)))
    first, second = connected_components(graph, directed=False)[1][is_dot]
    return bool(first == second)


def test_dots_are_on_one_curve_where_the_label_says_so(made: dict[str, Made]) -> None:
    for split, part in all_sets(made["pathfinder"]).items():
        assert [dots_are_joined(image[0]) for image in part.pixels] == (part.labels == 1).tolist(), split
        assert part.labels.sum() * 2 == len(part)


def test_the_distance_of_the_dots_and_the_ink_do_not_tell_the_classes() -> None:
    one = puzzle_of("pathfinder:train=2000,val=2,test=2,harder=0").make().sets["train"]
    for number in (one.difficulty, (one.pixels > 0).mean((1, 2, 3))):
        ranks = number.argsort().argsort()
        area = (ranks[one.labels == 1].mean() - ranks[one.labels == 0].mean()) / len(one) + 0.5
        assert abs(area - 0.5) < 0.06


# ---------------------------------------------------------------------- clutter


def test_digits_of_training_and_tests_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told by what is drawn where nothing lies on the digits."""
    sklearn = pytest.importorskip("sklearn.datasets")
    monkeypatch.setitem(DEBRIS, "light", (0, 0))
    bare = puzzle_of("clutter:debris=light,train=3000,val=600,test=1500,harder=0").make()
    shown = {
        split: {cropped(np.rint(image[0] * (16 / 255))): None for image in part.pixels}
        for split, part in bare.sets.items()
    }
    assert not set(shown["train"]) & (set(shown["test"]) | set(shown["val"]))
    assert not set(shown["test"]) & set(shown["val"])
    classes = {cropped(digit): int(name) for digit, name in zip(*sklearn.load_digits(return_X_y=True), strict=True)}
    for part in bare.sets.values():
        near = [classes.get(cropped(np.rint(image[0] * (16 / 255)))) for image in part.pixels]
        assert near == part.labels.tolist()


def cropped(image: np.ndarray) -> bytes:
    """A digit without the black about it."""
    image = image.reshape(8, 8) if image.ndim == 1 else image
    rows, columns = (np.flatnonzero(image.any(axis)) for axis in (1, 0))
    part = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.array(part.shape).tobytes() + part.astype(np.uint8).tobytes()


def test_debris_is_as_much_as_its_name_says(made: dict[str, Made]) -> None:
    found = {"medium": made["clutter"].sets["train"], **made["clutter"].harder}
    for name, part in found.items():
        assert part.difficulty.min() >= DEBRIS[name][0]
        assert part.difficulty.max() <= DEBRIS[name][1]
    ink = {name: (part.pixels > 0).mean() for name, part in found.items()}
    assert ink["light"] < ink["medium"] < ink["heavy"]


# ---------------------------------------------------------------------- by name


def test_images_come_at_multiples_of_their_size() -> None:
    source = "mazes:size=5,min_path=2,train=20,val=5,test=5,harder=2"
    own, large = load_images(source), load_images(source, image_size=15)
    assert (own.image_size, made_size(source), made_size("digits")) == (5, 5, None)
    assert torch.equal(
        large.train.batch([3])[0], own.train.batch([3])[0].repeat_interleave(3, 2).repeat_interleave(3, 3)
    )
    assert (own.train.keys([0, 1]) == large.train.keys([0, 1])).all()
    assert (own.classes, list(own.harder)) == (["unreachable", "reachable"], ["long"])
    pixels, labels = own.harder["long"].batch([0, 1])
    assert (pixels.shape, labels.shape, labels.dtype) == ((2, 3, 5, 5), (2, 5, 5), torch.int64)
    part: Any = own.train
    assert torch.equal(part.subset(np.array([4, 1])).difficulty.isnan(), part.difficulty[[4, 1]].isnan())
    assert torch.equal(own.train.batch([0])[1], load_images(source, grid=(5, 5)).train.batch([0])[1])


def test_small_mazes_are_found_until_there_are_no_more() -> None:
    """Of 3 x 3 cells there are 9 * 2**8 mazes with their source, and all but few of them can be had."""
    one = puzzle_of("mazes:size=3,min_path=0,train=2000,val=20,test=20,harder=0").make()
    assert len(one.sets["train"]) == 2000


def test_grey_is_made_as_pillow_makes_it() -> None:
    from PIL import Image

    source = "mazes:size=5,min_path=2,train=20,val=5,test=5,harder=0"
    color, grey = (load_images(source, channels=channels).train.batch([0])[0][0].numpy() for channels in (3, 1))
    expected = np.asarray(Image.fromarray(color.transpose(1, 2, 0)).convert("L"))
    np.testing.assert_array_equal(grey[0], expected)
    assert load_images(SMALL["pathfinder"], channels=3).train.batch([0])[0].shape == (1, 3, 32, 32)


def test_classes_in_another_order_leave_what_is_ignored() -> None:
    images = load_images("mazes:size=5,min_path=2,train=20,val=5,test=5,harder=2")
    turned = images.with_classes(["reachable", "unreachable"])
    for before, after in ((images.train, turned.train), (images.harder["long"], turned.harder["long"])):
        assert torch.equal(after.labels, torch.where(before.labels == IGNORED, before.labels, 1 - before.labels))


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("mazes:siz=3", {}, "'mazes:siz=3': mazes has no option 'siz': did you mean 'size'?"),
        ("mazes:size=2", {}, "size must be at least 3, got 2"),
        ("mazes:size=ten", {}, "size must be a whole number, got 'ten'"),
        ("mazes:openness=1.5", {}, "openness must be at most 0.95"),
        ("mazes:size=4,size=5", {}, "gives size twice"),
        ("mazes:16", {}, "options are written name=value, got '16'"),
        ("mazes:min-path=100", {}, "min_path must be at most 99 with size=10"),
        ("mazes:max_path=3", {}, "max_path must be at least min_path"),
        ("clutter:debris=havy", {}, "did you mean heavy?"),
        ("mazes", {"image_size": 32}, "images of 10, 20, 30, 40, ... pixels, got image_size 32"),
        ("mazes:cell=2", {"image_size": 40}, "leave out cell=2"),
        ("mazes", {"grid": (5, 5)}, "a grid of (5, 5)"),
        ("pathfinder", {"grid": (8, 8)}, "label per image"),
        ("digits", {"grid": (8, 8), "image_size": 8}, "label per image"),
        ("digits", {}, "image_size: say how many pixels"),
        ("mazes", {"image_size": 1000}, "more than memory_gb=2"),
        ("maze:size=3", {"image_size": 8}, "did you mean 'mazes'?"),
        ("mazes:size=3,min_path=0,train=3000,harder=0", {}, "different images are too many"),
        ("mazes", {"grid": "5x5"}, "grid must be (rows, columns)"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(source: str, options: dict[str, Any], words: str) -> None:
    pytest.importorskip("sklearn")
    with pytest.raises(ValueError) as caught:
        load_images(source, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_of_the_name_is_pointed_out(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clutter").mkdir()
    pytest.importorskip("sklearn")
    monkeypatch.setattr("colgraph.data.puzzles.clutter.Clutter.train", 20)
    assert "write './clutter' for what lies here" in load_images("clutter").notes[0]
