"""The interactive sheet in a real browser without a network: it opens, stays silent, and answers."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from colgraph.viz.viewer import SheetMap, sheet_viewer

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")


def page_text(columns: int = 400) -> str:
    from colgraph.report.page import _PAGE

    rng = np.random.default_rng(0)
    points = rng.normal(size=(columns, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    from scipy.spatial import ConvexHull

    faces = ConvexHull(points).simplices
    edges = np.stack([rng.integers(0, columns, 8 * columns), np.repeat(np.arange(columns), 8)])
    maps = [
        SheetMap("activity", np.stack([points[:, 2], points[:, 0], points[:, 1]]), "a unit"),
        SheetMap(
            "preferred orientation", np.where(points[:, 0] > 0.9, np.nan, rng.random(columns) * np.pi), "", "cyclic"
        ),
    ]
    fields = (np.arange(columns), rng.normal(size=(columns, 8, 8)))
    body = sheet_viewer(points, maps, edges=edges, attention=rng.random(8 * columns), faces=faces, fields=fields)
    return _PAGE.replace("{title}", "a test").replace("{body}", f"<section>{body}</section>")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        opened = p.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
        )
        yield opened
        opened.close()


@pytest.fixture
def opened(browser, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(page_text(), encoding="utf-8")
    context = browser.new_context(offline=True, viewport={"width": 900, "height": 900})
    page = context.new_page()
    seen: dict[str, list[str]] = {"errors": [], "requests": []}
    page.on("console", lambda message: seen["errors"].append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: seen["errors"].append(str(error)))
    page.on("request", lambda request: seen["requests"].append(request.url))
    page.goto(path.as_uri())
    page.wait_for_timeout(300)
    yield page, seen, path
    context.close()


def picture(page) -> bytes:
    page.wait_for_timeout(200)
    return page.locator("[data-part=canvas]").screenshot()


def test_it_opens_silently_and_draws(opened, tmp_path_factory):
    page, seen, path = opened
    assert seen["errors"] == []
    assert seen["requests"] == [path.as_uri()]
    colours = page.evaluate(
        """() => { const c = document.querySelector('[data-part=canvas]'), gl = c.getContext('webgl');
        const px = new Uint8Array(4 * c.width * c.height);
        gl.readPixels(0, 0, c.width, c.height, gl.RGBA, gl.UNSIGNED_BYTE, px);
        return new Set(new Uint32Array(px.buffer)).size; }"""
    )
    assert colours > 50
    page.screenshot(path=str(Path(tmp_path_factory.getbasetemp()) / "viewer.png"))


def test_slider_map_click_and_keys_change_the_picture(opened):
    page, seen, _ = opened
    shots = [picture(page)]
    page.locator("[data-part=step]").fill("2")
    shots.append(picture(page))
    assert page.locator("[data-part=step-text]").inner_text() == "3 of 3"
    page.locator("[data-part=map]").select_option(label="preferred orientation")
    shots.append(picture(page))
    assert page.locator("[data-part=step-row]").is_hidden()
    page.locator("[data-part=canvas]").click()
    shots.append(picture(page))
    assert "It listens to 8 columns" in page.locator("[data-part=status]").inner_text()
    assert "Receptive field" in page.locator("[data-part=field-note]").inner_text()
    page.locator("[data-part=canvas]").press("ArrowLeft")
    shots.append(picture(page))
    page.locator("[data-part=column]").fill("7")
    page.locator("[data-part=column]").press("Enter")
    shots.append(picture(page))
    assert page.locator("[data-part=status]").inner_text().startswith("Column 7:")
    for before, after in pairwise(shots):
        assert before != after
    assert seen["errors"] == []


def test_it_is_readable_when_narrow(opened):
    page, seen, _ = opened
    page.set_viewport_size({"width": 400, "height": 800})
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.locator("[data-part=canvas]").bounding_box()["width"] > 300
    assert seen["errors"] == []


def test_every_control_is_reached_by_keyboard(opened):
    page, _, _ = opened
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.dataset.part || ''"))
    assert {"map", "column", "step", "canvas", "reset"} <= reached
