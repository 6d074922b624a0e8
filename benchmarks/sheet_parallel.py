"""One sheet on one, two and four processes of one thread each: training steps timed in turn, and predicted.

    python benchmarks/sheet_parallel.py                 # 40,962 columns, about two minutes on two cores
    python benchmarks/sheet_parallel.py --subdivisions 5 --rounds 3

All processes are started at once and wait; rounds let every group train one step in turn. A round counts if every
group got at least 85% of the cores it can use, in CPU time; others were disturbed by other programs. One process runs
the plain model; that the groups compute the same is checked before anything is timed. A step is forward, backward and
AdamW.

The prediction for R processes: each part's step timed alone, with nothing sent, times R / cores where processes share
cores; plus 2 T exchanges, forward and backward, of the halo's size, each timed on an idle sheet (so: no overlap is
counted on). See docs/scaling.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.distributed as dist
from torch import Tensor

import colgraph as cg
from colgraph.distributed import SheetParallel, make_mesh

RESULTS = Path(__file__).parent / "results"
SIZES = {"dim": 32, "qk_dim": 8, "mlp_dim": 16, "steps": 4}
BATCH, INPUTS = 4, 64
GROUPS = (1, 2, 4)


class NoTraffic:
    """In place of an exchange's route: nothing is sent, zeros are received."""

    def __init__(self, route: Any) -> None:
        self.send, self.receive = route.send, route.receive

    def all_to_all(self, rows: Tensor, back: bool, in_background: bool) -> tuple[Tensor, Any]:
        return rows.new_zeros(sum(self.send if back else self.receive), *rows.shape[1:]), self

    def wait(self) -> None:
        pass


class Worker:
    """One process of a group."""

    def __init__(self, rank: int, world: int, port: int, subdivisions: int) -> None:
        torch.set_num_threads(1)
        sheet = cg.build_sheet("sphere", subdivisions=subdivisions, neighbors=cg.KNN(16), num_inputs=INPUTS)
        torch.manual_seed(0)
        self.part: SheetParallel | None = None
        if world == 1:
            self.model: torch.nn.Module = cg.Columnformer(sheet, **SIZES)
        else:
            store = dist.PrefixStore(f"group-{world}", dist.TCPStore("127.0.0.1", port, is_master=False))
            dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
            self.model = self.part = SheetParallel(sheet, make_mesh(), **SIZES)
        self.adam = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)
        self.x = torch.randn(INPUTS, BATCH, SIZES["dim"], generator=torch.Generator().manual_seed(1))

    def step(self) -> dict[str, float]:
        """One training step: seconds and CPU seconds."""
        start, busy = time.perf_counter(), time.process_time()
        self.adam.zero_grad()
        self.model(self.x).square().mean().backward()
        self.adam.step()
        return {"seconds": time.perf_counter() - start, "cpu": time.process_time() - busy}

    def alone(self) -> dict[str, float]:
        """The same with nothing sent."""
        if self.part is None:
            return self.step()
        exchange = self.part.block.attention.exchange
        route, exchange._route = exchange._route, NoTraffic(exchange._route)
        try:
            return self.step()
        finally:
            exchange._route = route

    def exchange(self) -> dict[str, float]:
        """One exchange of the halo's size, forward: seconds, and the bytes received."""
        if self.part is None:
            return {"seconds": 0.0, "bytes": 0.0}
        exchange = self.part.block.attention.exchange
        width = SIZES["qk_dim"] + SIZES["dim"]
        rows = torch.randn(sum(exchange._route.send), BATCH, width)
        repeats = 20
        dist.barrier()
        start = time.perf_counter()
        for _ in range(repeats):
            _, work = exchange._route.all_to_all(rows, False, True)
            work.wait()
        return {
            "seconds": (time.perf_counter() - start) / repeats,
            "bytes": 4.0 * BATCH * width * sum(exchange._route.receive),
        }

    def sizes(self) -> dict[str, float]:
        """Columns, halo columns and parameters of this part."""
        own = INPUTS if self.part is None else self.part.num_columns
        halo = 0 if self.part is None else self.part.local.num_halo
        return {"columns": own, "halo": halo, "parameters": sum(p.numel() for p in self.model.parameters())}

    def answer(self) -> dict[str, float]:
        """The sum of squares of the whole sheet's state: equal for all groups."""
        with torch.no_grad():
            state = self.model(self.x)
            total = state.double().square().sum()
            if self.part is not None:
                dist.all_reduce(total)
        return {"answer": float(total)}


def serve(rank: int, world: int, port: int, subdivisions: int, tasks: Any, answers: Any) -> None:
    worker = Worker(rank, world, port, subdivisions)
    while (task := tasks.get()) is not None:
        answers.put((rank, getattr(worker, task)()))
    if world > 1:
        dist.destroy_process_group()


class Group:
    """So many processes that share a sheet."""

    def __init__(self, context: Any, world: int, port: int, subdivisions: int) -> None:
        self.world = world
        self.answers = context.Queue()
        self.tasks = [context.Queue() for _ in range(world)]
        self.processes = [
            context.Process(target=serve, args=(rank, world, port, subdivisions, tasks, self.answers), daemon=True)
            for rank, tasks in enumerate(self.tasks)
        ]
        for process in self.processes:
            process.start()

    def all(self, task: str) -> list[dict[str, float]]:
        """What every rank answers, all at once."""
        for tasks in self.tasks:
            tasks.put(task)
        return [answer for _, answer in sorted((self.answers.get(timeout=300) for _ in self.tasks), key=lambda a: a[0])]

    def one_by_one(self, task: str) -> list[dict[str, float]]:
        """What every rank answers, while the others wait."""
        answers = []
        for tasks in self.tasks:
            tasks.put(task)
            answers.append(self.answers.get(timeout=300)[1])
        return answers

    def close(self) -> None:
        for tasks in self.tasks:
            tasks.put(None)
        for process in self.processes:
            process.join(10)


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure(groups: dict[int, Group], rounds: int, tries: int) -> dict[int, dict[str, list[float]]]:
    """Seconds by group: of a step (that of the slowest rank), of a part alone (its slowest part), of an exchange."""
    times: dict[int, dict[str, list[float]]] = {
        world: {"step": [], "cpu": [], "alone": [], "exchange": []} for world in groups
    }
    for group in groups.values():
        group.all("step")  # kernels are compiled, memory is touched
        group.one_by_one("alone")
    for _ in range(tries):
        steps = {world: group.all("step") for world, group in groups.items()}
        parts = {world: group.one_by_one("alone") for world, group in groups.items()}
        exchanges = {world: group.all("exchange") for world, group in groups.items()}
        wall = {world: max(answer["seconds"] for answer in answers) for world, answers in steps.items()}
        busy = {world: sum(answer["cpu"] for answer in answers) for world, answers in steps.items()}
        if any(busy[world] < 0.85 * wall[world] * min(world, cores()) for world in groups):
            continue
        for world in groups:
            times[world]["step"].append(wall[world])
            times[world]["cpu"].append(busy[world])
            times[world]["alone"].append(max(answer["seconds"] for answer in parts[world]))
            times[world]["exchange"].append(max(answer["seconds"] for answer in exchanges[world]))
        if len(times[1]["step"]) == rounds:
            break
    print(f"{len(times[1]['step'])} undisturbed rounds")
    return times


def summarize(times: dict[int, dict[str, list[float]]], sizes: dict[int, list[dict[str, float]]]) -> dict[str, Any]:
    """Medians, the ratio to one process round by round, and the prediction."""
    table = {}
    for world, found in times.items():
        step = statistics.median(found["step"])
        alone, exchange = statistics.median(found["alone"]), statistics.median(found["exchange"])
        predicted = alone * max(1.0, world / cores()) + 2 * SIZES["steps"] * exchange
        ratios = [one / several for one, several in zip(times[1]["step"], found["step"])]
        table[str(world)] = {
            "columns_per_rank": [int(size["columns"]) for size in sizes[world]],
            "halo_columns_per_rank": [int(size["halo"]) for size in sizes[world]],
            "step_seconds": step,
            "step_spread": [min(found["step"]), max(found["step"])],
            "faster_than_one": statistics.median(ratios),
            "part_alone_seconds": alone,
            "exchange_seconds": exchange,
            "predicted_seconds": predicted,
            "predicted_to_measured": predicted / step,
        }
    return table


def print_table(table: dict[str, Any]) -> None:
    print("\n| processes | columns each | halo each | step | faster | part alone | exchange | predicted | / measured |")
    print("|---|---|---|---|---|---|---|---|---|")
    for world, row in table.items():
        low, high = row["step_spread"]
        print(
            f"| {world} | {max(row['columns_per_rank']):,} | {max(row['halo_columns_per_rank']):,} "
            f"| {row['step_seconds'] * 1e3:.0f} ms ({low * 1e3:.0f} to {high * 1e3:.0f}) "
            f"| {row['faster_than_one']:.2f} x | {row['part_alone_seconds'] * 1e3:.0f} ms "
            f"| {row['exchange_seconds'] * 1e3:.2f} ms | {row['predicted_seconds'] * 1e3:.0f} ms "
            f"| {row['predicted_to_measured']:.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0], allow_abbrev=False)
    parser.add_argument("--subdivisions", type=int, default=6, help="of the icosphere; 6 gives 40,962 columns")
    parser.add_argument("--rounds", type=int, default=7, help="undisturbed rounds in which every group takes its turn")
    parser.add_argument("--tries", type=int, default=30, help="rounds at most, disturbed ones included")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for sheet_parallel.json")
    arguments = parser.parse_args()
    about = {
        "date": date.today().isoformat(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        **{name: version(name) for name in ("torch", "torch-geometric", "numba", "numpy")},
    }
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch_geometric", "colgraph.distributed"])
    store = dist.TCPStore("127.0.0.1", 0, is_master=True)
    groups = {world: Group(context, world, store.port, arguments.subdivisions) for world in GROUPS}
    answers = {world: group.all("answer")[0]["answer"] for world, group in groups.items()}
    for world, answer in answers.items():
        if abs(answer / answers[1] - 1) > 1e-5:
            raise SystemExit(f"{world} processes compute {answer}, one computes {answers[1]}")
    sizes = {world: group.all("sizes") for world, group in groups.items()}
    for size in sizes[1]:
        size["columns"] = sum(s["columns"] for s in sizes[2])
    times = measure(groups, arguments.rounds, arguments.tries)
    if not times[1]["step"]:
        raise SystemExit("no undisturbed round: other programs keep the cores busy")
    table = summarize(times, sizes)
    print_table(table)
    print("\ntargets: two processes at least 1.7 times faster than one; predicted within 30% of measured")
    for group in groups.values():
        group.close()
    arguments.out.mkdir(parents=True, exist_ok=True)
    report = {"machine": about, "sizes": {**SIZES, "batch": BATCH}, "processes": table, "rounds": times}
    (arguments.out / "sheet_parallel.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
