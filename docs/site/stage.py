"""The site's pages, in a folder laid out as the repository is: copied, listed by section, and written from code.

Pages stay where they are, so that links between them hold. ``docs/index.md`` is the site's first page. Files and
folders that pages link to come along; a link to what is not there stays as it is, and Sphinx refuses it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import api
import commands
import sheets

# The sections of the navigation, and their pages with the names that they have there. What a folder holds beyond the
# pages that are named goes to the section that ends in "...".
NAVIGATION: dict[str, dict[str, str]] = {
    "": {"docs/get-started": "Get started", "tutorials": "Tutorials", "docs/gallery": "Gallery"},
    "Guides": {
        "docs/training": "Training",
        "docs/tasks": "Tasks",
        "docs/puzzles": "Puzzles: mazes and others",
        "docs/evaluation": "Evaluation",
        "docs/analyses": "Analyses",
        "docs/brain": "Recordings of brains",
        "docs/other-tools": "Other tools",
        "docs/figures": "Figures",
        "docs/files": "Files and objects",
        "geometries/README": "Geometries to copy",
        "docs/cortex": "A cortex with areas",
        "docs/maps": "Maps and short wires",
        "docs/delays": "Conduction delays",
        "docs/plasticity": "Edges that come and go",
        "docs/scaling": "Several processes",
        "docs/cluster": "On a cluster",
        "...": "",
    },
    "Findings": {
        "docs/questions": "Open questions",
        "docs/questions-digits": "Digits, every analysis",
        "docs/questions-cifar10": "CIFAR-10, every analysis",
        "docs/questions-brain": "CIFAR-10 and recordings",
        "RESULTS": "Results of training",
        "docs/speed": "Exact, and fast",
        "benchmarks/README": "Benchmarks",
    },
    "Reference": {"reference/index": "Python", "reference/commands": "Command lines"},
    "Background": {
        "docs/architecture": "Architecture",
        "docs/related-work": "Related work",
        "docs/making-the-site": "How this site is made",
        "CONTRIBUTING": "Contributing",
        "CHANGELOG": "Changelog",
    },
}
FIRST = "docs/index.md"
PAGES = ("docs/*.md", "*.md", "geometries/README.md", "benchmarks/README.md")
LEFT_OUT = ("README.md",)  # the first page is in its place
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def stage(root: Path, folder: Path) -> None:
    """Write the pages of a repository into a folder, and leave nothing else in it.

    What has not changed is not written again, so that Sphinx reads only what has.
    """
    written: dict[Path, bytes] = {}
    pages = [path for pattern in PAGES for path in sorted(root.glob(pattern))]
    names = {path.relative_to(root).as_posix() for path in pages} - {*LEFT_OUT}
    move = Links(root, names)
    for name in sorted(names):
        written[Path(move.place(name))] = move.text((root / name).read_text(encoding="utf-8"), name).encode()
    # The one to play with is the first tutorial; the others are numbered from two.
    notebooks = sorted((root / "notebooks").glob("*.ipynb"), key=lambda path: (path.stem != "playground", path.name))
    for path in notebooks:
        name = path.relative_to(root).as_posix()
        written[Path(name)] = _notebook(path, lambda text, name=name: move.text(text, name))
    for path in sorted((root / "docs" / "images").rglob("*.*")):
        written[path.relative_to(root)] = path.read_bytes()
    written |= move.files()
    listed = [name.removesuffix(".md") for name in sorted(names - {FIRST})]
    tutorials = [path.relative_to(root).as_posix().removesuffix(".ipynb") for path in notebooks]
    if tutorials:
        written[Path("tutorials.md")] = _tutorials(tutorials).encode()
    generated = {**api.pages(root), "reference/commands": commands.page()}
    written |= {Path(f"{name}.rst"): text.encode() for name, text in generated.items()}
    written[Path("index.md")] += _navigation({*listed, *generated, *(["tutorials"] if tutorials else [])}).encode()
    gallery = (root / "docs" / "gallery.md").read_text(encoding="utf-8")
    written |= {Path("extra/docs/sheets") / name: data for name, data in sheets.drawn(gallery, root).items()}
    _write(folder, written)


def _navigation(pages: set[str]) -> str:
    """Lists of pages below the first one, which do not show on it."""
    named = {page for section in NAVIGATION.values() for page in section}
    inner = {name for name in pages if name.startswith("reference/")}
    text = ""
    for caption, section in NAVIGATION.items():
        rest = sorted(pages - named - inner) if "..." in section else []
        lines = [f"{title} <{page}>" for page, title in section.items() if page in pages] + rest
        caption = [f":caption: {caption}"] if caption else []
        text += "\n".join(["", "```{toctree}", ":hidden:", *caption, "", *lines, "```", ""])
    return text


def _tutorials(names: Iterable[str]) -> str:
    lines = ["# Tutorials", "", "Notebooks with what they put out. Each runs in a minute on two cores.", ""]
    return "\n".join([*lines, "```{toctree}", ":maxdepth: 1", "", *names, "```", ""])


def _notebook(path: Path, text: Callable[[str], str]) -> bytes:
    """A notebook as it is, with the links of its texts, and said to be Python where it does not say."""
    content = json.loads(path.read_text(encoding="utf-8"))
    content["metadata"].setdefault("language_info", {"name": "python", "pygments_lexer": "ipython3"})
    for cell in content["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = text("".join(cell["source"]))
    return json.dumps(content).encode()


class Links:
    """Links from page to page, when one page moves and files come along.

    Args:
        root: the repository.
        pages: files that are pages, from the root.
    """

    def __init__(self, root: Path, pages: set[str]) -> None:
        self.root, self.pages = root, pages
        self._linked: set[str] = set()

    def place(self, name: str) -> str:
        """Where a file of the repository lies in the site's source."""
        if name in (FIRST, *LEFT_OUT):
            return "index.md"
        return f"{name}/listing.md" if (self.root / name).is_dir() else name

    def text(self, text: str, page: str) -> str:
        """A page's text with links from where it lies to where their targets do; code stays as it is."""
        parts = re.split(r"(^```.*?^```|`[^`\n]+`)", text, flags=re.S | re.M)
        parts[::2] = [_LINK.sub(lambda link: self._moved(link, page), part) for part in parts[::2]]
        return "".join(parts)

    def _moved(self, link: re.Match[str], page: str) -> str:
        path, hash_, anchor = link[2].partition("#")
        if not path or re.match("[a-z]+:", path):
            return link[0]
        there = (self.root / page).parent / path
        name = os.path.relpath(there.resolve(), self.root.resolve())
        if name.startswith("..") or not there.exists():
            return link[0]
        self._linked.add(name)
        target = os.path.relpath(self.place(name), Path(self.place(page)).parent)
        return f"{link[1]}{target}{hash_}{anchor}{link[3]}"

    def files(self) -> dict[Path, bytes]:
        """What pages link to that is no page: files, and a list of each folder's."""
        found: dict[Path, bytes] = {}
        for name in sorted(self._linked - self.pages - {*LEFT_OUT}):
            if (self.root / name).is_dir():
                inside = sorted(path for path in (self.root / name).iterdir() if path.is_file())
                lines = [f"* [`{path.name}`]({path.name})" for path in inside if not path.name.startswith(".")]
                text = "\n".join(["---", "orphan: true", "---", "", f"# {name}", "", *lines, ""])
                found[Path(self.place(name))] = text.encode()
                found |= {path.relative_to(self.root): path.read_bytes() for path in inside}
            elif not name.endswith(".ipynb"):
                found[Path(name)] = (self.root / name).read_bytes()
        return found


def _write(folder: Path, written: dict[Path, bytes]) -> None:
    for path in sorted(folder.rglob("*"), reverse=True) if folder.exists() else ():
        if path.is_file() and path.relative_to(folder) not in written:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            shutil.rmtree(path)
    for name, data in written.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_bytes() != data:
            path.write_bytes(data)
