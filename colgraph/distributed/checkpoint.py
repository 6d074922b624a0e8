"""Checkpoints that any number of ranks can write and any other number can read.

They are checkpoints of ``torch.distributed.checkpoint``: one folder, written by all ranks at once. Untied parameters,
edge biases and their optimizer state are stored in *partition order*, each rank's rows as one piece at its own offset
(parts are unequal); beside them lie ``partition.columns`` and ``partition.edges``, which say which column and edge of
the sheet each stored row belongs to. A reader asks for the rows it needs, whoever wrote them.

The folder's index is a pickle, made and read by torch: load checkpoints only from people you trust.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from colgraph.distributed.model import SheetParallel
from colgraph.distributed.planners import Contents, Rows, RowsLoadPlanner, RowsSavePlanner
from colgraph.distributed.rows import row_kinds
from colgraph.models import Columnformer, SheetMismatchError

_FACTS, _GROUPS = "facts", "optimizer.groups"


def _rows_of(core: Columnformer) -> dict[str, Rows]:
    if isinstance(core, SheetParallel):
        part, partition, local = core.local.part, core.partition, core.local
        total = core.sheet.edge_index.size(1)
        first_edge = int(partition.edges[:part].sum())
        return {
            "columns": Rows(local.columns, int(partition.offsets[part]), core.sheet.num_columns),
            "edges": Rows(local.edges, first_edge, total),
        }
    n, e = core.sheet.num_columns, core.sheet.edge_index.size(1)
    return {"columns": Rows(torch.arange(n), 0, n), "edges": Rows(torch.arange(e), 0, e)}


# ---------------------------------------------------------------------- saving


def save_checkpoint(
    path: str | os.PathLike[str],
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write a model, and its optimizer, to a folder, whole or not at all. All ranks call it together.

    Args:
        path: the folder; one that exists is replaced when the new one is complete.
        model: a plain or sheet-parallel model, replicated or not.
        optimizer: over the model's parameters.
        facts: what else to keep, as JSON can say it (the step, the seed).

    Returns:
        The path.
    """
    path = Path(path)
    contents = _contents(model, optimizer)
    contents.put("partition.columns", contents.rows["columns"].ids, "columns")
    contents.put("partition.edges", contents.rows["edges"].ids, "edges")
    contents.put(_FACTS, _text_tensor(dict(facts or {})))
    if optimizer is not None:
        groups = [{n: value for n, value in group.items() if n != "params"} for group in optimizer.param_groups]
        contents.put(_GROUPS, _text_tensor(groups))
    part = path.with_name(path.name + ".part")
    alone = not dist.is_initialized()
    if alone or dist.get_rank() == 0:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    _barrier()
    with _quietly():
        save(contents.tensors, checkpoint_id=part, planner=RowsSavePlanner(contents), no_dist=alone)
    if alone or dist.get_rank() == 0:
        _replace(part, path)
    _barrier()
    return path


def _contents(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> Contents:
    module, core = _unwrap(model)
    contents, kinds = Contents(_rows_of(core)), row_kinds(module)
    for name, tensor in module.state_dict().items():
        contents.put(f"model.{name}", tensor, kinds.get(name))
    if optimizer is not None:
        for name, parameter in module.named_parameters():
            for key, value in optimizer.state.get(parameter, {}).items():
                contents.put(f"optimizer.{name}.{key}", *_optimizer_entry(value, parameter, kinds.get(name)))
    return contents


def _optimizer_entry(value: Any, parameter: Tensor, kind: str | None) -> tuple[Tensor, str | None]:
    tensor = value if isinstance(value, Tensor) else torch.tensor(value)
    return tensor, kind if tensor.shape == parameter.shape else None


def _unwrap(model: nn.Module) -> tuple[nn.Module, Columnformer]:
    """The model without its data-parallel wrapper, and the columnformer in it."""
    module = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    core = module if isinstance(module, Columnformer) else getattr(module, "model", None)
    if not isinstance(core, Columnformer):
        raise ValueError(f"model must be a columnformer or a vision model of one, got {type(module).__name__}")
    return module, core


def _text_tensor(value: Any) -> Tensor:
    return torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)


def _replace(part: Path, path: Path) -> None:
    old = path.with_name(path.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.rename(old)
    part.rename(path)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without torch's warning that one process alone is at work, which is what was asked for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*single process")
        yield


def _barrier() -> None:
    if dist.is_initialized():
        dist.barrier()


# ---------------------------------------------------------------------- loading


def load_checkpoint(
    path: str | os.PathLike[str], model: nn.Module, optimizer: torch.optim.Optimizer | None = None
) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote, with the same or any other number of ranks. All ranks call it together.

    Args:
        path: the folder.
        model: of the same sheet and sizes as the one that was saved; cut in any way, or whole.
        optimizer: to be restored too, with its groups in the same order.

    Returns:
        The facts that were saved with it.

    Raises:
        ValueError: if there is no complete checkpoint, or it holds another model.
        SheetMismatchError: if it belongs to another sheet.
    """
    source = _Source(Path(path))
    module, core = _unwrap(model)
    contents, kinds = Contents(_rows_of(core)), row_kinds(module)
    source.check_sheet(core, next(name for name, part in module.named_modules() if part is core))
    for name, tensor in module.state_dict().items():
        contents.put(f"model.{name}", torch.empty_like(tensor, device="cpu"), kinds.get(name))
    if optimizer is not None:
        source.expect_optimizer(module, kinds, contents)
    source.fill(contents)
    prefix = "model."
    module.load_state_dict({n.removeprefix(prefix): t for n, t in contents.tensors.items() if n.startswith(prefix)})
    if optimizer is not None:
        _restore(optimizer, json.loads(source.text(_GROUPS)), module, contents)
    return dict(json.loads(source.text(_FACTS)))


class _Source:
    """A checkpoint to read from.

    Raises:
        ValueError: if it is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / ".metadata").is_file():
            raise ValueError(f"{str(path)!r} is not a complete checkpoint: save_checkpoint(path, model) writes one")
        try:
            index = FileSystemReader(path).read_metadata().state_dict_metadata
        except Exception as error:
            raise ValueError(f"cannot read the checkpoint {str(path)!r}: {error}") from error
        self.stored = {name: entry for name, entry in index.items() if isinstance(entry, TensorStorageMetadata)}
        if not {_FACTS, "partition.columns", "partition.edges"} <= set(self.stored):
            raise ValueError(f"{str(path)!r} was not written by save_checkpoint: it has no partition")

    def whole(self, name: str) -> Tensor:
        """One stored tensor, all of it."""
        entry = self.stored[name]
        tensors = {name: torch.empty(entry.size, dtype=entry.properties.dtype)}
        self._read(DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False), tensors)
        return tensors[name]

    def text(self, name: str) -> str:
        return bytes(self.whole(name).tolist()).decode()

    def check_sheet(self, core: Columnformer, prefix: str) -> None:
        """Raise unless the checkpoint belongs to the sheet of a columnformer that is called ``prefix`` in its model."""
        name = f"model.{prefix}.sheet_fingerprint" if prefix else "model.sheet_fingerprint"
        if name not in self.stored:
            raise ValueError(f"the checkpoint {str(self.path)!r} holds another kind of model: it has no {name}")
        theirs, mine = bytes(self.whole(name).tolist()).hex(), core.sheet.fingerprint
        if theirs != mine:
            raise SheetMismatchError(
                f"the checkpoint {str(self.path)!r} belongs to another graph (fingerprint {theirs[:16]}) than this "
                f"model's sheet ({mine[:16]}, {core.sheet.num_columns} columns): build the model on that one"
            )

    def expect_optimizer(self, module: nn.Module, kinds: Mapping[str, str], contents: Contents) -> None:
        """Make room for the optimizer state that is stored."""
        if _GROUPS not in self.stored:
            raise ValueError(f"the checkpoint {str(self.path)!r} holds no optimizer: it was saved without one")
        for name, parameter in module.named_parameters():
            whole = self.stored.get(f"model.{name}")
            for entry, tensor in self.stored.items():
                if not entry.startswith(f"optimizer.{name}."):
                    continue
                alike = whole is not None and tensor.size == whole.size
                size, kind = (parameter.size(), kinds.get(name)) if alike else (tensor.size, None)
                contents.put(entry, torch.empty(size, dtype=tensor.properties.dtype), kind)

    def fill(self, contents: Contents) -> None:
        """Read everything that ``contents`` has room for."""
        for name, tensor in contents.tensors.items():
            self._check_shape(name, tensor, contents)
        places = {kind: self._places(f"partition.{kind}", rows) for kind, rows in contents.rows.items()}
        self._read(RowsLoadPlanner(contents, places), contents.tensors)

    def _check_shape(self, name: str, tensor: Tensor, contents: Contents) -> None:
        if name not in self.stored:
            raise ValueError(f"the checkpoint {str(self.path)!r} lacks {name}: it holds a model of other options")
        kind = contents.kinds.get(name)
        shape = list(tensor.shape) if kind is None else [contents.rows[kind].total, *tensor.shape[1:]]
        found = list(self.stored[name].size)
        if found != shape:
            raise ValueError(
                f"{name} has shape {found} in the checkpoint {str(self.path)!r} and {shape} in this model: build it "
                "with the same sizes"
            )

    def _places(self, name: str, rows: Rows) -> Tensor:
        """Where each row wanted here is stored."""
        ids = self.whole(name)
        place = torch.empty_like(ids)
        place[ids] = torch.arange(ids.numel())
        return place[rows.ids]

    def _read(self, planner: DefaultLoadPlanner, tensors: dict[str, Tensor]) -> None:
        try:
            with _quietly():
                load(tensors, checkpoint_id=self.path, planner=planner, no_dist=not dist.is_initialized())
        except CheckpointException as error:
            rank, (cause, _) = next(iter(error.failures.items()))
            reason = f"{type(cause).__name__} {cause}".strip()
            raise ValueError(f"rank {rank} cannot read the checkpoint {str(self.path)!r}: {reason}") from error


def _restore(
    optimizer: torch.optim.Optimizer, groups: list[dict[str, Any]], module: nn.Module, contents: Contents
) -> None:
    if len(groups) != len(optimizer.param_groups):
        raise ValueError(
            f"the optimizer has {len(optimizer.param_groups)} groups of parameters, the one in the checkpoint "
            f"{len(groups)}"
        )
    for group, options in zip(optimizer.param_groups, groups):
        group.update({name: tuple(value) if isinstance(value, list) else value for name, value in options.items()})
    for name, parameter in module.named_parameters():
        prefix = f"optimizer.{name}."
        entries = {n.removeprefix(prefix): t for n, t in contents.tensors.items() if n.startswith(prefix)}
        if entries:
            # The count of steps stays on the CPU, as torch's optimizers have it.
            optimizer.state[parameter] = {
                key: tensor.to(parameter.device) if tensor.shape == parameter.shape else tensor
                for key, tensor in entries.items()
            }
