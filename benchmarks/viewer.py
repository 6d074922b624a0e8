"""How smoothly the report's sheet turns with as many columns as both hemispheres of fsaverage5 have.

    python benchmarks/viewer.py               # headless Chromium, drawn by the processor; about a minute and a half
    python benchmarks/viewer.py --frames 120

The page is opened as a reader opens it and turned by the arrow keys, one step a frame. Its peer is the same page made
to draw the whole picture in every frame, as it does where there is a graphics card; the two take turns. A frame's time
is the distance between two animation frames, of which there are at most 60 a second. The processor's time, over all of
the browser's processes, is what a frame costs whatever else the machine does.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from _common import machine, print_machine, write_json

FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
WINDOW = {"width": 900, "height": 900}

# The page times its whole picture to learn whether it must draw less in movement: a clock that stands still says no.
WHOLE = "performance.now = () => 1;"
PEERS = {"as it is": "", "whole picture in every frame": WHOLE}

TURN = """async (frames) => {
  const canvas = document.querySelector('[data-part=canvas]'), times = [];
  const next = () => new Promise((done) => requestAnimationFrame(done));
  let last = await next();
  for (let i = 0; i < frames; i++) {
    const key = i % 20 < 15 ? 'ArrowRight' : 'ArrowDown';
    canvas.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
    const now = await next();
    times.push(now - last);
    last = now;
  }
  return times;
}"""
SELECT = """(columns) => columns.map((column) => {
  const input = document.querySelector('[data-part=column]'), began = performance.now();
  input.value = column;
  input.dispatchEvent(new Event('change'));
  return performance.now() - began;
})"""
ABOUT = """() => {
  const canvas = document.querySelector('[data-part=canvas]'), gl = canvas.getContext('webgl2');
  const names = gl.getExtension('WEBGL_debug_renderer_info');
  return [gl.getParameter(names ? names.UNMASKED_RENDERER_WEBGL : gl.RENDERER), [canvas.width, canvas.height]];
}"""


def write_page(path: Path) -> dict[str, int]:
    """A page like a report's: maps of several steps, attention, a receptive field per column."""
    import colgraph as cg
    from colgraph.report.page import _PAGE
    from colgraph.viz.viewer import SheetMap, sheet_viewer

    sheet = cg.build_sheet("cortex", hemisphere="both", neighbors=cg.KNN(16))
    rng, n = np.random.default_rng(0), sheet.num_columns
    points, edges = sheet.pos.numpy(), sheet.edge_index.numpy()
    faces = sheet.face.numpy().T
    body = sheet_viewer(
        points,
        [SheetMap("place", points.T), SheetMap("noise", rng.random(n) * np.pi, kind="cyclic")],
        edges=edges,
        attention=rng.random(edges.shape[1]),
        faces=faces,
        fields=(np.arange(n), rng.normal(size=(n, 8, 8))),
    )
    path.write_text(_PAGE.replace("{title}", "sheet").replace("{body}", f"<section>{body}</section>"), encoding="utf-8")
    return {"columns": n, "faces": len(faces), "edges": edges.shape[1], "page_bytes": path.stat().st_size}


def busy() -> float:
    """Milliseconds of processor time of all processes below this one that are still there."""
    used = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
    return 1e3 * sum(one.user + one.system for one in used)


def turn(browser: Any, path: Path, script: str, frames: int) -> dict[str, Any]:
    """Open the page, let it come to rest, turn it."""
    context = browser.new_context(offline=True, viewport=WINDOW)
    context.add_init_script(script)
    page = context.new_page()
    page.goto(path.as_uri())
    page.wait_for_timeout(1000)
    renderer, canvas = page.evaluate(ABOUT)
    page.evaluate(TURN, 5)
    before = busy()
    times = page.evaluate(TURN, frames)
    used = busy() - before
    page.wait_for_timeout(500)
    select = page.evaluate(SELECT, list(range(0, 10_000, 1000)))
    context.close()
    return {"renderer": renderer, "canvas": canvas, "times": times, "busy": used / frames, "select": select}


def measure(path: Path, cores: list[int], frames: int, rounds: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """What drew, and the peers' times in a browser that may use these cores."""
    from playwright.sync_api import sync_playwright

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in PEERS}
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=FLAGS)
        about: dict[str, Any] = {"browser": f"Chromium {browser.version}"}
        for _ in range(rounds):
            for name, script in PEERS.items():
                runs[name].append(turn(browser, path, script, frames))
        browser.close()
    about.update({key: runs["as it is"][0][key] for key in ("renderer", "canvas")})
    found: dict[str, Any] = {}
    for name, done in runs.items():
        times = [time for one in done for time in one["times"]]
        found[name] = {
            "frames": len(times),
            "median_ms": round(statistics.median(times), 1),
            "mean_ms": round(statistics.fmean(times), 1),
            "percentile_95_ms": round(float(np.percentile(times, 95)), 1),
            "processor_ms": round(statistics.median(one["busy"] for one in done), 1),
        }
        print(f"{name}, on {len(cores)} of the cores: {found[name]}")
    # The peer's clock stands still, and with it the time of a selection.
    select = [time for one in runs["as it is"] for time in one["select"]]
    return about, {**found, "select_ms": round(statistics.median(select), 1)}


def main() -> None:
    """Write the page, turn it on one core and on all, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=60, help="per round (default: 60)")
    parser.add_argument("--rounds", type=int, default=2, help="in which the peers take turns (default: 2)")
    known = parser.parse_args()
    about = machine("playwright")
    print_machine(about)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    report: dict[str, Any] = {"machine": about}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sheet.html"
        report.update(write_page(path))
        for some in (cores[:1], cores) if len(cores) > 1 else (cores,):
            drawn, found = measure(path, some, known.frames, known.rounds)
            report |= {**drawn, f"{len(some)} cores" if len(some) > 1 else "1 core": found}
    write_json("viewer", report)


if __name__ == "__main__":
    main()
