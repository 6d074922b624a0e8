"""What is trained on arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def arrays() -> tuple[np.ndarray, np.ndarray]:
    """Thirty grey images of each of three classes, which differ in how bright they are, and their classes."""
    draw = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 30)
    return draw.integers(0, 60, (90, 8, 8), dtype=np.uint8) + (70 * labels[:, None, None]).astype(np.uint8), labels


@pytest.fixture
def file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A file with the networks that the test's module names ``NETWORK``."""
    (tmp_path / "my_network.py").write_text(request.module.NETWORK)
    return tmp_path / "my_network.py"
