"""What constructors of modules share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

from colgraph.options import plain_value
from colgraph.torch_internals import ordinary

_Given = ParamSpec("_Given")


def constructor(build: Callable[_Given, None]) -> Callable[_Given, None]:
    """An ``__init__`` that takes sizes, flags and names from NumPy as well, and keeps Python's.

    The parameters can learn wherever the module is built: under ``torch.inference_mode`` and in transforms, too.
    """

    @functools.wraps(build)
    def construct(*args: _Given.args, **kwargs: _Given.kwargs) -> None:
        given = {name: _plain(value) for name, value in kwargs.items()}
        with ordinary():
            build(*(_plain(value) for value in args), **given)  # type: ignore[arg-type]

    return construct


def _plain(value: Any) -> Any:
    # Biases of edges and the like stay the tensors that they are.
    return value if getattr(value, "ndim", 0) > 1 else plain_value(value)
