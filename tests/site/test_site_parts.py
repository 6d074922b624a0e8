"""What fails the site's build: links, names, docstrings, other hosts. Each is tried on pages made for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sphinx")
pytest.importorskip("furo")
pytest.importorskip("myst_nb")

from colgraph.script import ScriptError

ROOT = Path(__file__).parents[2]


def test_links_of_html_are_followed(parts: Any, tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("@import 'https://x.org/f.css'; p { background: url(gone.png) }")
    (tmp_path / "b.html").write_text('<p id="here">')
    (tmp_path / "index.html").write_text(
        '<a href="b.html#here">1</a> <a href="https://x.org">2</a> <img src="data:,"> <a href="#">3</a>'
        '<a href="b.html#gone">4</a> <a href="c.html">5</a> <img src="https://x.org/i.png"> <a href="../d">6</a>'
        '<script src="//x.org/s.js"></script> <style>p { background: url(http://x.org/i.png) }</style>'
        '<iframe srcdoc="&lt;link rel=stylesheet href=https://x.org/t.css&gt;"></iframe>'
    )
    assert sorted(parts.links.broken(tmp_path)) == [
        "a.css: gone.png: no such file",
        "a.css: https://x.org/f.css: another host",
        "index.html: ../d: outside of the site",
        "index.html: //x.org/s.js: another host",
        "index.html: b.html#gone: no such anchor",
        "index.html: c.html: no such file",
        "index.html: http://x.org/i.png: another host",
        "index.html: https://x.org/i.png: another host",
        "index.html: https://x.org/t.css: another host",
    ]


class Documented:
    """A class.

    Attributes:
        number: of something.
    """

    def said(self) -> int:
        """What it says."""
        return 1

    def unsaid(self) -> int:
        return 2


def bare() -> None:
    pass


def half(one: int, two: int, three: int) -> None:
    """What one and two are."""


def test_public_names_without_a_docstring_are_found(parts: Any) -> None:
    public = [parts.api.Public(f"a.{each.__name__}", each, __name__) for each in (Documented, bare, half)]
    assert parts.api.undocumented(public) == ["a.Documented.unsaid", "a.bare", "a.half(three)"]
    constant = parts.api.Public("colgraph.analysis.CORRUPTIONS", 1, "colgraph.analysis.corruptions")
    assert parts.api.undocumented([constant]) == []


def test_nothing_public_is_without_a_docstring_or_twice(parts: Any) -> None:
    found = [public for room in parts.api.rooms(ROOT).values() for public in room.names]
    assert parts.api.undocumented(found) == []
    values = [id(public.value) for public in found if public.kind != "data"]
    assert len(set(values)) == len(values) > 250


def test_pages_keep_their_links_where_they_move(parts: Any, tmp_path: Path) -> None:
    for name, text in {
        "README.md": "",
        "docs/index.md": "# T\n[a](a.md#b) [c](../x.py) [d](../presets) [g](gone.md) `[n](a.md)`\n\n"
        "```python\nl[1](a)\n```\n",
        "docs/a.md": "# A\n[home](../README.md) [i](index.md) [w](https://x.org)\n",
        "x.py": "1",
        "presets/one.yaml": "a: 1",
        "notebooks/01_a.ipynb": json.dumps({"cells": [{"cell_type": "markdown", "source": ["[r](../README.md)"]}]}),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    move = parts.stage.Links(tmp_path, {"docs/index.md", "docs/a.md"})
    moved = {name: move.text((tmp_path / name).read_text(), name) for name in ("docs/index.md", "docs/a.md")}
    assert moved["docs/index.md"] == (
        "# T\n[a](docs/a.md#b) [c](x.py) [d](presets/listing.md) [g](gone.md) `[n](a.md)`\n\n```python\nl[1](a)\n```\n"
    )
    assert moved["docs/a.md"] == "# A\n[home](../index.md) [i](../index.md) [w](https://x.org)\n"
    files = move.files()
    assert set(files) == {Path("x.py"), Path("presets/listing.md"), Path("presets/one.yaml")}
    assert b"(one.yaml)" in files[Path("presets/listing.md")]


def test_what_warns_fails(parts: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "index.md").write_text(
        "# A page\n\n[gone](gone.md) [no](#no-such-heading)\n\n```{toctree}\n:hidden:\n\nnames\n```\n"
    )
    (source / "names.rst").write_text(
        "Names\n=====\n\n:func:`colgraph.ops.sheet_atention` :class:`colgraph.Sheet` :func:`colgraph.layout.Layout`\n"
    )
    with pytest.raises(parts.build.ScriptError, match="see the warnings"):
        parts.build.make_html(source, tmp_path / "out", tmp_path / "trees")
    said = capfd.readouterr().err
    assert all(word in said for word in ("gone.md", "no-such-heading", "sheet_atention"))
    assert "colgraph.Sheet" not in said
    assert "Layout" not in said


def notebook(*cells: dict[str, Any]) -> str:
    metadata = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


def test_notebooks_show_what_they_put_out_and_run_no_code(parts: Any, tmp_path: Path) -> None:
    code = {"cell_type": "code", "id": "b", "metadata": {}, "execution_count": 1, "source": "raise SystemExit"}
    frame = '<iframe srcdoc="&lt;p&gt;a sheet&lt;/p&gt;"></iframe>'
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": "said before"},
        {"output_type": "display_data", "metadata": {}, "data": {"text/html": frame, "text/plain": "a viewer"}},
    ]
    text = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# A tutorial\n\n$x_i^2$, [up](../index.md)"}
    source = tmp_path / "source"
    (source / "notebooks").mkdir(parents=True)
    (source / "notebooks" / "01_a.ipynb").write_text(notebook(text, {**code, "outputs": outputs}))
    (source / "index.md").write_text("# A page\n\n```{toctree}\nnotebooks/01_a\n```\n")
    parts.build.make_html(source, tmp_path / "out", tmp_path / "trees")
    page = (tmp_path / "out" / "notebooks" / "01_a.html").read_text()
    assert all(part in page for part in ("<math", "said before", frame, 'href="../index.html"'))
    assert parts.links.broken(tmp_path / "out") == []


def test_a_gallery_runs_its_code_and_its_views(parts: Any) -> None:
    page = """# T

```python
from pathlib import Path
```

<!-- not run: why -->

```python
raise SystemExit
```

    colgraph view ring --columns 9 -o ring.png  # a ring
    colgraph train --data no-such-data

```python
assert Path("geometries/moebius.py").is_file()
Path("a.html").write_text("a")
```
"""
    files = parts.sheets.drawn(page, ROOT)
    assert set(files) == {"a.html", "ring.png"}
    assert files["ring.png"].startswith(b"\x89PNG")


def test_a_command_shows_every_flag_of_its_parser(parts: Any) -> None:
    parser = parts.commands.parser_of("describe")
    parser.description = "a *star*, a|b and `code`s"
    text = parts.commands._section("describe", parser)
    assert r"a \*star\*, a\|b and \ ``code``\ s" in text
    assert ".. option:: --num-inputs P" in text
    assert ".. option:: GEOMETRY" in text


def test_a_folder_of_something_else_is_no_place_for_a_site(parts: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(ScriptError, match="holds something other than a site: name a new folder"):
            parts.build.build(out, tmp_path / "work")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
