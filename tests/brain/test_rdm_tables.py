"""Dissimilarities in tables as R, pandas, Excel and MATLAB write them."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rdm_examples import PAIRS, N, squares, triangles

pytest.importorskip("lightning")
pytest.importorskip("PIL")

from colgraph.brain.rdm_files import read_rdms

LINES = triangles()
FULL = squares(LINES)[0]
NAMES = ["face", "hand", "house", "tool", "car", "tree"]
ENDS = list(itertools.combinations(range(N), 2))


def table(folder: Path, rows: Any, name: str = "IT.csv") -> Path:
    with (folder / name).open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / name


def read(folder: Path, rows: Any) -> Any:
    return read_rdms(table(folder, rows), N)


def named(values: np.ndarray, header: list[str], names: list[str], corner: str = "") -> list[list[Any]]:
    return [[corner, *header], *([name, *row] for name, row in zip(names, values.tolist(), strict=True))]


@pytest.mark.parametrize("mark", ["V", "X", "Var"])
def test_numbered_columns_beside_numbered_rows(tmp_path: Path, mark: str) -> None:
    """R writes V1, V2, ... over rows 1, 2, ..."""
    header, names = [f"{mark}{i}" for i in range(1, N + 1)], [str(i) for i in range(1, N + 1)]
    (found,) = read(tmp_path, named(FULL, header, names))
    assert found.values == pytest.approx(LINES[:1])
    assert found.stimuli is None
    (found,) = read(tmp_path, named(FULL, header, NAMES))
    assert (found.values == pytest.approx(LINES[:1]), found.stimuli) == (True, NAMES)


@pytest.mark.parametrize("which", ["upper", "lower"])
@pytest.mark.parametrize("diagonal", ["", 0.0])
@pytest.mark.parametrize("names", [None, NAMES])
def test_triangles_with_empty_cells(tmp_path: Path, which: str, diagonal: Any, names: Any) -> None:
    keep = np.triu(np.ones((N, N), dtype=bool), 1)
    keep = keep if which == "upper" else keep.T
    cells = [[FULL[i, j] if keep[i, j] else diagonal if i == j else "" for j in range(N)] for i in range(N)]
    rows = cells if names is None else [["", *names], *([name, *row] for name, row in zip(names, cells, strict=True))]
    (found,) = read(tmp_path, rows)
    assert found.values == pytest.approx(LINES[:1])
    assert found.stimuli == names


@pytest.mark.parametrize("header", [None, NAMES, [str(i) for i in range(N)]])
def test_an_empty_diagonal_is_no_corner(tmp_path: Path, header: Any) -> None:
    cells = [[FULL[i, j] if i != j else "" for j in range(N)] for i in range(N)]
    rows = cells if header is None else [["", *header], *([k, *row] for k, row in zip(header, cells, strict=True))]
    (found,) = read(tmp_path, rows)
    assert found.values == pytest.approx(LINES[:1])
    assert found.stimuli == (NAMES if header is NAMES else None)


def test_an_empty_cell_is_a_missing_pair(tmp_path: Path) -> None:
    cells = [[FULL[i, j] if (i, j) != (4, 2) else "" for j in range(N)] for i in range(N)]
    with pytest.raises(ValueError, match="the dissimilarity of stimuli 3 and 5 is nan"):
        read(tmp_path, cells)


def test_condensed_ones_have_the_names_of_their_columns(tmp_path: Path) -> None:
    """Regions are no subjects, and sessions neither."""
    both = read(tmp_path, [["IT", "V1"], *LINES[:2].T.tolist()])
    assert [(one.name, one.values.shape) for one in both] == [("IT", (1, PAIRS)), ("V1", (1, PAIRS))]
    (found,) = read(tmp_path, [["", "S1", "S2", "S3"], *([k, *row] for k, row in enumerate(LINES.T.tolist()))])
    assert (found.name, found.subjects) == ("IT", ["S1", "S2", "S3"])
    assert found.values == pytest.approx(LINES)
    header = ["sub-1_ses-1", "sub-1_ses-2", "sub-2_ses-1"]
    (found,) = read(tmp_path, [header, *LINES.T.tolist()])
    assert found.subjects == ["sub-1", "sub-2"]
    assert found.values[0] == pytest.approx(LINES[:2].mean(0))
    (found,) = read(tmp_path, [[who, *row] for who, row in zip(["S1", "S2", "S3"], LINES.tolist(), strict=True)])
    assert found.subjects == ["S1", "S2", "S3"]


def test_names_of_pairs_in_one_cell_are_refused(tmp_path: Path) -> None:
    rows = [[f"{NAMES[i]}-{NAMES[j]}", value] for (i, j), value in zip(ENDS, LINES[0].tolist(), strict=True)]
    with pytest.raises(ValueError, match=r"names its pairs \('face-hand', ...\) in one cell each: write the names of"):
        read(tmp_path, [["pair", "d"], *rows])


@pytest.mark.parametrize("names", [NAMES, [str(i + 1) for i in range(N)]])
def test_a_pair_in_each_row(tmp_path: Path, names: list[str]) -> None:
    order = np.random.default_rng(0).permutation(PAIRS)
    rows = [[names[ENDS[k][1]], names[ENDS[k][0]], *LINES[:, k]] for k in order]
    (found,) = read(tmp_path, [["one", "other", "S1", "S2", "S3"], *rows])
    if names is NAMES:
        found = found.in_order([found.stimuli.index(name) for name in NAMES])
    else:
        assert found.stimuli is None
    assert found.values == pytest.approx(LINES)
    (found,) = read(tmp_path, [["", "one", "other", "d"], *([k, *row[:3]] for k, row in enumerate(rows))])
    assert found.values.shape == (1, PAIRS)
    (found,) = read(tmp_path, [row[:3] for row in rows] + [[row[1], row[0], row[2]] for row in rows])
    assert found.values.shape == (1, PAIRS)


def test_pairs_that_are_missing_or_there_twice_are_refused(tmp_path: Path) -> None:
    rows = [[NAMES[i], NAMES[j], value] for (i, j), value in zip(ENDS, LINES[0].tolist(), strict=True)]
    with pytest.raises(ValueError, match=r"is nan \(1 of 15 pairs\)"):
        read(tmp_path, [["a", "b", "d"], *rows[1:]])
    with pytest.raises(ValueError, match="has the pair 'face', 'hand' twice: give each subject a column"):
        read(tmp_path, [["a", "b", "d"], *rows, *rows])
    rows[3][2] = "far"
    with pytest.raises(ValueError, match="'far' in row 4 of the matrix is no number"):
        read(tmp_path, [["a", "b", "d"], *rows])
