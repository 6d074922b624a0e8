"""When columns can first know of the input: the shortest path to each, in steps."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra
from torch import Tensor

from colgraph.models.conduction import conduction_delays
from colgraph.sheet import Sheet


def steps_to_reach(sheet: Sheet, speed: float | None = None) -> Tensor:
    """``[N]`` int64: after how many steps a column can know of the input; 0 at input columns, -1 if never.

    With a ``speed``, each edge takes the steps of its conduction delay, else one.
    """
    n, inputs = sheet.num_columns, sheet.inputs.cpu().numpy()
    if not inputs.size:
        return torch.full((n,), -1, dtype=torch.int64, device="cpu")
    source, target = sheet.edge_index.cpu().numpy()
    delays = conduction_delays(sheet, speed)
    taken = np.ones(source.size) if delays is None else delays.numpy().astype(np.float64)
    graph = coo_array((taken, (source, target)), shape=(n, n)).tocsr()
    steps = dijkstra(graph, indices=inputs, min_only=True)
    return torch.from_numpy(np.where(np.isfinite(steps), steps, -1).astype(np.int64))


def late_columns(when: Tensor, steps: int) -> Tensor:
    """Which columns of :func:`steps_to_reach` cannot know of the input after ``steps`` steps, as a mask."""
    return (when < 0) | (when > steps)
