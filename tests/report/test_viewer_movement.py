"""How the interactive sheet turns: what is sent and drawn for a frame, counted rather than timed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial import ConvexHull

pytest.importorskip("matplotlib")

import colgraph as cg
from colgraph.report.page import fill_page
from colgraph.viz.viewer import SheetMap, _coarser, viewer_html

# Every call that draws or fills, from the page's first to now, with the size of the canvas and whether something beside
# the canvas is drawn into. While keys are pressed no time passes for the page, so that a busy machine is not taken for
# one at rest. A picture is timed by reading a pixel back: waiting there makes any machine slow, and a clock that stands
# still makes any machine fast.
WATCH = """
window.calls = [];
const later = window.setTimeout;
window.setTimeout = (act, wait) => later(function due() { window.pressing ? later(due, 50) : act(); }, wait);
for (const kind of [WebGLRenderingContext, WebGL2RenderingContext])
  for (const name of ["drawElements", "drawArrays", "bufferData", "bufferSubData", "texImage2D", "blitFramebuffer"]) {
    const real = kind.prototype[name];
    kind.prototype[name] = function (...given) {
      const number = { drawElements: given[1], drawArrays: given[2] }[name] || 0;
      const beside = Boolean(this.getParameter(this.FRAMEBUFFER_BINDING));
      window.calls.push({ name, number, beside, pixels: this.canvas.width * this.canvas.height });
      return real.apply(this, given);
    };
  }
"""
SLOW = """
for (const kind of [WebGLRenderingContext, WebGL2RenderingContext]) {
  const real = kind.prototype.readPixels;
  kind.prototype.readPixels = function (...given) {
    real.apply(this, given);
    for (const end = performance.now() + 40; performance.now() < end;);
  };
}
"""
FAST = "performance.now = () => 1;"
WEBGL_1 = """
const real = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
  return kind === "webgl2" ? null : real.call(this, kind, ...rest);
};
"""
COLUMNS, FACES = 10_242, 20_480
PIXELS = 150_000


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """A page of a sphere with more faces than are drawn in movement."""
    sphere = cg.geometry("sphere", subdivisions=5)
    points = np.asarray(sphere.positions)
    rng = np.random.default_rng(0)
    edges = np.stack([rng.integers(0, COLUMNS, 8 * COLUMNS), np.repeat(np.arange(COLUMNS), 8)])
    maps = [SheetMap("height", np.stack([points[:, 2], points[:, 0]]))]
    body = viewer_html(points, maps, edges=edges, faces=np.asarray(sphere.faces))
    path = tmp_path_factory.mktemp("viewer") / "page.html"
    path.write_text(fill_page("a test", f"<section>{body}</section>"))
    return path


def rest(opened: Any) -> None:
    """Until nothing has been drawn for longer than the page waits after a movement."""
    opened.page.wait_for_function(
        """() => { const now = window.calls.length, then = window.then || [-1, 0];
        if (then[0] !== now) { window.then = [now, Date.now()]; return false; }
        return Date.now() - then[1] > 500; }""",
        polling=50,
    )


def turn(opened: Any, keys: list[str]) -> list[dict[str, Any]]:
    """Press each key and wait for its frame; what was called."""
    calls: list[dict[str, Any]] = opened.page.evaluate(
        """async (keys) => {
        const canvas = document.querySelector('[data-part=canvas]'), from = window.calls.length;
        window.pressing = true;
        for (const key of keys) {
          canvas.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
          await new Promise((done) => requestAnimationFrame(done));
        }
        window.pressing = false;
        return window.calls.slice(from); }""",
        keys,
    )
    return calls


def after(opened: Any, count: int) -> list[dict[str, Any]]:
    """What was called since the first ``count`` calls."""
    calls: list[dict[str, Any]] = opened.page.evaluate("(from) => window.calls.slice(from)", count)
    return calls


def test_a_turn_on_a_slow_machine_sends_nothing_and_draws_little(open_page, page):
    opened = open_page(page, WATCH + SLOW)
    rest(opened)
    before = opened.picture()
    opened.part("column").fill("7")
    opened.part("column").press("Enter")
    rest(opened)
    chosen, count = opened.picture(), len(after(opened, 0))
    frames = turn(opened, ["ArrowLeft"] * 6)
    surfaces = [call for call in frames if call["name"] == "drawElements"]
    assert len(surfaces) >= 5
    assert {call["name"] for call in frames} == {"drawElements", "drawArrays"}, (
        "a buffer was filled, or a picture copied"
    )
    assert {call["number"] for call in surfaces} == {3 * FACES // 4}
    assert not any(call["beside"] for call in frames), "movement pays for smooth edges"
    assert max(call["pixels"] for call in frames) <= 1.01 * PIXELS
    assert max(call["number"] for call in frames if call["name"] == "drawArrays") < 100
    rest(opened)
    last = after(opened, count + len(frames))
    surfaces = [call for call in last if call["name"] == "drawElements"]
    assert surfaces[-1] == {
        "name": "drawElements",
        "number": 3 * FACES,
        "beside": True,
        "pixels": surfaces[-1]["pixels"],
    }
    assert surfaces[-1]["pixels"] > 2.5 * PIXELS
    assert "bufferData" not in {call["name"] for call in last}
    turned = opened.picture()
    assert len({before, chosen, turned}) == 3
    assert opened.errors == []


def test_the_picture_at_rest_is_the_one_before_the_movement(open_page, page):
    opened = open_page(page, WATCH + SLOW)
    rest(opened)
    before = opened.picture()
    turn(opened, ["+"])
    rest(opened)
    larger = opened.picture()
    turn(opened, ["-"])
    rest(opened)
    assert opened.picture() == before != larger


def test_a_fast_machine_draws_everything_always(open_page, page):
    opened = open_page(page, WATCH + FAST)
    rest(opened)
    surfaces = [call for call in turn(opened, ["ArrowUp"] * 4) if call["name"] == "drawElements"]
    assert {call["number"] for call in surfaces} == {3 * FACES}
    assert all(call["beside"] for call in surfaces)
    assert min(call["pixels"] for call in surfaces) > 2.5 * PIXELS
    assert opened.errors == []


def test_a_browser_with_webgl_1_alone_shows_the_same(open_page, page):
    usual, old = open_page(page, WATCH), open_page(page, WATCH + SLOW + WEBGL_1)
    for opened in (usual, old):
        rest(opened)
    assert usual.picture() == old.picture()
    frames = turn(old, ["ArrowLeft"] * 3)
    assert {call["number"] for call in frames} == {3 * FACES // 4}
    old.part("canvas").click()
    assert "It listens to" in old.part("status").inner_text()
    assert old.errors == []


def edge_counts(faces: np.ndarray) -> Counter[tuple[int, int]]:
    """How many faces each edge belongs to."""
    return Counter(tuple(sorted(map(int, pair))) for f in faces for pair in (f[:2], f[1:], f[::2]))


def test_fewer_faces_of_a_subdivided_sphere_are_the_sphere_before():
    fine, rough = (cg.geometry("sphere", subdivisions=s) for s in (4, 3))
    faces = _coarser(np.asarray(fine.faces), fine.num_columns, most=2_000)
    assert {tuple(sorted(f)) for f in faces.tolist()} == {tuple(sorted(f)) for f in np.asarray(rough.faces).tolist()}


def test_fewer_faces_of_any_closed_surface_leave_no_hole():
    points = np.random.default_rng(1).normal(size=(3_000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    hull = ConvexHull(points).simplices
    faces = _coarser(hull, len(points), most=3_000)
    assert 300 < len(faces) <= 3_000 < len(hull)
    assert not any(number % 2 for number in edge_counts(faces).values()), "an edge of one face is the rim of a hole"
    middle = points[faces].mean(axis=1)
    seen = ((middle / np.linalg.norm(middle, axis=1, keepdims=True)) @ points.T).max(axis=0)
    assert np.degrees(np.arccos(seen.min())) < 8, "no part of the sphere is bare"


def test_small_sheets_keep_their_faces():
    sphere = cg.geometry("sphere", subdivisions=2)
    assert _coarser(np.asarray(sphere.faces), sphere.num_columns) is None
