"""What constructors of modules share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

import numpy as np
import torch

__all__ = ["constructor", "plain_value"]

_Given = ParamSpec("_Given")
_KINDS: tuple[tuple[type, type], ...] = ((np.bool_, bool), (np.integer, int), (np.floating, float), (np.str_, str))


def plain_value(value: Any) -> Any:
    """Scalars of NumPy and torch as the Python values they stand for; others as given.

    Alone, in a list or tuple, or as a row of NumPy's.
    """
    for theirs, ours in _KINDS:
        if isinstance(value, theirs):
            return ours(value)
    if isinstance(value, np.ndarray) and value.ndim <= 1:
        return value.tolist()
    if isinstance(value, torch.Tensor) and value.dim() == 0:
        return value.item()
    if type(value) in (list, tuple):
        return type(value)(plain_value(each) for each in value)
    return value


def constructor(build: Callable[_Given, None]) -> Callable[_Given, None]:
    """An ``__init__`` that takes sizes, flags and names from NumPy as well, and keeps Python's.

    The parameters can learn wherever the module is built, under ``torch.inference_mode`` too.
    """

    @functools.wraps(build)
    def construct(*args: _Given.args, **kwargs: _Given.kwargs) -> None:
        given = {name: plain_value(value) for name, value in kwargs.items()}
        with torch.inference_mode(False):
            build(*(plain_value(value) for value in args), **given)  # type: ignore[arg-type]

    return construct
