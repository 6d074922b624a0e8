"""Exponential moving average of the weights: what is validated, tested and written is the average."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

__all__ = ["AverageWeights"]

_RAW = "raw_parameters"


class AverageWeights(Callback):
    """``average <- decay average + (1 - decay) weights`` after every step, through torch's ``AveragedModel``.

    The state dict of a checkpoint is the average, so that whoever reads one gets what was validated; the weights that
    training goes on from lie beside it. Lightning's own callback copies the whole module, with the sums of the epoch
    at hand in it, and swaps those too.

    Args:
        decay: between 0 and 1, both excluded.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.average: AveragedModel | None = None
        self._swapped = False

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """A copy of the model, before a checkpoint is read."""
        if stage == "fit":
            self.average = AveragedModel(pl_module.net, multi_avg_fn=get_ema_multi_avg_fn(self.decay))

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """To where the model is."""
        like = next(pl_module.net.parameters())
        self._model().to(like.device, like.dtype)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Take in the step."""
        self._model().update_parameters(pl_module.net)

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        """The average is what is validated."""
        if trainer.state.fn == "fit":
            self._swap(pl_module.net)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Back to the weights."""
        if trainer.state.fn == "fit":
            self._swap(pl_module.net)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """The average is what is left."""
        self.finish(pl_module.net)

    @torch.no_grad()
    def finish(self, net: nn.Module) -> None:
        """Give the model the averaged parameters; may be called again."""
        for mine, theirs in zip(self._model().module.parameters(), net.parameters(), strict=True):
            theirs.copy_(mine)

    @torch.no_grad()
    def _swap(self, net: nn.Module) -> None:
        for mine, theirs in zip(self._model().module.parameters(), net.parameters(), strict=True):
            kept = mine.clone()
            mine.copy_(theirs)
            theirs.copy_(kept)

    def _model(self) -> AveragedModel:
        if self.average is None:
            raise ValueError("there is no average before training begins")
        return self.average

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """The average in place of the weights, and these beside it."""
        average = self._model()
        raw = checkpoint["state_dict"]
        averaged = {f"net.{name}": value for name, value in average.module.state_dict().items()}
        checkpoint[_RAW] = {name: raw[name] for name in averaged}
        checkpoint["state_dict"] = {**raw, **averaged}
        checkpoint["averaged_steps"] = int(average.n_averaged)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Both, where the checkpoint has both; the model has been given the average by now."""
        if _RAW not in checkpoint:
            raise ValueError("the checkpoint holds no average of the weights: resume without --ema, as the run began")
        average = self._model()
        saved = {name.removeprefix("net."): value for name, value in checkpoint["state_dict"].items()}
        average.module.load_state_dict(saved)
        average.n_averaged.fill_(checkpoint["averaged_steps"])
        pl_module.load_state_dict(checkpoint[_RAW], strict=False)
