"""``python .ci/check_version.py [v1.2.3]``: the files that name a version name one, and the tag does.

pyproject.toml is the version's home. With a tag, the changelog must have a section of this version.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def check(root: Path, tag: str | None = None) -> str:
    """The version; raises ValueError where it is not the same everywhere."""
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    cited = re.search(r"^version: (.+)$", (root / "CITATION.cff").read_text(encoding="utf-8"), re.M)
    if cited is None or cited[1].strip("\"' ") != version:
        raise ValueError(f"CITATION.cff is of version {cited and cited[1]}, pyproject.toml of {version}: make them one")
    if tag is None:
        return str(version)
    if tag != f"v{version}":
        raise ValueError(f"tag {tag} is not v{version}, the version in pyproject.toml: change one of them")
    if not re.search(rf"^## {re.escape(version)}\b", (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.M):
        raise ValueError(f"CHANGELOG.md has no section '## {version}': name what is under 'Unreleased' so")
    return str(version)


if __name__ == "__main__":
    try:
        print(check(ROOT, *sys.argv[1:2]))
    except ValueError as error:
        sys.exit(f"error: {error}")
