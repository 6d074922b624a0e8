"""What happens beside the steps: seeds, checkpoints, the progress bar, and stopping without losing work."""

from __future__ import annotations

import contextlib
import math
import os
import random
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities import rank_zero_only

from colgraph.data.augment import mix_seed
from colgraph.script import on_stop_signals
from colgraph.training.batches import share_of
from colgraph.training.config import parse_interval
from colgraph.training.errors import InterruptedRunError, TrainingDivergedError
from colgraph.training.folder import RunFolder, writing


class StepSeeds(Callback):
    """Every random number of a step follows from the seed and the step.

    So a run that goes on from any checkpoint draws what it would have drawn, whatever else has used the generators of
    torch, numpy and Python in between; there is no state of theirs to keep.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Seed the step; processes that see the same images draw the same."""
        seed = mix_seed(self.seed, trainer.global_step, share_of(trainer)[0])
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 (the global generator is what others may use)
        random.seed(seed)


def _any(decision: bool, trainer: Trainer) -> bool:
    """Whether any process says so."""
    return decision if trainer.world_size == 1 else bool(trainer.strategy.reduce_boolean_decision(decision, all=False))


def kept_steps(count: int, total: int) -> list[int]:
    """After which of ``total`` steps ``count`` checkpoints are kept: from 1% of them on, a factor apart.

    Accuracy rises about evenly with the logarithm of the steps: spread evenly in steps, nearly all would be of nearly
    the final accuracy. The end is ``last.ckpt``.

    Raises:
        ValueError: for more than there are steps before the last.
    """
    if count >= total > 0:
        raise ValueError(f"keep_checkpoints: {count} are more than the {total - 1} steps before the last of {total}")
    steps = [0]
    for number in range(count):
        wanted = round(total * 100 ** (number / count - 1))
        steps.append(min(max(wanted, steps[-1] + 1), total - count + number))
    return steps[1:]


class Checkpoints(Callback):
    """``last.ckpt`` at the start, at an interval and after every epoch, ``best.ckpt``, and those kept on the way.

    ``best.ckpt`` is that of the highest held-out accuracy after an epoch: of the first epoch, while none is a number.
    Files are written whole or not at all, and
    never with a parameter that is not a number. Lightning's ModelCheckpoint forgets its best score where the folder has
    moved, and a file of it passes through the system's temporary folder.

    Args:
        folder: of the run.
        every: ``200`` (steps) or ``10m`` (minutes) between checkpoints inside an epoch; ``0`` for none.
        hint: how to go on, for the error of a full disk.
        keep: steps after which one is kept.
    """

    def __init__(self, folder: RunFolder, every: str = "0", hint: str = "", keep: Collection[int] = ()) -> None:
        self.folder, self.hint, self.keep = folder, hint, frozenset(keep)
        self.steps, self.seconds = parse_interval(every)
        # Accuracy may be any number: explained variance, and what a task of one's own counts, have no least one.
        self.best = -math.inf
        self.best_epoch = 0
        self._saved_at = time.monotonic()

    @property
    def best_accuracy(self) -> float | None:
        """The highest held-out accuracy after an epoch; None where there is no such number yet."""
        return self.best if math.isfinite(self.best) else None

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """So that there is always one to go on from."""
        self._saved_at = time.monotonic()
        if not self.folder.last.is_file():
            self.save(trainer, self.folder.last)
        for path in self.folder.kept if trainer.is_global_zero else ():
            # Of a session that was killed: this one comes there again, perhaps with other settings.
            if int(path.stem.partition("-")[2]) > trainer.global_step:
                path.unlink()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save at the interval; the last step of an epoch belongs to the epoch's end."""
        if batch_idx + 1 < trainer.num_training_batches:
            self._keep(trainer)
        if (self.steps or self.seconds) and self._due(trainer) and batch_idx + 1 < trainer.num_training_batches:
            self.save(trainer, self.folder.last)

    def _keep(self, trainer: Trainer) -> None:
        """Keep this step, if it is one to keep; before ``last.ckpt``, as the best one."""
        if trainer.global_step in self.keep:
            self.save(trainer, self.folder.kept_at(trainer.global_step))

    def _due(self, trainer: Trainer) -> bool:
        if self.steps:
            return trainer.global_step % self.steps == 0
        # All processes write a checkpoint together, and their clocks differ.
        return _any(time.monotonic() - self._saved_at >= self.seconds, trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Save the epoch."""
        accuracy = float(pl_module.metrics["val_accuracy"])
        accuracy = -math.inf if math.isnan(accuracy) else accuracy  # nothing is larger than nan
        if not self.best_epoch or accuracy > self.best:
            self.best, self.best_epoch = accuracy, trainer.current_epoch + 1
            # First the best one: a run that is killed before the other goes on from before this epoch, and meets it
            # again.
            self.save(trainer, self.folder.best)
        self._keep(trainer)
        self.save(trainer, self.folder.last)

    def save(self, trainer: Trainer, path: Path) -> None:
        """Write a checkpoint beside ``path`` and move it there.

        Raises:
            TrainingDivergedError: if a parameter is not a finite number.
            UnwritableRunError: if the disk is full, or the folder cannot be written to.
        """
        module: Any = trainer.lightning_module
        if not all(bool(torch.isfinite(parameter).all()) for parameter in module.parameters()):
            raise TrainingDivergedError(f"a parameter is no longer a finite number at step {trainer.global_step}")
        part = path.with_suffix(".part")
        with writing(path, self.hint if self.folder.last.is_file() else "", part):
            trainer.save_checkpoint(part)
            if trainer.is_global_zero:
                with part.open("rb") as file:
                    # The file's bytes before its name: after a power cut the name must not stand for less.
                    os.fsync(file.fileno())
                os.replace(part, path)
        if path == self.folder.last:
            self._saved_at = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.best, self.best_epoch = float(state_dict["best"]), int(state_dict["best_epoch"])
        if not self.best_epoch:  # older versions began at -1, which need not be the least
            self.best = -math.inf


class StopOnSignal(Callback):
    """Ctrl-C (or SIGTERM) ends the run after the step at hand, with a checkpoint; a second one ends it at once.

    Raises, out of ``trainer.fit``, :class:`InterruptedRunError`.
    """

    def __init__(self, checkpoints: Checkpoints, resume_hint: str) -> None:
        self.checkpoints = checkpoints
        self.resume_hint = resume_hint
        self.asked = False
        self._signals = contextlib.ExitStack()

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Take over both signals, of which Lightning has taken SIGTERM for itself when training began."""
        self._signals.enter_context(on_stop_signals(self._ask))

    def on_train_end(self, trainer: Trainer, pl_module: Any, exception: BaseException | None = None) -> None:
        """Give the signals back."""
        self._signals.close()

    on_exception = on_train_end

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked:
            raise InterruptedRunError(f"stopped at once; the last checkpoint stays: {self.resume_hint}")
        self.asked = True
        sys.stderr.write("\nstopping after this step (again to stop at once)\n")

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stop inside an epoch; its last step belongs to the epoch's end."""
        if _any(self.asked, trainer) and batch_idx + 1 < trainer.num_training_batches:
            self.checkpoints.save(trainer, self.checkpoints.folder.last)
            self._stop(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Stop between epochs; the checkpoint has just been written."""
        if _any(self.asked, trainer) and trainer.current_epoch + 1 < (trainer.max_epochs or 0):
            self._stop(trainer)

    def _stop(self, trainer: Trainer) -> None:
        raise InterruptedRunError(f"stopped after step {trainer.global_step}; {self.resume_hint}")


class ProgressBar(Callback):
    """One bar over the whole run, with the epoch, the running loss and the last held-out accuracy.

    The first step compiles kernels, or loads them: that is said, and the bar and its clock begin after it. Lightning's
    bars are one an epoch, which do not say when the run ends, among what a script prints.
    """

    def __init__(self) -> None:
        self._bar: Any = None

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Say what takes so long."""
        if trainer.global_step < trainer.estimated_stepping_batches:
            sys.stderr.write("the first step compiles kernels, which may take a minute; the clock starts after it\n")

    def _open(self, trainer: Trainer) -> None:
        from tqdm import tqdm

        class Bar(tqdm):  # type: ignore[type-arg]
            # A thread that watches over slow bars would outlive the run.
            monitor_interval = 0

        shown = sys.stderr.isatty()
        self._bar = Bar(
            total=int(trainer.estimated_stepping_batches),
            initial=trainer.global_step,
            desc=self._title(trainer),
            unit="step",
            mininterval=0.2 if shown else 10.0,
            miniters=1,
            dynamic_ncols=shown,
            smoothing=0.05,
        )

    def _title(self, trainer: Trainer) -> str:
        return f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"

    @rank_zero_only
    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Name the epoch."""
        if self._bar is not None:
            self._bar.set_description(self._title(trainer), refresh=False)

    @rank_zero_only
    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count a step."""
        if self._bar is None:
            self._open(trainer)
        else:
            self._bar.update(1)

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Show how the epoch went."""
        metrics = pl_module.metrics
        text = f"loss {metrics['train_loss']:.3f}, held-out accuracy {metrics['val_accuracy']:.1%}"
        self._bar.set_postfix_str(text, refresh=False)

    def on_train_end(self, trainer: Trainer, pl_module: Any, exception: BaseException | None = None) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    on_exception = on_train_end
