"""Controls: what they keep, and what they take away."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch

import colgraph as cg
from colgraph.geometry import build_control, shuffled_order


def degrees(sheet, end):
    return torch.bincount(sheet.edge_index[end], minlength=sheet.num_columns)


SHEETS = [
    ("stack", {"widths": [4, 4, 4], "neighbors": "knn:8"}),
    ("torus", {"shape": (6, 6), "neighbors": "knn:6", "num_inputs": 9, "num_outputs": 4}),
    ("sphere", {"subdivisions": 2, "neighbors": "radius:0.6"}),
    ("sphere", {"subdivisions": 2, "metric": "geodesic"}),
    ("grid", {"shape": (6, 6), "mask": np.arange(36) % 5 != 0}),
]


@pytest.mark.parametrize(("name", "arguments"), SHEETS, ids=str)
@pytest.mark.parametrize("seed", [0, 3])
def test_random_graph_keeps_degrees_positions_and_ends(name, arguments, seed):
    sheet = cg.build_sheet(name, **arguments)
    control = build_control(cg.geometry(name, **options(arguments)), "random-graph", seed, **rest(arguments))
    for end in (0, 1):
        assert torch.equal(degrees(control, end), degrees(sheet, end))
    assert control.fingerprint != sheet.fingerprint
    for field in ("pos", "input_rank", "output_mask", "layer", "face"):
        assert torch.equal(control[field], sheet[field]), field
    assert control.spacing == sheet.spacing
    loops = [int((s.edge_index[0] == s.edge_index[1]).sum()) for s in (control, sheet)]
    assert loops[0] == loops[1]
    # Chance reaches farther than neighborhoods do, and lengths are those of the metric.
    assert float(control.edge_distance.mean()) > 1.2 * float(sheet.edge_distance.mean())
    if sheet.metric == "euclidean":
        ends = control.pos[control.edge_index]
        assert torch.allclose(control.edge_distance, (ends[0] - ends[1]).norm(dim=1), atol=1e-5)
    again = build_control(cg.geometry(name, **options(arguments)), "random-graph", seed, **rest(arguments))
    assert again.fingerprint == control.fingerprint


@pytest.mark.parametrize(("name", "arguments"), SHEETS, ids=str)
def test_shuffled_positions_keep_the_graph_and_measure_anew(name, arguments):
    sheet = cg.build_sheet(name, **arguments)
    control = build_control(cg.geometry(name, **options(arguments)), "shuffled-positions", 1, **rest(arguments))
    assert control.fingerprint == sheet.fingerprint
    assert control.geometry_fingerprint != sheet.geometry_fingerprint
    for field in ("input_rank", "output_mask", "layer"):
        assert torch.equal(control[field], sheet[field]), field
    order = torch.from_numpy(shuffled_order(sheet.num_columns, 1))
    assert torch.equal(control.pos, sheet.pos[order])
    assert torch.equal(control.pos[control.face], sheet.pos[sheet.face])
    if sheet.metric == "euclidean":
        ends = control.pos[control.edge_index]
        assert torch.allclose(control.edge_distance, (ends[0] - ends[1]).norm(dim=1), atol=1e-5)
    assert float(control.edge_distance.mean()) > 1.2 * float(sheet.edge_distance.mean())


ARGUMENTS = {"neighbors", "metric", "mask", "num_inputs", "num_outputs"}


def options(arguments):
    return {k: v for k, v in arguments.items() if k not in ARGUMENTS}


def rest(arguments):
    return {k: v for k, v in arguments.items() if k in ARGUMENTS}


def test_none_is_the_sheet_itself():
    a, b = build_control("ring", "none", columns=20), cg.build_sheet("ring", columns=20)
    assert (a.fingerprint, a.geometry_fingerprint) == (b.fingerprint, b.geometry_fingerprint)


def test_what_has_no_control_is_refused():
    with pytest.raises(ValueError, match=r"control random-graph: no edge .*complete can be exchanged"):
        build_control("ring", "random-graph", columns=20, neighbors="complete")
    with pytest.raises(ValueError, match=r"control must be one of none, .*got 'random'"):
        build_control("ring", "random")
    two = nx.disjoint_union(nx.cycle_graph(6), nx.cycle_graph(6))
    with pytest.raises(ValueError, match=r"control random-graph: metric '.*' does not say .*such as 'euclidean'"):
        build_control(two, "random-graph")


@pytest.mark.parametrize("control", ["random-graph", "shuffled-positions"])
def test_neighborhoods_that_nobody_names_are_those_of_the_sheet(control):
    arguments = {"columns": 60, "mask": list(range(30))}
    sheet, usual = build_control("ring", control, **arguments), cg.build_sheet("ring", **arguments)
    assert sheet.num_columns == usual.num_columns
    assert sheet.edge_index.shape == usual.edge_index.shape
