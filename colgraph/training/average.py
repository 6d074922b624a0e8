"""Exponential moving average of the weights: what is validated, tested and written is the average."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from colgraph.models.other_edges import change_edges
from colgraph.sheet import Sheet


class AverageWeights(WeightAveraging):
    """``average <- decay average + (1 - decay) weights`` after every step.

    The state dict of a checkpoint is the average, so that whoever reads one gets what was validated; the weights that
    training goes on from lie beside it.

    Args:
        decay: between 0 and 1, both excluded.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(use_buffers=False, multi_avg_fn=get_ema_multi_avg_fn(decay))

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """A copy of the model, where it is going to be and in the precision that it is going to have."""
        trainer.strategy.precision_plugin.convert_module(pl_module.to(trainer.strategy.root_device))
        super().setup(trainer, pl_module, stage)

    def change_edges(self, sheet: Sheet, came_from: Tensor) -> None:
        """Put the average on the sheet that the model has been put on, see :func:`change_edges`."""
        average: Any = self._average_model
        if average is not None:
            change_edges(average.module.net.model, sheet, came_from)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Both, where the checkpoint has both: Lightning would go on with one in place of the other."""
        if "raw_parameters" in checkpoint:  # as version 0.1.0 wrote them
            checkpoint["current_model_state"] = checkpoint["raw_parameters"]
            checkpoint["averaging_state"] = {"n_averaged": torch.tensor(checkpoint["averaged_steps"])}
        if "current_model_state" not in checkpoint:
            raise ValueError("the checkpoint holds no average of the weights: resume without --ema, as the run began")
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
