"""Conduction delays: how many steps news takes along each edge."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from colgraph.options import OptionError
from colgraph.sheet import Sheet

_TOLERANCE = 1e-6
"""Relative, as of distances that count as equal: a length of 3.0000000001 steps takes three."""


def conduction_delays(sheet: Sheet, speed: float | None, steps: int | None = None) -> Tensor | None:
    """``[E]`` int64, ``max(1, ceil(d_ij / speed))``: how many steps ago the state was that arrives along each edge.

    Args:
        sheet: the sheet.
        speed: distance per step, in the sheet's units; None for no delays.
        steps: of the model, which the longest delay must not exceed; not checked if not given.

    Returns:
        The delays, or None where all are 1, which is no delay: columns hear each other one step later without any.

    Raises:
        OptionError: if an edge's delay is longer than ``steps``, so that it would never be heard.
    """
    if speed is None or not sheet.edge_distance.numel():
        return None
    taken = sheet.edge_distance.double().cpu().numpy() / speed
    whole = np.round(taken)
    taken = np.where(np.abs(taken - whole) <= _TOLERANCE * whole, whole, np.ceil(taken)).clip(1)
    longest = float(taken.max())
    if steps is not None and longest > steps:
        length = float(sheet.edge_distance.max())
        raise OptionError(
            "speed",
            f"{speed:g} delays the longest edge, of length {length:g}, by {longest:.10g} steps, and there are {steps}: "
            f"give a speed of at least {length / steps:.4g}, more steps, or shorter edges",
        )
    return None if longest == 1 else torch.from_numpy(taken.clip(max=2**31).astype(np.int64))
