"""What of a column is measured: what the readout reads, what it says, its hidden units, or the length of its state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from colgraph.analysis.arrays import check_choice

SIGNALS = ("normed", "evidence", "hidden", "norm", "mean", "state")
"""Names of signals, see :func:`colgraph.analysis.responses`."""

Signal = str | int
"""One of :data:`SIGNALS`, or the number of a channel."""


def check_signal(net: Any, signal: Signal, channels: int | None = None) -> None:
    """Raise ValueError for a signal that is none, or that the network does not have.

    Args:
        net: the network.
        signal: what is asked for.
        channels: how many channels a state has, where that is known already.
    """
    if _is_number(signal):
        _check_channel(int(signal), channels)
        return
    check_choice("signal", signal, SIGNALS)
    unrolls, head = hasattr(net, "unroll"), hasattr(net, "evidence")
    missing = {"evidence": not (unrolls and head), "hidden": not unrolls}
    if missing.get(signal):  # type: ignore[arg-type]
        known = [repr(name) for name in SIGNALS if not missing.get(name)]
        needs = "a head: a method evidence(state)" if signal == "evidence" else "unroll(images, record=('hidden',))"
        name = getattr(net, "__name__", type(net).__name__)
        raise ValueError(
            f"signal {signal!r} needs a network with {needs}, and {name} has none: there are "
            f"{', '.join(known)} and the number of a channel"
        )


def signals_of(net: Any, images: Tensor, signal: Signal, steps: Any = None, columns: Any = None) -> Tensor:
    """``[steps, columns, B(, channels)]`` of a batch of images; see :func:`colgraph.analysis.responses`.

    Args:
        net: the network.
        images: ``[B, ...]``.
        signal: a name that :func:`check_signal` has let pass, or the number of a channel.
        steps: None for the last step alone, "all", or numbers.
        columns: indices or a mask; all if not given.
    """
    if not hasattr(net, "unroll"):
        return _some(signal_of(None, _features(net(images)), signal), columns).unsqueeze(0)
    if signal == "hidden":
        every = getattr(net.unroll(images, record=("hidden",)), "hidden", None)
        if every is None:
            raise ValueError(f"signal 'hidden': {type(net).__name__} records no hidden units")
    elif steps is None:
        every = net.unroll(images).state.unsqueeze(0)
    else:
        every = net.unroll(images, record=("state",)).states
    count = len(every)
    numbers = [count - 1] if steps is None else range(count) if steps == "all" else step_numbers(steps, count)
    # Step by step, so that what is not asked for is let go at once.
    return torch.stack([_some(signal_of(net, every[t], signal), columns) for t in numbers])


def signal_of(net: Any, state: Tensor, signal: Signal) -> Tensor:
    """``[columns, B(, channels)]`` of a state ``[columns, B, C]`` (with "hidden", of the hidden units themselves)."""
    if signal in ("state", "hidden"):
        return state
    if signal == "norm":
        return state.norm(dim=-1)
    if signal == "evidence":
        evidence: Tensor = net.evidence(state)
        return evidence
    normed: Tensor = net.normed(state) if hasattr(net, "normed") else state
    if signal == "normed":
        return normed
    if signal == "mean":
        return _mean(normed)
    _check_channel(int(signal), normed.size(-1))
    return normed[..., int(signal)]


def _mean(x: Tensor) -> Tensor:
    """The mean over channels, zero where it is nothing but rounding, as that of a LayerNorm without gains is."""
    mean = x.mean(-1)
    return torch.where(mean.abs() > 64 * torch.finfo(x.dtype).eps * x.abs().amax(-1), mean, 0)


def _features(x: Tensor) -> Tensor:
    """``[columns, B, channels]`` from what another network returns."""
    if x.dim() == 2:
        return x.t().unsqueeze(-1)
    if x.dim() == 3:
        return x.transpose(0, 1)
    raise ValueError(f"net must return [B, columns] or [B, columns, channels], got {list(x.shape)}")


def _check_channel(channel: int, channels: int | None) -> None:
    if channel < 0 or (channels is not None and channel >= channels):
        wanted = "a number from 0" if channels is None else f"0 to {channels - 1}"
        raise ValueError(f"channel must be {wanted}, got {channel}")


def _is_number(signal: object) -> bool:
    return isinstance(signal, int | np.integer) and not isinstance(signal, bool | np.bool_)


def _some(x: Tensor, columns: Any) -> Tensor:
    """The columns ``[columns, ...]`` that were asked for, by index or mask."""
    return x if columns is None else x[_column_index(columns, x.size(0))]


def _column_index(columns: Any, count: int) -> Tensor:
    index = torch.as_tensor(columns)
    if index.dtype == torch.bool:
        if index.shape != (count,):
            raise ValueError(f"columns as a mask must have {count} entries, got {list(index.shape)}")
        return torch.nonzero(index).flatten()
    if index.dim() != 1 or not index.numel() or index.is_floating_point():
        raise ValueError(f"columns must be a list of indices, got {index.dtype} of shape {list(index.shape)}")
    if int(index.min()) < 0 or int(index.max()) >= count:
        wrong = int(index.min()) if int(index.min()) < 0 else int(index.max())
        raise ValueError(f"columns must lie in 0..{count - 1}, got {wrong}")
    return index.long()


def step_numbers(steps: int | Sequence[int], count: int) -> list[int]:
    """The steps that were asked for, of so many, or a ValueError."""
    given = np.atleast_1d(np.asarray(steps))
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise ValueError(f"steps must be 'all' or whole numbers, got {steps!r}")
    numbers = [int(t) for t in given]
    for t in numbers:
        if not -count <= t < count:
            raise ValueError(f"steps must lie in 0..{count - 1} (or count from the end), got {t}")
    return numbers
