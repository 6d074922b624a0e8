"""Time and peak memory of a training step as the sheet grows: icospheres, KNN(16), dim 32, B = 2, T = 4, on the CPU.

    python benchmarks/scaling.py              # about two minutes on two cores, 12 GB of memory

Every row runs in a fresh process. Memory is the peak above what the process held after its imports and one step of a
tiny model. The bound is 1.3 x (parameters + gradients + AdamW state + T N B (4C + 2HD + 2M + H) floats); with
``recompute="steps"`` the activations are T N B C floats and those of one step.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import psutil
import torch
from _common import (
    RESULTS,
    floor_of,
    fresh_process,
    machine,
    peak_memory,
    print_machine,
    rates,
    seconds,
    split_of,
    write_json,
)

import colgraph as cg

SIZES = {"dim": 32, "qk_dim": 16, "mlp_dim": 32, "steps": 4}
BATCH, HEADS = 2, 1
ROWS = [(5, 16, "none"), (6, 16, "none"), (7, 16, "none"), (6, 32, "none"), (6, 16, "steps")]


def train(subdivisions: int, neighbors: int, recompute: str, repeats: int, rate: dict[str, float]) -> dict[str, Any]:
    """Median seconds of a step, peak bytes, and what the bound counts."""
    sheet = cg.build_sheet("sphere", subdivisions=subdivisions, neighbors=cg.KNN(neighbors), num_inputs=64)
    model = cg.Columnformer(sheet, **SIZES, recompute=None if recompute == "none" else recompute)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    x = torch.randn(64, BATCH, SIZES["dim"])

    def loss() -> torch.Tensor:
        out = model.unroll(x)
        return out.state.square().mean() + 0.01 * out.wiring_cost

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    step()
    times = [seconds(step) for _ in range(repeats)]
    peak = peak_memory()
    split = split_of(loss, optimizer, repeats)
    n, c, m, d, t = sheet.num_columns, SIZES["dim"], SIZES["mlp_dim"], SIZES["qk_dim"], SIZES["steps"]
    per_step = n * BATCH * (4 * c + 2 * HEADS * d + 2 * m + HEADS)
    activations = t * per_step if recompute == "none" else t * n * BATCH * c + per_step
    parameters = sum(p.numel() for p in model.parameters())
    return {
        "columns": n,
        "edges": sheet.num_edges,
        "neighbors": neighbors,
        "recompute": recompute,
        "seconds": statistics.median(times),
        "spread": [min(times), max(times)],
        "peak": peak,
        "counted": 4 * (4 * parameters + activations),
        "split": split,
        "floor": floor_of(model, BATCH, rate).of(statistics.median(times)),
    }


def measure(subdivisions: int, neighbors: int, recompute: str, rate: dict[str, float]) -> dict[str, Any]:
    """One row; run in a process of its own, at the rates that all rows share."""
    train(2, 4, recompute, 1, rate)
    before = psutil.Process().memory_info().rss
    row = train(subdivisions, neighbors, recompute, 3 if subdivisions > 6 else 5, rate)
    row["peak"] -= before
    return row


def print_table(rows: list[dict[str, Any]]) -> None:
    print(
        f"\n{'columns':>9} {'edges':>10} {'k':>3} {'recompute':>9} {'step':>9} {'us/column':>10} "
        f"{'peak MiB':>9} {'KiB/column':>10} {'of counted':>10} {'x floor':>8}  "
        "forward, backward, optimizer (us/column)"
    )
    for row in rows:
        n = row["columns"]
        print(
            f"{n:9,} {row['edges']:10,} {row['neighbors']:3} {row['recompute']:>9} {row['seconds'] * 1e3:6,.0f} ms "
            f"{row['seconds'] / n * 1e6:10.2f} {row['peak'] / 2**20:9,.0f} {row['peak'] / n / 1024:10.2f} "
            f"{row['peak'] / row['counted']:10.2f} {row['floor']['times_floor']:8.2f}  "
            + ", ".join(f"{spent / n * 1e6:.2f}" for spent in row["split"].values())
        )


def conclusions(rows: list[dict[str, Any]]) -> dict[str, float]:
    """How flat time and memory are, the worst share of the bound, and what an edge costs."""
    by = {(row["columns"], row["neighbors"], row["recompute"]): row for row in rows}
    plain = [row for row in rows if row["neighbors"] == 16 and row["recompute"] == "none"]
    time = [row["seconds"] / row["columns"] for row in plain]
    memory = [row["peak"] / row["columns"] for row in plain]
    few, many = by[40962, 16, "none"], by[40962, 32, "none"]
    return {
        "time_spread": max(time) / min(time) - 1,
        "memory_spread": max(memory) / min(memory) - 1,
        "worst_share_of_counted": max(row["peak"] / row["counted"] for row in rows),
        "bytes_per_further_edge": (many["peak"] - few["peak"]) / (many["edges"] - few["edges"]),
    }


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Time and memory per column against the number of columns."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plain = [row for row in rows if row["neighbors"] == 16 and row["recompute"] == "none"]
    columns = [row["columns"] for row in plain]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    left.plot(columns, [row["seconds"] / row["columns"] * 1e6 for row in plain], "o-", color="#0072B2")
    left.set(ylabel="training step (µs per column)")
    right.plot(columns, [row["peak"] / row["columns"] / 1024 for row in plain], "o-", color="#0072B2", label="measured")
    bound = [1.3 * row["counted"] / row["columns"] / 1024 for row in plain]
    right.plot(columns, bound, "--", color="#E69F00", label="1.3 x what is counted")
    right.set(ylabel="peak memory (KiB per column)")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.set(xscale="log", xlabel="columns")
        axes.set_ylim(0, 1.1 * axes.dataLim.y1)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0], allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for scaling.json and scaling.png")
    parser.add_argument("--row", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        subdivisions, neighbors, recompute, rate = arguments.row
        print(json.dumps(measure(int(subdivisions), int(neighbors), recompute, json.loads(rate))))
        return
    about = machine()
    print(f"training step on icospheres: {SIZES}, B = {BATCH}, forward, backward, AdamW(fused=True), float32")
    print_machine(about)
    rate = json.dumps(rates())
    rows = [fresh_process(__file__, "--row", *map(str, row), rate) for row in ROWS]
    print_table(rows)
    found = conclusions(rows)
    print(f"\nper column from 10,242 to 163,842: time within {found['time_spread']:.0%}, ", end="")
    print(f"memory within {found['memory_spread']:.0%} (at most 25%)")
    print(f"peak memory at most {found['worst_share_of_counted']:.2f} of what is counted (at most 1.3); ", end="")
    print(f"a further edge costs {found['bytes_per_further_edge']:.0f} bytes")
    arguments.out.mkdir(parents=True, exist_ok=True)
    draw(rows, arguments.out / "scaling.png")
    write_json("scaling", {"machine": about, "sizes": SIZES, "batch": BATCH, "rows": rows, **found}, arguments.out)


if __name__ == "__main__":
    main()
