"""Evaluation mode for a while, of any network: every part is afterwards in the mode that it was in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn


@contextlib.contextmanager
def evaluation(net: Any) -> Iterator[None]:
    """A module and all its parts in evaluation mode; other callables as they are.

    Parts are put back one by one: a norm that is held in evaluation mode, in a network that trains, stays so.
    """
    parts = [(part, part.training) for part in net.modules()] if isinstance(net, nn.Module) else []
    if any(training for _, training in parts):
        net.eval()
    try:
        yield
    finally:
        for part, training in parts:
            part.training = training
