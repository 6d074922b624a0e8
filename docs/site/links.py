"""Every link of a folder of HTML, followed: to a file that is there, to an anchor in it, and to no other host."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser loads by itself; a link that a reader clicks may lead elsewhere.
LOADED = {
    *(("img", "src"), ("img", "srcset"), ("script", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")),
    *(("source", "srcset"), ("video", "src"), ("video", "poster"), ("audio", "src"), ("embed", "src")),
    *(("object", "data"), ("track", "src"), ("input", "src"), ("use", "href"), ("image", "href")),
}
_IN_CSS = re.compile(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']([^\"']+)")


class Page(HTMLParser):
    """What a page links to, and what in it can be linked to.

    Attributes:
        anchors: its ids and names.
        links: ``(address, whether a browser loads it by itself)``.
    """

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.anchors: set[str] = set()
        self.links: list[tuple[str, bool]] = []
        self._style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._style = tag == "style"
        for name, value in attrs:
            if not value:
                continue
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value)
            elif name == "style":
                self._css(value)
            elif name == "srcdoc":
                self.links += Page(value).links
            elif name == "srcset":
                self.links += [(part.split()[0], True) for part in value.split(",") if part.strip()]
            elif name in ("href", "src", "data", "poster", "xlink:href"):
                self.links.append((value, (tag, name.removeprefix("xlink:")) in LOADED))

    def handle_data(self, data: str) -> None:
        if self._style:
            self._css(data)

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def _css(self, text: str) -> None:
        self.links += [(address, True) for address in in_css(text)]


def in_css(text: str) -> list[str]:
    """The addresses that a style sheet loads."""
    return [first or second for first, second in _IN_CSS.findall(text)]


def broken(site: Path) -> list[str]:
    """A line for each link that leads nowhere, out of the folder, or that a browser would fetch from another host."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = [(path, address, loaded) for path, page in pages.items() for address, loaded in page.links]
    for path in sorted(site.rglob("*.css")):
        found += [(path, address, True) for address in in_css(path.read_text(encoding="utf-8"))]
    said = dict.fromkeys(
        f"{path.relative_to(site)}: {address}: {why}"
        for path, address, loaded in found
        if (why := _wrong(address, loaded, path, site, pages))
    )
    return list(said)


def _wrong(address: str, loaded: bool, path: Path, site: Path, pages: dict[Path, Page]) -> str | None:
    parts = urlsplit(address.strip())
    if parts.scheme or parts.netloc:
        return "another host" if loaded and parts.scheme not in ("data", "blob") else None
    there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not there.is_relative_to(site):
        return "outside of the site"
    if not there.is_file():
        return "no such file"
    if there in pages and parts.fragment and unquote(parts.fragment) not in pages[there].anchors:
        return "no such anchor"
    return None
