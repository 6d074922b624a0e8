"""The norm of all gradients together, where each rank has the gradients of its own columns."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from colgraph.distributed.rows import shared_parameters


@torch.no_grad()
def gradient_norm(module: nn.Module, group: dist.ProcessGroup) -> Tensor:
    """Euclidean norm over all parameters of the whole model: every rank's own rows, and what is shared once.

    Args:
        module: a sheet-parallel model, after its backward pass.
        group: the ranks that share the sheet.
    """
    shared = shared_parameters(module)
    own = [parameter for name, parameter in module.named_parameters() if name not in shared]
    total = _squares(own, next(module.parameters()).device)
    dist.all_reduce(total, group=group)
    return (total + _squares(shared.values(), total.device)).sqrt()


def _squares(parameters: Iterable[nn.Parameter], device: torch.device) -> Tensor:
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not grads:
        return torch.zeros((), device=device)
    return torch.nn.utils.get_total_norm(grads).square()


def clip_gradients(module: nn.Module, max_norm: float, group: dist.ProcessGroup) -> Tensor:
    """Scale all gradients so that their norm is at most ``max_norm``; returns what it was.

    As ``torch.nn.utils.clip_grad_norm_`` does for the whole model.
    """
    norm = gradient_norm(module, group)
    torch.nn.utils.clip_grads_with_norm_(module.parameters(), max_norm, norm)
    return norm
