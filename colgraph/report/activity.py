"""The one number per column that maps are made of, for each signal that an analysis may be about."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from colgraph.analysis import Probes, column_signal, responses
from colgraph.analysis.arrays import check_choice
from colgraph.analysis.nets import bar
from colgraph.analysis.signals import SIGNALS, Signal

Reduce = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Activity:
    """One number per column.

    Attributes:
        signal: what of a column it is made of.
        how: one number of that, as :func:`colgraph.analysis.column_signal` makes it, or None where it is one already.
        label: what it is.
    """

    signal: Signal
    how: str | None
    label: str


# The length of a normed state is all but the same for every image, so the one number is what is made of that state.
_EVIDENCE = Activity("evidence", "spread", "strength of evidence (its deviation over classes)")
_ANSWER = Activity("evidence", "spread", "strength of the answer (its deviation over the numbers answered)")
_HIDDEN = Activity("hidden", "norm", "length of the hidden units")
_NO_EVIDENCE = Activity("hidden", "norm", "length of the hidden units (an mlp answers: columns have no evidence)")
_LENGTH = Activity("norm", None, "length of the state, which the readout does not see")
_ACTIVITY = {
    "hidden": _HIDDEN,
    "state": _LENGTH,
    "norm": _LENGTH,
    "mean": Activity("mean", None, "mean channel of the normed state"),
}


def as_signal(given: Signal) -> Signal:
    """A signal, or the number of a channel as a command line has it.

    Raises:
        ValueError: for a name that is none.
    """
    if isinstance(given, str) and given.isdecimal():
        return int(given)
    if not isinstance(given, int) or isinstance(given, bool):
        check_choice("signal", given, SIGNALS)
    return given


def activity_of(signal: Signal, head: str = "linear", classes: bool = True) -> Activity:
    """The one number per column of an analysis that is about this signal.

    Args:
        signal: what of a column is measured.
        head: of the network; there is evidence only where it is "linear".
        classes: whether the network answers with classes, or class by class for each column.
    """
    if signal in ("normed", "evidence"):
        return _NO_EVIDENCE if head != "linear" else _EVIDENCE if classes else _ANSWER
    return _ACTIVITY.get(str(signal)) or Activity(signal, None, f"channel {signal} of the normed state")


def own_activity(signal: Signal, lacks: Collection[str], channels: int) -> Activity:
    """The same of a network of one's own with columns, as far as it has what is asked for.

    Args:
        signal: what of a column is measured.
        lacks: "evidence" and "hidden" where the network has none.
        channels: of a state.
    """
    if signal not in ("normed", "evidence", "state"):
        return activity_of(signal)
    if signal != "state" and "evidence" not in lacks:
        return _EVIDENCE
    return Activity("norm", None, "length of the state") if channels > 1 else Activity("mean", None, "state")


def is_one_number(signal: Signal) -> bool:
    """Whether a signal is one number per column by itself."""
    return signal not in ("normed", "evidence", "hidden", "state")


def collect(net: Any, probes: Probes, activity: Activity, batch_size: int, progress: bool, **options: Any) -> Any:
    """``[stimuli, (steps,) columns]``, batch by batch, so that all channels of all columns are never there at once."""
    return _reduced(net, probes.images, activity.signal, lambda x: _one(x, activity.how), batch_size, progress, options)


def class_evidence(net: Any, probes: Probes, classes: list[int], batch_size: int, progress: bool) -> Any:
    """``[stimuli, columns, classes]`` evidence for some classes less the mean over all, which changes no answer."""

    def reduce(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return x[..., classes] - x.mean(-1, keepdims=True)

    return _reduced(net, probes.images, "evidence", reduce, batch_size, progress, {})


def _reduced(
    net: Any, images: torch.Tensor, signal: Signal, reduce: Reduce, batch_size: int, progress: bool, options: Any
) -> NDArray[np.float32]:
    starts = bar(range(0, len(images), batch_size), "responses", progress)
    parts = [
        reduce(responses(net, images[i : i + batch_size], signal=signal, progress=False, **options)) for i in starts
    ]
    return np.concatenate(parts)


def _one(x: NDArray[np.float32], how: str | None) -> NDArray[np.float32]:
    if how is None:
        return x
    if x.shape[-1] == 1:  # a head of one class: its evidence is one number
        return x[..., 0]
    flat = column_signal(x.reshape(len(x), -1, x.shape[-1]), how, least=1)
    return flat.reshape(x.shape[:-1])
