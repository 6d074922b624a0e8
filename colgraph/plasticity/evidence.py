r"""What a network says of its edges as it learns: the attention of those that are there, the gradient of all others.

Attention ``a_ij`` is what column i gives to column j; of edge ``j -> i`` it is averaged over images, steps and heads.

An edge that is not there would, with a small share e of column i's attention, taken from its other edges in proportion
to theirs, change what i hears from ``out_i`` to ``(1 - e) out_i + e v_j``. At e = 0, the derivative of the loss is

    d loss / d e_ij = sum over images and steps of g_i . (v_j - out_i),        g_i = d loss / d out_i,

for each head, with the values of that head (which a value projection has made, where there is one). It is summed over
all images and steps since the last time, and its size, added up over heads, is what an edge is grown by. Source of the
idea: RigL (Evci et al., 2020), whose weights have the gradient of the loss as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colgraph.layout import Layout
from colgraph.ops import attention_weights
from colgraph.ops.reference import Operands
from colgraph.plasticity.candidates import MOST_COLUMNS, Candidates

_AT_ONCE = 2**22
"""Numbers that are in memory at a time, beside those of the network."""


class Evidence:
    """Sums over what is heard, step by step, in the backward pass; an observer of :class:`colgraph.nn.SheetAttention`.

    Args:
        layout: of the sheet as it is.
        candidates: pairs to sum gradients for; None where edges grow by something else.
        images: how many of a batch are looked at, the first ones; all by default.

    Attributes:
        attention: ``[E]`` float64 sums, and ``weight``, the number that they are sums over.
        gradient: ``[H,P]`` float64 sums, on up to ``MOST_COLUMNS`` columns of all pairs: ``[H,N,N]``, target by source;
            None before the first step.
        loss_scale: by which gradients are too large (mixed precision); a step in which they are no numbers counts for
            nothing, as in the optimizer.
    """

    def __init__(self, layout: Layout, candidates: Candidates | None, images: int | None = None) -> None:
        self.layout, self.candidates, self.images = layout, candidates, images
        self.every = layout.num_columns <= MOST_COLUMNS  # one product is faster than many rows of pairs
        self.attention = torch.zeros(layout.num_edges, dtype=torch.float64)
        self.weight = 0
        self.gradient: Tensor | None = None
        self.loss_scale = 1.0
        self._pairs: Tensor | None = None

    @torch.no_grad()
    def __call__(self, given: Operands, out: Tensor, grad: Tensor) -> None:
        """One step of a backward pass.

        Args:
            given: query and key ``[N,B,H,D]``, value ``[N,B,H,C]``.
            out: ``[N,B,H,C]``, what each column heard.
            grad: the gradient of the loss with respect to it.
        """
        query, key, value, out, grad = (rows[:, : self.images] for rows in (*given[:3], out, grad))
        batch, heads = query.shape[1:3]
        received = _received(given._replace(query=query, key=key), self.layout)
        self.attention = self.attention.to(received.device) + received
        self.weight += batch * heads
        if self.candidates is None:
            return
        grad = grad.to(torch.promote_types(grad.dtype, torch.float32))
        if self.loss_scale != 1.0:
            grad = grad / self.loss_scale
            if not bool(torch.isfinite(grad).all()):
                return
        grad, value, heard = (rows.to(grad.dtype).permute(2, 0, 1, 3) for rows in (grad, value, out))
        own = torch.einsum("hnbc,hnbc->hn", grad, heard)
        more = self._all(grad, value, own) if self.every else self._some(grad, value, own)
        self.gradient = more if self.gradient is None else self.gradient.to(more.device) + more

    def _all(self, grad: Tensor, value: Tensor, own: Tensor) -> Tensor:
        """``[H,N,N]``, by one product for each head."""
        return _exact(grad.flatten(2) @ value.flatten(2).transpose(1, 2) - own.unsqueeze(2))

    def _some(self, grad: Tensor, value: Tensor, own: Tensor) -> Tensor:
        """``[H,P]``, a few pairs at a time."""
        if self._pairs is None and self.candidates is not None:
            self._pairs = torch.from_numpy(self.candidates.pairs).to(grad.device)
        source, target = self._pairs if self._pairs is not None else (grad.new_empty(0),) * 2
        size = max(1, _AT_ONCE // max(grad[:, 0].numel(), 1))
        parts = [
            torch.einsum("hpbc,hpbc->hp", grad[:, i], value[:, j])
            for i, j in zip(target.split(size), source.split(size), strict=True)
        ]
        return _exact(torch.cat(parts, 1) - own[:, target])

    # ------------------------------------------------------------------ what it amounts to

    def mean_attention(self) -> NDArray[np.float64]:
        """``[E]`` the attention of each edge, the mean over images, steps and heads."""
        return self.attention.cpu().numpy() / max(self.weight, 1)

    def growth(self) -> NDArray[np.float64]:
        """``[P]`` the size of each candidate's gradient, summed over heads."""
        if self.candidates is None or self.gradient is None:
            return np.zeros(0 if self.candidates is None else self.candidates.pairs.shape[1])
        size = self.gradient.abs().sum(0).cpu().numpy()
        if not self.every:
            return np.asarray(size)
        source, target = self.candidates.pairs
        return np.asarray(size[target, source])

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        gradient = None if self.gradient is None else self.gradient.cpu().clone()
        return {"attention": self.attention.cpu().clone(), "weight": self.weight, "gradient": gradient}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.attention, self.weight, self.gradient = state["attention"], int(state["weight"]), state["gradient"]


def _exact(sums: Tensor) -> Tensor:
    """In float64, on the CPU where the device has none."""
    return sums.cpu().double() if sums.device.type == "mps" else sums.double()


def _received(given: Operands, layout: Layout) -> Tensor:
    """``[E]`` float64, each edge's attention, summed over images and heads."""
    size = max(1, _AT_ONCE // max(layout.num_edges * given.query[0, 0].numel(), 1))
    parts = zip(given.query.split(size, 1), given.key.split(size, 1), strict=True)
    weights = (attention_weights(query, key, given.edge_bias, layout, given.scale) for query, key in parts)
    return torch.stack([_exact(weight.sum((1, 2))) for weight in weights]).sum(0)
