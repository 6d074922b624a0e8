"""How kernels and the functions inside them are compiled: on first use, and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

# Functions inside a kernel: put in place, or called. Both compile with the kernel and are cached with it.
_inside: dict[str, Any] = {"nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "error_model": "numpy"}
inlined: Any = njit(**_inside, forceinline=True)
compiled: Any = njit(**_inside)


def cached_kernel(*files: str) -> Callable[[Callable[..., None]], Any]:
    """A decorator that compiles a kernel on first use and keeps the result on disk, where a place can be written to.

    Numba's cache notices changes in the kernel's own file only, so its entry is named by the content of all ``files``
    of this folder that the kernel is made of.
    """
    digest = hashlib.sha256()
    for name in (Path(__file__).name, *files):
        digest.update(Path(__file__).with_name(name).read_bytes())
    mark = digest.hexdigest()[:8]

    def decorate(function: Callable[..., None]) -> Any:
        function.__qualname__ += f"-{mark}"
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
        try:
            return njit(**options, cache=True)(function)
        except RuntimeError:  # no place to write to
            return njit(**options)(function)

    return decorate
