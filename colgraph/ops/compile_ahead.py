"""Backward kernels of the column step are compiled by a process of their own, while this one reads its images.

Numba holds one lock over all compilation, so that threads are of no use. The first step then compiles the forward pass
and attention, which have most of their functions in common, and finds the rest on disk, or waits for it. Without a
second core, or a place to keep kernels, it compiles all.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

_elsewhere: subprocess.Popen[bytes] | None = None


def compile_ahead(accelerator: str = "cpu") -> None:
    """Begin with what is not on disk yet, where torch has a second thread. The process ends with this one.

    Args:
        accelerator: where will be trained, "cpu", "gpu", "mps" or "auto": these kernels are for CPUs.
    """
    global _elsewhere
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.accelerator.is_available())
    if not on_cpu or torch.get_num_threads() == 1 or importlib.util.find_spec("numba") is None:
        return
    if _elsewhere is not None or all(map(_on_disk, _kernels())):
        return
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; from colgraph.ops import _compile_backward as b; b.compile_backward()"
    )
    quiet = subprocess.DEVNULL
    command = [sys.executable, "-c", code]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    _elsewhere = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, env=alone)
    atexit.register(_elsewhere.kill)


def ready(kernel: Any) -> Any:
    """The kernel: as soon as the other process has compiled it, or has ended, and at once if it does not."""
    if _elsewhere is not None and not kernel.signatures and kernel in _kernels():
        while _elsewhere.poll() is None and not _on_disk(kernel):
            time.sleep(0.02)
    return kernel


def _kernels() -> list[Any]:
    """Those that the other process compiles."""
    from colgraph.ops import _column_kernels as columns

    return [columns.column_out_backward, columns.column_in_backward, columns.weight_gradients]


def _on_disk(kernel: Any) -> bool:
    """Whether it was compiled by anyone: numba names its files so, and one that is there is whole."""
    where = kernel.stats.cache_path  # None where nothing can be kept: then the other process would work for nobody
    return where is None or any(Path(where).glob(f"*.{kernel.py_func.__qualname__}-*.nbc"))
