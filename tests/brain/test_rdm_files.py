"""Dissimilarities from the files of many programs, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdm_examples import PAIRS, Matlab73, N, squares, triangles
from scipy.io import savemat

pytest.importorskip("lightning")
pytest.importorskip("PIL")

from colgraph.brain.rdm_files import read_rdms, who

LINES = triangles()
NAMES = ["face", "hand", "house", "tool", "car", "tree"]


def read(path: Path, **options: Any) -> list[Any]:
    return read_rdms(path, N, **options)


def npy(folder: Path, values: Any) -> Path:
    np.save(folder / "IT.npy", values)
    return folder / "IT.npy"


# ---------------------------------------------------------------------- shapes


@given(
    subjects=st.integers(1, 8),
    form=st.sampled_from(["[s,n,n]", "[n,n,s]", "[s,pairs]", "[pairs,s]"]),
    dtype=st.sampled_from([">f8", "<f4", "<f8"]),
    diagonal=st.sampled_from([0.0, np.nan, 1e-7]),
)
@settings(max_examples=30)
def test_stacks_of_every_shape_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, subjects: int, form: str, dtype: str, diagonal: float
) -> None:
    """Six subjects of six stimuli are among them."""
    lines = triangles(subjects)
    full = squares(lines)
    full[:, range(N), range(N)] = diagonal
    values = {"[s,n,n]": full, "[n,n,s]": full.transpose(1, 2, 0), "[s,pairs]": lines, "[pairs,s]": lines.T}[form]
    found = read(npy(tmp_path_factory.mktemp("rdms"), values.astype(dtype)))
    assert [(one.name, len(one.values)) for one in found] == [("IT", subjects)]
    assert found[0].values == pytest.approx(lines, abs=1e-6)
    is_told = any("NaN on its diagonal" in note for note in found[0].notes)
    assert is_told == ("pairs" not in form and np.isnan(diagonal))


def test_one_matrix_and_one_triangle(tmp_path: Path) -> None:
    for values in (squares(LINES)[0], LINES[0]):
        (found,) = read(npy(tmp_path, values))
        assert np.array_equal(found.values, LINES[:1])
        assert found.count == N


@pytest.mark.parametrize("empty", [0.0, np.nan])
@pytest.mark.parametrize("which", ["upper", "lower"])
def test_one_triangle_is_enough(tmp_path: Path, empty: float, which: str) -> None:
    keep = np.triu(np.ones((N, N), dtype=bool), 1)
    values = np.where(keep if which == "upper" else keep.T, squares(LINES), empty)
    (found,) = read(npy(tmp_path, values))
    assert np.array_equal(found.values, LINES)
    assert any(f"has one triangle alone, the {which} one" in note for note in found.notes)


def test_every_array_is_a_recording_unless_it_names_a_subject(tmp_path: Path) -> None:
    full = squares(LINES)
    np.savez(tmp_path / "r.npz", V1=full, IT=full[:, ::-1, ::-1])
    assert [(one.name, one.values.shape) for one in read(tmp_path / "r.npz")] == [
        ("V1", (3, PAIRS)),
        ("IT", (3, PAIRS)),
    ]
    np.savez(tmp_path / "s.npz", **{f"sub-{i:02d}": one for i, one in enumerate(full)})
    (found,) = read(tmp_path / "s.npz")
    assert (found.name, found.subjects) == ("s", ["sub-00", "sub-01", "sub-02"])
    assert np.array_equal(found.values, LINES)


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (2, 3, 0, 1)])
def test_movies_are_a_recording_for_each_time_or_range(tmp_path: Path, axes: tuple[int, ...]) -> None:
    lines = triangles(3 * 4)
    path = npy(tmp_path, squares(lines).reshape(3, 4, N, N).transpose(axes))
    each = lines.reshape(3, 4, PAIRS)
    found = read(path)
    assert [one.name for one in found] == [f"IT, time {i}" for i in (1, 2, 3, 4)]
    assert np.array_equal(found[2].values, each[:, 2])
    (mean,) = read(path, times="mean")
    assert mean.values == pytest.approx(each.mean(1))
    early, late = read(path, times="1:2,4")
    assert (early.name, late.name) == ("IT, times 1:2", "IT, times 4")
    assert early.values == pytest.approx(each[:, :2].mean(1))
    with pytest.raises(ValueError, match=r"--times '3:9': 'IT' has the points 1 to 4"):
        read(path, times="3:9")


def test_sessions_of_a_movie_are_averaged(tmp_path: Path) -> None:
    lines = triangles(3 * 2 * 4)
    found = read(npy(tmp_path, squares(lines).reshape(3, 2, 4, N, N)))
    assert found[3].values == pytest.approx(lines.reshape(3, 2, 4, PAIRS)[:, :, 3].mean(1))
    assert "3 x 2 x 4 subjects, sessions and times: sessions are averaged" in found[0].notes[0]


def test_a_long_movie_asks_which_times(tmp_path: Path) -> None:
    path = npy(tmp_path, triangles(2 * 50).reshape(2, 50, PAIRS))
    with pytest.raises(ValueError, match=r"has 50 points in time \(2 subjects\): say --times mean, --times each"):
        read(path)
    assert len(read(path, times="each")) == 50


@pytest.mark.parametrize("form", ["[t,n,n]", "[n,n,t]", "[t,pairs]"])
def test_the_one_axis_of_a_movie_of_one_subject_is_of_times(tmp_path: Path, form: str) -> None:
    lines = triangles(20)
    full = squares(lines)
    path = npy(tmp_path, {"[t,n,n]": full, "[n,n,t]": full.transpose(1, 2, 0), "[t,pairs]": lines}[form])
    early, late = read(path, times="1:10,20")
    assert (early.name, late.name, early.subjects) == ("IT, times 1:10", "IT, times 20", ["1"])
    assert early.values == pytest.approx(lines[:10].mean(0, keepdims=True))
    assert "20 matrices of 'IT' of" in early.notes[0]
    assert "points in time of one subject, as --times says" in early.notes[0]
    assert [one.name for one in read(path, times="each")] == [f"IT, time {i}" for i in range(1, 21)]
    with pytest.raises(ValueError, match="--times 'foo': 'IT' has the points 1 to 20"):
        read(path, times="foo")
    (plain,) = read(path)
    assert len(plain.values) == 20
    assert "its 20 matrices are taken as subjects" in plain.notes[-1]
    assert len(read(path, times="each", lone_axis="subjects")[0].values) == 20


def test_times_of_matrices_without_any_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", **{f"sub-{i}": one for i, one in enumerate(squares(LINES))})
    for path in (npy(tmp_path, squares(LINES)[0]), tmp_path / "r.npz"):
        with pytest.raises(ValueError, match=r"--times each: no array of .* has an axis of times") as caught:
            read(path, times="each")
        assert "\n" not in str(caught.value)
    assert len(read(tmp_path / "r.npz", times="each", needs_times=False)) == 1
    assert len(read(npy(tmp_path, squares(LINES)), times="each", models=True)) == 3


@pytest.mark.parametrize("shape", [(1, 3), (3, 1)])
def test_axes_of_length_1_say_which_axis_is_of_times(tmp_path: Path, shape: tuple[int, int]) -> None:
    full = squares(LINES).reshape(*shape, N, N)
    savemat(tmp_path / "IT.mat", {"IT": full})
    for path in (npy(tmp_path, full), npy(tmp_path, LINES.reshape(*shape, PAIRS)), tmp_path / "IT.mat"):
        found = read(path)
        assert [len(one.values) for one in found] == ([1] * 3 if shape[0] == 1 else [3])
        assert found[-1].values[-1] == pytest.approx(LINES[2])


# ---------------------------------------------------------------------- MATLAB


def structs(lines: np.ndarray, names: list[str]) -> list[dict[str, Any]]:
    return [{"RDM": one, "name": name, "color": [0.0, 0, 1]} for one, name in zip(squares(lines), names, strict=True)]


SESSIONS = [f"hIT | {who} | Session: {k}" for k in (1, 2) for who in ("BE", "KO", "SN")]


def v5(path: Path, variables: dict[str, Any]) -> Path:
    def plain(value: Any) -> Any:
        if isinstance(value, list) and value and isinstance(value[0], dict):
            kind = [(key, object) for key in value[0]]
            rows = np.empty((1, len(value)), dtype=kind)
            for i, one in enumerate(value):
                rows[0, i] = tuple(plain(each) for each in one.values())
            return rows
        if isinstance(value, list) and value and not isinstance(value[0], float):
            return np.array([plain(one) for one in value] + [None], dtype=object)[:-1]
        return value

    savemat(path, {name: plain(value) for name, value in variables.items()})
    return path


def v73(path: Path, variables: dict[str, Any]) -> Path:
    pytest.importorskip("h5py")
    file = Matlab73(path)
    for name, value in variables.items():
        file.put(name, value)
    return file.close()


@pytest.fixture(params=[v5, v73], ids=["v5", "v7.3"])
def save(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return lambda **variables: request.param(tmp_path / "rdms.mat", variables)


def test_plain_variables_are_recordings(save: Any) -> None:
    full = squares(LINES)
    path = save(EVC_RDMs=full, IT_RDMs=full[:, ::-1, ::-1], rate=np.array(250.0), coords=np.ones((N, 3)))
    evc, it = read(path)
    assert (evc.name, it.name) == ("EVC_RDMs", "IT_RDMs")
    assert np.array_equal(evc.values, LINES)
    assert np.array_equal(it.matrices(), full[:, ::-1, ::-1])


def test_structs_with_names_are_subjects_and_sessions(save: Any) -> None:
    lines = triangles(6)
    (found,) = read(save(RDMs=structs(lines, SESSIONS)))
    assert (found.name, found.subjects) == ("hIT", ["BE", "KO", "SN"])
    assert found.values == pytest.approx((lines[:3] + lines[3:]) / 2)
    assert "6 matrices of 3 subjects (BE, KO, SN): those of one subject (its sessions) are averaged" in found.notes[0]


def test_structs_of_models_are_models_of_their_own(save: Any) -> None:
    path = save(Models=structs(LINES, ["V1", "HMAX", "animacy | human"]))
    assert [(one.name, one.values.shape) for one in read(path, models=True)] == [
        ("V1", (1, PAIRS)),
        ("HMAX", (1, PAIRS)),
        ("animacy human", (1, PAIRS)),
    ]


def test_nested_structs_and_cells_are_found(save: Any) -> None:
    inner = {"RDM": LINES[0], "name": "monkey IT"}
    path = save(data={"brain": inner, "note": "pilot"}, rdm_cells=[squares(LINES)[1], squares(LINES)[2]])
    found = {one.name: one for one in read(path)}
    assert set(found) == {"monkey IT", "rdm_cells"}
    assert np.array_equal(found["rdm_cells"].values, LINES[1:])


def test_names_in_a_cell_array_are_those_of_stimuli(save: Any) -> None:
    path = save(IT_RDM=squares(LINES), stimuli=NAMES)
    assert read(path)[0].stimuli == NAMES
    assert read(path)[0].perhaps_in == ""
    found = read(save(IT_RDM=squares(LINES), labels=NAMES))[0]
    assert (found.stimuli, found.perhaps_in) == (NAMES, "labels")


def test_other_square_matrices_beside_dissimilarities_are_passed_over(save: Any) -> None:
    confusion = np.arange(36.0).reshape(6, 6)
    (found,) = read(save(IT_RDMs=squares(LINES), confusion=confusion))
    assert found.name == "IT_RDMs"
    assert "not read: 'confusion'" in found.notes[0]
    with pytest.raises(ValueError, match=r"'confusion' of .* is not symmetric"):
        read(save(IT=squares(LINES), confusion=confusion))


def test_a_file_without_matrices_says_what_it_has(save: Any) -> None:
    path = save(betas=np.ones((4, 7)), rate=np.array([250.0, 1.0]))
    with pytest.raises(ValueError, match=r"no dissimilarity matrices of 6 stimuli: it has betas \[4, 7\], rate \[2\]"):
        read(path)


def test_functions_are_ignored_and_other_hdf5_is_read_as_it_is(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = v73(tmp_path / "x.mat", {"IT_RDMs": squares(LINES)})
    with h5py.File(path, "r+") as file:
        file.create_group("measure").attrs["MATLAB_class"] = np.bytes_("function_handle")
        file["measure"]["text"] = np.zeros((3, 3))
    assert [one.name for one in read(path)] == ["IT_RDMs"]
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["IT"], file["stimuli"] = squares(LINES), NAMES
    (found,) = read(tmp_path / "y.h5")
    assert (found.name, found.stimuli) == ("IT", NAMES)
    assert np.array_equal(found.values, LINES)


def test_broken_files(tmp_path: Path) -> None:
    (tmp_path / "x.mat").write_bytes(b"MATLAB 5.0 MAT-file" + b"\0" * 40)
    with pytest.raises(ValueError, match=r"cannot read '.*x\.mat' as a MATLAB file") as caught:
        read(tmp_path / "x.mat")
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------- rsatoolbox


def test_files_of_rsatoolbox_carry_regions_subjects_and_stimuli(tmp_path: Path) -> None:
    rsatoolbox = pytest.importorskip("rsatoolbox")
    lines = triangles(4)
    rdms = rsatoolbox.rdm.RDMs(
        lines,
        rdm_descriptors={"roi": ["V1", "IT", "V1", "IT"], "subject": ["a", "a", "b", "b"]},
        pattern_descriptors={"stimulus": NAMES},
    )
    rdms.save(str(tmp_path / "r.hdf5"), file_type="hdf5")
    v1, it = read(tmp_path / "r.hdf5")
    assert (v1.name, v1.subjects, v1.stimuli) == ("V1", ["a", "b"], NAMES)
    assert np.array_equal(v1.values, lines[[0, 2]])
    assert np.array_equal(it.values, lines[[1, 3]])
    rsatoolbox.rdm.RDMs(lines).save(str(tmp_path / "plain.h5"), file_type="hdf5")
    (plain,) = read(tmp_path / "plain.h5")
    assert (plain.name, len(plain.values), plain.stimuli) == ("plain", 4, None)
    rdms.save(str(tmp_path / "r.pkl"), file_type="pkl")
    with pytest.raises(ValueError, match=r"is a pickle, which can run any code and is never opened: write HDF5"):
        read(tmp_path / "r.pkl")


def test_times_of_rsatoolbox_are_no_subjects(tmp_path: Path) -> None:
    rsatoolbox = pytest.importorskip("rsatoolbox")
    lines = triangles(4)
    about = {"subject": ["a", "a", "b", "b"], "time": [0.1, 0.2, 0.1, 0.2]}
    rsatoolbox.rdm.RDMs(lines, rdm_descriptors=about).save(str(tmp_path / "IT.h5"), "hdf5")
    first, last = read(tmp_path / "IT.h5")
    assert (first.name, last.name, last.subjects) == ("IT, time 1", "IT, time 2", ["a", "b"])
    assert np.array_equal(last.values, lines[[1, 3]])
    del about["subject"]
    rsatoolbox.rdm.RDMs(lines, rdm_descriptors=about).save(str(tmp_path / "IT.h5"), "hdf5", overwrite=True)
    with pytest.raises(ValueError, match=r"has points in time .* that are not the same, once each"):
        read(tmp_path / "IT.h5")


# ---------------------------------------------------------------------- tables


def text(values: np.ndarray, separator: str = ",", header: Any = None, names: Any = None, corner: str = "") -> str:
    rows = [[f"{value:.17g}" for value in row] for row in values]
    rows = [[name, *row] for name, row in zip(names, rows, strict=True)] if names else rows
    head = [] if header is None else [[*([corner] if names else []), *header]]
    return "\n".join(separator.join(row) for row in [*head, *rows]) + "\n"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, None),
        ({"separator": ";"}, None),
        ({"separator": " "}, None),
        ({"header": NAMES}, NAMES),
        ({"header": NAMES, "names": NAMES, "separator": "\t"}, NAMES),
        ({"names": NAMES}, NAMES),
        ({"header": NAMES, "names": NAMES, "corner": "stimulus"}, NAMES),
        ({"header": list("012345"), "names": list("012345")}, None),
        ({"header": list("012345")}, None),
        (
            {"header": ["18", "3", "7", "9", "1", "2"], "names": ["18", "3", "7", "9", "1", "2"]},
            ["18", "3", "7", "9", "1", "2"],
        ),
    ],
)
def test_tables_with_and_without_names(tmp_path: Path, options: dict[str, Any], named: Any) -> None:
    (tmp_path / "IT.csv").write_text(text(squares(LINES)[0], **options))
    (found,) = read(tmp_path / "IT.csv")
    assert found.values == pytest.approx(LINES[:1])
    assert (found.name, found.stimuli) == ("IT", named)


def test_rows_of_a_table_are_joined_to_columns_by_name(tmp_path: Path) -> None:
    full, order = squares(LINES)[0], [3, 1, 0, 5, 4, 2]
    (tmp_path / "IT.csv").write_text(text(full[order], header=NAMES, names=[NAMES[i] for i in order]))
    assert read(tmp_path / "IT.csv")[0].values == pytest.approx(LINES[:1])
    (tmp_path / "IT.csv").write_text(text(full, header=NAMES, names=[*NAMES[:5], "bird"]))
    with pytest.raises(ValueError, match="has a column 'tree', but no row of that name"):
        read(tmp_path / "IT.csv")


def test_condensed_tables(tmp_path: Path) -> None:
    (tmp_path / "IT.csv").write_text(text(LINES))
    assert read(tmp_path / "IT.csv")[0].values == pytest.approx(LINES)
    (tmp_path / "IT.txt").write_text("".join(f"{value}\n" for value in LINES[0]))
    assert read(tmp_path / "IT.txt")[0].values == pytest.approx(LINES[:1])
    (tmp_path / "IT.csv").write_text(text(LINES[:, :14]))
    with pytest.raises(
        ValueError, match=r"3 x 14 numbers: a matrix is square, .* \(15 of 6 stimuli\)|no dissimilarity"
    ):
        read(tmp_path / "IT.csv")


# ---------------------------------------------------------------------- what is refused


def changed(**entries: float) -> np.ndarray:
    full = squares(LINES)
    for where, value in entries.items():
        full[tuple(int(i) for i in where[1:])] = value
    return full


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (changed(_014=9), r"is not symmetric: entry \(2, 5\) of matrix 1 is 9, entry \(5, 2\) is 1\.\d+"),
        (changed(_203=np.nan, _230=np.nan), r"matrix 3: the dissimilarity of stimuli 1 and 4 is nan \(1 of 15 pairs\)"),
        (changed(_203=np.nan), r"matrix 3: the dissimilarity of stimuli 1 and 4 is nan"),
        (changed(_230=np.nan), r"matrix 3: the dissimilarity of stimuli 1 and 4 is nan"),
        (np.where(np.arange(3)[:, None] == 1, 0.5, LINES), "matrix 2 is constant: all dissimilarities are 0.5"),
        (1 - squares(0.4 * LINES), r"similarities, not dissimilarities: its diagonal \(1\) is the largest of each row"),
        (-squares(LINES), r"similarities, not dissimilarities: its diagonal \(0\) is the largest of each row"),
        (np.stack([squares(LINES)[0], 1 - squares(0.4 * LINES)[1]]), r"similarities, not .* its diagonal \(0 to 1\)"),
        (triangles(PAIRS), r"has shape \[15, 15\]: either axis may be that of the pairs: give square matrices"),
        (np.ones((3, 7)), r"no dissimilarity matrices of 6 stimuli: it has IT \[3, 7\]"),
        (np.full((2, PAIRS), np.inf), "the dissimilarity of stimuli 1 and 2 is inf"),
    ],
)
def test_matrices_that_are_none_are_refused(tmp_path: Path, values: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        read(npy(tmp_path, values))
    assert "\n" not in str(caught.value)


def test_a_diagonal_that_is_not_zero_is_told(tmp_path: Path) -> None:
    full = squares(LINES)
    full[:, range(N), range(N)] = 0.2
    assert "has 0.2 on its diagonal, not zero" in read(npy(tmp_path, full))[0].notes[0]


def test_matrices_of_other_sizes_are_refused(tmp_path: Path) -> None:
    names = ["IT | a", "IT | b"]
    rows = [{"RDM": squares(triangles(1, count=n))[0], "name": name} for n, name in zip((6, 5), names, strict=True)]
    with pytest.raises(ValueError, match="has matrices of 6, 5 stimuli in 'IT'"):
        read(v5(tmp_path / "x.mat", {"RDMs": rows}))
    path = v5(tmp_path / "y.mat", {"x_rdm": triangles(1, count=5)[0], "y_rdm": triangles(1, count=5)[0]})
    with pytest.raises(
        ValueError, match="holds no matrices of 6 stimuli, as there are images: it has x_rdm of 5, y_rdm"
    ):
        read(path)


def test_python_objects_and_other_files_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    for name, words in (
        ("x.npy", "Python objects"),
        ("gone.npy", "there is no file"),
        ("x.xlsx", "ends in .npy, .npz"),
    ):
        with pytest.raises(ValueError, match=words):
            read(tmp_path / name)
    np.savez(tmp_path / "x.npz", IT=LINES, stimuli=NAMES[:5])
    with pytest.raises(ValueError, match=r"stimuli names 5 stimuli \('IT' is of 6 stimuli\)"):
        read(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", IT=LINES, stimuli=[*NAMES[:5], "face"])
    with pytest.raises(ValueError, match="names stimuli twice: 'face'"):
        read(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("hIT | BE | Session: 1", ("hIT", "BE", "Session: 1")),
        ("sub-01_ses-02_IT", ("IT", "sub-01", "ses-02")),
        ("IT_sub07", ("IT", "sub07", "")),
        ("Subject 3", ("", "Subject 3", "")),
        ("subordinate categories", ("subordinate categories", "", "")),
        ("HMAX", ("HMAX", "", "")),
        ("S12", ("", "S12", "")),
        ("EVC_s3", ("EVC", "s3", "")),
        ("V1", ("V1", "", "")),
        ("S1", ("S1", "", "")),
        ("S2_left", ("S2_left", "", "")),
        ("s1", ("", "s1", "")),
        ("S01", ("", "S01", "")),
        ("hIT | S1 | Session: 1", ("hIT", "S1", "Session: 1")),
        ("sub-01_S1", ("S1", "sub-01", "")),
        ("S1_ses-2", ("S1", "", "ses-2")),
    ],
)
def test_names_say_recording_subject_and_session(name: str, found: tuple[str, str, str]) -> None:
    assert who(name) == found


def test_s1_and_s2_are_areas_but_among_subjects(tmp_path: Path) -> None:
    full = squares(triangles(3))
    np.savez(tmp_path / "r.npz", S1=full[0], S2=full[1])
    first, second = read(tmp_path / "r.npz")
    assert (first.name, second.name, first.subjects) == ("S1", "S2", ["1"])
    assert "'S1' of" in first.notes[0]
    assert "is taken as an area: call a subject sub-01, or s01" in first.notes[0]
    np.savez(tmp_path / "r.npz", S1=full[0], S2=full[1], S3=full[2])
    (found,) = read(tmp_path / "r.npz")
    assert (found.name, found.subjects) == ("r", ["S1", "S2", "S3"])


def test_nothing_is_read_of_an_empty_archive(tmp_path: Path) -> None:
    empty = io.BytesIO()
    np.savez(empty)
    (tmp_path / "x.npz").write_bytes(empty.getvalue())
    with pytest.raises(ValueError, match="it has no numbers"):
        read(tmp_path / "x.npz")
