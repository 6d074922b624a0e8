"""The cortex example with areas: its sheets, its controls and its figures."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

import colgraph as cg
from colgraph.training import parse_flags

for package in ("nilearn", "matplotlib", "lightning"):
    pytest.importorskip(package)

ROOT = Path(__file__).parents[1]
PRESET = "examples/configs/cortex_fsaverage3.yaml"


@pytest.fixture(scope="module")
def example() -> dict:
    return runpy.run_path(str(ROOT / "examples" / "cortex.py"))


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    shape = cg.geometry("cortex", hemisphere="both", mesh="fsaverage3")
    code = 1 + (shape.positions > 0) @ [0, 1, 2] + 4 * shape.layer
    np.savetxt(tmp_path / "parcels.txt", code, fmt="%d")
    names = [f"{side}H_{k}" for side in "LR" for k in range(4)]
    strength = np.random.default_rng(0).uniform(1, 2, (8, 8))
    rows = [",".join(names), *(",".join(map(str, row)) for row in strength + strength.T)]
    (tmp_path / "connectome.csv").write_text("\n".join(rows))
    return ["--config", PRESET, "--parcellation", str(tmp_path / "parcels.txt")]


@pytest.mark.filterwarnings("ignore:.*code k is taken")
def test_flags_make_the_sheet_and_its_controls(example, flags, tmp_path):
    connected = [*flags, "--connectome", str(tmp_path / "connectome.csv")]
    sheets = [
        example["make_sheet"](parse_flags([*words, "--out", str(tmp_path / "run")])[0])
        for words in (connected, flags, [*connected, "--rewire-areas", "1", "--hub", "4"])
    ]
    with_tracts, local, rewired = sheets
    assert int(with_tracts.is_tract.sum()) > 9_000
    assert local.tract_index is None
    assert local.area.equal(with_tracts.area)
    assert rewired.area_names[-1] == "hub"
    for sheet in sheets:
        assert len(sheet.inputs) == 256
        assert len(sheet.outputs) == 64
    surface = cg.geometry("cortex", hemisphere="both", mesh="fsaverage3", surface="inflated")
    spread = np.random.default_rng(0).uniform(size=(6, rewired.num_columns))
    example["draw_arrival"](spread, surface, rewired, tmp_path / "arrival.png")
    example["draw_arrival_by_area"](spread, rewired, tmp_path / "by_area.png")
    assert (tmp_path / "arrival.png").stat().st_size > 10_000
    assert (tmp_path / "by_area.png").stat().st_size > 10_000
