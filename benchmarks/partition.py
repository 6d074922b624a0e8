"""How well sheets are cut, how long that takes, and how a sheet of a million columns fares on one machine.

    python benchmarks/partition.py             # about two minutes on two cores
    python benchmarks/partition.py --quick     # without the million

METIS is measured where pymetis is installed (pip install -e '.[metis]'). Seconds are wall-clock, with CPU seconds
beside them, which mean the same on a busy machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from _common import RESULTS, machine, peak_memory, print_machine, write_json

import colgraph as cg
from colgraph.distributed import partition_sheet

METIS = ["pymetis"] if importlib.util.find_spec("pymetis") else []
T = TypeVar("T")


def timed(function: Callable[[], T]) -> tuple[T, float, float]:
    """The result, seconds, and CPU seconds."""
    start, busy = time.perf_counter(), time.process_time()
    result = function()
    return result, time.perf_counter() - start, time.process_time() - busy


def cut(name: str, sheet: cg.Sheet, parts: int) -> list[dict[str, Any]]:
    """One row for each method."""
    methods = ["space", *(["metis"] if METIS else [])]
    rows = []
    for method in methods:
        partition, seconds, busy = timed(lambda method=method: partition_sheet(sheet, parts, method))  # type: ignore[misc]
        rows.append(
            {
                "sheet": name,
                "columns": sheet.num_columns,
                "parts": parts,
                "method": method,
                "seconds": seconds,
                "cpu_seconds": busy,
                "imbalance": partition.imbalance,
                "cut_fraction": partition.cut_fraction,
                "halo": int(partition.halo.sum()),
                "largest_halo": int(partition.halo.max()),
                "halo_over_sqrt_kn": partition.halo.mean() / (16 * sheet.num_columns / parts) ** 0.5,
            }
        )
    for row in rows:
        row["halo_to_metis"] = row["halo"] / rows[-1]["halo"] if len(rows) > 1 and rows[-1]["halo"] else None
    return rows


def million() -> dict[str, Any]:
    """Build, describe and partition a million columns."""
    sheet, build, build_busy = timed(lambda: cg.build_sheet("grid", shape=(1000, 1000), neighbors=cg.KNN(16)))
    report, describe, describe_busy = timed(sheet.describe)
    partition, seconds, busy = timed(lambda: partition_sheet(sheet, 64))
    print(report)
    print()
    print(repr(partition))
    return {
        "columns": sheet.num_columns,
        "edges": sheet.edge_index.size(1),
        "build_seconds": build,
        "build_cpu_seconds": build_busy,
        "describe_seconds": describe,
        "describe_cpu_seconds": describe_busy,
        "partition_seconds": seconds,
        "partition_cpu_seconds": busy,
        "imbalance": partition.imbalance,
        "halo": int(partition.halo.sum()),
        "peak_gbytes": peak_memory() / 2**30,
    }


def print_rows(rows: list[dict[str, Any]]) -> None:
    print("\n| sheet | columns | parts | method | time | CPU | imbalance | cut edges | halo | against METIS |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        against = "-" if row["halo_to_metis"] is None else f"{row['halo_to_metis']:.2f}"
        print(
            f"| {row['sheet']} | {row['columns']:,} | {row['parts']} | {row['method']} | {row['seconds']:.1f} s "
            f"| {row['cpu_seconds']:.1f} s | {row['imbalance']:.2%} | {row['cut_fraction']:.2%} | {row['halo']:,} "
            f"| {against} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0], allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="leave out the sheet of a million columns")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for partition.json")
    arguments = parser.parse_args()
    about = machine("scipy", *METIS)
    print_machine(about)
    rows = []
    sphere = cg.build_sheet("sphere", subdivisions=7, neighbors=cg.KNN(16))
    for parts in (4, 64):
        rows += cut("sphere, KNN(16)", sphere, parts)
    cortex = cg.build_sheet("cortex", hemisphere="both", neighbors=cg.KNN(16))
    for parts in (2, 4, 16):
        rows += cut("fsaverage5, both hemispheres, geodesic KNN(16)", cortex, parts)
    print_rows(rows)
    print("\ntargets: the sphere in 64 parts under 10 s, imbalance under 5%, halo below 1.3 times that of METIS\n")
    report: dict[str, Any] = {"machine": about, "cuts": rows}
    if not arguments.quick:
        report["million"] = million()
        print({name: round(value, 2) for name, value in report["million"].items()})
    write_json("partition", report, arguments.out)


if __name__ == "__main__":
    main()
