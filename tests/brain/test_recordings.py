"""Responses, stimuli and regions of ``colgraph encode``: joined by their keys, in natural order, or refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

pytest.importorskip("lightning")
pytest.importorskip("PIL")

from PIL import Image

from colgraph.brain.regions import read_regions
from colgraph.brain.responses import Recordings, read_responses
from colgraph.brain.stimuli import read_stimuli
from colgraph.report import line_up
from colgraph.report.loading import PlainImages
from colgraph.text import natural_key


def shown(folder: Path, names: list[str]) -> Path:
    """Images whose brightness is their place in ``names``."""
    folder.mkdir(exist_ok=True)
    for i, name in enumerate(names):
        Image.new("L", (4, 4), i).save(folder / name)
    return folder


def order(folder: Path, recorded: Recordings) -> list[int]:
    return (read_stimuli(folder, recorded, 4, 1)[0][:, 0, 0, 0] * 255).round().int().tolist()


def recordings(stimuli: Any = 3, targets: Any = 6) -> Recordings:
    """Recordings with so many stimuli and targets, or with these names."""
    size = [names if isinstance(names, int) else len(names) for names in (stimuli, targets)]
    named = [None if isinstance(names, int) else list(names) for names in (stimuli, targets)]
    return Recordings(np.zeros(size), *named, "responses")


# ---------------------------------------------------------------------- stimuli


@given(st.permutations(range(1, 13)), st.sampled_from(["stim_{}.png", "{}.PNG", "run2_im{}_a.png", "Stim{:03d}.png"]))
@settings(max_examples=15)
def test_stimuli_without_names_are_in_natural_order(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], pattern: str
) -> None:
    folder = shown(tmp_path_factory.mktemp("stimuli"), [pattern.format(i) for i in numbers])
    assert order(folder, recordings(12)) == np.argsort(numbers).tolist()


def test_natural_order_is_said(tmp_path: Path) -> None:
    folder = shown(tmp_path, [f"stim_{i}.png" for i in range(1, 12)])
    notes = read_stimuli(folder, recordings(11), 4, 1)[1]
    assert len(notes) == 1
    assert "natural order (stim_1.png, stim_2.png, ..., stim_11.png)" in notes[0]
    assert sorted(["b10", "B9", "a", "b9"], key=natural_key) == ["a", "B9", "b9", "b10"]


@pytest.mark.parametrize("pattern", ["{}", "{}.png", "images/{}.png", "C:\\images\\{}.png"])
def test_stimuli_with_names_are_joined_by_name(tmp_path: Path, pattern: str) -> None:
    names = ["face", "house_2", "house_10", "tool"]
    folder = shown(tmp_path, [f"{name}.png" for name in names])
    asked = ["tool", "house_10", "face", "house_2"]
    assert order(folder, recordings([pattern.format(name) for name in asked])) == [3, 2, 0, 1]
    assert read_stimuli(folder, recordings(asked), 4, 1)[1] == []


@pytest.mark.parametrize(
    ("stimuli", "words"),
    [
        (5, r"has 5 stimuli, but .* holds 3 images; 2 of 5 files .* passed over: 2 \.heic"),
        (["a", "b", "x"], "names the stimulus 'x', but"),
        (["a", "b"], r"holds 'c\.png', which 'responses' does not name"),
        (["a", "b", "c", "c.png"], r"names the image 'c\.png' twice"),
    ],
)
def test_stimuli_that_do_not_match_are_refused(tmp_path: Path, stimuli: Any, words: str) -> None:
    folder = shown(tmp_path, ["a.png", "b.png", "c.png"])
    for i in range(2):
        (folder / f"{i}.heic").write_bytes(b"ftypheic")
    with pytest.raises(ValueError, match=words):
        read_stimuli(folder, recordings(stimuli), 4, 1)


def test_two_images_of_one_stem_are_told_apart_by_their_ending(tmp_path: Path) -> None:
    folder = shown(tmp_path, ["a.png", "a.bmp"])
    assert order(folder, recordings(["a.bmp", "a.png"])) == [1, 0]
    with pytest.raises(ValueError, match="or two"):
        read_stimuli(folder, recordings(["a", "a.png"]), 4, 1)


def test_broken_stimulus_is_named_and_other_files_are_counted(tmp_path: Path) -> None:
    folder = shown(tmp_path, ["1.png", "2.png", "3.png"])
    (folder / "._1.png").write_bytes(b"resource fork")
    shown(folder / "thumbnails", ["1.png"])
    notes = read_stimuli(folder, recordings(3), 4, 1)[1]
    assert any("1 hidden" in note for note in notes)
    assert any("1 images in subfolders" in note for note in notes)
    (folder / "2.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"cannot read image '.*2\.png': it is in no image format") as caught:
        read_stimuli(folder, recordings(3), 4, 1)
    assert "\n" not in str(caught.value)


def test_stimuli_of_sixteen_bits_and_networks_scale_by_type(tmp_path: Path) -> None:
    for i in range(3):
        Image.fromarray(np.full((4, 4), 200, np.uint16)).save(tmp_path / f"{i}.png")
    assert float(read_stimuli(tmp_path, recordings(3), 4, 1)[0].max()) == 0
    net = PlainImages(nn.Identity(), (0.5,), (0.5,))  # type: ignore[arg-type]
    images = torch.tensor([0, 65535], dtype=torch.int32).to(torch.uint16).view(2, 1, 1, 1)
    assert net(images).flatten().tolist() == [-1, 1]
    assert net(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)).flatten().tolist() == [-1, 1]
    with pytest.raises(ValueError, match="int64 pixels"):
        net(torch.ones(2, 1, 1, 1, dtype=torch.int64))


# ---------------------------------------------------------------------- responses

VALUES = np.arange(6.0).reshape(3, 2) + 0.5
STIMULI, TARGETS = ["c", "a", "b"], ["u2", "u1"]


def test_arrays_carry_names(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    np.savez(tmp_path / "r.npz", responses=VALUES, stimuli=STIMULI, targets=TARGETS, session=[1, 2])
    with h5py.File(tmp_path / "r.h5", "w") as file:
        file["responses"], file["stimuli"], file["targets"] = VALUES, STIMULI, np.array(TARGETS, dtype="S2")
    for name in ("r.npz", "r.h5"):
        found = read_responses(tmp_path / name)
        assert np.array_equal(found.values, VALUES)
        assert (found.stimuli, found.targets) == (STIMULI, TARGETS)
    assert "session" in read_responses(tmp_path / "r.npz").notes[0]
    np.save(tmp_path / "r.npy", VALUES)
    found = read_responses(tmp_path / "r.npy")
    assert (found.stimuli, found.targets, found.notes) == (None, None, [])


@pytest.mark.parametrize(
    ("text", "stimuli", "targets"),
    [
        ("stimulus,u2,u1\nc,0.5,1.5\na,2.5,3.5\nb,4.5,5.5\n", STIMULI, TARGETS),
        ("\ufeff;u2;u1\r\nc;0,5;1,5\r\na;2,5;3,5\r\nb;4,5;5,5\r\n", STIMULI, TARGETS),
        ('"u2" "u1"\n"c" 0.5 1.5\n"a" 2.5 3.5\n"b" 4.5 5.5\n', STIMULI, TARGETS),
        (",u2,u1\n0,0.5,1.5\n1,2.5,3.5\n2,4.5,5.5\n", None, TARGETS),
        ('"u2","u1"\n"1",0.5,1.5\n"2",2.5,3.5\n"3",4.5,5.5\n', None, TARGETS),
        ("u2\tu1\n0.5\t1.5\n2.5\t3.5\n4.5\t5.5\n", None, TARGETS),
        ("0.5 1.5\n2.5 3.5\n4.5 5.5\n", None, None),
        ("c 0.5 1.5\na 2.5 3.5\nb 4.5 5.5\n", STIMULI, None),
        (",u2,stimulus,u1\n0,0.5,c,1.5\n1,2.5,a,3.5\n2,4.5,b,5.5\n", STIMULI, TARGETS),
        ("image;u2;u1\n3;0.5;1.5\n1;2.5;3.5\n2;4.5;5.5\n", ["3", "1", "2"], TARGETS),
    ],
)
def test_tables_carry_names(tmp_path: Path, text: str, stimuli: Any, targets: Any) -> None:
    (tmp_path / "r.csv").write_bytes(text.encode())
    found = read_responses(tmp_path / "r.csv")
    assert np.array_equal(found.values, VALUES)
    assert (found.stimuli, found.targets) == (stimuli, targets)


@pytest.mark.parametrize(
    "key", ["stimulus_id", "Stimulus Number", "image_id", "img", "file_name", "filename", "StimulusID"]
)
@pytest.mark.parametrize("place", [0, 2])
def test_columns_that_say_which_stimulus_are_found_by_their_name(tmp_path: Path, key: str, place: int) -> None:
    """A number of a stimulus under a name that is not known would be a target."""
    rows = [[key, "u2", "u1"], *[[n, *map(str, v)] for n, v in zip(["3", "1", "2"], VALUES.tolist(), strict=True)]]
    for row in rows:
        row.insert(place, row.pop(0))
    (tmp_path / "r.csv").write_text("".join(",".join(row) + "\n" for row in rows))
    found = read_responses(tmp_path / "r.csv")
    assert (found.stimuli, found.targets) == (["3", "1", "2"], TARGETS)
    assert np.array_equal(found.values, VALUES)
    np.savez(tmp_path / "r.npz", **{"responses": VALUES, key: [3, 1, 2], "neuroid_id": TARGETS})
    found = read_responses(tmp_path / "r.npz")
    assert (found.stimuli, found.targets) == (["3", "1", "2"], TARGETS)


def test_names_in_a_comment_are_those_of_targets(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "r.txt", VALUES, header="u2 u1")
    assert read_responses(tmp_path / "r.txt").targets == TARGETS


@pytest.mark.parametrize("pattern", ["stim_{}.png", "{:05d}.png", "scene{:02d}_a.png"])
@pytest.mark.parametrize("spelled", ["{}", "{}.0", "{:03d}"])
def test_numbers_of_stimuli_are_joined_to_numbered_images(tmp_path: Path, pattern: str, spelled: str) -> None:
    folder = shown(tmp_path / "stimuli", [pattern.format(i) for i in range(12)])
    recorded = recordings([spelled.format(i) for i in (7, 11, 2, 0, 1, 3, 4, 5, 6, 8, 9, 10)])
    notes = read_stimuli(folder, recorded, 4, 1)[1]
    assert order(folder, recorded) == [7, 11, 2, 0, 1, 3, 4, 5, 6, 8, 9, 10]
    assert "joined to images by their number" in notes[0]


def test_numbers_that_images_do_not_have_are_refused(tmp_path: Path) -> None:
    folder = shown(tmp_path / "stimuli", [f"stim_{i}.png" for i in range(3)])
    with pytest.raises(ValueError, match="names the stimulus '3'"):
        order(folder, recordings(["1", "2", "3"]))
    with pytest.raises(ValueError, match="names the stimulus '1'"):
        order(shown(tmp_path / "runs", ["run1_stim2.png", "run2_stim1.png"]), recordings(["1", "2"]))


def test_what_may_be_names_is_not_passed_over(tmp_path: Path) -> None:
    """Joined by position though both carry keys, under a name that nobody knows."""
    np.savez(tmp_path / "r.npz", responses=VALUES, shown=["c", "a", "b"], session=["1", "1", "2"])
    with pytest.raises(ValueError, match="shown may hold the names of the stimuli: call it 'stimuli', or leave it out"):
        read_responses(tmp_path / "r.npz")
    (tmp_path / "r.csv").write_text("trial,u1\n" + "".join(f"{i},{i * 0.5}\n" for i in (4, 2, 0, 1, 3, 5)))
    with pytest.raises(ValueError, match="column 'trial' holds each of the numbers from 0 on once: call it 'stimulus'"):
        read_responses(tmp_path / "r.csv")
    np.savetxt(tmp_path / "r.txt", [(i, i * 0.5) for i in (4, 2, 6, 1, 3, 5)], fmt="%.1f")
    with pytest.raises(ValueError, match="column 1 holds each of the numbers from 1 on once"):
        read_responses(tmp_path / "r.txt")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"responses": VALUES, "stimuli": ["a", "b"]}, r"names 2 stimuli, but its responses \[3, 2\] are of 3"),
        ({"responses": VALUES, "stimuli": ["a", "b", "a"]}, "names stimuli twice: 'a'"),
        ({"responses": VALUES, "targets": VALUES[0]}, "targets must be a list of names"),
        ({"a": VALUES, "b": VALUES}, "must hold one array 'responses', it has a, b"),
        ({"responses": VALUES[0]}, r"must hold \[stimuli, targets\]"),
        (
            {"responses": VALUES, "stimuli": np.array(["a", None, "c"], dtype=object)},
            r"names as text \(dtype=str\)",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    np.savez(tmp_path / "r.npz", **arrays)
    with pytest.raises(ValueError, match=words) as caught:
        read_responses(tmp_path / "r.npz")
    assert "\n" not in str(caught.value)


def test_files_that_hold_no_responses_are_refused(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("a,b\n1,x\n2,3\n")
    with pytest.raises(ValueError, match="'x' in row 1 of the responses is no number"):
        read_responses(tmp_path / "r.csv")
    for name, words in (("gone.npy", "gone.npy"), ("gone.h5", "gone.h5"), ("r.mat", r"ends in \.npy, \.npz")):
        with pytest.raises(ValueError, match=words):
            read_responses(tmp_path / name)


# ---------------------------------------------------------------------- regions

REGIONS = ["V1", "V1", "V1", "IT", "IT", "V4"]


@given(
    ids=st.permutations(range(6)),
    start=st.sampled_from([0, 1]),
    separator=st.sampled_from(",;\t| "),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
    header=st.sampled_from([("target", "region"), ("Neuron", "ROI"), ("region", "unit"), None]),
    numbered=st.booleans(),
)
@settings(max_examples=60)
def test_regions_are_joined_by_target_in_any_dialect(
    tmp_path_factory: pytest.TempPathFactory,
    ids: list[int],
    start: int,
    separator: str,
    end: str,
    encoding: str,
    header: tuple[str, str] | None,
    numbered: bool,
) -> None:
    rows = [[str(i + start), REGIONS[i].replace("V4", "Mé")] for i in ids]
    if header == ("region", "unit"):
        rows = [row[::-1] for row in rows]
    rows = [*([list(header)] if header else []), *rows]
    if numbered and header:  # as R's write.csv
        rows = [["nr" if i == 0 else str(i), *row] for i, row in enumerate(rows)]
        rows[0][0] = "" if separator != " " else "nr"
    path = tmp_path_factory.mktemp("regions") / "regions.csv"
    path.write_bytes((end.join(separator.join(row) for row in rows) + end).encode(encoding))
    found, notes = read_regions(path, recordings())
    assert found == [name.replace("V4", "Mé") for name in REGIONS]
    assert "V1 3, IT 2, Mé 1 targets" in notes[-1]
    assert any("counted from 1" in note for note in notes) == (start == 1)


@pytest.mark.parametrize(
    "text",
    [
        "V1\r\nV1\r\nV1\r\nIT\r\nIT\r\nV4\r\n",
        "\ufeffV1\nV1\nV1\nIT\nIT\nV4",
        "region\nV1\nV1\nV1\nIT\nIT\nV4\n",
        "my areas\nV1\nV1\nV1\nIT\nIT\nV4\n",
    ],
)
def test_single_column_is_in_the_order_of_targets(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.csv").write_bytes(text.encode())
    found, notes = read_regions(tmp_path / "r.csv", recordings())
    assert found == REGIONS
    assert "names no targets: its lines are in their order" in notes[0]


def test_whole_numbers_with_decimals_are_targets(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("target;region\n" + "".join(f"{i},0;{REGIONS[i]}\n" for i in (5, 3, 1, 0, 2, 4)))
    assert read_regions(tmp_path / "r.csv", recordings())[0] == REGIONS


def test_regions_of_several_words_and_of_named_targets(tmp_path: Path) -> None:
    path = tmp_path / "r.txt"
    path.write_text("left V1\nleft V1\nright IT\n")
    assert read_regions(path, recordings(targets=3))[0] == ["left V1", "left V1", "right IT"]
    named = recordings(targets=["u10", "u2", "u1"])
    for text in ("u1,A\nu2,B\nu10,C\n", "cell;area\nu2;B\nu1;A\nu10;C\n", "A\tu1\nC\tu10\nB\tu2\n"):
        path.write_text(text)
        assert read_regions(path, named)[0] == ["C", "B", "A"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A\nB\n", "names 2 regions, but there are 6 targets"),
        ("V1\nV1\nV1\nV1\nIT\nIT\nIT\n", "names 7 regions, but there are 6 targets"),
        ("region\nV1\nV1\nV1\nIT\nIT\n", "names 5 regions, but there are 6 targets"),
        (
            "target,region\n0,A\n1,A\n2,A\n3,B\n5,B\n",
            "names 5 regions, but there are 6 targets: the first without is '4'",
        ),
        ("target,region\n0,A\n1,A\n2,A\n3,B\n4,B\n4,B\n", "names the target '4' twice"),
        ("target,region\n0,A\n1,A\n2,A\n3,B\n4,B\n9,B\n", "names the target '9', which 'responses' has not"),
        ("target,region\nu0,A\nu1,A\nu2,A\nu3,B\nu4,B\nu5,B\n", "'u0', but 'responses' has no names of targets"),
        ("target,region\n0,A\n1,A\n2,A\n3,B\n4,B\n5,\n", "gives target 5 no region"),
        ("target,region,depth\n" + "".join(f"{i},A,{i}\n" for i in range(5)), "the first without is '5'"),
        ("x,region,depth\n" + "".join(f"{i},A,{i}\n" for i in range(6)), "x, region, depth: call one 'target'"),
        ("".join(f"u{i},A\n" for i in range(6)), "must have the columns target and region"),
    ],
)
def test_regions_that_do_not_match_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        read_regions(tmp_path / "r.csv", recordings())
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------- classes of controls


def test_control_whose_classes_are_in_another_order_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    main: Any = SimpleNamespace(sheet=None, run=SimpleNamespace(classes=["a", "b"], config=SimpleNamespace(rewire=0)))
    control: Any = SimpleNamespace(path="elsewhere", name="tied weights", check=lambda *sheets, **plastic: None)
    monkeypatch.setattr(line_up, "load_run", lambda *_, **__: SimpleNamespace(classes=["b", "a"], sheet=None))
    with pytest.raises(ValueError, match="elsewhere answers with its classes in another order: train it again"):
        line_up._trained(control, main, {})
