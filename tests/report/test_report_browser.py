"""The interactive sheet in a real browser without a network: it opens, stays silent, and answers."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import ConvexHull

pytest.importorskip("matplotlib")

import colgraph as cg
from colgraph.report.page import fill_page
from colgraph.viz.viewer import SheetMap, viewer_html


def write_page(path: Path, columns: int, listens: int = 8) -> Path:
    """A sphere of columns with random maps, edges and fields."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(columns, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    edges = np.stack([rng.integers(0, columns, listens * columns), np.repeat(np.arange(columns), listens)])
    maps = [
        SheetMap("activity", np.stack([points[:, 2], points[:, 0], points[:, 1]]), "a unit"),
        SheetMap(
            "preferred orientation", np.where(points[:, 0] > 0.9, np.nan, rng.random(columns) * np.pi), "", "cyclic"
        ),
    ]
    body = viewer_html(
        points,
        maps,
        edges=edges,
        attention=rng.random(listens * columns),
        faces=ConvexHull(points).simplices,
        fields=(np.arange(columns), rng.normal(size=(columns, 8, 8))),
    )
    path.write_text(fill_page("a test", f"<section>{body}</section>"))
    return path


@pytest.fixture
def opened(open_page, tmp_path):
    return open_page(write_page(tmp_path / "page.html", 400))


def test_it_opens_silently_and_draws(opened, tmp_path):
    assert opened.errors == []
    assert opened.requests == [(tmp_path / "page.html").as_uri()]
    colors = opened.page.evaluate(
        """() => { const c = document.querySelector('[data-part=canvas]'), gl = c.getContext('webgl2');
        const px = new Uint8Array(4 * c.width * c.height);
        gl.readPixels(0, 0, c.width, c.height, gl.RGBA, gl.UNSIGNED_BYTE, px);
        return new Set(new Uint32Array(px.buffer)).size; }"""
    )
    assert colors > 50
    opened.keep("viewer")


def test_slider_map_click_and_keys_change_the_picture(opened):
    shots = [opened.picture()]
    opened.part("step").fill("2")
    shots.append(opened.picture())
    assert opened.part("step-text").inner_text() == "3 of 3"
    opened.part("map").select_option(label="preferred orientation")
    shots.append(opened.picture())
    assert opened.part("step-row").is_hidden()
    assert opened.part("field").is_hidden()
    opened.part("canvas").click()
    shots.append(opened.picture())
    status = opened.part("status").inner_text()
    assert "It listens to" in status
    assert "\u00b0." in status, "orientations are told in degrees"
    assert "Receptive field" in opened.part("field-note").inner_text()
    opened.keep("viewer-column")
    opened.part("canvas").press("ArrowLeft")
    shots.append(opened.picture())
    opened.part("column").fill("7")
    opened.part("column").press("Enter")
    shots.append(opened.picture())
    assert opened.part("status").inner_text().startswith("Column 7:")
    opened.part("canvas").press("Escape")
    shots.append(opened.picture())
    assert opened.part("status").inner_text().startswith("Drag to turn")
    for before, after in pairwise(shots):
        assert before != after
    assert opened.errors == []


def test_it_is_readable_when_narrow(opened):
    opened.page.set_viewport_size({"width": 400, "height": 800})
    opened.page.wait_for_timeout(200)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 400
    assert opened.part("canvas").bounding_box()["width"] > 300
    assert opened.errors == []
    opened.keep("viewer-narrow")


def test_every_control_is_reached_by_keyboard(opened):
    reached = set()
    for _ in range(12):
        opened.page.keyboard.press("Tab")
        reached.add(opened.page.evaluate("document.activeElement.dataset.part || ''"))
    assert {"map", "column", "step", "canvas", "reset"} <= reached


def test_as_many_columns_as_a_cortex_has(open_page, tmp_path):
    path = write_page(tmp_path / "large.html", 20_484, listens=33)
    assert path.stat().st_size < 20e6
    opened = open_page(path)
    first = opened.picture()
    opened.part("canvas").click()
    assert "It listens to" in opened.part("status").inner_text()
    assert opened.picture() != first
    assert opened.errors == []


def test_buttons_turn_the_sheet_and_lay_it_flat(open_page, tmp_path):
    sheet = cg.build_sheet("sphere", subdivisions=3)
    maps = [
        SheetMap("half", (sheet.pos[:, 0] > 0).numpy(), "", "labels", ("left", "right")),
        SheetMap("x", sheet.pos[:, 0]),
    ]
    opened = open_page(cg.viz.sheet_viewer(sheet, maps, hemisphere="left").save(tmp_path / "sheet.html"))
    shots = [opened.picture()]
    for name in ("left medial", "ventral", "flat"):
        opened.page.get_by_role("button", name=name, exact=True).click()
        shots.append(opened.picture())
    for before, after in pairwise(shots):
        assert before != after
    assert "left" in opened.part("names").inner_text()
    opened.part("canvas").click()
    assert "half " in opened.part("status").inner_text()
    opened.part("reset").click()
    assert opened.picture() == shots[0], "places and shading are those of before"
    opened.part("map").select_option(label="x")
    assert opened.part("names").inner_text() == ""
    assert opened.errors == []
