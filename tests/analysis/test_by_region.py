"""Regions of a sheet: attention between them, and measures in them, on networks whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

import colgraph as cg
from colgraph import analysis as an


@pytest.fixture(scope="module")
def sheet():
    """A grid in four bands, each an area."""
    shape = cg.geometry("grid", shape=(8, 8))
    label = (shape.positions[:, 1] // 2).astype(int)
    return cg.build_sheet(cg.Geometry(shape.positions, area=label, area_names=list("abcd")), neighbors="complete")


def test_attention_between_regions_is_summed_from_row_to_column(sheet):
    edges, regions = sheet.edge_index.numpy(), an.sheet_regions(sheet)
    source, target = sheet.area.numpy()[edges]
    attention = np.where((source == 0) & (target == 2), 2.0, 1.0)
    found = an.region_attention(attention, edges, regions, permutations=19)
    assert found.regions == ("a", "b", "c", "d")
    assert found.attention[0, 2] == 2 * 16 * 16
    assert found.attention[2, 0] == 16 * 16
    connectome = np.ones((4, 4))
    connectome[0, 2] = 5.0
    follows = an.region_attention(attention, edges, regions, reference=connectome, permutations=99)
    assert follows.value == pytest.approx(1)
    assert follows.p_value < 0.2
    turned = an.region_attention(attention, edges, regions, reference=connectome.T, permutations=9)
    assert turned.value < 0
    assert found.plot().get_title().startswith("attention between regions")


def test_a_reference_with_names_is_joined_by_them(sheet):
    pandas = pytest.importorskip("pandas")
    edges, regions = sheet.edge_index.numpy(), an.sheet_regions(sheet)
    draw = np.random.default_rng(0)
    connectome, attention = draw.random((4, 4)), draw.random(edges.shape[1])
    wanted = an.region_attention(attention, edges, regions, reference=connectome, permutations=9)
    named = pandas.DataFrame(connectome, index=list("abcd"), columns=list("abcd"))
    plain = pandas.DataFrame(connectome)
    for given in (named, named.loc[list("cadb"), list("dbac")], plain):
        found = an.region_attention(attention, edges, regions, reference=given, permutations=9)
        assert np.array_equal(found.reference, connectome)
        assert found.value == wanted.value
    for wrong, words in (
        (named.rename(index={"a": "x"}), "has 'x' at its rows: it must name each region once"),
        (named.rename(columns={"a": "b"}), "has 'b' at its columns"),
        (named.iloc[:3], "lacks 'd' at its rows"),
        (pandas.DataFrame(connectome, index=list("abcd")), "has '0' at its columns"),
    ):
        with pytest.raises(ValueError, match=words):
            an.region_attention(attention, edges, regions, reference=wrong, permutations=9)


def test_equal_attention_changes_nothing_between_regions():
    sheet = cg.build_sheet("grid", shape=(9, 9), neighbors="knn:20")
    edges = sheet.edge_index.numpy()
    regions = an.sheet_regions(sheet, (sheet.pos[:, 1] // 3).long().numpy() * 3 + (sheet.pos[:, 0] // 3).long().numpy())
    degree = np.bincount(edges[1])
    assert an.region_attention(1 / degree[edges[1]], edges, regions).value == pytest.approx(1)


def test_a_correlation_that_cannot_be_had_is_not_significant(sheet):
    edges, regions = sheet.edge_index.numpy(), an.sheet_regions(sheet)
    found = an.region_attention(np.ones(edges.shape[1]), edges, regions, reference=np.ones((4, 4)), permutations=99)
    assert np.isnan(found.value)
    assert np.isnan(found.p_value)


def test_references_shuffled_to_where_no_edge_is_count_as_zero():
    """Regions in a ring: the one pair that the reference knows is seldom one that an edge joins."""
    regions = {f"r{i}": [i] for i in range(12)}
    edges = np.array([np.arange(12), (np.arange(12) + 1) % 12])
    reference = np.zeros((12, 12))
    reference[0, 1] = 1
    found = an.region_attention(np.arange(1.0, 13.0), edges, regions, reference=reference, permutations=99)
    assert found.value < 0  # the pair with the least attention
    assert np.isfinite(found.null).all()
    assert found.p_value > 0.5


def test_a_measure_that_follows_regions_is_between_them(sheet):
    regions = an.sheet_regions(sheet)
    noise = np.random.default_rng(0).normal(size=64)
    follows = an.region_means(sheet.area.numpy() * 10 + noise, regions, what="evidence", permutations=99)
    assert follows.value > 0.95
    assert follows.p_value < 0.05
    assert follows.means.argmax() == 3
    assert an.region_means(noise, regions, permutations=99).value < 0.2
    assert [tick.get_text() for tick in follows.plot().get_yticklabels()] == ["d", "c", "b", "a"]
    assert an.region_means(noise, {"a": [0, 1], "b": [5, 6]}).sizes.tolist() == [2, 2]


def test_what_does_not_fit_is_refused(sheet):
    edges, regions = sheet.edge_index.numpy(), an.sheet_regions(sheet)
    ones = np.ones(edges.shape[1])
    with pytest.raises(ValueError, match="region 'b' shares columns"):
        an.region_means(np.arange(64.0), {"a": [0, 1], "b": [1, 2]})
    with pytest.raises(ValueError, match=r"region 'b' must lie in 0..63 \(64 columns\), got 64"):
        an.region_means(np.arange(64.0), {"a": [0, 1], "b": [64]})
    with pytest.raises(ValueError, match="region 'b' has no columns"):
        an.region_means(np.arange(64.0), {"a": [0, 1], "b": []})
    with pytest.raises(ValueError, match=r"region 'b' must lie in 0..63 \(64 columns\), got -1"):
        an.region_means(np.arange(64.0), {"a": [0, 1], "b": [-1, 5]})
    with pytest.raises(ValueError, match="names of regions must be text, got 1"):
        an.region_means(np.arange(64.0), {1: [0], 2: [1]})
    with pytest.raises(ValueError, match="all columns is the same"):
        an.region_means(np.ones(64), regions)
    with pytest.raises(ValueError, match="at least three of them, got 2"):
        an.region_attention(ones, edges, {"a": [0], "b": [1]})
    with pytest.raises(ValueError, match=r"reference must be finite, of shape \[4, 4\]"):
        an.region_attention(ones, edges, regions, reference=np.ones((3, 3)))
