"""The LightningModule: a vision columnformer, its loss and its optimizer."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from colgraph.distributed import SheetParallelVision, distribute
from colgraph.models import VisionColumnformer, VisionModel
from colgraph.training.checkpoint import KEY
from colgraph.training.config import TrainConfig
from colgraph.training.errors import TrainingDivergedError
from colgraph.training.spatial import Neighborhoods, spatial_loss

__all__ = ["SheetClassifier", "parameter_groups", "schedule_factor"]


class SheetClassifier(pl.LightningModule):
    """Cross-entropy plus the wiring cost and the spatial loss, learned with AdamW.

    ``loss = cross_entropy(logits, labels) + wiring * wiring_cost / spacing ** p + spatial_weight * spatial_loss``,
    where p is the model's ``wiring_power``.

    Args:
        net: the vision model; a baseline without a sheet has no wiring cost.
        config: learning rate, decay, schedule, label smoothing and weight of the wiring cost.
        packed: what every checkpoint carries, from :func:`colgraph.training.checkpoint.pack_run`.

    Attributes:
        reschedule: whether the number of epochs is another than in the checkpoint that training goes on from.
    """

    def __init__(self, net: VisionModel, config: TrainConfig, packed: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.net = net
        self.config = config
        self.packed = packed or {}
        self.reschedule = False
        self.spacing: float | None = None
        if isinstance(net, VisionColumnformer):
            self.spacing = net.model.sheet.spacing
            self.wire_unit = self.spacing**net.model.wiring_power
        self.metrics: dict[str, float] = {}
        # Sums of loss, correct answers, wiring cost and images since the last time they were read. Those of self.log
        # are in no checkpoint: a run that goes on inside an epoch would forget the epoch's first part.
        self.totals = torch.zeros(4)

    # ------------------------------------------------------------------ steps

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """The loss of one batch; raises :class:`colgraph.training.TrainingDivergedError` where it is not finite."""
        images, labels, *mixing = batch
        logits, wiring, state = self._run(images)
        entropy = self._entropy(logits, labels, *mixing)
        loss = entropy
        if self.spacing is not None:
            loss = loss + self.config.wiring / self.wire_unit * wiring
        if self.config.spatial_weight and state is not None:
            drawn = self.neighborhoods.draw(self.config.seed, self.global_step)
            space = spatial_loss(state, *(part.to(state.device) for part in drawn))
            loss = loss + self.config.spatial_weight * space
        if not torch.isfinite(loss):
            raise TrainingDivergedError(f"the loss is {float(loss.detach())} at step {self.global_step + 1}")
        self._count(entropy, logits, labels, wiring)
        return loss

    @cached_property
    def neighborhoods(self) -> Neighborhoods:
        """What the spatial loss looks at: found before the first step of a training that has it."""
        net: Any = self.net
        return Neighborhoods(net.model.sheet)

    def _entropy(self, logits: Tensor, labels: Tensor, *mixing: Tensor) -> Tensor:
        """Cross-entropy; of mixed images, that of both labels by their shares."""
        smoothing = self.config.label_smoothing
        if not mixing:
            return F.cross_entropy(logits, labels, label_smoothing=smoothing)
        others, share = mixing
        own, other = (
            F.cross_entropy(logits, each, label_smoothing=smoothing, reduction="none") for each in (labels, others)
        )
        return (share * own + (1 - share) * other).mean()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count one held-out batch."""
        self._evaluate(batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count one test batch."""
        self._evaluate(batch)

    def _evaluate(self, batch: tuple[Tensor, Tensor]) -> None:
        images, labels = batch
        logits, wiring, _ = self._run(images)
        self._count(F.cross_entropy(logits, labels), logits, labels, wiring)

    def _run(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Logits in full precision, the wiring cost, and the last state; without a sheet zero and None."""
        if not isinstance(self.net, VisionColumnformer | SheetParallelVision):
            logits = self.net(images).float()
            return logits, logits.new_zeros(()), None
        out = self.net.unroll(images)
        said: Any = out.logits
        return said.float(), out.wiring_cost.float(), out.state

    def _count(self, loss: Tensor, logits: Tensor, labels: Tensor, wiring: Tensor) -> None:
        n = labels.numel()
        correct = (logits.detach().argmax(-1) == labels).sum().to(torch.float32)
        sums = torch.stack([loss.detach().float() * n, correct, wiring.detach().float() * n, correct * 0 + n])
        self.totals = self.totals.to(sums.device) + sums

    def _read(self, split: str) -> None:
        """Turn the sums into ``<split>_loss``, ``<split>_accuracy`` and ``<split>_wiring_cost``, over all processes."""
        totals = self.trainer.strategy.reduce(self.totals.to(self.device), reduce_op="sum")
        loss, correct, wiring, n = torch.as_tensor(totals).tolist()
        n = max(n, 1.0)
        values = {"loss": loss / n, "accuracy": correct / n, "wiring_cost": wiring / n}
        if self.spacing is None:
            del values["wiring_cost"]
        self.metrics |= {f"{split}_{name}": value for name, value in values.items()}
        self.totals = torch.zeros(4)

    def on_validation_epoch_start(self) -> None:
        """Close the training epoch: validation runs inside of it."""
        if not self.trainer.sanity_checking and self.trainer.state.fn == "fit":
            self._read("train")

    def on_validation_epoch_end(self) -> None:
        """Close the held-out pass."""
        self._read("val")

    def on_test_epoch_start(self) -> None:
        """Begin counting afresh."""
        self.totals = torch.zeros(4)

    def on_test_epoch_end(self) -> None:
        """Close the test pass."""
        self._read("test")

    # ------------------------------------------------------------------ learning

    def configure_model(self) -> None:
        """Keep this process's part of the model, where several share a sheet."""
        strategy: Any = self.trainer.strategy
        cut = getattr(strategy, "parts", 1) > 1
        if cut and isinstance(self.net, VisionColumnformer) and not isinstance(self.net, SheetParallelVision):
            self.net = distribute(self.net, strategy.mesh)

    def configure_optimizers(self) -> Any:
        """AdamW with a linear warm-up and a cosine to zero, both per step."""
        config = self.config
        # The fused kernel undoes loss scaling by itself, which gradient clipping cannot look into.
        fused = config.precision != "16-mixed" and self.device.type in ("cpu", "cuda")
        groups = parameter_groups(self.net, config)
        optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), fused=fused)
        total = int(self.trainer.estimated_stepping_batches)
        warmup = round(config.warmup * total / config.epochs)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule_factor(step, warmup, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        """With another number of epochs, the next step's learning rate is the new schedule's, not the saved one."""
        schedule: Any = self.lr_schedulers()
        if self.reschedule:
            factor = schedule.lr_lambdas[0](schedule.last_epoch)
            for group, base in zip(schedule.optimizer.param_groups, schedule.base_lrs, strict=True):
                group["lr"] = base * factor

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the norm of all gradients together.

        Lightning's own clipping refuses every fused optimizer under mixed precision; only a loss scale (float16, where
        the optimizer is not fused) would be in the way.
        """
        if gradient_clip_val:
            if isinstance(self.net, SheetParallelVision):
                self.net.model.clip_gradients(gradient_clip_val, self.net)
            else:
                torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what :func:`colgraph.training.load_trained` needs, and the sums of an unfinished epoch."""
        checkpoint[KEY] = {**self.packed, "totals": self.totals.cpu().clone(), "metrics": dict(self.metrics)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the sums of an unfinished epoch."""
        self.totals = checkpoint[KEY]["totals"]
        self.metrics = dict(checkpoint[KEY]["metrics"])


def parameter_groups(net: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Parameters by learning rate and decay: weights, which decay, first.

    Norms, biases, embeddings and edge biases do not decay. Of parameters written as shared + difference, the
    differences have a factor on the learning rate and a decay of their own; edge biases and embeddings have factors.
    AdamW multiplies the decay by the learning rate, so a factor on the one is a factor on both.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {(1.0, config.weight_decay): [], (1.0, 0.0): []}
    for name, parameter in net.named_parameters():
        path = name.split(".")
        # torch's attention calls its projections in_proj_weight.
        is_weight = path[-1].endswith("weight") and not any(part.startswith("norm") for part in path)
        factor, decay = 1.0, config.weight_decay
        if "difference" in path:
            factor = config.difference_lr
            decay = decay if config.difference_decay is None else config.difference_decay
        elif path[-1] == "edge_bias":
            factor = config.edge_bias_lr
        elif path[-1].endswith("_embedding"):
            factor = config.embedding_lr
        groups.setdefault((factor, decay if is_weight else 0.0), []).append(parameter)
    return [
        {"params": parameters, "lr": config.lr * factor, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
        if parameters
    ]


def schedule_factor(step: int, warmup: int, total: int) -> float:
    """Factor on the learning rate at a step: up linearly over ``warmup`` steps, then down a half cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(total - warmup, 1)
    return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
