"""Networks as callables, and the curve of their accuracy against whatever is done to them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from colgraph.analysis import plotting
from colgraph.analysis.arrays import Array, as_labels, as_vector, check_count
from colgraph.analysis.corruptions import as_images
from colgraph.analysis.result import Result
from colgraph.analysis.stats import jackknife_interval, leaving_out, random_groups

Net = Callable[[Tensor], Tensor]
"""Images ``[B, channels, height, width]`` to logits ``[B, classes]``."""


def predict(net: Net, images: Any, *, batch_size: int = 256, run: Net | None = None) -> NDArray[np.int64]:
    """``[B]``: the class with the largest logit of each image, in evaluation mode, without gradients.

    Args:
        net: the network.
        images: ``[B, ...]``.
        batch_size: images at a time.
        run: what gives the logits; the network itself if not given.
    """
    data = torch.as_tensor(images)
    out = []
    with evaluation(net), torch.no_grad():
        for start in range(0, len(data), check_count("batch_size", batch_size)):
            logits = (run or net)(data[start : start + batch_size].to(device_of(net)))
            if logits.dim() != 2:
                raise ValueError(f"net must return logits [B, classes], got {list(logits.shape)}")
            out.append(logits.argmax(1).cpu().numpy())
    return np.concatenate(out)


@contextmanager
def evaluation(net: Any) -> Any:
    """A module in evaluation mode, then in the mode it was in; other callables as they are."""
    training = isinstance(net, nn.Module) and net.training
    if training:
        net.eval()
    try:
        yield
    finally:
        if training:
            net.train()


@contextmanager
def restored(tensors: Iterable[Tensor]) -> Any:
    """Tensors that may be changed in place within the block, and then are what they were."""
    kept = [(tensor, tensor.detach().clone()) for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in kept:
                tensor.copy_(value)


def device_of(net: Any) -> torch.device:
    """Where a module's parameters are; the CPU for other callables."""
    parameter = next(net.parameters(), None) if isinstance(net, nn.Module) else None
    return torch.device("cpu") if parameter is None else parameter.device


def labelled_images(images: Any, labels: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Checked images and labels of equal number.

    Raises:
        ValueError: for shapes, values or numbers that do not fit.
    """
    data = as_images(images)
    index = as_labels(labels, len(data))
    if index.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers, one per image, got {index.dtype}")
    return data, index.astype(np.int64)


def image_interval(correct: Array, seed: int) -> Array:
    """``[2, ...]``: interval of the mean of ``correct [..., B]`` over images, by groups drawn with the seed."""
    left_out = [correct[..., kept].mean(-1) for kept in leaving_out(random_groups(correct.shape[-1], seed))]
    return np.clip(jackknife_interval(correct.mean(-1), left_out), 0, 1)


def bar(items: Iterable[Any], what: str, show: bool) -> Iterable[Any]:
    """The items, with a progress bar where one is wanted and tqdm is installed."""
    if not show:
        return items
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return items
    often = 0.1 if sys.stderr.isatty() else 10.0  # seconds: a log keeps every line
    wrapped: Iterable[Any] = tqdm(items, desc=what, leave=False, mininterval=often)
    return wrapped


# ---------------------------------------------------------------------- curves


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class AccuracyCurve(Result):
    """Accuracy against how much was done to a network or its input; the value is the mean over all levels but 0.

    Attributes:
        levels: ``[K]`` how much.
        accuracy: ``[K]``.
        accuracy_interval: ``[2, K]``.
        accuracy_null: ``[draws, K]`` under the null.
        level_name: what the levels are.
        null_name: what the null is.
        images: how many images were classified.
    """

    levels: Array
    accuracy: Array
    accuracy_interval: Array
    accuracy_null: Array
    level_name: str
    null_name: str
    images: int

    def summary(self) -> dict[str, Any]:
        """The numbers as plain values, with how many images there were."""
        return super().summary() | {"images": self.images}

    def plot(self, ax: plotting.Axes | None = None) -> plotting.Axes:
        """Draw accuracy against level, beside the null."""
        ax = plotting.axes(ax)
        if len(self.accuracy_null):
            mean, ends = self.accuracy_null.mean(0), np.quantile(self.accuracy_null, [0.025, 0.975], axis=0)
            ax.fill_between(self.levels, ends[0], ends[1], color=plotting.GREY, alpha=0.3, linewidth=0)
            ax.plot(self.levels, mean, color=plotting.GREY, linestyle="--", label=self.null_name)
        low, high = self.accuracy_interval
        ax.fill_between(self.levels, low, high, color=plotting.ORANGE, alpha=0.25, linewidth=0)
        ax.plot(self.levels, self.accuracy, color=plotting.ORANGE, marker="o", markersize=4, label="accuracy")
        title = f"{self.name}: {self.value:.3f} ({self.images:,} images)"
        ax.set(xlabel=self.level_name, ylabel="accuracy", ylim=(-0.02, 1.02), title=title)
        ax.legend(frameon=False, fontsize=8, loc="lower left")
        return ax


def accuracy_curve(
    name: str,
    levels: Array,
    correct: Array,
    null: Array,
    *,
    level_name: str,
    null_name: str,
    seed: int,
    tail: str = "less",
) -> AccuracyCurve:
    """An :class:`AccuracyCurve` from ``correct [K, B]`` (shares between 0 and 1) and ``null [draws, K]``.

    The seed draws the interval's groups of images.
    """
    counted = levels > 0
    value = float(correct[counted].mean())
    left_out = [correct[counted][:, kept].mean() for kept in leaving_out(random_groups(correct.shape[1], seed))]
    return AccuracyCurve(
        name=name,
        value=value,
        null=null[:, counted].mean(1) if len(null) else np.empty(0),
        interval=np.clip(jackknife_interval(value, left_out), 0, 1),
        tail=tail,
        levels=levels,
        accuracy=correct.mean(1),
        accuracy_interval=image_interval(correct, seed),
        accuracy_null=null,
        level_name=level_name,
        null_name=null_name,
        images=correct.shape[1],
    )


def check_levels(levels: Sequence[float], what: str, most: float = np.inf) -> Array:
    """Ascending levels from 0 to ``most``, at least one above 0, or a ValueError."""
    array = np.unique(as_vector(levels, what))
    if array.min() < 0 or array.max() > most or array.max() <= 0:
        bound = "" if np.isinf(most) else f" to {most:g}"
        raise ValueError(f"{what} must be from 0{bound} with at least one above 0, got {array.tolist()}")
    return array


def noise_curve(
    kind: str,
    unit: str,
    answer: Callable[[Array, NDArray[np.int64], float, int], NDArray[np.bool_]],
    images: Any,
    labels: Any,
    levels: Sequence[float],
    draws: int,
    seed: int,
    progress: bool,
) -> AccuracyCurve:
    """The mean over draws of ``answer(images, labels, level, draw)``, which images are classified rightly, by level."""
    data, index = labelled_images(images, labels)
    amounts = check_levels(levels, "levels")
    correct = np.zeros((len(amounts), len(data)))
    cells = [(k, draw) for k in range(len(amounts)) for draw in range(check_count("draws", draws))]
    for k, draw in bar(cells, kind, progress):
        correct[k] += answer(data, index, float(amounts[k]), draw) / draws
    nothing = np.empty((0, len(amounts)))
    return accuracy_curve(
        f"accuracy under {kind}", amounts, correct, nothing, level_name=f"noise ({unit})", null_name="", seed=seed
    )
