"""Untied parameters written as shared ones plus a difference per column.

``W_i = S + D_i`` spans the same functions as independent ``W_i``. What differs is learning: every column's gradient
moves the shared part, so columns learn together what they have in common, and a decay of the differences pulls columns
towards each other instead of towards zero.
"""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from colgraph.nn.constructor import constructor
from colgraph.nn.layers import ColumnLayerNorm, ColumnLinear, apply_linear, apply_norm
from colgraph.torch_internals import has_hooks


class SharedDifference(nn.Module):
    """A part whose ``weight`` and ``bias`` per column are sums of a shared one and a difference.

    The state dict of the plain part (names ``weight``, ``bias``, with or without the axis of columns) loads too: the
    shared parameters become the mean over columns, and the differences what is left.

    Args:
        shared: the tied part.
        difference: the untied part, zero at the start.

    Attributes:
        weight: ``[N,...]``, a new tensor at every access, except within :func:`weights_held`.
        bias: the same.
    """

    def __init__(self, shared: ColumnLinear | ColumnLayerNorm, difference: ColumnLinear | ColumnLayerNorm) -> None:
        super().__init__()
        self.num_columns = difference.num_columns
        self.shared = shared
        self.difference = difference
        self._held: dict[int, dict[str, Tensor]] = {}

    def pair(self, name: str) -> tuple[Tensor, Tensor]:
        """The shared tensor and the differences that ``weight`` or ``bias`` is the sum of.

        Raises:
            ValueError: if hooks wait for a call of one of the two, which never comes.
        """
        if has_hooks(self.shared) or has_hooks(self.difference):
            raise ValueError(
                f"a {type(self).__name__} is called as a whole, so that hooks (and torch.nn.utils.weight_norm) on its "
                "shared part or its difference never run: put them on the whole, or use parametrizations"
            )
        return getattr(self.shared, name), getattr(self.difference, name)

    def _sum(self, name: str) -> Tensor:
        held = self._held.get(threading.get_ident()) if self._held else None
        if held is not None:
            return held[name]
        shared, difference = self.pair(name)
        return shared + difference

    @property
    def weight(self) -> Tensor:
        """The weights of all columns."""
        return self._sum("weight")

    @property
    def bias(self) -> Tensor:
        """The biases of all columns."""
        return self._sum("bias")

    @torch.no_grad()
    def to_plain(self) -> nn.Module:
        """The plain untied part of the same function: a copy."""
        plain = copy.deepcopy(self.difference)
        plain.zero = False
        for name, like in self.difference.named_parameters():
            value = nn.Parameter(self._sum(name).detach().clone(), requires_grad=like.requires_grad)
            setattr(plain, name, value)
        return plain.train(self.training)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in ("weight", "bias"):
            value = state_dict.pop(prefix + name, None)
            if value is None:
                continue
            here = self.pair(name)[1]
            whole = value.dim() == here.dim()
            shared = value.mean(0) if whole else value
            difference = value - shared if whole else value.new_zeros(here.shape)
            state_dict[f"{prefix}shared.{name}"] = shared
            state_dict[f"{prefix}difference.{name}"] = difference
        super()._load_from_state_dict(state_dict, prefix, *args)


class SharedColumnLinear(SharedDifference):
    """``y_i = (S + D_i) x_i + s + d_i``: :class:`ColumnLinear` with ``N`` columns, written as shared + difference.

    The shared map starts as a tied one does, the differences at zero.

    Shapes:
        shared.weight ``[out,in]``, difference.weight ``[N,out,in]``, shared.bias ``[out]``, difference.bias
        ``[N,out]``; ``[N,B,in] -> [N,B,out]``.
    """

    @constructor
    def __init__(self, in_features: int, out_features: int, num_columns: int) -> None:
        super().__init__(
            ColumnLinear(in_features, out_features), ColumnLinear(in_features, out_features, num_columns, zero=True)
        )
        self.in_features, self.out_features = in_features, out_features

    def forward(self, x: Tensor) -> Tensor:
        """As of :class:`ColumnLinear`."""
        return apply_linear(x, self.weight, self.bias)


class SharedColumnLayerNorm(SharedDifference):
    """:class:`ColumnLayerNorm` with ``N`` columns, its scales and shifts written as shared + difference."""

    @constructor
    def __init__(self, dim: int, num_columns: int, eps: float = 1e-5) -> None:
        super().__init__(ColumnLayerNorm(dim, eps=eps), ColumnLayerNorm(dim, num_columns, eps, zero=True))
        self.dim, self.eps = dim, eps

    def forward(self, x: Tensor) -> Tensor:
        """As of :class:`ColumnLayerNorm`."""
        return apply_norm(x, self.weight, self.bias, self.eps)


def make_linear(
    in_features: int, out_features: int, num_columns: int | None, parametrization: str = "plain"
) -> ColumnLinear | SharedColumnLinear:
    """A linear map per column (or a tied one, which has nothing to be written otherwise)."""
    if num_columns is None or parametrization == "plain":
        return ColumnLinear(in_features, out_features, num_columns)
    return SharedColumnLinear(in_features, out_features, num_columns)


def make_norm(
    dim: int, num_columns: int | None, parametrization: str = "plain"
) -> ColumnLayerNorm | SharedColumnLayerNorm:
    """A norm per column (or a tied one)."""
    if num_columns is None or parametrization == "plain":
        return ColumnLayerNorm(dim, num_columns)
    return SharedColumnLayerNorm(dim, num_columns)


def replace_by_plain(module: nn.Module, columns: int | None = None) -> None:
    """Put the plain part in the place of every part written as shared + difference, at any depth.

    With ``columns`` N, every tied part is replaced by N equal ones, too.
    """
    for name, child in module.named_children():
        if isinstance(child, SharedDifference):
            setattr(module, name, child.to_plain())
        elif columns is not None and isinstance(child, ColumnLinear | ColumnLayerNorm) and child.num_columns is None:
            setattr(module, name, _repeated(child, columns))
        else:
            replace_by_plain(child, columns)


def _repeated(tied: ColumnLinear | ColumnLayerNorm, columns: int) -> ColumnLinear | ColumnLayerNorm:
    """A tied part with its parameters written down for every column."""
    untied = copy.deepcopy(tied)
    untied.num_columns = columns
    for name, value in tied.named_parameters():
        whole = value.detach().expand(columns, *value.shape).clone()
        setattr(untied, name, nn.Parameter(whole, requires_grad=value.requires_grad))
    return untied


@contextlib.contextmanager
def weights_held(module: nn.Module) -> Iterator[None]:
    """Sum shared parameters and differences once for all uses within, in this thread.

    Without it each time step would make, and keep for the backward pass, sums of its own.
    """
    parts = [part for part in module.modules() if isinstance(part, SharedDifference)]
    me = threading.get_ident()
    for part in parts:
        part._held[me] = {name: part._sum(name) for name in ("weight", "bias")}
    try:
        yield
    finally:
        for part in parts:
            part._held.pop(me, None)
