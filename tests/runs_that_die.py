"""Runs that kill themselves and go on, in a process of their own (``training/killed_runs.py``)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parent / "training" / "killed_runs.py"


def killed_and_resumed(place: Path, changes: Mapping[str, Any] | None = None) -> list[str]:
    """Run ``whole`` in a folder, and beside it those that are killed and go on to the end; the names of the latter."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(place), *([] if changes is None else [json.dumps(changes)])],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    ends = json.loads(done.stdout.splitlines()[-1])
    assert ends["whole"] == 0, done.stderr
    assert set(ends["killed"].values()) == {signal.SIGKILL}
    assert set(ends["resumed"].values()) == {0}, done.stderr
    return list(ends["killed"])
