"""``metrics.csv``: one row per optimizer step, and on the last row of an epoch what the whole epoch gave."""

from __future__ import annotations

import contextlib
import csv
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities import rank_zero_only

from colgraph.output import write_text
from colgraph.training.batches import share_of
from colgraph.training.errors import UnwritableRunError
from colgraph.training.folder import writing
from colgraph.training.loggers import log_epoch
from colgraph.training.measure import cpu_seconds

COLUMNS = (
    *("epoch", "step", "learning_rate", "loss", "train_loss", "train_accuracy"),
    *("val_loss", "val_accuracy", "wiring_cost", "seconds"),
    *("spatial_loss", "weight_similarity_loss", "communicability_cost"),
)
_STEP = COLUMNS[:4]


class MetricsLog(Callback):
    """Steps and epochs, in ``metrics.csv`` and (epochs) the loggers; both travel in checkpoints.

    A run that goes on first cuts the file back to what its checkpoint knows, so that every step is in it once.
    Lightning's CSVLogger deletes the file of a run that goes on, and gives steps and epochs rows of their own.

    Args:
        path: the CSV file.
        hint: how to go on, for the error of a full disk.
        more: what else of the module's metrics there is a column for.

    Attributes:
        rows: one per epoch.
        steps: one per step: epoch, step, learning rate and loss.
    """

    def __init__(self, path: Path, hint: str = "", more: Sequence[str] = ()) -> None:
        self.path, self.hint, self.more = path, hint, tuple(more)
        self.rows: list[dict[str, float | None]] = []
        self.steps: list[tuple[int, int, float, float]] = []
        self.images = 0
        self.before, self.cpu_before = 0.0, 0.0
        self.started, self.cpu_started = time.monotonic(), cpu_seconds()
        # Images and seconds of the steps that are timed: all but the first of a session, which compiles kernels.
        self.timed_images, self.timed_seconds = 0, 0.0
        self._mark: float | None = None
        self._compiled = False
        self._rate = 0.0
        self._file: IO[str] | None = None
        self._written = 0

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

    # ------------------------------------------------------------------ steps and epochs

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Write what is known, and leave the file open for more."""
        with writing(self.path, self.hint):
            write_text(self.path, self._lines([{name: name for name in self._columns}]) + self._text(self.steps))
            # Each line leaves at once, so that a run that is killed can be read up to its last step but one.
            self._file = self.path.open("a", buffering=1, encoding="utf-8", newline="")
        self._written = len(self.steps)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Time from here."""
        self._mark = time.monotonic()

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Remember the learning rate of this step; the schedule moves on before its end."""
        self._rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Add the step, and count its images and its time."""
        # A step is written when the next begins: if it was the last of its epoch, the epoch's results belong to it.
        self._flush()
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        self.steps.append((trainer.current_epoch + 1, trainer.global_step, self._rate, float(loss)))
        now, count = time.monotonic(), len(batch[1]) * share_of(trainer)[1]
        self.images += count
        if self._mark is not None and self._compiled:
            self.timed_images += count
            self.timed_seconds += now - self._mark
        self._mark, self._compiled = now, True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Add the epoch to its last step."""
        metrics = pl_module.metrics
        values = (
            *(trainer.current_epoch + 1, trainer.global_step, self._rate, self.steps[-1][3]),
            *(metrics[name] for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy")),
            *(metrics.get("val_wiring_cost"), round(self.seconds, 2)),
            *(metrics.get(f"train_{name}") for name in COLUMNS[-3:]),
            *(metrics[name] for name in self.more),
        )
        row = dict(zip(self._columns, values, strict=True))
        self.rows = [*self.rows, row]
        with writing(self.path.parent, self.hint):
            for logger in trainer.loggers:
                known = {name: value for name, value in row.items() if name != "step" and value is not None}
                log_epoch(logger, known, trainer.global_step)
        self._flush()

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Close the file."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Close the file; the last step may belong to no checkpoint, which the next session sets right."""
        if not isinstance(exception, UnwritableRunError):
            self._flush()
        self._close()

    # ------------------------------------------------------------------ the file

    def _flush(self) -> None:
        """Write steps that are not in the file yet."""
        if self._file is not None and len(self.steps) > self._written:
            with writing(self.path, self.hint):
                self._file.write(self._text(self.steps[self._written :]))
            self._written = len(self.steps)

    def _text(self, steps: list[tuple[int, int, float, float]]) -> str:
        epochs = {row["step"]: row for row in (self.rows[-1:] if len(steps) == 1 else self.rows)}
        return self._lines([epochs.get(step[1]) or dict(zip(_STEP, step)) for step in steps])

    @property
    def _columns(self) -> tuple[str, ...]:
        return (*COLUMNS, *self.more)

    def _lines(self, rows: list[dict[str, Any]]) -> str:
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._columns, lineterminator="\n", restval="").writerows(rows)
        return text.getvalue()

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            with contextlib.suppress(OSError):
                file.close()

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {
            "rows": self.rows,
            "steps": torch.tensor(self.steps, dtype=torch.float64).reshape(-1, len(_STEP)),
            "images": self.images,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "timed": [self.timed_images, self.timed_seconds],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.rows, self.images = list(state_dict["rows"]), int(state_dict["images"])
        self.steps = [(int(epoch), int(step), rate, loss) for epoch, step, rate, loss in state_dict["steps"].tolist()]
        self.before, self.cpu_before = float(state_dict["seconds"]), float(state_dict["cpu_seconds"])
        self.timed_images, self.timed_seconds = state_dict["timed"]
        self.started, self.cpu_started = time.monotonic(), cpu_seconds()
