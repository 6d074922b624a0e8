"""Training one sheet on several processes, through Lightning: its strategy, its checkpoints, and its end on failure."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.nn.parallel import DistributedDataParallel

from colgraph.distributed import SheetParallelVision, load_checkpoint, make_mesh, save_checkpoint
from colgraph.distributed.launch import check_agreement, meet, mesh_device, mesh_group
from colgraph.distributed.rows import row_kinds, take_rows
from colgraph.distributed.watch import Watch
from colgraph.script import ScriptError
from colgraph.training.errors import LostRankError

SHARDS = "shards"
"""Where the checkpoint file of a run on several processes names the folder that holds the parameters."""

_NET = "net."
_STARTUP = 45.0  # seconds within which all processes must have come
_STARTED_HERE = "this machine was too slow to start them: give fewer --devices"
_PATIENCE = 30.0  # seconds without a beat after which a process is taken for dead


def is_sharded(content: Mapping[str, Any]) -> bool:
    """Whether a checkpoint's parameters lie in a folder of their own."""
    return SHARDS in content


class SheetParallelStrategy(DDPStrategy):
    """Replicas x parts of the sheet: parts exchange halos, replicas of a part average their gradients.

    Where the sheet is cut, the parameters of a checkpoint go to a folder of ``torch.distributed.checkpoint`` beside its
    file, which names it; any number of processes can go on from it, and from the file of a run that had one part.

    Args:
        parts: ranks that share a sheet; with one, this is data parallelism with an eye on processes that die.
        facts: what all processes must have been started with: a name and a hexadecimal SHA-256 each.
        **options: of Lightning's ``DDPStrategy``.

    Attributes:
        mesh: data x sheet, once processes have met.
        watch: notices ranks that have died.
    """

    def __init__(self, parts: int, facts: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.parts, self.facts = parts, dict(facts or {})
        self.mesh: DeviceMesh | None = None
        self.watch: Watch | None = None
        self._written: Path | None = None

    def meet(self) -> None:
        """Meet the others now, before anything is written, where they have all been started already."""
        environment: Any = self.cluster_environment
        if environment.creates_processes_externally:
            self.setup_environment()

    def setup_distributed(self) -> None:
        """Meet the other processes, which must have been started with the same settings."""
        if self.mesh is not None:
            return
        environment: Any = self.cluster_environment
        os.environ.setdefault("MASTER_ADDR", str(environment.main_address))
        os.environ.setdefault("MASTER_PORT", str(environment.main_port))
        self.set_world_ranks()
        hint = () if environment.creates_processes_externally else (_STARTED_HERE,)
        store = meet(self.global_rank, self.world_size, _STARTUP, *hint) if self.world_size > 1 else None
        super().setup_distributed()
        del store
        self.mesh = make_mesh(self.parts)
        self.watch = Watch(self.global_rank, self.world_size, _PATIENCE)
        if self.facts:
            check_agreement(mesh_group(self.mesh), mesh_device(self.mesh), self.facts)

    def setup(self, trainer: Any) -> None:
        """Lightning would copy rank 0's parameters to the other ranks before a test; here they have their own."""
        if trainer.state.fn == TrainerFn.FITTING:
            super().setup(trainer)
            return
        module: Any = self.model
        self.accelerator.setup(trainer)  # type: ignore[union-attr]
        self.precision_plugin.convert_module(module)
        self.model_to_device()
        self.setup_precision_plugin()

    def configure_ddp(self) -> None:
        """Average gradients among replicas, if there are several."""
        if self.mesh is not None and self.mesh.size(0) > 1:
            self._ddp_kwargs |= {"process_group": self.mesh.get_group("data"), "broadcast_buffers": False}
            super().configure_ddp()

    def wrap_again(self) -> None:
        """Average the gradients of parameters that have taken the place of others, too."""
        if isinstance(self.model, DistributedDataParallel):
            self.model = self.lightning_module
            self.configure_ddp()

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        """Ranks that share a sheet see the same images."""
        if self.mesh is None:
            return super().distributed_sampler_kwargs
        return {"num_replicas": self.mesh.size(0), "rank": self.mesh.get_local_rank("data")}

    # ------------------------------------------------------------------ checkpoints

    @property
    def _net(self) -> nn.Module:
        module: Any = self.lightning_module
        net: nn.Module = module.net
        return net

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Nothing where the sheet is cut: parameters go to the folder."""
        return {} if self.parts > 1 else super().lightning_module_state_dict()

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """Nothing where the sheet is cut: neither does the optimizer's state come here."""
        return {} if self.parts > 1 else super().optimizer_state(optimizer)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """The folder of parameters first, then the file that names it."""
        path = Path(filepath)
        if self.parts == 1:
            super().save_checkpoint(checkpoint, path, storage_options)
            if self.is_global_zero:
                _remove_unnamed(path.parent)
            return
        folder = path.parent / f"step-{checkpoint['global_step']:08d}"
        # One that lies there from before may be of a session that was killed and went on otherwise.
        if self._written != folder:
            save_checkpoint(folder, self._net, _plain(self.optimizers[0]))
            self._written = folder
        super().save_checkpoint({**checkpoint, SHARDS: folder.name}, path, storage_options)
        if self.is_global_zero:
            _remove_unnamed(path.parent, folder.name)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """The file, and where it lies."""
        content = super().load_checkpoint(checkpoint_path, weights_only)
        if is_sharded(content):
            content[SHARDS] = str(Path(checkpoint_path).parent / content[SHARDS])
        return content

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """This rank's rows."""
        if is_sharded(checkpoint):
            load_checkpoint(checkpoint[SHARDS], self._net)
            return
        whole = {name.removeprefix(_NET): value for name, value in checkpoint["state_dict"].items()}
        self._net.load_state_dict(self._rows(whole))

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """This rank's rows of the optimizer's state."""
        optimizer = _plain(self.optimizers[0])
        if is_sharded(checkpoint):
            load_checkpoint(checkpoint[SHARDS], self._net, optimizer)
            return
        (saved,) = checkpoint["optimizer_states"]
        names = {id(parameter): name for name, parameter in self._net.named_parameters()}
        order = [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
        state = {}
        for number, entries in saved["state"].items():
            name = order[number]
            whole = {name: entries["exp_avg"], f"{name}/square": entries["exp_avg_sq"]}
            rows = self._rows(whole, {f"{name}/square": name})
            state[number] = {**entries, "exp_avg": rows[name], "exp_avg_sq": rows[f"{name}/square"]}
        optimizer.load_state_dict({**saved, "state": state})

    def _rows(self, whole: Mapping[str, Tensor], alias: Mapping[str, str] | None = None) -> dict[str, Tensor]:
        if not isinstance(self._net, SheetParallelVision):
            return dict(whole)
        kinds = row_kinds(self._net)
        kinds |= {name: kinds[other] for name, other in (alias or {}).items() if other in kinds}
        return take_rows(whole, kinds, self._net.model.local)


def _plain(optimizer: Any) -> torch.optim.Optimizer:
    return getattr(optimizer, "_optimizer", optimizer)


def _remove_unnamed(checkpoints: Path, *newest: str) -> None:
    """Remove folders of parameters that no checkpoint file names any more."""
    folders = [path for path in checkpoints.glob("step-*") if path.is_dir()]
    named = set(newest)
    for path in checkpoints.glob("*.ckpt") if folders else ():
        named.add(torch.load(path, map_location="cpu", weights_only=True, mmap=True).get(SHARDS, ""))
    for folder in folders:
        if folder.name not in named:
            shutil.rmtree(folder, ignore_errors=True)


# ---------------------------------------------------------------------- failure


@contextlib.contextmanager
def watched(strategy: Any, hint: str) -> Iterator[None]:
    """Tell the other ranks of a failure here, and say in one line when another rank is lost.

    Args:
        strategy: of the trainer; only a :class:`SheetParallelStrategy` has other ranks to watch.
        hint: how to go on.
    """
    try:
        yield
    except Exception as error:
        watch = getattr(strategy, "watch", None)
        if watch is None:
            raise
        failure = watch.blame(error, own=isinstance(error, ScriptError))
        if failure is None and strategy.global_rank and isinstance(error, ScriptError | ValueError | ImportError):
            # The first process says it: it has met the same error, or is told of this one.
            raise SystemExit(getattr(error, "exit_code", 2)) from error
        if failure is None:
            raise
        if 0 not in (strategy.global_rank, failure.rank):
            raise SystemExit(1) from error
        raise LostRankError(f"{failure.reason}; {hint}") from error
    else:
        watch = getattr(strategy, "watch", None)
        if watch is not None:
            watch.leave()
            # Threads of a group that is still open at exit abort the process; of a run that failed, waiting for them
            # could take for ever.
            atexit.register(_close_groups)


def _close_groups() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
