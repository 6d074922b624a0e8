"""What names the stimuli in files of matrices and of images is found, preferred, joined, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rdm_examples import Matlab73, N, opaque, squares, triangles
from scipy.io import savemat

pytest.importorskip("lightning")
pytest.importorskip("PIL")

from colgraph.array_files import load_tree
from colgraph.brain.rdm_files import read_rdms
from colgraph.brain.responses import read_responses
from colgraph.brain.similarity import joined
from colgraph.brain.stimuli import Shown, find_stimuli

LINES = triangles(1)
FULL = squares(LINES)[0]
ORDER = np.array([3, 1, 0, 5, 4, 2])
MIXED = FULL[np.ix_(ORDER, ORDER)]
IDS = ORDER + 1
FILES = [f"im_{i + 1}.png" for i in range(N)]
NAMED = [FILES[i] for i in ORDER]
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 8, 8, 3), dtype=np.uint8)


def shown(names: list[str] | None = FILES) -> Shown:
    return Shown("images", list(PIXELS), names)


def in_order(path: Path, images: Shown | None = None, count: int | None = N) -> tuple[np.ndarray, list[str]]:
    """The first matrix of a file in the order of the images, and the notes."""
    found, notes = joined(read_rdms(path, count), images or shown())
    return found[0].values[0], notes


def cells(values: list[Any]) -> np.ndarray:
    made = np.empty((len(values), 1), dtype=object)
    made[:, 0] = values
    return made


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("name", ["stimuli", "image_id", "conditions"])
def test_whole_numbers_of_any_dtype_are_names(tmp_path: Path, dtype: type, name: str) -> None:
    np.savez(tmp_path / "r.npz", RDM=MIXED, **{name: IDS.astype(dtype)})
    savemat(tmp_path / "r.mat", {"RDM": MIXED, name: IDS.astype(dtype)})
    for file in ("r.npz", "r.mat"):
        found, notes = in_order(tmp_path / file)
        assert found == pytest.approx(LINES[0])
        assert not any("not read" in note or "names no stimuli" in note for note in notes)


def test_names_beside_a_nested_matrix_are_its_own(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    other = ORDER[::-1]
    savemat(tmp_path / "a.mat", {"data": {"RDM": MIXED, "stimuli": cells(NAMED)}})
    savemat(tmp_path / "b.mat", {"data": {"brain": {"RDM": MIXED}, "stimuli": {"id": IDS.astype(float)}}})
    savemat(
        tmp_path / "c.mat", {"RDM": MIXED, "stimuli": {"filename": cells(NAMED), "category": cells(list("aabbcc"))}}
    )
    with h5py.File(tmp_path / "d.h5", "w") as file:
        for name, order in (("IT", ORDER), ("V1", other)):
            file[f"{name}/rdm"] = FULL[np.ix_(order, order)]
            file[f"{name}/stimuli"] = [FILES[i] for i in order]
    for file in ("a.mat", "b.mat", "c.mat", "d.h5"):
        assert in_order(tmp_path / file)[0] == pytest.approx(LINES[0])
    assert joined(read_rdms(tmp_path / "d.h5", N), shown())[0][1].values[0] == pytest.approx(LINES[0])


def test_matrices_of_one_recording_have_one_order(tmp_path: Path) -> None:
    parts = np.zeros((1, 2), dtype=[("RDM", object), ("name", object), ("stimuli", object)])
    for i, named in enumerate((NAMED, NAMED)):
        parts[0, i] = MIXED, f"IT | sub-0{i}", cells(named)
    savemat(tmp_path / "r.mat", {"RDMs": parts})
    assert in_order(tmp_path / "r.mat")[0] == pytest.approx(LINES[0])
    parts[0, 1] = FULL, "IT | sub-01", cells(FILES)
    savemat(tmp_path / "r.mat", {"RDMs": parts})
    with pytest.raises(ValueError, match="sub-00 and sub-01 of 'IT' name their stimuli differently"):
        read_rdms(tmp_path / "r.mat", N)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"stimuli": np.linspace(0, 1, N)}, r"stimuli is a list of float64, which are no names"),
        ({"stimuli": IDS[:4]}, r"stimuli names 4 stimuli \('r' is of 6 stimuli\)"),
        (
            {"stimulus_order": IDS},
            "stimulus_order may say the order of the stimuli: call it 'stimuli' if",
        ),
        ({"stimuli": np.array([["a", "b"]] * N)}, r"stimuli is text of shape \[6, 2\]"),
    ],
)
def test_what_is_called_after_stimuli_is_used_or_refused(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    np.savez(tmp_path / "r.npz", RDM=MIXED, **more)
    with pytest.raises(ValueError, match=words) as caught:
        read_rdms(tmp_path / "r.npz", N)
    assert "\n" not in str(caught.value)


def test_names_apart_from_matrices_are_refused(tmp_path: Path) -> None:
    savemat(tmp_path / "r.mat", {"brain": {"RDM": MIXED}, "info": {"stimuli": cells(NAMED)}})
    with pytest.raises(ValueError, match=r"info\.stimuli names stimuli, but lies beside no matrix"):
        read_rdms(tmp_path / "r.mat", N)


def test_string_arrays_of_matlab_are_refused_by_name(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    savemat(tmp_path / "v5.mat", {"RDM": MIXED})
    with (tmp_path / "v5.mat").open("ab") as file:
        file.write(opaque("stimuli") + opaque("other"))
    made = Matlab73(tmp_path / "v73.mat")
    made.put("RDM", MIXED)
    made.put("stimuli", np.zeros((1, 6), np.uint32))
    path = made.close()
    with h5py.File(path, "r+") as opened:
        opened["stimuli"].attrs["MATLAB_object_decode"] = np.int32(3)
    for file in (tmp_path / "v5.mat", path):
        with pytest.raises(ValueError, match="stimuli is empty, or of a type of MATLAB's that nothing reads"):
            read_rdms(file, N)
    assert set(load_tree(tmp_path / "v5.mat")) == {"RDM", "stimuli", "other"}


def test_pictures_and_titles_are_no_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", RDM=FULL, images=PIXELS, stimulus="92 objects", files="a.mat", image_ms=[300] * N)
    assert read_rdms(tmp_path / "r.npz", N)[0].stimuli is None
    savemat(tmp_path / "r.mat", {"IT": FULL, "stimuli": {"label": np.array([1.0, 1, 2, 2, 3, 3])}})
    assert read_rdms(tmp_path / "r.mat", N)[0].stimuli is None


def test_numbers_of_as_many_stimuli_as_there_could_be_pairs_are_no_matrix(tmp_path: Path) -> None:
    """15 stimuli are as many as 6 have pairs, and 3 have as many pairs as there are of them."""
    for count in (15, 3):
        order = np.random.default_rng(0).permutation(count) + 1.0
        savemat(tmp_path / "r.mat", {"IT": squares(triangles(1, count=count))[0], "stimuli": {"id": order}})
        savemat(tmp_path / "s.mat", {"IT": squares(triangles(1, count=count))[0], "stimuli": order})
        for file in ("r.mat", "s.mat"):
            (found,) = read_rdms(tmp_path / file)
            assert (found.name, found.stimuli) == ("IT", [str(int(one)) for one in order])


# ---------------------------------------------------------------------- several lists


def test_a_count_of_rows_gives_way_to_names(tmp_path: Path) -> None:
    for name in ("stimulus_name", "labels"):
        np.savez(tmp_path / "r.npz", RDM=MIXED, stimulus_index=np.arange(1, N + 1), **{name: NAMED})
        found, notes = in_order(tmp_path / "r.npz")
        assert found == pytest.approx(LINES[0])
        assert not any("not read" in note and name in note for note in notes)
    np.savez(tmp_path / "r.npz", RDM=FULL, stimulus_index=np.arange(1, N + 1), labels=list("abcdef"))
    found, notes = in_order(tmp_path / "r.npz")
    assert found == pytest.approx(LINES[0])
    assert any("are joined by stimulus_index, not by labels, which are no names of images" in note for note in notes)


def test_names_in_two_lists_agree_or_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", RDM=MIXED, image_id=IDS, image_name=NAMED)
    assert in_order(tmp_path / "r.npz")[0] == pytest.approx(LINES[0])
    np.savez(tmp_path / "r.npz", RDM=MIXED, image_id=IDS[::-1], image_name=NAMED)
    with pytest.raises(ValueError, match="in image_name and in image_id, which put the images into different orders"):
        in_order(tmp_path / "r.npz")
    np.savez(tmp_path / "r.npz", RDM=MIXED, image_id=IDS, image_name=[f"x{name}" for name in NAMED])
    with pytest.raises(ValueError, match=r"names the stimulus 'xim_4\.png'"):
        in_order(tmp_path / "r.npz")


def test_recorded_responses_prefer_names_to_a_count(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(N, 2))
    np.savez(tmp_path / "r.npz", responses=values, stimulus_index=np.arange(N), stimulus_name=NAMED)
    assert read_responses(tmp_path / "r.npz").stimuli == NAMED


# ---------------------------------------------------------------------- rsatoolbox


def test_rsatoolbox_descriptors_are_preferred_as_arrays_are(tmp_path: Path) -> None:
    rdm = pytest.importorskip("rsatoolbox").rdm
    count = np.arange(1, N + 1)
    for patterns in ({"image_id": count, "image_name": NAMED}, {"stim": count, "filename": NAMED}, {"x": NAMED}):
        rdm.RDMs(MIXED[None], pattern_descriptors=patterns).save(str(tmp_path / "r.h5"), "hdf5", overwrite=True)
        assert in_order(tmp_path / "r.h5")[0] == pytest.approx(LINES[0])


def test_matrices_that_rsatoolbox_has_reordered_are_put_back(tmp_path: Path) -> None:
    rdm = pytest.importorskip("rsatoolbox").rdm
    rdms = rdm.RDMs(FULL[None])
    rdms.reorder(ORDER)
    rdms.save(str(tmp_path / "r.h5"), "hdf5")
    found, notes = in_order(tmp_path / "r.h5")
    assert found == pytest.approx(LINES[0])
    assert "put into the order that they had before they were reordered ('index')" in notes[0]
    rdm.RDMs(FULL[None]).subset_pattern("index", [0, 2, 3, 5]).save(str(tmp_path / "s.h5"), "hdf5")
    with pytest.raises(ValueError, match="has some of the stimuli that it was made of, and names none"):
        read_rdms(tmp_path / "s.h5", 4)


# ---------------------------------------------------------------------- images


def save_images(path: Path, names: Any, name: str) -> Path:
    order = [2, 0, 1, 4, 5, 3]
    given, pixels = [names[i] for i in order], PIXELS[order]
    if path.suffix == ".npz":
        np.savez(path, images=pixels, **{name: given})
    elif path.name == "structs.mat":
        rows = np.empty((1, N), dtype=[("image", object), (name, object)])
        for i in range(N):
            rows[0, i] = pixels[i], given[i]
        savemat(path, {"stim": rows})
    else:
        savemat(path, {"images": pixels, name: given})
    return path


@pytest.mark.parametrize("file", ["s.npz", "s.mat", "structs.mat"])
@pytest.mark.parametrize("dtype", [float, np.uint8, str])
def test_numbers_beside_images_are_their_names(tmp_path: Path, file: str, dtype: Any) -> None:
    ids = np.arange(1, N + 1).astype(dtype).tolist()
    images = find_stimuli(save_images(tmp_path / file, ids, "id"))
    np.savez(tmp_path / "r.npz", RDM=MIXED, image_id=IDS)
    wanted = FULL[np.ix_([2, 0, 1, 4, 5, 3], [2, 0, 1, 4, 5, 3])]
    assert in_order(tmp_path / "r.npz", images)[0] == pytest.approx(wanted[np.triu_indices(N, 1)])


def test_images_are_told_by_position_only_where_nothing_may_name_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", RDM=MIXED, image_id=IDS)
    np.savez(tmp_path / "s.npz", images=PIXELS, labels=np.array([0, 1, 0, 1, 2, 2]))
    assert in_order(tmp_path / "r.npz", find_stimuli(tmp_path / "s.npz"))[0] == pytest.approx(LINES[0])
    for more in ({"code": IDS * 7}, {"stimuli": np.linspace(0, 1, N)}, {"stimuli": NAMED[:4]}):
        np.savez(tmp_path / "s.npz", images=PIXELS, **more)
        with pytest.raises(ValueError, match=f"and {next(iter(more))} of .* may name the images: call it 'stimuli'"):
            in_order(tmp_path / "r.npz", find_stimuli(tmp_path / "s.npz"))


def test_numbers_and_names_beside_images_both_join(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", images=PIXELS, image_id=IDS, image_name=list("abcdef"))
    images = find_stimuli(tmp_path / "s.npz")
    np.savez(tmp_path / "r.npz", RDM=FULL, stimuli=list("abcdef"))
    assert in_order(tmp_path / "r.npz", images)[0] == pytest.approx(LINES[0])
    np.savez(tmp_path / "r.npz", RDM=FULL, stimuli=IDS)
    assert in_order(tmp_path / "r.npz", images)[0] == pytest.approx(LINES[0])
