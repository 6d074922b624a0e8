"""A whole training step (forward, backward, AdamW) against the dense columnformer of equal sizes, on the CPU.

    python benchmarks/training_step.py        # about two minutes on two cores
    python benchmarks/training_step.py --only sphere

The dense model computes the same function: N x N attention with a bias that is minus infinity where there is no edge,
and linear maps by einsum. Before anything is timed, output and all gradients must agree. Rounds alternate between the
two, so that what else the machine does falls on both. Peak memory is measured in a fresh process each, above what the
process held after its imports and one step of a tiny model (which loads the compiled kernels).

The floor is what the machine could do at best: see ``_common.Floor``. The sphere is too large for the dense model and
is held against the floor alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from _common import (
    RESULTS,
    Floor,
    floor_of,
    fresh_process,
    machine,
    median_spread,
    peak_memory,
    print_floor,
    print_machine,
    rates,
    seconds,
    split_of,
    write_json,
)
from torch import Tensor, nn
from torch.nn import functional as F

import colgraph as cg


@dataclass(frozen=True)
class Case:
    """A problem and what is asked of it: the ratio of times, and of peak memory where one is asked."""

    geometry: str
    options: dict[str, Any]
    model: dict[str, int]
    batch: int
    faster: float | None
    memory: float | None
    rounds: int
    neighbors: str = "knn:32"


CASES = {
    "small": Case("stack", {"widths": [8] * 6}, {"dim": 384, "qk_dim": 64, "mlp_dim": 64, "steps": 6}, 8, 1.5, None, 5),
    "large": Case(
        "grid",
        {"shape": (64, 64), "num_inputs": 64},
        {"dim": 64, "qk_dim": 16, "mlp_dim": 32, "steps": 4},
        4,
        30,
        1 / 3,
        4,
    ),
    "sphere": Case(
        "sphere",
        {"subdivisions": 6, "num_inputs": 64},
        {"dim": 32, "qk_dim": 8, "mlp_dim": 16, "steps": 4},
        2,
        None,
        None,
        5,
        "knn:16",
    ),
}

# For dry runs of the scripts that measure these cases otherwise.
TOY = Case(
    "grid",
    {"shape": (4, 4), "num_inputs": 4},
    {"dim": 16, "qk_dim": 8, "mlp_dim": 8, "steps": 2},
    2,
    0.0,
    None,
    1,
    "knn:8",
)
FLOOR_ROUNDS = 9
TINY = Case("stack", {"widths": [2, 2]}, {"dim": 16, "qk_dim": 8, "mlp_dim": 8, "steps": 2}, 2, 0, None, 1, "complete")


class DenseColumnformer(nn.Module):
    """The same function of the same parameters, written for N x N attention."""

    def __init__(self, model: cg.Columnformer) -> None:
        super().__init__()
        self.steps, self.columns = model.steps, model.sheet.num_columns
        self.register_buffer("inputs", model.sheet.inputs)
        names = {n.removeprefix("block.").replace(".", "_"): p for n, p in model.named_parameters()}
        edge_bias = names.pop("attention_edge_bias")
        source, target = model.sheet.edge_index
        bias = torch.full((self.columns, self.columns), -torch.inf)
        bias[target, source] = edge_bias.detach()[:, 0]
        self.bias = nn.Parameter(bias)
        for name, parameter in names.items():
            setattr(self, name, nn.Parameter(parameter.detach().clone()))

    def linear(self, name: str, x: Tensor) -> Tensor:
        weight, bias = getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")
        return torch.einsum("nbc,noc->nbo", x, weight) + bias[:, None]

    def norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")
        return F.layer_norm(x, x.shape[-1:]) * weight[:, None] + bias[:, None]

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(self.columns, *x.shape[1:]).index_copy(0, self.inputs, x)
        state = state + self.position_embedding[:, None]
        for _ in range(self.steps):
            h = self.norm("norm1", state)
            query, key = self.linear("attention_query", h), self.linear("attention_key", h)
            score = torch.einsum("ibd,jbd->bij", query, key) * query.size(-1) ** -0.5 + self.bias
            y = state + torch.einsum("bij,jbc->ibc", score.softmax(-1), h)
            state = y + self.linear("mlp_fc2", F.gelu(self.linear("mlp_fc1", self.norm("norm2", y))))
        return state


class Trainer:
    """One model with its optimizer on one batch."""

    def __init__(self, model: nn.Module, x: Tensor, goal: Tensor) -> None:
        self.model, self.x, self.goal = model, x, goal
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def loss(self) -> Tensor:
        return F.mse_loss(self.model(self.x), self.goal)

    def gradients(self) -> Tensor:
        self.optimizer.zero_grad()
        out = self.model(self.x)
        F.mse_loss(out, self.goal).backward()
        return out.detach()

    def step(self) -> None:
        self.gradients()
        self.optimizer.step()


def make(case: Case, kinds: tuple[str, ...]) -> dict[str, Trainer]:
    """Trainers by name, "colgraph" and "dense", with the same parameters and data."""
    torch.manual_seed(0)
    sheet = cg.build_sheet(case.geometry, neighbors=case.neighbors, **case.options)
    model = cg.Columnformer(sheet, **case.model)
    x = torch.randn(sheet.inputs.numel(), case.batch, model.dim)
    goal = torch.randn(sheet.num_columns, case.batch, model.dim)
    models: dict[str, nn.Module] = {}
    if "dense" in kinds:
        models["dense"] = DenseColumnformer(model)
    if "colgraph" in kinds:
        models["colgraph"] = model
    del model
    return {name: Trainer(net, x, goal) for name, net in models.items()}


def check(ours: Trainer, dense: Trainer, allowed: float = 1e-4) -> float:
    """The largest difference of output and gradients, each relative to the largest gradient norm (or output)."""
    out, expected = ours.gradients(), dense.gradients()
    worst = float((out - expected).abs().max() / expected.abs().max())
    theirs = {name: p.grad for name, p in dense.model.named_parameters()}
    source, target = ours.model.sheet.edge_index  # type: ignore[union-attr]
    theirs["attention_edge_bias"] = theirs.pop("bias")[target, source][:, None]  # type: ignore[index]
    largest = max(float(g.norm()) for g in theirs.values() if g is not None)
    for name, parameter in ours.model.named_parameters():
        grad = theirs[name.removeprefix("block.").replace(".", "_")]
        worst = max(worst, float((parameter.grad - grad).norm()) / largest)  # type: ignore[operator]
    if not worst < allowed:
        raise SystemExit(f"the dense model computes something else: relative difference {worst:.2g}")
    return worst


def memory_of(name: str, kind: str) -> dict[str, float]:
    """Bytes above imports at the peak of two training steps; run in a process of its own."""
    make(TINY, (kind,))[kind].step()
    before = psutil.Process().memory_info().rss
    trainer = make(CASES[name], (kind,))[kind]
    for _ in range(2):
        trainer.step()
    peak = peak_memory()
    return {"bytes": peak - before}


def against_floor(ours: Trainer, batch: int) -> dict[str, Any]:
    """The floor, its two parts, how many times it was measured, and the split of a step: medians of rounds.

    Each round measures the machine's rates and then a step: on a shared machine memory may be half as fast again from
    one minute to the next.
    """
    floors, splits = [], []
    for _ in range(FLOOR_ROUNDS):
        floors.append(floor_of(ours.model, batch, rates(2)))  # type: ignore[arg-type]
        ours.step()  # finds in the caches what a step leaves there
        splits.append(split_of(ours.loss, ours.optimizer, 1))
    multiples = [sum(split.values()) / floor.seconds for split, floor in zip(splits, floors, strict=True)]
    floor = Floor(statistics.median(f.moving for f in floors), statistics.median(f.multiplying for f in floors))
    split = {part: statistics.median(split[part] for split in splits) for part in splits[0]}
    measured = statistics.median(multiples) * floor.seconds
    print_floor(floor, split, measured)
    print(f"  between {min(multiples):.2f} and {max(multiples):.2f} in {FLOOR_ROUNDS} rounds")
    return {"floor": floor.of(measured) | {"rounds": multiples}, "split": split}


def run_alone(name: str, case: Case) -> dict[str, Any]:
    """A case that has no dense peer."""
    ours = make(case, ("colgraph",))["colgraph"]
    sheet = ours.model.sheet
    print(f"\n{name}: N = {sheet.num_columns}, E = {sheet.num_edges}, B = {case.batch}, {case.model}")
    ours.step()
    times = [seconds(ours.step) for _ in range(3 * case.rounds)]
    print(f"  {'colgraph':10} {median_spread(times)}")
    sizes = {"model": case.model, "batch": case.batch, "columns": sheet.num_columns, "edges": sheet.num_edges}
    return sizes | {"seconds": {"colgraph": times}} | against_floor(ours, case.batch)


def run_case(name: str, case: Case) -> dict[str, Any]:
    if case.faster is None:
        return run_alone(name, case)
    trainers = make(case, ("colgraph", "dense"))
    ours, dense = trainers["colgraph"], trainers["dense"]
    difference = check(ours, dense)
    sheet = ours.model.sheet
    print(f"\n{name}: N = {sheet.num_columns}, E = {sheet.num_edges}, B = {case.batch}, {case.model}")
    ours.step()
    dense.step()
    times: dict[str, list[float]] = {"colgraph": [], "dense": []}
    ratios = []
    for _ in range(case.rounds):
        mine = [seconds(ours.step) for _ in range(3)]
        other = seconds(dense.step)
        times["colgraph"] += mine
        times["dense"].append(other)
        ratios.append(other / statistics.median(mine))
    del trainers, dense
    held = against_floor(ours, case.batch)
    del ours
    memory = {kind: fresh_process(__file__, "--memory", name, kind)["bytes"] for kind in times}
    for kind, spent in times.items():
        print(f"  {kind:10} {median_spread(spent)}, peak memory {memory[kind] / 2**20:8,.0f} MiB above imports")
    ratio, share = statistics.median(ratios), memory["colgraph"] / memory["dense"]
    wanted = "" if case.memory is None else f" (at most {case.memory:.2f})"
    print(f"  {ratio:.1f} times faster (at least {case.faster:g}), {share:.2f} of the memory{wanted}")
    return {
        "model": case.model,
        "batch": case.batch,
        "columns": sheet.num_columns,
        "edges": sheet.num_edges,
        "seconds": times,
        "times_faster": ratio,
        "target": case.faster,
        "peak_bytes": memory,
        "memory_share": share,
        "difference": difference,
        **held,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0], allow_abbrev=False)
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES), help="which problems")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for training_step.json")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        print(json.dumps(memory_of(*arguments.memory)))
        return
    about = machine()
    print("training step: forward, backward, AdamW(fused=True), float32")
    print_machine(about)
    rate = rates()
    print(f"copy {rate['copy'] / 1e9:.1f} GB/s, matrix product {rate['sgemm'] / 1e9:.0f} GF/s")
    results = {name: run_case(name, CASES[name]) for name in arguments.only}
    write_json("training_step", {"machine": about, "rates": rate, "cases": results}, arguments.out)


if __name__ == "__main__":
    main()
