"""What is asked of a sheet beside its task: short wires, maps of activity and maps of weights."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from colgraph.models import VisionColumnformer, VisionUnroll
from colgraph.training.communicability import communicability_cost
from colgraph.training.config import TrainConfig
from colgraph.training.spatial import Neighborhoods, column_responses, spatial_loss
from colgraph.training.weight_similarity import WeightSimilarity, comparable_weights


class Regularizers:
    """The terms that a run adds to the loss of its task.

    ``wiring * cost / spacing ** p + spatial_weight * spatial_loss + weight_similarity * weight_similarity_loss``, where
    p is the model's ``wiring_power`` and the cost that of ``wiring_kind``.

    Args:
        net: the model, on a whole sheet.
        config: of the run.

    Attributes:
        records: what an unroll has to record for them.
    """

    def __init__(self, net: VisionColumnformer, config: TrainConfig) -> None:
        self.config, self.sheet = config, net.model.sheet
        self.wire_unit = self.sheet.spacing**net.model.wiring_power
        self._signal = config.spatial_signal or "normed"
        self._walks = config.wiring > 0 and config.wiring_kind != "length"
        records = {"hidden": config.spatial_weight > 0 and self._signal == "hidden", "attention": self._walks}
        self.records = {name for name, wanted in records.items() if wanted}

    @torch.no_grad()
    def prepare(self, net: VisionColumnformer) -> None:
        """Find the neighbors that the terms compare.

        Raises:
            ValueError: for a sheet on which a term has none, or too many.
        """
        if self.config.spatial_weight > 0:
            _ = self.neighborhoods
        if self.config.weight_similarity > 0:
            self.similarity.of(comparable_weights(net), net.model.num_columns)

    @cached_property
    def neighborhoods(self) -> Neighborhoods:
        """What the spatial loss looks at: found before the first step of a training that has it."""
        return Neighborhoods(self.sheet)

    @cached_property
    def similarity(self) -> WeightSimilarity:
        """The loss on weights, with the neighbors that it compares."""
        config = self.config
        kind, width = config.weight_similarity_kind, config.weight_similarity_range
        return WeightSimilarity(self.sheet.space, self.sheet.spacing, kind, width)

    def terms(self, net: Any, out: VisionUnroll, step: int) -> dict[str, tuple[float, Tensor]]:
        """Weight and value of each term by name, after a step's unroll; ``net`` may be this process's part."""
        config, wire = self.config, self.config.wiring / self.wire_unit
        found = {"wiring_cost": (0.0 if self._walks else wire, out.wiring_cost.float())}
        if self._walks and out.attention is not None:
            model = net.model
            cost = communicability_cost(
                out.attention.float().mean((0, 2, 3)),
                model.layout.edge_index,
                model.edge_cost,
                model.num_columns,
                config.wiring_kind,
            )
            found["communicability_cost"] = (wire, cost)
        if config.spatial_weight > 0:
            said = column_responses(net, out, self._signal)
            groups, distance = (part.to(said.device) for part in self.neighborhoods.draw(config.seed, step))
            space = spatial_loss(said, groups, distance, "all" if self._signal == "hidden" else "same")
            found["spatial_loss"] = (config.spatial_weight, space)
        if config.weight_similarity > 0:
            unlike = self.similarity.of(comparable_weights(net), net.model.num_columns)
            found["weight_similarity_loss"] = (config.weight_similarity, unlike)
        return found
