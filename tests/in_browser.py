"""A real browser without a network, whose screenshots are kept in ``test-artefacts/``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARTEFACTS = Path(__file__).parents[1] / "test-artefacts"

# WebGL is drawn by the processor: machines that run tests have no graphics card.
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs chromium (Debian: apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as p:
        opened = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


class Opened:
    """A page opened from disk, with what it asked for and complained about.

    ``script`` runs before those of the page, to watch them or to stand for another machine; ``width`` is that of the
    window in pixels, ``scheme`` what its user prefers, "light" or "dark".
    """

    def __init__(self, browser: Any, path: Path, script: str = "", width: int = 900, scheme: str = "light") -> None:
        size = {"width": width, "height": 900}
        self.context = browser.new_context(offline=True, viewport=size, color_scheme=scheme)
        self.context.set_default_timeout(120_000)  # drawn by a processor that has other things to do
        self.context.add_init_script(script)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_timeout(300)

    def part(self, name: str) -> Any:
        """A part of the interactive sheet."""
        return self.page.locator(f"[data-part={name}]")

    def picture(self) -> bytes:
        """What the sheet looks like now."""
        self.page.wait_for_timeout(200)
        return bytes(self.part("canvas").screenshot())

    def keep(self, name: str) -> None:
        """A screenshot of the window, as a test artefact."""
        ARTEFACTS.mkdir(exist_ok=True)
        self.page.screenshot(path=str(ARTEFACTS / f"{name}.png"))


@pytest.fixture
def open_page(browser: Any) -> Iterator[Any]:
    """Opens a file in the browser; closed after the test."""
    opened: list[Opened] = []

    def open_it(path: Path, script: str = "", **more: Any) -> Opened:
        opened.append(Opened(browser, path, script, **more))
        return opened[-1]

    yield open_it
    for one in opened:
        one.context.close()
