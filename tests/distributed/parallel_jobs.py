"""What test processes do: every function here is a job of one rank. Results are plain numbers."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from small_sheets import GRAPHS, directed, hub, knn
from torch import Tensor, nn

import colgraph as cg
from colgraph.distributed import (
    Partition,
    SheetParallel,
    distribute,
    load_checkpoint,
    make_mesh,
    partition_sheet,
    replicate,
    save_checkpoint,
)
from colgraph.distributed.rows import row_kinds, take_rows
from colgraph.sheet import Sheet

C, B, STEPS = 6, 2, 3


def serve(rank: int, port: int, tasks: Any, answers: Any) -> None:
    """Run jobs until None comes."""
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, is_master=False)
    while (task := tasks.get()) is not None:
        job, world, name, options = task
        dist.init_process_group(
            "gloo",
            store=dist.PrefixStore(f"job-{job}", store),
            rank=rank,
            world_size=world,
            timeout=timedelta(seconds=30),
        )
        try:
            job_of = globals().get(name) or getattr(importlib.import_module("module_jobs"), name)
            value = job_of(**options)
        except Exception as error:
            value = error
        answers.put((job, rank, value))
        with suppress(RuntimeError):
            dist.destroy_process_group()


# ---------------------------------------------------------------------- the same answer


OPTIONS: dict[str, Any] = {"dim": C, "steps": STEPS, "qk_dim": 3, "mlp_dim": 5, "time_embedding": True}


def _plain(sheet: Sheet, kind: torch.dtype = torch.float64, **options: Any) -> cg.Columnformer:
    torch.manual_seed(0)
    return cg.Columnformer(sheet, **(OPTIONS | options)).to(kind)


def _vision(
    sheet: Sheet, readout: str = "mean", head: str = "linear", seen: dict[str, Any] | None = None, **options: Any
) -> cg.VisionColumnformer:
    model, sizes = _plain(sheet, **options), {"image_size": 6, "patch_size": 2, "in_channels": 2, "num_classes": 4}
    return cg.VisionColumnformer(model, **(sizes | (seen or {})), readout=readout, head=head).to(torch.float64)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _uneven(sheet: Sheet, parts: int) -> Partition:
    """The first part holds nearly all columns, the others one each."""
    return partition_sheet(sheet, parts, torch.arange(sheet.num_columns).clamp(max=parts - 1).flip(0))


def agreement(different: str) -> str:
    """What a rank is told when the last one brings something else."""
    last = dist.get_rank() == dist.get_world_size() - 1
    sheet, options, partition = knn(), dict(OPTIONS), None
    if last and different == "sheet":
        sheet = hub()
    if last and different == "geometry":
        sheet = sheet.clone()
        sheet.pos = sheet.pos * 2
    if last and different == "configuration":
        options["mlp_dim"] = 7
    if different == "partition":
        partition = partition_sheet(
            sheet, dist.get_world_size(), torch.arange(42) % 2 if last else torch.arange(42) // 21
        )
    if different == "number of parts":
        partition = partition_sheet(sheet, 5)
    try:
        SheetParallel(sheet, make_mesh(), partition, **options)
    except ValueError as error:
        return str(error)
    return ""


def crowd() -> str:
    """More ranks than columns."""
    sheet = cg.build_sheet("ring", columns=2, neighbors=cg.KNN(1))
    try:
        distribute(cg.Columnformer(sheet, dim=4), make_mesh())
    except ValueError as error:
        return str(error)
    return ""


def bad_input() -> list[str]:
    """Inputs and calls that cannot be."""
    part = distribute(_plain(knn()), make_mesh())
    tries: list[Callable[[], Any]] = [
        lambda: part(torch.zeros(5, B, C)),
        lambda: part.unroll(None, state=torch.zeros(42, B, C)),
        lambda: part.unroll(None),
        lambda: distribute(nn.Linear(2, 2), make_mesh()),
        lambda: distribute(part, make_mesh()),
        lambda: make_mesh(sheet=5),
        lambda: part.load_state_dict(_plain(hub()).state_dict()),
    ]
    messages = []
    for attempt in tries:
        try:
            attempt()
            messages.append("")
        except (ValueError, RuntimeError) as error:
            messages.append(str(error))
    return messages


def inputs_of_all_columns() -> dict[str, float]:
    """An input for every column, where that is more than the input columns, and a sequence of inputs."""
    errors = {}
    plain = _plain(knn())
    part = distribute(plain, make_mesh())
    x = _random(42, B, C)
    errors["all columns"] = _largest(part(x), plain(x)[part.local.columns])
    plain = _plain(knn(), inject="sequence")
    part = distribute(plain, make_mesh())
    x = _random(STEPS, 9, B, C)
    errors["sequence"] = _largest(part(x), plain(x)[part.local.columns])
    everywhere = knn()
    everywhere.input_rank = torch.randperm(42, generator=torch.Generator().manual_seed(0))
    plain = _plain(everywhere)
    part = distribute(plain, make_mesh())
    x = _random(42, B, C)
    errors["all are inputs"] = _largest(part(x), plain(x)[part.local.columns])
    return errors


def _largest(first: Tensor, second: Tensor) -> float:
    return float((first - second).detach().abs().max()) if first.numel() else 0.0


def _compare(plain: nn.Module, part: nn.Module, what: Callable[[Tensor], Tensor | None]) -> float:
    """The largest difference of parameters, or of their gradients, over the rows that are here."""
    core = part if isinstance(part, SheetParallel) else part.model
    whole = {name: what(p) for name, p in plain.named_parameters()}
    wanted = take_rows({n: v for n, v in whole.items() if v is not None}, row_kinds(part), core.local)
    found = {name: what(p) for name, p in part.named_parameters()}
    return max(_largest(found[name], value) for name, value in wanted.items())


def same_answer(graph: str, cut: str = "space", eps: float = 1e-8, **options: Any) -> dict[str, float]:
    """Ten AdamW steps of a plain model and of its parts: the largest differences over own rows."""
    sheet, count = GRAPHS[graph](), dist.get_world_size()
    plain = _plain(sheet, **options)
    partition = _uneven(sheet, count) if cut == "uneven" else partition_sheet(sheet, count, cut)
    part = distribute(plain, make_mesh(), partition)
    target = _random(sheet.num_columns, B, C, seed=1)
    adams = [torch.optim.AdamW(m.parameters(), lr=0.01, eps=eps) for m in (plain, part)]
    errors = {}
    for step in range(10):
        x = _random(sheet.inputs.numel(), B, C, seed=2 + step)
        inputs = [x.clone().requires_grad_() for _ in range(2)]
        whole, own = plain.unroll(inputs[0]), part.unroll(inputs[1])
        losses = [(whole.state * target).sum(), (own.state * target[part.local.columns]).sum()]
        for adam, loss, out in zip(adams, losses, (whole, own)):
            adam.zero_grad()
            (loss + 3 * out.wiring_cost).backward()
        if step == 0:
            largest = max(float(p.grad.norm()) for p in plain.parameters())
            errors = {
                "output": _largest(own.state, whole.state[part.local.columns]),
                "cost": _largest(own.wiring_cost, whole.wiring_cost),
                "gathered": _largest(part.gather(own.state), whole.state),
                "input gradient": _largest(inputs[0].grad, inputs[1].grad),
                "gradient": _compare(plain, part, lambda p: p.grad) / largest,
            }
        for adam in adams:
            adam.step()
    return errors | {"parameters": _compare(plain, part, lambda p: p.data)}


def same_vision(data: int, readout: str = "mean", **options: Any) -> dict[str, float]:
    """The same for the vision model on a mesh of replicas and parts, images requiring a gradient."""
    net = _vision(knn(), readout, **options)
    mesh = make_mesh(data=data)
    part = distribute(net, mesh)
    replica = replicate(part, mesh)
    adams = [torch.optim.AdamW(m.parameters(), lr=0.01) for m in (net, part)]
    label = torch.arange(4)
    mine = slice(mesh["data"].get_local_rank() * 4 // data, (mesh["data"].get_local_rank() + 1) * 4 // data)
    errors = {}
    for step in range(10):
        images = _random(4, 2, 6, 6, seed=step).requires_grad_()
        own_images = images.detach()[mine].requires_grad_()
        logits, own_logits = net(images), replica(own_images)
        for adam in adams:
            adam.zero_grad()
        # Answers of columns are [B, outputs, classes]; what is right is the same for all columns.
        for said, right in ((logits, label), (own_logits, label[mine])):
            classes = said.flatten(1, -2) if said.dim() > 2 else said.unsqueeze(1)
            columns = classes.size(1)
            nn.functional.cross_entropy(classes.flatten(0, 1), right.repeat_interleave(columns)).backward()
        if step == 0:
            errors = {
                "logits": _largest(own_logits, logits[mine]),
                "image gradient": _largest(own_images.grad / data, images.grad[mine]),
                "gradient": _compare(net, part, lambda p: p.grad),
            }
        for adam in adams:
            adam.step()
    return errors | {"parameters": _compare(net, part, lambda p: p.data)}


def vision_unroll() -> dict[str, float]:
    """Recorded states, attention, logits and wiring cost; going on from a state; the wiring cost as the only loss."""
    net = _vision(knn())
    part = distribute(net, make_mesh())
    images = _random(2, 2, 6, 6)
    whole, own = (m.unroll(images, record=("state", "attention", "heard", "hidden")) for m in (net, part))
    core = part.model
    more = [m.unroll(None, state=out.state, steps=2) for m, out in ((net, whole), (part, own))]
    for m in (net, part):
        m.unroll(images).wiring_cost.backward()
    return {
        "states": _largest(core.gather(own.states, dim=1), whole.states),
        "hidden": _largest(core.gather(own.hidden, dim=1), whole.hidden),
        "heard": _largest(core.gather(own.heard, dim=1), whole.heard),
        "evidence": _largest(core.gather(part.evidence(own.state)), net.evidence(whole.state)),
        "attention": _largest(own.attention, whole.attention[:, core.local.edges]),
        "step logits": _largest(own.step_logits, whole.step_logits),
        "cost": _largest(own.wiring_cost, whole.wiring_cost),
        "going on": _largest(more[1].logits, more[0].logits),
        "gradient of the cost": _compare(net, part, lambda p: p.grad),
    }


def hidden_gradient(**options: Any) -> dict[str, float]:
    """A loss of recorded hidden units, each rank's of its own columns."""
    net = _vision(knn(), **options)
    part = distribute(net, make_mesh())
    images = _random(2, 2, 6, 6)
    for m in (net, part):
        m.unroll(images, record=("hidden",)).hidden[-1].square().sum().backward()
    return {"gradient": _compare(net, part, lambda p: p.grad)}


def same_start(untied: str) -> dict[str, float]:
    """A model built in parts holds what the whole one, built from the same seed, holds."""
    sheet = knn()
    errors = {}
    plain = _plain(sheet, torch.float32, untied=untied)
    after = torch.rand(1)
    torch.manual_seed(0)
    part = SheetParallel(sheet, make_mesh(), **(OPTIONS | {"untied": untied}))
    errors["parameters"] = _compare(plain, part, lambda p: p.data)
    errors["random generator"] = _largest(after, torch.rand(1))
    errors["edge cost"] = _largest(part.edge_cost, plain.edge_cost[part.local.edges])
    return errors


def compiled() -> dict[str, float]:
    """Output and gradients of a compiled model, in one graph, against the eager one."""
    part = distribute(_vision(directed(), steps=2), make_mesh())
    fast = torch.compile(part, backend="aot_eager", fullgraph=True)
    images = _random(2, 2, 6, 6)
    results = []
    for model in (part, fast):
        part.zero_grad()
        logits = model(images)
        logits.square().sum().backward()
        results.append((logits, {n: p.grad.clone() for n, p in part.named_parameters()}))
    (logits, grads), (fast_logits, fast_grads) = results
    return {
        "logits": _largest(logits, fast_logits),
        "gradient": max(_largest(grads[name], fast_grads[name]) for name in grads),
    }


_COLLECTIVES = (
    *("all_to_all_single", "all_to_all", "all_reduce", "all_gather", "all_gather_into_tensor", "all_gather_object"),
    *("broadcast", "broadcast_object_list", "reduce", "reduce_scatter", "reduce_scatter_tensor", "gather", "scatter"),
    *("send", "recv", "isend", "irecv", "batch_isend_irecv"),
)


class _Counter:
    """Bytes that this rank hands to collectives or gets from them, by name of the collective."""

    def __init__(self) -> None:
        self.bytes: dict[str, list[int]] = {}

    def __enter__(self) -> dict[str, list[int]]:
        self._real = {name: getattr(dist, name) for name in _COLLECTIVES}
        for name, function in self._real.items():
            setattr(dist, name, self._counting(name, function))
        return self.bytes

    def __exit__(self, *_: Any) -> None:
        for name, function in self._real.items():
            setattr(dist, name, function)

    def _counting(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def count(first: Any, *arguments: Any, **options: Any) -> Any:
            assert isinstance(first, Tensor), name
            self.bytes.setdefault(name, []).append(first.numel() * first.element_size())
            return function(first, *arguments, **options)

        return count


def traffic(graph: str = "knn", **options: Any) -> dict[str, Any]:
    """What travels in a forward pass and in a backward pass, and what the partition's report predicts."""
    sheet = GRAPHS[graph]()
    # Columns up to 9 and the others are what "disconnected" has for pieces.
    partition = partition_sheet(sheet, 2, (torch.arange(23) > 9).long()) if graph == "disconnected" else None
    part = distribute(_plain(sheet, torch.float32, time_embedding=False, **options), make_mesh(), partition)
    adam = torch.optim.AdamW(part.parameters())
    x = torch.randn(9, B, C)
    with _Counter() as forward:
        out = part.unroll(x)
    with _Counter() as backward:
        (out.state.sum() + out.wiring_cost).backward()
        adam.step()
    sizes = {"dim": C, "qk_dim": 3, "batch": B, "heads": part.block.attention.num_heads}
    report = part.partition.bytes_per_step(**sizes)
    sends = part.block.attention.exchange.send_index.numel()
    shared = sum(p.numel() for n, p in part.named_parameters() if n not in row_kinds(part))
    return {
        "forward": forward,
        "backward": backward,
        "predicted": int(report[dist.get_rank()]),
        "from model": part.halo_bytes_per_step(B)[dist.get_rank()],
        "sends": sends,
        "halo": part.local.halo.tolist(),
        "own": part.local.columns.tolist(),
        "shared": shared,
    }


def overlap(backend: str) -> list[str]:
    """In which order a forward and a backward pass of one step send, compute and receive."""
    from colgraph.distributed.exchange import Flight, HaloExchange
    from colgraph.ops.primitive import LayoutAttention

    part = distribute(_plain(knn(), torch.float32, steps=1, backend=backend), make_mesh())
    done: list[str] = []

    def noting(owner: Any, name: str, word: str) -> Callable[[], None]:
        real = getattr(owner, name)

        def note(*arguments: Any, **options: Any) -> Any:
            done.append(word)
            return real(*arguments, **options)

        setattr(owner, name, note)
        return lambda: setattr(owner, name, real)

    undo = [
        noting(HaloExchange, "depart", "send"),
        noting(HaloExchange, "send_back", "send"),
        noting(Flight, "land", "receive"),
        noting(LayoutAttention, "forward", "attend"),
        noting(LayoutAttention, "backward", "attend"),
    ]
    try:
        part(torch.randn(9, B, C)).sum().backward()
    finally:
        for put_back in undo:
            put_back()
    return done


def autocast() -> dict[str, float]:
    """Half precision travels as such, and the error is that of half precision without a cut."""
    sheet = knn()
    plain = _plain(sheet, torch.float32)
    part = distribute(plain, make_mesh())
    x = torch.randn(9, B, C, generator=torch.Generator().manual_seed(0))
    exact = plain(x)
    with torch.autocast("cpu", torch.bfloat16), _Counter() as traffic:
        whole, own = plain(x), part(x)
    own.float().sum().backward()
    return {
        "own error": _largest(own.float(), exact[part.local.columns]),
        "whole error": _largest(whole.float(), exact),
        "gradient": float(part.block.mlp.fc1.weight.grad.norm()),
        "bytes": float(sum(traffic["all_to_all_single"])),
        "expected": float(STEPS * part.halo_bytes_per_step(B, "bfloat16")[dist.get_rank()]),
    }


def float32(graph: str, **options: Any) -> dict[str, float]:
    """Errors of one process and of several against float64, with the kernels of ``backend="auto"``: ten AdamW steps.

    AdamW divides gradients by their own size, down to its eps: a small one would turn rounding into steps.
    """
    sheet = GRAPHS[graph]()
    exact, single = _plain(sheet, torch.float64, **options), _plain(sheet, torch.float32, **options)
    part = distribute(single, make_mesh())
    target = _random(sheet.num_columns, B, C, seed=4)
    models = ((exact, slice(None)), (single, slice(None)), (part, part.local.columns))
    adams = [torch.optim.AdamW(model.parameters(), lr=0.01, eps=1e-3) for model, _ in models]
    errors: dict[str, float] = {}
    for step in range(10):
        x, states = _random(9, B, C, seed=5 + step), []
        for (model, columns), adam in zip(models, adams):
            kind = model.edge_cost.dtype
            out = model.unroll(x.to(kind))
            adam.zero_grad()
            ((out.state * target[columns].to(kind)).sum() + out.wiring_cost).backward()
            states.append(out.state.double())
        if step == 0:
            truth, one, several = states
            errors = {"output": _largest(several, truth[part.local.columns]), "output of one": _largest(one, truth)}
            errors |= _errors("gradient", exact, single, part, lambda p: p.grad)
        for adam in adams:
            adam.step()
    errors |= _errors("parameters", exact, single, part, lambda p: p.data)
    return errors | {"fused": float("column_step=fused" in repr(part))}


def _errors(
    name: str, exact: nn.Module, one: nn.Module, part: SheetParallel, what: Callable[[Tensor], Tensor]
) -> dict[str, float]:
    """The largest difference from ``exact`` of the part here, and of the whole model."""
    whole = {n: what(p) for n, p in exact.named_parameters()}
    rows = take_rows(whole, row_kinds(part), part.local)
    return {
        name: max(_largest(what(p).double(), rows[n]) for n, p in part.named_parameters()),
        f"{name} of one": max(_largest(what(p).double(), whole[n]) for n, p in one.named_parameters()),
    }


def _step(net: nn.Module, adam: torch.optim.Optimizer, seed: int) -> None:
    adam.zero_grad()
    nn.functional.cross_entropy(net(_random(4, 2, 6, 6, seed=seed)), torch.arange(4)).backward()
    adam.step()


def save(path: str, data: int) -> None:
    """Two training steps of a vision model in parts, then a checkpoint."""
    mesh = make_mesh(data=data)
    net = replicate(distribute(_vision(knn()), mesh), mesh)
    adam = torch.optim.AdamW(net.parameters(), lr=0.01)
    for seed in range(2):
        _step(net, adam, seed)
    save_checkpoint(path, net, adam, {"step": 2})


def load(path: str, method: str = "space") -> dict[str, float]:
    """Go on from a checkpoint for two steps, and compare with four steps of one process."""
    whole = _vision(knn())
    adam = torch.optim.AdamW(whole.parameters(), lr=0.01)
    for seed in range(4):
        _step(whole, adam, seed)
    torch.manual_seed(1)
    other = _vision(knn())
    for p in other.parameters():
        nn.init.zeros_(p)
    part = distribute(other, make_mesh(), partition_sheet(other.model.sheet, dist.get_world_size(), method))
    adam = torch.optim.AdamW(part.parameters(), lr=0.5)
    facts = load_checkpoint(path, part, adam)
    for seed in range(2, 4):
        _step(part, adam, seed)
    gathered = part.model.whole_state_dict(part)
    return {
        "parameters": _compare(whole, part, lambda p: p.data),
        "gathered": max(_largest(value, gathered[name]) for name, value in whole.named_parameters()),
        "step": facts["step"] - 2.0,
    }
