"""The documentation as a site: it builds without a warning, opens from disk, and is whole on any window."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sphinx")
pytest.importorskip("furo")
pytest.importorskip("myst_nb")
pytest.importorskip("nilearn")
pytest.importorskip("lightning")

import colgraph as cg
from colgraph import models, nn
from colgraph.cli import COMMANDS
from colgraph.training.config import describe_settings

ROOT = Path(__file__).parents[2]
NARROW = 400
# Pages with the longest lines, names and tables.
WITH_WIDE_PARTS = (
    *("index", "RESULTS", "CHANGELOG", "docs/questions", "docs/training", "docs/files", "docs/gallery"),
    *("docs/questions-digits", "reference/colgraph", "reference/analysis", "reference/commands"),
)
ROOMS = {"analysis", "data", "distributed", "geometry", "ops", "report", "tasks", "training", "viz"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as ``make docs`` builds it in a fresh clone."""
    place = tmp_path_factory.mktemp("site")
    words = ["docs/site/build.py", "--out", place / "html", "--work", place / "work"]
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return place / "html"


def text_of(site: Path, name: str) -> str:
    return (site / name).read_text(encoding="utf-8")


def test_every_page_of_the_docs_is_in_the_navigation(site: Path) -> None:
    menu = text_of(site, "index.html").partition('class="sidebar-tree"')[2].partition("</aside>")[0]
    pages = [*(ROOT / "docs").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb"), ROOT / "RESULTS.md"]
    named = {path.relative_to(ROOT).with_suffix(".html").as_posix() for path in pages} - {"docs/index.html"}
    named |= {"CHANGELOG.html", "reference/commands.html"}
    assert not {name for name in named if f'href="{name}"' not in menu}


def test_every_public_name_and_every_flag_is_in_the_reference(site: Path, parts: Any) -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (site / "reference").glob("*.html"))
    anchors = set(re.findall(r' id="([^"]+)"', pages))
    described = {public.name: public for room in parts.api.rooms(ROOT).values() for public in room.names}
    assert not described.keys() - anchors
    values = {id(public.value) for public in described.values()}
    for room in (cg, cg.analysis, cg.viz, nn, cg.ops, models, cg.geometry, cg.training, cg.tasks, cg.data, cg.report):
        named = {name: getattr(room, name) for name in room.__all__}
        functions = {name: value for name, value in named.items() if callable(value) and not inspect.ismodule(value)}
        assert not {name for name, value in functions.items() if id(value) not in values}
        assert not {name for name in named.keys() - functions if f"{room.__name__}.{name}" not in described} - ROOMS
    assert {f"{name}-command" for name in COMMANDS} <= anchors
    flags = {f"cmdoption-colgraph-train-{name.replace('_', '-')}" for name in describe_settings()}
    assert len(flags - anchors) == 0


def test_no_page_is_wider_than_the_window(site: Path, open_page: Callable[..., Any]) -> None:
    names = [f"{name}.html" for name in WITH_WIDE_PARTS]
    names += [path.relative_to(site).as_posix() for path in sorted(site.glob("notebooks/*.html"))[:3]]
    narrow = open_page(site / "index.html", width=NARROW)
    narrow.page.route("**/sheets/*", lambda route: route.abort())  # looked at alone, below
    wide = []
    for name in names:
        narrow.page.goto((site / name).as_uri(), wait_until="domcontentloaded")
        width = narrow.page.evaluate("document.documentElement.scrollWidth")
        wide += [f"{name}: {width}"] if width > NARROW else []
    assert not wide


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1400, "light")])
def test_it_opens_from_disk_with_navigation_and_search(
    site: Path, open_page: Callable[..., Any], width: int, scheme: str
) -> None:
    opened = open_page(site / "index.html", width=width, scheme=scheme)
    page, name = opened.page, f"site-{width}-{scheme}"
    assert is_dark(page) == (scheme == "dark")
    opened.keep(name)
    entry = page.locator(".sidebar-tree a", has_text="Conduction delays")
    if width < 600:
        assert entry.bounding_box()["x"] < 0
        page.locator("label.nav-overlay-icon").click()
        page.wait_for_function("document.querySelector('.sidebar-tree').getBoundingClientRect().x >= 0")
        opened.keep(f"{name}-menu")
    entry.click()
    page.wait_for_url("**/docs/delays.html")
    page.goto((site / "search.html").as_uri() + "?q=sheet_attention")
    page.locator("#search-results li a", has_text="sheet_attention").first.click()
    page.wait_for_url("**/reference/ops.html#colgraph.ops.sheet_attention")
    opened.keep(f"{name}-found")
    for _ in range(2):  # from the system's choice to light and dark, or the other way round
        page.locator("button.theme-toggle:visible").first.click()
        assert is_dark(page) == (page.evaluate("document.body.dataset.theme") == "dark")
    assert opened.errors == []
    assert {url.partition(":")[0] for url in opened.requests} <= {"file", "data"}


def is_dark(page: Any) -> bool:
    color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(int, re.findall(r"\d+", color)[:3])) < 3 * 128


def test_sheets_of_the_gallery_are_drawn(site: Path, open_page: Callable[..., Any]) -> None:
    frames = re.findall(r'<iframe[^>]+src="([^"]+)"', text_of(site, "docs/gallery.html"))
    assert len(frames) >= 2
    opened = open_page(site / "docs" / frames[-1], width=NARROW)
    assert opened.part("canvas").is_visible()
    assert opened.errors == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= NARROW
