"""The modules that build the documentation."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

MAKER = str(Path(__file__).parents[2] / "docs" / "site")


@pytest.fixture(scope="module")
def parts() -> Iterator[types.SimpleNamespace]:
    """The modules that build the site, by their names."""
    names = ("api", "build", "commands", "links", "sheets", "stage")
    sys.path.insert(0, MAKER)
    try:
        yield types.SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    finally:
        sys.path.remove(MAKER)
