"""The column step in batched matrix products: the best there is where a batch is large enough to keep them busy.

See :mod:`colgraph.ops.column_step` for what the functions mean. N columns, batch B, channels C.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from colgraph.ops.column_step import ColumnWeights, GradientTape, StepTape

__all__ = ["column_in", "column_in_backward", "column_out", "column_out_backward", "weight_gradients"]

_aten = torch.ops.aten


def _linear(x: Tensor, weight: Tensor, bias: Tensor, out: Tensor | None = None) -> Tensor:
    return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2), out=out)


def _norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float, out: Tensor | None = None) -> Tensor:
    normal = F.layer_norm(x, x.shape[-1:], None, None, eps)
    return torch.addcmul(bias.unsqueeze(1), normal, weight.unsqueeze(1), out=out)


def _norm_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    eps: float,
    weight_total: Tensor | None,
    bias_total: Tensor | None,
) -> Tensor:
    """The gradient of the norm's input; those of its scale and shift are added to the totals."""
    size = x.shape[-1:]
    normal, mean, rstd = _aten.native_layer_norm(x, size, None, None, eps)
    if weight_total is not None:
        weight_total += (grad * normal).sum(1)
    if bias_total is not None:
        bias_total += grad.sum(1)
    grad = grad * weight.unsqueeze(1)
    result: Tensor = _aten.native_layer_norm_backward(grad, x, size, mean, rstd, None, None, [True, False, False])[0]
    return result


def column_in(x: Tensor, w: ColumnWeights[Tensor], eps: float, tape: StepTape, slot: int) -> None:
    """Norm, query and key of the state ``x [N,B,C]``, onto the tape."""
    normed = _norm(x, w.norm1_weight, w.norm1_bias, eps, out=tape.normed[slot])
    _linear(normed, w.query_weight, w.query_bias, out=tape.query[slot])
    _linear(normed, w.key_weight, w.key_bias, out=tape.key[slot])


def column_out(
    x: Tensor | None, heard: Tensor, w: ColumnWeights[Tensor], eps: float, tape: StepTape, slot: int
) -> Tensor:
    """The step's result ``y + mlp(norm(y))`` with ``y = x + heard`` (``heard`` where x is None)."""
    middle = tape.middle[slot]
    middle.copy_(heard) if x is None else torch.add(x, heard, out=middle)
    hidden = _linear(_norm(middle, w.norm2_weight, w.norm2_bias, eps), w.fc1_weight, w.fc1_bias, out=tape.hidden[slot])
    return _linear(F.gelu(hidden), w.fc2_weight, w.fc2_bias).add_(middle)


def column_out_backward(
    w: ColumnWeights[Tensor],
    eps: float,
    tape: StepTape,
    grads: GradientTape,
    slot: int,
    totals: ColumnWeights[Tensor | None],
) -> Tensor:
    """The gradient of ``y``, from that of the result on ``grads``; leaves that of fc1's output there."""
    grad_out, middle = grads.out[slot], tape.middle[slot]
    grad_hidden = _aten.gelu_backward(torch.bmm(grad_out, w.fc2_weight), tape.hidden[slot])
    grads.hidden[slot] = grad_hidden
    grad_normed = torch.bmm(grad_hidden, w.fc1_weight)
    return _norm_backward(grad_normed, middle, w.norm2_weight, eps, totals.norm2_weight, totals.norm2_bias).add_(
        grad_out
    )


def column_in_backward(
    x: Tensor,
    grad_normed: Tensor,
    grad_x: Tensor | None,
    w: ColumnWeights[Tensor],
    eps: float,
    grads: GradientTape,
    slot: int,
    totals: ColumnWeights[Tensor | None],
    out: Tensor,
) -> None:
    """The gradient of the state ``x``, into ``out``.

    ``grad_normed`` is what the normed state receives as a value, ``grad_x`` what the state receives by the residual.
    """
    grad_normed = torch.baddbmm(grad_normed, grads.query[slot], w.query_weight)
    grad_normed = grad_normed.baddbmm_(grads.key[slot], w.key_weight)
    grad = _norm_backward(grad_normed, x, w.norm1_weight, eps, totals.norm1_weight, totals.norm1_bias)
    out.copy_(grad) if grad_x is None else torch.add(grad, grad_x, out=out)


def _add_products(weight_total: Tensor | None, bias_total: Tensor | None, grad: Tensor, x: Tensor, first: bool) -> None:
    """Add ``grad [N,B,O]^T x [N,B,I]`` and the sum of ``grad`` over the batch."""
    if weight_total is not None:
        torch.baddbmm(weight_total, grad.transpose(1, 2), x, beta=0 if first else 1, out=weight_total)
    if bias_total is not None:
        torch.sum(grad, 1, out=bias_total) if first else bias_total.add_(grad.sum(1))


def weight_gradients(
    w: ColumnWeights[Tensor],
    eps: float,
    tape: StepTape,
    grads: GradientTape,
    totals: ColumnWeights[Tensor | None],
    add: bool,
) -> None:
    """The gradients of all linear maps over all slots into ``totals`` (``add``: to what is there)."""
    for slot in range(tape.normed.size(0)):
        first = slot == 0 and not add
        normed, hidden = tape.normed[slot], tape.hidden[slot]
        _add_products(totals.query_weight, totals.query_bias, grads.query[slot], normed, first)
        _add_products(totals.key_weight, totals.key_bias, grads.key[slot], normed, first)
        if totals.fc1_weight is not None or totals.fc1_bias is not None:
            normed2 = _norm(tape.middle[slot], w.norm2_weight, w.norm2_bias, eps)
            _add_products(totals.fc1_weight, totals.fc1_bias, grads.hidden[slot], normed2, first)
        if totals.fc2_weight is not None or totals.fc2_bias is not None:
            _add_products(totals.fc2_weight, totals.fc2_bias, grads.out[slot], F.gelu(hidden), first)
