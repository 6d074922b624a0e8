"""How near the kernels come to what the machine can do at best, against their arithmetic intensity: a roofline plot.

    python benchmarks/roofline.py             # about two minutes on two cores, 12 GB of memory
    python benchmarks/roofline.py --only small sphere6
    python benchmarks/roofline.py --dry-run   # toy sizes: that it runs, and nothing else

Parts: the attention operator, forward, and forward with backward; what surrounds it in a column step (norm, query and
key before, norm and MLP behind), forward, backward, and the gradients of its weights; and AdamW as the training uses
it, fused, in its groups of parameters. All float32, from 384 to 163,842 columns, each size in a fresh process. The
column step's functions (``colgraph.ops.column_step``) have a clock each, in the forward and backward pass of a whole
Columnformer over all its time steps; so they find in the cache what they find there in training.

The roofs are measured in the same run: the rate of ``a += b`` on large arrays (bytes read and written), and that of a
matrix product (torch's sgemm). The memory of a machine that is shared may be half as fast again for a minute: each size
measures the first before and after, and is measured again where that is not what it was at the start. The rate of a
copy, which other benchmarks count with, is drawn dashed: it lies lower, since a processor reads most of what a copy is
going to overwrite. A point above the slanted roof finds arrays in the cache, from one call to the next; one above the
flat roof multiplies faster than torch's library does.

Useful operations, two for each multiplication with its addition: of the products alone, as in ``count_flops``; norms,
softmax, GELU and scores that a backward pass computes again are not counted. With N columns, E edges, batch B, C
channels, queries of all heads J, M hidden units and T steps::

    attention          2 E B (J + C) forward; backward twice as many
    columns            4 N B C (J + M) a step forward; backward as many; weight gradients T times as many
    AdamW              14 a parameter, each counted: two averages (7), decay (1), root, division and sum (3), step (3)

Bytes that must move: every array that a call is given, read once, and every array that it leaves, written once::

    attention forward  query, key, value, edge bias, a source (8 bytes) per edge; output
    and backward       forward leaves largest score and sum of each softmax, too; backward reads all of that and the
                       gradient of the output, sources and targets; gradients of query, key, value and bias
    columns forward    weights; the state twice and what was heard; normed state, query, key, sum, hidden units, result
    columns backward   weights; sum, hidden units, state; gradients of result, query, key, normed state and sum;
                       gradients of hidden units, sum and state; those of the norms, read and written
    weight gradients   both tapes; the gradients
    AdamW              parameter, gradient and two averages read, all but the gradient written: 28 bytes a parameter
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from _common import RESULTS, fresh_process, machine, print_machine, rates, seconds, write_json

import colgraph as cg
from colgraph.ops import column_step
from colgraph.training.config import TrainConfig
from colgraph.training.module import parameter_groups


class Size(NamedTuple):
    """A sheet, a model on it, and a batch."""

    geometry: str
    options: dict[str, Any]
    neighbors: str
    model: dict[str, int]
    batch: int


_SPHERES = {"dim": 32, "qk_dim": 16, "mlp_dim": 32, "steps": 4}
SIZES = {
    "small": Size("stack", {"widths": [8] * 6}, "knn:32", {"dim": 384, "qk_dim": 64, "mlp_dim": 64, "steps": 6}, 8),
    "large": Size(
        "grid",
        {"shape": (64, 64), "num_inputs": 64},
        "knn:32",
        {"dim": 64, "qk_dim": 16, "mlp_dim": 32, "steps": 4},
        4,
    ),
    **{
        f"sphere{level}": Size("sphere", {"subdivisions": level, "num_inputs": 64}, "knn:16", _SPHERES, 2)
        for level in (5, 6, 7)
    },
}
TOYS = {
    "toy": Size(
        "grid", {"shape": (8, 8), "num_inputs": 8}, "knn:8", {"dim": 16, "qk_dim": 8, "mlp_dim": 8, "steps": 2}, 2
    ),
    "toy_sphere": Size("sphere", {"subdivisions": 2, "num_inputs": 8}, "knn:8", _SPHERES, 2),
}


class Work(NamedTuple):
    """Useful operations and bytes that must move."""

    operations: float
    bytes: float

    def __add__(self, other: Work) -> Work:  # type: ignore[override]
        return Work(self.operations + other.operations, self.bytes + other.bytes)

    def times(self, count: int) -> Work:
        """So often."""
        return Work(count * self.operations, count * self.bytes)


class Sizes(NamedTuple):
    """The letters of the formulas above."""

    columns: int
    edges: int
    batch: int
    channels: int
    queries: int
    hidden: int
    steps: int

    def attention(self) -> dict[str, Work]:
        """Of one call of the operator."""
        n, e, b, c, j, *_ = self
        once, given = 2.0 * e * b * (j + c), 4.0 * (n * b * (2 * j + c) + e)
        out, statistics_of_softmax = 4.0 * n * b * c, 8.0 * n * b
        forward = Work(once, given + 8 * e + out)
        # Read: what the forward pass was given and has left, and the gradient of its output. Written: gradients.
        backward = Work(2 * once, given + 16 * e + statistics_of_softmax + out + given)
        both = forward + backward + Work(0, statistics_of_softmax)
        return {"attention forward": forward, "attention forward + backward": both}

    def columns_of_a_training_step(self) -> dict[str, Work]:
        """Of T time steps."""
        n, _, b, c, j, m, t = self
        products, around, mlp = 4.0 * n * b * c * (j + m), 2 * c * j, 2 * c * m
        forward_words = (2 * c + around + 2 * j) + (2 * c + mlp + m + c)
        forward_words += b * (c + c + 2 * j) + b * (c + c + c + m + c)
        backward_words = (c + mlp + 4 * c) + (c + around + 4 * c)
        backward_words += b * (c + c + m + m + c) + b * (c + c + c + 2 * j + c)
        gradient_words = (2 * c + around + 2 * j + mlp + m + c) + t * b * (c + c + m + 2 * j + m + c)
        return {
            "columns forward": Work(products, 4.0 * n * forward_words).times(t),
            "columns backward": Work(products, 4.0 * n * backward_words).times(t),
            "weight gradients": Work(t * products, 4.0 * n * gradient_words),
        }


def adamw(parameters: int) -> Work:
    """Of one step of the optimizer."""
    return Work(14.0 * parameters, 28.0 * parameters)


STEADY, TRIES = 1.15, 6  # how far the rate of memory may be from that of the start, and how often a size is tried


def update_rate() -> float:
    """Bytes a second, read and written, of ``a += b`` on arrays of 256 MiB: the best of six."""
    a, b = torch.ones(2, 2**26)
    return 12 * a.numel() / min(seconds(lambda: a.add_(b)) for _ in range(6))


# ---------------------------------------------------------------------- clocks

CLOCKS = {
    "columns forward": ("column_in", "column_out"),
    "columns backward": ("column_out_backward", "column_in_backward"),
    "weight gradients": ("weight_gradients",),
}


@contextlib.contextmanager
def clocks() -> Iterator[dict[str, float]]:
    """Seconds spent in the column step's functions, by part."""
    spent = dict.fromkeys(CLOCKS, 0.0)

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            start = time.perf_counter()
            result = function(*args)
            spent[part] += time.perf_counter() - start
            return result

        return run

    with contextlib.ExitStack() as patches:
        for part, names in CLOCKS.items():
            for name in names:
                patch = mock.patch.object(column_step, name, timed(part, getattr(column_step, name)))
                patches.enter_context(patch)
        yield spent


def time_attention(layout: cg.Layout, of: Sizes, repeats: int) -> dict[str, list[float]]:
    """Seconds of each call of the operator."""
    generator = torch.Generator().manual_seed(0)
    widths = (of.queries, of.queries, of.channels)
    inputs = [torch.randn(of.columns, of.batch, 1, width, generator=generator) for width in widths]
    inputs.append(torch.randn(of.edges, generator=generator))
    grad = torch.randn(inputs[2].shape, generator=generator)

    def forward() -> torch.Tensor:
        return cg.ops.sheet_attention(*inputs, layout, backend="numba")[0]  # type: ignore[misc]

    def both() -> None:
        for tensor in inputs:
            tensor.grad = None
        forward().backward(grad)

    forward()
    calls = max(repeats, min(30, round(0.4 / seconds(forward))))
    times = {"attention forward": [seconds(forward) for _ in range(calls)]}
    for tensor in inputs:
        tensor.requires_grad_()
    both()
    times["attention forward + backward"] = [seconds(both) for _ in range(calls)]
    return times


def time_training(model: cg.Columnformer, of: Sizes, repeats: int) -> dict[str, list[float]]:
    """Seconds in each part of a training step."""
    config = TrainConfig()
    groups = parameter_groups(model, config)
    optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), fused=True)
    x = torch.randn(model.inputs.numel(), of.batch, of.channels)
    times: dict[str, list[float]] = {part: [] for part in (*CLOCKS, "AdamW")}
    for _ in range(repeats + 1):
        optimizer.zero_grad()
        with clocks() as spent:
            model(x).square().mean().backward()
        for part, total in (spent | {"AdamW": seconds(optimizer.step)}).items():
            times[part].append(total)
    return {part: taken[1:] for part, taken in times.items()}  # the first has compiled, and has made the averages


def measure(name: str, repeats: int) -> dict[str, Any]:
    """All parts at one size; run in a process of its own."""
    size = (SIZES | TOYS)[name]
    torch.manual_seed(0)
    sheet = cg.build_sheet(size.geometry, neighbors=size.neighbors, **size.options)
    model = cg.Columnformer(sheet, **size.model)
    dim, qk_dim, mlp_dim, steps = (size.model[part] for part in ("dim", "qk_dim", "mlp_dim", "steps"))
    of = Sizes(sheet.num_columns, sheet.num_edges, size.batch, dim, qk_dim, mlp_dim, steps)
    work = of.attention() | of.columns_of_a_training_step()
    work["AdamW"] = adamw(sum(p.numel() for p in model.parameters()))
    before = update_rate()
    times = time_attention(sheet.layout, of, repeats) | time_training(model, of, repeats)
    parts = {part: {**work[part]._asdict(), "seconds": taken} for part, taken in times.items()}
    return {"sizes": of._asdict(), "parts": parts, "update": [before, update_rate()]}


def measure_steadily(name: str, repeats: int, rate: dict[str, float]) -> dict[str, Any]:
    """The same, in a fresh process, once the memory is as fast as it was at the start."""
    for _ in range(TRIES):
        result = fresh_process(__file__, "--size", name, str(repeats))
        changes = [here / rate["update"] for here in result["update"]]
        if all(1 / STEADY < change < STEADY for change in changes):
            return {"name": name} | result
        print(f"{name}: memory is {changes[0]:.2f} and {changes[1]:.2f} times as fast as at the start: once more")
    raise SystemExit("the machine's memory is not as fast as at the start for long enough: run this again")


def place(result: dict[str, Any], rate: dict[str, float]) -> None:
    """Add to each part where its point lies, and its share of the roof above it."""
    for part in result["parts"].values():
        part["intensity"] = part["operations"] / part["bytes"]
        part["gflops"] = part["operations"] / statistics.median(part["seconds"]) / 1e9
        roof = min(rate["sgemm"], rate["update"] * part["intensity"]) / 1e9
        part["of_roof"] = part["gflops"] / roof


# ---------------------------------------------------------------------- table and plot


def label(result: dict[str, Any]) -> str:
    """A size in words."""
    sizes = result["sizes"]
    return f"{sizes['columns']:,} columns, dim {sizes['channels']}, batch {sizes['batch']}"


def markdown(results: list[dict[str, Any]]) -> str:
    """The table of docs/speed.md."""
    lines = [
        "| GF/s at operations per byte, share of the roof | " + " | ".join(map(label, results)) + " |",
        "|---" * (len(results) + 1) + "|",
    ]
    for name in results[0]["parts"]:
        parts = [result["parts"][name] for result in results]
        cells = [f"{part['gflops']:.3g} at {part['intensity']:.2g}, {part['of_roof']:.0%}" for part in parts]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


PANELS = (
    {"attention forward": "#0072B2", "attention forward + backward": "#D55E00"},
    {"columns forward": "#0072B2", "columns backward": "#D55E00", "weight gradients": "#009E73", "AdamW": "#CC79A7"},
)
MARKERS = "os^Dv"


def draw(results: list[dict[str, Any]], rate: dict[str, float], path: Path) -> None:
    """Rate against intensity: color says which part, the marker which size."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    points = [(part["intensity"], part["gflops"]) for result in results for part in result["parts"].values()]
    memory, copy, sgemm = (rate[name] / 1e9 for name in ("update", "copy", "sgemm"))
    left, right = min(x for x, _ in points) / 2, max(sgemm / copy, *(x for x, _ in points)) * 2
    bottom, top = min(*(y for _, y in points), copy * left) / 1.3, 1.6 * max(sgemm, *(y for _, y in points))
    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    empty = {"markerfacecolor": "none", "markeredgewidth": 1.6}
    for axes, colors in zip(figure.subplots(1, 2, sharey=True), PANELS):
        axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(bottom, top), xlabel="operations per byte")
        axes.grid(color="#D9DCE1", linewidth=0.6)
        (roof,) = axes.plot([left, sgemm / memory, right], [memory * left, sgemm, sgemm], color="black", linewidth=1.4)
        (dashed,) = axes.plot([left, sgemm / copy], [copy * left, sgemm], "--", color="black", linewidth=1)
        for name, color in colors.items():
            for marker, result in zip(MARKERS, results):
                part = result["parts"][name]
                axes.plot(part["intensity"], part["gflops"], marker, color=color, markersize=8, **empty)
        parts = [Line2D([], [], color=color, linewidth=4, label=name) for name, color in colors.items()]
        axes.legend(handles=parts, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("GF/s")
    roof.set_label(f"roofs: {memory:.0f} GB/s, {sgemm:.0f} GF/s")
    dashed.set_label(f"a copy: {copy:.0f} GB/s")
    style = {"color": "black", "linestyle": "", **empty}
    sizes = [Line2D([], [], marker=mark, label=label(result), **style) for mark, result in zip(MARKERS, results)]
    figure.legend(handles=[*sizes, roof, dashed], frameon=False, loc="outside lower center", ncols=3, fontsize=9)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0], allow_abbrev=False)
    parser.add_argument("--only", nargs="+", choices=list(SIZES), default=list(SIZES), help="which sizes")
    parser.add_argument("--dry-run", action="store_true", help="toy sizes; written only where --out says")
    parser.add_argument("--out", type=Path, help="folder for roofline.json and roofline.png (benchmarks/results)")
    parser.add_argument("--size", nargs=2, metavar=("NAME", "REPEATS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.size:
        name, repeats = arguments.size
        print(json.dumps(measure(name, int(repeats))))
        return
    about = machine()
    print("kernels against the machine's roofs, float32")
    print_machine(about)
    rate = rates() | {"update": update_rate()}
    print(f"update in place {rate['update'] / 1e9:.1f} GB/s, ", end="")
    print(f"copy {rate['copy'] / 1e9:.1f} GB/s, matrix product {rate['sgemm'] / 1e9:.0f} GF/s\n")
    names = list(TOYS) if arguments.dry_run else arguments.only
    results = []
    for name in names:
        results.append(measure_steadily(name, 3 if name == "sphere7" else 7, rate))
        place(results[-1], rate)
    print(markdown(results))
    folder = arguments.out or (None if arguments.dry_run else RESULTS)
    if folder is not None:
        write_json("roofline", {"machine": about, "rates": rate, "results": results}, folder)
        draw(results, rate, folder / "roofline.png")


if __name__ == "__main__":
    main()
