"""Regions of a sheet: areas, layers, bands, and what users give."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import colgraph.analysis as an
from colgraph import Sheet, build_sheet


@contextmanager
def refused(says):
    with pytest.raises(ValueError, match=says) as caught:
        yield
    assert "\n" not in str(caught.value)


def with_areas(labels, names):
    return SimpleNamespace(
        num_columns=len(labels), area=torch.tensor(labels), area_names=names, layer=torch.tensor(labels)
    )


def plain(regions):
    return {name: columns.tolist() for name, columns in regions.items()}


def test_areas_come_first_then_layers_then_all():
    assert plain(an.sheet_regions(with_areas([1, 0, -1, 1], ["V1", "V2", "empty"]))) == {"V1": [1], "V2": [0, 3]}
    stack = build_sheet("stack", widths=(2, 2, 2))
    layers = an.sheet_regions(stack)
    assert list(layers) == ["layer0", "layer1", "layer2"]
    assert sorted(np.concatenate(list(layers.values())).tolist()) == list(range(12))
    flat = build_sheet("grid", shape=(3, 4))
    assert plain(an.sheet_regions(flat)) == {"all": list(range(12))}
    assert plain(an.sheet_regions(stack, "all")) == {"all": list(range(12))}
    assert plain(an.sheet_regions(flat, "layers")) == {"layer0": list(range(12))}


@pytest.mark.parametrize("bands", [2, 4])
def test_bands_run_from_inputs_to_outputs(bands):
    sheet = build_sheet("grid", shape=(8, 8), neighbors="knn:4", num_inputs=8, num_outputs=8)
    found = an.sheet_regions(sheet, f"bands:{bands}")
    assert list(found) == [f"band{i + 1}" for i in range(bands)]
    assert sorted(np.concatenate(list(found.values())).tolist()) == list(range(64))
    assert sheet.inputs.numpy()[0] in found["band1"]
    assert sheet.outputs.numpy()[-1] in found[f"band{bands}"]
    way = sheet.pos.numpy() @ (sheet.pos[sheet.outputs].mean(0) - sheet.pos[sheet.inputs].mean(0)).numpy()
    assert np.all(np.diff([way[columns].mean() for columns in found.values()]) > 0)


@given(st.integers(2, 9), st.permutations(range(18)))
@settings(max_examples=25)
def test_bands_of_a_chain_are_alike_however_its_columns_are_numbered(bands, order):
    order = np.array(order)
    sheet = SimpleNamespace(
        num_columns=18,
        edge_index=np.stack([order[:-1], order[1:]]),
        edge_distance=np.full(17, 0.1, np.float32),
        input_rank=np.where(np.arange(18) == order[0], 0, -1),
        output_mask=np.arange(18) == order[-1],
    )
    found = an.sheet_regions(sheet, f"bands:{bands}")
    assert {len(columns) for columns in found.values()} <= {18 // bands, 18 // bands + 1}
    assert [set(columns) for columns in found.values()] == [
        set(part) for part in np.split(order, np.cumsum([len(columns) for columns in found.values()])[:-1])
    ]


def test_regions_that_are_given():
    sheet = build_sheet("grid", shape=(2, 3))
    mask = np.arange(6) < 2
    assert plain(an.sheet_regions(sheet, {"a": mask, "b": [5, 1]})) == {"a": [0, 1], "b": [5, 1]}
    assert plain(an.sheet_regions(sheet, torch.tensor([0, 0, 7, -1, 7, 0]))) == {"0": [0, 1, 5], "7": [2, 4]}
    assert plain(an.sheet_regions(sheet, list("xxyyxx"))) == {"x": [0, 1, 4, 5], "y": [2, 3]}


BAD = [
    ("area", "areas"),
    ("areas", "has none"),
    ("bands:1", "2 to 6"),
    ("bands:99", "2 to 6"),
    ("bands:x", "bands:x"),
    ("", "got ''"),
    ({}, "empty mapping"),
    ({"a": []}, "'a' has no columns"),
    ({"a": np.zeros(6, bool)}, "'a' has no columns"),
    ({"a": np.ones(5, bool)}, "6 entries"),
    ({"a": [6]}, "0..5"),
    ({"a": [-1]}, "0..5"),
    ({"a": [1, 1]}, "column 1 more than once"),
    ({"a": [0.5]}, "float64"),
    ({3: [1]}, "got 3"),
    ({None: [1]}, "got None"),
    ([0, 1], r"\(6\)"),
    (["V1", "V2"], r"\(6\)"),
    (np.ones(6, bool), "give a mask a name"),
    (np.full(6, 0.5), "0.5"),
    (np.full(6, np.nan), "nan"),
    (np.full(6, -1), "negative"),
    (["a", None, "b", "c", "d", "e"], "None"),
    ([[0], [1, 2]], "unlike length"),
]


@pytest.mark.parametrize(("regions", "says"), BAD, ids=lambda value: repr(value)[:30])
def test_bad_regions_are_refused_in_one_line(regions, says):
    with refused(says):
        an.sheet_regions(build_sheet("grid", shape=(2, 3)), regions)


def test_areas_of_a_sheet_are_its_own():
    edges = np.array([[0, 1, 2, 3], [1, 2, 3, 0]])
    sheet = Sheet.from_edges(edges, 4, area=[1, 1, -1, 0], area_names=["V2", "V1"])
    for regions in (None, "areas"):
        assert plain(an.sheet_regions(sheet, regions)) == {"V2": [3], "V1": [0, 1]}


def test_what_a_sheet_lacks_is_said():
    with refused("'V1' twice"):
        an.sheet_regions(with_areas([0, 1], ["V1", "V1"]))
    with refused("area 2 has no name"):
        an.sheet_regions(with_areas([0, 2], ["V1"]))
    with refused("in an area"):
        an.sheet_regions(with_areas([-1, -1], ["V1"]))
    everywhere = build_sheet("grid", shape=(3, 3), num_inputs=9)
    with refused("at 1 different places"):
        an.sheet_regions(everywhere, "bands:2")
    apart = SimpleNamespace(
        num_columns=3,
        edge_index=np.array([[0], [1]]),
        edge_distance=np.ones(1),
        input_rank=np.array([0, -1, -1]),
        output_mask=np.ones(3, bool),
    )
    with refused("the first is 2"):
        an.sheet_regions(apart, "bands:2")
