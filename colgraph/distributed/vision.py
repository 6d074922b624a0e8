"""The vision model on a sheet that several ranks share, and the way from any model to its parts."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from colgraph.distributed.collectives import sum_over, synchronise
from colgraph.distributed.launch import check_agreement, mesh_device, mesh_group
from colgraph.distributed.model import SheetParallel, call_entered, digest
from colgraph.distributed.partition import Partition
from colgraph.distributed.rows import shared_parameters
from colgraph.models import Columnformer, VisionColumnformer, VisionUnroll


class SheetParallelVision(VisionColumnformer):
    """A :class:`colgraph.VisionColumnformer` on a :class:`~colgraph.distributed.SheetParallel` model.

    Patch embedding, final norm and head are shared: every rank has them, and their gradients are summed over the sheet
    group in the backward pass. All ranks of a sheet group see the same images and get the same logits.

    Args:
        model: this rank's part.
        **options: as for :class:`colgraph.VisionColumnformer`.
    """

    model: SheetParallel
    own_outputs: Tensor
    output_positions: Tensor

    def __init__(self, model: SheetParallel, **options: Any) -> None:
        super().__init__(model, **options)
        number = torch.full((model.sheet.num_columns,), -1, dtype=torch.int64)
        number[model.local.columns] = torch.arange(model.num_columns)
        outputs = number[model.sheet.outputs]
        self.register_buffer("own_outputs", outputs[outputs >= 0], persistent=False)
        self.register_buffer("output_positions", torch.nonzero(outputs >= 0).flatten(), persistent=False)

    @classmethod
    def from_model(
        cls, net: VisionColumnformer, mesh: DeviceMesh, partition: Partition | None = None
    ) -> SheetParallelVision:
        """This rank's part of a whole vision model, see :meth:`SheetParallel.from_model`."""
        options = dataclasses.asdict(net.options)
        core = SheetParallel.from_model(net.model, mesh, partition)
        check_agreement(mesh_group(mesh), mesh_device(mesh), {"vision model": digest(options)})
        part = cls(core, **options)
        core_prefix = "model."
        rest = {name: value.clone() for name, value in net.state_dict().items() if not name.startswith(core_prefix)}
        own = {f"{core_prefix}{name}": value for name, value in core.state_dict().items()}
        part.load_state_dict(rest | own, assign=True)
        part.to(core.edge_cost.device)
        for mine, theirs in zip(part.parameters(), net.parameters(), strict=True):
            mine.requires_grad_(theirs.requires_grad)
        synchronise(part, mesh, shared_parameters(part))
        return part.train(net.training)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[B,classes]``, equal on all ranks that share the sheet."""
        return call_entered(self, self.model, super().forward, images)

    def unroll(self, images: Tensor | None, **options: Any) -> VisionUnroll:
        """As for the plain model: states and attention of own columns and edges, logits of the whole sheet."""
        return call_entered(self, self.model, super().unroll, images, **options)

    def classify(self, state: Tensor) -> Tensor:
        """Logits of the whole sheet from states ``[..., n, B, C]`` of own columns."""
        state = state.index_select(-3, self.own_outputs)
        if self.readout == "columns":
            own = self.evidence(state).transpose(-3, -2)
            every = own.new_zeros(*own.shape[:-2], self.outputs.numel(), own.size(-1))
            return sum_over(every.index_copy(-2, self.output_positions, own), self.model.group)
        if self.options.head != "linear":
            # The head is not linear: all ranks answer to the whole mean, each with its share of the gradient.
            mean = sum_over(self.normed(state).sum(-3) / self.outputs.numel(), self.model.group)
            ranks = self.model.group.size()
            shares = {name: p.detach() + (p - p.detach()) / ranks for name, p in self.head.named_parameters()}
            answer: Tensor = functional_call(self.head, shares, (mean,))
            return answer
        if self.pool is None:
            # The mean and the head are linear: each rank contributes its outputs' share of both.
            total = self.outputs.numel()
            bias = self.head.bias * (self.own_outputs.numel() / total)
            part = F.linear(self.normed(state).sum(-3) / total, self.head.weight, bias)
        else:
            weight = self.pool.softmax(-1).index_select(-1, self.output_positions)
            part = torch.einsum("...obk,ko->...bk", self.evidence(state), weight)
        return sum_over(part, self.model.group)


@overload
def distribute(
    model: VisionColumnformer, mesh: DeviceMesh, partition: Partition | None = None
) -> SheetParallelVision: ...


@overload
def distribute(model: Columnformer, mesh: DeviceMesh, partition: Partition | None = None) -> SheetParallel: ...


def distribute(
    model: Columnformer | VisionColumnformer, mesh: DeviceMesh, partition: Partition | None = None
) -> SheetParallel | SheetParallelVision:
    """This rank's part of a whole model, which is left as it is.

    Args:
        model: the same on all ranks (shared parameters are taken from the first).
        mesh: from :func:`~colgraph.distributed.make_mesh` or :func:`~colgraph.distributed.session`.
        partition: as many parts as the sheet group has ranks; recursive bisection of space by default.

    Raises:
        ValueError: the same on all ranks, if they bring different sheets, options or partitions, or for more ranks
            than columns.
    """
    if isinstance(model, SheetParallel | SheetParallelVision):
        raise ValueError(f"the model is a {type(model).__name__} already: distribute the whole model once")
    if isinstance(model, VisionColumnformer):
        return SheetParallelVision.from_model(model, mesh, partition)
    if isinstance(model, Columnformer):
        return SheetParallel.from_model(model, mesh, partition)
    raise ValueError(f"model must be a Columnformer or a VisionColumnformer, got {type(model).__name__}")


def replicate(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Data parallelism over the mesh's dimension "data": torch's ``DistributedDataParallel`` among replicas of a part.

    Gradients are averaged over the replicas of the same part, and nobody else. With one replica the model itself is
    returned.
    """
    if mesh.ndim == 1 or mesh.size(0) == 1:
        return model
    devices = None if mesh.device_type == "cpu" else [mesh_device(mesh)]
    with warnings.catch_warnings():
        # Its new name is unknown to torch before 2.13.
        warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
        return DistributedDataParallel(
            model, device_ids=devices, process_group=mesh.get_group("data"), broadcast_buffers=False
        )
