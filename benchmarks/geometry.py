"""How long sheets take to make and how much memory, what importing costs, and how exact geodesic distances are.

    python benchmarks/geometry.py            # all of it, about two minutes
    python benchmarks/geometry.py --repeat 1 --only sphere import

Every measurement runs in a fresh Python process; seconds are medians over ``--repeat`` processes and count making the
sheet from nothing (the geometry and, for the cortex, importing nilearn and reading its files), not importing colgraph.
CPU seconds are summed over threads and say how long it takes on a machine that does other things too. Memory is the
peak of the whole process, imports included; what those alone take is in the second table.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version

SHEETS = {
    # name: (what, code, target in seconds, target in GB)
    "sphere": ("sphere, KNN(32)", 'cg.build_sheet("sphere", subdivisions=7, neighbors=cg.KNN(32))', 3, 2),
    "cortex": ("fsaverage5, one hemisphere, geodesic KNN(16)", 'cg.build_sheet("cortex", neighbors=cg.KNN(16))', 10, 2),
    "grid": (
        "grid of a million, KNN(16)",
        'cg.build_sheet("grid", shape=(1000, 1000), neighbors=cg.KNN(16))',
        None,
        None,
    ),
    "geodesic": (
        "icosphere, geodesic KNN(16)",
        'cg.build_sheet("sphere", subdivisions=6, metric="geodesic", neighbors=cg.KNN(16))',
        None,
        None,
    ),
}

BUILD = """
import resource, time
import colgraph as cg
start, busy = time.perf_counter(), time.process_time()
sheet = {code}
seconds, busy = time.perf_counter() - start, time.process_time() - busy
print(sheet.num_columns, sheet.num_edges, seconds, busy, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""

IMPORTS = """
import resource, time
start = time.perf_counter()
import torch, torch_geometric
middle, busy = time.perf_counter(), time.process_time()
import colgraph
end, busy = time.perf_counter(), time.process_time() - busy
print(middle - start, end - middle, busy, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""

GEODESICS = """
import numpy as np
import colgraph as cg
from colgraph.space import connections, paths, points, unfold
crossings = {crossings}
g = cg.geometry("sphere", subdivisions=5)
everyone = np.arange(g.num_columns)
graph = connections.listening_matrix(*unfold.surface_lines(g.positions, g.faces, crossings), g.num_columns)
space, truth = paths.Paths(graph, g.positions, "geodesic"), points.GreatCircle(g.positions)
found = [space.nearest(16, everyone, everyone), space.nearest(64, everyone, everyone)]
found.append(space.within(0.5, everyone[::50], everyone, 10**8))
errors = [links.distance / truth.between(links.source, links.target) - 1 for links in found]
print(graph.nnz / g.num_columns, *(value for e in errors for value in (100 * abs(e).mean(), 100 * abs(e).max())))
"""


def measure(code: str, repeat: int) -> list[float]:
    """Medians of the numbers that ``code`` prints in fresh processes."""
    rows = []
    for _ in range(repeat):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        rows.append([float(value) for value in done.stdout.split()])
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def against(value: float, target: float | None, unit: str) -> str:
    goal = "" if target is None else f" (target: under {target} {unit})"
    return f"{value:.2f} {unit}{goal}"


def machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("colgraph", "numpy", "scipy", "torch", "torch-geometric")
    )
    return f"{platform.machine()}, {cores} cores, Python {platform.python_version()}, {packages}"


def sheets(names: list[str], repeat: int) -> None:
    print("\n| sheet | columns | edges | time | CPU | peak memory |\n|---|---|---|---|---|---|")
    for name in names:
        what, code, most_seconds, most_memory = SHEETS[name]
        columns, edges, seconds, busy, memory = measure(BUILD.format(code=code), repeat)
        time, peak = against(seconds, most_seconds, "s"), against(memory, most_memory, "GB")
        print(f"| {what} | {columns:,.0f} | {edges:,.0f} | {time} | {busy:.2f} s | {peak} |", flush=True)


def imports(repeat: int) -> None:
    before, added, busy, memory = measure(IMPORTS, repeat)
    print("\n| import | time | CPU | peak memory |\n|---|---|---|---|")
    print(f"| torch, torch_geometric | {before:.2f} s | | |")
    print(f"| then colgraph | {against(added, 1, 's')} | {busy:.2f} s | {memory:.2f} GB |", flush=True)


def geodesics() -> None:
    print("\nGeodesic against great-circle distance on an icosphere of 10,242 vertices, mean / max error in percent:")
    print("\n| edges a line may cross | lines per vertex | KNN(16) | KNN(64) | Radius(0.5) |\n|---|---|---|---|---|")
    for crossings in (0, 1, 2, 3, 5):
        lines, *errors = measure(GEODESICS.format(crossings=crossings), 1)
        cells = " | ".join(f"{mean:.2f} / {most:.2f}" for mean, most in zip(errors[::2], errors[1::2], strict=True))
        print(f"| {crossings} | {lines:.0f} | {cells} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = [*SHEETS, "import", "error"]
    parser.add_argument("--repeat", type=int, default=3, help="fresh processes per measurement")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, help="which measurements")
    arguments = parser.parse_args()
    print(machine())
    names = [name for name in SHEETS if name in arguments.only]
    if names:
        sheets(names, arguments.repeat)
    if "import" in arguments.only:
        imports(arguments.repeat)
    if "error" in arguments.only:
        geodesics()


if __name__ == "__main__":
    main()
