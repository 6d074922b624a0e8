"""The halo exchange: one all-to-all a step, and its transpose in the backward pass.

What travels is the key and the value of the columns across a cut, ``[halo, B, H D + C]``: a column's key weights live
on its owner only. The send lists are asked for by the receivers at start-up and not derived from the receive lists,
because who listens to whom need not be mutual.

An exchange outside autograd is a :class:`Flight`: what is computed between its departure and its landing overlaps with
the transfer. One that autograd sees, :meth:`HaloExchange.run`, is synchronous; a compiler may move it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from colgraph.distributed.collectives import refuse_again
from colgraph.distributed.local import LocalSheet


@dataclass(frozen=True)
class _Route:
    """How many rows go to and come from each rank of a group, in group order."""

    group: dist.ProcessGroup
    send: tuple[int, ...]
    receive: tuple[int, ...]

    def all_to_all(self, rows: Tensor, back: bool, in_background: bool) -> tuple[Tensor, Any]:
        """The rows received, to be read when the work is done. ``back`` goes from receivers to senders."""
        send, receive = (self.receive, self.send) if back else (self.send, self.receive)
        into = rows.new_empty(sum(receive), *rows.shape[1:])
        arguments = (into, rows, list(receive), list(send), self.group)
        return into, dist.all_to_all_single(*arguments, async_op=in_background)


@dataclass(frozen=True)
class Flight:
    """An exchange on its way: what is sent, which is kept until it has arrived, what is received, and when."""

    rows: Tensor
    into: Tensor
    work: Any

    def land(self) -> Tensor:
        """Wait for the rows of the other ranks."""
        self.work.wait()
        return self.into


class _Exchange(torch.autograd.Function):
    """Send own columns and receive the halo. Backward: the same with their gradients, the other way."""

    @staticmethod
    def forward(
        ctx: Any, route: _Route, index: Tensor, key: Tensor, value: Tensor, token: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.route = route
        ctx.save_for_backward(index)
        halo, _ = route.all_to_all(pack(key, value, index), back=False, in_background=False)
        return key.clone(), value.clone(), halo, token.clone()

    @staticmethod
    def backward(ctx: Any, grad_key: Tensor, grad_value: Tensor, grad_halo: Tensor, token: Tensor) -> tuple[Any, ...]:
        refuse_again(grad_key, grad_value, grad_halo)
        (index,) = ctx.saved_tensors
        grads, _ = ctx.route.all_to_all(grad_halo.contiguous(), back=True, in_background=False)
        return None, None, *_add_rows(grad_key, grad_value, grads, index), token


def pack(key: Tensor, value: Tensor, index: Tensor | None = None) -> Tensor:
    """``[s,B,H D + C]``: keys and values of some columns, side by side."""
    if index is not None:
        key, value = key.index_select(0, index), value.index_select(0, index)
    return torch.cat([key.flatten(2), value.flatten(2)], -1)


def unpack(rows: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """The two parts of packed rows, with the axes of ``key`` and ``value``."""
    width = key.size(2) * key.size(3)
    return rows[..., :width].unflatten(2, key.shape[2:]), rows[..., width:].unflatten(2, value.shape[2:])


def _add_rows(grad_key: Tensor, grad_value: Tensor, rows: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    to_key, to_value = unpack(rows, grad_key, grad_value)
    return grad_key.index_add(0, index, to_key), grad_value.index_add(0, index, to_value)


class HaloExchange(nn.Module):
    """What one rank sends and receives at every step.

    Args:
        local: this rank's part.
        group: the ranks that share the sheet; part p is rank p of the group.

    Attributes:
        send_index: ``[s]`` own columns (local numbers) to send, grouped by receiver; a column that several ranks
            listen to is there once for each.
        busy: whether any rank of the group sends anything; if not, the exchange is left out.
    """

    send_index: Tensor

    def __init__(self, local: LocalSheet, group: dist.ProcessGroup, device: torch.device) -> None:
        super().__init__()
        requested, counts = _ask_for(local, group, device)
        self.register_buffer("send_index", _own_numbers(requested, local.columns), persistent=False)
        self._route = _Route(group, counts, local.halo_counts)
        total = torch.tensor([local.num_halo], device=device)
        dist.all_reduce(total, group=group)
        self.busy = bool(total)

    def depart(self, key: Tensor, value: Tensor) -> Flight:
        """Send off what others listen to, of key ``[n,B,H,D]`` and value ``[n,B,H,C]``; it lands as the packed halo."""
        rows = pack(key, value, self.send_index)
        return Flight(rows, *self._route.all_to_all(rows, back=False, in_background=True))

    def send_back(self, rows: Tensor) -> Flight:
        """Send the gradients ``[h,B,H D + C]`` of the packed halo to their owners; what lands is theirs to add."""
        return Flight(rows, *self._route.all_to_all(rows, back=True, in_background=True))

    def run(self, key: Tensor, value: Tensor, token: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The exchange as autograd sees it, which waits for its end.

        Args:
            key: ``[n,B,H,D]`` of the own columns.
            value: ``[n,B,H,C]``.
            token: see :mod:`colgraph.distributed.collectives`.

        Returns:
            Key and value to go on with (their gradients will include those of the copies on other ranks), key
            ``[h,B,H,D]`` and value ``[h,B,H,C]`` of the halo, and the token.
        """
        key, value, halo, token = _Exchange.apply(self._route, self.send_index, key, value, token)
        return key, value, *unpack(halo, key, value), token


def _ask_for(local: LocalSheet, group: dist.ProcessGroup, device: torch.device) -> tuple[Tensor, tuple[int, ...]]:
    """Tell every owner which of its columns are heard here; learn which are asked for, and how many by each rank."""
    wanted = torch.tensor(local.halo_counts, device=device)
    asked = torch.empty_like(wanted)
    dist.all_to_all_single(asked, wanted, group=group)
    counts = tuple(asked.tolist())
    requested = torch.empty(sum(counts), dtype=torch.int64, device=device)
    dist.all_to_all_single(requested, local.halo.to(device), list(counts), list(local.halo_counts), group=group)
    return requested.cpu(), counts


def _own_numbers(requested: Tensor, columns: Tensor) -> Tensor:
    """Local numbers of columns that other ranks asked for.

    Raises:
        ValueError: if they asked for a column that is not here.
    """
    ordered, number = columns.sort()
    place = torch.searchsorted(ordered, requested).clamp_(max=columns.numel() - 1)
    strangers = requested[ordered[place] != requested]
    if strangers.numel():
        raise ValueError(
            f"another rank takes column {int(strangers[0])} for one of this rank's: the ranks were given different "
            "partitions"
        )
    return number[place]
