"""What happens to the state of a sheet at the beginning of its steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from colgraph.ops import column_step as ops
from colgraph.torch_internals import static_shape


@dataclass(frozen=True)
class Drive:
    """What happens to the state at the beginning of steps: what is lost and added, or the gradients of that.

    Attributes:
        x: ``[1,P,B,C]``, the same at every step, or ``[T,P,B,C]``, one per step, or None.
        embedding: ``[T,C]``, added to all columns, or None.
        columns: ``[P]`` the columns that receive ``x``, or None where P = N.
        start: the first step that receives ``x``, and loses what leaks.
        leak: the share of the state that is lost, before the rest is added.
    """

    x: Tensor | None = None
    embedding: Tensor | None = None
    columns: Tensor | None = None
    start: int = 0
    leak: float = 0.0

    def kept(self, t: int) -> float:
        """The share of the state that is left at the beginning of step t."""
        return 1.0 - self.leak if t >= self.start else 1.0

    def added_to(self, state: Tensor, t: int) -> Tensor:
        """The state with what step t receives."""
        if self.leak and t >= self.start:
            state = state * self.kept(t)
        if self.x is not None and t >= self.start:
            x = self.x[min(t, static_shape(self.x)[0] - 1)]
            if self.columns is None:
                state = state + x
            else:
                # Under autocast the two come in different precision, and index_add does not promote as + does.
                both = torch.promote_types(state.dtype, x.dtype)
                state = state.to(both).index_add(0, self.columns, x.to(both))
        return state if self.embedding is None else state + self.embedding[t]

    def collect(self, grad: Tensor, t: int) -> None:
        """Add to these gradients what step t contributes, given the gradient of its state."""
        if self.x is not None and t >= self.start:
            ops.accumulate(grad, self.x[min(t, self.x.size(0) - 1)], self.columns)
        if self.embedding is not None:
            self.embedding[t] = grad.sum((0, 1))
