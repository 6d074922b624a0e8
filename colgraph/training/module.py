"""The LightningModule: a model of images, its task and its optimizer."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from colgraph.distributed import SheetParallelVision, distribute
from colgraph.distributed.collectives import gather_replicas
from colgraph.models import OwnNetwork, VisionColumnformer, VisionModel, VisionUnroll
from colgraph.tasks import Question, drawn_steps, make_task, step_weights
from colgraph.training.batches import share_of
from colgraph.training.checkpoint import KEY
from colgraph.training.config import TrainConfig
from colgraph.training.errors import TrainingDivergedError
from colgraph.training.questions import held_out_question, task_seed
from colgraph.training.regularizers import Regularizers


class TaskModule(pl.LightningModule):
    """The loss of a task plus what is asked of a sheet beside it (:class:`Regularizers`), learned with AdamW.

    The task's loss is that of the answers after the last step, or of those after each
    (:func:`colgraph.tasks.step_weights`).

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
        self.task = make_task(config)
        self.packed = packed or {}
        self.reschedule = False
        self.spacing: float | None = None
        self.regularizers: Regularizers | None = None
        if isinstance(net, VisionColumnformer):
            self.spacing = net.model.sheet.spacing
            self.regularizers = Regularizers(net, config)
        self.metrics: dict[str, float] = {}
        # Sums of loss, the task's tally, wiring cost, images, and what the loss counts, since the last time they were
        # read. Those of self.log are in no checkpoint: a run that goes on inside an epoch would forget its first part.
        self.totals = torch.zeros(0)
        # Whether the loss counts images, whatever the task says: as an older version began the epoch.
        self._by_images = False
        # Likewise the sums of what is added to the task's loss, by name, and the images of these steps.
        self.terms: dict[str, float] = {}

    # ------------------------------------------------------------------ steps

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """The loss of one batch; raises :class:`colgraph.training.TrainingDivergedError` where it is not finite."""
        images, labels, *mixing = batch
        config = self.config
        draws = torch.Generator().manual_seed(task_seed(config, self.global_step, self._share))
        steps = drawn_steps(config.least_steps, config.steps, draws) if config.recurs else None
        question = self.task.question(self.net, images, (labels, *mixing) if mixing else labels, draws)
        record = {"state"} if config.step_loss != "last" else set()
        if self.regularizers is not None:
            record |= self.regularizers.records
        # Before a network has learned anything, what it does after many steps is nothing to learn from.
        burns_in = config.burn_in > 0 and self.current_epoch >= config.epochs // 2
        burn_in = drawn_steps(0, config.burn_in, draws) if burns_in else 0
        answers, wiring, out = self._run(question, steps, record, burn_in)
        entropy = self._loss(answers, out, question.targets)
        if entropy.numel() != 1:
            raise ValueError(f"the loss of task {config.task!r} must be one number, got shape {list(entropy.shape)}")
        loss, values = entropy, {}
        if self.regularizers is not None:
            terms = self.regularizers.terms(self.net, out, self.global_step)
            loss = entropy + torch.stack([weight * value for weight, value in terms.values()]).sum()
            values = {name: value for name, (_, value) in terms.items() if name != "wiring_cost"}
        if not torch.isfinite(loss):
            raise TrainingDivergedError(f"the loss is {float(loss.detach())} at step {self.global_step + 1}")
        self._count(entropy, answers, question, wiring, len(labels), training=True)
        self._count_terms(values, len(labels))
        return loss

    @property
    def _share(self) -> int:
        """Which share of the images this process sees."""
        return share_of(self.trainer)[0] if self._trainer is not None else 0

    def _loss(self, answers: Tensor, out: VisionUnroll, targets: Any) -> Tensor:
        """That of the answers after the last step, or of those after each, weighted."""
        said = out.step_logits
        if said is None:
            return self.task.loss(answers, targets, training=True)
        weights = step_weights(self.config.step_loss, len(said))
        counted = [(weight, each.float()) for weight, each in zip(weights, said) if weight]
        return torch.stack([weight * self.task.loss(each, targets, training=True) for weight, each in counted]).sum()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count one held-out batch."""
        self._evaluate(batch, batch_idx)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Count one test batch; returns what the task keeps of each image."""
        return self._evaluate(batch, batch_idx)

    def _evaluate(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        images, labels = batch
        question = held_out_question(self.task, self.net, self.config, images, labels, batch_idx, self._share)
        answers, wiring, _ = self._run(question)
        loss = self.task.loss(answers, question.targets)
        self._count(loss, answers, question, wiring, len(labels), training=False)
        return self.task.per_image(answers, question.targets)

    def _run(
        self, question: Question, steps: int | None = None, record: Collection[str] = (), burn_in: int = 0
    ) -> tuple[Tensor, Tensor, VisionUnroll]:
        """Answers in full precision, the wiring cost (zero without a sheet), and what the unroll returned.

        So many steps of ``burn_in`` come first, through which nothing is learned: Kapturowski et al. 2019, "Recurrent
        experience replay in distributed reinforcement learning"; for running longer than in training, Bansal et al.
        2022, "End-to-end algorithm synthesis with recurrent networks".
        """
        options: dict[str, Any] = {} if question.hidden is None else {"hidden": question.hidden}
        net: Any = self.net
        if burn_in:
            with torch.no_grad():
                before = net.unroll(question.images, steps=burn_in, **options)
            options |= {"state": before.state, "start": burn_in}
            options |= {} if before.history is None else {"history": before.history}
        out = net.unroll(question.images, steps=steps, record=record, **options)
        said: Any = out.logits
        return said.float(), out.wiring_cost.float(), out

    def _count(self, loss: Tensor, answers: Tensor, question: Question, wiring: Tensor, n: int, training: bool) -> None:
        tally = self.task.tally(answers, question.targets)
        if not len(self.totals):
            self._check_tally(tally, n)
        over = n if self._by_images else self.task.counted(question.targets, n, training)
        place = _exact_place(tally.device)
        given = (torch.as_tensor(each).detach().to(place).double() for each in (loss, tally, wiring, n, over))
        said, sums, wire, images, counted = (each.reshape(-1) for each in given)
        joined = torch.cat([said * counted, sums, wire * images, images, counted])
        before = self.totals.to(joined.device)
        self.totals = joined if len(before) != len(joined) else before + joined

    def _check_tally(self, tally: Tensor, n: int) -> None:
        """Refuse what a task of a user's own returns and nothing here can count."""
        name = self.config.task
        if not isinstance(tally, Tensor):
            raise ValueError(f"the tally of task {name!r} must be a tensor of sums, got {type(tally).__name__}")
        said = self.task.metrics(tally.detach().double().reshape(-1).tolist(), n)
        if "accuracy" not in said or {"loss", "wiring_cost"} & set(said):
            raise ValueError(
                f"the metrics of task {name!r} must have an 'accuracy', and 'loss' and 'wiring_cost' are counted "
                f"elsewhere, got {', '.join(map(str, said)) or 'none'}"
            )

    def _count_terms(self, values: dict[str, Tensor], n: int) -> None:
        for name, value in (values | {"images": torch.ones(())}).items() if values else ():
            self.terms[name] = self.terms.get(name, 0.0) + float(value.detach()) * n

    def _read_terms(self) -> None:
        """Turn the sums of an epoch into ``train_<name>``, of all processes."""
        names = sorted(self.terms)
        sums = torch.tensor([self.terms[name] for name in names], device=self.device)
        summed = dict(zip(names, torch.as_tensor(self.trainer.strategy.reduce(sums, reduce_op="sum")).tolist()))
        images = max(summed.pop("images", 1.0), 1.0)
        self.metrics |= {f"train_{name}": value / images for name, value in summed.items()}
        self.terms = {}

    def _read(self, split: str) -> None:
        """Turn the sums into ``<split>_loss``, ``<split>_accuracy`` and ``<split>_wiring_cost``, over all processes."""
        # A process that had no image has counted nothing.
        size = int(self.trainer.strategy.reduce(torch.tensor(len(self.totals), device=self.device), reduce_op="max"))
        mine = torch.zeros(size, dtype=torch.float64)
        mine[: len(self.totals)] = self.totals.cpu()
        totals = self.trainer.strategy.reduce(mine.to(_exact_place(self.device)), reduce_op="sum")
        loss, *tally, wiring, n, counted = torch.as_tensor(totals).tolist()
        n = max(n, 1.0)
        mean = loss / counted if counted else math.nan
        said = {name: float(value) for name, value in self.task.metrics(tally, n).items()}
        values = {"loss": mean, **said, "wiring_cost": wiring / n}
        if self.spacing is None:
            del values["wiring_cost"]
        self.metrics |= {f"{split}_{name}": value for name, value in values.items()}
        self.totals, self._by_images = torch.zeros(0), False

    def on_validation_epoch_start(self) -> None:
        """Close the training epoch: validation runs inside of it."""
        if not self.trainer.sanity_checking and self.trainer.state.fn == "fit":
            self._read("train")
            if self.terms:
                self._read_terms()

    def on_validation_epoch_end(self) -> None:
        """Close the held-out pass."""
        self._read("val")

    def on_test_epoch_start(self) -> None:
        """Begin counting afresh."""
        self.totals = torch.zeros(0)

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

    def on_fit_start(self) -> None:
        """Let the task compare images of all processes that see others."""
        if share_of(self.trainer)[1] > 1:
            self.task.gather = self._gather

    def _gather(self, answers: Tensor) -> tuple[Tensor, int]:
        """Those of all replicas; held-out images are shared out unevenly, and stay where they are."""
        if not self.training:
            return answers, 0
        strategy: Any = self.trainer.strategy
        every = gather_replicas(answers, strategy.mesh.get_group("data"))
        return every, share_of(self.trainer)[0] * len(answers)

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
        checkpoint[KEY] |= {"terms": dict(self.terms), "by_images": self._by_images}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the sums of an unfinished epoch."""
        self.totals = checkpoint[KEY]["totals"]
        self._by_images = checkpoint[KEY].get("by_images", True) and len(self.totals) > 0
        if "by_images" not in checkpoint[KEY]:  # of a version whose loss counted images, which its sums end with
            self.totals = torch.cat([self.totals, self.totals[-1:]])
        self.metrics = dict(checkpoint[KEY]["metrics"])
        self.terms = dict(checkpoint[KEY].get("terms", {}))


def _exact_place(device: torch.device) -> torch.device:
    """Where to sum in float64, which some devices lack: in float32, counts end at 2^24, below an epoch's columns."""
    return torch.device("cpu") if device.type == "mps" else device


def parameter_groups(net: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Parameters by learning rate and decay: weights, which decay, first.

    Norms, biases, embeddings and edge biases do not decay. Of parameters written as shared + difference, the
    differences have a factor on the learning rate and a decay of their own; edge biases and embeddings have factors.
    AdamW multiplies the decay by the learning rate, so a factor on the one is a factor on both.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {(1.0, config.weight_decay): [], (1.0, 0.0): []}
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            continue
        path = name.split(".")
        # torch's attention calls its projections in_proj_weight.
        is_weight = path[-1].endswith("weight") and not any(part.startswith("norm") for part in path)
        if isinstance(net, OwnNetwork):  # whose names may be any: norms and biases are vectors
            is_weight = parameter.dim() > 1
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
