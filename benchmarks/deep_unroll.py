"""Deep unrolls, as working something out takes them: time and memory of a training step against the number of steps.

    python benchmarks/deep_unroll.py          # about two minutes on two cores

Every row is measured in a fresh process. Peak memory is that above what the process held after a step of a tiny model.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import psutil
import torch
from _common import RESULTS, fresh_process, machine, peak_memory, print_machine, seconds, write_json

import colgraph as cg

STEPS = (8, 16, 32, 64)
KINDS = (None, "steps", "sqrt")
SIZES = {"dim": 32, "num_heads": 1, "qk_dim": 16, "mlp_dim": 64, "leak": 0.2, "inject": "every"}
BATCH = 32


def train(shape: tuple[int, int], steps: int, recompute: str | None, tied: bool, repeats: int) -> dict[str, float]:
    """Median seconds of a step, and peak bytes."""
    sheet = cg.build_sheet("grid", shape=shape, neighbors=cg.Radius(1.5), num_inputs=shape[0] * shape[1])
    options: dict[str, Any] = {"untied": "none", "value_projection": True} if tied else {}
    model = cg.Columnformer(sheet, steps=steps, recompute=recompute, **SIZES, **options)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    images = torch.randn(len(sheet.inputs), BATCH, SIZES["dim"])

    def step() -> None:
        optimizer.zero_grad()
        model(images).square().mean().backward()
        optimizer.step()

    step()
    return {"seconds": statistics.median(seconds(step) for _ in range(repeats)), "peak": peak_memory()}


def measure(steps: int, recompute: str | None, tied: bool) -> dict[str, Any]:
    """One row; run in a process of its own."""
    train((4, 4), 4, recompute, tied, 1)
    before = psutil.Process().memory_info().rss
    row = train((20, 20), steps, recompute, tied, 3)
    row["peak"] -= before
    return {"steps": steps, "recompute": recompute, "tied": tied} | row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0], allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for deep_unroll.json")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        print(json.dumps(measure(*json.loads(arguments.row))))
        return
    about = machine()
    print(f"training step on a 20 x 20 grid, radius 1.5: {SIZES}, B = {BATCH}, float32")
    print_machine(about)
    rows = []
    for tied in (False, True):
        print(f"\n{'tied, values (plain path)' if tied else 'untied (fused path)'}")
        print(f"{'steps':>6} " + "".join(f"{f'recompute {kind}':>28}" for kind in KINDS))
        for steps in STEPS:
            made = [fresh_process(__file__, "--row", json.dumps([steps, kind, tied])) for kind in KINDS]
            cells = (f"{1e3 * row['seconds']:,.0f} ms, {row['peak'] / 2**20:,.0f} MiB" for row in made)
            print(f"{steps:6} " + "".join(f"{cell:>28}" for cell in cells))
            rows += made
    write_json("deep_unroll", {"machine": about, "sizes": SIZES, "batch": BATCH, "rows": rows}, arguments.out)


if __name__ == "__main__":
    main()
