"""What the gallery draws of sheets: its own code and ``colgraph view`` lines, run when the site is built."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import tempfile
from pathlib import Path

from colgraph import cli

_BLOCK = re.compile(
    r"(?P<not_run><!-- not run: [^\n]+ -->\n\n)?(?:^```python\n(?P<code>.*?)^```|^    colgraph (?P<words>view [^\n]+))",
    re.S | re.M,
)


def drawn(page: str, root: Path) -> dict[str, bytes]:
    """The files that a page's blocks of Python and its ``colgraph view`` lines write, by their names.

    They run one after the other, as in an interpreter of one's own, where ``docs`` and ``geometries`` lie beside. A
    block that the page says is not run (``<!-- not run: ... -->``) is not run here.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        for name in ("docs", "geometries"):
            Path(name).symlink_to(root / name)
        names: dict[str, object] = {}
        for block in _BLOCK.finditer(page):
            if block["not_run"]:
                continue
            if block["words"]:
                cli.run(shlex.split(block["words"], comments=True))
            else:
                exec(compile(block["code"], "gallery.md", "exec"), names)
        return {path.name: path.read_bytes() for path in sorted(Path().iterdir()) if path.is_file()}
