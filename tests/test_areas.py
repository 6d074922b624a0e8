"""Areas of columns: labels with names that a sheet keeps whatever is done to it."""

from __future__ import annotations

import copy

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric import transforms as T

import colgraph as cg
from colgraph.geometry.controls import CONTROLS, build_control
from colgraph.sheet import Sheet

NAMES = ["V1", "V2", "7Networks_LH_Vis_1"]


def labeled(area=(0, 0, 1, 1, 2, -1), names=NAMES, **options):
    """A row of six columns in three areas, the last in none."""
    positions = np.stack([np.arange(6.0), np.zeros(6)], 1)
    return cg.Geometry(positions, area=area, area_names=names, **options)


def areas_of(sheet):
    return [None if k < 0 else sheet.area_names[k] for k in sheet.area.tolist()]


WANTED = ["V1", "V1", "V2", "V2", NAMES[2], None]


def test_areas_come_from_the_geometry_and_are_checked():
    sheet = cg.build_sheet(labeled(), neighbors="knn:2")
    assert sheet.area.dtype == torch.int64
    assert sheet.area_names == NAMES
    assert areas_of(sheet) == WANTED
    assert sheet.checked() is sheet
    plain = cg.build_sheet("ring", columns=8)
    assert plain.area is None
    assert plain.area_names is None
    assert cg.Geometry(np.eye(3), area=[2, -1, 0]).area_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("area", "names", "says"),
    [
        ([0, 0, 1], NAMES, r"area must have shape \[6\]"),
        ([0, 0, 1, 1, 3, -1], NAMES, "to 2, for the 3 area_names, got 3"),
        ([0, 0, 1, 1, 2, -2], NAMES, "got -2"),
        ([0, 0, 1, 1, 0.5, -1], NAMES, "area must be integers"),
        ([0, 0, 1, 1, 2, -1], ["V1", "V1", "V2"], "'V1' more than once"),
        ([0, 0, 1, 1, 2, -1], ["V1", "", "V2"], "not empty, got ''"),
        ([0, 0, 1, 1, 2, -1], ["V1", "V\n2", "V3"], "one line"),
        ([0, 0, 1, 1, 2, -1], "V1 V2 V3", "got the text"),
        (None, NAMES, "area_names needs area"),
    ],
)
def test_what_are_no_areas_is_refused(area, names, says):
    with pytest.raises(ValueError, match=says):
        labeled(area, names)
    with pytest.raises(ValueError, match=says):
        Sheet.from_edges([[0, 1], [1, 0]], 6, area=area, area_names=names)


def test_a_sheet_that_was_changed_is_checked():
    sheet = cg.build_sheet(labeled(), neighbors="knn:2")
    for change, says in (
        ({"area": sheet.area[:3]}, r"shape \[6\]"),
        ({"area": sheet.area.float()}, "int64, got torch.float32"),
        ({"area": sheet.area + 1}, "got 3"),
        ({"area": None}, "lacks area"),
    ):
        other = copy.copy(sheet)
        for name, value in change.items():
            setattr(other, name, value)
        with pytest.raises(ValueError, match=says):
            other.checked()
    other = copy.copy(sheet)
    with pytest.raises(ValueError, match="got the text"):
        other.area_names = "V1"
    other.area_names = ["a", "b", "c"]
    assert (other.area_names, sheet.area_names) == (["a", "b", "c"], NAMES)


@settings(max_examples=25)
@given(st.lists(st.integers(-1, 5), min_size=6, max_size=6), st.permutations(range(6)), st.integers(1, 6))
def test_areas_follow_their_columns_through_cuts(area, order, count):
    # As many areas as there are columns, which PyG would take for something to cut.
    names = [f"area {k}" for k in "abcdef"]
    sheet = cg.build_sheet(labeled(area, names), neighbors="complete")
    part = sheet.subgraph(torch.tensor(order[:count]))
    assert areas_of(part) == [areas_of(sheet)[i] for i in order[:count]]
    assert part.area_names == names
    kept = sorted(order[:count])
    if count < 6:
        assert areas_of(cg.build_sheet(labeled(area, names), neighbors="complete", mask=kept)) == [
            areas_of(sheet)[i] for i in kept
        ]


def test_areas_survive_files_transforms_copies_and_other_forms(tmp_path):
    sheet = cg.build_sheet(labeled(), neighbors="knn:2")
    assert areas_of(Sheet.load(sheet.save(tmp_path / "sheet.npz"))) == WANTED
    assert areas_of(cg.build_sheet(str(tmp_path / "sheet.npz"))) == WANTED
    for transform in (T.Center(), T.AddSelfLoops(), T.RemoveSelfLoops(), T.ToUndirected(reduce="min")):
        assert areas_of(transform(sheet.clone()).checked()) == WANTED
    graph = sheet.to_networkx()
    assert [data.get("area") for _, data in graph.nodes(data=True)] == WANTED
    assert areas_of(cg.build_sheet(graph)) == WANTED
    assert cg.build_sheet(graph).area_names == NAMES
    assert areas_of(cg.build_sheet(sheet)) == WANTED
    assert areas_of(copy.deepcopy(sheet).coalesce()) == WANTED
    assert cg.build_sheet(labeled(), neighbors="knn:2").fingerprint == sheet.fingerprint


def test_an_empty_list_of_areas_comes_back(tmp_path):
    sheet = cg.build_sheet(labeled([-1] * 6, []), neighbors="knn:2")
    assert Sheet.load(sheet.save(tmp_path / "sheet.npz")).area_names == []


@pytest.mark.parametrize("control", CONTROLS)
def test_controls_keep_the_areas_of_their_columns(control):
    sheet = build_control(labeled(), control, neighbors="knn:2")
    assert areas_of(sheet) == WANTED


def test_text_called_area_is_read_from_networks_and_numbers_are_not():
    graph = nx.path_graph(4)
    nx.set_node_attributes(graph, {0: "V1", 1: "V4", 3: "V1"}, "area")
    assert areas_of(cg.build_sheet(graph)) == ["V1", "V4", None, "V1"]
    nx.set_node_attributes(graph, dict.fromkeys(range(4), 12.5), "area")
    assert cg.build_sheet(graph).area is None


def test_sheets_saved_before_there_were_areas_load():
    arrays = cg.build_sheet("ring", columns=8).to_arrays()
    assert "area" not in arrays
    assert Sheet.from_arrays({**arrays, "format": np.array(2)}).area is None
