"""Edges that come and go while a run learns: when, and what of the run has to follow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from numpy.typing import NDArray
from torch import Tensor, nn

from colgraph.data.augment import mix_seed
from colgraph.models import VisionColumnformer, VisionModel
from colgraph.models.other_edges import carried, change_edges
from colgraph.output import write_text
from colgraph.plasticity import Budget, Evidence, all_candidates, exchange, growth_order, rewired_sheet
from colgraph.plasticity.choice import drawn_values
from colgraph.sheet import Sheet
from colgraph.training.average import AverageWeights
from colgraph.training.checkpoint import pack_sheet
from colgraph.training.config import TrainConfig
from colgraph.training.folder import writing

_WEAK, _GROWN, _DRAWN = 0x1E5E, 0x960A, 0xD15C  # set these draws apart from each other, and from those of training
# What edges are worth is gathered from so many images of every so many-th batch: a look takes a third of a step.
_IMAGES, _STRIDE = 16, 4
_BINS = 16  # of the lengths that are counted
FORMAT = 1
"""Of the file that :class:`Plasticity` writes."""


class Plasticity(Callback):
    """Every so many steps, the weakest edges are given up, and others grown, within a budget.

    It comes before whatever writes checkpoints, and after averages of weights: what a step has learned is rewired, and
    then saved. All random numbers follow from the seed and the step.

    Args:
        net: the model, before training or as its checkpoint has it.
        config: the settings.
        steps: optimizer steps of the whole training.
        path: the file that the history is written to.
        hint: how to go on, for the error of a full disk.

    Attributes:
        rows: one per rewiring, as plain values.
        start: the sheet before the first: edges, wire, lengths, fingerprint.

    Raises:
        ValueError: where there is nothing to rewire, nowhere to grow, or no room in the budget.
    """

    def __init__(self, net: VisionModel, config: TrainConfig, steps: int, path: Path, hint: str = "") -> None:
        if not isinstance(net, VisionColumnformer):
            raise ValueError(f"rewire: {config.baseline} has no sheet whose edges could change: leave it out")
        sheet = net.model.sheet
        self.config, self.path, self.hint = config, path, hint
        self.budget = Budget.parse(config.rewire_budget)
        self.last = int(config.rewire_until * steps) // config.rewire_every * config.rewire_every
        if not self.last:
            raise ValueError(
                f"rewire_every: {config.rewire_every} steps are more than the {int(config.rewire_until * steps)} in "
                f"which edges change (rewire_until {config.rewire_until:g} of {steps}): give fewer"
            )
        self.candidates = all_candidates(sheet, config.rewire_radius)
        edges, length = _arrays(sheet)
        if self.budget.share == 1 and not len(self.candidates.absent(edges)):
            raise ValueError(
                f"rewire: every pair of columns of {sheet.geometry!r} that may be an edge is one, so that none can be "
                "grown: give fewer neighbors, or a budget below what there is, such as --rewire-budget edges:0.5"
            )
        self.bins = np.linspace(0, max(float(self.candidates.length.max()), float(length.max())), _BINS + 1)
        self.start = self._described(sheet) | {"fingerprint": sheet.fingerprint}
        self.rows: list[dict[str, Any]] = []
        self.begun = self.allowed = self.budget.amount(edges, length)
        self.fresh = np.zeros(edges.shape[1], dtype=bool)
        self.first = np.ones(edges.shape[1], dtype=bool)
        self.evidence = self._gathered(net)
        self._strategy: Any = None

    def check_budget(self, sheet: Sheet) -> None:
        """Refuse a budget without room for an edge to every column, before a run begins."""
        try:
            self.budget.check(*_arrays(sheet))
        except ValueError as error:
            raise ValueError(f"rewire_budget: {error}") from error

    def _gathered(self, net: VisionColumnformer) -> Evidence:
        by_gradient = self.config.rewire_grow == "gradient"
        return Evidence(net.model.layout, self.candidates if by_gradient else None, _IMAGES)

    # ------------------------------------------------------------------ in training

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Know those that see other images."""
        self._strategy = trainer.strategy

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Say what there is."""
        if trainer.global_rank:
            # The checkpoint has the sum over all processes. Nothing, here, has the shapes that others have: all sum up
            # in as many calls.
            self.evidence.load_state_dict(self._gathered_nothing(self.evidence.state_dict()))
        self._publish(pl_module)
        if trainer.is_global_zero:
            self._write()

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Look at what is heard in some steps, as long as there is another rewiring to come."""
        step, every = trainer.global_step, self.config.rewire_every
        looks = step < self.last and step % every % _STRIDE == 0
        pl_module.net.model.block.attention.observer = self.evidence if looks else None

    def on_before_backward(self, trainer: Trainer, pl_module: Any, loss: Tensor) -> None:
        """How large gradients are going to be."""
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self.evidence.loss_scale = 1.0 if scaler is None else float(scaler.get_scale())

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Rewire, when it is time."""
        step = trainer.global_step
        if step > self.last or step % self.config.rewire_every:
            return
        self._sum_up()
        self._rewire(trainer, pl_module, step)
        self._publish(pl_module)
        if trainer.is_global_zero:
            self._write()

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Look away."""
        pl_module.net.model.block.attention.observer = None

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Look away."""
        self.on_train_end(trainer, pl_module)

    def _sum_up(self) -> None:
        """Let all processes know what all have seen."""
        if self._strategy is None or self._strategy.world_size == 1:
            return
        evidence, device = self.evidence, self._strategy.root_device
        counted = torch.tensor(evidence.weight, dtype=torch.float64, device=device)
        evidence.weight = int(self._strategy.reduce(counted, reduce_op="sum"))
        evidence.attention = self._strategy.reduce(evidence.attention.to(device), reduce_op="sum")
        if evidence.gradient is not None:
            evidence.gradient = self._strategy.reduce(evidence.gradient.to(device), reduce_op="sum")

    # ------------------------------------------------------------------ one rewiring

    def _rewire(self, trainer: Trainer, module: Any, step: int) -> None:
        net, evidence = module.net, self.evidence
        if not evidence.weight:
            raise ValueError(
                f"rewire: nothing was heard of the attention of {type(net.model.block.attention).__name__} up to step "
                f"{step}: it must call its observer, and must not be compiled"
            )
        sheet = net.model.sheet
        edges, length = _arrays(sheet)
        received, absent = evidence.mean_attention(), self.candidates.absent(edges)
        self.allowed = min(self.allowed, self._scheduled(step))
        change = exchange(
            edges,
            length,
            received,
            self.fresh,
            absent[growth_order(self._values(absent, sheet, step), mix_seed(self.config.seed, step, _GROWN))],
            self.candidates.length,
            kind=self.budget.kind,
            limit=self.allowed,
            rate=self.config.rewire,
            seed=mix_seed(self.config.seed, step, _WEAK),
        )
        after, came_from = rewired_sheet(sheet, self.candidates, change)
        came = torch.from_numpy(came_from)
        replaced = change_edges(net.model, after, came)
        carry_optimizer(trainer.optimizers, replaced, came)
        for average in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(average, AverageWeights):
                average.change_edges(after, came)
        if hasattr(self._strategy, "wrap_again"):
            self._strategy.wrap_again()
        module.packed = {**module.packed, "sheet": pack_sheet(after)}
        gone = np.setdiff1d(np.arange(edges.shape[1]), change.kept)
        self.fresh = came_from < 0
        self.first = np.where(self.fresh, False, self.first[came_from])
        self.rows.append(
            {
                "step": step,
                "lost": len(gone),
                "won": len(change.grown),
                **self._described(after),
                "from_start": int(self.first.sum()),
                "length_lost": _mean(length[gone]),
                "length_won": _mean(self.candidates.length[change.grown]),
                "attention_lost": _mean(received[gone]),
                "attention_kept": _mean(received[change.kept]),
            }
        )
        self.evidence = self._gathered(net)

    def _scheduled(self, step: int) -> float:
        """What the budget has come down to: evenly from all there is at the start to its share at the last rewiring."""
        return float(self.begun * (1 - (1 - self.budget.share) * min(step / self.last, 1.0)))

    def _values(self, absent: NDArray[np.int64], sheet: Sheet, step: int) -> NDArray[np.float64]:
        """What speaks for each pair that is no edge."""
        if self.config.rewire_grow == "gradient":
            return self.evidence.growth()[absent]
        odds = np.zeros(len(absent))
        if self.config.rewire_grow == "distance":
            odds = -self.candidates.length[absent] / (self.config.rewire_length * sheet.spacing)
        return drawn_values(odds, mix_seed(self.config.seed, step, _DRAWN))

    # ------------------------------------------------------------------ what is told

    def _described(self, sheet: Sheet) -> dict[str, Any]:
        """Edges, their wire in the sheet's units, and how many of those between different columns have which length."""
        edges, length = _arrays(sheet)
        counts = np.histogram(length[edges[0] != edges[1]], self.bins)[0]
        return {"edges": len(length), "wire": float(length.sum()), "lengths": counts.tolist()}

    def _publish(self, module: Any) -> None:
        """For ``metrics.csv``."""
        now = self.rows[-1] if self.rows else self.start
        module.metrics |= {"edges": now["edges"], "wire": now["wire"]}

    def history(self) -> dict[str, Any]:
        """What the file holds."""
        names = [name for name in vars(self.config) if name.startswith("rewire")]
        return {
            "format": FORMAT,
            "settings": {name: getattr(self.config, name) for name in names},
            "columns": self.candidates.columns,
            "bins": self.bins.tolist(),
            # Rounded as a sheet's are: many lie on the border between two bins.
            "possible": np.histogram(self.candidates.length.astype(np.float32), self.bins)[0].tolist(),
            "start": self.start,
            "rows": self.rows,
        }

    def summary(self) -> dict[str, Any]:
        """What ``summary.json`` says of it."""
        now = self.rows[-1] if self.rows else {**self.start, "from_start": self.start["edges"]}
        totals = {name: sum(row[name] for row in self.rows) for name in ("lost", "won")}
        before = {f"{name}_at_start": self.start[name] for name in ("edges", "wire", "fingerprint")}
        return {"rewirings": len(self.rows), **totals, "edges_from_start": now["from_start"], **before}

    def _write(self) -> None:
        with writing(self.path, self.hint):
            write_text(self.path, json.dumps(self.history(), indent=1) + "\n")

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints: of all processes together, which are then counted once."""
        self._sum_up()
        state = self.evidence.state_dict()
        if self._strategy is not None and self._strategy.global_rank:
            self.evidence.load_state_dict(self._gathered_nothing(state))
        masks = {"fresh": torch.from_numpy(self.fresh), "first": torch.from_numpy(self.first)}
        facts = {
            "begun": self.begun,
            "allowed": self.allowed,
            "start": self.start,
            "bins": self.bins.tolist(),
            "rows": list(self.rows),
        }
        return {"evidence": state, **masks, **facts}

    @staticmethod
    def _gathered_nothing(state: Mapping[str, Any]) -> dict[str, Any]:
        gradient = state["gradient"]
        nothing = {"attention": torch.zeros_like(state["attention"]), "weight": 0}
        return nothing | {"gradient": None if gradient is None else torch.zeros_like(gradient)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.evidence.load_state_dict(state_dict["evidence"])
        self.fresh, self.first = state_dict["fresh"].numpy(), state_dict["first"].numpy()
        self.begun, self.allowed = state_dict["begun"], state_dict["allowed"]
        self.start, self.rows = state_dict["start"], list(state_dict["rows"])
        self.bins = np.array(state_dict["bins"])


def _arrays(sheet: Sheet) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    return sheet.edge_index.numpy(force=True), sheet.edge_distance.numpy(force=True).astype(np.float64)


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None


def carry_optimizer(
    optimizers: Sequence[torch.optim.Optimizer], replaced: Mapping[nn.Parameter, nn.Parameter], came_from: Tensor
) -> None:
    """Put parameters in the place of those that they replace, with the moments of edges that stay, zero for others."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["params"] = [replaced.get(parameter, parameter) for parameter in group["params"]]
        for old, new in replaced.items():
            state = optimizer.state.pop(old, None)
            if state is not None:
                rows = {name: each for name, each in state.items() if torch.is_tensor(each) and each.shape == old.shape}
                optimizer.state[new] = state | {name: carried(each, came_from) for name, each in rows.items()}
