"""The Triton kernels of ``sheet_attention`` against their peers, on a GPU.

    python benchmarks/gpu_attention.py                 # all sizes, about ten minutes
    python benchmarks/gpu_attention.py --subdivisions 5 --dtypes bfloat16 --million 0
    TRITON_INTERPRET=1 python benchmarks/gpu_attention.py --dry-run    # toy sizes, on the CPU: that it runs

Forward and backward on icospheres with ``KNN(32)``, a learned bias per edge, B = 8, d = 32. Peers: scatter-softmax with
PyG's functions under ``torch.compile``; FlexAttention with a BlockMask made from the edges, which gets its tensors in
its own layout and in kd order for nothing; and ``triton_edges``, a kernel with one program per column as published
ones are. All are first checked against the float64 reference, output and gradients, on a small sheet.

The floor is the larger of two times: every number read or written once at this GPU's copy rate, and the multiply-adds
of the true edges at its matrix rate, both measured here. Last comes a training step on a sheet of a million columns.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import platform
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.utils import scatter, softmax

import colgraph as cg
from colgraph.layout import Layout
from colgraph.ops import sheet_attention

BATCH, QK_DIM = 8, 32
FLEX_BLOCK = 128
RESULTS = Path(__file__).parent / "results"


# ---------------------------------------------------------------------- problems and peers


@dataclass
class Problem:
    """Operands ``[N,B,1,*]`` and ``[E,1]``, and the gradient of the output."""

    layout: Layout
    query: Tensor
    key: Tensor
    value: Tensor
    edge_bias: Tensor
    grad_out: Tensor

    @classmethod
    def random(cls, layout: Layout, channels: int, dtype: torch.dtype, batch: int = BATCH) -> Problem:
        generator = torch.Generator(layout.device).manual_seed(0)

        def normal(*shape: int) -> Tensor:
            made = torch.randn(shape, generator=generator, device=layout.device, dtype=torch.float32)
            return made.to(dtype)

        n = layout.num_columns
        sizes = (QK_DIM, QK_DIM, channels)
        query, key, value = (normal(n, batch, 1, size).requires_grad_() for size in sizes)
        # Bias parameters stay in float32 when activations are in half precision.
        edge_bias = normal(layout.num_edges, 1).float().requires_grad_()
        return cls(layout, query, key, value, edge_bias, normal(n, batch, 1, channels))

    @property
    def leaves(self) -> list[Tensor]:
        return [self.query, self.key, self.value, self.edge_bias]

    @property
    def scale(self) -> float:
        return self.query.size(3) ** -0.5


@dataclass
class Pass:
    """One forward and backward pass: output and gradients of query, key, value and edge bias.

    ``columns_first`` brings a result from the peer's layout into ``[N,B,1,*]``; it is not timed.
    """

    run: Callable[[], list[Tensor]]
    columns_first: Callable[[Tensor], Tensor] = lambda tensor: tensor

    def __call__(self) -> list[Tensor]:
        return self.run()


def passes(problem: Problem, attention: Callable[..., tuple[Tensor, Any]]) -> Pass:
    """The pass of a function with the arguments of ``sheet_attention``."""

    def run() -> list[Tensor]:
        out, _ = attention(*problem.leaves, problem.layout, problem.scale)
        return [out, *torch.autograd.grad(out, problem.leaves, problem.grad_out)]

    return Pass(run)


def scatter_attention(
    query: Tensor, key: Tensor, value: Tensor, edge_bias: Tensor, layout: Layout, scale: float
) -> tuple[Tensor, None]:
    """Scatter-softmax with PyG's functions."""
    source, target = layout.source, layout.target
    score = (query[target] * key[source]).sum(-1) * scale + edge_bias[:, None, :].to(query.dtype)
    weight = softmax(score, target, num_nodes=layout.num_columns, dim=0)
    message = weight[..., None] * value[source]
    return scatter(message, target, dim=0, dim_size=layout.num_columns, reduce="sum"), None


def compiled_scatter(problem: Problem) -> Pass:
    return passes(problem, torch.compile(scatter_attention, fullgraph=True))


def triton_edges(problem: Problem) -> Pass:
    return passes(problem, functools.partial(sheet_attention, backend="triton_edges"))


def triton_tiles(problem: Problem) -> Pass:
    return passes(problem, functools.partial(sheet_attention, backend="triton_tiles"))


@dataclass
class FlexBlocks:
    """The edges as FlexAttention wants them: which blocks of 128 x 128 hold edges, and which edges."""

    order: Tensor
    kv_num_blocks: Tensor
    kv_indices: Tensor
    slot: Tensor
    edge: Tensor

    @classmethod
    def of(cls, layout: Layout) -> FlexBlocks:
        n, device = layout.num_columns, layout.device
        blocks = -(-n // FLEX_BLOCK)
        place = torch.empty(n, dtype=torch.int64, device=device)
        place[layout.order] = torch.arange(n, device=device)
        row, column = place[layout.target], place[layout.source]
        pair, which = torch.unique(row // FLEX_BLOCK * blocks + column // FLEX_BLOCK, return_inverse=True)
        edge = torch.full((pair.numel(), FLEX_BLOCK, FLEX_BLOCK), -1, dtype=torch.int32, device=device)
        edge[which, row % FLEX_BLOCK, column % FLEX_BLOCK] = torch.arange(row.numel(), device=device).int()
        slot = torch.zeros(blocks * blocks, dtype=torch.int32, device=device)
        slot[pair] = torch.arange(pair.numel(), device=device).int()
        count = torch.bincount(pair // blocks, minlength=blocks)
        position = torch.arange(pair.numel(), device=device) - (count.cumsum(0) - count)[pair // blocks]
        indices = torch.zeros(blocks, blocks, dtype=torch.int32, device=device)
        indices[pair // blocks, position] = (pair % blocks).int()
        return cls(layout.order, count.int()[None, None], indices[None, None], slot.view(blocks, blocks), edge)

    def edge_of(self, row: Tensor, column: Tensor) -> Tensor:
        """The edge id of a pair of columns in kd order. Pairs in blocks without edges never get here."""
        block = self.slot[row // FLEX_BLOCK, column // FLEX_BLOCK]
        return self.edge[block, row % FLEX_BLOCK, column % FLEX_BLOCK]


def flex_attention(problem: Problem) -> Pass:
    """FlexAttention. Columns are put in order before the clock starts."""
    from torch.nn.attention import flex_attention as flex

    blocks = FlexBlocks.of(problem.layout)
    n = problem.layout.num_columns
    bias = problem.edge_bias

    def ordered(tensor: Tensor) -> Tensor:
        return tensor.detach()[blocks.order].permute(1, 2, 0, 3).contiguous().requires_grad_(tensor.requires_grad)

    def mask(b: Tensor, h: Tensor, row: Tensor, column: Tensor) -> Tensor:
        return blocks.edge_of(row, column) >= 0

    def score(value: Tensor, b: Tensor, h: Tensor, row: Tensor, column: Tensor) -> Tensor:
        return value + bias[blocks.edge_of(row, column).clamp(min=0), 0]

    block_mask = flex.BlockMask.from_kv_blocks(
        blocks.kv_num_blocks, blocks.kv_indices, BLOCK_SIZE=FLEX_BLOCK, mask_mod=mask, seq_lengths=(n, n)
    )
    query, key, value, grad_out = map(ordered, (problem.query, problem.key, problem.value, problem.grad_out))
    attend = torch.compile(flex.flex_attention, fullgraph=True)

    def run() -> list[Tensor]:
        out = attend(query, key, value, score_mod=score, block_mask=block_mask, scale=problem.scale)
        return [out, *torch.autograd.grad(out, [query, key, value, bias], grad_out)]

    def columns_first(tensor: Tensor) -> Tensor:
        back = torch.empty_like(blocks.order)
        back[blocks.order] = torch.arange(n, device=back.device)
        return tensor.permute(2, 0, 1, 3)[back] if tensor.dim() == 4 else tensor

    return Pass(run, columns_first)


PEERS: dict[str, Callable[[Problem], Pass]] = {
    "compiled scatter": compiled_scatter,
    "FlexAttention": flex_attention,
    "triton_edges": triton_edges,
    "triton_tiles": triton_tiles,
}
OURS = ("triton_edges", "triton_tiles")


def largest_error(problem: Problem, results: list[Tensor]) -> float:
    """Largest error of output and gradients against the float64 reference, relative to the largest number of each."""
    tensors = (*problem.leaves, problem.grad_out)
    exact = Problem(problem.layout, *(t.detach().double().requires_grad_(t.requires_grad) for t in tensors))
    truths = passes(exact, functools.partial(sheet_attention, backend="reference"))()
    pairs = [(mine.detach().double(), truth.detach()) for mine, truth in zip(results, truths, strict=True)]
    return max(float((mine - truth).abs().max() / truth.abs().max()) for mine, truth in pairs)


def check_peers(
    layout: Layout, channels: int, dtypes: list[torch.dtype], peers: dict[str, Callable[[Problem], Pass]]
) -> list[str]:
    """Print each peer's error on a small sheet; the names of those that compute something else."""
    wrong = []
    for dtype in dtypes:
        allowed = 2e-3 if dtype == torch.float32 else 5e-2
        for name, make in peers.items():
            problem = Problem.random(layout, channels, dtype, batch=2)
            try:
                run = make(problem)
                results = [run.columns_first(tensor) for tensor in run()]
            except Exception as error:
                print(f"check {name}, {dtype}: {reason(error)}")
                continue
            off = largest_error(problem, results)
            print(f"check {name}, {dtype}: largest relative error {off:.1e}, allowed {allowed:.0e}")
            if not off <= allowed:
                wrong.append(name)
    return wrong


def dry_run() -> int:
    """Both kernels on a toy sheet in Triton's interpreter, which no backend of the public function takes."""
    from colgraph.ops.primitive import run
    from colgraph.ops.reference import Operands
    from colgraph.ops.triton_attention import choose

    toy = cg.build_sheet("sphere", subdivisions=1, neighbors=cg.KNN(8)).layout
    off = 0.0
    for name in OURS:

        def attend(query, key, value, bias, layout, scale, backend=name):  # type: ignore[no-untyped-def]
            return run(choose(backend, query, layout), Operands(query, key, value, bias, None, scale), layout)

        problem = Problem.random(toy, 16, torch.float32, batch=2)
        error = largest_error(problem, passes(problem, attend)())
        print(f"{name} in the interpreter: largest relative error {error:.1e}")
        off = max(off, error)
    return int(not off <= 2e-3)


# ---------------------------------------------------------------------- clocks


def reason(error: Exception) -> str:
    """Why a peer has no number, in one line."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return "out of memory"
    return f"failed: {type(error).__name__}: {str(error).strip().splitlines()[0][:90] if str(error).strip() else ''}"


def clock(run: Callable[[], Any], repeats: int = 20, warmup: int = 5) -> dict[str, float]:
    """Median and quartiles of milliseconds, and peak GB above what was there before."""
    for _ in range(warmup):
        run()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
    for start, end in events:
        start.record()
        run()
        end.record()
    torch.cuda.synchronize()
    times = [start.elapsed_time(end) for start, end in events]
    low, middle, high = statistics.quantiles(times, n=4)
    peak = (torch.cuda.max_memory_allocated() - before) / 1e9
    return {"ms": middle, "low": low, "high": high, "peak_gb": peak}


def copy_rate() -> float:
    """Bytes per second of a device-to-device copy, counting those read and those written."""
    a = torch.empty(2**28, dtype=torch.float32, device="cuda")
    b = torch.empty_like(a)
    return 2 * a.numel() * 4 / (clock(lambda: b.copy_(a))["ms"] / 1e3)


def matmul_rate(dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large matrix product."""
    size = 8192
    a, b = (torch.randn(size, size, device="cuda").to(dtype) for _ in range(2))
    return 2 * size**3 / (clock(lambda: a @ b, repeats=10)["ms"] / 1e3)


def floor_ms(problem: Problem, bytes_per_s: float, flops_per_s: float) -> float:
    """The least time forward and backward can take; see the top of this file."""
    n, b, h, d = problem.query.shape
    c, e = problem.value.size(3), problem.layout.num_edges
    rows = n * b * h * problem.query.element_size()
    # Forward: q, k, v, out. Backward: q, k, v, out and its gradient again, three gradients. Per edge: two ends (int32)
    # and, in float32, the bias twice and its gradient.
    moved = rows * (2 * d + 2 * c) + rows * (2 * d + 3 * c + 2 * d + c) + e * (2 * 4 + 3 * 4)
    # Forward: scores and sums. Backward: scores again, weight gradients, and the gradients of q, k and v.
    flops = 2 * e * b * h * ((d + c) + (3 * d + 2 * c))
    return 1e3 * max(moved / bytes_per_s, flops / flops_per_s)


# ---------------------------------------------------------------------- tables


def one_size(layout: Layout, channels: int, dtype: torch.dtype, rates: dict[str, float]) -> dict[str, Any]:
    """One row: every peer's time and peak memory, and the floor."""
    name = str(dtype).removeprefix("torch.")
    problem = Problem.random(layout, channels, dtype)
    row: dict[str, Any] = {
        "columns": layout.num_columns,
        "edges": layout.num_edges,
        "channels": channels,
        "dtype": name,
        "floor_ms": floor_ms(problem, rates["copy"], rates[name]),
    }
    for peer, make in PEERS.items():
        torch._dynamo.reset()
        torch.cuda.empty_cache()
        try:
            row[peer] = clock(make(problem))
        except Exception as error:
            row[peer] = reason(error)
    return row


def show(row: dict[str, Any]) -> None:
    """Print a row, then the ratios."""
    print(f"\nN = {row['columns']:,}, C = {row['channels']}, {row['dtype']}: floor {row['floor_ms']:.2f} ms")
    for peer in PEERS:
        cell = row[peer]
        if isinstance(cell, str):
            print(f"  {peer:18s} {cell}")
        else:
            print(
                f"  {peer:18s} {cell['ms']:8.2f} ms ({cell['low']:.2f} to {cell['high']:.2f}), "
                f"{cell['peak_gb']:.2f} GB, {cell['ms'] / row['floor_ms']:.1f} x floor"
            )
    ours = min((row[name]["ms"] for name in OURS if not isinstance(row[name], str)), default=None)
    others = {name: row[name]["ms"] for name in PEERS if name not in OURS and not isinstance(row[name], str)}
    if ours is not None:
        for name, ms in others.items():
            print(f"  the faster of ours is {ms / ours:.2f} x as fast as {name}")


def million_step(columns: int) -> dict[str, Any]:
    """One training step (forward, backward, AdamW) on a square grid of about ``columns`` columns."""
    side = round(columns**0.5)
    sheet = cg.build_sheet("grid", shape=(side, side), neighbors=cg.KNN(16))
    model = cg.Columnformer(sheet, dim=32, steps=4, num_heads=1, qk_dim=8, mlp_dim=8).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    x = torch.randn(sheet.num_columns, 2, 32, device="cuda")

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        unroll = model.unroll(x)
        (unroll.state.square().mean() + unroll.wiring_cost / sheet.spacing).backward()
        optimizer.step()

    torch.cuda.empty_cache()
    result: dict[str, Any] = clock(step, repeats=5, warmup=2)
    parameters = sum(p.numel() for p in model.parameters())
    result |= {
        "columns": sheet.num_columns,
        "parameters": parameters,
        "total_gb": torch.cuda.max_memory_allocated() / 1e9,
    }
    return result


def machine() -> dict[str, str]:
    packages = {name: version(name) for name in ("colgraph", "torch", "triton", "torch-geometric")}
    return {
        "device": torch.cuda.get_device_name(),
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
        **packages,
    }


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--subdivisions", type=int, nargs="+", default=[5, 6, 7], help="icospheres: 10, 41, 164 thousand"
    )
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 384])
    parser.add_argument(
        "--dtypes", nargs="+", default=["bfloat16", "float32"], choices=["bfloat16", "float16", "float32"]
    )
    parser.add_argument("--million", type=int, default=1_000_000, help="columns of the training step; 0 leaves it out")
    parser.add_argument("--dry-run", action="store_true", help="check our kernels at toy size on the CPU")
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu_attention.json")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.dry_run:
        return dry_run()
    if not torch.cuda.is_available():
        print("not measured: no CUDA device")
        return 0
    dtypes = [getattr(torch, name) for name in options.dtypes]
    report: dict[str, Any] = {"machine": machine(), "rows": []}
    print(", ".join(f"{key} {value}" for key, value in report["machine"].items()))
    small = cg.build_sheet("sphere", subdivisions=3, neighbors=cg.KNN(32)).layout.to("cuda")
    wrong = check_peers(small, 64, dtypes, PEERS)
    if wrong:
        print(f"not measured: {', '.join(wrong)} computes something else", file=sys.stderr)
        return 1
    rates = {"copy": copy_rate()} | {name: matmul_rate(getattr(torch, name)) for name in options.dtypes}
    report["rates"] = rates
    print(
        f"copy {rates['copy'] / 1e9:.0f} GB/s, "
        + ", ".join(f"{k} {rates[k] / 1e12:.0f} Tflop/s" for k in options.dtypes)
    )
    for subdivisions in options.subdivisions:
        sheet = cg.build_sheet("sphere", subdivisions=subdivisions, neighbors=cg.KNN(32))
        layout = sheet.layout.to("cuda")
        for channels in options.channels:
            for dtype in dtypes:
                report["rows"].append(one_size(layout, channels, dtype, rates))
                show(report["rows"][-1])
    if options.million:
        torch.cuda.empty_cache()
        try:
            report["million"] = million_step(options.million)
        except Exception as error:
            report["million"] = reason(error)
        print(f"\ntraining step on a million columns: {report['million']}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written to {options.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
