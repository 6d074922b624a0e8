"""What is cited has an entry, and what cites colgraph names this version."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import yaml

import colgraph as cg

ROOT = Path(__file__).parents[1]


def plain(name: str) -> str:
    """A name in small letters without marks."""
    letters = unicodedata.normalize("NFKD", name)
    return "".join(letter for letter in letters if letter.isascii() and letter.isalpha()).lower()


def test_every_work_named_has_an_entry_and_every_entry_is_named() -> None:
    page = (ROOT / "docs" / "related-work.md").read_text(encoding="utf-8")
    text = " ".join(page.split())
    named = {
        plain(author) + year
        for group in re.findall(r"\(([^()]*\b(?:19|20)\d\d)\)", text)
        for author, year in re.findall(r"([A-Z][\w-]+)[^;]*? (\d{4})", group)
    }
    named |= {plain(author) + year for author, year in re.findall(r"([A-Z][\w-]+)'s [a-z ]+ \((\d{4})\)", text)}
    entries = set(re.findall(r"^@\w+\{(\w+),", (ROOT / "docs" / "references.bib").read_text(encoding="utf-8"), re.M))
    assert len(named) > 20
    assert named == entries - {"columnformers"}


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == cg.__version__
    assert citation["cff-version"] == "1.2.0"
    assert citation["title"] == "colgraph"
