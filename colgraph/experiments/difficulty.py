"""Results by difficulty: bins that are chosen from the data, and what of a batch lies in one."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from colgraph.data import IGNORED, ImageSet
from colgraph.tasks import Task

_MOST_BINS = 8


class Bin(NamedTuple):
    """Difficulties from ``low`` to ``high``, both included."""

    low: float
    high: float


def counted_difficulty(task: Task, net: Any, images: ImageSet) -> Tensor | None:
    """``[n]``, or ``[n,outputs]`` in the order of the output columns; nan where there is none, or the label is ignored.

    None for tasks without labels, and images without a difficulty.
    """
    found: Tensor | None = getattr(images, "difficulty", None)
    if found is None or task.labels == "none":
        return None
    found, labels = found.double(), images.labels
    vectors = labels.is_floating_point()
    if found.dim() > 1:
        ignored = labels.isnan().any(-1) if vectors else labels == IGNORED
        found = found.masked_fill(ignored, torch.nan)
    if found.dim() > 2:
        found = found.flatten(1, 2).index_select(1, net.output_patches.to(found.device))
    return found.masked_fill(~(found >= 0) | found.isinf(), torch.nan)


def difficulty_bins(difficulty: Tensor) -> list[Bin]:
    """At most eight bins of what is not nan, none of them empty, each with the least and the largest that lie in it.

    Whole numbers, such as lengths of paths, are cut into bins of one width, so that the far end, however rare, stays
    apart; others into bins of about equal numbers.
    """
    known = difficulty[~difficulty.isnan()]
    if not known.numel():
        return []
    values = known.unique()
    low, high = float(values[0]), float(values[-1])
    if bool((values == values.round()).all()):
        width = -(-(high - low + 1) // _MOST_BINS)
        number = ((values - low) // width).long()
    else:
        edges = known.sort().values[torch.arange(1, _MOST_BINS) * known.numel() // _MOST_BINS]
        number = torch.bucketize(values, edges.unique(), right=True)
    return [Bin(float(part[0]), float(part[-1])) for part in (values[number == i] for i in number.unique())]


def only_in(bin_: Bin, difficulty: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, int]:
    """Of a batch what lies in a bin: the rows of the answers, their targets, and how many images or columns it is.

    Args:
        bin_: the bin.
        difficulty: ``[B]`` or ``[B,outputs]``.
        targets: ``[B,...]``; of columns outside of the bin they are ignored.
    """
    inside = (difficulty >= bin_.low) & (difficulty <= bin_.high)
    if inside.dim() == 1:
        return inside, targets[inside], int(inside.sum())
    if targets.is_floating_point():
        targets = targets.masked_fill(~inside.unsqueeze(-1), torch.nan)
    else:
        targets = targets.masked_fill(~inside, IGNORED)
    return torch.ones_like(inside[:, 0]), targets, int(inside.sum())
