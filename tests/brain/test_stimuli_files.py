"""Stimuli from arrays and MATLAB structs are the same as from a folder, and joined to recordings by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rdm_examples import Matlab73
from scipy.io import savemat

pytest.importorskip("lightning")
pytest.importorskip("PIL")

from PIL import Image

from colgraph.brain.stimuli import find_stimuli

COUNT = 5
DRAW = np.random.default_rng(0)
PIXELS = DRAW.integers(0, 256, (COUNT, 9, 12, 3), dtype=np.uint8)
NAMES = ["face", "hand", "house", "tool", "car"]


@pytest.fixture
def wanted(tmp_path: Path) -> torch.Tensor:
    """What a folder of the same images gives."""
    (tmp_path / "folder").mkdir()
    for i, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(tmp_path / "folder" / f"{i}.png")
    return find_stimuli(tmp_path / "folder").decoded(6, 3)


@pytest.mark.parametrize(
    "values",
    [
        PIXELS,
        PIXELS.transpose(0, 3, 1, 2),
        PIXELS.transpose(1, 2, 3, 0),
        PIXELS / 255,
        (PIXELS / 255).astype(np.float32),
        PIXELS.astype(np.uint16) * 257,
        PIXELS.astype(np.float64),
    ],
    ids=["uint8", "channels first", "number last", "floats", "float32", "uint16", "doubles"],
)
def test_arrays_are_boxed_as_files_are(tmp_path: Path, wanted: torch.Tensor, values: np.ndarray) -> None:
    np.save(tmp_path / "s.npy", values)
    assert torch.equal(find_stimuli(tmp_path / "s.npy").decoded(6, 3), wanted)


def structs(**more: Any) -> dict[str, Any]:
    rows = np.empty((1, COUNT), dtype=[("category", object), ("image", object), *[(name, object) for name in more]])
    for i in range(COUNT):
        rows[0, i] = ("object", PIXELS[i], *[values[i] for values in more.values()])
    return {"stimuli_92objs": rows, "labels": np.ones((COUNT, 3))}


def test_structs_of_matlab_are_read(tmp_path: Path, wanted: torch.Tensor) -> None:
    savemat(tmp_path / "s.mat", structs())
    shown = find_stimuli(tmp_path / "s.mat")
    assert shown.names is None
    assert "'stimuli_92objs.image'" in shown.notes[0]
    assert torch.equal(shown.decoded(6, 3), wanted)
    savemat(tmp_path / "s.mat", structs(name=NAMES))
    assert find_stimuli(tmp_path / "s.mat").names == NAMES


def test_structs_of_matlab_73_are_read(tmp_path: Path, wanted: torch.Tensor) -> None:
    pytest.importorskip("h5py")
    file = Matlab73(tmp_path / "s.mat")
    file.put("stimuli", [{"image": one, "name": name} for one, name in zip(PIXELS, NAMES, strict=True)])
    shown = find_stimuli(file.close())
    assert shown.names == NAMES
    assert torch.equal(shown.decoded(6, 3), wanted)


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (1, 2, 3, 0)])
def test_arrays_of_matlab_have_their_number_first_or_last(
    tmp_path: Path, wanted: torch.Tensor, axes: tuple[int, ...]
) -> None:
    savemat(tmp_path / "s.mat", {"images": PIXELS.transpose(axes)})
    assert torch.equal(find_stimuli(tmp_path / "s.mat").decoded(6, 3), wanted)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("as_cells", [False, True])
def test_names_beside_images_of_matlab_join_recordings(
    tmp_path: Path, wanted: torch.Tensor, nested: bool, as_cells: bool
) -> None:
    cells = np.empty((COUNT, 1), dtype=object)
    cells[:, 0] = list(PIXELS)
    fields = {"pictures": cells if as_cells else PIXELS, "names": np.array(NAMES, dtype=object), "n": 5.0}
    savemat(tmp_path / "s.mat", {"set": fields} if nested else fields)
    shown = find_stimuli(tmp_path / "s.mat")
    assert torch.equal(shown.decoded(6, 3), wanted)
    assert shown.names == NAMES
    assert shown.places(NAMES[::-1], COUNT, "r.csv")[0] == [4, 3, 2, 1, 0]


def test_gray_images_are_read(tmp_path: Path) -> None:
    gray = PIXELS[:, :9, :9, 0]
    np.save(tmp_path / "s.npy", gray)
    first = find_stimuli(tmp_path / "s.npy").decoded(9, 1)
    assert torch.equal(first[:, 0], torch.from_numpy(gray).float() / 255)
    savemat(tmp_path / "s.mat", {"images": gray.transpose(1, 2, 0)})
    assert torch.equal(find_stimuli(tmp_path / "s.mat").decoded(9, 1), first)
    rows = np.empty((1, COUNT), dtype=[("image", object)])
    for i in range(COUNT):
        rows[0, i] = (gray[i],)
    savemat(tmp_path / "t.mat", {"stimuli": rows})
    assert torch.equal(find_stimuli(tmp_path / "t.mat").decoded(9, 1), first)


def test_names_beside_an_array_join_recordings(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", images=PIXELS, stimuli=NAMES)
    places, notes = find_stimuli(tmp_path / "s.npz").places(["car", "face", "tool", "hand", "house"], COUNT, "r.csv")
    assert (places, notes) == ([4, 0, 3, 1, 2], [])
    with pytest.raises(ValueError, match=r"'r\.csv' names the stimulus 'bird', but"):
        find_stimuli(tmp_path / "s.npz").places(["bird", *NAMES[1:]], COUNT, "r.csv")


def test_images_without_names_are_joined_by_number_or_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", PIXELS)
    shown = find_stimuli(tmp_path / "s.npy")
    places, notes = shown.places(["3", "1", "2", "5", "4"], COUNT, "r.csv")
    assert places == [2, 0, 1, 4, 3]
    assert "by their number, counted from 1" in notes[0]
    assert shown.places(None, COUNT, "r.npy")[0] == [0, 1, 2, 3, 4]
    with pytest.raises(
        ValueError, match=r"names its 5 stimuli \('face', \.\.\.\), but the 5 images of .* have no names"
    ):
        shown.places(NAMES, COUNT, "r.csv")
    with pytest.raises(ValueError, match=r"'r\.npy' has 4 stimuli, but .* holds 5 images"):
        shown.places(None, 4, "r.npy")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (PIXELS + 0.5, r"are floats from 0\.5 to 255\.5: give floats from 0 to 1, or whole numbers to 255"),
        (PIXELS.astype(np.int64), "int64 pixels have no agreed range"),
        (PIXELS[..., :2], r"have shape \[5, 9, 12, 2\]: it must be \[n, height, width\]"),
        (PIXELS[0, 0], "must hold one array of images"),
        (np.full((2, 4, 4), np.nan), "are floats from nan to nan"),
    ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path: Path, values: np.ndarray, words: str) -> None:
    np.save(tmp_path / "s.npy", values)
    with pytest.raises(ValueError, match=words) as caught:
        find_stimuli(tmp_path / "s.npy")
    assert "\n" not in str(caught.value)


def test_files_that_hold_no_stimuli_are_refused(tmp_path: Path) -> None:
    savemat(tmp_path / "s.mat", {"RDM": np.zeros((5, 5)), "name": "IT"})
    with pytest.raises(ValueError, match=r"must hold one array of images, .* it has RDM \[5, 5\]"):
        find_stimuli(tmp_path / "s.mat")
    with pytest.raises(ValueError, match="is no folder and no file"):
        find_stimuli(tmp_path / "gone")
    (tmp_path / "s.gif").touch()
    with pytest.raises(ValueError, match=r"give a folder of images, or a file in \.npy"):
        find_stimuli(tmp_path / "s.gif")
