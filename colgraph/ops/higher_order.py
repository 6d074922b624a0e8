"""Gradients that can be differentiated again, for operators whose backward pass is written by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from colgraph.torch_internals import is_transformed


def is_differentiated_again(*grads: Tensor | None) -> bool:
    """Within a backward pass, whether its own operations count, as under ``create_graph=True`` or ``vmap``.

    Args:
        *grads: the gradients that came in.
    """
    return torch.is_grad_enabled() or is_transformed(*grads)


def differentiable_gradients(
    function: Callable[..., Sequence[Tensor | None]],
    inputs: Sequence[Tensor | None],
    wanted: Sequence[bool],
    grad_outputs: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """The gradients of ``function(*inputs)``, computed once more in operations that autograd knows.

    Args:
        function: the same function as the operator's, in differentiable operations.
        inputs: what the operator was given.
        wanted: for each input, whether its gradient is wanted.
        grad_outputs: the gradient of each output, or None.

    Returns:
        A gradient for each input, None where it is not wanted or not reached.
    """
    device = next(tensor.device.type for tensor in inputs if tensor is not None)
    again = torch.is_grad_enabled()
    with torch.enable_grad(), torch.autocast(device, enabled=False):
        # Aliases: what an input itself was computed from is none of this function's business.
        given = [x.view_as(x) if x is not None and want else x for x, want in zip(inputs, wanted)]
        for x, want in zip(given, wanted):
            if x is not None and want and not x.requires_grad:
                x.requires_grad_()  # another rank's columns may want what this one's do not
        pairs = [
            (out, grad)
            for out, grad in zip(function(*given), grad_outputs)
            if out is not None and grad is not None and out.requires_grad
        ]
        sought = [x for x, want in zip(given, wanted) if x is not None and want]
        outputs, grads = [out for out, _ in pairs], [grad for _, grad in pairs]
        found = iter(
            torch.autograd.grad(outputs, sought, grads, create_graph=again, allow_unused=True)
            if pairs
            else [None] * len(sought)
        )
    return [next(found) if x is not None and want else None for x, want in zip(inputs, wanted)]
