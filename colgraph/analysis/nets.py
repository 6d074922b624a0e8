"""Networks as callables: what they answer, in which mode, on which device."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from colgraph.analysis.arrays import as_array, as_labels, check_count
from colgraph.analysis.corruptions import as_images
from colgraph.modes import evaluation

Net = Callable[[Tensor], Tensor]
"""Images ``[B, channels, height, width]`` to logits ``[B, classes]``."""


def predict(
    net: Net,
    images: Any,
    labels: NDArray[np.int64] | None = None,
    *,
    batch_size: int = 256,
    run: Net | None = None,
) -> NDArray[np.int64]:
    """``[B]``: the class with the largest logit of each image, in evaluation mode, without gradients.

    Args:
        net: the network.
        images: ``[B, ...]``.
        labels: ``[B]`` the classes that answers will be held against, if any.
        batch_size: images at a time.
        run: what gives the logits; the network itself if not given.

    Raises:
        ValueError: for answers that are no logits of classes or NaN, and labels that are none of the network's classes.
    """
    data = torch.as_tensor(images)
    out: list[NDArray[np.int64]] = []
    with evaluation(net), torch.no_grad():
        for start in range(0, len(data), check_count("batch_size", batch_size)):
            logits = (run or net)(data[start : start + batch_size].to(device_of(net)))
            if logits.dim() != 2:
                raise ValueError(f"net must return logits [B, classes], got {list(logits.shape)}")
            if labels is not None and not out:
                _check_classes(labels, logits.size(1))
            check_answers(logits, start)
            out.append(logits.argmax(1).cpu().numpy())
    return np.concatenate(out)


def check_answers(answers: Tensor, start: int = 0) -> None:
    """Raise ValueError for answers ``[B, ...]`` of images ``start`` and after of which some are NaN.

    The largest of such logits is the first to torch, which would be an answer like any other.
    """
    none = torch.isnan(answers).flatten(1).any(1)
    if none.any():
        raise ValueError(f"the network's answer to image {start + int(none.to(torch.uint8).argmax())} is NaN")


def _check_classes(labels: NDArray[np.int64], classes: int) -> None:
    other = (labels < 0) | (labels >= classes)
    if other.any():
        first = int(other.argmax())
        raise ValueError(
            f"labels must be classes of the network, 0 to {classes - 1}, got {labels[first]} for image {first}"
        )


def check_edges(net: Any, edges: NDArray[np.int64]) -> None:
    """Raise ValueError for edges ``[2,E]`` that are not the network's, one by one, where it has a sheet that says so.

    What a network says of its edges, and what is done to them, goes by their number.
    """
    parts = net.modules() if isinstance(net, nn.Module) else []
    # A network may have anything by the name of "sheet", another network among them.
    theirs = [getattr(getattr(part, "sheet", None), "edge_index", None) for part in parts]
    arrays = [as_array(own, "edges") for own in theirs if own is not None]
    known = [own for own in arrays if own.shape == edges.shape]
    if known and not any(np.array_equal(own, edges) for own in known):
        first = int((known[0] != edges).any(0).argmax())
        own, given = (" -> ".join(map(str, each[:, first].tolist())) for each in (known[0], edges))
        raise ValueError(
            f"edges must be those of the network's sheet, in its order (sheet.edge_index): edge {first} is {own}, "
            f"got {given}"
        )


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


def labeled_images(images: Any, labels: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Checked images and labels of equal number.

    Raises:
        ValueError: for shapes, values or numbers that do not fit.
    """
    data = as_images(images)
    index = as_labels(labels, len(data))
    if index.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers, one per image, got {index.dtype}")
    return data, index.astype(np.int64)


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
