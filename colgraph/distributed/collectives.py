"""Differentiable sums and gathers over a group of ranks, and the two pieces that keep backward passes in step.

Collectives only meet their partners when every rank calls them in the same order. In a forward pass the program sees
to that. In a backward pass autograd decides, and it skips what no gradient reaches: a rank that only sends, or that
has no input columns, would leave its peers waiting. So a *token*, a scalar that is always zero, runs through every
collective of an unroll in turn: :func:`tie` makes outputs depend on it and :func:`enter` is where it starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from colgraph.distributed.launch import mesh_device, sheet_group
from colgraph.ops.higher_order import is_differentiated_again

NOT_AGAIN = "gradients of gradients do not cross processes: take create_graph=True to the whole model"


def refuse_again(*grads: Tensor) -> None:
    """At the beginning of a collective's backward pass, which autograd cannot see through.

    Raises:
        ValueError: if that backward pass is to be differentiated itself.
    """
    if not torch.compiler.is_compiling() and is_differentiated_again(*grads):
        raise ValueError(NOT_AGAIN)


class TokenChain:
    """Where the token is now. It is None outside an unroll, and where a step is computed once more.

    Not an attribute of a module, because ``torch.compile`` is particular about those.
    """

    def __init__(self) -> None:
        self.token: Tensor | None = None

    def take(self, like: Tensor) -> Tensor:
        """The token for the next collective."""
        return like.new_zeros(()) if self.token is None else self.token

    def pass_on(self, token: Tensor) -> None:
        """Keep what the collective returned for the one after it."""
        if self.token is not None:
            self.token = token


class _Enter(torch.autograd.Function):
    """The identity; the gradients are summed over the group, all in one all-reduce for each dtype."""

    @staticmethod
    def forward(ctx: Any, group: dist.ProcessGroup, token: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.group = group
        return token.view_as(token), *(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, token: Tensor, *grads: Tensor) -> tuple[Any, ...]:
        refuse_again(*grads)
        sums = list(grads)
        for dtype in sorted({grad.dtype for grad in grads}, key=str):
            chosen = [i for i, grad in enumerate(grads) if grad.dtype == dtype]
            flat = torch.cat([grads[i].reshape(-1) for i in chosen])
            dist.all_reduce(flat, group=ctx.group)
            for i, piece in zip(chosen, flat.split([grads[i].numel() for i in chosen])):
                sums[i] = piece.view_as(grads[i])
        return None, token, *sums


def enter(group: dist.ProcessGroup, token: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """What all ranks of a group share, on its way into computations that differ from rank to rank.

    Forward, the identity. Backward, every rank receives the sum over ranks of the gradients. Because the token comes
    from here, that happens after all collectives that the token has run through.

    Args:
        group: the ranks.
        token: a zero scalar.
        tensors: parameters and inputs, equal on all ranks; those that require no gradient are returned as they are.

    Returns:
        The token and the tensors.
    """
    index = [i for i, tensor in enumerate(tensors) if tensor.requires_grad]
    out = list(tensors)
    if not index or not torch.is_grad_enabled():
        return token, out
    token, *entered = _Enter.apply(group, token, *(tensors[i] for i in index))
    for i, tensor in zip(index, entered):
        out[i] = tensor
    return token, out


class _Tie(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, token: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.zero = torch.zeros_like(token)
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return ctx.zero, *grads


def tie(token: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors, such that a gradient of any of them makes the backward pass run through the token.

    No gradient's value changes.
    """
    if not token.requires_grad:
        return tensors
    tied: tuple[Tensor, ...] = _Tie.apply(token, *tensors)
    return tied


class _SumOver(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        refuse_again(grad)
        return grad, None


def sum_over(tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
    """The sum of ``tensor`` over the ranks of a group, on every rank.

    Backward, the identity: every rank goes on to compute the same loss from the same sum, so the gradient that arrives
    is already that of the one loss.
    """
    total: Tensor = _SumOver.apply(tensor, group)
    return total


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, counts: tuple[int, ...], group: dist.ProcessGroup) -> Tensor:
        ctx.start, ctx.count = sum(counts[: dist.get_rank(group)]), tensor.size(0)
        # Equal sizes are what every backend can gather; parts are unequal, so the short ones are padded.
        padded = tensor.new_zeros(max(counts), *tensor.shape[1:])
        padded[: tensor.size(0)] = tensor
        pieces = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(pieces, padded, group=group)
        return torch.cat([piece[:count] for piece, count in zip(pieces, counts)])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        refuse_again(grad)
        return grad[ctx.start : ctx.start + ctx.count], None, None


def gather_rows(tensor: Tensor, counts: Sequence[int], group: dist.ProcessGroup) -> Tensor:
    """All ranks' rows one after the other, on every rank.

    Backward, each rank keeps the gradient of its own rows (see :func:`sum_over`).

    Args:
        tensor: ``[counts[rank], ...]``.
        counts: rows of each rank of the group.
        group: the ranks.
    """
    gathered: Tensor = _GatherRows.apply(tensor, tuple(counts), group)
    return gathered


class _GatherReplicas(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        pieces = [torch.empty_like(tensor) for _ in range(group.size())]
        dist.all_gather(pieces, tensor.contiguous(), group=group)
        return torch.cat(pieces)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        refuse_again(grad)
        total = grad.contiguous().clone()
        dist.all_reduce(total, group=ctx.group)
        return total.chunk(ctx.group.size())[ctx.group.rank()], None


def gather_replicas(tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
    """``[n,...]`` of each rank of a group, that each go on to a loss of their own: one after the other, on every rank.

    Backward, each rank receives the sum over all losses of the gradients of its rows.
    """
    gathered: Tensor = _GatherReplicas.apply(tensor, group)
    return gathered


@torch.no_grad()
def synchronise(module: nn.Module, mesh: DeviceMesh, shared: Mapping[str, Tensor]) -> None:
    """Make shared parameters those of the first rank that has the sheet, and all those of the first replica.

    Args:
        module: the module, alike on all ranks but for the rows of own parameters.
        mesh: data x sheet.
        shared: its shared parameters.
    """
    device = mesh_device(mesh)
    groups = [(sheet_group(mesh), list(shared.values()))]
    if mesh.ndim > 1:
        groups.append((mesh.get_group("data"), list(module.parameters())))
    for group, tensors in groups:
        for tensor in tensors if group.size() > 1 else ():
            value = tensor.detach().to(device).contiguous()
            dist.broadcast(value, dist.get_global_rank(group, 0), group=group)
            tensor.copy_(value)
