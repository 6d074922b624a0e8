"""sheet_attention on the CPU against what one would write otherwise: forward and backward, float32, in one process.

    python benchmarks/attention.py             # all of it, about four minutes on two cores
    python benchmarks/attention.py --only wide --rounds 3 --no-compile

Peers: PyG's scatter-softmax (``torch_geometric.utils.softmax`` and ``scatter``), the same under ``torch.compile``, a
``MessagePassing`` layer in the style of PyG's TransformerConv, and dense N x N attention with the graph as mask. Before
anything is timed, all must give the same output and gradients. Times are medians; rounds run every peer in turn, so
that what else the machine does falls on all of them. A ratio is the median over rounds of peer to colgraph.

Useful floating-point operations are those of the products themselves, forward and backward, 6 E B (D + C), and
not the scores that the backward pass computes again. They are set against sgemm on this machine, in this run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from _common import rates, seconds
from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import scatter, softmax

import colgraph as cg

RESULTS = Path(__file__).parent / "results"
Attention = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Size:
    """A problem: ``columns`` of a geometry that each hear ``degree`` columns."""

    geometry: str
    options: dict[str, Any]
    degree: int
    batch: int
    depth: int
    channels: int
    targets: dict[str, float]

    def sheet(self) -> cg.Sheet:
        return cg.build_sheet(self.geometry, neighbors=cg.KNN(self.degree, self_loops=False), **self.options)


SIZES = {
    "wide": Size("grid", {"shape": (64, 64)}, 32, 2, 64, 384, {"scatter": 80, "compiled": 25, "dense": 45}),
    "large": Size("grid", {"shape": (100, 100)}, 32, 4, 32, 64, {"scatter": 45}),
    "small": Size("stack", {"widths": [8] * 6}, 32, 8, 64, 384, {"dense": 1.5}),
}
SGEMM_TARGET = 0.3
DENSE_LIMIT = 2**30  # bytes of one score matrix, of which a training step needs several


# ---------------------------------------------------------------------- peers


def scatter_softmax(sheet: cg.Sheet) -> Attention:
    """Attention over edges as written with PyG's own functions."""
    source, target = sheet.edge_index
    n = sheet.num_columns

    def attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        score = (query[target] * key[source]).sum(-1) * query.size(-1) ** -0.5 + bias[:, None, None]
        weight = softmax(score, target, num_nodes=n)
        return scatter(weight[..., None] * value[source], target, dim=0, dim_size=n, reduce="sum")

    return attention


class _GatherAttention(MessagePassing):
    """The message and aggregation of PyG's TransformerConv, with an edge bias, on given projections."""

    def __init__(self) -> None:
        super().__init__(aggr="add", node_dim=0)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, edge_index: Tensor) -> Tensor:
        return self.propagate(edge_index, query=query, key=key, value=value, bias=bias)

    def message(
        self, query_i: Tensor, key_j: Tensor, value_j: Tensor, bias: Tensor, index: Tensor, size_i: int | None
    ) -> Tensor:
        score = (query_i * key_j).sum(-1) / math.sqrt(query_i.size(-1)) + bias[:, None, None]
        return value_j * softmax(score, index, num_nodes=size_i).unsqueeze(-1)


def message_passing(sheet: cg.Sheet) -> Attention:
    """Attention as PyG's TransformerConv gathers it."""
    layer, edges = _GatherAttention(), sheet.edge_index
    return lambda query, key, value, bias: layer(query, key, value, bias, edges)


def dense(sheet: cg.Sheet) -> Attention:
    """All pairs of columns, with minus infinity where there is no edge."""
    n = sheet.num_columns
    source, target = sheet.edge_index
    nothing = torch.full((n, n), -torch.inf)

    def attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        mask = nothing.index_put((target, source), bias)
        by_sample = (tensor.permute(1, 2, 0, 3) for tensor in (query, key, value))
        return torch.nn.functional.scaled_dot_product_attention(*by_sample, attn_mask=mask).permute(2, 0, 1, 3)

    return attention


def fused(sheet: cg.Sheet) -> Attention:
    """This package's backend "numba"."""
    layout = sheet.layout
    return lambda query, key, value, bias: cg.ops.sheet_attention(query, key, value, bias, layout, backend="numba")[0]


def peers(sheet: cg.Sheet, size: Size, compiled: bool) -> tuple[dict[str, Attention], dict[str, str]]:
    """What to run on a problem, by name, and why the others do not run."""
    run = {"colgraph": fused(sheet), "scatter": scatter_softmax(sheet), "TransformerConv": message_passing(sheet)}
    absent = {}
    if not compiled:
        absent["compiled"] = "not run here"
    elif shutil.which(os.environ.get("CXX", "g++")) is None:
        absent["compiled"] = "not run: torch.compile needs a C++ compiler (g++), there is none"
    else:
        run["compiled"] = torch.compile(scatter_softmax(sheet), fullgraph=True, dynamic=False)
    score_bytes = 4 * size.batch * sheet.num_columns**2
    if score_bytes > DENSE_LIMIT:
        absent["dense"] = f"not run: one score matrix takes {score_bytes / 1e9:.1f} GB"
    else:
        run["dense"] = dense(sheet)
    return run, absent


# ---------------------------------------------------------------------- measuring


class Problem:
    """Random inputs, and one step of forward and backward on them."""

    def __init__(self, sheet: cg.Sheet, size: Size) -> None:
        generator = torch.Generator().manual_seed(0)
        n, batch = sheet.num_columns, size.batch

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        self.inputs = [normal(n, batch, 1, size.depth), normal(n, batch, 1, size.depth)]
        self.inputs += [normal(n, batch, 1, size.channels), normal(sheet.num_edges)]
        for tensor in self.inputs:
            tensor.requires_grad_()
        self.grad_out = normal(n, batch, 1, size.channels)

    def step(self, attention: Attention) -> Tensor:
        for tensor in self.inputs:
            tensor.grad = None
        out = attention(*self.inputs)
        out.backward(self.grad_out)
        return out

    def results(self, attention: Attention) -> list[Tensor]:
        """The output and the gradients of query, key, value and bias."""
        out = self.step(attention).detach()
        return [out, *(tensor.grad for tensor in self.inputs if tensor.grad is not None)]


def largest_difference(a: list[Tensor], b: list[Tensor]) -> float:
    """The largest difference of any two entries, relative to the largest entry of its tensor."""
    return max(float((x - y).abs().max() / y.abs().max()) for x, y in zip(a, b, strict=True))


def measure(problem: Problem, run: dict[str, Attention], rounds: int) -> dict[str, list[list[float]]]:
    """Seconds of every call, by peer and round; fast peers are called several times a round."""
    calls = {}
    for name, attention in run.items():
        once = min(seconds(lambda a=attention: problem.step(a)) for _ in range(2))
        calls[name] = max(1, min(15, round(0.4 / once)))
    times: dict[str, list[list[float]]] = {name: [] for name in run}
    for _ in range(rounds):
        for name, attention in run.items():
            times[name].append([seconds(lambda a=attention: problem.step(a)) for _ in range(calls[name])])
    return times


def first_call() -> dict[str, float]:
    """Seconds that the first forward and backward of a process takes, without and with what an earlier one compiled."""
    code = """
import time, torch, colgraph as cg
sheet = cg.build_sheet("ring", columns=8, neighbors="knn:2")
q, k, v = (torch.randn(8, 1, 1, 4, requires_grad=True) for _ in range(3))
start = time.perf_counter()
cg.ops.sheet_attention(q, k, v, None, sheet.layout, backend="numba")[0].sum().backward()
print(time.perf_counter() - start)
"""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        taken = [
            float(subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout)
            for _ in range(2)
        ]
    return {"compiling": taken[0], "cached": taken[1]}


# ---------------------------------------------------------------------- one problem after the other


def useful_operations(sheet: cg.Sheet, size: Size) -> float:
    """Of the two products forward and the four backward, each ``2 E B D`` or ``2 E B C``."""
    return 6.0 * sheet.num_edges * size.batch * (size.depth + size.channels)


def run_size(name: str, size: Size, rounds: int, compiled: bool, sgemm: float) -> dict[str, Any]:
    """Check, measure and print one problem."""
    sheet = size.sheet()
    n, e = sheet.num_columns, sheet.num_edges
    print(f"\n{name}: N = {n}, E = {e} ({size.geometry}, k = {size.degree}), B = {size.batch}, ", end="")
    print(f"D = {size.depth}, C = {size.channels}")
    problem = Problem(sheet, size)
    run, absent = peers(sheet, size, compiled)
    expected = problem.results(run["scatter"])
    differences = {
        peer: largest_difference(problem.results(a), expected) for peer, a in run.items() if peer != "scatter"
    }
    wrong = {peer: d for peer, d in differences.items() if not d < 1e-4}
    if wrong:
        raise SystemExit(f"these do not compute the same as scatter (relative difference of any entry): {wrong}")
    times = measure(problem, run, rounds)
    own = [statistics.median(row) for row in times["colgraph"]]
    rows = {}
    for peer, by_round in times.items():
        flat = sorted(spent for row in by_round for spent in row)
        ratio = statistics.median(statistics.median(row) / mine for row, mine in zip(by_round, own, strict=True))
        rows[peer] = {
            "milliseconds": 1e3 * statistics.median(flat),
            "lowest": 1e3 * flat[0],
            "highest": 1e3 * flat[-1],
            "calls": len(flat),
            "times_as_long": ratio,
            "target": size.targets.get(peer),
            "difference": differences.get(peer, 0.0),
        }
    gflops = useful_operations(sheet, size) / statistics.median(own) / 1e9
    print_rows(rows, absent, gflops, sgemm)
    return {
        "size": {**asdict(size), "columns": n, "edges": e},
        "peers": rows,
        "absent": absent,
        "useful_gflops": gflops,
        "of_sgemm": gflops / sgemm,
    }


def print_rows(rows: dict[str, dict[str, Any]], absent: dict[str, str], gflops: float, sgemm: float) -> None:
    print(f"  {'':16} {'median':>9}  {'lowest .. highest':>20}  {'calls':>5}  {'x colgraph':>10}  {'target':>6}")
    for peer, row in rows.items():
        spread = f"{row['lowest']:.1f} .. {row['highest']:.1f}"
        target = "" if row["target"] is None else f"{row['target']:g}"
        ratio = "" if peer == "colgraph" else f"{row['times_as_long']:.1f}"
        print(f"  {peer:16} {row['milliseconds']:6.1f} ms  {spread:>20}  {row['calls']:5}  {ratio:>10}  {target:>6}")
    for peer, reason in absent.items():
        print(f"  {peer:16} {reason}")
    print(f"  colgraph: {gflops:.1f} useful GF/s, {gflops / sgemm:.0%} of sgemm (target for wide: {SGEMM_TARGET:.0%})")


def machine() -> dict[str, Any]:
    """What this was measured on."""
    name = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        name = names[0] if names else name
    packages = ("torch", "torch-geometric", "numba", "numpy")
    return {
        "date": date.today().isoformat(),
        "processor": name,
        "system": platform.platform(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def draw(results: dict[str, Any], path: Path) -> None:
    """Bars of how many times as long each peer takes, logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = ("scatter", "TransformerConv", "compiled", "dense")
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    for shift, (size, result) in enumerate(results.items()):
        present = [
            (i, result["peers"][peer]["times_as_long"]) for i, peer in enumerate(names) if peer in result["peers"]
        ]
        places = [i + 0.25 * (shift - 1) for i, _ in present]
        of = result["size"]
        label = f"{size}: N = {of['columns']:,}, B = {of['batch']}, D = {of['depth']}, C = {of['channels']}"
        bars = axes.bar(places, [ratio for _, ratio in present], 0.23, label=label)
        axes.bar_label(bars, fmt="%.3g", fontsize=8)
    axes.set(yscale="log", xticks=range(len(names)), xticklabels=names, ylabel="time / colgraph's time")
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_ylim(top=axes.get_ylim()[1] * 6)  # room for the legend
    axes.legend(frameon=False, loc="upper right", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0], allow_abbrev=False)
    parser.add_argument("--only", nargs="+", choices=list(SIZES), default=list(SIZES), help="which problems")
    parser.add_argument("--rounds", type=int, default=5, help="how often every peer takes its turn")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile, which takes a minute")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for attention.json and attention.png")
    arguments = parser.parse_args()
    about = machine()
    print("sheet_attention, forward and backward, float32")
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    rate = rates()
    print(f"sgemm {rate['sgemm'] / 1e9:.0f} GF/s, copy {rate['copy'] / 1e9:.1f} GB/s")
    call = first_call()
    print(f"first call of a process: {call['compiling']:.1f} s to compile, {call['cached']:.2f} s from the cache")
    results = {}
    for name in arguments.only:
        compiled = not arguments.no_compile and name == "wide"
        results[name] = run_size(name, SIZES[name], arguments.rounds, compiled, rate["sgemm"] / 1e9)
    arguments.out.mkdir(parents=True, exist_ok=True)
    report = {"machine": about, "rates": rate, "first_call_seconds": call, "sizes": results}
    (arguments.out / "attention.json").write_text(json.dumps(report, indent=1) + "\n")
    try:
        draw(results, arguments.out / "attention.png")
    except ImportError:
        print("no plot: matplotlib is missing (pip install -e '.[viz]')")
    print(f"\nwritten to {arguments.out}")


if __name__ == "__main__":
    main()
