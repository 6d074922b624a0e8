"""Tensors of a sheet from arrays that were checked, and whether they are still what they were."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from colgraph.torch_internals import ordinary

P = ParamSpec("P")
R = TypeVar("R")


def plainly(function: Callable[P, R]) -> Callable[P, R]:
    """The function with tensors made on the CPU, for autograd to use, whatever mode or default device is on."""

    @functools.wraps(function)
    def run(*args: P.args, **options: P.kwargs) -> R:
        with ordinary(), torch.device("cpu"):
            return function(*args, **options)

    return run


def as_tensor(array: np.ndarray, device: torch.device | None = None) -> Tensor:
    """A tensor of an array, on a device (None: the CPU)."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)


def equal(now: Tensor, before: Tensor) -> bool:
    """Whether two tensors hold the same, wherever they are; by this thread alone, which wakes none of torch's."""
    return now.dtype == before.dtype and np.array_equal(now.numpy(force=True), before.numpy(force=True))
