"""A whole training step on a GPU: the sheet against the dense columnformer, as it is and compiled.

    python benchmarks/gpu_training_step.py                      # two minutes on a CUDA device
    python benchmarks/gpu_training_step.py --dry-run            # toy sizes, on the CPU: that it runs, and nothing else

The cases of ``training_step.py``, with the same dense model of the same function and AdamW(fused=True), in float32
(with TensorFloat-32 products for both). Before anything is timed, output and all gradients must agree. The floor is
that of ``_common.Floor``, at this device's rates.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _common import RESULTS, floor_of, rates
from gpu_attention import copy_rate, machine, matmul_rate, reason
from torch import nn
from training_step import CASES, TOY, Case, DenseColumnformer, Trainer, check

import colgraph as cg


def make(case: Case, device: str) -> dict[str, Callable[[], Trainer]]:
    """Trainers by name, each made when it is called, with the same parameters and data."""
    torch.manual_seed(0)
    sheet = cg.build_sheet(case.geometry, neighbors=case.neighbors, **case.options)
    model = cg.Columnformer(sheet, **case.model)
    x = torch.randn(sheet.inputs.numel(), case.batch, model.dim, device=device)
    goal = torch.randn(sheet.num_columns, case.batch, model.dim, device=device)
    # The dense model of a larger sheet has no room.
    dense = DenseColumnformer(model) if case.faster is not None else None

    def trainer(net: nn.Module) -> Trainer:
        return Trainer(net.to(device), x, goal)

    def compiled() -> Trainer:
        made = trainer(copy.deepcopy(dense))
        made.model = torch.compile(made.model)
        return made

    ours = {"colgraph": lambda: trainer(model)}
    return (
        ours if dense is None else {**ours, "dense": lambda: trainer(copy.deepcopy(dense)), "dense, compiled": compiled}
    )


def clock(trainer: Trainer, device: str, repeats: int) -> dict[str, float]:
    """Median, least and most milliseconds of a step, and the peak of memory."""
    on_gpu = device == "cuda"
    for _ in range(3):
        trainer.step()
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        trainer.step()
        if on_gpu:
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    peak = torch.cuda.max_memory_allocated() / 1e9 if on_gpu else 0.0
    return {"ms": statistics.median(times), "low": min(times), "high": max(times), "peak_gb": peak}


def run_case(name: str, case: Case, device: str, repeats: int, rate: dict[str, float]) -> dict[str, Any]:
    kinds = make(case, device)
    ours = kinds["colgraph"]()
    sheet = ours.model.sheet
    print(f"\n{name}: N = {sheet.num_columns}, E = {sheet.num_edges}, B = {case.batch}, {case.model}")
    row: dict[str, Any] = {"columns": sheet.num_columns, "edges": sheet.num_edges, "batch": case.batch}
    row |= {"model": case.model, "floor_ms": 1e3 * floor_of(ours.model, case.batch, rate).seconds}
    if "dense" in kinds:
        # Kernels on GPUs multiply in TensorFloat-32.
        row["difference"] = check(ours, kinds["dense"](), 1e-4 if device == "cpu" else 1e-2)
    for kind, made in kinds.items():
        try:
            row[kind] = clock(ours if kind == "colgraph" else made(), device, repeats)
        except Exception as error:
            row[kind] = reason(error)
        found = row[kind]
        text = found if isinstance(found, str) else f"{found['ms']:.2f} ms, {found['peak_gb']:.2f} GB"
        print(f"  {kind:16} {text}")
    print(f"  floor            {row['floor_ms']:.3f} ms")
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0], allow_abbrev=False)
    parser.add_argument("--dry-run", action="store_true", help="toy sizes on the CPU")
    parser.add_argument("--repeats", type=int, default=20, help="steps that are timed")
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu_training_step.json")
    known = parser.parse_args()
    if known.dry_run:
        run_case("toy", TOY, "cpu", 2, rates())
        return 0
    if not torch.cuda.is_available():
        print("not measured: no CUDA device")
        return 0
    torch.set_float32_matmul_precision("high")
    rate = {"copy": copy_rate(), "sgemm": matmul_rate(torch.float32)}
    report = {"machine": machine(), "rates": rate}
    report["cases"] = {name: run_case(name, case, "cuda", known.repeats, rate) for name, case in CASES.items()}
    known.out.parent.mkdir(parents=True, exist_ok=True)
    known.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"\nwritten to {known.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
