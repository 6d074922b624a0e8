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
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import colgraph as cg
from colgraph.models.flops import count_sheet_flops
from colgraph.training import measure

__all__ = [
    "RESULTS",
    "Floor",
    "floor_of",
    "fresh_process",
    "machine",
    "median_spread",
    "peak_memory",
    "print_floor",
    "print_machine",
    "rates",
    "seconds",
    "split_of",
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


@dataclass(frozen=True)
class Floor:
    """The least time a training step can take on this machine, by what it must move and what it must multiply.

    Attributes:
        moving: seconds to move ``(2 T + 8)`` words a parameter at the rate of a copy: each weight is read once at each
            of T steps, forward and backward; its gradient is written once; AdamW reads and writes seven words.
        multiplying: seconds for the products of forward and backward at the rate of a matrix product.
    """

    moving: float
    multiplying: float

    @property
    def seconds(self) -> float:
        """The larger of the two, which can overlap at best."""
        return max(self.moving, self.multiplying)

    def of(self, measured: float) -> dict[str, Any]:
        """As plain values, with how many times the floor was measured."""
        return asdict(self) | {"times_floor": measured / self.seconds}


def rates(repeats: int = 6) -> dict[str, float]:
    """Bytes a second of a copy, those read and those written, and operations a second of a matrix product: the best.

    What is read has been written before: pages of memory that was only asked for are all the same page of zeros, which
    lies in the cache.
    """
    a = torch.ones(2**26)
    b = torch.zeros_like(a)
    left, right = torch.randn(2, 1536, 1536)
    out = torch.empty(1536, 1536)
    copy = min(seconds(lambda: b.copy_(a)) for _ in range(repeats))
    product = min(seconds(lambda: torch.mm(left, right, out=out)) for _ in range(repeats))
    return {"copy": 8 * a.numel() / copy, "sgemm": 2 * 1536**3 / product}


def floor_of(model: cg.Columnformer, batch: int, rate: dict[str, float]) -> Floor:
    """The floor of a training step of a sheet on a batch, at rates from :func:`rates`."""
    words = (2 * model.steps + 8) * sum(p.numel() for p in model.parameters())
    return Floor(4 * words / rate["copy"], 3 * batch * count_sheet_flops(model) / rate["sgemm"])


def split_of(
    forward: Callable[[], torch.Tensor], optimizer: torch.optim.Optimizer, repeats: int = 5
) -> dict[str, float]:
    """Median seconds of forward, backward and optimizer, each on its own clock."""
    times: dict[str, list[float]] = {"forward": [], "backward": [], "optimizer": []}
    for _ in range(repeats):
        optimizer.zero_grad()
        start = time.perf_counter()
        loss = forward()
        middle = time.perf_counter()
        loss.backward()
        end = time.perf_counter()
        times["optimizer"].append(seconds(optimizer.step))
        times["forward"].append(middle - start)
        times["backward"].append(end - middle)
    return {name: statistics.median(spent) for name, spent in times.items()}


def print_floor(floor: Floor, split: dict[str, float], measured: float) -> None:
    """Two lines."""
    parts = ", ".join(f"{name} {1e3 * spent:,.0f} ms" for name, spent in split.items())
    print(f"  {parts}")
    print(
        f"  floor {1e3 * floor.seconds:,.0f} ms (moving {1e3 * floor.moving:,.0f}, multiplying "
        f"{1e3 * floor.multiplying:,.0f}): measured is {measured / floor.seconds:.2f} x the floor"
    )


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
