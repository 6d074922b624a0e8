"""Start-up, the data x sheet mesh, and an end for everybody when one rank fails."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import NoReturn

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from colgraph.distributed.watch import Watch, connect

MESH_NAMES = ("data", "sheet")


def mesh_shape(world_size: int, sheet: int | None = None, data: int | None = None) -> tuple[int, int]:
    """``(data, sheet)`` so that data x sheet is the number of processes; what is None is filled in.

    With both None every process gets a part of one sheet.

    Raises:
        ValueError: if the processes do not divide so.
    """
    for name, size in (("sheet", sheet), ("data", data)):
        if size is not None and (isinstance(size, bool) or int(size) != size or size < 1):
            raise ValueError(f"{name} must be a whole number of at least 1, got {size!r}")
    if sheet is None:
        sheet = world_size if data is None else max(world_size // data, 1)
    if data is None:
        data = max(world_size // sheet, 1)
    if data * sheet != world_size:
        fits = ", ".join(str(n) for n in range(1, world_size + 1) if world_size % n == 0)
        raise ValueError(
            f"{world_size} processes do not divide into data x sheet = {data} x {sheet}: start {data * sheet} "
            f"processes, or cut the sheet into a number of parts that divides {world_size} ({fits})"
        )
    return data, sheet


def make_mesh(sheet: int | None = None, data: int | None = None, *, device_type: str | None = None) -> DeviceMesh:
    """A mesh ``data x sheet`` over all processes of the default group, which must have been started.

    Ranks of one *sheet* group hold the parts of one sheet and see the same images; ranks of one *data* group hold the
    same part and see different images. Neighboring ranks share a sheet.

    Args:
        sheet: parts of the sheet; what ``data`` leaves, by default.
        data: replicas; what ``sheet`` leaves, by default.
        device_type: "cpu" or "cuda"; by the backend of the default group if None.

    Raises:
        ValueError: if the number of processes is not data x sheet.
    """
    if not dist.is_initialized():
        raise ValueError(
            "no process group: start with torchrun and colgraph.distributed.session(...), or call "
            "torch.distributed.init_process_group first"
        )
    if device_type is None:
        device_type = "cuda" if dist.get_backend() == "nccl" else "cpu"
    return init_device_mesh(device_type, mesh_shape(dist.get_world_size(), sheet, data), mesh_dim_names=MESH_NAMES)


def sheet_group(mesh: DeviceMesh) -> dist.ProcessGroup:
    """The ranks that share a sheet with this one.

    Raises:
        ValueError: if the mesh has more than one dimension and none is called "sheet".
    """
    if mesh.ndim == 1:
        return mesh.get_group()
    names = mesh.mesh_dim_names or ()
    if "sheet" not in names:
        raise ValueError(f"the mesh must have a dimension called 'sheet', got {names or mesh}: use make_mesh(...)")
    return mesh.get_group("sheet")


def mesh_group(mesh: DeviceMesh) -> dist.ProcessGroup:
    """All ranks of the mesh, where that is everybody; else those that share a sheet with this one."""
    everybody = dist.group.WORLD
    return everybody if everybody is not None and mesh.size() == everybody.size() else sheet_group(mesh)


def mesh_device(mesh: DeviceMesh) -> torch.device:
    """The device on which this rank communicates."""
    if mesh.device_type == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device(mesh.device_type)


def check_agreement(group: dist.ProcessGroup, device: torch.device, facts: Mapping[str, str]) -> None:
    """Raise the same ValueError on every rank of a group unless all bring the same facts.

    Args:
        group: the ranks.
        device: where to communicate.
        facts: what must be equal: a name and a hexadecimal SHA-256 each.
    """
    mine = torch.tensor([list(bytes.fromhex(digest)) for digest in facts.values()], dtype=torch.uint8, device=device)
    theirs = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    dist.all_gather(theirs, mine, group=group)
    first = theirs[0]
    for rank, other in enumerate(theirs):
        differing = [name for row, name in enumerate(facts) if not torch.equal(other[row], first[row])]
        if differing:
            row = list(facts).index(differing[0])
            raise ValueError(
                f"rank {dist.get_global_rank(group, rank)} has another {' and '.join(differing)} than rank "
                f"{dist.get_global_rank(group, 0)} ({_short(other[row])} and {_short(first[row])}): all ranks must be "
                "started with the same settings and files"
            )


def _short(digest: torch.Tensor) -> str:
    return bytes(digest.tolist()).hex()[:12]


# ---------------------------------------------------------------------- a run of several processes


@contextmanager
def session(
    sheet: int | None = None,
    data: int | None = None,
    *,
    device_type: str | None = None,
    startup_timeout: float = 45.0,
    patience: float = 30.0,
    timeout: float = 1800.0,
) -> Iterator[DeviceMesh]:
    """Everything between the start of a rank by ``torchrun`` and its end, as a context.

    ::

        with colgraph.distributed.session(sheet=4) as mesh:
            model = colgraph.distributed.distribute(model, mesh)
            ...

    Without ``torchrun`` it is a run of one process. A ``ValueError``, a missing package or a lost rank ends all ranks
    with one line on rank 0 (on the others, where rank 0 is the one that is lost) and exit code 2 for bad input, 1 for a
    lost rank. Any other exception is raised as it is, and the other ranks are told. Ranks watch each other by a
    heartbeat, so that a dead machine is noticed even where the network says nothing, and a long computation on one
    rank is not taken for death.

    Args:
        sheet: parts of the sheet, as in :func:`make_mesh`.
        data: replicas, as in :func:`make_mesh`.
        device_type: "cpu" (gloo) or "cuda" (NCCL); "cuda" where there is a GPU for each local rank, by default.
        startup_timeout: seconds within which all ranks must have come.
        patience: seconds without a heartbeat after which a rank is taken for dead.
        timeout: seconds after which a collective fails.
    """
    rank, world = _from_environment()
    watch: Watch | None = None
    try:
        # Before anything is opened: every rank can see for itself that the numbers do not divide.
        mesh_shape(world, sheet, data)
        device_type = _pick_device(device_type)
        watch = _start(rank, world, device_type, startup_timeout, patience, timeout)
        yield make_mesh(sheet, data, device_type=device_type)
    except BaseException as error:
        failure = None if watch is None else watch.blame(error)
        if failure is not None:
            _end(failure.reason, 0 in (rank, failure.rank), 1)
        if isinstance(error, ValueError | ImportError):
            _end(str(error), rank == 0 or isinstance(error, _HeadlessError), 2)
        raise
    else:
        watch.leave()
        dist.destroy_process_group()


def _from_environment() -> tuple[int, int]:
    if "WORLD_SIZE" not in os.environ:
        os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _pick_device(device_type: str | None) -> str:
    local = int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
    if device_type is None:
        on_host = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
        device_type = "cuda" if 0 < on_host <= torch.cuda.device_count() else "cpu"
    if device_type == "cuda":
        torch.cuda.set_device(local)
    return device_type


def _start(rank: int, world: int, device_type: str, startup_timeout: float, patience: float, timeout: float) -> Watch:
    store = meet(rank, world, startup_timeout)
    dist.init_process_group(
        "nccl" if device_type == "cuda" else "gloo",
        store=PrefixStore("group", store),
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=timeout),
    )
    return Watch(rank, world, patience)


class _HeadlessError(ValueError):
    """Rank 0 is not there to say what is wrong."""


_BY_HAND = "start all of them with the same MASTER_ADDR, MASTER_PORT and WORLD_SIZE"


def meet(rank: int, world: int, seconds: float, hint: str = _BY_HAND) -> Store:
    """Wait until all ranks have come, at ``MASTER_ADDR:MASTER_PORT``.

    Args:
        rank: this rank.
        world: number of ranks.
        seconds: how long to wait.
        hint: what to do where some do not come.

    Returns:
        The store at which they met; whoever lets go of it may take it from the others.

    Raises:
        ValueError: after so many seconds, naming the ranks that are missing.
    """
    try:
        store = connect("start", rank, world, seconds)
    except dist.DistError as error:
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise _HeadlessError(f"rank {rank} did not find rank 0 at {address} within {seconds:g} s") from error
    names = [f"rank-{r}" for r in range(world)]
    store.set(names[rank], "here")
    deadline = time.monotonic() + seconds
    while not store.check(names):
        if time.monotonic() > deadline:
            missing = ", ".join(str(r) for r, name in enumerate(names) if not store.check([name]))
            raise ValueError(
                f"not all of the {world} ranks came within {seconds:g} s: no sign of rank {missing}; {hint}"
            )
        time.sleep(0.05)
    return store


def _end(message: str, say: bool, code: int) -> NoReturn:
    if say:
        print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(code)
