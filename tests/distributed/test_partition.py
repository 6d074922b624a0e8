"""Partitions: balanced, with few edges across, and counted right."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch_geometric.utils import to_undirected

import colgraph as cg
from colgraph.distributed import halo_bytes, local_sheet, partition_sheet
from colgraph.sheet import Sheet


@pytest.fixture(scope="module")
def sphere() -> Sheet:
    return cg.build_sheet("sphere", subdivisions=4, neighbors=cg.KNN(16))


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 16])
def test_parts_are_balanced_and_none_is_empty(sphere, parts):
    partition = partition_sheet(sphere, parts)
    assert partition.num_parts == parts
    assert partition.imbalance < 0.05
    counts = torch.bincount(partition.assignment, minlength=parts)
    assert counts.tolist() == partition.columns.tolist()
    assert counts.min() > 0
    assert partition.edges.sum() == sphere.edge_index.size(1)


def test_halo_is_what_a_disc_on_the_sphere_needs(sphere):
    """A part of n columns has a rim of about sqrt(4 pi n) columns, and k = 16 neighbors reach 2 to 2.5 columns out."""
    partition = partition_sheet(sphere, 16)
    rim = np.sqrt(4 * np.pi * partition.columns.mean())
    assert partition.halo.max() < 3 * 2.25 * rim
    assert partition.cut_fraction < 0.25


def test_counts_equal_those_of_a_slow_loop(sphere):
    partition = partition_sheet(sphere, 5)
    owner = partition.assignment.tolist()
    heard = [set() for _ in range(5)]
    boundary = [set() for _ in range(5)]
    cut = 0
    for j, i in sphere.edge_index.T.tolist():
        if owner[j] != owner[i]:
            cut += 1
            heard[owner[i]].add(j)
            boundary[owner[i]].add(i)
    assert partition.cut_edges == cut
    assert partition.halo.tolist() == [len(columns) for columns in heard]
    assert partition.boundary.tolist() == [len(columns) for columns in boundary]
    assert partition.peers.tolist() == [len({owner[j] for j in columns}) for columns in heard]


def test_partition_order_is_a_permutation_in_parts(sphere):
    partition = partition_sheet(sphere, 6)
    assert partition.order.sort().values.tolist() == list(range(sphere.num_columns))
    for part in range(6):
        assert set(partition.assignment[partition.part(part)].tolist()) == {part}


def test_the_same_partition_on_every_call(sphere):
    first, second = partition_sheet(sphere, 8), partition_sheet(sphere, 8)
    assert first.digest == second.digest
    assert partition_sheet(sphere, 7).digest != first.digest


def test_edges_of_a_hub_weigh():
    """One column hears all others: its part holds fewer columns."""
    n = 200
    ring = torch.stack([torch.arange(n), (torch.arange(n) + 1) % n])
    hub = torch.stack([torch.arange(1, n), torch.zeros(n - 1, dtype=torch.int64)])
    angle = torch.arange(n) * (2 * torch.pi / n)
    sheet = Sheet.from_edges(torch.cat([ring, hub], 1), n, pos=torch.stack([angle.cos(), angle.sin()], 1))
    partition = partition_sheet(sheet, 2)
    assert partition.imbalance < 0.05
    assert partition.columns.min() < n / 3
    assert partition_sheet(sheet, 2, column_work=1000).columns.tolist() == [n / 2, n / 2]


def test_a_folded_surface_is_cut_along_the_surface():
    """Two sheets that touch in space and are far apart along the graph: a plane through both would cut both."""
    side = 24
    rows, columns = torch.meshgrid(torch.arange(2 * side), torch.arange(side), indexing="ij")
    sign = torch.where(rows < side, 1.0, -1.0)
    height = torch.where(rows < side, rows, 2 * side - 1 - rows).float()
    pos = torch.stack([columns.float().flatten(), height.flatten(), 0.1 * sign.flatten()], 1)
    index = torch.arange(2 * side * side).view(2 * side, side)
    edges = torch.cat(
        [
            torch.stack([index[1:].flatten(), index[:-1].flatten()]),
            torch.stack([index[:, 1:].flatten(), index[:, :-1].flatten()]),
        ],
        1,
    )
    sheet = Sheet.from_edges(to_undirected(edges), 2 * side * side, pos=pos)
    # The fold is the shortest cut: `side` links, both ways.
    assert partition_sheet(sheet, 2).cut_edges == 2 * side


def test_without_positions_the_graph_itself_is_cut():
    n = 60
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    path = torch.stack([order[:-1], order[1:]])
    partition = partition_sheet(Sheet.from_edges(path, n), 4)
    assert partition.cut_edges == 3
    assert partition.imbalance < 0.1


def test_labels_by_number_and_by_name(sphere):
    north = (sphere.pos[:, 2] > 0).long()
    partition = partition_sheet(sphere, method=north)
    assert torch.equal(partition.assignment, north)
    named = partition_sheet(sphere, 2, ["V2" if label else "V1" for label in north.tolist()])
    assert torch.equal(named.assignment, north)


def test_metis_cuts_about_as_well(sphere):
    pytest.importorskip("pymetis")
    metis, space = partition_sheet(sphere, 16, "metis"), partition_sheet(sphere, 16)
    assert metis.imbalance < 0.1
    assert space.halo.sum() < 1.3 * metis.halo.sum()


def test_metis_missing_names_the_pip_line(sphere, monkeypatch):
    monkeypatch.setitem(sys.modules, "pymetis", None)
    with pytest.raises(ImportError, match=r"pip install -e .*\[metis\]"):
        partition_sheet(sphere, 2, "metis")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"parts": 2563}, "2563 parts are more than the 2562 columns"),
        ({"parts": 0}, "at least 1, got 0"),
        ({"parts": 2.5}, "got 2.5"),
        ({"parts": None}, "got None"),
        ({"parts": 2, "method": "spaec"}, "did you mean 'space'"),
        ({"parts": 2, "column_work": -1}, "must not be negative, got -1"),
        ({"parts": 3, "method": np.arange(2562) % 2}, "part 2 is empty"),
        ({"parts": 2, "method": np.arange(2562) % 3}, "0..1 .2 parts., got 2"),
        ({"method": np.arange(2562) % 2 - 1}, "got -1"),
        ({"parts": 3, "method": np.where(np.arange(2562) % 2, "a", "b")}, "2 parts .a, b., but parts is 3"),
        ({"method": [0, 1]}, r"shape \[2562\], one per column, got \[2\]"),
        ({"method": np.linspace(0, 1, 2562)}, "float64"),
    ],
)
def test_bad_input(sphere, arguments, message):
    with pytest.raises(ValueError, match=message):
        partition_sheet(sphere, **arguments)


def test_predicted_bytes():
    assert halo_bytes(10) == 10 * (16 + 64) * 4
    assert halo_bytes(3, dim=8, qk_dim=2, heads=4, batch=5, dtype="bfloat16") == 3 * 5 * (4 * 2 + 8) * 2
    assert halo_bytes(1, dtype=torch.float64) == 80 * 8
    with pytest.raises(ValueError, match="float33"):
        halo_bytes(1, dtype="float33")


def test_report_prints_every_part_and_holds_the_numbers(sphere):
    partition = partition_sheet(sphere, 3)
    report = partition.report(dim=32, qk_dim=8, batch=2)
    assert report.values["bytes_per_step"] == (partition.halo * 2 * 40 * 4).tolist()
    assert len([line for line in report.splitlines() if line.strip().split()[:1] in (["0"], ["1"], ["2"])]) == 3
    for number in (partition.cut_edges, *partition.halo, *partition.edges):
        assert f"{number:,}" in str(partition.report())
    assert "parts=3" in repr(partition) or "3 parts" in repr(partition)


def test_many_parts_are_summed_up(sphere):
    text = str(partition_sheet(sphere, 200))
    assert len(text.splitlines()) < 80
    assert "median" in text


# ---------------------------------------------------------------------- one part


@pytest.mark.parametrize("part", range(4))
def test_a_part_holds_its_edges_and_what_they_hear(sphere, part):
    partition = partition_sheet(sphere, 4)
    local = local_sheet(sphere, partition, part)
    numbers = torch.cat([local.columns, local.halo])
    back = torch.stack([numbers[local.edge_index[0]], numbers[local.edge_index[1]]])
    assert torch.equal(back, sphere.edge_index[:, local.edges])
    assert torch.equal(
        partition.assignment[sphere.edge_index[1]].eq(part).nonzero().flatten(), local.edges.sort().values
    )
    assert local.num_halo == partition.halo[part]
    assert sum(local.halo_counts) == local.num_halo
    assert local.halo_counts[part] == 0
    owners = partition.assignment[local.halo]
    assert torch.equal(owners, owners.sort().values)


def test_groups_of_a_part(sphere):
    """Interior columns hear own columns only; what the boundary hears begins with the first near column."""
    local = local_sheet(sphere, partition_sheet(sphere, 4), 1)
    source, target = local.edge_index
    inside = target < local.interior
    assert inside.sum() == local.interior_edges
    assert inside[: local.interior_edges].all()
    assert source[inside].max() < local.num_columns
    assert source[~inside].min() == local.deep
    listeners = set(target[source >= local.num_columns].tolist())
    assert listeners == set(range(local.interior, local.num_columns))


def test_layouts_of_a_part_cover_its_edges(sphere):
    local = local_sheet(sphere, partition_sheet(sphere, 3), 2)
    inner, outer, whole = local.interior_layout(), local.boundary_layout(), local.whole_layout()
    assert inner.num_edges + outer.num_edges == whole.num_edges == local.num_edges
    assert inner.in_degree[local.interior :].sum() == 0
    first = local.interior - local.deep
    assert outer.in_degree[:first].sum() == 0
    assert (outer.in_degree[first : first + local.boundary] > 0).all()
    assert outer.in_degree[first + local.boundary :].sum() == 0


def test_a_part_of_another_sheet_is_refused(sphere):
    other = cg.build_sheet("ring", columns=10, neighbors=cg.KNN(2))
    with pytest.raises(ValueError, match="belongs to another sheet"):
        local_sheet(other, partition_sheet(sphere, 2), 0)
    with pytest.raises(ValueError, match=r"0\.\.1, got 2"):
        local_sheet(other, partition_sheet(other, 2), 2)


def test_a_large_grid_is_cut_along_straight_lines():
    side = 400
    index = torch.arange(side * side).view(side, side)
    along = [
        (index[1:], index[:-1]),
        (index[:-1], index[1:]),
        (index[:, 1:], index[:, :-1]),
        (index[:, :-1], index[:, 1:]),
    ]
    edges = torch.cat([torch.stack([a.flatten(), b.flatten()]) for a, b in along], 1)
    pos = torch.stack([index.flatten() // side, index.flatten() % side], 1)
    sheet = Sheet.from_edges(edges, side * side, pos=pos)
    partition = partition_sheet(sheet, 4)
    assert partition.imbalance < 0.01
    # Two lines across, each of `side` links both ways.
    assert partition.cut_edges <= 4 * side + 8
