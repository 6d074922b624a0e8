"""Inference on the CPU: the sheet against the dense columnformer of equal sizes, as it is and compiled.

    python benchmarks/inference.py            # about five minutes on two cores
    python benchmarks/inference.py --only small --batch 1 --no-compile
    python benchmarks/inference.py --dry-run  # toy sizes: that it runs, and nothing else

The two cases of ``training_step.py`` that have a dense peer, with the same dense model of the same function, under
``torch.inference_mode()``: no tape is written, and memory does not grow with steps. Before anything is timed, all must
give the same output. Rounds alternate, so that what else the machine does falls on all of them; fast peers are called
several times a round. A ratio is the median over rounds of peer to colgraph; that of training is read from
``results/training_step.json``, where the batch is 8 or 4.

A dense model holds three score matrices ``[B,N,N]`` at once, compiled little more than one. Where they take more than
four fifths of the memory that is free it does not run, where a call takes longer than --limit it is not called again,
and the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch
from _common import RESULTS, Floor, machine, print_machine, rates, seconds, write_json
from torch import Tensor, nn
from training_step import CASES, TOY, Case, make

import colgraph as cg
from colgraph.models.flops import count_sheet_flops

BATCHES = (1, 64)
PEERS = {"dense": 3.0, "dense, compiled": 1.5}  # how many score matrices each holds at once
SHARE = 0.8  # of the free memory
SLOW, SLOW_ROUNDS = 5.0, 2  # seconds a call, and how many rounds such peers take part in
ALLOWED = 1e-4


def training_ratios(path: Path) -> dict[str, float]:
    """How many times faster a training step is than the dense one, by case; empty where that was not measured."""
    if not path.exists():
        return {}
    cases = json.loads(path.read_text())["cases"]
    return {name: case["times_faster"] for name, case in cases.items() if "times_faster" in case}


def why_not(kind: str, columns: int, batch: int, compiled: bool) -> str | None:
    """Why a peer is not even tried, or None."""
    wanted, free = 4 * PEERS[kind] * batch * columns**2, psutil.virtual_memory().available
    if wanted > SHARE * free:
        return f"not run: its score matrices take {wanted / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
    if kind == "dense":
        return None
    if not compiled:
        return "not run here"
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        return "not run: torch.compile needs a C++ compiler (g++), there is none"
    return None


class Peers:
    """Whatever runs on one problem, by name, and why the others do not. All give the same output."""

    def __init__(self, case: Case, compiled: bool, limit: float) -> None:
        nets = {name: trainer.model.eval() for name, trainer in make(case, ("colgraph", "dense")).items()}
        self.sheet, self.model = nets["colgraph"].sheet, nets["colgraph"]
        self.x = torch.randn(self.sheet.inputs.numel(), case.batch, case.model["dim"])
        self.limit = limit
        self.absent: dict[str, str] = {}
        self.differences: dict[str, float] = {}
        self.run: dict[str, Callable[[], Tensor]] = {}
        self.once: dict[str, float] = {}
        expected = self._try("colgraph", self.model)
        torch.compiler.reset()
        for kind in PEERS:
            reason = why_not(kind, self.sheet.num_columns, case.batch, compiled)
            if reason is not None:
                self.absent[kind] = reason
                continue
            out = self._try(kind, nets["dense"] if kind == "dense" else torch.compile(nets["dense"], dynamic=False))
            self.differences[kind] = off = float((out - expected).abs().max() / expected.abs().max())
            if not off < ALLOWED:
                raise SystemExit(f"{kind} computes something else: relative difference {off:.2g}")

    def _try(self, kind: str, net: nn.Module) -> Tensor:
        """The output; from now on the peer runs, unless a call takes too long."""

        def infer() -> Tensor:
            with torch.inference_mode():
                return net(self.x)

        out = infer()
        once = seconds(infer)
        if once > self.limit and kind in PEERS:
            self.absent[kind] = f"one call took {once:.0f} s, more than {self.limit:g}: not repeated"
        else:
            self.run[kind], self.once[kind] = infer, once
        return out

    def measure(self, rounds: int) -> dict[str, list[list[float]]]:
        """Seconds of every call, by peer and round."""
        times: dict[str, list[list[float]]] = {kind: [] for kind in self.run}
        for turn in range(rounds):
            for kind, infer in self.run.items():
                if self.once[kind] < SLOW or turn < SLOW_ROUNDS:
                    calls = max(1, min(30, round(0.4 / self.once[kind])))
                    times[kind].append([seconds(infer) for _ in range(calls)])
        return times


def inference_floor(model: cg.Columnformer, batch: int, rate: dict[str, float]) -> Floor:
    """The least time of a forward pass: each parameter read once at each step, and the products of all steps."""
    words = model.steps * sum(p.numel() for p in model.parameters())
    return Floor(4 * words / rate["copy"], batch * count_sheet_flops(model) / rate["sgemm"])


def run_case(name: str, case: Case, compiled: bool, limit: float, rate: dict[str, float]) -> dict[str, Any]:
    """Check, measure and print one problem."""
    peers = Peers(case, compiled, limit)
    sheet = peers.sheet
    print(f"\n{name}: N = {sheet.num_columns}, E = {sheet.num_edges}, B = {case.batch}, {case.model}")
    times = peers.measure(case.rounds)
    own = [statistics.median(row) for row in times["colgraph"]]
    rows: dict[str, Any] = {}
    for kind, by_round in times.items():
        flat = sorted(spent for row in by_round for spent in row)
        ratio = statistics.median(statistics.median(row) / mine for row, mine in zip(by_round, own))
        rows[kind] = {"seconds": statistics.median(flat), "spread": [flat[0], flat[-1]], "calls": len(flat)}
        rows[kind] |= {"times_as_long": ratio, "difference": peers.differences.get(kind, 0.0)}
        spread = f"{1e3 * flat[0]:,.1f} .. {1e3 * flat[-1]:,.1f}"
        print(f"  {kind:16} {1e3 * rows[kind]['seconds']:9,.1f} ms ({spread}, {len(flat)} calls), {ratio:.1f} x")
    for kind, reason in peers.absent.items():
        print(f"  {kind:16} {reason}")
    floor = inference_floor(peers.model, case.batch, rate)
    print(f"  floor {1e3 * floor.seconds:,.2f} ms (moving {1e3 * floor.moving:,.2f}, multiplying ", end="")
    print(f"{1e3 * floor.multiplying:,.2f}): measured is {statistics.median(own) / floor.seconds:.2f} x the floor")
    return {
        "model": case.model,
        "batch": case.batch,
        "columns": sheet.num_columns,
        "edges": sheet.num_edges,
        "peers": rows,
        "absent": peers.absent,
        "floor": floor.of(statistics.median(own)),
    }


def markdown(results: list[dict[str, Any]]) -> str:
    """The table of docs/speed.md."""
    lines = [
        "| inference, float32 | colgraph | dense, same function | dense, compiled | x the floor | training |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        model, cells = result["model"], []
        for kind in PEERS:
            row = result["peers"].get(kind)
            cells.append(
                result["absent"][kind] if row is None else f"{_text(row['seconds'])} ({_times(row['times_as_long'])})"
            )
        trained = result["training_times_faster"]
        lines.append(
            f"| {result['columns']:,} columns, dim {model['dim']}, batch {result['batch']}, {model['steps']} steps | "
            f"{_text(result['peers']['colgraph']['seconds'])} | {' | '.join(cells)} | "
            f"{result['floor']['times_floor']:.2f} x | {'not measured' if trained is None else _times(trained)} |"
        )
    return "\n".join(lines)


def _text(spent: float) -> str:
    """In milliseconds, three digits."""
    return f"{1e3 * spent:,.0f} ms" if spent >= 0.1 else f"{1e3 * spent:.3g} ms"


def _times(ratio: float) -> str:
    return f"{ratio:.0f} x" if ratio >= 10 else f"{ratio:.1f} x"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0], allow_abbrev=False)
    cases = [name for name, case in CASES.items() if case.faster is not None]
    parser.add_argument("--only", nargs="+", choices=cases, default=cases, help="which problems")
    parser.add_argument("--batch", nargs="+", type=int, default=list(BATCHES), help="batch sizes")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds of a call that is too long to repeat")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
    parser.add_argument("--dry-run", action="store_true", help="toy sizes, and nothing is written")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for inference.json")
    arguments = parser.parse_args()
    if min(arguments.batch) < 1:
        parser.error(f"--batch must be at least 1, got {min(arguments.batch)}")
    about = machine()
    print("inference: forward under torch.inference_mode(), float32")
    print_machine(about)
    rate = rates()
    print(f"copy {rate['copy'] / 1e9:.1f} GB/s, matrix product {rate['sgemm'] / 1e9:.0f} GF/s")
    problems = {"toy": TOY} if arguments.dry_run else {name: CASES[name] for name in arguments.only}
    trained = {} if arguments.dry_run else training_ratios(RESULTS / "training_step.json")
    results = []
    for name, case in problems.items():
        for batch in arguments.batch:
            at = replace(case, batch=batch)
            measured = run_case(name, at, not arguments.no_compile, arguments.limit, rate)
            results.append(measured | {"training_times_faster": trained.get(name)})
    print(f"\n{markdown(results)}")
    if not arguments.dry_run:
        write_json("inference", {"machine": about, "rates": rate, "cases": results}, arguments.out)


if __name__ == "__main__":
    main()
