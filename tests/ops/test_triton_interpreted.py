"""Runs ``test_triton_attention.py`` in Triton's interpreter, which a process must choose before it imports Triton."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# Triton 3.6 turns a loaded number into a Python one in a way that NumPy 2.4 no longer allows.
PROBE = """
    import torch, triton, triton.language as tl

    @triton.jit
    def count(ends, total):
        steps = 0
        for _ in range(tl.load(ends), tl.load(ends + 1)):
            steps += 1
        tl.store(total, steps)

    ends, total = torch.tensor([2, 5]), torch.zeros(1, dtype=torch.int64)
    count[(1,)](ends, total)
    raise SystemExit(int(total) != 3)
"""


def interpreted(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *args], cwd=cwd, env=environment, text=True, capture_output=True, timeout=600, check=False
    )


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_kernels_are_right_in_the_interpreter(tmp_path):
    probe = tmp_path / "probe.py"
    probe.write_text(textwrap.dedent(PROBE))
    if interpreted(str(probe), cwd=tmp_path).returncode != 0:
        pytest.skip("this Triton's interpreter cannot run loops with this NumPy")
    run = interpreted(
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        str(HERE / "test_triton_attention.py"),
        cwd=HERE.parents[1],
    )
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    assert " passed" in run.stdout.splitlines()[-1], run.stdout[-2000:]
