"""One training run, from parts to a summary."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import platform
import sys
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn

from colgraph.data import ImageSplits
from colgraph.distributed import SheetParallelVision
from colgraph.distributed.model import digest
from colgraph.distributed.partition import check_parts
from colgraph.hints import in_one_line
from colgraph.models import OwnNetwork, VisionColumnformer, VisionModel
from colgraph.models.flops import count_flops
from colgraph.ops import resolve_backend
from colgraph.script import is_helper_process
from colgraph.sheet import Sheet
from colgraph.tasks import find_task
from colgraph.training.average import AverageWeights
from colgraph.training.batches import ImageBatches, steps_per_epoch
from colgraph.training.callbacks import Checkpoints, ProgressBar, StepSeeds, StopOnSignal, kept_steps
from colgraph.training.checkpoint import pack_run
from colgraph.training.config import TrainConfig
from colgraph.training.errors import TrainingDivergedError
from colgraph.training.figures import RunFigures
from colgraph.training.flags import RunFlags
from colgraph.training.folder import RunFolder
from colgraph.training.lock import hold_folder
from colgraph.training.loggers import begun, log_summary, make_loggers
from colgraph.training.measure import code_commit, command_line, machine, parameters_sha256, peak_memory_bytes
from colgraph.training.metrics import MetricsLog
from colgraph.training.module import TaskModule
from colgraph.training.opening import check_run_folder, open_run_folder
from colgraph.training.origin import settings_of
from colgraph.training.own import parts_of, sheet_marks
from colgraph.training.parallel import SheetParallelStrategy, watched
from colgraph.training.past import begin, go_on, read_past
from colgraph.training.plastic import Plasticity
from colgraph.training.predictions import Predictions
from colgraph.training.resume import RunRecord, describe_change, num_processes
from colgraph.training.setup import check_task, unreached_outputs
from colgraph.training.take_over import freeze_all_but_head, take_over

# What numbers travel between the parts of a sheet, by precision.
_TRAVELS = {"32-true": "float32", "bf16-mixed": "bfloat16", "16-mixed": "float16", "64-true": "float64"}


def train(
    net: VisionModel,
    images: ImageSplits,
    config: TrainConfig,
    folder: RunFolder | str | os.PathLike[str],
) -> dict[str, Any]:
    """Train a model and write what :class:`colgraph.training.RunFolder` names in its folder.

    ``test_accuracy`` is that of the parameters after the last step, not of a checkpoint chosen by looking at it.
    ``config.yaml`` says what ran: sizes, sheet and readout are the network's own, whatever the settings say, and what
    no setting describes is named there.

    Args:
        net: the model, on the CPU.
        images: what to learn and to be tested on.
        config: the settings.
        folder: from :func:`colgraph.training.open_run_folder`, or the path of a new run; with ``resume``, training goes
            on from the last checkpoint, with settings that
            :data:`colgraph.training.resume.ON_RESUME` lets change.

    Returns:
        What ``summary.json`` holds.

    Raises:
        ValueError: before the first step, for parts that do not fit together, devices that are not there, settings or
            images that a run which goes on cannot take, and a folder that another process writes to.
        TrainingDivergedError: if the loss stops being a number; the last good checkpoint stays.
        InterruptedRunError: on Ctrl-C or SIGTERM, after writing a checkpoint.
        UnwritableRunError: if the disk is full or the folder cannot be written to; the last good checkpoint stays.
    """
    if not isinstance(net, VisionModel):
        raise ValueError(
            f"train takes a VisionColumnformer or a baseline of colgraph.models, got {type(net).__name__}: wrap a "
            "Columnformer in VisionColumnformer, another network in colgraph.models.OwnNetwork, or give it to "
            "colgraph.training.fit(model=...)"
        )
    if not isinstance(folder, RunFolder):
        folder = open_run_folder(config, RunFlags(Path(folder)))
    if is_helper_process():
        return _train(net, images, config, folder)
    with hold_folder(folder.path):
        check_run_folder(folder)
        return _train(net, images, config, folder)


def _train(net: VisionModel, images: ImageSplits, config: TrainConfig, folder: RunFolder) -> dict[str, Any]:
    sheet = net.model.sheet if isinstance(net, VisionColumnformer) else None
    config = dataclasses.replace(settings_of(net, config), devices=str(_world(config)))
    if sheet is not None:
        check_parts(config.sheet_parallel, sheet.num_columns)
    past = read_past(folder, net) if folder.resume else None
    record, new = begin(net, images, config) if past is None else go_on(past, net, images, config)
    config = record.config
    check_task(net, config, images)
    init = take_over(net, config) if past is None else past.packed.get("init")
    if config.freeze:
        freeze_all_but_head(net)
    _warn([*images.notes, *_notes(net, config, images), *map(describe_change, new)])
    hint = f"go on with --resume --out {folder.path}"
    steps = config.epochs * steps_per_epoch(config, len(images.train))
    plastic = [Plasticity(net, config, steps, folder.plasticity, hint)] if config.rewire else []
    if plastic and past is None and sheet is not None:
        plastic[0].check_budget(sheet)
    log = MetricsLog(folder.metrics, hint, ("edges", "wire") if plastic else ())
    keep = kept_steps(config.keep_checkpoints, steps)
    checkpoints = Checkpoints(folder, config.checkpoint_every, hint, keep)
    told = plastic[0].history if plastic else None
    figures = RunFigures(folder.figures, images, log, config.figure_every, told)
    packed = pack_run(record, sheet, images, net.num_classes, init)
    packed |= {"network_sheet": sheet_marks(net), "network_parts": parts_of(net)}
    module = TaskModule(net, config, packed)
    module.task.begin(images)
    module.reschedule = any(change["setting"] == "epochs" for change in new)
    batches = ImageBatches(images, config)
    stop = StopOnSignal(checkpoints, hint)
    with _quiet():
        # Checkpoints come after what they carry, and the stop after the checkpoint that it relies on.
        average = [AverageWeights(config.ema)] if config.ema else []
        answers = Predictions(images)
        before: list[pl.Callback] = [StepSeeds(config.seed), *average, *plastic]
        callbacks = [*before, ProgressBar(), log, figures, checkpoints, stop, answers]
        several = (past is not None and past.sharded) or int(config.devices) > 1
        facts = _facts(sheet, images, config) if several else None
        loggers = make_loggers(config.loggers, folder)
        trainer = _trainer(config, loggers, facts, callbacks)
        # Everything that can be refused has been refused once the folder is touched.
        resolve_backend(config.backend, trainer.strategy.root_device, torch.float32)
        if module.regularizers is not None and isinstance(net, VisionColumnformer):
            module.regularizers.prepare(net)
        with watched(trainer.strategy, hint):
            if isinstance(trainer.strategy, SheetParallelStrategy):
                trainer.strategy.meet()
            if trainer.is_global_zero:
                ended = past is not None and past.step >= steps
                folder.prepare(record, ended)
            with begun(loggers, config.loggers, folder, record):
                _fit(trainer, module, batches, folder)
                for ema in average:  # also where nothing was left to train
                    ema.on_train_end(trainer, module)
                trainer.test(module, batches, verbose=False)
                _take_back(net, module.net)
                resumed = None if past is None else past.step
                summary = _summary(net, module, images, record, log, checkpoints, resumed, trainer)
                summary |= {"plasticity": plastic[0].summary()} if plastic else {}
                if trainer.is_global_zero:
                    folder.write_predictions(answers.found)
                    folder.write_summary(summary)
                    log_summary(loggers, config.loggers, summary, record)
    return summary


def _world(config: TrainConfig) -> int:
    """The number of processes that will train: what "auto" amounts to, where that is asked for."""
    on_gpu = config.accelerator in ("auto", "gpu") and torch.cuda.is_available()
    return num_processes(config) or (torch.cuda.device_count() if on_gpu else 1)


def _notes(net: VisionModel, config: TrainConfig, images: ImageSplits) -> list[str]:
    """What a user should know before a run begins."""
    notes, count = [], len(images.train)
    if config.epoch_images is not None and config.epoch_images > count:
        notes.append(f"an epoch is all {count} training images: --epoch-images {config.epoch_images} are more")
    if config.batch_size > count:
        notes.append(f"a step takes all {count} training images: --batch-size {config.batch_size} are more")
    if config.warmup >= config.epochs:
        notes.append(
            f"the learning rate rises through all of the run, to {config.epochs / config.warmup:.0%} of {config.lr:g}: "
            f"--warmup {config.warmup:g} is not less than --epochs {config.epochs}"
        )
    if isinstance(net, OwnNetwork):
        size = "" if net.sheet is None else f" with a sheet of {net.sheet.num_columns:,} columns"
        return [*notes, f"{config.baseline}{size}: geometry, neighbors, wiring and the like play no part"]
    if not isinstance(net, VisionColumnformer):
        what = "of geometry, neighbors, wiring and the like only the patch size counts"
        return [*notes, f"{config.baseline} has no sheet: {what}"]
    # Refused if that is all of them; the model has warned of some.
    unreached_outputs(net.model.sheet, config.steps, config.speed)
    return notes


def _trainer(
    config: TrainConfig, loggers: list[Any], facts: dict[str, str] | None, callbacks: list[pl.Callback]
) -> pl.Trainer:
    """``facts`` are what several processes must agree on; None where one is at work that needs nothing of theirs."""
    # torchrun has started as many processes as there shall be; otherwise Lightning does, one for each device.
    started = int(os.environ.get("LOCAL_WORLD_SIZE", "0"))
    nodes = int(os.environ.get("WORLD_SIZE", started)) // started if started else 1
    devices = str(started) if started else config.devices
    try:
        return pl.Trainer(
            max_epochs=config.epochs,
            accelerator=config.accelerator,
            devices=devices if devices == "auto" else int(devices),
            num_nodes=nodes,
            strategy=_strategy(config, facts),
            precision=config.precision,  # type: ignore[arg-type]
            gradient_clip_val=config.clip or None,
            logger=loggers or False,
            callbacks=callbacks,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
    except Exception as error:
        reason = in_one_line(error)
        raise ValueError(
            f"cannot train with --accelerator {config.accelerator} --devices {devices} "
            f"--precision {config.precision}: {reason}"
        ) from error


def _facts(sheet: Sheet | None, images: ImageSplits, config: TrainConfig) -> dict[str, str]:
    """Digests of what all processes of a run must have been started with."""
    labels = {name: (len(part), images.classes) for name, part in (("train", images.train), ("test", images.test))}
    graph = {} if sheet is None else {"sheet": sheet.fingerprint, "geometry": sheet.geometry_fingerprint}
    return {**graph, "configuration": digest(config.flat()), "data set": digest(labels)}


def _fit(trainer: pl.Trainer, module: TaskModule, batches: ImageBatches, folder: RunFolder) -> None:
    try:
        trainer.fit(module, batches, ckpt_path=folder.last if folder.resume else None, weights_only=True)
    except ValueError as error:
        # Raised in a worker process: torch hands on its whole traceback as the message.
        lines = str(error).strip().splitlines()
        if "DataLoader worker" not in lines[0]:
            raise
        raise ValueError(lines[-1].removeprefix("ValueError: ")) from error
    except TrainingDivergedError as error:
        raise TrainingDivergedError(
            f"{error}; the last good checkpoint is {folder.last}: try a smaller --lr, or a smaller --clip"
        ) from error


def _take_back(net: nn.Module, trained: nn.Module) -> None:
    """Give the whole model what its parts have learned."""
    if isinstance(trained, SheetParallelVision):
        whole = trained.model.whole_state_dict(trained)
        net.load_state_dict({name: value.cpu() for name, value in whole.items()})


def _parts(trained: nn.Module, config: TrainConfig, columns: int) -> dict[str, list[int]]:
    """What each process of a group that shares the sheet holds, hears and receives in a forward step."""
    if not isinstance(trained, SheetParallelVision):
        return {"columns_per_rank": [columns], "halo_columns_per_rank": [0], "halo_bytes_per_step": [0]}
    partition = trained.model.partition
    return {
        "columns_per_rank": partition.columns.tolist(),
        "halo_columns_per_rank": partition.halo.tolist(),
        "halo_bytes_per_step": trained.model.halo_bytes_per_step(config.batch_size, _TRAVELS[config.precision]),
    }


def _sheet_facts(net: nn.Module, module: TaskModule, config: TrainConfig) -> dict[str, Any]:
    """The sheet, and what its wires cost; null where there is no sheet."""
    names = ("wiring_cost", "wiring_cost_in_spacings", "wire", "spacing", "columns", "edges", "geometry", "fingerprint")
    if isinstance(net, OwnNetwork) and net.sheet is not None:
        mine = net.sheet
        known = {"spacing": mine.spacing, "columns": mine.num_columns, "edges": mine.edge_index.size(1)}
        known |= {"geometry": mine.geometry, "fingerprint": mine.fingerprint}
        return dict.fromkeys(names) | known
    if not isinstance(net, VisionColumnformer) or module.regularizers is None:
        return dict.fromkeys(names)
    sheet, cost = net.model.sheet, module.metrics["test_wiring_cost"]
    size = (sheet.num_columns, sheet.edge_index.size(1))
    wire = float(sheet.edge_distance.double().sum())
    values = (cost, cost / module.regularizers.wire_unit, wire, sheet.spacing, *size, sheet.geometry, sheet.fingerprint)
    return dict(zip(names, values, strict=True)) | _parts(module.net, config, sheet.num_columns)


_USUAL = ("test_accuracy", "test_loss", "test_wiring_cost")


def _summary(
    net: nn.Module,
    module: TaskModule,
    images: ImageSplits,
    record: RunRecord,
    log: MetricsLog,
    checkpoints: Checkpoints,
    resumed: int | None,
    trainer: pl.Trainer,
) -> dict[str, Any]:
    metrics, config = module.metrics, record.config
    return {
        "test_accuracy": metrics["test_accuracy"],
        "accuracy_is": module.task.accuracy_is,
        **{name: value for name, value in metrics.items() if name.startswith("test_") and name not in _USUAL},
        "test_loss": metrics["test_loss"],
        "train_accuracy": metrics["train_accuracy"],
        "train_loss": metrics["train_loss"],
        "val_accuracy": metrics["val_accuracy"],
        "val_loss": metrics["val_loss"],
        "best_val_accuracy": checkpoints.best_accuracy,
        "best_epoch": checkpoints.best_epoch,
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        **_sheet_facts(net, module, config),
        "task": config.task,
        "init": module.packed["init"],
        "network_sha256": module.packed["network"],
        "freeze": config.freeze,
        "classes": len(images.classes),
        "train_images": len(images.train),
        "test_images": len(images.test),
        "unreadable_images": images.skipped.names(),
        "epochs": len(log.rows),
        "steps": int(trainer.global_step),
        "seed": config.seed,
        "seconds": round(log.seconds, 2),
        **_cost(net, config, log, trainer),
        "resumed_from_step": resumed,
        "changes": [dict(change) for change in record.changes],
        "own": list(record.own),
        "data": config.data,
        "parameters_sha256": parameters_sha256(net),
        "device": str(trainer.strategy.root_device),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "lightning": version("lightning"),
        },
    }


def _strategy(config: TrainConfig, facts: Mapping[str, str] | None) -> str | SheetParallelStrategy:
    """How Lightning spreads the work; its own choice on one process."""
    if facts is None:
        return "auto"
    # No gradient passes a burn-in: on some replicas a position embedding, which comes before it, has none in a step.
    return SheetParallelStrategy(config.sheet_parallel, facts, find_unused_parameters=config.burn_in > 0)


def _flops(net: nn.Module, config: TrainConfig) -> int:
    """Those of training on an image: at the mean number of steps, with one product where nothing but the head learns.

    Steps of a burn-in have one product, too. Every step whose answer counts is read out.
    """
    views, least = find_task(config.task).views, config.least_steps or config.steps
    burn_in = config.burn_in / 2 * (1 - config.epochs // 2 / config.epochs)
    if isinstance(net, OwnNetwork):
        # Trained, it is handed back in evaluation mode.
        return count_flops(net.eval()).training
    if not isinstance(net, VisionColumnformer):
        if not config.recurs:
            return views * count_flops(net).training
        trained = sum(count_flops(net, steps=steps).training for steps in (least, config.steps)) / 2
        a_step = count_flops(net, steps=2).forward - count_flops(net, steps=1).forward
        return round(views * (trained + a_step * burn_in))
    flops = count_flops(net)
    mean = (least + config.steps) / 2
    products = (1, 2) if config.freeze else (3, 3)
    sheet = (flops["column_linears"] + flops["attention"]) / config.steps * (products[0] * mean + burn_in)
    readout = flops["readout"] * (1 if config.step_loss == "last" else mean)
    patches = flops["patch_embedding"] * (1 if config.freeze else 2)
    return round(views * (patches + sheet + products[1] * readout))


def _cost(net: nn.Module, config: TrainConfig, log: MetricsLog, trainer: pl.Trainer) -> dict[str, Any]:
    """What the run took, and what it takes to repeat it."""
    per_image = _flops(net, config)
    rate = log.images_per_second
    device = trainer.strategy.root_device
    return {
        "cpu_seconds": round(log.cpu_seconds, 2),
        "images_per_second": None if rate is None else round(rate, 2),
        "flops_per_image": per_image,
        "train_flops": per_image * log.images,
        "peak_memory_bytes": peak_memory_bytes(device),
        **machine(device),
        "commit": code_commit(),
        "command": command_line(),
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's advertisements and advice about workers and logging intervals off the screen."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    names = [name for name in logging.root.manager.loggerDict if name.startswith("lightning")]
    loggers += [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            warnings.filterwarnings("ignore", message=".*num_workers.*")
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*before.*optimizer.step.*")
            warnings.filterwarnings("ignore", message=".*isinstance.*LeafSpec.*")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def _warn(notes: list[str]) -> None:
    for note in notes if not is_helper_process() else ():
        sys.stderr.write(f"note: {note}\n")
