"""What the benchmarks share: the machine, timing, memory in a fresh process, and the files of results."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from colgraph.training import measure

__all__ = [
    "RESULTS",
    "fresh_process",
    "machine",
    "median_spread",
    "peak_memory",
    "print_machine",
    "seconds",
    "write_json",
]

RESULTS = Path(__file__).parent / "results"


def machine(*packages: str) -> dict[str, Any]:
    """What a measurement was made on, and when."""
    here = measure.machine(torch.device("cpu"))
    return {
        "date": date.today().isoformat(),
        "processor": here["processor"],
        "system": platform.platform(),
        "threads": here["threads"],
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "torch-geometric", "numba", "numpy", *packages)},
    }


def print_machine(about: dict[str, Any]) -> None:
    """One line."""
    print(", ".join(f"{key} {value}" for key, value in about.items()))


def seconds(function: Callable[[], Any]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def median_spread(times: list[float]) -> str:
    """Median and extremes in milliseconds."""
    return f"{1e3 * statistics.median(times):9,.0f} ms ({1e3 * min(times):,.0f} .. {1e3 * max(times):,.0f})"


def fresh_process(script: str, *arguments: str) -> dict[str, Any]:
    """Run a benchmark file again with other arguments; the last line it prints is JSON."""
    result = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed: {result.stderr.strip()[-2000:]}")
    answer: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return answer


def peak_memory() -> int:
    """The most bytes that this process ever held."""
    return measure.peak_memory_bytes(torch.device("cpu"))


def write_json(name: str, report: dict[str, Any], folder: Path = RESULTS) -> None:
    """Into ``folder/name.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"\nwritten to {folder / name}.json")
