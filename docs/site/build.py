"""``python docs/site/build.py [--out site]``: the documentation as a site that opens from disk.

Pages are staged into a folder that is laid out as the repository is, so that the links that GitHub shows hold in the
site, too. Sphinx makes HTML of them, and then every link of the HTML is followed. What warns fails.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from colgraph.extras import missing_package
from colgraph.script import OneLineParser, ScriptError, run_script

ROOT = Path(__file__).resolve().parents[2]


def make_html(source: Path, out: Path, doctrees: Path) -> None:
    """HTML of a folder of pages, in an empty folder or over what the same pages have become before.

    Raises:
        ScriptError: where Sphinx warns, as of links to pages and headings that are not there.
        ImportError: without Sphinx, or what it needs.
    """
    try:
        import furo  # noqa: F401 (the theme and the reader of pages are named in conf.py)
        import myst_nb  # noqa: F401
        import sphinx_copybutton  # noqa: F401
        from sphinx.cmd.build import main
    except ImportError as error:
        raise missing_package("the site needs", error.name or "sphinx", "docs") from error
    words = ["-b", "html", "-q", "-n", "-W", "--keep-going", "-c", Path(__file__).parent, "-d", doctrees, source, out]
    if main([str(word) for word in words]):
        raise ScriptError("the site was not built: see the warnings above")


def build(out: Path, work: Path) -> int:
    """Build the site, and count its pages.

    Args:
        out: the folder of the site: new, empty, or that of a site, which is replaced.
        work: what is kept from one build to the next.

    Raises:
        ScriptError: for a folder that holds something else, a warning of Sphinx's, or a link of the HTML that leads
            nowhere or to another host.
    """
    if out.exists() and not (out / "objects.inv").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ScriptError(f"--out: {str(out)!r} holds something other than a site: name a new folder")
    from links import broken
    from stage import stage

    stage(ROOT, work / "source")
    # Beside its HTML, the reader of notebooks leaves a folder of them.
    html = work / "html"
    make_html(work / "source", html, work / "doctrees")
    if wrong := broken(html):
        print(*wrong, sep="\n", file=sys.stderr)
        raise ScriptError(f"{len(wrong)} links of the site lead nowhere, or to another host: see above")
    if out.exists():
        shutil.rmtree(out)
    shutil.copytree(html, out)
    return sum(1 for _ in out.rglob("*.html"))


def main() -> None:
    """The command line."""
    parser = OneLineParser(description="Build the documentation's site.")
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="folder of the site (site)")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "site", help="kept between builds (build/site)")
    given = parser.parse_args()
    start = time.monotonic()
    pages = build(given.out.resolve(), given.work.resolve())
    print(f"{given.out / 'index.html'}: {pages} pages in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    run_script(main)
