"""The figures of a run, drawn at its start, at an interval and at its end."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from colgraph.data import ImageSplits
from colgraph.distributed import SheetParallelVision
from colgraph.models import VisionColumnformer
from colgraph.modes import evaluation
from colgraph.tasks import Classify, Task
from colgraph.training.metrics import MetricsLog
from colgraph.viz import (
    draw_attention_by_distance,
    draw_column,
    draw_curves,
    draw_edges_over_time,
    draw_sheet,
    save_figure,
)
from colgraph.viz.style import save_for_papers
from colgraph.viz.views import unit_of

_MOST_IMAGES = 64
# Floats that recording attention may hold at once.
_BUDGET = 5e7


@torch.no_grad()
def mean_attention(net: VisionColumnformer, images: Tensor) -> Tensor:
    """Attention ``[T,E]`` of each edge at each step, the mean over images and heads.

    Where several processes share the sheet, all of them call it, and all get the whole.
    """
    attention = net.unroll(images, record=("attention",)).attention
    if attention is None:
        raise ValueError("the model recorded no attention")
    mean = attention.float().mean((2, 3))
    return net.model.gather_edges(mean, dim=1) if isinstance(net, SheetParallelVision) else mean


def _said_of(task: Task, images: ImageSplits) -> dict[str, Any]:
    """What curves of accuracy and loss are called, where they are not those of a class per image."""
    said: dict[str, Any] = {"augmented": task.settings.augment != "none"}
    if task.accuracy_is != Classify.accuracy_is:
        said["accuracy_is"] = task.accuracy_is
    if type(task).loss is not Classify.loss:
        said["loss_is"] = f"loss of task {task.settings.task}"
    said["smoothing"] = task.smoothing(images.train.labels.is_floating_point())
    if task.weights is None:  # weights move the least loss
        said["classes"] = len(images.classes)
    return said


class RunFigures(Callback):
    """``sheet.png``, ``curves.png``, ``attention_by_distance.png`` and ``column.png`` in a run's folder, with edges
    that come and go ``plasticity.png``; of a baseline without a sheet, the curves alone.

    Attention is measured on held-out images. What it was before training travels in checkpoints, so that a resumed run
    still compares with its true beginning. What is drawn last has a PDF beside it. A figure that cannot be drawn is a
    warning and never ends a run.

    Args:
        folder: where the files go.
        images: the splits, of which the first held-out images are shown to the model.
        log: the rows that the curves show.
        every: redraw every so many epochs; 0 for only at the end.
        plasticity: returns what is known of edges that come and go, where they do.
    """

    def __init__(
        self,
        folder: Path,
        images: ImageSplits,
        log: MetricsLog,
        every: int,
        plasticity: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        self.folder, self.images, self.history, self.every = folder, images, log, every
        self.plasticity = plasticity
        self.before: Tensor | None = None
        self.distance_before: Tensor | None = None  # of the edges that it belongs to: they may be others by now

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Remember the attention before training, and draw the sheet."""
        if not isinstance(pl_module.net, VisionColumnformer):
            return
        if self.before is None:
            self.before = self._attention(pl_module).mean(0)
            self.distance_before = pl_module.net.model.sheet.edge_distance.clone()
        if trainer.is_global_zero:
            self._save("sheet.png", lambda: draw_sheet(pl_module.net.model.sheet), save_for_papers)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Redraw at the interval."""
        epoch = trainer.current_epoch + 1
        if self.every and epoch % self.every == 0 and epoch < (trainer.max_epochs or 0):
            self.draw(pl_module, trainer.is_global_zero)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Draw the end, for papers too."""
        self.draw(pl_module, trainer.is_global_zero, save_for_papers)

    def draw(self, module: Any, save: bool, write: Callable[[Any, Path], Path] = save_figure) -> None:
        """Draw everything that changes during a run: all processes compute, and the one told to ``save`` draws."""
        keep = functools.partial(self._save, write=write)
        said = _said_of(module.task, self.images)
        if not isinstance(module.net, VisionColumnformer):
            if save:
                title = f"{self.images.source}, {module.config.model}"
                keep("curves.png", lambda: draw_curves(self.history.rows, title=title, **said))
            return
        sheet = module.net.model.sheet
        attention = self._attention(module).numpy()
        if not save:
            return
        before = None if self.before is None else self.before.numpy()
        then = None if self.distance_before is None else self.distance_before.numpy()
        title = f"{self.images.source} on {sheet.geometry}"
        distance, unit = sheet.edge_distance.numpy(), unit_of(sheet)
        keep("curves.png", lambda: draw_curves(self.history.rows, title=title, unit=unit, **said))
        keep(
            "attention_by_distance.png",
            lambda: draw_attention_by_distance(
                distance,
                attention.mean(0),
                before,
                distance_before=then,
                spacing=sheet.spacing,
                title=f"Attention by distance: {title}",
            ),
        )
        keep("column.png", lambda: draw_column(sheet, attention))
        if self.plasticity is not None:
            told, rows, heading = self.plasticity(), self.history.rows, f"Edges that come and go: {title}"
            keep("plasticity.png", lambda: draw_edges_over_time(told, rows, spacing=sheet.spacing, title=heading))
            keep("sheet.png", lambda: draw_sheet(sheet))

    def _attention(self, module: Any) -> Tensor:
        net = module.net
        model = net.model
        edges, width = model.sheet.edge_index.size(1), model.block.attention.qk_dim + model.steps
        count = int(min(_MOST_IMAGES, len(self.images.val), max(1, _BUDGET // (edges * width))))
        pixels = self.images.transform().evaluate(self.images.val.batch(range(count))[0])
        with evaluation(net):
            return mean_attention(net, pixels.to(module.device, next(net.parameters()).dtype)).cpu()

    def _save(self, name: str, draw: Any, write: Callable[[Any, Path], Path]) -> None:
        try:
            write(draw(), self.folder / name)
        except Exception as error:
            warnings.warn(f"{name} could not be drawn: {error}", stacklevel=2)

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"before": self.before, "distance_before": self.distance_before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.before, self.distance_before = state_dict["before"], state_dict.get("distance_before")
