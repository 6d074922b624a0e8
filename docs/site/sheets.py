"""The interactive sheets of the gallery: what its own code writes, run when the site is built."""

from __future__ import annotations

import contextlib
import re
import tempfile
from pathlib import Path


def drawn(page: str, root: Path) -> dict[str, bytes]:
    """The files that a page's blocks of Python write, by their names.

    The blocks run one after the other, as in an interpreter of one's own, where ``geometries`` lies beside.
    """
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.S | re.M)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("geometries").symlink_to(root / "geometries")
        names: dict[str, object] = {}
        for block in blocks:
            exec(compile(block, "gallery.md", "exec"), names)
        return {path.name: path.read_bytes() for path in sorted(Path().iterdir()) if path.is_file()}
