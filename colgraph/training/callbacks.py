"""What happens beside the steps: checkpoints, metrics, the progress bar, and stopping without losing work."""

from __future__ import annotations

import csv
import io
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities import rank_zero_only

from colgraph.training.errors import InterruptedRunError, TrainingDivergedError
from colgraph.training.folder import RunFolder, write_text
from colgraph.training.measure import cpu_seconds

__all__ = ["Checkpoints", "MetricsLog", "ProgressBar", "StopOnSignal"]

COLUMNS = (
    *("epoch", "step", "learning_rate", "train_loss", "train_accuracy"),
    *("val_loss", "val_accuracy", "wiring_cost", "seconds"),
)


class MetricsLog(Callback):
    """One row per epoch, in ``metrics.csv`` and the loggers; rows travel in checkpoints, so that a resumed run agrees.

    Args:
        path: the CSV file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []
        self.images = 0
        self.before, self.cpu_before = 0.0, 0.0
        self.started, self.cpu_started = time.monotonic(), cpu_seconds()
        # Images and seconds of the steps that are timed: all but the first of a session, which compiles kernels.
        self.timed_images, self.timed_seconds = 0, 0.0
        self._mark: float | None = None
        self._compiled = False

    @property
    def seconds(self) -> float:
        """Time spent on the run, earlier sessions included."""
        return self.before + time.monotonic() - self.started

    @property
    def cpu_seconds(self) -> float:
        """Processor time spent on the run, earlier sessions included."""
        return self.cpu_before + cpu_seconds() - self.cpu_started

    @property
    def images_per_second(self) -> float | None:
        """Images trained on per second, loading included, validation and figures not; None before the second step."""
        return self.timed_images / self.timed_seconds if self.timed_seconds else None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Time from here."""
        self._mark = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count the step's images and its time."""
        now, count = time.monotonic(), len(batch[1]) * _replicas(trainer)
        self.images += count
        if self._mark is not None and self._compiled:
            self.timed_images += count
            self.timed_seconds += now - self._mark
        self._mark, self._compiled = now, True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Add the epoch's row."""
        metrics = pl_module.metrics
        values = (
            *(trainer.current_epoch + 1, trainer.global_step, trainer.optimizers[0].param_groups[0]["lr"]),
            *(metrics[name] for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy")),
            *(metrics["val_wiring_cost"], round(self.seconds, 2)),
        )
        row = dict(zip(COLUMNS, values, strict=True))
        self.rows = [*self.rows, row]
        for logger in trainer.loggers:
            logger.log_metrics({k: v for k, v in row.items() if k != "step"}, step=trainer.global_step)
        self._write()

    @rank_zero_only
    def _write(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {
            "rows": self.rows,
            "images": self.images,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "timed": [self.timed_images, self.timed_seconds],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.rows, self.images = list(state_dict["rows"]), int(state_dict["images"])
        self.before, self.cpu_before = float(state_dict["seconds"]), float(state_dict["cpu_seconds"])
        self.timed_images, self.timed_seconds = state_dict["timed"]
        self.started, self.cpu_started = time.monotonic(), cpu_seconds()


def _replicas(trainer: Trainer) -> int:
    """How many processes see different images."""
    strategy: Any = trainer.strategy
    return int((getattr(strategy, "distributed_sampler_kwargs", None) or {}).get("num_replicas", 1))


class Checkpoints(Callback):
    """``last.ckpt`` at the start and after every epoch, ``best.ckpt`` at every new best held-out accuracy.

    Files are written whole or not at all, and never with a parameter that is not a number.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.best = -1.0
        self.best_epoch = 0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """So that there is always one to go on from."""
        if not self.folder.last.is_file():
            self.save(trainer, self.folder.last)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Save the epoch."""
        if not all(bool(torch.isfinite(parameter).all()) for parameter in pl_module.parameters()):
            raise TrainingDivergedError(f"a parameter is no longer a finite number at step {trainer.global_step}")
        accuracy = pl_module.metrics["val_accuracy"]
        is_best = accuracy > self.best
        if is_best:
            self.best, self.best_epoch = accuracy, trainer.current_epoch + 1
        self.save(trainer, self.folder.last)
        if is_best:
            self.save(trainer, self.folder.best)

    def save(self, trainer: Trainer, path: Path) -> None:
        """Write a checkpoint beside ``path`` and move it there."""
        part = path.with_suffix(".part")
        trainer.save_checkpoint(part)
        if trainer.is_global_zero:
            os.replace(part, path)

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.best, self.best_epoch = float(state_dict["best"]), int(state_dict["best_epoch"])


class StopOnSignal(Callback):
    """Ctrl-C (or SIGTERM) ends the run after the step at hand, with a checkpoint; a second one ends it at once.

    Raises, out of ``trainer.fit``, :class:`InterruptedRunError`.
    """

    def __init__(self, checkpoints: Checkpoints, resume_hint: str) -> None:
        self.checkpoints = checkpoints
        self.resume_hint = resume_hint
        self.asked = False
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Take over both signals."""
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._ask)
        except ValueError:
            # Only the main thread may; elsewhere the caller's handlers stay.
            self._handlers.clear()

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked:
            raise InterruptedRunError(f"stopped at once; the last checkpoint stays: {self.resume_hint}")
        self.asked = True
        sys.stderr.write("\nstopping after this step (again to stop at once)\n")

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stop inside an epoch; its last step belongs to the epoch's end."""
        if self._agreed(trainer) and batch_idx + 1 < trainer.num_training_batches:
            self.checkpoints.save(trainer, self.checkpoints.folder.last)
            self._stop(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Stop between epochs; the checkpoint has just been written."""
        if self._agreed(trainer) and trainer.current_epoch + 1 < (trainer.max_epochs or 0):
            self._stop(trainer)

    def _agreed(self, trainer: Trainer) -> bool:
        """Whether any process was asked to stop."""
        if trainer.world_size == 1:
            return self.asked
        return bool(trainer.strategy.reduce_boolean_decision(self.asked, all=False))

    def _stop(self, trainer: Trainer) -> None:
        raise InterruptedRunError(f"stopped after step {trainer.global_step}; {self.resume_hint}")

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Give the signals back."""
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Give the signals back."""
        self._restore()


class ProgressBar(Callback):
    """One bar over the whole run, with the epoch, the running loss and the last held-out accuracy."""

    def __init__(self) -> None:
        self._bar: Any = None

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Open the bar."""
        from tqdm import tqdm

        shown = sys.stderr.isatty()
        self._bar = tqdm(
            total=int(trainer.estimated_stepping_batches),
            initial=trainer.global_step,
            desc=f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}",
            unit="step",
            mininterval=0.2 if shown else 10.0,
            dynamic_ncols=shown,
            smoothing=0.05,
        )

    @rank_zero_only
    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Name the epoch."""
        self._bar.set_description(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", refresh=False)

    @rank_zero_only
    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count a step."""
        self._bar.update(1)

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Show how the epoch went."""
        metrics = pl_module.metrics
        text = f"loss {metrics['train_loss']:.3f}, held-out accuracy {metrics['val_accuracy']:.1%}"
        self._bar.set_postfix_str(text, refresh=False)

    def _finish(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Close the bar."""
        self._finish()

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Close the bar."""
        self._finish()
