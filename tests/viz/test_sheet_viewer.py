"""``sheet_viewer``: an object that notebooks show and files keep; its views, its labels, and what it refuses."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import colgraph as cg
from colgraph.viz import SheetMap, SheetViewer, sheet_viewer


def content(viewer: SheetViewer) -> dict[str, Any]:
    text = re.search(r'<script type="application/json" id="sheet-data">(.*?)</script>', viewer.html, re.DOTALL)
    assert text is not None
    found: dict[str, Any] = json.loads(text[1])
    return found


@pytest.fixture
def sphere() -> Any:
    return cg.build_sheet("sphere", subdivisions=2, num_inputs=5)


def test_a_notebook_shows_it_and_a_file_keeps_it(sphere: Any, tmp_path: Path) -> None:
    viewer = sheet_viewer(sphere, {"height": sphere.pos[:, 2]}, title="mine & yours")
    shown = re.fullmatch(r'<iframe title=".*?" srcdoc="(.*)" style=".*?"></iframe>', viewer._repr_html_(), re.DOTALL)
    assert shown is not None
    assert html.unescape(shown[1]) == viewer.html
    path = viewer.save(tmp_path / "sheet.html")
    text = path.read_text()
    assert text == viewer.html
    assert "<title>mine &amp; yours</title>" in text
    assert not re.search(r"https?://", text)
    assert "default-src 'none'" in text
    with pytest.raises(ValueError, match=r"ends in \.html"):
        viewer.save(tmp_path / "sheet.pdf")


def test_texts_and_truth_values_are_labels(sphere: Any) -> None:
    half = (sphere.pos[:, 2] > 0).numpy()
    maps = {"upper": half, "where": np.where(half, "top", "bottom"), "steps": np.zeros((3, len(half)))}
    upper, where, steps = content(sheet_viewer(sphere, maps))["maps"]
    assert upper["names"] == ["no", "yes"]
    assert where["names"] == ["bottom", "top"]
    assert steps["steps"] == 3
    many = content(sheet_viewer(sphere, [SheetMap("many", np.arange(len(half)) % 300, kind="labels")]))["maps"][0]
    assert len(many["names"]) == min(300, len(half))


def test_views_are_those_that_the_sheet_has(sphere: Any) -> None:
    assert [view["name"] for view in content(sheet_viewer(sphere, {"x": sphere.pos[:, 0]}))["views"]] == [
        "from where inputs are",
        "from behind",
        "flat",
    ]
    named = content(sheet_viewer(sphere, {"x": sphere.pos[:, 0]}, hemisphere="left"))["views"]
    assert [view["name"] for view in named][:2] == ["left lateral", "left medial"]
    stack = cg.build_sheet("stack", widths=[3, 2])
    assert "flat" not in [view["name"] for view in content(sheet_viewer(stack, {"x": stack.pos[:, 0]}))["views"]]


@pytest.mark.parametrize(
    ("maps", "given", "words"),
    [
        ({"short": np.zeros(7)}, {}, r"map 'short' must have a value for each of the sheet's 162 columns, got \[7\]"),
        ({"cube": np.zeros((2, 2, 162))}, {}, r"map 'cube' must have .* got \[2, 2, 162\]"),
        ({}, {}, "at least one map"),
        ({"endless": np.full(162, np.inf)}, {}, "map .endless. must be finite"),
        ([SheetMap("odd", np.zeros(162), kind="odd")], {}, "map 'odd': kind must be one of"),
        ([SheetMap("half", np.full(162, 0.5), kind="labels")], {}, "whole numbers: got 0.5"),
        ({"words": np.full(162, None)}, {}, "map 'words' must hold numbers"),
        ({"x": np.zeros(162)}, {"attention": np.ones(3)}, "each of the sheet's .* edges, got"),
        ({"x": np.zeros(162)}, {"hemisphere": "lft"}, "did you mean 'left'"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(sphere: Any, maps: Any, given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        sheet_viewer(sphere, maps, **given)
    assert "\n" not in str(caught.value)
